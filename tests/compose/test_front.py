"""The front door from Python: the command's words as arguments, own objects, quiet, in threads, twice."""

import inspect
import pickle
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset
from zoo_backbones import backbone

import ssl_zoo
from ssl_zoo import ConfigError, DataError
from ssl_zoo.compose import overrides
from ssl_zoo.compose.arguments import as_words
from ssl_zoo.data.text_rows import DocumentRows
from ssl_zoo.views.recipes import simclr_small

SMALL = {"batch_size": 32, "steps": 2, "evaluate_every": 0, "trainer": "cpu", "progress": False}
KEYS = {"objective": "simclr_small", "backbone": "resnet_micro", "data": "digits"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return ssl_zoo.pretrain(**KEYS, **SMALL, out=tmp_path_factory.mktemp("runs") / "a")


@pytest.fixture(scope="module")
def shapes():
    """90 images of three classes, told apart by their colour."""
    y = torch.arange(90) % 3
    x = torch.randint(0, 60, (90, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    x[torch.arange(90), y] += 120
    return TensorDataset(x, y)


def test_arguments_become_the_words_of_the_command():
    given = {
        "objective": "simclr", "data": "a b/", "optimizer": {"lr": 1e-3}, "trainer__devices": 2, "seed": 3,
        "schedule": None, "run": None, "protocol.lrs": (0.1, np.float64(0.5)), "wandb": None,
        "compile": False,
    }  # fmt: skip
    words, objects = as_words("pretrain", given)
    assert words == [
        "objective=simclr", "data=a b/", "optimizer.lr=0.001", "trainer.devices=2", "seed=3",
        "protocol.lrs=[0.1,0.5]", "wandb=null", "compile=false",
    ]  # fmt: skip
    assert objects.described() == {}


def test_a_run_says_what_it_is(run):
    assert run.summary["steps"] == 2
    assert run.config["optimizer"]["lr"] == 1e-3
    assert run.backbone.dim == ssl_zoo.load(run).dim
    assert repr(run).startswith(f"Run in {run.path}: SimCLR on TimmCNN, 2 steps in ")
    assert repr(run).endswith("finished")
    assert not GlobalHydra.instance().is_initialized()


def test_twice_and_in_a_thread_it_says_nothing_and_leaves_torch_as_it_was(run, capfd):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    lines, found = [], []
    again = partial(ssl_zoo.pretrain, **KEYS, **SMALL | {"progress": lines.append}, out=run.path, threads=1)
    again()
    thread = threading.Thread(target=lambda: found.append(again(steps=3)))
    thread.start()
    thread.join()
    assert found[0].summary["steps"] == 3
    assert any("finished already" in line for line in lines)
    assert any("training in a thread" in line for line in lines)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    assert capfd.readouterr() == ("", "")


def test_the_table_is_that_of_the_command(run, capsys):
    table = ssl_zoo.evaluate(run, data="digits", protocol="knn", labels=5, floors=True, progress=False)
    assert capsys.readouterr() == ("", "")
    assert [row.name for row in table] == ["pretrained", "random, frozen", "raw pixels"]
    first = table["pretrained"]
    assert first.mean == pytest.approx(sum(first.values) / 3)
    assert first.interval[0] < first.mean < first.interval[1]
    assert str(table).splitlines()[2].split()[:5] == [
        "pretrained",
        "knn",
        "5",
        "accuracy",
        f"{100 * first.mean:.1f}",
    ]
    assert "WARNING: " in str(table)  # two steps
    assert "<td>raw pixels</td>" in table._repr_html_()
    assert table.to_dict()[0]["labels"] == 5
    assert (table.folder / "digits-knn-5.json").exists()


def test_a_page_is_written(run, tmp_path):
    page = ssl_zoo.report(run, out=tmp_path / "page.html", progress=False, limit=40)
    assert "<html" in page.read_text()


class Mine(ssl_zoo.SimCLR):
    """An objective of the user's own."""


def test_a_page_of_a_run_of_objects_says_what_it_lacks(shapes, tmp_path):
    rows = ssl_zoo.rows(shapes)
    made = ssl_zoo.pretrain(KEYS["objective"], backbone=KEYS["backbone"], data=rows, out=tmp_path, **SMALL)
    text = ssl_zoo.report(made, progress=False).read_text()
    assert "was handed over as an object by" in text
    assert "Not shown: the map" not in ssl_zoo.report(made, data=rows, progress=False, limit=20).read_text()


def test_own_objects_train_and_are_measured(shapes, tmp_path):
    own = backbone("cnn")
    before = {name: value.clone() for name, value in own.state_dict().items()}
    rows = ssl_zoo.rows(shapes, classes=["red", "green", "blue"])
    made = ssl_zoo.pretrain(
        partial(Mine, width=16, view=simclr_small(32)), backbone=own, data=rows, out=tmp_path / "own", **SMALL
    )
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())  # a copy learned
    assert any(not torch.equal(p, before[name]) for name, p in made.backbone.state_dict().items())
    assert made.config["objective"]["_target_"].endswith("test_front.Mine")
    assert made.config["data"] == {"_target_": "ssl_zoo.data.own.OwnData", "handed_over": True, "name": "own",
                                   "image_size": 32}  # fmt: skip
    table = ssl_zoo.evaluate(made, data=rows, protocol="knn", progress=False)
    assert table["pretrained"].mean > 0.9


def test_a_class_takes_its_arguments_as_keys(tmp_path):
    view = {"_target_": "ssl_zoo.views.recipes.simclr_small", "size": 32}
    keys = {"objective__width": 16, "objective.view": view}
    made = ssl_zoo.pretrain(Mine, backbone="resnet_micro", data="digits", out=tmp_path / "a", **keys, **SMALL)
    assert made.config["objective"]["width"] == 16


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"objective": "simcrl"}, "did you mean 'simclr'"),
        ({"stepz": 3}, "no key 'stepz'"),
        ({"steps": "three"}, "budget.steps='three' is a text; it takes a whole number, or null"),
        ({"optimizer__lr": [1]}, "is a list; it takes a number"),
        ({"data": None}, "data=... is missing"),
        ({"backbone": torch.nn.Linear(2, 2)}, r"ssl_zoo\.backbone\(module\)"),
        ({"backbone": 3}, "Take a name"),
        ({"objective": torch.nn.Linear}, "not a subclass of ssl_zoo.Objective"),
        ({"objective": ssl_zoo.SimCLR(backbone("cnn"))}, "has a backbone already"),
        ({"optimizer": torch.optim.AdamW}, "no plain value"),
        ({"data": [1, 2]}, r"wrap it, data=ssl_zoo\.rows"),
    ],
)
def test_what_cannot_be_is_said(changed, said):
    with pytest.raises(ConfigError, match=said):
        ssl_zoo.pretrain(**KEYS | SMALL | changed)


