"""Odd, broken and hostile image sources: what is read, what is said of the rest, what is refused unread."""

import gzip
import io
import os
import resource
import socket
import struct
import tarfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from image_files import data, encoded, folder, shard, solid
from PIL import Image

from ssl_zoo.data import image_decoding, image_listing, image_shards
from ssl_zoo.data.image_decoding import InFlight, decode
from ssl_zoo.data.rows import DataError

BOTH = pytest.mark.parametrize("unpack", [True, False])


def rows(tmp_path: Path, source, **options):
    return data(tmp_path, source, **options).rows("train")


def left(capsys, source) -> str:
    """What was said to be left out of a source."""
    said = capsys.readouterr().err
    return "".join(
        line.partition("left out ")[2] for line in said.splitlines() if f"{source}: left out" in line
    )


# Folders


@BOTH
def test_files_that_are_linked_to_one_by_one_and_by_their_folder_are_read_once(tmp_path, capsys, unpack):
    root = folder(tmp_path / "in", {"a": 1})
    outside = folder(tmp_path / "out", {"": 3})
    for i in range(3):
        (outside / f"{i:03d}.png").write_bytes(solid((90 + i, 90, 90)))
    (root / "a" / "0before.png").symlink_to(outside / "000.png")
    (root / "a" / "1all").symlink_to(outside)
    (root / "a" / "2after.png").symlink_to(outside / "001.png")
    assert len(rows(tmp_path, root, unpack=unpack, validation_fraction=0)) == 4
    assert left(capsys, root) == "2 links to files that are read anyway"


@BOTH
def test_links_are_followed_once_and_what_really_lies_there_goes_first(tmp_path, capsys, unpack):
    root = folder(tmp_path / "in", {"a": 2, "b": 2})
    outside = folder(tmp_path / "out", {"": 2})
    (outside / "000.png").write_bytes(solid((90, 90, 90)))
    (outside / "001.png").write_bytes(solid((91, 91, 91)))
    (root / "a" / "0up").symlink_to(root)  # sorts before the files
    (root / "a" / "deep").mkdir()
    (root / "a" / "deep" / "up").symlink_to(root / "a")
    (root / "0b").symlink_to(root / "b")  # another name for a class
    (root / "c").symlink_to(outside)
    (root / "d").symlink_to(outside)
    (root / "a" / "-.png").symlink_to(root / "b" / "000.png")
    found = data(tmp_path, root, unpack=unpack, validation_fraction=0.3)
    assert len(found.rows("train")) + len(found.rows("validation")) == 6
    assert found.classes == ("a", "b", "c")
    assert (
        left(capsys, root) == "4 links to folders that are read anyway, 1 links to files that are read anyway"
    )


@BOTH
def test_what_is_no_regular_file_is_never_opened(tmp_path, capsys, monkeypatch, unpack):
    root = folder(tmp_path / "in", {"a": 2})
    os.mkfifo(root / "a" / "pipe.png")
    (root / "a" / "endless.png").symlink_to("/dev/zero")
    (root / "a" / "nowhere.png").symlink_to("nothing")
    (root / "a" / "itself.png").symlink_to("itself.png")
    monkeypatch.chdir(root / "a")  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
    assert len(rows(tmp_path, root, unpack=unpack)) == 2
    assert left(capsys, root) == "3 pipes, devices or sockets, 2 broken links"
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(DataError, match=r"pipe.tar is neither a folder nor a shard"):
        rows(tmp_path, tmp_path / "pipe.tar", unpack=unpack)


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path):
    root = folder(tmp_path / "in", {"a": 2})
    found = rows(tmp_path, root, unpack=False)
    (root / "a" / "001.png").unlink()
    os.mkfifo(root / "a" / "001.png")
    with pytest.raises(DataError, match=r"a/001.png: it is no regular file"):
        found.read(np.array([1]))


