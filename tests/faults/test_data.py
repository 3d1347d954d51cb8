"""Data that cannot be trained on, given to the command: an error that says where, and nothing left behind."""

import io
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tiny
from image_files import encoded, folder, solid
from PIL import Image
from tiny import forked
from transfer_fakes import MLP
from transfer_fakes import images as pictures

from ssl_zoo.data.rows import Subset
from ssl_zoo.transfer.evaluate import evaluate
from ssl_zoo.transfer.protocols import Knn

ROTATION = (
    *("pretrain", "objective=rotation", "backbone=resnet_micro", "data=image_folder", "data.image_size=8"),
    *("budget.steps=1", "batch_size=4", "trainer=cpu", "run=run"),
)
MAE = ("pretrain", "objective=mae_small", "backbone=vit_micro", *ROTATION[3:])
NEXT = (
    *("pretrain", "objective=next_token", "backbone=transformer_micro", "backbone.width=16"),
    *("backbone.depth=1", "backbone.heads=2", "data=text_files", "data.train=text.txt", "tokenizer=bytes"),
    *("context=16", "batch_size=2", "budget.steps=1", "trainer=cpu", "run=run"),
)


def refused(where: Path, words: tuple[str, ...]) -> str:
    """What the command says when it refuses: exit code 1, no traceback, no run and nothing half-made."""
    code, said = forked(where, tiny.called, where, where / "cache", words)
    assert code == 1, said
    assert "Traceback" not in said, said
    run = where / "run"
    assert not any(
        (run / part).exists() for part in ("checkpoints", "backbone", "summary.json", "config.yaml")
    )
    made = [path for path in (where / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert [path for path in made if path.name.startswith(".") or ".part" in str(path)] == []
    return said


def accepted(where: Path, words: tuple[str, ...]) -> str:
    code, said = forked(where, tiny.called, where, where / "cache", words)
    assert code == 0, said
    return said


# Archives


def tar(path: Path, *members: tuple[str, bytes, int]) -> Path:
    """Members of name, content (or the target of a link) and type."""
    with tarfile.open(path, "w") as out:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(content)
                out.addfile(info, io.BytesIO(content))
            else:
                info.linkname = content.decode()
                out.addfile(info)
    return path


def images(count: int = 12) -> list[tuple[str, bytes, int]]:
    return [
        (f"{i}.{end}", content, tarfile.REGTYPE)
        for i in range(count)
        for end, content in (("png", solid((i, 9, 9), 8)), ("cls", b"01"[i % 2 : i % 2 + 1]))
    ]


@pytest.mark.fault("archive", how="members named ../x and /x, and links out of the archive")
@pytest.mark.parametrize(
    "kind", [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE], ids=["file", "link", "hard"]
)
def test_archives_write_nothing_and_follow_no_link(tmp_path, kind):
    """Members are read from the archive, and no archive is ever unpacked into files."""
    where = tmp_path / "where"
    where.mkdir()
    secret = encoded(Image.new("RGB", (8, 8), (200, 201, 202)))
    (tmp_path / "secret.png").write_bytes(secret)
    content = solid((7, 7, 7), 8) if kind == tarfile.REGTYPE else b"../secret.png"
    names = [f"{start}outside{i}" for i, start in enumerate(("../", "/ssl-zoo-", "a/../../"))]
    extra = [(f"{name}.png", content, kind) for name in names]
    if kind == tarfile.REGTYPE:
        extra += [(f"{name}.cls", b"0", kind) for name in names]
    tar(where / "shard.tar", *images(), *extra)
    _, said = forked(where, tiny.called, where, where / "cache", (*ROTATION, "data.train=shard.tar"))
    assert "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret.png", "where"]
    assert list(Path("/").glob("ssl-zoo-*")) == []
    for stored in (where / "cache").rglob("images.npy"):
        assert bytes([200] * 64 + [201] * 64) not in stored.read_bytes()


@pytest.mark.fault("archive", how="a .tar.gz cut off in the middle, as a download that broke off")
def test_an_archive_that_was_cut_off(tmp_path):
    with tarfile.open(tmp_path / "shard.tar.gz", "w:gz") as out:
        out.add(tar(tmp_path / "inner.tar", *images(40)), "0.png")
    whole = (tmp_path / "shard.tar.gz").read_bytes()
    (tmp_path / "shard.tar.gz").write_bytes(whole[: len(whole) // 2])
    said = refused(tmp_path, (*ROTATION, "data.train=shard.tar.gz"))
    assert "shard.tar.gz" in said
    assert "damaged" in said or "cut" in said


@pytest.mark.fault("archive", how="a sparse .tar of 10 kB that claims a terabyte")
def test_an_archive_that_claims_to_be_huge(tmp_path):
    with tarfile.open(tmp_path / "shard.tar", "w") as out:
        info = tarfile.TarInfo("0.png")
        info.size = 1 << 40
        out.fileobj.write(info.tobuf(tarfile.PAX_FORMAT) + bytes(8192))
    said = refused(tmp_path, (*ROTATION, "data.train=shard.tar"))
    assert "shard.tar" in said


# Images


def png(width: int, height: int) -> bytes:
    """The start of a PNG of that size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.fault("huge image", how="PNGs that declare 169 and 400 megapixels, among small ones")
@pytest.mark.parametrize("side", [13_000, 20_000])
def test_huge_images(tmp_path, side):
    folder(tmp_path / "photos", {"cat": 6, "dog": 6}, size=8)
    (tmp_path / "photos/dog/huge.png").write_bytes(png(side, side))
    said = refused(tmp_path, (*ROTATION, "data.train=photos"))
    assert "photos/dog/huge.png" in said
    assert f"{side * side:,}" in said or f"{side * side}" in said
    assert "max_pixels" in said


def unreadable() -> dict[str, bytes]:
    whole = encoded(Image.effect_noise((32, 32), 90), "JPEG")
    return {"truncated.jpg": whole[: len(whole) // 2], "empty.jpg": b"", "text.jpg": b"404 Not Found"}


def unusual() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "cmyk.jpg": encoded(Image.new("CMYK", (8, 8)), "JPEG"),
        "deep.png": encoded(Image.new("I;16", (8, 8), 40000)),
        "la.png": encoded(Image.new("LA", (8, 8))),
        "palette.gif": encoded(Image.new("P", (8, 8)), "GIF"),
        "turned.jpg": encoded(Image.new("RGB", (8, 12)), "JPEG", exif=exif),
    }


@pytest.mark.fault("image", how="a JPEG cut off, an empty one and a page of text, among images of every mode")
def test_unreadable_images_among_unusual_ones(tmp_path):
    folder(tmp_path / "photos", {"cat": 60, "dog": 60}, size=8)
    for name, content in unusual().items():
        (tmp_path / "photos/cat" / name).write_bytes(content)
    words = (*ROTATION, "data.train=photos")
    accepted(tmp_path, (*words, "run=good"))
    for name, content in unreadable().items():
        bad = tmp_path / "photos/dog" / name
        bad.write_bytes(content)
        said = refused(tmp_path, words)
        assert f"photos/dog/{name}: " in said
        assert "on_bad_sample=skip" in said
        said = accepted(tmp_path, (*words, "data.on_bad_sample=skip", f"run={name}"))
        assert "1 damaged" in said
        bad.unlink()
    for path in (tmp_path / "photos").rglob("*.*"):
        path.write_bytes(b"404 Not Found")
    said = refused(tmp_path, (*words, "data.on_bad_sample=skip"))
    assert "125 of the 125 images" in said


# Sizes


@pytest.mark.fault(
    "few rows", how="an empty folder, 10 images for a batch of 32, no validation split to evaluate on"
)
def test_too_few_rows(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "the folder 'empty' holds no images" in refused(tmp_path, (*ROTATION, "data.train=empty"))
    folder(tmp_path / "few", {"cat": 5, "dog": 7}, size=8)
    said = refused(tmp_path, (*ROTATION, "data.train=few", "batch_size=32"))
    assert "the data has 10 rows, fewer than one batch of 32: take batch_size=10" in said
    none = (*ROTATION, "data.train=few", "data.validation_fraction=0", "data.test_fraction=0.2")
    accepted(tmp_path, none)
    words = ("evaluate", "run=run", "data=image_folder", "data.image_size=8", "device=cpu", *none[9:])
    code, said = forked(tmp_path, tiny.called, tmp_path, tmp_path / "cache", words)
    assert code == 1
    assert "has no validation split; name its source, or carve it" in said


@pytest.mark.fault(
    "one sample", how="a class folder with one image, of which a tenth is carved off for validation"
)
def test_a_class_of_one_sample(tmp_path):
    folder(tmp_path / "pets", {"cat": 1, "dog": 20}, size=8)
    said = refused(tmp_path, (*ROTATION, "data.train=pets"))
    assert "class 'cat' has 1 sample(s), too few to carve 0.1 off" in said


@pytest.mark.fault("one sample", how="a labelled row that is alone of its class, measured without carving")
def test_a_class_of_one_labelled_row_is_said():
    rows = pictures(40, seed=0)
    lonely = Subset(rows, np.r_[np.flatnonzero(rows.y != 1), np.flatnonzero(rows.y == 1)[:1]])
    with pytest.warns(UserWarning, match="1 of 3 classes have one labelled row .* class 'c1' the"):
        evaluate(MLP(), lonely, rows, pictures(12, seed=1), Knn(ks=(1,)), device="cpu")


@pytest.mark.fault("small image", how="image_size 2 and 30 for patches of 4")
@pytest.mark.parametrize(("side", "works"), [(2, "use 4"), (30, "use 28 or 32")])
def test_images_that_patches_do_not_fit(tmp_path, side, works):
    said = refused(
        tmp_path, (*MAE[:3], "data=digits", f"data.image_size={side}", "backbone.patch_size=4", *MAE[5:])
    )
    assert f"image {side}x{side} does not divide into patches of 4; {works}" in said


# Text


@pytest.mark.fault("text", how="Latin-1, NULs, an empty file, and 5 words for a context of 128")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"ah, " + "café".encode("latin-1") * 30, "text.txt, line 1: byte 7 of the text"),
        (b"some words\0" * 40, "text.txt"),
        (b"", "holds no text"),
        (b"a few words\n\nand more\n\nand a third", "one row needs 128 + 1 of lookahead"),
    ],
    ids=["Latin-1", "NUL", "empty", "short"],
)
def test_text_that_cannot_be_read(tmp_path, content, said):
    (tmp_path / "text.txt").write_bytes(content)
    assert said in refused(tmp_path, (*NEXT, "context=128"))
