"""What is shown while something takes long: when a line is due, and what it says of the time that is left."""

import re

import numpy as np
import pytest
import torch

import ssl_zoo
from ssl_zoo import pace
from ssl_zoo.messages import heard_by


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [100.0]
    monkeypatch.setattr(pace.time, "perf_counter", lambda: now[0])
    return now


def test_a_line_is_due_soon_and_then_every_ten_seconds(clock):
    one = pace.Pace()
    due = []
    for second in range(31):
        clock[0] = 100.0 + second
        if one.due():
            due.append(second)
    assert due == [3, 13, 23]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-2, "0 s left"),
        (8.4, "8 s left"),
        (59.6, "1 min 0 s left"),
        (125, "2 min 5 s left"),
        (12000, "3 h 20 min left"),
    ],
)
def test_time_left_in_words(seconds, text):
    assert pace.left(seconds) == text


def test_lines_of_steps_with_the_time_that_is_left(clock):
    lines = []
    with heard_by(lines.append), pace.Progress("fine-tuning", 40) as progress:
        for step in range(40):
            clock[0] = 100.0 + step  # a second a step
            progress.step(torch.tensor(2.0 - step / 100))
    assert lines == [
        "fine-tuning: step 4 of 40, loss 1.97, 27 s left",
        "fine-tuning: step 14 of 40, loss 1.87, 24 s left",
        "fine-tuning: step 24 of 40, loss 1.77, 15 s left",
        "fine-tuning: step 34 of 40, loss 1.67, 6 s left",
    ]


def meter(tmp_path, **options):
    """The lines of a run that are about steps."""
    lines = []
    ssl_zoo.pretrain(
        "rotation", backbone="resnet_micro", data="digits", batch_size=8, evaluate_every=0, trainer="cpu",
        out=tmp_path / "run", progress=lines.append, **options,
    )  # fmt: skip
    return [line for line in lines if re.match(r"step [\d,]+  loss", line)]


def test_pretraining_says_every_step_where_steps_are_slow(tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "SOON", 0.0)
    monkeypatch.setattr(pace, "EVERY", 0.0)
    lines = meter(tmp_path, steps=4)
    assert [line.split()[1] for line in lines] == ["1", "2", "3", "4"]
    assert all(re.search(r"images/s.*  \d+ s left$", line) for line in lines[:3])
    assert "left" not in lines[3]


def test_pretraining_says_its_last_step_where_all_is_quick(tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "SOON", 1e9)
    assert [line.split()[1] for line in meter(tmp_path, steps=4)] == ["4"]
    assert meter(tmp_path / "b", steps=4, log_every=0) == []


def test_minutes_that_are_left_are_those_of_the_clock(tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "SOON", 0.0)
    monkeypatch.setattr(pace, "EVERY", 0.0)
    lines = meter(tmp_path, minutes=0.05)
    left = [int(re.search(r"(\d+) s left", line)[1]) for line in lines if "left" in line]
    assert left
    assert max(left) <= 3
    assert np.all(np.diff(left) <= 0)
