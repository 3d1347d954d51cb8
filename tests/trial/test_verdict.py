"""What figures say, by hand-worked values."""

import math

import pytest

from ssl_zoo.trial.verdict import Figure, Gain, amount, judge, said, standing, strongest


def figure(line, labels, values, validation, pretrained=True, how="linear probe", rows=1000):
    return Figure(line, how, pretrained, labels, tuple(values), validation, rows, 1.0)


def test_an_interval_adds_the_draws_of_labels_and_of_test_rows_in_squares():
    one = figure("a", 5, (0.4, 0.5, 0.6), 0.5)
    # Student's t with 2 degrees of freedom is 4.302653; the standard error is 0.1 / sqrt(3).
    drawn = 4.302653 * 0.1 / math.sqrt(3)
    rows = 1.959964 * math.sqrt(0.5 * 0.5 / 1000)
    assert one.mean == pytest.approx(0.5)
    assert one.half == pytest.approx(math.hypot(drawn, rows), rel=1e-5)
    single = figure("a", None, (0.8,), 0.8)
    assert single.half == pytest.approx(1.959964 * math.sqrt(0.16 / 1000))


def test_a_gain_pairs_the_draws():
    """The labels of a seed are the same for both: a difference that all seeds have is no chance."""
    gain = Gain(5, figure("a", 5, (0.5, 0.6, 0.7), 0.6), figure("b", 5, (0.4, 0.5, 0.6), 0.5, False))
    rows = 1.959964 * math.sqrt((0.6 * 0.4 + 0.5 * 0.5) / 1000)
    assert gain.mean == pytest.approx(0.1)
    assert gain.half == pytest.approx(rows)
    assert gain.sign == 1
    other = Gain(5, figure("a", 5, (0.5, 0.6, 0.7), 0.6), figure("b", 5, (0.5,), 0.5, False))
    assert other.half == pytest.approx(math.hypot(other.ours.half, other.floor.half))
    assert other.sign == 0
    assert Gain(5, other.floor, figure("c", 5, (0.9,), 0.9, False)).sign == -1


def test_the_winner_is_chosen_on_validation_and_never_on_test():
    figures = [
        figure("simclr", 5, (0.5,), 0.6),
        figure("rotation", 5, (0.9,), 0.5),
        figure("pixels", 5, (0.3,), 0.3, False),
        figure("scratch", 5, (0.8,), 0.2, False),
    ]
    verdict = judge(figures, 100.0)
    assert verdict.winner == "simclr"
    assert [(gain.ours.line, gain.floor.line) for gain in verdict.gains] == [("simclr", "pixels")]
    assert verdict.sentences[0] == "Pretraining is worth it here, at every number of labels: take simclr."
    assert "50.0 % instead of 30.0 % (pixels, linear probe), +20.0 ± " in verdict.sentences[1]


def test_ways_stand_in_the_order_of_their_best_reading_over_all_budgets():
    figures = [
        figure("a", 5, (0.1,), 0.5),
        figure("a", None, (0.1,), 0.7),
        figure("b", 5, (0.1,), 0.2),
        figure("b", 5, (0.1,), 0.6, how="fine-tuned"),
        figure("b", None, (0.1,), 0.7),
    ]
    assert standing(figures) == ["b", "a"]
    best = strongest(figures)
    assert [(labels, one.line, one.how) for labels, one in best.items()] == [
        (5, "b", "fine-tuned"),
        (None, "a", "linear probe"),
    ]


@pytest.mark.parametrize(
    ("ours", "floor", "head", "unclear"),
    [
        ((0.9, 0.2), (0.3, 0.8), "worth it with 5 labels a class, and costs accuracy with all labels", False),
        ((0.9, 0.8), (0.3, 0.8), "worth it with 5 labels a class: take way", True),
        (
            (0.3, 0.2),
            (0.8, 0.8),
            "not worth it in this time: way, the best way, is no better any",
            False,
        ),
        (
            (0.3, 0.2),
            (0.3, 0.8),
            "costs accuracy in this time with all labels, and makes no difference that can be told with 5 "
            "labels a class: way was the best way",
            True,
        ),
        ((0.3, 0.8), (0.3, 0.8), "No gain can be told from chance", True),
    ],
)
def test_the_recommendation_says_where_it_holds(ours, floor, head, unclear):
    figures = [
        figure(line, labels, (value,), value, pretrained)
        for line, values, pretrained in (("way", ours, True), ("pixels", floor, False))
        for labels, value in zip((5, None), values, strict=True)
    ]
    verdict = judge(figures, 100.0)
    assert head in verdict.sentences[0]
    assert any("interval holds 0" in one for one in verdict.sentences) == unclear


def test_labels_saved_are_read_off_the_floors_curve():
    figures = [
        figure("way", 10, (0.5,), 0.5),
        figure("way", None, (0.9,), 0.9),
        figure("pixels", 10, (0.4,), 0.4, False),
        figure("pixels", None, (0.6,), 0.6, False),
    ]
    first, last = judge(figures, 1000.0).saved
    # 50 % lies half-way from 40 % to 60 %, so at 10 * sqrt(1000 / 10) labels.
    assert first.needed == pytest.approx(100.0)
    assert last.outside == "more than 1000"


def test_a_small_test_split_is_said():
    figures = [figure("way", 5, (0.5,), 0.5, rows=100), figure("pixels", 5, (0.5,), 0.5, False, rows=100)]
    assert any("100 rows" in one and "10 points" in one for one in judge(figures, 50.0).sentences)


def test_nothing_is_said_of_nothing():
    assert judge([figure("pixels", 5, (0.5,), 0.5, False)], 50.0).winner is None


def test_budgets_in_words_and_in_order():
    assert [said(one) for one in (1, 5, 0.05, None)] == [
        "1 label a class",
        "5 labels a class",
        "5 % of the labels",
        "all labels",
    ]
    assert [amount(one, 200.0) for one in (5, 0.05, None)] == [5.0, 10.0, 200.0]
