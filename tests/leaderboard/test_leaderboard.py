"""Boards that run, are killed, go on, go stale, and are reproduced."""

import errno
import json
import multiprocessing
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from scipy import stats

from ssl_zoo.cli import leaderboard
from ssl_zoo.compose import boards
from ssl_zoo.compose.boards import BoardComposer
from ssl_zoo.leaderboard import code, records, verdict
from ssl_zoo.leaderboard.board import BoardError, load, spelt
from ssl_zoo.leaderboard.check import changed
from ssl_zoo.leaderboard.datasets import AbsentDatasets, Datasets
from ssl_zoo.leaderboard.find import find
from ssl_zoo.leaderboard.reproduce import bounds, compared, empty, only_measure
from ssl_zoo.leaderboard.stages import first_overrides
from ssl_zoo.leaderboard.standings import standings
from ssl_zoo.leaderboard.unit import Unit, alone

REPOSITORY = Path(__file__).parents[2]
BOARDS = REPOSITORY / "benchmarks/leaderboard"

# Records


def test_records_keep_the_last_line_of_a_row_and_seed(tmp_path):
    file = tmp_path / "results.jsonl"
    assert records.read(file) == {}
    for value in (1, 2):
        records.append(file, {"line": "a", "seed": 0, "value": value})
    records.append(file, {"line": "a", "seed": 1, "value": 3})
    assert len(file.read_text().splitlines()) == 3
    assert {key: one["value"] for key, one in records.read(file).items()} == {("a", 0): 2, ("a", 1): 3}


def test_a_line_that_a_killed_writer_left_is_skipped_and_cut_off(tmp_path):
    file = tmp_path / "results.jsonl"
    records.append(file, {"line": "a", "seed": 0})
    file.write_bytes(file.read_bytes() + b'{"line": "b", "se')
    with pytest.warns(UserWarning, match="cut off by a killed writer"):
        assert set(records.read(file)) == {("a", 0)}
    records.append(file, {"line": "c", "seed": 0})
    assert set(records.read(file)) == {("a", 0), ("c", 0)}


def test_a_damaged_line_is_named(tmp_path):
    file = tmp_path / "results.jsonl"
    file.write_text('{"line": "a", "seed": 0}\nnonsense\n{"line": "a", "seed": 1}\n')
    with pytest.raises(BoardError, match="line 2 is not a result"):
        records.read(file)
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.append(file, {"line": "a", "seed": 0, "value": float("nan")})


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"line": "a", "se', r"line 2 .*at byte 25 "),
        (b'{"line": "a", "seed": 0, "text": "\xff"}', "line 2 .*utf-8"),
        (b'{"line": "a", "seed": 0, "value": NaN}', "line 2 .*NaN is no result"),
        (b'{"line": "a", "seed": 0, "value": ' + b"9" * 5000 + b"}", "line 2 .*digits"),
        (b"[" * 100_000, "line 2 "),
        (b"[1]", "line 2 .*no JSON object but list"),
        (b"null", "line 2 .*no JSON object but NoneType"),
        (b'{"line": "a"}', "line 2 .*it lacks the key 'seed'"),
        (b'{"line": null, "seed": 0}', "line 2 .*line must be a text"),
        (b'{"line": "a", "seed": 1.5}', "line 2 .*seed an integer, not 'a' and 1.5"),
        (b"", "line 2 "),
    ],
)
def test_each_damage_of_a_line_is_named(tmp_path, line, says):
    file = tmp_path / "results.jsonl"
    file.write_bytes(b'{"line": "a", "seed": 0}\n' + line + b'\n{"line": "b", "seed": 0}\n')
    with pytest.raises(BoardError, match=says) as refused:
        records.read(file)
    assert str(file) in str(refused.value)


