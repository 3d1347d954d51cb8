"""Which prediction of which objective a page shows, and on how many rows."""

from __future__ import annotations

import numpy as np

from ssl_zoo.data.rows import Rows
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.objectives._base import Batch, Objective
from ssl_zoo.objectives.mae import MAE
from ssl_zoo.objectives.masked_lm import MaskedLM
from ssl_zoo.objectives.next_token import NextToken
from ssl_zoo.objectives.rotation import Rotation
from ssl_zoo.objectives.simclr import SimCLR
from ssl_zoo.pages.image_predictions import pairs, reconstructions, turns
from ssl_zoo.pages.run_report import Prediction
from ssl_zoo.pages.text_predictions import Scored, continuations, filled, scored

IMAGES, TURNED = 8, 4
SHOWN = 96  # tokens of a text
PROMPT, DRAWN, CONTINUATIONS = 24, 40, 3  # tokens, tokens, samples


def predict(
    objective: Objective, rows: Rows, tokenizer: Tokenizer | None, title: str, source: str
) -> Prediction | None:
    """What an objective makes of the first rows; None for one that this page does not know.

    Args:
        rows: laid out as the objective wants them. tokenizer: of text.
        title, source: what the page calls the objective and the rows.
    """
    first: Batch = rows.read(np.arange(min(IMAGES, len(rows))))
    number = len(first.x)
    if isinstance(objective, MAE):
        return Prediction(
            "reconstructions", title, reconstructions(objective, first), f"the first {number} {source}"
        )
    if isinstance(objective, Rotation):
        turned = turns(objective, Batch(first.x[:TURNED]))
        return Prediction("turns", title, turned, f"the first {len(turned)} {source}")
    if isinstance(objective, SimCLR):
        return Prediction("pairs", title, pairs(objective, first, tokenizer), f"the first {number} {source}")
    if tokenizer is None:
        return None
    ids = first.x[0, :SHOWN]
    segments = None if first.segments is None else first.segments[0, :SHOWN]
    source = f"The first {len(ids)} tokens of the first of the {source}"
    if isinstance(objective, MaskedLM):
        return Prediction("filled", title, filled(objective, tokenizer, ids, segments), source)
    if isinstance(objective, NextToken):
        prompt = ids[:PROMPT].tolist()
        drawn = continuations(objective, tokenizer, prompt, DRAWN, CONTINUATIONS)
        opening = tokenizer.decode(prompt)
        text = scored(objective, tokenizer, ids, segments)
        return Prediction("scored", title, Scored(text, [(opening, one) for one in drawn]), source)
    return None
