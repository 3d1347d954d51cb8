"""What surrounds a run and fails: loggers, the clock, and another run in the same process."""

import signal
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import tiny
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tiny import Pictures, forked, train

from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.pretrain import Budget
from ssl_zoo.pretrain.logs import read_metrics
from ssl_zoo.pretrain.watch import Monitor, Validation


def broken(folder: Path, logger: type, method: str, good: int) -> None:
    """After so many good calls, a method of the logger raises."""
    real, calls = getattr(logger, method), iter(range(1000))

    def fail(self, *args, **options):
        if next(calls) >= good:
            raise OSError(28, "No space left on device")
        return real(self, *args, **options)

    setattr(logger, method, fail)
    train(folder, "mae", validation=Validation(Pictures(10, 5), 3, 4))


@pytest.mark.fault(
    "logger", how="TensorBoard or CSV that raise ENOSPC from their second line on, or at the end"
)
@pytest.mark.parametrize(
    ("logger", "method", "good"),
    [
        (TensorBoardLogger, "log_metrics", 1),
        (TensorBoardLogger, "finalize", 0),
        (CSVLogger, "log_metrics", 0),
        (CSVLogger, "save", 2),
    ],
)
def test_a_logger_that_cannot_write(tmp_path, unharmed, logger, method, good):
    code, log = forked(tmp_path, broken, tmp_path / "run", logger, method, good)
    assert code == 0, log
    warning = f"WARNING: {logger.__name__} failed (OSError: [Errno 28] No space left on device)"
    assert log.count(warning) == log.count("WARNING") == 1
    if logger is TensorBoardLogger:  # the other one has it all
        assert read_metrics(tmp_path / "run")["val/loss"][0] == [3, 6, 9, 11]
    assert (tmp_path / "run/sha256").read_text() == unharmed


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed")
@pytest.mark.fault("logger", how="wandb=PROJECT where wandb is not installed")
def test_a_logger_that_is_not_installed(tmp_path, unharmed):
    code, log = forked(tmp_path, train, tmp_path / "run", "mae", wandb="project")
    assert code == 0, log
    assert log.count("WARNING: WandbLogger failed (ModuleNotFoundError") == 1
    assert (tmp_path / "run/sha256").read_text() == unharmed


def backwards(folder: Path, **options) -> None:
    """Every look at the wall clock finds it an hour earlier, as when a machine's date is set right."""
    real, looks = time.time, iter(range(1, 10**9))
    time.time = lambda: real() - 3600 * next(looks)
    train(folder, "mae", **options)


@pytest.mark.fault(
    "clock", how="time.time() that is an hour earlier at each call; budgets of steps and of minutes"
)
def test_a_clock_that_goes_backwards(tmp_path, unharmed):
    for die_at, code in ((6, -9), (-1, 0)):
        found, log = forked(tmp_path, backwards, tmp_path / "run", die_at=die_at)
        assert found == code, log
    assert (tmp_path / "run/sha256").read_text() == unharmed
    began = time.monotonic()
    code, log = forked(tmp_path, backwards, tmp_path / "minutes", budget=Budget(minutes=0.01))
    assert code == 0, log
    assert time.monotonic() - began < 30


def one_after_the_other(folder: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    for name in ("simclr", "mae"):
        train(folder / name, name)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.fault(
    "two runs", how="one after the other in one process, which starts and ends them as if alone"
)
def test_two_runs_in_one_process(tmp_path, unharmed):
    code, log = forked(tmp_path, one_after_the_other, tmp_path)
    assert code == 0, log
    assert (tmp_path / "mae/sha256").read_text() == unharmed


class Constant(Objective):
    """Its features come a tenth closer to one point in each step."""

    takes = ("vit",)

    def __init__(self):
        super().__init__(tiny.vit())
        self.last = self.backbone.model.norm
        torch.nn.init.ones_(self.last.bias)

    def forward(self, batch: Batch) -> Loss:
        return Loss(self.backbone(batch.x.float() / 255).pooled.var(0).mean(), {})

    @torch.no_grad()
    def advance(self, t: float) -> None:
        self.last.weight.mul_(0.9)


def collapsing(folder: Path) -> None:
    watch = Monitor(Pictures(40), Pictures(20, 1), every=10)
    train(folder, build=(Constant, Pictures), steps=60, monitor=watch)


@pytest.mark.fault("constant", how="features that come a tenth closer in each step, looked at every 10 steps")
def test_a_collapse_is_said(tmp_path):
    code, log = forked(tmp_path, collapsing, tmp_path / "run")
    assert code == 0, log
    looks = [line for line in log.splitlines() if "feature_std" in line]
    assert len(looks) >= 6
    assert "WARNING" not in looks[0]
    assert "WARNING: the features have almost collapsed to one point" in looks[-1]
