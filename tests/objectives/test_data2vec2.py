"""data2vec 2.0 against a slow second implementation, one mask of one image at a time.

Reference: a slow second implementation, one mask of one image at a time, attention and convolutions by
hand.
Peers: fairseq clamps squares onto the edge, adds noise to mask tokens and a class-token loss, which are
left out here.
"""

import pytest
import torch
from torch import Tensor, nn
from zoo_backbones import backbone, build, images, plain, stirred

from ssl_zoo.decoders import ConvDecoder
from ssl_zoo.heads import top_layers_over_tokens
from ssl_zoo.noise import rand, seed_noise
from ssl_zoo.objectives.data2vec import Data2Vec
from ssl_zoo.objectives.data2vec2 import Data2Vec2
from ssl_zoo.objectives.ijepa import IJEPA
from ssl_zoo.views.blocks import squares


def normal(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Of mean 0 and variance 1 over all of it."""
    return (x - x.mean()) / (x.var(correction=0) + eps).sqrt()


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / 2**0.5))


def convolved(weight: Tensor, bias: Tensor, groups: int, field: dict, row: int, column: int) -> Tensor:
    """What a convolution of 3 x 3 gives at one cell of a field {(row, column): (C,)}, zero around it."""
    out = bias.clone()
    wide, narrow = len(weight) // groups, weight.shape[1]
    for (dy, dx), kernel in ((divmod(i, 3), weight.flatten(2)[:, :, i]) for i in range(9)):
        cell = field.get((row + dy - 1, column + dx - 1))
        if cell is not None:
            parts = [
                kernel[g * wide : (g + 1) * wide] @ cell[g * narrow : (g + 1) * narrow] for g in range(groups)
            ]
            out = out + torch.cat(parts)
    return out


def decoded(decoder: ConvDecoder, field: dict) -> dict:
    for layer in decoder.layers:
        new = {}
        for place, before in field.items():
            made = gelu(normal(convolved(layer.weight, layer.bias, layer.groups, field, *place)))
            new[place] = made + before if made.shape == before.shape else made
        field = new
    return {place: decoder.out.weight @ x + decoder.out.bias for place, x in field.items()}


def test_the_loss_is_that_of_each_mask_of_each_image():
    """A ViT run by hand: patches, positions, blocks; its average reads all of the patches."""
    objective = build(Data2Vec2, backbone("vit"), view=plain, masks=3, top=2, width=24, depth=3).double()
    objective = stirred(objective).train()
    vit, slow = objective.backbone, objective.teacher[0]
    batch = images(rows=2)
    seed_noise(0, 0)
    loss = objective(batch)
    seed_noise(0, 0)
    seen = squares(rand(2, 3, 32, 2).flatten(0, 1), (4, 4), 2, 8)  # half of 16

    def patches(model: nn.Module, image: Tensor) -> Tensor:
        return model.model.patch_embed(model.normalise(image[None])).flatten(1, 2)[0]

    def states(model: nn.Module, tokens: Tensor, places: list[int]) -> list[Tensor]:
        first = model.model.cls_token[0] + model.model.pos_embed[0, :1]
        x = torch.cat([first, tokens + model.model.pos_embed[0, 1:][places]])[None]
        found = [x := block(x) for block in model.model.blocks]
        return [state[0, 1:] for state in (*found, model.model.norm(x))]

    errors, ys, fs = [], [], []
    for b, image in enumerate(plain(batch.x)):
        with torch.no_grad():
            told = states(slow, patches(slow, image), list(range(16)))[:-1]
            mean = sum(torch.stack([normal(column) for column in state.T], 1) for state in told[-2:]) / 2
            y = torch.stack([normal(row) for row in mean])
        for mask in range(3):
            places = seen[3 * b + mask].tolist()
            code = states(vit, patches(vit, image)[places], places)[-1]
            field = {divmod(i, 4): torch.zeros(16, dtype=torch.float64) for i in range(16)}
            field |= {divmod(i, 4): row for i, row in zip(places, code, strict=True)}
            drawn = decoded(objective.decoder, field)
            for i in set(range(16)) - set(places):
                ys.append(y[i])
                fs.append(drawn[divmod(i, 4)].detach())
                errors.append((drawn[divmod(i, 4)] - y[i]).square().sum() / 16**0.5)
    assert len(errors) == 2 * 3 * 8
    want = sum(errors) / len(errors)
    torch.testing.assert_close(loss.value, want, rtol=1e-9, atol=0)
    weights = [p for p in objective.parameters() if p.requires_grad]
    for mine, theirs in zip(*(torch.autograd.grad(one, weights) for one in (loss.value, want)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-10)
    for part, rows in (("target_std", ys), ("prediction_std", fs)):
        spread = torch.stack(rows).std(0, correction=0).mean()
        torch.testing.assert_close(loss.parts[part].double(), spread, rtol=1e-5, atol=0)


def test_targets_are_of_the_last_layers_and_blind_to_an_images_own_mean():
    layers = [torch.randn(2, 9, 4) for _ in range(3)]
    y = top_layers_over_tokens(layers, 2)
    torch.testing.assert_close(y, top_layers_over_tokens(layers[1:], 6))  # all, where there are fewer
    other = [x * 3 + 1 for x in layers]
    torch.testing.assert_close(y, top_layers_over_tokens(other, 2), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(y.mean(2), torch.zeros(2, 9), rtol=0, atol=1e-6)
    assert top_layers_over_tokens([x.bfloat16() for x in layers], 2).dtype == torch.float32
    same = [x[:, :1].expand(-1, 9, -1) for x in layers]
    assert top_layers_over_tokens(same, 2).abs().max() < 0.05, "patches that are all alike have no target"


def test_the_student_sees_a_few_patches_and_the_average_all():
    objective = stirred(build(Data2Vec2, backbone("vit"), view=plain)).double().eval()
    x = plain(images(rows=1).x).requires_grad_()
    seed_noise(0, 0)
    whole, hidden, at, valid, drawn = objective.foretell(x)
    assert at.shape == (2, 8)
    assert valid.all()
    assert not whole.requires_grad
    for mask in range(2):
        (slope,) = torch.autograd.grad(drawn[mask].square().sum(), x, retain_graph=True)
        read = slope[0].abs().sum(0).unfold(0, 8, 8).unfold(1, 8, 8).sum((2, 3)).flatten() > 0
        assert torch.equal(read, ~hidden[mask])
        assert hidden[mask].nonzero().flatten().tolist() == sorted(at[mask].tolist())


def test_the_average_follows_as_fast_as_it_is_told():
    objective = build(Data2Vec2, backbone("vit"), momentum=None)
    assert objective.momentum(0.0) == 0.9998
    assert objective.momentum(0.27) == objective.momentum(1.0) == pytest.approx(0.99999)
    objective = build(Data2Vec2, backbone("vit"), momentum=lambda t: 1 - t)
    kept = [p.clone() for p in objective.teacher.parameters()]
    for t in (0.25, 0.5):
        stirred(objective.backbone)
        objective.advance(t)
        kept = [(1 - t) * a + t * b for a, b in zip(kept, objective.backbone.parameters(), strict=True)]
    for one, two in zip(objective.teacher.parameters(), kept, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"masked": 0.0}, "masked=0.0 of 16 patches"),
        ({"masked": 0.99}, "masked=0.99"),
        ({"masks": 0}, "masks=0"),
        ({"block": 0}, "block=0"),
        ({"top": 0}, "top=0"),
        ({"depth": 0}, "0 convolutions"),
        ({"groups": 3}, "in 3 groups cannot be"),
    ],
)
def test_numbers_that_cannot_be_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        build(Data2Vec2, backbone("vit"), **given)


@pytest.mark.parametrize("cls", [Data2Vec, Data2Vec2, IJEPA])
def test_pictures_show_what_is_seen_and_how_well_the_rest_is_predicted(cls):
    objective = build(cls, backbone("vit", patch_size=4), view=lambda x: plain(x).float()).eval()
    batch = images(rows=3)
    seed_noise(0, 0)
    with torch.no_grad():
        columns = objective.show(batch).columns
        seed_noise(0, 0)
        whole, hidden, at, _, drawn = objective.foretell(plain(batch.x).float())
        masks = len(at) // 3
        patches = {
            name: x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(3, 64, 48)
            for name, x in columns.items()
        }
        for b in range(3):
            grey = (patches["seen"][b] == 0.5).all(1)
            assert torch.equal(grey, hidden[b * masks])
            assert torch.equal(patches["seen"][b, ~grey], patches["crop"][b, ~grey])
            told = set(at[b * masks].tolist())
            for i in range(64):
                assert (i in told) == (not torch.equal(patches["predicted"][b, i], patches["crop"][b, i]))
        true = torch.stack([whole[b, at[b * masks]] for b in range(3)])
        if cls is not IJEPA:  # whose targets may overlap, so that one place is told twice
            error = (drawn[::masks] - true).square().sum(2)
            light = (1 - error / (true - true.mean((0, 1))).square().sum(2).mean()).clamp(0, 1)
            shown = torch.stack([patches["predicted"][b, at[b * masks]] for b in range(3)])
            torch.testing.assert_close(shown, light[..., None].expand(-1, -1, 48))
