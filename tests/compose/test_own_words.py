"""Tables and texts of one's own: what is read, what is said of it, and which rows a run has read before."""

import gzip
import json
import shutil
from itertools import chain

import numpy as np
import pytest

import ssl_zoo
from ssl_zoo import ConfigError, DataError
from ssl_zoo.compose.catalogue import described, headline
from ssl_zoo.compose.overrides import quoted, refuse_unreadable
from ssl_zoo.compose.own_data import spelt
from ssl_zoo.compose.own_tables import columns
from ssl_zoo.compose.own_tasks import Wish, look
from ssl_zoo.compose.read_before import has_read
from ssl_zoo.data.text_pairs import PairTable
from ssl_zoo.messages import heard_by

QUIET = {"progress": False}
SMALL = {"steps": 1, "batch_size": 4, "evaluate_every": 0, "trainer": "cpu", "context": 8, **QUIET}
WORDS = ("night", "shade", "coal", "noon", "snow", "sun")


def sentences(count):
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(WORDS, 8)) for _ in range(count)]


def said(verb, path, *words):
    lines = []
    with heard_by(lines.append):
        made = spelt(verb, path, dict(word.split("=") for word in words))
    return made, " ".join(map(str, lines))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    root = tmp_path_factory.mktemp("home")
    texts = sentences(60)
    (root / "notes.txt").write_text("\n\n".join(texts))
    ssl_zoo.pretrain(
        "next_token", backbone="transformer_micro", data=root / "notes.txt", out=root / "run", **SMALL
    )
    return root


@pytest.mark.parametrize(
    "word", ["text=great, I loved it", "query=too small, too big", "text=[a", "prompt=a, b"]
)
def test_a_text_is_taken_as_it_stands(word):
    key, text = word.split("=")
    assert quoted(word) == f"{key}='{text}'"


def test_an_empty_value_is_refused_where_a_key_stands():
    refuse_unreadable(["3+4=", "what is 2 ="])
    with pytest.raises(ConfigError, match=r"data\.train= is empty"):
        refuse_unreadable(["data.train="])


