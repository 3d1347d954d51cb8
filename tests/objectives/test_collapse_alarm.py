"""Settings made on purpose to collapse are caught by the monitor while they train, and sound ones are not.

To add another: a subclass with one thing taken away, and a line in `RUNS`.
"""

from types import SimpleNamespace

import pytest
import torch
from transfer_fakes import FakeRows
from zoo_backbones import backbone, build, images

from ssl_zoo.noise import seed_noise
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives.simsiam import SimSiam, similarity
from ssl_zoo.optim import sgd
from ssl_zoo.pretrain import watch
from ssl_zoo.pretrain.watch import Monitor
from ssl_zoo.views.recipes import asymmetric

ALARM = "WARNING: the features have almost collapsed"


class WithoutStopGradient(SimSiam):
    """Both sides of the loss learn."""

    def forward(self, batch: Batch) -> Loss:
        z = self.embed(batch)
        return Loss(similarity(self.predict(z), z), {})


class WithoutPredictor(SimSiam):
    """Projections are to be alike themselves."""

    def forward(self, batch: Batch) -> Loss:
        z = self.embed(batch)
        return Loss(similarity(z, z.detach()), {})


# What trains, the learning rate and decay of its SGD, and whether it collapses.
RUNS = [
    (SimSiam, 1.0, 1e-3, False),
    (WithoutStopGradient, 1.0, 1e-3, True),
    (WithoutPredictor, 1.0, 1e-3, True),
]


@pytest.mark.parametrize(("cls", "lr", "decay", "collapses"), RUNS)
def test_the_monitor_sees_a_collapse_while_it_happens(cls, lr, decay, collapses, monkeypatch, capsys):
    """A small ViT on 32 images, looked at every 20 steps, until the alarm or for 240 steps."""
    monkeypatch.setattr(watch, "pretraining", lambda module: module)
    objective = build(cls, backbone("vit", seed=1), views=asymmetric(32)).train()
    batch = images(32)
    rows = FakeRows(batch.x, None)
    monitor = Monitor(rows, rows, every=20)
    trainer = SimpleNamespace(global_step=0, loggers=[])
    whole = {"stopped": False, "check_finite": lambda **_: None, "reading": lambda do: do()}
    module = SimpleNamespace(objective=objective, device=torch.device("cpu"), **whole)
    optimizer, said = sgd(objective, lr, decay), ""
    monitor.on_train_start(trainer, module)
    while ALARM not in said and trainer.global_step < 240:
        seed_noise(0, trainer.global_step)
        optimizer.zero_grad()
        objective(batch).value.backward()
        optimizer.step()
        trainer.global_step += 1
        objective.advance(trainer.global_step / 240)
        monitor.after_step(trainer, module)
        said += capsys.readouterr().out
    assert (ALARM in said) is collapses, said
