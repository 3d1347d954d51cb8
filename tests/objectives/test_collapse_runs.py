"""Each recipe for CIFAR-10, trained for 200 steps: its features do not collapse, and are what it claims.

Run by `make slow`; a recipe takes one to five minutes of one core. Validation rows alone are looked at.
"""

import os
import re
from pathlib import Path

import pytest
import torch
from hydra.utils import get_object
from omegaconf import DictConfig
from zoo_backbones import discover

import ssl_zoo
from ssl_zoo.compose import composition
from ssl_zoo.pretrain.checkpoint import newest

STEPS = 200
FOLDER = composition.config_folder() / "experiment"
RECIPES = sorted(path.stem for path in FOLDER.glob("cifar10_*.yaml"))

# The least effective rank and feature std after 200 steps, by family: about half of what the weakest recipe
# was seen to have with seed 0, and above a collapse to a point or a line. Seen were, as rank and std, on
# resnet_micro: SimCLR 89, 0.65; DCL 88, 0.65; VICReg 83, 0.65; DINO 78, 0.63; EMP-SSL 102, 0.58; jigsaw 92,
# 0.57; feature distillation 45, 0.64; on vit_micro: MSN 9.8, 0.60; data2vec 2.0 8.2, 0.19; SimMIM 4.2,
# 0.24. Random weights have 27 and 0.25 (resnet_micro, of 192 dimensions), or 17 and 0.67 (vit_micro, of 128).
FLOORS = {
    "contrastive": (5, 0.3),
    "decorrelation": (20, 0.3),
    "distillation": (4, 0.1),
    "clustering": (4, 0.2),
    "masked": (2, 0.1),
    "autoregressive": (2, 0.1),
    "pretext": (5, 0.1),
    "pairs": (5, 0.1),
    "reference": (5, 0.2),
    "composition": (2, 0.1),
}
# A header claims so much where it says "kNN 30.3 % (random weights 20.9 %".
CLAIM = re.compile(r"kNN (?P<knn>[\d.]+) % \(random weights (?P<random>[\d.]+) %")


def header(recipe: str) -> str:
    """The comment at the top of a recipe, as one line."""
    lines = (FOLDER / f"{recipe}.yaml").read_text(encoding="utf-8").splitlines()
    return " ".join(line.removeprefix("# ") for line in lines if line.startswith("#"))


def claims_worth(recipe: str) -> bool:
    """Whether a recipe says that 200 steps make its features better than random ones."""
    found = CLAIM.search(header(recipe))
    return found is not None and float(found["knn"]) > float(found["random"])


def family(cfg: DictConfig) -> str:
    """That of the objective which a recipe trains."""
    return get_object(cfg.objective._target_).family


def trained(recipe: str, out: Path, **others) -> ssl_zoo.Run:
    """200 steps of a recipe, with a look at the features before and after."""
    return ssl_zoo.pretrain(
        experiment=recipe,
        steps=STEPS,
        **{"budget.minutes": None, "evaluate_every": STEPS, "validation_limit": 256},
        **{"trainer": "cpu", "threads": 1, "progress": False, "out": out, **others},
    )


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """A run for recipes that learn from one."""
    return trained("cifar10_simclr", tmp_path_factory.mktemp("teacher")).path


def test_there_are_floors_for_every_family_of_image_objectives():
    assert {cls.family for cls in discover() if {"vit", "cnn"} & {*cls.takes}} <= FLOORS.keys()


def test_what_a_header_claims():
    assert CLAIM.search("validation: kNN 30.3 % (random weights 20.9 %, SimCLR 30.7 %)").groups() == (
        "30.3",
        "20.9",
    )


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_does_not_collapse(tmp_path, request, recipe):
    if "SSL_ZOO_DATA" not in os.environ:
        pytest.skip("SSL_ZOO_DATA does not name the data folder")
    cfg = composition.build("pretrain", [f"experiment={recipe}"])
    missing = [key for key, value in composition.flatten(cfg).items() if value == "???"]
    others = {key: str(request.getfixturevalue(key.rpartition(".")[2])) for key in missing}
    found = trained(recipe, tmp_path, **others).summary
    before = torch.load(newest(tmp_path / "checkpoints"))["untrained"]  # pyright: ignore
    rank, std = FLOORS[family(cfg)]
    print(f"{recipe}: {found['seconds']:.0f} s")
    for name in ("knn", "effective_rank", "feature_std"):
        print(f"  {name} {found[name]:.4g} (random weights {before[name]:.4g})")
    assert found["effective_rank"] > rank
    assert found["feature_std"] > std
    if claims_worth(recipe):
        assert found["knn"] > before["knn"]
