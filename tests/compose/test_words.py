"""The words of the command line: Hydra's grammar and flags, keys that nothing reads, help, data by path."""

import gzip
import json
import os
import re
import subprocess
import sys
import time

import pytest
from omegaconf import OmegaConf
from PIL import Image

from ssl_zoo import cli
from ssl_zoo.cli.verb import run_verb
from ssl_zoo.compose import composition, data_names, manual, overrides, own_tables, places, renamed, schema
from ssl_zoo.compose.composition import ConfigError, config_folder
from ssl_zoo.compose.gate import is_own
from ssl_zoo.compose.signatures import signature

IMAGES = ["objective=simclr_small", "backbone=vit_micro", "data=digits"]


def composed(verb, *given, sweeps=False):
    settled = composition.settle(verb, list(given), sweeps=sweeps)
    return composition.build(verb, settled)


def refused(*given, verb="pretrain"):
    with pytest.raises(ConfigError) as error:
        composition.settle(verb, [*IMAGES, *given] if verb == "pretrain" else list(given))
    assert len(str(error.value).splitlines()) <= 2
    return str(error.value)


# Values


@pytest.mark.parametrize(
    "value",
    [
        "runs/lr=1e-3",
        "x[1]",
        "1e-3",
        "007",
        "true",
        "/a b/c (1)/",
        "it's",
        'a"b',
        "é#%&",
        "a,b",
        "a\\b",
        "[1]",
    ],
)
def test_a_path_means_itself(value):
    assert composed("pretrain", *IMAGES, f"run={value}").run == value
    assert composed("evaluate", "data=image_folder", f"data.train=/{value}").data.train == f"/{value}"


def test_hydras_grammar_is_honoured():
    cfg = composed(
        "pretrain", *IMAGES, "run='a b'", "~data.test_fraction", "++seed=3", "optimizer.betas=[0.5,0.6]"
    )
    assert (cfg.run, cfg.seed, list(cfg.optimizer.betas)) == ("a b", 3, [0.5, 0.6])
    assert "test_fraction" not in cfg.data
    assert composed("pretrain", *IMAGES, "run=null").run is None
    assert composed("pretrain", *IMAGES, "run=runs/${seed}").run == "runs/0"
    assert composed("pretrain", *IMAGES, "run=a${b").run == "a${b"


def test_a_term_of_a_sum_may_go():
    words = ["objective=masked_lm_crops", "backbone=bag", "data=stdlib"]
    gone = [f"~objective.{part}.masked_lm" for part in ("terms", "weights", "every")]
    objective = composed("pretrain", *words, *gone).objective
    assert [list(objective[part]) for part in ("terms", "weights", "every")] == [["crops"]] * 3


def test_a_sweep_is_checked_value_by_value():
    swept = [*IMAGES, "seed=0,1", "run=a,b"]
    assert composition.settle("pretrain", swept, sweeps=True) == swept
    with pytest.raises(ConfigError, match="objective=simcrl does not exist"):
        composition.settle("pretrain", ["objective=rotation,simcrl", *IMAGES[1:]], sweeps=True)
    assert "several runs need the flag -m" in refused("seed=0,1")


def test_flags_stand_anywhere_and_take_their_values():
    flags, rest = overrides.flags(["seed=1", "--cfg", "job", "--info", "run=x", "-cd", "c=d", "-m"])
    assert (flags.cfg, flags.info, flags.config_dir, flags.multirun) == ("job", "all", "c=d", True)
    assert rest == ["seed=1", "run=x"]
    for wrong in (["--cgf", "job"], ["--cfg"], ["--cfg", "jb"], ["--experimental-rerun", "x"]):
        with pytest.raises(ConfigError):
            overrides.flags(wrong)


