"""Files that are not what text data takes them for: refused with their place, or left out and counted."""

import bz2
import errno
import gzip
import json
import lzma
import os
import random
import shutil
import socket
import sys
import tarfile
import tracemalloc
import types
import zipfile

import numpy as np
import pytest

from ssl_zoo.data import cache
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_formats import Prefixed, Table, Text, lines
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.data.text_rows import PackedRows, write_stream
from ssl_zoo.data.tokenizer import bpe, bytes_tokenizer

NAMED = Table("text", "label")


def data(source, form=None, **options):
    return TextData("d", source, format=form or Text(), **{"validation_fraction": 0, **options})


def put(tmp_path, content, name="a.jsonl"):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content)
    return path


@pytest.mark.parametrize("value", ['["a"]', '{"b": 1}', "5", "1.5", "true"])
@pytest.mark.parametrize("form", [Text(), Table("text")])
def test_a_text_that_is_no_string_is_refused(tmp_path, value, form):
    path = put(tmp_path, f'{{"text": "good"}}\n\n{{"text": {value}}}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 3: 'text' is a.* and not a text"):
        data(path, form).documents("train")


@pytest.mark.parametrize("form", [Text(), Table("text")])
def test_null_texts_are_left_out_and_counted_once(tmp_path, form, capsys):
    path = put(tmp_path, '{"text": "a"}\n{"text": null}\n{"text": ""}\n{"text": null}\n{"text": "b"}\n')
    made = data(path, form)
    assert made.documents("train") == made.documents("train") == ["a", "b"]
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"d (train): 2 null text(s) left out (first: {path}, line 2)",
        f"d (train): 1 empty text(s) left out (first: {path})",
    ]
    put(tmp_path, '{"text": null}\n')
    with pytest.raises(DataError, match=r"holds no text \(1 null text"):
        data(path, form).documents("train")


def test_one_spelling_of_a_label(tmp_path):
    labels = ["1", "1.0", '"1 "', '"1.0"', '" 1"', "true", '"True"', "-2", '"x"']
    path = put(tmp_path, "".join(f'{{"text": "t", "label": {label}}}\n' for label in labels))
    made = data(path, NAMED)
    assert made.classes == ("-2", "1", "true", "x")
    assert made.labels("train").tolist() == [1, 1, 1, 1, 1, 2, 2, 0, 3]
    named = data(path, NAMED, classes={1: "one", "TRUE": "yes", "-2.0": "minus", "x": "x"})
    assert named.labels("train").tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 3]
    with pytest.raises(DataError, match="the same label"):
        data(path, NAMED, classes={1: "one", "1": "two"})


@pytest.mark.parametrize("label", ["NaN", "Infinity", "1.5", "[1]", "{}", '"\\ud800"'])
def test_what_is_no_label_is_refused(tmp_path, label):
    path = put(tmp_path, f'{{"text": "t", "label": "a"}}\n{{"text": "t", "label": {label}}}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: label 'label'"):
        data(path, NAMED).labels("train")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "a.jsonl",
            '{"text": "a", "label": 0}\n{"text": "b", "label": null}\n{"text": "c"}\n'
            '{"text": "d", "label": " "}\n',
        ),
        ("a.csv", "text,label\na,0\nb,\nc, \nd,\"\"\n"),
    ],
)  # fmt: skip
def test_rows_without_a_label_are_left_out_and_counted(tmp_path, name, content, capsys):
    path = put(tmp_path, content, name)
    made = data(path, NAMED)
    assert (made.classes, made.documents("train"), made.labels("train").tolist()) == (("0",), ["a"], [0])
    assert f"3 row(s) without a label left out (first: {path}, line " in capsys.readouterr().err
    with pytest.raises(DataError, match=r"none of its 4 rows has a label in 'mark'|no column 'mark'"):
        data(path, Table("text", "mark")).documents("train")