def test_a_run_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="holds no run"):
        ssl_zoo.Run(tmp_path)
    with pytest.raises(ConfigError, match=r"ssl_zoo\.save\(backbone"):
        ssl_zoo.evaluate(backbone("cnn"), data="digits")


# Own rows


@pytest.mark.parametrize("form", ["uint8", "float", "array", "grey", "pil", "alone"])
def test_rows_of_many_forms(form):
    x = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 6), np.uint8)
    grey = x[:, :1]
    items = {
        "uint8": [(torch.from_numpy(one), i) for i, one in enumerate(x)],
        "float": [(torch.from_numpy(one).float() / 255, torch.tensor(i)) for i, one in enumerate(x)],
        "array": [(one.transpose(1, 2, 0), np.int64(i)) for i, one in enumerate(x)],
        "grey": [(torch.from_numpy(one), i) for i, one in enumerate(grey)],
        "pil": [(Image.fromarray(one.transpose(1, 2, 0)), i) for i, one in enumerate(x)],
        "alone": torch.from_numpy(x),
    }
    rows = ssl_zoo.rows(items[form])
    expected = np.repeat(grey, 3, 1) if form == "grey" else x
    batch = rows.read(np.array([2, 0]))
    assert torch.equal(batch.x, torch.from_numpy(expected[[2, 0]]))
    assert (rows.y is None) == (form == "alone")
    assert rows.classes == (() if form == "alone" else ("0", "1", "2", "3"))
    assert batch.y is None or batch.y.tolist() == [2, 0]
    assert pickle.loads(pickle.dumps(rows)).fingerprint == rows.fingerprint


