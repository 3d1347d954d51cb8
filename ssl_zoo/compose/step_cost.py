"""What one step of a rung costs: its objective is built, and one real batch is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig

from ssl_zoo.compose.gate import ConfigError, instantiate
from ssl_zoo.compose.objective import build_objective, text_tower
from ssl_zoo.compose.pretraining import refuse_mixed_modalities
from ssl_zoo.compose.tokenizer import new_tokenizer
from ssl_zoo.data.image_captions import ImageCaptions
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.plan import Plan
from ssl_zoo.data.rows import DataError, Rows
from ssl_zoo.data.text_streams import Texts
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.flops import step_flops
from ssl_zoo.noise import free_noise, seed_noise
from ssl_zoo.objectives._base import Objective
from ssl_zoo.transfer.features import move


@dataclass(frozen=True)
class Cost:
    """What one optimizer step of a size costs.

    Attributes:
        flops: of the forward and backward pass over the whole batch.
        units, unit: how many tokens or images are in the batch, and which of them it is.
        parameters: of all that is trained, heads included.
        backbone_parameters: of the backbone, which is kept.
    """

    flops: int
    units: int
    unit: str
    parameters: int
    backbone_parameters: int


def open_data(cfg: DictConfig) -> tuple[ImageData | ImageCaptions | Texts, Tokenizer | None]:
    """The data and, for text, its tokenizer, once for all rungs.

    Raises:
        DataError: there is no validation split to read losses from.
        ConfigError: the backbone does not read such data, or the objective has two backbones.
    """
    refuse_mixed_modalities(cfg)
    if text_tower(cfg.objective) is not None:
        raise ConfigError("scale compares backbones by their sizes, and this objective has two of them")
    data: ImageData | ImageCaptions | Texts = instantiate(cfg.data, _convert_="all")
    if "validation" not in data.splits():
        raise DataError(
            f"{data.name} has no validation split, whose loss scale compares; name its source, or carve it "
            "with data.validation_fraction=0.05"
        )
    if not isinstance(data, Texts):
        return data, None
    return data, new_tokenizer(cfg, data, cfg.backbone)


def training_rows(
    cfg: DictConfig,
    data: ImageData | ImageCaptions | Texts,
    tokenizer: Tokenizer | None,
    objective: Objective[Any],
) -> Rows:
    """What the objective trains on; `data` and `tokenizer` as `open_data` gives them."""
    if not isinstance(data, Texts):
        return data.rows("pretrain")
    assert tokenizer is not None
    return data.rows("train", tokenizer, cfg.context, objective.layout, objective.lookahead, even=True)


def training_plan(cfg: DictConfig, rows: Rows) -> Plan:
    """Which of these rows make which batch."""
    return Plan(len(rows), cfg.batch_size, cfg.seed, getattr(rows, "windows", None))


def cost(cfg: DictConfig, data: ImageData | ImageCaptions | Texts, tokenizer: Tokenizer | None) -> Cost:
    """What one optimizer step of a configuration of pretraining costs.

    Args:
        cfg: the configuration of a rung, as `ssl-zoo pretrain` reads it.
        data, tokenizer: as `open_data` gives them.
    """
    torch.manual_seed(cfg.seed)
    objective = build_objective(cfg, tokenizer)
    rows = training_rows(cfg, data, tokenizer, objective)
    on_gpu = cfg.trainer.accelerator != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    parts = cfg.trainer.accumulate_grad_batches
    index = training_plan(cfg, rows).rows(0)[: cfg.batch_size // parts]
    batch = move(rows.read(index), device)
    objective.to(device).train()
    seed_noise(cfg.seed, 0, 0, parts)
    counted = step_flops(lambda: objective(batch).value)
    free_noise()
    return Cost(
        flops=parts * counted,
        units=cfg.batch_size * rows.units_per_row,
        unit=rows.unit,
        parameters=sum(p.numel() for p in objective.parameters() if p.requires_grad),
        backbone_parameters=sum(p.numel() for p in objective.backbone.parameters()),
    )
