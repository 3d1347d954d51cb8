"""Hydra's application: its flags, its sweeps and launchers around what a verb of the command does."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ssl_zoo.compose import data_names
from ssl_zoo.compose.composition import EXPECTED, config_folder, explain, refuse_unknown_targets
from ssl_zoo.compose.gate import from_command_line, names_of_command_line, naming


def settled_words() -> list[str]:
    """The words that the running command was composed of, those of this run where it is a sweep."""
    return list(HydraConfig.get().overrides.task)


@from_command_line
def launch(verb: str, args: list[str], run: Callable[[DictConfig, dict[str, str]], float | None]) -> None:
    """Hand checked words to Hydra, with its flags.

    Args:
        verb: names the configuration, and stands in messages.
        args: Hydra's flags and the words that `composition.settle` made.
        run: gets the configuration and the choice of each group; once for each run of a sweep, whose sweeper,
            such as Optuna's, is told the figure that it returns.

    An error that explains itself ends the process with its message; SSL_ZOO_TRACEBACK=1 raises it instead.
    """
    named, script = names_of_command_line(), sys.argv[0]
    sys.argv = [f"ssl-zoo {verb}", *args]

    def task(cfg: DictConfig) -> float | None:
        one = HydraConfig.get()
        swept = one.mode == RunMode.MULTIRUN
        # Lightning starts the other processes of DDP with this command line.
        sys.argv = [script, verb, *(one.overrides.task if swept else args)]
        try:
            choices = {str(k): str(v) for k, v in one.runtime.choices.items()}
            with naming(named):  # again: a launcher may run this in a process of its own
                refuse_unknown_targets(cfg)
                if cfg.get("data") is not None:
                    choices["data"] = data_names.own_name(cfg.data, choices["data"])
                return run(cfg, choices)
        except EXPECTED as error:
            if os.environ.get("SSL_ZOO_TRACEBACK"):
                raise
            sys.exit(f"ssl-zoo {verb}: {explain(error)}")

    start = hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=verb)(task)
    if any(word.startswith("hydra/launcher=submitit_") for word in args):
        submit(verb, args, start)
    else:
        start()


def submit(verb: str, args: list[str], start: Callable[[], None]) -> None:
    """Start a sweep whose runs are submitit's jobs, which print into files, and say where these are.

    Exits with the last line of a job that failed; SSL_ZOO_TRACEBACK=1 raises submitit's error instead.
    """
    told = {key: value for key, _, value in (word.partition("=") for word in args)}
    folder = told.get("hydra.launcher.submitit_folder") or f"{told.get('hydra.sweep.dir', '.')}/.submitit/%j"
    folder = os.path.normpath(folder)
    files = f"{folder.replace('%j', 'JOB')}/*.out"
    print(
        f"ssl-zoo {verb}: each run of this sweep is a job, which prints into {files}; "
        "this command waits for all of them",
        flush=True,
    )
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints the error itself, as that of a program
    try:
        start()
    except Exception as error:
        of_submitit = type(error).__module__.startswith("submitit.")
        job = re.match(r"Job (\S+)", f"{error}") if of_submitit else None
        if job is None or os.environ.get("SSL_ZOO_TRACEBACK"):
            raise
        last = next((line for line in reversed(f"{error}".splitlines()) if line.strip(" -")), "")
        sys.exit(
            f"ssl-zoo {verb}: job {job[1]} failed, which printed into {folder.replace('%j', job[1])}; "
            f"its last line: {last.removeprefix(f'ssl-zoo {verb}: ')}"
        )
