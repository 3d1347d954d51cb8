"""Runs of two processes, one of which meets a fault: they go on alike, or all end, and none waits."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from ranks import TOGETHER, ended, group
from tiny import Ids, Pictures, forked, small_simclr, train, transformer
from torch import nn

from ssl_zoo import distributed
from ssl_zoo.cli import leave
from ssl_zoo.distributed import rank, world
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives.next_token import NextToken
from ssl_zoo.pretrain.checkpoint import checkpoints, newest
from ssl_zoo.pretrain.watch import Validation

STEPS = 8


class Noted(Ids):
    """Rows that write down which of them are read."""

    def __init__(self, note: Path, **options):
        super().__init__(lookahead=1, **options)
        self.note = note

    def read(self, index, epoch=0):
        with open(f"{self.note}-{rank()}", "a") as file:
            file.write(json.dumps([epoch, *index.tolist()]) + "\n")
        return super().read(index, epoch)


def noted(folder: Path, name: str, **options) -> None:
    """Next tokens in double precision, with a checkpoint every two steps."""
    build = (lambda: NextToken(transformer(0.0)), lambda seed: Noted(folder / name, seed=seed))
    train(folder / "run", build=build, steps=STEPS, save_every=2, precision="64-true", **options)


def batches(folder: Path, name: str) -> list[tuple[int, set[int]]]:
    """Epoch and rows of each step, over all processes."""
    each = [
        [json.loads(line) for line in file.read_text().splitlines()]
        for file in sorted(folder.glob(f"{name}-?"))
    ]
    return [(step[0][0], {row for part in step for row in part[1:]}) for step in zip(*each, strict=True)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    path = newest(folder / "run/checkpoints")
    assert path is not None
    assert path.name == f"step-{STEPS:012d}.ckpt"
    return torch.load(path)["state_dict"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """Left alone, in one process."""
    folder = tmp_path_factory.mktemp("alone")
    code, log = forked(folder, noted, folder, "rows")
    assert code == 0, log
    return folder


@pytest.mark.fault("world", how="killed in one process and ended by two; killed in two and ended by one")
@pytest.mark.parametrize("first", [1, 2])
def test_another_number_of_processes_goes_on_alike(tmp_path, alone, first):
    def session(processes: int, name: str, **options) -> tuple[list[int], str]:
        if processes == 1:
            code, log = forked(tmp_path, noted, tmp_path, name, **options)
            return [code], log
        both = group(tmp_path / name, noted, tmp_path, name, **options, **TOGETHER)
        return ended(tmp_path / name, both)

    codes, log = session(first, "killed", die_at=5)
    assert set(codes) == {-9}, log
    codes, log = session(3 - first, "resumed")
    assert set(codes) == {0}, log
    assert "resuming    after step 4" in log
    whole = batches(alone, "rows")
    assert len(whole) == STEPS
    assert batches(tmp_path, "killed") == whole[:6]
    assert batches(tmp_path, "resumed") == whole[4:]
    expected = weights(alone)
    for name, value in weights(tmp_path).items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-12)


def without_dropout() -> Objective:
    """SimCLR whose views are alike: the noise in a model belongs to a process."""
    objective = small_simclr(transformer(0.1))
    for module in objective.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return objective


def contrast(folder: Path, forgetful: bool = False, **options) -> None:
    """In double precision, perhaps with a gather whose gradient is that of this process's loss alone."""
    if forgetful:
        distributed._Gather.backward = staticmethod(lambda ctx, *grads: grads[0].chunk(world())[rank()])
    build = (without_dropout, Ids)
    train(folder / "run", build=build, steps=STEPS, precision="64-true", **options)


@pytest.mark.fault("wrong gather", how="the gradient of gather replaced by the rows of this process alone")
def test_a_gather_that_forgets_the_others_is_noticed(tmp_path):
    code, log = forked(tmp_path / "one", contrast, tmp_path / "one")
    assert code == 0, log
    expected = weights(tmp_path / "one")

    def furthest(name: str, forgetful: bool) -> float:
        both = group(tmp_path / name, contrast, tmp_path / name, forgetful, **TOGETHER)
        codes, log = ended(tmp_path / name, both)
        assert codes == [0, 0], log
        found = weights(tmp_path / name)
        return max((found[name] - value).abs().max().item() for name, value in expected.items())

    assert furthest("right", False) < 1e-9
    assert furthest("wrong", True) > 1e-5


# One of two ends


def one_fails(folder: Path, how: str) -> None:
    """The second process is killed, or raises, in its sixth step."""
    if rank_of_the_environment() == 1 and how == "raises":
        read, steps = Pictures.read, iter(range(100))

        def fail(self, index, epoch=0):
            if next(steps) == 5:
                raise OSError(5, "I/O error", "photo.png")
            return read(self, index, epoch)

        Pictures.read = fail
    die_at = 5 if rank_of_the_environment() == 1 and how == "killed" else -1
    train(folder, steps=10_000, die_at=die_at, **TOGETHER)


def rank_of_the_environment() -> int:
    return int(os.environ["RANK"])


