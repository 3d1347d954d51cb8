"""Text data: what is read from files, how it is split, and the rows that come out."""

import gzip
import lzma
import os
import pickle
import subprocess
import sys
import threading
import time
import types
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from ssl_zoo.compose.own_files import kinds
from ssl_zoo.data import stdlib, text_rows
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_files import Limits
from ssl_zoo.data.text_formats import Prefixed, Table, Text, lines
from ssl_zoo.data.text_names import FASTA
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.data.text_rows import PackedRows, shift, write_stream
from ssl_zoo.data.text_sources import read
from ssl_zoo.data.tokenizer import bpe, bytes_tokenizer, characters

CONFIGS = Path(__file__).parents[2] / "configs"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def letters(path, documents, length, lookahead=0):
    """Packed rows of letters: 1 opens a document, a = 4, b = 5 and so on."""
    write_stream(documents, characters([LETTERS]), path, "letters")
    return PackedRows(path, length, lookahead)


def spell(row):
    return "".join("|" if i == 1 else LETTERS[i - 4] for i in row.tolist())


def test_packed_rows_by_hand(tmp_path):
    rows = letters(tmp_path / "s", ["abc", "de", "fghi"], length=4, lookahead=1)
    # |abc|de|fghi is 12 tokens: (12 - 1) // 4 rows
    assert len(rows) == 2
    batch = rows.read(np.array([0, 1]))
    assert [spell(row) for row in batch.x] == ["|abc|", "|de|f"]
    assert batch.segments is not None
    assert batch.segments.tolist() == [[0, 0, 0, 0, 1], [0, 0, 0, 1, 1]]
    assert batch.y is None
    assert (rows.units_per_row, rows.documents, rows.bytes_per_token) == (4, 3, 1.0)


def test_packed_rows_move_with_the_epoch_and_stay_inside(tmp_path):
    rows = letters(tmp_path / "s", ["abc", "de", "fghi"], length=4)
    stream = "|abc|de|fghi"
    moves = {shift(epoch, 4) for epoch in range(40)}
    assert moves == {0, 1, 2, 3}
    assert shift(0, 4) == 0
    for epoch in range(10):
        start = [i * 4 + shift(epoch, 4) for i in range(3)]
        start[2] = 8  # the last row stays at the end of the stream
        got = [spell(row) for row in rows.read(np.arange(3), epoch).x]
        assert got == [stream[s : s + 4] for s in start]


def test_one_document_has_no_segments_and_two_have(tmp_path):
    assert letters(tmp_path / "a", ["abcdef"], 3).read(np.array([1])).segments is None
    assert letters(tmp_path / "b", ["abc", "def"], 3).read(np.array([0])).segments is not None


def test_packed_stream_holds_every_byte_of_the_documents(tmp_path):
    documents = ["naïve " * 50, "x", "東京\n" * 40]
    write_stream(documents, bytes_tokenizer(), tmp_path / "s", "t")
    rows = PackedRows(tmp_path / "s", 1)
    ids = rows.read(np.arange(len(rows))).x[:, 0]
    assert bytes_tokenizer().decode(ids.tolist()) == "".join(documents)
    assert (ids == 1).sum() == 3
    assert rows.bytes_per_token == 1.0


def test_packed_rows_refuse_a_short_text_and_a_damaged_file(tmp_path):
    with pytest.raises(DataError, match=r"has 4 tokens, and one row needs 4 \+ 1"):
        letters(tmp_path / "s", ["abc"], length=4, lookahead=1)
    with (tmp_path / "s/tokens.bin").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match="damaged"):
        PackedRows(tmp_path / "s", 2)


