"""Feature maps as tokens: ResNets and any other timm model that is not a plain vision transformer."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import Features, ImageBackbone, Layers, pool
from ssl_zoo.backbones._timm import (
    Normalise,
    ResNet,
    Size,
    build,
    check_name,
    default_input,
    plain,
    published,
    side_pair,
)

STRIDES = {"small": 1, "half": 2}  # of the one 3x3 convolution of a stem for small images


def as_cells(out: Tensor, prefix: int = 0, nhwc: bool = False) -> Tensor:
    """What a block gives, as tokens (B, N, D).

    out: (B, D, h, w), or (B, h, w, D) if `nhwc`; (B, prefix + N, D); or (B, D), which becomes one token.
    """
    if out.dim() == 2:
        return out[:, None]
    if out.dim() == 3:
        return out[:, prefix:]
    return out.flatten(1, 2) if nhwc else out.flatten(2).mT


def sides(out: Tensor, image: tuple[int, int], prefix: int = 0, nhwc: bool = False) -> tuple[int, int]:
    """How many rows and columns the tokens of `as_cells` have. Of tokens (B, prefix + N, D) nothing says so:
    they are taken for a grid in the shape of the image (height, width).

    Raises:
        ValueError: their number does not fill such a grid.
    """
    if out.dim() == 2:
        return 1, 1
    if out.dim() == 4:
        high, wide = out.shape[1:3] if nhwc else out.shape[2:]
        return int(high), int(wide)
    count = out.shape[1] - prefix
    high = round((count * image[0] / image[1]) ** 0.5)
    if not high or count % high:
        raise ValueError(f"{count} tokens of an image of {image[0]}x{image[1]} are no grid")
    return high, count // high


def stages(model: nn.Module) -> list[nn.Module]:
    """The parts of a model that follow one another, found by their usual names; else the model itself."""
    for key in ("stages", "blocks", "layers", "features"):
        if isinstance(trunk := getattr(model, key, None), (nn.Sequential, nn.ModuleList)):
            return [block for block in trunk if any(True for _ in block.parameters())]
    named = model.named_children()
    return [stage for key, stage in named if re.fullmatch(r"(layer|stage|block|s)_?\d+", key)] or [model]


class TimmCNN(ImageBackbone):
    """Any timm model but plain vision transformers: the cells of its last feature map are the tokens.

    It takes images of every size that the model itself takes.

    Args:
        name: timm's name, such as resnet50.
        image_size: side in pixels, or (height, width), that images are resized to; None = the model's own.
        pretrained: True = weights from the hub; a path = a local safetensors or torch file.
        stem: "imagenet" = the model's own; "small" = one 3x3 convolution of stride 1 and no pooling, for
            small images (SimCLR, https://arxiv.org/abs/2002.05709, appendix B.9); "half" = the same with
            stride 2, a quarter of the cost; both for ResNets only.
        drop_path: rate of stochastic depth at the last block, where the model has it.
        mean, std: per channel, of images in [0, 1]; None = those the model was published with.
        overrides: passed on to timm (channels, layers, ...).

    Raises:
        ValueError: a name timm does not know, a stem for a model without one, arguments it does not take.
    """

    kind = "cnn"

    def __init__(
        self,
        name: str,
        *,
        image_size: Size | None = None,
        pretrained: bool | str = False,
        stem: Literal["imagenet", "small", "half"] = "imagenet",
        drop_path: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **overrides: Any,
    ):
        check_name(name)
        if stem not in ("imagenet", *STRIDES):
            raise ValueError(f"stem {stem!r} is not known; choose imagenet, small or half")
        overrides = plain(overrides)
        own, fixed = default_input(name)
        height, width = side_pair(image_size, own)
        arguments = dict(overrides)
        if fixed:
            arguments["img_size"] = (height, width)
        if drop_path:
            arguments["drop_path_rate"] = drop_path
        model = build(name, pretrained, **arguments)
        if stem in STRIDES:
            _small_stem(name, model, STRIDES[stem])
        channels = int(overrides.get("in_chans", 3))
        normalise = Normalise(published(name), channels, mean, std)
        super().__init__(
            {
                "name": name,
                "image_size": [height, width],
                "stem": stem,
                "drop_path": drop_path,
                "mean": normalise.values[0],
                "std": normalise.values[1],
                **overrides,
            }
        )
        self.model, self.normalise, self.image_size = model, normalise, (height, width)
        self.prefix: int = getattr(model, "num_prefix_tokens", 0)
        self.nhwc = getattr(model, "output_fmt", "NCHW") == "NHWC"
        self.channels = channels
        self.grids: dict[tuple[int, int], tuple[int, int]] = {}
        self.dim = self._survey(channels)
        # Convolutions run about three times as fast on this layout, on CPUs (measured) as on GPUs.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def _survey(self, channels: int) -> int:
        """Find the width of the feature map, and freeze weights that it does not depend on (a classifier's).

        This runs on the meta device, where tensors have shapes but no values: it costs no arithmetic.
        """
        ghost = copy.deepcopy(self.model).to("meta").eval()
        image = torch.zeros(1, channels, *self.image_size, device="meta")  # pyright: ignore
        with torch.enable_grad():  # even where the caller builds under no_grad
            out = ghost.forward_features(image)  # pyright: ignore
            if not isinstance(out, Tensor) or out.dim() not in (3, 4):
                raise ValueError(f"{self.config['name']} gives no single feature map")
            out.sum().backward()
        read = {name for name, weight in ghost.named_parameters() if weight.grad is not None}
        for name, weight in self.model.named_parameters():
            weight.requires_grad_(name in read)
        return self._cells(out).shape[-1]

    def _cells(self, out: Tensor) -> Tensor:
        return as_cells(out, self.prefix, self.nhwc)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        if (height, width) not in self.grids:
            ghost = copy.deepcopy(self.model).to("meta").eval()
            try:
                out = ghost.forward_features(torch.zeros(1, self.channels, height, width, device="meta"))  # pyright: ignore
            except (RuntimeError, AssertionError, ValueError) as error:
                raise ValueError(
                    f"{self.config['name']} cannot read images of {height}x{width}: {error}"
                ) from error
            self.grids[height, width] = sides(out, (height, width), self.prefix, self.nhwc)
        return self.grids[height, width]

    def forward(self, x: Tensor, segments: Tensor | None = None, *, layers: Layers | None = None) -> Features:
        if segments is not None:
            raise ValueError(f"{type(self).__name__} reads one image a row: segments must be None")
        after: list[Tensor] = []

        def keep(_block: nn.Module, _inputs: Any, out: Tensor) -> None:
            cells = self._cells(out)
            after.append(cells if layers == "tokens" else cells.mean(1))

        # Hooks rather than timm's forward_intermediates: not every model has that, and it would run twice.
        blocks = () if layers is None else self.blocks()
        handles = [block.register_forward_hook(keep) for block in blocks]
        try:
            image = self.normalise(x).contiguous(memory_format=torch.channels_last)
            tokens = self._cells(self.model.forward_features(image))  # pyright: ignore
        finally:
            for handle in handles:
                handle.remove()
        if layers is not None and not after:  # a model without stages that we can name is one block
            after = [tokens if layers == "tokens" else pool(tokens)]
        return Features(tokens, pool(tokens), tuple(after))

    def blocks(self) -> Sequence[nn.Module]:
        """The stages."""
        return stages(self.model)


def _small_stem(name: str, model: nn.Module, stride: int) -> None:
    """Put one 3x3 convolution of this stride in the place of a ResNet's stem, without pooling behind it."""
    if not isinstance(model, ResNet):
        raise ValueError(
            f"stems 'small' and 'half' are defined for ResNets, and {name} is not one; leave stem at imagenet"
        )
    first = next(m for m in model.conv1.modules() if isinstance(m, nn.Conv2d))
    conv = nn.Conv2d(first.in_channels, model.bn1.num_features, 3, stride, padding=1, bias=False)  # pyright: ignore
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # as timm does
    model.conv1, model.maxpool = conv, nn.Identity()
