"""Objectives that decorrelate, against lightly's losses: value and gradient in double precision, and what a
constant network gets.

Reference (vicreg): lightly's `VICRegLoss`, and equation 6 written out.
Peers (vicreg): the authors' code and lightly halve the variance sum of equation 6, and not the covariances';
solo-learn does not halve, so that its weight of 25 is 50 here.

Reference (barlow_twins): lightly's `BarlowTwinsLoss`.
Peers (barlow_twins): the authors' gradient is divided by the number of processes once too often
(barlowtwins #8), as lightly's was before 1.6.0; no difference in the loss.

Reference (simsiam): lightly's `NegativeCosineSimilarity` of both directions, and a loop over images.
Peers (simsiam): no difference found.

Reference (wmse): lightly's `WMSELoss` of one part, with two views and four; a loop over parts and pairs.
Peers (wmse): lightly draws its parts inside, from the rows of one process; here one order of the global
batch is drawn.

Reference (mmcr): lightly's `MMCRLoss` of normalised projections.
Peers (mmcr): lightly's class does not normalise, which the paper does; the authors' code gathers other
processes' projections without their gradient.
"""

import pytest
import torch
from lightly.loss import BarlowTwinsLoss, MMCRLoss, NegativeCosineSimilarity, VICRegLoss, WMSELoss
from torch.autograd import grad
from zoo_backbones import backbone, build, images

from ssl_zoo.covariance import off_diagonal
from ssl_zoo.noise import seed_noise
from ssl_zoo.objectives.barlow_twins import BarlowTwins, correlation
from ssl_zoo.objectives.mmcr import MMCR, extent, spread
from ssl_zoo.objectives.simsiam import SimSiam, similarity
from ssl_zoo.objectives.vicreg import VICReg, vic
from ssl_zoo.objectives.wmse import WMSE, distance, whitened
from ssl_zoo.optim import sgd
from ssl_zoo.views.recipes import dino_small, manifold, whitening


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


# Barlow Twins


@pytest.mark.parametrize("shape", [(12, 5), (6, 20)])
def test_barlow_twins_is_lightlys(shape):
    z = projections(2, *shape)
    alike, redundant, diagonal = correlation(*z)
    agree(alike + 0.0051 * redundant, BarlowTwinsLoss(lambda_param=0.0051)(*z), z)
    want = sum(torch.corrcoef(torch.stack([z[0, :, d], z[1, :, d]]))[0, 1] for d in range(shape[1]))
    assert diagonal.item() == pytest.approx(want.item() / shape[1], rel=1e-4)  # but for 1e-5 in the variance


def test_barlow_twins_scales_and_weighs():
    z = projections(2, 8, 4)
    objective = build(BarlowTwins, backbone("vit"), out=4, redundancy=0.3, scale=0.025)
    objective.embed_all = lambda batch: z
    agree(objective(images()).value, 0.025 * BarlowTwinsLoss(lambda_param=0.3)(*z), z)


def test_barlow_twins_of_a_constant_network():
    objective = constant(build(BarlowTwins, backbone("cnn"), scale=0.5))
    assert objective(images()).value.item() == objective.chance(4) == 0.5 * 8


def test_biases_and_norms_have_a_learning_rate_of_their_own():
    objective = build(BarlowTwins, backbone("vit"))
    rates = {id(p): group["lr"] for group in sgd(objective, lr=0.5).param_groups for p in group["params"]}
    for name, p in objective.named_parameters():
        assert rates[id(p)] == pytest.approx(0.012 if p.dim() == 1 else 0.5), name


# SimSiam


def test_simsiam_is_lightlys():
    p, z = projections(2, 12, 5)
    first, second = z.detach().chunk(2)
    peer = NegativeCosineSimilarity()
    agree(similarity(p, z.detach()), (peer(p[:6], second) + peer(p[6:], first)) / 2, p)


