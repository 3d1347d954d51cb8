"""The data of the boards: what a page says lies where, and a script that lays it out."""

import importlib.util
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_zoo.compose import composition
from ssl_zoo.data.images import ImageData

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script():
    place = REPOSITORY / "benchmarks/data/images.py"
    spec = importlib.util.spec_from_file_location("lay_out_images", place)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_page_names_every_file_of_every_named_set():
    page = (REPOSITORY / "docs/guide/datasets.md").read_text()
    for file in sorted((composition.config_folder() / "data").glob("*.yaml")):
        places = re.findall(r"\$\{data_dir\}/([\w/.*-]+)", file.read_text())
        assert not places or f"`{file.stem}`" in page, file.stem
        for place in places:
            folder, _, name = place.rpartition("/")
            assert folder in page, place
            assert name in page or folder in ("cifar100", "eurosat"), place


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 32, 32), np.uint8)


def cifar(folder: Path) -> tuple[np.ndarray, list[int]]:
    """CIFAR-10 of 30 images, in the form for Python; the images and labels."""
    folder.mkdir()
    pixels, labels = pictures(30), [i * 7 % 3 for i in range(30)]
    for at, file in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        part = slice(5 * at, 5 * at + 5)
        names = [f"{'zyxwv'[i]}_s_{at}.png" for i in range(5)]
        entry = {"filenames": names, "labels": labels[part], "data": pixels[part].reshape(5, -1)}
        (folder / file).write_bytes(pickle.dumps(entry))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["plane", "car", "bird"]}))
    return pixels, labels


def test_cifar_stays_as_it_is(script, tmp_path, monkeypatch, capsys):
    pixels, labels = cifar(tmp_path / "cifar-10-batches-py")
    words = ["images.py", "cifar10", str(tmp_path / "out"), "--source", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    script.main()
    folder = tmp_path / "out/cifar10"
    assert f"{folder}: train 25, test 5; now SSL_ZOO_DATA=" in capsys.readouterr().out
    assert (folder / "classes.txt").read_text().split() == ["plane", "car", "bird"]
    data = ImageData(
        "cifar10", train=f"{folder}/train-*.tar.gz", test=f"{folder}/test-*.tar.gz", image_size=32,
        classes=str(folder / "classes.txt"), validation_fraction=0.0, cache=str(tmp_path / "cache"),
    )  # fmt: skip
    known = {row.tobytes(): label for row, label in zip(pixels, labels, strict=True)}
    read = []
    for split in ("train", "test"):
        rows = data.rows(split)
        batch = rows.read(np.arange(len(rows)))
        assert [known[x.numpy().tobytes()] for x in batch.x] == batch.y.tolist()
        read += [x.numpy().tobytes() for x in batch.x]
    assert sorted(read) == sorted(known)
    first = [file.read_bytes() for file in sorted(folder.glob("*.tar.gz"))]
    script.main()
    assert [file.read_bytes() for file in sorted(folder.glob("*.tar.gz"))] == first
    assert not list(folder.glob("*.part"))


def test_a_fifth_of_each_class_of_eurosat_is_for_the_test(script, tmp_path):
    for name in ("River", "Forest"):
        (tmp_path / "eurosat/2750" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"eurosat/2750/{name}/{name}_{i}.jpg")
    samples = list(script.eurosat(tmp_path))
    assert {(one.label, one.name.partition("/")[0]) for one in samples} == {(0, "Forest"), (1, "River")}
    assert [sum(one.split == "test" and one.label == y for one in samples) for y in (0, 1)] == [2, 2]
    assert {(one.split, one.name) for one in samples} == {
        (one.split, one.name) for one in script.eurosat(tmp_path)
    }
