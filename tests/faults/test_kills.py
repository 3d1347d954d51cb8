"""A run that was killed and resumed ends with the weights and optimizer of one never killed, to the bit."""

import copy
import json
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import tiny
import torch
from tiny import Pictures, forked, small_simclr, train, vit

from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.pretrain import Budget
from ssl_zoo.pretrain.logs import read_metrics
from ssl_zoo.pretrain.watch import Validation

# 22 rows in batches of 4: five steps an epoch, so 11 steps cross two boundaries; saved at 4 and 8.
ACCUMULATED = {"masked_lm": 2, "rotation": 2}  # of the others, one part makes a step


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory):
    """The hash of `train(name, ...)` left alone, with no workers; computed once."""
    known: dict[str, str] = {}

    def reference(name: str, **options) -> str:
        key = f"{name} {options}"
        if key not in known:
            folder = tmp_path_factory.mktemp("unharmed")
            code, log = forked(folder, train, folder / "run", name, **options)
            assert code == 0, log
            known[key] = (folder / "run/sha256").read_text()
        return known[key]

    return reference


def killed_and_resumed(folder: Path, name: str, sessions: list[dict], **options) -> str:
    """Every session but the last must die by SIGKILL; returns the hash at the end."""
    for number, session in enumerate(sessions):
        code, log = forked(folder, train, folder / "run", name, **options, **session)
        assert code == (0 if number == len(sessions) - 1 else -9), log
        assert (number == 0) == ("resuming" not in log), log
    return (folder / "run/sha256").read_text()


@pytest.mark.fault(
    "kill", how="SIGKILL to itself after a backward pass, twice; every objective, with and without workers"
)
@pytest.mark.fault("accumulation", how="SIGKILL after the first of two backward passes of a step")
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", list(tiny.ZOO))
def test_killed_twice_mid_step(tmp_path, unharmed, name, workers):
    accumulate = ACCUMULATED.get(name, 1)
    # After the backward pass of steps 6 and 10; checkpoints at 4 and 8, so steps 4, 5, 8 and 9 are replayed.
    # Where a step has two parts, the first has left its gradient when the process dies.
    kills = [{"die_at": 6 * accumulate}, {"die_at": 10 * accumulate}, {}]
    ended = killed_and_resumed(tmp_path, name, kills, accumulate=accumulate, workers=workers)
    assert ended == unharmed(name, accumulate=accumulate)


def test_the_hash_tells_runs_apart(unharmed):
    assert unharmed("mae") != unharmed("mae", seed=1)
    assert unharmed("mae") != unharmed("mae", steps=10)


@pytest.mark.fault(
    "boundary", how="SIGKILL in the first step of the second and of the third epoch, with 0 and 2 workers"
)
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_an_epoch_boundary(tmp_path, unharmed, workers):
    kills = [{"die_at": 5}, {"die_at": 10}, {}]  # the first steps of epochs 1 and 2, just after a checkpoint
    ended = killed_and_resumed(tmp_path, "rotation", kills, save_every=5, workers=workers)
    # No session logs what another has: steps 5 and 10 are behind the checkpoints when the process dies.
    assert read_metrics(tmp_path / "run")["train/loss"][0] == [5, 10]
    assert ended == unharmed("rotation", save_every=5)


def dying_in_validation(folder: Path, at: int) -> None:
    """`train`, which dies when step `at` is validated."""
    losses = Validation.losses

    def mortal(self, module):
        if module.trainer.global_step == at:
            tiny.die()
        return losses(self, module)

    Validation.losses = mortal
    train(folder, validation=Validation(Pictures(10, 5), 3, 4))


@pytest.mark.fault("kill", how="SIGKILL within a validation, twice")
def test_killed_while_validating(tmp_path, unharmed):
    for at, code in ((6, -9), (9, -9), (99, 0)):
        found, log = forked(tmp_path, dying_in_validation, tmp_path / "run", at)
        assert found == code, log
    assert (tmp_path / "run/sha256").read_text() == unharmed("mae")
    steps, values = read_metrics(tmp_path / "run")["val/loss"]
    assert steps == [3, 6, 9, 11]
    assert len(set(values)) == 4


def dying_before(folder: Path, words: tuple[str, ...], **options) -> None:
    """`train`, which dies before it renames to, or deletes, a file whose path ends so."""

    def watch(event: str, args: tuple) -> None:
        path = args[1] if event == "os.rename" else args[0] if event == "os.remove" else ""
        if str(path).endswith(words):
            tiny.die()

    sys.addaudithook(watch)
    train(folder, validation=Validation(Pictures(10, 5), 3, 4), **options)