def test_hub_rows_follow_the_same_rules(monkeypatch):
    class Rows(list):
        column_names = ("text", "label")
        features = {"text": None, "label": types.SimpleNamespace(names=["no", "yes"])}  # noqa: RUF012

    def hub(*rows):
        found = Rows({"text": text, "label": label} for text, label in rows)
        loads = types.SimpleNamespace(load_dataset=lambda *_, **__: found)
        monkeypatch.setitem(sys.modules, "datasets", loads)
        return data("hf:x:train:text:label")

    made = hub(("a", 1), ("hidden", -1), (None, 0), ("b", 0), ("c", None))
    assert made.documents("train") == ["a", "b"]
    assert made.classes == ("no", "yes")
    with pytest.raises(DataError, match="row 1: 'text' is a list"):
        hub(("a", 1), (["b"], 0)).documents("train")
    with pytest.raises(DataError, match="row 0 has the label 2, and there are 2 classes"):
        hub(("a", 2)).documents("train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\nhello, there,pos\n", "line 2 has 3 columns, and the first row has 2"),
        ("text,label\na,x\nb\n", "line 3 has 1 columns, and the first row has 2: cells are missing"),
        ('text,label\na,x\n"b,y\nc,x\n', "line 3 is not a row of a table: a quote that opens in it"),
        ("text,text,label\na,b,x\n", "two columns 'text'"),
        ("text;label\na;x\n", "parted by ';': set delimiter"),
        ("text\tlabel\na\tx\n", r"parted by '\\t': set delimiter"),
        ("text,label\na\0b,x\n", r"line 2: byte 12 of the text is NUL"),
    ],
)
def test_tables_that_would_be_misread_are_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        data(put(tmp_path, content, "a.csv"), NAMED).documents("train")


@pytest.mark.parametrize(
    "content",
    [
        "text,label\r\rhello,pos\r \rworld,neg\r\r",  # old Mac
        "\ufefftext, label\r\nhello,pos\r\n\r\n\r\nworld,neg\r\n",
        "text,label\nhello,pos\ntext,label\nworld,neg\n,neg\n",
    ],
)
def test_tables_with_harmless_oddities_are_read(tmp_path, content, capsys):
    made = data(put(tmp_path, content.encode(), "a.csv"), NAMED)
    assert (made.documents("train"), made.labels("train").tolist()) == (["hello", "world"], [1, 0])
    said = capsys.readouterr().err
    assert said.count("header row(s)") == content.endswith(",neg\n")
    assert said.count("1 empty text(s)") == content.endswith(",neg\n")


def test_long_cells_and_blank_lines(tmp_path):
    long = "a " * 70_000
    made = data(
        put(tmp_path, f"text\tlabel\n{long}\tx\nb\ty\n", "a.tsv"), Table("text", "label", delimiter="\t")
    )
    assert made.documents("train") == [long, "b"]
    small = data(tmp_path / "a.tsv", Table("text", "label", delimiter="\t"), max_document_bytes=1000)
    with pytest.raises(DataError, match=r"a\.tsv: a line has more than 1,000 bytes.*max_document_bytes"):
        small.documents("train")
    cells = 'text,label\n"' + "x\n" * 900 + '",y\n'
    with pytest.raises(DataError, match="the row that begins in line 2 has more than 1,000 bytes"):
        data(put(tmp_path, cells, "b.csv"), NAMED, max_document_bytes=1000).documents("train")
    made = data(put(tmp_path, "NUM:x How far\n\nLOC:y Where\n \n", "q.txt"), Prefixed())
    assert made.documents("train") == ["How far", "Where"]


def test_an_array_of_json_is_a_table(tmp_path):
    path = put(tmp_path, '[\n {"text": "a", "label": 1},\n {"text": "b",\n  "label": 2}\n]\n', "a.json")
    assert data(path, NAMED).documents("train") == ["a", "b"]
    put(tmp_path, '[{"text": "a", "label": 1},\n {"text": 2, "label": 2}]', "a.json")
    with pytest.raises(DataError, match=r"a\.json, line 2: 'text' is a number"):
        data(path, NAMED).documents("train")
    for broken in (
        '[{"text": "a"}',
        '[{"text": "a"} {"text": "b"}]',
        "[1,,2]",
        '[{"text": "a"}]]',
        "[[" * 99_999,
    ):
        with pytest.raises(DataError, match=r"a\.json, line 1 is not"):
            data(put(tmp_path, broken, "a.json"), Table("text")).documents("train")


