"""Stores of the cache: whole or absent, checked when opened, built by one process, never left half."""

import errno
import json
import multiprocessing
import os
import resource
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from ssl_zoo.cli.cache import main
from ssl_zoo.data import cache
from ssl_zoo.data.rows import DataError

CONTENT = np.arange(3000, dtype=np.uint8).tobytes()


def build(draft: Path) -> None:
    (draft / "a.bin").write_bytes(CONTENT)
    (draft / "b.json").write_text("{}")


def never(draft: Path) -> None:
    raise AssertionError("a whole store was built again")


@pytest.fixture
def folder(tmp_path) -> Path:
    return cache.store(tmp_path / "images" / "abc", "tiny", build)


def names(room: Path) -> list[str]:
    return sorted(os.listdir(room))


def test_a_store_is_built_once(folder, capsys):
    assert names(folder.parent) == ["abc"]
    assert names(folder) == ["a.bin", "b.json", "seal.json"]
    assert cache.store(folder, "tiny", never) == folder
    assert cache.fault(folder, thorough=True) is None
    assert capsys.readouterr().err == ""
    assert folder.stat().st_mode & 0o777 == 0o777 & ~_umask()  # others may read a shared cache


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def flip(path: Path, at: int, times: bool = True) -> None:
    """Another bit at byte `at`; without `times`, as a failing disk does it."""
    stat = path.stat()
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    if not times:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = {
    "first": (lambda f: flip(f / "a.bin", 0), "the bytes of a.bin are not those"),
    "last, same times": (lambda f: flip(f / "a.bin", 2999, times=False), "the bytes of a.bin are not those"),
    "zeros": (lambda f: (f / "a.bin").write_bytes(bytes(3000)), "the bytes of a.bin are not those"),
    "cut": (lambda f: (f / "a.bin").write_bytes(CONTENT[:-1]), "a.bin has 2,999 bytes instead of 3,000"),
    "grown": (lambda f: (f / "a.bin").write_bytes(CONTENT + b"x"), "a.bin has 3,001 bytes"),
    "json": (lambda f: (f / "b.json").write_text("[]"), "the bytes of b.json are not those"),
    "missing": (lambda f: (f / "b.json").unlink(), "b.json is missing"),
    "no seal": (lambda f: (f / "seal.json").unlink(), "seal.json is missing"),
    "half a seal": (lambda f: (f / "seal.json").write_text("{"), "seal.json cannot be read"),
    "a list": (lambda f: (f / "seal.json").write_text("[]"), "seal.json cannot be read"),
    "deep": (lambda f: (f / "seal.json").write_text("[" * 10**5), "seal.json cannot be read"),
    "long": (lambda f: (f / "seal.json").write_text("1" * 5000), "seal.json cannot be read"),
    "a pipe": (lambda folder: piped(folder / "a.bin"), "a.bin is no file"),
    "a seal that is a pipe": (lambda folder: piped(folder / cache.SEAL), "seal.json is no file"),
    "an empty seal": (
        lambda folder: (folder / cache.SEAL).write_text('{"title": "tiny", "files": {}}'),
        "names no files",
    ),
}


@pytest.mark.fault("disk", how="stores of a cache with bytes zeroed, cut off, or without their seal")
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_store_is_built_again(folder, capsys, name):
    damage, says = DAMAGES[name]
    damage(folder)
    assert says in str(cache.fault(folder))
    cache.store(folder, "tiny", build)
    said = capsys.readouterr().err
    assert f"the store {folder} (tiny) is " in said
    assert says in said
    assert (folder / "a.bin").read_bytes() == CONTENT
    assert names(folder.parent) == ["abc"]
    assert cache.fault(folder, thorough=True) is None


