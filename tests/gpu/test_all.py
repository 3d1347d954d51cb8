"""Thirty minutes of a GPU, tried out on a CPU: what runs there is what would run on the card.

`make tiny` runs all stages, here `make slow` looks at what they leave.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ALL = [sys.executable, "benchmarks/gpu/all.py"]


def called(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ALL, *words], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=850
    )


@pytest.mark.slow
def test_every_stage_runs_small_and_once(tmp_path):
    words = ("--tiny", "--out", str(tmp_path))
    first = called(*words, "--minutes", "14")
    assert first.returncode == 0, first.stdout + first.stderr
    stages = json.loads((tmp_path / "results.json").read_text())["stages"]
    found = {name: kept["found"] for name, kept in stages.items()}
    assert found["tests"]["failed"] == []
    assert found["tests"]["passed"] > 15
    assert found["speed-next_token"]["tokens_per_second"][0] > 0
    assert set(found["speed-dino"]["rates"]) == {"ssl_zoo", "lightly, 0 workers"}
    assert set(found["speed-masked_lm"]["rates"]) == {"ssl_zoo", "transformers"}
    assert found["speed-speedrun"]["minutes"] > 0
    assert set(found["speed-views"]["rates"]) == {"32", "96", "224"}
    assert found["shakespeare"]["steps"] == 2
    assert [name for name in stages if name.startswith("cifar10-resnet18-")] == ["cifar10-resnet18-vicreg"]
    assert 0 < found["cifar10-resnet18-vicreg"]["measures"]["linear"][0] < 1
    again = called(*words)  # nothing is run twice
    assert again.returncode == 0
    assert again.stdout.count("done before") == len(stages)


def test_results_of_another_machine_are_not_mixed_and_no_time_is_said(tmp_path):
    (tmp_path / "results.json").write_text('{"card": "NVIDIA X", "stages": {}}')
    mixed = called("--tiny", "--out", str(tmp_path))
    assert mixed.returncode == 1
    assert "is of NVIDIA X, and this is" in mixed.stderr
    late = called("--tiny", "--out", str(tmp_path / "late"), "--minutes", "-1", "--only", "speed-views")
    assert "speed-views        left for later: it may take 60 s" in late.stdout
