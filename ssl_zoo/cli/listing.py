"""`ssl-zoo list`: what there is and what pairs with what, read from the sources without importing torch."""

from __future__ import annotations

import difflib
import sys
import textwrap
from itertools import groupby

from ssl_zoo.compose.catalogue import Card, backbones_for, cards, choice, described, recipes
from ssl_zoo.compose.places import options

GROUPS = (
    *("backbone", "data", "tokenizer", "optimizer", "schedule", "decay"),
    *("guard", "logger", "trainer", "protocol", "experiment"),
)
HELP = """\
ssl-zoo list              everything: objectives, backbones, data and the other groups
ssl-zoo list objectives   a table of the objectives, by family, and the kinds of backbone that each takes
ssl-zoo list FAMILY       a page about a family of objectives, such as contrastive
ssl-zoo list NAME         a page about one objective, such as vicreg
ssl-zoo list GROUP        the choices of a group: """ + ", ".join(GROUPS)
WIDTH = 110


def rows(group: str) -> list[str]:
    """The choices of a group with what the first line of each file says."""
    return [f"  {name:<28} {choice(group, name).headline}".rstrip() for name in options(group)]


def table(found: list[Card]) -> str:
    """Objectives by family, one to a line with its variants below it."""
    lines = ["OBJECTIVES, by family, with the kinds of backbone that they take"]
    for family, members in groupby(found, key=lambda card: card.family):
        lines.append(f" {family}")
        for card in members:
            kinds = " ".join(card.takes)
            for number, one in enumerate(card.choices):
                note = f"  [{kinds}]" if number == 0 and family != "your own" else ""
                lines.append(f"  {one.name:<28} {one.headline}{note}".rstrip())
    return "\n".join(lines)


def filled(text: str) -> str:
    """A paragraph in lines of `WIDTH`; words such as fine-tuning, and names of recipes, stay whole."""
    return textwrap.fill(text, WIDTH, break_on_hyphens=False)


def page(card: Card) -> str:
    """What is to be known of an objective before it is run."""
    first = card.choices[0]
    parts = [f"{card.name.upper()}  ({card.cls}, {card.family})", "", filled(first.headline)]
    for word, said in first.notes.items():
        parts += ["", filled(f"{word}: {said}")]
    if card.about:
        parts += ["", card.about]
    if len(card.choices) > 1:
        parts += ["", "VARIANTS", *(f"  objective={one.name:<18} {one.headline}" for one in card.choices[1:])]
    if fits := backbones_for(card):
        parts += ["", filled(f"BACKBONES: {' '.join(fits)}")]
    if found := recipes(card):
        parts += ["", f"RECIPES: {' '.join(f'experiment={name}' for name in found)}"]
    example = found[0] if found else ""
    words = f"experiment={example}" if example else f"objective={card.name} backbone=... data=..."
    parts += ["", f"ssl-zoo pretrain {words}", f"ssl-zoo pretrain {words} --help   # every key"]
    return "\n".join(parts)


def listing() -> str:
    """The whole page."""
    lines = [table(cards())]
    for group in GROUPS:
        lines += ["", group.upper(), *rows(group)]
    return "\n".join(lines)


def about(word: str) -> str:
    """The page of a word: objectives, a family, an objective or its variant, or a group.

    Raises:
        ValueError: there is none; names those that come near it.
    """
    found = cards()
    if word in ("objective", "objectives"):
        return table(found)
    if word in GROUPS or word.removesuffix("s") in GROUPS:
        group = word if word in GROUPS else word.removesuffix("s")
        return "\n".join([group.upper(), *rows(group)])
    if members := [card for card in found if card.family == word]:
        return ("\n\n" + "-" * WIDTH + "\n\n").join([table(members), *map(page, members)])
    for card in found:
        if word in (card.name, card.cls, *(one.name for one in card.choices)):
            return page(card)
    words = {"objectives", *GROUPS, *(card.family for card in found)}
    words |= {name for card in found for name in (card.cls, *(one.name for one in card.choices))}
    near = described(word)[:3] or difflib.get_close_matches(word, sorted(words), 3, 0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(f"there is no objective, family or group {word!r}{hint}")


def show(words: list[str]) -> None:
    """Print what the words ask for; without any, everything."""
    if words and words[0] in ("-h", "--help"):
        print(HELP)
    elif not words:
        print(listing())
    else:
        try:
            print("\n\n".join(about(word) for word in words))
        except ValueError as error:
            sys.exit(f"ssl-zoo list: {error} (ssl-zoo list --help)")
