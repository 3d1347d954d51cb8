"""Standings of a made-up board: who leads, what counts, what is refused; and labels saved, worked by hand."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from boards import ROWS, record, result, write

from ssl_zoo.leaderboard.board import FLOORS
from ssl_zoo.leaderboard.curves import DIAGNOSTICS, classes, curves
from ssl_zoo.leaderboard.standings import Cell, format_point, load
from ssl_zoo.leaderboard.table import cost, lengthwise, markdown, show, time_taken
from ssl_zoo.leaderboard.worth import HOW, WORDS, difference, gains, leads, saved
from ssl_zoo.pages import board_charts
from ssl_zoo.transfer import diagnostics
from ssl_zoo.transfer.efficiency import labels_saved
from ssl_zoo.transfer.report import METRICS, metric


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "made-up")


def append(folder, line):
    with (folder / "results.jsonl").open("a") as file:
        file.write(line if isinstance(line, str) else json.dumps(line) + "\n")


def names(board):
    return [line.name for line in board.lines]


def test_lines_are_ranked_and_roles_told_apart(folder):
    board = load(folder)
    best = ["supervised-resnet", "simclr-resnet", "mae-vit", "pixels", "random-resnet", "rotation-resnet"]
    assert names(board) == [*best, "simclr-vit"]
    assert board.ranks == {"simclr-resnet": 1, "mae-vit": 2, "rotation-resnet": 3}
    assert board.leader is not None
    assert board.leader.name == "simclr-resnet"
    roles = {line.name: line.role for line in board.lines}
    assert roles["supervised-resnet"] == "reference"
    assert roles["pixels"] == roles["random-resnet"] == "floor"
    assert roles["simclr-vit"] == "pretrained"
    backbones = {line.name: line.backbone for line in board.lines}
    assert backbones["pixels"] == ""
    assert backbones["random-resnet"] == "resnet_micro"


def test_a_cell_has_mean_and_interval_over_seeds(folder):
    cell = load(folder).leader.headline("linear")
    assert cell.seeds == (0, 1, 2)
    assert cell.mean == pytest.approx(0.51)
    # Student's t with 2 degrees of freedom: 4.3027; standard error 0.01 / sqrt(3)
    assert cell.interval[1] - cell.mean == pytest.approx(4.3027 * 0.01 / math.sqrt(3), rel=1e-4)
    assert cell.text() == "51.0 ± 2.5"


def test_a_board_says_which_labels_rank(folder):
    """Else the fewest; of a measure without them, the fewest still."""
    body = yaml.safe_load((folder / "board.yaml").read_text())
    body["primary"], body["measures"]["finetune"]["labels"] = "finetune", [1, 25, None]
    for shown, share, title in ((None, 0.4, "1 label a class"), (25, 0.8, "25 labels a class")):
        body["shown_labels"] = shown
        (folder / "board.yaml").write_text(yaml.safe_dump(body))
        board = load(folder)
        cell = board.leader.headline("finetune")
        assert cell.mean == pytest.approx(share * 0.51)
        assert board.heading("finetune") == f"Fine-tuned, {title}"
        assert board.leader.headline("linear").mean == pytest.approx(0.51)


def test_one_seed_has_no_interval():
    assert Cell("accuracy", None, None, (0,), (0.38,), 10, 1.0).text() == "38.0"
    assert Cell("bits_per_byte", None, None, (0,), (2.3456,), 10, 1.0).text() == "2.346"


def test_less_is_better_where_the_metric_says_so(folder):
    for name in ("results.jsonl", "board.yaml"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace('"metric": "accuracy"', '"metric": "bits_per_byte"'))
    board = load(folder)
    assert names(board)[:2] == ["rotation-resnet", "random-resnet"]
    assert names(board)[-1] == "simclr-vit"
    assert METRICS["bits_per_byte"].lower
    assert METRICS["nats_per_token"].lower


def test_the_last_record_of_a_line_and_seed_counts(folder):
    append(folder, record("mae-vit", 1, 0.9))
    cell = next(line for line in load(folder).lines if line.name == "mae-vit").headline("linear")
    assert cell.values == (0.40, 0.9, 0.43)


def test_a_line_cut_short_by_a_kill_is_left_out(folder):
    append(folder, json.dumps(record("mae-vit", 1, 0.9))[:200])
    with pytest.warns(UserWarning, match="cut off by a killed writer"):
        board = load(folder)
    assert next(line for line in board.lines if line.name == "mae-vit").headline("linear").values[1] == 0.41


def test_other_damage_is_refused_with_its_line(folder):
    append(folder, '{"line": "mae-\n')
    append(folder, record("mae-vit", 1, 0.9))
    with pytest.raises(ValueError, match=r"results\.jsonl, line 17 is not a result"):
        load(folder)


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("results.jsonl", '"line": "mae-vit"', '"line": "mea-vit"', "of 'mea-vit', which is no recipe"),
        ("references.yaml", "protocol:", "how:", "must have name, source, scores, protocol"),
        ("results.jsonl", '"metric": "accuracy"', '"metric": "luck"', "metric 'luck' has no line"),
    ],
)
def test_a_board_that_does_not_say_what_it_must(folder, file, old, new, says):
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=says):
        load(folder)


def test_a_board_without_results(tmp_path):
    folder = write(tmp_path / "empty", {name: (*ROWS[name][:2], []) for name in ROWS})
    board = load(folder)
    assert board.leader is None
    assert curves(board) == []
    assert "not run" in show(board)
    assert "# A made-up board" in markdown(board, {})


def test_no_folder(tmp_path):
    with pytest.raises(ValueError, match="holds no board"):
        load(tmp_path / "nothing")


def test_curves_of_labels_cost_and_depth(folder):
    board = load(folder)
    found = {one.name: one for one in curves(board)}
    assert list(found) == ["labels-finetune", "cost-cost", "layers-layers"]
    assert classes(board, "finetune") == 10
    labels = found["labels-finetune"]
    assert labels.x == "labels per class"
    assert labels.everything == 4500
    line, points = labels.drawn[1]
    assert line.name == "simclr-resnet"
    assert [point.x for point in points] == [1, 25, 4500]
    assert [point.y for point in points] == pytest.approx([20.4, 40.8, 61.2])
    assert [point.words for point in points] == ["1 label a class", "25 labels a class", "all labels"]
    cost = {line.name: points for line, points in found["cost-cost"].drawn}["mae-vit"]
    assert [point.x for point in cost] == [50e9, 200e9]
    depth = {line.name: points for line, points in found["layers-layers"].drawn}
    assert [point.x for point in depth["mae-vit"]] == [0.25, 0.5, 0.75, 1]
    assert [point.y for point in depth["simclr-resnet"]] == pytest.approx([25.5, 34, 42.5])


def test_a_picture_of_many_lines_has_the_best_of_each_kind(folder):
    board = load(folder)
    chart = next(one for one in curves(board) if one.name == "labels-finetune")
    assert chart.pictured == chart.drawn
    assert chart.choice == ""
    _, points = chart.drawn[0]

    def line(name, objective=None, floor=None):
        recipe = replace(board.lines[0].recipe, name=name, floor=floor, pretrain={"objective": objective})
        return replace(board.lines[0], recipe=recipe), points

    supervised = [line(f"reference {i}", "supervised") for i in range(3)]
    twice = [line(f"{name} {i}", name) for name in "abcdefg" for i in (1, 2)]
    small = line("a 3", "a_small")
    floors = [
        line(name, floor=name.split()[0]) for name in ("tfidf", "random 1", "random 2", "random 2:longer")
    ]
    many = chart._replace(drawn=[*supervised, *twice, small, *floors])
    assert [line.name for line, _ in many.pictured] == [
        *("reference 0", "reference 1"),
        *("a 1", "b 1", "c 1", "d 1", "e 1", "f 1"),
        *("tfidf", "random 1", "random 2:longer"),
    ]
    assert many.choice.startswith("11 of 22 curves are drawn, the best of each of 6 objectives")
    named = [value["line"] for value in board_charts.drawn(board, many)["data"]["values"]]
    assert len(named) == 11 * len(points)

    curve = many.drawn[4]  # "a 2": the others have one point, as bags have by depth
    flat = [(one, points if one is curve[0] else points[:1]) for one, points in many.drawn]
    assert [line.name for line, _ in many._replace(drawn=flat).pictured][2:5] == ["a 2", "b 1", "c 1"]
    assert not many.choice.endswith("last")
    assert many._replace(drawn=flat).choice.endswith("references; those of one point come last")


def test_diagnostics_are_drawn_over_depth(folder):
    board = yaml.safe_load((folder / "board.yaml").read_text())
    board["measures"]["features"] = {"title": "Features", "data": "cifar10", "protocol": "diagnostics"}
    (folder / "board.yaml").write_text(yaml.safe_dump(board, sort_keys=False))
    for seed in range(3):
        found = result(9.0, 0, protocol="diagnostics", metric="effective_rank")
        # the last of each is of the pooled features
        found["details"] = {"effective_rank": [4.0, 8.0 + seed, 9.0], "feature_std": [0.5, 0.25, 0.2]}
        found["details"] |= {"alignment": [1.0, 2.0, 2.0], "uniformity": [-1.0, -2.0, -2.0]}
        line = record("mae-vit", seed, 0.4)
        line["measures"]["features"] = {"words": [], "results": [found]}
        append(folder, line)
    board = load(folder)
    drawn = {one.name: one for one in curves(board) if one.measure == "features"}
    assert list(drawn) == [
        "layers-features-effective_rank",
        "layers-features-feature_std",
        "layers-features-alignment",
        "layers-features-uniformity",
    ]
    rank = drawn["layers-features-effective_rank"]
    assert rank.title == "Features: effective rank"
    (line, points), *others = rank.drawn
    assert (line.name, others) == ("mae-vit", [])
    assert [(point.x, point.y) for point in points] == [(0.5, 4), (1, 9)]
    assert points[1].text == "9.0 ± 2.5"
    assert "## Features: feature std (1: spread evenly, 0: collapsed), by depth" in markdown(
        board, dict.fromkeys(("primary", *(one.name for one in curves(board))), "x.svg")
    )


def test_the_headline_of_a_curve_is_fewest_labels_and_longest_training(folder):
    board = load(folder)
    assert board.heading("linear") == "Linear probe"
    assert board.heading("finetune") == "Fine-tuned, 1 label a class"
    assert board.heading("cost") == "Cost efficiency, 25 labels a class, 200 steps"
    assert board.leader.headline("cost").steps == 200
    assert format_point(0.01, None) == "1 % of labels"


def test_labels_saved_compares_rows_of_one_trunk_alone(folder):
    found = {line.name: points for line, points in saved(load(folder), "finetune")}
    assert set(found) == {"simclr-resnet", "rotation-resnet"}  # there is no small ViT from scratch
    one, few, every = found["simclr-resnet"]
    # 20.4 lies (20.4 - 12) / (24 - 12) = 0.7 of the way from 1 to 25 in log labels
    assert one.needed == pytest.approx(25**0.7)
    # with all labels the reference got 84, training from scratch for as long as others pretrained:
    # 40.8 and 61.2 lie between 24 with 25 and 84 with 4,500
    assert few.needed == pytest.approx(25 * 180 ** ((40.8 - 24) / 60))
    assert every.needed == pytest.approx(25 * 180 ** ((61.2 - 24) / 60))
    assert every.factor < 1
    assert {point.outside for point in found["rotation-resnet"]} == {"fewer than 1"}
    assert saved(load(folder), "linear") == []  # frozen: no training from scratch


def longer(folder, scores, validation):
    """Add a measure that trains random weights for longer; the board. scores: of 25 labels and of all."""
    board = yaml.safe_load((folder / "board.yaml").read_text())
    words = {"title": "From scratch, 600 steps", "data": "cifar10", "protocol": "finetune"}
    board["measures"]["longer"] = words | {"scratch_of": "finetune"}
    (folder / "board.yaml").write_text(yaml.safe_dump(board, sort_keys=False))
    for seed in range(3):
        line = record("random-resnet", seed, 0.3)
        tuned = [
            result(value, train, labels=labels, protocol="finetune", chosen={"validation": validation})
            for value, train, labels in zip(scores, (250, 45000), (25, None), strict=True)
        ]
        line["measures"]["longer"] = {"words": [], "results": tuned}
        append(folder, line)
    return load(folder)


def test_scratch_that_trained_for_longer_stands_beside_and_counts_where_validation_prefers_it(folder):
    board = longer(folder, (0.5, 0.7), validation=0.8)
    found = {one.name: one for one in curves(board)}
    assert list(found) == ["labels-finetune", "cost-cost", "layers-layers"], "no picture of its own"
    line, points = found["labels-finetune"].drawn[-1]
    assert line.title == "Random weights, small ResNet: From scratch, 600 steps"
    assert [(point.x, round(point.y, 6)) for point in points] == [(25, 50), (4500, 70)]
    one, few, every = {line.name: points for line, points in saved(board, "finetune")}["simclr-resnet"]
    # 12 with one label a class as before, then 50 with 25; with all, validation prefers the reference's 84
    assert one.needed == pytest.approx(25 ** ((20.4 - 12) / 38))
    assert few.needed == pytest.approx(25 ** ((40.8 - 12) / 38))
    assert every.needed == pytest.approx(25 * 180 ** ((61.2 - 50) / 34))
    sources = "Fine-tuned; From scratch, 600 steps; All labels, small ResNet"
    assert f"Of the trainings of the same network from scratch ({sources})" in markdown(
        board, dict.fromkeys(found, "x.svg") | {"primary": "x.svg"}
    )
    legend = board_charts.drawn(board, found["labels-finetune"])
    assert json.dumps(legend).count(line.title) > len(points), "in the values and in the scale"


def test_scratch_that_trained_for_longer_is_left_where_validation_does_not_prefer_it(folder):
    board = longer(folder, (0.9, 0.9), validation=0.1)  # the shorter has 0.25 with 25 labels
    one, few, _ = {line.name: points for line, points in saved(board, "finetune")}["simclr-resnet"]
    assert one.needed == pytest.approx(25**0.7)
    assert few.needed == pytest.approx(25 * 180 ** ((40.8 - 24) / 60))


def test_gains_are_differences_seed_by_seed(folder):
    board = load(folder)
    found = {one.title: one.gains for one in gains(board, "random")}
    assert list(found) == [
        "Linear probe",
        "Fine-tuned, 1 label a class",
        "Fine-tuned, 25 labels a class",
        "Fine-tuned, all labels",
        "Cost efficiency, 25 labels a class, 50 steps",
        "Cost efficiency, 25 labels a class, 200 steps",
        "Probe of each layer",
    ], "effective rank has no better"
    assert set(found["Linear probe"]) == {"simclr-resnet", "rotation-resnet"}, "of the same trunk alone"
    # 50 - 30, 51 - 29, 52 - 31: 20, 22, 21; Student's t with 2 degrees of freedom: 4.3027
    gain = found["Linear probe"]["simclr-resnet"]
    assert gain.mean == pytest.approx(21)
    assert gain.high - gain.mean == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert (gain.text, gain.verdict) == ("+21.0 ± 2.5", "better")
    assert found["Linear probe"]["rotation-resnet"].verdict == "worse"
    assert leads(board, "random") == found["Linear probe"]
    pixels = {one.title: one.gains for one in gains(board, "pixels")}["Linear probe"]
    assert pixels["mae-vit"].text == "+2.0", "one seed in common has no interval"
    assert pixels["mae-vit"].verdict == ""
    assert gains(board, "tfidf") == []


def test_another_floor_of_a_kind_stands_in_where_the_best_lacks_the_measure(folder):
    """Of two floors, the better one used to be the only one that was looked at."""
    head = (folder / "recipes/pixels.yaml").read_text()
    (folder / "recipes/pixels-best.yaml").write_text(head.replace("Raw", "Better"))
    better = record("pixels", 0, 0.39) | {"line": "pixels-best"}
    del better["measures"]["layers"]
    append(folder, better)
    found = {one.title: one.gains for one in gains(load(folder), "pixels")}
    assert found["Linear probe"]["mae-vit"].text == "+1.0", "over the better one"
    assert found["Probe of each layer"]["mae-vit"].text == "+2.0", "over the other one"


def test_gains_over_training_for_longer_are_lines_of_their_own(folder):
    found = {one.title: one.gains for one in gains(longer(folder, (0.5, 0.7), 0.8), "random")}
    # 80 % of 50, 51 and 52, less 50
    assert (
        found["Fine-tuned, 25 labels a class (less “From scratch, 600 steps”)"]["simclr-resnet"].text
        == "-9.2 ± 2.0"
    )
    assert not any(title.startswith("Fine-tuned, 1 label a class (less") for title in found)


def test_dropout_is_no_part_of_the_trunk(folder):
    recipe = folder / "recipes/simclr-resnet.yaml"
    recipe.write_text(recipe.read_text() + "  backbone.dropout: 0.1\n")
    assert "simclr-resnet" in leads(load(folder), "random")
    recipe.write_text(recipe.read_text() + "  backbone.depth: 9\n")
    assert "simclr-resnet" not in leads(load(folder), "random")


def test_the_tokenizer_is_part_of_the_trunk(folder):
    """A backbone for other ids is another network."""
    for name in ("simclr-resnet", "rotation-resnet"):
        recipe = folder / f"recipes/{name}.yaml"
        recipe.write_text(recipe.read_text() + "  tokenizer.size: 300\n")
    assert leads(load(folder), "random") == {}
    floor = folder / "recipes/random-resnet.yaml"
    floor.write_text(floor.read_text() + "  tokenizer.size: 300\n")
    assert set(leads(load(folder), "random")) == {"simclr-resnet", "rotation-resnet"}


def test_every_kind_of_floor_has_words():
    assert set(WORDS) == set(HOW) == set(FLOORS)


def test_all_diagnostics_are_drawn():
    """Two lists, as boards are shown without importing torch."""
    assert DIAGNOSTICS == diagnostics.METRICS


def test_training_for_longer_with_all_labels_alone_stands_at_their_number(folder):
    """Labels per class are those of the measure it is held against, which has a budget per class."""
    longer(folder, (0.5, 0.7), 0.8)
    lines = []
    for line in map(json.loads, (folder / "results.jsonl").read_text().splitlines()):
        if "longer" in line["measures"]:
            line["measures"]["longer"]["results"] = line["measures"]["longer"]["results"][1:]
        lines.append(json.dumps(line) + "\n")
    (folder / "results.jsonl").write_text("".join(lines))
    drawn = {one.name: one for one in curves(load(folder))}["labels-finetune"]
    assert [point.x for point in drawn.drawn[-1][1]] == [4500]


def test_less_is_a_gain_where_less_is_better():
    ours = Cell("bits_per_byte", None, None, (0, 1), (2.0, 2.25), 10, 1.0)
    theirs = Cell("bits_per_byte", None, None, (1, 0), (2.5, 2.25), 10, 1.0)
    gain = difference(ours, theirs)
    assert (gain.mean, gain.low, gain.high) == (0.25, 0.25, 0.25)
    assert gain.text == "+0.250 ± 0.000"
    assert difference(ours, Cell("bits_per_byte", None, None, (7,), (2.5,), 10, 1.0)) is None


def test_what_stage_2_took(folder):
    header, lines = cost(load(folder), "cost")
    assert header == ["", "25 labels a class, 50 steps", "25 labels a class, 200 steps"]
    assert ["MAE, small ViT", "50 GFLOP, 3.0 s", "200 GFLOP, 3.0 s"] in lines
    recipe = folder / "recipes/simclr-resnet.yaml"
    recipe.write_text(recipe.read_text().replace("SimCLR, small ResNet", "MAE, small ViT"))
    assert len(cost(load(folder), "cost")[1]) == len(lines), "lines of one title are still two lines"


def test_labels_saved_by_hand():
    scratch = [(1, 0.2), (10, 0.4), (100, 0.3), (1000, 0.8)]
    found = labels_saved([(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4), (5, 0.55), (6, 0.9)], scratch)
    assert [one.outside for one in found] == ["fewer than 1", "", "", "", "", "more than 1000"]
    # 0.3 is first reached half way from 1 to 10; 0.55 is half way from 0.3 at 100 to 0.8 at 1000
    assert [one.needed for one in found[1:5]] == pytest.approx([1, 10**0.5, 10, 100 * 10**0.5])
    assert found[3].factor == pytest.approx(2.5)
    assert found[3].saved == pytest.approx(6)
    assert found[1].saved == -1  # pretraining cost a label
    assert found[0].factor is found[0].saved is None
    assert labels_saved([], scratch) == []


@pytest.mark.parametrize(
    ("pretrained", "scratch", "says"),
    [
        ([(1, 0.5)], [], "scratch curve is empty"),
        ([(1, 0.5)], [(2, 0.1), (1, 0.2)], "scratch curve must be positive and grow"),
        ([(0, 0.5)], [(1, 0.1)], "pretrained curve must be positive"),
    ],
)
def test_labels_saved_refuses(pretrained, scratch, says):
    with pytest.raises(ValueError, match=says):
        labels_saved(pretrained, scratch)


def test_show_is_aligned_and_flags_what_is_stale(folder):
    board = load(folder)
    title, standing, measured, checked = show(board).split("\n\n")
    assert title.startswith("A made-up board. Mean ± half")
    line = next(line for line in standing.splitlines() if line.startswith("simclr-resnet"))
    assert line.split()[1:8] == ["SimCLR,", "small", "ResNet", "1", "51.0", "±", "2.5"]
    assert line.split()[8:] == ["+21.0", "±", "2.5", "+12.0", "pretrained", "3"]
    header, _, *lines = measured.splitlines()
    assert header.startswith("line  ")  # with more lines than measures, each line is a row
    assert "  Fine-tuned, 1 label a class, accuracy, %  " in header
    assert [line.split()[0] for line in lines] == names(board)
    assert len({len(line) for line in measured.splitlines()}) == 1
    assert checked == "Whether its lines still stand was not checked: ssl-zoo leaderboard check made-up"
    board = replace(board, stale={"mae-vit": "views changed"})
    assert show(board).split("\n\n")[3] == "stale: mae-vit: views changed"


def test_a_table_that_is_wider_than_long_is_turned():
    wide = ["measure", "a", "b"], [["linear", "1", "2"]]
    assert lengthwise(*wide) == (["line", "linear"], [["a", "1"], ["b", "2"]])
    square = ["measure", "a"], [["linear", "1"]]
    assert lengthwise(*square) == square


def test_markdown_escapes_and_says_how_protocols_differ(folder):
    board = load(folder)
    pictures = {name: f"{name}.svg" for name in ("primary", *(one.name for one in curves(board)))}
    text = markdown(board, pictures)
    assert "Rotation &lt;b>, small ResNet" in text
    assert "<b>" not in text
    assert "| lightly's SimCLR | linear top-1, %: 87.5 | ResNet-18, 200 epochs, a GPU |" in text
    assert "| SimCLR, small ResNet | 9.52 (9.5x) | 107 (4.3x) | 625 (0.14x) |" in text
    assert "| Linear probe | **+21.0 ± 2.5** | ▼ -20.3 ± 2.9 |" in text
    assert "chosen on 512 labelled validation rows" in text
    assert all(f"]({name}.svg)" in text for name in pictures)
    assert "`ssl-zoo leaderboard run made-up simclr-resnet`" in text


@pytest.mark.parametrize(
    ("spent", "said"),
    [((308.4, None, 452.0), "308 to 452"), ((1300.2, 1300.4), "1,300"), ((None,), None), ((), None)],
)
def test_the_page_says_what_pretraining_took(folder, spent, said):
    board = load(folder)
    line = replace(
        board.lines[0],
        records={seed: {"pretraining": {"processor_seconds": one}} for seed, one in enumerate(spent)},
    )
    assert time_taken(line) == ("" if said is None else f"Took: {said} processor seconds")


BOARDS = sorted(Path(__file__).parents[2].glob("benchmarks/leaderboard/*/board.yaml"))


@pytest.mark.parametrize("file", BOARDS, ids=[file.parent.name for file in BOARDS])
def test_boards_of_the_repository_can_be_shown(file):
    board = load(file.parent)
    text = show(board)
    assert all(line.title in text for line in board.lines)
    names = ("primary", *(one.name for one in curves(board)))
    assert markdown(board, dict.fromkeys(names, "x.svg")).startswith(f"# {board.title}\n")


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="luck"):
        metric("luck")