@pytest.mark.fault(
    "kill", how="SIGKILL after the last checkpoint: before older ones are deleted, or the export"
)
@pytest.mark.parametrize(
    "before", ["000000000004.ckpt", "000000000004.json", "run/backbone", "run/summary.json"]
)
def test_killed_after_the_last_checkpoint(tmp_path, before):
    """The summary of step 9 has a validation that the first session made, and took with it."""
    train(tmp_path / "unharmed", steps=9, validation=Validation(Pictures(10, 5), 3, 4))
    code, log = forked(tmp_path, dying_before, tmp_path / "run", (before,), steps=9)
    assert code == -9, log
    for _ in range(2):
        code, log = forked(tmp_path, dying_before, tmp_path / "run", ("nothing",), steps=9)
        assert code == 0, log
    assert "was finished already, at step 9" in log
    summaries = [json.loads((tmp_path / run / "summary.json").read_text()) for run in ("run", "unharmed")]
    assert summaries[0] | {"seconds": 0} == summaries[1] | {"seconds": 0}
    names = [
        sorted(path.name for path in (tmp_path / run).rglob("*[!0-9]") if "logs" not in path.parts)
        for run in ("run", "unharmed")
    ]
    assert names[0] == names[1]


class Follower(Objective):
    """A teacher that is an average of its student."""

    takes = ("vit",)

    def __init__(self):
        super().__init__(vit())
        self.teacher = copy.deepcopy(self.backbone).requires_grad_(False)

    def forward(self, batch: Batch) -> Loss:
        x = batch.x.float() / 255
        with torch.no_grad():
            target = self.teacher(x.flip(3)).pooled
        return Loss((self.backbone(x).pooled - target).square().mean(), {})

    @torch.no_grad()
    def advance(self, t: float) -> None:
        for mine, its in zip(self.teacher.parameters(), self.backbone.parameters(), strict=True):
            mine.lerp_(its, 0.25)


@pytest.mark.fault(
    "teacher", how="every checkpoint compared with the one of the step before, across a SIGKILL"
)
def test_a_teacher_is_saved_with_the_student_of_its_step(tmp_path):
    start = partial(train, tmp_path / "run", build=(Follower, Pictures), save_every=1, keep=99, steps=7)
    for options, code in (({"die_at": 4}, -9), ({}, 0)):
        found, log = forked(tmp_path, start, **options)
        assert found == code, log
    states = [torch.load(path)["state_dict"] for path in sorted(tmp_path.glob("run/checkpoints/*.ckpt"))]
    assert len(states) == 7
    prefix = "objective.teacher."
    for before, after in pairwise(states):
        for name in (name for name in after if name.startswith(prefix)):
            student = after[f"objective.backbone.{name.removeprefix(prefix)}"]
            assert torch.equal(after[name], before[name].lerp(student, 0.25))
            assert not torch.equal(after[name], student) or not student.any()


@pytest.mark.fault("kill", how="a log whose last line was cut short")
def test_a_line_of_the_log_cut_short_by_a_kill_is_not_read(tmp_path):
    file = tmp_path / "logs/csv/version_0/metrics.csv"
    file.parent.mkdir(parents=True)
    file.write_text("lr,step,train/loss\r\n0.1,5,2.5\r\n0.1,10,1.2\r\n0.1,15,1")
    assert read_metrics(tmp_path) == {"lr": ([5, 10], [0.1, 0.1]), "train/loss": ([5, 10], [2.5, 1.2])}


@pytest.mark.fault("kill", how="SIGKILL when a checkpoint is written and not yet renamed into place")
def test_killed_while_saving(tmp_path, unharmed):
    kills = [{"die_writing": 8}, {}]
    ended = killed_and_resumed(tmp_path, "simclr", kills)
    assert ended == unharmed("simclr")
    left = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert left == {f"step-{step:012d}.{end}" for step in (8, 11) for end in ("ckpt", "json")}


@pytest.mark.fault("kill", how="SIGKILL before the first checkpoint is in place")
def test_killed_while_writing_the_first_checkpoint_starts_anew(tmp_path, unharmed):
    code, log = forked(tmp_path, train, tmp_path / "run", "mae", die_writing=4)
    assert code == -9, log
    code, log = forked(tmp_path, train, tmp_path / "run", "mae")
    assert code == 0, log
    assert (tmp_path / "run/sha256").read_text() == unharmed("mae")


