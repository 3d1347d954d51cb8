"""Loggers that `logger=` chooses: each brings its client when a run begins that asks for it.

They stand here because Hydra finds what it builds by attributes, and `ssl_zoo.pretrain` is a function.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


def refuse_absent(logger: Any) -> None:
    """Raise ImportError if the client of a `logger=` choice is missing, with the command that installs it."""
    client = NEEDS.get(logger.func) if isinstance(logger, partial) else None
    if client is not None and find_spec(client) is None:
        raise ImportError(f"logger={client} needs {client}: pip install 'ssl-zoo[{client}]'")


def mlflow(run: Path, experiment: str = "ssl-zoo", address: str | None = None) -> Logger:
    """Figures at an MLflow server, or in its files.

    Args:
        run: the folder of the run, which gives the run its name.
        experiment: what runs are gathered under.
        address: of the server, or a folder as file:FOLDER; null = the variable MLFLOW_TRACKING_URI, else
            RUN/logs/mlflow.
    """
    from lightning.pytorch.loggers import MLFlowLogger

    where = address or os.environ.get("MLFLOW_TRACKING_URI")
    return MLFlowLogger(experiment, run.name, where or f"file:{run.absolute() / 'logs/mlflow'}")


def weights_and_biases(run: Path, project: str = "ssl-zoo") -> Logger:
    """Figures at Weights & Biases.

    Args:
        run: the folder of the run, which gives the run its name and goes on where it was.
        project: what runs are gathered under.
    """
    if find_spec("wandb") is None:
        raise ModuleNotFoundError("wandb is not installed: pip install 'ssl-zoo[wandb]'")
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(project=project, name=run.name, save_dir=run, id=run.name, resume="allow")


def trackio(run: Path, project: str = "ssl-zoo", space: str | None = None) -> Logger:
    """Figures at Trackio, on this machine or in a Space of the Hugging Face hub.

    Args:
        run: the folder of the run, which gives the run its name.
        project: what runs are gathered under.
        space: OWNER/NAME of a Space; null = on this machine.
    """
    return TrackioLogger(run.name, project, space)


class TrackioLogger(Logger):
    """Lightning's interface to Trackio, which has the functions of Weights & Biases."""

    def __init__(self, run: str, project: str, space: str | None):
        super().__init__()
        self.run, self.project, self.space = run, project, space
        self.client: Any = None

    @property
    def name(self) -> str:
        return self.project

    @property
    def version(self) -> str:
        return self.run

    @property
    def experiment(self) -> Any:
        """The client, which is started when it is first asked for."""
        if self.client is None:
            import_module("trackio").init(
                project=self.project, name=self.run, space_id=self.space, resume="allow"
            )
            self.client = import_module("trackio")
        return self.client

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **options: Any) -> None:
        """Trackio takes settings at the start alone; they are in the run's config.yaml."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self.client is not None:
            self.client.finish()
            self.client = None


# What makes a logger -> the client that it needs, which is also the name of the extra that brings it.
NEEDS = {mlflow: "mlflow", weights_and_biases: "wandb", trackio: "trackio"}
