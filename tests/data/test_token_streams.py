"""Streams of texts and of tokens: the rows of the same texts here, whatever the workers and the faults."""

import json
import pickle
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import tiny
import torch
from web import Server, served

from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.data.plan import Parts, Plan, loader
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text_rows import PackedRows, write_stream
from ssl_zoo.data.text_streams import TextStream
from ssl_zoo.data.token_rows import TokenRows
from ssl_zoo.data.token_shards import KINDS, read_tokens, write_tokens
from ssl_zoo.data.tokenizer import Tokenizer, bpe
from ssl_zoo.data.tokenizer_pretrained import pretrained
from ssl_zoo.objectives.next_token import NextToken

SHARDS, LENGTH = 6, 16
TEXTS = "c4-{0..5}.jsonl.zst"


def documents(shard: int) -> list[str]:
    return [f"document {i} of shard {shard} speaks of {i * 7} and {shard}" for i in range(20 + 3 * shard)]


def words() -> Tokenizer:
    return bpe(documents(0), 280)


def zstd(shard: int) -> bytes:
    lines = "\n".join(json.dumps({"text": one}) for one in documents(shard))
    return pyarrow.Codec("zstd").compress(lines.encode(), asbytes=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The same texts as packed lines, and as three kinds of shards of tokens."""
    folder = tmp_path_factory.mktemp("texts")
    for shard in range(SHARDS):
        (folder / f"c4-{shard}.jsonl.zst").write_bytes(zstd(shard))
        write_tokens(documents(shard), words(), folder / f"own-{shard}.bin", "it")
        ids = read_tokens(folder / f"own-{shard}.bin", "it").ids
        ids.astype("<u2").tofile(folder / f"raw-{shard}.bin")  # nanoGPT's
        header = np.zeros(256, "<i4")
        header[:3] = 20240801, 7, len(ids)
        (folder / f"wide-{shard}.bin").write_bytes(header.tobytes() + ids.astype("<u4").tobytes())
    return folder


@pytest.fixture
def site(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "site"))


@pytest.fixture
def server(site):
    with served(site) as found:
        yield found


def opened(address: str, folder: Path, split: str = "train", lookahead: int = 1, **more) -> TokenRows:
    options = {"validation_fraction": 0, "window": 8, "cache": str(folder)} | more
    return TextStream("stream", address, **options).rows(split, words(), LENGTH, lookahead=lookahead)


def same(one, other, epoch: int, rows: np.ndarray) -> None:
    mine, theirs = one.read(rows, epoch), other.read(rows - rows[0], epoch)
    assert torch.equal(mine.x, theirs.x)
    assert torch.equal(mine.segments, theirs.segments)


@pytest.mark.parametrize("kind", [TEXTS, "own-{0..5}.bin", "raw-{0..5}.bin", "wide-{0..5}.bin"])
@pytest.mark.parametrize("remote", [True, False])
def test_rows_are_those_of_stores_of_the_same_texts(site, server, tmp_path, kind, remote):
    rows = opened(f"{server.address if remote else site}/{kind}", tmp_path / "cache")
    stored = []
    for shard in range(SHARDS):
        write_stream(documents(shard), words(), tmp_path / f"store-{shard}", "it")
        stored.append(PackedRows(tmp_path / f"store-{shard}", LENGTH, 1))
    assert len(rows) == sum(map(len, stored))
    for epoch in (0, 1, 5):
        first = 0
        for one in stored:
            same(rows, one, epoch, np.arange(first, first + len(one)))
            first += len(one)
    mixed = np.random.default_rng(0).permutation(len(rows))
    assert torch.equal(rows.read(mixed).x, rows.read(np.arange(len(rows))).x[mixed])
    assert rows.units_per_row == LENGTH


def test_what_our_own_shards_say_of_their_text(site):
    every, held = documents(2), read_tokens(site / "own-2.bin", "it")
    ids = [1, *np.concatenate([[*one, 1] for one in words().encode(every)]).tolist()[:-1]]
    assert held.ids.tolist() == ids
    assert held.bytes == sum(map(len, every))
    assert held.content == len(ids) - len(every)
    assert len(held.digest) == 32
    assert read_tokens(site / "raw-2.bin", "it").bytes == 0


def test_bytes_per_token_are_those_of_the_texts(site, tmp_path):
    told = opened(f"{site}/c4-*.jsonl.zst", tmp_path)
    held = [read_tokens(site / f"own-{shard}.bin", "it") for shard in range(SHARDS)]
    assert told.bytes_per_token == sum(one.bytes for one in held) / sum(one.content for one in held)
    assert opened(f"{site}/own-*.bin", tmp_path).bytes_per_token is None


def test_a_folder_is_its_shards(site, tmp_path):
    for path in site.glob("[rw]*.bin"):
        path.unlink()
    assert len(opened(str(site), tmp_path).files) == SHARDS  # tokens before texts
    for path in site.glob("*.bin"):
        path.unlink()
    assert len(opened(str(site), tmp_path).files) == SHARDS


def test_shards_of_text_are_tokenized_once_where_there_is_room(server, tmp_path):
    address = f"{server.address}/{TEXTS}"
    rows = opened(address, tmp_path)
    rows.read(np.arange(len(rows)))
    opened(address, tmp_path).read(np.arange(len(rows)))
    assert set(server.asked.values()) == {1}
    assert len(list((tmp_path / "streams").glob("*-unpacked-*"))) == SHARDS


def test_no_more_is_kept_than_the_limit(server, tmp_path):
    address = f"{server.address}/{TEXTS}"
    whole = opened(address, tmp_path / "all")
    sizes = [one.stat().st_size for one in (tmp_path / "all/streams").glob("*-unpacked-*")]
    limit = 4.5 * max(sizes)
    rows = opened(address, tmp_path / "few", limit=limit / (1 << 30))
    assert torch.equal(rows.read(np.arange(len(rows))).x, whole.read(np.arange(len(rows))).x)
    kept = sum(one.stat().st_size for one in (tmp_path / "few/streams").glob("*-unpacked-*"))
    assert 0 < kept <= limit
    assert rows.fingerprint == whole.fingerprint
    with pytest.raises(DataError, match=r"a window of 8 rows may span \d shards"):
        opened(address, tmp_path / "few", limit=1e-9)


def next_token():
    return NextToken(TextTransformer(words().vocabulary, width=16, depth=1, heads=2))


def stream(address: str, folder: Path, seed: int = 0) -> TokenRows:
    return opened(address, folder)


def trained(address: str, kept: Path, folder: Path, **options) -> None:
    build = (next_token, partial(stream, address, kept))
    tiny.train(folder, build=build, steps=14, batch=8, **options)


def test_workers_and_two_resumes_read_the_same_batches(server, tmp_path):
    address = f"{server.address}/{TEXTS}"
    code, log = tiny.forked(tmp_path, trained, address, tmp_path / "a", tmp_path / "one")
    assert code == 0, log
    for die_at, wanted in ((5, -9), (11, -9), (-1, 0)):  # killed twice; each time it goes on
        options = {"workers": 2, "die_at": die_at, "save_every": 2}
        code, log = tiny.forked(tmp_path, trained, address, tmp_path / "b", tmp_path / "two", **options)
        assert code == wanted, log
    assert (tmp_path / "two/sha256").read_text() == (tmp_path / "one/sha256").read_text()


def read_in_a_worker(address: str, kept: Path, limit: float, out: Path) -> None:
    rows = opened(address, kept, limit=limit)  # which tokenizes with threads that no fork has
    plan = Plan(len(rows), 8, 0, rows.windows)
    feed = loader(Parts(rows, plan, 1, 1, 0), lambda: 0, plan.steps_per_epoch, workers=2, pin=False)
    torch.save([batch.x for _, batch in feed], out)


def test_workers_tokenize_what_had_to_go(server, tmp_path):
    """A worker has the locks of the tokenizers' threads, and not the threads."""
    address = f"{server.address}/{TEXTS}"
    wanted = everything(address, tmp_path / "all")
    size = max(one.stat().st_size for one in (tmp_path / "all/streams").glob("*-unpacked-*"))
    limit = 4.5 * size / (1 << 30)
    code, log = tiny.forked(tmp_path, read_in_a_worker, address, tmp_path / "few", limit, tmp_path / "read")
    assert code == 0, log
    read = torch.cat(torch.load(tmp_path / "read"))
    assert len(read) > len(wanted) - 8
    rows = {tuple(row) for row in wanted.tolist()}
    assert {tuple(row) for row in read.tolist()} <= rows
    assert max(server.asked.values()) > 2


def test_an_empty_shard_has_no_rows(site, tmp_path):
    before = len(opened(f"{site}/c4-*.jsonl.zst", tmp_path / "a"))
    (site / "c4-2x.jsonl.zst").write_bytes(pyarrow.Codec("zstd").compress(b'{"text": " "}', asbytes=True))
    rows = opened(f"{site}/c4-*.jsonl.zst", tmp_path / "b")
    assert len(rows) == before
    assert rows.windows.sizes.tolist()[3] == 0
    assert len(rows.read(np.arange(len(rows))).x) == before


def test_a_tokenizer_is_learned_again_of_texts_that_changed(tmp_path, monkeypatch):
    monkeypatch.setattr("ssl_zoo.data.text_streams.LEARNED_OF", 40)  # of the first text
    learned = []

    def learn(texts):
        learned.append(list(texts))
        return words()

    for folder, text in (("a", "one text of so many letters"), ("b", "two text of so many letters")):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        Path("t.txt").write_text(f"{text}\n\n{'more of it ' * 9}\n\nand the rest")
        for most in (1 << 28, 1 << 20):  # what passes limits is the same text
            options = {"validation_fraction": 0, "cache": str(tmp_path / "cache"), "max_document_bytes": most}
            TextStream("s", "t.txt", **options).tokenizer(learn, "settings")
    assert [len(texts) for texts in learned] == [2, 2]
    assert learned[0] != learned[1]


def test_paths_from_home(site, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(site))
    assert len(opened("~/own-{0..5}.bin", tmp_path)) == len(opened(f"{site}/own-{{0..5}}.bin", tmp_path))
    assert len(opened("~/c4-0.jsonl.zst", tmp_path)) > 0


def test_a_tokenizer_that_travelled_reads_no_special_tokens(tmp_path):
    inner = words()._inner
    inner.add_special_tokens(["<|endoftext|>"])
    inner.save(str(tmp_path / "tokenizer.json"))
    one = pretrained(name=str(tmp_path / "tokenizer.json"))
    (wanted,) = one.encode(["a<|endoftext|>b"])
    (found,) = pickle.loads(pickle.dumps(one)).encode(["a<|endoftext|>b"])
    assert len(wanted) > 5
    assert found.tolist() == wanted.tolist()


# Faults


def everything(address: str, folder: Path) -> torch.Tensor:
    rows = opened(address, folder)
    return rows.read(np.arange(len(rows))).x


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.fault("stream", how="shards of text or tokens that are cut off, changed or of another kind")
@pytest.mark.parametrize(
    ("kind", "spoil", "says"),
    [
        (TEXTS, cut, r"c4-3.jsonl.zst cannot be read: "),
        (
            "own-{0..5}.bin",
            cut,
            r"own-3.bin says that it holds \d+ tokens of 2 bytes, and has 1,\d+ bytes",
        ),
        ("raw-{0..5}.bin", cut, r"raw-3.bin is no shard of tokens: it has [\d,]+ bytes, and an id has two"),
        ("own-{0..5}.bin", lambda path: path.write_bytes(bytes(3001)), "own-3.bin is no shard of tokens"),
        ("own-{0..5}.bin", lambda path: path.unlink(), "no file lies at .*own-3.bin"),
        (
            "own-{0..5}.bin",
            lambda path: shutil.copy(path.with_name("wide-3.bin"), path),
            r"own-3.bin holds [\d,]+ tokens, and is not what was counted before, [\d,]+ of 2 bytes",
        ),
        (
            "raw-{0..5}.bin",
            lambda path: np.full(500, 4000, "<u2").tofile(path),
            "raw-3.bin holds the id 4,000, and the tokenizer has 280: name the one that made it",
        ),
    ],
)
def test_damaged_shards_are_named(site, server, tmp_path, kind, spoil, says):
    (name,) = site.glob(kind.replace("{0..5}", "3"))
    spoil(name)
    with pytest.raises(DataError, match=says) as error:
        everything(f"{server.address}/{kind}", tmp_path)
    where = f"{error.value}".partition("remove what was kept of it")[0]
    assert "streams" not in where  # where it was kept here is told to nobody else
    left = [one.name for one in (tmp_path / "streams").glob(".*") if not one.name.endswith(".lock")]
    assert not left


@pytest.mark.parametrize("fault", ["500", "cut", "short"])
def test_a_server_that_stumbles_is_asked_again(server: Server, tmp_path, fault):
    wanted = everything(f"{server.address}/{TEXTS}", tmp_path / "a")
    server.faults["c4-2.jsonl.zst"] = [fault]
    assert torch.equal(everything(f"{server.address}/{TEXTS}", tmp_path / "b"), wanted)
    assert server.asked["c4-2.jsonl.zst"] == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"spec": "{own-0.bin,c4-0.jsonl.zst}"},
            "holds tokens by",
        ),
        ({"spec": "own-0.bin", "validation_fraction": 0.5}, "1 shard cannot be parted"),
        ({"spec": "nothing-*.bin"}, "nothing lies at"),
        ({"spec": "part"}, "val.bin is for validation by its name, and others of .*part are not"),
        ({"spec": "own-{0..5}.bin", "window": 0}, "window is a whole number"),
        ({"spec": "own-{0..5}.bin", "errors": "quiet"}, "errors is strict or replace"),
    ],
)
def test_arguments_are_checked(site, tmp_path, options, says):
    (site / "part").mkdir()
    for name in ("train.bin", "val.bin"):
        shutil.copy(site / "own-0.bin", site / "part" / name)
    with pytest.raises(DataError, match=says):
        opened(f"{site}/{options.pop('spec')}", tmp_path, **options)


