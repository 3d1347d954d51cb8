"""Assignments to prototypes, and the prototypes, against plain loops and worked values."""

import math

import pytest
import torch

from ssl_zoo.assign import centre_softmax, sharpen, sinkhorn
from ssl_zoo.heads import Prototypes


def loops(scores: list[list[float]], eps: float, rounds: int) -> list[list[float]]:
    """SwAV's equation 3 in plain numbers, with its own factors 1 / K and 1 / N."""
    n, k = len(scores), len(scores[0])
    q = [[math.exp(s / eps) for s in row] for row in scores]
    for _ in range(rounds):
        columns = [sum(row[j] for row in q) for j in range(k)]
        q = [[row[j] / columns[j] / k for j in range(k)] for row in q]
        q = [[value / sum(row) / n for value in row] for row in q]
    return [[value * n for value in row] for row in q]


@pytest.mark.parametrize("rounds", [1, 3])
def test_sinkhorn_is_the_loop(rounds):
    scores = torch.rand(7, 5, dtype=torch.float64) * 2 - 1
    want = torch.tensor(loops(scores.tolist(), 0.05, rounds), dtype=torch.float64)
    torch.testing.assert_close(sinkhorn(scores, 0.05, rounds), want, rtol=1e-10, atol=1e-12)


def test_sinkhorn_gives_every_prototype_as_much():
    """All rows prefer the first prototype, and yet each of four gets a quarter of them."""
    scores = torch.randn(400, 4).mul(0.1).add(torch.tensor([1.0, 0, 0, 0])).requires_grad_()
    q = sinkhorn(scores, 0.05, 50)
    assert not q.requires_grad
    torch.testing.assert_close(q.sum(1), torch.ones(400))
    torch.testing.assert_close(q.sum(0), torch.full((4,), 100.0), rtol=1e-3, atol=0)
    assert scores.softmax(1).argmax(1).eq(0).all()


def test_sinkhorn_of_half_precision_does_not_overflow():
    scores = (torch.rand(8, 3) * 2 - 1).half()  # exp(1 / 0.005) is beyond float32, too
    q = sinkhorn(scores, 0.005)
    assert q.dtype == torch.float32
    torch.testing.assert_close(q.sum(1), torch.ones(8))
    assert (q.sum(0) > 1).all(), "a prototype got less than half of its share"


def test_sharpen_and_centre_by_hand():
    p = torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.2, 0.8]])
    want = torch.tensor([[4 / 6, 1 / 6, 1 / 6], [0.0, 1 / 17, 16 / 17]])
    torch.testing.assert_close(sharpen(p, 0.5), want)
    scores, centre = torch.tensor([[0.3, 0.1]]), torch.tensor([0.2, -0.1])
    odds = math.exp((0.1 - 0.2) / 0.05)
    torch.testing.assert_close(
        centre_softmax(scores, centre, 0.05), torch.tensor([[odds, 1.0]]) / (1 + odds), rtol=1e-5, atol=0
    )


def test_prototypes_are_cosines_and_a_closed_gate_holds_them():
    head, rows = Prototypes(3, 4), torch.randn(5, 3, requires_grad=True)
    with torch.no_grad():
        head.weight *= torch.tensor([[1.0], [10.0], [0.1], [1.0]])
    want = torch.stack(
        [torch.stack([torch.cosine_similarity(row, weight, 0) for weight in head.weight]) for row in rows]
    )
    gradients = []
    for gate in (1.0, torch.tensor(0.25), 0.0):
        scores = head(rows, gate)
        torch.testing.assert_close(scores, want)
        gradients.append(torch.autograd.grad(scores.square().sum(), (head.weight, rows)))
    expected = torch.autograd.grad(want.square().sum(), (head.weight, rows))
    for share, (to_weight, to_rows) in zip((1, 0.25, 0), gradients, strict=True):
        torch.testing.assert_close(to_weight, share * expected[0])
        torch.testing.assert_close(to_rows, expected[1])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(rows), head(rows, 0.0))
        torch.testing.assert_close(head(rows), want)
