"""Image data: decoding against hand-worked pixels, sources, stores that exist whole or not at all, splits."""

import json
import multiprocessing
import os
import pickle
import struct
import sys
import tarfile
import types
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
from image_files import data, encoded, folder, shard, solid
from omegaconf import OmegaConf
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from ssl_zoo.data import image_store
from ssl_zoo.data.image_decoding import decode, decode_fast
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.splits import carve

RED, GREY = (255, 0, 0), (128, 128, 128)


def palette() -> Image.Image:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    return image


def png16(value: int) -> bytes:
    """A 16-bit RGB PNG, which Pillow can read and not write."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + struct.pack(">H", value) * 12) * 4
    head = part(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


def grey(value, dtype) -> Image.Image:
    return Image.fromarray(np.full((4, 4), value, dtype))


@pytest.mark.fault("image", how="images of all modes of Pillow, compared with pixels worked by hand")
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(Image.new("1", (4, 4), 1)), (255, 255, 255)),
        (encoded(Image.new("L", (4, 4), 128)), GREY),
        (encoded(Image.new("LA", (4, 4), (128, 255))), GREY),
        (encoded(Image.new("LA", (4, 4), (0, 0))), (255, 255, 255)),
        (encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 255))), RED),
        (encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 127))), GREY),
        (encoded(palette()), RED),
        (encoded(palette(), transparency=1), (255, 255, 255)),
        (encoded(palette(), transparency=bytes([0, 255])), RED),
        (encoded(palette(), "GIF"), RED),
        (encoded(Image.new("RGB", (4, 4), RED), transparency=RED), (255, 255, 255)),
        (encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "TIFF"), RED),
        (encoded(Image.new("YCbCr", (4, 4), (128, 128, 128)), "TIFF"), GREY),
        (encoded(grey(32896, np.uint16)), GREY),  # 128 * 257
        (encoded(grey(65535, np.uint16), "TIFF"), (255, 255, 255)),
        (encoded(grey(300, np.uint16)), (1, 1, 1)),
        (encoded(grey(65535, np.int32), "TIFF"), (255, 255, 255)),
        (png16(32896), GREY),
    ],
)
def test_every_mode_becomes_8_bit_rgb(data, expected):
    pixels = decode(data, 4)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, 4, 4)
    np.testing.assert_array_equal(pixels, np.broadcast_to(np.reshape(expected, (3, 1, 1)), (3, 4, 4)))


def test_cmyk_jpeg_is_not_inverted():
    pixels = decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100), 8)
    assert abs(pixels.astype(int) - np.reshape(RED, (3, 1, 1))).max() <= 3


@pytest.mark.parametrize(
    ("image", "says"),
    [(grey(0.5, np.float32), "floating-point"), (grey(1 << 20, np.int32), "no agreed range")],
)
def test_pixels_without_a_known_range_are_refused(image, says):
    with pytest.raises(ValueError, match=says):
        decode(encoded(image, "TIFF"), 4)


@pytest.mark.fault("image", how="all eight orientations of EXIF")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    upright = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    # How the sensor saw it, by the EXIF standard: the corner that holds the upright image's first pixel.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),  # shown after a quarter turn clockwise
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    np.testing.assert_array_equal(decode(data, 4), upright.transpose(2, 0, 1))


def test_resize_keeps_the_centre_square():
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = RED
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(wide)), 4)[0], np.full((4, 4), 255))
    checks = np.indices((64, 64)).sum(0) % 2 * 255  # antialiased, fine checks become grey; nearest would not
    small = decode(encoded(Image.fromarray(checks.astype(np.uint8))), 8).astype(int)
    assert abs(small - 127).max() <= 8
    assert decode(encoded(Image.new("L", (1, 30000))), 8).shape == (3, 8, 8)


@pytest.mark.parametrize("sides", [(50, 38), (33, 60), (61, 34), (12, 12), (9, 30)])
def test_fast_decoding_is_pillows_of_whole_pixels(sides):
    """Within 1 of 255, enlarged too; an image of the right sides keeps its pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (*sides, 3), dtype=np.uint8)
    side, (top, left) = min(sides), [(a - min(sides)) // 2 for a in sides]
    square = Image.fromarray(pixels[top : top + side, left : left + side])
    wanted = np.asarray(square.resize((12, 12), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    found = decode_fast(encoded(Image.fromarray(pixels)), 12)
    assert found.dtype == np.uint8
    assert abs(found.astype(int) - wanted).max() <= (sides != (12, 12))


def photograph(height: int, width: int) -> Image.Image:
    """Smooth enough that an eighth of it holds what there is to see."""
    rough = np.random.default_rng(0).integers(0, 256, (height // 80, width // 80, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("gap", "sides"), [(1, (100, 125)), (2, (200, 250)), (4, (400, 500)), (9, (800, 1000))]
)
def test_a_large_jpeg_is_decoded_at_a_part_of_its_sides(monkeypatch, gap, sides):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = encoded(photograph(1000, 800), "JPEG", quality=95, exif=exif)
    loaded = []
    load = JpegImageFile.load

    def watch(opened):
        loaded.append(opened.size)
        return load(opened)

    monkeypatch.setattr(JpegImageFile, "load", watch)
    found = decode_fast(image, 100, reducing_gap=gap).astype(int)
    assert loaded[0] == sides
    assert abs(found - decode(image, 100)).mean() < (4.5 if gap == 1 else 2.5)  # half a pixel of the crop


def test_a_small_jpeg_and_other_kinds_are_decoded_whole():
    for image in (encoded(photograph(400, 400), "JPEG"), encoded(photograph(1000, 800))):
        np.testing.assert_array_equal(decode_fast(image, 201, reducing_gap=1), decode_fast(image, 201))


def test_no_decoder_reads_more_pixels_than_allowed():
    image = encoded(photograph(400, 400), "JPEG")
    for read in (decode, partial(decode_fast, reducing_gap=1)):
        with pytest.raises(ValueError, match="160000 pixels are more than max_pixels=159999"):
            read(image, 20, max_pixels=159_999)


def test_class_folders(tmp_path):
    rows = data(tmp_path, folder(tmp_path / "in", {"b": 3, "a": 2})).rows("train")
    assert rows.classes == ("a", "b")
    assert rows.y is not None
    assert rows.y.tolist() == [0, 0, 1, 1, 1]
    index = np.array([4, 0, 4, 2])
    batch = rows.read(index)
    assert batch.x.dtype == torch.uint8
    assert batch.x.shape == (4, 3, 4, 4)
    assert batch.x[:, 0, 0, 0].tolist() == [2, 3, 2, 0]  # "b" was written first
    assert batch.y is not None
    assert batch.y.tolist() == [1, 0, 1, 1]
    np.testing.assert_array_equal(rows.array[rows.index[index]], batch.x.numpy())


def test_flat_folder_is_unlabelled(tmp_path):
    folder(tmp_path, {"in": 5})
    unlabelled = data(tmp_path, tmp_path / "in", validation_fraction=0.4)
    assert [len(unlabelled.rows(s)) for s in ("pretrain", "validation")] == [3, 2]
    assert unlabelled.rows("pretrain").y is None
    assert unlabelled.rows("train").read(np.array([0])).y is None
    assert unlabelled.classes == ()
    with pytest.raises(DataError, match=r"tiny.*no labels"):
        unlabelled.labelled("train")


def test_shards(tmp_path):
    shard(tmp_path / "t-1.tar", {"./d/2.png": solid((2, 0, 0)), "./d/2.cls": b"0", "./d/._2.png": b"mac"})
    shard(
        tmp_path / "t-0.tar.gz", {"0.png": solid(RED), "0.cls": b"1\n", "1.cls": b"0", "1.png": solid(GREY)}
    )
    (tmp_path / "names").write_text("cat\ndog\n")
    rows = data(tmp_path, tmp_path / "t-*", classes=str(tmp_path / "names")).labelled("train")
    assert rows.classes == ("cat", "dog")
    batch = rows.read(np.arange(3))
    assert batch.x[:, 0, 0, 0].tolist() == [255, 128, 2]
    assert batch.y is not None
    assert batch.y.tolist() == [1, 0, 0]


def test_shards_that_are_wrong(tmp_path):
    good = {"0.png": solid(RED), "0.cls": b"1"}
    wrong = {
        "no-image.tar": (good | {"1.cls": b"0"}, "sample 1 has 0 images"),
        "two.tar": ({"0.png": solid(RED), "0.jpg": solid(RED)}, "sample 0 has 2 images"),
        "label.tar": (good | {"0.cls": b"cat"}, "0.cls should hold a class index.*cat"),
        "part.tar": (good | {"1.png": solid(RED)}, "1 of the 2 images of .* have no label"),
        "bad.tar": (good | {"0.png": solid(RED)[:-30]}, "bad.tar:0.png: "),
        "none.tar": ({"readme.txt": b"hi"}, "holds no images"),
    }
    for name, (members, says) in wrong.items():
        with pytest.raises(DataError, match=says):
            data(tmp_path, shard(tmp_path / name, members)).rows("train")


@pytest.mark.fault("archive", how="shards cut off after every 512 bytes")
@pytest.mark.parametrize("name", ["cut.tar", "cut.tar.gz"])
def test_shards_that_were_cut_off(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 255, (9, 16, 16, 3), dtype=np.uint8)
    whole = shard(tmp_path / name, {f"{i}.png": encoded(Image.fromarray(noise[i])) for i in range(9)})
    content = whole.read_bytes()
    end = len(content.rstrip(b"\0")) - 600  # an archive is padded with zeros, which nobody misses
    for length in range(0, end, 512):  # within members and, for .tar, between them
        whole.write_bytes(content[:length])
        with pytest.raises(DataError, match=f"{name} is damaged"):
            data(tmp_path, whole).rows("train")


def bad_files() -> dict[str, bytes]:
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), "JPEG")
    return {
        "truncated.jpg": whole[: len(whole) // 2],
        "empty.jpg": b"",
        "text.jpg": b"404 Not Found",
        "bomb.png": png16(0)[:16] + struct.pack(">II", 40000, 40000) + png16(0)[24:],
    }


@pytest.mark.fault("image", how="four kinds of unreadable images, with both policies")
@pytest.mark.parametrize("name", bad_files())
def test_bad_samples(tmp_path, name):
    root = folder(tmp_path / "in", {"a": 99})
    (root / "a" / name).write_bytes(bad_files()[name])
    with pytest.raises(DataError, match=f"in/a/{name}: .*on_bad_sample=skip"):
        data(tmp_path, root).rows("train")
    assert len(data(tmp_path, root, on_bad_sample="skip").rows("train")) == 99
    (root / "a" / f"2{name}").write_bytes(bad_files()[name])
    with pytest.raises(DataError, match=f"2 of the 101 images .*{name}"):
        data(tmp_path, root, on_bad_sample="skip").rows("train")


def test_bomb_is_refused_by_its_header(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    cut = encoded(Image.fromarray(noise))[:1000]  # whoever decodes it finds that pixels are missing
    with pytest.raises(ValueError, match="its 1024 pixels are more than max_pixels=1023"):
        decode(cut, 4, max_pixels=1023)
    with pytest.raises(OSError, match=r"(?i)truncated"):
        decode(cut, 4, max_pixels=1024)
    with pytest.raises(DataError, match=r"000.png: .*more than max_pixels=15"):
        data(tmp_path, folder(tmp_path / "in", {"a": 2}), max_pixels=15).rows("train")


def test_sources_that_are_wrong(tmp_path, monkeypatch):
    monkeypatch.delenv("SSL_ZOO_DATA", raising=False)
    with pytest.raises(DataError, match=r"absent' does not exist.*set SSL_ZOO_DATA"):
        data(tmp_path, tmp_path / "absent" / "train-*.tar.gz").rows("train")
    monkeypatch.setenv("SSL_ZOO_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"SSL_ZOO_DATA is {tmp_path}"):
        data(tmp_path, tmp_path / "absent").rows("train")
    (tmp_path / "empty").mkdir()
    (folder(tmp_path / "hollow", {"a": 1}) / "b").mkdir()
    shard(tmp_path / "empty" / "x.tar", {})
    (tmp_path / "file.zip").write_bytes(b"")
    for source, says in {
        "empty": "holds shards: write",
        "hollow": "class folders .* hold no images: b",
        "file.zip": "neither a folder nor a shard",
        "empty/x.tar": "holds no images",
    }.items():
        with pytest.raises(DataError, match=says):
            data(tmp_path, tmp_path / source).rows("train")
    for source, says in {
        "torchvision:CIFAR10": "NAME:SPLIT",
        "torchvision:Nope:train": "no 'Nope'",
        "torchvision:stl10:train": "no 'stl10'; CIFAR10",
        "torchvision:CIFAR10:unlabeled": "no split 'unlabeled'",
    }.items():
        with pytest.raises(DataError, match=says):
            data(tmp_path, source).rows("train")


def test_images_beside_folders_are_read_without_labels(tmp_path, capsys):
    (folder(tmp_path / "mixed", {"a": 2}) / "x.png").write_bytes(solid(RED))
    made = data(tmp_path, tmp_path / "mixed")
    assert len(made.rows("train")) == 3
    assert made.classes == ()
    assert "1 images lie beside folders with 2 more" in capsys.readouterr().err
    with pytest.raises(DataError, match="have no labels"):
        made.labelled("train")


def test_one_image_is_a_source(tmp_path):
    (tmp_path / "only.png").write_bytes(solid(RED))
    rows = data(tmp_path, tmp_path / "only.png", unpack=False).rows("train")
    assert len(rows) == 1
    assert rows.name(0) == str(tmp_path / "only.png")
    assert rows.y is None


def test_splits_that_are_wrong(tmp_path):
    root = folder(tmp_path / "in", {"a": 4, "b": 1})
    with pytest.raises(DataError, match=r"class 'b' has 1 sample\(s\)"):
        data(tmp_path, root, validation_fraction=0.1).rows("train")
    with pytest.raises(DataError, match="no 'test' split, only train: give test=SOURCE or test_fraction"):
        data(tmp_path, root).rows("test")
    with pytest.raises(DataError, match=r"no 'dev' split, only train$"):
        data(tmp_path, root).rows("dev")
    with pytest.raises(DataError, match="train names no images"):
        ImageData("none", "", image_size=4, cache=str(tmp_path))
    with pytest.raises(DataError, match=r"no such classes as \['c'\]"):
        data(tmp_path, root, test=str(folder(tmp_path / "test", {"b": 1, "c": 1}))).rows("test")
    (tmp_path / "names").write_text("a\n")
    with pytest.raises(DataError, match="names 1 classes, and the images have 2"):
        data(tmp_path, root, classes=str(tmp_path / "names")).rows("train")
    with pytest.raises(DataError, match="leave something of train"):
        data(tmp_path, root, validation_fraction=0.5, test_fraction=0.5)
    given = data(tmp_path, root, validation=str(root), validation_fraction=0.5, test_fraction=0.5)
    assert given.fractions == {"validation": 0.0, "test": 0.5}


def test_a_split_without_some_class_keeps_the_numbers(tmp_path):
    train, test = folder(tmp_path / "in", {"a": 2, "b": 2}), folder(tmp_path / "test", {"b": 3})
    rows = data(tmp_path, train, test=str(test)).rows("test")
    assert rows.y is not None
    assert rows.y.tolist() == [1, 1, 1]
    (tmp_path / "names").write_text("b\na\n")
    rows = data(tmp_path, train, classes=str(tmp_path / "names")).rows("train")
    assert rows.y is not None
    assert [rows.classes[i] for i in rows.y] == ["a", "a", "b", "b"]


def test_carving_is_stratified_and_fixed():
    y = np.repeat([0, 1, 2], [10, 100, 5])
    train, test, validation = carve(y, (0.2, 0.1), seed=0)
    assert sorted([*train, *test, *validation]) == list(range(115))
    assert np.bincount(y[test]).tolist() == [2, 20, 1]
    assert np.bincount(y[validation]).tolist() == [1, 10, 1]
    # A fixed outcome, for another machine and a later NumPy: seed 0 draws .64 .27 .04 .02 .81 .91 .61 ...
    assert carve(np.zeros(10, np.int64), (0.3,), seed=0)[1].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(test, carve(y, (0.2, 0.5), seed=0)[1])
    assert carve(y, (0.2,), seed=1)[1].tolist() != test.tolist()


def test_digits(tmp_path):
    digits = data(tmp_path, "digits", image_size=8, test_fraction=0.2, validation_fraction=0.1)
    parts = [digits.rows(split) for split in digits.splits()]
    assert digits.splits() == ("train", "validation", "test")
    assert sum(map(len, parts)) == 1797
    assert len({i for part in parts for i in part.index}) == 1797
    truth = sklearn.datasets.load_digits(return_X_y=True)
    test = parts[2]
    batch = test.read(np.arange(len(test)))
    pixels = np.rint(truth[0][test.index].reshape(-1, 8, 8) * 255 / 16)
    for channel in range(3):
        np.testing.assert_array_equal(batch.x[:, channel].numpy(), pixels)
    assert batch.y is not None
    np.testing.assert_array_equal(batch.y.numpy(), truth[1][test.index])


def test_torchvision(tmp_path, monkeypatch):
    class Tiny:
        classes = ("x", "y")

        def __init__(self, root, split="train", transform=None, download=False):
            assert download
            assert root == str(tmp_path / "cache" / "torchvision")
            self.label = -1 if split == "unlabeled" else 1

        def __len__(self):
            return 3

        def __getitem__(self, i):
            return Image.new("L", (4, 4), i), self.label

    monkeypatch.setattr("torchvision.datasets.Tiny", Tiny, raising=False)
    tiny = data(tmp_path, "torchvision:Tiny:train", unlabelled="torchvision:Tiny:unlabeled")
    assert tiny.labelled("train").read(np.arange(3)).x[:, 1, 2, 2].tolist() == [0, 1, 2]
    assert tiny.rows("pretrain").y is None
    assert tiny.rows("pretrain").classes == ()
    assert tiny.classes == ("x", "y")


def test_hf(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"ssl-zoo\[hf\]"):
        data(tmp_path, "hf:me/tiny:train").rows("train")

    class ImageFeature:
        def __init__(self, decode=True):
            pass

    class ClassFeature:
        names = ("x", "y")

    class Table(list):
        def __init__(self, rows):
            super().__init__(rows)
            self.features = {"id": None, "img": ImageFeature(), "label": ClassFeature()}

        def cast_column(self, name, feature):
            assert name == "img"
            return self

    table = Table({"img": {"bytes": solid((i, 0, 0)), "path": None}, "label": i} for i in range(2))
    module = types.SimpleNamespace(
        Image=ImageFeature, ClassLabel=ClassFeature, load_dataset=lambda name, config, split: table
    )
    monkeypatch.setitem(sys.modules, "datasets", module)
    rows = data(tmp_path, "hf:me/tiny:train").labelled("train")
    assert rows.classes == ("x", "y")
    batch = rows.read(np.arange(2))
    assert batch.y is not None
    assert batch.x[:, 0, 0, 0].tolist() == batch.y.tolist() == [0, 1]


def test_a_failed_build_leaves_nothing(tmp_path, monkeypatch):
    root = folder(tmp_path / "in", {"a": 200})  # several chunks
    calls = []

    def failing(image, size, max_pixels):
        calls.append(1)
        if len(calls) > 150:
            raise MemoryError("full")
        return decode(image, size, max_pixels)

    def stop(*args, **options):
        raise KeyboardInterrupt

    for name, broken, error in (
        ("decode", failing, DataError),
        ("json", types.SimpleNamespace(dumps=stop), KeyboardInterrupt),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(image_store, name, broken)
            with pytest.raises(error):
                data(tmp_path, root).rows("train")
    assert list((tmp_path / "cache/images").iterdir()) == []
    assert len(data(tmp_path, root).rows("train")) == 200


def test_a_damaged_store_is_built_again(tmp_path, capsys):
    root = folder(tmp_path / "in", {"a": 3})
    rows = data(tmp_path, root).rows("train")
    truth, path = rows.read(np.arange(3)).x, rows.path
    whole = path.read_bytes()
    for damaged in (whole[:-10], whole[:-10] + bytes(10), whole + b"x"):
        path.write_bytes(damaged)
        again = data(tmp_path, root).rows("train")
        assert torch.equal(again.read(np.arange(3)).x, truth)
        assert again.fingerprint == rows.fingerprint
        assert f"{path.parent} ({root} at 4 pixels a side) is damaged: " in capsys.readouterr().err
    (path.parent / "meta.json").write_text("{}")
    assert torch.equal(data(tmp_path, root).rows("train").read(np.arange(3)).x, truth)


def test_store_follows_the_files(tmp_path):
    root = folder(tmp_path / "in", {"a": 3})
    first = data(tmp_path, root).rows("train")
    assert data(tmp_path, root).rows("train").path == first.path
    (root / "a" / "000.png").write_bytes(solid(GREY))
    os.utime(root / "a" / "000.png", ns=(1, 1))
    changed = data(tmp_path, root).rows("train")
    assert changed.path != first.path
    assert changed.fingerprint != first.fingerprint
    assert data(tmp_path, root, image_size=2).rows("train").array.shape == (3, 3, 2, 2)
    # The fingerprint that a run resumes by is of the content: new times alone do not change it.
    os.utime(root / "a" / "000.png", ns=(2, 2))
    touched = data(tmp_path, root).rows("train")
    assert touched.path != changed.path
    assert touched.fingerprint == changed.fingerprint
    assert json.loads((touched.path.parent / "meta.json").read_text())["image_size"] == 4


def test_pickle_reopens_the_store(tmp_path):
    rows = data(tmp_path, folder(tmp_path / "in", {"a": 40}, size=64), image_size=64).rows("train")
    packed = pickle.dumps(rows)
    assert len(packed) < 4000 < rows.array.nbytes
    again = pickle.loads(packed)
    assert isinstance(again.array, np.memmap)
    assert torch.equal(again.read(np.arange(40)).x, rows.read(np.arange(40)).x)


def build(root: str, cache: str, barrier, results) -> None:
    barrier.wait()
    rows = ImageData("tiny", root, image_size=4, cache=cache).rows("train")
    results.put((len(rows), rows.fingerprint))


# Forked, because a fresh Python would spend its time importing torch; the children use none of its threads.
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_two_processes_build_at_once(tmp_path):
    root = folder(tmp_path / "in", {"a": 100, "b": 100})
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    both = [
        context.Process(target=build, args=(str(root), str(tmp_path / "cache"), barrier, results))
        for _ in range(2)
    ]
    for process in both:
        process.start()
    found = [results.get(timeout=60) for _ in both]
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert found[0] == found[1]
    assert found[0][0] == 180
    assert len(list((tmp_path / "cache/images").iterdir())) == 1


def test_configs_name_real_arguments(tmp_path):
    files = [
        path
        for path in sorted((Path(__file__).parents[2] / "configs/data").glob("*.yaml"))
        if "images.ImageData" in path.read_text()
    ]
    assert len(files) == 9
    for path in files:
        config = OmegaConf.merge({"data_dir": "/data"}, OmegaConf.load(path))
        for key in ("train", "test"):
            if OmegaConf.is_missing(config, key):
                OmegaConf.update(config, key, "/images")
        options = OmegaConf.to_container(config, resolve=True)
        assert isinstance(options, dict)
        del options["data_dir"], options["_target_"]
        ImageData(**{str(key): value for key, value in options.items()})


@pytest.mark.data
def test_eurosat(tmp_path):
    root = os.environ.get("SSL_ZOO_DATA")
    if not root:
        pytest.skip("SSL_ZOO_DATA does not name the data folder")
    eurosat = data(
        tmp_path, f"{root}/eurosat/test-*.tar.gz", image_size=64, classes=f"{root}/eurosat/classes.txt"
    )
    rows = eurosat.labelled("train")
    assert len(rows) == 5400
    assert len(rows.classes) == 10
    with tarfile.open(f"{root}/eurosat/test-000000.tar.gz") as tar:
        for i, member in zip(range(20), (m for m in tar if m.name.endswith(".jpg")), strict=False):
            file = tar.extractfile(member)
            assert file is not None
            truth = np.asarray(Image.open(file)).transpose(2, 0, 1)
            np.testing.assert_array_equal(rows.read(np.array([i])).x[0].numpy(), truth)
