"""Images of tables: CSV, JSONL and Parquet that name files, and Parquet that holds them."""

import json

import pyarrow
import pyarrow.parquet
import pytest
from image_files import solid

import ssl_zoo
from ssl_zoo import DataError
from ssl_zoo.compose import composition
from ssl_zoo.data.images import ImageData

QUIET = {"progress": False}
RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture
def files(tmp_path):
    """Twelve images in a folder, and rows of a table that name them."""
    rows = []
    for i in range(12):
        place = tmp_path / "set" / f"part {i % 3}" / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(solid((RED, BLUE)[i % 2]))
        rows.append({"path": f"part {i % 3}/{i}.png", "species": ("10", "9")[i % 2]})
    return tmp_path / "set", rows


def written(folder, name, rows):
    """The table in a file of its kind."""
    file = folder / name
    if name.endswith(".csv"):
        file.write_text("path,species\n" + "".join(f"{row['path']},{row['species']}\n" for row in rows))
    elif name.endswith(".jsonl"):
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
@pytest.mark.parametrize("unpack", [True, False])
def test_rows_name_files_and_labels(files, tmp_path, name, unpack, capsys):
    folder, rows = files
    file = written(folder, name, [*rows, {"path": "gone.png", "species": "9"}])
    data = ImageData(
        "set", str(file), image_size=4, validation_fraction=0, unpack=unpack, cache=str(tmp_path / "c")
    )
    found = data.rows("train")
    assert data.classes == ("9", "10")  # whole numbers by their value
    assert found.y.tolist() == [1, 0] * 6
    x = found.read(found.index).x
    assert [(one[:, 0, 0].tolist()) for one in x] == [list((RED, BLUE)[i % 2]) for i in range(12)]
    assert f"1 rows without an image in {folder}" in capsys.readouterr().err


def test_parquet_holds_images_and_names_their_classes(tmp_path):
    images = [{"image": {"bytes": solid((RED, BLUE)[i % 2]), "path": None}, "label": i % 2} for i in range(6)]
    table = pyarrow.Table.from_pylist(images)
    about = {"info": {"features": {"label": {"names": ["red", "blue"], "_type": "ClassLabel"}}}}
    pyarrow.parquet.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(about)}), tmp_path / "a.parquet"
    )
    data = ImageData(
        "set", str(tmp_path / "a.parquet"), image_size=4, validation_fraction=0, cache=str(tmp_path / "c")
    )
    rows = data.rows("train")
    assert data.classes == ("red", "blue")
    assert rows.y.tolist() == [0, 1] * 3
    assert rows.read(rows.index).x[:, :, 0, 0].tolist() == [list((RED, BLUE)[i % 2]) for i in range(6)]


def test_what_is_wrong_with_a_table(files, tmp_path):
    folder, rows = files
    options = {"image_size": 4, "cache": str(tmp_path / "c")}
    (folder / "b.csv").write_text("a,b\n1,2\n")
    (folder / "d.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match=r"no column of images by a usual name; its columns are a, b"):
        ImageData("set", str(folder / "b.csv"), **options).rows("train")
    with pytest.raises(DataError, match="no row names an image file that is in"):
        ImageData("set", str(written(tmp_path, "c.csv", rows)), **options).rows("train")
    with pytest.raises(DataError, match="cannot be read"):
        ImageData("set", str(folder / "d.parquet"), **options).rows("train")


def test_a_folder_with_a_table_of_labels_is_one_word(files, monkeypatch, capsys):
    folder, rows = files
    monkeypatch.chdir(folder.parent)
    written(folder, "labels.csv", rows)
    words = composition.settle("pretrain", ["objective=simclr_small", "backbone=resnet_micro", "data=set"])
    assert "data=image_folder" in words
    said = capsys.readouterr().err
    assert "rows that name images; image is column 'path', label 'species', of 'path', 'species'" in said
    run = ssl_zoo.pretrain("simclr_small", backbone="resnet_micro", data="set", data__image_size=8,
                           batch_size=4, out="run", steps=1, evaluate_every=0, trainer="cpu",
                           **QUIET)  # fmt: skip
    table = ssl_zoo.evaluate(
        run, data="set", protocol="knn", labels=2, seeds=[0], data__validation_fraction=0.2, **QUIET
    )
    assert 0 <= table["pretrained"].mean <= 1
    vectors = ssl_zoo.embed(run, "set/labels.csv", **QUIET)
    assert vectors.files == [f"set/{row['path']}" for row in rows]
    assert vectors.labels == [row["species"] for row in rows]
