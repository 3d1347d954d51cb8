"""Where figures go while training: files, and whatever logger a configuration names.

No figure is worth a run: a logger that fails is named once and left alone, and training goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from ssl_zoo.loggers import weights_and_biases
from ssl_zoo.pretrain.saying import say


class Bearable(Logger):
    """A logger that is left alone from its first failure on, whatever it is: a full disk, a lost network."""

    def __init__(self, inner: Logger):
        super().__init__()
        self.inner, self.failed = inner, False

    def attempt(self, method: str, *args: Any, **options: Any) -> Any:
        """What the logger's method returns; None if it fails, now or before."""
        if self.failed:
            return None
        try:
            return getattr(self.inner, method)(*args, **options)
        except Exception as error:  # of whatever kind: these are other people's clients
            self.failed = True
            left_alone(type(self.inner).__name__, error)
            return None

    @property
    def name(self) -> str | None:
        return self.inner.name

    @property
    def version(self) -> int | str | None:
        return self.inner.version

    @property
    def save_dir(self) -> str | None:
        return self.inner.save_dir

    @property
    def experiment(self) -> Any:
        return self.attempt("__getattribute__", "experiment")

    def log_metrics(self, metrics, step=None) -> None:
        self.attempt("log_metrics", metrics, step)

    def log_hyperparams(self, params, *args: Any, **options: Any) -> None:
        self.attempt("log_hyperparams", params, *args, **options)

    def save(self) -> None:
        self.attempt("save")

    def finalize(self, status: str) -> None:
        self.attempt("finalize", status)


def left_alone(logger: str, error: Exception) -> None:
    """Say which logger failed, and of what."""
    say(f"WARNING: {logger} failed ({type(error).__name__}: {error}); training goes on without it")


def loggers(
    run: Path, wandb: str | None = None, more: Logger | partial[Logger] | None = None
) -> list[Logger]:
    """CSV, TensorBoard where it is installed, Weights & Biases where a project is named, and one more.

    Args:
        run: the folder of the run; its name is that of the run at Weights & Biases.
        wandb: a project there; None: none.
        more: a logger, or what makes one from the run's folder.
    """
    # Written at once: Lightning's default of 100 loses all that a killed session had logged.
    found: list[Logger] = [CSVLogger(run, name="logs/csv", flush_logs_every_n_steps=1)]
    if tensorboard_is_here():
        found.append(TensorBoardLogger(run, name="logs/tensorboard"))
    makers: list[tuple[str, Callable[[], Logger]]] = []
    if wandb is not None:
        makers.append(("WandbLogger", lambda: weights_and_biases(run, wandb)))
    if isinstance(more, partial):
        makers.append((f"logger={more.func.__name__}", lambda: more(run=run)))
    elif more is not None:
        makers.append((type(more).__name__, lambda: more))
    for name, make in makers:
        try:
            found.append(make())
        except Exception as error:  # a network that is not there, or a client of another version
            left_alone(name, error)
    return [Bearable(logger) for logger in found]


def tensorboard_is_here() -> bool:
    """Whether TensorBoard's files can be written."""
    return find_spec("tensorboard") is not None


def told(active: list[Logger]) -> str:
    """Which loggers are on, and what would add TensorBoard's where it is missing."""
    inner = (logger.inner if isinstance(logger, Bearable) else logger for logger in active)
    names = ", ".join(type(one).__name__.removesuffix("Logger") for one in inner)
    return names if tensorboard_is_here() else f"{names} (TensorBoard: pip install 'ssl-zoo[tensorboard]')"
