"""Files that are data stay data: configurations, recipes, folders and checkpoints of a stranger run no code.

Each trap would write a marker. `test_the_trap_works` shows that it does where nothing guards it.
"""

# ruff: noqa: F811 (fixtures are asked for by the name under which they are imported)
import contextlib
import inspect
import json
import pickle
import re
import sys
import warnings
from pathlib import Path

import boards
import hydra.utils
import pytest
import timm.models
import tiny
import torch
import yaml
from browser import browser  # noqa: F401
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from zoo_backbones import backbone

from ssl_zoo import hub
from ssl_zoo.cli import leaderboard
from ssl_zoo.cli.verb import run_verb
from ssl_zoo.compose import composition, gate
from ssl_zoo.compose.boards import BoardComposer
from ssl_zoo.compose.gate import ConfigError, instantiate, naming, refuse_unknown_targets
from ssl_zoo.compose.reopen import reopen
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.tokenizer import Tokenizer, bytes_tokenizer
from ssl_zoo.hub import HubError
from ssl_zoo.leaderboard import stages
from ssl_zoo.leaderboard.board import load
from ssl_zoo.pages import page as pages
from ssl_zoo.pretrain.checkpoint import CheckpointError
from ssl_zoo.pretrain.checkpoint_io import AtomicCheckpointIO
from ssl_zoo.pretrain.export import exported

OBJECTIVE = "ssl_zoo.objectives.rotation.Rotation"
WORDS = ("objective=rotation", "backbone=resnet_micro", "data=digits", "budget.steps=1", "trainer=cpu")


