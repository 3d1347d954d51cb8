"""Keys of other libraries, and keys of other verbs: what is answered."""

from typing import cast

import pytest
from omegaconf import DictConfig, OmegaConf

from ssl_zoo.compose.composition import ConfigError, check, config_folder
from ssl_zoo.compose.habits import ELSEWHERE, WRITTEN
from ssl_zoo.compose.keys import flatten, groups_of, top_keys
from ssl_zoo.compose.overrides import flags
from ssl_zoo.compose.places import options
from ssl_zoo.compose.schema import VERBS
from ssl_zoo.compose.shorthand import with_positions
from ssl_zoo.compose.signatures import signature

TEXTS = ["objective=masked_lm", "backbone=transformer_micro", "data=ag_news", "budget.steps=1"]


def refused(verb, *words):
    with pytest.raises(ConfigError) as error:
        check(verb, list(words))
    return str(error.value)


def settable(key):
    """Whether a verb, or a choice of a group, takes the key."""
    if any(key in top_keys(verb) or key in groups_of(verb) for verb in VERBS):
        return True
    group, _, inner = key.partition(".")
    if group == "budget":
        return inner in signature("ssl_zoo.pretrain.budget.Budget").names
    for name in options(group):
        cfg = cast(DictConfig, OmegaConf.load(config_folder() / group / f"{name}.yaml"))
        taken = signature(str(cfg.get("_target_")))
        if inner in flatten(cfg) or (taken and inner in taken.names):
            return True
    return False


def test_every_answer_is_a_key_and_no_word_is_written_twice():
    assert [key for key in ELSEWHERE if not settable(key)] == []
    assert not settable("backbone.hidden_size")  # the check can fail
    for words in (WRITTEN, *ELSEWHERE.values()):
        assert len(words.split()) == len({*words.split()})
    assert [key for key, words in ELSEWHERE.items() if key in words.split()] == []


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("output_dir=x", "'run'"),
        ("learning_rate=1e-3", "'optimizer.lr'"),
        ("max_steps=5", "'budget.steps'"),
        ("num_workers=2", "'workers'"),
        ("block_size=64", "'context'"),
        ("gpus=2", "'trainer.devices'"),
        ("method=simclr", "'objective'"),
        ("model=gpt2", "'backbone'"),
        ("vocab_size=100", "'tokenizer.size'"),
        ("backbone.hidden_size=64", "'backbone.width'"),
        ("mlm_probability=0.3", "'objective.mask.rate'"),
        ("checkpoint=x", "'init'"),
        ("gradient_checkpointing=true", "'recompute'"),
    ],
)
def test_a_word_of_another_library_is_answered_with_the_key(word, meant):
    key = word.partition("=")[0]
    assert refused("pretrain", *TEXTS, word) == f"there is no key {key!r}; did you mean {meant}?"


def test_no_word_that_only_looks_alike_is_offered_where_the_verb_has_no_such_key():
    assert refused("pretrain", *TEXTS, "img_size=64") == "there is no key 'img_size'"
    assert refused("evaluate", "run=x", "data=ag_news", "lr=1e-3") == "there is no key 'lr'"


def test_verbs_are_answered_with_keys_of_their_own():
    assert "'labels'" in refused("evaluate", "x", "ag_news", "shots=5")
    assert "'protocol.lrs'" in refused("finetune", "x", "ag_news", "learning_rate=1e-3")
    assert "'steps'" in refused("finetune", "x", "ag_news", "epochs=3")
    assert "'out'" in refused("embed", "x", "ag_news", "output=vectors.npy")
    assert "'tokens'" in refused("generate", "x", "max_new_tokens=5")
    assert "'to'" in refused("export", "x", "format=onnx")


def test_a_part_that_only_pretraining_chooses_is_refused_by_the_other_verbs():
    told = "evaluate reads no backbone; pretrain and scale do"
    assert refused("evaluate", "x", "ag_news", "backbone=vit_tiny") == f"backbone=vit_tiny: {told}"
    assert (
        refused("evaluate", "x", "ag_news", "backbone.width=3") == f"there is no key 'backbone.width': {told}"
    )
    assert refused("predict", "x", "protocol=knn").endswith(
        "predict reads no protocol; evaluate and finetune do"
    )


def test_a_key_that_is_wrong_is_not_taken_for_a_path():
    assert refused("predict", "run=runs/x") == "there is no key 'run'; did you mean 'model'?"
    assert (
        refused("evaluate", "model=runs/x", "data=ag_news") == "there is no key 'model'; did you mean 'run'?"
    )
    assert with_positions("evaluate", ["x", "year=2026/part-1.csv"])[1] == "data='year=2026/part-1.csv'"
    assert with_positions("generate", ["x", "a=b"])[1] == "prompt='a=b'"


def test_the_second_word_of_export_is_the_library():
    assert with_positions("export", ["x", "onnx"]) == ["run='x'", "to='onnx'"]


def test_a_key_with_dashes_before_it_is_told_how_keys_are_written():
    for word in ("--output-dir", "--output-dir=x"):
        with pytest.raises(
            ConfigError, match=r"^there is no flag --output-dir; keys are written without dashes"
        ):
            flags([word])


def test_a_choice_without_its_group_is_answered_with_the_group():
    assert refused("pretrain", "crops") == "'crops' is not KEY=VALUE; did you mean objective=crops?"
    assert refused("evaluate", "x", "ag_news", "knn").endswith("did you mean protocol=knn?")
    assert refused("pretrain", "elsewhere") == "'elsewhere' is not KEY=VALUE"
