"""A contact sheet: some samples of each class and split, and what was found out about all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ssl_zoo.data.survey import Shown, Split
from ssl_zoo.pages.page import render
from ssl_zoo.pages.samples import Sample, beginning, data_uri

MOST = 40  # classes that are shown of a split


def look_page(name: str, splits: Mapping[str, Split], told: Sequence[str]) -> str:
    """The HTML.

    Args:
        name: of the data set. told: what was found out, in lines.
    """
    sheets = []
    for split, found in splits.items():
        labels = sorted({one.label for one in found.shown}) or [""]
        rows = [(label, [shown(o) for o in found.shown if o.label == label]) for label in labels[:MOST]]
        sheets.append((split, found.count, rows, max(0, len(labels) - MOST)))
    return render("look.html", title=f"What lies in {name}", told=told, sheets=sheets)


def shown(one: Shown) -> tuple[str, Sample]:
    """A sample's name, and what a page shows of it."""
    if isinstance(one.what, str):
        return one.name, Sample(text=beginning(one.what), label=one.label)
    return one.name, Sample(image=data_uri(torch.tensor(one.what), side=len(one.what[0])), label=one.label)