class Evil:
    """What a pickle does when it is opened."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (open, (self.marker, "w"))


@pytest.fixture
def marker(tmp_path):
    """A file that must not be there in the end."""
    file = tmp_path / "marker"
    yield file
    assert not file.exists(), "a trap went off"


@pytest.fixture
def trap(tmp_path, marker):
    """A `_target_` that unpickles a file, which writes the marker."""
    file = tmp_path / "weights.pt"
    file.write_bytes(pickle.dumps(Evil(marker)))
    return {"_target_": "timm.models.load_state_dict", "checkpoint_path": str(file), "weights_only": False}


def goes_off(spring, marker):
    """Whether a trap works where nothing guards it; cleans up."""
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        spring()
    worked = marker.exists()
    marker.unlink(missing_ok=True)
    return worked


def test_the_trap_works(trap, marker):
    assert goes_off(lambda: hydra.utils.instantiate(trap), marker)


# What a configuration may build


def nested(trap):
    """name -> a configuration in which the trap hides."""
    harmless = {"_target_": OBJECTIVE, "_partial_": True}
    return {
        "plain": trap,
        "a nested value": harmless | {"view": trap},
        "in a list": harmless | {"views": [[1, trap]]},
        "in _args_": harmless | {"_args_": [trap]},
        "not recursive": harmless | {"_recursive_": False, "view": trap},
        "partial": trap | {"_partial_": True},
        "interpolated": {"evil": trap["_target_"], "data": trap | {"_target_": "${evil}"}},
        "made by a resolver": {"data": "${oc.create:{_target_:pathlib.Path.touch}}"},
        "from the environment": {"data": trap | {"_target_": "${oc.env:EVIL}"}},
        "an escaped interpolation": harmless | {"seed": "\\${oc.create:{_target_:pathlib.Path.touch}}"},
        "through a module of ours": trap | {"_target_": "ssl_zoo.backbones._timm.load_state_dict"},
        "by attributes": trap | {"_target_": "ssl_zoo.hub.shutil.rmtree"},
        "a function of ours that is no part": trap | {"_target_": "ssl_zoo.hub.load"},
        "torch": trap | {"_target_": "torch.load"},
        "timm": trap | {"_target_": "timm.create_model"},
        "another spelling": harmless | {"view": {"_TARGET_": "x"}},
        "a space": harmless | {"view": {"_target_ ": "x"}},
        "no text": {"_target_": {"_target_": "x"}},
        "null": {"_target_": None},
        "a number": harmless | {"view": {"_target_": 3}},
        "a space in the name": {"_target_": f" {OBJECTIVE}"},
    }


@pytest.mark.fault("target", how="traps in every corner of a configuration")
@pytest.mark.parametrize("name", nested({"_target_": "", "checkpoint_path": ""}))
def test_only_parts_are_built(name, trap, marker, monkeypatch):
    monkeypatch.setenv("EVIL", trap["_target_"])
    cfg = OmegaConf.create({"objective": nested(trap)[name]})
    node = cfg.objective.data if "data" in cfg.objective else cfg.objective
    for refuse in (lambda: refuse_unknown_targets(cfg), lambda: instantiate(node)):
        with pytest.raises(ConfigError, match=r"is not part of ssl_zoo|hides an interpolation"):
            refuse()


def test_parts_are_exact_names_of_this_library():
    assert {OBJECTIVE, "ssl_zoo.views.masks.WholeWords", "ssl_zoo.optim.adamw"} <= gate.parts()
    assert {"ssl_zoo.views.recipes.swav", "ssl_zoo.views.view.Views"} <= gate.parts()
    for name in gate.parts():
        found = hydra.utils.get_object(name)
        assert f"{found.__module__}.{found.__qualname__}" == name
    assert all(name.startswith("ssl_zoo.") for name in gate.parts())


def test_a_command_line_trusts_the_names_it_spells_and_no_others():
    named = gate.named
    assert named(["objective._target_=mine.X"]) == {"mine.X"}
    assert named(["+objective.view={_target_: mine.V, size: 8}", "seed=3"]) == {"mine.V"}
    assert named(["'objective._target_'=x", "data.train=a_target_=b", "run=mine.X"]) == set()
    assert named(["objective._target_=mine.A,'mine.B'"]) == {"mine.A", "mine.B"}
    cfg = OmegaConf.create({"objective": {"_target_": "mine.X"}})
    with naming({"mine.X"}):
        refuse_unknown_targets(cfg)
    for others in ({"mine"}, {"mine.X.y"}, set()):
        with naming(others), pytest.raises(ConfigError, match=r"objective\._target_=mine\.X is not part"):
            refuse_unknown_targets(cfg)


def test_the_working_folder_is_searched_only_where_the_command_line_names_code(tmp_path, marker, monkeypatch):
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins/evil.py").write_text(f"open({str(marker)!r}, 'w')")
    code, said = tiny.command(tmp_path, tmp_path / "cache", "pretrain", *WORDS, "batch_size=none")
    assert code == 1
    assert "batch_size='none' is a text" in said
    monkeypatch.chdir(tmp_path)
    with naming(set()):
        assert sys.path[0] != str(tmp_path)
    with naming({"mine.X"}):
        assert sys.path[0] == str(tmp_path)
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    "tag", ["object/apply:os.system", "object/new:os.system", "name:os.system", "module:os"]
)
def test_yaml_tags_of_python_are_not_read(tmp_path, marker, tag):
    file = tmp_path / "config.yaml"
    file.write_text(f"objective: !!python/{tag} ['touch {marker}']\n")
    with pytest.raises((yaml.YAMLError, OmegaConfBaseException), match="could not determine a constructor"):
        OmegaConf.load(file)
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load(file.read_text())


# What reaches a user: runs, YAML files, boards


def configs(folder, group, text):
    """A folder of configurations with one file, for Hydra's --config-dir."""
    (folder / "configs" / group).mkdir(parents=True)
    (folder / "configs" / group / "trap.yaml").write_text(text)
    return ("--config-dir", str(folder / "configs"))


def refused(folder, *words):
    """What a command says that fails without a traceback."""
    code, said = tiny.command(folder, folder / "cache", *words)
    assert code == 1, said
    assert "Traceback" not in said, said
    return said


