"""Several processes of one run, joined as torchrun joins them: by what stands in their environment."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny
import torch
import torch.distributed as dist

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


def member(number: int, processes: int, folder: Path, job: Callable, args: tuple) -> None:
    """Process `number` of several; the first keeps what the job returns."""
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=number, world_size=processes)
    found = job(*args)
    if number == 0:
        torch.save(found, folder / "found.pt")
    dist.barrier()
    dist.destroy_process_group()


def together(folder: Path, job: Callable, *args: Any, processes: int = 2) -> Any:
    """What `job` returns in the first of two processes."""
    folder.mkdir()
    logs = [folder / f"log-{i}" for i in range(processes)]
    group = [tiny.spawn(log, member, i, processes, folder, job, args) for i, log in enumerate(logs)]
    codes = [tiny.outcome(process, timeout=300) for process in group]
    assert codes == [0] * processes, "\n".join(log.read_text() for log in logs)
    return torch.load(folder / "found.pt")


def once(factory: Any, worker: str, name: str, job: Callable, processes: int = 2) -> Any:
    """What `together` gives, once for all workers of the test run: the first that comes has them do it.

    factory, worker: pytest's tmp_path_factory and worker_id.
    """
    if worker == "master":
        return together(factory.mktemp(name) / "run", job, processes=processes)
    folder = factory.getbasetemp().parent / name
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return torch.load(folder / "found.pt")
        return together(folder, job, processes=processes)
