"""Splits that a file of names gives: of images in a folder, of texts in files, of the rows of a table."""

import numpy as np
import pytest
from image_files import solid

from ssl_zoo import DataError
from ssl_zoo.compose import composition
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_formats import Table, Text
from ssl_zoo.data.tokenizer import bytes_tokenizer

WORDS = ("train", "val", "train", "test")  # of the samples in turn


@pytest.fixture
def pictures(tmp_path):
    """Twelve images of twelve greys in two class folders; a.png is in both."""
    for i in range(12):
        place = tmp_path / "my set" / ("cat", "dog")[i % 2] / f"{'a' if i < 2 else i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(solid((20 * i, 20 * i, 20 * i)))
    return tmp_path / "my set"


def name(i):
    return f"{('cat', 'dog')[i % 2]}/{'a' if i < 2 else i}.png"


def greys(data, split):
    """Which of the images a split holds, by their grey."""
    rows = data.rows(split)
    return sorted((rows.read(np.arange(len(rows))).x[:, 0, 0, 0].numpy() // 20).tolist())


def table(folder, names=name, count=12):
    file = folder / "splits.csv"
    file.write_text("file,split\n" + "".join(f"{names(i)},{WORDS[i // 2 % 4]}\n" for i in range(count)))
    return file


def images(folder, splits, **options):
    return ImageData("mine", str(folder), image_size=8, splits=splits, **options)


@pytest.mark.parametrize("unpack", [True, False])
def test_images_are_where_the_table_says(pictures, tmp_path, unpack):
    data = images(pictures, str(table(tmp_path)), unpack=unpack)
    assert data.splits() == ("train", "validation", "test")
    assert greys(data, "train") == [0, 1, 4, 5, 8, 9]
    assert greys(data, "validation") == [2, 3, 10, 11]
    assert greys(data, "test") == [6, 7]
    assert data.rows("test").y.tolist() == [0, 1]


def test_a_list_a_split_leaves_the_rest_to_train(pictures, tmp_path):
    (tmp_path / "val.txt").write_text("cat/2.png\n\ndog/3.png\n")
    data = images(pictures, {"val": str(tmp_path / "val.txt")})
    assert data.splits() == ("train", "validation")
    assert greys(data, "validation") == [2, 3]
    assert greys(data, "train") == [0, 1, *range(4, 12)]


def test_what_has_no_split_is_left_out_and_said(pictures, tmp_path, capsys):
    data = images(pictures, str(table(tmp_path, count=8)))
    assert greys(data, "train") == [0, 1, 4, 5]
    assert "gives 4 of 12 samples no split: they are left out" in capsys.readouterr().err


def test_names_that_fit_nothing_are_counted(pictures, tmp_path, capsys):
    file = table(tmp_path)
    file.write_text(file.read_text() + "cat/99.png,test\n")
    assert greys(images(pictures, str(file)), "test") == [6, 7]
    assert "1 of its 13 names fit nothing (cat/99.png)" in capsys.readouterr().err


def test_the_last_part_of_a_path_will_do_where_it_is_the_only_one(pictures, tmp_path):
    (tmp_path / "test.txt").write_text("7.png\n")
    assert greys(images(pictures, {"test": str(tmp_path / "test.txt")}), "test") == [7]
    (tmp_path / "test.txt").write_text("a.png\n")
    with pytest.raises(
        DataError, match=r"a\.png may be .*cat/a\.png or .*dog/a\.png: write more of its path"
    ):
        images(pictures, {"test": str(tmp_path / "test.txt")}).rows("train")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("file,split\ncat/2.png,train\ncat/2.png,test\n", "cat/2.png is in test, and in train before"),
        ("file,split\ncat/2.png,held out\n", "'held out' is no split: they are called train, validation"),
        ("file,label\ncat/2.png,1\n", "has no column of splits by a usual name"),
        (
            "file,split\nbird/2.png,test\n",
            "names bird/2.png and others, and none of them is among",
        ),
        ("age,split\n3,test\n", "has no column of names"),
    ],
)
def test_files_that_cannot_be_used(pictures, tmp_path, content, said):
    (tmp_path / "splits.csv").write_text(content)
    with pytest.raises(DataError, match=said):
        images(pictures, str(tmp_path / "splits.csv")).rows("train")


