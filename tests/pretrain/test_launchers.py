"""Two processes train in one run folder, whoever launched them: torchrun on one node or two, SLURM, mpirun.

The processes are real, and have the variables that each launcher sets. Lightning's own launcher, which calls
the command again, is in test_distributed.py.
"""

import functools
import json
import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ssl_zoo.data import tokenizer
from ssl_zoo.pretrain import launch, session
from ssl_zoo.pretrain.run import RunError, locked

COMMAND = (
    *("pretrain", "objective=next_token", "backbone=transformer_micro", "data=text_files", "run=run"),
    *("data.train=text.txt", "tokenizer=bpe", "tokenizer.size=270", "context=16", "backbone.width=16"),
    *(
        "backbone.depth=1",
        "backbone.heads=2",
        "batch_size=8",
        "budget.steps=6",
        "log_every=2",
        "save_every=4",
    ),
)
ONE_NODE = ("trainer=ddp_cpu",)
TWO_NODES = ("trainer=ddp_cpu", "trainer.devices=1", "trainer.num_nodes=2")


def free_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text("\n\n".join(f"document {i} speaks of {i * 7}" for i in range(99)))
    return tmp_path


def member(folder: Path, number: int, variables: dict[str, str], words: tuple[str, ...]) -> None:
    """`ssl-zoo WORDS` as one process of a group; keeps the weights it ends with."""
    os.environ |= {launch.SESSION: "1-left_over"} | variables  # of a process before, which trained by itself
    fit_end = tiny.Pretraining.on_train_end

    def keep(self):
        fit_end(self)
        torch.save(self.state_dict(), folder / f"weights-{number}.pt")

    tiny.Pretraining.on_train_end = keep
    learn = tokenizer.bpe

    @functools.wraps(learn)
    def noted(*args, **options):
        (folder / f"learned-{number}").touch()
        return learn(*args, **options)

    tokenizer.bpe = noted
    session.GRACE = 1
    tiny.called(folder, folder / "cache", words)


def worker(folder: Path, words: tuple[str, ...]) -> None:
    """What torchrun starts; it has set the variables."""
    member(folder, int(os.environ["RANK"]), {}, words)


def agent(folder: Path, nodes: int, node: int, port: str, words: tuple[str, ...]) -> None:
    """torchrun itself, without a second interpreter: --nnodes, --node_rank, --master_port."""
    torchrun(nodes, port, "static", {"rank": node})(folder, words)


def torchrun(
    nodes: int,
    port: str,
    backend: str,
    meeting: dict[str, object],
    function: Callable = worker,
    restarts: int = 0,
) -> Callable:
    """One node's agent of a group of two processes, to be called with the arguments of `function`."""
    config = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=2 // nodes,
        run_id="run",
        rdzv_backend=backend,
        rdzv_endpoint=f"127.0.0.1:{port}",
        rdzv_configs={"timeout": 60, **meeting},
        max_restarts=restarts,
        monitor_interval=0.1,
        start_method="fork",
    )
    return elastic_launch(config, function)


def slurm(number: int, port: str, **more: str) -> dict[str, str]:
    """The variables of one of two tasks on one node."""
    return {
        "SLURM_JOB_ID": "4242",
        "SLURM_STEP_ID": "0",
        "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
        "SLURM_NODELIST": "localhost",
        "SLURM_PROCID": str(number),
        "SLURM_LOCALID": str(number),
        "SLURM_NODEID": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        **more,
    }


def mpirun(number: int, port: str) -> dict[str, str]:
    return {
        "PMI_RANK": str(number),
        "PMI_SIZE": "2",
        "MPI_LOCALRANKID": str(number),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }


def start(folder: Path, function: Callable, calls: list[tuple]) -> list[tuple[int, str]]:
    """Exit codes and outputs of processes that run at the same time."""
    logs = [folder / f"log-{i}" for i in range(len(calls))]
    group = [tiny.spawn(log, function, folder, *call) for log, call in zip(logs, calls, strict=True)]
    codes = [tiny.outcome(process) for process in group]
    return [(code, log.read_text()) for code, log in zip(codes, logs, strict=True)]


