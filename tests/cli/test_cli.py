"""The command: what it refuses and how it says so, and one road from pretraining to evaluation."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
from omegaconf import OmegaConf
from PIL import Image

from ssl_zoo import __version__
from ssl_zoo.compose import composition
from ssl_zoo.compose.gate import ConfigError, refuse_unknown_targets

IMAGES = ("objective=mae_small", "backbone=vit_micro", "data=digits")
TEXT = ("objective=next_token", "backbone=transformer_micro", "data=text_files", "tokenizer=bytes")
SCRIPT = str(Path(sys.executable).with_name("ssl-zoo"))


# Words that do not compose. `check` needs no torch; see the test of time below.


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*IMAGES, "sed=3"), r"there is no key 'sed'; did you mean 'seed'\?"),
        ((*IMAGES, "optimizer.lrr=1"), r"no key 'optimizer.lrr'; did you mean 'optimizer.lr'\?"),
        ((*IMAGES, "objective.maskd=0.5"), r"no key 'objective.maskd'; did you mean 'objective.masked'\?"),
        ((*IMAGES, "trainer.devicess=2"), r"no key 'trainer.devicess'; did you mean 'trainer.devices'\?"),
        (
            ("objective=simclr", *IMAGES[1:], "objective.hidden=8"),
            r"it is now called objective.width=8",
        ),
        ((*IMAGES, "bakcbone=vit_tiny"), r"no key 'bakcbone'; did you mean 'backbone'\?"),
        (
            ("objective=simcrl", *IMAGES[1:]),
            r"objective=simcrl does not exist; did you mean 'simclr'\? `ssl-zoo list` has all",
        ),
        (
            (*IMAGES, "optimizer=adam"),
            r"optimizer=adam does not exist; did you mean 'adamw'\?.*lars, muon, sgd",
        ),
        ((*IMAGES, "experiment=none_such"), "experiment=none_such does not exist"),
        ((*IMAGES, "optimizer.lr=abc"), "optimizer.lr='abc' is a text; it takes a number, for example 0.001"),
        ((*IMAGES, "batch_size=1.5"), "batch_size=1.5 is a number; it takes a whole number"),
        ((*IMAGES, "compile=3"), "compile=3 is a whole number; it takes a truth value"),
        ((*IMAGES, "seed=true"), r"seed=True is a truth value \(true or false\); it takes a whole number"),
        ((*IMAGES, "optimizer.betas=3"), "optimizer.betas=3 is a whole number; it takes a list"),
        ((*IMAGES, "budget.steps=many"), "budget.steps='many' is a text; it takes a whole number, or null"),
        ((*IMAGES, "seed"), "'seed' is not KEY=VALUE"),
        (IMAGES[:2], r"data=\.\.\. is missing\. A path of your own, or a name\. Choices for data: .*digits"),
        (IMAGES[1:], r"objective=\.\.\. is missing. Choices for objective: .*simclr"),
    ],
)
def test_words_that_do_not_compose(words, said):
    with pytest.raises(ConfigError, match=said):
        composition.check("pretrain", list(words))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("protocol=lineer", "data=digits"), r"did you mean 'linear'\?"),
        (("data=digits", "label=25"), r"no key 'label'; did you mean 'labels'\?"),
        (("data=digits", "labels=few"), "labels='few' is a text; it takes a number"),
        (("data=digits", "seeds=3"), "seeds=3 is a whole number; it takes a list"),
    ],
)
def test_words_that_do_not_compose_for_evaluate(words, said):
    with pytest.raises(ConfigError, match=said):
        composition.check("evaluate", list(words))


@pytest.mark.parametrize(
    "words",
    [
        (*IMAGES, "optimizer.lr=1", "budget.minutes=0.5", "run=here", "seed=3", "optimizer=sgd"),
        (*IMAGES, "+backbone.drop_path=0.1", "optimizer.betas=[0.9,0.99]", "threads=null"),
        (*IMAGES, 'hydra.run.dir="."', "hydra.job.name=train_ddp_process_1"),  # as Lightning adds for DDP
    ],
)
def test_words_that_do(words):
    composition.check("pretrain", list(words))


def called(*words: str, program: str = "") -> tuple[int, str, float]:
    """Exit code, everything printed and the seconds of `ssl-zoo WORDS`, in a fresh interpreter."""
    began = time.monotonic()
    arguments = [sys.executable, "-c", program, *words] if program else [SCRIPT, *words]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, ended.stdout + ended.stderr, time.monotonic() - began


# Calls the command, and says which heavy packages it took.
WATCHED = """
import sys
from ssl_zoo.cli import main
sys.argv[0] = "ssl-zoo"
try:
    main()