@BOTH
def test_every_suffix_that_pillow_reads_and_what_is_left_out(tmp_path, capsys, unpack):
    root = tmp_path / "in"
    (root / "a").mkdir(parents=True)
    image = Image.new("RGB", (4, 4), (9, 8, 7))
    for name in ("a.jfif", "b.jpe", "c.JPG", "d.Jpeg", "none", "e.mpo"):
        (root / "a" / name).write_bytes(encoded(image, "JPEG"))
    for name, form in (("f.tif", "TIFF"), ("g.dib", "DIB"), ("h.pbm", "PPM"), ("i.J2K", "JPEG2000")):
        (root / "a" / name).write_bytes(encoded(image, form))
    for name in ("x.heic", "y.HEIC", "z.txt", "README", "Python", ".DS_Store"):
        (root / "a" / name).write_bytes(b"Python")
    assert len(rows(tmp_path, root, unpack=unpack)) == 10
    assert left(capsys, root) == "2 .heic, 2 without a suffix, 1 .txt, 1 hidden"
    assert len(rows(tmp_path, root, unpack=unpack)) == 10
    assert left(capsys, root) == "2 .heic, 2 without a suffix, 1 .txt, 1 hidden"  # also when nothing is built
    for file in (root / "a").iterdir():
        if file.suffix != ".heic":
            file.unlink()
    with pytest.raises(DataError, match=r"holds no images \(looked for .*\.jfif.*; it holds 1 \.heic\)"):
        rows(tmp_path, root, unpack=unpack)


@pytest.mark.parametrize("name", ["a[1]", "a b", "k=v", "x*y", "q?", "[!a]", "{a}", "a'b", "ü", "~x", "hf"])
@BOTH
def test_paths_mean_themselves(tmp_path, unpack, name):
    found = rows(tmp_path, folder(tmp_path / name / "in", {"c[0]": 2, "d=1": 1}), unpack=unpack)
    assert (len(found), found.classes) == (3, ("c[0]", "d=1"))
    shard(tmp_path / name / "s-[0].tar", {"a.png": solid((1, 1, 1))})
    shard(tmp_path / name / "s-1.tar", {"a.png": solid((1, 1, 2))})
    for pattern, count in (("s-*.tar", 2), ("s-[0].tar", 1), ("s-[1-9].tar", 1), ("**/*.tar", 2)):
        assert len(rows(tmp_path, tmp_path / name / pattern, unpack=unpack)) == count


@BOTH
def test_shards_that_links_lead_to_again_are_read_once(tmp_path, capsys, unpack):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for i, name in enumerate(("b", "deep/c")):
        shard(tmp_path / "in" / f"{name}.tar", {"x.png": solid((i, 7, 7)), "x.cls": b"0"})
    (tmp_path / "in" / "a.tar").symlink_to("b.tar")
    (tmp_path / "in" / "deep" / "loop").symlink_to(tmp_path / "in" / "deep")
    source = tmp_path / "in" / "**" / "*.tar"
    found = rows(tmp_path, source, unpack=unpack)
    assert found.read(np.arange(len(found))).x[:, 0, 0, 0].tolist() == [0, 1]
    assert left(capsys, source).endswith(" links to shards that are read anyway")


def test_names_that_are_not_utf8(tmp_path, capsys):
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / os.fsdecode(b"\xff.png")).write_bytes(solid((1, 1, 1)))
    for unpack in (True, False):
        assert len(rows(tmp_path, flat, unpack=unpack)) == 1  # no more than a name of a file
    root = folder(tmp_path / "in", {"a": 1, os.fsdecode(b"b\xff"): 1})
    with pytest.raises(DataError, match=r"class folder b'b\\xff' of .* is not UTF-8.*rename it \(1 such"):
        rows(tmp_path, root)


