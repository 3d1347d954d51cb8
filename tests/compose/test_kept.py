"""Models that are kept: they predict as they were scored, in every file, and open again to the bit."""

import csv
import json
import shutil

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image

import ssl_zoo
from ssl_zoo import ConfigError, DataError, HubError
from ssl_zoo.cli.verb import run_verb
from ssl_zoo.data.image_decoding import decode
from ssl_zoo.transfer import kept

QUIET = {"progress": False}
SMALL = {"evaluate_every": 0, "trainer": "cpu", "steps": 2, **QUIET}
TUNED = {"protocol__steps": 12, "protocol__lrs": [3e-3], "protocol__batch_size": 16, **QUIET}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Photos of two colours, reviews of two opinions, and a run and a model on each."""
    home = tmp_path_factory.mktemp("home")
    draw = np.random.default_rng(0)
    for i in range(100):
        colour = ("red", "blue, pale")[i % 2]
        folder = home / "photos" / colour
        folder.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 90, (16, 16, 3), dtype=np.uint8)
        pixels[..., 2 * (i % 2)] += 140
        Image.fromarray(pixels).save(folder / f"{i:03}.png")
    words = {"good": ["warm", "bright", "kind"], "bad": ["dull", "cold", "rude"]}
    rows = [(" ".join(draw.choice(words[label], 6)), label) for label in ("good", "bad") * 40]
    with open(home / "reviews.csv", "w", newline="") as file:
        csv.writer(file).writerows([("review", "opinion"), *rows])
    ssl_zoo.pretrain("simclr_small", backbone="resnet_micro", data=home / "photos", data__image_size=16,
                     out=home / "images", batch_size=16, **SMALL)  # fmt: skip
    ssl_zoo.pretrain("masked_lm", backbone="transformer_micro", data=home / "reviews.csv", context=16,
                     out=home / "texts", batch_size=8, **SMALL)  # fmt: skip
    ssl_zoo.finetune(home / "images", data=home / "photos", out=home / "colours", protocol__augment=None,
                     data__test_fraction=0.2, **TUNED)  # fmt: skip
    ssl_zoo.finetune(home / "texts", data=home / "reviews.csv", out=home / "opinions", protocol="linear",
                     **QUIET)  # fmt: skip
    return home


def test_it_predicts_what_its_backbone_and_head_say(home):
    model = ssl_zoo.load(home / "colours")
    found = model.predict(home / "photos")
    files = sorted((home / "photos").rglob("*.png"))
    images = torch.stack([torch.tensor(decode(file.read_bytes(), 16, 10**6)) for file in files])
    with torch.no_grad():
        shares = model.head(model.backbone(images).pooled).softmax(1).numpy()
    assert [one.file for one in found] == [str(file) for file in files]
    assert [one.label for one in found] == [file.parent.name for file in files]
    assert model.classes == ("blue, pale", "red")
    assert np.allclose([list(one.probabilities.values()) for one in found], shares, atol=1e-5)
    assert all(one.name == max(one.probabilities, key=one.probabilities.get) for one in found)
    assert sum(one.name == one.label for one in found) > 95


def test_it_scored_as_an_evaluation_does(home):
    table = ssl_zoo.evaluate(home / "images", data=home / "photos", protocol="finetune", seeds=[0],
                             protocol__augment=None, data__test_fraction=0.2, **TUNED)  # fmt: skip
    model = ssl_zoo.load(home / "colours")
    assert model.about["scores"]["test"]["value"] == table["pretrained"].mean
    assert model.about["scores"]["test"]["rows"] == 20
    assert model.about["made"]["chosen"] == {"lr": 3e-3}
    assert repr(model).startswith(f"Model in {home / 'colours'}: 2 classes (blue, pale, red); validation acc")


def test_texts_are_told_apart_one_by_one_and_in_a_table(home):
    model = ssl_zoo.load(home / "opinions")
    one, other = model.predict(["warm kind bright", "cold rude"])
    assert (one.name, other.name) == ("good", "bad")
    table = model.predict(home / "reviews.csv")
    assert [prediction.row for prediction in table] == list(range(80))
    assert [prediction.name for prediction in table] == ["good", "bad"] * 40
    again = model.predict(["warm kind bright"])[0]
    assert again.probabilities == pytest.approx(one.probabilities, abs=1e-5)


def test_every_file_says_the_same(home, tmp_path, capsys):
    for ending in ("csv", "jsonl", "parquet"):
        words = [str(home / "colours"), str(home / "photos"), f"out={tmp_path / f'p.{ending}'}", "show=2"]
        run_verb("predict", words)
    printed = capsys.readouterr().out
    expected = ssl_zoo.load(home / "colours").predict(home / "photos")
    right = sum(one.name == one.label for one in expected)
    assert f"{right} of 100 are told as they are labelled: {right}.0 %" in printed
    assert "... and 98 more" in printed
    head, *rows = csv.reader((tmp_path / "p.csv").read_text().splitlines())
    assert head == ["file", "label", "class", "probability", "p(blue, pale)", "p(red)"]
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    table = pyarrow.parquet.read_table(tmp_path / "p.parquet").to_pylist()
    for one, row, line, cells in zip(expected, rows, lines, table, strict=True):
        assert row[:3] == [one.file, one.label, one.name]
        assert [float(cell) for cell in row[3:]] == [one.probability, *one.probabilities.values()]
        assert line == {"file": one.file, "label": one.label, "class": one.name,
                        "probability": one.probability, "probabilities": one.probabilities}  # fmt: skip
        assert (cells["class"], cells["row"]) == (one.name, None)
        assert cells["p(red)"] == pytest.approx(one.probabilities["red"], rel=1e-6)
    assert len(list(tmp_path.iterdir())) == 3


def test_few_rows_take_few_steps(home, tmp_path):
    lines = []
    options = {"protocol__lrs": [3e-3], "protocol__augment": None, "progress": lines.append, "labels": 2}
    model = ssl_zoo.finetune(home / "images", data=home / "photos", out=tmp_path / "a", **options)
    assert model.about["made"]["steps"] == 100
    said = "finetune: 4 labelled rows of 2 classes, 10 to choose on; 1 learning rates x 100 steps (steps=)"
    assert said in lines
    again = {"out": tmp_path / "b", "steps": 3, **options}
    assert ssl_zoo.finetune(home / "images", data=home / "photos", **again).about["made"]["steps"] == 3


def test_folders_of_other_names_are_no_labels(home, tmp_path, capsys):
    shutil.copytree(home / "photos" / "red", tmp_path / "new" / "january")
    run_verb("predict", [str(home / "colours"), str(tmp_path / "new"), f"out={tmp_path / 'p.csv'}"])
    assert "labelled:" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"out": "colours"}, "out=colours holds a model already"),
        ({"out": "photos"}, "out=photos holds something else already"),
        ({"protocol": "knn"}, "protocol=knn leaves no model: take finetune, linear, or completion"),
        ({"data": "reviews.csv"}, "holds a backbone for images; data=.* is text"),
        ({"data": "photos/red"}, "have no labels"),
        ({"labels": 400}, "class 'blue, pale' has .* fewer than the 400 asked for"),
    ],
)
def test_what_cannot_be_made_is_refused_and_leaves_nothing(home, monkeypatch, changed, said):
    monkeypatch.chdir(home)
    before = sorted(home.rglob("*"))
    with pytest.raises((ConfigError, DataError), match=said):
        ssl_zoo.finetune("images", **{"data": "photos", "out": "new", **QUIET, **changed})
    assert sorted(home.rglob("*")) == before


def test_a_model_that_answers(home, tmp_path, capsys):
    words = ["red", "blue", "green", "one"]
    rows = [{"question": f"{a} {b}", "answer": b} for a in words for b in words] * 3
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "texts.txt").write_text("\n\n".join(" ".join(words) for _ in range(40)))
    ssl_zoo.pretrain("next_token", backbone="transformer_micro", data=tmp_path / "texts.txt", context=16,
                     out=tmp_path / "run", batch_size=8, **SMALL)  # fmt: skip
    run_verb("finetune", [str(tmp_path / "run"), str(tmp_path / "pairs.jsonl"), "protocol=completion",
                          f"out={tmp_path / 'model'}", "protocol.steps=60",
                          "protocol.lrs=[3e-3]"])  # fmt: skip
    printed = capsys.readouterr().out.splitlines()
    model = ssl_zoo.load(tmp_path / "model")
    assert printed[0] == f"{tmp_path / 'model'}: answers prompts; tuned on 44 pairs, lr 0.003"
    assert printed[-1] == f"next: ssl-zoo generate {tmp_path / 'model'} prompt=TEXT"
    assert model.answer(["green one", "one red"]) == ["one", "red"]
    assert model.answer("green one") == ssl_zoo.generate(tmp_path / "model", "green one", progress=False)
    with pytest.raises(
        HubError, match="was tuned for 'completion', and not for 'classes': ssl-zoo generate asks it"
    ):
        kept.load(tmp_path / "model")
    with pytest.raises(ConfigError, match=r"data=.*photos: prompts with their completions are a .jsonl"):
        ssl_zoo.finetune(tmp_path / "run", data=home / "photos", protocol="completion", **QUIET)


def test_a_damaged_model_is_refused(home, tmp_path):
    shutil.copytree(home / "colours", tmp_path / "model")
    about = json.loads((tmp_path / "model" / "model.json").read_text())
    (tmp_path / "model" / "model.json").write_text(json.dumps(about | {"classes": ["a", "b", "c"]}))
    with pytest.raises(HubError, match="does not fit the classes"):
        ssl_zoo.load(tmp_path / "model")
    (tmp_path / "model" / "model.json").write_text(json.dumps(about | {"format": 7}))
    with pytest.raises(HubError, match="is not of format 1"):
        ssl_zoo.load(tmp_path / "model")
    (tmp_path / "model" / "model.json").write_text(json.dumps(about))
    shutil.copy(home / "opinions" / "head.safetensors", tmp_path / "model")
    with pytest.raises(HubError, match="is not what was saved"):
        ssl_zoo.load(tmp_path / "model")


def test_what_a_model_cannot_read(home, monkeypatch):
    monkeypatch.chdir(home)
    model = ssl_zoo.load("colours")
    with pytest.raises(ConfigError, match="this model reads images"):
        model.predict(["red"])
    with pytest.raises(DataError, match=r"reads images, and reviews.csv holds texts"):
        model.predict("reviews.csv")
    with pytest.raises(DataError, match="one of the texts is empty"):
        ssl_zoo.load("opinions").predict(["warm", " "])
    with pytest.raises(SystemExit, match=r"images holds no model but a run; `ssl-zoo finetune run=images"):
        run_verb("predict", ["images", "photos"])
