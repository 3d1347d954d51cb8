"""The sets of images that boards read, laid out as `data=cifar10`, `cifar100` and `eurosat` read them.

    python benchmarks/data/images.py cifar10 FOLDER [--source DOWNLOADED]

torchvision downloads them; with --source, a folder into which it did so before is read. FOLDER/NAME gets
shards in WebDataset form; then SSL_ZOO_DATA=FOLDER. Order, splits and encoding are those of the shards that
the boards were run on: order and splits are functions of the files' names, CIFAR-10 stays as it is,
CIFAR-100 becomes JPEGs of quality 75, EuroSAT of quality 90.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import pickle
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torchvision.datasets
from PIL import Image

from ssl_zoo.pretrain.writing import write_atomically

SEED, SHARD = 20250, 10_000
ENCODED: dict[str, dict[str, Any]] = {
    "cifar10": {"format": "webp", "lossless": True, "method": 4, "quality": 100},
    "cifar100": {"format": "jpeg", "quality": 75, "subsampling": "4:2:0"},
    "eurosat": {"format": "jpeg", "quality": 90, "subsampling": "4:2:0"},
}


class Sample(NamedTuple):
    """Of one split; the name is its class and file, by which samples are sorted."""

    split: str
    name: str
    label: int
    image: Callable[[], Image.Image]


def pickles(folder: Path, files: dict[str, str], labels: str, classes: tuple[str, str]) -> Iterator[Sample]:
    """CIFAR in the form for Python. files: of the folder -> split. classes: file and key of the names."""
    names = opened(folder / classes[0])[classes[1]]
    for file, split in files.items():
        batch = opened(folder / file)
        for name, label, row in zip(batch["filenames"], batch[labels], batch["data"], strict=True):
            pixels = np.asarray(row, np.uint8).reshape(3, 32, 32).transpose(1, 2, 0)
            yield Sample(
                split, f"{names[label]}/{name}", label, lambda pixels=pixels: Image.fromarray(pixels)
            )


def opened(file: Path) -> dict[str, Any]:
    """A pickle of CIFAR's. It may run code: `main` has torchvision compare its checksum first."""
    return pickle.loads(file.read_bytes(), encoding="latin1")


def cifar10(source: Path) -> Iterator[Sample]:
    files = {f"data_batch_{i}": "train" for i in range(1, 6)} | {"test_batch": "test"}
    return pickles(source / "cifar-10-batches-py", files, "labels", ("batches.meta", "label_names"))


def cifar100(source: Path) -> Iterator[Sample]:
    files = {"train": "train", "test": "test"}
    return pickles(source / "cifar-100-python", files, "fine_labels", ("meta", "fine_label_names"))


def eurosat(source: Path) -> Iterator[Sample]:
    """A fifth of each class, drawn by the names of its files, is for the test: there is no official split."""
    folders = sorted(path for path in (source / "eurosat/2750").iterdir() if path.is_dir())
    for label, folder in enumerate(folders):
        files = sorted(folder.iterdir())
        random.Random(SEED).shuffle(files)
        for i, file in enumerate(files):
            split = "test" if i < len(files) // 5 else "train"
            yield Sample(split, f"{folder.name}/{file.name}", label, lambda file=file: Image.open(file))


READERS = {"cifar10": cifar10, "cifar100": cifar100, "eurosat": eurosat}
TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "eurosat": "EuroSAT"}


def write(name: str, samples: list[Sample], out: Path) -> dict[str, int]:
    """The shards and the names of classes; how many samples each split has."""
    out.mkdir(parents=True, exist_ok=True)
    counts = {}
    for split in ("train", "test"):
        rows = sorted((one for one in samples if one.split == split), key=lambda one: one.name)
        random.Random(SEED).shuffle(rows)
        counts[split] = len(rows)
        for number in range(0, len(rows), SHARD):
            file = out / f"{split}-{number // SHARD:06d}.tar.gz"
            shard(file, rows[number : number + SHARD], number, ENCODED[name])
    classes = {one.label: one.name.partition("/")[0] for one in samples}
    write_atomically(out / "classes.txt", "".join(f"{classes[i]}\n" for i in sorted(classes)).encode())
    return counts


def shard(file: Path, rows: list[Sample], first: int, encoded: dict[str, Any]) -> None:
    """One file, which is whole or absent."""
    plain = io.BytesIO()
    ending = "webp" if encoded["format"] == "webp" else "jpg"
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for i, one in enumerate(rows):
            kept = io.BytesIO()
            one.image().convert("RGB").save(kept, **encoded)
            for suffix, content in ((ending, kept.getvalue()), ("cls", str(one.label).encode())):
                member = tarfile.TarInfo(f"{first + i:06d}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    write_atomically(file, gzip.compress(plain.getvalue(), mtime=0))


def compared(folder: Path, name: str) -> str:
    """How many shards are, unpacked, those that the boards were run on."""
    lines = (Path(__file__).parent / "images.sha256").read_text().splitlines()
    sums = {
        file: digest for digest, file in (line.split("  ") for line in lines) if file.startswith(f"{name}/")
    }
    same = 0
    for file, digest in sums.items():
        if (folder / file).exists():
            plain = gzip.decompress((folder / file).read_bytes())
            same += hashlib.sha256(plain).hexdigest() == digest
    return f"{same} of {len(sums)} shards hold what those of the boards hold"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=READERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", type=Path, help="what torchvision downloaded, as it unpacked it")
    options = parser.parse_args()
    source = options.source or options.folder / "downloads"
    try:
        getattr(torchvision.datasets, TORCHVISION[options.name])(str(source), download=options.source is None)
    except (OSError, RuntimeError) as error:
        raise SystemExit(f"{source}: {error}") from error
    counts = write(options.name, list(READERS[options.name](source)), options.folder / options.name)
    told = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    print(f"{options.folder / options.name}: {told}; {compared(options.folder, options.name)}")
    print(f"now SSL_ZOO_DATA={options.folder}")


if __name__ == "__main__":
    main()
