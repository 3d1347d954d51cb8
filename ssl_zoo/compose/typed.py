"""The words about data as somebody typed them, for the commands that lines name to go on with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

from ssl_zoo.compose import composition, overrides
from ssl_zoo.compose.gate import ConfigError
from ssl_zoo.messages import heard_by

_TYPED: ContextVar[tuple[str, ...]] = ContextVar("typed", default=())


@contextlib.contextmanager
def typing(words: Sequence[str]) -> Iterator[None]:
    """Within, these words are those that were typed."""
    token = _TYPED.set(tuple(words))
    try:
        yield
    finally:
        _TYPED.reset(token)


def data_words() -> list[str]:
    """Those about the data, where one of them says which it is; else none. A path that was typed without its
    key has quotes only where it needs them."""
    found = [bare(word) for word in of_data(_TYPED.get())]
    return found if any(word.startswith("data=") for word in found) else []


def bare(word: str) -> str:
    """The word without quotes, if it means the same."""
    prefix, key, value = overrides.split(word)
    text = overrides.unquoted(value or "$")
    same = "$" not in text and overrides.parsed(f"k={text}") == text
    return f"{prefix}{key}={text}" if same else word


def of_data(words: Sequence[str]) -> list[str]:
    """The words about the data among others."""
    return [word for word in words if overrides.split(word).key.split(".")[0] == "data"]


def again(verb: str, words: list[str], typed: Sequence[str]) -> str:
    """A command as one types it in a shell, that reads the same as `words`, which spell the data out.

    typed: shorter words for the data. What they leave to be guessed is added where this verb would guess
        otherwise; where that is not enough, the data stays spelt out.
    """
    spelt = of_data(words)
    before = words.index(spelt[0])
    first, last = words[:before], [word for word in words[before:] if word not in spelt]
    wanted, short = read(verb, words), spelt
    for keys in ((), ("data.test_fraction",), ("data.test_fraction", "data.image_size")):
        guessed = [word for word in spelt if overrides.split(word).key in keys and word not in typed]
        if typed and wanted and read(verb, [*first, *typed, *guessed, *last]) == wanted:
            short = [*typed, *guessed]
            break
    return " ".join(map(overrides.shell, ["ssl-zoo", verb, *first, *short, *last]))


def read(verb: str, words: list[str]) -> frozenset[str] | None:
    """What such words have a verb read, spelt out; None where it does not take them."""
    try:
        with heard_by(lambda _: None):
            return frozenset(word.lstrip("+") for word in of_data(composition.settle(verb, words)))
    except ConfigError:
        return None
