"""Instance discrimination against a plain second implementation, with a dictionary for a memory.

Reference: the equation over five steps, with a dictionary for a memory; lightly's `NTXentLoss` where all
images are told from the same others.
Peers: the authors' code approximates the softmax by noise-contrastive estimation with draws of its own for
each image, and starts with a memory of random rows.
"""

import math

import pytest
import torch
from lightly.loss import NTXentLoss
from torch.autograd import grad
from zoo_backbones import backbone, build, images

from ssl_zoo.contrast import info_nce
from ssl_zoo.noise import rand_shared, seed_noise
from ssl_zoo.objectives.instance_discrimination import InstanceDiscrimination


def unit(row: torch.Tensor) -> torch.Tensor:
    return row / row.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize(("kind", "negatives"), [("vit", 6), ("cnn", 6), ("vit", None)])
def test_five_steps_are_the_equation(kind, negatives):
    objective = build(InstanceDiscrimination, backbone(kind), negatives=negatives).train()
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
    memory: dict[int, torch.Tensor] = {}
    for step, numbers in enumerate(([0, 1, 2, 11], [3, 1, 5, 6], [0, 3, 7, 1], [8, 9, 10, 4], [2, 0, 1, 3])):
        batch = images(seed=step)._replace(index=torch.tensor(numbers))
        seed_noise(0, step)
        loss = objective(batch)
        seed_noise(0, step)
        f = unit(objective.project(objective.backbone(objective.view(batch.x)).pooled))
        drawn = [int(12 * u) for u in rand_shared(6).tolist()] if negatives else range(12)
        want, rows = torch.zeros(()), {}
        for i, number in enumerate(numbers):
            own = memory.get(number, f[i].detach())
            others = [memory[j] for j in drawn if j in memory and j != number]
            logits = torch.stack([f[i] @ row for row in (own, *others)]) / 0.07
            want = want + (logits.logsumexp(0) - logits[0]) / 4
            rows[number] = unit(0.5 * own + 0.5 * f[i].detach())
        torch.testing.assert_close(loss.value, want, rtol=1e-5, atol=1e-5)
        weights = list(objective.parameters())
        for a, b in zip(grad(loss.value, weights, retain_graph=True), grad(want, weights), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
        memory |= rows
        objective.advance((step + 1) / 5)
        assert objective.memory.filled.nonzero().flatten().tolist() == sorted(memory)
        for number, row in memory.items():
            torch.testing.assert_close(objective.memory.rows[number], row, rtol=1e-5, atol=1e-6)


def test_the_loss_is_lightlys_where_all_images_are_told_from_the_same():
    """Then the memory's other rows are a queue."""
    z, own, others = torch.randn(3, 4, requires_grad=True), unit(torch.randn(3, 4)), unit(torch.randn(5, 4))
    theirs = NTXentLoss(0.1, memory_bank_size=(5, 4))
    theirs.memory_bank.bank = others.clone()
    theirs.memory_bank.bank_ptr = torch.zeros(1, dtype=torch.long)
    want = theirs(z, own)
    got, _ = info_nce(unit(z), own, others, torch.ones(3, 5, dtype=torch.bool), 0.1)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grad(got, z)[0], grad(want, z)[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("negatives", [None, 5])
def test_loss_of_features_that_are_all_alike(negatives):
    objective = build(InstanceDiscrimination, backbone("vit"), negatives=negatives).train()
    with torch.no_grad():
        objective.project.weight.zero_()
    for first in (0, 4, 8):
        objective(images()._replace(index=torch.arange(first, first + 4)))
        objective.advance(0.5)
    assert objective.memory.filled.all()
    counted = objective.drawn(torch.tensor([0]))[1].sum().item()  # of 5 draws, one may be the image itself
    seed_noise(0, 0)
    value = objective(images(rows=1)._replace(index=torch.tensor([0]))).value.item()
    chance = objective.chance(4)
    assert chance == pytest.approx(math.log(12 if negatives is None else 6))
    assert value <= chance + 1e-5
    if negatives is None:
        assert counted == 11
        assert value == pytest.approx(chance, rel=1e-5)


def test_what_cannot_be_is_refused():
    for wrong in ({"temperature": 0}, {"momentum": 1.0}, {"negatives": 0}):
        with pytest.raises(ValueError, match=r"temperature is positive, momentum in \[0, 1\), and negatives"):
            build(InstanceDiscrimination, backbone("vit"), **wrong)
    with pytest.raises(ValueError, match="a memory of the data's rows holds at least one"):
        build(InstanceDiscrimination, backbone("vit"), rows=0)
    objective = build(InstanceDiscrimination, backbone("vit"), rows=3)
    with pytest.raises(ValueError, match="number 3, and the objective remembers 3 rows"):
        objective(images()._replace(index=torch.arange(4)))
    with pytest.raises(ValueError, match="reads the number of each row, and this batch has none"):
        objective(images())
