"""`ssl-zoo reproduce`: the pretraining of an export once more."""

from __future__ import annotations

import sys

from omegaconf import DictConfig

from ssl_zoo.compose.reproducing import reproduce_from


def run(cfg: DictConfig, choices: dict[str, str]) -> None:
    """Pretrain again, and print whether the weights are the same; exits with 1 where they are not."""
    found = reproduce_from(cfg)
    if found.same:
        print(f"{found.where}: the same weights, to the bit (SHA-256 {found.now})")
        return
    why = "; ".join(found.reasons) or "nothing that the receipt knows of differs"
    sys.exit(
        f"ssl-zoo reproduce: {found.where} has other weights (SHA-256 {found.now}) than were exported "
        f"({found.before}): {why}"
    )