def test_large_files_are_sampled_and_wholly_read_when_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "SMALL", 100)
    monkeypatch.setattr(cache, "BLOCK", 10)
    monkeypatch.setattr(cache, "BLOCKS", 3)  # bytes 0..9, 1495..1504 and 2990..2999 are looked at
    folder = cache.store(tmp_path / "images" / "abc", "tiny", build)
    for at, seen in (
        (0, True),
        (9, True),
        (10, False),
        (1494, False),
        (1500, True),
        (2989, False),
        (2999, True),
    ):
        for times in (True, False):
            flip(folder / "a.bin", at, times)
            assert (cache.fault(folder) is not None) == (seen or times)
            assert cache.fault(folder, thorough=True) is not None
            flip(folder / "a.bin", at, times)
            assert cache.fault(folder) is None
    # Times that changed alone are noted, so that the next opening is cheap again.
    os.utime(folder / "a.bin", ns=(5, 5))
    assert cache.fault(folder) is None
    assert cache.read_seal(folder)["files"]["a.bin"]["changed"] == 5
    assert names(folder.parent) == ["abc"]
    monkeypatch.setattr(cache, "_digest", lambda file, size, kind: {"sampled": "", "digest": None}[kind])
    assert "the bytes of a.bin" in str(cache.fault(folder))  # by the sample


def _hang(draft: Path, reached) -> None:
    (draft / "half").write_bytes(b"x")
    reached.put(1)
    signal.pause()


# Forked, because a fresh Python would spend its time importing torch; the children use none of its threads.
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_left_overs_are_swept_once_their_process_is_gone(tmp_path, capfd):
    context = multiprocessing.get_context("fork")
    reached, room = context.Queue(), tmp_path / "images"
    builder = context.Process(target=lambda: cache.store(room / "abc", "tiny", lambda d: _hang(d, reached)))
    builder.start()
    reached.get(timeout=60)
    busy = names(room)
    assert len(busy) == 2  # its draft and its lock
    cache.store(room / "def", "other", build)
    assert names(room) == sorted([*busy, "def"])
    waiting = context.Process(target=lambda: cache.store(room / "abc", "tiny", build))
    waiting.start()
    while "another process builds tiny: waiting for it" not in capfd.readouterr().err:
        assert waiting.is_alive()
    os.kill(builder.pid or 0, signal.SIGKILL)
    builder.join(60)
    waiting.join(60)
    assert waiting.exitcode == 0
    assert names(room) == ["abc", "def"]
    assert cache.fault(room / "abc") is None

    for name in (".abc.1234.part", ".gone-77/store", ".def.99.old"):  # of earlier versions, and of any moment
        (room / name).mkdir(parents=True)
    (room / ".gone.55.npz").touch()
    (room / "gone.lock").touch()
    (room / ".keep").touch()
    (room / "def" / "seal.json").unlink()
    cache.store(room / "abc", "tiny", never)
    assert names(room) == [".keep", "abc", "def"]


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSL_ZOO_CACHE", "")
    assert cache.root() == tmp_path / ".cache" / "ssl_zoo"
    monkeypatch.setenv("SSL_ZOO_CACHE", "~/here")
    assert cache.root() == tmp_path / "here"
    assert cache.root("there") == Path("there")
    with pytest.raises(DataError, match=r"~nobody-at-all/x: .*Set SSL_ZOO_CACHE to a folder"):
        cache.root("~nobody-at-all/x")


def test_a_failed_build_leaves_nothing(tmp_path):
    for error in (KeyboardInterrupt, MemoryError, DataError):

        def failing(draft: Path, error: type[BaseException] = error) -> None:
            build(draft)
            raise error

        with pytest.raises(error):
            cache.store(tmp_path / "images" / "abc", "tiny", failing)
        assert names(tmp_path / "images") == []


