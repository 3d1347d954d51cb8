"""Hashes of the code that a figure comes from, by part: they change when that code does, and only then.

The parts start at the full names of what a configuration builds, and hold the definitions that are reached
from there (see `definitions`). A new function in a shared file, a comment, or a definition that moves to
another file changes no hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ssl_zoo.leaderboard import definitions
from ssl_zoo.leaderboard.board import BAGS
from ssl_zoo.leaderboard.definitions import PACKAGE, Definition, digest, reached

# What trains an objective, and the rooms of what makes its batches, noise and updates. What the data hold is
# told by their fingerprint; how texts become rows of ids is code.
TRAINING = ("ssl_zoo.pretrain.module.Pretraining", "ssl_zoo.pretrain.data.PretrainingData")
UPDATES = (
    *("optim", "schedules", "distributed", "noise", "norm"),
    *("pretrain.module", "pretrain.data", "pretrain.budget"),
    *("data.plan", "data.permutation", "data.pairs", "data.captions", "data.text_rows", "data.tokenizer"),
    "data.tokenizer_pretrained",
)
# What scores a backbone, and the rooms that a score comes from.
SCORING = ("ssl_zoo.transfer.evaluate.evaluate", "ssl_zoo.transfer.measures.examine")
SCORES = (
    *("transfer", "views", "heads", "optim", "schedules", "distributed", "noise", "norm", "flops"),
    *("data.text_rows", "backbones.stepping"),
)
SHOWN = ("transfer.report",)  # how a score is formatted, which does not change the score
FLOORS = {
    "random": ("ssl_zoo.transfer.floors.fresh", "ssl_zoo.transfer.floors.from_scratch"),
    "pixels": ("ssl_zoo.transfer.floors.Pixels",),
    "tfidf": ("ssl_zoo.transfer.floors.tfidf", "ssl_zoo.transfer.floors.tfidf_similarity"),
    **{
        kind: tuple(f"ssl_zoo.transfer.word_floors.{name}" for name in ("encoded", kind, "filled"))
        for kind in BAGS
    },
}


def within(found: Iterable[Definition], places: Sequence[str]) -> set[Definition]:
    """The definitions in the given parts of the package, and all that are outside the package."""
    inside = tuple(f"ssl_zoo.{place}." for place in places)
    return {
        one for one in found if f"{one.module}.".startswith(inside) or not one.module.startswith("ssl_zoo")
    }


def pretraining(
    objective: Iterable[str],
    backbone: Iterable[str],
    update: Iterable[str] = (),
    data: Iterable[str] = (),
    tokenizer: Iterable[str] = (),
    floor: str = "",
) -> dict[str, str]:
    """Hashes behind a backbone, by part, from the `_target_`s of its configuration.

    Args:
        objective: full names of the classes and functions of the objective, which no floor has.
        backbone, data, tokenizer: the full names of theirs. The tokenizer counts where the data are text.
        update: the full names of optimizer, schedule and decay.
        floor: what takes the place of pretraining, such as "random"; "" for a backbone that is pretrained.
    """
    found = {"backbone": digest(reached(backbone))}
    rows = reached(data)
    if any(one.module == "ssl_zoo.data.text_rows" for one in rows):
        rows |= reached(tokenizer)
    if floor:
        return found | {"floor": digest(_floor(floor) | within(rows, UPDATES))}
    everything = reached(objective)
    views = within(everything, ("views",))
    found["views"] = digest(views)
    found["objective"] = digest(everything - {one for one in views if one.module.startswith("ssl_zoo.")})
    found["training"] = digest(within(reached([*TRAINING, *update]) | rows, UPDATES))
    return found


def _floor(kind: str) -> set[Definition]:
    return within(reached(FLOORS[kind]), ("transfer.floors", "transfer.word_floors"))


def floor(kind: str) -> str:
    """The hash of the code behind a floor without a backbone: "pixels" or "tfidf"."""
    return digest(_floor(kind))


def transfer(protocol: Iterable[str]) -> str:
    """The hash of the code behind a measure, from the `_target_`s of its configuration."""
    everything = within(reached([*protocol, *SCORING]), SCORES)
    return digest(everything - within(everything, SHOWN))


def differs(before: str | None, now: str | None) -> str:
    """How a hash now differs from that in a record, in words; "" where it is the same."""
    if before == now:
        return ""
    ways = {len(one) for one in (before, now) if one is not None}
    return "changed" if len(ways) == 1 else "is hashed in another way since"


def freeze() -> None:
    """Read all code of the package now: a process that works for hours hashes what it was started with."""
    for file in PACKAGE.rglob("*.py"):
        module = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        definitions.read(module.removesuffix(".__init__"))
