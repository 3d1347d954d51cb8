"""Colourisation against a slow second implementation: colours, bins, weights, loss, and what a step keeps.

Reference (colorization): own second implementation, cell by cell over three steps; colours against published
tables of CIE L*a*b*.
Peers (colorization): the paper's list has 313 bins at a step of 10, where 261 are nearest to a colour here;
its weights are counted on ImageNet and smoothed, where a running mean is kept here. No code was compared.
"""

import math

import pytest
import torch
from torch.autograd import grad
from zoo_backbones import backbone, build, images

from ssl_zoo.noise import seed_noise
from ssl_zoo.objectives._base import Batch
from ssl_zoo.objectives.colorization import Colorization, rarity
from ssl_zoo.views.lab import colour_bins, lab_to_rgb, nearest_bins, rgb_to_lab

# CIE L*a*b* of sRGB's corners at white D65, as published tables have them.
KNOWN = {
    (1, 0, 0): (53.24, 80.09, 67.20),
    (0, 1, 0): (87.73, -86.18, 83.18),
    (0, 0, 1): (32.30, 79.19, -107.86),
    (1, 1, 1): (100, 0, 0),
    (0.5, 0.5, 0.5): (53.39, 0, 0),
    (0, 0, 0): (0, 0, 0),
}


def slow_lab(r, g, b):
    """One colour, number by number."""
    r, g, b = (((v + 0.055) / 1.055) ** 2.4 if v > 0.04045 else v / 12.92 for v in (r, g, b))
    x = (0.4124564 * r + 0.3575761 * g + 0.1804375 * b) / 0.95047
    y = 0.2126729 * r + 0.7151522 * g + 0.0721750 * b
    z = (0.0193339 * r + 0.1191920 * g + 0.9503041 * b) / 1.08883
    x, y, z = (v ** (1 / 3) if v > (6 / 29) ** 3 else v / (3 * (6 / 29) ** 2) + 4 / 29 for v in (x, y, z))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def test_colours_are_those_of_published_tables():
    image = torch.tensor(list(KNOWN), dtype=torch.float64).T[:, None]  # (3, 1, 6)
    want = torch.tensor(list(KNOWN.values()), dtype=torch.float64).T[:, None]
    torch.testing.assert_close(rgb_to_lab(image), want, rtol=0, atol=0.01)
    x = torch.rand(2, 3, 4, 5, dtype=torch.float64) ** 3
    slow = torch.tensor(
        [[slow_lab(*x[i, :, r, c].tolist()) for r in range(4) for c in range(5)] for i in range(2)]
    )
    torch.testing.assert_close(rgb_to_lab(x).flatten(2).mT, slow.double(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(x)), x, rtol=1e-6, atol=1e-6)


def test_bins_are_near_colours_of_a_screen():
    bins = colour_bins(10.0)
    assert len(bins) == 261
    pure = rgb_to_lab(torch.tensor(list(KNOWN), dtype=torch.float32).T[:, None])[1:, 0].T
    distance = torch.cdist(pure, bins).amin(1)
    assert (distance <= 50**0.5 + 1e-3).all()


def test_shares_fall_with_the_distance():
    ab, bins = (
        torch.tensor([[1.0, 2.0]]),
        torch.tensor([[0.0, 0.0], [0, 9], [9, 9], [40, 0], [0, 3], [99, 9]]),
    )
    at, share = nearest_bins(ab, bins, 5.0)
    far = [math.hypot(1 - x, 2 - y) for x, y in bins.tolist()]
    nearest = sorted(range(6), key=far.__getitem__)[:5]
    odds = [math.exp(-(far[k] ** 2) / 50) for k in nearest]
    assert at.tolist() == [nearest]
    torch.testing.assert_close(share[0], torch.tensor([x / sum(odds) for x in odds]))


