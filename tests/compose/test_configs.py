"""Every YAML composes, names what exists with arguments that it takes, and builds."""

import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from zoo_backbones import SIDE, VOCABULARY, backbone, build

from ssl_zoo import hub
from ssl_zoo.backbones._base import KINDS
from ssl_zoo.backbones._timm import ResNet, VisionTransformer
from ssl_zoo.backbones.cnn import TimmCNN
from ssl_zoo.backbones.vision import TimmViT, timm_backbone
from ssl_zoo.compose import composition
from ssl_zoo.compose.composition import flatten, plain
from ssl_zoo.compose.gate import parts
from ssl_zoo.compose.objective import with_vocabulary
from ssl_zoo.compose.places import options
from ssl_zoo.data.tokenizer import Tokenizer, bpe
from ssl_zoo.objectives._base import Objective
from ssl_zoo.objectives.next_token import NextToken
from ssl_zoo.transfer.measures import Measure

BACKBONE = {"image": "vit_micro", "text": "transformer_micro"}
DATA = {"image": "digits", "text": "stdlib"}
FOLDER = TemporaryDirectory()  # removed when the tests end
OWN = "ssl_zoo.objectives.rotation.Rotation"  # stands for the user's class in objective=custom


def composed(verb: str, *words: str) -> DictConfig:
    """Hydra's composition; what the user has to say is filled in."""
    cfg = composition.build(verb, list(words))
    for key, value in flatten(cfg).items():
        if value == "???":
            OmegaConf.update(cfg, key, OWN if key == "objective._target_" else given())
    return cfg


@cache
def given() -> str:
    """What the user has to say: where a trained backbone is, which does for any other text."""
    return str(hub.save(backbone("cnn"), Path(FOLDER.name) / "given"))


@cache
def modality_of(data: str) -> str:
    """Of the data set of this name."""
    text = (composition.config_folder() / "data" / f"{data}.yaml").read_text()
    return "image" if "data.images." in text else "text"


@cache
def with_objective(name: str) -> DictConfig:
    """The objective with a backbone and data of a modality that it reads."""
    for modality in ("image", "text"):
        words = (f"objective={name}", f"backbone={BACKBONE[modality]}", f"data={DATA[modality]}")
        cfg = composed("pretrain", *words)
        reads = {KINDS[kind][0] for kind in kinds(plain(cfg)["objective"])}
        if modality in reads and name != "simcse":  # SimCLR takes both; this recipe of it is for text
            break
    assert modality in reads
    return cfg


@cache
def with_data(name: str) -> DictConfig:
    """The data with a backbone and an objective that read it."""
    image = modality_of(name) == "image"
    objective = "simclr" if image else "next_token"
    return composed(
        "pretrain", f"objective={objective}", f"backbone={BACKBONE[modality_of(name)]}", f"data={name}"
    )


