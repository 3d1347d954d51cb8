"""Standings: the folder of a board read into what terminal, docs and site show.

A board is `board.yaml`, `recipes/ROW.yaml`, `references.yaml` and `results.jsonl`, in which the last line of
a row and a seed counts.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from ssl_zoo.leaderboard.ranking import Standings, Record, Reference, Row, arrange
from ssl_zoo.leaderboard.cells import Cell

FLOORS = ("random", "pixels", "tfidf")


def load(folder: str | Path) -> Standings:
    """Read a board.

    Raises:
        ValueError: a file that is missing or does not say what it must; it names the file (and the line).
    """
    folder = Path(folder)
    said = _yaml(folder / "board.yaml")
    for word in ("title", "about", "primary", "measures", "seeds"):
        if word not in said:
            raise ValueError(f"{folder / 'board.yaml'} has no {word!r}")
    measures, primary = said["measures"], said["primary"]
    if primary not in measures:
        raise ValueError(
            f"{folder / 'board.yaml'}: primary is {primary!r}; measures are {', '.join(measures)}"
        )
    recipes = sorted((folder / "recipes").glob("*.yaml"))
    records = read_results(folder / "results.jsonl", {recipe.stem for recipe in recipes})
    rows = [
        _row(recipe, said.get("fixed") or {}, records.get(recipe.stem, {}), measures) for recipe in recipes
    ]
    references = folder / "references.yaml"
    return Standings(
        name=folder.name,
        title=said["title"],
        about=said["about"],
        primary=primary,
        seeds=tuple(said["seeds"]),
        fixed=said.get("fixed") or {},
        measures=measures,
        rows=arrange(rows, primary),
        references=tuple(Reference(**one) for one in (_yaml(references) if references.exists() else ())),
    )


def read_results(file: Path, rows: set[str]) -> dict[str, dict[int, Record]]:
    """row -> seed -> the last record. A last line that ends early, of a killed writer, is left out.

    Raises:
        ValueError: another damaged line, or a row without a recipe.
    """
    found: dict[str, dict[int, Record]] = {}
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            row, seed = record["row"], record["seed"]
        except (json.JSONDecodeError, TypeError, KeyError) as error:
            if number == len(lines) and isinstance(error, json.JSONDecodeError):
                warnings.warn(f"{file}:{number} ends early and is left out: run that row again", stacklevel=2)
                continue
            raise ValueError(f"{file}:{number} is damaged ({error!r}): mend or remove the line") from None
        if row not in rows:
            raise ValueError(
                f"{file}:{number} is of {row!r}, which has no recipe in {file.parent / 'recipes'}"
            )
        found.setdefault(row, {})[int(seed)] = record
    return found


def _yaml(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"there is no {file}: a board's folder holds board.yaml and recipes/") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not YAML: {error}") from None


def _row(
    recipe: Path, fixed: Mapping[str, Any], records: dict[int, Record], measures: Mapping[str, Any]
) -> Row:
    said = _yaml(recipe) or {}
    lines = [line[1:].strip() for line in _opening(recipe)]
    told = dict(re.findall(r"^(Paper|Cost|Expected|Command): (.*)$", "\n".join(lines), re.MULTILINE))
    if not lines or set(told) != {"Paper", "Cost", "Expected", "Command"}:
        raise ValueError(
            f"{recipe} must open with '# TITLE.', '# Paper: ', '# Cost: ', '# Expected: ', '# Command: '"
        )
    words, floor = said.get("pretrain") or {}, said.get("floor") or ""
    if floor and floor not in FLOORS:
        raise ValueError(f"{recipe}: floor {floor!r}; floors are {', '.join(FLOORS)}")
    every = {**fixed, **words}
    network = floor not in ("pixels", "tfidf")  # these two look at no backbone
    trunk = sorted((k, str(v)) for k, v in every.items() if k.split(".")[0] == "backbone")
    records = dict(sorted(records.items()))
    return Row(
        name=recipe.stem,
        title=lines[0].removesuffix("."),
        paper=told["Paper"],
        cost=told["Cost"],
        expected=told["Expected"],
        command=told["Command"],
        words=words,
        family="floor" if floor else "reference" if every.get("objective") == "supervised" else "pretrained",
        floor=floor,
        backbone=str(every.get("backbone", "")) if network else "",
        trunk=tuple(trunk) if network else (),
        cells={name: cells for name in measures if (cells := _cells(records, name))},
        records=records,
    )


def _opening(recipe: Path) -> list[str]:
    """The comment lines that a recipe opens with."""
    return list(takewhile(lambda line: line.startswith("#"), recipe.read_text(encoding="utf-8").splitlines()))


def _cells(records: Mapping[int, Record], measure: str) -> tuple[Cell, ...]:
    """The points of a measure, each over all seeds that have it."""
    points: dict[tuple[Any, Any], list[tuple[int, Record]]] = {}
    for seed, record in records.items():
        for result in record["measures"].get(measure, {}).get("results", ()):
            points.setdefault((result.get("labels"), result.get("steps")), []).append((seed, result))
    return tuple(_cell(labels, steps, found) for (labels, steps), found in points.items())


def _cell(labels: int | float | None, steps: int | None, found: list[tuple[int, Record]]) -> Cell:
    results = [result for _, result in found]
    names = {result["metric"] for result in results}
    if len(names) > 1:
        raise ValueError(f"seeds of one row have other metrics ({', '.join(sorted(names))}): run them again")
    flops = [result["flops"] for result in results if result.get("flops")]
    return Cell(
        metric=results[0]["metric"],
        labels=labels,
        steps=steps,
        seeds=tuple(seed for seed, _ in found),
        values=tuple(result["value"] for result in results),
        train=results[0]["train"],
        seconds=sum(result["seconds"] for result in results) / len(results),
        flops=sum(flops) / len(flops) if flops else None,
    )
