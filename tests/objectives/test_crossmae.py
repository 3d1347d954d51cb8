"""CrossMAE against a slow second implementation, one asked patch of one image at a time.

Reference: a slow second implementation, one asked patch of one image at a time.
Peers: the authors' code mixes the patch embeddings in as well and takes the last block before its final
norm; neither is done here.
"""

import math

import pytest
import torch
from torch import Tensor, nn
from zoo_backbones import backbone, build, images, plain, stirred

from ssl_zoo.decoders import grid_positions
from ssl_zoo.noise import rand, seed_noise
from ssl_zoo.objectives.crossmae import CrossMAE


def crossmae(**arguments) -> CrossMAE:
    return stirred(build(CrossMAE, backbone("vit"), view=plain, **arguments).double())


def normal(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    unit = (x - x.mean()) / (x.var(correction=0) + norm.eps).sqrt()
    return unit * norm.weight + norm.bias


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return layer.weight @ x + layer.bias


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def asked(decoder: nn.Module, x: Tensor, layers: list[Tensor], heads: int) -> Tensor:
    """One row through the decoder: x (W,), layers of (S, D) each -> (out,)."""
    for j, block in enumerate(decoder.blocks):
        mixed = sum(w * layer for w, layer in zip(decoder.mix[j], layers, strict=True))
        code = [normal(decoder.norms[j], row) for row in mixed]
        q = linear(block.q, normal(block.norm1, x)).chunk(heads)
        pairs = [linear(block.kv, row).chunk(2) for row in code]
        read = []
        for h in range(heads):
            odds = [torch.exp(q[h] @ k.chunk(heads)[h] / math.sqrt(len(q[h]))) for k, _ in pairs]
            values = [v.chunk(heads)[h] for _, v in pairs]
            read.append(sum(o * v for o, v in zip(odds, values, strict=True)) / sum(odds))
        x = x + linear(block.out, torch.cat(read))
        x = x + linear(block.mlp[2], gelu(linear(block.mlp[0], normal(block.norm2, x))))
    return linear(decoder.pixels, normal(decoder.norm, x))


def test_the_loss_is_that_of_each_patch_asked_for_alone():
    objective = crossmae(predicted=0.25).train()
    vit, batch = objective.backbone.model, images(rows=2)
    seed_noise(0, 0)
    loss = objective(batch).value
    seed_noise(0, 0)
    order = rand(2, 16).argsort(1)
    table, errors = grid_positions(16, 4, 4), []
    for b, image in enumerate(plain(batch.x)):
        seen, unseen = order[b, :4].tolist(), order[b, 4:].tolist()
        patches = vit.patch_embed(objective.backbone.normalise(image[None])).flatten(1, 2)[0]
        x = torch.cat([vit.cls_token[0] + vit.pos_embed[0, :1], patches[seen] + vit.pos_embed[0, 1:][seen]])
        states = [x := block(x[None])[0] for block in vit.blocks]
        layers = [state[1:] for state in (*states[:-1], vit.norm(x))]
        for i in unseen[:4]:  # a quarter of 16
            row, column = divmod(i, 4)
            true = image[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].permute(1, 2, 0).flatten()
            true = (true - true.mean()) / (true.var() + 1e-6).sqrt()
            drawn = asked(objective.decoder, objective.blank + table[i], layers, 2)
            errors.append((drawn - true).square().sum() / 192)
    want = sum(errors) / 8
    torch.testing.assert_close(loss, want, rtol=1e-7, atol=0)  # positions are in float32
    weights = list(objective.parameters())
    for mine, theirs in zip(*(torch.autograd.grad(one, weights) for one in (loss, want)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-8)


def test_a_patch_is_drawn_the_same_however_many_are_asked_for():
    objective = crossmae(predicted=0.75).eval()
    x, found = plain(images(rows=2).x), []
    for objective.count in (12, 3):
        seed_noise(0, 0)
        found.append(objective.predict(x))
    assert torch.equal(found[0][0], found[1][0])
    assert found[1][1].shape == (2, 3, 192)
    torch.testing.assert_close(found[0][1][:, :3], found[1][1])


def test_what_draws_the_mean_has_the_loss_that_chance_says():
    objective = crossmae()
    nn.init.zeros_(objective.decoder.pixels.weight)
    nn.init.zeros_(objective.decoder.pixels.bias)
    assert objective.chance(4) == 191 / 192
    assert objective(images()).value.item() == pytest.approx(191 / 192, rel=1e-3)


def test_a_picture_leaves_grey_what_is_not_asked_for():
    objective = build(CrossMAE, backbone("vit"), view=lambda x: plain(x).float()).eval()
    seed_noise(0, 0)
    with torch.no_grad():
        columns = objective.show(images(rows=2)).columns
    seed_noise(0, 0)
    order = rand(2, 16).argsort(1)
    for b in range(2):
        for rank, i in enumerate(order[b].tolist()):
            row, column = divmod(i, 4)
            cut = (b, slice(None), slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8))
            assert (columns["seen"][cut] == 0.5).all() == (rank >= 4)
            assert (columns["drawn"][cut] == 0.5).all() == (rank >= 8)
            assert torch.equal(columns["drawn"][cut], columns["crop"][cut]) == (rank < 4)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"predicted": 0.8}, "are 13, and 12 are dropped"),
        ({"predicted": 0.0}, "draw one at least"),
        ({"masked": 1.0}, "both sides need at least one"),
        ({"heads": 3}, "width 16, 3 heads"),
        ({"depth": 0}, "depth 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        build(CrossMAE, backbone("vit"), **given)