finally:
    print("HEAVY", sorted({"torch", "lightning", "timm", "transformers", "numpy"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("pretrain", *IMAGES, "optimizer.lrr=1"), 1, "did you mean 'optimizer.lr'?"),
        (("evaluate", "data=digitss"), 1, "did you mean 'digits'?"),
        (
            ("pretrian",),
            1,
            "leaderboard, scale, demo, check, completion; did you mean 'pretrain'?",
        ),
        (("--help",), 0, "ssl-zoo pretrain KEY=VALUE ..."),
        (("--version",), 0, __version__),
        (("list",), 0, "mae_small"),
    ],
)
def test_answers_before_anything_heavy_is_imported(words, code, said):
    ended, printed, seconds = called(*words, program=WATCHED)
    assert ended == code, printed
    assert said in printed
    assert "HEAVY []" in printed
    assert "Traceback" not in printed
    assert seconds < 5  # about 1 on a quiet machine


def test_the_installed_command():
    code, printed, _ = called("--version")
    assert (code, printed.strip()) == (0, __version__)


# What composes and cannot work


def refused(folder: Path, cache: Path, *words: str, code: int = 1) -> str:
    """What `ssl-zoo pretrain WORDS` says when it ends with `code`, in one line and without a traceback."""
    verb = () if words[0] == "evaluate" else ("pretrain",)
    found, printed = tiny.command(folder, cache, *verb, *words)
    assert found == code, printed
    assert "Traceback" not in printed, printed
    return printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("objective=mae_small", "backbone=resnet_micro", "data=digits"), "backbone=vit_micro, vit_tiny"),
        (("objective=mae_small", "backbone=transformer_micro", *TEXT[2:]), "it takes any timm ViT"),
        (("objective=rotation", "backbone=transformer_micro", *TEXT[2:]), "any timm ViT (backbone=vit_micro"),
        (("objective=simcse", "backbone=transformer_micro", *TEXT[2:]), "set backbone.dropout=0.1"),
        (("objective=next_token", "backbone=vit_micro", "data=digits"), "it takes TextTransformer"),
        (("objective=next_token", "backbone=vit_micro", *TEXT[2:]), "take backbone=transformer_micro"),
        (("objective=simclr", "backbone=transformer_micro", "data=digits"), "take backbone=resnet_micro"),
    ],
)
def test_pairs_that_cannot_work_name_what_does(tmp_path, cache, words, said):
    text = ["data.train=text.txt", "context=16"] if "data=text_files" in words else []
    (tmp_path / "text.txt").write_text("\n\n".join(f"document {i} speaks of {i * 7}" for i in range(60)))
    printed = refused(tmp_path, cache, *words, *text, "budget.steps=1")
    assert said in printed
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("data.image_size=30",), "image 30x30 does not divide into patches of 4; use 28 or 32"),
        (("data.image_size=2",), "image 2x2 does not divide into patches of 4; use 4"),
        (("data.image_size=4",), "keeps 0; both sides need at least one"),
        (("batch_size=5000",), "the data has 1259 rows, fewer than one batch of 5000: take batch_size=1259"),
        (("batch_size=15", "trainer.accumulate_grad_batches=2"), "take a multiple of 2"),
        (("budget.steps=null",), "a budget is exactly one of steps, epochs, samples, tokens, minutes"),
        (("budget.minutes=3",), "given: {'steps': 1, 'minutes': 3}"),
        (("budget.steps=-3",), "budget.steps must be positive"),
        (("budget.steps=null", "budget.tokens=100"), "budget.tokens is for text"),
        (("resume=https://example.com/a.ckpt",), "no such file; use resume=auto"),
        (("keep=1",), "keep=1: with fewer than two"),
        (("objective.masked=1.5",), "both sides need at least one"),
    ],
)
def test_settings_that_cannot_work(tmp_path, cache, words, said):
    assert said in refused(tmp_path, cache, *IMAGES, "budget.steps=1", "trainer=cpu", *words)


def test_scored_pairs_are_only_measured_with(tmp_path, cache):
    words = ("objective=masked_lm", "backbone=transformer_micro", "data=stsb", "budget.steps=1")
    assert "only `ssl-zoo evaluate` reads; take data=stdlib" in refused(tmp_path, cache, *words)


