"""`ssl-zoo evaluate`: what is the pretrained backbone of a run worth on a labelled set?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ssl_zoo import hub
from ssl_zoo.backbones._base import Backbone
from ssl_zoo.cli.compose import ConfigError
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.rows import DataError, Rows
from ssl_zoo.data.text import TextData
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.pretrain.checkpoint import write_atomically
from ssl_zoo.transfer import floors
from ssl_zoo.transfer.evaluate import Protocol, evaluate
from ssl_zoo.transfer.protocols import Finetune, Linear
from ssl_zoo.transfer.report import Result, results_table


class Splits(NamedTuple):
    train: Rows
    validation: Rows
    test: Rows


def read_splits(data: ImageData | TextData, run: Path, length: int | None) -> Splits:
    """The three labelled splits; text through the tokenizer of the run."""
    wanted = ("train", "validation", "test")
    if lacking := [split for split in wanted if split not in data.splits()]:
        raise DataError(
            f"{data.name} has no {' and no '.join(lacking)} split; name its source, or carve it with "
            f"data.{lacking[0]}_fraction=0.1"
        )
    if isinstance(data, ImageData):
        return Splits(*(data.labelled(split) for split in wanted))
    if not data.classes:
        raise DataError(f"{data.name} has no labels to measure transfer with")
    tokenizer = Tokenizer.load(run / "tokenizer")
    if length is None:
        length = int(OmegaConf.load(run / "config.yaml").context)
    return Splits(*(data.rows(split, tokenizer, length, "document") for split in wanted))


def rows_of_table(
    backbone: Backbone,
    data: ImageData | TextData,
    splits: Splits,
    protocol: Protocol,
    labels: int | float | None,
    seeds: list[int],
    with_floors: bool,
    device: torch.device | None,
) -> Iterator[tuple[str, Result]]:
    """The pretrained backbone and, if asked for, its floors, under one protocol and label budget."""
    options: dict[str, Any] = {"labels": labels, "seeds": seeds, "device": device}
    yield "pretrained", evaluate(backbone, *splits, protocol, **options)
    if not with_floors:
        return
    about = hub.describe(backbone)
    make: Callable[[], Backbone] = lambda: hub.build(about)  # noqa: E731
    if isinstance(protocol, Finetune):
        yield "from scratch", floors.random_weights(make, *splits, floors.from_scratch(protocol), **options)
    frozen = Linear() if isinstance(protocol, Finetune) else protocol
    yield "random, frozen", floors.random_weights(make, *splits, frozen, **options)
    if isinstance(data, TextData):
        texts = [floors.Texts(data.documents(s), data.labels(s)) for s in Splits._fields]  # pyright: ignore
        yield "TF-IDF", floors.tfidf(*texts, labels=labels, seeds=seeds)
    else:
        yield "raw pixels", evaluate(floors.Pixels(splits.train), *splits, Linear(), **options)


def run(cfg: DictConfig, choices: dict[str, str]) -> None:
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    where = Path(cfg.run)
    backbone = hub.load(where)
    protocol: Protocol = instantiate(cfg.protocol, _convert_="all")
    data: ImageData | TextData = instantiate(cfg.data, _convert_="all")
    if data.modality != backbone.modality:
        raise ConfigError(
            f"{where} holds a backbone for {backbone.modality}s; data={choices['data']} is {data.modality}"
        )
    splits = read_splits(data, where, cfg.length)
    budgets = list(cfg.labels) if OmegaConf.is_list(cfg.labels) else [cfg.labels]
    device = None if cfg.device == "auto" else torch.device(cfg.device)
    table: list[tuple[str, Result]] = []
    for labels in budgets:
        began = time.time()
        found = []
        for name, result in rows_of_table(
            backbone, data, splits, protocol, labels, list(cfg.seeds), cfg.floors, device
        ):
            print(f"{name}: {result.text()} ({result.seconds:.0f} s)", flush=True)
            found.append((name, result))
        report = {
            "data": data.name,
            "protocol": OmegaConf.to_container(cfg.protocol, resolve=True),
            "fingerprints": {name: rows.fingerprint for name, rows in splits._asdict().items()},
            "results": {name: result.as_dict() for name, result in found},
            "seconds": round(time.time() - began, 1),
        }
        folder = where / "evaluations"
        folder.mkdir(exist_ok=True)
        name = f"{choices['data']}-{protocol.name}-{'all' if labels is None else labels}.json"
        write_atomically(folder / name, json.dumps(report, indent=1).encode())
        table += found
    print(results_table(table))
    print(f"written to {where / 'evaluations'}")
