"""Signals, sent to real processes: what they save, how soon they end, and what they say."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
import torch.distributed as dist
from test_launchers import free_port, slurm
from tiny import Pictures, train

from ssl_zoo import pace
from ssl_zoo.data.images import ImageData
from ssl_zoo.pretrain import stopping
from ssl_zoo.pretrain.checkpoint import checkpoints, newest
from ssl_zoo.pretrain.stopping import Stop
from ssl_zoo.pretrain.watch import Validation

COMMAND = (
    *("pretrain", "objective=mae_small", "backbone=vit_micro", "data=digits", "trainer=cpu", "run=run"),
    *("data.image_size=8", "backbone.depth=1", "backbone.embed_dim=16", "backbone.num_heads=2"),
    *("objective.width=16", "objective.depth=1", "objective.heads=2", "budget.steps=400", "batch_size=16"),
)


class Running:
    """function(*args) in a process group of its own, which writes into `log`."""

    def __init__(self, folder: Path, function: Callable, *args, **options):
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"log-{len(list(folder.glob('log-*')))}"
        self.process = tiny.spawn(self.log, apart, function, args, options)

    def until(self, sign: Callable[[], bool]) -> None:
        for _ in range(3000):
            if sign():
                return
            assert self.process.exitcode is None, self.log.read_text()
            time.sleep(0.02)
        raise TimeoutError(self.log.read_text())

    def said(self, text: str) -> None:
        self.until(lambda: self.log.exists() and text in self.log.read_text())

    def send(self, number: signal.Signals, everyone: bool = True) -> None:
        (os.killpg if everyone else os.kill)(self.process.pid, number)

    def end(self) -> tuple[int, str]:
        return tiny.outcome(self.process), self.log.read_text()


def apart(function: Callable, args: tuple, options: dict) -> None:
    os.setsid()
    function(*args, **options)


def slowly(folder: Path, *words: str, seconds: float = 0.02) -> None:
    """The command, whose steps take a while, and are all told."""
    pace.SOON = pace.EVERY = 0.0
    step = tiny.Pretraining.training_step

    def slow(self, batch, number):
        time.sleep(seconds)
        return step(self, batch, number)

    tiny.Pretraining.training_step = slow
    tiny.called(folder, folder / "cache", (*COMMAND, *words))


@pytest.mark.fault("sigterm", how="SIGTERM or Ctrl-C to the whole process group of a run with loader workers")
@pytest.mark.parametrize(
    ("number", "code", "name"), [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")]
)
def test_a_signal_to_the_whole_group_saves_one_whole_checkpoint(tmp_path, number, code, name):
    """What terminals, service managers and schedulers do: the loader's workers get it as well."""
    running = Running(tmp_path, slowly, tmp_path, "workers=2", "evaluate_every=300")
    running.said("step 4")
    running.send(number)
    began = time.monotonic()
    ended, log = running.end()
    assert ended == code, log
    assert time.monotonic() - began < 20
    (saved,) = checkpoints(tmp_path / "run/checkpoints")
    assert newest(tmp_path / "run/checkpoints") == saved
    step = int(saved.stem.removeprefix("step-"))
    assert log.count(f"{name}: saved step {step}; the same command goes on from there") == 1
    assert "Traceback" not in log
    assert "val/loss" not in log  # the final evaluation is skipped
    assert json.loads((tmp_path / "run/summary.json").read_text())["stopped"]
    assert not (tmp_path / "run/backbone").exists()
    assert not list(tmp_path.rglob("*.part"))


def held(folder: Path, stop_at: int | None) -> None:
    """A tiny run with workers; at step `stop_at` its group is sent SIGTERM."""
    step = tiny.Killed.training_step

    def asked(self, batch, number):
        if batch[0] == stop_at:  # as from outside: workers obey the process that started them
            subprocess.run(["sh", "-c", f"kill -TERM -{os.getpgid(0)}"], check=False)
        return step(self, batch, number)

    tiny.Killed.training_step = asked
    train(folder, "mae", workers=2)