def test_one_of_several_builds_a_store_and_a_failed_one_leaves_nothing(tmp_path):
    barrier, builders = threading.Barrier(3), []

    def documents():
        builders.append(1)
        yield "abc"
        time.sleep(0.1)  # the others have come meanwhile, and wait
        yield "def"

    def build():
        barrier.wait(10)
        write_stream(documents(), characters([LETTERS]), tmp_path / "s", "t")

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(builders) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    assert spell(PackedRows(tmp_path / "s", 8).read(np.array([0])).x[0]) == "|abc|def"

    def broken():
        yield "abc"
        raise DataError("no more")

    with pytest.raises(DataError, match="no more"):
        write_stream(broken(), characters([LETTERS]), tmp_path / "t", "t")
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def corpus(folder, texts=("a b", "c\nd", "e", "f g", "h", "i", "j", "k", "l", "m")):
    folder.mkdir(exist_ok=True)
    (folder / "all.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    return TextData("t", folder / "all.txt", cache=folder / "cache", validation_fraction=0.2)


def test_rows_survive_pickling(tmp_path):
    data = corpus(tmp_path)
    for layout in ("packed", "document"):
        rows = data.rows("train", bytes_tokenizer(), 5, layout)
        before = rows.read(np.array([1, 0]))
        assert len(pickle.dumps(rows)) < 5000
        again = pickle.loads(pickle.dumps(rows))
        assert again.read(np.array([1, 0])).x.equal(before.x)
        assert again.fingerprint == rows.fingerprint


def test_encoded_once_and_again_when_anything_changes(tmp_path, monkeypatch):
    data = corpus(tmp_path)
    one = data.rows("train", bytes_tokenizer(), 5, "packed")
    monkeypatch.setattr(text_rows, "_write", None)
    assert data.rows("train", bytes_tokenizer(), 7, "packed").fingerprint[:16] == one.fingerprint[:16]
    with pytest.raises(TypeError):
        data.rows("validation", bytes_tokenizer(), 2, "packed")
    with pytest.raises(TypeError):
        data.rows("train", characters("abc"), 5, "packed")
    os.utime(tmp_path / "all.txt", ns=(1, 1))
    with pytest.raises(TypeError):
        data.rows("train", bytes_tokenizer(), 5, "packed")


def test_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("hello\n\nyou\n")
    monkeypatch.setenv("SSL_ZOO_CACHE", str(tmp_path / "here"))
    TextData("t", tmp_path / "a.txt").rows("train", bytes_tokenizer(), 3, "packed")
    assert len(list((tmp_path / "here/text").iterdir())) == 1


def test_document_rows_by_hand(tmp_path):
    (tmp_path / "a.csv").write_text('x,"abcdef"\ny,"a"\nx,"bc"\ny,"cd"\n')
    data = TextData("t", tmp_path / "a.csv", format=Table(text=1, label=0), validation_fraction=0)
    rows = data.rows("train", characters([LETTERS]), 4)
    batch = rows.read(np.array([0, 1, 2]))
    assert batch.x.tolist() == [[1, 4, 5, 6], [1, 4, 0, 0], [1, 5, 6, 0]]
    assert batch.segments is not None
    assert batch.segments.tolist() == [[0, 0, 0, 0], [0, 0, -1, -1], [0, 0, 0, -1]]
    assert batch.y is not None
    assert batch.y.tolist() == [0, 1, 0]
    assert rows.read(np.array([1])).x.shape == (1, 2)  # padded to the longest row read
    even = data.rows("train", characters([LETTERS]), 4, even=True)
    assert even.read(np.array([1])).x.tolist() == [[1, 4, 0, 0]]
    assert even.read(np.array([1])).segments.tolist() == [[0, 0, -1, -1]]
    assert even.fingerprint != rows.fingerprint  # what is trained on them differs
    assert (len(rows), rows.units_per_row, rows.classes) == (4, 4, ("x", "y"))
    with pytest.raises(DataError, match="no room"):
        data.rows("train", characters([LETTERS]), 1)
    with pytest.raises(DataError, match="lookahead"):
        data.rows("train", characters([LETTERS]), 4, lookahead=1)


def texts(path, form=None):
    return [sample.text for sample in read(path, form or Text())]


def test_separators_and_packing(tmp_path):
    plain = b"\xef\xbb\xbfone\r\ntwo\r\n\r\n\r\n three\n"
    (tmp_path / "a.txt").write_bytes(plain)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(plain))
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress(plain))
    for name in ("a.txt", "a.txt.gz", "a.txt.xz"):
        assert texts(tmp_path / name) == ["one\ntwo", " three"]
        assert texts(tmp_path / name, Text("line")) == ["one", "two", "three"]
        assert texts(tmp_path / name, Text("file")) == ["one\ntwo\n\n\n three\n"]
    with pytest.raises(DataError, match="separator"):
        Text("tab")  # pyright: ignore[reportArgumentType]


