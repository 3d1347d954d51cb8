"""Groups of processes that are late, killed and started again, or queued again: what they end with."""

import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest
import tiny
import torch
import torch.distributed as dist
from test_launchers import (
    COMMAND,
    ONE_NODE,
    TWO_NODES,
    check,
    folder,
    free_port,
    member,
    slurm,
    start,
    torchrun,
)

from ssl_zoo.data import text
from ssl_zoo.data.rows import DataError
from ssl_zoo.pretrain import presence, session

__all__ = ["folder"]  # a fixture


# Processes that are not ready at the same time


def prepares(
    folder: Path, number: int, variables: dict[str, str], words: tuple[str, ...], slow: dict
) -> None:
    """As `member`, with little patience and a time-out of 3 s for meeting, in a cache of its own.

    slow: how many seconds which process reads its data for, or the error that it ends with.
    """
    session.PATIENCE, presence.BEAT = 1.5, 0.1
    rows = text.TextData.rows

    def slowly(self, *args, **options):
        if isinstance(slow.get(number), str):
            raise DataError(slow[number])
        time.sleep(slow.get(number, 0))
        return rows(self, *args, **options)

    text.TextData.rows = slowly
    joins = dist.init_process_group

    def soon(*args, **options):
        return joins(*args, **options | {"timeout": timedelta(seconds=3)})

    dist.init_process_group = soon
    words = (*words, f"data.cache=cache-{number}")
    member(folder, number, variables, words)