def test_stopped_with_workers_and_resumed_ends_with_the_same_bits(tmp_path):
    for run, stops in (("one", [None]), ("two", [2, 6, None])):
        for stop in stops:
            running = Running(tmp_path, held, tmp_path / run, stop)
            code, log = running.end()
            assert code == 0, log  # `pretrain` returns, and its summary says that it was stopped
            assert json.loads((tmp_path / run / "summary.json").read_text())["stopped"] == (stop is not None)
    assert (tmp_path / "one/sha256").read_text() == (tmp_path / "two/sha256").read_text()


@pytest.mark.fault("sigterm", how="Ctrl-C twice")
def test_a_second_ctrl_c_leaves_at_once(tmp_path):
    running = Running(tmp_path, slowly, tmp_path, seconds=100)
    running.said("length      400 steps")
    time.sleep(0.3)
    running.send(signal.SIGINT)
    running.said("Ctrl-C: saving after this step; once more leaves at once")
    began = time.monotonic()
    running.send(signal.SIGINT)
    code, log = running.end()
    assert code == 130, log
    assert time.monotonic() - began < 10
    assert "Traceback" not in log


def reading(folder: Path, *words: str) -> None:
    """A command that takes long to read its data."""

    def rows(self, split):
        print("reading", flush=True)
        time.sleep(100)

    ImageData.rows = ImageData.labelled = rows
    tiny.called(folder, folder / "cache", words)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    code, log = tiny.command(folder, folder / "cache", *COMMAND, "budget.steps=1", "evaluate_every=0")
    assert code == 0, log
    return folder


@pytest.mark.fault("sigterm", how="SIGTERM or Ctrl-C before training, and during an evaluation")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("words", [COMMAND, ("evaluate", "data=digits", "data.image_size=8", "run=run")])
def test_before_training_and_in_evaluation_a_signal_ends_at_once(finished, tmp_path, number, code, words):
    folder = tmp_path if words == COMMAND else finished
    running = Running(folder, reading, folder, *words)
    running.said("reading")
    running.send(number)
    began = time.monotonic()
    ended, log = running.end()
    assert ended == code, log
    assert time.monotonic() - began < 10
    assert "Traceback" not in log
    assert ("stopped by Ctrl-C" in log) == (code == 130)
    assert not list(folder.glob("run/evaluations/*"))
    assert (folder / "run").exists() == (folder == finished)


# Under SLURM


def queued(folder: Path, port: str, *words: str) -> None:
    """The command as the only task of a job; `scontrol` writes down what it is asked."""
    (folder / "bin").mkdir(exist_ok=True)
    script = folder / "bin/scontrol"
    script.write_text(f'#!/bin/sh\necho "$@" >> "{folder}/asked"\n')
    script.chmod(0o755)
    os.environ["PATH"] = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    os.environ |= slurm(0, port, SLURM_NTASKS="1", SLURM_NTASKS_PER_NODE="1")
    if words == COMMAND:
        reading(folder, *words)
    slowly(folder, *words)


def test_slurm_is_asked_while_data_is_read_too(tmp_path):
    running = Running(tmp_path, queued, tmp_path, free_port(), *COMMAND)
    running.said("reading")
    running.send(signal.SIGUSR1)
    code, log = running.end()
    assert (code, (tmp_path / "asked").read_text()) == (143, "requeue 4242\n"), log
    assert not (tmp_path / "run").exists()


