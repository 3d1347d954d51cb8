"""One pretraining run in one folder.

RUN/
  config.yaml        what was asked for, resolved        (written by the command line)
  environment.json   versions, hardware, commit, command
  logs/              CSV and TensorBoard, one version for each session
  checkpoints/       the newest two, with sidecars
  backbone/          safetensors + JSON, opened by ssl_zoo.load
  tokenizer/         for text                            (written by the command line)
  summary.json       the figures of the end
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning

import ssl_zoo
from ssl_zoo import hub
from ssl_zoo.distributed import rank
from ssl_zoo.pretrain.callbacks import Meter, say
from ssl_zoo.pretrain.checkpoint import (
    AtomicCheckpointIO,
    CheckpointError,
    checkpoints,
    newest,
    write_atomically,
)
from ssl_zoo.pretrain.loggers import loggers
from ssl_zoo.pretrain.module import Pretraining, PretrainingData
from ssl_zoo.pretrain.saver import Checkpoint
from ssl_zoo.pretrain.watch import Monitor, Validation


class RunError(RuntimeError):
    """The run folder is in use, or holds another run."""


def launched() -> bool:
    """Whether this process joins another, which looks after the run folder."""
    return bool(int(os.environ.get("LOCAL_RANK", "0")) or int(os.environ.get("NODE_RANK", "0")))


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run folder for this process (it may ask twice) and those that it launches.

    The lock is the process's and not the open file's (lockf, not flock): loader workers that outlive a
    killed run by some seconds do not hold it.
    """
    run.mkdir(parents=True, exist_ok=True)
    if launched():
        yield
        return
    with open(run / ".lock", "w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"another process is training in {run}; choose another run=...") from error
        yield


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def environment() -> dict[str, Any]:
    """Versions, hardware and the command, as found."""
    names = ["torch", "torchvision", "lightning", "timm", "transformers", "tokenizers", "hydra-core", "numpy"]
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "ssl_zoo": ssl_zoo.__version__,
        "commit": commit.stdout.strip() or None,
        "python": platform.python_version(),
        "versions": versions,
        "machine": platform.machine(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "devices": devices,
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def resume_from(run: Path, resume: str) -> Path | None:
    """The checkpoint to go on from.

    resume: "auto" (the newest whole one, or none if there never was any), "never", or a path.
    """
    folder = run / "checkpoints"
    if resume == "auto":
        return newest(folder)
    if resume == "never":
        if checkpoints(folder):
            raise RunError(f"{run} already holds checkpoints: use resume=auto to go on, or another run=...")
        return None
    if not Path(resume).exists():
        raise CheckpointError(
            f"resume={resume}: no such file; use resume=auto, or one of {run}/checkpoints/*.ckpt"
        )
    return Path(resume)


def pretrain(
    module: Pretraining,
    data: PretrainingData,
    run: str | Path,
    *,
    validation: Validation | None = None,
    monitor: Monitor | None = None,
    save_every: int = 1000,
    log_every: int = 50,
    keep: int = 2,
    resume: str = "auto",
    wandb: str | None = None,
    **trainer: Any,
) -> dict[str, Any]:
    """Train, keep everything in the folder `run`, and save the backbone at the end.

    Args:
        validation, monitor: what to watch besides the loss.
        save_every, log_every: in optimizer steps.
        keep: checkpoints kept, at least 2.
        resume: see `resume_from`.
        trainer: arguments of Lightning's Trainer: accelerator, devices, strategy, precision, ...

    Returns:
        The summary that is also written to `summary.json`; "stopped" is True after a SIGTERM.

    Raises:
        RunError, CheckpointError, NonFinite, DataError: each says what to do.
    """
    run = Path(run)
    with locked(run):
        checkpoint = resume_from(run, resume)
        saver = Checkpoint(run / "checkpoints", save_every, keep)
        callbacks: list[L.Callback] = [extra for extra in (validation, monitor) if extra is not None]
        callbacks += [saver, Meter(log_every)]  # the meter last: what the others do is no waiting for data
        with warnings.catch_warnings():
            quiet()
            lightning = L.Trainer(
                max_epochs=1,  # the loader ends when the budget is spent
                accumulate_grad_batches=data.accumulate,
                logger=loggers(run, wandb),
                callbacks=callbacks,
                plugins=[AtomicCheckpointIO()],
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                **trainer,
            )
            if rank() == 0:
                write_atomically(run / "environment.json", json.dumps(environment(), indent=1).encode())
            lightning.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        if module.step_at_start == lightning.global_step and (run / "summary.json").exists():
            before = json.loads((run / "summary.json").read_text())
            if not before["stopped"]:
                say(f"{run} was finished already, at step {lightning.global_step:,}")
                return before
        summary: dict[str, Any] = {
            "objective": type(module.objective).__name__,
            "backbone": hub.describe(module.objective.backbone)["kind"],
            "backbone_parameters": sum(p.numel() for p in module.objective.backbone.parameters()),
            "steps": lightning.global_step,
            "samples": lightning.global_step * data.plan.batch,
            f"{data.rows.unit}": lightning.global_step * data.plan.batch * data.rows.units_per_row,
            "seconds": round(module.clock.elapsed(), 1),
            "seed": module.seed,
            "stopped": saver.asked,
        }
        for watcher in (validation, monitor):
            if watcher is not None:
                summary |= watcher.last
        if lightning.is_global_zero:
            if not saver.asked:
                hub.save(module.objective.backbone, run / "backbone")
            write_atomically(run / "summary.json", json.dumps(summary, indent=1).encode())
        return summary


def quiet() -> None:
    """Silence what Lightning says that does not apply here; everything else is heard."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for text in (
        r".*does not have many workers.*",
        r".*The `srun` command is available.*",
        r".*Starting from v1\.9\.0, `tensorboardX`.*",
        r".*Checkpoint directory .* exists and is not empty.*",
        r".*You're resuming from a checkpoint that ended.*",
        r".*GPU available but not used.*",
        r".*Experiment logs directory .* exists.*",
        r".*isinstance\(treespec, LeafSpec\)` is deprecated.*",  # Lightning 2.6 on torch 2.15
    ):
        warnings.filterwarnings("ignore", text)
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