def test_a_class_that_only_has_damaged_images(tmp_path):
    root = folder(tmp_path / "in", {"a": 150, "b": 1})
    (root / "b" / "000.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"all images of the class 'b' of .* damaged.*b/000.png: its 2 bytes"):
        rows(tmp_path, root, on_bad_sample="skip")


def test_a_folder_too_high_or_too_low(tmp_path, capsys):
    folder(tmp_path / "in" / "train", {"a": 1, "b": 1})
    folder(tmp_path / "in" / "val", {"a": 1})
    rows(tmp_path, tmp_path / "in")
    assert "its classes are called train, val; if these are splits" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"class folders \(the folder above, if this is one of them"):
        data(tmp_path, tmp_path / "in" / "train" / "a").labelled("train")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a\n\xff\n", r"names, line 2: b'\\xff' is not UTF-8"),
        (b"a\n\nb\n", r"names, line 2 is empty"),
        (b"a\na\n", r"names, line 2: the class 'a' is also named in line 1"),
        (b"a\n", r"names 1 classes, and the images have 2"),
        (None, r"names' cannot be read: it is no regular file"),
    ],
)
def test_files_of_class_names_that_are_wrong(tmp_path, content, says):
    if content is None:
        os.mkfifo(tmp_path / "names")
    else:
        (tmp_path / "names").write_bytes(content)
    root = folder(tmp_path / "in", {"a": 1, "b": 1})
    with pytest.raises(DataError, match=says):
        rows(tmp_path, root, classes=str(tmp_path / "names"))
    (tmp_path / "other").write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\n\r\n")
    assert rows(tmp_path, root, classes=str(tmp_path / "other")).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("label", "says"),
    [
        (2, "names 2 classes, and has class 2"),
        (10**20, "Tiny:train:0 has the class 10{20};"),
        ("cat", "no class index"),
    ],
)
def test_labels_of_libraries_that_are_wrong(tmp_path, monkeypatch, label, says):
    class Tiny:
        classes = ("x", "y")

        def __init__(self, root, split):
            pass

        def __len__(self):
            return 2

        def __getitem__(self, i):
            return Image.new("L", (4, 4), i), label

    monkeypatch.setattr("torchvision.datasets.Tiny", Tiny, raising=False)
    with pytest.raises(DataError, match=says):
        rows(tmp_path, "torchvision:Tiny:train")


def test_a_full_disk_names_the_store_and_the_way_out(tmp_path):
    root = folder(tmp_path / "in", {"a": 30})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    says = r"cache/(images|listings)/\w+: File too large.* bytes, and [\d,]+ are free .*SSL_ZOO_CACHE=FOLDER"
    path = shard(tmp_path / "s.tar", {f"{i:03d}.png": solid((i, 0, 0)) for i in range(99)})
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        for source, unpack in ((root, True), (path, True), (path, False)):
            with pytest.raises(DataError, match=says):
                rows(tmp_path, source, unpack=unpack)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p for room in (tmp_path / "cache").iterdir() for p in room.iterdir()] == []
    with pytest.raises(DataError, match=r"needs 30,000,\d{3},\d{3},\d{3} bytes.*SSL_ZOO_CACHE=FOLDER"):
        rows(tmp_path, root, image_size=577351)  # 30 x 3 x 577351^2, of which the disk holds no part yet


# What splits share


