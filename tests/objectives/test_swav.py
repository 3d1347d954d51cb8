"""SwAV against lightly's loss, with and without a queue, and over steps against a plain loop.

Reference: lightly's `SwaVLoss`, with a queue and without, and a plain loop over steps.
Peers: the authors' queue fills from its starting epoch on, ours from the first step.
"""

import math

import pytest
import torch
from lightly.loss import SwaVLoss
from zoo_backbones import backbone, build, images

from ssl_zoo.noise import seed_noise
from ssl_zoo.objectives.swav import SwAV
from ssl_zoo.views.recipes import simclr_small, swav_small
from ssl_zoo.views.view import View, Views

CROPS = Views(View(32), View(32, solarize=0.5), *[View(16)] * 3)


def in_double(objective: SwAV) -> SwAV:
    for view in objective.views.each:
        view.register_forward_hook(lambda *seen: seen[-1].double())
    return objective.double().train()


def scores_of(objective: SwAV, x: list[torch.Tensor]) -> tuple[list, torch.Tensor]:
    """Scores of each crop (B, K), and unit projections (V, B, D)."""
    rows = objective.project(torch.cat([objective.backbone(crops).pooled for crops in x]))
    rows = rows / rows.norm(dim=1, keepdim=True)
    weight = objective.compare.weight / objective.compare.weight.norm(dim=1, keepdim=True)
    return list((rows @ weight.T).view(5, 4, -1)), rows.view(5, 4, -1)


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_steps_are_those_of_a_plain_loop_around_lightlys_loss(kind):
    objective, batch = in_double(build(SwAV, backbone(kind), views=CROPS, frozen=0.0)), images()
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.3)
    earlier: list[torch.Tensor] = []  # (2, D) for each image
    for step, t in enumerate((0.1, 0.2, 0.6, 1.0)):
        seed_noise(0, step)
        optimizer.zero_grad()
        loss = objective(batch)
        loss.value.backward()
        seed_noise(0, step)
        scores, rows = scores_of(objective, CROPS(batch.x))
        weight = objective.compare.weight / objective.compare.weight.norm(dim=1, keepdim=True)
        queue = None
        if step >= 2:  # by then 6 images are in the queue, and 0.2 of training is done
            held = torch.stack(earlier[-6:])  # (6, 2, D)
            queue = [held[:, crop] @ weight.T for crop in (0, 1)]
        want = SwaVLoss()(scores[:2], scores[2:], queue)
        assert loss.value.item() == pytest.approx(want.item(), rel=1e-9)
        found = [p.grad.clone() for p in objective.parameters()]
        for mine, theirs in zip(found, torch.autograd.grad(want, list(objective.parameters())), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-12)
        earlier += list(rows[:2].transpose(0, 1).detach())
        optimizer.step()
        objective.advance(t)
    assert objective.queue.filled == 6


def test_the_queue_counts_once_it_is_full_and_its_time_has_come():
    def values(**changes) -> list[float]:
        objective, batch, found = build(SwAV, backbone("cnn"), views=CROPS, **changes).train(), images(), []
        for step, t in enumerate((0.1, 0.2, 1.0)):
            seed_noise(0, step)
            found.append(objective(batch).value.item())
            objective.advance(t)
        return found

    with_, without = values(queue=6, queue_from=0.2), values(queue=0)
    assert with_[:2] == pytest.approx(without[:2], rel=1e-6)
    assert with_[2] != pytest.approx(without[2], rel=1e-4)
    assert values(queue=9, queue_from=0.2) == pytest.approx(without, rel=1e-6)  # 8 rows have come
    assert values(queue=6, queue_from=0.5) == pytest.approx(without, rel=1e-6)  # too early
    assert values(queue=4, queue_from=0.0)[1] != pytest.approx(without[1], rel=1e-4)


def test_prototypes_stand_still_at_first():
    objective, still = build(SwAV, backbone("cnn"), frozen=0.3).train(), {}
    for t in (0.0, 0.29, 0.31):
        objective.advance(t)
        objective.zero_grad()
        objective(images()).value.backward()
        still[t] = not objective.compare.weight.grad.any()
        assert objective.project[-1].weight.grad.any()
    assert still == {0.0: True, 0.29: True, 0.31: False}


def test_loss_and_parts_of_what_learns_nothing():
    objective = build(SwAV, backbone("vit"), views=swav_small(32, 16, 1), queue=0)
    with torch.no_grad():
        objective.compare.weight.copy_(objective.compare.weight[:1].expand_as(objective.compare.weight))
    loss = objective(images())
    assert loss.value.item() == pytest.approx(objective.chance(4), rel=1e-5)
    assert objective.chance(4) == pytest.approx(math.log(12))
    assert loss.parts["code_entropy"].item() == pytest.approx(math.log(12), rel=1e-5)
    assert loss.parts["prototypes_used"].item() == pytest.approx(1 / 12)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"views": simclr_small(32)}, "SwAV compares crops of one image, and its views are a single crop"),
        ({"temperature": 0.0}, "temperature and eps are positive, not 0.0 and 0.05"),
        ({"eps": -1.0}, "temperature and eps are positive, not 0.1 and -1.0"),
    ],
)
def test_what_cannot_be_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        build(SwAV, backbone("vit"), **wrong)