@pytest.mark.parametrize("flag", [["--cfg", "job"], ["-m"], ["--info"], ["--config-dir", "."]])
def test_what_is_wrong_is_said_with_flags_as_without(monkeypatch, flag):
    monkeypatch.setattr(sys, "argv", ["ssl-zoo"])
    with pytest.raises(SystemExit, match=r"no key 'sed'; did you mean 'seed'\?"):
        run_verb("pretrain", [*IMAGES, *flag, "sed=3"])
    with pytest.raises(SystemExit, match=r"data=\.\.\. is missing"):
        run_verb("pretrain", [*IMAGES[:2], *flag])


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("run=", "run= is empty"),
        ("batch_size=0", "batch_size=0 is too small; it takes 1 or more"),
        ("batch_size=null", "batch_size=null: it takes a whole number, for example"),
        ("log_every=null", "log_every=null: it takes a whole number, for example"),
        ("save_every=-1", "takes 0 or more"),
        ("seed=" + "1" * 5000, "5,005 characters"),
        ("seed=" + "1" * 30, "out of range"),
        ("optimizer.lr=nan", "out of range"),
        ("run=a\0b", "null byte"),
        ("run=\udcff", "not UTF-8"),
        ("optimizer.betas=[]", "empty"),
        ("labels=[5", "not in Hydra's grammar"),
        ("budget=3", "set budget.steps or"),
        ("~seed", "pretrain reads seed"),
        ("~data.image_size", "data.image_size is missing: ImageData needs it"),
        ("data=none/such", "no such file or folder"),
    ],
)
def test_values_that_cannot_be(word, said):
    given = [*IMAGES[:2], word] if word.startswith("data=") else [*IMAGES, word]
    with pytest.raises(ConfigError, match=re.escape(said)):
        composition.settle("pretrain", given)


# Keys


@pytest.mark.parametrize("plus", ["", "+", "++"])
@pytest.mark.parametrize(
    ("word", "key"),
    [("lr=1", "optimizer.lr"), ("temperature=1", "objective.temperature"), ("epochs=3", "budget.epochs"),
     ("image_size=16", "data.image_size")],
)  # fmt: skip
def test_the_suggestion_is_the_full_key(plus, word, key):
    assert f"did you mean {key}={word.partition('=')[2]}" in refused(plus + word)


@pytest.mark.parametrize(
    "node", ["", "objective.", "data.", "trainer.", "budget.", "objective.view.", "optimizer.", "schedule."]
)
def test_a_key_that_nothing_reads_is_refused(node):
    assert f"{node}foo" in refused(f"+{node}foo=1")


def test_an_argument_is_set_plainly():
    assert composed("pretrain", *IMAGES, "optimizer.eps=0.5").optimizer.eps == 0.5
    assert composed("pretrain", *IMAGES, "+mine=2", "seed=${mine}").seed == 2  # read by a reference


def test_keys_of_a_yaml_file_are_checked_too(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/own.yaml").write_text("# @package _global_\nlr: 0.1\n")
    with pytest.raises(ConfigError, match=r"no key 'lr'; did you mean optimizer.lr=0.1\?"):
        composition.settle("pretrain", [*IMAGES, "experiment=own"], places.Place(tmp_path))


def test_signatures_are_those_of_the_classes():
    from inspect import Parameter
    from inspect import signature as true

    from hydra.utils import get_object

    texts = "".join(f.read_text() for f in config_folder().rglob("*.yaml"))
    names = sorted(set(re.findall(r"_target_: (ssl_zoo[\w.]+)", texts)))
    assert len(names) > 30
    for name in names:
        found, given = signature(name), true(get_object(name)).parameters.values()
        kinds = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
        assert found is not None, name
        assert list(found.names) == [p.name for p in given if p.kind not in kinds], name
        assert found.open == any(p.kind == Parameter.VAR_KEYWORD for p in given), name
        needed = [p.name for p in given if p.default is Parameter.empty and p.kind not in kinds]
        assert list(found.needed) == needed, name


# The first word of report


def test_the_first_word_of_report_is_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "limit=3").mkdir()
    for name in ("runs/lr=0.1", "a b", "limit=3"):
        assert composed("report", name).run == name
    assert composed("report", "run=x=y", "limit=30").run == "x=y"
    assert "did you mean 'limit'" in refused("lmit=30", verb="report")


