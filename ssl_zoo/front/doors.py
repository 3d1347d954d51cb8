"""What every function of the front door does on the way in and out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from os import PathLike, fspath
from typing import Any

# True: lines are printed; False: none is; a function is handed each of them.
Progress = bool | Callable[[str], object]


def as_folder(run: Any) -> str:
    """The folder of a run.

    Raises:
        ConfigError: it is neither a run nor a path.
    """
    if isinstance(run, (str, PathLike)):
        return fspath(run)
    from ssl_zoo.compose.gate import ConfigError

    raise ConfigError(
        f"run: {type(run).__name__} is no run. Take what pretrain returned, or the folder of a run (or, to "
        "export it, of a classifier); a backbone is saved first, by ssl_zoo.save(backbone, FOLDER)"
    )


@contextlib.contextmanager
def at_the_door(progress: Progress) -> Iterator[None]:
    """Within, lines go where `progress` says, and errors of Hydra become ConfigErrors.

    Afterwards torch's number of threads and its random numbers are what they were before.
    """
    import torch

    from ssl_zoo.compose.composition import as_config_errors
    from ssl_zoo.messages import heard_by, ignore

    listener = None if progress is True else ignore if progress is False else progress
    threads, devices = torch.get_num_threads(), []
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        devices = list(range(torch.cuda.device_count()))
    try:
        with heard_by(listener), as_config_errors(), torch.random.fork_rng(devices):
            yield
    finally:
        torch.set_num_threads(threads)
