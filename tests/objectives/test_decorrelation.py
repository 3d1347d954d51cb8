"""Objectives that decorrelate, against lightly's losses: value and gradient in double precision, and what a
constant network gets."""

import pytest
import torch
from lightly.loss import VICRegLoss
from torch.autograd import grad
from zoo_backbones import backbone, build, images

from ssl_zoo.covariance import off_diagonal
from ssl_zoo.noise import free_noise, seed_noise
from ssl_zoo.objectives.vicreg import VICReg, vic
from ssl_zoo.views.recipes import dino_small


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    yield
    free_noise()


def projections(*shape: int) -> torch.Tensor:
    """Correlated and off centre, of deviations above 1 and below."""
    mixing = torch.randn(shape[-1], shape[-1], dtype=torch.float64) / shape[-1] ** 0.5
    return (torch.randn(shape, dtype=torch.float64) @ mixing + 0.3).requires_grad_()


def agree(ours: torch.Tensor, theirs: torch.Tensor, z: torch.Tensor) -> None:
    """Two losses of z have one value and one gradient."""
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(grad(ours, z)[0], grad(theirs, z)[0], rtol=1e-8, atol=1e-12)


def constant(objective):
    """The objective whose projections are the same for all samples."""
    with torch.no_grad():
        for layer in objective.project:
            if isinstance(layer, torch.nn.Linear):
                layer.weight.zero_()
    return objective


@pytest.mark.parametrize("shape", [(4, 7), (7, 4)])
def test_squares_off_the_diagonal_are_those_of_the_matrix(shape):
    a, b = projections(2, *shape)
    for one, other in ((a, b), (a, a)):
        matrix = one.T @ other
        want = sum(matrix[i, j] ** 2 for i in range(shape[1]) for j in range(shape[1]) if i != j)
        torch.testing.assert_close(off_diagonal(one, other), want, rtol=1e-11, atol=0)


# VICReg


@pytest.mark.parametrize("shape", [(12, 5), (6, 20)])
def test_vicreg_is_lightlys(shape):
    z = projections(2, *shape)
    invariance, variance, covariance = vic(*z)
    agree(25 * invariance + 25 * variance + covariance, VICRegLoss()(*z), z)
    assert variance > 0.01


def test_vicreg_weighs_its_terms_and_the_paper_does_not_halve():
    """Equation 6 with sums over both views and over dimensions, which the weights can express."""
    z = projections(2, 8, 4)
    objective = build(VICReg, backbone("vit"), out=4, invariance=1.0 * 4, variance=2.0 * 2, covariance=3.0)
    objective.embed_all = lambda batch: z
    want = (z[0] - z[1]).square().sum(1).mean()
    for one in z:
        cov = torch.cov(one.T)
        want = want + 2 * (1 - (cov.diagonal() + 1e-4).sqrt()).clamp_min(0).sum() / 4
        want = want + 3 * (cov.square().sum() - cov.diagonal().square().sum()) / 4
    agree(objective(images()).value, want, z)


def test_vicreg_of_a_constant_network():
    objective = constant(VICReg(backbone("cnn"), width=24, out=8))
    loss = objective(images())
    assert loss.value.item() == pytest.approx(24.75)
    assert objective.chance(4) == pytest.approx(24.75)
    assert loss.parts["variance"].item() == pytest.approx(0.99)


# What they share


@pytest.mark.parametrize("cls", [VICReg])
def test_samples_and_views_are_needed(cls):
    with pytest.raises(ValueError, match=r"compares two views of one size, not groups of \(2, 4\)"):
        build(cls, backbone("vit"), views=dino_small(32, 16))
    with pytest.raises(ValueError, match=f"{cls.__name__} compares samples, and here is one alone"):
        build(cls, backbone("vit"))(images(rows=1))


@pytest.mark.parametrize("cls", [VICReg])
def test_projections_are_of_the_views_in_order(cls):
    """embed_all, against one pass of the network over the same views."""
    objective, batch = build(cls, backbone("vit")).eval(), images()
    seed_noise(0, 0)
    z = objective.embed_all(batch)
    seed_noise(0, 0)
    (x,) = objective.views(batch.x)
    each = [objective.project(objective.backbone(one).pooled) for one in x.chunk(len(z))]
    torch.testing.assert_close(z, torch.stack(each), rtol=1e-4, atol=1e-5)