def test_records_of_fasta_are_documents(tmp_path, capsys):
    content = b"\n>sp|P1|ONE first\r\nMKV\r\n LAA*\r\n\r\n>two\r\n>three\r\nGG\r\n"
    (tmp_path / "a.fasta").write_bytes(content)
    (tmp_path / "a.FAA.gz").write_bytes(gzip.compress(content))
    (tmp_path / "farsi.fa").write_text("yek\n\ndo\n")
    for name in ("a.fasta", "a.FAA.gz"):
        assert texts(tmp_path / name) == ["MKVLAA*", "GG"]
    assert texts(tmp_path / "farsi.fa") == ["yek", "do"]
    assert texts(tmp_path) == ["MKVLAA*", "GG", "MKVLAA*", "GG", "yek", "do"]
    assert set(FASTA) <= set(kinds()["texts"])
    TextData("proteins", str(tmp_path / "a.fasta"), validation_fraction=0).documents("train")
    said = capsys.readouterr().err
    assert f"3 header(s) of sequences left out (first: {tmp_path}/a.fasta: >sp|P1|ONE first)" in said
    assert "1 empty text(s) left out" in said
    (tmp_path / "long.fna").write_text(">s\nACG\nTAC\n")
    with pytest.raises(DataError, match="the sequence of >s has more than 5 bytes"):
        list(read(tmp_path / "long.fna", Text(), limits=Limits(max_document_bytes=5)))


def test_folders_patterns_and_lists(tmp_path):
    (tmp_path / "b/c").mkdir(parents=True)
    (tmp_path / "b/c/z.py").write_text("x = 1\n\ny = 2\n")
    (tmp_path / "b/a.md").write_text("# A\n\nB\n")
    (tmp_path / "b/d.jsonl").write_text('{"text": "j1\\n\\nj2"}\n\n{"text": "j3"}\n')
    (tmp_path / "b/e.txt").write_text("t1\n\nt2")
    (tmp_path / "b/empty.txt").write_text("")
    (tmp_path / "b/image.png").write_bytes(b"\xff\xfe")
    everything = ["# A\n\nB\n", "x = 1\n\ny = 2\n", "j1\n\nj2", "j3", "t1", "t2"]
    assert texts(tmp_path / "b") == everything
    assert texts(str(tmp_path / "b/*.txt")) == ["t1", "t2"]
    assert texts([tmp_path / "b/e.txt", str(tmp_path / "b/a.md")]) == ["t1", "t2", "# A\n\nB\n"]
    with pytest.raises(DataError, match=r"empty\.txt holds no text"):
        texts(tmp_path / "b/empty.txt")
    with pytest.raises(DataError, match="there is such a file"):
        texts(tmp_path / "nothing")
    (tmp_path / "x").mkdir()
    with pytest.raises(DataError, match=r"\.jsonl"):
        texts(tmp_path / "x")
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"body": "a"}\n')
    with pytest.raises(DataError, match="line 2 is not a JSON object with 'text'"):
        texts(tmp_path / "bad.jsonl")


@pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".xz", lzma.compress), (".gz", gzip.compress)])
def test_a_byte_that_is_not_utf8_is_named(tmp_path, suffix, pack):
    raw = b"\xef\xbb\xbf" + "é\n".encode() + b"ab\xe9c\n"
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(pack(raw))
    with pytest.raises(DataError, match=rf"a\.txt{suffix}, line 2: byte 8 of the text \(0xe9\)"):
        list(lines(path))
    assert list(lines(path, "replace")) == ["é\n", "ab\ufffdc\n"]
    if suffix:
        path.write_bytes(pack(raw)[:-9])
        with pytest.raises(DataError, match="cannot be read"):
            list(lines(path, "replace"))


def test_tables(tmp_path):
    (tmp_path / "news.csv").write_text('"2","A ""title""","text,\nmore"\n"1","B","c"\n')
    file = tmp_path / "news.csv"
    assert list(read(file, Table(text=[1, 2], label=0, key=2))) == [
        ('A "title". text,\nmore', "2", "text,\nmore", str(file), 0),
        ("B. c", "1", "c", str(file), 1),
    ]
    (tmp_path / "s.tsv").write_text('sentence\tlabel\na "quote\t1\n')
    named = Table(text="sentence", label="label", delimiter="\t")
    assert list(read(tmp_path / "s.tsv", named)) == [('a "quote', "1", None, str(tmp_path / "s.tsv"), 0)]
    (tmp_path / "s.jsonl").write_text('{"sentence": "x", "label": 3}\n')
    (json_row,) = read(tmp_path / "s.jsonl", named)
    assert json_row[:3] == ("x", "3", None)
    (tmp_path / "cola.tsv").write_text("gj04\t0\t*\tThe is.\n")
    (row,) = read(tmp_path / "cola.tsv", Table(3, 1, delimiter="\t"))
    assert row[:3] == ("The is.", "0", None)
    with pytest.raises(DataError, match="no column 'text'"):
        list(read(tmp_path / "s.tsv", Table(text="text", delimiter="\t")))
    with pytest.raises(DataError, match="line 1 has 4 columns, and column 4"):
        list(read(tmp_path / "cola.tsv", Table(4, delimiter="\t")))
    (tmp_path / "bad.csv").write_text('1,"a"b\n')
    with pytest.raises(DataError, match="line 1 is not a row"):
        list(read(tmp_path / "bad.csv", Table(1)))


