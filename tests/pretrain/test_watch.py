"""The monitor judges features against those of the untrained network: collapse, and the worth of training."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transfer_fakes import MLP, FakeRows, images
from zoo_backbones import KINDS, backbone, build, text
from zoo_backbones import images as pictures

from ssl_zoo.backbones._base import Backbone, Features, Kind
from ssl_zoo.objectives.dino import DINO
from ssl_zoo.pretrain import watch
from ssl_zoo.pretrain.watch import Monitor, Validation, collapsed, off_one_line
from ssl_zoo.transfer.diagnostics import spread
from ssl_zoo.transfer.features import extract, forward


def rows_for(kind: Kind, count: int, seed: int) -> FakeRows:
    """Unlabelled rows for a kind of backbone."""
    batch = text(count, 24, seed, "document") if KINDS[kind][0] == "text" else pictures(count, seed)
    return FakeRows(batch.x, None, batch.segments)


class Squeezed(Backbone):
    """Another backbone's features, of which all but the first `axes` become alike: by half in each step.

    beside: what is added to all others. It is of the size of the features, which differs between backbones:
    beside a number much larger than they are, features that differ along one axis would be one point.
    """

    def __init__(self, inner: Backbone, axes: int, beside: float):
        super().__init__({})
        self.inner, self.axes, self.left, self.beside = inner, axes, 1.0, beside
        self.dim, self.kind = inner.dim, inner.kind

    def forward(self, x, segments=None, *, layers=None) -> Features:
        z = self.inner(x, segments).pooled
        apart = torch.arange(self.dim) < self.axes
        return Features(
            z[:, None], z * torch.where(apart, 1.0, self.left) + torch.where(apart, 0.0, self.beside)
        )

    def blocks(self):
        return ()


def all_finite(weights: bool = False) -> None:
    """`Pretraining.check_finite` where all is well."""


def as_module(model: Backbone) -> SimpleNamespace:
    """What the monitor asks of the module that is trained, whose objective exports this backbone."""
    return training(SimpleNamespace(export=lambda: {"backbone": model}))


def training(objective: Any) -> SimpleNamespace:
    """What the monitor asks of the module that trains an objective."""
    return SimpleNamespace(
        objective=objective,
        device=torch.device("cpu"),
        stopped=False,
        check_finite=all_finite,
        reading=lambda do: do(),
    )


def watched(monitor: Monitor, model: Backbone, step: Callable[[], object], steps: int) -> None:
    """Training, as far as the monitor sees it."""
    trainer = SimpleNamespace(global_step=0, loggers=[])
    module = as_module(model)
    monitor.on_train_start(trainer, module)
    for _ in range(steps):
        step()
        trainer.global_step += 1
        monitor.after_step(trainer, module)
    monitor.on_train_end(trainer, module)


@pytest.fixture(autouse=True)
def plain_modules(monkeypatch):
    monkeypatch.setattr(watch, "pretraining", lambda module: module)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_untrained_backbones_are_no_collapse(kind, seed, capsys):
    rows = rows_for(kind, 64, seed)
    monitor = Monitor(rows, rows, every=1)
    model = backbone(kind, seed)
    watched(monitor, model, lambda: None, steps=1)
    monitor.untrained = {}  # as of a run that an older version began
    monitor.look(SimpleNamespace(global_step=2, loggers=[]), as_module(model))
    said = capsys.readouterr().out
    assert said.count("feature_std") == 2
    assert "WARNING" not in said


@pytest.mark.fault("constant", how="features of four kinds of networks squeezed to a point or a line")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("axes", "says"), [(0, "point"), (1, "line")])
def test_a_collapse_is_said_within_some_steps(kind, axes, says, capsys):
    rows, plain = rows_for(kind, 64, 0), backbone(kind)
    size = forward(plain, rows.read(np.arange(64))).pooled.std().item()
    model = Squeezed(plain, axes, beside=0.3 * size)

    def halve():
        model.left /= 2

    monitor = Monitor(rows, rows, every=1)
    watched(monitor, model, halve, steps=12)
    lines = capsys.readouterr().out.splitlines()
    warned = [f"to one {says}" in line for line in lines]
    assert not any(warned[:2])
    assert all(warned[-2:])


def test_a_vit_that_learns_to_be_constant(capsys):
    torch.manual_seed(0)
    rows, model = rows_for("vit", 64, 0), backbone("vit")
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def step():
        loss = forward(model.train(), rows.read(np.arange(32))).pooled.var(0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    watched(Monitor(rows, rows, every=20), model, step, steps=80)
    assert "WARNING: the features have almost collapsed to one point" in capsys.readouterr().out


def test_features_of_use_are_no_collapse(capsys):
    """A line that tells the classes apart, as a supervised backbone of two classes has it."""
    bright = FakeRows(pictures(64).x // 8 + 200 * (torch.arange(64) % 2)[:, None, None, None].byte(), None)
    bright.y = np.arange(64) % 2
    model = backbone("vit")
    monitor = Monitor(bright, bright, every=1)
    watched(monitor, model, lambda: None, steps=1)
    assert monitor.last["knn"] == 1
    monitor.untrained |= {"feature_std": 0.9, "off_line": 0.9}
    trainer = SimpleNamespace(global_step=2, loggers=[])
    monitor.look(trainer, as_module(model))
    assert "collapsed" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_what_is_watched_is_what_is_exported(kind):
    """A teacher's backbone, which is left as it was: weights, running statistics, modes of its parts."""
    objective = build(DINO, backbone(kind))
    with torch.no_grad():
        for weight in objective.backbone.parameters():
            weight.add_(torch.randn_like(weight) * weight.std().nan_to_num())
    rows = FakeRows(pictures(64).x, None)
    monitor = Monitor(rows, rows, every=1)
    module = training(objective)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    modes = [part.training for part in objective.modules()]
    assert True in modes
    assert False in modes  # a teacher's dropout
    monitor.look(SimpleNamespace(global_step=1, loggers=[]), module)
    assert monitor.last == spread(extract(objective.teacher[0], monitor.held_out).pooled)
    assert monitor.last != spread(extract(objective.backbone, monitor.held_out).pooled)
    assert [part.training for part in objective.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())


