"""Pieces of an answer are done once."""

import pytest

from ssl_zoo.trial.diary import Diary, OtherQuestion


def test_a_piece_is_done_once_over_sessions(tmp_path):
    calls = []

    def work():
        calls.append(1)
        return {"found": 3}

    first = Diary(tmp_path, {"minutes": 30}).piece("a", work, ())
    again = Diary(tmp_path, {"minutes": 30})
    assert again.piece("a", work, ()) == first
    assert len(calls) == 1
    assert again.seconds == first["seconds"]


def test_an_expected_error_is_a_result_and_another_one_is_none(tmp_path):
    def bad():
        raise ValueError("no such thing")

    diary = Diary(tmp_path, {})
    assert diary.piece("a", bad, (ValueError,))["failed"] == "no such thing"
    with pytest.raises(ValueError, match="no such thing"):
        diary.piece("b", bad, (OSError,))
    assert set(Diary(tmp_path, {}).pieces) == {"a"}


def test_another_question_and_a_damaged_file_are_refused(tmp_path):
    Diary(tmp_path, {"minutes": 30, "labels": [5, 25]})
    with pytest.raises(OtherQuestion, match=r"minutes was 30, now 60.*out="):
        Diary(tmp_path, {"minutes": 60, "labels": [5, 25]})
    (tmp_path / "worth.json").write_text("{")
    with pytest.raises(OtherQuestion, match="damaged"):
        Diary(tmp_path, {"minutes": 30, "labels": [5, 25]})