def hydra_traps(marker):
    """name -> the node `hydra` of a YAML file that runs code before anything of ours is called."""
    touch = {
        "_target_": "pathlib.Path.touch",
        "_args_": [{"_target_": "pathlib.Path", "_args_": [str(marker)]}],
    }
    copy = {"()": "shutil.copyfile", "src": __file__, "dst": str(marker)}
    log = {"version": 1, "root": {}, "disable_existing_loggers": False, "handlers": {"h": copy}}
    file = {"version": 1, "handlers": {"h": {"class": "logging.FileHandler", "filename": str(marker)}}}
    return {
        "callbacks": {"callbacks": {"x": touch}},
        "launcher": {"launcher": {"_target_": "mine.Launcher"}},
        "sweeper": {"sweeper": {"_target_": "mine.Sweeper"}},
        "job_logging": {"job_logging": log},
        "hydra_logging": {"hydra_logging": file},
        "environment": {"job": {"env_set": {"LD_PRELOAD": "evil.so"}}},
        "folder": {"run": {"dir": str(marker)}, "output_subdir": "."},
    }


def composed(monkeypatch, *words):
    """Hydra's application over configs/pretrain.yaml, which does nothing, called with these words."""
    monkeypatch.setattr(sys, "argv", ["ssl-zoo pretrain", *words])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    folder = str(composition.config_folder())
    hydra.main(version_base="1.3", config_path=folder, config_name="pretrain")(lambda cfg: None)()


def test_hydra_keys_of_a_yaml_file_are_refused(tmp_path, marker, monkeypatch):
    """Before Hydra acts on them: its own composition raises, whatever flag asked for it."""
    monkeypatch.chdir(tmp_path)
    words = ("objective=rotation", "backbone=resnet_micro", "data=digits", "experiment=trap")
    for name, node in hydra_traps(marker).items():
        text = "# @package _global_\n" + yaml.safe_dump({"hydra": node})
        flags = configs(tmp_path / name, "experiment", text)
        if name in ("callbacks", "job_logging"):
            assert goes_off(lambda: composed(monkeypatch, *flags, *words), marker)  # noqa: B023
        for more in ([], ["-m"], ["--cfg", "job"]):
            with (
                gate.guarded(words),
                pytest.raises(gate.HydraKeyError, match=r"^hydra\..* comes out of a YAML"),
            ):
                composed(monkeypatch, *flags, *more, *words)


def test_hydra_keys_of_a_yaml_file_are_refused_in_plain_words(tmp_path, marker):
    node = yaml.safe_dump({"hydra": hydra_traps(marker)["callbacks"]})
    flags = configs(tmp_path, "experiment", "# @package _global_\n" + node)
    said = refused(tmp_path, "pretrain", *flags, *WORDS, "experiment=trap")
    assert "hydra.callbacks.x._args_.0._args_.0=" in said
    assert "comes out of a YAML file" in said


def test_hydra_keys_of_the_command_line_are_obeyed():
    words = ["objective=rotation", "backbone=resnet_micro", "data=digits", "hydra.run.dir=/nowhere"]
    composition.check(
        "pretrain", [*words, "hydra.verbose=true", "+hydra.callbacks.mine._target_=mine.Callback"]
    )
    with pytest.raises(
        gate.ConfigError, match=r"hydra\.run\.dir=/nowhere comes out of a YAML file or a recipe"
    ):
        gate.refuse_hydra_words(words)
    with pytest.raises(SystemExit, match="unpickles a file"):
        run_verb("pretrain", ["--experimental-rerun", "config.pickle"])


def test_a_launcher_takes_the_gate_along():
    with (
        gate.guarded(["hydra.verbose=true"]),
        initialize_config_dir(str(composition.config_folder()), version_base="1.3"),
    ):
        loader = pickle.loads(pickle.dumps(GlobalHydra.instance().config_loader()))
    assert isinstance(loader, gate.Loader)
    assert loader.typed == ("hydra.verbose=true",)


