"""What is said of data before it is read: counts, sizes, copies, damage."""

import numpy as np
import pytest
from PIL import Image

from ssl_zoo.cli.verb import run_verb


def picture(path, size, seed, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def seen(capsys, *words):
    run_verb("look", [str(word) for word in words])
    return capsys.readouterr().out.splitlines()


def test_images(tmp_path, capsys):
    for i in range(12):
        picture(
            tmp_path / "set" / "train" / ("cat", "dog")[i % 2] / f"{i}.png",
            (20 + i, 30),
            i,
            "LA" if i < 2 else "RGB",
        )
    for i in range(4):
        picture(tmp_path / "set" / "test" / ("cat", "dog")[i % 2] / f"{i}.jpg", (24, 24), 50 + i)
    picture(tmp_path / "set" / "test" / "cat" / "again.png", (24, 30), 4)  # as train/cat/4.png
    picture(tmp_path / "set" / "train" / "dog" / "twin.png", (23, 30), 3)  # as train/dog/3.png
    (tmp_path / "set" / "test" / "dog" / "cut.png").write_bytes(
        (tmp_path / "set" / "train" / "dog" / "5.png").read_bytes()[:200]
    )
    out = seen(capsys, tmp_path / "set", "data.validation_fraction=0", f"page={tmp_path / 'page.html'}")
    root, dogs = tmp_path / "set", tmp_path / "set" / "train" / "dog"
    assert out == [
        "train       13 images, 2 classes: dog 7, cat 6",
        "            widths 20 to 31 (median 25); heights 30",
        "            RGB 11, LA 2; PNG 13",
        f"            WARNING: 1 is a copy of another, such as {dogs}/twin.png of {dogs}/3.png",
        "test        6 images, 2 classes: cat 3, dog 3",
        "            widths 24; heights 24 to 30 (median 24)",
        "            RGB 5; JPEG 4, PNG 1",
        out[7],
        f"WARNING: 1 of test are in train too, such as {root}/test/cat/again.png, which is "
        f"{root}/train/cat/4.png",
        str(tmp_path / "page.html"),
    ]
    assert out[7].startswith(f"            WARNING: 1 cannot be read: {root}/test/dog/cut.png: ")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img") == 6 + 6 + 3 + 2
    assert "is a copy of another" in page


def test_few_of_many_are_opened(tmp_path, capsys):
    for i in range(30):
        picture(tmp_path / "set" / f"{i}.png", (8, 8), i)
    out = seen(capsys, tmp_path / "set", "limit=5", "data.validation_fraction=0")
    assert out == [
        "train       30 images, no labels",
        "            opened 5 of them (limit=)",
        "            all of 8x8 pixels",
        "            RGB 5; PNG 5",
    ]


def test_texts(tmp_path, capsys):
    rows = [f"word number {i},{'few' if i < 2 else 'many'}" for i in range(40)]
    (tmp_path / "a.csv").write_text("text,label\n" + "\n".join([*rows, "word number 7,many"]) + "\n")
    out = seen(capsys, tmp_path / "a.csv", "data.validation_fraction=0", f"page={tmp_path / 'page.html'}")
    file, in_bytes = tmp_path / "a.csv", sum(len(row.split(",")[0]) for row in rows) + len("word number 7")
    assert out[:4] == [
        "train       41 texts, 2 classes: many 39, few 2",
        "            WARNING: the largest class has 39 and the smallest 2",
        f"            {in_bytes} bytes; characters of a text: 13 to 14 (median 14)",
        f"            WARNING: 1 is a copy of another, such as {file} row 40 of {file} row 7",
    ]
    assert "word number 0" in (tmp_path / "page.html").read_text()


def test_tokens_are_those_of_a_run(tmp_path, capsys):
    import ssl_zoo

    (tmp_path / "a.txt").write_text("\n\n".join(["short text"] * 20 + ["a longer text " * 12] * 3))
    data = {"data": tmp_path / "a.txt", "tokenizer": "bytes", "context": 32, "batch_size": 2}
    ssl_zoo.pretrain("next_token", backbone="transformer_micro", out=tmp_path / "run", steps=1,
                     evaluate_every=0, trainer="cpu", progress=False, **data)  # fmt: skip
    capsys.readouterr()
    out = seen(capsys, tmp_path / "a.txt", f"run={tmp_path / 'run'}", "data.validation_fraction=0")
    (line,) = [line for line in out if "tokens of a text" in line]
    short, long = len(b"short text"), len(b"a longer text " * 12)
    assert f"{short + 1} to {long + 1} (median {short + 1}); 3 of 23 would be cut to 32" in line


def test_what_is_not_there(capsys):
    with pytest.raises(SystemExit, match=r"ssl-zoo look: data=\.\.\. is missing"):
        run_verb("look", [])
