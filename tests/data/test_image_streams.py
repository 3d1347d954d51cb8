"""Streams of images: what batches hold, whatever the workers, the processes and the faults of a server."""

import errno
import io
import json
import pickle
import re
import shlex
import struct
import tarfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ranks
import tiny
from PIL import Image
from shard_files import EACH, KEPT, SHARDS, SIDE, mds_shard, opened, pictures, write_mds, write_tars
from web import Server, served

from ssl_zoo.cli.cache import main as cache_command
from ssl_zoo.data import addresses, cache, mds, shelf, windows
from ssl_zoo.data.image_streams import ImageStream, StreamRows
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.permutation import permuted
from ssl_zoo.data.plan import Parts, Plan
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.shelf import File, Shelf
from ssl_zoo.data.windows import Windows


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with the same images in every kind of shards."""
    folder, images = tmp_path_factory.mktemp("site"), pictures()
    write_tars(folder / "tars", images)
    write_mds(folder / "mds", images)
    write_mds(folder / "packed", images, "zstd:3")
    sizes = {path.name: path.stat().st_size for path in sorted((folder / "tars").iterdir())}
    shards = [{"url": name, "nsamples": EACH, "filesize": size} for name, size in sizes.items()]
    (folder / "tars/wids.json").write_text(json.dumps({"wids_version": 1, "shardlist": shards}))
    return folder


@pytest.fixture
def server(site):
    with served(site) as found:
        yield found


@pytest.fixture(scope="module")
def plain(site, tmp_path_factory) -> np.ndarray:
    """All images as data=image_folder reads them from the same files, in their order."""
    options = {
        "validation_fraction": 0,
        "unpack": False,
        "fast_resize": True,
        "cache": str(tmp_path_factory.mktemp("plain")),
    }
    data = ImageData("plain", f"{site}/tars/train-*.tar", image_size=SIDE, **options)
    return data.rows("train").read(np.arange(EACH * SHARDS)).x.numpy()


@pytest.mark.parametrize(
    "spec", ["tars/train-{00..08}.tar", "tars/wids.json", "mds", "mds/", "mds/index.json", "packed"]
)
@pytest.mark.parametrize("remote", [True, False])
def test_every_kind_of_shards_holds_the_images_of_the_folder(site, server, plain, tmp_path, spec, remote):
    rows = opened(f"{server.address if remote else site}/{spec}", tmp_path)
    index = np.random.default_rng(0).permutation(EACH * SHARDS)
    assert len(rows) == EACH * SHARDS
    assert np.array_equal(rows.read(index).x.numpy(), plain[index])
    assert rows.read(index[:3]).y is None


def test_patterns_of_paths(site, plain, tmp_path):
    rows = opened(f"{site}/tars/*.tar", tmp_path)
    assert np.array_equal(rows.read(np.arange(len(rows))).x.numpy(), plain)


def test_raw_images_of_the_other_library(tmp_path):
    """Its encoding "pil": width, height, length of the mode, the mode, the pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    cell = struct.pack("<III", SIDE, SIDE, 3) + b"RGB" + pixels.tobytes()
    sample = struct.pack("<I", len(cell)) + cell
    shard = struct.pack("<III", 1, 12, 12 + len(sample)) + sample
    found = mds.Samples(shard, mds.Layout(0, "pil", (None,)), 1, "it").read(0)
    assert isinstance(found, Image.Image)
    assert np.array_equal(np.asarray(found), pixels)


# The order


@pytest.mark.parametrize(
    ("sizes", "window"), [([5, 1, 9, 3, 7], 6), ([4, 4, 4], 4), ([30], 7), ([1] * 40, 40)]
)
def test_each_epoch_is_an_order_of_all_rows_in_windows(sizes, window):
    windows = Windows(np.array(sizes), window)
    count, shard_of = sum(sizes), np.repeat(np.arange(len(sizes)), sizes)
    orders = [windows.order(np.arange(count), 3, epoch) for epoch in range(3)]
    for epoch, order in enumerate(orders):
        assert sorted(order.tolist()) == list(range(count))
        shuffled = np.random.default_rng(0).permutation(count)  # asked for one by one, in any order
        assert np.array_equal(windows.order(shuffled, 3, epoch), order[shuffled])
        for first in range(0, count, window):
            read = set(shard_of[order[first : first + window]].tolist())
            assert read == set(windows.shards(first, 3, epoch).tolist())
            assert set(windows.shards(min(first + window, count) - 1, 3, epoch).tolist()) == read
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], Windows(np.array(sizes), window).order(np.arange(count), 4, 0))


