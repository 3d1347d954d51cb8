"""Writes docs/objectives/: a page for every objective, and README.md with the table of all.

    python docs/objectives.py [FOLDER]

Nothing is said here that does not stand elsewhere: the paper and the equation in the docstring of the
objective's file, arguments in its class, defaults and "When", "Watch" in configs/objective, "Reference" and
"Peers" in the docstring of the test that compares it with a second implementation, costs in
benchmarks/cost/results.json, scores in benchmarks/leaderboard. tests/test_objective_docs.py fails where the
pages are not what this script writes.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from ssl_zoo.compose.catalogue import Card, backbones_for, cards, recipes
from ssl_zoo.compose.composition import config_folder
from ssl_zoo.compose.manual import choice_entries
from ssl_zoo.compose.signatures import signature
from ssl_zoo.leaderboard.standings import Standings, format_point, in_order, load
from ssl_zoo.leaderboard.table import grid
from ssl_zoo.pages.board_charts import charts
from ssl_zoo.pages.board_docs import WIDTH
from ssl_zoo.pages.page import picture
from ssl_zoo.transfer.report import metric

REPOSITORY = Path(__file__).resolve().parents[1]
TESTS = REPOSITORY / "tests/objectives"
COSTS = REPOSITORY / "benchmarks/cost/results.json"
BOARDS = REPOSITORY / "benchmarks/leaderboard"
SCORED = {"cifar10-small": "labels-linear", "text-small": "layers"}  # and the measure of each that is drawn
NONE = "-"


@cache
def compared() -> dict[str, dict[str, str]]:
    """Name of an objective's file -> what the test that imports it says after "Reference:" and "Peers:"."""
    found: dict[str, dict[str, str]] = {}
    for file in sorted(TESTS.glob("test_*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        text = ast.get_docstring(tree) or ""
        stems = {
            node.module.rpartition(".")[2]
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ssl_zoo.objectives.")
        }
        for paragraph in re.split(r"\n\s*\n|\n(?=(?:Reference|Peers)\b)", text):
            about = re.match(r"(Reference|Peers)(?: \((\w+)\))?:\s*(.*)", " ".join(paragraph.split()))
            if about:
                word, only, said = about.groups()
                for stem in [only] if only else stems:
                    found.setdefault(stem, {})[word] = said
    return found


@cache
def costs() -> dict[str, Any]:
    return json.loads(COSTS.read_text(encoding="utf-8")) if COSTS.exists() else {"rows": {}}


@cache
def boards() -> list[Standings]:
    return [load(file.parent) for file in sorted(BOARDS.glob("*/board.yaml"))]


def scores(card: Card) -> list[tuple[str, str, str, str]]:
    """Board, line, measure and score of each recorded line of an objective."""
    names = {one.name for one in card.choices}
    found = []
    for board in boards():
        for line in board.lines:
            cell = line.headline(board.primary)
            if cell is not None and line.recipe.pretrain.get("objective") in names and line.role != "floor":
                found.append((board.name, line.title, board.heading(board.primary), cell.text()))
    return found


def stem(card: Card) -> str:
    return card.file.stem if card.file else card.name


def kinds(card: Card) -> str:
    return ", ".join(card.takes)


def filled(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown, with `NONE` where there is nothing."""
    return grid(header, [[one or NONE for one in row] for row in rows], "---")


def recipe_headers(card: Card) -> list[str]:
    """The recipes of an objective, with what the comment at their top says."""
    found = []
    for name in recipes(card):
        lines = (config_folder() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
        said = [line.removeprefix("#").strip() for line in lines if line.startswith("# ")]
        found.append(f"`experiment={name}`: {' '.join(one for one in said if not one.startswith('@'))}")
    return found


def cost(card: Card) -> dict[str, Any] | None:
    return costs()["rows"].get(card.name)


def page(card: Card) -> str:
    """The page of an objective."""
    first, notes = card.choices[0], compared().get(stem(card), {})
    file = f"ssl_zoo/objectives/{stem(card)}.py"
    parts = [f"# {card.cls}", first.headline]
    parts += [f"**{word}.** {said}" for word, said in first.notes.items()]
    parts += [
        f"Family: {card.family}. Trains: {kinds(card)} (`backbone=` {', '.join(backbones_for(card))}). "
        f"Source: [`{file}`](../../{file}), {card.lines} lines."
    ]
    parts += ["## What it does", card.about]
    taken = signature(card.choices[0].target)
    about = {name: said for name, said in (taken.about if taken else {}).items() if name != "backbone"}
    if about:
        parts += ["## Arguments", filled(["argument", "meaning"], [[f"`{k}`", v] for k, v in about.items()])]
    columns = [{one.key: one for one in choice_entries("objective", one.name)} for one in card.choices]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    if keys:
        rows = [
            [
                f"`{key}`",
                *(
                    f"`{column[key].default}`" if key in column and column[key].default else NONE
                    for column in columns
                ),
                next(
                    (column[key].meaning for column in columns if key in column and column[key].meaning), ""
                ),
            ]
            for key in keys
        ]
        names = [f"`objective={one.name}`" for one in card.choices]
        parts += ["## Defaults", filled(["key", *names, "meaning"], rows)]
        parts += [f"`{one.name}`: {one.headline}" for one in card.choices[1:]]
    if recipes := recipe_headers(card):
        parts += ["## Recipes", "\n".join(f"- {one}" for one in recipes)]
    if spent := cost(card):
        parts += [
            "## Cost",
            f"A step of 256 images of 32 pixels on {spent['backbone']} takes {spent['time']} times the time "
            f"and {spent['memory']} times the memory of SimCLR's ({spent['seconds']} processor seconds, "
            f"{spent['megabytes']} MiB; {costs()['processor']}; python benchmarks/cost/run.py).",
        ]
    if found := scores(card):
        parts += ["## Scores", filled(["board", "line", "measure", "score"], [list(row) for row in found])]
    for board in fewer(card):
        title = f"{board.label(SCORED[board.name])}, {board.title}"
        parts += [f"![{title}]({stem(card)}-{board.name}.svg)", f"{title}, beside what needs no pretraining."]
    if notes:
        parts += ["## Tested against", notes.get("Reference", NONE)]
        if peers := notes.get("Peers"):
            parts += [f"Peers: {peers}"]
    return "\n\n".join(part for part in parts if part) + "\n"


def best(card: Card) -> str:
    """The scores of an objective on the boards of small images and of texts, if it has any."""
    return "; ".join(score for board, _, _, score in scores(card) if board in SCORED)


def fewer(card: Card) -> list[Standings]:
    """The boards that compare few labels, each with the objective's lines, floors and references alone."""
    names, found = {one.name for one in card.choices}, []
    for board in boards():
        own = [line for line in board.ran if line.recipe.pretrain.get("objective") in names]
        trunks = {line.trunk for line in own}
        beside = [line for line in board.ran if line.role != "pretrained" and line not in own]
        beside = [line for line in beside if line.trunk in trunks or not line.trunk]
        if any(SCORED.get(board.name) in line.cells for line in own):
            found.append(replace(board, lines=tuple(line for line in board.lines if line in own + beside)))
    return found


def drawn(card: Card) -> dict[str, str]:
    """File name -> SVG of the accuracy with few labels, one for each of these boards."""
    return {
        f"{stem(card)}-{board.name}.svg": picture(
            {**charts(board)[f"labels-{SCORED[board.name]}"], "width": WIDTH}
        )
        for board in fewer(card)
    }


def table(found: list[Card]) -> str:
    """README.md: every objective by family."""
    parts = [
        "# Objectives",
        "Written by `python docs/objectives.py`; `ssl-zoo list NAME` prints the page of an objective. "
        "Time and memory: of a training step against SimCLR's on the same backbone (python "
        "benchmarks/cost/run.py). Score: the measure that ranks the lines of the boards "
        "[cifar10-small](../leaderboard/cifar10-small.md) and [text-small](../leaderboard/text-small.md), "
        "where a line has run. `-`: not measured, or nothing to say.",
    ]
    header = [
        "objective",
        "takes",
        "lines",
        "tested against",
        "difference found in peers",
        "time",
        "memory",
        "score",
    ]
    for family, members in groupby(found, key=lambda card: card.family):
        rows = []
        for card in members:
            notes, spent = compared().get(stem(card), {}), cost(card) or {}
            rows.append(
                [f"[{card.cls}]({stem(card)}.md)", kinds(card), str(card.lines), notes.get("Reference", ""),
                 notes.get("Peers", ""), str(spent.get("time", "")), str(spent.get("memory", "")), best(card)]
            )  # fmt: skip
        parts += [f"## {family.capitalize()}", filled(header, rows)]
    return "\n\n".join(parts) + "\n"


def leading(board: Standings) -> list[list[str]]:
    """A row for each measure and point of a board: its three best pretrained lines, and its best floor."""
    rows = []
    for measure, said in board.measures.items():
        cells = [cell for line in board.lines for cell in line.cells.get(measure, ())]
        if "scratch_of" in said or not cells or not metric(cells[0].metric).scored:
            continue
        sign, points = -1 if metric(cells[0].metric).lower else 1, in_order(cells)
        for point in points:
            at = [
                (sign * cell.mean, line.role, f"{line.title} {cell.text()}")
                for line in board.ran
                for cell in line.cells.get(measure, ())
                if (cell.labels, cell.steps) == point
            ]
            ordered = sorted(at, reverse=True)
            best, floors = (
                [text for _, role, text in ordered if role == wanted] for wanted in ("pretrained", "floor")
            )
            where = f", {format_point(*point)}" if len(points) > 1 else ""
            if best:
                what = f"{board.label(measure)}{where}"
                rows.append([what, *[*best, "", ""][:3], str(len(best)), *[*floors, ""][:1]])
    return rows


def choosing(found: list[Card]) -> str:
    """CHOOSING.md: what the boards say of which objective to take, and what each says of itself."""
    parts = [
        "# Which objective to take",
        "Written by `python docs/objectives.py` from the boards' results: of every measure the three best "
        "pretrained lines, how many were measured so, and the best floor, which takes no pretraining. "
        "Figures are means over seeds with half of their 95 % interval. What was learned in five minutes of "
        "one core need not hold for hours or for larger networks; a line that a floor beats is not worth its "
        "minutes for that measure.",
    ]
    for board in boards():
        if rows := leading(board):
            parts += [f"## {board.title}", board.about]
            parts += [filled(["measure", "best", "second", "third", "of lines", "best floor"], rows)]
    parts += ["## What each is for", "From the headers of `configs/objective`."]
    for title, kinds_ in (("images", {"vit", "cnn", "patches"}), ("text", {"bag", "transformer", "encoder"})):
        rows = [
            [f"[{card.cls}]({stem(card)}.md)", card.family, card.choices[0].notes.get("When", ""), best(card)]
            for card in found
            if kinds_ & set(card.takes)
        ]
        parts += [f"### On {title}", filled(["objective", "family", "when", "score"], rows)]
    return "\n\n".join(parts) + "\n"


def pages() -> dict[str, str]:
    """File name -> text."""
    found = [card for card in cards() if card.file is not None and card.family != "composition"]
    files = {"README.md": table(found), "CHOOSING.md": choosing(found)} | {
        f"{stem(card)}.md": page(card) for card in found
    }
    return files | {name: svg for card in found for name, svg in drawn(card).items()}


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix("")
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