def test_json_that_breaks_parsers_is_refused(tmp_path):
    for value in ("[" * 100_000, "1" * 5_000, '"\\ud800"', '"a\\u0000"', "{'a'}"):
        path = put(tmp_path, f'{{"text": "a"}}\n{{"text": {value}}}\n')
        with pytest.raises(DataError, match=r"a\.jsonl, line 2"):
            data(path).documents("train")
    replaced = put(tmp_path, '{"text": "a\\ud800b\\u0000"}\n')
    assert data(replaced, errors="replace").documents("train") == ["a\ufffdb\ufffd"]
    pair = put(tmp_path, '{"text": "\\ud83e\\udd8a"}\n')
    assert data(pair).documents("train") == ["\U0001f98a"]


def packed(kind, tmp_path):
    text = b"one\n\ntwo\n" * 50
    if kind == "tar":
        (tmp_path / "x").write_bytes(text)
        with tarfile.open(tmp_path / "x.tar", "w") as tar:
            tar.add(tmp_path / "x", "x")
        return (tmp_path / "x.tar").read_bytes()
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.writestr("a.txt", text)
        return (tmp_path / "x.zip").read_bytes()
    return {
        "gzip": gzip.compress(text),
        "xz": lzma.compress(text),
        "bzip2": bz2.compress(text),
        "Zstandard": b"\x28\xb5\x2f\xfd\x04\x00",
        "UTF-16": "text\n".encode("utf-16"),
        "control": random.Random(0).randbytes(4096),
        "PDF": b"%PDF-1.7\n\xe2\xe3\xcf",
    }[kind]


@pytest.mark.parametrize("errors", ["strict", "replace"])
@pytest.mark.parametrize(
    "kind", ["gzip", "xz", "bzip2", "Zstandard", "zip", "tar", "UTF-16", "control", "PDF"]
)
def test_binary_files_named_as_text_are_refused(tmp_path, kind, errors):
    path = put(tmp_path, packed(kind, tmp_path), "a.txt")
    for form in (Text(), Table(0), Prefixed()):
        with pytest.raises(DataError, match=rf"(?i)a\.txt is not text.*{kind}") as error:
            data(path, form, errors=errors).documents("train")
        assert "replace" not in str(error.value)


@pytest.mark.parametrize(
    "suffix", ["csv", "TSV", "json", "html", "parquet", "zstd", "zip", "pdf", "docx", "ipynb", "csv.gz"]
)
def test_other_files_named_as_running_text_are_refused(tmp_path, suffix):
    with pytest.raises(DataError, match=r"table, not running text|not text but"):
        data(put(tmp_path, "one\n\ntwo\n", f"a.{suffix}")).documents("train")


def test_packed_text_is_read_whatever_the_case_of_its_suffix(tmp_path):
    plain = b"one\n\ntwo\n"
    for suffix, pack in ((".bz2", bz2.compress), (".GZ", gzip.compress), (".Xz", lzma.compress)):
        assert data(put(tmp_path, pack(plain), f"a.TXT{suffix}")).documents("train") == ["one", "two"]
    assert data(put(tmp_path, plain.replace(b"\n", b"\r"), "mac.txt")).documents("train") == ["one", "two"]


