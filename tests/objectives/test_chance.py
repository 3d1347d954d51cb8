"""The loss of a network that tells nothing apart: what objectives say of it, and who says it to users."""

import json
import math
from functools import partial

import pytest
import tiny
import torch
from zoo_backbones import backbone, build, images, text

from ssl_zoo.backbones._base import Backbone, Features
from ssl_zoo.objectives._base import Objective, Sum
from ssl_zoo.objectives.byol import BYOL
from ssl_zoo.objectives.clip import clip_loss
from ssl_zoo.objectives.crops import DocumentCrops
from ssl_zoo.objectives.moco import MoCo
from ssl_zoo.objectives.rotation import Rotation
from ssl_zoo.objectives.simclr import SimCLR
from ssl_zoo.pages.run_charts import curves, once
from ssl_zoo.pretrain.logs import read_metrics


def blind(model: Backbone) -> Backbone:
    """The same backbone, whose features are alike, whatever it sees."""
    inner = model.forward

    def forward(*args, **options) -> Features:
        return Features(*map(torch.ones_like, inner(*args, **options)[:2]))

    model.forward = forward
    return model


def filled(objective: MoCo) -> MoCo:
    """With as many keys as it keeps, which are those of a network that tells nothing apart."""
    for _ in range(4):
        objective(images(4))
        objective.teacher.update(1.0)
        objective.queue.flush()
    return objective


@pytest.mark.parametrize(
    ("made", "batch", "chance"),
    [
        (lambda: build(SimCLR, blind(backbone("vit"))), images(5), math.log(9)),
        (lambda: build(DocumentCrops, blind(backbone("transformer"))), text(5, 24), math.log(9)),
        (lambda: filled(build(MoCo, blind(backbone("vit")))), images(5), math.log(11)),
    ],
)
def test_features_that_are_all_alike_have_the_loss_that_chance_says(made, batch, chance):
    objective = made()
    assert objective.chance(5) == pytest.approx(chance)
    assert objective(batch).value.item() == pytest.approx(chance, rel=1e-5)


def test_rotation_and_clip():
    objective = build(Rotation, backbone("cnn"))
    torch.nn.init.zeros_(objective.classify.weight)
    torch.nn.init.zeros_(objective.classify.bias)
    assert objective(images(5)).value.item() == pytest.approx(objective.chance(5))
    same = torch.ones(5, 3)
    assert clip_loss(same, same, torch.tensor(2.0))[0].item() == pytest.approx(math.log(5))


def test_a_sum_knows_its_own_where_all_terms_know_theirs():
    terms = {"a": partial(build, SimCLR), "b": partial(build, Rotation)}
    made = Sum(backbone("cnn"), terms, weights={"b": 0.5}, every={"a": 2})
    assert made.chance(8) == pytest.approx(math.log(7) + 0.5 * math.log(4))
    assert Sum(backbone("cnn"), terms | {"c": partial(build, BYOL)}).chance(8) is None


def simclr() -> Objective:
    return tiny.small_simclr(tiny.vit())


def test_it_is_said_at_the_start_and_on_the_page(tmp_path, capsys):
    """Accumulated halves of a batch are two batches of half the size."""
    options = {"batch": 8, "accumulate": 2, "steps": 11, "log_every": 2}
    summary, _ = tiny.train(tmp_path, build=(simclr, tiny.Pictures), **options)
    said = f"chance      {math.log(7):.4g} is the loss of a network that tells nothing apart\n"
    assert said in capsys.readouterr().out
    assert summary["chance"] == pytest.approx(math.log(7))
    assert json.loads((tmp_path / "summary.json").read_text())["chance"] == summary["chance"]
    metrics = read_metrics(tmp_path)
    drawn = curves(metrics, "nats")
    level = [one for one in drawn["loss (nats)"]["layer"] if one["mark"]["type"] == "rule"]
    assert [one["data"]["values"] for one in level] == [[{"value": pytest.approx(math.log(7))}]]
    assert "A network that tells nothing apart has 1.946." in drawn["loss (nats)"]["description"]
    others = [chart for name, chart in drawn.items() if name != "loss (nats)"]
    assert not any(one["mark"]["type"] == "rule" for chart in others for one in chart["layer"])
    assert not any("chance" in name for name in (*drawn, *(name for name, _, _ in once(metrics, "nats"))))


def test_nothing_is_said_where_it_is_not_known(tmp_path, capsys):
    summary, _ = tiny.train(tmp_path, "next_token", steps=2)
    assert "chance" not in capsys.readouterr().out
    assert "chance" not in summary
