"""Lines for people that one process of a group says; nothing here imports Lightning, which takes seconds."""

from __future__ import annotations

import os
import sys

from tqdm import tqdm

from ssl_zoo.distributed import rank, world
from ssl_zoo.messages import heard

# How the variables begin by which launchers number processes, or Lightning those that it launches.
LAUNCHED = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "TORCHELASTIC_"),
    *("SLURM_", "LSB_", "PMI", "OMPI_", "JSM_", "MPI"),
)


def say(text: str) -> None:
    """A line for whoever listens, or above any progress bar; only the first process speaks."""
    if not first():
        return
    if (listener := heard()) is not None:
        listener(text)
        return
    tqdm.write(text)
    sys.stdout.flush()


def first() -> bool:
    """Whether this process speaks for its group, or has none."""
    if world() > 1:
        return rank() == 0
    if not any(name.startswith(LAUNCHED) for name in os.environ):
        return True
    from ssl_zoo.pretrain import launch  # before the processes have met, ask the launcher

    return launch.leads()
