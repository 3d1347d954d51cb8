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


def test_the_demo_installs_what_it_needs_and_says_so_at_once(tmp_path):
    """Without the development tools; the first line comes before anything is installed, and names it."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(REPOSITORY / name, tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    planned = subprocess.run(
        ["make", "--dry-run", "demo"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert planned[0].startswith('echo "make demo: ssl_zoo and the packages that it needs are installed')
    (install,) = [line for line in planned if "--editable" in line]
    assert "--quiet" in install
    assert "dev" not in install
    assert install.endswith("'.[cpu,pages,tensorboard]'")
    assert "source .venv/bin/activate" in planned[-1]
    verbs = subprocess.run(
        ["make", "demo", "PYTHON=false"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert verbs.returncode
    assert verbs.stdout.startswith("make demo: ssl_zoo and the packages"), (
        "said before the first command runs"
    )
