"""The README's code runs as it is written."""

import re
import sys
import warnings
from pathlib import Path

import pytest

import ssl_zoo
from ssl_zoo.cli import check
from ssl_zoo.cli.verb import run_verb

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```(python|sh)\n(.*?)```", README, re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]


@pytest.fixture(autouse=True)
def elsewhere(cache, tmp_path, monkeypatch):
    """Nothing is written outside of a fresh folder, and imports from it are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSL_ZOO_CACHE", str(cache))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    yield
    sys.modules.pop("mine", None)


def test_python_blocks_run_one_after_the_other(tmp_path):
    *blocks, _ = PYTHON  # the last is a file
    names: dict = {}
    with warnings.catch_warnings():
        # Lightning's own advice, and its use of torch's pytree, are not the README's.
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*treespec.*")
        warnings.filterwarnings("ignore", message=".*a loader of your own.*")
        for code in blocks:
            exec(compile(code, "README.md", "exec"), names)
            if "EarlyStopping" in code:
                assert 1 < names["trainer"].current_epoch <= 3
                assert "train/loss" in names["trainer"].callback_metrics
    assert [row.labels for row in names["table"].rows] == [5, 5, 5, 25, 25, 25]
    assert names["vectors"].values.shape == (4, names["model"].backbone.dim)
    assert names["model"].classes == tuple("0123456789")
    assert names["run"].summary["steps"] == 20
    assert names["run"].summary["backbone"] == "Own"
    assert ssl_zoo.load("runs/trainer", backbone=names["mine"]).dim == 64
    assert names["loss"].value.isfinite()
    assert names["trainer"].global_step == names["module"].data.plan.steps_per_epoch
    assert names["features"].pooled.shape == (4, 64)
    assert names["features"].tokens.shape == (4, 16, 64)
    assert len(names["features"].layers) == 2
    assert (tmp_path / "runs" / "both" / "model.safetensors").exists()


def test_own_objective_trains_from_the_command_line(tmp_path, capsys):
    own = next(code for code in PYTHON if code.startswith("# mine.py"))
    (tmp_path / "mine.py").write_text(own)
    lines = [line.partition("  #")[0].split() for _, code in BLOCKS for line in code.splitlines()]
    examined, trained = (
        next(
            words[2:]
            for words in lines
            if words[:2] == ["ssl-zoo", verb] and "mine.AlignUniform" in str(words)
        )
        for verb in ("check", "pretrain")
    )
    check.main(examined)
    assert "keeps the contract" in capsys.readouterr().out
    run_verb("pretrain", [*trained, "run=mine", "trainer=cpu"])
    assert (tmp_path / "mine" / "backbone" / "model.safetensors").exists()
    assert '"steps": 5' in (tmp_path / "mine" / "summary.json").read_text()