def test_records_of_the_old_words_are_refused_with_the_command_that_renames(tmp_path):
    file = tmp_path / "results.jsonl"
    file.write_text('{"row": "a", "seed": 0, "family": "floor", "measures": {"knn": {"words": ["row=1"]}}}\n')
    with pytest.raises(BoardError, match="row, family and words are now line, role and overrides") as refused:
        records.read(file)
    subprocess.run(str(refused.value).partition("Rename them with ")[2], shell=True, check=True)
    assert records.read(file)["a", 0]["measures"]["knn"]["overrides"] == ["row=1"]
    assert records.read(file)["a", 0]["role"] == "floor"


# The verdict


def test_a_verdict_says_when_it_was_made_and_of_what(board):
    loaded = load(board)
    assert "was not checked: ssl-zoo leaderboard check tiny" in standings(loaded).checked
    assert verdict.write(loaded, {"random": "code of backbone changed"}, "0123456789abcdef")
    told = standings(loaded)
    assert told.stale == {"random": "code of backbone changed"}
    assert re.fullmatch(
        r"Checked on \d{4}-\d\d-\d\dT.*, commit 0123456789, with .* as they are now: 1 line is stale",
        told.checked,
    )
    records.append(loaded.results, {"line": "random", "seed": 0, "measures": {}})
    assert "results have changed since: ssl-zoo leaderboard check tiny" in standings(loaded).checked
    (board / "verdict.json").write_text("{")
    assert "was not checked" in standings(loaded).checked


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    """An editor may leave one; it used to be cut off like that of a killed writer."""
    file = tmp_path / "results.jsonl"
    file.write_bytes(b'{"line": "a", "seed": 0}\n{"line": "b", "seed": 0}')
    records.append(file, {"line": "c", "seed": 0})
    assert set(records.read(file)) == {("a", 0), ("b", 0), ("c", 0)}


def test_a_full_disk_leaves_the_records_as_they_were(tmp_path, monkeypatch):
    file = tmp_path / "results.jsonl"
    records.append(file, {"line": "a", "seed": 0})
    before = file.read_bytes()

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(records.os, "fsync", full)
    with pytest.raises(OSError, match=r"a result could not be added \(No space left.*results\.jsonl"):
        records.append(file, {"line": "b", "seed": 0})
    assert file.read_bytes() == before


def _write(file: Path, row: str) -> None:
    for seed in range(40):
        records.append(file, {"line": row, "seed": seed, "text": "x" * 5000})


