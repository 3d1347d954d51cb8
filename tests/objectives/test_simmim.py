"""SimMIM against ViTForMaskedImageModeling of transformers, with the same weights and masks.

Reference (simmim): ViTForMaskedImageModeling of transformers 5.23 with the same weights and masks, value
and gradient, 1e-10
Peers (simmim): its 1e-5 in the denominator is lost in float32; no other difference
"""

import pytest
import torch
from torch.autograd import grad
from transformers import ViTConfig, ViTForMaskedImageModeling
from zoo_backbones import backbone, build, images, plain, stirred

from ssl_zoo.noise import rand, seed_noise
from ssl_zoo.objectives.simmim import SimMIM
from ssl_zoo.tokens import patchify
from ssl_zoo.views.blocks import units
from ssl_zoo.views.view import View

BLOCK = {"norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.o_proj"}
BLOCK |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
REST = {"cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings"}
REST |= {f"patch_embed.proj.{x}": f"embeddings.patch_embeddings.projection.{x}" for x in ("weight", "bias")}
REST |= {f"norm.{x}": f"layernorm.{x}" for x in ("weight", "bias")}


def as_theirs(ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of SimMIM, or their gradients, in the names and shapes of the model of transformers."""
    found = {"vit.embeddings.mask_token": ours["blank"].view(1, 1, -1)}
    for name in ("weight", "bias"):  # rows of a patch: ours (p, p, C), theirs (C, p, p)
        cells = ours[f"draw.{name}"].view(8, 8, 3, -1).permute(2, 0, 1, 3)
        found[f"decoder.0.{name}"] = cells.reshape(192, 16, 1, 1) if name == "weight" else cells.flatten()
        for ends in REST:
            if ends.endswith(name) or "." not in ends:
                found[f"vit.{REST[ends]}"] = ours[f"backbone.model.{ends}"]
        for i in range(2):
            at = f"backbone.model.blocks.{i}."
            for one, other in BLOCK.items():
                found[f"vit.layers.{i}.{other}.{name}"] = ours[f"{at}{one}.{name}"]
            for key, part in zip("qkv", ours[f"{at}attn.qkv.{name}"].chunk(3), strict=True):
                found[f"vit.layers.{i}.attention.{key}_proj.{name}"] = part
    return found


def test_loss_and_gradient_are_those_of_transformers():
    objective = stirred(build(SimMIM, backbone("vit"), view=plain)).double().train()
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32,
        patch_size=8, encoder_stride=8, layer_norm_eps=1e-6, use_mask_token=True,
    )  # fmt: skip
    peer = ViTForMaskedImageModeling(config).double().eval()
    peer.load_state_dict(as_theirs(dict(objective.named_parameters())))
    batch = images(rows=3)
    seed_noise(0, 0)
    loss = objective(batch).value
    seed_noise(0, 0)
    hidden = torch.zeros(3, 16, dtype=torch.bool)
    for row, at in zip(hidden, units(rand(3, 4), (4, 4), 2, 3), strict=True):
        row[at] = True
    want = peer((plain(batch.x) - objective.normalise.mean) / objective.normalise.std, hidden).loss
    assert hidden.sum(1).tolist() == [12] * 3
    torch.testing.assert_close(loss, want, rtol=1e-10, atol=0)
    ours, theirs = dict(objective.named_parameters()), dict(peer.named_parameters())
    mine = as_theirs(dict(zip(ours, grad(loss, list(ours.values())), strict=True)))
    for name, expected in zip(theirs, grad(want, list(theirs.values())), strict=True):
        torch.testing.assert_close(mine[name], expected, rtol=1e-6, atol=1e-9)


def test_it_is_the_mean_over_hidden_pixels_alone():
    """What is drawn where nothing is hidden, and hidden content itself, change nothing but the target."""
    objective = stirred(build(SimMIM, backbone("vit"), view=plain)).double().eval()
    batch = images(rows=2)
    seed_noise(0, 0)
    at, drawn = objective.predict(plain(batch.x))
    other = plain(batch.x).clone()
    cells = patchify(other, 8)
    for row, places in zip(cells, at, strict=True):
        row[places] = 0
    seen = cells.view(2, 4, 4, 8, 8, 3).permute(0, 5, 1, 3, 2, 4).reshape(2, 3, 32, 32)
    seed_noise(0, 0)
    torch.testing.assert_close(objective.predict(seen)[1], drawn)
    seed_noise(0, 0)
    true = patchify(objective.normalise(plain(batch.x)), 8)
    errors = [(drawn[b, k] - true[b, i]).abs() for b in range(2) for k, i in enumerate(at[b])]
    assert objective(batch).value.item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-10)


def test_squares_are_the_papers():
    """30 squares of 32 pixels of 224, two patches wide, are 120 of 196 patches; crops cover 67 % and more."""
    objective = SimMIM(backbone("vit", image_size=224, patch_size=16))
    assert (objective.count, objective.places, objective.side) == (30, 49, 2)
    assert isinstance(objective.view, View)
    assert objective.view.scale == (0.67, 1.0)
    at, drawn = objective.predict(torch.rand(1, 3, 224, 224))
    assert at.shape == (1, 120)
    assert drawn.shape == (1, 120, 768)


def test_the_drawing_is_the_crop_outside_of_what_was_hidden():
    objective = build(SimMIM, backbone("vit")).eval()
    with torch.no_grad():
        shown = objective.show(images()).columns
    inside = (shown["left"] - shown["crop"]).abs().amax(1) > 1e-6
    assert 0.6 < inside.float().mean() <= 0.75
    outside = (~inside)[:, None].expand_as(shown["crop"])
    torch.testing.assert_close(shown["drawn"][outside], shown["crop"][outside])


@pytest.mark.parametrize(("wrong", "says"), [
    ({"side": 3}, "4x4 patches do not make squares of 3x3: side=1"),
    ({"side": 0}, "do not make squares of 0x0"),
    ({"masked": 0.0}, "at least one is hidden, and not all"),
    ({"masked": 0.9}, "masked=0.9 of 4 squares are 4"),
])  # fmt: skip
def test_it_refuses(wrong, says):
    with pytest.raises(ValueError, match=says):
        build(SimMIM, backbone("vit"), **wrong)
