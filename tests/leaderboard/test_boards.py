"""The boards of the repository: their recipes train, and what is written of results is what they say."""

import json
import re
from pathlib import Path

import pytest
import tiny

from ssl_zoo.leaderboard import records
from ssl_zoo.leaderboard.board import load
from ssl_zoo.leaderboard.curves import DIAGNOSTICS
from ssl_zoo.leaderboard.standings import standings
from ssl_zoo.leaderboard.table import markdown
from ssl_zoo.pages.board_charts import charts
from ssl_zoo.pages.board_docs import BEGIN, expected, with_expected, with_summary

REPOSITORY = Path(__file__).parents[2]
BOARDS = [load(file.parent) for file in sorted((REPOSITORY / "benchmarks/leaderboard").glob("*/board.yaml"))]
TRAINED = [(board, recipe) for board in BOARDS for recipe in board.recipes.values() if not recipe.floor]
FOR_GPUS = [(board, recipe) for board, recipe in TRAINED if "GPU" in board.hardware]
# Of each kind one; the others are tried by `make slow`.
FIRST = ("simclr", "dino", "spark", "deepcluster", "rotation", "next_token", "masked_lm")

# Lines whose difference three seeds could not tell have more.
MORE_SEEDS = {"text-small": {(line, seed) for line in ("crops_wide", "tfidf") for seed in range(3, 8)}}


@pytest.mark.parametrize(
    ("board", "recipe"),
    [
        pytest.param(b, r, id=f"{b.name}/{r.name}", marks=[] if r.name in FIRST else [pytest.mark.slow])
        for b, r in FOR_GPUS
    ],
)
def test_a_recipe_for_a_gpu_trains_a_few_steps(board, recipe, cache, tmp_path):
    """The recipe as it stands, but for what a CPU without data sets lacks: other data, a small trunk."""
    text = "transformer" in str(board.fixed.get("backbone"))
    changed = {"data", "trainer", "budget.epochs", "budget.tokens", "batch_size", "context", "tokenizer.size"}
    changed |= {"evaluate_every", "objective.rows"}
    words = [word for word in board.pretrain_overrides(recipe) if word.split("=")[0] not in changed]
    words += ["trainer=cpu", "budget.steps=2", "threads=1", "seed=0", "run=run"]
    words += ["batch_size=8", "evaluate_every=0", "log_every=2"]
    if text:
        words += ["data=stdlib", "context=32", "tokenizer.size=512"]
        words += ["backbone.width=32", "backbone.depth=1", "backbone.heads=2"]
    else:
        words += ["data=digits", "+backbone.channels=[4,8,8,16]", "+backbone.stem_width=4"]
        if "objective.rows" in recipe.pretrain:
            words += ["objective.rows=1259"]  # a memory of the rows of digits
        if recipe.pretrain["objective"] == "wmse":
            words += ["objective.size=8", "objective.out=4"]  # eight samples whiten no more
    code, printed = tiny.command(tmp_path, cache, "pretrain", *words)
    assert code == 0, printed
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["steps"] == 2
    assert re.search(r"step 2  loss -?\d", printed)


def test_every_board_has_a_floor_and_every_vision_board_a_reference():
    for board in BOARDS:
        roles = {recipe.role for recipe in board.recipes.values()}
        wanted = {"pretrained", "floor"} if "text" in board.name else {"pretrained", "floor", "reference"}
        assert roles == wanted, board.name


def test_a_board_for_two_cores_has_every_line_with_every_seed():
    """Of each line that stands on a board there are all its seeds, and no others."""
    found = [board for board in BOARDS if "GPU" not in board.hardware]
    assert [board.name for board in found] == [
        "cifar10-small", "cifar10-speedrun", "digits", "text-hour", "text-small",
    ]  # fmt: skip
    for board in found:
        wanted = {(line, seed) for line in board.recipes for seed in board.seeds}
        wanted |= MORE_SEEDS.get(board.name, set())
        assert set(records.read(board.results)) == wanted, board.name


def test_published_numbers_say_how_their_protocol_differs():
    for board in BOARDS:
        for one in board.references:
            assert set(one) == {"name", "source", "scores", "protocol"}, board.name
            assert len(one["protocol"]) > 20
            assert re.search(r"https?://|arXiv:", one["source"])


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_docs_and_recipes_say_what_the_results_say(board):
    """`ssl-zoo leaderboard docs` would change nothing."""
    now, folder = standings(board), REPOSITORY / "docs/leaderboard"
    pictures = {name: f"{board.name}-{name}.svg" for name in charts(now)}
    assert (folder / f"{board.name}.md").read_text() == markdown(now, pictures)
    for name in pictures.values():
        assert (folder / name).read_text().startswith("<svg")
    for line in now.lines:
        text = (board.folder / f"recipes/{line.name}.yaml").read_text()
        assert with_expected(text, expected(now, line)) == text


def test_the_readme_says_what_the_results_say():
    readme = (REPOSITORY / "README.md").read_text()
    assert with_summary(readme, [standings(board) for board in BOARDS]) == readme
    with pytest.raises(ValueError, match="has no table to write"):
        with_summary(readme.replace(BEGIN, ""), [])


def test_curves_of_both_modalities_are_drawn_from_results():
    drawn = {board.name: set(charts(standings(board))) for board in BOARDS if board.results.exists()}
    wanted = {"layers-layers", *(f"layers-diagnostics-{part}" for part in DIAGNOSTICS)}
    assert wanted | {"labels-labels-linear", "labels-labels-finetune", "cost-cost"} <= drawn["cifar10-small"]
    assert wanted | {"labels-layers", "labels-labels-finetune", "cost-cost"} <= drawn["text-small"]
