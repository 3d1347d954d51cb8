"""SparK: sparse reading against a network run on lists of visible cells, and the loss cell by cell.

Reference (spark): own point-by-point convolution and batch norm of visible cells, 1e-10; the loss cell by
cell
Peers (spark): no difference found.
"""

import pytest
import torch
from torch import nn
from zoo_backbones import backbone, build, images, plain

from ssl_zoo.noise import rand, seed_noise
from ssl_zoo.norm import BatchNorm2d
from ssl_zoo.objectives.spark import SparK
from ssl_zoo.sparse import MapDecoder, Visible, sparse
from ssl_zoo.tokens import patchify


def seen_points(seen: torch.Tensor, grid: tuple[int, int], side: int) -> torch.Tensor:
    """Which points of a map are seen: (B, h, w) bool, cell by cell."""
    found = torch.zeros(len(seen), side * grid[0], side * grid[1], dtype=torch.bool)
    for b, cells in enumerate(seen.tolist()):
        for cell in cells:
            y, x = cell // grid[1] * side, cell % grid[1] * side
            found[b, y : y + side, x : x + side] = True
    return found


def test_a_convolution_and_a_batch_norm_read_visible_points_alone():
    """Point by point: sums of visible neighbours, then mean and variance over all visible points."""
    conv, norm = nn.Conv2d(2, 3, 3, padding=1).double(), BatchNorm2d(3).double().train()
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    x, seen = torch.randn(2, 2, 4, 6, dtype=torch.float64), torch.tensor([[0, 5], [3, 1]])
    visible, points = Visible(seen, (2, 3)), seen_points(seen, (2, 3), 2)
    with sparse(nn.Sequential(conv, norm), visible):
        out = norm(conv(x))
    values = {}
    for b, i, j in points.nonzero().tolist():
        total = conv.bias.clone()
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                if 0 <= i + di < 4 and 0 <= j + dj < 6 and points[b, i + di, j + dj]:
                    total = total + conv.weight[:, :, di + 1, dj + 1] @ x[b, :, i + di, j + dj]
        values[b, i, j] = total
    rows = torch.stack(list(values.values()))
    want = (rows - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt() * norm.weight + norm.bias
    for (b, i, j), row in zip(values, want, strict=True):
        torch.testing.assert_close(out[b, :, i, j], row, rtol=1e-10, atol=1e-12)
    assert not (out.abs().sum(1) * ~points).any()
    torch.testing.assert_close(norm.running_mean, 0.1 * rows.mean(0).detach())
    torch.testing.assert_close(
        norm(conv(x)), nn.functional.batch_norm(conv(x), None, None, norm.weight, norm.bias, True)
    )


@pytest.mark.parametrize("training", [False, True])
def test_a_network_reads_nothing_hidden_and_all_of_what_is_seen(training):
    network = backbone("cnn").double().train(training)
    x, seen = plain(images(rows=3).x), rand(3, 16).argsort(1)[:, :6]
    points = seen_points(seen, (4, 4), 8)[:, None]
    other = torch.where(points, x, torch.rand_like(x))
    with torch.no_grad():
        with sparse(network, Visible(seen, (4, 4))):
            first, second = network(x, layers="tokens"), network(other, layers="tokens")
        for one, two in zip(first.layers, second.layers, strict=True):
            assert torch.equal(one, two)
        assert first.tokens[0].any(1).sum() == 6
        everything = torch.arange(16).expand(3, -1)
        with sparse(network, Visible(everything, (4, 4))):
            whole = network(x).tokens
        torch.testing.assert_close(whole, network(x).tokens)  # nothing is hidden, and no hook is left


def test_packed_parts_are_the_cells():
    x, seen = torch.arange(48.0).view(1, 2, 4, 6), torch.tensor([[4, 0]])
    visible = Visible(seen, (2, 3))
    parts = visible.pack(x)
    assert torch.equal(parts[0], x[0, :, 2:4, 2:4])
    assert torch.equal(parts[1], x[0, :, :2, :2])
    assert torch.equal(visible.unpack(parts), x * visible.on(x))


def test_the_loss_is_that_of_each_hidden_cell():
    objective = build(SparK, backbone("cnn"), view=plain).double().train()
    batch = images(rows=2)
    assert objective.stages == [3, 2, 1]
    seed_noise(0, 0)
    loss = objective(batch).value
    seed_noise(0, 0)
    order, x = rand(2, 16).argsort(1), plain(batch.x)
    visible = Visible(order[:, :6], (4, 4))
    with sparse(objective.backbone, visible):
        found = objective.backbone(x, layers="tokens").layers
    maps = [found[3 - k].permute(0, 2, 1).reshape(2, -1, 4 * 2**k, 4 * 2**k) for k in range(3)]
    cells, normalise = patchify(objective.decode(maps, visible), 8), objective.backbone.normalise
    pixels, errors = (x - normalise.mean) / normalise.std, []
    for b in range(2):
        for i in order[b, 6:].tolist():
            y, column = 8 * (i // 4), 8 * (i % 4)
            true = pixels[b, :, y : y + 8, column : column + 8].permute(1, 2, 0).flatten()
            errors.append((cells[b, i] - (true - true.mean()) / (true.var() + 1e-6).sqrt()).square().mean())
    want = torch.stack(errors).mean()
    assert len(errors) == 20
    torch.testing.assert_close(loss, want, rtol=1e-10, atol=0)
    weights = [p for p in objective.parameters() if p.requires_grad]
    for mine, theirs in zip(*(torch.autograd.grad(one, weights) for one in (loss, want)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-11)


def test_what_draws_grey_has_the_loss_that_chance_says():
    objective = build(SparK, backbone("cnn"), view=plain).double().train()
    objective.decode.forward = lambda maps, visible: torch.zeros(4, 3, 32, 32).double()
    assert objective.chance(4) == 191 / 192
    assert objective(images(4)).value.item() == pytest.approx(objective.chance(4), rel=1e-4)


def test_the_decoder_adds_each_map_with_blanks_in_hidden_cells():
    decode, visible = MapDecoder([5, None], 8, 3).eval(), Visible(torch.tensor([[2, 0]]), (2, 2))
    x = torch.randn(1, 5, 2, 2)
    out = decode([x, None], visible)
    norm = decode.norms["0"]
    rows = x[0].flatten(1).T / (1 + norm.eps) ** 0.5
    rows[1] = rows[3] = decode.blanks["0"]
    fitted = decode.fits["0"](rows.T.view(1, 5, 2, 2))
    want = decode.draw(decode.steps[1](decode.steps[0](fitted)))
    torch.testing.assert_close(out, want)
    assert out.shape == (1, 3, 8, 8)
    with pytest.raises(ValueError, match="width=6 cannot be halved 2 times"):
        MapDecoder([5, None], 6, 3)


def test_its_picture_is_the_crop_outside_of_what_was_hidden():
    objective = build(SparK, backbone("cnn")).eval()
    with torch.no_grad():
        shown = objective.show(images(rows=2)).columns
    hidden = (shown["seen"] - shown["crop"]).abs().amax(1, keepdim=True) > 1e-5
    assert 0.5 < hidden.float().mean() <= 10 / 16
    outside = ~hidden.expand_as(shown["crop"])
    cells = hidden.view(2, 4, 8, 4, 8).any(4).any(2)
    assert cells.sum(dim=(1, 2)).tolist() == [10, 10]
    torch.testing.assert_close(shown["seen"][outside], shown["crop"][outside])


def test_it_refuses():
    with pytest.raises(ValueError, match="at least one is hidden, and not all"):
        build(SparK, backbone("cnn"), masked=0.0)
    with pytest.raises(ValueError, match="4x4 cells of the last map do not become 28x28 pixels"):
        build(SparK, backbone("cnn", image_size=28))