def test_rows_that_no_shard_has(site, tmp_path):
    data = TextStream("s", f"{site}/own-*.bin", validation_fraction=0, cache=str(tmp_path))
    with pytest.raises(DataError, match="and one row needs 100000"):
        data.rows("train", words(), 100000)
    with pytest.raises(DataError, match="reads a document a row: take data=text_files"):
        data.rows("train", words(), 16, "document")
    with pytest.raises(DataError, match="name the tokenizer that made them, tokenizer=pretrained"):
        next(data.texts("train"))


def test_a_magic_number_of_a_later_version(site, tmp_path):
    header = np.zeros(256, "<i4")
    header[:3] = min(KINDS), 2, 10
    (tmp_path / "new.bin").write_bytes(header.tobytes() + bytes(20))
    with pytest.raises(DataError, match=r"new\.bin is of version 2 of its kind, and 1 is read"):
        read_tokens(tmp_path / "new.bin", "new.bin")


# Commands


def test_texts_from_the_command_line(server, tmp_path):
    small = ("backbone.width=16", "backbone.depth=1", "backbone.heads=2", "tokenizer.size=280", "context=16")
    words = ("objective=next_token", "backbone=transformer_micro", "trainer=cpu", "batch_size=8", *small)
    more = ("data=text_stream", f"data.train={server.address}/c4-{{0..5}}.jsonl.zst", "data.window=16")
    done = ("budget.steps=3", "data.validation_fraction=0.2", "run=run", "workers=2")
    code, log = tiny.command(tmp_path, tmp_path / "cache", "pretrain", *words, *more, *done)
    assert code == 0, log
    assert "1 of 6 shards are held out" in log
    assert "5 shards are fetched and read once before training" in log
    assert "val/bits_per_byte" in log
    code, log = tiny.command(tmp_path, tmp_path / "cache", "embed", "run=run", *more)
    assert code == 0, log
    assert "136 vectors" in log  # of the shards that are not held out
    code, log = tiny.command(tmp_path, tmp_path / "cache", "evaluate", "run=run", *more)
    assert code == 1
    assert "text_stream is a stream, which is not measured on: take data=text_files" in log
    code, log = tiny.command(tmp_path, tmp_path / "cache", "look", *more)
    assert code == 0, log
    assert "136" in log


def test_tokens_from_the_command_line(server, tmp_path):
    words_of(tmp_path / "words")
    small = ("backbone.width=16", "backbone.depth=1", "backbone.heads=2", "context=16", "batch_size=8")
    words = ("objective=masked_lm", "backbone=transformer_micro", "trainer=cpu", "budget.steps=2", *small)
    data = (f"data={server.address}/own-{{0..5}}.bin", "data.window=16", "run=run")
    code, log = tiny.command(tmp_path, tmp_path / "cache", "pretrain", *words, *data)
    assert code == 1
    assert "name the tokenizer that made them, tokenizer=pretrained tokenizer.name=" in log
    named = ("tokenizer=pretrained", f"tokenizer.name={tmp_path / 'words'}")
    code, log = tiny.command(tmp_path, tmp_path / "cache", "pretrain", *words, *data, *named)
    assert code == 0, log
    assert json.loads((tmp_path / "run/summary.json").read_text())["steps"] == 2
    assert "saved in run\n" in log  # embed is not named: there is no text to read
    code, log = tiny.command(tmp_path, tmp_path / "cache", "embed", "run=run", *data[:1])
    assert code == 1
    assert "is for pretrain; embed takes texts" in log


def words_of(folder: Path) -> None:
    words().save(folder)
