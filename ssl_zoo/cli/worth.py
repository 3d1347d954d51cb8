"""`ssl-zoo worth`: is pretraining worth it on somebody's data?"""

from __future__ import annotations

from omegaconf import DictConfig

from ssl_zoo.compose.application import settled_words
from ssl_zoo.compose.worthwhile import worth_from


def run(cfg: DictConfig, choices: dict[str, str]) -> None:
    """Print the answer, and where its page is."""
    for line in worth_from(cfg, settled_words()).lines():
        print(line)
