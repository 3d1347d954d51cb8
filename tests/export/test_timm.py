"""Folders that timm opens: the same features for networks of many kinds; what no arguments of timm say."""

import json

import numpy as np
import pytest
import timm
import torch
from export_sources import RECEIPT, cnn, vit
from PIL import Image
from safetensors import safe_open
from torch import nn
from zoo_backbones import backbone

import ssl_zoo
from ssl_zoo.export import doors
from ssl_zoo.export._base import ExportError, Source

EVA = {"image_size": 28, "patch_size": 7, "embed_dim": 32}
SOURCES = {
    "vit": vit,
    "rectangle": lambda: vit(image_size=[32, 48]),
    "no class token": lambda: vit(class_token=False),
    "registers, grey": lambda: vit(reg_tokens=4, no_embed_class=True, in_chans=1, mean=[0.3], std=[0.5]),
    "attention pool": lambda: vit("vit_base_patch16_siglip_224"),
    "rotary": lambda: vit("eva02_tiny_patch14_224", **EVA),
    "resnet": cnn,
    "norm behind the pool": lambda: cnn("convnext_atto", image_size=64, depths=[1] * 4, dims=[8, 8, 16, 16]),
    "channels last": lambda: cnn(
        "swin_tiny_patch4_window7_224", image_size=64, embed_dim=16, depths=[1, 1], num_heads=[2, 2],
        window_size=4,
    ),
}  # fmt: skip


def images(source, count=3):
    one = source.pictures()
    noise = torch.Generator().manual_seed(1)
    return torch.rand(count, len(one.normalise.mean), *one.image_size, generator=noise)


@pytest.mark.parametrize("name", SOURCES)
def test_timm_reads_the_same(name, tmp_path):
    source = SOURCES[name]()
    doors.export(source, "timm", tmp_path / "out")
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    about, x = timm.data.resolve_model_data_config(model), images(source)
    mean, std = (torch.tensor(about[key])[:, None, None] for key in ("mean", "std"))
    assert tuple(about["input_size"][1:]) == source.pictures().image_size
    with torch.no_grad():
        ready = (x - mean) / std
        found, tokens = model(ready), model.forward_features(ready)
        mine = source.backbone(x)
    if name == "norm behind the pool":
        assert not torch.allclose(found, mine.pooled, atol=1e-2)
        found = tokens.mean((2, 3))
    assert torch.allclose(found, mine.pooled, atol=1e-5)
    assert mine.pooled.std() > 0.01


def test_images_are_prepared_as_here(tmp_path):
    source = vit()
    doors.export(source, "timm", tmp_path / "out")
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    with torch.no_grad():
        found = model(prepare(Image.fromarray(pixels))[None])
        mine = source.backbone(torch.from_numpy(pixels).permute(2, 0, 1)[None]).pooled
    assert torch.allclose(found, mine, atol=1e-5)
    ramp = np.broadcast_to(np.linspace(0, 255, 96).astype(np.uint8)[None, :, None], (32, 96, 3))
    wide = prepare(Image.fromarray(ramp))  # squashed: nothing is cut off at the sides
    assert wide.shape == (3, 32, 32)
    assert wide[:, :, 0].max() < -0.9
    assert wide[:, :, -1].min() > 0.9


def test_the_weights_carry_the_receipt_and_can_be_started_from(tmp_path):
    source = vit()
    folder = doors.export(source, "timm", tmp_path / "out").folder
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["ssl_zoo"]) == RECEIPT
        assert file.metadata()["format"] == "pt"
    again = vit(pretrained=str(folder / "model.safetensors"))
    assert [*again.backbone.state_dict()] == [*source.backbone.state_dict()]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: cnn(stem="small"), "stem=small is this library's own"),
        (lambda: Source(backbone("patches"), RECEIPT), "PatchDictionary is no model that timm builds"),
        (lambda: Source(backbone("transformer"), RECEIPT), "TextTransformer is no model that timm builds"),
        (
            lambda: Source(ssl_zoo.backbone(nn.Conv2d(3, 4, 3), image_size=8), RECEIPT),
            r"torch\.nn\.modules\.conv\.Conv2d is no model that timm builds",
        ),
    ],
)
def test_what_timm_cannot_say_is_refused(make, said, tmp_path):
    with pytest.raises(ExportError, match=f"{said}.*to=onnx or"):
        doors.export(make(), "timm", tmp_path / "out")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("to", ["timm", "transformers", "torch", "onnx"])
def test_patches_in_an_order_are_refused(to, tmp_path):
    source = vit()
    source.backbone.order = "causal"
    with pytest.raises(ExportError, match=r"open it with ssl_zoo\.load"):
        doors.export(source, to, tmp_path / "out")


def test_what_differs_is_not_shipped(tmp_path, monkeypatch):
    folder = doors.export(vit(), "timm", tmp_path / "out").folder
    before = (folder / "model.safetensors").read_bytes()
    wrong = vit()

    def forward(*args, **keys):
        found = type(wrong.backbone).forward(wrong.backbone, *args, **keys)
        return found._replace(pooled=found.pooled + 1e-3)

    monkeypatch.setattr(wrong.backbone, "forward", forward)
    with pytest.raises(ExportError, match=r"timm reads other features .* 1e-05 is taken"):
        doors.export(wrong, "timm", folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_only_an_earlier_export_is_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="no earlier export"):
        doors.export(vit(), "timm", tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    for _ in range(2):
        doors.export(vit(), "timm", empty)
    assert (tmp_path / "notes.txt").read_text() == "mine"