def test_words_without_a_key_are_run_and_data(mine, monkeypatch):
    cfg = composed("evaluate", "runs/a", "pets", "labels=5")
    assert (cfg.run, cfg.data.train, cfg.labels) == ("runs/a", "pets", 5)
    assert composed("evaluate", "runs/a", "digits").data.name == "digits"
    assert composed("evaluate", "labels=5", "pets", "run=b").data.train == "pets"


# Help


@pytest.mark.parametrize("verb", sorted(schema.VERBS))
def test_help_explains_every_key(verb, capsys):
    began = time.process_time()
    run_verb(verb, ["--help"])
    assert time.process_time() - began < 1
    page = capsys.readouterr().out
    keys = [
        key for key in OmegaConf.load(config_folder() / f"{verb}.yaml") if key not in ("defaults", "hydra")
    ]
    entries = [*manual.own_entries(verb)]
    assert set(keys) <= {one.key.split(".")[0] for one in entries}
    for one in entries:
        inner = any(other.key.startswith(f"{one.key}.") for other in entries)
        assert one.meaning or inner, f"{verb}.yaml: {one.key} has no comment"
        assert f"  {one.key}" in page
    for group, (_, meaning) in manual.groups_of(verb).items():
        assert meaning, group
        assert all(choice in page for choice in places.options(group))
        for choice in places.options(group) if group != "experiment" else ():
            for one in manual.explained(verb, group, choice):
                assert one.meaning, f"{one.key} of {group}={choice} has neither a comment nor a docstring"