def test_other_mistakes(pictures, tmp_path):
    with pytest.raises(DataError, match="leave validation and test out, or splits"):
        images(pictures, str(table(tmp_path)), test=str(pictures))
    with pytest.raises(DataError, match="is neither a table with the columns file and split"):
        images(pictures, str(pictures)).splits()
    with pytest.raises(DataError, match="No such file"):
        images(pictures, str(tmp_path / "none.csv")).splits()
    (tmp_path / "val.txt").write_text("\n".join(map(name, range(12))))
    with pytest.raises(DataError, match="leaves no samples to train"):
        images(pictures, {"val": str(tmp_path / "val.txt")}).rows("train")


def test_documents_of_a_folder(tmp_path):
    for i in range(8):
        (tmp_path / "notes").mkdir(exist_ok=True)
        (tmp_path / "notes" / f"{i}.txt").write_text(f"note {i}\n\nof two parts")
    file = table(tmp_path, lambda i: f"{i}.txt", 8)
    files = TextData("notes", str(tmp_path / "notes"), format=Text(separator="file"), splits=str(file))
    assert [text[:6] for text in files.texts("test")] == ["note 6", "note 7"]
    parts = TextData("notes", str(tmp_path / "notes"), splits=str(file))
    assert list(parts.texts("validation")) == ["note 2", "of two parts", "note 3", "of two parts"]


def test_rows_of_a_table_by_a_column_of_it(tmp_path):
    file = tmp_path / "reviews.csv"
    rows = [f"review {i},{i % 2},{WORDS[i // 2 % 4]}" for i in range(12)]
    file.write_text("text,label,split\n" + "\n".join([*rows[:3], ",0,train", *rows[3:]]))  # one without text
    data = TextData("reviews", str(file), format=Table("text", "label"), splits=str(file))
    assert list(data.texts("test")) == ["review 6", "review 7"]
    assert data.labels("validation").tolist() == [0, 1, 0, 1]
    other = TextData("notes", [str(file), str(file)], format=Table("text", "label"), splits=str(file))
    assert len(list(other.texts("test"))) == 4  # rows of one file, read twice
    (tmp_path / "more.csv").write_text("text,label\none more,1\n")
    two = TextData("two", [str(file), str(tmp_path / "more.csv")], format=Table("text"), splits=str(file))
    with pytest.raises(DataError, match="these are not the rows of one"):
        list(two.texts("test"))


def test_encoded_text_is_of_its_splits(tmp_path):
    """The cache of encoded text does not mistake one file of splits for another."""
    file = tmp_path / "reviews.csv"
    rows = "".join(f"a review {i} of some length,{i % 2},train\n" for i in range(12))
    file.write_text("text,label,split\n" + rows + "the last,1,test\n")
    (tmp_path / "other.csv").write_text("split\n" + "test\n" + "train\n" * 12)
    found = []
    for splits in (file, tmp_path / "other.csv"):
        data = TextData("r", str(file), format=Table("text", "label"), splits=str(splits))
        found.append(data.rows("test", bytes_tokenizer(), 4, "packed").read(np.arange(1)).x[0].tolist())
    assert found[0] != found[1]


def test_from_the_command(pictures, tmp_path, capsys):
    words = [f"data={pictures}", f"data.splits={table(tmp_path)}", "run=x"]
    made = composition.settle("evaluate", words)
    assert not any("fraction" in word for word in made)
    assert "carved" not in capsys.readouterr().err
    cfg = composition.build("evaluate", made)
    assert cfg.data.splits == str(table(tmp_path))
