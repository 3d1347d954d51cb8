"""Images decoded as they are read: the pixels, labels and splits of a store, without one."""

import os
import pickle
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import data, encoded, folder, shard, solid
from PIL import Image

from ssl_zoo.data import image_listing
from ssl_zoo.data.plan import Parts, Plan, loader
from ssl_zoo.data.rows import DataError, Subset


def photographs(count: int = 12) -> list[bytes]:
    """JPEG and PNG of several sizes, one of them grey and one turned by its EXIF orientation."""
    draw, exif = np.random.default_rng(0), Image.Exif()
    exif[0x0112] = 6
    found = []
    for i in range(count):
        pixels = draw.integers(0, 256, (20 + 4 * i, 50 - 2 * i, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).convert("L" if i == 3 else "RGB")
        options = {"exif": exif} if i == 4 else {}
        found.append(encoded(image, "PNG" if i == 5 else "JPEG", **options))
    return found


@pytest.fixture(params=["folder", "shards"])
def source(request, tmp_path) -> str:
    """Twelve photographs of two classes."""
    files = photographs()
    if request.param == "folder":
        for i, content in enumerate(files):
            path = tmp_path / "in" / "ab"[i % 2] / f"{i:02d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return str(tmp_path / "in")
    for part in (0, 1):
        members = {"readme.txt": b"hi"}
        for i in range(6 * part, 6 * part + 6):
            members |= {f"d/{i:02d}.jpg": files[i], f"d/{i:02d}.cls": b"01"[i % 2 : i % 2 + 1]}
        shard(tmp_path / f"s-{part}.tar", members)
    return str(tmp_path / "s-*.tar")


def test_pixels_labels_and_splits_are_those_of_the_store(tmp_path, source):
    options = {"image_size": 16, "validation_fraction": 0.2, "test_fraction": 0.2, "unlabelled": source}
    stored = data(tmp_path, source, **options)
    direct = data(tmp_path, source, unpack=False, **options)
    assert direct.splits() == stored.splits()
    assert direct.classes == stored.classes
    for split in ("pretrain", "train", "validation", "test"):
        rows, wanted = direct.rows(split), stored.rows(split)
        at = np.random.default_rng(0).permutation(len(wanted))
        batch, truth = rows.read(at), wanted.read(at)
        assert batch.x.dtype == torch.uint8
        assert torch.equal(batch.x, truth.x)
        assert (rows.y is None) == (split == "pretrain")
        if truth.y is not None:
            assert torch.equal(batch.y, truth.y)
            assert torch.equal(rows.read(at[:0]).y, truth.y[:0])
        assert torch.equal(Subset(rows, at[:2]).read(np.array([1])).x, truth.x[1:2])
        assert not hasattr(rows, "nbytes")  # which would send all images to the device


def test_resized_by_torch_the_pixels_are_nearly_the_same(tmp_path, source):
    exact, fast = (
        data(tmp_path, source, image_size=16, unpack=False, fast_resize=given).rows("train")
        for given in (False, True)
    )
    at = np.arange(len(exact))
    off = (exact.read(at).x.int() - fast.read(at).x.int()).abs()
    assert off[..., 2:-2, 2:-2].max() == 1  # beside the edge, Pillow looks beyond the square
    assert off.float().mean() < 1
    assert exact.fingerprint != fast.fingerprint
    with pytest.raises(DataError, match="fast_resize=true is for images that are decoded whenever they are"):
        data(tmp_path, source, image_size=16, fast_resize=True)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_read_the_same(tmp_path, source):
    rows = data(tmp_path, source, image_size=16, unpack=False).rows("train")
    again = pickle.loads(pickle.dumps(rows))
    parts = [Parts(each, Plan(len(rows), 4, 0), 1, 1, 0) for each in (rows, again)]
    found = [list(loader(parts[i], lambda: 1, 5, workers=2 * i, pin=False)) for i in (0, 1)]
    for (step, one), (other, two) in zip(*found, strict=True):
        assert step == other
        assert torch.equal(one.x, two.x)


def test_only_what_is_asked_for_is_read(tmp_path):
    root = folder(tmp_path / "in", {"a": 5})
    files = data(tmp_path, root, unpack=False)
    rows = files.rows("train")
    for i in (0, 1, 3, 4):
        (root / "a" / f"{i:03d}.png").unlink()
    assert rows.read(np.array([2])).x[0, 0, 0, 0] == 2
    with pytest.raises(DataError, match=r"in/a/003.png: .*No such file"):
        rows.read(np.array([3]))
    assert not (tmp_path / "cache" / "images").exists()


def test_the_headers_of_shards_are_scanned_once(tmp_path, monkeypatch, capsys):
    members = {"0.png": solid((9, 0, 0)), "0.cls": b"0", "1.png": solid((8, 0, 0)), "1.cls": b"0"}
    path = shard(tmp_path / "s.tar", members)
    first = data(tmp_path, path, unpack=False).rows("train")
    (kept,) = (tmp_path / "cache" / "listings").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(image_listing, "list_shard", None)
        again = data(tmp_path, path, unpack=False).rows("train")
        assert again.fingerprint == first.fingerprint
        assert again.read(np.array([1, 0])).x[:, 0, 0, 0].tolist() == [8, 9]
        os.utime(path, ns=(1, 1))  # an archive that was touched is scanned anew
        with pytest.raises(TypeError):
            data(tmp_path, path, unpack=False).rows("train")
    again = data(tmp_path, path, unpack=False).rows("train")
    (newer,) = set((tmp_path / "cache" / "listings").iterdir()) - {kept}
    (newer / "places.npz").write_bytes(b"PK")
    again = data(tmp_path, path, unpack=False).rows("train")
    assert again.read(np.array([1, 0])).x[:, 0, 0, 0].tolist() == [8, 9]
    assert f"{newer} (the places of {path}) is damaged" in capsys.readouterr().err


def test_the_fingerprint_is_of_names_sizes_and_labels(tmp_path):
    root = folder(tmp_path / "in", {"a": 3, "b": 2})
    rows = data(tmp_path, root, unpack=False).rows("train")
    shutil.copytree(root, tmp_path / "copy")
    assert data(tmp_path, tmp_path / "copy", unpack=False).rows("train").fingerprint == rows.fingerprint
    assert data(tmp_path, root, unpack=False, image_size=5).rows("train").fingerprint != rows.fingerprint
    assert data(tmp_path, root).rows("train").fingerprint != rows.fingerprint
    first = root / "a" / "000.png"
    first.write_bytes(first.read_bytes() + b"\0")
    assert data(tmp_path, root, unpack=False).rows("train").fingerprint != rows.fingerprint
    first.write_bytes(first.read_bytes()[:-1])
    (root / "a" / "002.png").rename(root / "b" / "002x.png")
    assert data(tmp_path, root, unpack=False).rows("train").fingerprint != rows.fingerprint


def test_a_damaged_image_is_named(tmp_path, source):
    options = {"image_size": 16, "unpack": False}
    rows = data(tmp_path, source, **options).rows("train")
    name, good = rows.images.name(3), rows.images.read(3)
    file = Path(name.removesuffix(":d/03.jpg"))
    file.write_bytes(file.read_bytes().replace(good, bytes(len(good))))
    says = f"{name}: .*not an image.*unpack=true with on_bad_sample=skip"
    with pytest.raises(DataError, match=says):
        rows.read(np.arange(12))
    others = np.array([i for i in range(12) if name != rows.images.name(i)])
    assert rows.read(others).x.shape == (11, 3, 16, 16)


def test_max_pixels_holds(tmp_path):
    rows = data(tmp_path, folder(tmp_path / "in", {"a": 1}), unpack=False, max_pixels=15).rows("train")
    with pytest.raises(DataError, match=r"000.png: its 16 pixels are more than max_pixels=15"):
        rows.read(np.array([0]))


def test_what_cannot_be_read_image_by_image(tmp_path):
    packed = shard(tmp_path / "s.tar.gz", {"0.png": solid((1, 0, 0))})
    with pytest.raises(DataError, match=r"s.tar.gz is compressed.*gunzip.*or set unpack=true"):
        data(tmp_path, packed, unpack=False).rows("train")
    with pytest.raises(DataError, match=r"'digits' cannot be read image by image: set unpack=true"):
        data(tmp_path, "digits", unpack=False).rows("train")
    with pytest.raises(DataError, match=r"on_bad_sample=skip .*: set on_bad_sample=raise, or unpack=true"):
        data(tmp_path, packed, unpack=False, on_bad_sample="skip")
    with pytest.raises(DataError, match="holds no images"):
        data(tmp_path, shard(tmp_path / "none.tar", {"a.txt": b"hi"}), unpack=False).rows("train")
    cut = shard(tmp_path / "cut.tar", {"0.png": solid((1, 0, 0))})
    cut.write_bytes(cut.read_bytes()[:1024])
    with pytest.raises(DataError, match=r"cut.tar is damaged"):
        data(tmp_path, cut, unpack=False).rows("train")


def test_hf(tmp_path, monkeypatch):
    class Table(list):
        def __init__(self, rows):
            super().__init__(rows)
            self.features = {"img": Picture(), "label": Label()}

        def cast_column(self, name, feature):
            return self

        def __getitem__(self, at):
            return [row[at] for row in self] if isinstance(at, str) else super().__getitem__(at)

    class Picture:
        def __init__(self, decode=True):
            pass

    class Label:
        names = ("x", "y")

    (tmp_path / "one.png").write_bytes(solid((1, 0, 0)))
    table = Table(
        [
            {"img": {"bytes": solid((0, 0, 0)), "path": None}, "label": 0},
            {"img": {"bytes": None, "path": str(tmp_path / "one.png")}, "label": 1},
            {"img": {"bytes": b"no", "path": None}, "label": 1},
        ]
    )
    module = types.SimpleNamespace(
        Image=Picture, ClassLabel=Label, load_dataset=lambda name, config, split: table
    )
    monkeypatch.setitem(sys.modules, "datasets", module)
    rows = data(tmp_path, "hf:me/tiny:train", unpack=False).labelled("train")
    batch = rows.read(np.array([1, 0]))
    assert rows.classes == ("x", "y")
    assert batch.y is not None
    assert batch.x[:, 0, 0, 0].tolist() == batch.y.tolist() == [1, 0]
    with pytest.raises(DataError, match="hf:me/tiny:train:2: its 2 bytes are not an image"):
        rows.read(np.array([2]))
