"""DCL and DCLW against lightly's, in double precision, and against a plain double loop.

Reference: lightly's `DCLLoss` and `DCLWLoss`, value and gradient, 1e-10; equation 6 in plain numbers.
Peers: no difference found.
"""

import math

import pytest
import torch
from lightly.loss import DCLLoss, DCLWLoss
from torch.autograd import grad
from zoo_backbones import backbone, build, images

from ssl_zoo.contrast import nt_xent
from ssl_zoo.noise import seed_noise
from ssl_zoo.objectives.dcl import DCL, decoupled, pair_weights
from ssl_zoo.views.recipes import dino_small


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")  # lightly's weights
@pytest.mark.parametrize("sigma", [None, 0.5, 0.1])
def test_the_loss_is_lightlys(sigma):
    z = torch.randn(10, 4, dtype=torch.float64, requires_grad=True)
    theirs = DCLLoss(0.2) if sigma is None else DCLWLoss(0.2, sigma)
    pair = [decoupled(z, 0.2, sigma)[0], theirs(*z.chunk(2))]
    torch.testing.assert_close(*pair, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(*(grad(loss, z)[0] for loss in pair), rtol=1e-10, atol=1e-12)


def test_the_loss_view_by_view():
    """Equation 6 in plain numbers: 2 N - 2 negatives, and weights over the samples."""
    z = torch.nn.functional.normalize(torch.randn(6, 3, dtype=torch.float64), dim=1)
    cosine = (z @ z.T).tolist()
    odds = [math.exp(cosine[i][(i + 3) % 6] / 0.5) for i in range(6)]
    want, hits = 0.0, 0
    for i in range(6):
        pair = (i + 3) % 6
        weight = 2 - odds[i] / (sum(odds) / 6)
        others = [math.exp(cosine[i][k] / 0.3) for k in range(6) if k not in (i, pair)]
        want += (-weight * cosine[i][pair] / 0.3 + math.log(sum(others))) / 6
        hits += all(cosine[i][pair] >= cosine[i][k] for k in range(6) if k != i)
    loss, found = decoupled(z, 0.3, 0.5)
    assert loss.item() == pytest.approx(want, rel=1e-12)
    assert found.item() == pytest.approx(hits / 6)


def test_pairs_that_lie_apart_weigh_more():
    weights = pair_weights(torch.tensor([0.9, 0.1, 0.5]), 0.5)
    assert weights.mean().item() == pytest.approx(1, rel=1e-6)
    assert weights[1] > weights[2] > weights[0]
    assert pair_weights(torch.full((4,), 0.3), 0.01).tolist() == pytest.approx([1] * 4, rel=1e-5)
    assert pair_weights(torch.tensor([-1.0, 1.0]), 1e-3).isfinite().all()


def test_loss_of_features_that_are_all_alike():
    objective = build(DCL, backbone("vit"))
    for sigma in (None, 0.5):
        same = torch.ones(8, 3, dtype=torch.float64)
        assert decoupled(same, 0.1, sigma)[0].item() == pytest.approx(objective.chance(4), rel=1e-12)
    assert objective.chance(4) == pytest.approx(math.log(6))


def test_found_pairs_keep_their_gradient():
    """What DCL is for: where a pair is nearly found, NT-Xent hardly pulls at it, and DCL does as before."""
    z = torch.eye(4).repeat(2, 1) + 0.1 * torch.randn(8, 4)
    z.requires_grad_()
    pulls = [grad(loss(z, 0.1)[0], z)[0].norm() for loss in (nt_xent, decoupled)]
    assert pulls[1] > 100 * pulls[0]


def test_the_objective_is_the_loss_of_its_projections():
    objective, batch = build(DCL, backbone("cnn")).train(), images()
    seed_noise(0, 0)
    value = objective(batch).value
    seed_noise(0, 0)
    (x,) = objective.views(batch.x)
    z = objective.project(objective.backbone(x).pooled)
    torch.testing.assert_close(value, decoupled(z, objective.temperature, objective.sigma)[0])


def test_arguments_that_cannot_be_are_refused():
    for wrong in ({"temperature": 0}, {"sigma": -1.0}):
        with pytest.raises(ValueError, match="temperature and sigma must be positive"):
            build(DCL, backbone("vit"), **wrong)
    with pytest.raises(ValueError, match="compares two views"):
        build(DCL, backbone("vit"), views=dino_small(32, 16))
    with pytest.raises(ValueError, match="here is one alone"):
        build(DCL, backbone("vit"))(images(rows=1))
