"""The card of an export, README.md: what it learned from, figures with intervals, limits, how to open it.

Its head is the YAML that the Hugging Face hub reads.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ssl_zoo.export._base import Door, Source
from ssl_zoo.transfer.report import any_metric, format_score

TEXT = """\
---
{head}---

# {title}

{what}

## Open it

```python
{lines}
```

{notes}

## What it learned from

{facts}

{command}

## What it is worth

{figures}

## Limits

{limits}

## Receipt

{receipt}
"""


LABELLED = ("Supervised", "SupCon")  # objectives that read labels
UNLICENSED = "No licence was named when it was exported. That of the data may bind the weights too."


class Told(NamedTuple):
    """What a card says of a run beside its receipt.

    Attributes:
        title: of the card.
        objective, data: names.
        figures: the reports of evaluations, as `ssl-zoo evaluate` writes them.
        license: as the hub spells it; None if nobody said.
        facts: further sentences on the run.
        doubts: sentences that speak against the figures.
    """

    title: str
    objective: str
    data: str
    figures: Mapping[str, Mapping[str, Any]]
    license: str | None = None
    facts: Sequence[str] = ()
    doubts: Sequence[str] = ()


def card(door: Door, source: Source, told: Told, folder: Path) -> str:
    """The text of a card."""
    text = source.backbone.modality == "text"
    task = "feature-extraction" if text else "image-feature-extraction"
    head = heading(door, told.license, task, (told.objective.lower(), "feature-extraction"))
    count = sum(weight.numel() for weight in source.backbone.parameters())
    reads = (
        f"A backbone that reads {source.backbone.modality}s and gives {source.backbone.dim} features for each"
    )
    learned = f"pretrained by {told.objective} on {told.data}, without labels,"
    if told.objective in LABELLED:
        learned = f"trained by {told.objective} with the labels of {told.data}"
    what = f"{reads}: {count:,} weights, {learned} with ssl_zoo."
    return TEXT.format(
        head=head,
        title=told.title,
        what=what,
        lines=door.lines(source, folder),
        notes=bullets(door.notes(source)),
        facts=bullets([*told.facts, *pedigree(source.receipt)]),
        command=command(source.receipt),
        figures=table(told.figures),
        limits=bullets([*limits(source, told), *told.doubts]),
        receipt=receipt_text(source.receipt, folder),
    )


def model_card(door: Door, source: Source, scores: Sequence[str], license: str | None, folder: Path) -> str:
    """The text of the card of a classifier. scores: sentences."""
    assert source.head is not None
    about, classes, kind = source.head.about, source.head.classes, source.backbone.modality
    made = about.get("made") or {}
    began = made.get("pretraining") or {}
    task = f"{kind}-classification"
    named = ", ".join(classes[:20]) + (f" and {len(classes) - 20:,} more" if len(classes) > 20 else "")
    count = sum(weight.numel() for weight in source.backbone.parameters())
    facts = [
        f"Labels: {made.get('rows', 0):,} rows of {made.get('data', 'data that nobody named')}.",
        f"Before that, {'with' if began.get('objective') in LABELLED else 'without'} labels: "
        f"{began.get('objective', 'an objective that nobody noted')}, {began.get('steps', 0):,} steps, run "
        f"{made.get('run')}.",
        f"Chosen on validation rows: {json.dumps(made.get('chosen'))}.",
        f"ssl_zoo {made.get('ssl_zoo')}.",
    ]
    wrong = [
        "It names one of its classes whatever it is shown.",
        "What the data hold of bias is in its answers, and nobody has looked for it.",
        *([] if license is not None else [UNLICENSED]),
        *([f"It reads the first {source.context} tokens of a text."] if kind == "text" else []),
    ]
    return TEXT.format(
        head=heading(door, license, task, (task,)),
        title=f"{len(classes)} classes of {made.get('data', kind)}",
        what=f"A classifier of {kind}s, of {count:,} weights, made with ssl_zoo: {named}.",
        lines=door.lines(source, folder),
        notes=bullets(door.notes(source)),
        facts=bullets(facts),
        command="`ssl-zoo finetune` made it of that run and those labels.",
        figures=bullets(scores) or "Nobody has measured it yet.",
        limits=bullets(wrong),
        receipt="A classifier has none: its labels are not in it. The run that it began with has one.",
    )


def heading(door: Door, license: str | None, task: str, tags: Sequence[str]) -> str:
    """The YAML at the head of a card. task, tags: as the hub calls them."""
    told = {
        **({} if license is None else {"license": license}),
        "library_name": door.library,
        "pipeline_tag": task,
        "tags": ["ssl-zoo", "self-supervised", *tags],
    }
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True)


def bullets(sentences: Sequence[str]) -> str:
    """Sentences as a list."""
    return "\n".join(f"- {one}" for one in sentences)


def pedigree(receipt: Mapping[str, Any]) -> list[str]:
    """Sentences on data, seed, steps and code, from a receipt."""
    data, board = receipt.get("data") or {}, receipt.get("board")
    found = [
        f"Data: {data.get('name', 'not known')}, fingerprint "
        f"{data.get('fingerprint') or 'not known, as the data could not be read'}.",
        f"Seed {receipt['seed']}, {receipt.get('steps', 0):,} optimizer steps.",
        f"ssl_zoo {receipt.get('ssl_zoo')}, commit {receipt.get('commit') or 'not known'}.",
    ]
    if board:
        found.append(f"It is line {board['line']}, seed {board['seed']}, of the board {board['name']}.")
    return found


def command(receipt: Mapping[str, Any]) -> str:
    """The command of the run; a sentence where it was no command."""
    words = receipt.get("command")
    return f"```sh\n{shlex.join(words)}\n```" if words else "It was started from Python, by ssl_zoo.pretrain."


def table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The results of evaluations as a table of Markdown, or a sentence that there are none."""
    lines = [
        "| data | what | protocol | labels per class | metric | mean and 95 % interval |",
        "|" + "---|" * 6,
    ]
    for report in figures.values():
        for name, one in report["results"].items():
            labels = "all" if one.get("labels") is None else one["labels"]
            span = one.get("interval")
            score = format_score(one["metric"], one["mean"], None if span is None else (span[0], span[1]))
            told = any_metric(one["metric"]).title
            seeds = len(one.get("values") or [0])
            score += f" ({seeds} seed{'s' * (seeds != 1)})"
            lines.append(
                f"| {report.get('data')} | {name} | {one.get('protocol')} | {labels} | {told} | {score} |"
            )
    if len(lines) == 2:
        return "Nobody has measured it yet: `ssl-zoo evaluate run=RUN data=... floors=true` does."
    return "\n".join(lines)