@pytest.mark.parametrize("group", ["data", "optimizer", "tokenizer", "schedule", "backbone", "trainer"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_yaml_file_builds_nothing_else(tmp_path, trap, marker, group, inside):
    """Composed as `ssl-zoo pretrain` composes; each group's parts go through `gate.instantiate` after."""
    node = {"_target_": OBJECTIVE, "value": [trap]} if inside else trap
    (tmp_path / "trap.yaml").write_text(json.dumps(node))
    cfg = composition.build("pretrain", [*WORDS[:3]])
    cfg = OmegaConf.merge(OmegaConf.to_container(cfg), {})  # open for other keys
    cfg[group] = OmegaConf.load(tmp_path / "trap.yaml")
    with pytest.raises(ConfigError, match=rf"{group}\..*_target_=timm\.models\.load_state_dict is not part"):
        refuse_unknown_targets(cfg)
    with pytest.raises(ConfigError, match=rf"{group}\..*_target_=timm\.models\.load_state_dict is not part"):
        instantiate(cfg[group], _convert_="all", _partial_=True)


def test_a_ladder_that_sets_a_target_is_refused_when_it_is_built(trap, marker):
    """Values of `ladder` arrive after the configuration was looked at."""
    cfg = composition.build("scale", [*WORDS[:3], "steps=[1]"])
    OmegaConf.set_struct(cfg, False)
    refuse_unknown_targets(cfg)
    OmegaConf.update(cfg, "backbone._target_", trap["_target_"])
    with pytest.raises(ConfigError, match=r"backbone\._target_=timm\.models\.load_state_dict"):
        instantiate(cfg.backbone, _convert_="all", _partial_=True)


def test_no_other_file_calls_hydra():
    package = Path(hub.__file__).parent
    builds = re.compile(r"hydra\.utils|get_object|get_class|get_method")
    callers = [file.name for file in package.rglob("*.py") if builds.search(file.read_text())]
    assert callers == ["gate.py"]


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory):
    """A finished run whose folder a stranger has changed, made once: (folder, function to set its traps)."""
    folder = tmp_path_factory.mktemp("hostile")
    words = (*WORDS, "data.image_size=8", "batch_size=16", "run=run", "save_every=1")
    code, said = tiny.command(folder, folder / "cache", "pretrain", *words)
    assert code == 0, said
    return folder


@pytest.mark.fault(
    "target", how="a run folder whose config.yaml is full of traps: reported, evaluated, gone on with"
)
def test_a_run_folder_of_a_stranger(hostile_run, trap, marker):
    """`report` shows the rest; `evaluate` and going on with it build nothing of it."""
    where = hostile_run / "run"
    before = OmegaConf.load(where / "config.yaml")
    hostile = OmegaConf.merge(before, {})
    hostile.data = hostile.objective = hostile.backbone = trap
    hostile.tokenizer = hostile.optimizer = hostile.schedule = trap
    hostile.hydra = {"callbacks": {"x": trap}}
    OmegaConf.save(hostile, where / "config.yaml")
    try:
        opened = reopen(where)
        assert opened.objective is None
        assert sum("is not part of ssl_zoo" in note for note in opened.notes) == 2
        words = (*WORDS, "data.image_size=8", "batch_size=16", "run=run", "save_every=1")
        said = refused(hostile_run, "pretrain", *words, "budget.steps=2")
        assert "holds a run of other settings" in said
        code, said = tiny.command(
            hostile_run, hostile_run / "cache", "evaluate", "run=run", "data=digits", "data.image_size=8",
            "protocol=knn", "seeds=[0]", "labels=1", "device=cpu",
        )  # fmt: skip
        assert code == 0, said
    finally:
        OmegaConf.save(before, where / "config.yaml")


@pytest.mark.fault("pickle", how="a training checkpoint with a trap beside its weights")
def test_a_checkpoint_of_a_stranger(tmp_path, marker):
    file = tmp_path / "step-000000000001.ckpt"
    torch.save({"state_dict": {}, "evil": Evil(marker)}, file)
    with pytest.raises(CheckpointError, match="holds more than tensors and plain values"):
        AtomicCheckpointIO().load_checkpoint(file)


@pytest.mark.fault("target", how="recipes and words of a board")
def test_recipes_of_a_board_are_not_trusted(tmp_path, trap, marker, monkeypatch):
    def board(name, pretrain):
        made = boards.write(tmp_path / name, {"row": ("Row", {"pretrain": pretrain}, [])})
        about = yaml.safe_load((made / "board.yaml").read_text())
        about["measures"] = {"linear": {"title": "Linear", "data": "digits", "protocol": "linear"}}
        (made / "board.yaml").write_text(yaml.safe_dump(about | {"fixed": {"data": "digits"}}))
        return made

    plain = {"objective": "rotation", "backbone": "resnet_micro", "budget.steps": 1}
    hostile = {
        "target": plain | {"objective._target_": trap["_target_"]},
        "nested": plain | {"+objective.view": "{_target_: timm.models.load_state_dict}"},
        "optimizer": plain | {"optimizer._target_": trap["_target_"]},
        "callbacks": plain | {"+hydra.callbacks.x._target_": "pathlib.Path.touch"},
        "logging": plain | {"hydra/job_logging": "default"},
        "searchpath": plain | {"hydra.searchpath": "[pkg://antigravity]"},
    }
    said = r"is not part of ssl_zoo|comes out of a YAML file or a recipe"
    monkeypatch.chdir(tmp_path)
    for name, words in hostile.items():
        folder = board(name, words)
        with pytest.raises(SystemExit, match=said):
            leaderboard.main(["run", str(folder), "seeds=1"])
        recipe = load(folder).recipes["row"]
        with pytest.raises(ConfigError, match=said):
            BoardComposer().pretraining(stages.first_overrides(load(folder), recipe, 0), frozenset())


# Folders of backbones and tokenizers


ABOUT = {kind: hub.describe(backbone(kind)) for kind in ("vit", "cnn", "transformer", "encoder")}
LARGE = 1 << 23
OPENS = {  # arguments of timm's factory and of its builder
    "checkpoint_path": "weights.pt",
    "pretrained": "weights.pt",
    "pretrained_cfg": {"file": "weights.pt"},
    "pretrained_cfg_overlay": {"file": "weights.pt"},
    "cache_dir": "/",
    "scriptable": True,
    "pruned": True,
    "unheard_of": 1,
}
DESCRIPTIONS = [
    *((kind, f"config.{key}", value) for kind in ("vit", "cnn") for key, value in OPENS.items()),
    ("vit", "config.name", "hf-hub:somebody/model"),
    ("vit", "config.name", "local-dir:folder"),
    ("vit", "config.name", ["vit_tiny_patch16_224"]),
    ("vit", "config.act_layer", "os.system"),
    ("vit", "config.embed_dim", 10**9),
    ("vit", "config.embed_dim", LARGE),
    ("vit", "config.image_size", [LARGE, LARGE]),
    ("vit", "config.mean", [float("inf")] * 3),
    ("vit", "config", []),
    ("vit", "class", ["TimmViT"]),
    ("vit", "class", "shutil.rmtree"),
    ("vit", "order", None),
    ("vit", "order", "sideways"),
    ("cnn", "config.channels", [LARGE] * 4),
    ("transformer", "config.depth", 10**400),
    ("transformer", "config.depth", LARGE),
    ("transformer", "config.width", LARGE),
    ("transformer", "config.heads", 0),
    ("transformer", "config.vocabulary", [LARGE, 0, 1, 2, []]),
    ("transformer", "config.pretrained", True),
    ("encoder", "config.name", "somebody/model"),
    ("encoder", "config.pretrained", True),
    ("encoder", "config.trust_remote_code", True),
    ("encoder", "config.attention", "somebody/kernel"),
    ("encoder", "config.config.auto_map", {"AutoModel": "somebody/model--code.Evil"}),
    ("encoder", "config.config.quantization_config", {"quant_method": "awq"}),
    ("encoder", "config.config._attn_implementation", "somebody/kernel"),
    ("encoder", "config.config.attn_implementation", "somebody/kernel"),
    ("encoder", "config.config.model_type", "detr"),
    ("encoder", "config.config.hidden_size", LARGE),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "key", "value"), DESCRIPTIONS)