def check(folder: Path, ended: list[tuple[int, str]]) -> None:
    """All is well: one run, one summary, the same weights, trained in one group of two."""
    said = "\n".join(log for _, log in ended)
    assert [code for code, _ in ended] == [0] * len(ended), said
    assert said.count("batch       8 = 2 processes x 1 accumulated x 4") == 1, said
    assert said.count('"steps": 6') == said.count("saved in run") == 1
    run = folder / "run"
    assert json.loads((run / "summary.json").read_text())["steps"] == 6
    assert [path.name for path in (run / "logs/csv").iterdir()] == ["version_0"]
    assert {path.name for path in run.iterdir()} == {
        *(
            "config.yaml",
            "environment.json",
            "logs",
            "checkpoints",
            "backbone",
            "tokenizer",
            "summary.json",
            ".lock",
        )
    }
    first, second = (torch.load(folder / f"weights-{i}.pt") for i in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    # The first process learned the tokenizer; the second one waited and read it.
    assert [path.name for path in folder.glob("learned-*")] == ["learned-0"]


def test_slurm(folder):
    port = free_port()
    ended = start(folder, member, [(i, slurm(i, port), (*COMMAND, *ONE_NODE)) for i in range(2)])
    check(folder, ended)
    assert not list(folder.glob("hpc_ckpt*"))


def test_torchrun_on_one_node(folder):
    check(folder, start(folder, agent, [(1, 0, free_port(), (*COMMAND, *ONE_NODE))]))


def test_torchrun_on_two_nodes(folder):
    port = free_port()
    check(folder, start(folder, agent, [(2, node, port, (*COMMAND, *TWO_NODES)) for node in range(2)]))


def test_mpirun(folder):
    port = free_port()
    check(folder, start(folder, member, [(i, mpirun(i, port), (*COMMAND, *ONE_NODE)) for i in range(2)]))


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (({"RANK": "0", "LOCAL_RANK": "0"}, {"RANK": "1", "LOCAL_RANK": "1"}), ONE_NODE),  # by a script
        (({"NODE_RANK": "0"}, {"NODE_RANK": "1"}), TWO_NODES),  # the command once on each node
    ],
)
def test_by_hand(folder, variables, words):
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    if "RANK" in variables[0]:
        meeting["WORLD_SIZE"] = "2"
    check(
        folder, start(folder, member, [(i, v | meeting, (*COMMAND, *words)) for i, v in enumerate(variables)])
    )


@pytest.mark.fault("rank", how="a group whose first process is refused its run folder")
def test_a_group_whose_first_process_is_refused_ends_at_once(folder):
    """The second process says why the first one ended, and not that it waited for half an hour."""
    began, port = time.monotonic(), free_port()
    words = (*COMMAND, *ONE_NODE, "batch_size=5000")
    (first, log), (second, other) = start(folder, member, [(i, slurm(i, port), words) for i in range(2)])
    assert (first, second) == (1, 1)
    assert "fewer than one batch of 5000" in log
    assert "the first process of this group ended: the data has" in other
    assert "Traceback" not in log + other
    assert time.monotonic() - began < 60


def test_processes_that_train_alone_are_refused_together(folder):
    port = free_port()
    ended = start(folder, member, [(i, slurm(i, port), (*COMMAND, "trainer=cpu")) for i in range(2)])
    assert [code for code, _ in ended] == [1, 1]
    assert "2 processes were launched, and the trainer is for 1: take trainer=ddp" in ended[0][1]


# Who is first, by the variables alone


@pytest.fixture
def no_launcher(monkeypatch):
    """Variables of launchers, as a test sets them, and no others."""
    for name in list(os.environ):
        if name.startswith(
            ("SLURM_", "TORCHELASTIC_", "PMI", "OMPI_", "JSM_", "LSB_", "MASTER_", "SSL_ZOO_SESSION")
        ):
            monkeypatch.delenv(name)
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    before = set(os.environ)
    yield monkeypatch
    for name in set(os.environ) - before:  # what `launch` added
        del os.environ[name]


ELASTIC = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"}
ALLOCATION = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NNODES": "1"}  # a shell of salloc


