"""Sweeps: what a run tells a sweeper, Optuna's sweeper, and submitit's launcher by its local executor."""

import json
import math
import re
from types import SimpleNamespace

import pytest
import tiny
import yaml

from ssl_zoo.cli import pretrain
from ssl_zoo.compose import composition
from ssl_zoo.compose.gate import ConfigError
from ssl_zoo.compose.overrides import spread
from ssl_zoo.pretrain.run import locked

TINY = (
    "objective=rotation",
    "backbone=resnet_micro",
    "data=digits",
    "budget.steps=1",
    "batch_size=16",
    "trainer=cpu",
    "validation_limit=64",
)


def test_a_run_returns_a_figure_of_its_summary():
    summary = {"objective": "Rotation", "stopped": False, "seconds": 2.0, "val/loss": 1.5, "knn": 0.25}
    assert pretrain.optimized(None, summary) == 0.25
    assert pretrain.optimized("val/loss", summary) == 1.5
    assert pretrain.optimized(None, {"val/loss": 1.5}) == 1.5
    assert pretrain.optimized(None, {"seconds": 2.0}) is None
    with pytest.raises(ConfigError, match=r"stopped is no figure of .* seconds, val/loss, knn"):
        pretrain.optimized("stopped", summary)


def test_optuna_finds_the_best_of_its_trials(tmp_path):
    """It is told what each run wrote into its summary, and keeps the larger one."""
    swept = [
        *("optimizer.lr=tag(log,interval(1e-4,1e-2))", "run=runs/${optimizer.lr}"),
        *("hydra/sweeper=optuna", "hydra.sweeper.direction=maximize", "hydra.sweeper.sampler.seed=3"),
        *("hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1"),
    ]
    code, printed = tiny.command(tmp_path, tmp_path / "cache", "pretrain", "-m", *TINY, *swept)
    assert code == 0, printed
    told = yaml.safe_load((tmp_path / "optimization_results.yaml").read_text())
    runs = {
        one.parent.name: json.loads(one.read_text()) for one in (tmp_path / "runs").glob("*/summary.json")
    }
    assert len(runs) == 2
    best = max(runs, key=lambda rate: runs[rate]["knn"])
    assert told["best_value"] == runs[best]["knn"]
    assert (
        math.isclose(told["best_params"]["optimizer.lr"], float(best))
        or len({one["knn"] for one in runs.values()}) == 1
    )


def test_a_launcher_trains_in_a_process_of_its_own(tmp_path):
    words = [*TINY, "seed=3", "evaluate_every=0", "run=runs/a", "hydra/launcher=submitit_local"]
    code, said = tiny.command(tmp_path, tmp_path / "cache", "pretrain", "-m", *words)
    assert code == 0, said
    assert json.loads((tmp_path / "runs/a/summary.json").read_text())["seed"] == 3
    printed = "".join(one.read_text() for one in (tmp_path / ".submitit").glob("*/*_log.out"))
    assert "saved in runs/a; next: ssl-zoo evaluate run=runs/a data=digits" in printed
    assert "is a job, which prints into .submitit/JOB/*.out; this command waits" in said


@pytest.mark.slow
def test_a_job_of_a_sweep_that_fails_says_why(tmp_path):
    words = [*TINY, "seed=3", "evaluate_every=0", "run=runs/a", "hydra/launcher=submitit_local"]
    with locked(tmp_path / "runs/a"):
        code, said = tiny.command(
            tmp_path, tmp_path / "cache", "pretrain", "-m", *words, "hydra.sweep.dir=swept"
        )
    assert code == 1
    assert re.search(
        r"job \d+ failed, which printed into swept/.submitit/\d+; its last line: another process is training",
        said,
    ), said
    assert "Traceback" not in said


def test_both_ends_of_an_interval_are_checked():
    found = list(spread(["optimizer.lr=interval(0.001,0.1)", "seed=1"]))
    assert found == [["optimizer.lr=0.001", "seed=1"], ["optimizer.lr=0.1", "seed=1"]]
    with pytest.raises(ConfigError, match="clip=-1"):
        composition.settle("pretrain", [*TINY, "clip=interval(-1,1)"], sweeps=True)


def test_a_group_of_hydra_that_is_not_there():
    with pytest.raises(ConfigError, match=r"hydra/sweeper.*optima"):
        composition.settle("pretrain", [*TINY, "hydra/sweeper=optima"], sweeps=True)


@pytest.mark.parametrize("scores", [[0.5, 0.75, None], [None]])
def test_evaluate_returns_the_validation_score(scores, monkeypatch):
    from ssl_zoo.cli import evaluate

    results = [("pretrained", SimpleNamespace(chosen_by=one)) for one in scores]
    table = SimpleNamespace(results=[*results, ("raw pixels", SimpleNamespace(chosen_by=1.0))], folder="x")
    monkeypatch.setattr(evaluate, "evaluate_from", lambda cfg, choices: table)
    assert evaluate.run(None, {}) == (0.625 if 0.5 in scores else None)