def test_several_writers_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    file = tmp_path / "results.jsonl"
    writers = [context.Process(target=_write, args=(file, row)) for row in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(records.read(file)) == 3 * 40


# Boards


def test_training_from_scratch_for_longer_is_for_random_weights_alone(board):
    body = yaml.safe_load((board / "board.yaml").read_text())
    tuned = {"data": "digits", "protocol": "finetune"}
    body["measures"] |= {"tuned": tuned, "scratch": tuned | {"scratch_of": "tuned", "title": "t"}}
    (board / "board.yaml").write_text(yaml.safe_dump(body))
    loaded = load(board)
    assert loaded.measures_of(loaded.recipes["rotation"]) == ["knn", "labels", "tuned"]
    assert loaded.measures_of(loaded.recipes["random"]) == ["knn", "labels", "scratch", "tuned"]
    without = replace(loaded.recipes["random"], without=("scratch", "knn"))
    assert loaded.measures_of(without) == ["labels", "tuned"]
    assert loaded.evaluate_overrides("scratch") == ["data=digits", "protocol=finetune"]


def test_a_measure_may_be_for_some_lines_alone(board):
    body = yaml.safe_load((board / "board.yaml").read_text())
    body["measures"]["features"] = {"data": "digits", "protocol": "diagnostics", "lines": ["random"]}
    (board / "board.yaml").write_text(yaml.safe_dump(body))
    loaded = load(board)
    assert loaded.measures_of(loaded.recipes["rotation"]) == ["knn", "labels"]
    assert loaded.measures_of(loaded.recipes["random"]) == ["features", "knn", "labels"]
    assert loaded.evaluate_overrides("features") == ["data=digits", "protocol=diagnostics"]


def test_the_boards_of_the_repository_compose():
    composer = BoardComposer()
    for file in BOARDS.glob("*/board.yaml"):
        board = load(file.parent)
        assert len(board.seeds) >= (1 if board.name == "text-hour" else 3)  # two hours a seed
        assert board.seeds == tuple(range(len(board.seeds)))
        for recipe in board.recipes.values():
            assert recipe.command.startswith(f"ssl-zoo leaderboard run {board.name} {recipe.name}")
            assert board.pretrain_overrides(recipe)
            if recipe.floor:
                config = composer.pretraining(first_overrides(board, recipe, 0), frozenset())
                assert "backbone" in composer.settled(config)


TUNED = {"data": "digits", "protocol": "finetune"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"primary": "luck"}, "primary is luck, which is not among the measures"),
        ({"shown_labels": 25}, "shown_labels is 25, which is not among the labels of the primary measure"),
        ({"title": None}, "lacks title"),
        ({"measures": ["knn"]}, r"measures holds KEY: VALUE on each line, not \['knn'\]"),
        ({"measures": {"knn": "knn"}}, "measure knn holds KEY: VALUE on each line, not 'knn'"),
        ({"fixed": "data=digits"}, "fixed holds KEY: VALUE on each line, not 'data=digits'"),
        ({"seeds": 3}, r"seeds is a list of whole numbers, \[0, 1, 2\], not 3"),
        ({"seeds": []}, "seeds is a list of whole numbers"),
        ({"measures": {"knn": {"protocol": "knn", "scratch_of": "knn"}}}, "knn is scratch_of knn: both have"),
        ({"measures": {"knn": TUNED | {"scratch_of": "knn"}}}, "the other without scratch_of .none."),
        (
            {"measures": {"knn": TUNED, "more": TUNED | {"scratch_of": "knn", "data": "cifar10"}}},
            "more is scratch_of knn: they are of other data",
        ),
        (
            {"measures": {"knn": TUNED, "more": TUNED | {"scratch_of": "knn"}}, "primary": "more"},
            "primary cannot be one that few lines have",
        ),
        ({"measures": {"knn": TUNED | {"lines": "rotation"}}}, "list of recipes, such as .*, not 'rotation'"),
        ({"measures": {"knn": TUNED, "more": TUNED | {"lines": ["rot"]}}}, "more: there is no recipe rot"),
        ({"measures": {"knn": TUNED | {"lines": ["rotation"]}}}, "knn: primary cannot be one that few lines"),
    ],
)
def test_faults_of_a_board_are_named(board, change, said):
    body = yaml.safe_load((board / "board.yaml").read_text())
    body = {key: value for key, value in {**body, **change}.items() if value is not None}
    (board / "board.yaml").write_text(yaml.safe_dump(body))
    with pytest.raises(BoardError, match=said):
        load(board)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pretrain: {a: 1}\n", "does not say its paper, cost, expected, command"),
        ("{header}pretrain: {a: 1}\ncolour: red\n", "has the keys colour"),
        ("{header}floor: cellar\n", "floor is one of random, pixels, tfidf, ppmi_svd, word2vec, not cellar"),
        ("{header}without: [linear]\n", "pretrains nothing"),
        ("{header}pretrain: [objective=mae]\n", "pretrain holds KEY: VALUE on each line"),
        ("{header}floor: ppmi_svd\noptions: {epochs: 3}\n", "options epochs; floor: ppmi_svd has window"),
        (
            "{header}floor: word2vec\noptions: {epochs: 0}\n",
            "option epochs is a whole number from 1 on, not 0",
        ),
        ("{header}floor: random\noptions: {window: 3}\n", "options window; floor: random has none"),
        ("{header}pretrain: {a: 1}\noptions: {window: 3}\n", "window; a line that is pretrained has none"),
        ("{header}floor: ppmi_svd\noptions: 3\n", "options holds KEY: VALUE on each line, not 3"),
        ("{header}floor: random\nwithout: knn\n", "without is a list of measures, .*, not 'knn'"),
        ("{header}- 1\n", "new.yaml holds KEY: VALUE on each line"),
        ("{header}pretrain: {\n", "new.yaml is not YAML"),
        ("{header}floor: random\nwithout: [luck]\n", r"recipe new is without \['luck'\]"),
    ],
)
def test_faults_of_a_recipe_are_named(board, text, said):
    header = "# T.\n# Paper: p\n# Cost: c\n# Expected: e\n# Command: k\n"
    (board / "recipes/new.yaml").write_text(text.replace("{header}", header))
    with pytest.raises(BoardError, match=said):
        load(board)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("board.yaml", "", "board.yaml holds KEY: VALUE on each line, not None"),
        ("board.yaml", "title: [", "board.yaml is not YAML"),
        ("references.yaml", "name: a\n", "references.yaml is a list of results"),
        ("references.yaml", "- a\n", "references.yaml: each result holds KEY: VALUE"),
    ],
)
def test_files_of_another_shape_are_named(board, file, text, said):
    (board / file).write_text(text)
    with pytest.raises(BoardError, match=said):
        load(board)


