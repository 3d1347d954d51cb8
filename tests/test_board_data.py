"""The data of the boards: what a page says lies where, and scripts that lay it out."""

import gzip
import hashlib
import importlib.util
import io
import lzma
import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_zoo.compose import composition
from ssl_zoo.data.images import ImageData

REPOSITORY = Path(__file__).parents[1]


def opened(name):
    """A script of benchmarks/data as a module."""
    place = REPOSITORY / f"benchmarks/data/{name}.py"
    spec = importlib.util.spec_from_file_location(f"lay_out_{name}", place)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def script():
    return opened("images")


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
    asked = []
    with pytest.raises(SystemExit, match="not found or corrupted"):  # made up, as torchvision sees
        script.main()
    monkeypatch.setattr(script.torchvision.datasets, "CIFAR10", lambda *where, **how: asked.append(how))
    script.main()
    assert asked == [{"download": False}]
    folder = tmp_path / "out/cifar10"
    said = capsys.readouterr().out
    assert f"{folder}: train 25, test 5; 0 of 6 shards hold what those of the boards hold\n" in said
    assert f"now SSL_ZOO_DATA={folder.parent}\n" in said
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
    assert {file.name for file in folder.iterdir()} == {
        "classes.txt",
        "train-000000.tar.gz",
        "test-000000.tar.gz",
    }


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


@pytest.fixture(scope="module")
def texts():
    return opened("texts")


def test_an_article_by_hand(texts):
    raw = (
        "A (B)\n\nA (; ) is, as  said,&lt;ref name=x&gt;no&lt;/ref&gt; b&lt;br&gt;c ( ). \n\n"
        "It has [ ] &amp; 3&nbsp;x.\n"
    )
    assert texts.article(raw) == ["A (B)", "A is, as said, no b c.", "It has [ ] & 3 x."]
    assert texts.article("one&lt;ref? a &quot;b&quot;, c.&lt;/ref&gt;\ntwo") == ["one", "two"]


def test_a_book_by_hand(texts):
    head = "# Title: T\n\n## Author: A\n\n-------\n\n"
    raw = f"{head}### Chapter 1 \n\nOne line\nand  its end.\n \n**Bold** -- _x_\n"
    assert texts.book(raw) == "Chapter 1\nOne line and its end.\n**Bold** -- _x_"


def test_articles_are_parted_by_the_number_of_their_page(texts, monkeypatch):
    """In the order of its SHA-1, each once, and long enough, until a split is large enough."""
    monkeypatch.setattr(texts, "SPLITS", (("valid", 700), ("train", 300)))
    page = '<doc id="{0}" url="?curid={0}" title="T{1}">\nT{1}\n\n{2}\n</doc>\n'
    numbers = sorted("12345", key=lambda one: hashlib.sha1(one.encode()).hexdigest())
    long = "x" * 300
    rows = [(one, one, long) for one in "12345"] + [("6", numbers[0], long), ("7", "7", "short")]
    whole = "".join(page.format(*row) for row in rows).encode()
    made = dict(texts.wikipedia(lambda place, path: whole if path.endswith("_00") else b""))
    taken = [f"T{one}\n{long}" for one in numbers]
    later = hashlib.sha1(b"6").hexdigest() > hashlib.sha1(numbers[0].encode()).hexdigest()
    assert later, "the copy comes second"
    assert made["valid.txt.xz"].decode() == "\n\n".join(taken[:3]) + "\n"
    assert made["train.txt.xz"].decode() == taken[3] + "\n"


def test_sentences_and_what_is_latin(texts):
    given = dict(texts.sst2(lambda place, path: b"1 good film\n0 bad one\n"))
    assert given["dev.tsv.gz"] == b"sentence\tlabel\ngood film\t1\nbad one\t0\n"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("qc/train.txt", "LOC:city Où ?".encode("latin-1"))
        archive.writestr("qc/test.txt", "LOC:city Où ?".encode())
    found = dict(texts.of_nltk("qc", "train.txt", "test.txt")(lambda place, path: file.getvalue()))
    assert set(found.values()) == {"LOC:city Où ?".encode()}


def test_another_file_is_refused_and_the_right_one_packed(texts, tmp_path, monkeypatch):
    name = "text/tinyshakespeare/input.txt.xz"
    with pytest.raises(SystemExit, match="is not what the boards were run on"):
        texts.write(name, b"other", tmp_path)
    assert not list(tmp_path.rglob("*.*"))
    monkeypatch.setattr(texts, "sums", lambda: {name: hashlib.sha256(b"other").hexdigest()})
    texts.write(name, b"other", tmp_path)
    assert lzma.decompress((tmp_path / name).read_bytes()) == b"other"


def test_every_text_that_a_board_reads_has_a_sum_and_a_set(texts):
    folders = {one.folder for one in texts.SETS.values()}
    for file in sorted((composition.config_folder() / "data").glob("*.yaml")):
        for place in re.findall(r"\$\{data_dir\}/(text[\w/.*-]+)", file.read_text()):
            assert place in texts.sums(), place
            assert place.rpartition("/")[0] in folders


def test_a_clone_that_is_not_there_is_named(texts, tmp_path):
    with pytest.raises(
        SystemExit, match=r"git clone https://github.com/karpathy/char-rnn .*karpathy\+char-rnn"
    ):
        texts.of_clones(tmp_path)(texts.SHAKESPEARE, "data/tinyshakespeare/input.txt")


@pytest.mark.data
def test_what_is_here_is_what_the_sums_say(texts):
    where = os.environ.get("SSL_ZOO_DATA")
    if not where:
        pytest.skip("SSL_ZOO_DATA names no data folder")
    for name, digest in texts.sums().items():
        raw = (Path(where) / name).read_bytes()
        content = lzma.decompress(raw) if name.endswith(".xz") else gzip.decompress(raw)
        assert hashlib.sha256(content).hexdigest() == digest, name
