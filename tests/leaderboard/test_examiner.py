"""What the measures of a board read: the right pixels, and a sentence where a floor does not fit the data."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from ssl_zoo.data.images import ImageData
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.leaderboard.board import BoardError, Recipe
from ssl_zoo.leaderboard.examiner import Examiner
from ssl_zoo.transfer.protocols import Knn

CONFIG = SimpleNamespace(data=None, protocol=None, device="cpu", length=None)


def examiner(data=None, floor="pixels") -> Examiner:
    recipe = Recipe("mine", "Mine", "", "", "", "", {}, floor, ())
    composer = SimpleNamespace(build=lambda _: Knn(), subject=lambda *_: None)
    datasets = SimpleNamespace(get=lambda _: data)
    return Examiner(composer, recipe, 0, Path(), datasets)  # pyright: ignore


def test_pixels_of_other_sizes_are_other_subjects(tmp_path):
    """Two measures may read one data set in two sizes, under one name."""
    small, large = (ImageData("d", "digits", image_size=n, cache=str(tmp_path)) for n in (8, 16))
    one = examiner()
    assert one.subject(CONFIG, small).backbone.image_size == (8, 8)
    assert one.subject(CONFIG, large).backbone.image_size == (16, 16)
    assert one.subject(CONFIG, small).backbone is one.subject(CONFIG, small).backbone


def test_a_floor_or_a_protocol_that_does_not_go_with_the_data(tmp_path):
    texts, pairs = TextData("t", str(tmp_path)), TextPairs("sts", tmp_path / "a.csv")
    with pytest.raises(BoardError, match="pixels are a floor for labelled images"):
        list(examiner(texts).results(CONFIG))
    with pytest.raises(BoardError, match="TF-IDF is a floor for labelled texts"):
        list(examiner(pairs, "tfidf").results(CONFIG))
    with pytest.raises(BoardError, match="knn needs data with classes, and sts has none"):
        list(examiner(pairs, None).results(CONFIG))
