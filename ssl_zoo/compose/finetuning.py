"""A classifier made of a pretrained backbone and labelled data, as a configuration asks, and kept."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from ssl_zoo.backbones._base import Backbone
from ssl_zoo.compose.composition import ConfigError
from ssl_zoo.compose.doubts import untrained
from ssl_zoo.compose.evaluation import (
    labelled_splits,
    refuse_other_modality,
    single_samples,
    subject,
)
from ssl_zoo.compose.gate import instantiate
from ssl_zoo.compose.made import long_enough, made_of, refuse_taken
from ssl_zoo.compose.objects import NONE, Objects
from ssl_zoo.compose.task_tuning import tune_task
from ssl_zoo.messages import note
from ssl_zoo.pretrain.saying import say
from ssl_zoo.transfer import kept
from ssl_zoo.transfer.completion import Completion
from ssl_zoo.transfer.kept import Kept
from ssl_zoo.transfer.labels import budget
from ssl_zoo.transfer.measures import Subject
from ssl_zoo.transfer.metrics import class_count, refuse_unseen, score, true_labels
from ssl_zoo.transfer.protocols import Finetune, Linear, Task
from ssl_zoo.transfer.report import any_metric, wilson
from ssl_zoo.transfer.tasks.model import TaskModel
from ssl_zoo.transfer.tuned_completion import Answering, tune_completion


def finetune_from(
    cfg: DictConfig, choices: dict[str, str], backbone: Backbone | None = None, objects: Objects = NONE
) -> tuple[Kept | TaskModel | Answering, Path]:
    """Make and keep the model that a configuration asks for; returns it and its folder.

    Args:
        choices: group -> the choice that the folder is called after.
        backbone: of the run, where its folder alone does not open; else None.
        objects: what code hands over in the place of groups.

    Raises:
        ConfigError, DataError, HubError: what was asked for cannot be.
    """
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    run, began = Path(cfg.run), time.perf_counter()
    named = f"{choices['data']}-{choices['protocol']}"
    out = run / "models" / named if cfg.out is None else Path(cfg.out)
    refuse_taken(out)
    protocol = instantiate(cfg.protocol, _convert_="all")
    if isinstance(protocol, Completion):
        return answering(cfg, choices, protocol, out, backbone, objects), out
    if cfg.task not in (None, "classes"):
        return tune_task(cfg, choices, protocol, out, backbone, objects), out
    if not isinstance(protocol, (Finetune, Linear)):
        raise ConfigError(
            f"protocol={choices['protocol']} leaves no model: take finetune, linear, or completion for pairs "
            "of prompts and completions"
        )
    data = single_samples(cfg, objects)
    one = subject(run, cfg.length, cfg.device, data.modality, backbone)
    refuse_other_modality(run, one, data, choices["data"])
    for line in untrained(run):
        note(f"WARNING: {line}")
    wanted = ("train", "validation", *(("test",) if "test" in data.splits() else ()))
    splits = dict(zip(wanted, labelled_splits(data, one, wanted), strict=True))
    train, validation = splits["train"], splits["validation"]
    y, classes = true_labels(train, "train"), class_count(train, validation)
    draws = {int(cfg.seed): budget(y, cfg.labels, cfg.seed, train.classes)}
    rows = len(draws[cfg.seed])
    long = ""
    if isinstance(protocol, Finetune):
        protocol = long_enough(protocol, cfg.steps, rows)
        long = f"; {len(protocol.lrs)} learning rates x {protocol.steps} steps (steps=)"
    held = f"{len(validation):,} to choose on"
    say(f"{protocol.name}: {rows:,} labelled rows of {classes} classes, {held}{long}")
    fitted = protocol.fit(one.backbone, Task(train, validation, draws, classes, cfg.metric, one.device))
    tuned, head = fitted.models[0]
    chosen = dict(fitted.chosen[0])
    scores: dict[str, Any] = {"validation": scored(cfg.metric, chosen.pop("validation"), len(validation))}
    if (test := splits.get("test")) is not None:
        truth = true_labels(test, "test")
        refuse_unseen(truth, test, np.unique(y), "test")
        found = score(cfg.metric, fitted.predict(test)[0], torch.from_numpy(truth), classes)
        scores["test"] = scored(cfg.metric, found, len(test))
    names = tuple(train.classes) or tuple(map(str, range(classes)))
    about = {
        "reads": reads(one, data),
        "scores": scores,
        "made": made_of(
            cfg, run, data.name, {k: v.fingerprint for k, v in splits.items()}, protocol, chosen, rows, began
        ),
    }
    model = Kept(Subject(tuned, one.tokenizer, one.length, one.device), head, names, about)
    refuse_taken(out)  # somebody else may have been here meanwhile
    kept.save(model, out)
    return model, out


def answering(
    cfg: DictConfig,
    choices: dict[str, str],
    protocol: Completion,
    out: Path,
    backbone: Backbone | None,
    objects: Objects,
) -> Answering:
    """Make and keep a model that answers prompts, tuned on the pairs of a table.

    Raises:
        ConfigError: the data is no table that is named by its path, or a key is for classes alone.
    """
    source = cfg.data.get("train") if objects.data is None else None
    if not isinstance(source, str) or not Path(source).is_file():
        raise ConfigError(
            "protocol=completion reads pairs from a table: data=PATH of a .jsonl, .csv or .tsv with the "
            f"columns prompt and completion, not data={choices['data']}"
        )
    if cfg.labels is not None:
        raise ConfigError("labels= is for classes; protocol=completion reads all pairs")
    for key in ("task", "input", "label", "tag"):
        if cfg[key] is not None:
            raise ConfigError(f"{key}= is for labels; protocol=completion has prompt= and completion=")
    if cfg.steps is not None:
        protocol = replace(protocol, steps=cfg.steps)
    if cfg.data.get("splits") is not None:
        raise ConfigError(
            "data.splits is for single samples; pairs that are held out are a file of their own: "
            "data.validation=FILE"
        )
    held = cfg.data.get("validation")
    one = subject(Path(cfg.run), cfg.length, cfg.device, "text", backbone)
    for line in untrained(Path(cfg.run)):
        note(f"WARNING: {line}")
    return tune_completion(
        one,
        Path(source),
        out,
        validation=None if held is None else Path(held),
        prompt=cfg.prompt,
        completion=cfg.completion,
        measure=protocol,
        seed=cfg.seed,
    )


def scored(metric: str, value: float, rows: int) -> dict[str, Any]:
    """A score and the rows it is of, with its 95 % interval where it is a share of them."""
    found: dict[str, Any] = {"metric": metric, "value": value, "rows": rows}
    return found | ({"interval": list(wilson(value, rows))} if metric == "accuracy" else {})


def format_score(split: str, found: dict[str, Any]) -> str:
    """A score as a line for people."""
    how = any_metric(found["metric"])
    spans = found.get("interval")
    more = "" if spans is None else f" (95 %: {how.text(spans[0])} to {how.text(spans[1])})"
    hopeful = ", on which it was chosen: too hopeful" if split == "validation" else ""
    return f"{split}: {how.title}: {how.text(found['value'])}{more}, {found['rows']:,} rows{hopeful}"


def reads(one: Subject, data: Any) -> dict[str, Any]:
    """How inputs are read, as plain values: what a path that is predicted is read like."""
    if one.backbone.modality == "image":
        size = data.image_size  # of rows that code handed over, perhaps height and width
        return {"image_size": size if isinstance(size, int) else max(size)}
    return {"length": one.length}
