"""Where figures go while training: files, and Weights & Biases where a project is named.

No figure is worth a run: a logger that fails is named once and left alone, and training goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

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


def loggers(run: Path, wandb: str | None = None) -> list[Logger]:
    """CSV and TensorBoard, and Weights & Biases where a project is named.

    Args:
        run: the folder of the run; its name is that of the run at Weights & Biases.
        wandb: a project there; None: none.
    """
    found: list[Logger] = [
        # Written at once: Lightning's default of 100 loses all that a killed session had logged.
        CSVLogger(run, name="logs/csv", flush_logs_every_n_steps=1),
        TensorBoardLogger(run, name="logs/tensorboard"),
    ]
    if wandb is not None:
        from lightning.pytorch.loggers import WandbLogger

        try:
            found.append(WandbLogger(project=wandb, name=run.name, save_dir=run, id=run.name, resume="allow"))
        except Exception as error:  # not installed, above all
            left_alone("WandbLogger", error)
    return [Bearable(logger) for logger in found]
