"""Hydra composes as often as it must: what is left out gives the same configuration."""

import pytest
import tiny
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode
from omegaconf import OmegaConf

from ssl_zoo.compose import composition, gate

WORDS = ["objective=simclr", "backbone=resnet_micro", "data=digits", "budget.steps=1"]


def loader(kind=ConfigLoaderImpl, *typed):
    return kind(*typed, create_config_search_path(str(composition.config_folder())))


@pytest.mark.parametrize(
    "values",
    [
        ["optimizer.lr=3e-3", "seed=7"],
        ["++optimizer={lr: 0.02, weight_decay: 0}", "data.image_size=16", "run='a b'"],
        ["~trainer.precision", "+objective.memory=4", "optimizer.lr=null"],
    ],
)
def test_values_are_given_as_a_composition_gives_them(values):
    base = composition.build("pretrain", WORDS[:3])
    whole = composition.build("pretrain", WORDS[:3] + values)
    made = composition.valued(base, values)
    assert made is base
    assert OmegaConf.to_container(made) == OmegaConf.to_container(whole)


@pytest.mark.parametrize("word", ["optimizer.lr=1e-3,1e-2", "seed=range(3)", "hydra.run.dir=x"])
def test_sweeps_and_words_for_hydra_are_for_all_of_hydra(word):
    assert composition.valued(composition.build("pretrain", WORDS[:3]), ["seed=1", word]) is None


def test_the_look_up_of_the_mode_is_the_composition_that_runs(monkeypatch):
    composed = []
    original = ConfigLoaderImpl.load_configuration
    monkeypatch.setattr(
        ConfigLoaderImpl, "load_configuration", lambda *a, **o: composed.append(a[1]) or original(*a, **o)
    )
    gated = loader(gate.Loader, ())
    looked = gated.load_configuration("pretrain", WORDS, RunMode.MULTIRUN, validate_sweep_overrides=False)
    assert looked.hydra.mode is None
    words = [*WORDS, "hydra.mode=RUN"]
    ran = gated.load_configuration("pretrain", words, RunMode.RUN)
    assert composed.count("pretrain") == 1
    alone = loader().load_configuration("pretrain", words, RunMode.RUN)
    assert OmegaConf.to_container(ran) == OmegaConf.to_container(alone)
    again = gated.load_configuration("pretrain", words, RunMode.RUN)
    assert again is not ran, "one that ran may have been changed"


def test_a_file_may_choose_the_mode_and_what_is_swept(tmp_path):
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "own/experiment/both.yaml").write_text(
        "# @package _global_\n"
        "defaults: [override /objective: rotation, override /backbone: resnet_micro, override /data: digits]"
        "\nhydra: {mode: MULTIRUN, sweeper: {params: {seed: '1,2'}}}\n"
    )
    words = ("experiment=both", "run=runs/${seed}", "budget.steps=1", "batch_size=16", "validation_limit=64")
    code, printed = tiny.command(
        tmp_path, tmp_path / "cache", "pretrain", "--config-dir", str(tmp_path / "own"), *words, "trainer=cpu"
    )
    assert code == 0, printed
    assert sorted(one.name for one in (tmp_path / "runs").iterdir()) == ["1", "2"]
