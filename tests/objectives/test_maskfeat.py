"""MaskFeat and its histograms of gradients against loops over pixels and patches, and values by hand.

Reference (maskfeat): own loops over pixels, cells and patches; values by hand
Peers (maskfeat): the authors' code has Sobel's gradients and angles from the vertical, not the [-1, 0, 1]
of HOG, and is followed; stable-pretraining standardises in place of length 1
"""

import math

import pytest
import torch
from zoo_backbones import backbone, build, images, plain, stirred

from ssl_zoo.hog import edges, hog
from ssl_zoo.noise import rand, seed_noise
from ssl_zoo.objectives.maskfeat import MaskFeat
from ssl_zoo.tokens import put
from ssl_zoo.views.blocks import blocks


def votes(channel: torch.Tensor, cell: int, bins: int) -> torch.Tensor:
    """The histograms of one channel (H, W), pixel by pixel: (H / cell, W / cell, bins)."""
    h, w = channel.shape
    at = lambda y, x: channel[h - 1 - abs(h - 1 - abs(y)), w - 1 - abs(w - 1 - abs(x))].item()  # noqa: E731
    found = torch.zeros(h // cell, w // cell, bins, dtype=torch.float64)
    for y in range(h):
        for x in range(w):
            column = {d: at(y - 1, x + d) + 2 * at(y, x + d) + at(y + 1, x + d) for d in (-1, 1)}
            row = {d: at(y + d, x - 1) + 2 * at(y + d, x) + at(y + d, x + 1) for d in (-1, 1)}
            right, down = column[-1] - column[1], row[-1] - row[1]
            turn = math.degrees(math.atan2(right, down)) % 180  # from the vertical
            found[y // cell, x // cell, math.floor(turn / (180 / bins)) % bins] += math.hypot(right, down)
    length = found.square().sum(-1, keepdim=True).sqrt()
    return torch.where(length > 0, found / length, 0)


@pytest.mark.parametrize(("cell", "bins"), [(4, 9), (8, 6)])
def test_histograms_are_counted_pixel_by_pixel(cell, bins):
    x = torch.rand(2, 3, 8, 16, dtype=torch.float64)
    x[0, 0] = 0.5  # flat: no direction at all
    want = torch.stack([torch.stack([votes(channel, cell, bins) for channel in image]) for image in x])
    found = hog(x, cell, bins)
    assert found.shape == (2, 3, bins, 8 // cell, 16 // cell)
    torch.testing.assert_close(found, want.permute(0, 1, 4, 2, 3), rtol=1e-10, atol=1e-12)


def test_an_upright_edge_is_in_the_middle_bin_and_a_level_one_in_the_first():
    x = torch.zeros(1, 1, 8, 8)
    x[..., 4:] = 1
    upright, level = hog(x, 8)[0, 0, :, 0, 0], hog(x.mT, 8)[0, 0, :, 0, 0]
    assert upright.tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert level.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0]
    torch.testing.assert_close(hog(1 - 7 * x, 8), hog(x, 8))  # contrast, brightness and sign play no part
    half = hog(torch.rand(1, 3, 8, 8).bfloat16(), 4)
    assert half.dtype == torch.float32
    with pytest.raises(ValueError, match="8x8 does not divide into cells of 3"):
        hog(x, 3)


def test_strokes_lie_along_edges():
    x = torch.zeros(1, 1, 8, 8)
    x[..., 4:] = 1
    upright, level = edges(hog(x, 8))[0, 0], edges(hog(x.mT, 8))[0, 0]
    assert upright.shape == (16, 16)
    assert upright[2:-2, 7:9].min() > 0.999
    assert upright[:, :6].max() == 0
    tilt = (level * (torch.arange(16) - 7.5)[:, None].abs()).sum() / level.sum()
    assert tilt < 2, "near the middle row: the bin's own angle is 10 degrees off"
    assert edges(-hog(x, 8)).max() == 0
    assert edges(hog(torch.rand(1, 3, 8, 8), 4)).max() <= 1


def test_the_loss_is_that_of_each_hidden_patch():
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)  # no angle lies where two bins meet
    objective = stirred(build(MaskFeat, backbone("vit"), view=lambda _: x, block=2).double().train())
    batch = images(rows=2)
    seed_noise(0, 0)
    loss = objective(batch).value
    seed_noise(0, 0)
    at = blocks(rand(2, 32, 4), (4, 4), 7, (2, 7), (0.3, 1 / 0.3))
    vit = objective.backbone
    tokens = vit.embed(x)
    tokens = put(tokens, at, objective.blank.expand(2, 7, -1))
    told = objective.tell(vit.encode(tokens).tokens)
    errors = []
    for b in range(2):
        truth = torch.stack([votes(channel, 4, 9) for channel in x[b]])  # (3, 8, 8, 9)
        for i in at[b].tolist():
            y, column = 2 * (i // 4), 2 * (i % 4)
            cells = truth[:, y : y + 2, column : column + 2]  # (3, 2, 2, 9)
            errors.append((told[b, i] - cells.permute(1, 2, 0, 3).flatten()).square().mean())
    want = torch.stack(errors).mean()
    torch.testing.assert_close(loss, want, rtol=1e-10, atol=0)
    weights = [p for p in objective.parameters() if p.requires_grad]
    for mine, theirs in zip(*(torch.autograd.grad(one, weights) for one in (loss, want)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-12)


def test_saying_nothing_costs_a_ninth():
    objective = build(MaskFeat, backbone("vit"), view=plain).double()
    with torch.no_grad():
        objective.tell.weight.zero_()
        objective.tell.bias.zero_()
    assert objective(images()).value.item() == pytest.approx(1 / 9, rel=1e-6)


def test_its_picture_has_the_predicted_strokes_in_the_hidden_patches_alone():
    objective = build(MaskFeat, backbone("vit"), view=plain).eval()
    with torch.no_grad():
        shown = objective.show(images(rows=2)).columns
    assert shown["edges"].shape == shown["predicted"].shape == (2, 1, 128, 128)
    other = (shown["edges"] != shown["predicted"]).view(2, 4, 32, 4, 32).any(4).any(2)
    hidden = (shown["left"] != shown["crop"]).any(1).view(2, 4, 8, 4, 8).any(4).any(2)
    assert torch.equal(other, hidden)
    assert hidden.sum() == 14


@pytest.mark.parametrize("wrong", [{"cells": 3}, {"bins": 0}, {"block": 0}])
def test_it_refuses(wrong):
    with pytest.raises(ValueError, match="each is 1 or more; cells divide a patch of 8 pixels"):
        build(MaskFeat, backbone("vit"), **wrong)