def test_a_description_of_a_backbone_says_what_it_may(kind, key, value):
    about = json.loads(json.dumps(ABOUT[kind]))
    *path, last = key.split(".")
    node = about
    for name in path:
        node = node[name]
    node[last] = value
    with pytest.raises(HubError):
        hub.build(about, 1 << 24)


@pytest.mark.parametrize("kind", ABOUT)
def test_descriptions_of_this_library_are_built(kind, tmp_path):
    made = backbone(kind)
    assert hub.describe(hub.build(json.loads(json.dumps(ABOUT[kind])))) == ABOUT[kind]
    opened = hub.load(hub.save(made, tmp_path / kind))
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), opened.parameters(), strict=True))


@pytest.mark.parametrize("causal", [True, False])
def test_descriptions_of_format_1_are_built(causal):
    """They had the class in `kind`, and `causal` for the order."""
    about = {k: ABOUT["transformer"][k] for k in ("config", "dim")}
    about |= {"format": 1, "kind": "TextTransformer", "causal": causal, "modality": "text"}
    made = hub.build(about)
    assert made.config == ABOUT["transformer"]["config"]
    assert made.order == ("causal" if causal else "both")
    for wrong in (None, 1, "true"):
        with pytest.raises(HubError, match="order, both or causal"):
            hub.build(about | {"causal": wrong})