def test_simsiam_stops_the_gradient_of_its_targets():
    objective, batch = build(SimSiam, backbone("vit")).train(), images()
    seed_noise(0, 0)
    value = objective(batch).value
    seed_noise(0, 0)
    z = objective.embed(batch)
    p, fixed = objective.predict(z), z.detach().clone()
    want = torch.zeros(())
    for i in range(4):
        for one, other in ((i, i + 4), (i + 4, i)):
            want = want - p[one] @ fixed[other] / p[one].norm() / fixed[other].norm() / 8
    torch.testing.assert_close(value, want, rtol=1e-5, atol=1e-6)
    weights = [w for w in objective.parameters() if w.requires_grad]
    for a, b in zip(grad(value, weights), grad(want, weights), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_simsiams_predictor_keeps_its_learning_rate():
    objective = build(SimSiam, backbone("cnn"))
    still = {id(p) for g in sgd(objective).param_groups if g["constant"] for p in g["params"]}
    assert still == {id(p) for p in objective.predict.parameters()}


def test_simsiam_of_a_constant_network_is_at_its_least():
    objective = constant(build(SimSiam, backbone("vit")))
    z = torch.ones(4, 8)
    assert similarity(z, z).item() == pytest.approx(-1)
    assert objective.chance(4) is None
    assert objective(images()).parts["projection_std"].item() == 0


# W-MSE


def test_whitened_rows_have_mean_0_and_covariance_1():
    z = whitened(projections(2, 9, 4))
    torch.testing.assert_close(z.mean(1), torch.zeros(2, 4, dtype=torch.float64), rtol=0, atol=1e-12)
    for one in z:
        torch.testing.assert_close(torch.cov(one.T), torch.eye(4, dtype=torch.float64))


def test_rows_that_vary_in_too_few_dimensions_have_a_loss_of_nan_and_not_a_wrong_one():
    z = projections(20, 2, 16, 2) @ torch.randn(2, 8, dtype=torch.float64)  # 2 dimensions of 8
    for one in z:
        assert distance(one, 16, torch.arange(16)).isnan()
        assert distance(one, 16, torch.arange(16), eps=0.1).isfinite()


@pytest.mark.parametrize(("views", "eps"), [(2, 0.0), (4, 0.1)])
def test_wmse_is_lightlys(views, eps):
    """All samples in one part, as the peer draws its parts itself."""
    z = projections(views, 10, 4)
    order = torch.randperm(10)
    peer = WMSELoss(4, w_size=10, num_samples=views, eps=eps).double()
    agree(distance(z, 10, order, eps), peer(z.flatten(0, 1)), z)


def test_wmse_whitens_parts_of_a_permutation_alike_in_all_views():
    z = projections(3, 11, 2)
    order = torch.tensor(
        [3, 8, 1, 10, 0, 5, 9, 2, 7, 4, 6]
    )  # two parts of 5 where 4 are asked; 6 is left over
    terms = []
    for part in ([3, 8, 1, 10, 0], [5, 9, 2, 7, 4]):
        white = []
        for view in z:
            h = view[part] - view[part].mean(0)
            white.append((torch.linalg.inv(torch.linalg.cholesky(h.T @ h / 4)) @ h.T).T)
        for first in range(3):
            for second in range(first):
                for a, b in zip(white[first], white[second], strict=True):
                    terms.append((a / a.norm() - b / b.norm()).square().sum())
    agree(distance(z, 4, order), sum(terms) / len(terms), z)


def test_wmse_draws_its_parts_anew_and_for_all_processes(monkeypatch):
    objective, orders = build(WMSE, backbone("vit")), []
    monkeypatch.setattr(
        "ssl_zoo.objectives.wmse.distance", lambda h, size, order, eps: orders.append(order) or h.sum()
    )
    for step, (part, parts) in ((0, (0, 1)), (0, (0, 2)), (1, (0, 1))):
        seed_noise(0, step, part, parts)
        objective(images())
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert orders[2].sort().values.tolist() == [0, 1, 2, 3]


def test_wmse_says_what_it_cannot_whiten():
    with pytest.raises(ValueError, match=r"100 samples are too few .* size=128 or more, or out=50 or fewer"):
        WMSE(backbone("vit"), size=100)
    with pytest.raises(ValueError, match=r"4 samples cannot be whitened in 8 .* batch_size to 16"):
        build(WMSE, backbone("vit"), out=8, size=16, eps=0)(images())


# MMCR


@pytest.mark.parametrize("views", [2, 5])
def test_mmcr_is_lightlys_of_normalised_projections(views):
    """The peer's class takes the views of both networks, and normalises neither."""
    z = projections(views, 6, 4)
    unit = torch.nn.functional.normalize(z, dim=2).transpose(0, 1)  # (N, V, D)
    agree(0.1 * extent(z) - spread(z)[0], _mmcr_of_all(unit, 0.1), z)
    raw = _mmcr_of_all(z.transpose(0, 1), 0.1)
    assert abs(raw - (0.1 * extent(z) - spread(z)[0])) > 0.1


def _mmcr_of_all(z: torch.Tensor, weight: float) -> torch.Tensor:
    """lightly's loss of views (N, V, D), which takes those of two networks. The same ones twice have the same
    mean, and singular values sqrt(2) times as large."""
    return MMCRLoss(weight / 2**0.5)(z, z)


def test_mmcr_of_projections_alike_and_as_unlike_as_can_be():
    objective = build(MMCR, backbone("vit"), out=8, local=0.5, views=manifold(32, 3))
    same = torch.ones(3, 6, 8)
    assert (0.5 * extent(same) - spread(same)[0]).item() == pytest.approx(objective.chance(6), rel=1e-5)
    apart = torch.eye(8)[None, :6].expand(3, -1, -1)
    nuclear, length = spread(apart)
    assert nuclear.item() == pytest.approx(6.0)  # sqrt(N min(N, D))
    assert length.item() == pytest.approx(1)
    plain = MMCR(backbone("vit"), width=8, out=8)
    assert plain.chance(9) == -3
    assert len(plain.views.each) == 4


# What they share


@pytest.mark.parametrize("cls", [WMSE, MMCR])
def test_any_number_of_views_from_two(cls):
    with pytest.raises(ValueError, match=r"compares two or more views of one size, not groups of \(2, 4\)"):
        build(cls, backbone("vit"), views=dino_small(32, 16))
    for count in (2, 3):
        objective = build(cls, backbone("vit"), views=whitening(32, count))
        assert len(objective.embed_all(images())) == count


@pytest.mark.parametrize("cls", [VICReg, BarlowTwins])
def test_two_views_are_asked_for(cls):
    with pytest.raises(ValueError, match=r"compares two views of one size, not groups of \(2, 4\)"):
        build(cls, backbone("vit"), views=dino_small(32, 16))


@pytest.mark.parametrize("cls", [VICReg, BarlowTwins, MMCR, WMSE])
def test_one_sample_is_too_few(cls):
    with pytest.raises(ValueError, match=f"{cls.__name__} compares samples, and here is one alone"):
        build(cls, backbone("vit"))(images(rows=1))


@pytest.mark.parametrize("cls", [VICReg, BarlowTwins, MMCR])
def test_projections_are_of_the_views_in_order(cls):
    """embed_all, against one pass of the network over the same views."""
    objective, batch = build(cls, backbone("vit")).eval(), images()
    seed_noise(0, 0)
    z = objective.embed_all(batch)
    seed_noise(0, 0)
    (x,) = objective.views(batch.x)
    each = [objective.project(objective.backbone(one).pooled) for one in x.chunk(len(z))]
    torch.testing.assert_close(z, torch.stack(each), rtol=1e-4, atol=1e-5)