def test_rare_colours_count_for_more():
    p = torch.tensor([0.7, 0.2, 0.1, 0.0])
    weight = rarity(p, 0.5)
    raw = [1 / (0.5 * x + 0.125) for x in p.tolist()]
    scale = sum(x * w for x, w in zip(p.tolist(), raw, strict=True))
    torch.testing.assert_close(weight, torch.tensor([w / scale for w in raw]))
    assert (p * weight).sum().item() == pytest.approx(1)
    torch.testing.assert_close(rarity(p, 1.0), torch.ones(4))


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_colorization_is_its_equation_over_several_steps(kind):
    objective = build(Colorization, backbone(kind), step=50.0, sigma=25.0).train()
    batch, bins = images(rows=2), objective.bins
    count, side = len(bins), objective.side
    (rows, columns), seen = objective.backbone.grid(32, 32), [0.0] * len(bins)
    for step in range(3):
        seed_noise(0, step)
        value = objective(batch).value
        seed_noise(0, step)
        x = objective.view(batch.x)
        left = 1 - sum(seen)
        weight = rarity(torch.tensor([s + left / count for s in seen]), 0.5).tolist()
        lab = rgb_to_lab(x)
        tokens = objective.backbone((lab[:, :1] / 100).repeat(1, 3, 1, 1)).tokens
        want, found, cells = torch.zeros(()), [0.0] * count, 2 * rows * columns * side * side
        for i in range(2):
            for n in range(rows * columns):
                told = objective.tell(tokens[i, n]).view(side, side, count)
                for r in range(side):
                    for c in range(side):
                        top, across = (n // columns * side + r) * 4, (n % columns * side + c) * 4
                        ab = lab[i, 1:, top : top + 4, across : across + 4].mean((1, 2))
                        at, share = nearest_bins(ab[None], bins, 25.0)
                        log_q = told[r, c] - told[r, c].logsumexp(0)
                        entropy = -sum(s * log_q[k] for s, k in zip(share[0], at[0].tolist(), strict=True))
                        want = want + weight[at[0, 0]] * entropy / cells
                        for s, k in zip(share[0].tolist(), at[0].tolist(), strict=True):
                            found[k] += s / cells
        torch.testing.assert_close(value, want, rtol=1e-4, atol=1e-5)
        weights = [w for w in objective.parameters() if w.requires_grad]
        for a, b in zip(grad(value, weights), grad(want, weights), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
        objective.advance((step + 1) / 3)
        seen = [0.99 * old + 0.01 * new for old, new in zip(seen, found, strict=True)]
        torch.testing.assert_close(objective.seen.value, torch.tensor(seen), rtol=1e-4, atol=1e-7)


def test_the_backbone_sees_grey_alone_and_true_colours_are_drawn_back():
    objective = build(Colorization, backbone("vit"), step=10.0, sigma=5.0).eval()
    seen = []
    objective.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    shown = objective.show(images()).columns
    assert torch.equal(seen[0][:, 0], seen[0][:, 1])
    assert torch.equal(seen[0], shown["seen"])
    assert {tuple(part.shape) for part in shown.values()} == {(4, 3, 32, 32)}
    lab, ab, logits = objective.read(shown["crop"])
    right = -torch.cdist(ab, objective.bins)  # what tells each cell's own colour
    objective.read = lambda x: (lab, ab, right * 10)  # pyright: ignore
    drawn = objective.show(images()).columns["drawn"]
    grey = lab_to_rgb(torch.cat([lab[:, :1], torch.zeros_like(lab[:, 1:])], 1))
    assert (drawn - shown["crop"]).abs().mean() < 0.5 * (grey - shown["crop"]).abs().mean()
    assert logits.shape == (len(ab), len(objective.bins))


def test_what_cannot_be_is_refused():
    for options, said in (
        ({"cell": 3}, "cell=3 does not divide tokens of 8x8 pixels"),
        ({"cell": 0}, "cell=0, .* must be above 0"),
        ({"rebalance": 2.0}, r"rebalance=2.0 in \[0, 1\]"),
    ):
        with pytest.raises(ValueError, match=said):
            build(Colorization, backbone("vit"), **options)
    assert build(Colorization, backbone("vit"), cell=64).side == 1
    with pytest.raises(ValueError, match="colours are of images of 3 channels, and these have 1"):
        build(Colorization, backbone("vit"))(Batch(images().x[:, :1]))
