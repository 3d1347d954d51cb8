"""NNCLR against lightly's search, a plain second implementation of its algorithm, and a plain queue.

Reference: lightly's `NNMemoryBankModule` for neighbours; algorithm 1 over four steps with a list for a
queue.
Peers: lightly's example takes NT-Xent of neighbours and predictions, which has neighbours among the
negatives; public code starts with a queue of random rows.
"""

import math

import pytest
import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import NNMemoryBankModule
from torch.autograd import grad
from zoo_backbones import backbone, build, images

from ssl_zoo.contrast import in_batch
from ssl_zoo.noise import seed_noise
from ssl_zoo.objectives.nnclr import NNCLR, nearest


def unit(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape), dim=-1)


def test_neighbours_are_lightlys():
    z, queue = unit(6, 4), unit(9, 4)
    bank = NNMemoryBankModule(size=(9, 4))
    bank.bank, bank.bank_ptr = queue.clone(), torch.zeros(1, dtype=torch.long)
    torch.testing.assert_close(nearest(z, queue, torch.ones(9, dtype=torch.bool)), bank(z, update=False))


def test_rows_that_are_not_filled_are_nobodys_neighbours():
    z, queue = unit(3, 4), unit(5, 4)
    queue[2:] = z  # nearest of all, and not valid
    found = nearest(z, queue, torch.arange(5) < 2)
    for row, near in zip(z, found, strict=True):
        best = max((row @ queue[k]).item() for k in range(2))
        assert (row @ near).item() == pytest.approx(best)
    assert torch.equal(nearest(z, queue, torch.zeros(5, dtype=torch.bool)), z)


def log_odds(rows: torch.Tensor, keys: torch.Tensor, temperature: float) -> torch.Tensor:
    """Mean cross-entropy of each row finding the key of its number, of unnormalised rows and keys."""
    total = torch.zeros((), dtype=rows.dtype)
    for i, row in enumerate(rows):
        cosines = torch.stack([row @ key / (row.norm() * key.norm()) for key in keys]) / temperature
        total = total + (cosines.logsumexp(0) - cosines[i]) / len(rows)
    return total


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_four_steps_are_the_algorithm(kind):
    objective = build(NNCLR, backbone(kind), temperature=0.1).train()
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
    batch, kept = images(), []
    for step in range(4):
        seed_noise(0, step)
        loss = objective(batch)
        seed_noise(0, step)
        (x,) = objective.views(batch.x)
        z = objective.project(objective.backbone(x).pooled)
        p = objective.predict(z)
        z = torch.stack([row / row.norm() for row in z.detach()])
        friends = torch.stack([max(kept[-10:], key=lambda old: old @ row) if kept else row for row in z])
        want = log_odds(friends[:4], p[4:], 0.1) / 2 + log_odds(friends[4:], p[:4], 0.1) / 2
        torch.testing.assert_close(loss.value, want, rtol=1e-5, atol=1e-5)
        near = (friends * z).sum(1).mean()
        torch.testing.assert_close(loss.parts["neighbour_cosine"], near, rtol=1e-4, atol=1e-5)
        weights = list(objective.parameters())
        for a, b in zip(grad(loss.value, weights, retain_graph=True), grad(want, weights), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
        kept += list(z[:4])
        objective.advance((step + 1) / 4)
        held = objective.queue.rows[objective.queue.valid()]
        assert len(held) == min(len(kept), 10)
    oldest = torch.roll(held, -int(objective.queue.at), 0)
    torch.testing.assert_close(oldest, torch.stack(kept[-10:]), rtol=1e-5, atol=1e-6)


def test_lightlys_loss_has_neighbours_among_the_negatives():
    """NT-Xent of neighbours and predictions, as in lightly's example, is not the paper's loss."""
    n, p = unit(8, 16), unit(8, 16)
    paper = log_odds(n, p, 0.1).item()
    theirs = NTXentLoss(temperature=0.1)(n, p).item()
    both = torch.cat([n, p])
    scores = (both @ both.T / 0.1).fill_diagonal_(-math.inf)
    whole = torch.nn.functional.cross_entropy(scores, torch.arange(16).roll(8)).item()
    assert theirs == pytest.approx(whole, rel=1e-5)
    assert theirs > paper + 0.3


def test_loss_of_features_that_are_all_alike():
    same = torch.ones(5, 3)
    assert in_batch(same, same, 0.1)[0].item() == pytest.approx(build(NNCLR, backbone("vit")).chance(5))


def test_arguments_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="temperature must be positive"):
        build(NNCLR, backbone("vit"), temperature=0)
    with pytest.raises(ValueError, match="a queue holds at least one row"):
        build(NNCLR, backbone("vit"), queue=0)
    with pytest.raises(ValueError, match="here is one alone"):
        build(NNCLR, backbone("vit"))(images(rows=1))