@BOTH
def test_images_that_splits_share_are_counted_and_said(tmp_path, capsys, unpack):
    train, test = folder(tmp_path / "in", {"a": 5}), folder(tmp_path / "test", {"a": 4})
    for i in range(3):  # test's 000 to 003 are those of train; make the last one another
        assert (test / "a" / f"{i:03d}.png").read_bytes() == (train / "a" / f"{i:03d}.png").read_bytes()
    (test / "a" / "003.png").write_bytes(solid((77, 0, 7)))
    both = data(tmp_path, train, test=str(test), unpack=unpack)
    for split in ("train", "pretrain", "test", "test"):
        both.rows(split)
    said = [line for line in capsys.readouterr().err.splitlines() if "also in" in line]
    assert said == ["tiny: 3 of the 4 images of 'test' are also in 'train'"]
    for i in range(5, 8):  # three copies of one image, of which a class of eight must give four away
        (train / "a" / f"{i:03d}.png").write_bytes(solid((0, 0, 7)))
    copies = data(tmp_path, train, validation_fraction=0.5, unpack=unpack)
    held = set(copies.rows("validation").index.tolist())
    count = len(held & {0, 5, 6, 7})  # 000.png is the fourth copy
    assert 0 < count < 4
    said = f"tiny: {count} of the 4 images of 'validation' are also in 'train'"
    assert capsys.readouterr().err.count(said) == 1
    for i in range(5, 8):
        (train / "a" / f"{i:03d}.png").unlink()
    carved = data(tmp_path, train, validation_fraction=0.4, unpack=unpack)
    assert [len(carved.rows(split)) for split in ("train", "validation")] == [3, 2]
    assert "also in" not in capsys.readouterr().err


def test_too_much_to_compare_is_said(tmp_path, capsys, monkeypatch):
    listing = rows(tmp_path, folder(tmp_path / "in", {"a": 4}), unpack=False)
    assert len(listing) == 4
    source = image_listing.list_folder("x", tmp_path / "in", ["a/000.png"] * 2, [70, 70], [0, 0], ("a",))
    index = np.array([0, 1])
    assert image_listing.count_shared(source, index[:1], source, index[1:], max_bytes=140) == 1
    assert image_listing.count_shared(source, index[:1], source, index[1:], max_bytes=139) is None
    monkeypatch.setattr("ssl_zoo.data.images.count_shared", lambda *args: None)
    found = data(tmp_path, tmp_path / "in", unpack=False, validation_fraction=0.5)
    assert [len(found.rows(split)) for split in ("train", "validation")] == [2, 2]
    assert "whether images of 'validation' are also in 'train' is not known" in capsys.readouterr().err


# Shards


