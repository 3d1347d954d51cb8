"""Checkpoints that a thread writes while training goes on: they are those that are written at once."""

import re
import time
from pathlib import Path

import pytest
import ranks
import tiny
import torch

from ssl_zoo.pretrain import checkpoint_io, checkpoint_shards
from ssl_zoo.pretrain.background import Background
from ssl_zoo.pretrain.checkpoint import checkpoints, read_checkpoint, whole

STEPS, LATER = 11, 3  # checkpoints of steps 4, 8 and 11; each is finished when so many more have begun


def late(folder: Path, fails_at: int = -1, **options) -> None:
    """Train; who writes a checkpoint waits for later steps, and would do so in vain if these waited, too.

    fails_at: the disk is full by the time that this step has begun.
    """
    begun = 0
    module = checkpoint_shards if options.get("strategy") == "fsdp2" else checkpoint_io
    step, digest = tiny.Killed.training_step, module.digest

    def counted(self, batch, number):
        nonlocal begun
        begun = batch[0] + 1
        return step(self, batch, number)

    def slowly(path: Path) -> str:
        (saved,) = re.findall(r"step-(\d+)\.ckpt", str(path))
        until, end = min(int(saved) + LATER, STEPS), time.monotonic() + 30
        while begun < until:
            assert time.monotonic() < end, "training waits for its checkpoint"
            time.sleep(0.001)
        if begun >= fails_at >= 0:
            raise OSError(28, "No space left on device")
        return digest(path)

    tiny.Killed.training_step, module.digest = counted, slowly
    tiny.train(folder, save_async=True, steps=STEPS, **options)


def values(checkpoint: Path) -> list:
    """What a checkpoint holds, but for the seconds that it took."""
    found = read_checkpoint(checkpoint)
    return [found[key] for key in sorted(found) if key != "seconds"]


@pytest.fixture(scope="module", params=list(tiny.ZOO))
def at_once(tmp_path_factory, request) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("once")
    code, log = tiny.forked(folder, tiny.train, folder / "run", request.param, steps=STEPS, keep=99)
    assert code == 0, log
    return request.param, folder / "run"


def test_they_are_those_of_their_steps(tmp_path, at_once):
    name, before = at_once
    code, log = tiny.forked(tmp_path, late, tmp_path / "run", name=name, keep=99)
    assert code == 0, log
    found = [checkpoints(run / "checkpoints") for run in (tmp_path / "run", before)]
    assert [path.name for path in found[0]] == [f"step-{step:012d}.ckpt" for step in (11, 8, 4)]
    for mine, its in zip(*found, strict=True):
        assert whole(mine) is None
        assert tiny.sha256(values(mine)) == tiny.sha256(values(its))


def test_two_are_kept_and_nothing_else(tmp_path):
    code, log = tiny.forked(tmp_path, late, tmp_path / "run")
    assert code == 0, log
    left = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert left == {f"step-{step:012d}.{end}" for step in (8, 11) for end in ("ckpt", "json")}


@pytest.mark.fault("kill", how="SIGKILL while a thread writes the first checkpoint, and the second")
def test_killed_while_the_thread_writes(tmp_path, at_once):
    name, before = at_once
    for die_at, kept in ((5, []), (9, [4])):
        code, log = tiny.forked(tmp_path, late, tmp_path / "run", name=name, die_at=die_at)
        assert code == -9, log
        found = checkpoints(tmp_path / "run/checkpoints")
        assert [path.name for path in found] == [f"step-{step:012d}.ckpt" for step in kept]
    code, log = tiny.forked(tmp_path, late, tmp_path / "run", name=name)
    assert code == 0, log
    assert "resuming    after step 4" in log
    assert (tmp_path / "run/sha256").read_text() == (before / "sha256").read_text()
    assert not list((tmp_path / "run/checkpoints").glob(".*"))


