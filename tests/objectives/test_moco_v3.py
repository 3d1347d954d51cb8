"""MoCo v3 against plain second implementations: loss, heads, what stands still, and the average.

Reference: algorithm 1 over three steps with its average; a loop over rows; lightly's `NTXentLoss` with the
other keys for a queue.
Peers: the authors' code passes the two views one after the other, so that batch norms see one at a time.
"""

import math

import pytest
import torch
from lightly.loss import NTXentLoss
from torch.autograd import grad
from zoo_backbones import backbone, build, images

from ssl_zoo import optim
from ssl_zoo.noise import seed_noise
from ssl_zoo.objectives.moco_v3 import MoCoV3, both_ways
from ssl_zoo.views.recipes import dino_small


def test_the_loss_row_by_row():
    q, k = torch.randn(2, 6, 4, dtype=torch.float64)
    q.requires_grad_()
    loss, found = both_ways(q, k, 0.3)
    want, hits = torch.zeros((), dtype=torch.float64), 0
    for i in range(6):
        others = range(3, 6) if i < 3 else range(3)  # the keys of the other view
        cosines = [(q[i] @ k[j]) / (q[i].norm() * k[j].norm()) for j in others]
        own = cosines[i % 3]
        want = want - 2 * 0.3 * torch.log(torch.exp(own / 0.3) / sum(torch.exp(c / 0.3) for c in cosines)) / 3
        hits += own == max(cosines)
    torch.testing.assert_close(loss, want, rtol=1e-12, atol=0)
    torch.testing.assert_close(grad(loss, q)[0], grad(want, q)[0], rtol=1e-10, atol=1e-12)
    assert found.item() == pytest.approx(hits / 6)


def test_one_direction_is_lightlys_queue_of_the_other_keys():
    """With one query, the keys of the other images are a queue of negatives, and lightly has that loss."""
    q, k = torch.nn.functional.normalize(torch.randn(2, 8, 4), dim=2)
    theirs = 0.0
    for v in (0, 1):
        for i in range(4):
            others = [4 * (1 - v) + j for j in range(4) if j != i]
            queue = NTXentLoss(0.2, memory_bank_size=(3, 4))
            queue.memory_bank.bank = k[others].clone()
            queue.memory_bank.bank_ptr = torch.zeros(1, dtype=torch.long)
            row, key = q[4 * v + i][None], k[4 * (1 - v) + i][None]
            theirs += 2 * 0.2 * queue.eval()(row.requires_grad_(), key).item() / 4
    assert both_ways(q, k, 0.2)[0].item() == pytest.approx(theirs, rel=1e-5)


def test_loss_of_features_that_are_all_alike():
    objective = build(MoCoV3, backbone("vit"))
    same = torch.ones(10, 3)
    assert both_ways(same, same, 0.5)[0].item() == pytest.approx(objective.chance(5))
    assert objective.chance(5) == pytest.approx(2 * 2 * 0.5 * math.log(5))


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_three_steps_are_the_algorithm(kind):
    objective = build(MoCoV3, backbone(kind), momentum=0.6, temperature=0.2).train()
    batch = images()
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.1)
    for step, t in enumerate((0.2, 0.6, 1.0)):
        seed_noise(0, step)
        value = objective(batch).value
        seed_noise(0, step)
        (x,) = objective.views(batch.x)
        slow, project = objective.teacher
        q = objective.predict(objective.project(objective.backbone(x).pooled))
        k = project(slow(x).pooled).detach()
        want = torch.zeros(())
        for one, other in ((q[:4], k[4:]), (q[4:], k[:4])):
            logits = torch.stack([torch.cosine_similarity(row[None], other) for row in one]) / 0.2
            want = want + 2 * 0.2 * (logits.logsumexp(1) - logits.diag()).mean()
        torch.testing.assert_close(value, want, rtol=1e-5, atol=1e-5)
        weights = [w for w in objective.parameters() if w.requires_grad]
        for a, b in zip(grad(value, weights, retain_graph=True), grad(want, weights), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        before = [p.clone() for p in objective.teacher.parameters()]
        objective.advance(t)
        m = 1 - 0.4 * (math.cos(math.pi * t) + 1) / 2
        now = [*objective.backbone.parameters(), *objective.project.parameters()]
        for old, new, kept in zip(before, now, objective.teacher.parameters(), strict=True):
            torch.testing.assert_close(kept, m * old + (1 - m) * new.detach())


def test_heads_are_the_papers():
    kinds = lambda head: [type(layer).__name__[:9] for layer in head]  # noqa: E731
    inner = ["Linear", "BatchNorm", "ReLU"]
    vit, cnn = (build(MoCoV3, backbone(kind)) for kind in ("vit", "cnn"))
    assert kinds(vit.project) == [*inner * 2, "Linear", "BatchNorm"]
    assert kinds(vit.predict) == kinds(cnn.project) == [*inner, "Linear", "BatchNorm"]
    assert kinds(cnn.predict) == [*inner, "Linear"]
    for head in (vit.project, vit.predict, cnn.project):
        assert head[-1].weight is None


@pytest.mark.parametrize("make", [optim.adamw, optim.sgd, optim.lars, optim.larc])
def test_the_patch_embedding_of_a_vit_stands_still_under_every_optimizer(make):
    objective = build(MoCoV3, backbone("vit")).train()
    optimizer = make(objective, weight_decay=0.1)
    before = {name: p.clone() for name, p in objective.backbone.named_parameters()}
    for step in range(2):
        seed_noise(0, step)
        optimizer.zero_grad()
        objective(images()).value.backward()
        optimizer.step()
    still = {name for name, p in objective.backbone.named_parameters() if torch.equal(p, before[name])}
    assert still == {"model.patch_embed.proj.weight", "model.patch_embed.proj.bias"}
    assert all(objective.backbone.get_parameter(name).grad.any() for name in still)  # as DDP demands
    moves = build(MoCoV3, backbone("cnn"))
    assert {moves.tune(name, p).lr for name, p in moves.named_parameters()} == {1.0}


def test_arguments_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="temperature must be positive"):
        build(MoCoV3, backbone("vit"), temperature=0)
    with pytest.raises(ValueError, match="compares two views"):
        build(MoCoV3, backbone("vit"), views=dino_small(32, 16))
    with pytest.raises(ValueError, match="here is one alone"):
        build(MoCoV3, backbone("vit"))(images(rows=1))
