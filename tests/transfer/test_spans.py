"""Spans that tags mark, and F1 of them, beside values worked out by hand."""

import numpy as np
import pytest
import torch

from ssl_zoo.transfer.tasks.spans import spans
from ssl_zoo.transfer.tasks.tags import Tagged, Tags


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ("", []),
        ("O O", []),
        ("B-P I-P O B-L", [(0, 2, "P"), (3, 4, "L")]),
        ("B-P B-P", [(0, 1, "P"), (1, 2, "P")]),
        ("I-P I-P O", [(0, 2, "P")]),  # IOB1: I begins one as well
        ("B-P I-L I-L", [(0, 1, "P"), (1, 3, "L")]),
        ("O I-L B-L I-L", [(1, 2, "L"), (2, 4, "L")]),
        ("B-P I-P E-P S-L O", [(0, 3, "P"), (3, 4, "L")]),  # BIOES
        ("B-P L-P U-L I-L", [(0, 2, "P"), (2, 3, "L"), (3, 4, "L")]),  # BILOU
        ("B-A-1 I-A-1", [(0, 2, "A-1")]),
        ("NN VB B- X-P", []),  # of a part of speech, and no spans
    ],
)
def test_spans(tags, wanted):
    assert sorted(map(tuple, spans(tags.split()))) == wanted


def numbers(goal, tags):
    """What a head gives that is sure of these tags: (n, C)."""
    return torch.stack([torch.eye(goal.width)[goal.classes.index(tag)] for tag in tags.split()])


def test_f1_of_whole_spans_is_that_of_hand_worked_values():
    goal = Tags(("B-L", "B-P", "I-P", "O"))
    truth = ["B-P I-P O B-L", "O B-L B-P", "O O"]
    told = ["B-P O O B-L", "O B-L B-P", "B-L O"]  # an end is wrong, all is right, one too many
    places = [np.arange(len(one.split())) for one in truth]
    y = [
        (at, np.array([goal.classes.index(t) for t in one.split()]))
        for at, one in zip(places, truth, strict=True)
    ]
    found = goal.scores([numbers(goal, one) for one in told], y)
    assert list(found) == ["entity F1", "token accuracy"] == [goal.metric, "token accuracy"]
    # right: L, L and P; told: P, L, L, P, L; true: P, L, L, P: precision 3/5, recall 3/4
    assert found["entity F1"].value == pytest.approx(2 * 0.6 * 0.75 / 1.35)
    assert found["token accuracy"].value == pytest.approx(7 / 9)
    low, high = found["entity F1"].interval
    assert 0 <= low < found["entity F1"].value < high <= 1


def test_words_that_were_not_read_are_outside():
    goal = Tags(("B-L", "O"))
    read, tags = np.array([0]), np.array([0, 0, 1])  # the second word, a place, was cut
    assert goal.names(numbers(goal, "B-L"), read, 3) == ("B-L", "O", "O")
    assert goal.counted(numbers(goal, "B-L"), read, tags) == (1, 1, 2, 2, 3)
    assert goal.names(torch.zeros(0, 2), np.zeros(0, np.int64), 2) == ("O", "O")


def test_tags_that_mark_no_spans_are_scored_word_by_word():
    goal = Tags(("DT", "NN"))
    found = goal.scores([numbers(goal, "DT NN")], [(np.arange(2), np.array([0, 0]))])
    assert goal.metric == "token accuracy"
    assert {name: one.value for name, one in found.items()} == {"token accuracy": 0.5}


def test_a_sentence_for_people_and_for_files():
    one = Tagged("f", 0, ("Anna", "Smith", "sleeps"), ("B-PER", "I-PER", "O"))
    assert one.text() == "Anna/B-PER Smith/I-PER sleeps"
    assert one.spans == [{"start": 0, "end": 2, "kind": "PER", "text": "Anna Smith"}]
