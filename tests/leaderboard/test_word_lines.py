"""Lines of a board that are word vectors: run, recorded, compared, and stale when what makes them changes."""

import importlib.util

import pytest
import yaml

from ssl_zoo.cli import leaderboard
from ssl_zoo.compose.boards import VECTORS, BoardComposer
from ssl_zoo.hub import load as load_backbone
from ssl_zoo.leaderboard import code, records
from ssl_zoo.leaderboard.board import BAGS, FLOORS, BoardError, load
from ssl_zoo.leaderboard.check import changed
from ssl_zoo.leaderboard.datasets import Datasets
from ssl_zoo.leaderboard.standings import standings
from ssl_zoo.leaderboard.table import markdown
from ssl_zoo.leaderboard.worth import leads

needs_gensim = pytest.mark.skipif(
    importlib.util.find_spec("gensim") is None, reason="gensim is not installed: pip install 'ssl-zoo[bench]'"
)
HEADER = "# {0}.\n# Paper: p\n# Cost: c\n# Expected: e\n# Command: ssl-zoo leaderboard run words {0}\n"
BAG = {"backbone": "bag", "backbone.width": 8}
LINES = {
    "ppmi": {"floor": "ppmi_svd", "options": {"window": 3}, "pretrain": BAG},
    "random": {"floor": "random", "pretrain": BAG},
    "wide": {"floor": "random", "pretrain": BAG | {"backbone.width": 9}},
    "cbow": {"pretrain": BAG | {"objective": "cbow", "batch_size": 4, "budget.steps": 3}},
}
CLASSES = {"objective": "the {} ant dug a deep nest", "subjective": "a {} bee flew over warm fields"}