def test_pretraining_reads_texts_that_have_no_label(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("text,label\n" + "".join(f"{text},{'ab'[i % 2] if i % 5 == 0 else ''}\n" for i, text in
                                             enumerate(sentences(50))))  # fmt: skip
    made, told = said("pretrain", file)
    assert not any("format.label" in word for word in made)
    assert "label 'label' is not read, as 40 of 50 rows have none" in told
    made, told = said("evaluate", file)
    assert "+data.format.label='label'" in made
    full = tmp_path / "full.csv"
    full.write_text(
        "text,label\n" + "".join(f"{text},{'ab'[i % 2]}\n" for i, text in enumerate(sentences(50)))
    )
    for verb in ("pretrain", "predict"):
        assert "+data.format.label='label'" in said(verb, full)[0]
        assert "+data.format.label='label'" not in said(verb, file)[0]
    assert "+data.format.label='label'" not in said("embed", full)[0]


def test_what_is_typed_is_what_is_said(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text(
        "text,label,stars\n" + "".join(f"{text},a,{i % 2}\n" for i, text in enumerate(sentences(20)))
    )
    told = said("look", file, "data.format.text=stars", "data.format.label=null")[1]
    assert "text is column 'stars', no labels" in told
    assert "label is 'stars'" in said("look", file, "data.format.label=stars")[1]
    assert "a tenth is held out" in told
    made, told = said("pretrain", file, "data.format.text=label")
    assert "text is column 'label', label is 'stars'" in told
    assert "+data.format.label='stars'" in made
    assert "text is column 'nowhere'" in said("look", file, "data.format.text=nowhere")[1]
    assert "a tenth is held out" not in said("look", file, "data.validation_fraction=0")[1]
    assert "a test split of 0.4" in said("evaluate", file, "data.test_fraction=0.4")[1]


def test_other_bytes_are_replaced_where_that_is_asked_for(tmp_path):
    file = tmp_path / "a.csv"
    file.write_bytes(b"text,label\n" + b"".join(b"caf\xe9 %d,%d\n" % (i, i % 2) for i in range(9)))
    with pytest.raises(ConfigError, match=r"or set data\.errors=replace"):
        columns(file)
    assert "+data.format.text='text'" in columns(file, typed={"data.errors": "replace"})[0]


def test_lines_without_an_empty_one_between_are_said_to_be_one_document(tmp_path):
    file = tmp_path / "dna.txt"
    file.write_text("\n".join(["acgt" * 5] * 30))
    assert "dna.txt begins without any: data.format.separator=line" in said("look", file)[1]
    assert "begins without" not in said("look", file, "data.format.separator=line")[1]
    file.write_text("\n\n".join(["acgt" * 5] * 30))
    assert "begins without" not in said("look", file)[1]


def test_sequences_are_said_to_be_records(tmp_path):
    (tmp_path / "a.fasta").write_text(">one\nACGT\nAC\n>two\nGG\n")
    (tmp_path / "b.fa").write_text("yek\n\ndo\n")
    words, line = said("pretrain", tmp_path / "a.fasta")
    assert "one text file of FASTA, one sequence a document; tokenizer=characters reads symbols;" in line
    assert not [word for word in words if word.startswith("data.format")]
    assert "tokenizer=" not in said("pretrain", tmp_path / "a.fasta", "tokenizer=bytes")[1]
    assert "documents parted by empty lines" in said("pretrain", tmp_path / "b.fa")[1]
    (tmp_path / "b.fa").unlink()
    (tmp_path / "c.fna.gz").write_bytes(gzip.compress(b">three\nAC\n"))
    assert "2 text files of FASTA" in said("look", tmp_path)[1]


def test_a_number_is_looked_for_among_numbers(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("id,text,label,stars\n" + "".join(
        f"{i},{text},good,{1 + i % 5}\n" for i, text in enumerate(sentences(40))))  # fmt: skip
    found = look(file, Wish(task="regression"))
    assert (found.label, "quantity" in found.said) == ("stars", False)
    file.write_text("text,label\n" + "".join(f"{text},good\n" for text in sentences(40)))
    with pytest.raises(ConfigError, match="has no column of numbers"):
        look(file, Wish(task="regression"))


def test_which_rows_a_run_has_read(tmp_path):
    (tmp_path / "config.yaml").write_text("data: {train: a.txt, test_fraction: 0.2, split_seed: 0}\n")
    same = {"train": "a.txt", "test_fraction": 0.2, "split_seed": 0}
    assert not has_read(tmp_path, same)
    assert not has_read(tmp_path, same | {"train": "b.txt"})
    assert not has_read(tmp_path, same | {"test_fraction": 0.0})
    assert not has_read(tmp_path, same | {"test": "c.txt", "split_seed": 1})
    assert has_read(tmp_path, same | {"test_fraction": 0.3})
    assert has_read(tmp_path, same | {"split_seed": 1})
    assert has_read(tmp_path, same | {"format": {"label": "topic"}})
    assert not has_read(tmp_path / "nowhere", same)


def test_texts_that_were_read_are_not_scored_as_test(home, tmp_path):
    run, data = shutil.copytree(home / "run", tmp_path / "run"), home / "notes.txt"
    for protocol in ("bits_per_byte", "in_context_loss"):
        with pytest.raises(ConfigError, match=f"are test here, and {protocol} says how well"):
            ssl_zoo.evaluate(run, data=data, protocol=protocol, seeds=[0], **QUIET)
    given = {"data": data, "data__test_fraction": 0.2, "out": tmp_path / "apart", **SMALL}
    apart = ssl_zoo.pretrain("next_token", backbone="transformer_micro", **given)
    found = ssl_zoo.evaluate(apart, data=data, protocol="bits_per_byte", seeds=[0], **QUIET)
    assert found.results[0][1].mean > 0


def test_columns_of_labels_are_measured_apart(home, tmp_path):
    run, file = shutil.copytree(home / "run", tmp_path / "run"), tmp_path / "a.csv"
    rows = (f"{text},{'ab'[i % 2]},{i // 2 % 2}\n" for i, text in enumerate(sentences(80)))
    file.write_text("text,label,stars\n" + "".join(rows))
    for column in ("label", "stars"):
        ssl_zoo.evaluate(run, data=file, data__format__label=column, protocol="knn", seeds=[0], **QUIET)
    names = sorted(one.name.partition("a.csv-")[2][7:] for one in (run / "evaluations").iterdir())
    assert names == ["label-knn-all.json", "stars-knn-all.json"]


def test_rows_that_validation_is_too_short_for_are_said_to_be_its_own(home, tmp_path):
    words = {"backbone": "transformer_micro", "data": home / "notes.txt", "out": tmp_path / "run"}
    given = words | SMALL | {"context": 100, "evaluate_every": 1}
    with pytest.raises(DataError, match=r"held out as validation: the text has .* evaluate_every=0"):
        ssl_zoo.pretrain("next_token", **given)
    ssl_zoo.pretrain("next_token", **given | {"evaluate_every": 0})


def test_completions_take_the_steps_that_are_asked_for(home, tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text(
        "".join(json.dumps({"prompt": text, "completion": "sun"}) + "\n" for text in sentences(20))
    )
    given = {"data": file, "protocol": "completion", "length": 24, **QUIET}
    ssl_zoo.finetune(home / "run", out=tmp_path / "model", steps=2, **given)
    made = json.loads((tmp_path / "model" / "model.json").read_text())["made"]
    assert made["protocol"]["steps"] == 2
    with pytest.raises(ConfigError, match="task= is for labels"):
        ssl_zoo.finetune(home / "run", out=tmp_path / "other", task="classes", **given)


def test_a_table_of_scored_pairs(home, tmp_path):
    file, texts = tmp_path / "pairs.csv", sentences(100)
    pairs = [(texts[i], texts[i + 50], i % 6) for i in range(50)]
    file.write_text("sentence1,sentence2,score\n" + "".join(f"{a},{b},{s}\n" for a, b, s in pairs))
    data = PairTable("p", file)
    assert data.splits() == ("train", "validation", "test")
    parts = {split: data.pairs(split) for split in data.splits()}
    assert {split: len(found) for split, found in parts.items()} == {"train": 35, "validation": 5, "test": 10}
    assert sorted(chain(*parts.values())) == sorted((a, b) for a, b, _ in pairs)
    by_pair = {(a, b): float(s) for a, b, s in pairs}
    assert data.scores("test").tolist() == [by_pair[pair] for pair in parts["test"]]
    bare = tmp_path / "bare.csv"
    bare.write_text("".join(f"{s},x,{a},{b}\n" for a, b, s in pairs))
    assert PairTable("p", bare, columns=[2, 3, 0]).pairs("test") == parts["test"]
    lines = tmp_path / "pairs.jsonl"
    rows = ({"q": a, "r": b, "how": s} for a, b, s in pairs)
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert PairTable("p", lines, columns=["q", "r", "how"]).pairs("test") == parts["test"]
    assert PairTable("p", file, test=bare, columns=[0, 1, 2]).splits() == ("train", "validation", "test")
    run = shutil.copytree(home / "run", tmp_path / "run")
    found = ssl_zoo.evaluate(run, data=file, protocol="similarity", **QUIET)
    assert -1 <= found.results[0][1].mean <= 1


@pytest.mark.parametrize(
    ("text", "options", "error"),
    [
        ("a,b,c,1\n", {}, r"has 4 columns \('a', 'b', 'c', '1'\), of which two are sentences"),
        ("sentence1,sentence2,score\na,b,high\n", {}, "line 2: the score 'high' is no number"),
        ("sentence1,sentence2,score\na,,1\n", {}, "line 2 lacks a sentence"),
        ("a,b,1\n", {"columns": ["x", 1, 2]}, "has no column 'x'"),
        ("a,b,1\n", {"columns": [0, 1]}, "two sentences and a score"),
        ("sentence1,sentence2,score\n", {}, "holds no pairs"),
        ("a,b,1\n", {"test_fraction": 1.0}, "leave no pairs to train on"),
    ],
)
def test_a_table_that_is_no_scored_pairs(tmp_path, text, options, error):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DataError, match=error):
        PairTable("p", tmp_path / "p.csv", **options).pairs("train")


def test_an_objective_is_found_by_what_is_said_of_it():
    assert described("skipgram") == ["word_vectors", "crops_word_vectors"]
    assert "masked_lm" in described("BERT")
    assert described("gpt") == []  # three letters are in too many words
    with pytest.raises(
        ConfigError, match=r"objective=skipgram does not exist; did you mean 'word_vectors' or"
    ):
        ssl_zoo.pretrain("skipgram", backbone="bag", data="digits")


@pytest.mark.parametrize(
    ("head", "shown"),
    [
        (["One line."], "One line."),
        (["Whole. Begun and", "ended."], "Whole."),
        (["Of Tay et al. 2022: begun and", "ended. More."], "Of Tay et al. 2022: begun and ended."),
        (["No full stop", "When: always."], "No full stop"),
        ([], ""),
    ],
)
def test_a_headline_is_whole_sentences(head, shown):
    assert headline(head) == shown
