"""TiCo against lightly's loss and a plain loop: value, gradient, covariance matrix and average over steps.

Reference: lightly's `TiCoLoss` over three steps, and a plain loop over images and steps.
Peers: sayannag/TiCo-pytorch lets the gradient flow through the covariance matrix, and lightly does not.
stable-pretraining centres projections before it takes C, so that a constant network has the least loss there
is, 0 in place of rho; and has a rho of 20.
"""

import copy
import math

import pytest
import torch
from lightly.loss import TiCoLoss
from torch import nn
from torch.autograd import grad
from zoo_backbones import backbone, build, images

from ssl_zoo.noise import seed_noise
from ssl_zoo.objectives.tico import TiCo, contrast, moments


def test_loss_and_matrix_are_lightlys_over_steps():
    """The peer writes its matrix in forward; no gradient flows through it here or there."""
    peer, c = TiCoLoss(beta=0.8, rho=3.0), torch.zeros(4, 4, dtype=torch.float64)
    for _ in range(3):
        z, target = torch.randn(2, 7, 4, dtype=torch.float64)
        z.requires_grad_()
        c = 0.8 * c + 0.2 * moments(z)
        cosine, contrasted = contrast(z, target, c)
        ours, theirs = 1 - cosine + 3 * contrasted, peer(z, target)
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
        torch.testing.assert_close(grad(ours, z)[0], grad(theirs, z)[0], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(c, peer.C)


def test_three_steps_are_those_of_a_plain_loop():
    objective, batch = build(TiCo, backbone("vit"), rho=3.0, beta=0.7).train(), images()
    online = nn.ModuleList(copy.deepcopy([objective.backbone, objective.project])).train()
    slow = copy.deepcopy(online)
    c = torch.zeros(8, 8)
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.5)
    for step, t in enumerate((0.25, 0.5, 1.0)):
        seed_noise(0, step)
        first, second = objective.views(batch.x)[0].chunk(2)
        seed_noise(0, step)
        optimizer.zero_grad()
        value = objective(batch).value
        value.backward()
        optimizer.step()
        objective.advance(t)
        z = online[1](online[0](first).pooled)
        target = slow[1](slow[0](second).pooled).detach()
        b = sum(torch.outer(row / row.norm(), row / row.norm()) for row in z.detach()) / 4
        c = 0.7 * c + 0.3 * b
        want = torch.zeros(())
        for row, other in zip(z, target, strict=True):
            unit = row / row.norm()
            want = want + (1 - unit @ (other / other.norm()) + 3 * unit @ c @ unit) / 4
        assert value.item() == pytest.approx(want.item(), rel=1e-4)
        gradients = grad(want, list(online.parameters()))
        with torch.no_grad():
            for p, g in zip(online.parameters(), gradients, strict=True):
                p -= 0.5 * g
            m = 1 - 0.1 * (math.cos(math.pi * t) + 1) / 2
            for old, new in zip(slow.parameters(), online.parameters(), strict=True):
                old.copy_(m * old + (1 - m) * new)
        torch.testing.assert_close(objective.covariance.value.view(8, 8), c, rtol=1e-3, atol=1e-5)
    for mine, theirs in ((objective.teacher, slow), (objective.backbone, online[0])):
        for p, want in zip(mine.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(p, want, rtol=1e-3, atol=1e-4)
    assert objective.covariance.value.view(8, 8).trace().item() == pytest.approx(1 - 0.7**3, rel=1e-5)


def test_a_network_that_gives_all_the_same_has_a_loss_of_rho():
    objective = build(TiCo, backbone("cnn"), rho=5.0)
    same = torch.ones(6, 8)
    cosine, contrasted = contrast(same, same, moments(same))
    assert (1 - cosine + 5 * contrasted).item() == pytest.approx(objective.chance(6), rel=1e-6)
    apart = torch.eye(8)
    assert contrast(apart, apart, moments(apart))[1].item() == pytest.approx(1 / 8)


def test_a_matrix_that_would_not_move_is_refused():
    with pytest.raises(ValueError, match=r"beta is in \[0, 1\), not 1"):
        build(TiCo, backbone("vit"), beta=1.0)
