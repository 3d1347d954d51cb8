"""The backbone of a run for other libraries, with its receipt and its card, from the run's folder alone; or a
classifier, from its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf

from ssl_zoo import hub
from ssl_zoo.backbones._base import Backbone, TokenBackbone
from ssl_zoo.compose import doubts, reporting
from ssl_zoo.compose.composition import EXPECTED, ConfigError, explain, plain
from ssl_zoo.compose.finetuning import format_score
from ssl_zoo.compose.gate import instantiate, named_in
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.export import doors
from ssl_zoo.export._base import Door, ExportError, Head, Source, spelt
from ssl_zoo.export.card import Told, card, model_card
from ssl_zoo.export.doors import Exported
from ssl_zoo.export.push import push
from ssl_zoo.export.receipt import FORMAT
from ssl_zoo.leaderboard import code
from ssl_zoo.leaderboard.datasets import fingerprint
from ssl_zoo.leaderboard.unit import LOCK
from ssl_zoo.messages import note
from ssl_zoo.pretrain.checkpoint import newest, read_checkpoint
from ssl_zoo.pretrain.export import behind, read_summary
from ssl_zoo.transfer import kept, tuned_completion
from ssl_zoo.transfer.model_file import holds_model, task_of
from ssl_zoo.transfer.tasks.model import GOALS

DATA = "DATA"  # stands for the folder of data sets in the recipe of a receipt
PLACES = ("run", "resume", "wandb", "logger", "data_dir")  # keys that say where and how, not what


class Shipped(NamedTuple):
    """An export; address: where it lies on the Hugging Face hub, if it was pushed."""

    exported: Exported
    address: str | None = None


def export_from(cfg: DictConfig, own: Backbone | None = None) -> Shipped:
    """Export what a configuration names.

    Args:
        own: the trained backbone, for a class outside of this library, which the folder alone does not open.

    Raises:
        ConfigError: no run or no way out is named, the run has not ended, or what is there cannot go out so.
        HubError: the backbone or the classifier is damaged.
    """
    for key, words in (
        ("run", "which run, or which classifier? ssl-zoo export RUN to=NAME"),
        ("to", f"for which library? to={', to='.join(doors.WAYS)}"),
    ):
        if OmegaConf.is_missing(cfg, key):
            raise ConfigError(words)
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    where, main = Path(cfg.run), cfg.part == hub.MAIN
    out = (
        where / "exports" / (cfg.to if main else f"{cfg.to}-{cfg.part}") if cfg.out is None else Path(cfg.out)
    )
    try:
        tuned = holds_model(where)
        doors.door(cfg.to, tuned)
        doors.refuse_taken(out)
        write: Callable[[Door, Path], str]
        if tuned:
            source = classifier(where, main)
            scores = [format_score(split, one) for split, one in source.facts().get("scores", {}).items()]
            write = lambda way, folder: model_card(way, source, scores, cfg.license, folder)  # noqa: E731
        else:
            source, config = opened(where, cfg.part, own)
            told = about(where, config, cfg.license)
            write = lambda way, folder: card(way, source, told, folder)  # noqa: E731
        exported = doors.export(source, cfg.to, out, write)
        return Shipped(exported, None if cfg.push is None else push(out, cfg.push, cfg.private))
    except ExportError as error:
        raise ConfigError(str(error)) from error


def classifier(where: Path, main: bool) -> Source:
    """What is exported of a classifier that `ssl-zoo finetune` made.

    Raises:
        ConfigError: the model is for another task, or another backbone than its own is asked for.
        HubError: the model is damaged.
    """
    if (task := task_of(where)) in (*GOALS, tuned_completion.TASK):
        raise ConfigError(
            f"{where} holds a model for {task}, and export writes backbones of runs and classifiers: "
            f"ssl_zoo.load({spelt(where)}) opens it in Python"
        )
    if not main:
        raise ConfigError(f"part= is for runs, and {where} holds a classifier, which has one backbone")
    model = kept.load(where, "cpu")
    one, head = model.subject, Head(model.head, model.classes, model.about)
    return source_of(one.backbone, {}, one.tokenizer, one.length, head)


def opened(where: Path, part: str, own: Backbone | None) -> tuple[Source, DictConfig]:
    """What is exported of a run, and the configuration of the run.

    Raises:
        ConfigError: the folder holds no run, or one that has not ended.
    """
    file = where / "config.yaml"
    if not file.exists():
        raise ConfigError(f"{where} holds no run: there is no {file}; name a folder that pretrain wrote")
    config = OmegaConf.load(file)
    assert isinstance(config, DictConfig)
    summary = read_summary(where / "summary.json")
    if not (where / hub.MAIN / "config.json").exists():
        raise ConfigError(
            f"{where} has not ended, and its backbone is written when it does: go on with the same "
            "`ssl-zoo pretrain` command, then export it"
        )
    if words := behind(where):
        note(f"note: {words}")
    backbone = own if own is not None and part == hub.MAIN else hub.load(where, name=part)
    receipt = make_receipt(where, config, summary, part)
    tokenizer = Tokenizer.load(where / "tokenizer") if backbone.modality == "text" else None
    return source_of(backbone, receipt, tokenizer, int(config.context)), config


def source_of(
    backbone: Backbone,
    receipt: dict[str, Any],
    tokenizer: Tokenizer | None,
    length: int,
    head: Head | None = None,
) -> Source:
    """What is exported; a text is cut to `length` tokens, or to as many as the backbone reads."""
    limit = backbone.max_length if isinstance(backbone, TokenBackbone) else None
    context = None if tokenizer is None else length if limit is None else min(length, limit)
    return Source(backbone.cpu().eval(), receipt, tokenizer, context, head)


def make_receipt(where: Path, config: DictConfig, summary: dict[str, Any], part: str) -> dict[str, Any]:
    """The receipt of a run's backbone, as plain JSON values (see `export.receipt`)."""
    environment = reporting.read(where / "environment.json")
    command = [str(word) for word in environment.get("command") or ()]
    typed = len(command) > 1 and Path(command[0]).name == "ssl-zoo" and command[1] == "pretrain"
    board = {"name": where.absolute().parents[1].name, "line": where.absolute().parent.name}
    return {
        "format": FORMAT,
        "ssl_zoo": environment.get("ssl_zoo"),
        "commit": environment.get("commit"),
        "command": ["ssl-zoo", *command[1:]] if typed else None,
        "config": recipe(config),
        "code": attempt("hashes of its code", lambda: code_of(config)),
        "data": {
            "name": str(config.data.get("name")),
            "fingerprint": attempt("the fingerprint of its data", lambda: fingerprint_of(config)),
            "rows": attempt("the fingerprint of its training rows", lambda: rows_of(where)),
        },
        "seed": int(config.seed),
        "steps": int(summary.get("steps", 0)),
        "backbone": part,
        "weights": hub.digest(hub.locate(where, part) / "model.safetensors"),
        "versions": {"python": environment.get("python"), **environment.get("versions", {})},
        "processor": environment.get("processor"),
        "threads": environment.get("threads"),
        "board": board | {"seed": int(config.seed)} if (where / LOCK).exists() else None,
    }


