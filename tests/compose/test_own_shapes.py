"""Whatever shape one's data has, data=PATH alone pretrains on it and evaluates on it."""

import io
import json
import tarfile

import numpy as np
import pyarrow.parquet
import pytest
import torch
from alike import some_of
from PIL import Image

import ssl_zoo
from ssl_zoo import DataError
from ssl_zoo.compose.own_data import chosen
from ssl_zoo.data.text_formats import Text

QUIET = {"progress": False}
SMALL = {"steps": 1, "batch_size": 4, "evaluate_every": 0, "trainer": "cpu", **QUIET}
CLASSES = ("dark", "light")
COUNT = 24


def png(i):
    """An image of class i % 2, told by its brightness."""
    draw = np.random.default_rng(i)
    file = io.BytesIO()
    Image.fromarray(draw.integers(0, 90, (12, 12, 3), dtype=np.uint8) + np.uint8(150 * (i % 2))).save(
        file, "PNG"
    )
    return file.getvalue()


def image(folder, name, i):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(png(i))


def text(i):
    """A text of class i % 2, told by its words."""
    draw = np.random.default_rng(i)
    return " ".join(draw.choice((["night", "shade", "coal"], ["noon", "snow", "sun"])[i % 2], 8))


def class_folders(root):
    for i in range(COUNT):
        image(root / "set", f"{CLASSES[i % 2]}/{i}.png", i)
    return root / "set"


def deep_folders(root):
    for i in range(COUNT):
        image(root / "set", f"{CLASSES[i % 2]}/roll {i % 3}/day {i % 5}/{i}.png", i)
    return root / "set"


def splits(root):
    for i in range(COUNT):
        image(root / "set", f"{('train', 'train', 'val', 'test')[i // 2 % 4]}/{CLASSES[i % 2]}/{i}.png", i)
    return root / "set"


def folder_with_a_table(root):
    for i in range(COUNT):
        image(root / "set", f"{i}.png", i)
    rows = "".join(f"{i}.png,{CLASSES[i % 2]}\n" for i in range(COUNT))
    (root / "set" / "labels.csv").write_text(f"file_name,label\n{rows}")
    return root / "set"


def table_of_images(root):
    for i in range(COUNT):
        image(root / "set", f"deep/{i}.png", i)
    rows = [{"image": f"set/deep/{i}.png", "class": CLASSES[i % 2]} for i in range(COUNT)]
    (root / "images.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root / "images.jsonl"


def parquet_of_images(root):
    rows = [{"image": {"bytes": png(i), "path": f"{i}.png"}, "label": i % 2} for i in range(COUNT)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), root / "images.parquet")
    return root / "images.parquet"