def test_a_parquet_file_is_a_table(tmp_path):
    rows = [{"review": "first", "stars": 5}, {"review": None, "stars": 1}, {"review": "third", "stars": 1}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = list(read(tmp_path / "a.parquet", Table(text="review", label="stars")))
    assert [(s.text, s.label, s.row) for s in found] == [("first", "5", 0), ("third", "1", 2)]
    with pytest.raises(DataError, match="row 1 has no column 'text'"):
        list(read(tmp_path / "a.parquet", Table(text="text")))
    with pytest.raises(DataError, match="is a table, not running text"):
        list(read(tmp_path / "a.parquet", Text()))


def test_samples_say_where_they_are_from(tmp_path):
    """Rows that are left out count too, so that a number finds its row in the table."""
    (tmp_path / "a.csv").write_text("text,label\none,x\n,x\nthree,\nfour,y\n")
    (tmp_path / "b.txt").write_text("first\n\n\nsecond\n")
    (tmp_path / "c.md").write_text("whole\n\nfile\n")
    (tmp_path / "d.jsonl").write_text('{"text": "a"}\n{"text": null}\n{"text": "c"}\n')
    table = read(tmp_path / "a.csv", Table(text="text", label="label"))
    assert [(s.text, s.row) for s in table] == [("one", 0), ("four", 3)]
    found = [*read([tmp_path / name for name in ("b.txt", "c.md", "d.jsonl")], Text())]
    assert [(s.text[:5], Path(s.file).name, s.row) for s in found] == [
        ("first", "b.txt", 0), ("secon", "b.txt", 1), ("whole", "c.md", None),
        ("a", "d.jsonl", 0), ("c", "d.jsonl", 2),
    ]  # fmt: skip


def test_labels_before_the_text(tmp_path):
    (tmp_path / "q.txt").write_text("NUM:dist How far : it ?\nHUM:desc Who ?\n")
    coarse = list(read(tmp_path / "q.txt", Prefixed()))
    assert [(s.text, s.label) for s in coarse] == [("How far : it ?", "NUM"), ("Who ?", "HUM")]
    assert [s.label for s in read(tmp_path / "q.txt", Prefixed(" "))] == ["NUM:dist", "HUM:desc"]
    (tmp_path / "q.txt").write_text("How far?\n")
    with pytest.raises(DataError, match="line 1"):
        list(read(tmp_path / "q.txt", Prefixed()))


def labelled(tmp_path, **options):
    for label, count in (("neg", 20), ("pos", 10)):
        (tmp_path / f"r.{label}").write_text("".join(f"{label} {i} \n" for i in range(count)))
    sources = {"bad": tmp_path / "r.neg", "good": tmp_path / "r.pos"}
    return TextData("mr", sources, format=Text("line"), cache=tmp_path / "cache", **options)


def classes_of(data, split):
    y = data.labels(split)
    assert y is not None
    assert y.dtype == np.int64
    return y


def test_a_file_for_each_label_is_carved_class_by_class(tmp_path):
    data = labelled(tmp_path, validation_fraction=0.1, test_fraction=0.2)
    assert data.splits() == ("train", "validation", "test")
    assert data.classes == ("bad", "good")
    counts = {s: np.bincount(classes_of(data, s)).tolist() for s in data.splits()}
    assert counts == {"train": [14, 7], "validation": [2, 1], "test": [4, 2]}
    together = [text for split in data.splits() for text in data.documents(split)]
    assert sorted(together) == sorted([f"neg {i}" for i in range(20)] + [f"pos {i}" for i in range(10)])
    for split in data.splits():
        for text, y in zip(data.documents(split), classes_of(data, split), strict=True):
            assert text[:3] == ("neg", "pos")[y]
    other = labelled(tmp_path, validation_fraction=0.1, test_fraction=0.2, split_seed=1)
    assert other.documents("test") != data.documents("test")
    assert labelled(tmp_path, test_fraction=0.2).documents("test") == data.documents("test")


def test_labels_that_do_not_fit(tmp_path):
    (tmp_path / "a.csv").write_text("0,a\n1,b\n1,c\n")
    (tmp_path / "b.csv").write_text("0,a\n7,b\n")
    data = TextData("t", tmp_path / "a.csv", format=Table(1, 0))
    with pytest.raises(DataError, match="class '0' has 1 sample"):
        classes_of(data, "train")
    named = {"validation_fraction": 0, "classes": {"1": "one", "0": "zero"}}
    data = TextData("t", tmp_path / "a.csv", test=tmp_path / "b.csv", format=Table(1, 0), **named)
    assert data.classes == ("one", "zero")
    assert classes_of(data, "train").tolist() == [1, 0, 0]
    with pytest.raises(DataError, match=r"test has the labels \['7'\]"):
        data.labels("test")
    with pytest.raises(DataError, match="no split validation"):
        data.documents("validation")
    with pytest.raises(DataError, match="below 1"):
        TextData("t", "a", validation_fraction=0.6, test_fraction=0.4)


def test_train_loses_what_test_holds(tmp_path):
    (tmp_path / "a.csv").write_text("0,t1,x\n1,t2,y\n1,t3,z\n0,t4,z\n")
    (tmp_path / "b.csv").write_text("0,other,z\n1,o,w\n")
    data = TextData(
        "t", tmp_path / "a.csv", test=tmp_path / "b.csv", format=Table(1, 0, key=2), validation_fraction=0
    )
    assert data.documents("train") == ["t1", "t2"]
    assert classes_of(data, "train").tolist() == [0, 1]
    assert data.documents("test") == ["other", "o"]


def test_unlabelled_documents_are_carved(tmp_path):
    data = corpus(tmp_path)
    train, validation = data.documents("train"), data.documents("validation")
    assert (len(train), len(validation)) == (8, 2)
    assert sorted([*train, *validation]) == ["a b", "c\nd", "e", "f g", "h", "i", "j", "k", "l", "m"]
    assert data.labels("train") is None
    assert data.classes == ()
    assert len(data.rows("validation", bytes_tokenizer(), 4, "packed")) >= 1


def test_one_document_is_cut_at_characters(tmp_path):
    text = "".join(f"line {i}\n" for i in range(37))
    (tmp_path / "a.txt").write_text(text)
    data = TextData("t", tmp_path / "a.txt", format=Text("file"))
    assert data.documents("train") == [text[: int(0.9 * len(text))]]
    assert data.documents("validation") == [text[int(0.9 * len(text)) :]]
    three = TextData("t", tmp_path / "a.txt", format=Text("file"), test_fraction=0.2)
    assert "".join(three.documents(s)[0] for s in three.splits()) == text
    assert len(three.documents("test")[0]) == len(text) - int(0.8 * len(text))


def test_splits_and_fingerprints_do_not_depend_on_the_process(tmp_path):
    data = corpus(tmp_path)
    code = (
        "import sys\nfrom ssl_zoo.data.text import TextData\n"
        "from ssl_zoo.data.tokenizer import bytes_tokenizer\n"
        "d = TextData('t', sys.argv[1], cache=sys.argv[2], validation_fraction=0.2)\n"
        "print(d.documents('validation'), d.rows('train', bytes_tokenizer(), 5, 'packed').fingerprint)"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "all.txt"), str(tmp_path / "other cache")],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    fingerprint = data.rows("train", bytes_tokenizer(), 5, "packed").fingerprint
    assert elsewhere == f"{data.documents('validation')} {fingerprint}\n"


