"""DeepCluster v2 and its k-means against plain second implementations, over several steps.

Reference: plain k-means and a plain loop over several steps.
Peers: the authors' code clusters all rows before the first epoch; here an image that has not been seen
follows the cluster of its present projection.
"""

import math

import pytest
import torch
from zoo_backbones import backbone, build, images

from ssl_zoo.kmeans import Centroids, spherical_kmeans
from ssl_zoo.memory import Memory
from ssl_zoo.noise import rand_shared, seed_noise
from ssl_zoo.objectives.deepcluster import DeepCluster
from ssl_zoo.views.recipes import simclr_small
from ssl_zoo.views.view import View, Views

CROPS = Views(View(32), View(32, solarize=0.5), View(16))


def unit(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def kmeans(rows: list[torch.Tensor], order: list[float], count: int, rounds: int = 10) -> torch.Tensor:
    """One row at a time."""
    ranked = [row for _, row in sorted(zip(order, rows, strict=True), key=lambda pair: pair[0])]
    centroids = [ranked[i % len(ranked)] for i in range(count)]
    for _ in range(rounds):
        members: list[list[torch.Tensor]] = [[] for _ in centroids]
        for row in rows:
            members[max(range(count), key=lambda k: float(row @ centroids[k]))].append(row)
        for k, group in enumerate(members):
            if group:
                mean = torch.stack(group).sum(0)
                centroids[k] = mean / mean.norm()
    return torch.stack(centroids)


@pytest.mark.parametrize("count", [3, 12], ids=["fewer centroids than rows", "more"])
def test_kmeans_of_the_rows_that_there_are(count):
    rows, filled, order = unit(30, 4), torch.rand(30) < 0.3, torch.rand(30, dtype=torch.float64)
    ours = spherical_kmeans(rows, filled, order, count)
    theirs = kmeans(list(rows[filled]), order[filled].tolist(), count)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_kmeans_finds_clusters():
    centres = torch.eye(5, dtype=torch.float64)[:3]
    rows = torch.nn.functional.normalize(centres.repeat(20, 1) + 0.05 * unit(60, 5), dim=1)
    order = torch.linspace(0, 0.9, 60)  # the first rows are of three clusters
    found = spherical_kmeans(rows, torch.ones(60, dtype=torch.bool), order, 3)
    assert (found @ centres.T).amax(0).min() > 0.999


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_steps_are_those_of_a_plain_loop(kind):
    objective = build(DeepCluster, backbone(kind), views=CROPS).double().train()
    for view in CROPS.each:
        view.register_forward_hook(lambda *seen: seen[-1].double())
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.3)
    memory: dict[int, torch.Tensor] = {}  # number of a row -> (2, D)
    centroids = objective.centroids.value.clone()
    for step, index in enumerate(([0, 5, 2, 9], [5, 11, 3, 0], [0, 1, 2, 3])):
        batch = images()._replace(index=torch.tensor(index))
        seed_noise(0, step)
        optimizer.zero_grad()
        loss = objective(batch)
        loss.value.backward()
        seed_noise(0, step)
        crops = CROPS(batch.x)
        z = objective.project(torch.cat([objective.backbone(x).pooled for x in crops]))
        z = (z / z.norm(dim=1, keepdim=True)).view(3, 4, 8)
        now = {number: z[:2, i].detach() for i, number in enumerate(index)}
        terms = []
        for h in range(3):
            for i, number in enumerate(index):
                held = memory.get(number, now[number])[h % 2]
                cluster = max(range(5), key=lambda k: float(held @ centroids[h, k]))
                terms += [-(centroids[h] @ row / 0.1).log_softmax(0)[cluster] for row in z[:, i]]
        want = torch.stack(terms).mean()
        assert loss.value.item() == pytest.approx(want.item(), rel=1e-9)
        parameters = [p for p in objective.parameters() if p.requires_grad]
        for p, theirs in zip(parameters, torch.autograd.grad(want, parameters), strict=True):
            torch.testing.assert_close(p.grad, theirs, rtol=1e-6, atol=1e-12)
        optimizer.step()
        objective.advance((step + 1) / 3)
        memory |= now
        if step % 2 == 0:
            seed_noise(0, step)
            CROPS(batch.x)  # the same draws as before
            order = rand_shared(3, 12).double()
            rows = sorted(memory)
            centroids = torch.stack(
                [kmeans([memory[r][h % 2] for r in rows], order[h, rows].tolist(), 5) for h in range(3)]
            )
        torch.testing.assert_close(objective.centroids.value, centroids, rtol=1e-6, atol=1e-9)


def test_centroids_are_made_at_their_steps_also_after_a_restart():
    memory = Memory(6, 1, 4)
    memory.stash(torch.arange(6), unit(6, 1, 4).float())
    memory.flush()
    made, centroids, before = [], Centroids(2, 3, 4, every=3), None
    for step in range(8):
        if step == 4:
            saved, centroids = centroids.state_dict(), Centroids(2, 3, 4, every=3)
            centroids.load_state_dict(saved)
        before = centroids.value.clone()
        seed_noise(0, step)
        centroids.step(memory)
        made.append(not centroids.value.equal(before))
    assert made == [True, False, False, True, False, False, True, False]
    assert centroids.steps == 8


def test_rows_of_other_data_are_not_looked_up():
    objective = build(DeepCluster, backbone("cnn"), views=CROPS).eval()
    before = {name: x.clone() for name, x in objective.state_dict().items()}
    value = objective(images()._replace(index=torch.tensor([100, 200, 300, 400]))).value
    assert value.isfinite()
    objective.advance(0.0)
    assert all(x.equal(before[name]) for name, x in objective.state_dict().items() if "memory" in name)
    with pytest.raises(ValueError, match=r"a sample has the number 400, and the objective remembers 12 rows"):
        objective.train()(images()._replace(index=torch.tensor([0, 1, 2, 400])))


def test_loss_of_what_learns_nothing():
    objective = build(DeepCluster, backbone("cnn"), views=CROPS).train()
    with torch.no_grad():
        objective.project[-1].weight.zero_()
        objective.project[-1].bias.fill_(1.0)
    batch = images()._replace(index=torch.arange(4))
    objective(batch)
    objective.advance(0.1)
    loss = objective(batch)
    assert loss.value.item() == pytest.approx(objective.chance(4), rel=1e-5)
    assert objective.chance(4) == pytest.approx(math.log(5))
    assert loss.parts["clusters_used"].item() == pytest.approx(1 / 5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"views": simclr_small(32)},
            "DeepCluster compares crops of one image, and its views are a single crop",
        ),
        ({"temperature": 0.0}, "temperature must be positive, not 0.0"),
        ({"every": 0}, "3 sets of 5 centroids, made every 0 steps, cannot be"),
        ({"rows": 0}, "a memory of the data's rows holds at least one, not 0"),
    ],
)
def test_what_cannot_be_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        build(DeepCluster, backbone("vit"), **wrong)
