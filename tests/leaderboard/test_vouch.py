"""Results of earlier code: renewed where today's code computes the same, and only there."""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import yaml

import ssl_zoo
from ssl_zoo.cli import leaderboard
from ssl_zoo.compose.boards import BoardComposer
from ssl_zoo.leaderboard import records, vouch
from ssl_zoo.leaderboard.board import BoardError, load
from ssl_zoo.leaderboard.datasets import Datasets
from ssl_zoo.leaderboard.unit import Unit

REPOSITORY = Path(ssl_zoo.__file__).parents[1]
HEAD = "# {0}.\n# Paper: p\n# Cost: c\n# Expected: e\n# Command: ssl-zoo leaderboard run tiny {0}\n"


CALL = "from ssl_zoo.cli import main; main()"  # what a process of other code runs


@pytest.fixture
def seeds():
    """Of the board's lines: each costs a process of seconds, and a refusal needs no second one."""
    return [0]


@pytest.fixture
def board(tmp_path, cache, monkeypatch, seeds):
    """A board of one line and a floor, in the working folder."""
    monkeypatch.setenv("SSL_ZOO_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "benchmarks/leaderboard/tiny"
    (folder / "recipes").mkdir(parents=True)
    measure = {"title": "neighbours", "data": "digits", "data.image_size": 8, "protocol": "knn"}
    fixed = {"data": "digits", "data.image_size": 8, "backbone": "resnet_micro", "trainer": "cpu"}
    fixed |= {"backbone.channels": [4, 4, 8, 8], "threads": 1, "evaluate_every": 100000, "save_every": 5}
    body = {"title": "Tiny", "about": "for tests", "hardware": "any", "primary": "knn", "seeds": seeds}
    (folder / "board.yaml").write_text(yaml.safe_dump(body | {"fixed": fixed, "measures": {"knn": measure}}))
    recipe = {"pretrain": {"objective": "rotation", "batch_size": 16, "budget.steps": 30}}
    for name, more in {"rotation": recipe, "random": {"floor": "random"}}.items():
        (folder / f"recipes/{name}.yaml").write_text(HEAD.format(name) + yaml.safe_dump(more))
    return folder


def earlier(tmp_path, file, before, after):
    """A copy of the package, with its bytecode, in which one file differs."""
    source = tmp_path / "earlier"
    for name in ("ssl_zoo", "configs"):
        shutil.copytree(REPOSITORY / name, source / name)
    text = (source / file).read_text()
    assert text.count(before) == 1
    (source / file).write_text(text.replace(before, after))
    return source


@pytest.fixture
def in_forks(tmp_path, monkeypatch):
    """Commands of other code are forks of a process that has imported torch: seconds less for each."""
    number, started = itertools.count(), subprocess.run

    def run(command, **how):
        if [*command[:4]] != [sys.executable, "-P", "-c", CALL]:
            return started(command, **how)
        env = how["env"]
        source = env["PYTHONPATH"].partition(os.pathsep)[0]
        folder, place = tmp_path / f"fork-{next(number)}", (source, Path.cwd(), env["SSL_ZOO_CACHE"])
        code, said = tiny.forked(folder, tiny.called_from, *place, [command[4:]])
        assert code == 0, said
        return SimpleNamespace(stdout=said)

    monkeypatch.setattr(vouch.subprocess, "run", run)


def run(source):
    """The board's results, by the code in a folder, and as if that were commit "earlier"."""
    words = [sys.executable, "-P", "-c", CALL, "leaderboard", "run", "tiny"]
    subprocess.run(words, env=os.environ | {"PYTHONPATH": str(source)}, check=True, capture_output=True)
    file = Path("benchmarks/leaderboard/tiny/results.jsonl")
    made = [json.loads(line) | {"commit": "earlier"} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(one) + "\n" for one in made))
    assert len(made) == 2 * len(load(Path("benchmarks/leaderboard/tiny")).seeds)
    return records.read(file)


def test_of_lines_with_one_network_the_measures_are_run_once(board, monkeypatch):
    """The second line is run without the measures that the first has shown to be the same."""
    unit = Unit(
        BoardComposer(),
        load(board),
        load(board).recipes["rotation"],
        0,
        Path("runs"),
        Datasets(BoardComposer()),
    )
    record = {"code": {"backbone": "b"}, "measures": {"knn": {"code": "k", "results": []}}}
    ran = []

    def witnessed(source, folder, line, seed, runs, trust):
        measured = load(folder).measures_of(load(folder).recipes[line])
        ran.append(measured)
        found = {name: record["measures"][name] for name in measured}
        return {"code": record["code"], "measures": found, "pretraining": {"steps": 3}}, {"w": "1"}

    monkeypatch.setattr(vouch, "witnessed", witnessed)
    kinds, shown = {"knn": ("knn", "k", "now")}, set()
    for number in range(2):
        case = vouch.Case(unit, {0: record}, "earlier", kinds)
        assert vouch.same(case, Path("source"), 3, Path(f"runs/{number}"), frozenset(), shown) == ""
    assert ran == [["knn"], ["knn"], [], []]
    other = vouch.Case(unit, {0: record}, "earlier", {"knn": ("knn", "k", "now", "another network")})
    assert vouch.same(other, Path("source"), 3, Path("runs/2"), frozenset(), shown) == ""
    assert ran[4:] == [["knn"], ["knn"]]


