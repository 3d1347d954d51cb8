"""Which ways of pretraining are tried: those of the boards, in the order of their figures."""

import pytest

from ssl_zoo.leaderboard.board import BoardError
from ssl_zoo.leaderboard.find import find
from ssl_zoo.leaderboard.standings import standings
from ssl_zoo.trial.lines import BOARDS, best, by_name, count, of_board, score


def test_more_time_tries_more_ways():
    assert [count(minutes) for minutes in (1, 9.9, 10, 44, 45, 600)] == [2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("modality", ["image", "text"])
def test_the_best_of_a_board_come_first_each_with_another_objective(modality):
    found = best(modality, 3)
    assert len(found) == 3
    board = standings(find(BOARDS[modality]))
    lines = {line.name: line for line in board.lines}
    ranked = [lines[one.name] for one in found]
    scores = [score(line, board.primary) for line in ranked]
    assert scores == sorted(scores, reverse=True)
    assert all(line.role == "pretrained" for line in ranked)
    objectives = [line.recipe.pretrain["objective"] for line in ranked]
    assert len(set(objectives)) == len(objectives)
    others = [line for line in board.lines if line.role == "pretrained" and line.records]
    assert scores[0] == max(score(line, board.primary) for line in others)


def test_a_line_keeps_its_recipe_and_leaves_the_boards_data_and_time():
    words = of_board(find("cifar10-small"), "simclr-resnet").words
    assert {"objective=simclr_small", "backbone=resnet_micro", "batch_size=256"} <= set(words)
    assert not [word for word in words if word.startswith(("data=", "budget", "threads", "trainer"))]
    text = of_board(find("text-small"), "next_token").words
    assert "tokenizer.size=4096" in text


def test_names_that_are_not_there_are_told():
    with pytest.raises(BoardError, match="did you mean 'simclr-resnet'"):
        by_name("cifar10-small/simclr-resne")
    with pytest.raises(BoardError, match="is a floor"):
        by_name("cifar10-small/pixels")
