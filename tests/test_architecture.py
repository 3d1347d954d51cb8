"""docs/architecture.md is what its script writes, and the rooms of the house form no ring."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SCRIPT = REPOSITORY / "docs/architecture.py"


def test_the_page_is_what_the_script_writes(tmp_path):
    again = tmp_path / "architecture.md"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(again)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert again.read_text() == SCRIPT.with_suffix(".md").read_text(), "run python docs/architecture.py"


def test_arrows_that_follow_from_others_are_left_out_and_a_ring_is_named():
    reduced = runpy.run_path(str(SCRIPT))["reduced"]
    assert reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}
    with pytest.raises(ValueError, match="a -> b -> a"):
        reduced({"a": {"b"}, "b": {"a"}})
