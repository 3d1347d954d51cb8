"""A page that shows a query and what is nearest to it."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_zoo.data.rows import Rows
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.pages.page import render
from ssl_zoo.pages.samples import samples
from ssl_zoo.transfer.nearest import Near


def nearest_page(
    query: str, asked: Rows, found: Sequence[Near], tokenizer: Tokenizer | None, data: str, count: int
) -> str:
    """The HTML.

    Args:
        query: as it was given. asked: the same as the only row.
        found: what is nearest to it, the nearest first.
        tokenizer: of a backbone that reads texts.
        data: what was searched. count: how many samples it has.
    """
    shown = [(samples(near.rows, tokenizer)[0], near.title, near.cosine) for near in found]
    return render(
        "nearest.html",
        title=f"Nearest to {query[:80]}",
        name=query[:200],
        query=samples(asked, tokenizer)[0],
        nearest=shown,
        data=data,
        count=count,
    )
