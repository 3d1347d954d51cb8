"""`ssl-zoo scale`: what it refuses, and a ladder end to end, stopped between rungs and gone on with."""

import json
import re

import pytest
import tiny
from omegaconf import OmegaConf
from PIL import Image

from ssl_zoo.cli import scale
from ssl_zoo.cli.scale_ladder import pretraining, rungs
from ssl_zoo.compose import composition
from ssl_zoo.compose.composition import ConfigError
from ssl_zoo.compose.step_cost import cost, open_data

TEXT = ("objective=next_token", "backbone=transformer_micro", "data=text_files", "tokenizer=bytes")
IMAGES = ("objective=mae_small", "backbone=vit_micro", "data=digits")
TINY = (
    *TEXT,
    *("data.train=text.txt", "context=16", "batch_size=4", "backbone.depth=1", "backbone.heads=2"),
    *("validation_limit=16", "optimizer.lr=1e-2", "trainer=cpu", "threads=1", "run=ladder", "resamples=50"),
    *("widths=[8,16]", "steps=[2,5]"),
)


def composed(*words: str):
    return composition.build("scale", list(words))


def test_rungs_are_sizes_crossed_with_budgets_and_seeds():
    cfg = composed(
        *TEXT,
        "data.train=x",
        "widths=[64,96]",
        "+ladder.backbone.depth=[2,3]",
        "steps=[20,10]",
        "seeds=[0,1]",
    )
    composition.check(
        "scale", [*TEXT, "data.train=x", "widths=[64,96]", "+ladder.backbone.depth=[2,3]", "steps=[2]"]
    )
    found = rungs(cfg)
    assert [rung.name for rung in found][:5] == [
        "width64-depth2-steps10-s0",
        "width64-depth2-steps10-s1",
        "width64-depth2-steps20-s0",
        "width64-depth2-steps20-s1",
        "width96-depth3-steps10-s0",
    ]
    assert len(found) == 8
    own = pretraining(cfg, found[-1], found[-1].name)
    assert (own.backbone.width, own.backbone.depth, own.budget, own.seed) == (96, 3, {"steps": 20}, 1)
    assert own.run == "width96-depth3-steps20-s1"
    words = (*TEXT, "data.train=x", "backbone.width=96", "backbone.depth=3", "budget.steps=20", "seed=1")
    plain = composition.build("pretrain", [*words, f"run={own.run}"])
    assert own.keys() == plain.keys()
    assert composition.plain(own) | {"budget": None} == composition.plain(plain) | {"budget": None}


