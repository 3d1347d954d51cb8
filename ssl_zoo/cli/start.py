"""The line that a verb prints before it loads what takes seconds."""

from __future__ import annotations

import os
import shlex
import sys

# The number of a process among those that a launcher started, as torchrun, srun, MPIs and Lightning call it.
NUMBERS = (
    *("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "PMI_RANK"),
    *("OMPI_COMM_WORLD_RANK", "JSM_NAMESPACE_RANK"),
)


def begin(verb: str, words: list[str]) -> None:
    """Say on the standard error what begins, in the words that were typed; one process of a group does.

    Args:
        verb: of the command, with the second verb that some have.
        words: what was typed after it.
    """
    if all(os.environ.get(name, "0") in ("0", "") for name in NUMBERS):
        typed = " ".join(map(shlex.quote, ["ssl-zoo", *verb.split(), *words]))
        print(f"{typed}: begins; torch is loaded first, which takes seconds", file=sys.stderr, flush=True)
