"""One HTML file about a run, from its folder alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from ssl_zoo.compose.composition import ConfigError
from ssl_zoo.compose.gate import instantiate
from ssl_zoo.compose.objects import NONE, Objects
from ssl_zoo.compose.reopen import Opened, reopen
from ssl_zoo.data.captions import captioned
from ssl_zoo.data.rows import DataError, Rows, Subset
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.data.text_streams import Texts, TextStream
from ssl_zoo.data.windows import Windows
from ssl_zoo.objectives._base import Objective, Sum
from ssl_zoo.pages.feature_views import FeatureView, layer_scores, maps, neighbours
from ssl_zoo.pages.page import drawing
from ssl_zoo.pages.run_charts import CHANCE
from ssl_zoo.pages.run_report import Report, html
from ssl_zoo.pages.samples import samples
from ssl_zoo.pages.shown import Prediction, predict
from ssl_zoo.pretrain.logs import read_metrics
from ssl_zoo.pretrain.writing import write_atomically
from ssl_zoo.transfer.features import extract
from ssl_zoo.transfer.measures import Data, Images

PROBED = 2000  # rows of train, and of validation, that the probes of the layers read at most
FEWEST = 20  # rows that make a map


def report_from(cfg: DictConfig, objects: Objects = NONE) -> Path:
    """Write the page that a configuration asks for.

    Args:
        objects: what code hands over in the place of groups.

    Raises:
        ConfigError, DataError: no run is named, or there is none; too few rows for a map.
        ImportError: what draws charts is not installed.
    """
    if OmegaConf.is_missing(cfg, "run"):
        raise ConfigError("which run? ssl-zoo report RUN")
    if cfg.limit < FEWEST:
        raise ConfigError(f"limit={cfg.limit} is too few for a map; take {FEWEST} or more")
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    drawing()  # before anything is computed that could not be shown
    opened = reopen(Path(cfg.run))
    other = objects.data
    if other is None and cfg.get("data") is not None:
        other = instantiate(cfg.data, _convert_="all")
    out = opened.where / "report.html" if cfg.out is None else Path(cfg.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, html(gather(opened, other, cfg.limit)).encode())
    return out


def gather(opened: Opened, other: Data | None, limit: int) -> Report:
    """All facts of the page.

    Args:
        opened: the run. What is missing is noted in it.
        other: data to look at instead of the run's own.
        limit: points of the map at most.
    """
    where, config = opened.where, opened.config
    metrics = read_metrics(where)
    if not metrics.keys() - {CHANCE}:
        opened.notes.append("Not shown: curves. The run has logged nothing yet.")
    data = other or opened.data
    view = None
    if data is not None and opened.backbone is not None:
        view = opened.attempt("the map, neighbours and layers", lambda: features(opened, data, limit))
    found = opened.attempt("what the objective predicts", lambda: predictions(opened)) or []
    summary, environment = (
        opened.attempt(f"what {file} says", partial(read, where / file)) or {}
        for file in ("summary.json", "environment.json")
    )
    name = str(config.objective._target_).rpartition(".")[2]
    return Report(
        title=f"{name} on {config.data.get('name', 'its data')}: {where.name}",
        unit="" if opened.objective is None else opened.objective.unit,
        facts=facts(opened, summary, environment, metrics),
        config=OmegaConf.to_yaml(config),
        notes=opened.notes,
        metrics=metrics,
        features=view,
        predictions=found,
        evaluations=evaluations(where, opened.attempt),
    )


def once(what: str, make: Callable[[], Any]) -> Any:
    """What `make` gives, as `Opened.attempt` has it, but errors are raised. `what` is not used."""
    return make()


def evaluations(where: Path, attempt: Callable[..., Any] = once) -> dict[str, dict[str, Any]]:
    """What was measured of a run: by `ssl-zoo evaluate`, and by the board that the run belongs to.

    Args:
        where: the folder of the run.
        attempt: is handed what each file is called and a function that reads it; returns what that gives,
            or None for a file that cannot be read.

    Returns:
        A name for each evaluation -> what its file holds.
    """
    found: dict[str, dict[str, Any]] = {}
    for file in sorted((where / "evaluations").glob("*.json")):
        if one := attempt(f"the evaluation {file.name}", partial(read, file)):
            found[file.name] = one
    for file in sorted((where / "measures").glob("*.json")):
        for i, one in enumerate(attempt(f"the measure {file.name}", partial(of_board, file)) or []):
            found[f"{file.stem}-{i}"] = one
    return found


def of_board(file: Path) -> list[dict[str, Any]]:
    """The results of a measure of a board, each as `ssl-zoo evaluate` writes one."""
    measured, found = read(file), []
    try:
        for one in measured["results"]:
            result = one | {"mean": one["value"], "values": [one["value"]], "interval": None}
            found.append({"data": ", ".join(measured["data"]), "results": {file.stem: result}})
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{file} is no measure of a board: {error!r}") from error
    return found


def read(file: Path) -> dict[str, Any]:
    """A JSON file; {} where there is none.

    Raises:
        ConfigError: it is damaged; says where.
    """
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is damaged ({error}): delete it, and run what wrote it again") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{file} holds no JSON object, but {type(found).__name__}")
    return found


def facts(
    opened: Opened, summary: dict[str, Any], environment: dict[str, Any], metrics: dict[str, Any]
) -> list[tuple[str, str]]:
    """Names and values for the head of the page, in order; what is not known is left out."""
    config, count = opened.config, lambda module: f"{sum(p.numel() for p in module.parameters()):,}"
    steps = summary.get("steps", opened.step)
    found = [
        ("objective", str(config.objective._target_)),
        ("backbone", str(config.backbone._target_)),
        ("parameters", "" if opened.backbone is None else f"{count(opened.backbone)} in the backbone"),
        ("", "" if opened.objective is None else f"{count(opened.objective)} with the objective's heads"),
        ("state", "finished" if (opened.where / "backbone").exists() else "not finished"),
        ("optimizer steps", "" if steps is None else f"{steps:,}"),
        ("samples", f"{summary['samples']:,} (with repetition)" if "samples" in summary else ""),
        ("tokens", f"{summary['tokens']:,} (with repetition)" if "tokens" in summary else ""),
        ("seconds", f"{summary['seconds']:,} of training" if "seconds" in summary else ""),
        ("loss where nothing is told apart", f"{summary['chance']:.4g}" if "chance" in summary else ""),
    ]
    known = {"objective", "backbone", "backbone_parameters", "steps", "samples", "tokens", "images"}
    known |= {"seconds", "seed", "stopped", "chance"}
    last = {name: value for name, value in summary.items() if name not in known}
    found += [(f"final {name}", last_figure(value)) for name, value in last.items()]
    if not summary and "train/loss" in metrics:
        found.append(("last train/loss", f"{metrics['train/loss'][1][-1]:.4g}"))
    if environment:
        found.append(("seed", str(config.seed)))
        found += opened.attempt("what environment.json says", partial(surroundings, environment)) or []
    return [(name, value) for name, value in found if value]


def last_figure(value: str | bool | int | float) -> str:
    """A figure of summary.json as the page shows it: whole numbers whole, others with four digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else f"{value:.4g}"