def test_sizes_of_any_key_and_one_seed_from_pretraining():
    cfg = composed(
        *IMAGES, "+ladder.backbone.embed_dim=[16,32]", "+ladder.optimizer.lr=[1e-2,1e-3]", "steps=7", "seed=4"
    )
    found = rungs(cfg)
    assert [rung.name for rung in found] == ["embed_dim16-lr0.01-steps7-s4", "embed_dim32-lr0.001-steps7-s4"]
    assert pretraining(cfg, found[1], found[1].name).optimizer.lr == 0.001


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), r"the ladder has no sizes: give widths=\[64,96,128\]"),
        (("widths=64",), "ladder.backbone.width=64 must be a list"),
        (("widths=[64,few]",), "ladder.backbone.width: 'few' is a text; it takes a whole number"),
        (("widths=[64,64]",), "holds width64-steps2-s0 twice"),
        (("widths=[64]", "steps=[]"), r"steps=\[\] must be whole numbers from 1 on"),
        (("widths=[64]", "steps=[0]"), r"steps=\[0\] must be whole numbers"),
        (("widths=[64]", "steps=[1.5]"), r"steps=\[1.5\] must be whole numbers"),
        (("widths=[64]", "seeds=[-1]"), r"seeds=\[-1\] must be whole numbers from 0 on"),
        (("widths=[64,96]", "+ladder.backbone.depth=[2]"), r"\(backbone.width 2, backbone.depth 1\)"),
        (("+ladder.backbone.dept=[2]",), r"no key 'backbone.dept'; did you mean 'backbone.depth'\?"),
        (("+ladder.data.train=[a,b]",), "losses do not compare between rungs of different data.train"),
        (("+ladder.seed=[1,2]",), "losses do not compare between rungs of different seed"),
        (("widths=[64]", "trainer.devices=2"), "one after the other in one process: take trainer.devices=1"),
    ],
)
def test_ladders_that_cannot_be(words, said):
    cfg = composed(*TEXT, "data.train=x", "steps=[2]", *words)
    with pytest.raises(ConfigError, match=said):
        rungs(cfg)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("width=[64]",), r"there is no key 'width'; did you mean 'widths'\?"),
        (("budget.steps=50",), r"there is no key 'budget.steps'; did you mean 'steps'\?"),
        (("resamples=many",), "resamples='many' is a text; it takes a whole number"),
    ],
)
def test_words_that_do_not_compose(words, said):
    with pytest.raises(ConfigError, match=said):
        composition.check("scale", [*TEXT, "data.train=x", "steps=[2]", *words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A text that a small model learns at once."""
    made = tmp_path_factory.mktemp("scale")
    (made / "text.txt").write_text("\n\n".join(f"document {i} speaks of {i * 7}" for i in range(120)))
    return made


def killed_after(folder, cache, count: int, words: tuple[str, ...]) -> None:
    """The command, in a process that dies when so many rungs are finished."""
    done, finish = [], scale.finish

    def fatal(*args):
        record = finish(*args)
        done.append(record)
        if len(done) == count:
            tiny.die()
        return record

    scale.finish = fatal
    tiny.called(folder, cache, words)


def test_a_ladder_end_to_end(folder, tmp_path):
    """Killed after two rungs, the ladder goes on with the third, and leaves the finished two as they are."""
    words = ("scale", *TINY)
    code, printed = tiny.forked(folder / "first", killed_after, folder, tmp_path, 2, words)
    assert code == -9, printed
    done = sorted(path.parent.name for path in folder.glob("ladder/*/rung.json"))
    assert done == ["width8-steps2-s0", "width8-steps5-s0"]
    before = times(folder)
    code, printed = tiny.command(folder, tmp_path, *words)
    assert code == 0, printed
    assert re.search(r"4 rungs, \S+ FLOPs; 2 finished", printed)
    after = times(folder)
    assert {path: after[path] for path in before} == before
    assert len(after) > len(before)

    found = json.loads((folder / "ladder/scale.json").read_text())
    assert [rung["name"] for rung in found["rungs"]] == [
        f"width{width}-steps{steps}-s0" for width in (8, 16) for steps in (2, 5)
    ]
    for rung in found["rungs"]:
        own = folder / "ladder" / rung["name"]
        summary = json.loads((own / "summary.json").read_text())
        config = OmegaConf.load(own / "config.yaml")
        assert (summary["steps"], config.backbone.width) == (rung["steps"], rung["words"]["backbone.width"])
        assert (rung["loss"], rung["seconds"]) == (summary["val/loss"], summary["seconds"])
        assert rung["losses"].keys() == {"val/loss", "val/nats_per_token", "val/bits_per_byte"}
        assert rung["units"] == rung["steps"] * 4 * 16 == summary["tokens"]
        assert rung["flops"] == rung["steps"] * rung["flops_per_step"]
        assert rung["parameters"] == rung["backbone_parameters"] == summary["backbone_parameters"]
        assert 6 < rung["flops_per_step"] / (64 * rung["parameters"]) < 12  # 6 N a token, attention and norms
        assert re.search(rf"{rung['size']} +{rung['steps']} +0 +{rung['parameters']:,} ", printed)
        assert f"{rung['loss']:.4f}" in printed
    svg, html = ((folder / "ladder" / f"scale.{kind}").read_text() for kind in ("svg", "html"))
    assert svg.startswith("<svg")
    assert "width16" in svg
    assert all(f"<td>{rung['loss']:.4f}</td>" in html for rung in found["rungs"])


def times(folder) -> dict[str, int]:
    """File -> when it was last written, for every file of the rungs."""
    return {str(path): path.stat().st_mtime_ns for path in folder.glob("ladder/*/**/*") if path.is_file()}


def test_a_rung_of_other_settings_is_not_gone_on_with(folder, tmp_path):
    """Needs the ladder above."""
    code, printed = tiny.command(folder, tmp_path, "scale", *TINY, "optimizer.lr=1e-3")
    assert code == 1
    assert "width8-steps2-s0 holds a run of other settings (optimizer.lr: 0.01 -> 0.001)" in printed
    code, printed = tiny.command(folder, tmp_path, "scale", *TINY, "validation_limit=8")
    assert code == 1
    assert "width8-steps2-s0 was finished with validation_limit=16, not 8" in printed


def test_no_validation_no_ladder(folder, tmp_path):
    words = (*TINY, "run=other", "data.validation_fraction=0")
    code, printed = tiny.command(folder, tmp_path, "scale", *words)
    assert code == 1
    assert "text_files has no validation split, whose loss scale compares" in printed
    assert not (folder / "other").exists()


def test_images_with_captions_are_images_where_the_objective_reads_no_text(tmp_path):
    for i in range(8):
        Image.new("RGB", (16, 16), (30 * i, 0, 0)).save(tmp_path / f"{i}.png")
    lines = "".join(f"{i}.png,number {i}\n" for i in range(8))
    (tmp_path / "table.csv").write_text("image,caption\n" + lines)
    cfg = composed(
        "objective=rotation", "backbone=resnet_micro", "data=image_captions", "data.image_size=16",
        f"data.train={tmp_path / 'table.csv'}", "data.validation_fraction=0.25", "data.unpack=false",
        "batch_size=4", "steps=1", "trainer=cpu",
    )  # fmt: skip
    data, tokenizer = open_data(cfg)
    assert tokenizer is None
    one = cost(cfg, data, tokenizer)
    assert (one.units, one.unit) == (4, "images")
    assert one.parameters > one.backbone_parameters > 0


def test_too_few_runs_are_not_fitted():
    record = {"name": "a", "size": "a", "seed": 0, "unit": "tokens", "parameters": 10, "units": 100}
    record |= {"flops": 1e9, "loss": 2.0, "steps": 5, "seconds": 1.0}
    found = scale.outcome([record, record | {"size": "b", "flops": 2e9, "loss": 3.0}], 10)
    assert [rung["frontier"] for rung in found["rungs"]] == [True, False]
    printed = scale.text(found)
    assert "not fitted to the 1 runs of the frontier. L(C) has 3 parameters" in printed
    assert "there are 1: add 3 more" in printed
    assert "L(N, D) has 5 parameters" in printed
    assert "refused" in found["fits"][0]


def test_a_flat_ladder_says_that_it_is_flat():
    law = {"law": "L(C) = E + A / C^alpha", "runs": 5, "residual": 0.01, "resamples": 10, "seed": 0}
    law |= {"parameters": {"alpha": {"value": 0.1, "low": -0.1, "high": 0.3}}, "contains_0": ["alpha"]}
    assert "The interval of alpha contains 0: these runs do not show that the loss falls" in scale.law_text(
        law
    )
