"""Thirty minutes of a GPU, tried out on a CPU: what runs there is what would run on the card."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
ALL = [sys.executable, "benchmarks/gpu/all.py"]


def called(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ALL, *words], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=850
    )


OF_EACH_KIND = ("tests", "speed-next_token", "cifar10-resnet18-vicreg")


def tried(folder: Path, *words: str) -> dict[str, Any]:
    """What is kept of each stage, which a second call does not run again."""
    words = ("--tiny", "--out", str(folder), *words)
    first = called(*words, "--minutes", "14")
    assert first.returncode == 0, first.stdout + first.stderr
    stages = json.loads((folder / "results.json").read_text())["stages"]
    assert stages["tests"]["found"]["failed"] == []
    assert stages["tests"]["found"]["passed"] > 15
    assert stages["speed-next_token"]["found"]["tokens_per_second"][0] > 0
    for name, kept in stages.items():
        assert kept["code"] == 0, name
    assert 0 < stages["cifar10-resnet18-vicreg"]["found"]["measures"]["linear"][0] < 1
    again = called(*words)
    assert again.returncode == 0
    assert again.stdout.count("done before") == len(stages)
    return stages


def test_a_stage_of_each_kind_runs_small_and_once(tmp_path):
    assert set(tried(tmp_path, "--only", *OF_EACH_KIND)) == set(OF_EACH_KIND)


@pytest.mark.slow
def test_every_stage_runs_small_and_once(tmp_path):
    stages = tried(tmp_path)
    assert set(stages["speed-dino"]["found"]["rates"]) == {"ssl_zoo", "lightly, 0 workers"}
    masked = stages["speed-masked_lm"]["found"]["rates"]
    assert set(masked) == {"ssl_zoo", "transformers"}
    assert stages["speed-speedrun"]["found"]["minutes"] > 0
    assert set(stages["speed-views"]["found"]["rates"]) == {"32", "96", "224"}
    assert stages["shakespeare"]["found"]["steps"] == 2
    assert [name for name in stages if name.startswith("cifar10-resnet18-")] == ["cifar10-resnet18-vicreg"]


def test_results_of_another_machine_are_not_mixed_and_no_time_is_said(tmp_path):
    (tmp_path / "results.json").write_text('{"card": "NVIDIA X", "stages": {}}')
    mixed = called("--tiny", "--out", str(tmp_path))
    assert mixed.returncode == 1
    assert "is of NVIDIA X, and this is" in mixed.stderr
    late = called("--tiny", "--out", str(tmp_path / "late"), "--minutes", "-1", "--only", "speed-views")
    assert "speed-views        left for later: it may take 60 s" in late.stdout