# data=PATH


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """photos (flat), pets (class folders), reviews.csv, letters (class folders), mixed."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "photos/1.png",
        "photos/2.png",
        "pets/cat/1.png",
        "pets/dog/1.png",
        "mixed/1.png",
        "digits/1.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    for name in ("letters/good/1.txt", "letters/bad/1.txt", "mixed/1.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("some words")
    rows = "".join(f'{i},"it, was number {i}",{("good", "bad")[i % 2]}\n' for i in range(20))
    (tmp_path / "reviews.csv").write_text("id,review,opinion\n" + rows)
    (tmp_path / "odd.csv").write_text(
        "".join(f"{i},{'ab'[i % 2]},a long text of row {i}\n" for i in range(20))
    )
    return tmp_path


def test_images_by_their_folder(mine, capsys):
    cfg = composed("evaluate", "data=pets")
    assert (cfg.data.train, cfg.data.test_fraction) == ("pets", 0.2)
    said = capsys.readouterr().err
    assert "2 images, read at 32 pixels a side (data.image_size); a tenth is held out as validation" in said
    assert "; a test split of 0.2 is carved (data.test_fraction)" in said
    assert cfg.data.image_size == 32
    for name, size in {"wide": (300, 70), "high": (90, 500), "square": (70, 70)}.items():
        Image.new("RGB", size).save(mine / "pets" / "cat" / f"{name}.png")
    assert composed("evaluate", "data=pets").data.image_size == 64  # sides of 8, 8, 70, 70 and 90
    assert composed("evaluate", "data=pets", "data.image_size=80").data.image_size == 80
    assert composed("pretrain", *IMAGES[:2], f"data={mine}/photos").data.train == f"{mine}/photos"
    assert (
        composed("pretrain", *IMAGES).data.train == "digits"
    )  # the data set, and the folder of its name is said
    assert "your own digits is data=./digits" in capsys.readouterr().err


def test_texts_by_their_path(mine, capsys):
    table = own_format("data=reviews.csv")
    assert (table["text"], table["label"]) == ("review", "opinion")
    assert "text is column 'review', label is 'opinion'" in capsys.readouterr().err
    assert [own_format("data=odd.csv")[key] for key in ("text", "label")] == [2, 1]
    assert own_format("data=reviews.csv", "data.format.label=id")["label"] == "id"
    assert composed("evaluate", "data=letters").data.train == {"bad": "letters/bad", "good": "letters/good"}


def test_short_files_of_a_folder_are_a_document_each(mine, capsys):
    def parted(*words):
        return composed("evaluate", *words).data.format.separator

    (mine / "notes").mkdir()
    for name in "ab":
        (mine / "notes" / f"{name}.txt").write_text("first part\n\nsecond part\n")
    assert parted("data=notes") == "file"
    assert "2 text files, one document a file (data.format.separator)" in capsys.readouterr().err
    assert parted("data=notes", "data.format.separator=line") == "line"
    (mine / "notes" / "long.txt").write_text("a book\n\n" * 9000)
    assert parted("data=notes") == "blank_line"
    assert parted("data=notes/a.txt") == "blank_line"


@pytest.mark.parametrize("sign", [";", "|", "\t"])
def test_a_csv_parted_by_another_sign(mine, capsys, sign):
    rows = "".join(f"it is, number {i}{sign}{'ab'[i % 2]}\n" for i in range(20))
    (mine / "semi.csv").write_text(f"text{sign}label\n{rows}")
    table = own_format("data=semi.csv")
    assert (table["text"], table["label"], table["delimiter"]) == ("text", "label", sign)
    assert "label is 'label'" in capsys.readouterr().err
    (mine / "one.csv").write_text("text\n" + f"a{sign} b\n" * 20)
    one = own_format("data=one.csv")
    assert one["text"] == "text"
    assert "label" not in one
    assert one.get("delimiter", ",") == ","


def test_taking_away_a_key_that_is_not_there():
    assert refused("~key").startswith("~key: there is no key 'key'")
    assert refused("~seeed") == "~seeed: there is no key 'seeed'; did you mean 'seed'?"
    assert refused("~seed").startswith("~seed: pretrain reads seed and cannot do without it")


def test_a_key_of_another_choice_of_its_group():
    told = refused("tokenizer=characters", "tokenizer.size=500")
    assert told == "there is no key 'tokenizer.size' here; it is a key of tokenizer=bpe"
    told = refused("optimizer=adamw", "optimizer.momentum=0.9")
    assert told.endswith("a key of optimizer=larc, optimizer=lars, optimizer=muon and 1 more")


def own_format(*given):
    found = OmegaConf.to_container(composed("evaluate", *given).data.format)
    assert found["_target_"] == "ssl_zoo.data.text_formats.Table"
    assert "separator" not in found
    return found


def test_paths_that_hold_nothing_or_too_much(mine):
    (mine / "odd").mkdir()
    (mine / "odd/a.pdf").touch()
    assert "found: 1 .pdf" in refused("data=odd", verb="evaluate")
    assert "1 images and 1 texts" in refused("data=mixed", verb="evaluate")
    for folder in ("halves/train", "halves/test"):
        (mine / folder).mkdir(parents=True)
    os.link(mine / "reviews.csv", mine / "halves/test/reviews.csv")
    assert "holds tables, and halves/train holds none" in refused("data=halves", verb="evaluate")


def test_names_tell_folders_apart(mine):
    (mine / "other/photos").mkdir(parents=True)
    os.link(mine / "photos/1.png", mine / "other/photos/1.png")
    pairs = {
        name: composed("evaluate", f"data={name}").data for name in ("photos", "other/photos", "./photos")
    }
    names = {path: data_names.own_name(data, "image_folder") for path, data in pairs.items()}
    assert all(re.fullmatch(r"photos-[0-9a-f]{6}", name) for name in names.values())
    assert names["photos"] == names["./photos"] != names["other/photos"]
    for named in ("digits", "cifar10"):  # the latter's files are named by an interpolation
        assert data_names.own_name(composed("evaluate", f"data={named}").data, named) == named
    assert json.dumps(data_names.absolute("photos")) == json.dumps(str(mine / "photos"))


def test_a_reader_who_has_had_enough_is_no_fault():
    words = f"{sys.executable} -c 'from ssl_zoo.cli import main; main()' pretrain --help | head -1"
    done = subprocess.run(words, shell=True, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("Stage 1: ssl-zoo pretrain")
    assert done.stderr == ""


def test_a_bug_of_ours_keeps_its_traceback_and_says_whose_it_is(monkeypatch, capsys):
    monkeypatch.setattr(cli, "call_verb", lambda: {}["mine"])
    with pytest.raises(SystemExit, match="a bug of ssl_zoo and no fault of yours"):
        cli.main()
    assert "KeyError: 'mine'" in capsys.readouterr().err


def shell(line, folder):
    """The end of `line` in a shell, where `$ZOO` is the command."""
    zoo = f"{sys.executable} -c 'from ssl_zoo.cli import main; main()'"
    words = ["sh", "-c", line.replace("$ZOO", zoo)]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


def test_a_working_folder_that_is_gone(tmp_path):
    (tmp_path / "gone").mkdir()
    done = shell("cd gone && rmdir ../gone && $ZOO pretrain data=digits", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("ssl-zoo: the working folder cannot be used (No such file or directory)")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_fault(tmp_path, closed):
    done = shell(f"$ZOO --help {closed}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_table_is_guessed_within_the_limits_of_reading_it(tmp_path):
    with gzip.open(tmp_path / "bomb.jsonl.gz", "wb") as file:
        file.write(b'{"text": "' + b"a" * 2**25 + b'"}\n')
    with pytest.raises(ConfigError, match=r"cannot be read as a table: .* unpacks to more than"):
        own_tables.columns(tmp_path / "bomb.jsonl.gz")


def test_old_words_are_answered_with_the_new_ones():
    assert refused("objective.hidden=8").endswith("it is now called objective.width=8")
    assert "it is now called width" in refused("+objective.hidden=8")
    old = "ssl_zoo.views.recipes.View"
    with pytest.raises(ConfigError, match=r"it is now called ssl_zoo\.views\.view\.View"):
        composition.refuse_unknown_targets(OmegaConf.create({"view": {"_target_": old}}))
    assert all(is_own(new) and not is_own(old) for old, new in renamed.PARTS.items())


def test_several_keys_within_a_key_in_one_word():
    """They are merged into what is there, with a class of another kind if one is named, and checked."""
    view = "objective.view={_target_: ssl_zoo.views.view.View, scale: [0.5, 1.0], flip: 0.0}"
    made = composed("pretrain", *IMAGES, view)
    assert made.objective.view == {
        "_target_": "ssl_zoo.views.view.View", "size": 32, "scale": [0.5, 1.0], "flip": 0.0,
    }  # fmt: skip
    each = ("_target_=ssl_zoo.views.view.View", "scale=[0.5,1.0]", "flip=0.0")
    apart = [f"objective.view.{one}" for one in each]
    assert made == composed("pretrain", *IMAGES, *apart)
    for word, said in (
        ("objective.view={_target_: ssl_zoo.views.view.View, scal: [0.5, 1.0]}", "did you mean 'scale'?"),
        ("objective.view={flip: 0.0}", "objective.view.flip: simclr_small takes no 'flip'; it takes size"),
        ("objective.vieww={size: 8}", "objective.vieww"),
        ("seed.x={a: 1}", "there is no key 'seed.x'"),
        ("wandb.x={a: 1}", "there is no key 'wandb.x'"),
        ("foo.bar={a: 1}", "there is no key 'foo.bar'"),
    ):
        with pytest.raises(ConfigError, match=re.escape(said)):
            composition.check("pretrain", [*IMAGES, word])


def test_a_class_named_in_one_word_takes_keys_of_others():
    """And a sweep goes over such words."""
    view = "objective.view={_target_: ssl_zoo.views.view.View, scale: [0.5, 1.0]}"
    made = composed("pretrain", *IMAGES, view, "objective.view.flip=0.0")
    assert made.objective.view.flip == 0
    several = f"{view},{{_target_: ssl_zoo.views.view.View, flip: 0.0}}"
    (word,) = [
        one for one in composition.settle("pretrain", [*IMAGES, several], sweeps=True) if "view=" in one
    ]
    assert word.startswith("++objective.view=")