@pytest.mark.fault("rank", how="SIGKILL to the second of two processes, or an exception in it, in a step")
@pytest.mark.parametrize("how", ["killed", "raises"])
def test_no_process_waits_for_one_that_is_gone(tmp_path, how):
    began = time.monotonic()
    codes, log = ended(tmp_path, group(tmp_path, one_fails, tmp_path / "run", how))
    assert time.monotonic() - began < 60
    assert codes[1] == (-9 if how == "killed" else 1), log
    assert codes[0] == 1, log
    found = newest(tmp_path / "run/checkpoints")
    assert found is not None
    assert found.name == "step-000000000004.ckpt"


class Undefined(Objective):
    """NaN in the sixth step of the second process."""

    takes = ("vit",)

    def __init__(self):
        super().__init__(tiny.vit())
        self.seen = 0

    def forward(self, batch: Batch) -> Loss:
        value = self.backbone(batch.x.float() / 255).pooled.square().mean()
        self.seen += 1
        return Loss(value * float("nan") if self.seen == 6 and rank() == 1 else value, {})


@pytest.mark.fault("nan", how="a loss that is NaN in the sixth step, in the second of two processes")
def test_nan_on_one_process_stops_both(tmp_path):
    both = group(tmp_path, train, tmp_path / "run", build=(Undefined, Pictures), **TOGETHER)
    codes, log = ended(tmp_path, both)
    assert codes == [1, 1], log
    assert log.count("NonFinite: the loss was not finite at step 5") >= 2
    saved = newest(tmp_path / "run/checkpoints")
    assert saved is not None
    assert saved.name == "step-000000000004.ckpt"
    assert all(value.isfinite().all() for value in torch.load(saved)["state_dict"].values())
    assert not (tmp_path / "run/backbone").exists()


# Signals


class Slow(Pictures):
    """Rows that take a while, and say when training is under way."""

    def __init__(self, note: Path, **options):
        super().__init__(**options)
        self.note, self.reads = note, 0

    def read(self, index, epoch=0):
        time.sleep(0.01)
        self.reads += 1
        if self.reads == 4:
            Path(f"{self.note}-{rank()}").touch()
        return super().read(index, epoch)


def slowly(folder: Path, **options) -> None:
    """Ends as the command does, also when a signal comes after training gave its handlers back."""
    signal.signal(signal.SIGTERM, leave)
    build = (tiny.ZOO["mae"][0], lambda seed: Slow(folder / "started", seed=seed))
    summary, _ = train(folder / "run", build=build, steps=5000, save_every=10_000, **options)
    sys.exit(143 if summary["stopped"] else 0)


def wait_for(*paths: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not all(path.exists() for path in paths):
        assert time.monotonic() < end, f"no {paths}"
        time.sleep(0.01)


@pytest.mark.fault("sigterm", how="SIGTERM to the first, the second or both of two processes, once or twice")
@pytest.mark.parametrize(
    ("whom", "times"),
    [((0,), 1), ((1,), 1), ((0, 1), 1), ((0, 1), 2)],
    ids=["first", "second", "both", "twice"],
)
def test_sigterm_to_one_of_two_stops_both(tmp_path, whom, times):
    both = group(tmp_path, slowly, tmp_path, **TOGETHER)
    wait_for(tmp_path / "started-0", tmp_path / "started-1")
    for _ in range(times):
        for one in whom:
            both[one].terminate()  # SIGTERM; nothing if it has ended
        time.sleep(0.05)
    began = time.monotonic()
    codes, log = ended(tmp_path, both, timeout=60)
    assert codes == [143, 143], log
    assert time.monotonic() - began < 20  # the grace time of most schedulers is 30
    (saved,) = checkpoints(tmp_path / "run/checkpoints")
    assert newest(tmp_path / "run/checkpoints") == saved
    assert f"saved step {int(saved.stem[5:]):,}; the same command goes on from there" in log


# Rows that do not divide


@pytest.mark.fault("uneven", how="a batch of 5 rows for two processes")
def test_a_batch_that_does_not_divide_is_refused_by_both(tmp_path):
    codes, log = ended(tmp_path, group(tmp_path, train, tmp_path / "run", batch=5, **TOGETHER))
    assert codes == [1, 1], log
    assert "batch_size=5 does not divide over 2 processes x 1 accumulation steps; take a multiple of 2" in log


def watched(folder: Path, **options) -> None:
    train(folder / "run", steps=4, validation=Validation(Pictures(9, 5), 2, 4), **options)


@pytest.mark.fault("uneven", how="22 rows in batches of 4, and 9 validation rows, for two processes")
def test_rows_left_over_keep_no_process_waiting(tmp_path):
    codes, log = ended(tmp_path, group(tmp_path, watched, tmp_path, **TOGETHER))
    assert codes == [0, 0], log
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    code, log = forked(tmp_path / "one", watched, tmp_path / "one")
    assert code == 0, log
    alone = json.loads((tmp_path / "one/run/summary.json").read_text())
    # Two processes leave the ninth row out of the mean, one does not.
    assert summary["val/loss"] == pytest.approx(alone["val/loss"], rel=0.1)
    assert np.isfinite(summary["val/loss"])
