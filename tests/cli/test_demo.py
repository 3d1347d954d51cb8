"""The demo at toy size: its files, its tables, and that every number comes from an evaluation."""

from __future__ import annotations

import json
import shlex
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from ssl_zoo.cli import demo_parts as demo
from ssl_zoo.cli import demo_plots
from ssl_zoo.cli.demo import demo as run_verb
from ssl_zoo.compose import composition
from ssl_zoo.data import stdlib_roles
from ssl_zoo.data.rows import DataError
from ssl_zoo.transfer.report import interval

QUICK = ("protocol.lrs=[1e-3]", "protocol.steps=2", "protocol.batch_size=8")
SHORT = ("budget.steps=2", "evaluate_every=1", "log_every=1", "batch_size=8")
TOYS = (
    demo.Part(
        "images",
        (*demo.PARTS[0].pretrain, *SHORT, "backbone.channels=[8,8,8,8]", "data.image_size=16"),
        (*demo.PARTS[0].transfer, *QUICK, "data.image_size=16"),
        (1, 2),
        (0, 1),
    ),
    demo.Part(
        "text",
        (
            *demo.PARTS[1].pretrain,
            *SHORT,
            "tokenizer.size=512",
            "backbone.width=16",
            "backbone.depth=1",
            "context=16",
        ),
        (*demo.PARTS[1].transfer, *QUICK, "length=8"),
        (1, 2),
        (0, 1),
    ),
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory):
    """The demo, run once; its folder and outcomes, and what it said."""
    folder = tmp_path_factory.mktemp("demo")
    said: list[str] = []
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("SSL_ZOO_CACHE", str(folder / "cache"))
        patch.setattr(demo, "PARTS", TOYS)
        patch.setattr(demo, "say", said.append)
        patch.setattr(demo_plots, "SHOWN", 100)
        # tensorboard's protobuf, at its first import.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        outcomes = demo.run(folder / "a, b=c", seed=3)  # a folder that Hydra does not read unquoted
    torch.set_num_threads(threads)
    return folder / "a, b=c", outcomes, "\n".join(said)


def test_tables_have_every_row_at_every_budget(toy):
    _, outcomes, said = toy
    for outcome, floor in zip(
        outcomes, ("raw pixels, linear probe", "TF-IDF, logistic regression"), strict=True
    ):
        rows = [
            demo.SCRATCH,
            "random, frozen, linear probe",
            floor,
            "pretrained, frozen, linear probe",
            demo.TUNED,
        ]
        assert [(name, result.labels) for name, result in outcome.results] == [
            (name, labels) for labels in (1, 2) for name in rows
        ]
        assert outcome.text() in said
        lines = outcome.text().splitlines()
        assert [line.split("  ")[0] for line in lines[3:]] == [*rows, "gain of pretraining, fine-tuned"]
        for result in outcome.named(demo.TUNED):
            assert result.text() in lines[-2]


def test_json_holds_the_evaluations(toy):
    folder, outcomes, _ = toy
    for outcome in outcomes:
        report = json.loads((folder / f"{outcome.part.name}.json").read_text())
        assert len(report["results"]) == 10
        for (name, result), written in zip(outcome.results, report["results"], strict=True):
            assert (written["name"], tuple(written["values"])) == (name, result.values)
            assert written["mean"] == pytest.approx(sum(result.values) / 2)
            assert written["test"] == len(outcome.splits.test)
        for gain, scratch, tuned in zip(
            report["gains"], outcome.named(demo.SCRATCH), outcome.named(demo.TUNED), strict=True
        ):
            differences = [a - b for a, b in zip(tuned.values, scratch.values, strict=True)]
            span = interval(differences)
            assert span is not None
            assert gain["mean"] == pytest.approx(sum(differences) / 2)
            assert gain["half_interval"] == pytest.approx((span[1] - span[0]) / 2)


def test_pictures_are_whole_images(toy):
    folder, _, said = toy
    for name in ("curves.png", "embeddings.png"):
        with Image.open(folder / name) as picture:
            picture.load()
            assert min(picture.size) > 500
            assert picture.convert("L").getextrema() == (0, 255)
        assert str(folder / name) in said


def test_runs_are_those_of_the_commands_it_prints(toy):
    folder, _, said = toy
    printed = [shlex.split(line[2:]) for line in said.splitlines() if line.startswith("$ ")]
    assert [words[1] for words in printed] == ["pretrain", "evaluate"] * 2
    for words in printed:
        composition.check(words[1], words[2:])
    for part in ("images", "text"):
        assert (folder / part / "backbone" / "model.safetensors").exists()
        assert "seed: 3" in (folder / part / "config.yaml").read_text()


def test_commands_to_go_on_with_compose():
    commands = [shlex.split(command) for command in demo.onward(Path("runs/my demo"))]
    verbs = [words[1:] for words in commands if words[0] == "ssl-zoo" and len(words) > 2]
    assert len(verbs) == 3
    for verb, *words in verbs:
        composition.check(verb, words)


def test_a_fault_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise DataError("nothing there")

    monkeypatch.setattr(demo, "run_part", broken)
    with pytest.raises(SystemExit, match="ssl-zoo demo: nothing there"):
        run_verb([str(tmp_path)])


def test_roles_follow_the_parser():
    source = '''\
"""First line of prose.

Second one."""
x = [é for é in "é" * 30 if é
     is not None]
while x: raise ValueError("no")
def f(): return g(
    x)
'''
    assert set(stdlib_roles.pieces(source)) == {
        ("First line of prose.", "prose"),
        ("", "prose"),
        ("Second one.", "prose"),
        ('"é" * 30', "loop"),
        ("x", "condition"),
        ('ValueError("no")', "raise"),
        ("g( x)", "return"),
    }


def test_roles_are_balanced_and_splits_share_no_text():
    seen: set[str] = set()
    for split, most in stdlib_roles.MOST.items():
        texts, roles = stdlib_roles.roles(split)
        counts = {role: roles.count(role) for role in stdlib_roles.ROLES}
        assert len(set(counts.values())) == 1
        assert 0 < counts["loop"] <= most
        assert len(set(texts)) == len(texts)
        assert not seen & set(texts)
        seen |= set(texts)
    with pytest.raises(DataError, match="not dev"):
        stdlib_roles.roles("dev")