@pytest.fixture
def board(tmp_path, monkeypatch):
    """A board of texts of two classes, in whose folder the test works."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSL_ZOO_CACHE", str(tmp_path / "cache"))
    data = {"data": "subj", "data.test_fraction": 0.2, "data.validation_fraction": 0.2}
    for name, text in CLASSES.items():
        (tmp_path / f"{name}.txt").write_text("".join(text.format(f"no. {i}") + "\n" for i in range(60)))
        data[f"data.train.{name}"] = str(tmp_path / f"{name}.txt")
    folder = tmp_path / "benchmarks/leaderboard/words"
    (folder / "recipes").mkdir(parents=True)
    fixed = data | {"tokenizer": "bytes", "context": 16, "trainer": "cpu", "threads": 1}
    measure = {"title": "linear probe", **data, "protocol": "linear"}
    body = {"title": "Words", "about": "for tests", "hardware": "any", "primary": "linear", "seeds": [0, 1]}
    body |= {"fixed": fixed, "measures": {"linear": measure}}
    (folder / "board.yaml").write_text(yaml.safe_dump(body))
    for name, recipe in LINES.items():
        write(folder, name, recipe)
    return folder


def write(board, name, recipe):
    (board / f"recipes/{name}.yaml").write_text(HEADER.format(name) + yaml.safe_dump(recipe))


def stale(folder, name):
    board, composer = load(folder), BoardComposer()
    return changed(composer, board, board.recipes[name], Datasets(composer), records.read(board.results))


def test_a_bag_of_counted_vectors_is_a_floor_of_its_own(board, capsys):
    leaderboard.main(["run", "words"])
    printed = capsys.readouterr().out
    assert "ppmi seed 0: recorded" in printed
    assert "no line is stale" in printed
    known = records.read(board / "results.jsonl")
    one = known["ppmi", 0]
    assert one["role"] == "floor"
    assert one["config"]["floor"] == {"window": 3}
    assert "floor" not in known["random", 0]["config"]
    assert set(one["code"]) == {"backbone", "floor"}
    assert one["pretraining"]["steps"] == 0
    assert one["pretraining"]["processor_seconds"] >= 0
    (where,) = (board.parents[2] / "runs/leaderboard/words/ppmi").glob("s0-*")
    table = load_backbone(where / "backbone").word_embedding().weight
    assert table.shape == (259, 8)
    assert not table[:3].any()
    assert table[3 + ord("!") :].any()
    shown = standings(load(board))
    lines = {line.name: line for line in shown.lines}
    assert lines["ppmi"].role == "floor"
    assert lines["ppmi"].trunk == lines["random"].trunk == lines["cbow"].trunk != lines["wide"].trunk
    value = {name: line.cells["linear"][0].mean for name, line in lines.items()}
    assert value["ppmi"] > 0.9, "two topics are two places of words"
    for floor, name in (("ppmi_svd", "ppmi"), ("random", "random")):
        gained = leads(shown, floor)
        assert set(gained) == {"cbow"}, "what is compared is what pretrained"
        assert gained["cbow"].mean == pytest.approx(100 * (value["cbow"] - value[name]))
    assert "- Options of the floor: `window=3`" in markdown(shown, {})
    leaderboard.main(["show", "words"])
    assert "over word vectors by PPMI and SVD" in capsys.readouterr().out
    leaderboard.main(["reproduce", "words/ppmi", "seed=0"])
    assert "1 of 1 figures are the recorded ones of seed 0 to the last bit" in capsys.readouterr().out


def test_it_is_stale_when_its_options_or_its_code_change(board, monkeypatch):
    leaderboard.main(["run", "words", "ppmi", "seeds=1"])
    assert stale(board, "ppmi") == []
    write(board, "ppmi", LINES["ppmi"] | {"options": {"window": 4}})
    assert stale(board, "ppmi") == ["configuration changed"]
    write(board, "ppmi", {"floor": "ppmi_svd", "pretrain": BAG})
    assert stale(board, "ppmi") == ["configuration changed"], "what is not said is 2"
    with pytest.raises(SystemExit, match="to be run again: ssl-zoo leaderboard run words ppmi"):
        leaderboard.main(["vouch", "words", "ppmi"])
    write(board, "ppmi", LINES["ppmi"])
    digest = code.digest
    counting = "ssl_zoo.transfer.word_floors", "cooccurrences"
    monkeypatch.setattr(code, "digest", lambda found: digest(found)[:: -1 if counting in found else 1])
    assert stale(board, "ppmi") == ["code of floor changed"]


def test_words_may_be_counted_in_texts_without_labels(board):
    body = yaml.safe_load((board / "board.yaml").read_text())
    body["fixed"] = {key: value for key, value in body["fixed"].items() if not key.startswith("data")}
    (board.parents[2] / "own").mkdir()
    (board.parents[2] / "own/words.txt").write_text(
        "\n\n".join(f"ant {i} nest\nbee fields" for i in range(60))
    )
    body["fixed"] |= {"data": "text_files", "data.train": str(board.parents[2] / "own/words.txt")}
    (board / "board.yaml").write_text(yaml.safe_dump(body))
    leaderboard.main(["run", "words", "ppmi", "seeds=1"])
    assert records.read(board / "results.jsonl")["ppmi", 0]["data"].keys() == {"text_files"}


@needs_gensim
def test_gensims_vectors_are_a_floor_as_well(board, capsys):
    write(board, "gensim", {"floor": "word2vec", "options": {"epochs": 2}, "pretrain": BAG})
    leaderboard.main(["run", "words", "gensim"])
    record = records.read(board / "results.jsonl")["gensim", 0]
    assert (record["role"], record["config"]["floor"]) == ("floor", {"window": 5, "epochs": 2})
    assert "gensim" in record["versions"]
    leaderboard.main(["reproduce", "words/gensim", "seed=0"])
    assert "to the last bit" in capsys.readouterr().out


def test_another_backbone_is_refused_before_anything_is_read(board):
    write(board, "ppmi", LINES["ppmi"] | {"pretrain": {"backbone": "transformer_micro"}})
    with pytest.raises(SystemExit, match="words/ppmi: ppmi_svd makes the vectors of a bag of tokens"):
        leaderboard.main(["run", "words", "ppmi"])
    write(board, "ppmi", {"floor": "ppmi_svd"})
    with pytest.raises(SystemExit, match="backbone: bag under pretrain"):
        leaderboard.main(["run", "words", "ppmi"])


def test_images_have_no_words(board):
    body = yaml.safe_load((board / "board.yaml").read_text())
    body["fixed"] = {"data": "digits", "trainer": "cpu"}
    (board / "board.yaml").write_text(yaml.safe_dump(body))
    with pytest.raises(
        (SystemExit, BoardError), match="ppmi_svd is a floor for texts, and digits holds images"
    ):
        leaderboard.main(["run", "words", "ppmi"])


def test_every_floor_of_words_is_made_somewhere():
    assert set(VECTORS) == set(BAGS)
    assert set(FLOORS) == set(code.FLOORS)