@pytest.mark.fault("disk", how="a disk that is full before, and while, a store is built")
def test_too_little_room_is_said_before_and_while_building(tmp_path, monkeypatch):
    place = tmp_path / "images" / "abc"
    ways_out = r"[\d,]+ are free .*SSL_ZOO_CACHE=FOLDER, or data.cache=FOLDER"
    with pytest.raises(DataError, match=f"{place}: No space left.*needs {10**18:,} bytes, and {ways_out}"):
        cache.store(place, "tiny", never, needed=10**18)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(DataError, match=f"{place}: File too large.*than 1,000 bytes, and {ways_out}"):
            cache.store(place, "tiny", build)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path / "images") == []
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):

        def full(draft: Path, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        with pytest.raises(DataError, match=rf"{place}: {os.strerror(number)}.*{ways_out}"):
            cache.store(place, "tiny", full)


def test_a_cache_that_cannot_be_made_is_named_and_a_source_is_not_blamed_on_it(tmp_path):
    (tmp_path / "file").touch()
    for room in ("file", "file/images"):
        with pytest.raises(DataError, match=rf"{tmp_path / room / 'abc'}: .*SSL_ZOO_CACHE=FOLDER"):
            cache.store(tmp_path / room / "abc", "tiny", build)

    def denied(draft: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "photos" / "x.jpg"))

    with pytest.raises(PermissionError):
        cache.store(tmp_path / "images" / "abc", "tiny", denied)


def test_a_whole_store_is_read_where_nothing_can_be_written(tmp_path, capsys):
    folder = cache.store(tmp_path / "images" / "abc", "tiny", build)
    shutil.copytree(folder, folder.with_name("def"))
    (folder.parent / "gone.lock").touch()
    for path in tmp_path.parents:  # another user must be able to reach it
        if path.stat().st_uid == os.geteuid() and path != Path(path.anchor):
            path.chmod(path.stat().st_mode | 0o011)
    tmp_path.chmod(0o755)
    folder.parent.chmod(0o555)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        for name in ("abc", "def"):  # the copy has other times
            cache.store(folder.with_name(name), "tiny", never)
        with pytest.raises(DataError, match=r"ghi: Permission denied.*SSL_ZOO_CACHE=FOLDER"):
            cache.store(folder.with_name("ghi"), "tiny", never)
    finally:
        if root:
            os.seteuid(0)
        folder.parent.chmod(0o755)
    assert json.loads((folder / "seal.json").read_text())["title"] == "tiny"


def test_the_verb(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SSL_ZOO_CACHE", str(tmp_path / "none"))
    main(["list"])
    assert f"0 stores of {tmp_path / 'none'}" in capsys.readouterr().out
    monkeypatch.setenv("SSL_ZOO_CACHE", str(tmp_path))
    folder = cache.store(tmp_path / "images" / "abc", "tiny pictures", build)
    cache.store(tmp_path / "text" / "def", "tiny text", build)
    for verb in ("list", "verify"):
        main([verb])
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(maxsplit=3)[2:] for line in lines[:2]] == [
            ["images/abc", "tiny pictures"],
            ["text/def", "tiny text"],
        ]
        assert f"in 2 stores of {tmp_path}" in lines[2]
    odd = cache.store(tmp_path / "text" / "odd", os.fsdecode(b"b\xff"), build)
    assert cache.title(odd) == r"b\xff"
    shutil.rmtree(odd)
    assert cache.title(odd) == "(its seal.json is missing or damaged)"
    flip(folder / "a.bin", 5, times=False)
    (tmp_path / "text" / "gone.lock").touch()
    (tmp_path / "text" / ".gone.1.part").mkdir()
    main(["list", str(tmp_path)])
    with pytest.raises(SystemExit, match="1 of 2 stores are damaged"):
        main(["verify"])
    assert "images/abc  is damaged: the bytes of a.bin are not those" in capsys.readouterr().out
    main(["sweep"])
    assert f"2 left-overs removed from {tmp_path}" in capsys.readouterr().out
    assert names(tmp_path / "text") == ["def"]
    for wrong in (["look"], ["list", "a", "b"]):
        with pytest.raises(SystemExit, match="write list, verify, sweep"):
            main(wrong)
    with pytest.raises(SystemExit, match="there is no folder"):
        main(["list", str(tmp_path / "none")])
    main([])
    assert "verify" in capsys.readouterr().out
