"""`ssl-zoo embed`: one vector for each image or text, and what is nearest to a query."""

from __future__ import annotations

import time

from omegaconf import DictConfig

from ssl_zoo.compose.embedding import embed_from
from ssl_zoo.pages.samples import beginning, samples

SHOWN = 100  # characters of a text that is near, at most


def run(cfg: DictConfig, choices: dict[str, str]) -> None:
    """Write the vectors, and print where they are and what is nearest."""
    began = time.perf_counter()
    made = embed_from(cfg, choices)
    if made.out is not None:
        size, seconds = made.out.stat().st_size / 1000, time.perf_counter() - began
        beside = f", names in {made.out.with_suffix('.json')}" if made.out.suffix.lower() == ".npy" else ""
        print(f"{made.out}: {made.account.count:,} vectors{beside} ({size:,.0f} kB, {seconds:.1f} s)")
    if made.nearest is not None:
        print(f"nearest to {cfg.query} of {made.account.count:,}, by cosine")
        for place, near in enumerate(made.nearest.found, 1):
            print(f"{place:>4}  {near.cosine:.4f}  {near.title}")
            if made.tokenizer is not None:
                text = samples(near.rows, made.tokenizer)[0].text
                print(" " * 14 + beginning(text, SHOWN))
    if made.page is not None:
        print(made.page)
