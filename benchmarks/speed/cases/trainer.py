"""What the trainer costs: the library's trainer against a bare PyTorch loop of the same objective."""

from __future__ import annotations

from functools import partial

from duel import Case, Gate

from cases.images import SIMCLR
from cases.material import TEXT, loop, note_share, recipe, train

TOKENS = ("experiment=text_next_token", f"data={TEXT}")


def side(words: tuple[str, ...], bare: bool, gate: Gate) -> None:
    parts = recipe(*words)
    if not bare:
        note_share(parts, gate)
    (loop if bare else train)(parts, gate, parts.batch_size * parts.rows.units_per_row)


def case(title: str, unit: str, words: tuple[str, ...]) -> Case:
    return Case(
        title=title,
        unit=unit,
        against="a bare PyTorch loop of the same objective",
        sides={"ssl_zoo": partial(side, words, False), "bare loop": partial(side, words, True)},
        bar=0.97,
        same="objective, data, order of the batches, optimizer, threads",
        differs="the trainer also seeds the noise of each step, sets the learning rate, checks the loss, "
        "logs and can checkpoint; the loop does none of it",
        threads=2,
        seconds=4.0,
    )


CASES = {
    "trainer_images": partial(case, "the trainer's own cost, SimCLR, ResNet of 0.7 M", "images/s", SIMCLR),
    "trainer_text": partial(
        case, "the trainer's own cost, next token, batches of 768 tokens", "tokens/s", TOKENS
    ),
}