def test_pairs(tmp_path):
    (tmp_path / "p.csv").write_text('a,"b, c",2.5\nd,e,0\n')
    data = TextPairs("p", tmp_path / "p.csv")
    assert data.pairs("train") == [("a", "b, c"), ("d", "e")]
    assert data.scores("train").tolist() == [2.5, 0.0]
    (tmp_path / "p.csv").write_text("a,b,high\n")
    with pytest.raises(DataError, match="line 1 is not sentence, sentence, score"):
        data.pairs("train")


def test_hub_data_sets(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "datasets", None)
        with pytest.raises(DataError, match="need the datasets library"):
            texts("hf:imdb:train:text")

    class Rows(list):
        column_names = ("text", "label")
        features = {"text": None, "label": types.SimpleNamespace(names=["no", "yes"])}  # noqa: RUF012

    def load_dataset(name, config, split):
        assert (name, config, split) == ("a/b", "small", "train")
        return Rows([{"text": "x", "label": 1}, {"text": "y", "label": 0}])

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    samples = list(read("hf:a/b@small:train:text:label", Text()))
    assert [(s.text, s.label) for s in samples] == [("x", "yes"), ("y", "no")]
    with pytest.raises(DataError, match="no column body"):
        texts("hf:a/b@small:train:body")
    with pytest.raises(DataError, match="not of the form"):
        texts("hf:a/b")


def config(name, data_dir="."):
    node = OmegaConf.load(CONFIGS / f"data/{name}.yaml")
    return instantiate(OmegaConf.create({"data_dir": str(data_dir), "data": node}).data)


def test_stdlib_is_several_megabytes_without_tests():
    documents = config("stdlib").documents("train")
    assert sum(map(len, documents)) > 3e6
    assert documents == config("stdlib").documents("train")
    assert not any({"test", "site-packages"} & set(path.parts) for path in stdlib.files())


