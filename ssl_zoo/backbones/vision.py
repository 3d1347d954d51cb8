"""Vision transformers from timm as token backbones, and the function that picks a class for a name.

`TimmViT` splits timm's `forward_features` in two, so that patches can be hidden and reordered between
the halves (ViT, https://arxiv.org/abs/2010.11929; rotary positions as in EVA-02,
https://arxiv.org/abs/2303.11331). Images of other sizes than its own are placed as timm places them:
learned positions are resampled (bicubic, antialiased), rotary ones are worked out for the other grid.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import (
    Features,
    ImageBackbone,
    Layers,
    Order,
    TokenBackbone,
    attention_mask,
    check_positions,
    outside,
    pool,
)
from ssl_zoo.backbones._timm import (
    Eva,
    Normalise,
    PatchEmbed,
    RotaryEmbeddingCat,
    Size,
    VisionTransformer,
    build,
    check_name,
    is_vit,
    plain,
    published,
    side_pair,
)
from ssl_zoo.backbones.cnn import TimmCNN


def in_patches(model: nn.Module) -> TypeGuard[VisionTransformer | Eva]:
    """Whether a model of timm's is a vision transformer whose patches are cut apart and embedded alike."""
    return isinstance(model, (VisionTransformer, Eva)) and type(model.patch_embed) is PatchEmbed


def cells(height: int, width: int, patch: int) -> tuple[int, int]:
    """Rows and columns of patches of an image.

    Raises:
        ValueError: a side that does not divide; names those that would.
    """
    for side in (height, width):
        if side % patch or not side:
            low, high = side // patch * patch, max(1, -(-side // patch)) * patch
            near = f"{low} or {high}" if low else f"{high}"
            raise ValueError(f"image {height}x{width} does not divide into patches of {patch}; use {near}")
    return height // patch, width // patch