@pytest.mark.fault("target", how="a backbone folder whose config.json names a pickle")
def test_a_backbone_folder_names_no_pickle(tmp_path, trap, marker):
    """With the versions of timm before 1.0.26, opening this one ran the pickle."""
    folder = hub.save(backbone("vit"), tmp_path / "backbone")
    about = json.loads((folder / "config.json").read_text())
    about["config"]["checkpoint_path"] = trap["checkpoint_path"]
    (folder / "config.json").write_text(json.dumps(about))
    with pytest.raises(HubError, match=r"config\.json: a saved TimmViT has no checkpoint_path"):
        hub.load(folder)
    with pytest.raises(ValueError, match="vit_tiny_patch16_224 has no argument checkpoint_path"):
        backbone("vit", checkpoint_path=trap["checkpoint_path"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"format": 1' + "0" * 5000 + "}", "damaged"),
        ('{"format": NaN}', "NaN is no number"),
        ("[]", "holds a list"),
        ("{", "damaged"),
        ("{}", "format None is not 2"),
    ],
)
def test_damaged_descriptions_are_named(tmp_path, text, said):
    folder = hub.save(backbone("vit"), tmp_path / "backbone")
    (folder / "config.json").write_text(text)
    with pytest.raises(HubError, match=rf"config\.json.*{said}"):
        hub.load(folder)
    bytes_tokenizer().save(tmp_path / "tokenizer")
    (tmp_path / "tokenizer/vocabulary.json").write_text(text)
    with pytest.raises(DataError, match=r"vocabulary\.json is not what"):
        Tokenizer.load(tmp_path / "tokenizer")