@pytest.mark.fault("sigterm", how="SIGUSR1 as SLURM sends it: saved, and queued again")
@pytest.mark.parametrize(("number", "asked"), [(signal.SIGUSR1, "requeue 4242\n"), (signal.SIGTERM, None)])
def test_slurm_is_asked_to_queue_the_job_again(tmp_path, number, asked):
    running = Running(tmp_path, queued, tmp_path, free_port(), "workers=1")
    running.said("step 4")
    running.send(number)
    code, log = running.end()
    assert code == 143, log
    assert ("SLURM job 4242 is queued again" in log) == (asked is not None)
    assert (tmp_path / "asked").exists() == (asked is not None)
    assert asked is None or (tmp_path / "asked").read_text() == asked
    assert len(checkpoints(tmp_path / "run/checkpoints")) == 1
    # Nothing lies outside of the run folder, where another run would pick it up.
    assert {path.name for path in tmp_path.iterdir()} - {"asked"} == {"bin", "cache", "run", "log-0"}


def test_a_requeue_that_fails_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "SLURM job 7_3 could not be queued again" in stopping.requeue()


# In a group


def together(folder: Path, number: int, asked: int) -> None:
    """Steps of 5 ms; at step 150 one of the two processes is asked to stop. Notes when each of them does."""
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=number, world_size=2)
    stop, device, at, messages = Stop(), torch.device("cpu"), 0.0, 0
    reduce = dist.all_reduce

    def counted(*args):
        nonlocal messages
        messages += 1
        reduce(*args)

    stopping.dist.all_reduce = counted
    stop.listen(0)
    for step in range(1, 2000):
        time.sleep(0.005)
        if step == 150:
            dist.barrier()
            at = time.monotonic()
            if number == asked:
                os.kill(os.getpid(), signal.SIGTERM)
        if stop.after(step, device):
            break
    stop.release()
    facts = {"step": step, "seconds": time.monotonic() - at, "messages": messages, "asked": stop.name}
    (folder / f"found-{number}.json").write_text(json.dumps(facts))


@pytest.mark.parametrize("asked", [0, 1])
def test_processes_agree_within_a_second_and_with_few_messages(tmp_path, asked):
    group = [tiny.spawn(tmp_path / f"log-{i}", together, tmp_path, i, asked) for i in range(2)]
    assert [tiny.outcome(process) for process in group] == [0, 0]
    first, second = (json.loads((tmp_path / f"found-{i}.json").read_text()) for i in range(2))
    assert first["step"] == second["step"] < 2000
    assert max(first["seconds"], second["seconds"]) < 2.5  # half a second on a quiet machine
    assert first["asked"] == second["asked"] == "SIGTERM"
    assert first["messages"] < 20 < first["step"]


# Where signals cannot be handled, and who does without


def in_a_thread(folder: Path) -> None:
    found = []
    thread = threading.Thread(
        target=lambda: found.append(train(folder, "mae", steps=3, workers=1)[0]["steps"])
    )
    thread.start()
    thread.join()
    assert found == [3]


def test_training_in_a_thread(tmp_path):
    code, log = tiny.forked(tmp_path, in_a_thread, tmp_path / "run")
    assert code == 0, log
    assert "training in a thread: SIGTERM and Ctrl-C are not handled" in log
    code, log = tiny.forked(tmp_path, train, tmp_path / "alone", "mae", steps=3)
    assert (tmp_path / "run/sha256").read_text() == (tmp_path / "alone/sha256").read_text()


def test_handlers_are_given_back(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(tmp_path, "mae", steps=2, validation=Validation(Pictures(8, 5), 0, 4))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


# The waiting policy

POLICY = """
import os, sys
from ssl_zoo import cli
sys.argv = ["ssl-zoo", "--version"]
cli.main()
print("torch" in sys.modules, *(os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")))
"""


@pytest.mark.parametrize(
    ("own", "policy"),
    [
        ({}, "PASSIVE 1000"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None"),
        ({"GOMP_SPINCOUNT": "9"}, "None 9"),
        ({"KMP_BLOCKTIME": "0"}, "None None"),
    ],
)
def test_waiting_threads_sleep_unless_the_user_says_otherwise(own, policy):
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    plain = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", POLICY]
    ended = subprocess.run(command, env=plain | own, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == f"False {policy}"
