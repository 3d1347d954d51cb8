"""The life of a run: what it exports, what is said when its settings change, and what it leaves behind."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file
from tiny import Pictures, forked, train

from ssl_zoo import hub
from ssl_zoo.compose.evaluation import subject
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.workers import WorkerError
from ssl_zoo.pretrain import Budget, environment, run
from ssl_zoo.pretrain.callbacks import Meter
from ssl_zoo.pretrain.checkpoint import CheckpointError, checkpoints, newest
from ssl_zoo.pretrain.export import behind
from ssl_zoo.pretrain.launch import DeviceError
from ssl_zoo.pretrain.run import locked, resume_from
from ssl_zoo.pretrain.saver import Checkpoint
from ssl_zoo.pretrain.watch import Monitor, Validation

# What is exported


def killed_exporting(folder: Path, at: str, **options) -> None:
    """A tiny run that dies as it begins to write its backbone, or its summary."""
    if at == "backbone":
        hub.save = lambda *_: tiny.die()
    else:
        save = hub.save

        def write(*args):
            save(*args)
            run.write_atomically = lambda *_: tiny.die()

        hub.save = write
    train(folder, "mae", **options)


def weights_of(run_folder: Path) -> dict[str, torch.Tensor]:
    """The backbone in the newest checkpoint."""
    state = torch.load(newest(run_folder / "checkpoints"))["state_dict"]  # pyright: ignore
    prefix = "objective.backbone."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def is_of_the_last_step(run_folder: Path, steps: int) -> bool:
    saved, exported = weights_of(run_folder), load_file(run_folder / "backbone/model.safetensors")
    same = all(torch.equal(value, saved[name]) for name, value in exported.items())
    return same and json.loads((run_folder / "summary.json").read_text())["steps"] == steps


@pytest.mark.parametrize("at", ["backbone", "summary"])
@pytest.mark.parametrize("steps", [4, None])  # of an earlier, smaller budget; None: there was none
def test_a_run_killed_before_its_export_exports_when_it_is_opened_again(tmp_path, at, steps):
    folder = tmp_path / "run"
    if steps is not None:
        code, log = forked(tmp_path, train, folder, "mae", steps=steps)
        assert code == 0, log
    code, log = forked(tmp_path, killed_exporting, folder, at, steps=7)
    assert code == -9, log
    code, log = forked(tmp_path, train, folder, "mae", steps=7)
    assert code == 0, log
    assert "step 7 was trained already; its backbone is exported now" in log
    assert is_of_the_last_step(folder, 7)
    code, log = forked(tmp_path, train, folder, "mae", steps=7)
    assert code == 0, log
    assert "was finished already, at step 7" in log


def test_an_export_behind_the_newest_checkpoint_is_named(tmp_path):
    code, log = forked(tmp_path, train, tmp_path / "run", "mae", steps=4)
    assert code == 0, log
    assert behind(tmp_path / "run") is None
    code, log = forked(tmp_path, killed_exporting, tmp_path / "run", "backbone", steps=7)
    assert code == -9, log
    with pytest.warns(
        UserWarning, match="the backbone of .*run is of step 4, and training has come to step 7"
    ):
        subject(tmp_path / "run", None)
    (tmp_path / "run/summary.json").write_text("{")
    with pytest.warns(UserWarning, match=r"no whole summary.json .* of which step .* came to step 7"):
        subject(tmp_path / "run", None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    watch = {"validation": Validation(Pictures(8, 5), 5, 4)}
    code, log = forked(folder, train, folder / "run", "mae", steps=5, **watch)
    assert code == 0, log
    assert "note: 5 optimizer steps taught this backbone next to nothing" in log
    return folder / "run"


DAMAGE = {
    "missing": shutil.rmtree,
    "no weights": lambda backbone: (backbone / "model.safetensors").unlink(),
    "truncated": lambda backbone: os.truncate(backbone / "model.safetensors", 500),
    "one bit": lambda backbone: flip(backbone / "model.safetensors"),
    "no description": lambda backbone: os.truncate(backbone / "config.json", 3),
}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("kind", list(DAMAGE))
def test_a_damaged_export_of_a_finished_run_is_written_again(finished, tmp_path, kind):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    before = json.loads((folder / "summary.json").read_text())
    DAMAGE[kind](folder / "backbone")
    summary, _ = train(folder, "mae", steps=5)
    assert is_of_the_last_step(folder, 5)
    hub.load(folder)
    assert summary["val/loss"] == before["val/loss"]  # what was watched then is still true


def test_a_missing_or_damaged_summary_is_written_again(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "summary.json").write_text("{")
    train(folder, "mae", steps=5)
    assert json.loads((folder / "summary.json").read_text())["steps"] == 5


def test_one_step_is_said_to_teach_nothing(tmp_path, capsys):
    train(tmp_path, "mae", steps=1)
    assert "note: 1 optimizer step taught this backbone next to nothing" in capsys.readouterr().out


# Settings that change, and settings that cannot be


def test_a_larger_budget_is_said_with_what_it_does_to_the_learning_rate(finished, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    _, module = train(folder, "mae", budget=Budget(epochs=2))
    said = capsys.readouterr().out
    now, was = (module.schedule(t) for t in (5.5 / 10, 4.5 / 5))
    assert (
        "budget.steps=5 -> budget.epochs=2: it now ends with the new budget, so the learning rate goes on at "
        f"{now:.2g} of its peak, and was at {was:.2g}"
    ) in said
    train(folder, "mae", budget=Budget(epochs=2))
    assert "schedule " not in capsys.readouterr().out


def test_intervals_of_zero_are_never(tmp_path, capsys):
    watch = {"validation": Validation(Pictures(8, 5), 0, 4), "monitor": Monitor(Pictures(8), Pictures(8), 0)}
    summary, _ = train(tmp_path, "mae", steps=6, save_every=0, log_every=0, **watch)
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-000000000006.ckpt"]
    assert not {"val/loss", "feature_std"} & set(summary)
    assert "  loss " not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Checkpoint(Path("x"), -1), "save_every=-1"),
        (lambda: Meter(-5), "log_every=-5"),
        (lambda: Meter(None), "log_every=None"),
        (lambda: Checkpoint(Path("x"), 2.5), "save_every=2.5"),
        (lambda: Validation(Pictures(), -2, 4), "evaluate_every=-2"),
        (lambda: Monitor(Pictures(), Pictures(), -2), "evaluate_every=-2"),
    ],
)
def test_intervals_that_are_none_are_refused(make, named):
    with pytest.raises(ValueError, match=f"{named}: a number of steps, or 0 for never"):
        make()


def pickled(path: Path) -> None:
    torch.save({"state_dict": partial(os.unlink, path)}, path)


OTHER_FILES = {
    "safetensors": (
        lambda path, run: shutil.copy(run / "backbone/model.safetensors", path),
        "holds weights alone",
    ),
    "text": (lambda path, run: path.write_text("hello there, this is text"), "is no checkpoint"),
    "empty": (lambda path, run: path.touch(), "is no checkpoint"),
    "a folder": (lambda path, run: path.mkdir(), "is no file, but a folder"),
    "weights": (
        lambda path, run: torch.save({"a.weight": torch.ones(3)}, path),
        r"a dict of a\.weight, without global_step",
    ),
    "a tensor": (lambda path, run: torch.save(torch.ones(3), path), "a Tensor of other things, without"),
    "code": (lambda path, run: pickled(path), "more than tensors"),
    "half a zip": (
        lambda path, run: path.write_bytes(newest(run / "checkpoints").read_bytes()[:9000]),
        "cannot be read",
    ),
}


@pytest.mark.parametrize("kind", list(OTHER_FILES))
def test_resuming_from_what_is_no_checkpoint_says_what_it_is(finished, tmp_path, kind):
    path = tmp_path / "file"
    make, words = OTHER_FILES[kind]
    make(path, finished)
    with pytest.raises(CheckpointError, match=words):
        resume_from(tmp_path / "run", str(path))


def test_resuming_from_the_checkpoint_of_another_folder(finished, tmp_path):
    found = newest(finished / "checkpoints")
    summary, _ = train(tmp_path / "run", "mae", steps=5, resume=str(found))
    assert summary["steps"] == 5
    assert is_of_the_last_step(finished, 5)
    copy = tmp_path / found.name  # pyright: ignore
    for path in (found, found.with_suffix(".json")):  # pyright: ignore
        shutil.copy(path, tmp_path)
    flip(copy)
    with pytest.raises(CheckpointError, match="is damaged: its SHA-256"):
        resume_from(tmp_path / "run", str(copy))


def test_resuming_from_the_checkpoint_of_another_objective(finished, tmp_path):
    found = str(newest(finished / "checkpoints"))
    with pytest.raises(
        CheckpointError, match=r"another backbone or objective: \d+ of \d+ .* not those of Sim"
    ):
        train(tmp_path / "run", "simclr", steps=7, resume=found)


# Devices and workers


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_made(tmp_path):
    words = (
        "objective=mae_small",
        "backbone=vit_micro",
        "data=digits",
        "trainer=gpu",
        "budget.steps=1",
        "run=run",
    )
    code, log = tiny.command(tmp_path, tmp_path / "cache", "pretrain", *words)
    assert code == 1
    assert log.splitlines()[1].startswith(
        "ssl-zoo pretrain: trainer.accelerator=gpu: no such device was found on this machine"
    )
    assert len(log.strip().splitlines()) == 3
    assert not (tmp_path / "run").exists()
    with pytest.raises(DeviceError, match=r"Take trainer=cpu"):
        run.launch.refuse_absent_device({"accelerator": "cuda"})
    for fine in ({"accelerator": "auto"}, {"accelerator": "cpu", "devices": 9}, {}):
        run.launch.refuse_absent_device(fine)


@pytest.mark.parametrize("devices", [0, -1, -3])
def test_no_devices_are_refused_before_anything_is_made(tmp_path, devices):
    with pytest.raises(DeviceError, match=rf"trainer.devices={devices}: .*a device at least"):
        train(tmp_path / "run", "mae", devices=devices)
    assert not (tmp_path / "run").exists()


def test_more_gpus_than_there_are(monkeypatch):
    from lightning.pytorch.accelerators.cuda import CUDAAccelerator

    monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: True))
    monkeypatch.setattr(CUDAAccelerator, "auto_device_count", staticmethod(lambda: 2))
    for devices in (3, [0, 2]):
        with pytest.raises(DeviceError, match=r"this machine has 2 of trainer.accelerator=gpu"):
            run.launch.refuse_absent_device({"accelerator": "gpu", "devices": devices})
    run.launch.refuse_absent_device({"accelerator": "gpu", "devices": [0, 1]})


def losing_a_worker(folder: Path, number: signal.Signals) -> None:
    """At step 6 the system kills a loader worker."""
    step = tiny.Killed.training_step

    def kill(self, batch, index):
        if batch[0] == 6:
            first = min(multiprocessing.active_children(), key=lambda p: p.pid)
            print("kills", first.pid, flush=True)
            os.kill(first.pid, number)
        return step(self, batch, index)

    tiny.Killed.training_step = kill
    train(folder, "mae", steps=400, workers=2)


@pytest.mark.parametrize(
    ("number", "why"), [(signal.SIGKILL, "where memory runs out"), (signal.SIGBUS, "/dev/shm has")]
)
def test_a_worker_that_dies_is_named_with_cause_and_advice(tmp_path, number, why):
    code, log = forked(tmp_path, losing_a_worker, tmp_path / "run", number)
    assert code == 1
    pid = log.split("kills ")[1].split()[0]
    last = log.strip().splitlines()[-1]
    assert f"WorkerError: loader worker 0 of 2 (pid {pid}) was killed by {number.name}" in last
    assert why in last
    assert "workers=" in last
    assert last.endswith("resume=auto goes on from there.")
    code, log = forked(tmp_path, train, tmp_path / "run", "mae", steps=40, workers=2)
    assert code == 0, log
    assert "resuming    after step" in log
    assert not list(tmp_path.rglob("*.part"))


class Full(Pictures):
    """What torch raises in a worker where /dev/shm is full."""

    def read(self, index, epoch=0):
        raise RuntimeError("unable to write to file </torch_77_88_0>: No space left on device (28)")


class Damaged(Pictures):
    def read(self, index, epoch=0):
        raise DataError("cat/3.png: it is truncated")


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        (Full, WorkerError, r"^a loader worker found no room in /dev/shm\. .* MB, .*enlarge it"),
        (Damaged, DataError, r"^cat/3\.png: it is truncated$"),
    ],
)
def test_what_goes_wrong_in_a_worker_is_said_in_a_line(tmp_path, rows, error, words):
    with pytest.raises(error, match=words):
        train(tmp_path, build=(tiny.ZOO["mae"][0], rows), workers=1)


def in_a_daemon(folder: Path) -> None:
    work = multiprocessing.get_context("fork").Process(
        target=train, args=(folder, "mae"), kwargs={"steps": 3, "workers": 2}, daemon=True
    )
    work.start()
    work.join()
    raise SystemExit(work.exitcode)


def spawning(folder: Path) -> None:
    multiprocessing.set_start_method("spawn", force=True)
    train(folder, "next_token", steps=3, workers=1)


@pytest.mark.slow
def test_workers_of_a_daemon_and_workers_that_are_spawned(tmp_path):
    code, log = forked(tmp_path, in_a_daemon, tmp_path / "daemon")
    assert code == 0, log
    assert "workers=2: this is a daemonic process, which may not start others" in log
    code, log = forked(tmp_path, spawning, tmp_path / "spawn")
    assert code == 0, log
    for name, kind in (("daemon", "mae"), ("spawn", "next_token")):
        train(tmp_path / "plain" / name, kind, steps=3)
        assert (tmp_path / name / "sha256").read_text() == (tmp_path / "plain" / name / "sha256").read_text()


# The folder


def test_two_runs_in_one_process(tmp_path):
    for name in ("one", "two", "one"):
        train(tmp_path / name, "next_token", steps=3)
    assert (tmp_path / "one/sha256").read_text() == (tmp_path / "two/sha256").read_text()


def test_the_lock_holds_until_the_outermost_has_ended(tmp_path):
    folder = tmp_path / "run"
    with locked(folder):
        with locked(folder):
            pass
        code, log = forked(tmp_path, enter, folder)
        assert code == 1
        assert "another process is training in" in log
    code, log = forked(tmp_path, enter, folder)
    assert code == 0, log


def enter(folder: Path) -> None:
    with locked(folder):
        pass


def test_what_killed_processes_left_is_swept(tmp_path):
    gone, folder = gone_process(), tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "evaluations").mkdir()
    for name in (f".backbone.{gone}.part", f".tokenizer.{gone}.part", f".tokenizer.{gone}.old"):
        (folder / name).mkdir()
        (folder / name / "file").write_text(name)
    left = [
        f".summary.json.{gone}.part",
        ".session-0123.json",
        f"checkpoints/.step-000000000004.ckpt.{gone}.part",
        "checkpoints/step-000000000004.json",
        f"evaluations/.digits-linear.json.{gone}.part",
    ]
    for name in (*left, f"evaluations/.digits-knn.json.{os.getppid()}.part", "notes.part", ".mine"):
        (folder / name).touch()
    with locked(folder):
        found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    (own,) = (name for name in found if name.startswith(".session-"))
    assert found - {own} == {
        *("checkpoints", "evaluations", ".lock", "notes.part", ".mine", "tokenizer", "tokenizer/file"),
        f"evaluations/.digits-knn.json.{os.getppid()}.part",  # of a process that lives
    }
    # Killed between two renames: the old one is put back.
    assert (folder / "tokenizer/file").read_text() == f".tokenizer.{gone}.old"
    assert not (folder / own).exists()


def gone_process() -> int:
    ended = subprocess.Popen(["true"])
    ended.wait()
    return ended.pid


def filling_up(folder: Path) -> None:
    """The disk is full when the second checkpoint is written."""
    save = torch.save

    def full(value, file):
        if "step-000000000008" in getattr(file, "name", ""):
            file.write(b"x" * 100)
            raise OSError(28, "No space left on device")
        save(value, file)

    torch.save = full
    train(folder, "mae", workers=1)


def test_a_disk_that_fills_up_at_the_second_checkpoint(tmp_path):
    code, log = forked(tmp_path, filling_up, tmp_path / "run")
    assert code == 1
    assert "No space left on device" in log.strip().splitlines()[-1]
    assert "Older checkpoints are untouched; make room and resume." in log.strip().splitlines()[-1]
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == [
        "step-000000000004.ckpt",
        "step-000000000004.json",
    ]
    code, log = forked(tmp_path, train, tmp_path / "run", "mae")
    assert code == 0, log
    assert "resuming    after step 4" in log


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=me", "-c", "user.email=me@example.com")
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_commit_is_that_of_the_repository_that_keeps_the_package(tmp_path, monkeypatch):
    repository = tmp_path / "theirs"
    package, installed = (repository / where / "ssl_zoo/pretrain" for where in ("", ".venv/lib"))
    for folder in (package, installed):
        folder.mkdir(parents=True)
        (folder / "run.py").write_text("pass")
    (repository / "paper.tex").write_text("words")
    git(tmp_path, "init", "-q", str(repository))
    git(repository, "add", "paper.tex")
    git(repository, "commit", "-qm", "theirs")
    for folder in (installed, package):  # where it is not kept
        assert environment.commit(folder / "run.py") is None
    git(repository, "add", "-f", ".venv", "ssl_zoo")
    git(repository, "commit", "-qm", "now they are")
    assert environment.commit(installed / "run.py") is None  # an environment inside of somebody's repository
    assert environment.commit(package / "run.py") == git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.commit(package / "run.py") is None  # no git
