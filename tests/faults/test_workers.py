"""Loader workers that die, start in another way, or find no room for their batches."""

import multiprocessing
import os
import re
import signal
from pathlib import Path

import pytest
import tiny
from disks import NOT_PERMITTED, skipped, small_disk
from tiny import Pictures, forked, train

from ssl_zoo.objectives._base import Batch
from ssl_zoo.pretrain.checkpoint import newest


class Deadly(Pictures):
    """Rows whose worker is killed, as by the system when memory runs out, when it has read a few batches."""

    def __init__(self, **options):
        super().__init__(**options)
        self.reads, self.loader = 0, os.getpid()

    def read(self, index, epoch=0):
        self.reads += 1
        if self.reads == 4 and os.getpid() != self.loader:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(index, epoch)


def mae():
    return tiny.ZOO["mae"][0]()


@pytest.mark.fault("dead worker", how="SIGKILL to each of two loader workers in its fourth batch")
def test_a_worker_that_the_system_kills(tmp_path, unharmed):
    code, log = forked(tmp_path, train, tmp_path / "run", build=(mae, Deadly), workers=2, save_every=2)
    assert code == 1
    assert "worker" in log
    assert "memory" in log
    assert "workers=" in log
    assert newest(tmp_path / "run/checkpoints") is not None
    code, log = forked(tmp_path, train, tmp_path / "run", save_every=2)
    assert code == 0, log
    assert "resuming    after step" in log
    assert (tmp_path / "run/sha256").read_text() == unharmed


def started(folder: Path, how: str) -> None:
    multiprocessing.set_start_method(how, force=True)
    train(folder, "mae", workers=1)


@pytest.mark.fault("start method", how="a loader worker that is spawned; elsewhere they are forked")
def test_a_spawned_worker_reads_the_same(tmp_path, unharmed):
    code, log = forked(tmp_path, started, tmp_path / "run", "spawn")
    assert code == 0, log
    assert (tmp_path / "run/sha256").read_text() == unharmed


class Large(Pictures):
    """Images of which a batch fills some pages."""

    def read(self, index, epoch=0):
        x, *rest = super().read(index, epoch)
        return Batch(x.repeat(64, 1, 1, 1), *rest)


def cramped(folder: Path, size: int) -> None:
    small_disk(Path("/dev/shm"), size)
    train(folder, build=(mae, Large), workers=2)


@pytest.mark.fault("shared memory", how="a /dev/shm of one page or of 24, in a mount namespace of its own")
@pytest.mark.parametrize(("pages", "said"), [(1, "could not be started"), (24, "found no room")])
def test_a_tiny_shared_memory(tmp_path, pages, said):
    code, log = forked(tmp_path, cramped, tmp_path / "run", 4096 * pages)
    if code == NOT_PERMITTED:
        skipped(log)
    assert code == 1, log
    assert re.search(f"WorkerError: .*loader worker .*({said})", log)
    assert re.search(r"shared memory, and /dev/shm has 0 MB, 0 of them free: enlarge it .*workers=0", log)
