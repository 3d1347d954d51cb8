"""What the pretrained backbone of a run is worth on a labelled set, as a configuration asks."""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from ssl_zoo import hub
from ssl_zoo.backbones._base import Backbone
from ssl_zoo.compose.composition import ConfigError
from ssl_zoo.compose.data_names import absolute, file_name
from ssl_zoo.compose.doubts import PIXELS, TFIDF, below_chance, below_random, below_simple, untrained
from ssl_zoo.compose.gate import instantiate
from ssl_zoo.compose.objects import NONE, Objects
from ssl_zoo.compose.read_before import refuse_read_texts
from ssl_zoo.compose.reopen import reopen_pair
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.own import OwnData
from ssl_zoo.data.rows import DataError, Rows, Subset
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.data.text_streams import TextStream
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.leaderboard.standings import format_point
from ssl_zoo.pretrain import export
from ssl_zoo.pretrain.saying import say
from ssl_zoo.pretrain.writing import write_atomically
from ssl_zoo.transfer import floors
from ssl_zoo.transfer.evaluate import Protocol, evaluate
from ssl_zoo.transfer.features import place
from ssl_zoo.transfer.measures import Data, Images, Measure, Subject, examine
from ssl_zoo.transfer.protocols import Finetune, Linear
from ssl_zoo.transfer.report import Result, any_metric
from ssl_zoo.transfer.table import Table

FLOORS = ("scratch", "random", "simple")  # the kinds of floors, of which floors=true measures all


class Splits(NamedTuple):
    """Labelled rows: probes are fitted on train, chosen on validation and scored on test."""

    train: Rows
    validation: Rows
    test: Rows


