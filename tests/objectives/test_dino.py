"""DINO against a slow second implementation: loss, gradient, centre and teacher over several steps.

Reference (dino): own slow implementation, three steps; lightly's DINOLoss (tests/objectives/test_ibot.py)
Peers (dino): no difference found.
"""

import copy
import math

import pytest
import torch
from torch import nn
from zoo_backbones import backbone, build, images

from ssl_zoo.noise import seed_noise
from ssl_zoo.objectives._distilled import distillation
from ssl_zoo.objectives.dino import DINO
from ssl_zoo.views.recipes import dino, dino_small
from ssl_zoo.views.view import View, Views


def by_hand(student: torch.Tensor, q: torch.Tensor, temperature: float) -> torch.Tensor:
    """The paper's loss, pair by pair and image by image: (V, B, K), (G, B, K)."""
    terms = []
    for g in range(len(q)):
        for v in range(len(student)):
            if v != g:
                for i in range(student.shape[1]):
                    odds = torch.exp(student[v, i] / temperature)
                    terms.append(-(q[g, i] * torch.log(odds / odds.sum())).sum())
    return sum(terms) / len(terms)


@pytest.mark.parametrize(("crops", "large"), [(2, 2), (5, 2), (3, 1)])
def test_the_loss_is_the_double_loop(crops, large):
    student = torch.randn(crops, 3, 4, dtype=torch.float64, requires_grad=True)
    q = torch.randn(large, 3, 4, dtype=torch.float64).softmax(2)
    ours, theirs = distillation(student.flatten(0, 1), q.flatten(0, 1), 3, 0.1), by_hand(student, q, 0.1)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    pairs = [torch.autograd.grad(loss, student)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*pairs, rtol=1e-9, atol=1e-12)


def test_loss_of_what_learns_nothing():
    """Equal scores give ln K; one prototype for all gives 0."""
    q = torch.full((4, 8), 1 / 8)
    assert distillation(torch.zeros(6, 8), q, 2, 0.1).item() == pytest.approx(math.log(8), rel=1e-6)
    one = torch.eye(8)[[3] * 6]
    assert distillation(one * 9, one[:4], 2, 0.1).item() == pytest.approx(0, abs=1e-6)


class Slow:
    """DINO with modules of its own, one crop of one image at a time (no batch norm sees more than that)."""

    def __init__(self, of: DINO):
        self.student = nn.ModuleList(copy.deepcopy([of.backbone, of.project]))
        self.weight = of.compare.weight.detach().clone().requires_grad_()
        self.teacher, self.teacher_weight = copy.deepcopy(self.student), self.weight.detach().clone()
        self.centre = torch.zeros(len(self.weight))

    def scores(self, modules: nn.ModuleList, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        rows = []
        for image in x:
            row = modules[1](modules[0](image[None]).pooled)[0]
            rows.append((row / row.norm()) @ (weight / weight.norm(dim=1, keepdim=True)).T)
        return torch.stack(rows)

    def step(self, crops: list[torch.Tensor], large: int, t_t: float, momentum: float, lr: float):
        """One step of SGD: the loss, and the gradient of the head's first layer."""
        student = torch.stack([self.scores(self.student, self.weight, x) for x in crops])
        with torch.no_grad():
            raw = torch.stack([self.scores(self.teacher, self.teacher_weight, x) for x in crops[:large]])
            odds = torch.exp((raw - self.centre) / t_t)
            q = odds / odds.sum(2, keepdim=True)
        loss = by_hand(student, q, 0.1)
        parameters = [*self.student.parameters(), self.weight]
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, g in zip(parameters, gradients, strict=True):
                p -= lr * g
            slow = [*self.teacher.parameters(), self.teacher_weight]
            for old, new in zip(slow, parameters, strict=True):
                old.copy_(momentum * old + (1 - momentum) * new)
            self.centre = 0.9 * self.centre + 0.1 * raw.mean((0, 1))
        return loss.item(), gradients


def test_three_steps_are_those_of_the_slow_implementation():
    crops = Views(View(32), View(32, solarize=0.5), *[View(16)] * 2)
    objective = build(DINO, backbone("vit"), views=crops, momentum=0.8, warmup=0.5, frozen=0.0).train()
    slow, batch = Slow(objective), images(rows=3)
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.5)
    for step, t in enumerate((0.25, 0.5, 1.0)):
        seed_noise(0, step)
        groups = crops(batch.x)
        assert [len(x) for x in groups] == [6, 6]
        seed_noise(0, step)
        optimizer.zero_grad()
        loss = objective(batch)
        loss.value.backward()
        optimizer.step()
        objective.advance(t)
        before = (0.0, 0.25, 0.5)[step]
        t_t = 0.04 + 0.03 * min(before / 0.5, 1)
        momentum = 1 - 0.2 * (math.cos(math.pi * t) + 1) / 2
        want, gradients = slow.step([x for g in groups for x in g.chunk(2)], 2, t_t, momentum, 0.5)
        assert loss.value.item() == pytest.approx(want, rel=1e-4)  # float32, after steps of SGD
        mine = [*objective.backbone.parameters(), *objective.project.parameters(), objective.compare.weight]
        for p, gradient in zip(mine, gradients, strict=True):
            torch.testing.assert_close(p.grad, gradient, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(objective.centre.value, slow.centre, rtol=1e-4, atol=1e-7)
    kept = [*slow.teacher.parameters(), slow.teacher_weight]
    for p, want in zip(objective.teacher.parameters(), kept, strict=True):
        torch.testing.assert_close(p, want, rtol=1e-4, atol=1e-6)
    assert (objective.centre.value.abs() > 1e-3).any()


def test_prototypes_stand_still_at_first():
    objective = build(DINO, backbone("cnn"), frozen=0.3).train()
    still = {}
    for t in (0.0, 0.29, 0.31):
        objective.advance(t)
        objective.zero_grad()
        objective(images()).value.backward()
        still[t] = not objective.compare.weight.grad.any()
        assert all(p.grad.any() for p in objective.project.parameters())
    assert still == {0.0: True, 0.29: True, 0.31: False}


def test_crops_are_of_the_papers_sizes_or_whole_patches():
    objective = build(DINO, backbone("cnn"))
    assert [view.size for view in objective.views.each] == [(32, 32)] * 2 + [(14, 14)] * 8
    vit = build(DINO, backbone("vit"))
    assert vit.views.each[2].size == (16, 16)
    with pytest.raises(ValueError, match="single crop"):
        build(DINO, backbone("vit"), views=Views(View(32)))
    with pytest.raises(ValueError, match="single crop"):
        build(DINO, backbone("vit"), views=View(32))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"temperature": 0.0}, r"temperature=0\.0 is one positive number"),
        ({"teacher_temperature": [0.04]}, r"teacher_temperature=\[0\.04\] are two"),
    ],
)
def test_temperatures_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        build(DINO, backbone("vit"), **wrong)


