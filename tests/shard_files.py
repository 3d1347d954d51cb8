"""Shards of small images, as other libraries write them, and a stream of them."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import tiny
from PIL import Image

from ssl_zoo.data.image_streams import ImageStream, StreamRows

SIDE, EACH, SHARDS = tiny.SIDE, 7, 9
KEPT = 0.0001  # GiB: six shards of pictures() or so


def pictures() -> list[bytes]:
    """Encoded images, of shapes that are no squares."""
    draw, found = np.random.default_rng(0), []
    for _ in range(EACH * SHARDS):
        out = io.BytesIO()
        Image.fromarray(draw.integers(0, 256, (SIDE + 2, SIDE + 5, 3), np.uint8)).save(out, "png")
        found.append(out.getvalue())
    return found


def write_tars(folder: Path, images: list[bytes]) -> None:
    folder.mkdir()
    for shard in range(SHARDS):
        with tarfile.open(folder / f"train-{shard:02d}.tar", "w") as tar:
            for i in range(shard * EACH, (shard + 1) * EACH):
                for name, content in ((f"{i:04d}.png", images[i]), (f"{i:04d}.cls", b"3")):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))


def mds_shard(images: list[bytes]) -> bytes:
    """One shard of MosaicML's, with a label before and a caption behind each image (columns are sorted)."""
    samples = [
        struct.pack("<II", len(one), 5) + struct.pack("<q", i) + one + b"words"
        for i, one in enumerate(images)
    ]
    ends = 4 * (len(images) + 2) + np.concatenate([[0], np.cumsum([len(one) for one in samples])])
    return struct.pack("<I", len(images)) + ends.astype("<u4").tobytes() + b"".join(samples)


def write_mds(folder: Path, images: list[bytes], pack: str = "") -> None:
    folder.mkdir()
    listed = []
    for shard in range(SHARDS):
        raw, name = mds_shard(images[shard * EACH : (shard + 1) * EACH]), f"shard.{shard:05d}.mds"
        packed = pyarrow.Codec("zstd").compress(raw, asbytes=True) if pack else raw
        (folder / (name + (".zstd" if pack else ""))).write_bytes(packed)
        about = {"basename": name, "bytes": len(raw), "hashes": {}}
        listed.append(
            {
                "column_encodings": ["int", "png", "str"],
                "column_names": ["a_label", "image", "words"],
                "column_sizes": [8, None, None],
                "compression": pack or None,
                "format": "mds",
                "hashes": [],
                "raw_data": about,
                "samples": EACH,
                "size_limit": 1 << 26,
                "version": 2,
                "zip_data": {"basename": f"{name}.zstd", "bytes": len(packed), "hashes": {}}
                if pack
                else None,
            }
        )
    (folder / "index.json").write_text(json.dumps({"shards": listed, "version": 2}))


def opened(address: str, folder: Path, **more: Any) -> StreamRows:
    options = {
        "image_size": SIDE,
        "validation_fraction": 0,
        "window": 16,
        "limit": KEPT,
        "cache": str(folder),
    }
    return ImageStream("stream", address, **(options | more)).rows("train")
