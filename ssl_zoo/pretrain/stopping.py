"""Signals that ask training to stop: SIGTERM, Ctrl-C, and under SLURM the one that asks to be queued again.

The handlers only note what was asked. Training looks after each step, saves, and ends. In a group, the
processes agree on it by a message about twice a second, so that all of them save the same step.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from ssl_zoo import portable
from ssl_zoo.distributed import rank, world
from ssl_zoo.pretrain import launch

OFTEN = 0.5  # seconds between the messages in which processes agree
NAMES = {signal.SIGINT: "Ctrl-C"}


def in_slurm_job() -> bool:
    """Whether SLURM runs this as a batch job, which can be queued again."""
    return SLURMEnvironment.job_id() is not None


class Stop:
    """What asks training to stop.

    Attributes:
        asked: the signal; None if training shall go on.
        agreed: all processes know.
    """

    def __init__(self):
        self.asked: signal.Signals | None = None
        self.agreed = False
        self.before: dict[signal.Signals, Any] = {}
        self.at, self.since = 0, time.monotonic()  # the step at which processes talked last, and when
        self.due, self.interval = 0, 1  # the step at which they talk next; steps between

    def listen(self, step: int) -> str | None:
        """Take over the signals, until `release`. Returns why it cannot, if so."""
        self.at, self.since = step, time.monotonic()
        if threading.current_thread() is not threading.main_thread():
            return "training in a thread: SIGTERM and Ctrl-C are not handled, and lose what was not saved"
        signals = [signal.SIGINT, signal.SIGTERM, *(portable.signals("SIGUSR1") if in_slurm_job() else [])]
        # Over Lightning's own handlers, which neither save nor agree between processes.
        self.before = {number: signal.signal(number, self.ask) for number in signals}
        return None

    def release(self) -> None:
        """Give the signals back to the handlers before."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def ask(self, number: int, frame: FrameType | None) -> None:
        """The handler of all signals."""
        if number == signal.SIGINT:
            if self.asked == signal.SIGINT:
                os._exit(130)
            if rank() == 0:
                os.write(2, b"\nCtrl-C: saving after this step; once more leaves at once\n")
        self.asked = signal.Signals(number)

    def after(self, step: int, device: torch.device) -> bool:
        """Whether training ends with this step; the same on every process (a collective call)."""
        if world() == 1:
            self.agreed = self.asked is not None
        elif step >= self.due:
            # The first process decides when they talk again, by how long its steps took; twice as many steps
            # as the last time at most, because some steps take much longer than others.
            now = time.monotonic()
            steps = (step - self.at) * OFTEN / max(now - self.since, 1e-9)
            interval = max(1, min(int(steps), 2 * self.interval)) if rank() == 0 else 0
            told = torch.tensor([self.asked or 0, interval], device=device)
            dist.all_reduce(told, dist.ReduceOp.MAX)
            asked, self.interval = told.tolist()
            self.asked = signal.Signals(asked) if asked else None
            self.agreed = bool(asked)
            self.at, self.since, self.due = step, now, step + self.interval
        return self.agreed

    @property
    def name(self) -> str:
        """What the signal that was asked with is called."""
        assert self.asked is not None
        return NAMES.get(self.asked, self.asked.name)


def requeue_when_told() -> None:
    """Answer SLURM's SIGUSR1 before training too, with nothing to save: queue the job again, and end."""

    def answer(number: int, frame: FrameType | None) -> None:
        if launch.leads():
            print(requeue(), flush=True)
        sys.exit(143)

    asked = portable.number("SIGUSR1")
    if asked is not None and in_slurm_job() and threading.current_thread() is threading.main_thread():
        signal.signal(asked, answer)


def requeue() -> str:
    """Ask SLURM to queue this job again; says how that went."""
    job, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    name = f"{job}_{task}" if job and task else os.environ["SLURM_JOB_ID"]
    try:
        subprocess.run(["scontrol", "requeue", name], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        told = f"{getattr(error, 'stderr', '') or ''}".strip()
        return f"SLURM job {name} could not be queued again: {error} {told}".rstrip()
    return f"SLURM job {name} is queued again"