def test_images_that_cannot_work(tmp_path, cache):
    words = ("objective=rotation", "backbone=resnet_micro", "data=image_folder", "data.image_size=16")
    words += ("budget.steps=1", "batch_size=2", "trainer=cpu")
    for name, count in (("cat", 1), ("dog", 5)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (20, 20), (i * 20, 3, 9)).save(tmp_path / "pets" / name / f"{i}.png")
    (tmp_path / "empty").mkdir()
    assert "the folder 'empty' holds no images" in refused(tmp_path, cache, *words, "data.train=empty")
    assert "'nowhere' does not exist" in refused(tmp_path, cache, *words, "data.train=nowhere")
    printed = refused(tmp_path, cache, *words, "data.train=pets")
    assert "class 'cat' has 1 sample(s), too few to carve 0.1 off" in printed
    (tmp_path / "pets/dog/4.png").write_bytes(b"not an image")
    printed = refused(tmp_path, cache, *words, "data.train=pets")
    assert "dog/4.png: " in printed
    assert "on_bad_sample=skip" in printed


def test_text_that_cannot_work(tmp_path, cache):
    words = (*TEXT, "budget.steps=1", "batch_size=2", "trainer=cpu")
    (tmp_path / "latin.txt").write_bytes(b"good line\n\n" + "ah, café".encode("latin-1") * 30)
    (tmp_path / "short.txt").write_text("a few words\n\nand more\n\nand a third")
    (tmp_path / "nothing.txt").write_text("")
    printed = refused(tmp_path, cache, *words, "data.train=latin.txt")
    assert "latin.txt, line 3: byte 18 of the text (0xe9) is not UTF-8" in printed
    printed = refused(tmp_path, cache, *words, "data.train=short.txt")
    assert "one row needs 128 + 1 of lookahead: give more text or ask for shorter rows" in printed
    assert "holds no text" in refused(tmp_path, cache, *words, "data.train=nothing.txt")
    assert "no text at nowhere.txt" in refused(tmp_path, cache, *words, "data.train=nowhere.txt")


def test_evaluation_that_cannot_work(tmp_path, cache):
    words = ("evaluate", "data=digits")
    assert "Missing mandatory value: run" in refused(tmp_path, cache, *words)
    (tmp_path / "my runs/vicreg").mkdir(parents=True)
    missing = refused(tmp_path, cache, *words, "run=nowhere")
    assert "there is no folder nowhere; `ssl-zoo pretrain` says" in missing
    assert "begins" not in missing  # at once, before torch is loaded
    misspelt = refused(tmp_path, cache, "evaluate", "my runs/vicregg", "data=digits")
    assert "there is no folder my runs/vicregg; did you mean 'my runs/vicreg'?" in misspelt
    (tmp_path / "begun").mkdir()
    printed = refused(tmp_path, cache, *words, "run=begun")
    assert "no backbone in begun" in printed
    assert "resume=auto" in printed


# Code that a configuration names


@pytest.mark.parametrize(
    "target",
    [
        "pathlib.Path.unlink",
        "shutil.rmtree",
        "ssl_zoo.hub.shutil.rmtree",
        "ssl_zoo.hub.Path.unlink",
        "${evil}",
    ],
)
@pytest.mark.parametrize("inside_a_list", [False, True])
def test_untrusted_targets_are_refused(target, inside_a_list):
    evil = {"_target_": target, "_args_": ["victim"]}
    cfg = OmegaConf.create({"evil": "os.remove", "objective": {"view": [evil] if inside_a_list else evil}})
    with pytest.raises(ConfigError, match=r"objective\.view.*_target_=.* is not part of ssl_zoo"):
        refuse_unknown_targets(cfg, set())


def test_trusted_targets():
    names = ["ssl_zoo.objectives.mae.MAE", "ssl_zoo.views.masks.Spans", "ssl_zoo.optim.adamw"]
    cfg = OmegaConf.create({"parts": [{"_target_": name} for name in (*names, "???", "mine.Mine")]})
    refuse_unknown_targets(cfg, {"mine.Mine"})
    with pytest.raises(ConfigError, match=r"parts\.4\._target_=mine\.Mine"):
        refuse_unknown_targets(cfg, set())


