"""Vision transformers from timm as token backbones, and the function that picks a class for a name.

`TimmViT` splits timm's `forward_features` in two, so that patches can be hidden and reordered between
the halves (ViT, https://arxiv.org/abs/2010.11929; rotary positions as in EVA-02,
https://arxiv.org/abs/2303.11331).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import (
    Features,
    ImageBackbone,
    Layers,
    Order,
    TokenBackbone,
    check_positions,
    pool,
)
from ssl_zoo.backbones._timm import (
    Eva,
    Normalise,
    PatchEmbed,
    Size,
    VisionTransformer,
    build,
    check_name,
    is_vit,
    plain,
    side_pair,
)
from ssl_zoo.backbones.cnn import TimmCNN


class TimmViT(ImageBackbone, TokenBackbone):
    """A timm VisionTransformer or Eva: any prefix tokens, learned or rotary positions.

    Args:
        name: timm's name, such as vit_small_patch16_224.
        image_size: side in pixels, or (height, width); None = the model's own.
        patch_size: side of a patch in pixels; None = the model's own.
        pretrained: True = weights from the hub; a path = a local safetensors or torch file. Made for another
            number of channels, their first convolution is adapted as timm does.
        drop_path: rate of stochastic depth at the last block.
        mean, std: per channel, of images in [0, 1]; None = those the model was published with.
        overrides: passed on to timm (embed_dim, depth, num_heads, class_token, reg_tokens, ...). With
            in_chans=1, RGB images are turned grey.

    Raises:
        ValueError: a name timm does not know, sizes that do not divide, arguments the model does not take.
    """

    kind = "vit"

    def __init__(
        self,
        name: str,
        *,
        image_size: Size | None = None,
        patch_size: int | None = None,
        pretrained: bool | str | Path = False,
        drop_path: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **overrides: Any,
    ):
        check_name(name)
        if not is_vit(name):
            raise ValueError(f"{name} is not a plain vision transformer; build it as TimmCNN")
        overrides = plain(overrides)
        if refused := {"patch_drop_rate", "dynamic_img_size", "num_classes"} & set(overrides):
            raise ValueError(f"{sorted(refused)} cannot be set: tokens and positions belong to the objective")
        arguments = dict(overrides)
        if arguments.get("class_token") is False:
            arguments.setdefault("global_pool", "avg")  # timm's default would read the class token
        if image_size is not None:
            arguments["img_size"] = side_pair(image_size, ())
        if patch_size is not None:
            arguments["patch_size"] = patch_size
        model = build(name, pretrained, drop_path_rate=drop_path, dynamic_img_size=False, **arguments)
        if not isinstance(model, (VisionTransformer, Eva)) or type(model.patch_embed) is not PatchEmbed:
            raise ValueError(f"{name} does not cut its image into plain patches; build it as TimmCNN")

        height, width = side_pair(model.patch_embed.img_size, ())  # pyright: ignore[reportArgumentType]
        patch = int(model.patch_embed.patch_size[0])
        for side in (height, width):
            if side % patch:
                low, high = side // patch * patch, -(-side // patch) * patch
                near = f"{low} or {high}" if low else f"{high}"
                raise ValueError(
                    f"image {height}x{width} does not divide into patches of {patch}; use {near}"
                )
        # Models made for average pooling keep their final norm behind the pool: move it to the tokens,
        # so that tokens and their mean are always read after it. What only a classifier needs goes.
        if isinstance(model.norm, nn.Identity):
            model.norm = model.fc_norm
        model.fc_norm = nn.Identity()
        model.attn_pool = None

        normalise = Normalise(name, model.patch_embed.proj.in_channels, mean, std)
        super().__init__(
            {
                "name": name,
                "image_size": [height, width],
                "patch_size": patch,
                "drop_path": drop_path,
                "mean": normalise.values[0],
                "std": normalise.values[1],
                **overrides,
            }
        )
        self.model, self.normalise = model, normalise
        self.dim, self.image_size, self.patch = model.embed_dim, (height, width), patch
        self.prefix: int = model.num_prefix_tokens

    def embed(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W), uint8 or in [0, 1] -> patches (B, N, D), row by row, without positions."""
        x = self.normalise(x)
        if tuple(x.shape[-2:]) != self.image_size:
            height, width = self.image_size
            raise ValueError(
                f"images are {x.shape[-2]}x{x.shape[-1]}, but this backbone was built for {height}x{width}; "
                f"resize them or build it with image_size={[*x.shape[-2:]]}"
            )
        return self.model.patch_embed(x)

    def encode(
        self,
        tokens: Tensor,
        at: Tensor | None = None,
        segments: Tensor | None = None,
        *,
        order: Order = "both",
        grid: tuple[int, int] | None = None,
        layers: Layers | None = None,
    ) -> Features:
        self.refuse(order)
        if grid not in (None, tuple(self.model.patch_embed.grid_size)):
            raise ValueError(f"{type(self).__name__} takes images of its own size alone")
        if segments is not None:
            raise ValueError(f"{type(self).__name__} reads one image a row: segments must be None")
        patches = math.prod(self.model.patch_embed.grid_size)
        if at is not None:
            check_positions(at, patches, f"an image of {patches} patches")
        elif tokens.shape[1] > patches:
            raise ValueError(f"{tokens.shape[1]} patches, but images of this backbone have {patches}")
        x = self._place(tokens, at)
        turns = self._turns(tokens.shape[1], at)
        after: list[Tensor] = []
        for index, block in enumerate(self.model.blocks):
            x = block(x) if turns is None else block(x, rope=turns[index])
            if layers is not None:
                content = x[:, self.prefix :]
                after.append(content if layers == "tokens" else pool(content))
        x = self.model.norm(x)[:, self.prefix :]
        return Features(x, pool(x), tuple(after))

    def _place(self, tokens: Tensor, at: Tensor | None) -> Tensor:
        """Add learned positions, put class and register tokens in front: (B, N, D) -> (B, P + N, D)."""
        model = self.model
        front = [getattr(model, key, None) for key in ("cls_token", "dist_token", "reg_token")]
        front = [token for token in front if token is not None]
        if model.pos_embed is not None:
            rows = model.pos_embed[0]  # (P + N, D), or (N, D) where the prefix has no positions
            if not model.no_embed_class and front:
                front = [torch.cat(front, 1) + rows[: self.prefix]]
                rows = rows[self.prefix :]
            tokens = tokens + (rows[: tokens.shape[1]] if at is None else rows[at])
        front = [token.expand(len(tokens), -1, -1) for token in front]
        return model.norm_pre(model.pos_drop(torch.cat([*front, tokens], 1)))

    def _turns(self, count: int, at: Tensor | None) -> Sequence[Tensor] | None:
        """Rotary positions of each block, or None; they apply to content tokens only."""
        rope = getattr(self.model, "rope", None)
        if rope is None:
            return None
        table = rope.get_embed(shape=self.model.patch_embed.grid_size)
        if getattr(self.model, "rope_mixed", False):  # learned per block and head: (L, heads, N, 2 * head)
            if at is None:
                return table[:, :, :count].unbind()
            return table[:, :, at].transpose(1, 2).unbind()  # (L, B, heads, K, 2 * head)
        table = table[:count] if at is None else table[at][:, None]  # (N, 2 * head) or (B, 1, K, 2 * head)
        return [table] * len(self.model.blocks)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        assert self.patch is not None
        return height // self.patch, width // self.patch

    def blocks(self) -> Sequence[nn.Module]:
        return list(self.model.blocks)


def timm_backbone(name: str, **arguments: Any) -> TimmViT | TimmCNN:
    """`TimmViT` where timm's model is a plain vision transformer, else `TimmCNN`; arguments as theirs."""
    check_name(name)
    return TimmViT(name, **arguments) if is_vit(name) else TimmCNN(name, **arguments)