@BOTH
def test_dots_in_keys(tmp_path, capsys, unpack):
    pixels = [solid((i, 0, 0)) for i in range(9)]
    dotted = {
        "d.x/p.1.png": pixels[0],
        "d.x/p.1.cls": b"1",
        "d.x/p.2.cls": b"0",
        "d.x/p.2.PNG": pixels[1],
        "q.png": pixels[2],
        "q.cls": b"1",
        "q.fine.cls": b"7",
        "q.json": b"{}",
        "r.seg.png": pixels[3],
        "r.cls": b"0",
    }
    path = shard(tmp_path / "s.tar", dotted)
    found = rows(tmp_path, path, unpack=unpack)
    assert found.y is not None
    assert found.y.tolist() == [1, 0, 1, 0]
    assert found.read(np.arange(4)).x[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert left(capsys, path) == "1 .fine.cls, 1 .json"
    assert len(rows(tmp_path, path, unpack=unpack)) == 4
    assert left(capsys, path) == "1 .fine.cls, 1 .json"
    wrong = {
        "mask": ({"a.png": pixels[0], "a.seg.png": pixels[1]}, "sample a has 2 images"),
        "mask-first": ({"a.seg.png": pixels[0], "a.png": pixels[1]}, "sample a has 2 images"),
        "one-label": ({"a.1.png": pixels[0], "a.2.png": pixels[1], "a.cls": b"0"}, "sample a has 2 images"),
        "lone": ({"a.1.png": pixels[0], "a.2.cls": b"1"}, r"sample a.2 has 0 images"),
        "half": (
            {"a.1.png": pixels[0], "a.1.cls": b"0", "a.2.png": pixels[1]},
            "1 of the 2 images .* no label",
        ),
    }
    for name, (members, says) in wrong.items():
        with pytest.raises(DataError, match=says):
            rows(tmp_path, shard(tmp_path / f"{name}.tar", members), unpack=unpack)


@pytest.mark.parametrize("text", [b"1000000", b"1" + b"0" * 20, b"9" * 5000, b"-1", b"1.0", b"", b"\xd9\xa3"])
@BOTH
def test_labels_that_are_no_class_index(tmp_path, text, unpack):
    path = shard(tmp_path / "s.tar", {"a.png": solid((1, 2, 3)), "a.cls": text})
    with pytest.raises(
        DataError, match=r"s.tar:a.cls (should hold a class index|has the class 1\d+; class indices)"
    ):
        rows(tmp_path, path, unpack=unpack)


@BOTH
def test_members_that_are_links_or_lead_elsewhere(tmp_path, capsys, unpack):
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (
            ("l.png", tarfile.SYMTYPE),
            ("h.png", tarfile.LNKTYPE),
            ("p.png", tarfile.FIFOTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        for i, name in enumerate(("../../up.png", "/root.png")):
            member = tarfile.TarInfo(name)
            member.size = len(content := solid((i, 0, 0)))
            tar.addfile(member, io.BytesIO(content))
    before = sorted(tmp_path.parent.iterdir())
    assert len(rows(tmp_path, path, unpack=unpack)) == 2
    assert left(capsys, path) == "2 links, 1 pipes or devices"
    assert sorted(tmp_path.parent.iterdir()) == before


def claiming(path: Path, size: int, kind: bytes = b"0", name: str = "a.png", body: bytes = b"") -> Path:
    """An archive with one member that claims a size, and then has `body` and the end of an archive."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    raw = member.tobuf(tarfile.GNU_FORMAT) + body + bytes(1024)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.mark.parametrize("kind", [b"0", b"L", b"K", b"x", b"g", b"S", b"Z"])
@pytest.mark.parametrize("name", ["a.png", "a.cls", "a.txt"])
@pytest.mark.parametrize("end", ["tar", "tar.gz"])
def test_claims_of_an_archive_are_not_believed(tmp_path, kind, name, end):
    for size in (10**12, -512):
        path = claiming(tmp_path / f"s.{end}", size, kind, name)
        for unpack in (True, False) if end == "tar" else (True,):
            with pytest.raises(DataError, match=f"s.{end}.*(claims|stored with holes)"):
                rows(tmp_path, path, unpack=unpack)


def pax(**records: str) -> bytes:
    """The body of a header in pax form."""
    out = b""
    for key, value in records.items():
        line = f" {key.replace('__', '.')}={value}\n".encode()
        size = len(line)
        while len(str(size)) + len(line) != size:
            size = len(str(size)) + len(line)
        out += str(size).encode() + line
    return out + bytes(-len(out) % 512)


@pytest.mark.parametrize(
    "records",
    [
        {"size": "1000000000000"},
        {"size": "-1024"},
        {"GNU__sparse__major": "1", "GNU__sparse__minor": "0", "GNU__sparse__realsize": "1000000000000"},
        {"GNU__sparse__size": "9" * 5000, "GNU__sparse__map": "0,1"},
    ],
)
def test_claims_of_pax_headers_are_not_believed(tmp_path, records):
    body = pax(**records)
    member = tarfile.TarInfo("a.png")
    member.size = 512
    inner = member.tobuf(tarfile.USTAR_FORMAT) + bytes(512)
    path = claiming(tmp_path / "s.tar", len(body.rstrip(b"\0")), b"x", "x", body + inner)
    for unpack in (True, False):
        with pytest.raises(DataError, match=r"s.tar"):
            rows(tmp_path, path, unpack=unpack)


@pytest.mark.parametrize("name", ["a.png", "a.txt", "a.cls"])
def test_an_archive_that_expands_without_measure(tmp_path, monkeypatch, name):
    monkeypatch.setattr(image_shards, "UNCHECKED", 1 << 20)
    path = claiming(tmp_path / "s.tar.gz", 1 << 22, name=name, body=bytes(1 << 22))
    with pytest.raises(
        DataError, match=r"s.tar.gz.*a\.\w+ claims 4,194,304 bytes, and [\d,]+ are the most here"
    ):
        rows(tmp_path, path)
    # Members that are modest each, as many as one likes; the ratio is that of the whole.
    many = claiming(tmp_path / "m.tar.gz", 512, name="a.txt", body=(bytes(512) + member()) * 8000)
    with pytest.raises(DataError, match=r"m.tar.gz: its first [\d,]+ bytes expand to .*gunzip.*\.tar"):
        rows(tmp_path, many)
    monkeypatch.setattr(image_shards, "UNCHECKED", 1 << 27)
    with pytest.raises(DataError, match=r"m.tar.gz' holds no images, only 8,\d+ \.txt"):
        rows(tmp_path, many)


def member(name: str = "a.txt", size: int = 512) -> bytes:
    about = tarfile.TarInfo(name)
    about.size = size
    return about.tobuf(tarfile.GNU_FORMAT)


def test_headers_nested_without_end(tmp_path):
    long = tarfile.TarInfo("x")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 512
    (tmp_path / "s.tar").write_bytes((long.tobuf(tarfile.GNU_FORMAT) + b"n" * 512) * 3000 + bytes(1024))
    with pytest.raises(DataError, match=r"s.tar is damaged"):
        rows(tmp_path, tmp_path / "s.tar")


# Pictures


def png(width: int, height: int, *chunks: tuple[bytes, bytes], lines: int | None = None) -> bytes:
    """A black RGB PNG with further chunks before its pixels, of which it may hold some lines only."""

    def part(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = part(b"IDAT", zlib.compress(bytes((height if lines is None else lines) * (1 + 3 * width))))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(part(*c) for c in chunks) + pixels + part(b"IEND", b"")


BOMB = zlib.compress(bytes(1 << 27), 9)
REFUSED = {
    "eps.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not an image"),
    "wmf.png": (b"\xd7\xcd\xc6\x9a" + bytes(40), "not an image"),
    "huge.png": (png(2**30, 2**30, lines=0), "its pixels are more than max_pixels="),
    "icc.png": (png(4, 4, (b"iCCP", b"x\0\0" + BOMB)), "too large"),
    "text.png": (png(4, 4, (b"zTXt", b"x\0\0" + BOMB)), "too large"),
    "cut.gif": (encoded(Image.new("P", (40, 40)), "GIF")[:60], "."),
    "cut.webp": (encoded(Image.new("RGB", (40, 40)), "WEBP")[:-9], "."),
    "nul.jpg": (bytes(1000), "not an image"),
}


@pytest.mark.parametrize("name", REFUSED)
@BOTH
def test_pictures_that_are_refused(tmp_path, name, unpack):
    content, says = REFUSED[name]
    root = folder(tmp_path / "in", {"a": 1})
    (root / "a" / name).write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=f"a/{name}: .*{says}"):
        rows(tmp_path, root, unpack=unpack).read(np.arange(2))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 60_000  # kilobytes


@BOTH
def test_files_larger_than_any_image_are_refused_unread(tmp_path, unpack):
    root = folder(tmp_path / "in", {"a": 1})
    with open(root / "a" / "z.png", "wb") as file:
        file.truncate(10**12)  # a hole
    with pytest.raises(DataError, match=r"z.png: its 1,000,000,000,000 bytes .* max_pixels=16 allows"):
        rows(tmp_path, root, unpack=unpack, max_pixels=16).read(np.arange(2))
    path = shard(tmp_path / "s.tar", {"a.png": solid((1, 1, 1)) + bytes(1 << 21)})
    with pytest.raises(DataError, match=r"s.tar:a.png: its 2,097,\d+ bytes .* max_pixels=16 allows"):
        rows(tmp_path, path, unpack=unpack, max_pixels=16).read(np.arange(1))


def test_bands_give_the_pixels_of_the_whole(monkeypatch):
    draw = np.random.default_rng(0)
    found = []
    for mode, channels in {
        "RGB": 3,
        "RGBA": 4,
        "L": 1,
        "LA": 2,
        "CMYK": 4,
        "P": 1,
        "I;16": 1,
        "1": 1,
    }.items():
        shape = (9, 7, channels) if channels > 1 else (9, 7)
        if mode == "I;16":
            image = Image.fromarray(draw.integers(0, 65536, shape, dtype=np.uint16))
        elif mode == "P":
            image = Image.fromarray(draw.integers(0, 256, (9, 7, 3), dtype=np.uint8)).quantize(16)
        elif mode == "1":
            image = Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8)).convert("1")
        else:
            image = Image.frombytes(mode, (7, 9), draw.integers(0, 256, shape, dtype=np.uint8).tobytes())
        options = {"transparency": 3} if mode == "P" else {"transparency": (1, 2, 3)} if mode == "RGB" else {}
        found.append(encoded(image, "TIFF" if mode == "CMYK" else "PNG", **options))
    whole = [decode(image, 5) for image in found]
    monkeypatch.setattr(image_decoding, "BAND", 16)  # two lines
    for one, two in zip(whole, (decode(image, 5) for image in found), strict=True):
        np.testing.assert_array_equal(one, two)


def test_pixels_in_flight():
    flight, inside, most = InFlight(10), [], []

    def enter(pixels: int) -> None:
        with flight(pixels):
            inside.append(pixels)
            most.append(sum(min(p, 10) for p in inside))
            inside.remove(pixels)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, [3, 4, 99, 10, 6, 1] * 50))
        assert max(most) <= 10
        with flight(6):
            waiting = pool.submit(enter, 5)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.05)
        waiting.result(timeout=60)
    with flight(10):
        flight.reset()  # as a forked process does, in which the other threads are gone
        enter(10)


@pytest.mark.parametrize("size", [0, -1, 2.5, "8"])
def test_a_size_that_is_no_whole_number_is_refused(tmp_path, size):
    with pytest.raises(DataError, match=r"image_size .* must be whole numbers above 0"):
        data(tmp_path, tmp_path, image_size=size)
    with pytest.raises(DataError, match="must be whole numbers above 0"):
        data(tmp_path, tmp_path, max_pixels=size)


def test_a_fraction_that_is_no_number_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"validation_fraction \(nan\)"):
        data(tmp_path, tmp_path, validation_fraction=float("nan"))


@BOTH
def test_a_shard_is_read_to_its_end_or_refused(tmp_path, unpack):
    whole = shard(tmp_path / "a.tar", {f"{i}.png": solid((i, 0, 0)) for i in range(3)}).read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(b"1.png")] ^= 255  # tarfile takes a header that fails its checksum for the end
    for content, wrong in (
        (bytes(flipped), "damaged or no tar archive: bad checksum"),
        (whole + whole, "more follows the mark at its end, as where archives were joined"),
    ):
        (tmp_path / "b.tar").write_bytes(content)
        with pytest.raises(DataError, match=wrong):
            rows(tmp_path, tmp_path / "b.tar", unpack=unpack)
        (tmp_path / "b.tgz").write_bytes(gzip.compress(content))
        with pytest.raises(DataError, match=wrong if unpack else "is compressed"):
            rows(tmp_path, tmp_path / "b.tgz", unpack=unpack)


def test_the_checksum_of_a_packed_shard_is_looked_at(tmp_path):
    packed = gzip.compress(shard(tmp_path / "a.tar", {"0.png": solid((1, 0, 0))}).read_bytes())
    (tmp_path / "b.tgz").write_bytes(packed[:-8] + bytes(8))
    with pytest.raises(DataError, match="CRC check failed"):
        rows(tmp_path, tmp_path / "b.tgz")


@BOTH
def test_a_label_that_is_there_twice_is_refused(tmp_path, unpack):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in (("0.png", solid((1, 0, 0))), ("0.cls", b"0"), ("0.cls", b"1")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises(DataError, match=r"a\.tar: 0\.cls is there twice"):
        rows(tmp_path, path, unpack=unpack)
