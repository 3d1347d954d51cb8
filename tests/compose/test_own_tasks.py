"""Which task data is labelled for, as is guessed and said; what somebody says goes before."""

import json

import numpy as np
import pytest
from PIL import Image

from ssl_zoo import ConfigError
from ssl_zoo.compose.own_tasks import Wish, look, task_words, wish_of
from ssl_zoo.messages import heard_by


def table(root, header, *rows, name="a.csv"):
    (root / name).write_text("".join(f"{line}\n" for line in (header, *rows)))
    return root / name


def found(path, *wish):
    one = look(path, Wish(*wish))
    return one.task, one.input, one.label, one.separator


WORDS = ("warm and bright", "dull and cold", "kind and warm", "cold as ice")


def rows(*cells):
    return [f"{text},{cell}" for text, cell in zip(WORDS * 8, cells * 8, strict=False)]


@pytest.mark.parametrize(
    ("cells", "task", "separator"),
    [
        (("good", "bad", "good", "bad"), "classes", None),
        (("1", "0", "1", "0"), "classes", None),
        (("1", "2", "5", "4"), "classes", None),  # stars
        (("a;b", "b", "a", ""), "labels", ";"),
        (("a|b", "b", "a", "b | a"), "labels", "|"),
        (("1.5", "2.0", "1", ""), "regression", None),
        (("a", "b", "1.5", ""), "classes", None),
        (("nan", "0.5", "1", "2"), "regression", None),  # so that the row is named where it is read
    ],
)
def test_the_cells_of_a_label_column_say_the_task(tmp_path, cells, task, separator):
    file = table(tmp_path, "text,label", *rows(*cells))
    label = "label" if task != "classes" else None
    assert found(file) == (task, "text" if label else None, label, separator)


def test_whole_numbers_that_hardly_recur_are_a_quantity(tmp_path):
    file = table(tmp_path, "text,price", *(f"words {i},{37 * i}" for i in range(30)))
    assert found(file)[0] == "regression"
    assert found(file, "classes")[0] == "classes"


def test_text_with_a_semicolon_is_no_list_of_labels(tmp_path):
    file = table(tmp_path, "text,label", *(f"some text,one remark {i}; another {i}" for i in range(20)))
    assert found(file)[0] == "classes"
    assert found(file, "labels") == ("labels", "text", "label", None)


def test_lists_columns_and_what_is_named(tmp_path):
    lines = [{"body": "some words here", "genres": ["a", "b"], "x": i} for i in range(6)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert found(tmp_path / "a.jsonl") == ("labels", "body", "genres", None)
    file = table(tmp_path, "text,sea,sky,n", "some words here,1,0,2.5", "some more words,0,1,3.5")
    assert found(file) == ("classes", None, None, None)
    assert found(file, None, None, ["sea", "sky"]) == ("labels", "text", ("sea", "sky"), None)
    assert found(file, "regression") == ("regression", "text", "n", None)
    assert found(file, None, "n", "sea")[0] == "classes"
    assert wish_of(["label=[sea,sky]", "task=labels", "input=3"]) == Wish("labels", 3, ["sea", "sky"])
    for wish, said in (
        (Wish(label=["sea", "land"]), "has no column 'land', only 'text', 'sea', 'sky', 'n'"),
        (Wish(label="land"), "no column 'land' of labels"),
        (Wish(input="land"), "input=land: there is no such column"),
        (Wish("masks"), "task=masks takes a folder with images/ and masks/"),
        (Wish("tags"), "task=tags takes files with a word and its tag on each line"),
    ):
        with pytest.raises(ConfigError, match=said):
            look(file, wish)


def test_images_and_masks_in_a_folder_and_in_a_table(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / folder / "a.png")
    assert found(tmp_path)[0] == "masks"
    assert found(tmp_path, "classes")[0] == "classes"
    file = table(tmp_path, "image,mask", "images/a.png,masks/a.png")
    assert found(file) == ("masks", "image", "mask", None)
    file = table(tmp_path, "image,labels", *("images/a.png,a;b", "images/a.png,b") * 3)
    assert found(file) == ("labels", "image", "labels", ";")
    (tmp_path / "masks").rename(tmp_path / "others")
    assert found(tmp_path) == ("labels", "image", "labels", ";")  # images with a table of their labels
    table(tmp_path, "place,value", *(f"somewhere,{i}.5" for i in range(9)))
    assert found(tmp_path)[0] == "classes"  # a table of something else beside images


def test_files_of_tags_are_known_by_their_names_or_lines(tmp_path):
    (tmp_path / "train.conll").write_text("Anna NNP\n")
    (tmp_path / "dev.conll").write_text("Anna NNP\n")
    words = []
    with heard_by(words.append):
        made = task_words(tmp_path, [])
    assert made[0] == "data=text_files"
    assert made[-1] == "task=tags"
    assert any(one.startswith("data.validation=") and "dev.conll" in one for one in made)
    assert (
        "a file of words with tags, the last column (tag= names another), train from train.conll" in words[0]
    )
    (tmp_path / "a.txt").write_text("Anna B-PER\nsleeps O\n\n")
    assert found(tmp_path / "a.txt")[0] == "tags"
    (tmp_path / "b.txt").write_text("Anna sleeps in the\nhouse\n\n")
    assert found(tmp_path / "b.txt")[0] == "classes"
    assert found(tmp_path / "b.txt", "tags")[0] == "tags"


def test_words_for_another_task_are_refused_with_those_that_work(tmp_path):
    file = table(tmp_path, "text,label", *rows("good", "bad", "good", "bad"))
    assert task_words(file, []) is None
    with pytest.raises(ConfigError, match=r"of classes are named by data.format.label="):
        task_words(file, ["label=label"])
    with pytest.raises(ConfigError, match="task=tag is none of classes, labels, regression, tags, masks"):
        task_words(file, ["task=tag"])
