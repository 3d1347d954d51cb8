"""A model of another task than classes, made of a pretrained backbone and labelled files, and kept."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, ListConfig, OmegaConf

from ssl_zoo.backbones._base import Backbone
from ssl_zoo.compose.composition import ConfigError
from ssl_zoo.compose.doubts import untrained
from ssl_zoo.compose.evaluation import subject
from ssl_zoo.compose.made import long_enough, made_of, refuse_taken
from ssl_zoo.compose.objects import Objects
from ssl_zoo.compose.own_tasks import Wish, look
from ssl_zoo.compose.task_reading import columns_of, examples, goal_of, parts
from ssl_zoo.data.items import Item
from ssl_zoo.data.split_files import Assigned, read_assigned, refuse_both
from ssl_zoo.data.split_names import PARTS
from ssl_zoo.data.target_tables import Columns
from ssl_zoo.messages import note
from ssl_zoo.pretrain.saying import say
from ssl_zoo.transfer.measures import Subject
from ssl_zoo.transfer.protocols import Finetune, Linear
from ssl_zoo.transfer.tasks import model as kept
from ssl_zoo.transfer.tasks.goal import Goal, Score
from ssl_zoo.transfer.tasks.masks import Masks
from ssl_zoo.transfer.tasks.model import TaskModel
from ssl_zoo.transfer.tasks.tuning import Truth, fit, tell


def tune_task(
    cfg: DictConfig,
    choices: dict[str, str],
    protocol: Any,
    out: Path,
    backbone: Backbone | None,
    objects: Objects,
) -> TaskModel:
    """Make and keep the model that a configuration asks for; see `finetuning.finetune_from`.

    Raises:
        ConfigError, DataError, HubError: what was asked for cannot be.
    """
    began, run = time.perf_counter(), Path(cfg.run)
    refuse_what_no_task_takes(cfg, choices, protocol, objects)
    sources = {name: Path(cfg.data[name]) for name in PARTS if cfg.data.get(name) is not None}
    label = list(cfg.label) if isinstance(cfg.label, ListConfig) else cfg.label
    found = look(sources["train"], Wish(cfg.task, cfg.input, label))
    columns = columns_of(found)
    one = subject(run, cfg.length, cfg.device, found.modality, backbone)
    if one.backbone.modality != found.modality:
        raise ConfigError(
            f"{run} holds a backbone for {one.backbone.modality}s; data={choices['data']} is {found.modality}"
        )
    for line in untrained(run):
        note(f"WARNING: {line}")
    fractions = {name: cfg.data.get(f"{name}_fraction") or 0.0 for name in PARTS[1:]}
    items = parts(cfg.task, sources, columns, cfg.tag, fractions, assigned(cfg.data))
    if "validation" not in items:
        raise ConfigError(
            "nothing is left to choose on: name data.validation, or data.validation_fraction=0.1"
        )
    items["train"] = drawn(items["train"], cfg.labels, cfg.seed)
    goal = goal_of(cfg.task, items["train"], one, cfg.head)
    size = int(cfg.data.get("image_size") or 0)
    rows = {name: examples(goal, some, one, size) for name, some in items.items()}
    count, long = len(rows["train"]), ""
    if isinstance(goal, Masks):
        note(f"an image has {goal.grid[0]} x {goal.grid[1]} cells, of which its mask is upsampled")
    if isinstance(protocol, Finetune):
        protocol = long_enough(protocol, cfg.steps, count)
        long = f"; {len(protocol.lrs)} learning rates x {protocol.steps} steps (steps=)"
    held = f"{len(rows['validation']):,} to choose on"
    say(f"{protocol.name}: {count:,} labelled rows, {held}, by {goal.metric}{long}")
    done = fit(one.backbone, goal, rows["train"], rows["validation"], protocol, int(cfg.seed), one.device)
    scores = {"validation": plain(done.goal, done.scores, len(rows["validation"]))}
    if (test := rows.get("test")) is not None:
        told = tell(done.backbone, done.head, done.goal, test, one.device)
        scores["test"] = plain(done.goal, done.goal.scores(told, Truth(test)), len(test))
    prints = {name: some.fingerprint for name, some in rows.items()}
    made = made_of(cfg, run, str(cfg.data.name), prints, protocol, done.chosen, count, began)
    about = {"reads": reads(columns, one, size, cfg.tag), "scores": scores, "made": made}
    tuned = Subject(done.backbone, one.tokenizer, one.length, one.device)
    model = TaskModel(tuned, done.head, done.goal, about)
    refuse_taken(out)  # somebody else may have been here meanwhile
    kept.save(model, out)
    return model


def refuse_what_no_task_takes(
    cfg: DictConfig, choices: dict[str, str], protocol: Any, objects: Objects
) -> None:
    """Raise ConfigError for words that are for classes alone, or that the task has no use for."""
    if (
        objects.data is not None
        or not isinstance(cfg.data.get("train"), str)
        or not Path(cfg.data.train).exists()
    ):
        raise ConfigError(f"task={cfg.task} reads labelled files: data=PATH, not data={choices['data']}")
    if not isinstance(protocol, (Finetune, Linear)):
        raise ConfigError(f"task={cfg.task} takes protocol=finetune or linear, not {choices['protocol']}")
    if cfg.metric != "accuracy":
        raise ConfigError(f"metric={cfg.metric} is for classes; task={cfg.task} chooses by its own")
    if isinstance(cfg.labels, int):
        raise ConfigError(
            "labels=NUMBER counts rows per class; of other tasks take a fraction, as labels=0.1"
        )
    if cfg.tag is not None and cfg.task != "tags":
        raise ConfigError(f"tag= is the column of tags, and task={cfg.task} has none")
    if cfg.head == "conv" and (cfg.task != "masks" or isinstance(protocol, Linear)):
        raise ConfigError("head=conv is for task=masks with protocol=finetune; all else has a linear head")


def assigned(data: DictConfig) -> Assigned | None:
    """What the file of splits says that the data names; None where it names none."""
    given = data.get("splits")
    if given is None:
        return None
    refuse_both(str(data.name), given, data.get("validation"), data.get("test"))
    return read_assigned(OmegaConf.to_object(given) if isinstance(given, DictConfig) else given, data.train)  # pyright: ignore


def drawn(items: list[Item], fraction: float | None, seed: int) -> list[Item]:
    """The fraction of the items that a seed draws, in their order; a small one is within every larger one.

    Raises:
        ConfigError: a fraction that is none.
    """
    if fraction is None:
        return items
    if not 0 < fraction < 1:
        raise ConfigError(f"labels={fraction} is no fraction: more than 0 and less than 1")
    order = np.random.default_rng(seed).permutation(len(items))
    return [items[i] for i in np.sort(order[: max(2, round(fraction * len(items)))])]


def plain(goal: Goal, scores: dict[str, Score], rows: int) -> dict[str, Any]:
    """The scores of a split as plain JSON values, the one that validation chooses by first."""
    others = {name: one.plain() for name, one in scores.items() if name != goal.metric}
    return {"metric": goal.metric, **scores[goal.metric].plain(), "rows": rows, "others": others}


def reads(columns: Columns, one: Subject, size: int, tag: int | None) -> dict[str, Any]:
    """How inputs are read, as plain values: what a path that is predicted is read like."""
    made = {"columns": {k: list(v) if isinstance(v, tuple) else v for k, v in columns._asdict().items()}}
    return made | (
        {"image_size": size} if one.backbone.modality == "image" else {"length": one.length, "tag": tag}
    )


def score_line(split: str, found: dict[str, Any]) -> str:
    """The scores of a split as a line for people."""
    every = {found["metric"]: found, **found.get("others", {})}
    hopeful = ", on which it was chosen: too hopeful" if split == "validation" else ""
    return (
        f"{split}: {', '.join(one_score(*pair) for pair in every.items())}, {found['rows']:,} rows{hopeful}"
    )


def one_score(name: str, found: dict[str, Any]) -> str:
    """A score with its interval, for people."""
    span = found.get("interval")
    return f"{name} {found['value']:.4g}" + (
        "" if span is None else f" (95 %: {span[0]:.4g} to {span[1]:.4g})"
    )
