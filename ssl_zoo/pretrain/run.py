"""One pretraining run in one folder.

RUN/
  config.yaml        what was asked for, resolved        (written by the command line)
  environment.json   versions, hardware, commit, command
  logs/              CSV and TensorBoard, one version for each session
  checkpoints/       the newest two, with sidecars
  backbone/          safetensors + JSON, opened by ssl_zoo.load
  backbones/NAME/    others that the objective exports, as CLIP's text tower
  tokenizer/         for text                            (written by the command line)
  summary.json       the figures of the end
"""

from __future__ import annotations

import json
import logging
import signal
import warnings
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.warnings import PossibleUserWarning

from ssl_zoo import hub, portable
from ssl_zoo.data.workers import GONE, WorkerError
from ssl_zoo.pretrain import launch
from ssl_zoo.pretrain.background import Background
from ssl_zoo.pretrain.callbacks import Meter, chance_of
from ssl_zoo.pretrain.checkpoint import CheckpointError, checkpoints, newest, refuse_other_files
from ssl_zoo.pretrain.checkpoint_io import AtomicCheckpointIO
from ssl_zoo.pretrain.data import PretrainingData
from ssl_zoo.pretrain.environment import environment
from ssl_zoo.pretrain.export import FEW, exported, read_summary
from ssl_zoo.pretrain.guard import Guard
from ssl_zoo.pretrain.loggers import loggers, told
from ssl_zoo.pretrain.module import NonFinite, Pretraining
from ssl_zoo.pretrain.saver import Checkpoint
from ssl_zoo.pretrain.saying import say
from ssl_zoo.pretrain.session import RunError, Session, locked
from ssl_zoo.pretrain.sharding import refuse_fsdp1, whole_state
from ssl_zoo.pretrain.stopping import Stop, requeue
from ssl_zoo.pretrain.watch import Monitor, Validation
from ssl_zoo.pretrain.writing import write_atomically
from ssl_zoo.products import at_full_rate


def resume_from(run: Path, resume: str) -> Path | None:
    """The checkpoint to go on from.

    resume: "auto" (the newest whole one, or none if there never was any), "never", or a path.

    Raises:
        RunError: "never", and there are checkpoints.
        CheckpointError: no checkpoint is whole, or the path is none that training can go on from.
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
    refuse_other_files(Path(resume))
    return Path(resume)


def pretrain(
    module: Pretraining,
    data: PretrainingData,
    run: str | Path,
    *,
    validation: Validation | None = None,
    monitor: Monitor | None = None,
    guard: Guard | None = None,
    save_every: int = 1000,
    log_every: int = 50,
    save_async: bool = False,
    keep: int = 2,
    resume: str = "auto",
    wandb: str | None = None,
    logger: Any = None,
    **trainer: Any,
) -> dict[str, Any]:
    """Train, keep everything in the folder `run`, and save the backbone at the end.

    Args:
        module: the objective, and how it is trained.
        data: the rows, and how they are made into batches.
        run: a folder; what it holds is listed at the top of this file.
        validation, monitor: what to watch besides the loss.
        guard: what judges the looks of the monitor, and decides which step is exported.
        save_every, log_every: in optimizer steps; 0 = never.
        save_async: write checkpoints in a thread while training goes on, which takes memory for a copy.
        keep: checkpoints kept, at least 2.
        resume: see `resume_from`.
        wandb: a project of Weights & Biases to log to; None: none.
        logger: one more, Lightning's or what makes one from the run's folder; None: none.
        trainer: arguments of Lightning's Trainer: accelerator, devices, strategy, precision, ...

    Returns:
        The summary that is also written to `summary.json`; "stopped" is True where a signal ended training.

    Raises:
        ValueError: a guard without a monitor, or without the labels that it needs.
        RunError, CheckpointError, NonFinite, DataError, DeviceError, LauncherError, WorkerError: each says
            what to do.
        KeyboardInterrupt: Ctrl-C; what was trained is saved.
    """
    run, stop, background = Path(run), Stop(), Background(save_async)
    if guard is not None:
        guard.watch(monitor)
    launch.refuse_absent_device(trainer)
    refuse_fsdp1(trainer.get("strategy"))
    if trainer.get("strategy") == "fsdp2":
        from ssl_zoo.pretrain.fsdp2 import FSDP2  # its imports take long

        trainer["strategy"] = FSDP2(background)
    saver = Checkpoint(run / "checkpoints", save_every, keep, stop, background)
    meter = Meter(log_every)
    watchers = [extra for extra in (validation, monitor, guard) if extra is not None]
    with locked(run) as session:
        found = session.share("checkpoint", lambda: str(resume_from(run, resume) or ""))
        with warnings.catch_warnings():
            quiet()
            place = launch.cluster()
            active = loggers(run, wandb, logger)
            say(f"loggers     {told(active)}")
            lightning = L.Trainer(
                max_epochs=1,  # the loader ends when the budget is spent
                accumulate_grad_batches=data.accumulate,
                logger=active,
                # The meter last: what the others do is no waiting for data.
                callbacks=[Meeting(session), saver, *watchers, meter],
                plugins=[AtomicCheckpointIO(background), place],
                default_root_dir=run,  # where Lightning looks for checkpoints of its own under SLURM
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                **trainer,
            )
            if launch.grouped() and place.world_size() > lightning.world_size:
                raise RunError(
                    f"{place.world_size()} processes were launched, and the trainer is for "
                    f"{lightning.world_size}: take trainer=ddp or ddp_cpu, with "
                    "trainer.devices=PROCESSES_OF_A_NODE and trainer.num_nodes=NODES"
                )
            launch.join(lightning.strategy, session.facts["token"])
            if session.leads:
                write_atomically(run / "environment.json", json.dumps(environment(), indent=1).encode())
            try:
                fit(lightning, module, data, found or None)
            except NonFinite as error:
                if guard is None or not guard.survives(error):
                    raise
        if guard is not None and not module.stopped:
            guard.restore(module.objective, lightning.global_step)
        return conclude(lightning, module, data, run, saver, watchers)


class Meeting(L.Callback):
    """Makes sure, before training, that the processes that have met are of one session."""

    def __init__(self, session: Session):
        self.session = session

    def on_fit_start(self, trainer, pl_module) -> None:
        self.session.confirm(trainer.strategy.root_device)


def fit(lightning: L.Trainer, module: Pretraining, data: PretrainingData, checkpoint: str | None) -> None:
    """Lightning's `fit`, with errors that say what happened."""
    try:
        with at_full_rate(lightning.strategy.root_device):
            lightning.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        # Lightning turned Ctrl-C into an exit code of 1, and ignores it from now on.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from None
    except (RuntimeError, *GONE) as error:
        feed = getattr(data, "feed", None)
        cause = error if isinstance(error, WorkerError) else feed and feed.items.explain(error)
        if not cause:
            raise
        raise WorkerError(f"{cause} What was saved is kept: resume=auto goes on from there.") from error


