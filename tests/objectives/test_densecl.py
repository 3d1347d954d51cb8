"""DenseCL against lightly's matching of cells, and a plain second implementation with plain queues.

Reference: lightly's `select_most_similar` for the match of cells; equations 1 to 3 over four steps, cell by
cell, with lists for queues.
Peers: the authors' code starts with queues of random rows.
"""

import math

import pytest
import torch
from lightly.models.utils import select_most_similar
from torch.autograd import grad
from zoo_backbones import backbone, build, images

from ssl_zoo.noise import seed_noise
from ssl_zoo.objectives.densecl import DenseCL, most_alike
from ssl_zoo.tokens import take


def test_cells_are_matched_as_lightly_does():
    cells, others, values = torch.randn(3, 2, 5, 4, dtype=torch.float64).unbind(0)
    ours = take(values, most_alike(cells, others))
    torch.testing.assert_close(ours, select_most_similar(cells, others, values))
    assert torch.equal(most_alike(cells, 7 * cells), torch.arange(5).expand(2, 5))


def unit(row: torch.Tensor) -> torch.Tensor:
    return row / row.norm()


def cross_entropy(q: torch.Tensor, k: torch.Tensor, queue: list[torch.Tensor]) -> torch.Tensor:
    logits = torch.stack([q @ k, *(q @ other for other in queue)]) / 0.2
    return logits.logsumexp(0) - logits[0]


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_four_steps_are_the_equation(kind):
    side = {} if kind == "vit" else {"image_size": 48}  # so that a CNN has more than one cell
    objective = build(DenseCL, backbone(kind, **side), dense=0.3).train()
    batch, keys, means = images(rows=3), [], []
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.05)
    for step in range(4):
        seed_noise(0, step)
        loss = objective(batch)
        seed_noise(0, step)
        first, second = objective.views(batch.x)[0].chunk(2)
        slow, project, project_cells = objective.teacher
        seen, other = objective.backbone(first), slow(second)
        want = torch.zeros(())
        new = []
        for i in range(3):
            q, k = unit(objective.project(seen.pooled)[i]), unit(project(other.pooled)[i].detach())
            want = want + 0.7 * cross_entropy(q, k, keys[-10:]) / 3
            cells = project_cells(other.tokens[i]).detach()
            for n, cell in enumerate(seen.tokens[i]):
                alike = [torch.cosine_similarity(cell, one, 0).item() for one in other.tokens[i]]
                match = unit(cells[alike.index(max(alike))])
                q_cell = unit(objective.project_cells(seen.tokens[i, n]))
                want = want + 0.3 * cross_entropy(q_cell, match, means[-10:]) / (3 * len(cells))
            new.append((k, unit(cells.mean(0))))
        assert len(cells) > 1
        torch.testing.assert_close(loss.value, want, rtol=1e-5, atol=1e-5)
        if step:
            weights = [w for w in objective.parameters() if w.requires_grad]
            for a, b in zip(grad(loss.value, weights, retain_graph=True), grad(want, weights), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
        keys += [k for k, _ in new]
        means += [mean for _, mean in new]
        objective.advance((step + 1) / 4)
    for queue, kept in ((objective.queue, keys), (objective.cell_queue, means)):
        oldest = torch.roll(queue.rows, -int(queue.at), 0)
        torch.testing.assert_close(oldest, torch.stack(kept[-10:]), rtol=1e-5, atol=1e-6)


def test_loss_of_features_that_are_all_alike():
    objective = build(DenseCL, backbone("vit"), dense=0.5).train()
    for head in (objective.project, objective.project_cells, *list(objective.teacher)[1:]):
        with torch.no_grad():
            head[-1].weight.zero_()
            head[-1].bias.fill_(1.0)
    for step in range(4):
        loss = objective(images()).value.item()
        objective.queue.flush()
        objective.cell_queue.flush()
        assert loss == pytest.approx(math.log(1 + min(4 * step, 10)), rel=1e-5)
    assert objective.chance(4) == pytest.approx(loss, rel=1e-5)


def test_arguments_that_cannot_be_are_refused():
    for wrong in ({"temperature": 0}, {"dense": 1.5}):
        with pytest.raises(ValueError, match=r"temperature is positive and dense in \[0, 1\]"):
            build(DenseCL, backbone("vit"), **wrong)
    with pytest.raises(ValueError, match="a queue holds at least one row"):
        build(DenseCL, backbone("vit"), queue=0)
