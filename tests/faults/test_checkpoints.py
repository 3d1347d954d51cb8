"""Checkpoints are whole or absent; the newest whole one is found; nothing else is opened."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import torch
from tiny import forked, spawn, train

from ssl_zoo.pretrain import checkpoint
from ssl_zoo.pretrain.checkpoint import CheckpointError, checkpoints, newest, prune, sidecar
from ssl_zoo.pretrain.checkpoint_io import AtomicCheckpointIO
from ssl_zoo.pretrain.run import RunError, locked, resume_from
from ssl_zoo.pretrain.saver import Checkpoint
from ssl_zoo.pretrain.writing import write_atomically


def write(folder: Path, *steps: int) -> list[Path]:
    """Checkpoints of these steps, as training writes them."""
    paths = [folder / f"step-{step:012d}.ckpt" for step in steps]
    for step, path in zip(steps, paths, strict=True):
        AtomicCheckpointIO().save_checkpoint({"global_step": step, "weight": torch.full((50,), step)}, path)
    return paths


def flip(path: Path) -> None:
    """One bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "truncated": (
        lambda path: os.truncate(path, path.stat().st_size // 2),
        r"it has \d+ bytes instead of \d+",
    ),
    "empty": (lambda path: os.truncate(path, 0), "it has 0 bytes instead of"),
    "bit-flipped": (flip, "its SHA-256 is not the one recorded"),
    "no sidecar": (lambda path: sidecar(path).unlink(), "its sidecar is missing"),
    "empty sidecar": (lambda path: os.truncate(sidecar(path), 0), "its sidecar is damaged"),
    "strange sidecar": (lambda path: sidecar(path).write_text("[1]"), "its sidecar is damaged"),
}


@pytest.mark.fault(
    "damaged", how="truncated, emptied, a bit flipped, its sidecar deleted, emptied or replaced"
)
@pytest.mark.parametrize("kind", list(DAMAGE))
def test_a_damaged_newest_is_skipped_with_a_warning(tmp_path, kind):
    older, newer = write(tmp_path, 4, 8)
    assert newest(tmp_path) == newer
    damage, words = DAMAGE[kind]
    damage(newer)
    with pytest.warns(UserWarning, match=words) as caught:
        assert newest(tmp_path) == older
    assert str(newer) in str(caught[0].message)


@pytest.mark.fault("all damaged", how="a bit flipped in every checkpoint")
def test_none_whole_is_an_error_and_never_a_fresh_start(tmp_path):
    for path in write(tmp_path / "checkpoints", 4, 8):
        flip(path)
    with pytest.warns(UserWarning, match="skipping"), pytest.raises(CheckpointError, match="none of the 2"):
        resume_from(tmp_path, "auto")


def test_no_checkpoints_is_a_fresh_start(tmp_path):
    assert newest(tmp_path / "absent") is None
    assert resume_from(tmp_path, "never") is None


def test_round_trip_with_plain_values_only(tmp_path):
    (path,) = write(tmp_path, 4)
    found = torch.load(path, weights_only=True)
    assert found["global_step"] == 4
    assert torch.equal(found["weight"], torch.full((50,), 4))
    assert AtomicCheckpointIO().load_checkpoint(path, weights_only=False)["global_step"] == 4
    assert json.loads(sidecar(path).read_text())["size"] == path.stat().st_size


class Malice:
    """Deletes a file when it is unpickled."""

    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self):
        return (os.unlink, (str(self.victim),))


@pytest.mark.fault("pickle", how="a checkpoint that deletes a file when it is unpickled")
@pytest.mark.parametrize("weights_only", [None, False])
def test_a_malicious_pickle_is_not_run(tmp_path, weights_only):
    victim, path = tmp_path / "victim", tmp_path / "step-000000000004.ckpt"
    victim.touch()
    torch.save({"state_dict": Malice(victim)}, path)
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        AtomicCheckpointIO().load_checkpoint(path, weights_only=weights_only)
    assert victim.exists()
    pickle.loads(pickle.dumps(Malice(victim)))  # the trap does work
    assert not victim.exists()


@pytest.mark.fault("pickle", how="resume= an address")
@pytest.mark.parametrize("url", ["https://example.com/a.ckpt", "s3://bucket/a.ckpt"])
def test_addresses_are_refused(tmp_path, url):
    with pytest.raises(CheckpointError, match="local files only"):
        AtomicCheckpointIO().load_checkpoint(url)
    with pytest.raises(CheckpointError, match=r"no such file.*resume=auto"):
        resume_from(tmp_path, url)


@pytest.mark.fault("disk", how="a write that raises ENOSPC half-way through a checkpoint")
@pytest.mark.fault("late save", how="the same: the error ends training, the older checkpoint is whole")
def test_a_full_disk_leaves_the_older_ones(tmp_path, monkeypatch):
    (older,) = write(tmp_path, 4)

    def save(_, file):
        file.write(b"x" * 1234)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", save)
    with pytest.raises(CheckpointError, match=r"step-000000000008\.ckpt.*No space left.*[\d,]+ are free"):
        write(tmp_path, 8)
    assert {path.name for path in tmp_path.iterdir()} == {older.name, sidecar(older).name}
    assert newest(tmp_path) == older