def test_a_recipe_may_not_change_what_the_board_fixes(board):
    loaded = load(board)
    recipe = replace(loaded.recipes["rotation"], pretrain={"data": "cifar10"})
    with pytest.raises(BoardError, match="sets data, which is fixed for all lines"):
        loaded.pretrain_overrides(recipe)


def test_settings_are_spelt_as_hydra_reads_them():
    assert spelt([1, None, 0.5, True]) == "[1,null,0.5,true]"
    assert spelt(["a b", "p/q.txt", "'quoted, already'"]) == "[a b,p/q.txt,'quoted, already']"


@pytest.mark.parametrize(
    "value",
    [
        ["a photo of a {}.", "one, two", "", " blank ", "it's", "(a)", "#1", "é", "a\\", 'say "so"'],
        {"lr": 0.1, "names": ["a", "b=c"], "inner": {"x": None, "y": "[z]"}},
    ],
)
def test_texts_inside_a_list_or_mapping_come_back_as_they_are(value):
    assert OverridesParser.create().parse_override(f"key={spelt(value)}").value() == value


def test_a_board_is_called_by_its_folder_wherever_one_stands(here, monkeypatch):
    monkeypatch.chdir(here / "recipes")
    assert load(Path("..")).name == "tiny"
    monkeypatch.chdir(here)
    assert load(Path()).name == "tiny"


def test_settings_are_the_same_in_a_data_folder_of_any_name(monkeypatch):
    found = []
    for folder in ("/data", '/home/müller/My "data"'):
        monkeypatch.setenv("SSL_ZOO_DATA", folder)
        boards.composed.cache_clear()
        given = ["objective=rotation", "backbone=resnet_micro", "data=cifar10", "budget.steps=1"]
        composer = BoardComposer()
        found.append(composer.settled(composer.pretraining(given, None)))
    boards.composed.cache_clear()
    assert found[0] == found[1]
    assert "DATA/cifar10" in str(found[0]["data"])


# Running


@pytest.fixture
def board(tmp_path):
    """A board of two lines and a floor that takes seconds."""
    folder = tmp_path / "benchmarks/leaderboard/tiny"
    (folder / "recipes").mkdir(parents=True)
    body = {
        "title": "Tiny",
        "about": "for tests",
        "hardware": "any",
        "primary": "knn",
        "seeds": [0, 1, 2],
        "fixed": {
            "data": "digits",
            "data.image_size": 8,
            "backbone": "resnet_micro",
            "backbone.channels": [4, 4, 8, 8],
            "trainer": "cpu",
            "threads": 1,
            "evaluate_every": 100000,
            "save_every": 5,
        },
        "measures": {
            "knn": {"title": "neighbours", "data": "digits", "data.image_size": 8, "protocol": "knn"},
            "labels": {
                "title": "few labels",
                "data": "digits",
                "data.image_size": 8,
                "protocol": "linear",
                "labels": [1, 5],
            },
        },
    }
    (folder / "board.yaml").write_text(yaml.safe_dump(body))
    header = "# {}.\n# Paper: p\n# Cost: c\n# Expected: e\n# Command: ssl-zoo leaderboard run tiny {}\n"
    words = {"objective": "rotation", "batch_size": 16, "budget.steps": 12}
    for name, more in {"rotation": {"pretrain": words}, "random": {"floor": "random"}}.items():
        (folder / f"recipes/{name}.yaml").write_text(header.format(name, name) + yaml.safe_dump(more))
    return folder