def test_off_one_line_by_hand():
    # Both ways along three axes, 3, 2 and 1 times: the third has a sixth of the variance.
    axes = torch.eye(4)[torch.tensor([0, 0, 0, 1, 1, 2])]
    assert off_one_line(torch.cat([axes, -5 * axes])) == pytest.approx(1 / 6)
    # Points on a line that misses the origin are on an arc once they are normalised.
    line = torch.tensor([0.3, -1.0, 2.0]) + torch.linspace(-4, 4, 9)[:, None] * torch.tensor([1.0, 0.5, 0.2])
    assert off_one_line(line) == pytest.approx(0, abs=1e-6)


def test_the_rule_by_hand():
    before = {"feature_std": 0.06, "off_line": 0.3}
    assert collapsed(0.0061, 0.3, before) == ""
    assert collapsed(0.0059, 0.3, before) == "point"
    assert collapsed(0.0049, 0.3, {}) == "point"
    assert collapsed(0.0051, 0.0, {}) == ""
    assert collapsed(0.06, 0.0099, before) == "line"
    assert collapsed(0.06, 0.0101, before) == ""
    assert collapsed(0.06, 0.0021, {"feature_std": 0.06, "off_line": 0.01}) == ""
    assert collapsed(0.06, 0.0019, {"feature_std": 0.06, "off_line": 0.01}) == "line"
    assert collapsed(1e-5, 0.3, {"feature_std": 1e-5, "off_line": 0.3}) == "point"


def test_features_no_better_than_before_training_are_said(capsys):
    torch.manual_seed(0)
    model, monitor = MLP(), Monitor(images(60, 0), images(30, 1), every=1)
    watched(monitor, model, lambda: None, steps=1)
    knn = f"{monitor.last['knn']:.4g}"
    said = capsys.readouterr().out
    assert f"WARNING: kNN on the features ({knn}) is no better than before training ({knn})" in said
    monitor.untrained["knn"] = monitor.last["knn"] - 0.01
    trainer = SimpleNamespace(global_step=1, loggers=[])
    monitor.on_train_end(trainer, as_module(model))
    assert "WARNING" not in capsys.readouterr().out


def test_one_class_has_no_neighbours_to_tell_apart():
    one = FakeRows(images(30, 0).x, np.zeros(30, dtype=np.int64))
    monitor = Monitor(one, one, every=1)
    watched(monitor, MLP(), lambda: None, steps=1)
    assert "knn" not in monitor.last


def test_a_validation_of_no_rows_is_refused():
    for limit in (0, -1):
        with pytest.raises(ValueError, match=f"validation_limit must be at least 1, or null .* not {limit}"):
            Validation(images(9, 0), 5, 4, limit)
