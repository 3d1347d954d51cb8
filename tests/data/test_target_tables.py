"""Tables with several labels or a number a row: every way to write them, and what is refused by its row."""

import json

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from ssl_zoo import DataError
from ssl_zoo.data.items import ImageList, Item, carve
from ssl_zoo.data.target_tables import Columns, read_table
from ssl_zoo.messages import heard_by

TEXTS = Columns("text", "tags", "text")


def targets(path, columns=TEXTS, task="labels"):
    return [one.target for one in read_table(path, columns, task)]


def test_labels_in_every_shape_are_the_same(tmp_path):
    wanted = [("sea", "sky"), (), ("sky",)]
    (tmp_path / "a.csv").write_text("text,tags\none,sea; sky;sea\ntwo,\nthree,sky\n")
    assert targets(tmp_path / "a.csv", TEXTS._replace(separator=";")) == wanted
    rows = [{"text": f"t{i}", "tags": list(one)} for i, one in enumerate(wanted)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert targets(tmp_path / "a.jsonl") == wanted
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert targets(tmp_path / "a.parquet") == wanted
    (tmp_path / "b.csv").write_text("text,sea,sky\none,1,1\ntwo,0,0\nthree,false,True\n")
    assert targets(tmp_path / "b.csv", TEXTS._replace(label=("sea", "sky"))) == wanted


def test_rows_without_a_label_or_a_text_are_left_out_and_said(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"text": "a", "tags": ["x"]}\n{"text": "b", "tags": null}\n{"text": " ", "tags": ["x"]}\n'
    )
    said = []
    with heard_by(said.append):
        found = read_table(tmp_path / "a.jsonl", TEXTS, "labels")
    assert [(one.row, one.input) for one in found] == [(0, "a")]
    assert [line.partition(": ")[2] for line in said] == [
        "1 rows without a label are left out",
        "1 rows without a text are left out",
    ]
    assert [one.target for one in read_table(tmp_path / "a.jsonl", TEXTS._replace(label=None), "labels")] == [
        None,
        None,
    ]


def test_numbers_and_what_is_none(tmp_path):
    file, columns = tmp_path / "a.csv", TEXTS._replace(label="price")
    file.write_text("text,price\na,1.5\nb,\nc, -2e3\n")
    assert targets(file, columns, "regression") == [1.5, -2000.0]
    for odd in ("nan", "inf", "dear", "1,5"):
        file.write_text(f'text,price\na,1\nb,"{odd}"\n')
        with pytest.raises(DataError, match=rf"a.csv, row 1: '{odd}' is no finite number; leave the cell"):
            targets(file, columns, "regression")
    file.write_text("text,price\na,\n")
    with pytest.raises(DataError, match="holds no row with 'text' and a label"):
        targets(file, columns, "regression")


def test_what_is_no_label_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,sea,sky\none,1,2\n")
    with pytest.raises(DataError, match=r"a.csv, row 0: 'sky' is '2'; where each label has a column"):
        targets(tmp_path / "a.csv", TEXTS._replace(label=("sea", "sky")))
    (tmp_path / "a.jsonl").write_text('{"text": "a", "tags": [["x"]]}\n')
    with pytest.raises(DataError, match=r"row 0 is a list \(\['x'\]\) and not a label"):
        targets(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text('{"text": 3, "tags": []}\n')
    with pytest.raises(DataError, match="row 0 is a number"):
        targets(tmp_path / "a.jsonl")


def test_images_lie_beside_the_table(tmp_path):
    Image.fromarray(np.full((5, 5, 3), 9, np.uint8)).save(tmp_path / "a.png")
    columns = Columns("image", "tags", "image", separator="|")
    (tmp_path / "t.csv").write_text("image,tags\na.png,x|y\n,x\n")
    (one,) = read_table(tmp_path / "t.csv", columns, "labels")
    rows = ImageList([one.input], [one.where], 4)
    assert rows.read(np.array([0])).x.unique().tolist() == [9]
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"the image .*t.csv, row 0 cannot be read"):
        rows.read(np.array([0]))
    (tmp_path / "t.csv").write_text("image,tags\nb.png,x|y\n")
    with pytest.raises(DataError, match=r"t.csv, row 0: 'b.png' is no image file that lies in"):
        read_table(tmp_path / "t.csv", columns, "labels")


def test_what_is_held_out_has_nothing_that_train_lacks():
    items = [Item("f", i, "", ("often",) if i else ("once",)) for i in range(20)]
    stay, out, back = carve(items, 0.5, lambda item: item.target)
    assert len(stay) + len(out) == 20
    assert {one.row for one in stay} & {one.row for one in out} == set()
    assert ("once",) in [one.target for one in stay]
    assert back in (0, 1)
    assert carve(items, 0.5, lambda item: item.target) == (stay, out, back)
    assert carve(items, 0.0, lambda item: item.target) == (items, [], 0)
    with pytest.raises(DataError, match="1 samples cannot be parted"):
        carve(items[:1], 0.5, lambda item: item.target)