def start(board: Path, number: int):
    """`ssl-zoo leaderboard run tiny seeds=2` in a process of its own, in the folder of benchmarks/."""
    folder = board.parents[2]
    words = ("leaderboard", "run", "tiny", "seeds=2")
    log = folder / f"log{number}"
    return tiny.spawn(log, tiny.called, folder, folder / "cache", words), log


def kill_when(happened, process) -> None:
    ends = time.monotonic() + 120
    while not happened():
        assert process.is_alive(), "it ended before"
        assert time.monotonic() < ends, "it took too long"
        time.sleep(0.01)
    process.kill()
    process.join()


def test_a_killed_board_goes_on_and_repeats_no_line(board):
    """Killed twice, inside a line and between lines: nothing is lost and nothing done twice."""
    results, runs = board / "results.jsonl", board.parents[2] / "runs/leaderboard/tiny"
    process, _ = start(board, 0)
    kill_when(lambda: list(runs.glob("rotation/s0-*/checkpoints/step-*.ckpt")), process)
    first = records.read(results)
    process, _ = start(board, 1)
    kill_when(lambda: len(records.read(results)) > len(first), process)
    before = {key: one["finished"] for key, one in records.read(results).items()}
    written = {file: file.stat().st_mtime_ns for file in runs.glob("*/*/measures/*.json")}
    process, log = start(board, 2)
    assert tiny.outcome(process) == 0, log.read_text()
    after = records.read(results)
    assert set(after) == {(row, seed) for row in ("rotation", "random") for seed in (0, 1)}
    assert {key: after[key]["finished"] for key in before} == before
    assert log.read_text().count("done before") == len(before)
    assert all(file.stat().st_mtime_ns == time for file, time in written.items())
    lines = results.read_text().splitlines()
    assert len(lines) == len(after), "one record for each line and seed: none was run twice"
    process, log = start(board, 3)
    assert tiny.outcome(process) == 0
    assert log.read_text().count("done before") == 4
    assert results.read_text().splitlines() == lines


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_board_that_is_stopped_ends_and_records_nothing_half_trained(board, jobs):
    recipe = board / "recipes/rotation.yaml"
    recipe.write_text(recipe.read_text().replace("budget.steps: 12", "budget.steps: 1000000"))
    folder = board.parents[2]
    words = ("leaderboard", "run", "tiny", "rotation", f"jobs={jobs}")
    process = tiny.spawn(folder / "log", tiny.called, folder, folder / "cache", words)
    runs = folder / "runs/leaderboard/tiny/rotation"
    ends = time.monotonic() + 120
    while len({file.parent for file in runs.glob("s*/checkpoints/step-*.ckpt")}) < jobs:
        assert process.is_alive(), (folder / "log").read_text()
        assert time.monotonic() < ends, "it took too long"
        time.sleep(0.05)
    process.terminate()
    assert tiny.outcome(process) == 143, (folder / "log").read_text()
    assert records.read(board / "results.jsonl") == {}
    assert len(list(runs.glob("s*"))) == jobs, "nothing else was begun"
    saved = [json.loads(file.read_text()) for file in runs.glob("s*/summary.json")]
    assert len(saved) == jobs
    assert all(one["stopped"] for one in saved)


@pytest.fixture
def here(board, monkeypatch):
    """The working folder that holds the board."""
    monkeypatch.chdir(board.parents[2])
    monkeypatch.setenv("SSL_ZOO_CACHE", str(board.parents[2] / "cache"))
    return board