@pytest.mark.parametrize(
    "change",
    [
        {"inner": "x"},
        {"vocabulary": [1]},
        {"vocabulary": {"size": {}, "evil": 1}},
        {"prefix": 3},
        {"offset": 1 << 40},
    ],
)
def test_a_tokenizer_folder_says_what_it_may(tmp_path, change):
    bytes_tokenizer().save(tmp_path)
    made = json.loads((tmp_path / "vocabulary.json").read_text())
    (tmp_path / "vocabulary.json").write_text(json.dumps(made | change))
    with pytest.raises(DataError, match=r"vocabulary\.json is not what"):
        Tokenizer.load(tmp_path)


def test_timm_does_not_unpickle_by_itself():
    """What the floor of timm in pyproject.toml stands for: 1.0.26 is the first to read weights alone."""
    for function in (timm.models.load_state_dict, timm.models.load_checkpoint):
        assert inspect.signature(function).parameters["weights_only"].default is True


# Pages


INJECTED = """<script>document.title = "ran"</script><img src="data:," onerror="document.title = 'ran'">
<svg onload="document.title = 'ran'"></svg><a id="evil" href="javascript:document.title = 'ran'">x</a>
<script src="data:text/javascript,document.title = 'ran'"></script><base href="data:,">
<body data-charting="data:text/javascript,document.title = 'ran'">"""
RUNG = dict.fromkeys(("steps", "seed", "parameters", "flops", "units", "seconds", "loss", "frontier"), 1)


def scale_page(text):
    """A page with a chart, in whose table and text a stranger has written."""
    chart = {"mark": "point", "data": {"values": [{"a": 1}]}, "encoding": {"x": {"field": "a"}}}
    rungs = [RUNG | {"size": text, "unit": text}]
    return pages.render("scale.html", {"scale": chart}, title="calm", rungs=rungs, laws=[text])


def test_markup_that_slips_through_runs_nothing(tmp_path, browser, monkeypatch):
    """Escaping switched off: the policy of the page is a wall of its own."""
    made = pages.environment()
    made.autoescape = False
    monkeypatch.setattr(pages, "environment", lambda: made)
    html = scale_page(INJECTED)
    assert html.count(INJECTED) == 3
    (tmp_path / "page.html").write_text(html)
    opened = browser.new_page()
    blocked = []
    opened.on(
        "console", lambda said: blocked.append(said.text) if "Content Security Policy" in said.text else None
    )
    opened.goto((tmp_path / "page.html").as_uri())
    opened.evaluate("window.ready")
    assert opened.locator("#scale svg").count() == 1, "the page's own scripts run"
    opened.evaluate("document.getElementById('evil').click()")
    opened.evaluate("new Promise((done) => setTimeout(done, 100))")
    assert opened.title() == "calm"
    assert sum("violates" in said and "script-src" in said for said in blocked) >= 4, blocked
    opened.close()


def test_the_policy_allows_no_other_script():
    html = scale_page("a < b")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    (allowed,) = re.findall(r"script-src ([^;]+)", policy)
    assert set(allowed.split()) - {"'strict-dynamic'"} == set(re.findall(r"'sha256-[^']+'", policy))
    for file in Path(pages.__file__).with_name("templates").glob("*.html"):
        assert not re.search(r"<[^>]+\son\w+=|javascript:|<script>(?!{{ one }})", file.read_text()), file


def test_a_flipped_byte_of_the_weights_is_noticed(tmp_path):
    model = backbone("cnn")
    folder = hub.save(model, tmp_path / "backbone")
    assert exported(model, model.state_dict(), folder)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    with pytest.raises(HubError, match=r"model\.safetensors cannot be read: its bytes are not those"):
        hub.load(folder)
    assert not exported(model, model.state_dict(), folder)
    about = folder / "config.json"
    about.write_text(json.dumps({k: v for k, v in json.loads(about.read_text()).items() if k != "sha256"}))
    hub.load(folder)  # of an earlier version: nothing says what was saved
