"""A board: what its lines have in common, and one recipe for each line.

BOARD/
  board.yaml         title, about, hardware, seeds, primary measure, fixed overrides of `ssl-zoo pretrain`,
                     measures (with `lines`, where few have them); shown_labels, where the fewest labels of a
                     measure shall not stand for it
  recipes/LINE.yaml  paper, cost, expected score and command in its header, then the overrides of the line
                     (pretrain), or what stands in for pretraining (floor, with its options and overrides)
  references.yaml    published numbers, their source, and how their protocol differs
  results.jsonl      one record for each line and seed (see `records`)
  verdict.json       which lines are stale, as `ssl-zoo leaderboard check` found it (see `verdict`)
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

# What may stand in for pretraining -> its options with what they are where a recipe says nothing.
FLOORS: Mapping[str, Mapping[str, int]] = {
    "random": {},
    "pixels": {},
    "tfidf": {},
    "ppmi_svd": {"window": 2},
    "word2vec": {"window": 5, "epochs": 5},
}
NO_BACKBONE = ("pixels", "tfidf")  # floors that look at no backbone
BAGS = ("ppmi_svd", "word2vec")  # floors that are vectors for a bag of tokens
LABELLED = ("supervised", "supcon")  # objectives that read labels
HEADER = ("Paper", "Cost", "Expected", "Command")


class BoardError(ValueError):
    """A board's files are not as they should be. The message says which file, and what it should hold."""


@dataclass(frozen=True)
class Recipe:
    """How one line of a board is made.

    Attributes:
        name: of its file, without the suffix.
        title, paper, cost, expected, command: what the header of the file says.
        pretrain: overrides of `ssl-zoo pretrain`, by key.
        floor: None for a line that is pretrained; else what takes its place: "random" weights of the
            backbone, the "pixels" of images, "tfidf" of texts, or word vectors that were counted ("ppmi_svd")
            or made by gensim ("word2vec") and fill a bag.
        without: measures of the board that do not apply to the line.
        options: all of the floor, by name (see `FLOORS`), whole numbers from 1 on.
    """

    name: str
    title: str
    paper: str
    cost: str
    expected: str
    command: str
    pretrain: Mapping[str, Any]
    floor: str | None
    without: tuple[str, ...]
    options: Mapping[str, int] = field(default_factory=dict)

    @property
    def role(self) -> str:
        """ "pretrained", "reference" (a line that trains on labels) or "floor"."""
        if self.floor is not None:
            return "floor"
        objective = str(self.pretrain.get("objective", ""))
        return "reference" if objective.removesuffix("_small") in LABELLED else "pretrained"


@dataclass(frozen=True)
class Board:
    """A folder as read by `load`.

    Attributes:
        title, about, hardware: texts for readers.
        primary: the measure that ranks the lines.
        seeds: those that every line is run with.
        fixed: overrides of `ssl-zoo pretrain` that all lines have, by key.
        measures: name -> its title, and overrides of `ssl-zoo evaluate`. One with `lines` is for these lines
            alone. One with `scratch_of` is for lines with random weights alone: training from scratch for
            longer, beside the fine-tuning measure named there.
        recipes: name of a line -> its recipe.
        references: the entries of references.yaml, as they stand there.
        shown_labels: labels a class, or a share of them, which stand for a measure that has several; None:
            the fewest.
    """

    folder: Path
    title: str
    about: str
    hardware: str
    primary: str
    seeds: tuple[int, ...]
    fixed: Mapping[str, Any]
    measures: Mapping[str, Mapping[str, Any]]
    recipes: Mapping[str, Recipe]
    references: tuple[Mapping[str, Any], ...]
    shown_labels: float | None = None

    @property
    def name(self) -> str:
        """The name of the folder, which "." and ".." have as well."""
        return os.path.basename(os.path.abspath(self.folder))

    @property
    def results(self) -> Path:
        """The file of results."""
        return self.folder / "results.jsonl"

    def pretrain_overrides(self, recipe: Recipe) -> list[str]:
        """The overrides of `ssl-zoo pretrain` for a line, without the seed and the folder of the run.

        Raises:
            BoardError: a recipe that changes what the board fixes.
        """
        if clash := sorted(set(self.fixed) & set(recipe.pretrain)):
            raise BoardError(
                f"{self.name}/{recipe.name} sets {', '.join(clash)}, which is fixed for all lines by "
                f"{self.folder / 'board.yaml'}: leave it out, or make another board"
            )
        return overrides({**self.fixed, **recipe.pretrain})

    def evaluate_overrides(self, measure: str) -> list[str]:
        """The overrides of `ssl-zoo evaluate` for a measure, without the seed and the folder of the run."""
        return overrides(
            {
                key: value
                for key, value in self.measures[measure].items()
                if key not in ("title", "scratch_of", "lines")
            }
        )

    def measures_of(self, recipe: Recipe) -> list[str]:
        """The measures that apply to a line."""
        return [
            name
            for name, measure in self.measures.items()
            if name not in recipe.without
            and recipe.name in measure.get("lines", [recipe.name])
            and (recipe.floor == "random" or "scratch_of" not in measure)
        ]