def test_run_record_check_and_reproduce(here, capsys):
    leaderboard.main(["run", "tiny", "seeds=2"])
    printed = capsys.readouterr().out
    assert "rotation seed 1: recorded" in printed
    assert "Tiny" in printed
    found = records.read(here / "results.jsonl")
    one = found["rotation", 0]
    assert set(one) >= {"config", "code", "data", "versions", "hardware", "seconds", "measures", "commit"}
    assert one["pretraining"]["steps"] == 12
    assert one["pretraining"]["processor_seconds"] > 0
    assert [result["labels"] for result in one["measures"]["labels"]["results"]] == [1, 5]
    assert found["random", 0]["measures"]["knn"]["results"][0]["value"] > 0.1
    assert str(here.parents[2]) not in json.dumps(one), "no path of this machine"

    assert "Checked on" in printed
    assert "as they are now: no line is stale" in printed, "a run ends with a check"
    leaderboard.main(["check", "tiny"])
    assert "no result of seed 2" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2 of 2 lines do not stand"):
        leaderboard.main(["check", "tiny", "strict=true"])
    leaderboard.main(["reproduce", "tiny/rotation", "seed=0"])
    printed = capsys.readouterr().out
    assert "tiny/rotation: the new knn is the recorded one of seed 0" in printed
    assert "3 of 3 figures are the recorded ones of seed 0 to the last bit" in printed
    again = records.read(here / "results.jsonl")
    assert again == found, "a reproduction is not recorded"
    with pytest.raises(SystemExit, match="no measure 'luck'"):
        leaderboard.main(["reproduce", "tiny/rotation", "measure=luck"])


def test_a_reproduction_outside_fails(here, monkeypatch, capsys):
    for seed, value in ((0, 0.99), (1, 0.98)):
        result = {"protocol": "knn", "metric": "accuracy", "value": value, "labels": None, "steps": None}
        record = {"line": "random", "seed": seed, "measures": {"knn": {"results": [result]}}}
        records.append(here / "results.jsonl", record)
    with pytest.raises(SystemExit, match="lies outside the stated interval"):
        leaderboard.main(["reproduce", "tiny/random", "measure=knn"])
    assert "OUTSIDE" in capsys.readouterr().out


def test_a_reproduction_leaves_the_folder_to_who_works_there(here, capsys):
    """It used to be emptied under the other process."""
    for seed in (0, 1):
        result = {"protocol": "knn", "metric": "accuracy", "value": 0.5, "labels": None, "steps": None}
        record = {"line": "random", "seed": seed, "measures": {"knn": {"results": [result]}}}
        records.append(here / "results.jsonl", record)
    board, composer = only_measure(load(here), load(here).recipes["random"], "knn"), BoardComposer()
    unit = Unit(composer, board, board.recipes["random"], 0, Path("runs/reproduce"), Datasets(composer))
    with alone(unit.where):
        (unit.where / "checkpoint").write_text("of the other process")
        (unit.where / "measures").mkdir()
        with pytest.raises(SystemExit, match="another process works on"):
            leaderboard.main(["reproduce", "tiny/random", "measure=knn"])
        assert (unit.where / "checkpoint").exists()
    empty(unit.where)
    assert [path.name for path in unit.where.iterdir()] == [".unit"]


