"""A classifier for others: probabilities out of onnxruntime and PyTorch alone, its names, its card."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml

import ssl_zoo
from ssl_zoo import ConfigError
from ssl_zoo.cli.verb import run_verb
from ssl_zoo.compose.exporting import classifier
from ssl_zoo.export import doors, graph
from ssl_zoo.export._base import ExportError
from ssl_zoo.export.card import model_card

SMALL = {"batch_size": 16, "steps": 2, "evaluate_every": 0, "trainer": "cpu", "progress": False, "threads": 1}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    home = tmp_path_factory.mktemp("images")
    size = {"backbone__depth": 1, "backbone__embed_dim": 16, "backbone__num_heads": 2, "data__image_size": 8}
    run = ssl_zoo.pretrain(
        "simclr_small", backbone="vit_micro", data="digits", out=home / "run", backbone__patch_size=4,
        **size, **SMALL,
    )  # fmt: skip
    return ssl_zoo.finetune(
        run, data="digits", out=home / "reader", protocol="linear", progress=False, data__image_size=8
    )


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    home = tmp_path_factory.mktemp("texts")
    rows = "".join(
        f"{'sea' if i % 2 else 'hill'},{'waves and salt' if i % 2 else 'stone'} {i}\n" for i in range(60)
    )
    (home / "topics.csv").write_text(f"label,text\n{rows}")
    size = {"backbone__depth": 1, "backbone__width": 16, "backbone__heads": 2, "context": 16}
    run = ssl_zoo.pretrain(
        "masked_lm", backbone="transformer_micro", data=home / "topics.csv", tokenizer="bytes",
        out=home / "run", **size, **SMALL | {"batch_size": 8},
    )  # fmt: skip
    return ssl_zoo.finetune(
        run, data=home / "topics.csv", out=home / "topics", protocol="linear", progress=False
    )


def test_onnxruntime_names_the_classes_of_images(images, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["ssl-zoo"])
    run_verb("export", [str(images.path), "to=onnx", "license=mit"])
    said = capsys.readouterr().out
    folder = images.path / "exports/onnx"
    assert said.startswith(f"{folder}: ")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8), np.uint8)
    probabilities, pooled = session.run(None, {"image": (x / 255).astype(np.float32)})
    found = images.predict(ssl_zoo.rows(torch.from_numpy(x)))
    assert np.allclose(probabilities, [[*one.probabilities.values()] for one in found], atol=1e-4)
    names = json.loads((folder / "classes.json").read_text())
    assert [names[at] for at in probabilities.argmax(1)] == [one.name for one in found]
    assert pooled.shape == (5, 16)
    told = {one.key: one.value for one in onnx.load(str(folder / "model.onnx")).metadata_props}
    assert json.loads(told["ssl_zoo_model"])["classes"] == names == list(images.classes)
    assert "ssl_zoo" not in told
    namespace = {}
    exec(compile(said[said.index("import numpy") :], "card", "exec"), namespace)
    assert capsys.readouterr().out.strip() in names

    _, head, body = (folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(head)["pipeline_tag"] == "image-classification"
    assert yaml.safe_load(head)["license"] == "mit"
    assert "made with ssl_zoo: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9." in body
    assert "Before that, without labels: SimCLR, 2 steps, run run." in body
    validation = images.about["scores"]["validation"]
    assert f"validation: accuracy, %: {100 * validation['value']:.1f}" in body
    assert "It names one of its classes whatever it is shown." in body
    with pytest.raises(SystemExit, match="holds no receipt: only exports of runs have one"):
        run_verb("reproduce", [str(folder)])


@pytest.mark.filterwarnings("ignore:No complete tensor found")  # of torch's loader
def test_pytorch_alone_names_the_classes_of_texts(texts, tmp_path, capsys):
    folder = ssl_zoo.export(texts, "torch", out=tmp_path / 'the "best" one', progress=False)
    card = (folder / "README.md").read_text()
    row, lines, told = "waves and salt 3", card.split("```python\n")[1].split("```")[0], {}
    exec(compile(lines.replace("a text", row), "card", "exec"), told)
    (found,) = texts.predict([row])
    assert capsys.readouterr().out.strip() == found.name
    wanted = torch.tensor([[*found.probabilities.values()]])
    assert torch.allclose(told["probabilities"], wanted, atol=1e-5)
    assert json.loads((folder / "classes.json").read_text()) == list(texts.classes) == ["hill", "sea"]
    assert ssl_zoo.load(folder).dim == 16  # the backbone, for who has this library
    assert "text-classification" in card
    assert (folder / "tokenizer/tokenizer.json").exists()


def test_what_cannot_go_out_so(images, texts, tmp_path):
    for to in ("timm", "transformers", "sentence-transformers"):
        with pytest.raises(ConfigError, match="a classifier goes out by to=onnx or to=torch"):
            ssl_zoo.export(texts.path, to, out=tmp_path / "out", progress=False)
    with pytest.raises(ConfigError, match="part= is for runs"):
        ssl_zoo.export(images.path, "onnx", part="text", progress=False)
    assert not (tmp_path / "out").exists()
    copy = tmp_path / "model"
    copy.mkdir()
    about = json.loads((images.path / "model.json").read_text()) | {"task": "regression"}
    (copy / "model.json").write_text(json.dumps(about))
    with pytest.raises(ConfigError, match="holds a model for regression, and export writes backbones"):
        ssl_zoo.export(copy, "onnx", progress=False)
    (copy / "model.json").write_text("{")
    with pytest.raises(ssl_zoo.HubError, match=r"model\.json"):
        ssl_zoo.export(copy, "onnx", progress=False)


@pytest.mark.parametrize(("objective", "how"), [("SupCon", "with"), ("MAE", "without")])
def test_the_card_says_whether_labels_taught_the_backbone(images, objective, how):
    source = classifier(images.path, True)
    made = source.head.about["made"] | {"pretraining": {"objective": objective, "steps": 7}}
    source = source._replace(head=source.head._replace(about={"made": made}))
    text = model_card(doors.door("torch"), source, ["validation: 90.0"], None, Path("out"))
    assert f"- Before that, {how} labels: {objective}, 7 steps, run run." in text
    assert "- validation: 90.0" in text
    assert "No licence was named" in text


def test_a_head_that_reads_otherwise_is_not_shipped(images, tmp_path, monkeypatch):
    source = classifier(images.path, True)
    monkeypatch.setattr(graph.Program, "told", lambda self, pooled, tokens: (self.head(pooled), pooled))
    with pytest.raises(ExportError, match="reads other features in what was written"):
        doors.export(source, "torch", tmp_path / "out")
    assert not (tmp_path / "out").exists()