MINE = '''
from ssl_zoo import Loss, Objective

class Mine(Objective):
    """Pulls features together."""
    takes = ("vit", "cnn")

    def __init__(self, backbone, strength=1.0):
        super().__init__(backbone)
        self.strength = strength

    def forward(self, batch):
        features = self.backbone(batch.x.float() / 255).pooled
        return Loss(self.strength * features.var(0).mean(), {})
'''
SMALL = (
    *("backbone=vit_micro", "data=digits", "data.image_size=8", "backbone.depth=1", "backbone.embed_dim=16"),
    *("backbone.num_heads=2", "batch_size=16", "trainer=cpu"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache):
    """A run of one's own objective, named on the command line."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text(MINE)
    words = ("objective._target_=mine.Mine", "+objective.strength=2.0", *SMALL, "budget.steps=3", "run=run")
    code, printed = tiny.command(folder, cache, "pretrain", *words)
    assert code == 0, printed
    assert "objective   Mine" in printed
    return folder / "run"


def test_ones_own_objective(run):
    config = OmegaConf.load(run / "config.yaml")
    assert config.objective == {"_target_": "mine.Mine", "strength": 2.0, "_partial_": True}
    assert config.data.image_size == config.backbone.image_size == 8
    assert json.loads((run / "summary.json").read_text())["objective"] == "Mine"
    command = json.loads((run / "environment.json").read_text())["command"]
    assert command[1] == "pretrain"
    assert "objective._target_=mine.Mine" in command


def test_ones_own_objective_that_is_not_there(tmp_path, cache):
    (tmp_path / "mine.py").write_text(MINE)
    printed = refused(tmp_path, cache, "objective._target_=mine.Mime", *SMALL, "budget.steps=1")
    assert "Are you sure that 'Mime' is importable from module 'mine'?" in printed


def test_other_settings_in_the_folder_of_a_run_are_refused(run, cache):
    words = ("objective._target_=mine.Mine", "+objective.strength=3.0", *SMALL, "run=run", "budget.steps=3")
    printed = refused(run.parent, cache, *words, "optimizer.lr=0.1")
    assert (
        "run holds a run of other settings (objective.strength: 2.0 -> 3.0; optimizer.lr: 0.001 -> 0.1)"
        in printed
    )
    assert OmegaConf.load(run / "config.yaml").objective.strength == 2.0


def test_a_start_that_failed_does_not_hold_the_folder(tmp_path, cache):
    words = (
        "objective=rotation",
        "backbone=vit_micro",
        *SMALL[1:],
        "budget.steps=1",
        "run=run",
        "batch_size=5000",
    )
    assert "fewer than one batch" in refused(tmp_path, cache, *words)
    code, printed = tiny.command(tmp_path, cache, "pretrain", *words[:-1], "batch_size=16")
    assert code == 0, printed


def test_text_from_the_command(tmp_path, cache):
    (tmp_path / "text.txt").write_text("\n\n".join(f"document {i} speaks of {i * 7}" for i in range(90)))
    words = (*TEXT, "data.train=text.txt", "context=16", "batch_size=4", "trainer=cpu", "run=run")
    words += ("backbone.width=16", "backbone.depth=1", "backbone.heads=2")
    code, printed = tiny.command(tmp_path, cache, "pretrain", *words, "budget.tokens=200")
    assert code == 0, printed
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["steps"], summary["tokens"]) == (3, 192)
    assert summary["val/bits_per_byte"] > 0
    assert (tmp_path / "run/tokenizer").is_dir()
    code, printed = tiny.command(tmp_path, cache, "pretrain", *words, "budget.tokens=400")
    assert code == 0, printed
    assert "resuming    after step 3" in printed
    printed = refused(tmp_path, cache, "evaluate", "run=run", "data=digits", "device=cpu")
    assert "run holds a backbone for texts; data=digits is image" in printed


def test_evaluation_writes_what_it_prints(run, cache):
    words = (
        "evaluate",
        "run=run",
        "data=digits",
        "data.image_size=8",
        "protocol=knn",
        "labels=5",
        "seeds=[0,1]",
    )
    code, printed = tiny.command(run.parent, cache, *words, "floors=true", "device=cpu")
    assert code == 0, printed
    report = json.loads((run / "evaluations/digits-knn-5.json").read_text())
    assert set(report["results"]) == {"pretrained", "random, frozen", "raw pixels"}
    for name, result in report["results"].items():
        assert name in printed
        assert result["labels"] == 5
    assert "written to run/evaluations" in printed


def test_a_damaged_backbone_is_named(run, cache, tmp_path):
    copy = tmp_path / "run/backbone"
    copy.mkdir(parents=True)
    (copy / "config.json").write_bytes((run / "backbone/config.json").read_bytes())
    weights = (run / "backbone/model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    printed = refused(tmp_path, cache, "evaluate", "run=run", "data=digits", "device=cpu")
    assert "model.safetensors cannot be read" in printed