def conclude(
    lightning: L.Trainer,
    module: Pretraining,
    data: PretrainingData,
    run: Path,
    saver: Checkpoint,
    watchers: list[Validation | Monitor | Guard],
) -> dict[str, Any]:
    """Export the backbones of a run that is finished, and write its summary, unless all are there."""
    kept, step = module.objective.export(), lightning.global_step
    backbone = kept[hub.MAIN]
    states = {name: whole_state(one) for name, one in kept.items()}  # all processes have a part
    file, watched = run / "summary.json", {}
    if module.step_at_start == step and not module.stopped:
        before = read_summary(file)
        whole = all(exported(one, states[name], hub.place(run, name)) for name, one in kept.items())
        if before.get("steps") == step and not before["stopped"] and whole:
            say(f"{run} was finished already, at step {step:,}")
            return before
        say(f"step {step:,} was trained already; its backbone is exported now")
        watched = before if before.get("steps") == step else {}
    summary: dict[str, Any] = watched | {
        "objective": type(module.objective).__name__,
        "backbone": type(backbone).__name__,
        "backbone_parameters": sum(p.numel() for p in backbone.parameters()),
        "steps": step,
        "samples": step * data.plan.batch,
        f"{data.rows.unit}": step * data.plan.batch * data.rows.units_per_row,
        "seconds": round(module.clock.elapsed(), 1),
        "seed": module.seed,
        "stopped": module.stopped,
    }
    if (chance := chance_of(module)) is not None:
        summary["chance"] = chance
    for watcher in watchers:
        summary |= watcher.last
    if lightning.is_global_zero:
        if not module.stopped:
            for name, one in kept.items():
                hub.save(one, hub.place(run, name), states[name])
            if step < FEW:
                say(
                    f"note: {step} optimizer step{'s' * (step > 1)} taught this backbone next to nothing; "
                    "evaluate it with floors=true, which shows what random weights are worth"
                )
        write_atomically(file, json.dumps(summary, indent=1).encode())
    asked = saver.stop.asked
    if module.stopped and asked == portable.number("SIGUSR1") and lightning.is_global_zero:
        say(requeue())
    if module.stopped and asked == signal.SIGINT and not launch.by_lightning():
        raise KeyboardInterrupt("saved")
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
