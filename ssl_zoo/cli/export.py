"""`ssl-zoo export`: the backbone of a run for other libraries."""

from __future__ import annotations

from omegaconf import DictConfig

from ssl_zoo.compose.exporting import export_from


def run(cfg: DictConfig, choices: dict[str, str]) -> None:
    """Write the folder, and print where it is, what it was compared with, and how to open it."""
    exported, address = export_from(cfg)
    size = exported.bytes / 1e6
    print(f"{exported.folder}: {size:.1f} MB, {exported.seconds:.0f} s")
    peer = {"onnx": "onnxruntime", "torch": "torch.export.load"}.get(cfg.to, cfg.to)
    print(
        f"{peer} opened it and read {exported.rows} rows; the largest difference: {exported.difference:.1e} "
        "in units of the largest feature, or of 1 where all are smaller"
    )
    print(f"\n{exported.lines}")
    if address is not None:
        print(f"\nuploaded to {address}")
