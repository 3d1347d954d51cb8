"""The fingerprint of a data set: every change of what is trained on or measured on changes it."""

import pytest
from PIL import Image

from ssl_zoo.compose.boards import BoardComposer
from ssl_zoo.data.image_captions import ImageCaptions
from ssl_zoo.data.images import ImageData
from ssl_zoo.leaderboard import records
from ssl_zoo.leaderboard.board import Board, Recipe
from ssl_zoo.leaderboard.check import changed
from ssl_zoo.leaderboard.datasets import Datasets, fingerprint
from ssl_zoo.leaderboard.unit import Unit

PAIRS = "image,caption\na.png,one\na.png,two\nb.png,three\nc.png,four\nd.png,five\n"


@pytest.fixture
def images(tmp_path):
    """A folder of four images."""
    for i, name in enumerate("abcd"):
        Image.new("RGB", (8, 8), (60 * i, 10, 10)).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.mark.parametrize("unpack", [True, False])
def test_an_edited_caption_is_other_data(images, unpack):
    def printed(text: str) -> str:
        (images / "pairs.csv").write_text(text)
        options = {"image_size": 8, "validation_fraction": 0.25, "unpack": unpack}
        return fingerprint(
            ImageCaptions("own", str(images / "pairs.csv"), cache=str(images / "cache"), **options)
        )

    before = printed(PAIRS)
    assert printed(PAIRS) == before
    assert printed(PAIRS.replace("five", "six")) != before
    assert printed(PAIRS.replace("a.png,two\nb.png,three", "b.png,two\nb.png,three")) != before, (
        "the same captions of other images"
    )


def test_another_unlabelled_image_is_other_data(images):
    for name in ("cats", "dogs"):
        (images / "labelled" / name).mkdir(parents=True)
        for i in range(4):
            colour = (len(name) + 20 * i, ord(name[0]), 9)
            Image.new("RGB", (8, 8), colour).save(images / "labelled" / name / f"{i}.png")
    (images / "more").mkdir()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(images / "more/0.png")

    def printed(**options: str) -> str:
        data = ImageData(
            "own", str(images / "labelled"), image_size=8, cache=str(images / "cache"), **options
        )
        return fingerprint(data)

    alone, before = printed(), printed(unlabelled=str(images / "more"))
    assert alone != before
    Image.new("RGB", (8, 8), (3, 2, 1)).save(images / "more/1.png")
    assert printed(unlabelled=str(images / "more")) != before


def test_an_edited_caption_makes_a_line_stale(images, monkeypatch):
    """On a board whose data are images with captions, which a floor of random weights may have too."""
    monkeypatch.setenv("SSL_ZOO_CACHE", str(images / "cache"))
    names = [f"{i}.png" for i in range(40)]
    for i, name in enumerate(names):
        Image.new("RGB", (8, 8), (6 * i, 10, 10)).save(images / name)
    table = images / "pairs.csv"
    table.write_text("image,caption\n" + "".join(f"{name},number {name}\n" for name in names))
    data = {"data": "image_captions", "data.train": str(table), "data.image_size": 8}
    data |= {"data.image": "image", "data.caption": "caption", "data.test_fraction": 0.4}
    fixed = data | {"backbone": "resnet_micro", "backbone.channels": [4, 4, 8, 8], "threads": 1}
    recipe = Recipe("random", "Random weights", "p", "c", "e", "k", {}, "random", ())
    measures = {"diagnostics": {**data, "protocol": "diagnostics"}}
    board = Board(images / "own", "Own", "", "", "diagnostics", (0,), fixed, measures, {"random": recipe}, ())
    board.folder.mkdir()
    composer = BoardComposer()
    unit = Unit(composer, board, recipe, 0, images / "runs", Datasets(composer))
    records.append(board.results, unit.run(lambda _: None))
    known = records.read(board.results)
    assert changed(composer, board, recipe, Datasets(composer), known) == []
    table.write_text(table.read_text().replace("number 7.png", "seven"))
    told = changed(composer, board, recipe, Datasets(composer), known)
    assert told == ["data changed", "data of diagnostics changed"]
