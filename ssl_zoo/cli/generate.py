"""`ssl-zoo generate`: text from a model that writes, as it is written."""

from __future__ import annotations

import sys

from omegaconf import DictConfig

from ssl_zoo.compose.generation import generate_from, line


def run(cfg: DictConfig, choices: dict[str, str]) -> None:
    """Write, and print what was written: one text alone as it is, several under their numbers, and those of a
    file of prompts as lines of JSON. A terminal shows one text while it is written."""
    heard: list[str] = []

    def show(piece: str) -> None:
        heard.append(piece)
        print(piece, end="", flush=True)

    found = generate_from(cfg, heard=show if sys.stdout.isatty() and cfg.out is None else None)
    if cfg.out is not None:
        print(f"{len(found)} texts in {cfg.out}" if len(found) > 1 else f"1 text in {cfg.out}")
    elif heard:
        print()
    elif cfg.file is not None:
        print("\n".join(map(line, found)))
    else:
        for number, one in enumerate(found, 1):
            print(f"[{number} of {len(found)}] {one.text}" if len(found) > 1 else one.text)
