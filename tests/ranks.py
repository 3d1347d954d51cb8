"""Several processes of one run, joined as torchrun joins them: by what stands in their environment."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny

TOGETHER = {"devices": 2, "strategy": "ddp"}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def group(folder: Path, function: Callable[..., Any], *args: Any, processes: int = 2, **options: Any) -> list:
    """The processes, started; process R writes into FOLDER/rank-R."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    return [
        tiny.spawn(folder / f"rank-{rank}", joined, rank, processes, port, function, args, options)
        for rank in range(processes)
    ]


def joined(
    rank: int, processes: int, port: int, function: Callable[..., Any], args: tuple, options: dict
) -> None:
    names = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "GROUP_RANK": 0,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    names |= {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "TORCHELASTIC_RUN_ID": "tiny"}
    os.environ |= {name: str(value) for name, value in names.items()}
    function(*args, **options)


def ended(folder: Path, processes: list, timeout: float = 90) -> tuple[list[int], str]:
    """Exit codes, and all that was printed."""
    codes = [tiny.outcome(process, timeout) for process in processes]
    return codes, "\n".join((folder / f"rank-{rank}").read_text() for rank in range(len(processes)))
