"""Loggers that a configuration names, and those whose packages are not installed."""

import sys
import types
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger

import ssl_zoo.loggers
from ssl_zoo.pretrain import loggers as made
from ssl_zoo.pretrain import run as running
from ssl_zoo.pretrain.logs import read_metrics

RUN = {"objective": "rotation", "backbone": "resnet_micro", "data": "digits", "data.image_size": 8}
RUN |= {"budget.steps": 2, "trainer": "cpu", "batch_size": 8, "evaluate_every": 0, "log_every": 1}


def without(monkeypatch: pytest.MonkeyPatch, *absent: str) -> None:
    for module in (made, ssl_zoo.loggers):
        monkeypatch.setattr(module, "find_spec", lambda name: None if name in absent else find_spec(name))


@pytest.mark.parametrize(
    ("choice", "package"), [("mlflow", "mlflow"), ("wandb", "wandb"), ("trackio", "trackio")]
)
def test_a_client_that_is_missing_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch, choice, package
):
    without(monkeypatch, package)
    words = RUN | {"run": str(tmp_path / "run"), "logger": choice}
    with pytest.raises(
        ImportError, match=rf"logger={choice} needs {package}: pip install 'ssl-zoo\[{choice}\]'"
    ):
        ssl_zoo.pretrain(**words, progress=False)
    assert not (tmp_path / "run/checkpoints").exists()


def test_without_tensorboard_the_csv_stays_and_that_is_said(tmp_path: Path, monkeypatch):
    without(monkeypatch, "tensorboard")
    said: list[str] = []
    monkeypatch.setattr(running, "say", said.append)
    ssl_zoo.pretrain(**RUN, run=tmp_path / "run", progress=False)
    assert "loggers     CSV (TensorBoard: pip install 'ssl-zoo[tensorboard]')" in said
    assert not (tmp_path / "run/logs/tensorboard").exists()
    assert read_metrics(tmp_path / "run")["train/loss"][0] == [1, 2]


def test_figures_reach_trackio(tmp_path: Path, monkeypatch):
    heard: list[tuple] = []
    stand_in = types.ModuleType("trackio")
    stand_in.__spec__ = types.SimpleNamespace(name="trackio")  # pyright: ignore
    stand_in.init = lambda **how: heard.append(("init", how))  # pyright: ignore
    stand_in.log = lambda values, step: heard.append(("log", step, values))  # pyright: ignore
    stand_in.finish = lambda: heard.append(("finish",))  # pyright: ignore
    monkeypatch.setitem(sys.modules, "trackio", stand_in)
    words = {"logger": "trackio", "logger.project": "mine"}
    ssl_zoo.pretrain(**RUN, **words, run=tmp_path / "run", progress=False)
    how = {"project": "mine", "name": "run", "space_id": None, "resume": "allow"}
    assert heard[0] == ("init", how)
    assert heard[-1] == ("finish",)
    told = read_metrics(tmp_path / "run")["train/loss"]
    assert [
        (one[1], one[2]["train/loss"]) for one in heard if one[0] == "log" and "train/loss" in one[2]
    ] == [(step, pytest.approx(loss)) for step, loss in zip(*told, strict=True)]


def test_any_logger_of_lightning_is_taken_and_one_that_fails_is_left_alone(tmp_path: Path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(made, "say", said.append)
    own = CSVLogger(tmp_path / "mine")
    assert made.loggers(tmp_path, None, own)[-1].inner is own  # pyright: ignore

    def broken(run: Path) -> None:
        raise OSError("no network")

    active = made.loggers(tmp_path, None, partial(broken))
    assert made.told(active) == "CSV, TensorBoard"
    assert said == ["WARNING: logger=broken failed (OSError: no network); training goes on without it"]
