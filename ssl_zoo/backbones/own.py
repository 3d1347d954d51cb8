"""A module of your own as a backbone: any model object of timm or torchvision, or any `nn.Module` that gives
feature maps, tokens or vectors for images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssl_zoo import norm
from ssl_zoo.backbones._base import Backbone, Features, ImageBackbone, Layers, pool
from ssl_zoo.backbones._timm import Normalise, Size, side_pair
from ssl_zoo.backbones.cnn import as_cells, sides, stages
from ssl_zoo.backbones.vision import TimmViT, in_patches

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what torchvision's weights were made with
GIVES = "feature maps (B, C, h, w), tokens (B, N, D) or vectors (B, D)"


def backbone(
    module: nn.Module,
    *,
    image_size: Size | None = None,
    features: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ImageBackbone:
    """A backbone that reads images with this module, whose weights it shares.

    A vision transformer of timm's becomes a backbone of kind "vit", whose patches can be hidden; any other
    module becomes one of kind "cnn", and its batch norms become, in place, those over the global batch.
    Weights that the features do not depend on, such as a classifier's, are frozen. A folder that such a
    backbone is saved in holds no code of the module: `ssl_zoo.load(folder, backbone=module)` opens it again.

    Args:
        module: gives feature maps (B, C, h, w), tokens (B, N, D) or vectors (B, D) for images (B, C, H, W);
            or its part `features` does.
        image_size: side in pixels, or (height, width), to which images are resized; None = that of timm's
            model.
        features: name of the part whose output is read, such as "layer4" or "encoder.norm"; what comes after
            it is run all the same. None = what the module gives; of timm's models, what their
            `forward_features` gives; of torchvision's, what the classifier reads: `layer4` of ResNets and
            `features` of most others.
        mean, std: per channel, of images in [0, 1]. None = those that timm's and torchvision's models were
            published with; any other module reads images in [0, 1] as they are.

    Raises:
        ValueError: no module, or one that does not give this; the message says what to wrap it in.
    """
    if isinstance(module, ImageBackbone):
        return module
    refuse(module)
    size = None if image_size is None else side_pair(image_size, ())
    if in_patches(module):
        made = TimmViT.around(module, mean, std)
        if features is not None or size not in (None, made.image_size):
            raise ValueError(
                f"this vision transformer is read by its patches, for images of {made.image_size}: leave "
                "features and image_size out, or build it with another img_size"
            )
        return made
    return Own(module, size, features, mean, std)


def refuse(module: Any) -> None:
    """Raise ValueError for what is no module that reads images; the message says what would be one."""
    kind = type(module).__name__
    if isinstance(module, Backbone):
        raise ValueError(f"{kind} is a backbone already, and one that reads text")
    if isinstance(module, str):
        raise ValueError(
            f"{module!r} is a name: ssl_zoo.backbones.vision.timm_backbone builds timm's models by name, "
            "ssl_zoo.backbones.hf.HFBackbone those of transformers"
        )
    if isinstance(module, type):
        raise ValueError(
            f"{module.__name__} is a class: give an object of it, backbone({module.__name__}(...))"
        )
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"{kind} is no nn.Module: write one whose forward gives {GIVES} for images (B, 3, H, W)"
        )
    if type(module).__module__.startswith("transformers."):
        raise ValueError(
            f"{kind} is of transformers: ssl_zoo.backbones.hf.HFBackbone builds its models of texts; one of "
            "images goes into an nn.Module whose forward gives its last_hidden_state (B, N, D)"
        )


class Own(ImageBackbone):
    """What `backbone` makes of a module that is no vision transformer of timm's; arguments as there."""

    kind = "cnn"

    def __init__(
        self,
        module: nn.Module,
        image_size: tuple[int, int] | None,
        features: str | None,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
    ):
        whose, about = type(module).__module__, getattr(module, "pretrained_cfg", None)
        title = f"{whose}.{type(module).__name__}"
        timm: dict[str, Any] = (
            about if isinstance(about, dict) and hasattr(module, "forward_features") else {}
        )
        known = (timm["mean"], timm["std"]) if timm else None
        named = features is not None
        if whose.startswith("torchvision."):
            known = IMAGENET
            if not named and "swin" not in whose:  # whose `features` have their channels last
                features = next((name for name in ("layer4", "features") if hasattr(module, name)), None)
            if features is None:
                raise ValueError(f"say which part of {title} gives {GIVES}: features=NAME")
        if image_size is None and not timm:
            raise ValueError(f"say what images {title} reads: image_size=SIDE, or (HEIGHT, WIDTH)")
        conv = next((one for one in module.modules() if isinstance(one, nn.Conv2d)), None)
        channels = len(mean) if mean is not None else 3 if conv is None else conv.in_channels
        normalise = Normalise(known or ([0.0] * channels, [1.0] * channels), channels, mean, std)
        size = image_size or timm["input_size"][1:]
        super().__init__(
            {
                "of": title,
                "image_size": list(size),
                "features": features if named else None,
                "mean": normalise.values[0],
                "std": normalise.values[1],
            }
        )
        norm.over_all_processes(module)
        self.model, self.normalise, self.image_size = module, normalise, (int(size[0]), int(size[1]))
        self.features = features
        self.prepared = bool(timm) and not named  # its classifier need not run
        self.prefix: int = getattr(module, "num_prefix_tokens", 0) if timm else 0
        self.nhwc = bool(timm) and getattr(module, "output_fmt", "NCHW") == "NHWC"
        # Of other modules nothing says that their stages give features in the same layout as the module does.
        self.staged = known is not None and not named
        self.grids: dict[tuple[int, int], tuple[int, int]] = {}
        self.dim = self._survey()

    def _run(self, image: Tensor) -> Tensor:
        """The features of normalised images, as the module gives them."""
        if self.features is None:
            return self.model.forward_features(image) if self.prepared else self.model(image)  # pyright: ignore
        found: list[Any] = []
        part = self.model.get_submodule(self.features)
        handle = part.register_forward_hook(lambda _part, _inputs, out: found.append(out))
        try:
            self.model(image)
        finally:
            handle.remove()
        if not found:
            raise ValueError(f"its part {self.features} has not been run")
        return found[-1]

    def _blank(self, height: int, width: int) -> Tensor:
        """What the module gives for two black images of this size.

        Raises:
            ValueError: it gives no features, or raises an error.
        """
        device = next((p.device for p in self.model.parameters()), None)
        modes = [(part, part.training) for part in self.model.modules()]
        blank = torch.zeros(2, len(self.normalise.mean), height, width, device=device)
        self.model.eval()
        try:
            out = self._run(blank)
        except Exception as error:  # whatever a module of anyone raises
            raise ValueError(
                f"{self.config['of']} cannot read images of shape {tuple(blank.shape)}: {error}"
            ) from error
        finally:
            for part, mode in modes:
                part.training = mode
        if not isinstance(out, Tensor) or out.dim() not in (2, 3, 4) or len(out) != 2:
            got = f"a tensor {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
            raise ValueError(
                f"{self.config['of']} gives {got} for two images, not {GIVES}: name the part that does "
                "(features=NAME), or wrap it in an nn.Module that does"
            )
        return out

    def _survey(self) -> int:
        """Find the width of the features, and freeze weights that they do not depend on."""
        with torch.enable_grad():
            out = self._blank(*self.image_size)
            weights = [p for p in self.model.parameters() if p.requires_grad]
            if out.requires_grad:
                read = torch.autograd.grad(out.sum(), weights, allow_unused=True)
                for weight, gradient in zip(weights, read, strict=True):
                    weight.requires_grad_(gradient is not None)
        self.grids[self.image_size] = sides(out, self.image_size, self.prefix, self.nhwc)
        return as_cells(out, self.prefix, self.nhwc).shape[-1]

    def grid(self, height: int, width: int) -> tuple[int, int]:
        if (height, width) not in self.grids:
            with torch.no_grad():
                out = self._blank(height, width)
            self.grids[height, width] = sides(out, (height, width), self.prefix, self.nhwc)
        return self.grids[height, width]

    def forward(self, x: Tensor, segments: Tensor | None = None, *, layers: Layers | None = None) -> Features:
        if segments is not None:
            raise ValueError(f"{type(self).__name__} reads one image a row: segments must be None")
        after: list[Tensor] = []

        def keep(_block: nn.Module, _inputs: Any, out: Tensor) -> None:
            cells = as_cells(out, self.prefix, self.nhwc)
            after.append(cells if layers == "tokens" else pool(cells))

        blocks = self.blocks() if layers is not None and self.staged else []
        handles = [block.register_forward_hook(keep) for block in blocks if block is not self.model]
        try:
            tokens = as_cells(self._run(self.normalise(x)), self.prefix, self.nhwc)
        finally:
            for handle in handles:
                handle.remove()
        if layers is not None and not after:
            after = [tokens if layers == "tokens" else pool(tokens)]
        return Features(tokens, pool(tokens), tuple(after))

    def blocks(self) -> Sequence[nn.Module]:
        return stages(self.model) if self.staged else [self.model]
