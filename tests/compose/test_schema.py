"""Types of keys: they and the YAML files name the same keys, and what they say is checked."""

import pytest
from omegaconf import ListConfig, OmegaConf

from ssl_zoo.compose import composition, refusals, schema
from ssl_zoo.compose.composition import ConfigError
from ssl_zoo.compose.gate import config_folder

IMAGES = ["objective=simclr_small", "backbone=resnet_micro", "data=digits"]


@pytest.mark.parametrize("verb", schema.VERBS)
def test_every_key_has_a_type_that_its_default_has(verb):
    raw = OmegaConf.load(config_folder() / f"{verb}.yaml")
    names = [key for key in raw if key not in ("defaults", "hydra")]
    assert set(names) == set(vars(schema.VERBS[verb])["__annotations__"]) - {"guard", "trainer", "backbone"}
    found, types = composition.flatten(OmegaConf.masked_copy(raw, names)), schema.types_of(verb)
    for key, value in found.items():
        given = refusals.is_open(value) or "${" in str(value)
        assert given or (verb, key) == ("scale", "budget") or schema.fits(value, types[key]), key


@pytest.mark.parametrize("group", ["guard", "trainer"])
def test_the_keys_of_groups_that_build_nothing_have_types(group):
    for file in (config_folder() / group).glob("*.yaml"):
        raw = OmegaConf.load(file)
        for key in set(raw) - {"defaults"}:
            assert schema.fits(raw[key], schema.types_of("pretrain")[f"{group}.{key}"]), (file.name, key)


def test_plain_annotations_are_understood():
    assert schema.parse_annotation("int") is int
    assert schema.name_type(schema.parse_annotation("float | None")) == "a number, or null"
    assert schema.name_type(schema.parse_annotation("Literal['a', 'b'] | None")) == "a, b, or null"
    assert schema.fits(ListConfig([1, 2.5]), schema.parse_annotation("Sequence[float]"))
    assert not schema.fits(ListConfig([1, "x"]), schema.parse_annotation("tuple[float, float]"))
    assert schema.parse_annotation("Path | None") is None


@pytest.mark.parametrize(
    ("value", "hint", "there"),
    [(True, int, False), (True, bool | str, True), (3, float, True), (2.0, int, False), ("x", str, True),
     (7, str, True), (None, int | None, True), (None, int, False), ("x", int | str, True)],
)  # fmt: skip
def test_values_and_types(value, hint, there):
    assert schema.fits(value, hint) is there


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("threads=few", "threads='few' is a text; it takes a whole number, or null"),
        ("clip=-1", "clip=-1 is too small; it takes 0 or more"),
        ("budget.epochs=many", "it takes a number, or null"),
        ("budget.steps=1.5", "budget.steps=1.5 is a number; it takes a whole number, or null"),
        ("templates=one", "templates='one' is a text; it takes a list, or null"),
        ("trainer.precision=null", "trainer.precision=null: it takes a text, for example '32-true'"),
        ("optimizer.lr=null", "optimizer.lr=null: it takes a number, for example 0.001"),
        ("objective.temperature=warm", "objective.temperature='warm' is a text; it takes a number"),
        ("data.unpack=1", "data.unpack=1 is a whole number; it takes a truth value"),
        ("trainer.devices=1.5", "it takes a whole number, a text, or a list"),
        ("data.on_bad_sample=keep", "it takes raise, or skip"),
        ("guard.figure=loss", "guard.figure='loss' is a text; it takes knn, effective_rank, or null"),
        ("guard.patience=0", "guard.patience=0 is too small; it takes 1 or more"),
    ],
)
def test_what_a_key_takes_is_said(word, said):
    with pytest.raises(ConfigError) as error:
        composition.settle("pretrain", [*IMAGES, "guard=knn", word])
    assert said in str(error.value)


def test_what_fits_passes():
    fitting = ["threads=2", "trainer.devices=auto", "backbone.pretrained=x.pt", "budget.epochs=1", "clip=1"]
    composition.check(
        "pretrain", [*IMAGES, *fitting, "templates=['a {}']", "optimizer.lr=1", "data.cache=null"]
    )
    composition.check("pretrain", [*IMAGES, "trainer.devices=[0,1]"])