def overrides(settings: Mapping[str, Any]) -> list[str]:
    """Settings as KEY=VALUE, which Hydra reads back as they are."""
    return [f"{key}={spelt(value)}" for key, value in settings.items()]


def spelt(value: Any) -> str:
    """A value in Hydra's grammar. A text stands as it is; inside a list or mapping it is quoted where it has
    signs of that grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_inner, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{_inner(one)}' for key, one in value.items())}}}"
    return str(value)


def _inner(value: Any) -> str:
    """A value inside a list or mapping. A text that is quoted already stays as it is."""
    signs = r"[,=(){}\[\]'\"#\\]|[^\x20-\x7e]|^ | $|^$"
    if not isinstance(value, str) or not re.search(signs, value) or re.fullmatch(r"'.+'|\".+\"", value):
        return spelt(value)
    return "'" + re.sub(r"(\\*)(?='|$)", r"\1\1", value).replace("'", "\\'") + "'"


def header(text: str, file: Path) -> tuple[str, dict[str, str]]:
    """The title and the fields that the comment lines of a recipe say.

    Raises:
        BoardError: a field is missing.
    """
    lines = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
    matches = [match for line in lines if (match := re.fullmatch(r"(\w+): (.+)", line))]
    fields = {str(match[1]): str(match[2]) for match in matches}
    missing = [name for name in HEADER if name not in fields]
    if missing:
        raise BoardError(
            f"{file} does not say its {', '.join(missing).lower()}: a recipe opens with # Title. and then "
            "the lines # Paper: ..., # Cost: ..., # Expected: ..., # Command: ..."
        )
    return lines[0].rstrip("."), fields


def read_recipe(file: Path) -> Recipe:
    """One recipe file.

    Raises:
        BoardError: it says too little, or has keys or values that mean nothing.
    """
    title, fields = header(file.read_text(encoding="utf-8"), file)
    body = _mapping(_yaml(file) or {}, str(file))
    if strange := sorted(set(body) - {"pretrain", "floor", "options", "without"}):
        raise BoardError(
            f"{file} has the keys {', '.join(strange)}; a recipe has pretrain, floor, options and without"
        )
    floor, without = body.get("floor"), body.get("without") or []
    if not isinstance(without, list):
        raise BoardError(f"{file}: without is a list of measures, [knn, ...], not {without!r}")
    if floor is not None and floor not in FLOORS:
        raise BoardError(f"{file}: floor is one of {', '.join(FLOORS)}, not {floor}")
    if floor is None and not body.get("pretrain"):
        raise BoardError(f"{file} pretrains nothing: give the overrides under pretrain, or a floor")
    return Recipe(
        file.stem,
        title,
        **{name.lower(): fields[name] for name in HEADER},
        pretrain=_mapping(body.get("pretrain") or {}, f"{file}: pretrain"),
        floor=floor,
        without=tuple(map(str, without)),
        options=_options(body.get("options") or {}, floor, file),
    )


def _options(said: Any, floor: str | None, file: Path) -> dict[str, int]:
    """All options of a floor. Raises BoardError for one that it has not, and for values that cannot be."""
    known = FLOORS[floor] if floor is not None else {}
    options = _mapping(said, f"{file}: options")
    if strange := sorted(map(str, set(options) - set(known))):
        what = "a line that is pretrained" if floor is None else f"floor: {floor}"
        raise BoardError(
            f"{file} has the options {', '.join(strange)}; {what} has {', '.join(known) or 'none'}"
        )
    for name, value in options.items():
        if type(value) is not int or value < 1:
            raise BoardError(f"{file}: the option {name} is a whole number from 1 on, not {value!r}")
    return {**known, **options}


def _yaml(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise BoardError(f"{file} is not YAML: {error}") from error


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BoardError(f"{where} holds KEY: VALUE on each line, not {value!r}")
    return value


def load(folder: Path) -> Board:
    """The board in a folder.

    Raises:
        BoardError: there is no board, or its files have a fault.
    """
    file = folder / "board.yaml"
    if not file.is_file():
        raise BoardError(f"{folder} holds no board: there is no {file}")
    body = _mapping(_yaml(file), str(file))
    wanted = ("title", "about", "hardware", "primary", "fixed", "measures")
    if missing := [key for key in wanted if key not in body]:
        raise BoardError(f"{file} lacks {', '.join(missing)}")
    fixed = _mapping(body["fixed"] or {}, f"{file}: fixed")
    for name, measure in _mapping(body["measures"], f"{file}: measures").items():
        _mapping(measure, f"{file}: measure {name}")
    seeds = body.get("seeds", [0, 1, 2])
    if not isinstance(seeds, list) or not seeds or any(type(seed) is not int for seed in seeds):
        raise BoardError(f"{file}: seeds is a list of whole numbers, [0, 1, 2], not {seeds!r}")
    if body["primary"] not in body["measures"]:
        raise BoardError(f"{file}: primary is {body['primary']}, which is not among the measures")
    shown_labels = body.get("shown_labels")
    primary_labels = body["measures"][body["primary"]].get("labels")
    budgets = primary_labels if isinstance(primary_labels, list) else [primary_labels]
    if shown_labels is not None and shown_labels not in budgets:
        raise BoardError(
            f"{file}: shown_labels is {shown_labels}, which is not among the labels of the primary measure "
            f"({body['primary']}: {primary_labels})"
        )
    recipes = {path.stem: read_recipe(path) for path in sorted((folder / "recipes").glob("*.yaml"))}
    if not recipes:
        raise BoardError(f"{folder / 'recipes'} holds no recipes")
    for recipe in recipes.values():
        if unknown := sorted(set(recipe.without) - set(body["measures"])):
            raise BoardError(f"{folder}: recipe {recipe.name} is without {unknown}, which are no measures")
    for name, measure in body["measures"].items():
        if wrong := _wrong_lines(measure, recipes):
            raise BoardError(f"{file}: lines of the measure {name}: {wrong}")
        if "scratch_of" in measure and (wrong := _wrong_scratch(name, body["measures"])):
            raise BoardError(f"{file}: measure {name} is scratch_of {measure['scratch_of']}: {wrong}")
        if name == body["primary"] and ("lines" in measure or "scratch_of" in measure):
            raise BoardError(f"{file}: measure {name}: primary cannot be one that few lines have")
    references = folder / "references.yaml"
    published = (_yaml(references) if references.exists() else None) or []
    if not isinstance(published, list):
        raise BoardError(f"{references} is a list of results, each with name, source, scores and protocol")
    return Board(
        folder,
        body["title"],
        body["about"],
        body["hardware"],
        body["primary"],
        tuple(seeds),
        fixed,
        body["measures"],
        recipes,
        tuple(_mapping(one, f"{references}: each result") for one in published),
        shown_labels,
    )


def _wrong_lines(measure: Mapping[str, Any], recipes: Mapping[str, Recipe]) -> str:
    """Why a measure cannot be for the lines that it names; "" where it can."""
    if (lines := measure.get("lines")) is None:
        return ""
    if not isinstance(lines, list) or not lines:
        return f"they are a list of recipes, such as [{next(iter(recipes))}], not {lines!r}"
    if unknown := [str(one) for one in lines if one not in recipes]:
        return f"there is no recipe {', '.join(unknown)}"
    return ""


def _wrong_scratch(name: str, measures: Mapping[str, Any]) -> str:
    """Why a measure cannot be training from scratch for longer; "" where it can."""
    tuned = [one for one, said in measures.items() if said.get("protocol") == "finetune"]
    bases = [one for one in tuned if "scratch_of" not in measures[one]]
    if name not in tuned or measures[name]["scratch_of"] not in bases:
        known = ", ".join(bases) or "none"
        return f"both have to be measures with protocol: finetune, and the other without scratch_of ({known})"
    if measures[name].get("data") != measures[measures[name]["scratch_of"]].get("data"):
        return "they are of other data"
    return ""
