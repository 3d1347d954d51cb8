"""EMP-SSL against lightly's loss with its sign mended, and against a plain second implementation.

Reference: lightly's `EMPSSLLoss` with the sign of its coding rate turned; an own version out of
eigenvalues.
Peers: lightly 1.6.0 adds the coding rate, so that one point scores more than 5 lower than spread rows (8
dimensions).
"""

import math

import numpy as np
import pytest
import torch
from lightly.loss import EMPSSLLoss
from zoo_backbones import backbone, build, images

from ssl_zoo.noise import seed_noise
from ssl_zoo.objectives.emp_ssl import EMPSSL, agreement, coding_rate
from ssl_zoo.views.recipes import dino_small, emp, simclr_small

PAPER = {"eps": 0.2, "invariance": 200.0}


def unit(*shape: int) -> torch.Tensor:
    rows = torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)
    return rows.requires_grad_()


@pytest.mark.parametrize("rows", [5, 16], ids=["fewer rows than columns", "more"])
def test_the_loss_is_lightlys_with_the_rate_turned_round(rows):
    z = unit(3, rows, 8)
    theirs = EMPSSLLoss(tcr_eps=0.2, inv_coef=200)(list(z))
    ours = coding_rate(z, 0.2) - 200 * agreement(
        z
    )  # lightly adds the rate, where paper and code take it away
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    pair = [torch.autograd.grad(loss, z)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*pair, rtol=1e-9, atol=1e-10)


def test_lightlys_loss_prefers_collapse_and_ours_does_not():
    spread, point = torch.eye(8, dtype=torch.float64)[None].expand(3, 8, 8), torch.zeros(3, 8, 8)
    point[..., 0] = 1
    theirs = [EMPSSLLoss()(list(z)).item() for z in (spread, point)]
    assert theirs[1] < theirs[0] - 5  # all rows at one point are better
    ours = [-coding_rate(z, 0.2) - 200 * agreement(z) for z in (spread, point)]
    assert ours[0] < ours[1] - 5


def by_hand(z: list) -> float:
    """The loss from the eigenvalues of each patch's matrix, and cosines one by one: lists (V, N, D)."""
    rates, cosines = [], []
    for patch in np.array(z):
        values = np.linalg.eigvalsh(patch.T @ patch)
        rates.append(sum(math.log(1 + len(values) / (len(patch) * 0.2) * max(v, 0)) for v in values) / 2)
    for image in np.array(z).transpose(1, 0, 2):
        mean = image.mean(0)
        cosines += [row @ mean / np.linalg.norm(row) / np.linalg.norm(mean) for row in image]
    return -sum(rates) / len(rates) - 200 * sum(cosines) / len(cosines)


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_the_objective_is_its_equation(kind):
    objective = build(EMPSSL, backbone(kind), views=emp(16, 5), **PAPER).double().train()
    for view in objective.views.each:
        view.register_forward_hook(lambda *seen: seen[-1].double())
    batch = images()
    seed_noise(0, 0)
    loss = objective(batch)
    seed_noise(0, 0)
    (x,) = objective.views(batch.x)
    assert x.shape == (20, 3, 16, 16)
    rows = objective.project(objective.backbone(x).pooled)
    rows = (rows / rows.norm(dim=1, keepdim=True)).view(5, 4, 8)
    assert loss.value.item() == pytest.approx(by_hand(rows.tolist()), rel=1e-9)
    assert loss.value.item() == pytest.approx(
        -loss.parts["coding_rate"].item() - 200 * loss.parts["cosine"].item(), rel=1e-9
    )


def test_loss_of_what_learns_nothing():
    objective = build(EMPSSL, backbone("cnn"), views=emp(16, 2), **PAPER)
    with torch.no_grad():
        objective.project[-1].weight.zero_()
    assert objective(images()).value.item() == pytest.approx(objective.chance(4), rel=1e-6)
    assert objective.chance(4) == pytest.approx(-math.log(1 + 8 / 0.2) / 2 - 200)


def test_patches_are_squares_of_a_quarter_of_the_image():
    objective = build(EMPSSL, backbone("cnn"))
    assert len(objective.views.each) == 20
    grid = torch.arange(32.0).expand(2, 3, 32, 32) / 255  # brightness tells the column
    view = emp(16, 2, blur=0.0).each[0]
    view.brightness = view.contrast = view.saturation = view.hue = view.grayscale = view.solarize = 0.0
    shown = view(grid)
    widths = 255 * (shown.amax((1, 2, 3)) - shown.amin((1, 2, 3)))
    torch.testing.assert_close(widths, torch.full((2,), 15.0), rtol=0, atol=0.1)  # 16 columns


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"views": simclr_small(32)}, r"two or more views of one size, not groups of \(1,\)"),
        ({"views": dino_small(32, 16)}, r"two or more views of one size, not groups of \(2, 4\)"),
        ({"eps": 0.0}, "eps must be positive, not 0.0"),
    ],
)
def test_what_cannot_be_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        build(EMPSSL, backbone("vit"), **wrong)
