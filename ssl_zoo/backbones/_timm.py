"""What the image backbones share of timm: names, building, loading, normalisation. The only importer."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from sys import modules
from typing import Any, get_type_hints

import timm
import torch
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.patch_embed import PatchEmbed
from timm.models import load_state_dict
from timm.models.eva import Eva
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ssl_zoo import norm

__all__ = [
    "Eva",
    "Normalise",
    "PatchEmbed",
    "ResNet",
    "Size",
    "VisionTransformer",
    "build",
    "check_name",
    "default_input",
    "is_vit",
    "plain",
    "side_pair",
]

Size = int | Sequence[int]


class BatchNormAct(norm.BatchNorm, BatchNormAct2d):
    pass


norm.OVER_ALL[BatchNormAct2d] = BatchNormAct


def plain(value: Any) -> Any:
    """Containers of a config file (OmegaConf's included) as the JSON values they stand for."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def check_name(name: str) -> None:
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=4, cutoff=0.5)
        hint = f"; did you mean {', '.join(near)}?" if near else "; timm.list_models() lists what it knows"
        raise ValueError(f"timm knows no model {name!r}{hint}")


def is_vit(name: str) -> bool:
    """Whether timm builds `name` as a plain ViT: one linear patch embedding, one row of blocks."""
    entry = timm.model_entrypoint(name)
    kind = get_type_hints(entry).get("return")
    plain = isinstance(kind, type) and issubclass(kind, (VisionTransformer, Eva))
    # A hybrid's "patch embedding" is a CNN whose cells have seen their neighbours: hiding them hides nothing.
    return plain and not entry.__module__.endswith("vision_transformer_hybrid")


def build(name: str, pretrained: bool | str, **arguments: Any) -> nn.Module:
    """timm's model without classifier; `pretrained`: False, True (the hub), or the path of a weight file."""
    try:
        model = timm.create_model(name, pretrained=pretrained is True, num_classes=0, **arguments)
    except (TypeError, AssertionError) as error:
        raise ValueError(f"timm cannot build {name} with {arguments}: {error}") from error
    if isinstance(pretrained, str):
        load(model, pretrained)
    norm.over_all_processes(model)
    return model


def load(model: nn.Module, path: str) -> None:
    """Read a safetensors or torch file (weights only); every weight of the model has to be in it."""
    if not Path(path).is_file():
        raise ValueError(
            f"pretrained={path!r} is not a file; pass a .safetensors or torch weight file, or true"
        )
    state = load_state_dict(path, weights_only=True)
    adapt = getattr(modules[type(model).__module__], "checkpoint_filter_fn", None)
    if adapt is not None:  # timm's own: renames older keys, resizes patch and position embeddings
        state = adapt(state, model)
    missing = model.load_state_dict(state, strict=False).missing_keys
    if missing:
        raise ValueError(
            f"{path} lacks {len(missing)} weights of {type(model).__name__}, such as {missing[:3]}"
        )


def side_pair(size: Size | None, default: Sequence[int]) -> tuple[int, int]:
    if size is None:
        return int(default[0]), int(default[1])
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def default_input(name: str) -> tuple[tuple[int, int], bool]:
    """(height, width) the model was published with, and whether it is built for one size."""
    known = timm.get_pretrained_cfg(name)
    return (known.input_size[1], known.input_size[2]), bool(known.fixed_input_size)  # pyright: ignore


class Normalise(nn.Module):
    """(x - mean) / std per channel; the statistics follow the device but are not saved."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, channels: int, mean: Sequence[float] | None, std: Sequence[float] | None):
        super().__init__()
        known = timm.get_pretrained_cfg(name)
        self.values: list[list[float]] = []
        for key, given in (("mean", mean), ("std", std)):
            value = list(getattr(known, key)) if given is None else [float(v) for v in given]
            if given is None and len(value) != channels:  # grey or multi-band images: one value for all
                value = [sum(value) / len(value)] * channels
            if len(value) != channels:
                raise ValueError(f"{key} has {len(value)} values, but the images have {channels} channels")
            self.register_buffer(key, torch.tensor(value).view(-1, 1, 1), persistent=False)
            self.values.append(value)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std
