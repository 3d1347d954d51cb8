"""Weights worth keeping: new heads learn first, and training stops and goes back when features get worse."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from ranks import TOGETHER, ended, group
from safetensors.torch import load_file
from tiny import Ids, Pictures, resnet, train, transformer, vit

import ssl_zoo
from ssl_zoo import optim
from ssl_zoo.compose.gate import ConfigError
from ssl_zoo.objectives._base import Loss
from ssl_zoo.objectives.dino import DINO
from ssl_zoo.objectives.next_token import NextToken
from ssl_zoo.objectives.rotation import Rotation
from ssl_zoo.pretrain import Budget, Pretraining, PretrainingData, pretrain
from ssl_zoo.pretrain.checkpoint import checkpoints, newest
from ssl_zoo.pretrain.guard import Guard
from ssl_zoo.pretrain.module import NonFinite
from ssl_zoo.pretrain.watch import Monitor

Y = np.arange(8) % 2


class Told(Monitor):
    """A monitor that sees what it is told: step -> its figure."""

    def __init__(self, figures: dict[int, float], every: int = 2, name: str = "knn"):
        super().__init__(Pictures(8, 1, Y), Pictures(8, 2, Y), every)
        self.figures, self.step, self.name = figures, 0, name

    def look(self, trainer, module) -> None:
        self.step = trainer.global_step
        super().look(trainer, module)

    def measure(self, backbone, device):
        return {"feature_std": 0.5, self.name: self.figures[self.step]}, 1.0


def state_at(folder: Path, step: int, what: str = "objective.backbone.") -> dict[str, torch.Tensor]:
    """What a checkpoint holds under this prefix."""
    state = torch.load(folder / f"checkpoints/step-{step:012d}.ckpt")["state_dict"]
    return {name.removeprefix(what): value for name, value in state.items() if name.startswith(what)}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def moved(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    return [name for name in a if not torch.equal(a[name], b[name])]


def exported(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "backbone/model.safetensors")


# New heads first

SMALL_DINO = partial(DINO, prototypes=12, width=24, bottleneck=8)
HEADS = {"rotation": lambda: Rotation(resnet()), "dino": lambda: SMALL_DINO(resnet())}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_backbone_stands_still_while_heads_learn(tmp_path, capsys, name, accumulate):
    rows = partial(Pictures, 22)
    options = {"steps": 8, "save_every": 1, "keep": 9, "batch": 4, "accumulate": accumulate}
    train(tmp_path, build=(HEADS[name], rows), guard=Guard(None, head_start=0.5), **options)
    prefix = {"rotation": "objective.backbone.", "dino": "objective.teacher.0."}[name]
    first, still = state_at(tmp_path, 1), state_at(tmp_path, 4)
    assert same(first, still)
    assert same(state_at(tmp_path, 1, prefix), state_at(tmp_path, 4, prefix))
    torch.manual_seed(7)
    assert same(first, HEADS[name]().backbone.state_dict())  # as it came, running statistics and all
    heads = {"rotation": "objective.classify.", "dino": "objective.project."}[name]
    assert moved(state_at(tmp_path, 1, heads), state_at(tmp_path, 4, heads))
    learnt = moved(still, state_at(tmp_path, 5))
    assert {"model.conv1.weight", "model.bn1.running_mean", "model.bn1.num_batches_tracked"} <= set(learnt)
    said = capsys.readouterr().out
    assert "guard       the backbone stands still for the first 50% of training" in said
    assert "step 4  guard: the backbone learns from here on" in said


@pytest.mark.parametrize("make", [optim.adamw, optim.sgd, optim.lars, optim.larc])
def test_no_optimizer_moves_it_or_remembers_its_gradients(tmp_path, make):
    torch.manual_seed(7)
    objective = Rotation(vit())
    before = {name: p.detach().clone() for name, p in objective.backbone.named_parameters()}
    module = Pretraining(objective, partial(make, lr=0.1, weight_decay=0.5), Budget(steps=3))
    pretrain(
        module,
        PretrainingData(Pictures(), 4),
        tmp_path,
        guard=Guard(None, head_start=0.9),
        gradient_clip_val=0.5,
        **{"accelerator": "cpu", "devices": 1},
    )
    trunk = dict(objective.backbone.named_parameters())
    assert all(torch.equal(value, trunk[name]) for name, value in before.items())
    state = module.trainer.optimizers[0].state
    assert not any(parameter in state for parameter in trunk.values())
    assert objective.classify.weight in state


def test_a_compiled_backbone_is_compiled_once(tmp_path):
    def graphs(guard: Guard | None, folder: str) -> int:
        torch._dynamo.reset()
        count = []

        def backend(graph, _):
            count.append(graph)
            return graph.forward

        def build():
            objective = Rotation(vit())
            objective.backbone.compile(backend=backend)
            return objective

        train(tmp_path / folder, build=(build, Pictures), steps=4, guard=guard)
        return len(count)

    plain = graphs(None, "plain")
    assert plain >= 1
    assert graphs(Guard(None, head_start=0.5), "guarded") == plain


# Back to the best step


def guarded(
    folder: Path, figures: dict[int, float], *, every: int = 2, patience: int | None = 2, **options: Any
):
    guard = Guard(head_start=0.25, margin=0.1, patience=patience)
    return train(folder, "rotation", guard=guard, monitor=Told(figures, every), keep=99, **options)


WORSE = {0: 0.5, 2: 0.6, 4: 0.7, 6: 0.65, 8: 0.6, 10: 0.3, 12: 0.2}


def test_it_stops_and_exports_the_best_step(tmp_path, capsys):
    summary, _ = guarded(tmp_path, WORSE, steps=20, save_every=1)
    said = capsys.readouterr().out
    assert "guard       kNN accuracy on 8 held-out rows, every 2 steps; stops after 2 in a row" in said
    # 0.65 is within 10 % of the best; 0.6 is not.
    assert "step 8  guard: knn 0.6 is 14% below the best, 0.7; look 1 in a row\n" in said
    assert "step 10  guard: knn 0.3 is 57% below the best, 0.7; look 2 in a row of 2, training stops" in said
    words = (
        "stopped after 2 looks in a row that were worse; the backbone of step 4 is exported, knn 0.7, and "
        "not that of step 10, 0.3"
    )
    assert words in said
    assert summary["guard"] == words
    assert summary["steps"] == 10
    assert summary["exported_step"] == 4
    assert summary["guard/stopped"] is True
    assert summary["stopped"] is False
    assert summary["knn"] == pytest.approx(0.7)  # of what is exported
    assert summary["guard/knn start"] == 0.5
    assert summary["guard/knn last"] == pytest.approx(0.3)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert same(exported(tmp_path), state_at(tmp_path, 4))
    assert not same(exported(tmp_path), state_at(tmp_path, 10))

    again, _ = guarded(tmp_path, WORSE, steps=20, save_every=1)
    assert again == summary
    assert "was finished already, at step 10" in capsys.readouterr().out
    assert same(exported(tmp_path), state_at(tmp_path, 4))

    # What was trained since is still there: with more patience it goes on from the last step.
    on, _ = guarded(tmp_path, WORSE, steps=12, save_every=1, patience=5)
    assert (on["steps"], on["exported_step"], on["guard/stopped"]) == (12, 4, False)
    assert "resuming    after step 10" in capsys.readouterr().out


def test_a_budget_of_minutes_counts_the_head_start_by_the_clock(tmp_path, capsys):
    options = {"budget": Budget(minutes=5), "save_every": 1}  # of which a quarter has not passed by then
    summary, _ = guarded(tmp_path, WORSE, **options)
    assert (summary["steps"], summary["exported_step"]) == (10, 4)
    assert same(state_at(tmp_path, 1), state_at(tmp_path, 10))
    again, _ = guarded(tmp_path, WORSE, **options)
    assert again == summary
    assert "was finished already, at step 10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("figures", "kept"),
    [
        ({0: 0.5, 2: 0.6, 4: 0.58, 5: 0.57}, 2),
        ({0: 0.5, 2: 0.6, 4: 0.6, 5: 0.6}, 5),
        ({0: 0.9, 2: 0.8, 4: 0.7, 5: 0.7}, 0),
    ],
)
def test_at_the_end_too_the_best_step_is_exported(tmp_path, capsys, figures, kept):
    summary, module = guarded(tmp_path, figures, steps=5, save_every=1, patience=None)
    assert (summary["steps"], summary["exported_step"]) == (5, kept)
    torch.manual_seed(7)
    start = tiny.ZOO["rotation"][0]().backbone.state_dict()
    assert same(exported(tmp_path), state_at(tmp_path, kept) if kept else start)
    assert same(module.objective.backbone.state_dict(), exported(tmp_path))
    which = {2: "the backbone of step 2 is exported", 0: "the backbone of the start is exported"}
    assert which.get(kept, "the backbone of step 5 is exported, knn 0.6\n") in capsys.readouterr().out


def test_a_rank_is_no_end_in_itself(tmp_path):
    """Of the ranks, the last one that is not worse is exported, and not the highest."""
    ranks = {0: 10.0, 2: 20.0, 4: 19.0, 6: 9.0, 7: 8.0}
    monitor = Told(ranks, name="effective_rank")
    guard = Guard("effective_rank", head_start=0, margin=0.25)
    summary, _ = train(tmp_path, "rotation", guard=guard, monitor=monitor, steps=7)
    assert summary["exported_step"] == 4


class Breaks(Rotation):
    """Its loss is NaN from the fraction 0.6 of training on."""

    def forward(self, batch):
        loss = super().forward(batch)
        return loss if self.t < 0.6 else Loss(loss.value * float("nan"), loss.parts)


@pytest.mark.parametrize(
    ("every", "best", "kept"),
    [
        (2, {0: 0.5, 2: 0.9, 4: 0.6, 6: 0.8}, 2),
        (2, {0: 0.5, 2: 0.6, 4: 0.7, 6: 0.8}, 6),
        (7, {0: 0.5, 7: 0.8}, 7),  # of the step before the one that breaks, whose forward moves batch norms
    ],
)
def test_a_loss_that_is_not_finite_costs_none_of_it(tmp_path, capsys, every, best, kept):
    options = {"build": (lambda: Breaks(resnet()), Pictures), "steps": 11, "save_every": 1, "keep": 99}
    for _ in range(2):  # the same again comes to the same
        guard = Guard(head_start=0, patience=None)
        summary, _ = train(tmp_path, guard=guard, monitor=Told(best, every), **options)
        said = capsys.readouterr().out
        assert "guard       the loss was not finite at step 7 (seed 0, rows " in said
        assert (
            f"guard       stopped by a loss that was not finite; the backbone of step {kept} is exp" in said
        )
        assert (summary["steps"], summary["exported_step"], summary["guard/stopped"]) == (7, kept, True)
        assert same(exported(tmp_path), state_at(tmp_path, kept))
    with pytest.raises(NonFinite):
        train(tmp_path / "unguarded", **options)


class Poisoned(Rotation):
    """Its weights are NaN from the fraction 0.5 of training on; no loss has been by then."""

    def advance(self, t):
        super().advance(t)
        if t > 0.5:
            with torch.no_grad():
                self.classify.weight.fill_(float("nan"))
                self.backbone.model.conv1.weight.fill_(float("nan"))  # pyright: ignore


@pytest.mark.parametrize("figure", ["knn", "effective_rank"])
def test_weights_that_are_not_finite_when_they_are_looked_at_cost_none_of_it(tmp_path, capsys, figure):
    monitor = Monitor(Pictures(8, 1, Y), Pictures(8, 2, Y), 1)
    options = {"build": (lambda: Poisoned(resnet()), Pictures), "steps": 8, "save_every": 0}
    summary, _ = train(tmp_path, guard=Guard(figure, 0, patience=None), monitor=monitor, **options)
    assert "the loss is finite, but after step 5 these weights are not: " in capsys.readouterr().out
    assert summary["guard/stopped"] is True
    assert summary["exported_step"] < 5
    assert all(torch.isfinite(value).all() for value in exported(tmp_path).values())


class Died(Exception):
    pass


def died(*_):
    raise Died


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("left_alone")
    return folder, guarded(folder, WORSE, steps=20)[0]


@pytest.mark.parametrize(
    ("save_every", "at"), [(1, 1), (1, 4), (1, 7), (1, 9), (2, 3), (2, 5), (2, 9), (3, 4), (3, 9)]
)
def test_a_run_that_dies_goes_on_as_if_it_had_not(tmp_path, monkeypatch, left_alone, save_every, at):
    """In the head start, before and after the best look, and where a look was due but not made."""
    monkeypatch.setattr(tiny, "die", died)
    alone, whole = left_alone
    with pytest.raises(Died):
        guarded(tmp_path / "run", WORSE, steps=20, save_every=save_every, die_at=at)
    summary, _ = guarded(tmp_path / "run", WORSE, steps=20, save_every=save_every)
    assert (tmp_path / "run/sha256").read_text() == (alone / "sha256").read_text()
    assert summary | {"seconds": 0} == whole | {"seconds": 0}
    assert same(exported(tmp_path / "run"), exported(alone))


def test_pruned_checkpoints_take_no_best_weights_with_them(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "die", died)
    options = {"guard": Guard(head_start=0, margin=0.1, patience=9), "steps": 10, "save_every": 1}
    best = {0: 0.5, 2: 0.9} | dict.fromkeys((4, 6, 8, 10), 0.4)
    with pytest.raises(Died):
        train(tmp_path, "rotation", **options, monitor=Told(best), die_at=9)
    assert [one.stem for one in checkpoints(tmp_path / "checkpoints")] == [
        "step-000000000009",
        "step-000000000008",
    ]
    options["guard"] = Guard(head_start=0, margin=0.1, patience=9)
    summary, _ = train(tmp_path, "rotation", **options, monitor=Told(best))
    assert summary["exported_step"] == 2
    monkeypatch.undo()
    first, _ = train(tmp_path / "two", "rotation", steps=10, save_every=1, keep=99)
    assert first["steps"] == 10
    assert same(exported(tmp_path), state_at(tmp_path / "two", 2))


def test_a_teacher_that_is_exported_is_what_is_kept(tmp_path):
    best = {0: 0.5, 2: 0.9, 4: 0.4, 6: 0.4}
    options = {"guard": Guard(head_start=0, margin=0.1), "monitor": Told(best), "steps": 6, "save_every": 1}
    summary, module = train(tmp_path, build=(HEADS["dino"], Pictures), keep=9, **options)
    assert summary["exported_step"] == 2
    assert same(exported(tmp_path), state_at(tmp_path, 2, "objective.teacher.0."))
    assert same(module.objective.backbone.state_dict(), state_at(tmp_path, 6))  # the student's, which is not


# Two processes


def in_a_group(folder: Path, **options: Any) -> None:
    guarded(folder / "run", WORSE, steps=20, save_every=1, log_every=0, precision="64-true", **options)


@pytest.mark.slow
def test_two_processes_judge_alike(tmp_path):
    codes, log = ended(tmp_path, group(tmp_path, in_a_group, tmp_path, **TOGETHER))
    assert codes == [0, 0], log
    assert log.count("training stops") == 1
    in_a_group(tmp_path / "alone")
    for step in (4, 10):
        one, two = state_at(tmp_path / "alone/run", step), state_at(tmp_path / "run", step)
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=1e-9, atol=1e-12)
    assert same(exported(tmp_path / "run"), state_at(tmp_path / "run", 4))
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["steps"], summary["exported_step"]) == (10, 4)


# What cannot be


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"figure": "loss"}, "guard.figure=loss is not known; take knn, effective_rank, or null"),
        ({"head_start": 1.0}, "guard.head_start=1.0: a fraction of training, from 0 to below 1"),
        ({"margin": -0.1}, "guard.margin=-0.1: a share of the best figure"),
        ({"patience": 0}, "guard.patience=0: looks in a row, 1 or more; null: never stop early"),
    ],
)
def test_arguments_that_make_no_sense(options, says):
    with pytest.raises(ValueError, match=says):
        Guard(**options)


def test_a_guard_that_nobody_looks_for_is_refused(tmp_path):
    for monitor in (None, Monitor(Pictures(8, 1, Y), Pictures(8, 2, Y), 0)):
        with pytest.raises(
            ValueError, match=r"needs evaluate_every > 0, a validation split, .*guard=head_start"
        ):
            train(tmp_path, "rotation", guard=Guard(), monitor=monitor)
    with pytest.raises(ValueError, match=r"needs labels of two classes .* take guard=effective_rank"):
        train(tmp_path, "rotation", guard=Guard(), monitor=Monitor(Pictures(8, 1), Pictures(8, 2), 2))
    assert newest(tmp_path / "checkpoints") is None


def test_packed_text_has_a_head_start(tmp_path):
    build = lambda: NextToken(transformer(0.0))  # noqa: E731
    train(
        tmp_path,
        build=(build, partial(Ids, lookahead=1)),
        steps=4,
        guard=Guard(None, 0.5),
        save_every=1,
        keep=9,
    )
    assert same(state_at(tmp_path, 1), state_at(tmp_path, 2))
    assert moved(state_at(tmp_path, 2), state_at(tmp_path, 3))


# From the command line and from Python

SMALL = {"objective": "rotation", "backbone": "resnet_micro", "data": "digits", "batch_size": 32}
SMALL |= {"trainer": "cpu", "backbone__channels": [4, 8, 8, 16]}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    return ssl_zoo.pretrain(**SMALL, steps=2, evaluate_every=0, out=folder, progress=False)


def test_a_word_is_enough(first, tmp_path):
    lines: list[str] = []
    options = SMALL | {"steps": 4, "evaluate_every": 2, "init": first, "guard": "knn", "out": tmp_path / "a"}
    run = ssl_zoo.pretrain(**options, guard__head_start=0.5, progress=lines.append)
    assert any(line.startswith("guard       kNN accuracy on ") for line in lines)
    assert any(line.startswith("step 2  guard: the backbone learns") for line in lines)
    assert not any(line.startswith("note: this backbone starts from random") for line in lines)
    assert {"guard", "exported_step", "knn"} <= run.summary.keys()
    assert run.config["guard"]["margin"] == 0.05
    page = ssl_zoo.report(run, progress=False).read_text()
    assert run.summary["guard"] in page
    with pytest.raises(ssl_zoo.RunError, match=r"guard.head_start: 0.5 -> 0.1"):
        ssl_zoo.pretrain(**options, progress=False)
    ssl_zoo.pretrain(**options, guard__head_start=0.5, guard__patience=None, progress=False)


def test_weights_that_are_none_worth_keeping_are_said(tmp_path):
    lines: list[str] = []
    ssl_zoo.pretrain(
        **SMALL, steps=1, guard="head_start", evaluate_every=0, out=tmp_path / "a", progress=lines.append
    )
    assert any("this backbone starts from random weights" in line for line in lines)


def test_what_is_misspelt_or_lacking_is_said(tmp_path):
    run = partial(ssl_zoo.pretrain, **SMALL, steps=1, progress=False, out=tmp_path / "a")
    with pytest.raises(
        ConfigError, match=r"guard=true does not exist.* Choices for guard: effective_rank, head"
    ):
        run(guard=True)
    with pytest.raises(ConfigError, match=r"there is no key 'guard.margin'; choose guard=NAME first"):
        run(guard__margin=0.1)
    with pytest.raises(ValueError, match="needs evaluate_every > 0"):
        run(guard="knn", evaluate_every=0)
