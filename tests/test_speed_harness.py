"""The harness of benchmarks/speed: turns, failures, products counted by hand, and the report."""

import copy
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import speed_sides
import torch
from torch import nn

SPEED = Path(__file__).parents[1] / "benchmarks" / "speed"
sys.path.insert(0, str(SPEED))

from cases.minutes import Lookout, Watch  # noqa: E402
from duel import Case, Memory, Race, alone, play  # noqa: E402
from products import share  # noqa: E402
from report import MARKERS, plot, render, write  # noqa: E402
from run import run_case  # noqa: E402

README = "before\n" + "\nold\n".join(MARKERS) + "\nafter\n"


def case(sides, seconds=0.1) -> Case:
    return Case("a title", "pieces/s", "b", sides, 2.0, "all", "nothing", 1, seconds)


def test_sides_take_turns_and_the_warm_up_does_not_count(tmp_path):
    file = tmp_path / "diary"
    sides = {name: partial(speed_sides.diary, file, name, first) for name, first in (("a", 1.0), ("b", 0.0))}
    outcome = play(case(sides), rounds=2)
    turns = re.sub(r"(\w)(?:\n\1)*\n", r"\1", file.read_text())
    assert turns == "ababab"  # each alone for a window: the warm-up, and two rounds
    assert [len(rates) for rates in outcome.rates.values()] == [2, 2]
    assert min(outcome.rates["a"]) > 10  # the slow first piece would make it 1
    assert outcome.notes["a"]["peak_mib"] > 0


def test_a_side_that_fails_stops_all_and_shows_its_traceback(tmp_path):
    file = tmp_path / "diary"
    sides = {"a": partial(speed_sides.diary, file, "a", 0.0), "b": speed_sides.broken}
    with pytest.raises(RuntimeError, match=r"(?s)b: .*in broken.*KeyError: 'no such batch'"):
        play(case(sides), rounds=1)
    lines = file.read_text()
    time.sleep(0.3)
    assert file.read_text() == lines, "the other side still works"


def test_a_side_may_not_end_by_itself():
    with pytest.raises(RuntimeError, match="it ended before it was told to"):
        play(case({"a": speed_sides.finished}), rounds=1)


def test_what_is_weighed_runs_alone_and_says_so():
    sides = {"a": partial(speed_sides.weighed, 1.5), "b": partial(speed_sides.weighed, 6.0)}
    memory = Memory("a title", "MiB", "b", sides, 0.5, "all", "nothing", 1)
    notes = alone(memory)
    assert notes["a"]["mib"] == 1.5
    assert notes["b"]["threads"] == 1


def race(*sides: tuple[float, bool], bar: float = 3.0) -> dict:
    """The verdict on a race of sides a, b, c, ... of which c is an aside."""
    named = {name: partial(speed_sides.raced, *side) for name, side in zip("abc", sides, strict=False)}
    return run_case("race", Race("a title", "minutes", "b", named, bar, "all", "nothing", asides=("c",)), 1)


def test_a_race_divides_the_minutes_of_the_fastest_peer_by_ours():
    found = race((2.0, True), (9.0, True), (1.0, True))
    assert (found["kind"], found["peer"], found["ratio"], found["met"]) == ("race", "b", 4.5, True)
    assert not race((2.0, True), (5.0, True))["met"]  # 2.5 times as long


def test_a_race_that_ours_gives_up_is_lost():
    found = race((2.0, False), (9.0, True))
    assert found["ratio"] == 4.5
    assert not found["met"]


class Noting:
    """A gate that keeps what was noted, and whether it was called."""

    ended = False

    def note(self, **facts):
        self.noted = facts

    def __call__(self, units):
        self.ended = True


def looked(accuracies: dict[float, float], last: float, cap: float = 10.0) -> tuple[list[float], dict]:
    """When a lookout looks, steps being a second long, and what it notes; a look takes 1000 seconds.

    accuracies: second -> accuracy from then on. last: the second after which training is over.
    """
    clock, looks, gate = [0.0], [], Noting()
    watch = Watch(lambda: clock[0])

    def look() -> float:
        looks.append(watch.now() - watch.stood)
        clock[0] += 1000
        return [value for second, value in accuracies.items() if second <= looks[-1]][-1]

    lookout = Lookout(look, watch, gate, goal=0.5, cap=cap)
    while not gate.ended:
        clock[0] += 1
        lookout(256, last=watch.seconds() > last)
    return looks, gate.noted


def test_a_lookout_looks_seldom_and_the_clock_stands_still_meanwhile():
    looks, noted = looked({0: 0.1, 70: 0.6}, last=1e9)
    # Every 5 seconds until a tenth of the time is more: 51 + 5.1 comes at 57, 57 + 5.7 at 63, 69.3 at 70.
    assert looks == [1, 6, 11, 16, 21, 26, 31, 36, 41, 46, 51, 57, 63, 70]
    assert noted == {"minutes": 70 / 60, "accuracy": 0.6, "reached": True}


