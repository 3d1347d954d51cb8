"""Bits per byte: how well a causal backbone predicts held-out text, whatever its tokenizer.

    bits per byte = (nats per token) / ln 2 / (UTF-8 bytes per token)

Texts of one domain compare over tokenizers, as the bytes are the same. Rows are packed and cut as in
pretraining, so the first tokens of a row have little before them: longer rows give lower values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from ssl_zoo.data.text import TextData
from ssl_zoo.transfer.causal import language_model, read_packed, running_text
from ssl_zoo.transfer.measures import Data, Measured, Subject


def bits_per_byte(nats_per_token: float, bytes_per_token: float) -> float:
    """The loss in bits per UTF-8 byte, which training logs as val/bits_per_byte (see `pretrain.watch`)."""
    return nats_per_token / math.log(2) / bytes_per_token


@dataclass(frozen=True)
class BitsPerByte:
    """Bits per UTF-8 byte of the test split; lower is better. Nothing is fitted or chosen."""

    name: ClassVar[str] = "bits_per_byte"
    stochastic: ClassVar[bool] = False

    def begin(self, subject: Subject, data: Data, seed: int) -> Callable[[TextData], Measured]:
        """Raises DataError: data that is no running text, or a backbone that is no language model."""
        backbone, tokenizer = language_model(subject.backbone), subject.words()
        running_text(data)

        def score(data: TextData) -> Measured:
            rows = data.rows("test", tokenizer, subject.length, "packed", lookahead=1)
            loss = read_packed(backbone, rows, subject.device).double().mean().item()
            size: float = rows.bytes_per_token  # pyright: ignore[reportAttributeAccessIssue]
            return Measured(
                "bits_per_byte",
                bits_per_byte(loss, size),
                others={"nats_per_token": loss},
                details={"bytes_per_token": size, "length": subject.length},
                test=len(rows),
            )

        return score
