"""A2MIM against sums over pixels and frequencies, and a ResNet run stage by stage.

Reference (a2mim): own sums over pixels and frequencies; a ResNet run stage by stage, 1e-10
Peers (a2mim): the authors' code averages spectra over a batch, whose errors then cancel, and takes
logarithms of weights; the paper is followed
"""

import math

import pytest
import torch
from zoo_backbones import backbone, build, images, plain

from ssl_zoo.noise import rand, seed_noise
from ssl_zoo.objectives._base import Tune
from ssl_zoo.objectives.a2mim import A2MIM, reconstruction
from ssl_zoo.stages import map_before


def by_hand(drawn: torch.Tensor, target: torch.Tensor, hidden: torch.Tensor, fourier: float) -> torch.Tensor:
    """Pixel by pixel, and frequency by frequency with its own cosines and sines."""
    b, c, h, w = drawn.shape
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    pixels, waves = [], []
    for i in range(b):
        for k in range(c):
            error = torch.where(hidden[i, 0] > 0, drawn[i, k] - target[i, k], 0)
            pixels += [error[at].abs() for at in zip(*torch.where(hidden[i, 0] > 0), strict=True)]
            powers = []
            for u in range(h):
                for v in range(w):
                    turn = 2 * math.pi * (u * y.double() / h + v * x.double() / w)
                    powers.append(
                        ((error * turn.cos()).sum() ** 2 + (error * turn.sin()).sum() ** 2) / (h * w)
                    )
            most = max(power.item() for power in powers)
            waves += [math.sqrt(power.item() / most) * power for power in powers]
    return sum(pixels) / len(pixels) + fourier * sum(waves) / len(waves)


def test_the_loss_is_the_sum_over_pixels_and_frequencies():
    drawn = torch.randn(2, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 2, 4, 6, dtype=torch.float64)
    hidden = torch.zeros(2, 1, 4, 6, dtype=torch.float64)
    hidden[0, :, :2], hidden[1, :, 2:] = 1, 1
    loss, pixels = reconstruction(drawn, target, hidden, 0.5)
    want = by_hand(drawn, target, hidden, 0.5)
    torch.testing.assert_close(loss, want, rtol=1e-12, atol=0)
    for mine, theirs in zip(torch.autograd.grad(loss, drawn), torch.autograd.grad(want, drawn), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
        assert not (mine * (1 - hidden)).any()
    torch.testing.assert_close(pixels, by_hand(drawn, target, hidden, 0.0))
    # One wave alone: its weight is 1, and what is left is its power over all frequencies.
    wave = torch.cos(2 * math.pi * torch.arange(6) / 6).expand(1, 1, 4, 6)
    alone = reconstruction(wave, torch.zeros(1, 1, 4, 6), torch.ones(1, 1, 4, 6), 1.0)
    assert (alone[0] - alone[1]).item() == pytest.approx(0.5)
    same, _ = reconstruction(target, target, hidden, 0.5)
    assert same.item() == 0


def test_loss_and_gradient_are_those_of_a_network_run_stage_by_stage():
    objective = build(A2MIM, backbone("cnn"), view=plain).double().eval()
    with torch.no_grad():
        objective.token.normal_()
    batch = images(rows=2)
    seed_noise(0, 0)
    loss = objective(batch)
    seed_noise(0, 0)
    order = rand(2, 16).argsort(1)
    hidden = torch.zeros(2, 1, 32, 32, dtype=torch.float64)
    cells = torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    for b in range(2):
        for square in order[b, :10].tolist():
            row, column = divmod(square, 4)
            hidden[b, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 1
            cells[b, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 1
    x, network, normalise = plain(batch.x), objective.backbone.model, objective.backbone.normalise
    grey = x.mean((2, 3), keepdim=True).expand_as(x)
    z = (torch.where(hidden > 0, grey, x) - normalise.mean) / normalise.std
    z = network.maxpool(network.act1(network.bn1(network.conv1(z))))
    z = network.layer3(network.layer2(network.layer1(z)))
    assert z.shape[2:] == (8, 8)
    z = network.layer4(z + cells * objective.token[:, None, None])  # (2, D, 4, 4)
    drawn = objective.draw(z.permute(0, 2, 3, 1)).view(2, 4, 4, 8, 8, 3)
    drawn = drawn.permute(0, 5, 1, 3, 2, 4).reshape(2, 3, 32, 32)
    want, pixels = reconstruction(drawn, (x - normalise.mean) / normalise.std, hidden, 0.5)
    torch.testing.assert_close(loss.value, want, rtol=1e-10, atol=0)
    torch.testing.assert_close(loss.parts["pixel_error"], pixels.detach())
    weights = [p for p in objective.parameters() if p.requires_grad]
    for mine, theirs in zip(*(torch.autograd.grad(one, weights) for one in (loss.value, want)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-10)


def test_nothing_of_the_hook_is_left_and_hidden_pixels_are_not_read():
    objective = build(A2MIM, backbone("cnn"), view=plain).double().eval()
    with torch.no_grad():
        objective.token.fill_(3.0)
        x = plain(images(rows=2).x)
        before = objective.backbone(x).pooled
        seed_noise(0, 0)
        hidden, _, drawn = objective.predict(x)
        assert torch.equal(objective.backbone(x).pooled, before)
        shuffled = torch.where(hidden > 0, x.flip(0).mean((2, 3), keepdim=True), x)
        shuffled += hidden * ((x - shuffled).mean((2, 3), keepdim=True) / hidden.mean((2, 3), keepdim=True))
        seed_noise(0, 0)
        torch.testing.assert_close(objective.predict(shuffled)[2], drawn)  # other pixels, the same mean
    assert hidden.mean((1, 2, 3)).tolist() == [10 / 16] * 2
    assert objective.tune("token", objective.token) == Tune(lr=0.1)
    assert objective.tune("draw.weight", objective.draw.weight) == Tune()


def test_its_picture_is_the_crop_outside_of_the_hidden_squares():
    objective = build(A2MIM, backbone("cnn")).eval()
    with torch.no_grad():
        shown = objective.show(images()).columns
    hidden = (shown["left"] != shown["crop"]).any(1, keepdim=True).expand_as(shown["crop"])
    assert torch.equal(shown["drawn"][~hidden], shown["crop"][~hidden])


def test_the_map_before_a_stage():
    assert [map_before(backbone("cnn"), stage) for stage in (1, 2, 3, 4)] == [
        (8, 32, 32), (8, 32, 32), (8, 16, 16), (16, 8, 8),
    ]  # fmt: skip


@pytest.mark.parametrize(("wrong", "says"), [
    ({"stage": 5}, "stage=5 of 4: there is no such stage"),
    ({"stage": 0}, "stage=0 of 4"),
    ({"side": 3}, "have to divide the image"),
    ({"side": 0}, "have to divide the image"),
    ({"side": 8}, "at least one is hidden, and not all"),
    ({"masked": 0.0}, "at least one is hidden, and not all"),
])  # fmt: skip
def test_it_refuses(wrong, says):
    with pytest.raises(ValueError, match=says):
        build(A2MIM, backbone("cnn"), **wrong)