@pytest.mark.fault("archive", how="text that unpacks to far more than it should")
@pytest.mark.parametrize("pack", [(".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)])
def test_what_unpacks_to_too_much_is_refused(tmp_path, pack, monkeypatch):
    monkeypatch.setattr("ssl_zoo.data.text_files.SMALL", 1 << 20)
    suffix, compress = pack
    for content in (b"a b\n" * (1 << 20), b"a" * (1 << 22)):
        path = put(tmp_path, compress(content), f"a.txt{suffix}")
        with pytest.raises(DataError, match=rf"a\.txt{suffix} unpacks to more.*raise max_unpacking_ratio"):
            data(path).documents("train")
        assert len(data(path, max_unpacking_ratio=1 << 20).documents("train")) == 1
    with pytest.raises(
        DataError, match=rf"a\.txt{suffix}: a line has more than 1,000 bytes.*max_document_bytes"
    ):
        data(path, max_document_bytes=1000, max_unpacking_ratio=1 << 20).documents("train")
    lined = put(tmp_path, "ab\n" * 500, "b.txt")
    with pytest.raises(DataError, match=r"b\.txt: a document has more than 1,000 bytes"):
        data(lined, max_document_bytes=1000).documents("train")


@pytest.mark.fault("text", how="NULs in text")
def test_nul_is_named_with_its_place(tmp_path):
    path = put(tmp_path, b"\xef\xbb\xbfone\n" + b"two " * 9 + b"\0\n", "a.txt")
    with pytest.raises(DataError, match=r"a\.txt, line 2: byte 43 of the text is NUL"):
        list(lines(path))
    assert list(lines(path, "replace"))[1] == "two " * 9 + "\ufffd\n"


def test_folders_read_links_once_and_count_what_they_leave_out(tmp_path, capsys):
    root = tmp_path / "r"
    (root / "b/c").mkdir(parents=True)
    (tmp_path / "beside").mkdir()
    for name, text in (("r/b/c/a.b.txt", "one"), ("r/z.txt", "two"), ("beside/y.txt", "three")):
        (tmp_path / name).write_text(text)
    for name in ("t.csv", "u.csv", "part.0001"):
        (root / name).write_text("x")
    (root / "blank.txt").write_text(" \n")
    (root / "b/loop").symlink_to(root)
    (root / "b/up").symlink_to("..")
    (root / "a_link.txt").symlink_to("z.txt")
    (root / "a_folder").symlink_to(tmp_path / "beside")
    (root / "gone.txt").symlink_to("nowhere.txt")
    (root / "self.txt").symlink_to("self.txt")
    (root / "zero.txt").symlink_to("/dev/zero")
    os.mkfifo(root / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(root / "s.txt"))
    assert sorted(data(root).documents("train")) == ["one", "three", "two"]
    said = capsys.readouterr().err
    for what in ("2 file(s) left out for the suffix .csv", "1 file(s) left out for the suffix .0001",
                 "1 named pipe left out", "1 socket", "1 device", "2 link to nothing",
                 "1 link(s) to a file that is read already", "1 file(s) without text"):  # fmt: skip
        assert what in said, (what, said)
    assert sorted(data(str(root / "**/*.txt")).documents("train")) == ["one", "three", "two"]
    for name, what in (
        ("pipe.txt", "named pipe"),
        ("zero.txt", "device"),
        ("gone.txt", "link to nothing"),
        ("s.txt", "socket"),
    ):
        with pytest.raises(DataError, match=f"is a .*{what}"):
            data(root / name).documents("train")


def test_documents_of_train_that_other_splits_hold_are_counted(tmp_path, capsys):
    put(tmp_path, "a\n\nb\n\nc\n\nb\n", "train.txt")
    put(tmp_path, "b\n\nd\n", "val.txt")
    put(tmp_path, "c\n\nd\n", "test.txt")
    made = data(tmp_path / "train.txt", validation=tmp_path / "val.txt", test=tmp_path / "test.txt")
    assert made.documents("train") == ["a", "b", "c", "b"]  # said, not changed
    said = capsys.readouterr().err
    assert "(train): 2 document(s) are word for word in validation too (first: 'b')" in said
    assert "(train): 1 document(s) are word for word in test too (first: 'c')" in said
    assert "(test): 1 document(s) are word for word in validation too (first: 'd')" in said
    made.documents("train")
    assert not capsys.readouterr().err
    put(tmp_path, "same\n\n" * 20, "same.txt")
    data(tmp_path / "same.txt", validation_fraction=0.25).documents("train")
    assert "15 document(s) are word for word in validation too" in capsys.readouterr().err


def test_formats_and_paths_that_cannot_be(tmp_path, capsys):
    for make, options in (
        (Table, {"text": "a", "delimiter": "||"}),
        (Table, {"text": 0, "delimiter": "\n"}),
        (Table, {"text": []}),
        (Prefixed, {"until": ""}),
    ):
        with pytest.raises(DataError, match=r"delimiter is one|names no column|until is empty"):
            make(**options)
    for path in ("", "~nobody-here/x.txt", "a\0b.txt", "x" * 5000):
        with pytest.raises(DataError, match=r"path of the text is empty|cannot be looked up|no text at"):
            data(path).documents("train")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")
    put(tmp_path, "a\n\nb\n", odd)
    made = data(odd, cache=tmp_path / "cache")
    assert len(made.rows("train", bytes_tokenizer(), 2, "packed")) == 2
    (tmp_path / "a").mkdir()
    put(tmp_path, "x", "a/e[1] = b.txt")
    assert data(tmp_path / "a/e[1] = b.txt").documents("train") == ["x"]
    for pattern in ("a/*/*.txt", "a/**/x.txt", "a/x*.txt"):
        with pytest.raises(DataError, match=r"txt: nothing there is such a file$"):
            data(tmp_path / pattern).documents("train")
    put(tmp_path / "a", "y", "y.txt")
    (tmp_path / "a/a/a").mkdir(parents=True)
    put(tmp_path / "a/a/a", "z", "z.txt")
    capsys.readouterr()
    assert data(tmp_path / "**/a/**/[yz].txt").documents("train") == ["z", "y"]
    assert capsys.readouterr().err == ""
    with pytest.raises(DataError, match="b' does not exist"):
        data(tmp_path / "b/*/*.txt").documents("train")


@pytest.mark.parametrize("row", ["a,b,nan", "a,b,inf", "a,,1", "a,b", "a,b,1,2"])
def test_pairs_that_are_none_are_refused(tmp_path, row):
    with pytest.raises(DataError, match=r"p\.csv, line 2"):
        TextPairs("p", put(tmp_path, f"a,b,1\n{row}\n", "p.csv")).pairs("train")
    with pytest.raises(DataError, match="a JSON object"):
        TextPairs("p", put(tmp_path, json.dumps({"a": 1, "b": 2, "c": 3}))).pairs("train")


def test_damaged_token_stores_are_built_again(tmp_path, capsys):
    path = put(tmp_path, "one two\n\nthree\n" * 50, "a.txt")

    def build():
        return data(path, cache=tmp_path / "cache").rows("train", bytes_tokenizer(), 8, "packed")

    rows = build()
    (store,) = (tmp_path / "cache/text").iterdir()
    right = rows.read(np.arange(len(rows))).x
    damages = {
        "tokens.bin": lambda raw: raw[:40] + bytes(20) + raw[60:],
        "offsets.npy": lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
        "facts.json": lambda raw: raw[:-9],
        "seal.json": lambda raw: b"[" * 9999,
    }
    for name, damage in damages.items():
        (store / name).write_bytes(damage((store / name).read_bytes()))
        capsys.readouterr()
        again = build()
        assert "it is built again" in capsys.readouterr().err, name
        assert again.read(np.arange(len(again))).x.equal(right)
        assert cache.fault(store, thorough=True) is None
    for name in ("facts.json", "offsets.npy"):
        broken = shutil.copytree(store, tmp_path / name)
        (broken / name).write_bytes(b"{")
        with pytest.raises(DataError, match=rf"the token store .*{name} is damaged"):
            PackedRows(broken, 8)


def test_what_was_said_of_a_text_is_said_again_of_its_store(tmp_path, capsys):
    path = put(tmp_path, '{"text": "some words"}\n{"text": null}\n')
    for _ in range(2):
        data(path, cache=tmp_path / "cache").rows("train", bytes_tokenizer(), 8, "packed")
        assert capsys.readouterr().err.count("1 null text(s) left out") == 1


def test_files_called_as_the_standard_library_is_are_encoded_anew_when_they_change(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stdlib_notes").mkdir()
    for text in ("one two three", "four five six seven"):
        put(tmp_path, text, "stdlib_notes/a.txt")
        rows = data("stdlib_notes", cache=tmp_path / "cache").rows("train", bytes_tokenizer(), 8, "packed")
        assert bytes_tokenizer().decode(rows.read(np.array([0])).x[0].tolist()) == text[:7]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_cache_that_cannot_be_written_says_where_and_what_to_do(tmp_path, monkeypatch, error):
    path = put(tmp_path, "one two\n\nthree\n" * 50, "a.txt")
    room = tmp_path / "cache/text"

    def full(*_):
        raise OSError(error, os.strerror(error), str(room))

    monkeypatch.setattr("ssl_zoo.data.text_rows.np.save", full)
    with pytest.raises(DataError, match=rf"{room}.*{os.strerror(error)}.*bytes.*SSL_ZOO_CACHE"):
        data(path, cache=tmp_path / "cache").rows("train", bytes_tokenizer(), 8, "packed")
    assert list(room.iterdir()) == []
    room.joinpath(".abc.1234.part").mkdir()  # of a killed process
    monkeypatch.undo()
    data(path, cache=tmp_path / "cache").rows("train", bytes_tokenizer(), 8, "packed")
    assert [p.name[0] != "." for p in room.iterdir()] == [True]


def test_text_flows_from_its_files_into_the_store(tmp_path, monkeypatch):
    """No more than a batch of documents is alive while the tokenizer learns and the store is written."""
    for module, name in (("text_rows", "BATCH"), ("tokenizer", "BATCH"), ("text_files", "CHUNK")):
        monkeypatch.setattr(f"ssl_zoo.data.{module}.{name}", 10_000)
    words = "of some words " * 700
    put(tmp_path, "".join(f"document {i} {words}\n\n" for i in range(150)), "a.txt")  # 1.5 MB
    made = data(tmp_path / "a.txt", cache=tmp_path / "cache", validation_fraction=0.1)
    tracemalloc.start()
    tokenizer = bpe(made.texts("train"), 300)
    made.rows("train", tokenizer, 8, "packed")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bpe(made.documents("train"), 300).fingerprint == tokenizer.fingerprint
    assert peak < 1_000_000


def test_a_long_document_is_encoded_in_parts_with_equal_ids(tmp_path, monkeypatch):
    text = "The cat sat on the mat,  and\n it purred. " * 100
    learned = bpe([text], 300)
    (ids,) = learned.encode([text])
    monkeypatch.setattr("ssl_zoo.data.tokenizer.BATCH", 64)
    assert len(list(learned.parts(text))) > 50
    write_stream([text], learned, tmp_path / "s", "t")
    rows = PackedRows(tmp_path / "s", len(ids) + 1)
    assert rows.read(np.array([0])).x[0].tolist() == [1, *ids.tolist()]
    assert rows.bytes_per_token == len(text.encode()) / len(ids)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "one"}\n{"text": "a", "text": "b"}'),
        ("a.json", '[{"text": "one"},\n{"text": "two", "more": {"text": 1, "text": 2}}]'),
    ],
)
def test_an_object_with_a_key_twice_is_refused(tmp_path, name, content):
    path = put(tmp_path, content, name)
    with pytest.raises(DataError, match=rf"{name}, line 2: an object has the key 'text' twice"):
        data(path, Table("text")).documents("train")


@pytest.mark.parametrize("content", ['[{"text": "a"},\n]', "[,]", '[{"text": "a"},,{"text": "b"}]'])
def test_an_array_with_a_comma_too_many_is_refused(tmp_path, content):
    with pytest.raises(DataError, match=r"a\.json, line \d is not JSON"):
        data(put(tmp_path, content, "a.json"), Table("text")).documents("train")


@pytest.mark.parametrize("column", [-1, True, 1.5, ["text"]])
def test_what_can_be_no_column_is_refused(column):
    for columns in ({"text": [column]}, {"text": 0, "label": column}, {"text": 0, "key": column}):
        with pytest.raises(DataError, match="a column is a name, or a number that counts from 0, and not "):
            Table(**columns)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="delimiter is one character that parts cells, not 5"):
        Table(0, delimiter=5)  # pyright: ignore[reportArgumentType]


def test_a_fraction_that_is_no_number_is_refused(tmp_path):
    with pytest.raises(DataError, match="leave no training samples"):
        data(tmp_path, validation_fraction=float("nan"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"text": "a"}\n{"text": "b"}\n', "look like JSON lines: .jsonl is their suffix (first: "),
        ("text;label\nwell; so;x\n", "look like a table with the columns text, label: format Table reads"),
        ("Yes,no, maybe\nfine, then, so\n", None),
        ("one,two\nbuckle my shoe\n", None),
        ("text,label\n", None),
        ("{a} and {b}\n{c}\n", None),
        (">one\nACGTACGTAC\nACGT\n", "look like FASTA: .fasta is its suffix"),
        ("> so he said:\nNevermore, quoth it.\n", None),
    ],
)
def test_a_table_that_is_read_as_running_text_is_said(tmp_path, capsys, content, said):
    data(put(tmp_path, content, "a.txt")).documents("train")
    printed = capsys.readouterr().err
    assert (said in printed) if said else not printed
