"""SupCon against a slow double loop, and against NT-Xent where no two images share a label.

Reference: a double loop over equation 2, value and gradient, 1e-10; NT-Xent where labels differ.
Peers: the authors' code multiplies the loss by T / 0.07.
"""

import math

import pytest
import torch
from torch.autograd import grad
from zoo_backbones import backbone, build, images

from ssl_zoo.contrast import nt_xent
from ssl_zoo.noise import seed_noise
from ssl_zoo.objectives.supcon import SupCon, supervised_contrast


def by_hand(z: torch.Tensor, y: list[int], temperature: float) -> torch.Tensor:
    """Equation 2, view by view: (2 N, D), N labels of which -1 is none."""
    labels, terms = [*y, *y], []
    for i in range(len(z)):
        cosine = [z[i] @ z[k] / (z[i].norm() * z[k].norm()) / temperature for k in range(len(z))]
        total = sum(torch.exp(c) for k, c in enumerate(cosine) if k != i)
        twin = (i + len(y)) % len(z)
        positives = [twin, *(p for p in range(len(z)) if p not in (i, twin) and labels[p] == labels[i] >= 0)]
        terms.append(sum(-torch.log(torch.exp(cosine[p]) / total) for p in positives) / len(positives))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("y", [[0, 1, 0, 2, 0], [1, 1, 1, 1, 1], [0, -1, 0, -1, 2], [-1] * 5])
def test_the_loss_is_the_double_loop(y):
    z = torch.randn(10, 4, dtype=torch.float64, requires_grad=True)
    pair = [supervised_contrast(z, torch.tensor(y), 0.2)[0], by_hand(z, y, 0.2)]
    torch.testing.assert_close(*pair, rtol=1e-12, atol=0)
    torch.testing.assert_close(*(grad(loss, z)[0] for loss in pair), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("y", [[4, 0, 3, 1, 2], [-1] * 5])
def test_where_no_two_images_share_a_label_it_is_nt_xent(y):
    z = torch.randn(10, 4, dtype=torch.float64, requires_grad=True)
    ours, theirs = supervised_contrast(z, torch.tensor(y), 0.1), nt_xent(z, 0.1)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-12, atol=0)
    torch.testing.assert_close(grad(ours[0], z)[0], grad(theirs[0], z)[0], rtol=1e-10, atol=1e-14)


def test_loss_of_features_that_are_all_alike():
    same, y = torch.ones(8, 3, dtype=torch.float64), torch.tensor([0, 0, 1, -1])
    chance = build(SupCon, backbone("vit")).chance(4)
    assert supervised_contrast(same, y, 0.1)[0].item() == pytest.approx(chance, rel=1e-12)
    assert chance == pytest.approx(math.log(7))


def test_the_share_found_counts_the_class():
    z = torch.eye(4)[[0, 0, 1, 3, 2, 1]].double() + 1e-3 * torch.randn(6, 4, dtype=torch.float64)
    # The nearest of views 0 and 1 are each other, of 2 and 5 too (one image), of 3 and 4 something else.
    assert supervised_contrast(z, torch.tensor([7, 7, 1]), 0.1)[1].item() >= 4 / 6
    assert supervised_contrast(z, torch.tensor([7, 8, 1]), 0.1)[1].item() <= 4 / 6


def test_the_objective_is_the_loss_of_its_projections():
    objective, batch = build(SupCon, backbone("cnn")).train(), images()
    seed_noise(0, 0)
    value = objective(batch).value
    seed_noise(0, 0)
    (x,) = objective.views(batch.x)
    z = objective.project(objective.backbone(x).pooled)
    torch.testing.assert_close(
        value, by_hand(z, batch.y.tolist(), objective.temperature), rtol=1e-5, atol=1e-6
    )


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="temperature must be positive"):
        build(SupCon, backbone("vit"), temperature=0)
    objective, batch = build(SupCon, backbone("vit")), images()
    for y in (batch.y.float(), batch.y[:2]):
        with pytest.raises(ValueError, match="labels are 4 whole numbers"):
            objective(batch._replace(y=y))
    with pytest.raises(ValueError, match="learns from labels, and these rows have none"):
        objective(batch._replace(y=None))
