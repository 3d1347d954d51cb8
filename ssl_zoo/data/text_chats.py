"""Conversations as data sets hold them: a list of turns, each an object with who speaks and what is said.

OpenAI's spelling has `role` and `content`, ShareGPT's `from` and `value`. A conversation is written as a text
with a line for each turn, "user: How far is it?"; a single turn is its words alone. Which turn is an answer
is told by who speaks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text_tally import Tally

KEYS = (("role", "content"), ("from", "value"))
ANSWERS = ("assistant", "gpt", "model", "bot", "chatgpt", "bing", "bard")  # who answers


class Turn(NamedTuple):
    who: str
    said: str


def is_chat(value: object) -> bool:
    """Whether a value of a table is a conversation: a list of objects that all say who, and some what."""
    return _keys(value) is not None


def turns(value: object, where: str) -> list[Turn]:
    """The turns of a conversation; those in which nothing is said (as where a tool is called) are left out.

    Raises:
        DataError: what is said is no text, nor a list of parts that are texts.
    """
    assert isinstance(value, Sequence)
    keys = _keys(value)
    assert keys is not None
    who, said = keys
    made = (
        Turn(str(one[who]), _words(one.get(said), f"{where}, turn {n}")) for n, one in enumerate(value, 1)
    )
    return [turn for turn in made if turn.said.strip()]


def written(every: Sequence[Turn]) -> str:
    """Turns as one text."""
    if len(every) == 1:
        return every[0].said
    return "\n".join(f"{who}: {said}" for who, said in every)


def as_text(value: object, where: str, tally: Tally | None) -> object:
    """A conversation as its text, of which `tally` is told; an empty one as null; others as they are."""
    if not is_chat(value):
        return None if value == [] else value
    if tally is not None:
        tally.add("conversation(s) written as lines of WHO: WORDS", where)
    return written(turns(value, where))


def answers(turn: Turn) -> bool:
    """Whether a turn is an answer, by who speaks."""
    return turn.who.strip().lower() in ANSWERS


def parted(every: Sequence[Turn]) -> tuple[str, str]:
    """What leads to the last answer, as one text, and the answer: a prompt and its completion.

    The answer is empty where nobody answers. What comes after it is left out.
    """
    last = max((n for n, turn in enumerate(every) if answers(turn)), default=len(every))
    return written(every[:last]), "".join(turn.said for turn in every[last : last + 1])


def _keys(value: object) -> tuple[str, str] | None:
    """The keys of who and what in every turn; None for what is no conversation."""
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or not value:
        return None
    every = [one for one in value if isinstance(one, Mapping)]
    found = (
        keys for keys in KEYS if all(keys[0] in one for one in every) and any(keys[1] in one for one in every)
    )
    return next(found, None) if len(every) == len(value) else None


def _words(said: object, where: str) -> str:
    """What is said, which may be in parts, as where images are among them."""
    if said is None:
        return ""
    if isinstance(said, str):
        return said
    parts = said if isinstance(said, Sequence) else [said]
    texts = [one.get("text") if isinstance(one, Mapping) else one for one in parts]
    if not all(isinstance(one, str) for one in texts):
        raise DataError(f"{where}: what is said is no text, nor a list of texts: leave the conversation out")
    return "\n".join(map(str, texts))