def test_what_changed_since_is_stale(here, monkeypatch):
    board, datasets = load(here), Datasets(BoardComposer())
    unit = Unit(BoardComposer(), board, board.recipes["random"], 0, here.parents[2] / "runs", datasets)
    for seed in board.seeds:
        record = Unit(
            BoardComposer(), board, board.recipes["random"], seed, here.parents[2] / "runs", datasets
        ).run(lambda _: None)
        records.append(board.results, record)
    assert (
        changed(BoardComposer(), board, board.recipes["random"], datasets, records.read(board.results)) == []
    )
    digest = code.digest
    monkeypatch.setattr(code, "digest", lambda found: digest(found)[::-1])
    told = changed(BoardComposer(), board, board.recipes["random"], datasets, records.read(board.results))
    assert told == ["code of backbone, floor, knn, labels changed"]
    monkeypatch.setattr(code, "digest", lambda found: digest(found)[:12])
    told = changed(BoardComposer(), board, board.recipes["random"], datasets, records.read(board.results))
    assert told[0] == "code of backbone, floor, knn, labels is hashed in another way since"
    monkeypatch.undo()
    datasets.prints = dict.fromkeys(datasets.prints, "other")
    assert (
        changed(BoardComposer(), board, board.recipes["random"], datasets, records.read(board.results))[0]
        == "data changed"
    )
    datasets.prints = dict.fromkeys(datasets.prints)  # not on this machine
    assert (
        changed(BoardComposer(), board, board.recipes["random"], datasets, records.read(board.results)) == []
    )
    more = replace(board, measures={**board.measures, "new": board.measures["knn"]})
    assert changed(BoardComposer(), more, board.recipes["random"], datasets, records.read(board.results)) == [
        "new: not measured"
    ]
    assert unit.changes(records.read(board.results)["random", 0]) == []


def test_an_unfinished_unit_is_left_to_who_works_on_it(here, capsys):
    board = load(here)
    unit = Unit(
        BoardComposer(),
        board,
        board.recipes["random"],
        0,
        Path("runs/leaderboard"),
        Datasets(BoardComposer()),
    )
    with alone(unit.where):
        leaderboard.main(["run", "tiny", "random", "seeds=1"])
    assert "left out, as another process works on" in capsys.readouterr().out
    assert records.read(board.results) == {}


def test_bounds_are_those_of_students_t():
    values = [0.50, 0.52, 0.57]
    low, high = bounds(values, again=True)
    expected = stats.t.interval(0.95, 2, loc=sum(values) / 3, scale=stats.sem(values))
    assert (low, high) == pytest.approx(expected)
    low, high = bounds(values, again=False)
    scale = stats.tstd(values) * (1 + 1 / 3) ** 0.5
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 2, loc=sum(values) / 3, scale=scale))
    with pytest.raises(BoardError, match="two seeds or more"):
        bounds([0.5], again=True)


def test_what_is_reproduced_to_the_bit_is_never_outside():
    def said(value):
        return {"measures": {"knn": {"results": [{"metric": "accuracy", "value": value} | RESULT]}}}

    # of five seeds, one may lie outside the interval of the mean, 0.51 ± 0.0278
    before = {seed: said(value) for seed, value in enumerate((0.5, 0.5, 0.5, 0.5, 0.55))}
    verdict = lambda value, seed: compared(said(value), before, seed)[0].verdict  # noqa: E731
    assert verdict(0.55, 4) == "same"
    assert verdict(0.51, 4) == "inside"
    assert verdict(0.5500001, 4) == "OUTSIDE"
    assert verdict(0.5500001, 5) == "inside", "one more seed may lie further out"
    del before[3]["measures"]["knn"], before[2]["measures"]["knn"], before[1]["measures"]["knn"]
    del before[0]["measures"]["knn"]
    assert compared(said(0.55), before, 4)[0][3:] == ("-", "55.0", "new"), "a measure added since"


RESULT = {"labels": None, "steps": None}


# A line of one's own


MINE = """
import torch
from ssl_zoo import Loss, Objective


class Norm(Objective):
    takes = ("cnn",)

    def __init__(self, backbone, strength=1.0):
        super().__init__(backbone)
        self.strength = strength

    def forward(self, batch):
        return Loss(self.strength * self.backbone(batch.x.float() / 255).pooled.square().mean(), {})
"""