def test_pil_images_of_any_mode_become_what_their_files_do():
    grey = np.array([[0, 257], [32896, 65535]], np.uint16)
    clear = Image.new("RGBA", (2, 2), (9, 9, 9, 0))  # wholly transparent, and so white
    rows = ssl_zoo.rows([Image.fromarray(grey), clear])
    assert rows.x[0].tolist() == [[[0, 1], [128, 255]]] * 3
    assert (rows.x[1] == 255).all()


def test_other_content_is_another_fingerprint(shapes):
    x, y = shapes.tensors
    prints = {ssl_zoo.rows(one).fingerprint for one in (shapes, x, x.flip(0), TensorDataset(x, y.flip(0)))}
    assert len(prints) == 4


class Random(TensorDataset):
    def __getitem__(self, i):
        return torch.rand(3, 4, 4)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (DataLoader([1]), r"rows\(loader.dataset\)"),
        ("photos/", "data='photos/'"),
        ({"train": []}, "wrap each split"),
        (iter([1]), r"list\(\.\.\.\) of it"),
        ([], "empty"),
        ([{"image": 1, "label": 2}], r"one\['image'\]"),
        ([torch.randn(3, 4, 4) * 5], "leave Normalize out"),
        ([torch.zeros(3, 4, 4), torch.zeros(3, 5, 4)], "image 1 is 5x4 and image 0 is 4x4"),
        ([(torch.zeros(3, 4, 4), "cat")], "whole numbers"),
        ([(torch.zeros(3, 4, 4), torch.tensor([0, 1]))], "whole numbers"),
        ([(torch.zeros(3, 4, 4), np.array([]))], "whole numbers"),
        ([Image.new("F", (4, 4))], "item 0: floating-point pixels have no agreed range"),
        ([(torch.zeros(3, 4, 4), 0), (torch.zeros(3, 4, 4), None)], "1 of 2 items have no label"),
        ([torch.zeros(4, 4, 4)], "an image is"),
        ([torch.zeros(3, 0, 4)], "an image is"),
        ([torch.full((3, 4, 4), 2, dtype=torch.bfloat16)], "float32 from 2 to 2"),
        (Random(torch.zeros(3)), "another image each time"),
    ],
)
def test_what_is_no_rows_is_told_what_to_do(given, said):
    with pytest.raises(DataError, match=said):
        ssl_zoo.rows(given)


def test_missing_splits_are_carved_as_the_command_does(shapes):
    from ssl_zoo.compose.objects import as_data

    data = as_data(ssl_zoo.rows(shapes), "evaluate")
    parts = [data.rows(split) for split in ("train", "validation", "test")]
    assert [len(rows) for rows in parts] == [63, 9, 18]
    assert len(np.unique(np.concatenate([rows.index for rows in parts]))) == 90
    assert as_data({"train": ssl_zoo.rows(shapes), "test": ssl_zoo.rows(shapes)}, "pretrain").splits() == (
        "train", "validation", "test",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="not for 'dev'"):
        as_data({"dev": ssl_zoo.rows(shapes)}, "pretrain")