def test_within_a_window_every_row_is_as_likely_everywhere():
    windows = Windows(np.full(4, 8), 16)
    found = np.stack([windows.order(np.arange(32), seed, 0) for seed in range(2000)])
    # Each row stands in the first window half of the time, and in each of its places equally often.
    share = np.array([(found[:, :16] == row).any(1).mean() for row in range(32)])
    assert abs(share - 0.5).max() < 0.05
    places = np.array([(found[:, place] < 8).mean() for place in range(32)])
    assert abs(places - 0.25).max() < 0.05


def test_a_plan_of_windows_is_the_same_whatever_divides_it():
    windows = Windows(np.full(10, 100), 250)
    plan = Plan(1000, 120, 2, windows)
    for step in (0, 1, 7, 8, 30):
        parts = [plan.rows(step, part, 6) for part in range(6)]
        assert np.array_equal(np.concatenate(parts), plan.rows(step))
        needed = set((plan.rows(step) // 100).tolist())
        assert needed <= set(plan.soon(step).tolist())
    seen = np.concatenate([plan.rows(step) for step in range(plan.steps_per_epoch)])
    assert len(set(seen.tolist())) == 960


def test_the_order_of_shards_is_made_once_an_epoch(monkeypatch):
    made = []

    def counted(index, count, *keys):
        made.extend(keys[1:] if keys[1] == "shards" else ())
        return permuted(index, count, *keys)

    monkeypatch.setattr(windows, "permuted", counted)
    plan = Plan(200, 10, 0, Windows(np.full(20, 10), 40))
    for step in range(3 * plan.steps_per_epoch):
        plan.rows(step)
        plan.soon(step)
    assert made == ["shards", 0, "shards", 1, "shards", 2, "shards", 3]


def test_a_million_shards_cost_little():
    windows = Windows(np.full(10**6, 10_000), 1 << 16)
    began = time.perf_counter()
    rows = windows.order(np.arange(10**9, 10**9 + 512), 0, 5)
    assert len(set(rows.tolist())) == 512
    assert len(set((rows // 10_000).tolist())) <= 8
    assert time.perf_counter() - began < 5


# Training


def simclr():
    return tiny.small_simclr(tiny.resnet())


def stream(address: str, folder: Path, seed: int = 0) -> StreamRows:
    return opened(address, folder)


def trained(address: str, kept: Path, folder: Path, **options) -> None:
    tiny.train(folder, build=(simclr, partial(stream, address, kept)), steps=14, batch=8, **options)


def test_workers_processes_and_two_resumes_read_the_same_batches(server, tmp_path):
    address = f"{server.address}/mds"
    code, log = tiny.forked(tmp_path, trained, address, tmp_path / "a", tmp_path / "one")
    assert code == 0, log
    expected = (tmp_path / "one/sha256").read_text()
    for die_at, wanted in ((5, -9), (11, -9), (-1, 0)):  # killed twice; each time it goes on
        options = {"workers": 2, "die_at": die_at, "save_every": 2}
        code, log = tiny.forked(tmp_path, trained, address, tmp_path / "b", tmp_path / "two", **options)
        assert code == wanted, log
    assert (tmp_path / "two/sha256").read_text() == expected
    group = ranks.group(
        tmp_path / "pair", trained, address, tmp_path / "c", tmp_path / "three", **ranks.TOGETHER
    )
    codes, log = ranks.ended(tmp_path / "pair", group)
    assert codes == [0, 0], log
    # Sums over two processes have another order, so compare the rows: the seed and the step decide them.
    rows = opened(address, tmp_path / "d")
    plan = Plan(len(rows), 8, 0, rows.windows)
    halves = [Parts(rows, plan, 1, 2, rank) for rank in range(2)]
    for step in (0, 6, 13):
        both = np.concatenate([half[step][1].x.numpy() for half in halves])
        assert np.array_equal(both, Parts(rows, plan, 1, 1, 0)[step][1].x.numpy())


def test_from_the_command_line(server, tmp_path):
    words = ("objective=rotation", "backbone=resnet_micro", "batch_size=8", "trainer=cpu", "run=run")
    more = (
        "data.image_size=8",
        "data.window=16",
        "data.validation_fraction=0.2",
        "budget.steps=3",
        "workers=2",
    )
    code, log = tiny.command(
        tmp_path, tmp_path / "cache", "pretrain", f"data={server.address}/mds/", *words, *more
    )
    assert code == 0, log
    assert "2 of 9 shards are held out" in log
    assert "val/accuracy" in log
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["steps"] == 3
    (told,) = re.findall(r"next: ssl-zoo (embed .*)", log)
    whole = ("embed", "run=run", f"data={server.address}/mds/")
    for words, count in ((shlex.split(told), 49), (whole, 63)):
        code, log = tiny.command(tmp_path, tmp_path / "cache", *words)
        assert code == 0, log
        assert f"{count} vectors" in log
    words = ("evaluate", f"data={server.address}/mds/", "run=run")
    code, log = tiny.command(tmp_path, tmp_path / "cache", *words)
    assert code == 1
    assert "a stream of images has no labels" in log
    assert "Traceback" not in log


def test_local_shards_with_an_index_are_known_by_it(site, tmp_path):
    words = ("objective=rotation", "backbone=resnet_micro", "batch_size=8", "trainer=cpu", "run=run")
    more = ("data.image_size=8", "data.window=16", "data.validation_fraction=0", "budget.steps=1")
    code, log = tiny.command(tmp_path, tmp_path / "cache", "pretrain", f"data={site}/mds", *words, *more)
    assert code == 0, log
    assert not list((tmp_path / "cache").rglob("*.mds"))  # read where they are


# The shelf


def shard_file(server: Server, i: int = 0) -> File:
    return File(f"{server.address}/mds/shard.{i:05d}.mds")


def kept_on(place: Path) -> list[str]:
    return sorted(path.name.partition("-")[2] for path in place.iterdir() if path.is_file())


def test_a_shelf_keeps_what_was_used_last(server, tmp_path):
    size = len(
        (Path(server.server.RequestHandlerClass.keywords["directory"]) / "mds/shard.00000.mds").read_bytes()
    )
    own = Shelf(tmp_path / "shelf", int(3.5 * size))
    for i in (0, 1, 2, 0, 3):
        with own.pinned(shard_file(server, i)) as path:
            assert path.stat().st_size > 0
        time.sleep(0.02)
    assert kept_on(own.folder) == ["shard.00000.mds", "shard.00002.mds", "shard.00003.mds"]
    with own.pinned(shard_file(server, 1)) as path:  # which others make room for
        for i in (4, 5, 6):
            own.fetch(shard_file(server, i))
            assert sum(one.stat().st_size for one in own.folder.glob("[!.]*") if one.is_file()) <= own.limit
        assert path.exists()
        assert "shard.00001.mds" not in kept_on(own.folder)
    assert server.asked["mds/shard.00001.mds"] == 2
    assert not list(own.folder.glob(".*"))


def fetches(address: str, folder: Path, go: Path) -> None:
    while not go.exists():
        time.sleep(0.005)
    for i in range(SHARDS):
        Shelf(folder, 1 << 30).fetch(File(f"{address}/mds/shard.{i:05d}.mds"))


def test_processes_that_want_the_same_file_fetch_it_once(server, tmp_path):
    go = tmp_path / "go"
    group = [
        tiny.spawn(tmp_path / f"log-{i}", fetches, server.address, tmp_path / "shelf", go) for i in range(3)
    ]
    go.touch()
    assert [tiny.outcome(one) for one in group] == [0, 0, 0], (tmp_path / "log-0").read_text()
    assert {server.asked[f"mds/shard.{i:05d}.mds"] for i in range(SHARDS)} == {1}


def dies_fetching(address: str, folder: Path) -> None:
    addresses.fetch = lambda address, into, size=-1: (into.write_bytes(b"half"), tiny.die())
    Shelf(folder, 1 << 30).fetch(File(f"{address}/mds/shard.00000.mds"))


def test_what_a_killed_process_left_is_removed(server, tmp_path):
    code, _ = tiny.forked(tmp_path, dies_fetching, server.address, tmp_path / "shelf")
    assert code == -9
    assert len(list((tmp_path / "shelf").glob(".*"))) == 2  # a lock and half a file
    own = Shelf(tmp_path / "shelf", 1 << 30)
    own.fetch(shard_file(server, 1))  # whichever file is fetched
    assert not list(own.folder.glob(".*"))
    with own.pinned(shard_file(server)) as path:
        assert path.read_bytes() == mds_shard(pictures()[:EACH])
    assert not list(own.folder.glob(".*"))


def refuse_locks(handle: int, wait: bool) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def test_without_locks_every_process_fetches_and_builds_for_itself(server, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "lock_file", refuse_locks)
    own = Shelf(tmp_path / "shelf", 1 << 30)
    own.fetch(shard_file(server))
    assert kept_on(own.folder) == ["shard.00000.mds"]

    def build(draft: Path) -> None:
        (draft / "it").write_text("built")
        if not place.exists():  # another process is faster
            cache.store(place, "the other's", lambda other: (other / "it").write_text("built"))

    place = tmp_path / "room/key"
    assert cache.store(place, "mine", build) == place
    assert (place / "it").read_text() == "built"
    assert cache.title(place) == "the other's"
    assert [path.name for path in place.parent.iterdir()] == ["key"]


def test_a_window_that_does_not_fit_is_refused_before_anything_is_read(server, tmp_path):
    with pytest.raises(DataError, match=r"a window of 40 rows may span 7 shards .*raise data.limit"):
        opened(f"{server.address}/mds", tmp_path, window=40, limit=KEPT / 8)
    assert not any("shard" in name for name in server.asked)


def test_a_full_disk_is_said(server, tmp_path, monkeypatch):
    def full(*args) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(addresses, "fetch", full)
    with pytest.raises(DataError, match=r"cannot be kept in .*No space left.*SSL_ZOO_CACHE"):
        Shelf(tmp_path / "shelf", 1 << 30).fetch(shard_file(server))
    assert not list((tmp_path / "shelf").glob(".*"))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("tars/train-*.tar", "web servers do not list their files"),
        ("tars/train-{08..00}.tar", "counts down"),
        ("tars/train-{00,00}.tar", "names 1 files twice"),
        ("tars/train-{00..01}.tgz", "no shard that a stream reads"),
        ("tars/train-09.tar", r"no file lies at \S+train-09.tar"),
    ],
)
def test_addresses_that_name_nothing(server, tmp_path, spec, says):
    with pytest.raises(DataError, match=says):
        opened(f"{server.address}/{spec}", tmp_path)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"window": 0}, "window is a whole number from 1"),
        ({"limit": 0}, "limit is a number of GiB above 0"),
        ({"image_size": 8.5}, "image_size is a whole number"),
        ({"validation_fraction": 1}, "validation_fraction is from 0 to below 1"),
        ({"image": "picture"}, "has no column 'picture', only a_label, image, words"),
    ],
)
def test_options_that_cannot_be(site, tmp_path, more, says):
    with pytest.raises(DataError, match=says):
        opened(f"{site}/mds", tmp_path, **more)


