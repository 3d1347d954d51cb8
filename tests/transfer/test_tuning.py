"""One loop for all goals: it repeats itself to the bit, leaves the backbone alone, names what diverges."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny import Pictures, resnet, vit

from ssl_zoo import DataError
from ssl_zoo.transfer.protocols import Finetune, Linear
from ssl_zoo.transfer.tasks.masks import Masks
from ssl_zoo.transfer.tasks.pooled import Pooled
from ssl_zoo.transfer.tasks.regression import Regression
from ssl_zoo.transfer.tasks.tuning import Truth, fit, tell

CPU = torch.device("cpu")
SHORT = Finetune(lrs=(1e-3, 3e-3), steps=4, batch_size=8, augment=None)


def brightness(count=40, seed=0):
    """Images, and how bright each of them is, standardised."""
    rows = Pictures(count, seed)
    y = np.linspace(-1.5, 1.5, count).astype(np.float32)
    rows.x = (rows.x.float() * 0.2 + 100 + 40 * torch.from_numpy(y)[:, None, None, None]).byte()
    return Pooled(rows, y)


def weights(module):
    return [one.clone() for one in module.state_dict().values()]


@pytest.mark.parametrize("protocol", [SHORT, Linear()])
@pytest.mark.parametrize("make", [vit, resnet])
def test_the_same_call_gives_the_same_and_changes_nothing(protocol, make):
    backbone, goal, train, held = make().eval(), Regression(0.0, 1.0), brightness(), brightness(16, 1)
    before, draw = weights(backbone), torch.random.get_rng_state()
    one, other = (fit(backbone, goal, train, held, protocol, 0, CPU) for _ in range(2))
    assert all(map(torch.equal, weights(one.head), weights(other.head)))
    assert all(map(torch.equal, weights(one.backbone), weights(other.backbone)))
    assert all(map(torch.equal, weights(backbone), before))
    assert torch.equal(torch.random.get_rng_state(), draw)
    assert not one.backbone.training
    told = tell(one.backbone, one.head, one.goal, held, CPU)
    again = one.goal.scores(told, Truth(held))
    for name, score in one.scores.items():
        assert again[name].value == pytest.approx(score.value, abs=1e-5)
        assert again[name].interval == pytest.approx(score.interval, abs=1e-5)
    parts = Truth(brightness(3), brightness(2))
    assert (len(parts), float(parts[3])) == (5, -1.5)


def test_the_setting_that_is_best_on_validation_is_chosen():
    backbone, goal, train, held = vit(), Regression(0.0, 1.0), brightness(), brightness(16, 1)
    for protocol, key in ((Linear(), "weight_decays"), (SHORT, "lrs")):
        best = fit(backbone, goal, train, held, protocol, 0, CPU)
        every = [
            fit(backbone, goal, train, held, dataclasses.replace(protocol, **{key: (one,)}), 0, CPU)
            for one in getattr(protocol, key)
        ]
        values = [one.scores["R2"].value for one in every]
        assert best.scores["R2"].value == max(values)
        assert best.chosen == every[values.index(max(values))].chosen
    assert max(values) > -0.5


def test_a_head_may_start_at_the_probe():
    backbone, goal, train, held = vit(), Regression(0.0, 1.0), brightness(), brightness(16, 1)
    one = dataclasses.replace(SHORT, lrs=(1e-9,), head_start="probe")
    probe = fit(backbone, goal, train, held, Linear(), 0, CPU)
    found = fit(backbone, goal, train, held, one, 0, CPU)
    assert found.scores["R2"].value == pytest.approx(probe.scores["R2"].value, abs=1e-3)
    assert probe.scores["R2"].value > 0.9


def test_what_cannot_be_trained_is_said():
    goal, train = Regression(0.0, 1.0), brightness()
    with pytest.raises(DataError, match=r"a step and two rows at least, not 4 steps of 8 out of 1 rows"):
        fit(vit(), goal, brightness(1), train, SHORT, 0, CPU)
    with pytest.raises(ValueError, match="lrs is empty"):
        fit(vit(), goal, train, train, dataclasses.replace(SHORT, lrs=()), 0, CPU)
    with (
        pytest.warns(UserWarning, match="diverged with lr=1e\\+30"),
        pytest.raises(DataError, match="diverged with all of lrs"),
    ):
        fit(vit(), goal, train, train, dataclasses.replace(SHORT, lrs=(1e30,)), 0, CPU)
    with pytest.raises(ValueError, match="weight_decays"):
        fit(vit(), goal, train, train, Linear(weight_decays=()), 0, CPU)


def test_pixels_that_nobody_knows_teach_nothing():
    class Unknown(Pictures):
        def read(self, index, epoch=0):
            return super().read(index)._replace(y=torch.full((len(index), 8, 8), -100))

        def truth(self, i):
            return np.full((8, 8), -100)

    with pytest.raises(DataError, match="no point of the train rows has a target"):
        fit(vit(), Masks((0, 1), (2, 2)), Unknown(), Unknown(), Linear(), 0, CPU)
    found = fit(vit(), Masks((0, 1), (2, 2)), Unknown(), Unknown(), SHORT, 0, CPU)
    assert {name: one.value for name, one in found.scores.items()} == {"mean IoU": 0, "pixel accuracy": 0}
