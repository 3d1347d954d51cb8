"""`ssl-zoo look`: what lies at a path, and how it would be read."""

from __future__ import annotations

from omegaconf import DictConfig

from ssl_zoo.compose.looking import look_from


def run(cfg: DictConfig, choices: dict[str, str]) -> None:
    """Print what was seen, and where the page is."""
    seen = look_from(cfg)
    for line in seen.lines():
        print(line)
    if seen.page is not None:
        print(seen.page)