def test_splits(site, tmp_path):
    data = ImageStream(
        "stream", f"{site}/mds", image_size=SIDE, validation_fraction=0.25, cache=str(tmp_path), window=8
    )
    assert data.splits() == ("train", "validation")
    train, held_out = data.rows("pretrain"), data.rows("validation")
    assert (len(train), len(held_out)) == (7 * EACH, 2 * EACH)
    both = [
        {one.tobytes() for one in rows.read(np.arange(len(rows))).x.numpy()} for rows in (train, held_out)
    ]
    assert not both[0] & both[1]
    assert train.fingerprint != held_out.fingerprint
    with pytest.raises(DataError, match="labels are not read"):
        data.labelled("train")
    with pytest.raises(DataError, match="no 'test' split"):
        data.rows("test")
    one = ImageStream("one", f"{site}/tars/train-00.tar", image_size=SIDE, cache=str(tmp_path))
    with pytest.raises(DataError, match="1 shard cannot be parted"):
        one.rows("train")


def test_a_protocol_whose_package_is_missing_is_named(tmp_path, monkeypatch):
    import fsspec

    def absent(*args, **options):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(DataError, match=r"s3://bucket/a\.tar cannot be opened: Install s3fs"):
        opened("s3://bucket/a.tar", tmp_path)