@pytest.mark.fault("disk", how="fsync that raises EIO")
def test_writing_atomically_keeps_the_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    write_atomically(path, b"before")

    def fail(*_):
        raise OSError(5, "I/O error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="I/O error"):
        write_atomically(path, b"after")
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.fault("kill", how="what a killed writer leaves of a file that is then written again")
def test_writing_sweeps_what_killed_writers_of_this_file_left(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    left = [tmp_path / f".a [b].json.{number}.part" for number in (child.pid, os.getppid(), "x")]
    left.append(tmp_path / f".c.json.{child.pid}.part")
    for path in left:
        path.touch()
    write_atomically(tmp_path / "a [b].json", b"{}")
    assert [path.exists() for path in left] == [False, True, True, True]


def test_prune_keeps_the_newest_and_sweeps_up(tmp_path):
    paths = write(tmp_path, 4, 8, 12, 100)
    (tmp_path / ".step-000000000016.ckpt.77.part").touch()
    prune(tmp_path, 2)
    assert checkpoints(tmp_path) == [paths[3], paths[2]]
    kept = {p.name for path in paths[2:] for p in (path, sidecar(path))}
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_copy_by_another_name_is_neither_taken_nor_deleted(tmp_path):
    paths = write(tmp_path, 4, 8, 12)
    for name in ("step-best.ckpt", "step-000000000004-mine.ckpt"):
        (tmp_path / name).write_bytes(b"a copy")
    assert newest(tmp_path) == paths[2]
    prune(tmp_path, 2)
    assert checkpoints(tmp_path) == [paths[2], paths[1]]
    assert (tmp_path / "step-best.ckpt").exists()
    assert (tmp_path / "step-000000000004-mine.ckpt").exists()


def test_fewer_than_two_are_refused(tmp_path):
    with pytest.raises(ValueError, match="keep=1"):
        Checkpoint(tmp_path, every=10, keep=1)


@pytest.mark.fault(
    "damaged", how="a bit flipped in the newest checkpoint of a killed run, which is run again"
)
def test_a_run_goes_on_from_the_older_one_and_mends_the_damaged(tmp_path):
    """Saved at 4 and 8, and 8 is damaged: it is trained again from 4, and written over."""
    code, log = forked(tmp_path, train, tmp_path / "run", "mae", die_at=9)
    assert code == -9, log
    four, eight = (tmp_path / f"run/checkpoints/step-{step:012d}.ckpt" for step in (4, 8))
    flip(eight)
    code, log = forked(tmp_path, train, tmp_path / "run", "mae", steps=10)
    assert code == 0, log
    assert f"skipping {eight}: its SHA-256" in log
    assert "resuming    after step 4" in log
    assert not four.exists()
    assert checkpoint.whole(eight) is None
    assert newest(eight.parent) == eight.with_name("step-000000000010.ckpt")


def test_every_part_of_a_training_checkpoint_is_plain(tmp_path):
    code, log = forked(tmp_path, train, tmp_path / "run", "sum", steps=2)
    assert code == 0, log
    found = torch.load(newest(tmp_path / "run/checkpoints"), weights_only=True)  # pyright: ignore
    assert {"state_dict", "optimizer_states", "PretrainingData", "seconds"} <= set(found)


def hold(folder: Path, ready: Path) -> None:
    with locked(folder):
        ready.touch()
        time.sleep(60)


@pytest.mark.fault("two runs", how="the folder is held by another process")
def test_two_processes_do_not_share_a_folder(tmp_path):
    ready = tmp_path / "ready"
    other = spawn(tmp_path / "log", hold, tmp_path / "run", ready)
    try:
        for _ in range(600):
            if ready.exists():
                break
            time.sleep(0.1)
        with (
            pytest.raises(RunError, match=r"another process is training in .*run; choose another"),
            locked(tmp_path / "run"),
        ):
            pass
    finally:
        other.kill()
        other.join()
    with locked(tmp_path / "run"), locked(tmp_path / "run"):  # free again; a process may ask twice
        pass


def asked_to_stop(folder: Path, cache: Path, *words: str) -> None:
    """`ssl-zoo pretrain`, which is sent SIGTERM in its fifth step."""
    steps = iter(range(1000))
    training_step = tiny.Pretraining.training_step

    def step(self, batch, number):
        if next(steps) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return training_step(self, batch, number)

    tiny.Pretraining.training_step = step
    tiny.called(folder, cache, (*COMMAND, *words))


COMMAND = (
    *("pretrain", "objective=mae_small", "backbone=vit_micro", "data=digits", "trainer=cpu", "run=run"),
    *("data.image_size=8", "backbone.depth=1", "backbone.embed_dim=16", "backbone.num_heads=2"),
    *("objective.width=16", "objective.depth=1", "objective.heads=2", "budget.steps=8", "batch_size=16"),
)


@pytest.mark.fault("sigterm", how="SIGTERM to a single process in its fifth step")
def test_sigterm_saves_and_exits_143(tmp_path):
    cache = tmp_path / "cache"
    code, log = forked(tmp_path, asked_to_stop, tmp_path, cache)
    assert code == 143, log
    assert "SIGTERM: saved step 5; the same command goes on from there" in log
    run = tmp_path / "run"
    assert [path.name for path in checkpoints(run / "checkpoints")] == ["step-000000000005.ckpt"]
    assert newest(run / "checkpoints") is not None
    assert not (run / "backbone").exists()
    code, log = tiny.command(tmp_path, cache, *COMMAND)
    assert code == 0, log
    assert "resuming    after step 5" in log
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["steps"], summary["stopped"]) == (8, False)
    assert (run / "backbone/model.safetensors").exists()


@pytest.mark.fault("sigterm", how="SIGTERM in the last step")
def test_sigterm_in_the_last_step_does_not_count_as_finished(tmp_path):
    code, log = forked(tmp_path, asked_to_stop, tmp_path, tmp_path / "cache", "budget.steps=5")
    assert code == 143, log
    code, log = tiny.command(tmp_path, tmp_path / "cache", *COMMAND, "budget.steps=5")
    assert code == 0, log
    assert (tmp_path / "run/backbone/model.safetensors").exists()
