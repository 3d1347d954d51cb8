"""BYOL and MoCo against plain second implementations: value, gradient, and what a step leaves behind.

Reference (moco): algorithm 1 over four steps with a list for a queue; a loop over queries.
Peers (moco): public code shuffles the batch among GPUs and starts with a queue of random rows; lightly and
solo-learn do the same.
Reference (byol): a plain second implementation over several steps: value, gradient and average.
Peers (byol): the authors pass the two views one after the other, so that batch norms see one view at a
time; lightly's example averages the two directions, which halves the gradient.
"""

import math

import pytest
import torch
from torch.autograd import grad
from zoo_backbones import backbone, build, images

from ssl_zoo.contrast import info_nce
from ssl_zoo.noise import seed_noise
from ssl_zoo.objectives.byol import BYOL, regression
from ssl_zoo.objectives.densecl import DenseCL
from ssl_zoo.objectives.moco import MoCo
from ssl_zoo.views.recipes import dino_small, simclr_small


def unit(v: list[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in v))
    return [x / length for x in v]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_byol_regression_row_by_row():
    torch.manual_seed(0)
    p, z = torch.randn(2, 6, 4, dtype=torch.float64)
    loss, cosine = regression(p, z)
    ps, zs = p.tolist(), z.tolist()
    # Equation 2 for each of 3 samples, and again with the views swapped.
    errors = [
        sum((a - b) ** 2 for a, b in zip(unit(ps[i]), unit(zs[(i + 3) % 6]), strict=True)) for i in range(6)
    ]
    assert loss.item() == pytest.approx(sum(errors[:3]) / 3 + sum(errors[3:]) / 3, rel=1e-12)
    assert cosine.item() == pytest.approx(1 - sum(errors) / 12, rel=1e-9)
    assert regression(z.roll(3, 0), z)[0].item() == pytest.approx(0, abs=1e-12)
    assert regression(-z.roll(3, 0), z)[0].item() == pytest.approx(8)  # 2 directions of 2 - 2 * -1


def test_moco_loss_row_by_row():
    torch.manual_seed(0)
    q, k, queue = (torch.nn.functional.normalize(torch.randn(n, 4, dtype=torch.float64)) for n in (3, 3, 5))
    valid = torch.arange(5) < 4
    queue[4] = 100.0  # never scored
    loss, found = info_nce(q, k, queue, valid, 0.2)
    want, hits = 0.0, 0
    for a, b in zip(q.tolist(), k.tolist(), strict=True):
        scores = [dot(a, b) / 0.2, *(dot(a, c) / 0.2 for c in queue.tolist()[:4])]
        want += math.log(sum(map(math.exp, scores))) - scores[0]
        hits += scores[0] == max(scores)
    assert loss.item() == pytest.approx(want / 3, rel=1e-12)
    assert found.item() == pytest.approx(hits / 3)
    same = torch.ones(3, 4) / 2
    assert info_nce(same, same, torch.ones(5, 4) / 2, valid, 0.2)[0].item() == pytest.approx(math.log(1 + 4))
    assert info_nce(q, k, queue, valid & False, 0.2)[0].item() == 0  # nothing to tell a key from


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_byol_is_its_equation(kind):
    objective = build(BYOL, backbone(kind)).train()
    with torch.no_grad():  # teacher and student differ
        for p in objective.teacher.parameters():
            p += 0.05 * torch.randn_like(p)
    batch = images()
    seed_noise(0, 0)
    value = objective(batch).value
    seed_noise(0, 0)
    (x,) = objective.views(batch.x)
    slow, project = objective.teacher
    p = objective.predict(objective.project(objective.backbone(x).pooled))
    z = project(slow(x).pooled).detach()
    want = torch.zeros(())
    for i in range(4):
        for one, other in ((i, i + 4), (i + 4, i)):
            want = want + (p[one] / p[one].norm() - z[other] / z[other].norm()).square().sum() / 4
    torch.testing.assert_close(value, want, rtol=1e-5, atol=1e-5)
    weights = [w for w in objective.parameters() if w.requires_grad]
    for a, b in zip(grad(value, weights), grad(want, weights), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_moco_is_its_algorithm(kind):
    objective = build(MoCo, backbone(kind)).train()
    batch, keys = images(), []
    for step in range(4):
        seed_noise(0, step)
        value = objective(batch).value
        seed_noise(0, step)
        first, second = objective.views(batch.x)[0].chunk(2)
        slow, project = objective.teacher
        q = objective.project(objective.backbone(first).pooled)
        k = project(slow(second).pooled).detach()
        want = torch.zeros(())
        for a, b in zip(q, k, strict=True):
            a, b = a / a.norm(), b / b.norm()
            logits = torch.stack([a @ b, *(a @ c for c in keys[-10:])]) / 0.2
            want = want + (logits.logsumexp(0) - logits[0]) / 4
        torch.testing.assert_close(value, want, rtol=1e-5, atol=1e-5)
        if step:
            weights = [w for w in objective.parameters() if w.requires_grad]
            for x, y in zip(grad(value, weights), grad(want, weights), strict=True):
                torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-5)
        keys += [b / b.norm() for b in k]
        objective.advance((step + 1) / 4)
        held = objective.queue.rows[objective.queue.valid()]
        assert len(held) == min(len(keys), 10)
    oldest = torch.roll(held, -int(objective.queue.at), 0)
    torch.testing.assert_close(oldest, torch.stack(keys[-10:]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cls", [MoCo, DenseCL])
def test_keys_are_of_length_1_in_half_precision(cls):
    objective = build(cls, backbone("vit")).train()
    with torch.autocast("cpu", torch.bfloat16):
        objective(images())
    objective.advance(1.0)
    for queue in {objective.queue, getattr(objective, "cell_queue", objective.queue)}:
        lengths = queue.rows[queue.valid()].norm(dim=1)
        torch.testing.assert_close(lengths, torch.ones(4), rtol=1e-5, atol=0)


def test_the_average_follows_by_the_papers_momentum():
    objective = build(BYOL, backbone("vit"), momentum=0.6)
    weight, slow = objective.project[0].weight, objective.teacher[1][0].weight
    for t in (0.0, 0.3, 1.0):
        with torch.no_grad():
            weight += 1
        before, m = slow.clone(), 1 - (1 - 0.6) * (math.cos(math.pi * t) + 1) / 2
        objective.advance(t)
        torch.testing.assert_close(slow, m * before + (1 - m) * weight.detach())


@pytest.mark.parametrize("cls", [BYOL, MoCo])
def test_two_views_of_one_size_are_asked_for(cls):
    with pytest.raises(ValueError, match=r"compares two views of one size, not groups of \(2, 4\)"):
        build(cls, backbone("vit"), views=dino_small(32, 16))
    with pytest.raises(ValueError, match=r"compares two views of one size, not groups of \(1,\)"):
        build(cls, backbone("vit"), views=simclr_small(32))
    if cls is MoCo:
        with pytest.raises(ValueError, match="temperature must be positive"):
            build(cls, backbone("vit"), temperature=0)
