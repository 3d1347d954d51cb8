"""`ssl-zoo VERB --help`: every key of a verb with its default and its meaning, the groups and their choices.

Meanings are the comments of configs/*.yaml, and, where a YAML file has none, the docstring of what it builds.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf

from ssl_zoo.compose import overrides
from ssl_zoo.compose.gate import config_folder
from ssl_zoo.compose.keys import groups_of
from ssl_zoo.compose.signatures import signature

EXAMPLES = {
    "pretrain": (
        "ssl-zoo pretrain objective=rotation backbone=resnet_micro data=digits budget.steps=50",
        "ssl-zoo pretrain objective=simclr backbone=resnet18 data=photos/ budget.minutes=30 run=runs/photos",
        "ssl-zoo pretrain objective=masked_lm backbone=transformer_micro data=reviews.csv budget.epochs=3",
        "ssl-zoo pretrain -m experiment=demo_images seed=0,1",
    ),
    "evaluate": (
        "ssl-zoo evaluate run=runs/photos data=labelled/ labels=[5,25] floors=true",
        "ssl-zoo evaluate run=runs/photos data=cifar10 protocol=finetune labels=25 protocol.lrs=[1e-4,1e-3]",
    ),
    "look": (
        "ssl-zoo look photos/ page=look.html",
        "ssl-zoo look reviews.csv data.format.text=review run=runs/reviews",
    ),
    "worth": (
        "ssl-zoo worth photos/ minutes=30",
        "ssl-zoo worth photos/ labelled=sorted/ minutes=60 labels=[2,10]",
        "ssl-zoo worth reviews.csv data.format.text=review public=hf/answerdotai/ModernBERT-base",
    ),
    "finetune": (
        "ssl-zoo finetune run=runs/photos data=labelled/ out=classifier",
        "ssl-zoo finetune run=runs/reviews data=reviews.csv out=opinions data.test_fraction=0.2",
        "ssl-zoo finetune runs/reviews topics.csv out=topics task=labels label=topics protocol=linear",
        "ssl-zoo finetune runs/reviews prices.csv out=prices task=regression label=price",
        "ssl-zoo finetune runs/reviews names.conll out=names task=tags",
        "ssl-zoo finetune runs/photos scans/ out=segmenter task=masks head=conv",
    ),
    "predict": (
        "ssl-zoo predict classifier photos/ out=predictions.csv",
        "ssl-zoo predict classifier photos/beach.jpg",
        "ssl-zoo predict opinions text='too small for me'",
        "ssl-zoo predict names letters.txt out=letters.conll",
        "ssl-zoo predict segmenter new/ out=masks",
    ),
    "embed": (
        "ssl-zoo embed runs/photos photos/ out=vectors.parquet",
        "ssl-zoo embed runs/photos photos/ query=photos/beach.jpg nearest=20 page=nearest.html",
        "ssl-zoo embed runs/reviews reviews.csv query='too small for me'",
    ),
    "report": ("ssl-zoo report runs/photos", "ssl-zoo report runs/photos data=labelled/ out=page.html"),
    "generate": (
        "ssl-zoo generate runs/shakespeare 'To be, or' tokens=200 temperature=0.8",
        "ssl-zoo generate runs/shakespeare samples=5 top_p=0.9 seed=1",
        "cat letter.txt | ssl-zoo generate runs/shakespeare prompt=-",
        "ssl-zoo generate models/translator file=sentences.txt out=translations.jsonl",
    ),
    "export": (
        "ssl-zoo export runs/photos to=timm",
        "ssl-zoo export classifier to=onnx",
        "ssl-zoo export runs/reviews to=sentence-transformers out=encoder license=cc-by-4.0",
    ),
    "reproduce": ("ssl-zoo reproduce encoder/model.safetensors out=runs/again",),
    "scale": ("ssl-zoo scale experiment=shakespeare widths=[32,64,96] steps=[100,200]",),
}
FLAGS = """\
  --cfg job           print the configuration and run nothing (--resolve: with its references filled in)
  --info defaults     say which files it is made of
  -m, --multirun      several runs, one for each of the values that a comma parts: seed=0,1,2
  --config-dir PATH   also look for YAML files of your own in PATH/objective, PATH/data, ...