@pytest.mark.fault("late save", how="a disk that is full while a thread writes the second checkpoint")
def test_a_full_disk_is_told_by_the_next_checkpoint_at_the_latest(tmp_path):
    code, log = tiny.forked(tmp_path, late, tmp_path / "run", fails_at=9)
    assert code == 1
    assert re.search(r"CheckpointError: could not write .*step-000000000008.ckpt: .*No space left on", log)
    assert "Older checkpoints are untouched; make room and resume." in log
    assert [path.stem for path in checkpoints(tmp_path / "run/checkpoints")] == ["step-000000000004"]


def breaking(folder: Path) -> None:
    """Train an objective that fails in its sixth step."""

    def make():
        objective = tiny.ZOO["mae"][0]()
        forward, steps = objective.forward, []

        def broken(batch):
            steps.append(batch)
            if len(steps) == 6:
                raise LookupError("out of ideas")
            return forward(batch)

        objective.forward = broken
        return objective

    digest = checkpoint_io.digest

    def slowly(path: Path) -> str:
        time.sleep(1)
        return digest(path)

    checkpoint_io.digest = slowly
    tiny.train(folder, build=(make, tiny.Pictures), save_async=True)


def test_what_is_being_written_when_training_fails_is_kept(tmp_path):
    code, log = tiny.forked(tmp_path, breaking, tmp_path / "run")
    assert code == 1
    assert "LookupError: out of ideas" in log
    (kept,) = checkpoints(tmp_path / "run/checkpoints")
    assert whole(kept) is None
    assert read_checkpoint(kept)["global_step"] == 4


# Weights divided over two processes


def divided(folder: Path, function=late, **options) -> tuple[list[int], str]:
    options = {"name": "mae", "strategy": "fsdp2", "devices": 2} | options
    logs = folder / f"logs-{len(list(folder.glob('logs-*')))}"
    return ranks.ended(logs, ranks.group(logs, function, folder / "run", **options))


@pytest.mark.fault("kill", how="one of two processes that divide the weights, while threads of both write")
def test_divided_weights(tmp_path):
    """Threads of two processes agree on a checkpoint, while these agree on gradients."""
    codes, log = divided(tmp_path / "once", tiny.train, steps=STEPS)
    assert codes == [0, 0], log
    codes, log = divided(tmp_path, die_at=9)
    assert codes == [-9, -9], log
    assert [one.stem for one in checkpoints(tmp_path / "run/checkpoints")] == ["step-000000000004"]
    codes, log = divided(tmp_path)
    assert codes == [0, 0], log
    assert "resuming    after step 4" in log
    found = [checkpoints(run / "checkpoints") for run in (tmp_path / "run", tmp_path / "once/run")]
    assert [path.name for path in found[0]] == [f"step-{step:012d}.ckpt" for step in (11, 8)]
    for mine, its in zip(*found, strict=True):
        assert whole(mine) is None
        assert tiny.sha256(values(mine)) == tiny.sha256(values(its))


@pytest.mark.fault("disk", how="of two processes that divide the weights, while their threads write")
def test_a_full_disk_ends_both_with_the_reason(tmp_path):
    codes, log = divided(tmp_path, fails_at=9)
    assert codes == [1, 1], log
    assert len(re.findall(r"CheckpointError: could not write .*step-000000000008.ckpt", log)) == 2
    assert [one.stem for one in checkpoints(tmp_path / "run/checkpoints")] == ["step-000000000004"]


def test_copies_are_kept_apart_from_what_training_changes():
    """Tensors and lists are copied; tied weights stay one, of which a file holds one copy."""
    weight = torch.arange(6.0).view(2, 3).t()
    state = {"a": weight, "tied": weight.detach(), "list": [weight[0], 3], "name": "x"}
    copy = Background(on=True).frozen(state)
    weight.zero_()
    state["list"].append(4)
    assert copy["a"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert copy["tied"].data_ptr() == copy["a"].data_ptr()
    assert copy["a"].stride() == weight.stride()
    assert copy["list"][0].tolist() == [0, 3]
    assert copy["list"][1:] == [3]
    assert Background().frozen(state) is state
