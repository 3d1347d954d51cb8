"""timm's layout of a folder: `timm.create_model("local-dir:FOLDER", pretrained=True)` opens it.

    config.json         architecture and arguments of timm's model, and how images are prepared
    model.safetensors   timm's own names of weights

The features of this library are the mean of the content tokens behind the final norm. timm reads the same
with average pooling and the norm in front of it, so the folder asks for that, whatever the model was
published with. Some CNNs have another norm behind the pool, which belongs to their classifier and was not
trained: of these the features are the mean of `forward_features`. The same folder is transformers'
`timm_wrapper`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models.eva import Eva
from torch import Tensor

from ssl_zoo.backbones.cnn import TimmCNN
from ssl_zoo.backbones.vision import TimmViT
from ssl_zoo.export._base import Door, ExportError, Reader, Source, spelt, write_json, write_weights
from ssl_zoo.export.graph import refuse_causal_patches
from ssl_zoo.export.rows import images

ELSEWHERE = "take to=onnx or to=torch, which hold any network"
NORMS = ("fc_norm", "use_fc_norm")  # what VisionTransformer and Eva call a norm behind the pool


class TimmDoor(Door):
    name = "timm"
    library = "timm"

    def write(self, source: Source, folder: Path) -> None:
        write_timm(source, folder)

    def open(self, source: Source, folder: Path) -> Reader:
        model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        about = model.pretrained_cfg
        mean, std = (torch.tensor(about[key]).view(-1, 1, 1) for key in ("mean", "std"))
        within = inside(source)

        def read(pictures: Tensor) -> Tensor:
            x = (pictures - mean) / std
            return model.forward_features(x).mean(within) if within else model(x)

        return read

    def lines(self, source: Source, folder: Path) -> str:
        within = inside(source)
        pooled = f"model.forward_features(x).mean({within})" if within else "model(x)"
        return (
            "import timm\n"
            f"model = timm.create_model({spelt(f'local-dir:{folder}')}, pretrained=True).eval()\n"
            "prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(model))\n"
            "x = prepare(image).unsqueeze(0)  # an image of PIL\n"
            f"features = {pooled}  # (1, {source.backbone.dim})"
        )

    def notes(self, source: Source) -> Sequence[str]:
        return preparing(source)


def inside(source: Source) -> tuple[int, ...]:
    """The dimensions of `forward_features` whose mean are the features; () where the model pools itself."""
    backbone = source.backbone
    if not isinstance(backbone, TimmCNN):
        return ()
    model: Any = backbone.model
    with torch.no_grad():
        x = backbone.normalise(images(backbone))
        cells = model.forward_features(x)
        pooled = backbone(images(backbone)).pooled
        if model(x).shape == pooled.shape and torch.allclose(model(x), pooled, atol=1e-5):
            return ()
    return (1,) if cells.dim() == 3 else (1, 2) if backbone.nhwc else (2, 3)


def preparing(source: Source) -> list[str]:
    """How images are prepared outside of this library."""
    height, width = source.pictures().image_size
    return [
        f"Images are resized to {height}x{width} pixels, whatever their shape, and nothing is cut off; then "
        "mean and standard deviation of each channel are taken out. The configuration says so.",
        "PIL resizes to whole numbers and this library does not, so that features of images of another size "
        "differ a little; those of images of this size are the same.",
    ]


def write_timm(source: Source, folder: Path, **more: Any) -> None:
    """Fill a folder in timm's layout.

    Args:
        more: keys of config.json besides timm's.

    Raises:
        ExportError: the network is none that timm builds by name and arguments.
    """
    name, given = described(source)
    backbone = source.pictures()
    try:
        twin = timm.create_model(name, pretrained=False, num_classes=0, **given)
        state = backbone.model.state_dict()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
        twin.load_state_dict(state)
    except (TypeError, AssertionError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise ExportError(f"timm's {name} does not take these weights ({first}): {ELSEWHERE}") from error
    mean, std = backbone.normalise.values
    about: Any = twin.pretrained_cfg
    prepared = {
        "input_size": [len(mean), *backbone.image_size],
        "fixed_input_size": bool(about.get("fixed_input_size", False)),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "mean": mean,
        "std": std,
        "num_classes": 0,
        "first_conv": about.get("first_conv"),
        "classifier": about.get("classifier"),
        "tag": "ssl_zoo",
    }
    write_json(
        {
            "architecture": name,
            "num_classes": 0,
            "num_features": backbone.dim,
            "global_pool": "avg",
            "model_args": given,
            "pretrained_cfg": prepared,
            **more,
        },
        folder / "config.json",
    )
    write_weights(twin.state_dict(), source, folder / "model.safetensors")


def described(source: Source) -> tuple[str, dict[str, Any]]:
    """timm's name of a backbone, and the arguments that build it as this library reads it.

    Raises:
        ExportError: it is no model of timm's, or one whose stem was replaced.
    """
    backbone = source.backbone
    if not isinstance(backbone, (TimmViT, TimmCNN)) or "name" not in backbone.config:
        what = backbone.config.get("of", source.title)
        raise ExportError(f"{what} is no model that timm builds by a name: {ELSEWHERE}")
    about = dict(backbone.config)
    name = about.pop("name")
    kept = {"image_size", "patch_size", "stem", "drop_path", "mean", "std", "drop_rate", "global_pool"}
    given: dict[str, Any] = {key: value for key, value in about.items() if key not in kept}
    given["global_pool"] = "avg"
    if isinstance(backbone, TimmViT):
        refuse_causal_patches(source)
        given |= {"img_size": list(backbone.image_size), "patch_size": backbone.patch}
        given["dynamic_img_size"] = True
        given = {key: value for key, value in given.items() if key not in NORMS}
        given[NORMS[isinstance(backbone.model, Eva)]] = False  # the norm stands before the pool
        return name, given
    if (stem := about.get("stem")) != "imagenet":
        raise ExportError(
            f"stem={stem} is this library's own: one 3x3 convolution and no pooling, which no arguments of "
            f"timm's {name} ask for; {ELSEWHERE}"
        )
    own: Any = timm.get_pretrained_cfg(name)
    if own.fixed_input_size:
        given["img_size"] = list(backbone.image_size)
    return name, given
