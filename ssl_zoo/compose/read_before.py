"""Whether rows that are to be measured were read in pretraining, and what follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ssl_zoo.compose.data_names import absolute
from ssl_zoo.compose.gate import ConfigError
from ssl_zoo.messages import note

DRAWS = ("test_fraction", "split_seed", "splits", "format", "label")  # what decides which rows are test
LIKELIHOODS = ("bits_per_byte", "in_context_loss")  # measures of the texts themselves
KEEPS = "pretraining with the same data.test_fraction, split_seed and columns keeps them apart"


def refuse_read_texts(run: Path, name: str, data: dict[str, Any], protocol: str) -> None:
    """Say that test rows were read in pretraining, where they were.

    Args:
        run, data: see `has_read`.
        name: of the data.
        protocol: its name.

    Raises:
        ConfigError: the protocol scores how well texts are predicted that were not read.
    """
    if not has_read(run, data):
        return
    read = f"{run} was pretrained on the rows of {name} that are test here"
    if protocol in LIKELIHOODS:
        raise ConfigError(
            f"{read}, and {protocol} says how well it predicts texts that it has not read: {KEEPS}; "
            "or measure on other texts"
        )
    note(f"{read}, without their labels; {KEEPS}")


def has_read(run: Path, data: dict[str, Any]) -> bool:
    """Whether test rows are drawn from files that a run was pretrained on, and were not kept apart.

    Args:
        run: its folder. One whose configuration cannot be read, or that data in code trained, is not known.
        data: the settings of what it is measured on.
    """
    try:
        settings = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"), resolve=True)
    except (OmegaConfBaseException, OSError, ValueError, YAMLError):
        return False
    before = settings.get("data") if isinstance(settings, dict) else None
    if not isinstance(before, dict) or "train" not in data or "train" not in before:
        return False
    drawn = not data.get("test") and bool(data.get("test_fraction") or data.get("splits"))
    kept = all(before.get(key) == data.get(key) for key in DRAWS)
    return drawn and not kept and absolute(data["train"]) == absolute(before["train"])
