"""Runs that start from an earlier one's backbone: init=RUN, and backbone.pretrained=FOLDER."""

import shutil

import pytest
import timm
import torch
from safetensors.torch import save_file

import ssl_zoo
from ssl_zoo import ConfigError
from ssl_zoo.backbones.cnn import TimmCNN
from ssl_zoo.compose.composition import build, settle
from ssl_zoo.compose.objective import build_objective
from ssl_zoo.compose.shorthand import with_public_backbone
from ssl_zoo.hub import HubError

SMALL = {"batch_size": 32, "steps": 1, "evaluate_every": 0, "trainer": "cpu", "progress": False}
IMAGES = {"objective": "rotation", "backbone": "resnet_micro", "data": "digits", **SMALL}
STILL = {"optimizer__lr": 0.0, "schedule": "constant"}  # what it starts from is what it ends with


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return ssl_zoo.pretrain(**IMAGES, out=tmp_path_factory.mktemp("runs") / "first", seed=5)


def weights(run):
    return dict(run.backbone.named_parameters())


def same(a, b):
    return all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())


def test_a_run_starts_from_another_with_another_objective(first, tmp_path):
    images = IMAGES | STILL | {"objective": "simclr_small"}
    assert not same(first, ssl_zoo.pretrain(**images, out=tmp_path / "new"))
    second = ssl_zoo.pretrain(**images, init=first, out=tmp_path / "second")
    assert same(first, second)
    assert second.config["init"] == str(first.path)
    third = ssl_zoo.pretrain(**images, backbone__pretrained=str(first.path), out=tmp_path / "third")
    assert same(first, third)


def test_it_is_part_of_what_a_run_is_and_read_once(first, tmp_path):
    moved = shutil.copytree(first.path, tmp_path / "moved")
    ssl_zoo.pretrain(**IMAGES | STILL, init=moved, out=tmp_path / "a")
    with pytest.raises(ssl_zoo.RunError, match=r"init: .*moved -> None"):
        ssl_zoo.pretrain(**IMAGES | STILL | {"steps": 2}, out=tmp_path / "a")
    shutil.rmtree(moved)
    on = ssl_zoo.pretrain(**IMAGES | STILL | {"steps": 2}, init=moved, out=tmp_path / "a")
    assert same(first, on)


def test_another_architecture_is_told_apart(first, tmp_path):
    with pytest.raises(
        ConfigError, match=r"init=.*channels \[16, 48, 96, 192\] there, \[16, 24, 32, 40\] here"
    ):
        ssl_zoo.pretrain(**IMAGES, backbone__channels=[16, 24, 32, 40], init=first, out=tmp_path / "a")
    with pytest.raises(ConfigError, match="TimmCNN there, TimmViT here"):
        ssl_zoo.pretrain(**IMAGES | {"backbone": "vit_micro"}, init=first, out=tmp_path / "a")
    with pytest.raises(HubError, match="there is no folder"):
        ssl_zoo.pretrain(**IMAGES, init=tmp_path / "none", out=tmp_path / "a")


def test_a_folder_of_timms_own_is_read(first, tmp_path):
    timms = TimmCNN(**first.backbone.config | {"stem": "imagenet"})
    state = {name: value.contiguous() for name, value in timms.model.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    keys = {"backbone__pretrained": str(tmp_path), "backbone__stem": "imagenet"}
    made = ssl_zoo.pretrain(**IMAGES | STILL | keys, out=tmp_path / "a")
    assert all(torch.equal(value, weights(made)[name]) for name, value in timms.named_parameters())


def test_text_brings_its_tokenizer(tmp_path, capfd):
    (tmp_path / "texts.txt").write_text("\n\n".join(f"document {i} speaks of {i * 7}" for i in range(200)))
    text = {"objective": "masked_lm", "backbone": "transformer_micro", "data": tmp_path / "texts.txt"}
    text |= {"context": 16, "backbone__width": 32, "backbone__depth": 1}
    text |= SMALL | {"tokenizer__size": 300}
    first = ssl_zoo.pretrain(**text, out=tmp_path / "first")
    del text["tokenizer__size"]
    second = ssl_zoo.pretrain(
        **text | STILL | {"objective": "next_token"}, init=first, out=tmp_path / "second"
    )
    assert same(first, second)
    files = [(run.path / "tokenizer/tokenizer.json").read_bytes() for run in (first, second)]
    assert files[0] == files[1]
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ConfigError, match="leave out tokenizer="):
        ssl_zoo.pretrain(**text, tokenizer="bytes", init=first, out=tmp_path / "third")


def test_public_weights_by_name_are_those_of_the_library():
    """backbone=timm/NAME says no more than three keys, and a typed key is left as it is."""
    words = with_public_backbone(["backbone=timm/resnet18.a1_in1k", "data=digits"])
    said = ["backbone=timm", "backbone.name='resnet18.a1_in1k'", "backbone.pretrained=true"]
    assert words == [*said, "data=digits"]
    named = with_public_backbone(["backbone=hf/gpt2", "backbone.pretrained=weights"])
    assert named == ["backbone=hf", "backbone.name='gpt2'", "backbone.pretrained=weights"]
    assert with_public_backbone(["backbone=resnet18"]) == ["backbone=resnet18"]


def test_public_weights_from_a_file_are_what_the_backbone_starts_from(tmp_path):
    """backbone=dinov2_small reads timm's names of its weights, from a file where there is no network."""
    model = timm.create_model("vit_small_patch14_dinov2.lvd142m", img_size=28, num_classes=0, depth=1)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    words = [
        *(
            "objective=simclr",
            "backbone=dinov2_small",
            "+backbone.depth=1",
            "data=digits",
            "data.image_size=28",
        ),
        f"backbone.pretrained={tmp_path / 'weights.safetensors'}",
    ]
    cfg = build("pretrain", settle("pretrain", words))
    backbone = build_objective(cfg, None).backbone
    ours = torch.cat(
        [one.flatten() for name, one in sorted(backbone.state_dict().items()) if "qkv.weight" in name]
    )
    assert torch.equal(ours, model.state_dict()["blocks.0.attn.qkv.weight"].flatten())


def test_absent_public_weights_are_told_with_what_would_work(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the variable is read at import
    cfg = build("pretrain", settle("pretrain", ["objective=simclr", "backbone=dinov3_small", "data=digits"]))
    with pytest.raises(ConfigError, match=r"vit_small_patch16_dinov3.*backbone\.pretrained=FILE"):
        build_objective(cfg, None)
