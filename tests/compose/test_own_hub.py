"""Data sets of the Hugging Face hub by their name alone, as their package wrote them into a folder."""

import re

import datasets
import numpy as np
import pytest
import tiny
from omegaconf import OmegaConf
from PIL import Image

from ssl_zoo.compose.gate import ConfigError
from ssl_zoo.compose.own_data import chosen


@pytest.fixture
def pictures(tmp_path):
    """Images of three classes in three splits, one of a name that is no split of the library's."""
    random = np.random.default_rng(0)
    kinds = {"img": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])}

    def some(count):
        pixels = random.integers(0, 255, (count, 16, 16, 3), dtype=np.uint8)
        rows = [{"img": Image.fromarray(one), "label": i % 3} for i, one in enumerate(pixels)]
        return datasets.Dataset.from_list(rows, features=datasets.Features(kinds))

    made = datasets.DatasetDict({"train": some(60), "test": some(30), "extra": some(3)})
    made.save_to_disk(tmp_path / "my pictures")
    return tmp_path / "my pictures"


def test_images_pretrain_and_are_measured(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, told = tiny.command(
        tmp_path, tmp_path / "cache", "pretrain", "objective=rotation", "backbone=resnet_micro",
        "backbone.channels=[4,4,8,8]", "data=my pictures", "batch_size=16", "budget.steps=2", "trainer=cpu",
        "run=made",
    )  # fmt: skip
    assert code == 0, told
    assert (
        "60 images in column 'img', class 'label', of 'img', 'label'; the split 'extra' is not read" in told
    )
    config = OmegaConf.load(tmp_path / "made/config.yaml")
    assert config.data.train == f"hf:{pictures}:train"
    assert config.data.image_size == 32
    code, told = tiny.command(
        tmp_path, tmp_path / "cache", "evaluate", "made", f"data=hf:{pictures}", "protocol=knn"
    )
    assert code == 0, told
    assert "images are read at 32 pixels a side, as those of made" in told
    code, told = tiny.command(tmp_path, tmp_path / "cache", "embed", "made", "my pictures", "out=vectors.npy")
    assert code == 0, told
    assert np.load(tmp_path / "vectors.npy").shape == (60, 8)


def test_texts_and_what_is_said_of_their_columns(tmp_path, capsys):
    rows = [{"id": str(i), "review": f"the long review of number {i}", "stars": i % 2} for i in range(40)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "reviews")
    words = chosen("pretrain", [f"data={tmp_path}/reviews"], ["digits"])
    assert words == [
        "data=text_files",
        f"data.train='hf:{tmp_path}/reviews:train:review:stars'",
        "data.name='reviews'",
    ]
    told = capsys.readouterr().err
    assert (
        "40 texts in column 'review', label 'stars', of 'id', 'review', 'stars'; a tenth is held out" in told
    )
    assert chosen("embed", [f"data={tmp_path}/reviews"], [])[1].endswith(":train:review'"), "without labels"


def test_files_as_they_lie_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    rows = [{"body": f"text {i}", "topic": f"t{i % 2}"} for i in range(6)]
    for split in ("train", "validation"):
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / f"set/{split}.parquet")
    words = chosen("pretrain", [f"data=hf:{tmp_path}/set"], [])
    assert words[1:3] == [
        f"data.{split}='hf:{tmp_path}/set:{split}:body:topic'" for split in ("train", "validation")
    ]


def test_what_cannot_be_read_is_said(tmp_path, monkeypatch):
    some = datasets.Dataset.from_list([{"number": 1}])
    some.save_to_disk(tmp_path / "numbers")
    with pytest.raises(ConfigError, match=r"neither images nor texts in its columns 'number'"):
        chosen("pretrain", [f"data={tmp_path}/numbers"], [])
    datasets.DatasetDict({"a": some}).save_to_disk(tmp_path / "parts")
    with pytest.raises(
        ConfigError, match=r"has the splits a and none called train: name one with data=image_"
    ):
        chosen("pretrain", [f"data=hf:{tmp_path}/parts"], [])

    def fails(*words, **options):
        raise ValueError("Config name is missing.\nPlease pick one among: ['x', 'y']")

    monkeypatch.setattr(datasets, "load_dataset", fails)
    says = "data=hf:me/set could not be loaded: Config name is missing. Please pick one among: ['x', 'y'] ("
    with pytest.raises(ConfigError, match=re.escape(says) + r"data=hf:me/set@CONFIG\)"):
        chosen("pretrain", ["data=hf:me/set"], [])