def test_a_mapping_holds_rows_or_keys_of_the_group(shapes):
    rows = ssl_zoo.rows(shapes)
    words, found = as_words("evaluate", {"data": {"train": rows, "test": rows}})
    assert words == []
    assert found.data.splits() == ("train", "validation", "test")
    with pytest.raises(DataError, match=r"rows\(loader.dataset\)"):
        as_words("evaluate", {"data": {"train": DataLoader(shapes)}})
    folders = {"train": {"a, b": Path("x"), "c:d": "1"}, "test": [Path("y")], "name": "mine"}
    words, found = as_words("evaluate", {"data": folders})
    assert words == [r"data.train={a\,\ b:x,c\:d:'1'}", "data.test=[y]", "data.name=mine"]
    assert found.data is None
    assert list(overrides.parsed(words[0].replace("data.train", "k"))) == ["a, b", "c:d"]
    with pytest.raises(ConfigError, match=r"data\.train: Hydra cannot spell the keys it's"):
        as_words("evaluate", {"data": {"train": {"it's": "x"}}})


def test_splits_of_ones_own_have_the_classes_of_train(shapes):
    from ssl_zoo.compose.objects import as_data

    train, other = (
        ssl_zoo.rows(shapes, classes=names) for names in (np.array(["a", "b", "c"]), ["b", "a", "c"])
    )
    assert train.classes == ("a", "b", "c")
    fewer = ssl_zoo.rows([one for one in shapes if one[1] < 2])
    assert as_data({"train": train, "test": fewer}, "evaluate").labelled("test") is fewer
    with pytest.raises(DataError, match="the same in another order"):
        as_data({"train": train, "test": other}, "evaluate").labelled("test")
    data = as_data({"train": fewer, "test": train}, "evaluate")
    with pytest.raises(DataError, match="test has the class 2, counted from 0, and train has 2 classes"):
        data.labelled("test")
    assert data.rows("test") is train


# What is visible


def test_everything_public_is_seen_and_explained():
    import ssl_zoo.export.doors  # the rooms, once imported, do not take the functions' places
    import ssl_zoo.pretrain.run

    assert set(dir(ssl_zoo)) == {*ssl_zoo.__all__, "__version__"}
    assert {"pretrain", "evaluate", "load", "report", "rows"} <= set(ssl_zoo.__all__)
    for name in ssl_zoo.__all__:
        assert inspect.getdoc(getattr(ssl_zoo, name)), name
    for one in (ssl_zoo.pretrain, ssl_zoo.evaluate, ssl_zoo.generate, ssl_zoo.report, ssl_zoo.export):
        about = inspect.getdoc(one)
        for name, parameter in inspect.signature(one).parameters.items():
            assert parameter.annotation is not parameter.empty
            assert f"{name}" in about.partition("Args:")[2].partition("Returns:")[0], name


def test_editors_are_told_all_but_the_objectives():
    text = inspect.getsource(ssl_zoo)
    names = {line.rpartition(" as ")[2] for line in text.splitlines() if line.startswith("    from ssl_zoo")}
    assert names <= set(ssl_zoo.__all__)
    found = [getattr(ssl_zoo, name) for name in set(ssl_zoo.__all__) - names]
    assert all(issubclass(one, ssl_zoo.Objective) for one in found if isinstance(one, type))


def test_documents_are_encoded_once_a_split(tmp_path, monkeypatch):
    """Training and the monitor of features read the same rows."""
    encoded, begin = [], DocumentRows.__init__

    def counted(self, documents, *args, **options):
        begin(self, documents, *args, **options)
        encoded.append(len(self))

    monkeypatch.setattr(DocumentRows, "__init__", counted)
    (tmp_path / "notes.csv").write_text("text\n" + "".join(f"note {i} of many\n" for i in range(60)))
    size = {"backbone__depth": 1, "backbone__width": 16, "backbone__heads": 2, "backbone__dropout": 0.1}
    ssl_zoo.pretrain(
        "simcse", backbone="transformer_micro", data=tmp_path / "notes.csv", tokenizer="bytes", batch_size=8,
        out=tmp_path / "run", steps=2, context=16, trainer="cpu", evaluate_every=1, progress=False, **size,
    )  # fmt: skip
    assert encoded == [54, 6]
