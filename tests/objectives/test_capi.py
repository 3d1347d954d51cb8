"""CAPI against lightly's loss and a slow second implementation, with the blocks that it sees.

Reference (capi): lightly's CAPILoss; own slow implementation of the whole, two steps
Peers (capi): the authors and lightly add 1e-8 to sums before they divide by them. In the authors' code
prototypes have norms that are learnt, from 1 on, where scores here are cosines; the momentum ends at 0.9999,
as schedules stop at 0.8 of a cosine, and here at 1; the patch embedding has 0.2 of the learning rate
"""

import math

import pytest
import torch
from lightly.loss import CAPILoss
from zoo_backbones import backbone, build, images

from ssl_zoo.assign import sinkhorn
from ssl_zoo.decoders import CrossPredictor
from ssl_zoo.noise import rand, seed_noise
from ssl_zoo.objectives._distilled import agreement
from ssl_zoo.objectives.capi import CAPI
from ssl_zoo.views.blocks import rolled_block


def test_the_loss_is_lightlys():
    teacher = 0.1 * torch.randn(6, 5, 4, dtype=torch.float64)
    student = torch.randn(6, 2, 4, dtype=torch.float64, requires_grad=True)
    at = torch.rand(6, 5).argsort(1)[:, :2]
    q = sinkhorn(teacher, 0.06).gather(1, at[..., None].expand(-1, -1, 4))
    pair = agreement(student, q, 0.12), CAPILoss()(teacher, student, at)
    torch.testing.assert_close(*pair, rtol=1e-6, atol=0)  # lightly adds 1e-8 to sums
    torch.testing.assert_close(
        *(torch.autograd.grad(loss, student)[0] for loss in pair), rtol=1e-5, atol=1e-9
    )


def test_each_place_is_balanced_by_itself():
    scores = torch.randn(6, 3, 4, dtype=torch.float64)
    apart = torch.stack([sinkhorn(scores[:, i], 0.3) for i in range(3)], 1)
    torch.testing.assert_close(sinkhorn(scores, 0.3), apart, rtol=1e-12, atol=0)
    valid = torch.tensor([1, 1, 0, 1, 0, 1], dtype=torch.bool)
    some = sinkhorn(scores, 0.3, valid=valid)
    torch.testing.assert_close(some[valid], sinkhorn(scores[valid], 0.3), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("grid", "count"), [((8, 8), 23), ((3, 5), 7), ((1, 6), 6)])
