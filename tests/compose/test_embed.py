"""Vectors of what lies at a path: the same in every file, of the right samples, whole or absent."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from image_files import solid
from PIL import Image

import ssl_zoo
from ssl_zoo import ConfigError, DataError
from ssl_zoo.cli.verb import run_verb
from ssl_zoo.data.image_decoding import decode
from ssl_zoo.data.tokenizer import Tokenizer

QUIET = {"progress": False}
SMALL = {"evaluate_every": 0, "trainer": "cpu", "steps": 2, **QUIET}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Photos in class folders (130, more than a piece), reviews in a table, and a run on each."""
    home = tmp_path_factory.mktemp("home")
    draw = np.random.default_rng(0)
    for i in range(130):
        folder = home / "photos" / ("left side", "right")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(folder / f"{i:03}.png")
    words = ["warm", "bright", "dull", "cold", "screen", "phone", "cable", "box"]
    rows = [(" ".join(draw.choice(words, 6)), ("good", "bad")[i % 2]) for i in range(60)]
    rows[7] = (" ".join(words * 20), "good")
    with open(home / "reviews.csv", "w", newline="") as file:
        csv.writer(file).writerows([("review", "opinion"), *rows])
    ssl_zoo.pretrain("simclr_small", backbone="resnet_micro", data=home / "photos", data__image_size=16,
                     out=home / "images", batch_size=16, **SMALL)  # fmt: skip
    ssl_zoo.pretrain("masked_lm", backbone="transformer_micro", data=home / "reviews.csv", context=16,
                     out=home / "texts", batch_size=8, **SMALL)  # fmt: skip
    return home


def by_hand(home):
    """Files and vectors of the photos, one at a time."""
    files = sorted((home / "photos").rglob("*.png"))
    backbone = ssl_zoo.load(home / "images")
    images = [torch.tensor(decode(file.read_bytes(), 16, 10**6)) for file in files]
    with torch.no_grad():
        return files, torch.cat([backbone(image[None]).pooled for image in images]).numpy()


def test_every_file_holds_the_vectors_of_the_backbone(home, tmp_path):
    files, expected = by_hand(home)
    names, labels = [str(file) for file in files], [file.parent.name for file in files]
    for ending in ("npy", "csv", "parquet"):
        found = ssl_zoo.embed(home / "images", home / "photos", out=tmp_path / f"v.{ending}", **QUIET)
        assert (found.files, found.labels, found.rows) == (names, labels, [None] * 130)
        assert np.allclose(found.values, expected, atol=1e-5)
    array, beside = np.load(tmp_path / "v.npy"), json.loads((tmp_path / "v.json").read_text())
    assert np.array_equal(array, found.values)
    assert (beside["file"], beside["label"]) == (names, labels)
    assert beside["about"]["image_size"] == 16
    assert beside["about"]["pooling"] == "mean over the cells of the end"
    head, *rows = csv.reader((tmp_path / "v.csv").read_text().splitlines())
    assert head[:3] == ["file", "label", "pooled_0"]
    assert [row[:2] for row in rows] == [list(pair) for pair in zip(names, labels, strict=True)]
    assert np.array_equal(np.array([row[2:] for row in rows], np.float32), array)
    table = pyarrow.parquet.read_table(tmp_path / "v.parquet")
    assert np.array_equal(np.array(table["vector"].to_pylist(), np.float32), array)
    assert (table["file"].to_pylist(), table["label"].to_pylist()) == (names, labels)
    assert json.loads(table.schema.metadata[b"ssl_zoo"]) == beside["about"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v.csv", "v.json", "v.npy", "v.parquet"]


def test_texts_have_the_numbers_of_their_rows_and_depths(home, capsys):
    lines = []
    how = {"progress": lines.append}
    found = ssl_zoo.embed(home / "texts", home / "reviews.csv", depth=0, normalise=True, **how)
    assert found.rows == list(range(60))
    assert found.labels is None
    assert "1 of 60 texts are longer than is read, and were cut (length=)" in lines
    backbone, tokenizer = ssl_zoo.load(home / "texts"), Tokenizer.load(home / "texts" / "tokenizer")
    text = list(csv.reader((home / "reviews.csv").read_text().splitlines()))[5][0]
    ids = torch.tensor([[*tokenizer.prefix, *tokenizer.encode([text])[0], *tokenizer.suffix]])[:, :16]
    mean = backbone.embed(ids)[0].mean(0).detach()
    assert np.allclose(found.values[4], mean / mean.norm(), atol=1e-6)
    assert capsys.readouterr() == ("", "")


def test_what_is_nearest(home, tmp_path, capsys):
    files, values = by_hand(home)
    query = files[100]
    words = [str(home / "images"), str(home / "photos"), f"query={query}", "nearest=4"]
    run_verb("embed", [*words, f"page={tmp_path / 'near.html'}"])
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    cosines = unit @ unit[100]
    expected = [f"{cosines[i]:.4f}  {files[i]} ({files[i].parent.name})" for i in np.argsort(-cosines)[:4]]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"nearest to {query} of 130, by cosine"
    assert [line[6:] for line in printed[1:5]] == expected
    assert not (home / "images" / "embeddings").exists()
    page = (tmp_path / "near.html").read_text()
    assert page.count("<img") == 5
    assert "left side/" in page


def test_a_damaged_image_is_left_out_and_named(home, tmp_path):
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "a.png").write_bytes(solid((255, 0, 0)))
    (folder / "b.png").write_text("no image")
    lines = []
    found = ssl_zoo.embed(home / "images", folder, progress=lines.append)
    assert [Path(file).name for file in found.files] == ["a.png"]
    assert any(line.startswith(f"left out 1 damaged: {folder / 'b.png'}: its 8 bytes") for line in lines)
    (folder / "a.png").unlink()
    with pytest.raises(DataError, match=r"nothing could be read\. left out 1 damaged"):
        ssl_zoo.embed(home / "images", folder, **QUIET)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"depth": 9}, "depth=9: TimmCNN has depths 1 to"),
        ({"out": "v.txt"}, r"v.txt: its ending says how it is written, and is one of .npy"),
        ({"data": "reviews.csv"}, "TimmCNN reads images, and reviews.csv holds texts"),
        ({"query": "none.png"}, "query=none.png: there is no such image file"),
        ({"page": "page.html"}, "page= shows what is nearest to a query"),
        ({"data": "photso"}, "is no file or folder here, and no data set; did you mean 'photos'"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(home, monkeypatch, changed, said):
    monkeypatch.chdir(home)
    before = sorted(home.iterdir())
    with pytest.raises((ConfigError, DataError, ValueError), match=said):
        ssl_zoo.embed("images", **{"data": "photos", "out": "left.npy", **QUIET, **changed})
    assert sorted(home.iterdir()) == before


def test_without_pyarrow_another_file_is_named(home, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(
        ValueError, match=r"needs pyarrow: pip install 'ssl-zoo\[parquet\]', or take out=v.npy"
    ):
        ssl_zoo.embed(home / "images", home / "photos", out="v.parquet", **QUIET)
