"""`ssl-zoo report`: one HTML file about a run."""

from __future__ import annotations

import time

from omegaconf import DictConfig

from ssl_zoo.compose.reporting import report_from


def run(cfg: DictConfig, choices: dict[str, str]) -> None:
    """Write the page, and print where it is."""
    began = time.perf_counter()
    out = report_from(cfg)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {time.perf_counter() - began:.0f} s")