def attempt(what: str, make: Callable[[], Any]) -> Any:
    """What `make` gives; None, and a line that the receipt goes without, where it cannot be had."""
    try:
        return make()
    except (*EXPECTED, AttributeError, LookupError, SyntaxError) as error:
        note(f"note: the receipt goes without {what}: {explain(error)}")
        return None


def recipe(config: DictConfig) -> dict[str, Any]:
    """The configuration of a run without what belongs to a machine; paths of named data begin with DATA/."""
    whole = plain(config)
    text = json.dumps({key: value for key, value in whole.items() if key not in PLACES})
    folder = json.dumps(f"{whole['data_dir']}/").removesuffix('"')  # of a path, as JSON spells it
    return json.loads(text.replace(folder, f'"{DATA}/'))


def code_of(config: DictConfig) -> dict[str, str]:
    """Hashes of the code behind a run, by part, as boards keep them."""
    update = [name for part in ("optimizer", "schedule", "decay") for name in named_in(config[part])]
    return code.pretraining(
        named_in(config.objective),
        named_in(config.backbone),
        update,
        named_in(config.data),
        named_in(config.tokenizer),
    )


def fingerprint_of(config: DictConfig) -> str:
    """The fingerprint of what the data of a run hold now; all of it is read."""
    return fingerprint(instantiate(config.data, _convert_="all"))


def rows_of(where: Path) -> str | None:
    """The fingerprint of the rows that a run was trained on, from its newest checkpoint; None without one."""
    found = newest(where / "checkpoints")
    if found is None:
        return None
    return read_checkpoint(found)["PretrainingData"]["fingerprint"]


def about(where: Path, config: DictConfig, license: str | None) -> Told:
    """What the card says of a run."""
    objective = str(config.objective._target_).rpartition(".")[2]
    backbone, data = (
        str(config.backbone._target_).rpartition(".")[2],
        str(config.data.get("name", "its data")),
    )
    summary = read_summary(where / "summary.json")
    facts = [f"Objective: {objective}, {summary.get('seconds', 0):,.0f} s of training."]
    return Told(
        f"{objective} on {backbone}, {data}",
        objective,
        data,
        reporting.evaluations(where),
        license,
        facts,
        doubts.untrained(where),
    )