@pytest.mark.fault("workers", how="killed with 2 workers, again with none, ended with 1")
def test_workers_may_change(tmp_path, unharmed):
    kills = [{"workers": 2, "die_at": 6}, {"workers": 0, "die_at": 10}, {"workers": 1}]
    assert killed_and_resumed(tmp_path, "sum", kills) == unharmed("sum")


def test_accumulation_may_change(tmp_path):
    """Steps are counted, not parts of steps: the run has its 11 steps."""
    code, log = forked(tmp_path, train, tmp_path / "run", "next_token", accumulate=2, die_at=12)
    assert code == -9, log
    code, log = forked(tmp_path, train, tmp_path / "run", "next_token", accumulate=1)
    assert code == 0, log
    assert json.loads((tmp_path / "run/summary.json").read_text())["steps"] == 11
    code, log = forked(tmp_path, train, tmp_path / "up", "next_token", accumulate=1, die_at=6, save_every=3)
    assert code == -9, log
    code, log = forked(tmp_path, train, tmp_path / "up", "next_token", accumulate=4)
    assert code == 0, log
    assert json.loads((tmp_path / "up/summary.json").read_text())["steps"] == 11


@pytest.mark.parametrize("finished_at", [8, 11])  # a multiple of save_every, and not
def test_a_finished_run_goes_on_when_the_budget_grows(tmp_path, finished_at):
    first = partial(train, tmp_path / "run", "mae")
    code, log = forked(tmp_path, first, steps=finished_at)
    assert code == 0, log
    code, log = forked(tmp_path, first, steps=14)
    assert code == 0, log
    assert json.loads((tmp_path / "run/summary.json").read_text())["steps"] == 14


@pytest.mark.parametrize("steps", [8, 11])
def test_a_finished_run_says_so(tmp_path, steps):
    for _ in range(2):
        code, log = forked(tmp_path, train, tmp_path / "run", "mae", steps=steps)
        assert code == 0, log
    assert f"was finished already, at step {steps}" in log
    assert json.loads((tmp_path / "run/summary.json").read_text())["seconds"] > 0


def test_a_run_by_the_clock_resumes_and_ends(tmp_path):
    start = partial(train, tmp_path / "run", "mae", budget=Budget(minutes=0.05), save_every=2)
    code, log = forked(tmp_path, start, die_at=3)
    assert code == -9, log
    code, log = forked(tmp_path, start)
    assert code == 0, log
    assert "resuming    after step 2" in log
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert 3 <= summary["seconds"] < 6  # over both sessions
    assert summary["steps"] > 3
    code, log = forked(tmp_path, start)
    assert code == 0, log
    assert "was finished already" in log


@pytest.mark.fault("changed", how="another seed, batch size and data than the checkpoint's")
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"batch": 2}, "batch_size: 4 -> 2"),
        ({"data_seed": 3}, "fingerprint: pictures-0-22 -> pictures-3-22"),
    ],
)
def test_other_batches_are_refused(checkpointed, changed, named):
    code, log = forked(checkpointed, train, checkpointed / "run", "mae", **changed)
    assert code == 1
    assert "DataError: this checkpoint was trained on other batches" in log
    assert named in log


@pytest.fixture(scope="module")
def checkpointed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpointed")
    code, log = forked(folder, train, folder / "run", "mae", die_at=6)
    assert code == -9, log
    return folder


@pytest.mark.fault("changed", how="another objective than the checkpoint's")
def test_other_weights_are_refused(checkpointed):
    """SimCLR's head in place of MAE's decoder."""
    code, log = forked(
        checkpointed, train, checkpointed / "run", build=(simclr_on_the_same_backbone, Pictures)
    )
    assert code == 1
    assert "CheckpointError" in log
    assert "first objective.blank" in log


def simclr_on_the_same_backbone():
    return small_simclr(vit())


@pytest.mark.fault("changed", how="resume=never in a folder that holds checkpoints")
def test_resume_never_refuses_a_folder_with_checkpoints(checkpointed):
    code, log = forked(checkpointed, train, checkpointed / "run", "mae", resume="never")
    assert code == 1
    assert "RunError" in log
    assert "already holds checkpoints: use resume=auto" in log
