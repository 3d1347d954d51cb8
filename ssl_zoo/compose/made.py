"""What all tuning of models has in common: how long it is, how to tell of it, that the place is free."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ssl_zoo import __version__
from ssl_zoo.compose.composition import ConfigError
from ssl_zoo.pretrain.export import read_summary
from ssl_zoo.transfer.model_file import holds_model
from ssl_zoo.transfer.protocols import Finetune

EPOCHS, FEWEST = 30, 100  # of fine-tuning, where nobody says how many steps
WANTED = ("objective", "backbone", "steps", "samples", "seed")  # of the summary of the run


def long_enough(protocol: Finetune, steps: int | None, rows: int) -> Finetune:
    """The protocol with so many steps; where nobody says how many, with those that the rows take."""
    usual = protocol.steps == Finetune.steps
    return replace(protocol, steps=steps or (enough(rows, protocol) if usual else protocol.steps))


def enough(rows: int, protocol: Finetune) -> int:
    """Steps of fine-tuning: `EPOCHS` of these labelled rows, within `FEWEST` and those of the protocol."""
    epochs = -(-EPOCHS * rows // protocol.batch_size)
    return min(protocol.steps, max(FEWEST, epochs))


def made_of(
    cfg: DictConfig,
    run: Path,
    data: str,
    fingerprints: dict[str, str],
    protocol: Any,
    chosen: dict[str, Any],
    rows: int,
    began: float,
) -> dict[str, Any]:
    """How a model was made, as plain JSON values.

    Args:
        data: its name. fingerprints: of its splits. chosen: on validation. rows: that were learnt from.
        began: what `time.perf_counter` said then.
    """
    return {
        "run": run.name,
        "pretraining": {k: v for k, v in read_summary(run / "summary.json").items() if k in WANTED},
        "data": data,
        "fingerprints": fingerprints,
        "protocol": OmegaConf.to_container(cfg.protocol, resolve=True),
        "steps": getattr(protocol, "steps", None),
        "chosen": chosen,
        "labels": cfg.labels,
        "rows": rows,
        "seed": cfg.seed,
        "seconds": round(time.perf_counter() - began, 1),
        "ssl_zoo": __version__,
    }


def refuse_taken(out: Path) -> None:
    """Raise ConfigError where something lies at the place of a model."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "a model" if holds_model(out) else "something else"
        raise ConfigError(f"out={out} holds {what} already: name another folder, or remove that one first")