def tenth(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Ascending numbers of nine tenths of `count` rows, and of the tenth that seed 0 draws out of them."""
    order = np.random.default_rng(0).permutation(count)
    return np.sort(order[count // 10 :]), np.sort(order[: count // 10])


def before_test(splits: Splits) -> Splits:
    """The splits for choices that are made before test is opened: validation is scored, and what a protocol
    chooses is chosen on a tenth of train, which is not fitted."""
    fitted, chosen_on = tenth(len(splits.train))
    return Splits(Subset(splits.train, fitted), Subset(splits.train, chosen_on), splits.validation)


def subject(
    run: Path,
    length: int | None,
    device: str = "auto",
    modality: str | None = None,
    backbone: Backbone | None = None,
) -> Subject:
    """The backbone of a run, how it reads text, and where it runs.

    Args:
        run: the folder of the run.
        length: tokens that a text is cut to; None = the context of pretraining.
        device: "auto", "cpu" or "cuda".
        modality: of the data, "image" or "text". A run with two towers is measured by the text tower for
            text, and else by the tower of images.
        backbone: of the run, where its folder alone does not open; else None.

    Raises:
        HubError: the folder holds no backbone, or a damaged one.
    """
    where, two = place(device), (hub.place(run, "text") / "config.json").exists()
    backbone = backbone or hub.load(run, name="text" if two and modality == "text" else hub.MAIN)
    if note := export.behind(run):
        warnings.warn(note, stacklevel=2)
    if backbone.modality == "image" and not two:
        return Subject(backbone, device=where)
    tokenizer = Tokenizer.load(run / "tokenizer")
    if length is None:
        length = int(OmegaConf.load(run / "config.yaml").context)
    return Subject(backbone, tokenizer, length, where, partial(reopen_pair, run) if two else None)


def read_splits(data: Images | TextData, subject: Subject) -> Splits:
    """The three labelled splits; see `labelled_splits`."""
    return Splits(*labelled_splits(data, subject, Splits._fields))


def refuse_other_modality(run: Path, one: Subject, data: Data, choice: str) -> None:
    """Raise ConfigError where the backbone of a run does not read such data, which `choice` names."""
    if data.modality != one.backbone.modality:
        raise ConfigError(
            f"{run} holds a backbone for {one.backbone.modality}s; data={choice} is {data.modality}"
        )


def single_samples(cfg: DictConfig, objects: Objects) -> Images | TextData:
    """The data that a configuration names, or that code hands over.

    Raises:
        DataError: it holds pairs of sentences.
    """
    data: Data = objects.data or instantiate(cfg.data, _convert_="all")
    if isinstance(data, TextPairs):
        raise DataError(f"{data.name} holds pairs of sentences: take data of single texts")
    return data


def labelled_splits(data: Images | TextData, subject: Subject, wanted: Sequence[str]) -> list[Rows]:
    """The splits of these names, in that order; text is read through the tokenizer of the run.

    Raises:
        DataError: a split or the labels are missing.
    """
    if not isinstance(data, ImageData | OwnData) and not data.classes:
        raise DataError(f"{data.name} has no labels to learn from")
    if lacking := [split for split in wanted if split not in data.splits()]:
        raise DataError(
            f"{data.name} has no {' and no '.join(lacking)} split; name its source, or carve it with "
            f"data.{lacking[0]}_fraction=0.1"
        )
    if isinstance(data, ImageData | OwnData):
        return [data.labelled(split) for split in wanted]
    return [subject.rows(data, split) for split in wanted]


def listed(value: Any) -> list[Any]:
    """What a key that takes one value or several holds."""
    return list(value) if OmegaConf.is_list(value) else [value]


class Setting(NamedTuple):
    """One point of a sweep: a label budget, and the protocol with its number of steps."""

    labels: int | float | None
    steps: int | None
    protocol: Protocol


def sweep(cfg: DictConfig, protocol: Protocol) -> Iterator[Setting]:
    """All label budgets and numbers of steps that `cfg` asks for, from the last to the first.

    Lists usually grow, so that the points that read the most come first.

    Raises:
        ConfigError: a list is empty, or steps are given for a protocol that takes none.
    """
    for key in ("labels", "steps"):
        if not listed(cfg[key]):
            raise ConfigError(f"{key}=[] leaves nothing to measure; give one or more, or null")
    for labels in reversed(listed(cfg.labels)):
        for steps in reversed(listed(cfg.steps)):
            if steps is None:
                yield Setting(labels, None, protocol)
            elif isinstance(protocol, Finetune):
                yield Setting(labels, steps, replace(protocol, steps=steps))
            else:
                raise ConfigError(f"steps={steps} is for protocol=finetune; {protocol.name} takes no steps")


def options(cfg: DictConfig, setting: Setting, device: torch.device) -> dict[str, Any]:
    """Arguments of `transfer.evaluate.evaluate`."""
    return {
        "labels": setting.labels,
        "seeds": tuple(cfg.seeds),
        "metric": cfg.metric,
        "validation_limit": cfg.validation_limit,
        "device": device,
    }


def rows_of_table(
    one: Subject, data: Images | TextData, splits: Splits, setting: Setting, cfg: DictConfig
) -> Iterator[tuple[str, Result]]:
    """The pretrained backbone and, if asked for, its floors, at one point of a sweep."""
    how, protocol = options(cfg, setting, one.device), setting.protocol
    yield "pretrained", evaluate(one.backbone, *splits, protocol, **how)
    if not cfg.floors:
        return
    wanted = FLOORS if cfg.floors is True else tuple(cfg.floors)
    about = hub.describe(one.backbone)
    make: Callable[[], Backbone] = lambda: hub.build(about)  # noqa: E731
    if about["class"] not in hub.CLASSES:
        say("random weights are left out: a backbone of your own cannot be built anew")
    else:
        if "scratch" in wanted and isinstance(protocol, Finetune):
            yield "from scratch", floors.random_weights(make, *splits, floors.from_scratch(protocol), **how)
        if "random" in wanted:
            frozen = Linear() if isinstance(protocol, Finetune) else protocol
            yield "random, frozen", floors.random_weights(make, *splits, frozen, **how)
    if "simple" not in wanted:
        return
    if isinstance(data, TextData):
        yield TFIDF, tfidf(data, how, cfg.score)
    else:
        yield PIXELS, evaluate(floors.Pixels(splits.train), *splits, Linear(), **how)


def tfidf(data: TextData, how: dict[str, Any], scored: str = "test") -> Result:
    """The floor for texts. It has no device, and it is chosen on all validation rows.

    Args:
        how: as `options` gives it, of which labels, seeds and metric are read.
        scored: "test", or "validation" (see `before_test`).
    """
    texts = {s: floors.Texts(data.documents(s), data.labels(s)) for s in Splits._fields}  # pyright: ignore
    if scored == "validation":
        fitted, chosen_on = (
            floors.Texts([texts["train"].texts[i] for i in part], texts["train"].y[part])  # pyright: ignore
            for part in tenth(len(texts["train"].y))
        )
        texts = {"train": fitted, "validation": chosen_on, "test": texts["validation"]}
    return floors.tfidf(*texts.values(), labels=how["labels"], seeds=how["seeds"], metric=how["metric"])


def evaluate_from(
    cfg: DictConfig, choices: dict[str, str], backbone: Backbone | None = None, objects: Objects = NONE
) -> Table:
    """Measure a run as a configuration asks, and write RUN/evaluations.

    Args:
        choices: group -> the choice that the files are called after.
        backbone: of the run, where its folder alone does not open; else None.
        objects: what code hands over in the place of groups.

    Raises:
        ConfigError, DataError, HubError: what was asked for cannot be.
        OSError: the folder takes no file.
    """
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    where = Path(cfg.run)
    protocol: Protocol | Measure = instantiate(cfg.protocol, _convert_="all")
    data: Data = objects.data or instantiate(cfg.data, _convert_="all")
    one = subject(where, cfg.length, cfg.device, data.modality, backbone)
    refuse_other_modality(where, one, data, choices["data"])
    settings = cast(dict[str, Any], OmegaConf.to_container(cfg.data, resolve=True))
    sources = {
        split: absolute(settings[split]) for split in Splits._fields if settings.get(split) is not None
    }
    if objects.data is None:
        refuse_read_texts(where, data.name, settings, protocol.name)
    folder = where / "evaluations"
    folder.mkdir(exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()  # a folder that takes no file fails before it is measured
    points: list[list[tuple[str, Result]]] = []
    for name, found, fingerprints in measured(cfg, one, data, protocol):
        report = {
            "data": data.name,
            "sources": sources,
            "protocol": OmegaConf.to_container(cfg.protocol, resolve=True),
            "fingerprints": fingerprints,
            "results": {name: result.as_dict() for name, result in found},
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        file = file_name("-".join([choices["data"], *by_column(settings), name]))
        write_atomically(folder / f"{file}.json", json.dumps(report, indent=1).encode())
        points.insert(0, found)  # a sweep goes from the last to the first, and tables as was asked
    tables = [dict(found) for found in points]
    doubts = [doubt for found in tables for doubt in below_random(found) + below_chance(found)]
    doubts += below_simple(tables)
    rows = tuple(row for found in points for row in found)
    return Table(rows, (*untrained(where), *doubts), folder)


def by_column(data: dict[str, Any]) -> list[str]:
    """The name of the column of labels, where one is named: a table has several, which are measured apart."""
    form = data.get("format")
    label = (form if isinstance(form, dict) else data).get("label")
    return [label] if isinstance(label, str) else []


def measured(
    cfg: DictConfig, one: Subject, data: Data, protocol: Protocol | Measure
) -> Iterator[tuple[str, list[tuple[str, Result]], dict[str, str]]]:
    """The name of a file, named results and fingerprints of the data, for each point of the sweep.

    Raises:
        ConfigError: the protocol does not measure such data, or has no floors.
        DataError: see `read_splits`.
    """
    if isinstance(data, TextStream):
        raise DataError(f"{data.name} is a stream, which is not measured on: take data=text_files")
    if isinstance(protocol, Measure):
        if cfg.floors:
            raise ConfigError(f"floors=true is for protocols that predict classes, not for {protocol.name}")
        if cfg.score == "validation":
            raise ConfigError(
                f"score=validation is for protocols that predict classes, not for {protocol.name}"
            )
        yield protocol.name, [told("pretrained", examine(one, data, protocol, seeds=tuple(cfg.seeds)))], {}
        return
    if isinstance(data, TextPairs):
        raise ConfigError(f"{data.name} holds pairs of sentences; take protocol=similarity or completion")
    splits = read_splits(data, one)
    where = ""
    if cfg.score == "validation":
        splits, where = before_test(splits), " on validation rows"
    fingerprints = {name: rows.fingerprint for name, rows in splits._asdict().items()}
    for setting in sweep(cfg, protocol):
        rows = rows_of_table(one, data, splits, setting, cfg)
        found = [
            told(name, replace(result, steps=setting.steps, protocol=result.protocol + where))
            for name, result in rows
        ]
        labels = "all" if setting.labels is None else setting.labels
        steps = "" if setting.steps is None else f"-{setting.steps}"
        yield f"{protocol.name}-{labels}{steps}{'-validation' if where else ''}", found, fingerprints


def told(name: str, result: Result) -> tuple[str, Result]:
    """The same pair, of which a line is printed at once: the next one may take minutes."""
    how = any_metric(result.metric)
    spans = result.details.get("interval", ())
    more = "".join(f", 95 % of the rows: {how.text(low)} to {how.text(high)}" for low, high in spans)
    more += "".join(f", chance {how.text(chance)}" for chance in result.others.get("chance", ()))
    at = "" if result.labels is None else f", {format_point(result.labels, None)}"
    say(f"{name}{at}: {result.metric} {result.text()}{more} ({result.seconds:.0f} s)")
    return name, result