@pytest.mark.parametrize("late", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_node_may_take_longer_than_the_time_out_to_get_its_data(folder, late):
    port, words = free_port(), (*COMMAND, *ONE_NODE, "evaluate_every=0")
    calls = [(i, slurm(i, port), words, {late: 5}) for i in range(2)]
    check(folder, start(folder, prepares, calls))


@pytest.mark.fault("rank", how="the data of a process on another node cannot be read")
def test_a_process_that_cannot_get_its_data_ends_all(folder):
    began, port = time.monotonic(), free_port()
    calls = [(i, slurm(i, port), (*COMMAND, *ONE_NODE), {1: "no such disk"}) for i in range(2)]
    (first, log), (second, other) = start(folder, prepares, calls)
    assert (first, second) == (1, 1)
    assert "no such disk" in other
    assert "process 1 of this group ended: no such disk" in log
    assert "Traceback" not in log + other
    assert time.monotonic() - began < 60


def vanishes(folder: Path, number: int, variables: dict[str, str], words: tuple[str, ...]) -> None:
    if number == 1:
        text.TextData.rows = lambda *args, **options: tiny.die()
    prepares(folder, number, variables, words, {})


def test_a_process_that_is_killed_while_it_reads_is_missed(folder):
    port = free_port()
    (first, log), (second, _) = start(
        folder, vanishes, [(i, slurm(i, port), (*COMMAND, *ONE_NODE)) for i in range(2)]
    )
    assert (first, second) == (1, -9)
    assert "there was no sign of process 1 of this group for 1.5 seconds" in log


# Elastic restarts, and jobs that are queued again


def dies_once(folder: Path, words: tuple[str, ...]) -> None:
    """What torchrun starts; in the first attempt the second process is killed in its sixth step."""
    rank, attempt = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    step = tiny.Pretraining.training_step

    def killed(self, batch, number):
        if attempt and not (folder / f"again-{rank}").exists():
            (folder / f"again-{rank}").write_text(str(self.trainer.global_step))
        if (rank, attempt) == (1, 0) and self.trainer.global_step == 5:
            tiny.die()
        return step(self, batch, number)

    tiny.Pretraining.training_step = killed
    member(folder, rank, {}, words)


def restarting(folder: Path, number: int, nodes: int, port: str, words: tuple[str, ...]) -> None:
    """torchrun --max-restarts=1 on one of several nodes."""
    meeting: dict[str, object] = {"is_host": number == 0}
    torchrun(nodes, port, "c10d", meeting, dies_once, restarts=1)(folder, words)


@pytest.mark.fault("rank", how="one of two processes is killed under torchrun, which starts both again")
@pytest.mark.parametrize("nodes", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_torchrun_starts_a_killed_group_again_which_ends_with_the_same_bits(folder, tmp_path_factory, nodes):
    words = (*COMMAND, *(ONE_NODE if nodes == 1 else TWO_NODES), "evaluate_every=0")
    port = free_port()
    ended = start(folder, restarting, [(number, nodes, port, words) for number in range(nodes)])
    said = "\n".join(log for _, log in ended)
    assert [code for code, _ in ended] == [0] * nodes, said
    assert {(folder / f"again-{rank}").read_text() for rank in range(2)} == {"4"}  # the step that was saved
    assert json.loads((folder / "run/summary.json").read_text())["steps"] == 6
    undisturbed = tmp_path_factory.mktemp("undisturbed")
    (undisturbed / "text.txt").write_bytes((folder / "text.txt").read_bytes())
    port = free_port()
    calls = [(i, slurm(i, port), (*COMMAND, *ONE_NODE, "evaluate_every=0")) for i in range(2)]
    check(undisturbed, start(undisturbed, member, calls))
    one, two = (torch.load(where / "weights-0.pt") for where in (folder, undisturbed))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def queued(folder: Path, number: int, variables: dict[str, str], words: tuple[str, ...], stops: bool) -> None:
    """As `member`, in a job whose `scontrol` notes what it is asked, and whose time is over in step 3."""
    script = folder / f"bin-{number}/scontrol"
    script.parent.mkdir(exist_ok=True)
    script.write_text(f'#!/bin/sh\necho "$@" >> "{folder}/asked"\n')
    script.chmod(0o755)
    os.environ["PATH"] = f"{script.parent}{os.pathsep}{os.environ['PATH']}"
    step = tiny.Pretraining.training_step

    def told(self, batch, count):
        if stops and self.trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGUSR1)  # to all processes of the step, as `scancel --signal` does
        time.sleep(0.05)
        return step(self, batch, count)

    tiny.Pretraining.training_step = told
    member(folder, number, variables, words)


@pytest.mark.fault("sigterm", how="SIGUSR1 to all tasks of a SLURM job, which is queued again twice")
def test_a_job_of_several_tasks_is_queued_again_and_ends_with_the_same_bits(folder, tmp_path_factory):
    words = (*COMMAND, *ONE_NODE, "evaluate_every=0", "save_every=0", "budget.steps=30")
    attempts = 0
    while not (folder / "run/summary.json").exists() or attempts < 2:
        port, again = free_port(), {"SLURM_RESTART_COUNT": str(attempts)} if attempts else {}
        calls = [(i, slurm(i, port, **again), words, attempts == 0) for i in range(2)]
        ended = start(folder, queued, calls)
        said = "\n".join(log for _, log in ended)
        attempts += 1
        if attempts == 1:
            assert [code for code, _ in ended] == [143, 143], said
            assert (folder / "asked").read_text() == "requeue 4242\n"  # asked once, by the first process
            assert said.count("SLURM job 4242 is queued again") == 1
        else:
            assert [code for code, _ in ended] == [0, 0], said
    assert attempts == 2
    assert json.loads((folder / "run/summary.json").read_text())["steps"] == 30
    undisturbed = tmp_path_factory.mktemp("undisturbed")
    (undisturbed / "text.txt").write_bytes((folder / "text.txt").read_bytes())
    port = free_port()
    ended = start(undisturbed, queued, [(i, slurm(i, port), words, False) for i in range(2)])
    assert [code for code, _ in ended] == [0, 0], ended
    for number in range(2):
        one, two = (torch.load(where / f"weights-{number}.pt") for where in (folder, undisturbed))
        assert all(torch.equal(value, two[name]) for name, value in one.items())
