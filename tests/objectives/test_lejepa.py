"""LeJEPA against lightly on projections of one number, where every direction is +1 or -1, and by hand.

Reference: lightly's `SIGReg` and `LeJEPALoss` on projections of one number, where every direction is 1 or
-1; complex numbers by hand.
Peers: no difference found; lightly's knots are of single precision.
"""

import cmath
import math

import pytest
import torch
from lightly.loss.lejepa_loss import LeJEPALoss
from lightly.loss.lejepa_loss import SIGReg as Theirs
from zoo_backbones import backbone, build, images

from ssl_zoo.noise import directions, free_noise, seed_noise
from ssl_zoo.normality import sigreg
from ssl_zoo.objectives.lejepa import LeJEPA, invariance
from ssl_zoo.views.recipes import lejepa_small, simclr_small
from ssl_zoo.views.view import View, Views


def by_hand(z: list, along: list) -> float:
    """The statistic with complex numbers, one view, direction, knot and row at a time."""
    total = 0.0
    for view in z:
        for a in along:
            for k in range(17):
                t = 3 * k / 16
                found = sum(
                    cmath.exp(1j * t * sum(x * y for x, y in zip(a, row, strict=True))) for row in view
                )
                error = abs(found / len(view) - math.exp(-t * t / 2)) ** 2
                width = 3 / 16 if k in (0, 16) else 6 / 16
                total += len(view) * error * math.exp(-t * t / 2) * width
    return total / len(z) / len(along)


def test_the_statistic_is_the_sum_over_rows_knots_and_directions():
    z = 1.3 * torch.randn(2, 7, 5, dtype=torch.float64)
    along = directions(3, 5).double()
    torch.testing.assert_close(along.norm(dim=1), torch.ones(3).double())
    assert sigreg(z, along).item() == pytest.approx(by_hand(z.tolist(), along.tolist()), rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: sigreg(x, along), z.requires_grad_())


def test_on_projections_of_one_number_it_is_lightlys():
    local, large = (torch.randn(v, 9, 1, dtype=torch.float64, requires_grad=True) for v in (3, 2))
    z, along = torch.cat([large, local]), directions(6, 1).double()
    pairs = [
        (sigreg(z, along), Theirs(num_vectors=4).double()(z)),
        (
            0.95 * invariance(z, 2) + 0.05 * sigreg(z, along),
            LeJEPALoss().double()(local_proj=local, global_proj=large),
        ),
    ]
    for ours, theirs in pairs:  # lightly's knots are in float32
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
        gradients = [torch.autograd.grad(loss, (local, large), retain_graph=True) for loss in (ours, theirs)]
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)


def test_normal_projections_have_the_expected_value_and_others_a_larger_one():
    along = directions(64, 8)
    normal = torch.randn(100, 200, 8)
    assert sigreg(normal, along).item() == pytest.approx(1.052, rel=0.05)
    for far in (2 * normal, normal + 1, normal[..., :1].expand_as(normal), normal.sign() * 3):
        assert sigreg(far, along).item() > 5
    assert sigreg(torch.zeros(1, 50, 8), along).item() == pytest.approx(0.402 * 50, rel=2e-3)


def test_half_precision_is_computed_in_float32():
    z, along = torch.randn(1, 40, 8).bfloat16(), directions(16, 8)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(sigreg(z, along), sigreg(z.float(), along), rtol=1e-6, atol=0)


def test_directions_are_new_in_each_step_and_those_of_all_parts():
    def drawn(step: int, part: int) -> torch.Tensor:
        seed_noise(0, step, part, 2)
        return directions(300, 3)

    assert drawn(0, 0).equal(drawn(0, 1))
    assert not drawn(0, 0).equal(drawn(1, 0))
    free_noise()
    many = directions(20_000, 3)
    torch.testing.assert_close(many.T @ many / len(many), torch.eye(3) / 3, rtol=0, atol=0.01)


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_the_objective_is_its_equation(kind):
    crops = Views(View(32), View(32, solarize=0.5), *[View(16)] * 2)
    objective, batch = build(LeJEPA, backbone(kind), views=crops).train(), images()
    seed_noise(0, 0)
    loss = objective(batch)
    seed_noise(0, 0)
    large, small = crops(batch.x)
    along = directions(16, 8)
    features = torch.cat([objective.backbone(x).pooled for x in (large, small)])
    z = objective.project(features).view(4, 4, 8).tolist()
    mean = [[(z[0][i][d] + z[1][i][d]) / 2 for d in range(8)] for i in range(4)]
    apart = sum((z[v][i][d] - mean[i][d]) ** 2 for v in range(4) for i in range(4) for d in range(8)) / 128
    want = 0.95 * apart + 0.05 * by_hand(z, along.tolist())
    assert loss.value.item() == pytest.approx(want, rel=1e-4)
    assert loss.parts["invariance"].item() == pytest.approx(apart, rel=1e-4)


def test_loss_of_what_learns_nothing():
    objective = build(LeJEPA, backbone("cnn"), views=lejepa_small(32, 16))
    with torch.no_grad():
        objective.project[-1].weight.zero_()
        objective.project[-1].bias.zero_()
    assert objective(images()).value.item() == pytest.approx(objective.chance(4), rel=1e-6)
    assert objective.chance(100) == pytest.approx(0.05 * 40.2, rel=2e-3)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"views": simclr_small(32)}, "its views are a single crop"),
        ({"weight": 1.5}, "weight is in .0, 1. and slices are 1 or more, not 1.5"),
        ({"slices": 0}, "slices are 1 or more, not 0.05 and 0"),
    ],
)
def test_what_cannot_be_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        build(LeJEPA, backbone("vit"), **wrong)


def test_crops_are_of_the_papers_sizes_or_whole_patches():
    sizes = {kind: build(LeJEPA, backbone(kind)).views.each[-1].size for kind in ("cnn", "vit")}
    assert sizes == {"cnn": (14, 14), "vit": (16, 16)}