def test_stdlib_topics_are_balanced_and_split_by_file():
    data = config("stdlib_topics")
    assert len(data.classes) == 8
    for split in data.splits():
        counts = np.bincount(classes_of(data, split))
        assert counts.min() == counts.max() >= 60
    seen = [set(files) for files in stdlib.assignment().values()]
    assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]
    pretraining = set(stdlib.modules())
    for file in seen[1] | seen[2]:
        assert file.read_text("utf-8") not in pretraining
    path = stdlib.root() / "asyncio/tasks.py"
    assert not any("asyncio" in x.lower() or "import " in x for x in stdlib.excerpts(path))


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "train", "validation", "test", "classes"),
    [
        ("ag_news", 4494, 499, 7600, 4),
        ("sst2", 6920, 872, 1821, 2),
        ("trec", 4906, 546, 500, 6),
        ("cola", 7696, 855, 527 + 516, 2),
        ("mr", 8530, 1066, 1066, 2),
        ("subj", 8000, 1000, 1000, 2),
    ],
)
def test_benchmark_sets_are_complete(name, train, validation, test, classes):
    if "SSL_ZOO_DATA" not in os.environ:
        pytest.skip("SSL_ZOO_DATA does not name the data folder")
    data = config(name, os.environ["SSL_ZOO_DATA"])
    counts = [len(classes_of(data, split)) for split in data.splits()]
    assert counts == [train, validation, test]
    assert len(data.classes) == classes == len(set(classes_of(data, "train").tolist()))


@pytest.mark.data
def test_tinyshakespeare_is_cut_where_nanogpt_cuts_it():
    if "SSL_ZOO_DATA" not in os.environ:
        pytest.skip("SSL_ZOO_DATA does not name the data folder")
    data = config("tinyshakespeare", os.environ["SSL_ZOO_DATA"])
    sizes = [len(data.documents(split)[0]) for split in data.splits()]
    assert sizes == [1_003_854, 111_540]
    assert characters(data.documents("train")).vocabulary.size == 65 + 4


@pytest.mark.data
def test_stsb_pairs_are_complete():
    if "SSL_ZOO_DATA" not in os.environ:
        pytest.skip("SSL_ZOO_DATA does not name the data folder")
    data = config("stsb", os.environ["SSL_ZOO_DATA"])
    assert [len(data.pairs(split)) for split in data.splits()] == [5749, 1500, 1379]
    assert 0 <= data.scores("test").min() < data.scores("test").max() == 5


def test_every_text_config_names_itself():
    for path in sorted((CONFIGS / "data").glob("*.yaml")):
        node = OmegaConf.load(path)
        if ".text" in node._target_:
            assert node.name == path.stem, path


def test_a_tokenizer_is_learned_once(tmp_path):
    """Again where texts or settings are others, or what is kept is damaged; several objects share it."""
    file = tmp_path / "a.txt"
    file.write_text("\n\n".join("the cat sat on the mat" for _ in range(40)))
    learned = []

    def learn(texts, size=270):
        learned.append(size)
        return bpe(texts, size=size)

    def made(settings="270", size=270):
        data = TextData("t", file, validation_fraction=0.1, cache=tmp_path / "cache")
        return data.tokenizer(partial(learn, size=size), settings)

    first, again = made(), made()
    assert learned == [270]
    assert first.fingerprint == again.fingerprint
    texts = TextData("t", file, validation_fraction=0.1).texts("train")
    assert first.fingerprint == bpe(texts, 270).fingerprint
    assert made("265", 265).vocabulary.size == 265
    file.write_text("\n\n".join("a dog ran to the door" for _ in range(40)))
    assert made().fingerprint != first.fingerprint
    assert learned == [270, 265, 270]
    for one in (tmp_path / "cache/tokenizers").glob("*/tokenizer.json"):
        one.write_text("{}")
    made()
    assert learned == [270, 265, 270, 270]


def test_a_tokenizer_of_no_text_leaves_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("ab\n\ncd\n\nef")
    data = TextData("t", tmp_path / "a.txt", validation_fraction=0, cache=tmp_path / "cache")
    with pytest.raises(DataError, match="no pair of bytes occurs twice"):
        data.tokenizer(bpe, "bpe")
    assert list((tmp_path / "cache/tokenizers").iterdir()) == []