class TimmViT(ImageBackbone, TokenBackbone):
    """A timm VisionTransformer or Eva, with any prefix tokens, and learned or rotary positions.

    `embed` and `forward` take images of every size that divides into patches. An image of another size than
    `image_size` is no mistake here, since crops of several sizes go through one backbone: what reads rows
    (`transfer.features.prepare`, the views) resizes to `image_size` by itself. Only `encode` cannot know what
    image its tokens come from: `grid` says so. Unless `at` places the tokens, `encode` refuses another number
    of them than the grid has.

    Args:
        name: timm's name, such as vit_small_patch16_224.
        image_size: side in pixels, or (height, width), that positions are made for; None = the model's own.
        patch_size: side of a patch in pixels; None = the model's own.
        pretrained: True = weights from the hub; a path = a local safetensors or torch file. The first
            convolution of weights for another number of channels is adapted as timm does.
        drop_path: rate of stochastic depth at the last block.
        mean, std: per channel, of images in [0, 1]; None = those the model was published with.
        overrides: passed on to timm (embed_dim, depth, num_heads, class_token, reg_tokens, ...). With
            in_chans=1, RGB images are turned grey.

    Raises:
        ValueError: a name timm does not know, sizes that do not divide, arguments the model does not take.
    """

    kind = "vit"
    orders = frozenset({"both", "causal"})
    turns: Tensor | None

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
        if "drop_path_rate" in overrides:
            raise ValueError("drop_path_rate is called drop_path here")
        arguments = dict(overrides)
        if arguments.get("class_token") is False:
            arguments.setdefault("global_pool", "avg")  # timm's default would read the class token
        if image_size is not None:
            arguments["img_size"] = side_pair(image_size, ())
        if patch_size is not None:
            arguments["patch_size"] = patch_size
        # A model that is built for one size keeps the rotary positions of that size alone.
        model = build(name, pretrained, drop_path_rate=drop_path, dynamic_img_size=True, **arguments)
        if not in_patches(model):
            raise ValueError(f"{name} does not cut its image into plain patches; build it as TimmCNN")
        normalise = Normalise(published(name), model.patch_embed.proj.in_channels, mean, std)
        self._wrap(model, normalise, {"name": name, "drop_path": drop_path, **overrides})

    def _wrap(self, model: VisionTransformer | Eva, normalise: Normalise, config: dict[str, Any]) -> None:
        """Become the backbone that reads with this model, but for what only its classifier needs."""
        height, width = side_pair(model.patch_embed.img_size, ())  # pyright: ignore[reportArgumentType]
        patch, wide = map(int, model.patch_embed.patch_size)
        if patch != wide:
            raise ValueError(f"its patches are {patch}x{wide}: only square ones are read, patch_size=SIDE")
        cells(height, width, patch)
        # Models made for average pooling keep their final norm behind the pool: move it to the tokens,
        # so that tokens and their mean are always read after it.
        if isinstance(model.norm, nn.Identity):
            model.norm = model.fc_norm
        model.fc_norm = nn.Identity()
        model.attn_pool = None
        sizes = {"image_size": [height, width], "patch_size": patch}
        mean, std = normalise.values
        super().__init__({**config, **sizes, "mean": mean, "std": std})
        self.model, self.normalise = model, normalise
        self.dim, self.image_size, self.patch = model.embed_dim, (height, width), patch
        self.prefix: int = model.num_prefix_tokens
        self.register_buffer("turns", self._own_turns(), persistent=False)

    @classmethod
    def around(
        cls, model: VisionTransformer | Eva, mean: Sequence[float] | None, std: Sequence[float] | None
    ) -> TimmViT:
        """The backbone that reads with a model of timm's that is there already, and shares its weights.

        Args:
            mean, std: as of the class; None = those the model was published with. A model of which timm does
                not say reads images in [0, 1] as they are.

        Raises:
            ValueError: it drops patches by itself, they are not square, or the sides of its images do not
                divide into them.
        """
        if getattr(model, "patch_drop", None) is not None and not isinstance(model.patch_drop, nn.Identity):
            raise ValueError(
                "this model drops patches by itself (patch_drop_rate), which is the objective's to do"
            )
        twin = copy.copy(model)  # with parts of its own list: the model keeps its classifier
        twin._modules = {**model._modules, "head": nn.Identity(), "head_dist": nn.Identity()}
        twin.patch_embed.strict_img_size = False
        about: Any = getattr(model, "pretrained_cfg", None)  # only timm's factory gives one
        channels = model.patch_embed.proj.in_channels
        known = (about["mean"], about["std"]) if about else ([0.0] * channels, [1.0] * channels)
        made = cls.__new__(cls)
        normalise = Normalise(known, channels, mean, std)
        made._wrap(twin, normalise, {"of": f"{type(model).__module__}.{type(model).__name__}"})
        return made

    def embed(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W), uint8 or in [0, 1] -> patches (B, N, D), row by row, without positions."""
        x = self.normalise(x)
        self.grid(*x.shape[-2:])
        patches = self.model.patch_embed(x)  # (B, h, w, D) of models that are built for any size
        return patches if patches.dim() == 3 else patches.flatten(1, 2)

    def forward(self, x: Tensor, segments: Tensor | None = None, *, layers: Layers | None = None) -> Features:
        tokens = self.embed(x)
        return self.encode(
            tokens, None, segments, order=self.order, grid=self.grid(*x.shape[-2:]), layers=layers
        )

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
        """As `TokenBackbone.encode`. `segments` (B, N) is 0, or -1 for padding; `at` None means all cells of
        the grid, row by row. All patches see class and register tokens, and these see all but padding; in an
        order these see each other alone, or they would carry to a patch what comes after it."""
        self.refuse(order)
        grid = self.model.patch_embed.grid_size if grid is None else grid
        patches = math.prod(grid)
        if at is not None:
            check_positions(at, patches, f"an image of {patches} patches")
        elif tokens.shape[1] != patches:
            raise ValueError(
                f"{tokens.shape[1]} patches, but a grid of {grid[0]}x{grid[1]} has {patches}: say which they "
                "fill, grid=backbone.grid(height, width), or where each lies, at=..."
            )
        x = self._place(tokens, at, grid)
        turns = self._turns(at, grid)
        free = segments is None and not isinstance(order, Tensor) and order == "both"
        mask = None if free else self._mask(x, segments, order)
        after: list[Tensor] = []
        for index, block in enumerate(self.model.blocks):
            told = {} if turns is None else {"rope": turns[index]}
            x = block(x, **told) if mask is None else block(x, **told, attn_mask=mask)
            if layers is not None:
                content = x[:, self.prefix :]
                after.append(content if layers == "tokens" else pool(content, segments))
        x = self.model.norm(x)[:, self.prefix :]
        return Features(x, pool(x, segments), tuple(after))

    def _mask(self, x: Tensor, segments: Tensor | None, order: Order) -> Tensor:
        """Who sees whom, of tokens x with their prefix (B, P + N, D): (B, 1, P + N, P + N) bool.

        Raises:
            ValueError: a segment other than 0 and -1 (on a CPU).
        """
        index = torch.arange(-self.prefix, x.shape[1] - self.prefix, device=x.device).expand(x.shape[:2])
        front = index[:, : self.prefix]
        if segments is None:
            segments = torch.zeros_like(index[:, self.prefix :])
        elif outside(segments + 1, 2) is not None:
            raise ValueError("a row of patches is one image: its segments are 0, or -1 for padding")
        if isinstance(order, Tensor):
            lowest = torch.full_like(front, torch.iinfo(torch.int64).min)
            order = torch.cat([lowest, order], 1)
        elif order == "causal":
            order = index.clamp_min(-1)
        return attention_mask(torch.cat([torch.zeros_like(front), segments], 1), order)

    def _place(self, tokens: Tensor, at: Tensor | None, grid: tuple[int, int]) -> Tensor:
        """Add learned positions, put class and register tokens in front: (B, N, D) -> (B, P + N, D)."""
        model = self.model
        front = [getattr(model, key, None) for key in ("cls_token", "dist_token", "reg_token")]
        front = [token for token in front if token is not None]
        if model.pos_embed is not None:
            rows = model.pos_embed  # (1, P + N, D), or (1, N, D) where the prefix has no positions
            if tuple(grid) != tuple(own := model.patch_embed.grid_size):  # each time, as they are learned
                rows = resampled(rows, 0 if model.no_embed_class else self.prefix, own, grid)
            rows = rows[0]
            if not model.no_embed_class and front:
                front = [torch.cat(front, 1) + rows[: self.prefix]]
                rows = rows[self.prefix :]
            tokens = tokens + (rows if at is None else rows[at])
        front = [token.expand(len(tokens), -1, -1) for token in front]
        return model.norm_pre(model.pos_drop(torch.cat([*front, tokens], 1)))

    def _own_turns(self) -> Tensor | None:
        """Rotary positions of the grid of `image_size`; None where they have parameters or noise, and so
        change from one time to the next."""
        rope = getattr(self.model, "rope", None)
        if not isinstance(rope, RotaryEmbeddingCat) or getattr(rope, "aug_active", False):
            return None
        return rope.get_embed(shape=[*self.model.patch_embed.grid_size])

    def _turns(self, at: Tensor | None, grid: tuple[int, int]) -> Sequence[Tensor] | None:
        """Rotary positions for each block, or None. They turn content tokens alone."""
        rope = getattr(self.model, "rope", None)
        if rope is None:
            return None
        table = self.turns
        if table is None or tuple(grid) != tuple(self.model.patch_embed.grid_size):
            table = rope.get_embed(shape=grid)
        if getattr(self.model, "rope_mixed", False):  # learned per block and head: (L, heads, N, 2 * head)
            if at is None:
                return table.unbind()
            return table[:, :, at].transpose(1, 2).unbind()  # (L, B, heads, K, 2 * head)
        table = table if at is None else table[at][:, None]  # (N, 2 * head) or (B, 1, K, 2 * head)
        return [table] * len(self.model.blocks)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        rope = getattr(self.model, "rope", None)
        if isinstance(rope, RotaryEmbeddingCat) and rope.feat_shape and (height, width) != self.image_size:
            raise ValueError(
                f"this model has rotary positions of {self.image_size} pixels alone, and none of "
                f"{(height, width)}: build it with dynamic_img_size=True"
            )
        return cells(height, width, self.config["patch_size"])

    def blocks(self) -> Sequence[nn.Module]:
        return list(self.model.blocks)


def resampled(rows: Tensor, prefix: int, own: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Learned positions (1, P + N, D) of the cells of another grid, bicubic and antialiased.

    As timm's `resample_abs_pos_embed`, which however turns double precision into float32.
    """
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    image = wide[:, prefix:].unflatten(1, own).permute(0, 3, 1, 2)  # (1, D, rows, columns)
    image = F.interpolate(image, size=grid, mode="bicubic", antialias=True)
    return torch.cat([rows[:, :prefix], image.flatten(2).transpose(1, 2).to(rows.dtype)], 1)


def timm_backbone(name: str, **arguments: Any) -> TimmViT | TimmCNN:
    """`TimmViT` where timm's model is a plain vision transformer, else `TimmCNN`.

    Args:
        name: timm's name of a model.
        arguments: those of the class.

    Raises:
        ValueError: as the class.
    """
    check_name(name)
    return TimmViT(name, **arguments) if is_vit(name) else TimmCNN(name, **arguments)
