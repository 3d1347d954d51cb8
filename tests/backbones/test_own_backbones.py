"""Modules of your own as backbones, against what the modules themselves give."""

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from zoo_backbones import VOCABULARY, images

import ssl_zoo
from ssl_zoo import norm
from ssl_zoo.backbones.own import backbone
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.backbones.vision import TimmCNN, TimmViT
from ssl_zoo.hub import HubError
from ssl_zoo.objectives._base import Batch
from ssl_zoo.objectives.mae import MAE
from ssl_zoo.objectives.simclr import SimCLR

CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


class Net(nn.Module):
    """Maps, tokens or vectors of 6 channels, and weights that they do not depend on."""

    def __init__(self, gives: str, channels: int = 3):
        super().__init__()
        self.gives = gives
        self.conv = nn.Conv2d(channels, 6, 4, 4)
        self.bn = nn.BatchNorm2d(6)
        self.unread = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn(self.conv(x))
        return {"maps": out, "tokens": out.flatten(2).mT, "vectors": out.mean((2, 3))}[self.gives]


@torch.no_grad()
def test_a_resnet_of_torchvision_is_read_before_its_classifier():
    net = torchvision.models.resnet18().eval()
    one = backbone(net, image_size=64).eval()
    x = torch.rand(2, 3, 64, 64)
    seen = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    maps = [seen := net.maxpool(net.relu(net.bn1(net.conv1(seen))))]
    maps += [seen := stage(seen) for stage in (net.layer1, net.layer2, net.layer3, net.layer4)]
    got = one(x, layers="tokens")
    torch.testing.assert_close(got.tokens, maps[-1].flatten(2).mT)
    torch.testing.assert_close(got.pooled, maps[-1].mean((2, 3)))
    for layer, state in zip(got.layers, maps[1:], strict=True):
        torch.testing.assert_close(layer, state.flatten(2).mT)
    assert (one.kind, one.dim, one.image_size) == ("cnn", 512, (64, 64))
    assert one.grid(64, 64) == (2, 2)
    assert one.grid(96, 32) == (3, 1)
    assert {name for name, p in net.named_parameters() if not p.requires_grad} == {"fc.weight", "fc.bias"}
    assert type(net.bn1) is norm.BatchNorm2d, "over all processes"


@torch.no_grad()
def test_models_of_timm_are_read_as_by_their_names():
    net = timm.create_model("convnext_atto", num_classes=10, **CONVNEXT).eval()
    named = TimmCNN("convnext_atto", image_size=64, **CONVNEXT).eval()
    named.model.load_state_dict(net.state_dict(), strict=False)
    x = torch.rand(2, 3, 64, 64)
    one = backbone(net, image_size=64).eval()
    want, got = named(x, layers="pooled"), one(x, layers="pooled")
    torch.testing.assert_close(got.tokens, want.tokens)
    torch.testing.assert_close(got.layers, want.layers)
    assert (one.grid(64, 64), one.dim) == (named.grid(64, 64), named.dim)
    assert backbone(net).image_size == (224, 224)  # what timm says of it


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224", "vit_base_patch16_gap_224"]
)
@pytest.mark.parametrize("dynamic", [True, False])
@torch.no_grad()
def test_a_vision_transformer_of_timm_can_hide_its_patches(name, dynamic):
    net = timm.create_model(name, num_classes=10, dynamic_img_size=dynamic, **VIT).eval()
    sizes = {"image_size": 32} | {k: v for k, v in VIT.items() if k != "img_size"}
    named = TimmViT(name, **sizes).eval()
    x = torch.rand(2, 3, 32, 32)
    before = net(x)
    one = backbone(net).eval()
    named.load_state_dict(one.state_dict())
    got, want = one(x, layers="pooled"), named(x, layers="pooled")
    torch.testing.assert_close(got.tokens, want.tokens, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.layers, want.layers, rtol=1e-5, atol=1e-5)
    assert (one.kind, one.patch, one.grid(32, 32)) == ("vit", 8, (4, 4))
    assert torch.equal(net(x), before), "the module still classifies"
    if dynamic or "eva" not in name:
        torch.testing.assert_close(one(x[..., :16]).tokens, named(x[..., :16]).tokens, rtol=1e-5, atol=1e-5)
    else:
        with pytest.raises(ValueError, match="build it with dynamic_img_size=True"):
            one(x[..., :16])


@torch.no_grad()
def test_a_vision_transformer_of_which_timm_says_nothing_reads_images_as_they_are():
    net = timm.models.VisionTransformer(**VIT).eval()
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(backbone(net).eval()(x).tokens, net.forward_features(x)[:, 1:])


