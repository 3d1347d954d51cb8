"""How images are read: so many bytes a batch and no more, and none of a large store stays in memory."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_zoo.data import image_store
from ssl_zoo.data.image_store import ImageRows
from ssl_zoo.data.rows import DataError

SHAPE = (3, 32, 32)
ROW = 3 * 32 * 32


def store(path: Path, count: int) -> Path:
    """Image i begins with the bytes of i."""
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *SHAPE))
    images.reshape(count, -1)[:, :4] = np.arange(count, dtype="<u4").view(np.uint8).reshape(count, 4)
    images.flush()
    return path


def numbers(x: torch.Tensor) -> list[int]:
    return x.reshape(len(x), -1)[:, :4].numpy().copy().view("<u4")[:, 0].tolist()


@pytest.mark.parametrize("mapped", [0, 1 << 20])
def test_both_ways_of_reading_give_the_same_rows(tmp_path, monkeypatch, mapped):
    monkeypatch.setattr(image_store, "MAPPED", mapped)
    index = np.array([7, 3, 9, 0, 1])
    rows = ImageRows(store(tmp_path / "a.npy", 10), index, index * 10, ("x",), "")
    batch = rows.read(np.array([4, 0, 4, 2]))
    assert batch.x.shape == (4, *SHAPE)
    assert numbers(batch.x) == [1, 7, 1, 9]
    assert batch.y is not None
    assert batch.y.tolist() == [10, 70, 10, 90]
    assert rows.nbytes == 5 * ROW
    assert rows.read(np.array([], dtype=np.int64)).x.shape == (0, *SHAPE)
    with pytest.raises(IndexError):
        rows.read(np.array([5]))


def test_a_batch_costs_its_own_bytes_read_forwards(tmp_path, monkeypatch):
    monkeypatch.setattr(image_store, "MAPPED", 0)
    rows = ImageRows(store(tmp_path / "a.npy", 100), np.arange(100), None, (), "")
    read, seen = os.preadv, []

    def counted(file, buffers, start):
        seen.append((start, sum(len(b) for b in buffers)))
        return read(file, buffers, start)

    monkeypatch.setattr(image_store.os, "preadv", counted)
    assert numbers(rows.read(np.array([60, 2, 41])).x) == [60, 2, 41]
    assert [(start - rows.array.offset) / ROW for start, _ in seen] == [2, 41, 60]
    assert [size for _, size in seen] == [ROW] * 3


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("mapped", [0, 1 << 30])
def test_what_is_read_of_a_large_store_does_not_stay(tmp_path, monkeypatch, mapped):
    monkeypatch.setattr(image_store, "MAPPED", mapped)
    rows = ImageRows(store(tmp_path / "a.npy", 4000), np.arange(4000), None, (), "")
    for part in np.random.default_rng(0).permutation(4000).reshape(-1, 250):
        rows.read(part)
    maps = Path("/proc/self/smaps").read_text()
    found = re.findall(rf"{tmp_path}/a\.npy\n(?:.*\n){{0,4}}?Rss: +(\d+) kB", maps)
    resident = [1024 * int(kilobytes) for kilobytes in found]
    assert len(resident) == 1
    assert resident[0] < 100_000 if mapped == 0 else resident[0] == pytest.approx(4000 * ROW, rel=0.01)


def test_a_store_that_became_shorter_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(image_store, "MAPPED", 0)
    path = store(tmp_path / "a.npy", 10)
    rows = ImageRows(path, np.arange(10), None, (), "")
    os.truncate(path, path.stat().st_size - 1)
    assert numbers(rows.read(np.array([8])).x) == [8]
    with pytest.raises(DataError, match=f"{tmp_path} is damaged: delete that folder"):
        rows.read(np.array([9]))


def test_files_are_closed_with_their_rows(tmp_path):
    rows = ImageRows(store(tmp_path / "a.npy", 2), np.arange(2), None, (), "")
    file = rows._file
    os.fstat(file)
    del rows
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)
