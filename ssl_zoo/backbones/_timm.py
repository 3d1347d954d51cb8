"""What the image backbones need of timm: names of models, building them, loading weights, normalisation.

No other file imports timm.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from sys import modules
from typing import Any, get_type_hints

import timm
import torch
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.patch_embed import PatchEmbed
from timm.layers.pos_embed_sincos import RotaryEmbeddingCat
from timm.models import adapt_input_conv, load_state_dict
from timm.models.eva import Eva
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ssl_zoo import norm
from ssl_zoo.backbones._base import as_float, refuse_out_of_range

__all__ = [
    "Eva",
    "Normalise",
    "PatchEmbed",
    "ResNet",
    "RotaryEmbeddingCat",
    "Size",
    "VisionTransformer",
    "build",
    "check_name",
    "default_input",
    "is_vit",
    "plain",
    "published",
    "side_pair",
]

Size = int | Sequence[int]
LUMA = (0.2989, 0.587, 0.114)  # the grey of an RGB image, with the digits of `views.image`


class BatchNormAct(norm.BatchNorm, BatchNormAct2d):
    """timm's batch norm with an activation behind it, over the global batch."""


norm.OVER_ALL[BatchNormAct2d] = BatchNormAct


def plain(value: Any) -> Any:
    """A value of a configuration, whose containers may be OmegaConf's, as the JSON value it stands for."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def is_known(name: str) -> bool:
    """Whether timm has a model of this name."""
    return timm.is_model(name)


def check_name(name: str) -> None:
    """Raise ValueError, which says what comes near, where timm has no model of this name."""
    if not is_known(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=4, cutoff=0.5)
        hint = f"; did you mean {', '.join(near)}?" if near else "; timm.list_models() lists what it knows"
        raise ValueError(f"timm knows no model {name!r}{hint}")


def is_vit(name: str) -> bool:
    """Whether timm builds `name` as a plain ViT: one linear patch embedding, one row of blocks."""
    entry = timm.model_entrypoint(name)
    kind = get_type_hints(entry).get("return")
    vit = isinstance(kind, type) and issubclass(kind, (VisionTransformer, Eva))
    # A hybrid's "patch embedding" is a CNN whose cells have seen their neighbours: hiding them hides nothing.
    return vit and not entry.__module__.endswith("vision_transformer_hybrid")


# Arguments of every model, whatever its class declares.
COMMON = {
    "in_chans",
    "img_size",
    "drop_rate",
    "drop_path_rate",
    "output_stride",
    "global_pool",
    "num_classes",
}


@functools.cache
def takes(name: str) -> set[str]:
    """Arguments that shape timm's model of this name: those of its class and of its configuration.

    They leave out what timm's factory takes besides (checkpoint_path, pretrained_cfg, cache_dir, ...), which
    opens files.
    """
    made, found = get_type_hints(timm.model_entrypoint(name)).get("return"), set(COMMON)
    for cls in made.__mro__ if isinstance(made, type) else ():
        if cls is not nn.Module and "__init__" in vars(cls):
            found |= set(inspect.signature(cls.__init__).parameters)
            shape = get_type_hints(cls.__init__).get("cfg")
            found |= (
                {one.name for one in dataclasses.fields(shape)} if dataclasses.is_dataclass(shape) else set()
            )
    return found - {"self", "args", "kwargs", "cfg", "device", "dtype"}


def build(name: str, pretrained: bool | str | Path, **arguments: Any) -> nn.Module:
    """timm's model of this name without its classifier, with batch norms over the global batch.

    Args:
        pretrained: False = new weights; True = weights from the hub; a path = a file of weights (see `load`).
        arguments: passed on to timm.

    Raises:
        ValueError: an argument that timm's model does not have or cannot take, or a file that does not fit.
    """
    if not isinstance(pretrained, (bool, str, Path)):
        raise ValueError(f"pretrained={pretrained!r} is neither true, false nor the path of a weight file")
    if unknown := sorted(set(arguments) - takes(name)):
        raise ValueError(
            f"{name} has no argument {', '.join(unknown)}; it has {', '.join(sorted(takes(name)))}"
        )
    try:
        model = timm.create_model(name, pretrained=pretrained is True, num_classes=0, **arguments)
    except (TypeError, AssertionError, AttributeError, LookupError, ArithmeticError) as error:
        raise ValueError(f"timm cannot build {name} with {arguments}: {error}") from error
    if not isinstance(pretrained, bool):
        load(model, Path(pretrained))
    norm.over_all_processes(model)
    return model


CLASSIFIERS = {"head", "head_dist", "fc", "classifier"}  # parts that `build` leaves out, with their weights


def load(model: nn.Module, path: Path) -> None:
    """Read the weights of a model from a safetensors or torch file, in which every one of them has to be.

    As timm does for weights of the hub, the first convolution is adapted to another number of channels. A
    file may hold weights of other things beside the model (a classifier, a decoder), but no further weights
    of the model's own parts.

    Raises:
        ValueError: no weight file, or weights of another model; the message names the file.
    """
    title = type(model).__name__
    if not path.is_file():
        raise ValueError(
            f"pretrained={path} is not a file; pass a .safetensors or torch weight file, or true"
        )
    try:
        state = dict(load_state_dict(str(path), weights_only=True))
        if not all(isinstance(value, Tensor) for value in state.values()):
            raise TypeError("it holds other things than tensors")
    except Exception as error:  # safetensors, pickle and zip files fail in as many ways
        raise ValueError(f"{path} is not a file of weights (safetensors, or torch's): {error}") from error
    kind = modules[type(model).__module__]
    adapt = getattr(kind, "checkpoint_filter_fn", None)
    try:
        if adapt is not None:  # timm's own: renames older keys, resizes patch and position embeddings
            state = adapt(state, model)
        adapt_channels(model, state)
        missing, extra = model.load_state_dict(state, strict=False)
    except Exception as error:  # a filter expects keys and shapes of its own kind of model
        first = (str(error).strip().splitlines() or [repr(error)])[-1].strip()
        raise ValueError(f"{path} does not fit this {title}: {first}") from error
    parts = dict(model.named_children())
    extra = [key for key in extra if key.split(".")[0] not in CLASSIFIERS]
    deeper = [key for key in extra if key.split(".")[0] in parts]
    if missing or deeper:
        what = [f"lacks {len(missing)} weights of {title}, such as {missing[:3]}"] if missing else []
        what += [f"holds {len(deeper)} that {title} has no place for, such as {deeper[:3]}"] if deeper else []
        raise ValueError(f"{path} {' and '.join(what)}: it was made by another model, or other arguments")
    if extra:
        warnings.warn(
            f"{path}: {len(extra)} weights are not the {title}'s, such as {extra[:3]}; left out", stacklevel=2
        )


def adapt_channels(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Fit the first convolutions of a state to a model for another number of channels, in place."""
    first = model.pretrained_cfg.get("first_conv")  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    for name in (first,) if isinstance(first, str) else first or ():
        key, conv = f"{name}.weight", dict(model.named_modules()).get(name)
        if key in state and isinstance(conv, nn.Conv2d) and state[key].shape[1] != conv.weight.shape[1]:
            state[key] = adapt_input_conv(conv.in_channels, state[key])


