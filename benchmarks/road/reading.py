"""How fast rows of an image store are read from a warm page cache, and what of it stays resident.

python benchmarks/road/reading.py [--size 32] [--batch 256] [--counts 10000 1000000] [--folder /tmp]
Linux only (it reads /proc). A store of 1,000,000 images of 32 pixels takes 3 GB of the folder.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from ssl_zoo.data import image_store
from ssl_zoo.data.image_store import ImageRows
from ssl_zoo.data.plan import Parts, Plan, loader


def resident() -> float:
    """Megabytes of this process."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def write(path: Path, count: int, size: int) -> None:
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, 3, size, size))
    draw = np.random.default_rng(0)
    for start in range(0, count, 1000):
        images[start : start + 1000] = draw.integers(0, 256, images[start : start + 1000].shape, np.uint8)


def measure(path: Path, batch: int) -> None:
    """Touch every row once, and then time batches of both ways of reading in turns (CPU time)."""
    with open(path, "rb") as file:  # into the page cache
        while file.read(1 << 24):
            pass
    count = len(np.load(path, mmap_mode="r"))
    rows = ImageRows(path, np.arange(count), None, (), "")
    before, plan = resident(), Plan(count, batch, 0)
    for _ in loader(Parts(rows, plan, 1, 1, 0), int, plan.steps_per_epoch, 0, pin=False):
        pass
    print(
        f"{count:,} images: resident {before:.0f} MB before an epoch, {resident():.0f} MB after", flush=True
    )
    chosen, rates = image_store.MAPPED, {"the map": [], "the file": []}
    for trial in range(9):
        for name, limit in (("the map", 1 << 62), ("the file", 0)):
            image_store.MAPPED = limit
            start = time.process_time()
            for step in range(50):
                rows.read(plan.rows((50 * trial + step) % plan.steps_per_epoch))
            rates[name].append(50 * batch / (time.process_time() - start))
    taken = "the map" if rows.array.nbytes <= chosen else "the file"
    for name, found in rates.items():
        note = " (this is what it does)" if name == taken else ""
        print(f"  from {name}: median {median(found):,.0f} images a second{note}", flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--size", type=int, default=32)
    arguments.add_argument("--batch", type=int, default=256)
    arguments.add_argument("--counts", type=int, nargs="+", default=[10_000, 1_000_000])
    arguments.add_argument("--folder", default="/tmp")
    given = arguments.parse_args()
    for number in given.counts:
        with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
            store = Path(scratch, "images.npy")
            for function, extra in ((write, (number, given.size)), (measure, (given.batch,))):
                part = multiprocessing.get_context("spawn").Process(target=function, args=(store, *extra))
                part.start()
                part.join()