def test_heads_have_batch_norms_for_a_cnn_alone_and_the_teacher_is_exported():
    for kind, norms in (("cnn", 2), ("vit", 0)):
        objective = build(DINO, backbone(kind))
        assert sum("BatchNorm" in type(layer).__name__ for layer in objective.project) == norms
        assert objective.export() == {"backbone": objective.teacher[0]}


def test_parts_tell_collapse():
    """Where all prototypes are one, the teacher is as unsure as can be, and the student agrees."""
    objective = build(DINO, backbone("vit"), views=dino_small(32, 16))
    with torch.no_grad():
        objective.compare.weight.copy_(objective.compare.weight[:1].expand_as(objective.compare.weight))
        objective.teacher[2].weight.copy_(objective.compare.weight)
    parts = objective(images()).parts
    assert parts["teacher_entropy"].item() == pytest.approx(math.log(12), rel=1e-5)
    assert parts["divergence"].item() == pytest.approx(0, abs=1e-5)
    assert len(dino(32, 16, count=0).each) == 2


def test_the_head_starts_as_the_authors_does():
    for kind in ("cnn", "vit"):
        layers = [layer for layer in build(DINO, backbone(kind)).project if isinstance(layer, nn.Linear)]
        assert len(layers) == 3
        assert all(layer.weight.abs().max() < 0.1 for layer in layers)  # deviation 0.02
        assert not any(layer.bias.any() for layer in layers if layer.bias is not None)


def test_chance_is_the_loss_where_all_prototypes_are_alike():
    objective = build(DINO, backbone("vit"), views=dino_small(32, 16))
    with torch.no_grad():
        for compare in (objective.compare, objective.teacher[2]):
            compare.weight.copy_(compare.weight[:1].expand_as(compare.weight))
    assert objective(images()).value.item() == pytest.approx(objective.chance(4), rel=1e-5)
    assert objective.chance(4) == pytest.approx(math.log(12))


@pytest.mark.parametrize("crops", [dino_small(32, 16), Views(View(32), View(16))])
def test_pairs_of_crops_are_shown_with_the_teachers_cosines(crops):
    objective = build(DINO, backbone("vit"), views=crops).eval()
    shown = objective.show(images())
    slow, project, _ = objective.teacher
    rows = [project(slow(x).pooled) for x in (shown.first, shown.second)]
    for i in range(4):
        want = torch.cosine_similarity(rows[0][i], rows[1], dim=-1)
        torch.testing.assert_close(shown.similarity[i], want)