def limits(source: Source, told: Told) -> list[str]:
    """What the features are not good for, as far as the run tells."""
    where = sorted({str(report.get("data")) for report in told.figures.values()})
    found = [
        f"It has seen {told.data} alone. What it is worth on other data is not known"
        + (f" beyond {', '.join(where)}." if where else "."),
        "It gives features, not answers: a classifier on top of them is yours to fit, and to measure.",
        "What the data hold of bias is in the features, and nobody has looked for it.",
    ]
    if told.license is None:
        found.append(UNLICENSED)
    if source.backbone.modality == "text":
        found.append(f"It reads the first {source.context} tokens of a text, and nothing after them.")
    return found


def receipt_text(receipt: Mapping[str, Any], folder: Path) -> str:
    """How the run is run again."""
    digest = receipt["weights"][:16]
    carried = "The files carry the recipe, hashes of its code, the fingerprint of its data and its seed."
    if not (receipt.get("data") or {}).get("fingerprint"):
        return (
            "The files carry the recipe, hashes of its code and its seed. The data could not be read when it "
            f"was exported, so that others cannot be told from them. SHA-256 of the weights: {digest}..."
        )
    return (
        f"{carried}\n`ssl-zoo reproduce {folder}` runs the same pretraining again, and says whether the "
        f"weights are the same (SHA-256 {digest}...)."
    )
