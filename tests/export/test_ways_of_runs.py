"""From a run to a folder and back: the command, the card, the receipt, reproducing, the hub."""

import json
import re
import shutil
import sys

import huggingface_hub
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import ssl_zoo
from ssl_zoo import ConfigError
from ssl_zoo.cli.verb import run_verb
from ssl_zoo.export import receipt
from ssl_zoo.leaderboard.unit import LOCK

SMALL = {"batch_size": 16, "steps": 2, "evaluate_every": 0, "trainer": "cpu", "progress": False, "threads": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    size = {"backbone.depth": 2, "backbone.embed_dim": 16, "backbone.num_heads": 2}
    out = tmp_path_factory.mktemp("runs") / "digits" / "line" / "s0"
    return ssl_zoo.pretrain("simclr_small", backbone="vit_micro", data="digits", out=out, **size, **SMALL)


@pytest.fixture(scope="module")
def writing(tmp_path_factory):
    """A run on texts."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "data").mkdir()
    (folder / "data/a.txt").write_text("the cat sat on the mat and the dog did not\n" * 200)
    size = {"backbone.depth": 1, "backbone.width": 16, "backbone.heads": 2, "context": 16}
    return ssl_zoo.pretrain(
        "next_token", backbone="transformer_micro", data=folder / "data", tokenizer="bytes",
        out=folder / "run", **size, **SMALL,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ssl-zoo"])


def test_the_command_says_what_it_wrote_and_how_to_open_it(run, capsys):
    run_verb("export", [str(run.path), "to=timm"])
    said = capsys.readouterr().out
    folder = run.path / "exports/timm"
    assert said.startswith(f"{folder}: 0.")
    assert "timm opened it and read 4 rows; the largest difference: 0.0e+00" in said
    assert f'timm.create_model("local-dir:{folder}", pretrained=True)' in said
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "config.json", "model.safetensors", "export.json",
    }  # fmt: skip


def test_the_function_does_the_same(writing, tmp_path):
    folder = ssl_zoo.export(writing, "transformers", out=tmp_path / "a", license="mit", progress=False)
    assert folder == tmp_path / "a"
    assert (folder / "tokenizer.json").exists()
    assert (
        ssl_zoo.export(writing.path, "sentence-transformers", progress=False).parent
        == writing.path / "exports"
    )


def test_the_card_tells_objective_data_figures_and_limits(run, tmp_path):
    unmeasured = (ssl_zoo.export(run, "timm", out=tmp_path / "a", progress=False) / "README.md").read_text()
    assert "Nobody has measured it yet" in unmeasured
    assert "license" not in yaml.safe_load(unmeasured.split("---\n")[1])
    assert "No licence was named" in unmeasured
    table = ssl_zoo.evaluate(run, data="digits", protocol="knn", labels=5, progress=False)
    folder = ssl_zoo.export(run, "timm", out=tmp_path / "a", license="cc-by-4.0", progress=False)
    text = (folder / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "license": "cc-by-4.0",
        "library_name": "timm",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["ssl-zoo", "self-supervised", "simclr", "feature-extraction"],
    }
    one = table["pretrained"]
    half = 50 * (one.interval[1] - one.interval[0])
    assert (
        f"| digits | pretrained | knn | 5 | accuracy, % | {100 * one.mean:.1f} ± {half:.1f} (3 seeds) |"
        in body
    )
    assert "pretrained by SimCLR on digits, without labels" in body
    assert "It has seen digits alone. What it is worth on other data is not known beyond digits." in body
    assert "was trained for 2 steps: too few" in body
    assert "No licence was named" not in body
    prints = json.loads((folder / "export.json").read_text())["receipt"]["data"]["fingerprint"]
    assert f"Data: digits, fingerprint {prints}." in body


def test_the_receipt_tells_recipe_code_data_seed_and_line(run, tmp_path):
    (run.path / LOCK).touch()
    folder = ssl_zoo.export(run, "timm", out=tmp_path / "a", progress=False)
    (run.path / LOCK).unlink()
    found = receipt.read(folder)
    assert found == receipt.read(folder / "model.safetensors")
    assert found["board"] == {"name": "digits", "line": "line", "seed": 0}
    assert found["config"]["objective"]["_target_"] == "ssl_zoo.objectives.simclr.SimCLR"
    assert found["config"]["backbone"]["depth"] == 2
    assert not {"run", "data_dir", "resume", "wandb"} & found["config"].keys()
    assert {"objective", "backbone", "views", "training"} == found["code"].keys()
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in found["code"].values())
    assert re.fullmatch("[0-9a-f]{12}", found["data"]["fingerprint"])
    assert len(found["data"]["rows"]) == 32
    assert (found["seed"], found["steps"], found["threads"]) == (0, 2, 1)
    about = json.loads((run.path / "backbone/config.json").read_text())
    assert found["weights"] == about["sha256"]


@pytest.mark.parametrize("which", ["run", "writing"])
def test_the_same_run_again_gives_the_same_weights(which, request, tmp_path, capsys):
    made = request.getfixturevalue(which)
    folder = ssl_zoo.export(made, "torch", out=tmp_path / "a", progress=False)
    run_verb("reproduce", [str(folder / "model.safetensors"), f"out={tmp_path / 'again'}"])
    assert f"{tmp_path / 'again'}: the same weights, to the bit" in capsys.readouterr().out
    before, now = (load_file(one / "backbone/model.safetensors") for one in (made.path, tmp_path / "again"))
    assert all(torch.equal(before[key], now[key]) for key in before)
    assert (tmp_path / "again/summary.json").exists()


def changed(folder, out, **changes):
    """A copy of the weights with another receipt."""
    with safe_open(folder / "model.safetensors", "pt") as file:
        told = json.loads(file.metadata()["ssl_zoo"])
    for key, value in changes.items():
        inner, *path = key.split("__")
        at = told
        for name in path and [inner, *path[:-1]]:
            at = at[name]
        at[(path or [inner])[-1]] = value
    save_file({"a": torch.zeros(1)}, out, {"ssl_zoo": json.dumps(told)})
    return str(out)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"data__fingerprint": "0" * 12},
            "and those of the receipt 000000000000: other data give other weights",
        ),
        ({"config__objective___target_": "os.system"}, "_target_=os.system is not part of ssl_zoo"),
        ({"config__sead": 3}, "no key 'sead'; did you mean 'seed'"),
        ({"config__trainer": 3}, "the recipe of this receipt is damaged: it has no keys of trainer"),
        ({"format": 9}, "format 9, not 1: update ssl_zoo"),
        ({"weights": None}, "it lacks weights"),
    ],
)
def test_a_receipt_that_cannot_be_followed(run, tmp_path, changes, said):
    folder = ssl_zoo.export(run, "timm", out=tmp_path / "a", progress=False)
    file = changed(folder, tmp_path / "b.safetensors", **changes)
    with pytest.raises(SystemExit, match=said):
        run_verb("reproduce", [file, f"out={tmp_path / 'again'}"])
    assert not (tmp_path / "again").exists()


def test_other_weights_are_said_with_what_differs(run, tmp_path):
    folder = ssl_zoo.export(run, "timm", out=tmp_path / "a", progress=False)
    other = {"weights": "f" * 64, "data__rows": "0" * 16, "versions__torch": "1.0", "processor": "abacus"}
    file = changed(folder, tmp_path / "b.safetensors", **other)
    said = r"has other weights .*torch was 1\.0, and is .*it ran on abacus.*it was trained on other rows"
    with pytest.raises(SystemExit, match=said):
        run_verb("reproduce", [file, f"out={tmp_path / 'again'}"])


def test_files_without_a_receipt(run, tmp_path):
    with pytest.raises(SystemExit, match="holds no receipt"):
        run_verb("reproduce", [str(run.path / "backbone")])
    (tmp_path / "a.safetensors").write_bytes(b"nonsense")
    with pytest.raises(SystemExit, match="cannot be read"):
        run_verb("reproduce", [str(tmp_path / "a.safetensors")])
    (tmp_path / "a.onnx").write_bytes(b"nonsense")
    with pytest.raises(SystemExit, match="is no ONNX file"):
        run_verb("reproduce", [str(tmp_path / "a.onnx")])
    with pytest.raises(SystemExit, match="does not exist"):
        run_verb("reproduce", [str(tmp_path / "none")])
    save_file({"a": torch.zeros(1)}, tmp_path / "b.safetensors", {"ssl_zoo": "[]"})
    with pytest.raises(SystemExit, match="is damaged: it is no JSON object"):
        run_verb("reproduce", [str(tmp_path / "b.safetensors")])


def test_what_cannot_be_exported_is_said(run, writing, tmp_path):
    with pytest.raises(ConfigError, match="holds no run"):
        ssl_zoo.export(tmp_path, "timm")
    with pytest.raises(
        ConfigError, match="it takes timm, transformers, sentence-transformers, onnx, or torch"
    ):
        ssl_zoo.export(run, "tim")
    with pytest.raises(SystemExit, match=r"for which library\? to=timm, to=transformers"):
        run_verb("export", [str(run.path)])
    with pytest.raises(SystemExit, match="which run"):
        run_verb("export", ["to=timm"])
    with pytest.raises(ConfigError, match="no earlier export"):
        ssl_zoo.export(run, "timm", out=writing.path)
    with pytest.raises(ConfigError, match="TextTransformer is no model that timm builds"):
        ssl_zoo.export(writing, "timm", progress=False)
    assert not (writing.path / "exports/timm").exists()
    with pytest.raises(ssl_zoo.HubError, match="no text backbone"):
        ssl_zoo.export(run, "timm", part="text", progress=False)
    half = tmp_path / "half"
    shutil.copytree(run.path, half)
    shutil.rmtree(half / "backbone")
    with pytest.raises(ConfigError, match="has not ended"):
        ssl_zoo.export(half, "timm")


def test_both_towers_of_a_run_go_out(tmp_path):
    size = {"backbone.depth": 1, "backbone.embed_dim": 16, "backbone.num_heads": 2, "context": 16}
    tower = {"objective.text.width": 16, "objective.text.depth": 1, "objective.text.heads": 2}
    made = ssl_zoo.pretrain(
        "clip", backbone="vit_micro", data="digits", tokenizer="bytes", out=tmp_path / "run",
        **size, **tower, **SMALL,
    )  # fmt: skip
    images = ssl_zoo.export(made, "timm", progress=False)
    texts = ssl_zoo.export(made, "transformers", part="text", progress=False)
    assert (images.name, texts.name) == ("timm", "transformers-text")
    assert json.loads((texts / "config.json").read_text())["model_type"] == "qwen3"
    assert receipt.read(texts)["backbone"] == "text"


def test_data_that_are_gone_leave_a_receipt_without_their_fingerprint(writing, tmp_path):
    copy, lines = tmp_path / "run", []
    shutil.copytree(writing.path, copy)
    file = copy / "config.yaml"
    file.write_text(file.read_text().replace(str(writing.path.parent / "data"), str(tmp_path / "gone")))
    folder = ssl_zoo.export(copy, "transformers", progress=lines.append)
    assert receipt.read(folder)["data"]["fingerprint"] is None
    assert any("goes without the fingerprint of its data" in line for line in lines)
    assert "as the data could not be read" in (folder / "README.md").read_text()


class Api:
    """A stand-in for the hub."""

    calls: list = []  # noqa: RUF012

    def create_repo(self, name, **options):
        self.calls.append(("create", name, options))
        return f"https://huggingface.co/{name}"

    def upload_folder(self, **options):
        self.calls.append(
            ("upload", options["repo_id"], sorted(p.name for p in options["folder_path"].iterdir()))
        )


def test_pushed_to_the_hub(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    run_verb("export", [str(run.path), "to=timm", f"out={tmp_path / 'a'}", "push=me/digits"])
    assert "uploaded to https://huggingface.co/me/digits" in capsys.readouterr().out
    create, upload = Api.calls
    assert create == ("create", "me/digits", {"private": True, "exist_ok": True})
    assert upload == ("upload", "me/digits", ["README.md", "config.json", "export.json", "model.safetensors"])
    with pytest.raises(ConfigError, match="it takes USER/NAME"):
        ssl_zoo.export(run, "timm", out=tmp_path / "a", push="digits", progress=False)

    def refuse(self, name, **options):
        raise RuntimeError("401 unauthorised")

    monkeypatch.setattr(Api, "create_repo", refuse)
    with pytest.raises(ConfigError, match=r"the hub refuses \(401 unauthorised\)\. Log in"):
        ssl_zoo.export(run, "timm", out=tmp_path / "a", push="me/digits", progress=False)