def test_a_shortened_board_says_nothing_that_earlier_code_does_not_know(board, tmp_path):
    body = yaml.safe_load((board / "board.yaml").read_text())
    features = {"data": "digits", "protocol": "diagnostics"}
    body["measures"] |= {
        "ours": features | {"lines": ["random"]},
        "others": features | {"lines": ["rotation"]},
    }
    (board / "board.yaml").write_text(yaml.safe_dump(body))
    vouch.shorten(load(board), "random", 3, ["knn", "others"], tmp_path / "short")
    short = load(tmp_path / "short")
    assert short.measures == {"knn": body["measures"]["knn"], "ours": features}
    assert short.measures_of(short.recipes["random"]) == ["ours"]


def vouched(board, source, **more):
    """What `vouch` says of each line, where commit "earlier" is the package in a folder."""
    composer = BoardComposer()

    @contextlib.contextmanager
    def sources(commit):
        assert commit == "earlier"
        yield source

    found = vouch.vouch(
        composer, load(board), list(load(board).recipes), Datasets(composer), Path("runs/vouch"),
        steps=3, sources=sources, **more,
    )  # fmt: skip
    return {line: (told, again) for line, told, again in found}


@pytest.mark.parametrize("seeds", [[0], pytest.param([0, 1], marks=pytest.mark.slow)])
def test_a_change_that_alters_nothing_is_vouched_for(board, seeds, tmp_path, capsys, request):
    """Another way to write the same: hashes differ, and the bits do not."""
    if len(seeds) == 1:  # several are tried in processes as the command starts them
        request.getfixturevalue("in_forks")
    source = earlier(
        tmp_path, "ssl_zoo/objectives/rotation.py", "import torch\n", "import torch\n\nUNUSED = 3\n"
    )
    text = (source / "ssl_zoo/objectives/rotation.py").read_text()
    (source / "ssl_zoo/objectives/rotation.py").write_text(
        text.replace("super().__init__(", "assert UNUSED == 3\n        super().__init__(", 1)
    )
    before = run(source)
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1 of 2 lines do not stand"):
        leaderboard.main(["check", "tiny", "strict=true"])
    assert "code of objective changed" in capsys.readouterr().out

    found = vouched(board, source, jobs=2)
    assert found == {
        "random": ("stands", False),
        "rotation": (f"today's code computes the same: {len(seeds)} results vouched for", False),
    }
    leaderboard.main(["check", "tiny", "strict=true"])
    assert "2 of 2 lines stand" in capsys.readouterr().out
    after = records.read(board / "results.jsonl")
    for seed in seeds:
        one, old = after["rotation", seed], before["rotation", seed]
        assert one["measures"]["knn"]["results"] == old["measures"]["knn"]["results"]
        assert one["pretraining"] == old["pretraining"]
        assert (one["commit"], one["finished"]) == (old["commit"], old["finished"]), "who measured, and when"
        assert one["vouched"][0]["steps"] == 3
        assert one["code"] != old["code"]
    assert after["random", 0] == before["random", 0]
    leaderboard.main(["show", "tiny"])
    assert (
        "1 of 2 lines were run with earlier code, of which later code computed the first 3 steps and all"
        in (capsys.readouterr().out)
    )
    assert not list(Path("runs/vouch").glob("*")), "the runs are gone"


@pytest.mark.usefixtures("in_forks")
def test_a_change_of_figures_is_not(board, tmp_path):
    loss = ("return Loss(loss, {", "return Loss(loss * 1.0001, {")
    before = run(earlier(tmp_path, "ssl_zoo/objectives/rotation.py", *loss))
    file = board / "results.jsonl"
    kept = file.read_text()
    told, again = vouched(board, tmp_path / "earlier")["rotation"]
    assert again
    assert "the weights" in told
    assert file.read_text() == kept
    assert before["rotation", 0]["pretraining"]["steps"] == 30


@pytest.mark.usefixtures("in_forks")
def test_nobody_vouches_for_another_recipe_or_other_code(board, tmp_path):
    source = earlier(tmp_path, "ssl_zoo/objectives/rotation.py", "import torch\n", "import torch\n\nX = 3\n")
    text = (source / "ssl_zoo/objectives/rotation.py").read_text()
    changed = text.replace("super().__init__(", "assert X\n        super().__init__(", 1)
    (source / "ssl_zoo/objectives/rotation.py").write_text(changed)
    run(source)
    (source / "ssl_zoo/objectives/rotation.py").write_text(changed.replace("assert X", "assert X == 3"))
    told, again = vouched(board, source)["rotation"]
    assert again
    assert "holds other code than it was run with" in told

    recipe = board / "recipes/rotation.yaml"
    recipe.write_text(recipe.read_text().replace("budget.steps: 30", "budget.steps: 40"))
    told, again = vouched(board, source)["rotation"]
    assert again
    assert "budget.steps was 30 and is 40" in told


def test_configurations_may_gain_keys_and_lose_none():
    assert vouch.differing({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}, "d": 3}) == []
    assert vouch.differing({"a": {"b": 1}}, {"a": {}}) == ["a.b is gone"]
    assert vouch.differing({"a": {"b": 1}}, {"a": {"b": 2}}) == ["a.b was 1 and is 2"]
    assert vouch.differing({"a": [1, 2]}, {"a": [1, 3]}) == ["a was [1, 2] and is [1, 3]"]


def test_a_commit_that_is_not_there_is_said():
    says = r"the code of commit 0123abcd cannot be had .* run the lines again"
    with pytest.raises(BoardError, match=says), vouch.checked_out("0123abcd"):
        pass


def test_a_commit_is_checked_out_and_goes_again():
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.strip()
    with vouch.checked_out(commit) as source:
        assert (source / "ssl_zoo/leaderboard/unit.py").exists()
    assert not source.exists()