def side_pair(size: Size | None, default: Sequence[int]) -> tuple[int, int]:
    """(height, width) in pixels: of one side, or of two; `default` where there is none.

    Raises:
        ValueError: neither one nor two whole numbers of at least 1.
    """
    given: Any = default if size is None else size
    sides = [given, given] if isinstance(given, Integral) else [*given] if isinstance(given, Sequence) else []
    if len(sides) != 2 or not all(isinstance(side, Integral) and int(side) >= 1 for side in sides):
        raise ValueError(f"image_size={given!r} is neither a side in pixels nor (height, width)")
    return int(sides[0]), int(sides[1])


def default_input(name: str) -> tuple[tuple[int, int], bool]:
    """(height, width) of the images that the model was published for, and whether it takes no other size."""
    known = timm.get_pretrained_cfg(name)
    return (known.input_size[1], known.input_size[2]), bool(known.fixed_input_size)  # pyright: ignore


Known = tuple[Sequence[float], Sequence[float]]  # mean and standard deviation of each channel


def published(name: str) -> Known:
    """Mean and standard deviation of the images that the weights of this name were made with."""
    known = timm.get_pretrained_cfg(name)
    return known.mean, known.std  # pyright: ignore[reportOptionalMemberAccess]


class Normalise(nn.Module):
    """What every image backbone does first: it checks images, and gives (x - mean) / std per channel.

    uint8 images become float in [0, 1]; float images must lie there already. For a backbone of one channel,
    RGB images become grey (Rec. 601 luma). Mean and standard deviation follow the device but are not saved.

    Args:
        known: mean and standard deviation where `mean` or `std` is None.
        channels: how many channels the images have.
        mean, std: per channel, of images in [0, 1].

    Raises:
        ValueError: a mean that is not finite, a standard deviation that is not above 0, or either for another
            number of channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        known: Known,
        channels: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        super().__init__()
        self.values: list[list[float]] = []
        for key, published, given in (("mean", known[0], mean), ("std", known[1], std)):
            value = list(published) if given is None else [float(v) for v in given]
            if given is None and len(value) != channels:  # grey or multi-band images: one value for all
                value = [sum(value) / len(value)] * channels
            if len(value) != channels:
                raise ValueError(f"{key} has {len(value)} values, but the images have {channels} channels")
            if not all(map(math.isfinite, value)) or (key == "std" and min(value) <= 0):
                raise ValueError(f"{key}={value} does not normalise: means are finite, deviations above 0")
            self.register_buffer(key, torch.tensor(value).view(-1, 1, 1), persistent=False)
            self.values.append(value)
        self.looked = False

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) uint8, or float in [0, 1] -> the same normalised.

        Raises:
            ValueError: no tensor, another layout, type, range or number of channels; NaN or infinite pixels.
        """
        channels = len(self.mean)
        if not isinstance(x, Tensor):
            raise ValueError(
                f"images are a tensor (B, {channels}, H, W), not {type(x).__name__}: torch.from_numpy makes "
                "one of an array, torchvision's pil_to_tensor one of a PIL image, torch.stack one of a list"
            )
        if x.dim() != 4 or x.shape[1] not in ((1, 3) if channels == 1 else (channels,)):
            raise ValueError(layout(x, channels))
        x = as_float(x)
        self.look(x)
        if channels == 1 and x.shape[1] == 3:
            x = (x * x.new_tensor(LUMA).view(-1, 1, 1)).sum(1, keepdim=True)
        return (x.to(self.mean.dtype) - self.mean) / self.std

    def look(self, x: Tensor) -> None:
        """Refuse pixels far outside of [0, 1]. On a GPU, which has to be waited for, only the first batch is
        looked at."""
        if not torch.compiler.is_compiling() and not x.is_meta and (x.is_cpu or not self.looked):
            refuse_out_of_range(x)
            self.looked = True


def layout(x: Tensor, channels: int) -> str:
    """What is wrong with images that are not (B, channels, H, W)."""
    said = f"images of shape {tuple(x.shape)} are not (B, {channels}, H, W), as this backbone takes them"
    if x.dim() == 3:
        return f"{said}: add a batch dimension, x[None]"
    if x.dim() != 4:
        return said
    if x.shape[1] > 4 >= x.shape[-1]:
        return f"{said}: put the channels first, x.permute(0, 3, 1, 2)"
    if x.shape[1] == 1:
        return f"{said}: repeat the channel, x.expand(-1, {channels}, -1, -1), or build it with in_chans=1"
    return f"{said}: give it {channels} channels, or build it with in_chans={x.shape[1]}"