def shards(root):
    (root / "set").mkdir()
    for part in range(2):
        with tarfile.open(root / "set" / f"part-{part}.tar", "w") as archive:
            for i in range(part, COUNT, 2):
                for ending, content in ((".png", png(i // 2)), (".cls", str(i // 2 % 2).encode())):
                    info = tarfile.TarInfo(f"{i:03}{ending}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    return root / "set"


def class_folders_of_texts(root):
    for i in range(COUNT):
        place = root / "set" / CLASSES[i % 2] / f"{i}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text(i))
    return root / "set"


def csv_table(root):
    (root / "a.csv").write_text(
        "id,body,topic\n" + "".join(f"{i},{text(i)},{CLASSES[i % 2]}\n" for i in range(COUNT))
    )
    return root / "a.csv"


def tsv_table(root):
    (root / "a.tsv").write_text("text\tlabel\n" + "".join(f"{text(i)}\t{i % 2}\n" for i in range(COUNT)))
    return root / "a.tsv"


def jsonl_table(root):
    rows = [{"text": text(i), "label": CLASSES[i % 2]} for i in range(COUNT)]
    (root / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root / "a.jsonl"


def parquet_table(root):
    rows = [{"review": text(i), "stars": i % 2} for i in range(COUNT)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), root / "a.parquet")
    return root / "a.parquet"


IMAGES = (
    class_folders,
    deep_folders,
    splits,
    folder_with_a_table,
    table_of_images,
    parquet_of_images,
    shards,
)
TEXTS = (class_folders_of_texts, csv_table, tsv_table, jsonl_table, parquet_table)
OF_EACH_KIND = (
    class_folders,
    folder_with_a_table,
    parquet_of_images,
    shards,
    class_folders_of_texts,
    csv_table,
)
UNLABELLED = {"flat": "images", "one.png": "images", "one.txt": "texts", "folder of texts": "texts"}


def pretrained(kind, data, out):
    if kind == "images":
        return ssl_zoo.pretrain(
            "simclr_small", backbone="resnet_micro", data=data, out=out, data__image_size=12, **SMALL
        )
    return ssl_zoo.pretrain("masked_lm", backbone="transformer_micro", data=data, out=out, context=8, **SMALL)


@pytest.mark.parametrize("make", some_of([*IMAGES, *TEXTS], OF_EACH_KIND))
def test_labelled_data_of_any_shape_is_one_word(tmp_path, make):
    data = make(tmp_path)
    run = pretrained("images" if make in IMAGES else "texts", data, tmp_path / "run")
    table = ssl_zoo.evaluate(run, data=data, protocol="linear", seeds=[0], **QUIET)
    assert table["pretrained"].mean > 0.9  # so labels and samples belong together
    found = ssl_zoo.embed(run, data, **QUIET)
    assert len(found.values) == COUNT


@pytest.mark.parametrize("name", UNLABELLED)
def test_data_without_labels_pretrains_and_says_what_it_lacks(tmp_path, name):
    root, kind = tmp_path / name, UNLABELLED[name]
    if name == "flat":
        for i in range(COUNT):
            image(root, f"{i}.png", i)
    elif name == "one.png":
        root = tmp_path / "set"
        for i in range(COUNT):
            image(root, f"album/{i}.png", i)
        image(root, "cover.png", 0)
    elif name == "one.txt":
        root.write_text("\n\n".join(map(text, range(COUNT))))
    else:
        root.mkdir()
        for i in range(COUNT):
            (root / f"{i}.md").write_text(text(i))
    run = pretrained(kind, root, tmp_path / "run")
    assert run.summary["steps"] == 1
    with pytest.raises(DataError, match="no labels"):
        ssl_zoo.evaluate(run, data=root, **QUIET)


def test_a_torch_data_set_from_code(tmp_path):
    x = torch.stack(
        [torch.tensor(np.asarray(Image.open(io.BytesIO(png(i))))).permute(2, 0, 1) for i in range(COUNT)]
    )
    rows = ssl_zoo.rows(torch.utils.data.TensorDataset(x, torch.arange(COUNT) % 2), classes=CLASSES)
    run = ssl_zoo.pretrain("simclr_small", backbone="resnet_micro", data=rows, out=tmp_path / "run", **SMALL)
    assert ssl_zoo.evaluate(run, data=rows, protocol="linear", seeds=[0], **QUIET)["pretrained"].mean > 0.9


def test_logs_and_code_are_texts(tmp_path, capsys):
    for name in ("a.log", "b.text"):
        (tmp_path / name).write_text("one\n\ntwo, " + "of some length " * 9000)
    assert chosen("look", [f"data={tmp_path}"], [])[0] == "data=text_files"
    assert "2 text files, documents parted by empty lines (data.format.separator);" in capsys.readouterr().err
    (tmp_path / "c.rs").write_text("fn main() {}\n\nfn other() {}\n")
    chosen("look", [f"data={tmp_path}"], [])
    assert (
        "(data.format.separator); files of notes and code (1) are one document each"
        in capsys.readouterr().err
    )
    chosen("look", [f"data={tmp_path}/c.rs"], [])
    assert "one text file of notes or code, one document a file" in capsys.readouterr().err
    assert [sample.text for sample in Text().samples(tmp_path / "c.rs")] == [
        "fn main() {}\n\nfn other() {}\n"
    ]