def test_a_lookout_gives_up_when_time_or_training_is_over():
    looks, noted = looked({0: 0.1}, last=1e9, cap=0.15)
    assert looks == [1, 6, 9]
    assert noted == {"minutes": 0.15, "accuracy": 0.1, "reached": False}
    looks, noted = looked({0: 0.1}, last=7)
    assert looks == [1, 6, 8]
    assert noted == {"minutes": 10.0, "accuracy": 0.1, "reached": False}
    _, noted = looked({0: 0.1, 8: 0.5}, last=7)
    assert noted == {"minutes": 8 / 60, "accuracy": 0.5, "reached": True}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_knows_its_age():
    program = "import time; from cases.minutes import age; time.sleep(0.3); print(age())"
    began = time.monotonic()
    said = subprocess.run([sys.executable, "-c", program], cwd=SPEED, capture_output=True, check=True).stdout
    assert 0.3 <= float(said) <= time.monotonic() - began + 0.02  # Linux counts in hundredths


def test_products_of_a_small_network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(8 * 16, 5))
    x, unfold = torch.randn(2, 3, 4, 4), 2 * (2 * 8 * 4 * 4) * (3 * 3 * 3)

    def step() -> None:
        network(x).sum().backward()

    step()
    found = share(step, repeats=2)
    linear = 2 * 2 * 128 * 5
    # Forward, the gradient of each weight, and of the linear layer's input: the images need none.
    assert found["gflop"] * 1e9 == pytest.approx(2 * unfold + 3 * linear)
    assert found["products_ms"] > 0
    assert found["share"] == pytest.approx(found["products_ms"] / found["step_ms"])


@pytest.fixture
def results():
    speed = {
        "title": "fast things", "unit": "images/s", "against": "another", "bar": 2.0, "same": "all of it",
        "differs": "the rest", "threads": 2, "asides": ["third"], "kind": "speed", "peer": "another",
        "ratio": 3.0, "ratios": [2.9, 3.0, 3.1], "met": True,
        "rates": {"ssl_zoo": [3000.0, 3100.0, 2900.0], "another": [1000.0] * 3, "third": [50.0] * 3},
        "notes": {"ssl_zoo": {"share": 0.42, "accuracy": 0.5}, "another": {}, "third": {}},
    }  # fmt: skip
    memory = {
        "title": "heavy things", "unit": "MiB", "against": "all", "bar": 0.25, "same": "a", "differs": "b",
        "threads": 1, "asides": [], "kind": "memory", "peer": "all", "ratio": 0.5, "met": False,
        "notes": {"ssl_zoo": {"mib": 50.0}, "all": {"mib": 100.0}},
    }  # fmt: skip
    race = {
        "title": "a long way", "unit": "minutes", "against": "slow", "bar": 3.0, "same": "a", "differs": "b",
        "threads": 1, "asides": [], "kind": "race", "peer": "slow", "ratio": 4.0, "met": True,
        "notes": {
            "ssl_zoo": {"minutes": 1.5, "accuracy": 0.37, "reached": True},
            "slow": {"minutes": 6.0, "accuracy": 0.31, "reached": False},
        },
    }  # fmt: skip
    curve = {"title": "reads", "x": "images", "unit": "images/s", "threads": 1, "seconds": 3}
    curve |= {"points": {"1000": 5000.0, "1000000": 4000.0}, "mib": {"1000": 7.0, "1000000": 8.0}}
    environment = {"hardware": "a machine", "python": "3.12", "versions": {"torch": "2.15"}}
    environment |= {"commit": "0123456789abcdef", "date": "2026-01-01", "data": "real", "slug": "a"}
    cases = {"fast": speed, "heavy": memory, "far": race}
    return {"environment": environment, "cases": cases, "growth": {"images": curve}, "seconds": 600}


def test_report_renders_what_the_file_says(results, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(README)
    write(readme, render(results, "results/a.svg"))
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    assert "3,000 (50.0 %)" in rows["fast"]
    assert "3.00x (2.90x - 3.10x) | ≥ 2x met | 42 %" in rows["fast"]
    assert "0.50x | ≤ 0.25x **MISSED**" in rows["heavy"]
    assert "| minutes | 1.5 (37.0 %) | > 6 (31.0 %), slow | > 4.00x | ≥ 3x met |" in rows["far"]
    assert "Besides: third 50 images/s" in text
    assert "| images/s | 5,000 | 4,000 |" in text
    plot(results, tmp_path / "a.svg")
    assert "<svg" in (tmp_path / "a.svg").read_text()


def test_report_says_missed_where_a_bar_of_speed_is_missed(results):
    slower = copy.deepcopy(results)
    slower["cases"]["fast"] |= {"ratio": 1.5, "met": False}
    assert "1.50x (2.90x - 3.10x) | ≥ 2x **MISSED**" in render(slower, "a.svg")
    assert "**MISSED**" not in render(results | {"cases": {"fast": results["cases"]["fast"]}}, "a.svg")
