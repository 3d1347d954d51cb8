"""A pretraining run from its configuration: what it names is built, and trained in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf

from ssl_zoo import hub
from ssl_zoo.backbones._base import KINDS, Backbone
from ssl_zoo.compose.catalogue import kinds_made
from ssl_zoo.compose.composition import ConfigError, plain
from ssl_zoo.compose.gate import instantiate
from ssl_zoo.compose.objective import build_objective, text_tower
from ssl_zoo.compose.objects import NONE, Objects
from ssl_zoo.compose.tokenizer import new_tokenizer
from ssl_zoo.data.captions import ClassCaptions, captioned
from ssl_zoo.data.image_captions import ImageCaptions
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.own import OwnData
from ssl_zoo.data.rows import DataError, Rows
from ssl_zoo.data.text_streams import Texts, TextStream
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.loggers import refuse_absent
from ssl_zoo.pretrain import Budget, Pretraining, PretrainingData, launch, pretrain
from ssl_zoo.pretrain.checkpoint import checkpoints
from ssl_zoo.pretrain.guard import Guard
from ssl_zoo.pretrain.recompute import recompute
from ssl_zoo.pretrain.run import RunError, locked
from ssl_zoo.pretrain.saying import say
from ssl_zoo.pretrain.stopping import requeue_when_told
from ssl_zoo.pretrain.watch import Monitor, Validation
from ssl_zoo.pretrain.writing import write_atomically

# What may change between the sessions of one run; anything else would be another run.
FREE = (
    "run", "budget", "workers", "threads", "compile", "recompute", "resume", "log_every", "evaluate_every",
    "save_every", "save_async", "keep", "validation_limit", "optimized_metric", "wandb", "logger", "trainer",
    "data_dir",
    "data.cache", "data.limit", "guard.margin", "guard.patience",
    "data.max_",  # limits: what passes them is the same
)  # fmt: skip


def folder(cfg: DictConfig, choices: dict[str, str]) -> Path:
    """The run folder: as named, else after what is trained."""
    if cfg.run is not None:
        return Path(cfg.run)
    return Path("runs") / "-".join(
        [choices["objective"], choices["backbone"], choices["data"], f"s{cfg.seed}"]
    )


class Trained(NamedTuple):
    """What a session of pretraining left.

    Attributes:
        where: the folder of the run.
        summary: what summary.json says.
        backbone: the trained one.
        leads: whether this is the process that looks after the folder.
        labelled: whether its data has classes, which were not read, to measure it by.
        named: whether its samples can be named, so that their vectors can be written.
    """

    where: Path
    summary: dict[str, Any]
    backbone: Backbone
    leads: bool
    labelled: bool
    named: bool


def pretrain_from(cfg: DictConfig, choices: dict[str, str], objects: Objects = NONE) -> Trained:
    """Train what a configuration names, in a folder of its own.

    Args:
        choices: group -> the choice that the folder is called after.
        objects: what code hands over in the place of groups.

    Raises:
        ConfigError, DataError, RunError: what was asked for cannot be; and what `pretrain` raises.
        KeyboardInterrupt: Ctrl-C; what was trained is saved.
    """
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    where = folder(cfg, choices)
    refuse_mixed_modalities(cfg)
    settings = plain(cfg)
    launch.refuse_absent_device(settings["trainer"])
    requeue_when_told()
    if not launch.grouped():
        return train(cfg, settings, where, objects)
    # The first process of a group reads the data before the others do: it fills caches, trains the tokenizer.
    with locked(where) as session:
        if not session.leads:
            session.attend()
            session.wait("files")
        return train(cfg, settings, where, objects)


def train(cfg: DictConfig, settings: dict[str, Any], where: Path, objects: Objects) -> Trained:
    """Build what the configuration names, and train it in the folder `where`.

    Args:
        cfg: the configuration, whose parts are built.
        settings: the same as plain values, as config.yaml keeps them.
        objects: what code hands over in the place of groups.

    Errors are those of `pretrain_from`.
    """
    # A start that failed before the first checkpoint leaves nothing worth keeping.
    new = not checkpoints(where / "checkpoints")
    begun = not (new and launch.leads())
    if begun:
        refuse_other_run(where, settings)
    torch.manual_seed(cfg.seed)
    budget = Budget(**settings["budget"])
    logger = instantiate(cfg.logger) if cfg.get("logger") else None
    refuse_absent(logger)
    data: ImageData | ImageCaptions | OwnData | Texts
    data = objects.data or instantiate(cfg.data, _convert_="all")
    tower = text_tower(cfg.objective)
    pairs = None if tower is None else captioned(data, cfg.templates)
    tokenizer = None
    if isinstance(pairs, ClassCaptions):
        one, names, ways = pairs.captions("train")[0], len(pairs.data.classes), len(pairs.templates)
        say(f"captions    {names} class names in {ways} templates, such as {one!r} (templates=)")
    if pairs is not None:
        tokenizer = read_tokenizer(cfg, where, pairs.captions("train"), tower, begun)
    elif isinstance(data, Texts):
        tokenizer = read_tokenizer(cfg, where, data, cfg.backbone, begun)
    if tokenizer is not None:
        say(f"vocabulary  {tokenizer.vocabulary.size:,} ids")
    objective = build_objective(cfg, tokenizer, objects, begin=new)
    if cfg.recompute:
        recompute(objective)
    if cfg.compile:
        # Between the blocks, FSDP gathers weights, which no graph holds.
        whole = cfg.trainer.strategy != "fsdp2"
        for part in [objective.backbone] if whole else objective.backbone.blocks():
            part.compile()
    watched = cfg.evaluate_every and "validation" in data.splits()
    held_out = "validation" if watched else None
    read: Callable[[str], Rows]
    if pairs is not None and tokenizer is not None:
        read = partial(pairs.pairs, tokenizer=tokenizer, length=cfg.context, seed=cfg.seed)
        rows = read("train")
    elif not isinstance(data, Texts):
        read, rows = data.rows, data.rows("pretrain")
    else:
        assert tokenizer is not None
        text, words = data, tokenizer
        how = {"layout": objective.layout, "lookahead": objective.lookahead, "even": True}
        read = cache(lambda split: text.rows(split, words, cfg.context, **how))  # a monitor reads them, too
        rows = read("train")
    monitor = None
    if held_out and (data.modality == "image" or objective.layout == "document"):
        look = read if isinstance(data, Texts) else data.rows
        monitor = Monitor(look("train"), look(held_out), cfg.evaluate_every)
    validation = None
    if held_out:
        try:
            watched_rows = read(held_out)
        except DataError as error:
            raise DataError(
                f"of the texts or images held out as validation: {error}; evaluate_every=0 reads none of them"
            ) from error
        validation = Validation(watched_rows, cfg.evaluate_every, cfg.batch_size, cfg.validation_limit)
    guard = Guard(**settings["guard"]) if settings.get("guard") else None
    known = objects.backbone is not None or cfg.init is not None or cfg.backbone.get("pretrained")
    if guard is not None and guard.head_start and not known:
        say("note: this backbone starts from random weights, which guard.head_start keeps for a while; name "
            "others by init= or backbone.pretrained=, or take guard.head_start=0")  # fmt: skip
    trainer = dict(settings["trainer"])
    accumulate = trainer.pop("accumulate_grad_batches")
    module = Pretraining(
        objective,
        instantiate(cfg.optimizer, _convert_="all"),
        budget,
        instantiate(cfg.schedule),
        cfg.seed,
        instantiate(cfg.decay),
        cfg.clip,
    )
    batches = PretrainingData(rows, cfg.batch_size, cfg.seed, accumulate, cfg.workers)

    def write_files() -> bool:
        write_atomically(where / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(settings)).encode())
        if tokenizer is not None:
            hub.replace(where / "tokenizer", tokenizer.save)
        return True

    with locked(where) as session:
        session.share("files", write_files)
        session.assemble()
        summary = pretrain(
            module,
            batches,
            where,
            validation=validation,
            monitor=monitor,
            guard=guard,
            save_every=cfg.save_every,
            save_async=cfg.save_async,
            log_every=cfg.log_every,
            keep=cfg.keep,
            resume=cfg.resume,
            wandb=cfg.wandb,
            logger=logger,
            **trainer,
        )
    labelled = bool(getattr(data, "classes", ()))
    named = not (isinstance(data, TextStream) and data.holds_tokens)
    return Trained(where, summary, objective.export()[hub.MAIN], session.leads, labelled, named)


def read_tokenizer(
    cfg: DictConfig,
    where: Path,
    texts: Texts | Iterable[str],
    reader: DictConfig | None,
    begun: bool,
) -> Tokenizer:
    """The tokenizer of the run that was begun, else a new one from the training texts."""
    if begun and (where / "tokenizer").exists():
        return Tokenizer.load(where / "tokenizer")
    return new_tokenizer(cfg, texts, cfg.backbone if reader is None else reader)


def refuse_mixed_modalities(cfg: DictConfig) -> None:
    """Raise ConfigError, naming what works, if this library's data and backbone do not go together.

    Images go with the one kind of backbone and text with the other; nothing is pretrained on scored pairs of
    sentences.
    """
    backbone, data = str(cfg.backbone._target_), str(cfg.data._target_)
    if data.startswith("ssl_zoo.data.text_pairs."):
        raise ConfigError(
            "the data holds scored pairs of sentences, which only `ssl-zoo evaluate` reads; take "
            "data=stdlib, wikitext2, ..."
        )
    if not (backbone.startswith("ssl_zoo.") and data.startswith("ssl_zoo.")):
        return
    reads_text = any(KINDS[kind][0] == "text" for kind in kinds_made(backbone))  # pyright: ignore
    holds_text = data.startswith("ssl_zoo.data.text")
    if reads_text != holds_text:
        kind = "text" if holds_text else "images"
        works = "transformer_micro, bag, hf_bert, ..." if holds_text else "resnet_micro, vit_micro, ..."
        raise ConfigError(f"the data holds {kind}, which this backbone does not read; take backbone={works}")


def refuse_other_run(where: Path, settings: dict[str, Any]) -> None:
    """Raise RunError, with the difference, if the folder holds a run of other settings."""
    file = where / "config.yaml"
    if not file.exists():
        return
    before, now = flat(plain(OmegaConf.load(file))), flat(settings)  # pyright: ignore[reportArgumentType]
    changed = [
        f"{key}: {before.get(key)} -> {now.get(key)}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) and not key.startswith(FREE)
    ]
    if changed:
        raise RunError(
            f"{where} holds a run of other settings ({'; '.join(changed)}). Give the same ones to go on, "
            "or another run=..."
        )


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted key."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        k: v for key, value in tree.items() for k, v in flat(value, f"{prefix}.{key}".lstrip(".")).items()
    }