def test_another_file_system_of_fsspec(site, plain, tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    for path in (site / "tars").glob("*.tar"):
        memory.pipe(f"/bucket/{path.name}", path.read_bytes())
    rows = opened("memory://bucket/train-*.tar", tmp_path)
    assert np.array_equal(rows.read(np.arange(len(rows))).x.numpy(), plain)


def test_places_are_those_of_the_shelf(tmp_path):
    own = Shelf(tmp_path, 1)
    assert own.place(File("https://host/a b[1].tar")).name.endswith("-a_b_1_.tar")
    assert own.place(File("https://x/a.tar")) != own.place(File("https://y/a.tar"))
    assert own.place(File("here/a.tar")) == Path("here/a.tar")
    packed = Shelf(tmp_path, 1, lambda raw, into: None)
    assert packed.place(File("https://x/a.tar")) != own.place(File("https://x/a.tar"))


def test_rows_travel_to_processes_that_are_spawned(site, server, plain, tmp_path):
    for spec in ("tars/train-{00..08}.tar", "packed"):
        rows = opened(f"{server.address}/{spec}", tmp_path)
        rows.read(np.arange(3))
        again = pickle.loads(pickle.dumps(rows))
        assert np.array_equal(again.read(np.arange(9)).x.numpy(), plain[:9])
        assert again.fingerprint == rows.fingerprint


def test_another_window_makes_other_batches_and_says_so(site, tmp_path):
    one, two = (opened(f"{site}/mds", tmp_path, window=window) for window in (16, 17))
    assert one.fingerprint != two.fingerprint


def test_tars_here_that_are_written_anew_are_counted_anew(tmp_path, monkeypatch):
    for name, images in (("a", pictures()), ("b", pictures()[::-1])):
        (tmp_path / name).mkdir()
        write_tars(tmp_path / name / "tars", images)
    found = []
    for name in ("a", "b"):  # the same words in two folders
        monkeypatch.chdir(tmp_path / name)
        found.append(opened("tars/*.tar", tmp_path / "cache"))
    assert found[0].fingerprint != found[1].fingerprint
    first = tmp_path / "b/tars/train-00.tar"
    with tarfile.open(first) as tar:
        kept = [(member, tar.extractfile(member).read()) for member in tar.getmembers()[:6]]  # pyright: ignore
    with tarfile.open(first, "w") as tar:
        for member, content in kept:
            tar.addfile(member, io.BytesIO(content))
    assert len(opened("tars/*.tar", tmp_path / "cache")) == len(found[1]) - EACH + 3


def test_a_shard_that_is_no_longer_needed_is_closed(server, tmp_path):
    rows = opened(f"{server.address}/mds", tmp_path)
    rows.read(np.arange(3 * EACH))
    assert set(rows._opened) == {0, 1, 2}
    rows.prepare(np.array([2, 5]))
    assert set(rows._opened) == {2}


def test_shards_whose_index_says_a_quality(server, site, plain, tmp_path):
    index = json.loads((site / "mds/index.json").read_text())
    for one in index["shards"]:
        one["column_encodings"] = ["int", "jpeg:90", "str"]  # the bytes say themselves what they are
    (site / "mds/quality.json").write_text(json.dumps(index))
    rows = opened(f"{server.address}/mds/quality.json", tmp_path)
    assert np.array_equal(rows.read(np.arange(9)).x.numpy(), plain[:9])


def test_a_large_index_comes_whole(tmp_path):
    write_mds(tmp_path / "mds", pictures())
    index = json.loads((tmp_path / "mds/index.json").read_text())
    (tmp_path / "mds/index.json").write_text(json.dumps(index | {"notes": "x" * 5_000_000}))
    with served(tmp_path) as own:
        assert len(opened(f"{own.address}/mds", tmp_path / "cache")) == EACH * SHARDS
        assert len(addresses.read(f"{own.address}/mds/index.json")) > 5_000_000


def test_the_cache_command_knows_files_of_streams(server, tmp_path, capsys):
    opened(f"{server.address}/mds", tmp_path).read(np.arange(2 * EACH))
    folder = tmp_path / shelf.ROOM
    first, second = shelf.files(folder)
    cache_command(["verify", str(tmp_path)])
    out = capsys.readouterr().out
    assert f"{2 * first.stat().st_size / 1e6:12,.1f} MB  in 2 files of streams" in out
    first.write_bytes(first.read_bytes()[::-1])
    left = [folder / ".0-a.tar.1234abcd.part", folder / ".0-a.tar.lock"]
    for path in left:
        path.touch()
    with pytest.raises(SystemExit, match="1 of 2 files of streams are damaged"):
        cache_command(["verify", str(tmp_path)])
    told = capsys.readouterr().out
    assert f"{first} is damaged: its bytes are not those that were fetched" in told
    assert str(second) not in told
    cache_command(["sweep", str(tmp_path)])
    assert f"2 left-overs removed from {tmp_path}" in capsys.readouterr().out
    assert not [path for path in left if path.exists()]
    first.unlink()
    cache_command(["verify", str(tmp_path)])
