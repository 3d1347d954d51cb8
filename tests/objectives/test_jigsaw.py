"""Jigsaw and relative patch location against slow second implementations, tile by tile.

Reference (jigsaw): own second implementation, tile by tile, and of the greedy choice of orders.
Reference (relative_patch): own second implementation, tile by tile and pair by pair.
Peers (jigsaw): the paper also moves colour channels by up to 2 pixels and shows some images in grey; no
code was compared.
Peers (relative_patch): the paper draws one pair at a time and puts noise into the colours that are dropped;
no code was compared.
"""

import math
from itertools import permutations

import pytest
import torch
from torch.autograd import grad
from zoo_backbones import backbone, build, images

from ssl_zoo.noise import rand, seed_noise
from ssl_zoo.objectives.jigsaw import Jigsaw, far_apart
from ssl_zoo.objectives.relative_patch import NAMES, RelativePatch
from ssl_zoo.views.recipes import crop

CELLS = [(row, column) for row in range(3) for column in range(3)]


def cross_entropy(logits, target):
    odds = [math.e**x for x in logits]
    return -torch.log(odds[target] / sum(odds))


def close(value, want, objective):
    torch.testing.assert_close(value, want, rtol=1e-5, atol=1e-5)
    weights = [w for w in objective.parameters() if w.requires_grad]
    for a, b in zip(grad(value, weights), grad(want, weights), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def head(objective, row):
    return objective.classify(torch.relu(objective.mix(row)))


def plain(tile):
    """A tile (C, s, s) whose channels have mean 0.5 and deviation 0.25, pixel by pixel."""
    out = torch.empty_like(tile)
    for c, channel in enumerate(tile):
        values = channel.flatten().tolist()
        mean = sum(values) / len(values)
        deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values) + 1e-5)
        out[c] = torch.tensor([min(max(0.5 + 0.25 * (v - mean) / deviation, 0), 1) for v in values]).view_as(
            channel
        )
    return out


def test_the_orders_are_those_of_the_greedy_algorithm():
    table = [tuple(row) for row in far_apart(4, 9).tolist()]
    every = list(permutations(range(4)))
    for i in range(1, 9):
        far = {
            one: sum(a != b for other in table[:i] for a, b in zip(one, other, strict=True))
            for one in every
            if one not in table[:i]
        }
        assert far[table[i]] == max(far.values())
    assert sorted(far_apart(4, 24).tolist()) == [list(one) for one in every]
    large = far_apart(9, 100)
    assert (large[:, None] != large).sum(2).sum() / 9900 > 8  # of 9


def test_jigsaw_is_its_equation():
    objective = build(Jigsaw, backbone("vit"), tile=8).train()
    batch = images()
    seed_noise(0, 0)
    value = objective(batch).value
    seed_noise(0, 0)
    places = rand(4, 4, 2)
    x, drawn = objective.view(batch.x), rand(4)
    want = torch.zeros(())
    for i in range(4):
        tiles = []
        for k in range(4):
            down, across = (
                int(u * 9) for u in places[i, k].tolist()
            )  # a cell of 16 has 9 places for a tile of 8
            row, column = k // 2 * 16 + down, k % 2 * 16 + across
            tiles.append(plain(x[i, :, row : row + 8, column : column + 8]))
        which = int(drawn[i] * 6)
        order = objective.table[which].tolist()
        features = [objective.backbone(tiles[k][None]).pooled[0] for k in order]
        want = want + cross_entropy(head(objective, torch.cat(features)), which) / 4
    close(value, want, objective)


def test_relative_patch_is_its_equation():
    options = {"tile": 8, "drop": 0.6, "view": crop(48)}
    objective = build(RelativePatch, backbone("vit"), **options).train()
    batch = images()
    seed_noise(0, 0)
    value = objective(batch).value
    seed_noise(0, 0)
    noise = rand(4, 9, 4)
    x, want, dropped = objective.view(batch.x), torch.zeros(()), 0
    for i in range(4):
        features = []
        for k, (row, column) in enumerate(CELLS):
            one, two, drop, channel = noise[i, k].tolist()
            top, left = (16 * place + 3 + int(u * 3) for place, u in ((row, one), (column, two)))  # 4 +- 1
            tile = x[i, :, top : top + 8, left : left + 8].clone()
            if drop < 0.6:
                dropped += 1
                for c in {0, 1, 2} - {int(channel * 3)}:
                    tile[c] = 0.5
            features.append(objective.backbone(plain(tile)[None]).pooled[0])
        around = [f for k, f in enumerate(features) if k != 4]
        for k, f in enumerate(around):
            want = want + cross_entropy(head(objective, torch.cat([features[4], f])), k) / 32
    assert 0 < dropped < 36
    close(value, want, objective)


@pytest.mark.parametrize(("cls", "chance"), [(Jigsaw, math.log(6)), (RelativePatch, math.log(8))])
def test_equal_features_are_at_chance(cls, chance):
    objective = build(cls, backbone("vit"))
    assert objective.chance(4) == pytest.approx(chance)
    with torch.no_grad():
        objective.classify.weight.zero_()
        objective.classify.bias.zero_()
    assert objective(images()).value.item() == pytest.approx(chance, rel=1e-6)


def test_what_is_shown():
    seed_noise(0, 0)
    objective = build(Jigsaw, backbone("cnn")).eval()
    columns = objective.show(images()).columns
    assert {tuple(part.shape) for part in columns.values()} == {(4, 3, 28, 28)}
    with torch.no_grad():  # one that finds every order puts all tiles back
        objective.classify.bias.copy_(torch.eye(6)[2] * 1e4)
    objective.table[:] = objective.table[2]
    columns = objective.show(images()).columns
    assert torch.equal(columns["tiles"], columns["put back"])
    assert not torch.equal(columns["tiles"], columns["given"])
    shown = build(RelativePatch, backbone("cnn")).eval().show(images(rows=9))
    assert shown.right.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0]
    assert shown.images.shape == (9, 3, 7, 16)
    assert shown.p.shape == (9, len(NAMES))


def test_the_table_is_kept_in_checkpoints_and_is_of_one_objective():
    one, other = (build(Jigsaw, backbone("vit")) for _ in range(2))
    one.load_state_dict(one.state_dict() | {"table": one.table.flip(0)})
    assert torch.equal(one.table, other.table.flip(0))


def test_what_cannot_be_is_refused():
    for options, said in (
        ({"grid": 4}, "grid=4 must be 2 or 3"),
        ({"permutations": 25}, r"permutations=25 from 2 to \(grid"),
        ({"tile": 24}, "tiles of 24 pixels do not fit into cells of 16, 2 along 32 pixels"),
        ({"tile": 12}, "12x12 does not divide into patches of 8"),
    ):
        with pytest.raises(ValueError, match=said):
            build(Jigsaw, backbone("vit"), **options)
    with pytest.raises(ValueError, match="tiles of 8 pixels do not fit into cells of 7"):
        build(RelativePatch, backbone("vit"), view=crop(23))
    with pytest.raises(ValueError, match="drop=2"):
        build(RelativePatch, backbone("vit"), drop=2)