def surroundings(environment: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and values that say when, where and how a run was started.

    Raises:
        ConfigError: environment.json lacks one of them, or holds another type.
    """
    try:
        versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
        hardware = ", ".join(environment["devices"]) or "no GPU"
        cores = f"{environment['machine']}, {environment['cores']} cores, {environment['threads']} threads"
        return [
            ("started", str(environment["started"])),
            ("hardware", f"{cores}, {hardware}"),
            ("versions", f"ssl_zoo {environment['ssl_zoo']}, Python {environment['python']}, {versions}"),
            ("commit", str(environment["commit"] or "")),
            ("command", " ".join(environment["command"])),
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"environment.json is not as pretrain writes it: {error!r}") from error


def rows_of(opened: Opened, data: Images | TextData, split: str) -> Rows:
    """The rows of a split: of text its documents, or packed rows of a stream or where these are too few.

    Raises:
        DataError: the data is text, and the run has no tokenizer.
    """
    if not isinstance(data, Texts):
        return data.rows(split)
    if opened.tokenizer is None:
        raise DataError(f"{data.name} is text, and the run has no tokenizer")
    if isinstance(data, TextStream):
        return data.rows(split, opened.tokenizer, opened.config.context)
    rows = data.rows(split, opened.tokenizer, opened.config.context, "document")
    if len(rows) >= FEWEST or data.classes:
        return rows
    return data.rows(split, opened.tokenizer, opened.config.context, "packed")


def some(rows: Rows, limit: int) -> Subset:
    """At most `limit` rows in an order drawn by seed 0; of rows in shards, those of one window."""
    windows: Windows | None = getattr(rows, "windows", None)
    if windows is not None:
        return Subset(rows, windows.order(np.arange(min(limit, len(rows))), 0, 0))
    return Subset(rows, np.random.default_rng(0).permutation(len(rows))[:limit])


def features(opened: Opened, data: Data, limit: int) -> FeatureView:
    """Map and neighbours of validation rows in an order drawn by seed 0, and, where there are labels, the
    scores of the layers.

    Raises:
        DataError: there are pairs instead of rows, no validation split, or no tokenizer for a text.
    """
    backbone = opened.backbone
    assert backbone is not None
    if isinstance(data, TextPairs):
        raise DataError(f"{data.name} holds pairs of sentences: take data of single texts")
    if "validation" not in data.splits():
        raise DataError(f"{data.name} has no validation split")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    held_out = some(rows_of(opened, data, "validation"), max(limit, PROBED))
    labelled = held_out.y is not None
    every = extract(backbone, held_out, device=device, layers=labelled)
    shown = Subset(held_out, np.arange(min(limit, len(held_out))))
    pooled = every.pooled[: len(shown)]
    places, explained = maps(pooled)
    pictures = samples(shown, opened.tokenizer)
    layers = None
    if labelled:
        train = extract(backbone, some(rows_of(opened, data, "train"), PROBED), device=device, layers=True)
        layers = layer_scores(train, every, len(held_out.classes))
    near = neighbours(pooled, pictures)
    return FeatureView(pictures, places, explained, near, layers, data.name, "validation", held_out.classes)


def predictions(opened: Opened) -> list[Prediction]:
    """What the objective, or each term of a sum, makes of validation rows of the run's own data."""
    objective, data = opened.objective, opened.data
    if objective is None or data is None or "validation" not in data.splits():
        return []
    terms: dict[str, Any] = dict(objective.terms.items()) if isinstance(objective, Sum) else {"": objective}
    found = []
    for name, term in terms.items():
        assert isinstance(term, Objective)
        title = type(term).__name__ + (f" (term {name})" if name else "")
        context = opened.config.context
        if "other" in term.reads:
            assert opened.tokenizer is not None
            pairs = captioned(data, opened.config.get("templates"))
            rows = pairs.pairs("validation", opened.tokenizer, context)
        elif not isinstance(data, Texts):
            rows = data.rows("validation")
        else:
            assert opened.tokenizer is not None
            rows = data.rows("validation", opened.tokenizer, context, term.layout, term.lookahead)
        one = predict(term, rows, opened.tokenizer, title, f"validation rows of {data.name}")
        found += [] if one is None else [one]
    return found