def test_a_block_is_a_rectangle_on_a_torus_and_no_cell_is_preferred(grid, count):
    at = rolled_block(torch.rand(6000, 3), grid, count)
    assert at.shape == (6000, count)
    assert all(len(set(row)) == count for row in at[:200].tolist())
    often = torch.bincount(at.flatten(), minlength=grid[0] * grid[1]) / 6000
    assert often.sub(count / len(often)).abs().max() < 0.05
    for row in at[:100].tolist():
        cells = {(cell // grid[1], cell % grid[1]) for cell in row}
        rows, columns = ({c[axis] for c in cells} for axis in (0, 1))
        left_out = len(rows) * len(columns) - count
        assert left_out < len(columns)  # but for what its last row lacks, all of the rectangle
    with pytest.raises(ValueError, match="cells, 0 cannot be taken"):
        rolled_block(torch.rand(2, 3), grid, 0)


def test_rows_of_the_predictor_do_not_see_each_other():
    predictor, x, code = CrossPredictor(8, 2, 2), torch.randn(3, 4, 8), torch.randn(3, 5, 8)
    torch.testing.assert_close(predictor(x, code)[:, 1:2], predictor(x[:, 1:2], code))
    with pytest.raises(ValueError, match="of width 8, 3 heads and depth 2 cannot be built: the heads divide"):
        CrossPredictor(8, 2, 3)


def balanced(scores: torch.Tensor) -> torch.Tensor:
    q = torch.exp((scores - scores.max()) / 0.06)
    for _ in range(3):
        q = q / q.sum(0)
        q = q / q.sum(1, keepdim=True)
    return q


def cross_entropy(q: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    return -(q * torch.log_softmax(scores / 0.12, -1)).sum()


def test_two_steps_are_the_equation():
    objective = build(CAPI, backbone("vit"), asked=0.3, momentum=0.4, warmup=0.5).train()
    weights = [p for p in objective.parameters() if p.requires_grad]
    optimizer, batch = torch.optim.SGD(weights, lr=0.1), images(rows=4)
    for step, t in enumerate((0.1, 0.8)):
        seed_noise(0, step)
        x = objective.view(batch.x)
        noise = rand(4, 19)
        seen = rolled_block(noise[:, :3], (4, 4), 6)
        tokens = objective.backbone.embed(x)
        with torch.no_grad():
            whole = objective.teacher[0](x).tokens
        whole = whole / whole.norm(dim=2, keepdim=True)
        scores = whole @ objective.cluster.weight.T + objective.cluster.bias
        q = torch.stack([balanced(scores[:, i].detach()) for i in range(16)], 1)
        own = sum(cross_entropy(q[b, i], scores[b, i]) for b in range(4) for i in range(16)) / 64
        patch = 0
        c = objective.compare.weight / objective.compare.weight.norm(dim=1, keepdim=True)
        for b in range(4):
            hidden = [i for i in range(16) if i not in seen[b].tolist()]
            asked = sorted(hidden, key=lambda i: noise[b, 3 + i].item())[:3]  # 0.3 of 10
            code = objective.backbone.encode(tokens[b, seen[b]][None], seen[b][None]).tokens
            read = objective.widen(code) + objective.position[seen[b]]
            for i in asked:
                row = objective.predict((objective.blank + objective.position[i])[None, None], read)[0, 0]
                patch = patch + cross_entropy(q[b, i], row / row.norm() @ c.T) / 12
        wanted = torch.autograd.grad(own + patch, weights)
        seed_noise(0, step)
        optimizer.zero_grad()
        loss = objective(batch)
        torch.testing.assert_close(loss.value, own + patch, rtol=1e-5, atol=1e-5)
        loss.value.backward()
        for weight, gradient in zip(weights, wanted, strict=True):
            torch.testing.assert_close(weight.grad, gradient, rtol=2e-3, atol=1e-5)
        optimizer.step()
        before = [p.clone() for p in objective.teacher.parameters()]
        objective.advance(t)
        m = max(1 - 0.6 * min(t / 0.5, 1), 1 - 0.6 * (math.cos(math.pi * t) + 1) / 2)
        for old, new, mine in zip(
            before, objective.backbone.parameters(), objective.teacher.parameters(), strict=True
        ):
            torch.testing.assert_close(mine, m * old + (1 - m) * new)


def test_chance_is_the_loss_where_all_is_alike():
    objective = build(CAPI, backbone("vit")).train()
    with torch.no_grad():
        for weight in (objective.compare.weight, objective.cluster.weight):
            weight.copy_(weight[:1].expand_as(weight))
    assert objective(images()).value.item() == pytest.approx(objective.chance(4), rel=1e-5)
    assert objective.chance(4) == pytest.approx(2 * math.log(12))


def test_clusters_have_a_learning_rate_and_a_decay_of_their_own():
    objective = build(CAPI, backbone("vit"))
    tunes = {name: objective.tune(name, weight) for name, weight in objective.named_parameters()}
    assert (tunes["cluster.weight"].lr, tunes["cluster.weight"].decay) == (0.5, 0.01)
    assert (tunes["cluster.bias"].lr, tunes["compare.weight"].lr) == (0.5, 1.0)


@pytest.mark.parametrize("wrong", [{"masked": 0.01}, {"masked": 1.0}, {"asked": 0.0}])
def test_shares_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r"of 16 \(some, not all\), asked=.* is in \(0, 1\]"):
        build(CAPI, backbone("vit"), **wrong)