"""


class Entry(NamedTuple):
    """A key as its YAML file writes it down."""

    key: str
    default: str
    meaning: str


def entries(file: Path) -> list[Entry]:
    """The keys of a YAML file, with the comment behind each or on the lines above it, nested ones dotted."""
    found: list[Entry] = []
    stack: list[tuple[int, str]] = []
    above: list[str] = []
    headed = False
    for line in file.read_text(encoding="utf-8").splitlines():
        comment = re.match(r"\s*# ?(.*)", line)
        if comment:
            above.append(comment[1])
            continue
        spelt = re.match(r"( *)([\w.]+):(?: ([^#\n][^\n]*?))?(?: +# (.*))?$", line)
        if not spelt:
            continue
        if not headed:  # the first comment is of the file
            headed, above = True, []
        while stack and stack[-1][0] >= len(spelt[1]):
            stack.pop()
        stack.append((len(spelt[1]), spelt[2]))
        key = ".".join(name for _, name in stack)
        default = (spelt[3] or "").strip()
        found.append(Entry(key, default, " ".join(filter(None, [*above, spelt[4]]))))
        above = []
    return found


def choice_entries(group: str, choice: str) -> list[Entry]:
    """Keys of a choice of a group; meanings that its YAML lacks are those of the choice that it builds on, or
    come from the docstring of what it builds."""
    file = config_folder() / group / f"{choice}.yaml"
    if not file.is_file():
        return []
    raw = OmegaConf.load(file)
    assert isinstance(raw, DictConfig)
    found: dict[str, Entry] = {}
    for base in raw.get("defaults") or ():
        if isinstance(base, str) and base != "_self_":
            found |= {one.key: one for one in choice_entries(group, base.partition("@")[0])}
    start = "" if "# @package _global_" in file.read_text(encoding="utf-8") else f"{group}."
    for one in entries(file):
        parent, _, last = one.key.rpartition(".")
        target = OmegaConf.select(raw, f"{parent}._target_") if parent else raw.get("_target_")
        taken = signature(str(target)) if target else None
        if last.startswith("_") or one.key.split(".")[0] in ("defaults", "hydra"):
            continue
        key = f"{start}{one.key}"
        meaning = one.meaning or (taken.about.get(last, "") if taken else "")
        if not meaning and key in found:
            meaning = found[key].meaning
        found[key] = Entry(key, one.default, meaning)
    return list(found.values())


def own_entries(verb: str) -> Iterator[Entry]:
    """Keys of the verb itself, and of the verb whose keys it has as well."""
    file = config_folder() / f"{verb}.yaml"
    own = [one for one in entries(file) if one.key.split(".")[0] not in ("defaults", "hydra")]
    bases = [base for base in OmegaConf.load(file).defaults if isinstance(base, str) and base != "_self_"]
    yield from own
    taken = {one.key for one in own}
    for base in bases:
        yield from (one for one in own_entries(base) if one.key.split(".")[0] not in taken)


def explained(verb: str, group: str, choice: str) -> list[Entry]:
    """`choice_entries`; those that set keys of the verb itself mean what they mean there."""
    own = {one.key: one.meaning for one in own_entries(verb)}
    return [
        one if one.meaning else one._replace(meaning=own.get(one.key, ""))
        for one in choice_entries(group, choice)
    ]


def page(verb: str, given: list[str]) -> str:
    """The whole page.

    Args:
        given: words of the command line: the choices of groups that they make are explained as well.
    """
    file = config_folder() / f"{verb}.yaml"
    head = [
        line.removeprefix("# ") for line in file.read_text(encoding="utf-8").splitlines() if line[:1] == "#"
    ]
    lines = [head[0], *head[1:2], "", "KEYS, each with its default"]
    for one in own_entries(verb):
        lines += format_entry(one)
    chosen = {word.key: overrides.unquoted(word.value) for word in map(overrides.split, given) if word.value}
    groups = groups_of(verb)
    if groups:
        lines += ["", "GROUPS: GROUP=CHOICE takes a file of configs/; its keys are set as GROUP.KEY=VALUE"]
    for group, (default, meaning) in groups.items():
        choices = sorted(path.stem for path in (config_folder() / group).glob("*.yaml"))
        start = {"???": "must be given"}.get(default, default)
        lines += wrapped(f"{group} ({start})", f"{meaning}: {', '.join(choices)}")
    for group, (default, _) in groups.items():
        choice = chosen.get(group, default)
        found = explained(verb, group, choice)
        if found:
            lines += ["", f"{group.upper()}={choice}"]
            for one in found:
                lines += format_entry(one)
    if groups:
        lines += [
            "",
            f"Keys of another choice: ssl-zoo {verb} GROUP=CHOICE ... --help. What pairs: ssl-zoo list",
        ]
    lines += ["", "FLAGS, Hydra's", FLAGS.rstrip(), "", "EXAMPLES", *(f"  {one}" for one in EXAMPLES[verb])]
    return "\n".join(lines)


def format_entry(one: Entry) -> list[str]:
    """A key with its default and its meaning, in two columns."""
    default = {"???": "must be given", "": "..."}.get(one.default, one.default)
    return wrapped(
        f"{one.key}={default}" if default != "must be given" else f"{one.key} (must be given)", one.meaning
    )


def wrapped(start: str, text: str) -> list[str]:
    """A word or two, and beside it a text of lines of 72 characters."""
    body = textwrap.wrap(text, 72) or [""]
    first = [f"  {start:<34} {body[0]}".rstrip()] if len(start) <= 34 else [f"  {start}", " " * 37 + body[0]]
    return [*first, *(" " * 37 + line for line in body[1:])]