@pytest.mark.parametrize(
    ("variables", "leads", "grouped"),
    [
        ({}, True, False),
        (ELASTIC | {"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}, True, True),
        (ELASTIC | {"RANK": "1", "LOCAL_RANK": "0", "GROUP_RANK": "1"}, False, True),
        (slurm(0, "1"), True, True),
        (slurm(1, "1"), False, True),
        (slurm(1, "1") | ELASTIC | {"RANK": "0", "LOCAL_RANK": "0"}, True, True),  # torchrun inside of SLURM
        (slurm(1, "1", SLURM_JOB_NAME="bash"), True, False),
        (slurm(1, "1", SLURM_JOB_NAME="interactive"), True, False),
        (slurm(0, "1", SLURM_NTASKS="1", SLURM_NTASKS_PER_NODE="1"), True, False),
        (ALLOCATION, True, False),
        (ALLOCATION | {"SLURM_PROCID": "0"}, True, False),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, False, True),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, True, False),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, False, True),
        ({"RANK": "1", "WORLD_SIZE": "2"}, False, True),
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, False, True),
        ({"LOCAL_RANK": "1"}, False, True),
        ({"RANK": "0", "WORLD_SIZE": "1"}, True, False),
        ({"PMI_SIZE": "2"}, True, False),
        ({"JSM_NAMESPACE_RANK": "1"}, True, False),
        ({"JSM_NAMESPACE_RANK": "1", "JSM_NAMESPACE_SIZE": "2"}, False, True),
        (slurm(0, "1", SLURM_STEP_NUM_TASKS="1"), True, False),  # a shell that salloc starts as a step
        ({k: v for k, v in slurm(1, "1").items() if k != "SLURM_NTASKS_PER_NODE"}, False, True),  # srun -n 2
        ({"NODE_RANK": "1"}, False, True),
        ({"NODE_RANK": "0", "LOCAL_RANK": "0"}, True, True),
        (
            {"LOCAL_RANK": "1", launch.SESSION: f"{os.getppid()}-abc"},
            False,
            False,
        ),  # of Lightning
        ({"LOCAL_RANK": "1", launch.SESSION: "1-abc"}, False, True),  # of a process before
    ],
)
def test_who_is_first(no_launcher, variables, leads, grouped):
    for name, value in variables.items():
        no_launcher.setenv(name, value)
    assert (launch.leads(), launch.grouped()) == (leads, grouped)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"RANK": "1"}, r"RANK of 1 among 1 processes .*unset RANK"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK of 'x', which is no number"),
        ({"RANK": "0", "WORLD_SIZE": ""}, "WORLD_SIZE of '', which is no number"),
        ({"RANK": "3", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "RANK of 3 among 2"),
        ({"GROUP_RANK": "1"}, "GROUP_RANK without RANK and WORLD_SIZE"),
        ({"TORCHELASTIC_RUN_ID": "none"}, "without LOCAL_RANK, RANK, WORLD_SIZE"),
        ({"PMI_RANK": "0", "PMI_SIZE": "many"}, "PMI_SIZE of 'many'"),
        (slurm(2, "1"), "SLURM_PROCID of 2 among 2"),
    ],
)
def test_variables_that_no_launcher_sets_are_named_at_once(no_launcher, variables, says):
    for name, value in variables.items():
        no_launcher.setenv(name, value)
    with pytest.raises(launch.LauncherError, match=says):
        launch.leads()


def test_jsrun(no_launcher, tmp_path):
    (tmp_path / "hosts").write_text(f"launch\n{socket.gethostname()}\n{socket.gethostname()}\n")
    variables = {"LSB_JOBID": "12", "LSB_DJOB_RANKFILE": str(tmp_path / "hosts"), "JSM_NAMESPACE_SIZE": "2"}
    for name, value in (variables | {"JSM_NAMESPACE_LOCAL_RANK": "1", "JSM_NAMESPACE_RANK": "1"}).items():
        no_launcher.setenv(name, value)
    assert (launch.leads(), launch.grouped()) == (False, True)


def test_srun_may_leave_the_tasks_of_a_node_unsaid(no_launcher):
    for name, value in slurm(1, "1", SLURM_NNODES="2").items():
        no_launcher.setenv(name, value)
    no_launcher.delenv("SLURM_NTASKS_PER_NODE")
    launch.cluster().validate_settings(num_devices=1, num_nodes=2)
    with pytest.raises(ValueError, match="devices"):
        launch.cluster().validate_settings(num_devices=2, num_nodes=2)


def test_lightning_is_never_asked_to_requeue(no_launcher):
    for name, value in slurm(0, "1").items():
        no_launcher.setenv(name, value)
    place = launch.cluster()
    assert isinstance(place, SLURMEnvironment)
    assert not place.auto_requeue
    no_launcher.setenv("SLURM_JOB_NAME", "bash")
    assert isinstance(launch.cluster(), LightningEnvironment)