@pytest.mark.parametrize("gives", ["maps", "tokens", "vectors"])
@torch.no_grad()
def test_any_module_that_gives_features(gives):
    net = Net(gives).eval()
    one = backbone(net, image_size=(16, 8)).eval()
    x = torch.rand(3, 3, 16, 8)
    got, maps = one(x, layers="tokens"), net.bn(net.conv(x))
    want = maps.mean((2, 3))[:, None] if gives == "vectors" else maps.flatten(2).mT
    torch.testing.assert_close(got.tokens, want)
    torch.testing.assert_close(got.pooled, maps.mean((2, 3)))
    assert torch.equal(got.layers[0], got.tokens)
    assert one.grid(16, 8) == ((1, 1) if gives == "vectors" else (4, 2))
    assert one.grid(8, 16) == ((1, 1) if gives == "vectors" else (2, 4))
    assert one.dim == 6
    assert not net.unread.weight.requires_grad
    assert net.conv.weight.requires_grad
    named = backbone(net, image_size=16, features="conv", mean=[0.5] * 3, std=[2] * 3).eval()
    torch.testing.assert_close(named(x).tokens, net.conv((x - 0.5) / 2).flatten(2).mT)
    grey = backbone(Net(gives, channels=1), image_size=16)
    assert grey(x).tokens.shape[-1] == 6


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_it_trains_is_saved_and_is_opened_with_another_module(tmp_path, kind):
    torch.manual_seed(0)

    def module() -> nn.Module:
        return timm.create_model("vit_tiny_patch16_224", **VIT) if kind == "vit" else Net("maps")

    one = backbone(module()) if kind == "vit" else backbone(module(), image_size=32, std=[0.5] * 3)
    objective = SimCLR(one, width=16, out=8) if kind == "cnn" else MAE(one, width=16, depth=1, heads=2)
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.1)
    start = [p.clone() for p in one.parameters()]
    objective(images(4)).value.backward()
    assert all(p.grad is not None for p in one.parameters() if p.requires_grad)
    optimizer.step()
    assert any(not torch.equal(p, q) for p, q in zip(one.parameters(), start, strict=True))
    if kind == "vit":
        one.order = "causal"  # is kept
    folder = ssl_zoo.save(one, tmp_path / "backbone")
    opened = ssl_zoo.load(folder, backbone=module())
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(opened(x).pooled, one.eval()(x).pooled)
    assert opened.config == one.config
    with pytest.raises(
        HubError, match=r"a module of your own, .*build one and call ssl_zoo.load\(path, backbone=module\)"
    ):
        ssl_zoo.load(folder)
    with pytest.raises(HubError, match="does not fit"):
        ssl_zoo.load(folder, backbone=Net("maps", channels=5))
    with pytest.raises(HubError, match="opens without one"):
        ssl_zoo.load(
            ssl_zoo.save(TextTransformer(VOCABULARY, 16, 1, 2), tmp_path / "text"), backbone=module()
        )


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ("resnet18", {}, "is a name: .*timm_backbone"),
        (Net, {}, r"Net is a class: give an object of it, backbone\(Net\(\.\.\.\)\)"),
        (lambda x: x, {}, "function is no nn.Module: write one whose forward gives feature maps"),
        (torch.zeros(3), {}, "Tensor is no nn.Module"),
        (TextTransformer(VOCABULARY, 16, 1, 2), {}, "is a backbone already"),
        (Net("maps"), {}, "image_size=SIDE"),
        (Net("maps"), {"image_size": 32, "features": "nothing"}, "has no attribute"),
        (Net("maps"), {"image_size": 32, "features": "unread"}, "part unread has not been run"),
        (nn.Linear(7, 7), {"image_size": 32}, r"cannot read images of shape \(2, 3, 32, 32\)"),
        (nn.Identity(), {"image_size": 32, "mean": [0.5], "std": [1, 2]}, "std has 2 values"),
        (Pair(), {"image_size": 32}, "gives tuple for two images, not feature maps"),
        (nn.Flatten(0), {"image_size": 32}, r"gives a tensor \(6144,\) for two images"),
        (torchvision.models.swin_t(), {"image_size": 32}, "say which part of .*SwinTransformer"),
        (
            timm.create_model("vit_tiny_patch16_224", **VIT),
            {"image_size": 64},
            "for images of .32, 32.: leave",
        ),
        (
            timm.create_model("vit_tiny_patch16_224", **VIT, patch_drop_rate=0.5),
            {},
            "drops patches by itself",
        ),
    ],
)
def test_what_is_no_backbone_is_told_what_to_do(given, options, message):
    with pytest.raises(ValueError, match=message):
        backbone(given, **options)


def test_a_backbone_stays_what_it_is():
    one = backbone(Net("maps"), image_size=16)
    assert backbone(one) is one
    with pytest.raises(ValueError, match="segments must be None"):
        one(torch.rand(1, 3, 16, 16), torch.zeros(1, 16))
    one(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    assert isinstance(SimCLR(one, width=8, out=4)(Batch(images(4).x)).value, Tensor)
