"""timm backbones against timm's own forward, and what they refuse."""

import json
import math
from pathlib import Path

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file
from torchvision.transforms.functional import to_pil_image

from ssl_zoo.backbones.vision import TimmCNN, TimmViT, timm_backbone
from ssl_zoo.objectives._base import Batch
from ssl_zoo.objectives.mae import MAE
from ssl_zoo.tokens import patchify, take

TINY = {"image_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
VITS = {
    "class token": ("vit_tiny_patch16_224", {}),
    "class token, positions of its own": ("vit_tiny_patch16_224", {"no_embed_class": True}),
    "average pool": ("vit_base_patch16_gap_224", {}),
    "no class token": ("vit_tiny_patch16_224", {"class_token": False}),
    "registers": ("vit_small_patch14_reg4_dinov2", {}),
    "norm before the blocks": ("vit_base_patch16_clip_224", {}),
    "distillation token": ("deit_tiny_distilled_patch16_224", {}),
    "no positions": ("vit_tiny_patch16_224", {"pos_embed": "none"}),
    "rotary": ("vit_small_patch16_rope_224", {}),
    "rotary, learned per block": ("vit_small_patch16_rope_mixed_224", {}),
    "rotary and learned": ("eva02_tiny_patch14_224", {}),
    "dinov3": ("vit_small_patch16_dinov3", {}),
}


@pytest.fixture(params=VITS.values(), ids=VITS.keys())
def vit(request):
    torch.manual_seed(0)
    name, extra = request.param
    vit = timm_backbone(name, **TINY, **extra).eval()
    with torch.no_grad():  # zero-initialised positions and tiny prefixes would hide where they are added
        for weight in vit.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return vit


@torch.no_grad()
def test_vit_equals_timm(vit):
    x = torch.rand(3, 3, 32, 32)
    mean, std = (torch.tensor(vit.config[key])[:, None, None] for key in ("mean", "std"))
    want = vit.model.forward_features((x - mean) / std)[:, vit.model.num_prefix_tokens :]
    got = vit(x, layers="pooled")
    torch.testing.assert_close(got.tokens, want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.pooled, want.mean(1), rtol=1e-5, atol=1e-5)
    assert got.tokens.shape == (3, 16, 32)
    states = vit.model.forward_intermediates((x - mean) / std, intermediates_only=True)
    for layer, state in zip(got.layers, states, strict=True):  # state: (B, D, h, w)
        torch.testing.assert_close(layer, state.mean((2, 3)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_vit_order_of_tokens_does_not_matter_but_positions_do(vit):
    tokens = vit.embed(torch.rand(2, 3, 32, 32))
    order = torch.stack([torch.randperm(16), torch.randperm(16)])
    straight = vit.encode(tokens)
    moved = vit.encode(take(tokens, order), order)
    torch.testing.assert_close(moved.tokens, take(straight.tokens, order), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moved.pooled, straight.pooled, rtol=1e-4, atol=1e-4)
    elsewhere = vit.encode(tokens, order)
    placed = vit.model.pos_embed is not None or getattr(vit.model, "rope", None) is not None
    assert torch.allclose(elsewhere.pooled, straight.pooled, rtol=1e-4, atol=1e-4) != placed


@torch.no_grad()
def test_vit_rows_of_the_tokens_keep_their_positions(vit):
    tokens = vit.embed(torch.rand(2, 3, 32, 32))
    seen = torch.tensor([[3, 9, 12], [15, 0, 7]])
    both = vit.encode(take(tokens, seen), seen).tokens
    alone = vit.encode(tokens[1:, [15, 0, 7]], seen[1:]).tokens
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)
    every = torch.arange(16).expand(2, 16)
    torch.testing.assert_close(vit.encode(tokens).tokens, vit.encode(tokens, every).tokens)


def own_forward(vit: TimmViT, x: torch.Tensor) -> torch.Tensor:
    """timm's forward of images of any size, which resamples positions by itself."""
    return vit.model.forward_features(vit.normalise(x))[:, vit.prefix :]


@pytest.mark.parametrize("size", [(16, 16), (24, 48), (40, 40)])
def test_vit_of_other_image_sizes_equals_timm(vit, size):
    x = torch.rand(3, 3, *size)
    grid = (size[0] // 8, size[1] // 8)
    assert vit.grid(*size) == grid
    got = vit(x)
    torch.testing.assert_close(got.tokens, own_forward(vit, x), rtol=1e-5, atol=1e-5)
    weights = [p for p in vit.parameters() if p.requires_grad]
    mine, theirs = (
        torch.autograd.grad(t.square().mean(), weights) for t in (got.tokens, own_forward(vit, x))
    )
    for one, two in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    # Positions count in that grid, and some of the patches lie where they lay.
    tokens = vit.embed(x)
    at = torch.stack([torch.randperm(len(tokens[0])) for _ in x])
    moved = vit.encode(take(tokens, at), at, grid=grid)
    torch.testing.assert_close(moved.tokens, take(got.tokens, at), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=f"{grid[0] * grid[1]} patches, but a grid of 4x4 has 16"):
        vit.encode(tokens)
    with pytest.raises(ValueError, match="position 99 is asked for"):
        vit.encode(tokens[:, :1], torch.full((3, 1), 99), grid=grid)


@pytest.mark.parametrize(
    "name", ["vit_small_patch16_rope_224", "eva02_tiny_patch14_224", "vit_tiny_patch16_224"]
)
@torch.no_grad()
def test_vit_equals_timm_built_for_one_size(name):
    """timm then stores its positions instead of working them out."""
    sizes = TINY | {"img_size": 32}
    del sizes["image_size"]
    vit = TimmViT(name, **TINY).eval()
    fixed = timm.create_model(name, num_classes=0, dynamic_img_size=False, **sizes).eval()
    if isinstance(fixed.norm, torch.nn.Identity):
        fixed.norm, fixed.fc_norm = fixed.fc_norm, fixed.norm
    fixed.load_state_dict(vit.model.state_dict())
    x = torch.rand(2, 3, 32, 32)
    want = fixed.forward_features(vit.normalise(x))[:, vit.prefix :]
    torch.testing.assert_close(vit(x).tokens, want, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_vit_padding_is_not_seen(vit):
    """Rows of 5, 9 and 16 patches, padded with noise to 16: each reads as it does alone."""
    tokens, places = vit.embed(torch.rand(3, 3, 32, 32)), torch.stack([torch.randperm(16) for _ in range(3)])
    counts = torch.tensor([5, 9, 16])
    segments = (torch.arange(16) >= counts[:, None]).long().neg()
    padded = vit.encode(take(tokens, places), places, segments, layers="pooled")
    whole = vit.encode(take(tokens, places), places, layers="tokens")
    for row, count in enumerate(counts.tolist()):
        at = places[row : row + 1, :count]
        alone = vit.encode(take(tokens[row : row + 1], at), at, layers="pooled")
        torch.testing.assert_close(padded.tokens[row, :count], alone.tokens[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(padded.pooled[row], alone.pooled[0], rtol=1e-4, atol=1e-4)
        for one, two in zip(padded.layers, alone.layers, strict=True):
            torch.testing.assert_close(one[row], two[0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(padded.tokens[0, :5], whole.tokens[0, :5], atol=1e-2)
    assert padded.tokens.isfinite().all()


@pytest.mark.parametrize("order", ["causal", "prefix", "permuted"])
@torch.no_grad()
def test_vit_sees_in_the_order_it_is_told(vit, order):
    """Changing one patch changes what comes at or after it, and nothing before: its own prefix included."""
    tokens = vit.embed(torch.rand(2, 3, 32, 32))
    ranks = {
        "causal": torch.arange(16).expand(2, 16),
        "prefix": (torch.arange(16) - 5).clamp_min(0).expand(2, 16),  # the first six see one another
        "permuted": torch.stack([torch.randperm(16) for _ in range(2)]),
    }[order]
    asked = "causal" if order == "causal" else ranks
    before = vit.encode(tokens, order=asked).tokens
    for place in (0, 3, 9):
        other = tokens.clone()
        other[:, place] += torch.randn(2, 32)
        changed = (vit.encode(other, order=asked).tokens - before).abs().amax(-1) > 1e-6
        assert torch.equal(changed, ranks >= ranks[:, place, None])


def test_vit_has_no_patches_beyond_its_grid(vit):
    tokens = vit.embed(torch.rand(1, 3, 32, 32))
    for outside in (-1, 16):
        with pytest.raises(ValueError, match=f"position {outside} is asked for, but .* 0 to 15"):
            vit.encode(tokens[:, :2], torch.tensor([[0, outside]]))
    with pytest.raises(ValueError, match=r"17 patches, but a grid of 4x4 has 16"):
        vit.encode(torch.cat([tokens, tokens[:, :1]], 1))


def test_vit_has_a_gradient_for_every_parameter(vit):
    vit.train()(torch.rand(2, 3, 32, 32)).tokens.square().sum().backward()
    assert [name for name, weight in vit.named_parameters() if weight.grad is None] == []


def test_vit_embeds_patches_apart_and_row_by_row():
    vit = timm_backbone("vit_tiny_patch16_224", **TINY, mean=[0, 0, 0], std=[1, 1, 1])
    x = torch.rand(2, 3, 32, 32)
    cells = patchify(x, 8).reshape(2, 16, 8, 8, 3)  # (B, N, p, p, C)
    conv = vit.model.patch_embed.proj
    want = torch.einsum("bnhwc,dchw->bnd", cells, conv.weight) + conv.bias
    torch.testing.assert_close(vit.embed(x), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vit_small_patch16_rope_mixed_224", TINY | {"drop_path": 0.1}),
        ("resnet18", {"image_size": 32, "stem": "small", "channels": (8, 8, 16, 16), "layers": (1, 1, 1, 1)}),
        ("swin_tiny_patch4_window7_224", {"image_size": 56, "embed_dim": 24, "depths": (1, 1, 1, 1)}),
    ],
)
def test_config_builds_the_same_backbone(name, arguments):
    one = timm_backbone(name, **arguments).eval()
    two = timm_backbone(**json.loads(json.dumps(one.config))).eval()
    two.load_state_dict(one.state_dict())
    x = torch.rand(2, 3, *one.image_size)
    assert torch.equal(one(x).tokens, two(x).tokens)
    assert math.prod(one.grid(*one.image_size)) == one(x).tokens.shape[1]
    assert two.config == one.config
    assert type(two) is type(one)


NORM_BEHIND_POOL = "eva02_tiny_patch14_224"


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_pretrained_reads_a_local_file(tmp_path, kind):
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    source = timm.create_model(NORM_BEHIND_POOL, num_classes=5, **sizes).eval()
    torch.nn.init.normal_(source.fc_norm.weight)
    path = str(tmp_path / f"weights.{kind}")
    save_file(source.state_dict(), path) if kind == "safetensors" else torch.save(source.state_dict(), path)
    vit = timm_backbone(NORM_BEHIND_POOL, pretrained=path, mean=[0] * 3, std=[1] * 3, **TINY).eval()
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(vit(x).tokens, source.fc_norm(source.forward_features(x))[:, 1:])
    assert "pretrained" not in vit.config
    state = source.state_dict()
    del state["blocks.1.norm1.weight"]
    save_file(state, str(tmp_path / "holes.safetensors"))
    with pytest.raises(ValueError, match=r"lacks 1 weights.*blocks\.1\.norm1\.weight"):
        timm_backbone(NORM_BEHIND_POOL, pretrained=str(tmp_path / "holes.safetensors"), **TINY)


@torch.no_grad()
def test_small_stem_keeps_the_resolution():
    big, small = (TimmCNN("resnet18", image_size=32, stem=stem).eval() for stem in ("imagenet", "small"))
    x = torch.rand(2, 3, 32, 32)
    assert big(x).tokens.shape == (2, 1, 512)
    got = small(x, layers="pooled")
    assert got.tokens.shape == (2, 16, 512)
    assert [tuple(layer.shape) for layer in got.layers] == [(2, 64), (2, 128), (2, 256), (2, 512)]
    states = small.model.forward_intermediates(small.normalise(x), intermediates_only=True)[1:]
    for layer, state in zip(got.layers, states, strict=True):
        torch.testing.assert_close(layer, state.mean((2, 3)))
    torch.testing.assert_close(got.tokens, states[-1].flatten(2).mT)  # cells row by row
    torch.testing.assert_close(got.pooled, got.layers[-1])
    assert not any(block._forward_hooks for block in small.blocks())
    assert small(torch.rand(1, 3, 48, 48)).tokens.shape == (1, 36, 512)


@pytest.mark.parametrize(
    ("name", "side", "cells"),
    [("convnext_atto", 64, 4), ("mobilenetv3_small_050", 64, 4), ("swin_tiny_patch4_window7_224", 56, 4)],
)
def test_other_models_train_what_they_read(name, side, cells):
    extra = {"embed_dim": 24, "depths": (1, 1, 1, 1)} if "swin" in name else {}
    cnn = timm_backbone(name, image_size=side, **extra)
    got = cnn(torch.rand(2, 3, side, side), layers="pooled")
    assert got.tokens.shape == (2, cells, cnn.dim)
    assert len(got.layers) == len(cnn.blocks()) > 1
    got.tokens.square().sum().backward()
    assert all((weight.grad is not None) == weight.requires_grad for weight in cnn.parameters())


def test_building_leaves_grey_images_and_other_statistics_to_the_caller():
    grey = timm_backbone("vit_tiny_patch16_224", in_chans=1, **TINY)
    assert len(grey.config["mean"]) == 1
    assert grey(torch.rand(1, 1, 32, 32)).pooled.shape == (1, 32)
    assert not any("mean" in key or "std" in key for key in grey.state_dict())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("vit_tinny_patch16_224", {}, "vit_tiny_patch16_224"),
        ("vit_tiny_patch16_224", {"image_size": 30, "patch_size": 4}, "30x30 .* patches of 4; use 28 or 32"),
        ("vit_tiny_patch16_224", {"patch_size": (8, 16)}, "its patches are 8x16"),
        ("vit_tiny_patch16_224", {"patch_size": 0}, "timm cannot build"),
        ("vit_tiny_patch16_224", {"num_heads": 0}, "timm cannot build"),
        ("vit_tiny_patch16_224", {"nonsense": 1}, "nonsense"),
        ("vit_tiny_patch16_224", {"patch_drop_rate": 0.5}, "patch_drop_rate"),
        ("vit_tiny_patch16_224", {"drop_path_rate": 0.1}, "called drop_path here"),
        ("vit_tiny_patch16_224", {"mean": [0.5]}, "mean has 1 values"),
        ("resnet18", {"std": [0.5, 0.0, 0.5]}, r"std=\[0.5, 0.0, 0.5\] does not normalise"),
        ("resnet18", {"mean": [0.5, 0.5, float("nan")]}, "does not normalise"),
        ("vit_tiny_patch16_224", {"pretrained": "/nowhere.pth"}, "is not a file"),
        ("vit_tiny_patch16_224", {"image_size": 0}, "image_size=0 is neither a side in pixels nor"),
        ("resnet18", {"image_size": -32}, "image_size=-32 is neither"),
        ("resnet18", {"image_size": [32]}, r"image_size=\[32\] is neither"),
        ("resnet18", {"image_size": [32, 32, 3]}, "is neither"),
        ("resnet18", {"image_size": "32"}, "image_size='32' is neither"),
        ("convnext_atto", {"stem": "small"}, "convnext_atto is not one"),
        ("resnet18", {"stem": "tiny"}, "choose imagenet, small or half"),
    ],
)
def test_refusals_say_what_would_work(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        timm_backbone(name, **arguments)


def test_vit_refuses_what_it_cannot_honour():
    with pytest.raises(ValueError, match="build it as TimmCNN"):
        TimmViT("vit_tiny_r_s16_p8_224")  # its patch embedding is a CNN
    vit = timm_backbone("vit_tiny_patch16_224", **TINY)
    with pytest.raises(ValueError, match="28x40 does not divide into patches of 8; use 24 or 32"):
        vit(torch.rand(1, 3, 28, 40))
    with pytest.raises(ValueError, match="order 'backwards' is not known"):
        vit.encode(torch.rand(1, 16, 32), order="backwards")
    with pytest.raises(ValueError, match="its segments are 0, or -1"):
        vit.encode(torch.rand(1, 16, 32), None, torch.ones(1, 16, dtype=torch.long))


@pytest.mark.parametrize(
    ("file", "kind", "dim", "tokens", "million"),
    [
        ("vit_micro", TimmViT, 128, 64, (1.0, 2.0)),
        ("vit_tiny", TimmViT, 192, 4, (5.0, 6.0)),
        ("resnet_micro", TimmCNN, 192, 4, (0.6, 0.8)),
        ("resnet18", TimmCNN, 512, 1, (11.0, 11.5)),
    ],
)
def test_configs_build(file, kind, dim, tokens, million):
    path = Path(__file__).parents[2] / "configs" / "backbone" / f"{file}.yaml"
    fields = yaml.safe_load(path.read_text())
    assert fields.pop("_target_") == f"{kind.__module__}.{kind.__name__}"
    backbone = kind(**fields | {"image_size": 32})
    assert isinstance(backbone, kind)
    assert backbone(torch.rand(2, 3, 32, 32)).tokens.shape == (2, tokens, dim)
    assert million[0] < sum(p.numel() for p in backbone.parameters()) / 1e6 < million[1]


# What comes in

WIDTHS = {"embed_dim": 32, "depth": 1, "num_heads": 2}
DOORS = [
    lambda **more: TimmViT("vit_tiny_patch16_224", image_size=32, patch_size=8, **WIDTHS, **more).eval(),
    lambda **more: TimmCNN("resnet10t", image_size=32, channels=[8, 8, 16, 16], **more).eval(),
]


@torch.no_grad()
@pytest.mark.parametrize("make", DOORS, ids=["vit", "cnn"])
def test_uint8_images_are_those_divided_by_255(make):
    model = make()
    x = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(model(x).pooled, model(x.float() / 255).pooled)
    assert torch.equal(model(x.double() / 255).pooled, model(x.float() / 255).pooled)


@torch.no_grad()
@pytest.mark.parametrize("make", DOORS, ids=["vit", "cnn"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: x * 255, "divide by 255"),
        (lambda x: x * 2 - 1, r"values from -1 to 1, .* leave out your own scaling"),
        (lambda x: (x - 0.45) / 0.22, "leave out your own scaling"),
        (lambda x: x.where(x > 0.01, torch.nan), "NaN"),
        (lambda x: x.where(x < 0.99, torch.inf), "infinite"),
        (lambda x: (x * 255).long(), "uint8 or float"),
        (lambda x: x > 0.5, "uint8 or float"),
        (lambda x: x.permute(0, 2, 3, 1), r"permute\(0, 3, 1, 2\)"),
        (lambda x: x[0], r"add a batch dimension, x\[None\]"),
        (lambda x: x.flatten(1), r"are not \(B, 3, H, W\)"),
        (lambda x: x[:, :1], r"x.expand\(-1, 3, -1, -1\), or build it with in_chans=1"),
        (lambda x: torch.cat([x, x[:, :1]], 1), "in_chans=4"),
    ],
)
def test_other_images_are_refused_each_time(make, change, says):
    model, x = make(), torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    x[:, :, 0, 0], x[:, :, 0, 1] = 0, 1
    model(x)
    model(x * 1.2 - 0.1)  # what sharp filters overshoot is let in
    for part in (model, model.train()):
        with pytest.raises(ValueError, match=says):
            part(change(x))


@torch.no_grad()
@pytest.mark.parametrize("make", DOORS, ids=["vit", "cnn"])
def test_a_grey_backbone_reads_rgb_as_luma(make):
    model, x = make(in_chans=1), torch.rand(2, 3, 32, 32)
    grey = 0.2989 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]
    torch.testing.assert_close(model(x).pooled, model(grey).pooled)
    with pytest.raises(ValueError, match="in_chans=4"):
        model(torch.rand(2, 4, 32, 32))
    with pytest.raises(ValueError, match="put the channels first"):
        model(torch.rand(2, 32, 32, 3))


def test_a_grey_backbone_is_pretrained_by_mae():
    model = DOORS[0](in_chans=1)
    x = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    MAE(model, width=32, depth=1, heads=2)(Batch(x)).value.backward()
    assert model.model.patch_embed.proj.weight.grad.abs().sum() > 0


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet10t"])
def test_local_weights_of_other_channels_are_adapted(tmp_path, name):
    """As timm does it: summed for one channel, repeated and scaled for four."""
    vit = name.startswith("vit")
    sizes = {"img_size": 32, "patch_size": 8, **WIDTHS} if vit else {"channels": [8, 8, 16, 16]}
    source = timm.create_model(name, **sizes)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    first = "patch_embed.proj.weight" if vit else "conv1.0.weight"
    weight = source.state_dict()[first]
    if vit:
        sizes["image_size"] = sizes.pop("img_size")
    for channels, expected in ((1, weight.sum(1, keepdim=True)), (4, weight[:, [0, 1, 2, 0]] * 3 / 4)):
        model = timm_backbone(name, pretrained=tmp_path / "w.pth", in_chans=channels, **sizes)
        torch.testing.assert_close(model.model.state_dict()[first], expected)
        again = timm_backbone(**json.loads(json.dumps(model.config)))
        again.load_state_dict(model.state_dict())


def test_a_file_of_other_weights_is_named(tmp_path):
    sizes = {"image_size": 32, "patch_size": 8, **WIDTHS}
    state = TimmViT("vit_tiny_patch16_224", **sizes).model.state_dict()
    deeper = state | {name.replace("blocks.0", "blocks.1"): value.clone() for name, value in state.items()}
    wider = TimmViT("vit_tiny_patch16_224", **sizes | {"embed_dim": 48}).model.state_dict()
    files = {
        "deeper": (deeper, r"holds 12 that VisionTransformer has no place for, such as \['blocks\.1"),
        "wider": (wider, "does not fit this VisionTransformer: size mismatch"),
        "resnet": (TimmCNN("resnet10t").model.state_dict(), "lacks .* weights of VisionTransformer"),
        "list": ([1, 2], "is not a file of weights"),
        "other": ({"step": 3, "state_dict": {"a": 1}}, "is not a file of weights"),
        "code": ({"state_dict": Batch}, "is not a file of weights"),
    }
    for name, (content, _) in files.items():
        torch.save(content, tmp_path / name)
    (tmp_path / "text").write_text("no weights")
    (tmp_path / "broken.safetensors").write_bytes(b"\x10" + bytes(30))
    (tmp_path / "empty").touch()
    files |= dict.fromkeys(("text", "broken.safetensors", "empty"), (None, "is not a file of weights"))
    files["nowhere"] = (None, "is not a file; pass")
    for name, (_, says) in files.items():
        with pytest.raises(ValueError, match=says) as refused:
            timm_backbone("vit_tiny_patch16_224", pretrained=str(tmp_path / name), **sizes)
        assert str(tmp_path / name) in str(refused.value)
    with pytest.raises(ValueError, match="neither true, false nor the path"):
        timm_backbone("vit_tiny_patch16_224", pretrained=1, **sizes)
    torch.save(state | {"decoder.weight": torch.ones(3), "head.weight": torch.ones(3)}, tmp_path / "more")
    with pytest.warns(UserWarning, match=r"more: 1 weights are not .* such as \['decoder\.weight'\]"):
        timm_backbone("vit_tiny_patch16_224", pretrained=str(tmp_path / "more"), **sizes)


@pytest.mark.parametrize(
    "made", [lambda x: x.numpy(), lambda x: [x[0]], lambda x: to_pil_image(x[0]), lambda x: None]
)
def test_images_that_are_no_tensor_are_refused(made):
    x = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"images are a tensor \(B, 3, H, W\), not .*: torch.from_numpy"):
        timm_backbone("resnet18", image_size=32)(made(x))