# What the first process tells the others


def follow(run: Path, found: Path) -> None:
    os.environ |= {"RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1"}
    session.GRACE = 1
    with locked(run) as other:
        found.write_text(other.share("answer", lambda: "made by the second process"))


def sweep_slowly(sweep: Callable[[Path], None], run: Path) -> None:
    time.sleep(0.5)
    sweep(run)


def lead(run: Path, ready: Path, go: Path, fail: bool) -> None:
    session.sweep = functools.partial(sweep_slowly, session.sweep)  # the others look meanwhile
    os.environ |= {"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "1"}
    with locked(run) as first:
        ready.touch()
        while not go.exists():
            time.sleep(0.02)
        if fail:
            raise RunError("no such thing")
        first.share("answer", lambda: "made by the first process")
        while not go.with_name("end").exists():
            time.sleep(0.02)


def meet(folder: Path, number: int, token: int) -> None:
    os.environ |= {"RANK": str(number), "WORLD_SIZE": "2"}
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=number, world_size=2)
    own = session.Session(folder)
    own.facts = {"token": str(token)}
    own.confirm(torch.device("cpu"))


@pytest.mark.parametrize("other", [1 << 61, (1 << 61) + 1])
def test_processes_of_two_sessions_do_not_train_together(tmp_path, other):
    ended = start(tmp_path, meet, [(0, 1 << 61), (1, other)])
    assert [code for code, _ in ended] == [0, int(other != 1 << 61)]
    assert ("of an earlier session; start all processes again" in ended[1][1]) == (other != 1 << 61)


def until(path: Path, process: multiprocessing.process.BaseProcess | None = None) -> None:
    for _ in range(1500):
        if path.exists() or (process is not None and process.exitcode is not None):
            return
        time.sleep(0.02)
    raise TimeoutError(path)


def test_the_others_wait_for_the_living_first(tmp_path):
    run, found = tmp_path / "run", [tmp_path / f"found-{number}" for number in (1, 2, 3)]
    run.mkdir()
    (run / ".lock").touch()
    others = [tiny.spawn(tmp_path / f"log-{path.name}", follow, run, path) for path in found]
    # What a killed session left is not believed: nobody holds the folder.
    left = run / f".session-{name_of_group()}.json"
    left.write_text(json.dumps({"token": "5", "answer": "of an earlier session"}))
    time.sleep(0.3)  # that the others look is no sign of life to each other
    assert not any(path.exists() for path in found)
    first = tiny.spawn(tmp_path / "log-0", lead, run, tmp_path / "ready", tmp_path / "go", False)
    until(tmp_path / "ready", first)
    time.sleep(0.2)
    assert not any(path.exists() for path in found)
    (tmp_path / "go").touch()
    for other, path in zip(others, found, strict=True):
        until(path, other)
        assert tiny.outcome(other) == 0, (tmp_path / f"log-{path.name}").read_text()
        assert path.read_text() == "made by the first process"
    (tmp_path / "end").touch()
    assert tiny.outcome(first) == 0, (tmp_path / "log-0").read_text()
    assert [path.name for path in run.iterdir()] == [".lock"]


def name_of_group() -> str:
    before = {name: os.environ.pop(name) for name in launch.GROUP if name in os.environ}
    os.environ["MASTER_PORT"] = "1"
    try:
        return session.group()
    finally:
        del os.environ["MASTER_PORT"]
        os.environ |= before


def test_the_second_process_hears_of_a_failure(tmp_path):
    run = tmp_path / "run"
    (tmp_path / "go").touch()
    first = tiny.spawn(tmp_path / "log-0", lead, run, tmp_path / "ready", tmp_path / "go", True)
    assert tiny.outcome(first) == 1
    code, log = tiny.forked(tmp_path, follow, run, tmp_path / "found")
    assert code == 1
    assert "RunError: the first process of this group ended: no such thing" in log


def test_waiting_for_a_first_process_that_never_comes_is_bounded(tmp_path, no_launcher):
    no_launcher.setenv("RANK", "1")
    no_launcher.setenv("WORLD_SIZE", "2")
    no_launcher.setattr(session, "PATIENCE", 0.2)
    with (
        locked(tmp_path) as other,
        pytest.raises(RunError, match=r"no sign of the first .* wait.*'files'.*share"),
    ):
        other.wait("files")
