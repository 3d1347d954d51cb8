"""`ssl-zoo evaluate` says what a figure is not worth, and what stands in the way before it measures."""

import errno
import json
import os
import shutil

import pytest
import tiny
from PIL import Image
from zoo_backbones import backbone

import ssl_zoo
from ssl_zoo.compose import evaluation
from ssl_zoo.compose.doubts import below_random, below_simple
from ssl_zoo.compose.evaluation import Splits
from ssl_zoo.compose.gate import ConfigError
from ssl_zoo.compose.reporting import evaluations, last_figure
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_formats import Prefixed
from ssl_zoo.pretrain.writing import write_atomically
from ssl_zoo.transfer.report import Result

WORDS = ("evaluate", "data=digits", "data.image_size=8", "protocol=knn", "seeds=[0]")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What evaluation reads of a run of images."""
    folder = tmp_path_factory.mktemp("run")
    ssl_zoo.save(backbone("cnn", image_size=8), folder / "backbone")
    return folder


def few(**changes) -> Result:
    made = {"protocol": "knn", "metric": "accuracy", "seeds": (0,), "values": (0.4,), "labels": 5}
    sizes = {"train": 9, "validation": 9, "test": 9, "seconds": 1.0}
    return Result(**made | sizes | {"others": {}, "chosen": ()} | changes)


def test_a_backbone_no_better_than_random_weights_is_said():
    ours, floor = few(), few(values=(0.4,))
    said = "knn with 5 labels: pretrained (40.0) is no better than random weights (random, frozen: 40.0)"
    floors = {"random, frozen": floor, "raw pixels": few(values=(0.9,))}
    assert below_random({"pretrained": ours, **floors}) == [said]
    assert below_random({"pretrained": few(values=(0.41,)), "random, frozen": floor}) == []
    assert below_random({"pretrained": ours}) == []
    scratch = {"from scratch": few(values=(0.5,), protocol="finetune"), "random, frozen": few(values=(0.1,))}
    (said,) = below_random({"pretrained": few(protocol="finetune", labels=None), **scratch})
    assert said.startswith("finetune with all labels: pretrained (40.0) is no better")
    assert "from scratch: 50.0" in said


def test_a_floor_without_a_network_that_is_ahead_is_said_once():
    point = lambda labels, floor: {  # noqa: E731
        "pretrained": few(labels=labels),
        "TF-IDF": few(labels=labels, values=(floor,)),
    }
    said = below_simple([point(5, 0.39), point(25, 0.4), point(None, 0.9)])
    where = "25 labels a class; all labels"
    assert said == [f"TF-IDF, without any pretraining, is as good as pretrained, or better: {where}"]
    swept = {"pretrained": few(labels=0.1, steps=40), "raw pixels": few(labels=0.1)}
    assert below_simple([swept])[0].endswith("or better: 10 % of labels, 40 steps")
    assert below_simple([point(5, 0.39), {"pretrained": few()}]) == []


@pytest.mark.parametrize(("steps", "warned"), [(1, True), (20, False)])
def test_a_run_that_hardly_trained_is_said_when_it_is_evaluated(run, cache, tmp_path, steps, warned):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "summary.json").write_text(json.dumps({"steps": steps, "stopped": False}))
    code, printed = tiny.command(tmp_path, cache, *WORDS, "run=run", "device=cpu")
    assert code == 0, printed
    assert ("WARNING: run was trained for 1 step: too few" in printed) == warned
    assert ("WARNING" in printed) == warned
    assert len(list((copy / "evaluations").iterdir())) == 1


@pytest.mark.parametrize("protocol", ["knn", "linear"])
def test_validation_is_scored_while_choices_are_made(run, tmp_path, monkeypatch, protocol):
    run = shutil.copytree(run, tmp_path / "run")
    few = {"data__image_size": 8, "seeds": [0], "progress": False}
    plain = ssl_zoo.evaluate(run, data="digits", protocol=protocol, **few)
    splits: list[Splits] = []
    kept = evaluation.before_test
    monkeypatch.setattr(evaluation, "before_test", lambda one: splits.append(kept(one)) or splits[-1])
    chosen = ssl_zoo.evaluate(run, data="digits", protocol=protocol, score="validation", floors=True, **few)
    (_, before), (name, after) = plain.results[0], chosen.results[0]
    assert (name, after.protocol) == ("pretrained", f"{protocol} on validation rows")
    assert (after.test, after.train + after.validation) == (before.validation, before.train)
    assert after.validation == before.train // 10
    train, chooses, scored = splits[0]
    assert not set(train.index) & set(chooses.index)  # pyright: ignore
    held_out = ImageData("digits", "digits", image_size=8, test_fraction=0.2).labelled("validation")
    assert scored.fingerprint == held_out.fingerprint
    # Neither file takes the place of the other.
    assert len(list((run / "evaluations").glob(f"digits-{protocol}-all*"))) == 2


def test_a_measure_without_classes_has_no_validation_score(run, tmp_path):
    run = shutil.copytree(run, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"score=validation is for protocols .* not for diagnostics"):
        ssl_zoo.evaluate(run, data="digits", data__image_size=8, protocol="diagnostics", score="validation")


def test_the_floor_of_texts_is_scored_on_validation_rows_as_well(tmp_path):
    texts = [f"{('blue', 'red')[i % 2]}: {i} of {('ants', 'bees')[i % 2]}" for i in range(60)]
    for name, part in {"train": texts[:40], "validation": texts[40:50], "test": texts[50:]}.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(part))
    files = (tmp_path / f"{name}.txt" for name in ("train", "validation", "test"))
    data = TextData("colours", *files, format=Prefixed(until=":"), cache=tmp_path / "cache")
    how = {"labels": None, "seeds": (0,), "metric": "accuracy"}
    found = evaluation.tfidf(data, how, "validation")
    assert (found.train, found.validation, found.test) == (36, 4, 10)
    assert found.values == (1.0,)


def test_captions_are_said_to_have_no_labels_before_splits_are_asked_for(run, tmp_path):
    run = shutil.copytree(run, tmp_path / "run")
    (tmp_path / "table.csv").write_text("image,caption\na.png,a dog\nb.png,a cat\n")
    for name in ("a", "b"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    with pytest.raises(DataError, match=r"has no labels to learn from"):
        ssl_zoo.evaluate(run, data=tmp_path / "table.csv", protocol="knn", seeds=[0], progress=False)


def test_a_summary_is_shown_with_whole_steps_and_words():
    assert [last_figure(one) for one in (12345, True, False, 0.123456, "the start")] == [
        "12,345",
        "yes",
        "no",
        "0.1235",
        "the start",
    ]


def test_where_nothing_can_be_written_nothing_is_measured(run, cache, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "evaluations").touch()
    code, printed = tiny.command(tmp_path, cache, *WORDS, "run=run", "device=cpu")
    assert code == 1
    assert "File exists: 'run/evaluations'" in printed
    assert "accuracy" not in printed


def test_a_device_that_is_not_there_is_named(run, cache, tmp_path):
    code, printed = tiny.command(tmp_path, cache, *WORDS, f"run={run}", "device=cuda:9")
    assert code == 1
    assert "device=cuda:9 cannot be used" in printed
    assert "Traceback" not in printed


def test_damaged_evaluations_are_named_and_the_others_shown(tmp_path):
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "measures").mkdir()
    (tmp_path / "evaluations/good.json").write_text('{"results": {}}')
    for name, content in {"cut": '{"resu', "list": "[1]", "deep": "[" * 100_000, "bytes": b"\xff"}.items():
        file = tmp_path / f"evaluations/{name}.json"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ConfigError, match=rf"{name}\.json (is damaged|holds no JSON object)"):
            evaluations(tmp_path)
        notes = []

        def attempt(what, make, notes=notes):
            try:
                return make()
            except ConfigError as error:
                notes.append((what, str(error)))

        assert set(evaluations(tmp_path, attempt)) == {"good.json"}
        assert [what for what, _ in notes] == [f"the evaluation {name}.json"]
        file.unlink()
    (tmp_path / "measures/knn.json").write_text('{"results": [{"value": 1}]}')
    with pytest.raises(ConfigError, match=r"knn\.json is no measure of a board: KeyError"):
        evaluations(tmp_path)


def test_a_full_disk_is_named_with_the_file(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/knn\.json'"):
        write_atomically(tmp_path / "knn.json", b"{}")
    assert list(tmp_path.iterdir()) == []
