"""The Makefile's targets: each can be planned, from what there are rules for, and each has one rule."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
TARGETS = re.search(r"^\.PHONY: (.+)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)[1].split()


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_has_all_its_rules_once(target, tmp_path):
    """In a folder where nothing has been installed."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(REPOSITORY / name, tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--dry-run", "--warn-undefined-variables", target]
    planned = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert planned.returncode == 0, planned.stderr
    assert planned.stderr == "", "make warns of a second rule for a target, or of a variable without a value"
    assert planned.stdout.strip()


def test_the_files_that_targets_name_are_there():
    named = re.findall(r"tests/[\w/]+\.py", (REPOSITORY / "Makefile").read_text())
    assert named
    assert [file for file in named if not (REPOSITORY / file).is_file()] == []