def test_a_line_of_ones_own(here, monkeypatch, capsys):
    (here.parents[2] / "mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(here.parents[2])
    words = ["objective._target_=mine.Norm", "+objective.strength=0.5", "batch_size=16", "budget.steps=2"]
    leaderboard.main(["add", "tiny", "norm", *words, "paper=mine", "title=Small norms"])
    printed = capsys.readouterr().out
    assert "run tiny norm trust=mine.Norm" in printed
    recipe = load(here).recipes["norm"]
    assert (recipe.title, recipe.paper) == ("Small norms", "mine")
    with pytest.raises(SystemExit, match=r"mine\.Norm is not part of ssl_zoo"):
        leaderboard.main(["run", "tiny", "norm", "seeds=1"])
    leaderboard.main(["run", "tiny", "norm", "seeds=1", "trust=mine.Norm"])
    assert records.read(here / "results.jsonl")["norm", 0]["pretraining"]["objective"] == "Norm"
    with pytest.raises(SystemExit, match="exists already"):
        leaderboard.main(["add", "tiny", "norm", *words])


def test_a_line_of_ones_own_that_says_little_can_be_read(here):
    """An empty paper or a title of two lines used to leave a recipe that made the board unreadable."""
    words = ["objective=rotation", "batch_size=16", "budget.steps=2"]
    leaderboard.main(["add", "tiny", "mine", *words, "paper=", "title=Two\nlines."])
    recipe = load(here).recipes["mine"]
    assert (recipe.title, recipe.paper, recipe.cost) == ("Two lines", "not given", "not given")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "which board"),
        (["run", "tinny"], "no board 'tinny'; did you mean 'tiny'"),
        (["run", "tiny", "rotatoin"], "no line 'rotatoin'; did you mean 'rotation'"),
        (["run", "tiny", "seed=3"], "no option seed; did you mean 'seeds'"),
        (["run", "tiny", "seeds=many"], "give a count"),
        (["run", "tiny", "seeds=0"], "give a count"),
        (["run", "tiny", "seeds=[-1]"], "give a count"),
        (["run", "tiny", "jobs=two"], "no whole number"),
        (["run", "tiny", "jobs=0"], "jobs=0 is too small; it takes 1 or more"),
        (["add", "tiny", "new", "objective={a"], "objective={a is no value that YAML reads"),
        (["rnu"], "no verb 'rnu'; did you mean 'run'"),
        (["reproduce", "tiny"], "Give BOARD/LINE, for example tiny/"),
        (["reproduce", "tiny/rotation"], "results of 0 seeds"),
        (["check", "strict=perhaps"], "takes true or false"),
        (["add", "tiny", "new", "objective=simcrl"], "did you mean 'simclr'"),
        (["add", "tiny", "new", "data=cifar10", "objective=simclr"], "sets data, which is fixed"),
        (["add", "tiny"], "give a board and the line's name"),
    ],
)
def test_words_that_cannot_work(here, words, said):
    with pytest.raises(SystemExit, match=said):
        leaderboard.main(words)


def test_boards_are_found_by_name_and_by_path(here):
    assert find("tiny").name == find(str(here)).name == "tiny"
    assert isinstance(AbsentDatasets(BoardComposer()), Datasets)
    with pytest.raises(BoardError, match="no option strct; did you mean 'strict'"):
        leaderboard.only({"strct": "true"}, "strict")


def test_a_measure_may_score_validation_rows(here):
    """For choosing between recipes: the test split of digits has 359 rows, validation 179."""
    file = here / "board.yaml"
    body = yaml.safe_load(file.read_text())
    body["measures"]["knn"]["score"] = "validation"
    file.write_text(yaml.safe_dump(body))
    leaderboard.main(["run", "tiny", "random", "seeds=1"])
    measures = records.read(here / "results.jsonl")["random", 0]["measures"]
    assert [measures[name]["results"][0]["test"] for name in ("knn", "labels")] == [179, 359]
    body["measures"]["look"] = {"title": "look", "data": "digits", "protocol": "diagnostics"}
    body["measures"]["look"]["score"] = "validation"
    file.write_text(yaml.safe_dump(body))
    with pytest.raises(SystemExit, match="measure look has score=validation, which is for protocols that"):
        leaderboard.main(["run", "tiny", "random", "seeds=1"])


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["run", "tiny", "-h"], ["help"]])
def test_help_may_stand_anywhere(words, capsys):
    leaderboard.main(words)
    assert capsys.readouterr().out.strip() == leaderboard.HELP.strip()