def targets(tree: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node that builds something."""
    if isinstance(tree, dict):
        if "_target_" in tree:
            yield path, tree
        for key, value in tree.items():
            yield from targets(value, f"{path}.{key}".lstrip("."))
    elif isinstance(tree, list):
        for i, value in enumerate(tree):
            yield from targets(value, f"{path}.{i}")


def check_keys(cfg: dict[str, Any]) -> set[str]:
    """Every `_target_` exists and takes the keys beside it; where they are."""
    found = set()
    for path, node in targets(cfg):
        made = get_object(node["_target_"])
        known = set(inspect.signature(made).parameters)
        if made in (timm_backbone, TimmViT, TimmCNN):  # the rest goes on to timm
            for cls in (TimmViT, TimmCNN, VisionTransformer, ResNet):
                known |= set(inspect.signature(cls).parameters)
        written = {key for key in node if key not in ("_target_", "_partial_", "_convert_")}
        assert written <= known, f"{path}: {made.__name__} takes no {sorted(written - known)}"
        assert node["_target_"] in parts(), path
        found.add(path)
    return found


def kinds(objective: dict[str, Any]) -> set[str]:
    """The kinds of backbone that a configured objective is meant for: what all its terms take."""
    nodes = [node for _, node in targets(objective)]
    classes = [get_object(node["_target_"]) for node in nodes]
    takes = [set(cls.takes) for cls in classes if isinstance(cls, type) and issubclass(cls, Objective)]
    seen_by_images_only = any("view" in node for node in nodes)
    return {k for k in set.intersection(*takes) if KINDS[k][0] == "image" or not seen_by_images_only}


def test_the_groups_are_found():
    for group in ("objective", "backbone", "optimizer", "schedule", "tokenizer", "trainer", "protocol"):
        assert len(options(group)) >= 2
    assert {modality_of(name) for name in options("data")} == {"image", "text"}


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("objective", options("objective"))
def test_objective_resolves_with_all_data_that_it_reads(objective, every):
    """Groups meet only in interpolations, so data composed elsewhere is put in: 50 times as fast. In each run
    of the tests every fourth set, other ones for each objective."""
    tried, turn = 0, options("objective").index(objective)
    cfg = with_objective(objective).copy()
    modalities = {KINDS[kind][0] for kind in kinds(plain(cfg)["objective"])}
    read = [data for data in options("data") if modality_of(data) in modalities]
    for data in read if every else read[turn % 4 :: 4]:
        with open_dict(cfg):
            cfg.data = with_data(data).data
            cfg.backbone = with_data(data).backbone
        settings = plain(cfg)
        assert {"objective", "backbone", "data", "optimizer", "schedule"} <= check_keys(settings)
        if modality_of(data) == "image":
            assert settings["backbone"]["image_size"] == settings["data"]["image_size"]
        tried += 1
    assert tried >= (8 if every else 2)


def test_data_put_in_is_data_composed():
    cfg = with_objective("mae_simclr").copy()
    with open_dict(cfg):
        cfg.data = with_data("eurosat").data
    words = ("objective=mae_simclr", "backbone=vit_micro", "data=eurosat")
    assert plain(cfg) == plain(composed("pretrain", *words))


@pytest.mark.parametrize("name", options("backbone"))
def test_backbone_composes(name):
    text = name.startswith(("transformer", "hf", "modernbert"))
    words = ("objective=simclr", f"backbone={name}", f"data={DATA['text' if text else 'image']}")
    assert "backbone" in check_keys(plain(composed("pretrain", *words)))


@pytest.mark.parametrize(
    ("group", "name"),
    [(g, n) for g in ("guard", "optimizer", "schedule", "tokenizer", "trainer") for n in options(g)],
)
def test_other_choices_compose(group, name):
    words = ("objective=next_token", "backbone=transformer_micro", "data=stdlib", f"{group}={name}")
    check_keys(plain(composed("pretrain", *words)))


@pytest.mark.parametrize("name", options("experiment"))
def test_experiment_composes(name):
    cfg = plain(composed("pretrain", f"experiment={name}"))
    assert {"objective", "backbone", "data"} <= check_keys(cfg)
    assert sum(value is not None for value in cfg["budget"].values()) == 1, "exactly one budget"


@pytest.mark.parametrize("name", options("protocol"))
def test_protocol_composes_and_builds(name):
    cfg = composed("evaluate", f"protocol={name}", "data=digits", "run=given")
    assert "protocol" in check_keys(plain(cfg))
    made = instantiate(cfg.protocol)
    assert made.name
    assert callable(made.begin if isinstance(made, Measure) else made.fit)


def test_every_file_says_in_its_first_line_what_it_is():
    for file in sorted(composition.config_folder().glob("*/*.yaml")):
        first = file.read_text().splitlines()[0]
        if first == "# @package _global_":
            first = file.read_text().splitlines()[1]
        assert re.match(r"# \S.{10,}", first), file


def test_every_option_has_a_user():
    """A key of pretrain.yaml or evaluate.yaml is read by its verb, or by another key."""
    words = ("objective=next_token", "backbone=transformer_micro", "data=stdlib")
    for verb, room, chosen in (("pretrain", "pretraining", words), ("evaluate", "evaluation", words[2:])):
        files = [f"{room}.py", "objective.py"]
        code = "".join((Path(composition.__file__).parent / file).read_text() for file in files)
        text = "".join(f.read_text() for f in composition.config_folder().rglob("*.yaml"))
        for key in composition.build(verb, list(chosen)):
            read = f"cfg.{key}" in code or f'"{key}"' in code or f"${{{key}}}" in text
            assert read or key == "experiment", f"{verb}.yaml: nothing reads {key}"


kept = cache(backbone)


@pytest.mark.parametrize("name", options("objective"))
def test_objective_builds_on_every_kind_it_is_meant_for(name, monkeypatch):
    # Heads are as large as the paper's: to draw their weights takes longer than all else.
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda weight, *_, **more: weight)
    cfg = with_objective(name)
    assert cfg.data.get("image_size", SIDE) == SIDE, "as the tiny backbones have"
    make = with_vocabulary(instantiate(cfg.objective, _convert_="all"), VOCABULARY)
    works, meant = set(), kinds(plain(cfg)["objective"])
    for kind in KINDS:
        try:
            made = make(backbone(kind) if kind in meant else kept(kind))
        except ValueError:
            continue
        assert isinstance(made, Objective)
        works.add(kind)
    assert works == meant
    assert works


@pytest.mark.parametrize("name", options("optimizer"))
def test_optimizer_builds_and_steps(name):
    words = ("objective=next_token", "backbone=transformer_micro", "data=stdlib", f"optimizer={name}")
    cfg = composed("pretrain", *words).optimizer
    objective = build(NextToken, backbone("transformer"))
    optimizer = instantiate(cfg, _convert_="all")(objective)
    assert {group["lr"] for group in optimizer.param_groups} == {cfg.lr}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {cfg.weight_decay, 0.0}
    before = [p.detach().clone() for p in objective.parameters()]
    for parameter in objective.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all(not torch.equal(p, q) for p, q in zip(objective.parameters(), before, strict=True))


@pytest.mark.parametrize("name", options("schedule"))
def test_schedule_builds(name):
    words = ("objective=next_token", "backbone=transformer_micro", "data=stdlib", f"schedule={name}")
    factor = instantiate(composed("pretrain", *words).schedule)
    assert factor(0.1) == pytest.approx(1, abs=0.05)
    assert all(0 <= factor(t / 100) <= 1 for t in range(101))


@pytest.mark.parametrize("name", options("tokenizer"))
def test_tokenizer_builds(tmp_path, name):
    words = ("objective=next_token", "backbone=transformer_micro", "data=stdlib", f"tokenizer={name}")
    cfg = composed("pretrain", *words).tokenizer
    texts = ["the cat sat on the mat", "a second text, and a third"] * 20
    if name == "pretrained":  # by path: what BPE saves
        bpe(texts, size=300).save(tmp_path)
        cfg.name = str(tmp_path)
    if name == "bpe":
        cfg.size = 300
    tokenizer = instantiate(cfg, _convert_="all")(texts)
    assert isinstance(tokenizer, Tokenizer)
    (ids,) = tokenizer.encode(texts[:1])
    assert tokenizer.decode(ids.tolist()) == texts[0]
    assert max(ids) < tokenizer.vocabulary.size


def test_trainer_and_budget_keys_are_those_of_what_takes_them():
    from lightning import Trainer

    from ssl_zoo.pretrain import Budget, pretrain

    known = {*inspect.signature(Trainer).parameters, *inspect.signature(pretrain).parameters}
    words = ("objective=next_token", "backbone=transformer_micro", "data=stdlib")
    for name in options("trainer"):
        cfg = plain(composed("pretrain", *words, f"trainer={name}"))
        assert set(cfg["trainer"]) <= known
        assert set(cfg["budget"]) == set(inspect.signature(Budget).parameters)
