"""Configurations and objects for leaderboards: what `leaderboard.composer` asks for."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ssl_zoo import hub
from ssl_zoo.compose import composition, evaluation, gate, pretraining, shorthand
from ssl_zoo.compose.tokenizer import new_tokenizer
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.text import TextData
from ssl_zoo.leaderboard.board import Recipe
from ssl_zoo.leaderboard.composer import Setting, Trust
from ssl_zoo.transfer import floors, word_floors
from ssl_zoo.transfer.evaluate import Protocol
from ssl_zoo.transfer.measures import Images, Subject
from ssl_zoo.transfer.report import Result

# Floor (`leaderboard.board.BAGS`) -> what makes its word vectors.
VECTORS = {"ppmi_svd": word_floors.ppmi_svd, "word2vec": word_floors.word2vec}


@functools.cache
def composed(verb: str, overrides: tuple[str, ...], trust: Trust | None) -> DictConfig:
    """The configuration of a verb, composed once: whoever changes it takes a copy.

    Args:
        trust: full names outside this library that it may build; None allows all, where nothing is built.

    Raises:
        ConfigError: it names what it may not build. Errors of Hydra and OmegaConf pass.
    """
    cfg = composition.build(verb, list(overrides))
    gate.refuse_unknown_targets(cfg, gate.named_in(cfg.objective) if trust is None else trust)
    return cfg


def first(overrides: Sequence[str]) -> list[str]:
    """The words of stage 1, `ssl-zoo pretrain`; none may tell Hydra something."""
    return gate.refuse_hydra_words(shorthand.with_custom_objective(list(overrides)))


def second(overrides: Sequence[str]) -> list[str]:
    """The words of stage 2, `ssl-zoo evaluate`, whose run a board chooses itself."""
    return gate.refuse_hydra_words([*overrides, "run=.", "device=auto"])


class BoardComposer:
    """A `leaderboard.composer.Composer`, which says what each method does."""

    def check(self, verb: str, overrides: Sequence[str]) -> None:
        composition.check(verb, first(overrides) if verb == "pretrain" else second(overrides))

    def pretraining(self, overrides: Sequence[str], trust: Trust | None) -> DictConfig:
        return composed("pretrain", tuple(first(overrides)), trust).copy()

    def evaluation(self, overrides: Sequence[str]) -> DictConfig:
        return composed("evaluate", tuple(second(overrides)), frozenset()).copy()

    def settled(self, config: DictConfig) -> dict[str, Any]:
        whole = composition.plain(config)
        kept = {key: value for key, value in whole.items() if key not in (*pretraining.FREE, "seed")}
        text = json.dumps(kept | {"budget": whole["budget"]})
        start = json.dumps(f"{whole['data_dir']}/").removesuffix('"')  # of a path, as JSON spells it
        return json.loads(text.replace(start, '"DATA/'))

    def plain(self, part: DictConfig) -> Any:
        return OmegaConf.to_container(part, resolve=True)

    def targets(self, part: DictConfig) -> list[str]:
        return gate.named_in(part)

    def foreign(self, overrides: Sequence[str]) -> Trust:
        named = (word.split("=", 1) for word in overrides)
        return frozenset(value for key, value in named if key.endswith("_target_")) - gate.parts()

    def build(self, part: DictConfig) -> Any:
        return gate.instantiate(part, _convert_="all")

    def find_objective(self, config: DictConfig, trust: Trust) -> None:
        with gate.naming(trust):
            settings = OmegaConf.to_container(config.objective)
            gate.instantiate(OmegaConf.create({"_partial_": True, **settings}))  # pyright: ignore

    def pretrain(self, config: DictConfig, where: Path) -> None:
        cfg = config.copy()
        cfg.run = str(where)
        if pretraining.pretrain_from(cfg, {}).summary["stopped"]:  # by a signal; what it did is saved
            sys.exit(143)

    def draw(
        self, config: DictConfig, where: Path, data: Images | TextData, seed: int, recipe: Recipe
    ) -> None:
        make: Any = gate.instantiate(config.backbone, _convert_="all", _partial_=True)
        if isinstance(data, TextData):
            tokenizer = new_tokenizer(config, data, config.backbone)
            tokenizer.save(where / "tokenizer")
            vocabulary = tokenizer.vocabulary
            backbone = floors.fresh(lambda: make(vocabulary=vocabulary), seed)
            if recipe.floor in VECTORS:
                documents = word_floors.encoded(data.texts("train"), tokenizer)
                vectors = VECTORS[recipe.floor](documents, vocabulary, backbone.dim, seed, **recipe.options)
                backbone = word_floors.filled(backbone, vectors)
        else:
            backbone = floors.fresh(make, seed)
        OmegaConf.save(config, where / "config.yaml")
        hub.save(backbone, where / "backbone")

    def subject(self, where: Path, device: str) -> Subject:
        return evaluation.subject(where, None, device)

    def splits(self, config: DictConfig, data: ImageData | TextData, subject: Subject) -> evaluation.Splits:
        found = evaluation.read_splits(data, subject)
        return evaluation.before_test(found) if config.score == "validation" else found

    def settings(self, config: DictConfig, protocol: Protocol, subject: Subject | None) -> Iterator[Setting]:
        device = torch.device("cpu") if subject is None else subject.device
        for point in evaluation.sweep(config, protocol):
            yield Setting(point.protocol, point.steps, evaluation.options(config, point, device))

    def tfidf(self, config: DictConfig, data: TextData, how: dict[str, Any]) -> Result:
        return evaluation.tfidf(data, how, config.score)
