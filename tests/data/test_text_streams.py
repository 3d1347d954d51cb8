"""Texts at addresses and in .zst files: the rows that the same texts give where they lie here."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tiny
from web import served

from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_formats import Table
from ssl_zoo.data.tokenizer import bpe

PARTS = 3


def documents(part: int) -> list[str]:
    return [f"document {i} of part {part} speaks of {i * 7} and {part}" for i in range(40)]


def zstd(text: str) -> bytes:
    return pyarrow.Codec("zstd").compress(text.encode(), asbytes=True)


@pytest.fixture
def site(tmp_path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    for part in range(PARTS):
        lines = "\n".join(json.dumps({"text": one}) for one in documents(part))
        (folder / f"c4-{part:02d}.jsonl.zst").write_bytes(zstd(lines))
        (folder / f"c4-{part:02d}.jsonl").write_text(lines)
        (folder / f"plain-{part:02d}.txt.gz").write_bytes(
            gzip.compress("\n\n".join(documents(part)).encode())
        )
    table = pyarrow.table({"words": documents(0), "topic": ["a", "b"] * 20})
    pyarrow.parquet.write_table(table, folder / "rows.parquet")
    return folder


@pytest.fixture
def server(site):
    with served(site) as found:
        yield found


def packed(data: TextData) -> np.ndarray:
    rows = data.rows("train", bpe(documents(0), 280), 16, "packed")
    return rows.read(np.arange(len(rows))).x.numpy()


@pytest.mark.parametrize("kind", ["c4-{00..02}.jsonl.zst", "plain-{00..02}.txt.gz", "c4-{00..02}.jsonl"])
def test_texts_at_addresses_are_those_of_files_here(site, server, tmp_path, kind):
    here = TextData("here", [str(site / f"c4-{i:02d}.jsonl") for i in range(PARTS)], cache=tmp_path / "a")
    there = TextData("there", f"{server.address}/{kind}", cache=tmp_path / "b")
    assert np.array_equal(packed(there), packed(here))
    first = dict(server.asked)
    assert set(first.values()) == {1}
    packed(TextData("again", f"{server.address}/{kind}", cache=tmp_path / "b"))
    assert dict(server.asked) == first  # the store is there, and only sizes were asked for


def test_zst_files_here(site, tmp_path):
    one = TextData("one", site / "c4-00.jsonl.zst", validation_fraction=0, cache=tmp_path)
    assert one.documents("train") == documents(0)
    found = TextData("all", str(site / "*.zst"), validation_fraction=0, cache=tmp_path)
    assert found.documents("train") == [text for part in range(PARTS) for text in documents(part)]


def test_a_table_at_an_address(server, tmp_path):
    form = Table(text="words", label="topic")
    data = TextData("t", f"{server.address}/rows.parquet", format=form, validation_fraction=0, cache=tmp_path)
    assert data.documents("train") == documents(0)
    assert data.classes == ("a", "b")


@pytest.mark.fault("stream", how="packed texts that are damaged or cut off, at an address")
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda raw: raw[: len(raw) // 2], r"http\S+c4-01.jsonl.zst cannot be read: "),
        (lambda raw: b"garbage" * 9, r"http\S+c4-01.jsonl.zst cannot be read: "),
        (lambda raw: zstd('{"text": 7}'), r"http\S+c4-01.jsonl.zst, line 1"),
    ],
)
def test_faults_name_the_address(site, server, tmp_path, damage, says):
    file = site / "c4-01.jsonl.zst"
    file.write_bytes(damage(file.read_bytes()))
    data = TextData("t", f"{server.address}/c4-{{00..02}}.jsonl.zst", cache=tmp_path)
    with pytest.raises(DataError, match=says) as error:
        data.documents("train")
    assert ".pin-" not in f"{error.value}"
    assert not list(tmp_path.rglob(".pin-*"))


def test_what_is_left_out_is_told_with_the_address(site, server, tmp_path, capfd):
    lines = [json.dumps({"text": one}) for one in (*documents(1)[:3], "")]
    (site / "c4-01.jsonl.zst").write_bytes(zstd("\n".join(lines)))
    data = TextData("t", f"{server.address}/c4-01.jsonl.zst", validation_fraction=0, cache=tmp_path)
    assert len(data.documents("train")) == 3
    assert f"1 empty text(s) left out (first: {server.address}/c4-01.jsonl.zst)" in capfd.readouterr().err


def test_another_size_makes_another_store(site, server, tmp_path):
    address = f"{server.address}/c4-{{00..02}}.jsonl"
    before = packed(TextData("t", address, cache=tmp_path / "a"))
    more = "\n".join(json.dumps({"text": one}) for one in (*documents(0), "one more document, which is new"))
    (site / "c4-00.jsonl").write_text(more)
    after = packed(TextData("t", address, cache=tmp_path / "a"))
    assert np.array_equal(after, packed(TextData("t", address, cache=tmp_path / "b")))
    assert not np.array_equal(after, before)


def test_from_the_command_line(server, tmp_path):
    words = ("objective=next_token", "backbone=transformer_micro", "trainer=cpu", "run=run", "context=16")
    more = ("tokenizer.size=280", "backbone.width=16", "backbone.depth=1", "backbone.heads=2")
    code, log = tiny.command(
        tmp_path,
        tmp_path / "cache",
        "pretrain",
        f"data={server.address}/c4-{{00..02}}.jsonl.zst",
        *words,
        *more,
        "batch_size=8",
        "budget.steps=3",
    )
    assert code == 0, log
    assert "val/bits_per_byte" in log
    code, log = tiny.command(
        tmp_path, tmp_path / "cache", "pretrain", f"data={server.address}/rows.parquet", *words, "run=other"
    )
    assert code == 1
    assert "the columns of a table at an address are not guessed" in log
