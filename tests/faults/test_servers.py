"""Streams whose server fails, whose files are damaged, wrongly listed, or change."""

import errno
import gzip
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from shard_files import EACH, KEPT, SHARDS, opened, pictures, write_mds, write_tars
from web import Server, served

from ssl_zoo.data import addresses, mds
from ssl_zoo.data.rows import DataError


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    write_mds(tmp_path / "mds", pictures())
    with served(tmp_path) as found:
        yield found


@pytest.mark.fault("stream", how="a server that fails, breaks off and is silent, and then answers")
def test_a_server_that_fails_for_a_while_is_asked_again(server, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(addresses, "SILENCE", 0.3)
    server.silence = 1.0
    server.faults["mds/index.json"] = ["500"]
    server.faults["mds/shard.00000.mds"] = ["500", "cut", "silent", "429"]
    rows = opened(f"{server.address}/mds", tmp_path / "cache")
    here = opened(f"{tmp_path}/mds", tmp_path / "cache")
    assert np.array_equal(rows.read(np.arange(EACH)).x.numpy(), here.read(np.arange(EACH)).x.numpy())
    assert server.asked["mds/shard.00000.mds"] == 5
    said = capfd.readouterr().err
    assert said.count("asked again in") == 5
    assert "shard.00000.mds" in said


@pytest.mark.fault(
    "stream", how="files that are gone, forbidden, cut short, of another length, damaged, changed"
)
@pytest.mark.parametrize(
    ("faults", "says", "tries"),
    [
        (["404"], r"no file lies at http\S+shard.00000.mds", 1),
        (["403"], "shard.00000.mds may not be read: 403", 1),
        (["500"] * 5, r"could not be fetched in 5 tries: 500", 5),
        (["cut"] * 5, "could not be fetched in 5 tries", 5),
        (["short"] * 5, r"in 5 tries: \S+ bytes came, and it should have \S+", 5),
    ],
)
def test_what_a_server_never_gives(server, tmp_path, faults, says, tries):
    server.faults["mds/shard.00000.mds"] = faults
    rows = opened(f"{server.address}/mds", tmp_path)
    with pytest.raises(DataError, match=says):
        rows.read(np.arange(2))
    assert server.asked["mds/shard.00000.mds"] == tries
    assert not list((tmp_path / "streams").rglob("*.part"))


def test_content_that_changed_is_refused(tmp_path, monkeypatch):
    write_mds(tmp_path / "mds", pictures())
    with served(tmp_path) as server:
        rows = opened(f"{server.address}/mds", tmp_path / "cache", window=7, limit=KEPT / 6)
        rows.read(np.arange(EACH * SHARDS))  # each pushes the others off the shelf
        shard = tmp_path / "mds/shard.00000.mds"
        content = bytearray(shard.read_bytes())
        content[-1] ^= 1
        shard.write_bytes(content)
        with pytest.raises(DataError, match=r"shard.00000.mds has changed since it was read first.*new run"):
            opened(f"{server.address}/mds", tmp_path / "cache", window=7, limit=KEPT / 6).read(np.arange(2))


def changed(value: Callable[[dict], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        value(index["shards"][0])
        (folder / "index.json").write_text(json.dumps(index))

    return edit


def half(folder: Path) -> None:
    shard = folder / "shard.00000.mds"
    shard.write_bytes(shard.read_bytes()[:-300] + b"\0" * 300)


def offsets(folder: Path) -> None:
    shard = folder / "shard.00000.mds"
    content = bytearray(shard.read_bytes())
    content[8:12] = struct.pack("<I", 1 << 30)
    shard.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (changed(lambda one: one.update(samples=6)), r"shard.00000.mds holds 7 samples .* should hold 6"),
        (changed(lambda one: one.update(samples=0)), "claims 0 samples"),
        (changed(lambda one: one.update(format="json")), "of format 'json', version 2: only mds"),
        (changed(lambda one: one.update(compression="br:3")), "is packed with br"),
        (changed(lambda one: one["raw_data"].update(basename="../../etc/passwd")), "no name within"),
        (changed(lambda one: one["raw_data"].update(basename="http://a/b")), "no name within"),
        (changed(lambda one: one.update(column_encodings=["int", "str", "str"])), "which of its columns"),
        (changed(lambda one: one.update(column_sizes=[8, 4, None])), "image 0: its columns take"),
        (
            changed(lambda one: one["raw_data"].update(hashes={"sha256": "0" * 64})),
            "not those that were",
        ),
        (changed(lambda one: one.pop("samples")), "is no index of MDS shards: KeyError"),
        (lambda folder: (folder / "index.json").write_text("[1]"), "is no index of MDS shards"),
        (lambda folder: (folder / "index.json").write_text("{"), "is no JSON"),
        (lambda folder: (folder / "index.json").write_text('{"shards": []}'), "lists no shards"),
        (lambda folder: (folder / "index.json").unlink(), r"no file lies at \S+index.json"),
        (half, "image 6: "),
        (offsets, "its samples do not lie one after the other"),
    ],
)
def test_damaged_shards_and_indexes_are_named(tmp_path, damage, says):
    write_mds(tmp_path / "mds", pictures())
    damage(tmp_path / "mds")
    with served(tmp_path) as server, pytest.raises(DataError, match=says):
        opened(f"{server.address}/mds", tmp_path / "cache").read(np.arange(EACH))


def test_tars_that_are_damaged_or_listed_wrongly(tmp_path):
    write_tars(tmp_path / "tars", pictures())
    shard = tmp_path / "tars/train-03.tar"
    listed = [{"url": shard.name, "nsamples": 5, "filesize": shard.stat().st_size}]
    (tmp_path / "tars/index.json").write_text(json.dumps({"shardlist": listed}))
    with served(tmp_path) as server:
        with pytest.raises(DataError, match=r"train-03.tar holds 7 images, and was listed with 5"):
            opened(f"{server.address}/tars/index.json", tmp_path / "a").read(np.arange(2))
        shard.write_bytes(shard.read_bytes()[:700])
        with pytest.raises(DataError, match=r"http\S+train-03.tar is damaged"):
            opened(f"{server.address}/tars/train-{{00..08}}.tar", tmp_path / "b")


def test_a_server_that_does_not_tell_the_size_at_first_is_asked_again(tmp_path, monkeypatch, capfd):
    write_tars(tmp_path / "tars", pictures())
    address = "tars/train-00.tar"
    with served(tmp_path) as server:
        server.heads, server.faults[address] = [503], ["503"]
        size = addresses.size_of(f"{server.address}/{address}")
        assert size == (tmp_path / address).stat().st_size
        assert "asked again" in capfd.readouterr().err
        monkeypatch.setattr(addresses, "PAUSE", 0.01)
        server.heads, server.faults[address] = [403] * 9, ["403"] * 9
        with pytest.raises(DataError, match=r"train-00.tar may not be read: 403"):
            addresses.size_of(f"{server.address}/{address}")
    with pytest.raises(DataError, match="could not be fetched in 5 tries"):  # nobody listens any longer
        addresses.size_of(f"{server.address}/{address}")


@pytest.mark.fault("disk", how="the disk of the shelf is full while a shard is written, or unpacked")
@pytest.mark.parametrize("unpacks", [False, True])
def test_a_full_disk_is_no_fault_of_the_server(server, tmp_path, monkeypatch, unpacks):
    write_mds(tmp_path / "packed", pictures(), "zstd")

    def full(*args, **options) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    rows = opened(f"{server.address}/packed", tmp_path / "cache")
    if unpacks:
        monkeypatch.setattr(mds, "shutil", SimpleNamespace(copyfileobj=full))
    else:
        monkeypatch.setattr(addresses, "_system", lambda address: (SimpleNamespace(get_file=full), address))
    with pytest.raises(DataError, match=r"cannot be kept in \S+streams: No space left.*SSL_ZOO_CACHE"):
        rows.read(np.arange(2))
    assert not list((tmp_path / "cache/streams").glob(".*"))


@pytest.mark.parametrize("pack", ["zstd", "gz"])
def test_packed_shards_that_are_damaged(server, tmp_path, pack):
    write_mds(tmp_path / "packed", pictures(), "zstd")
    index = json.loads((tmp_path / "packed/index.json").read_text())
    shard = tmp_path / "packed/shard.00000.mds.zstd"
    content = bytearray(shard.read_bytes())
    if pack == "gz":
        content = bytearray(gzip.compress(b"it" * 999))
        content[20:40] = bytes(20)
        index["shards"][0]["zip_data"]["bytes"] = len(content)
        for one in index["shards"]:
            one["compression"] = "gz"
    else:
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    shard.write_bytes(content)
    (tmp_path / "packed/index.json").write_text(json.dumps(index))
    rows = opened(f"{server.address}/packed", tmp_path / "cache")
    with pytest.raises(DataError, match=r"http\S+shard.00000.mds.zstd cannot be unpacked"):
        rows.read(np.arange(2))
    assert not list((tmp_path / "cache/streams").glob(".*"))
