"""Commands to go on with: as short as what was typed, and reading the same."""

import shlex
import sys

import numpy as np
import pytest
import tiny
from PIL import Image

from ssl_zoo.cli.verb import run_verb
from ssl_zoo.compose import composition
from ssl_zoo.compose.typed import again, bare, data_words, of_data
from ssl_zoo.messages import heard_by

SMALL = (
    "objective=rotation", "backbone=resnet_micro", "backbone.channels=[4,4,8,8]", "batch_size=16",
    "budget.steps=2", "trainer=cpu", "validation_limit=64", "evaluate_every=0",
)  # fmt: skip


@pytest.fixture
def photos(tmp_path):
    """Class folders of 60 images of 80 pixels, with a space in their path."""
    random = np.random.default_rng(0)
    for i in range(60):
        name = tmp_path / "my photos" / ("dark", "light")[i % 2] / f"{i:02}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (80, 80, 3), dtype=np.uint8)).save(name)
    return tmp_path / "my photos"


def spelt(verb, words):
    with heard_by(lambda _: None):
        return of_data(composition.settle(verb, words))


@pytest.mark.parametrize(
    ("verb", "first", "kept"),
    [
        ("worth", [], []),
        (
            "pretrain",
            ["objective=rotation", "backbone=resnet_micro"],
            ["data.test_fraction=0.2", "data.image_size=64"],
        ),
    ],
)
def test_what_another_verb_would_guess_otherwise_is_kept(photos, verb, first, kept):
    """`worth` reads images at 64 pixels and holds a test split out, which the other verbs do not."""
    whole = spelt("worth", [f"data={photos}"])
    assert {"data.image_size=64", "data.test_fraction=0.2"} <= set(whole)
    made = shlex.split(again(verb, [*first, *whole, "seed=3"], [f"data={photos}"]))
    assert made[:2] == ["ssl-zoo", verb]
    assert sorted(of_data(made[2:])) == sorted([f"data={photos}", *kept])
    assert [word for word in made[2:] if word not in of_data(made[2:])] == [*first, "seed=3"]
    assert set(spelt(verb, made[2:])) == set(spelt(verb, [*first, *whole]))


def test_words_that_would_read_something_else_stay_spelt_out(photos, tmp_path):
    whole = spelt("worth", [f"data={photos}", "data.split_seed=3"])
    made = shlex.split(again("worth", whole, [f"data={photos}"]))
    assert made[2:] == whole
    assert shlex.split(again("worth", whole, [])) == made


def test_the_line_after_pretraining_can_be_pasted(photos, tmp_path):
    code, told = tiny.command(
        tmp_path,
        tmp_path / "cache",
        "pretrain",
        *SMALL,
        "data=my photos",
        "data.image_size=32",
        "run=my runs/a",
    )
    assert code == 0, told
    line = told.strip().splitlines()[-1]
    words = shlex.split(line.partition("next: ")[2])
    assert words == ["ssl-zoo", "evaluate", "run=my runs/a", "data=my photos", "data.image_size=32"]
    code, told = tiny.command(tmp_path, tmp_path / "cache", *words[1:], "protocol=knn", "labels=[5,20]")
    assert code == 0, told
    assert [row.split()[1:3] for row in told.splitlines() if row.startswith("pretrained ")] == [
        ["knn", "5"],
        ["knn", "20"],
    ]


def test_the_line_after_pretraining_without_labels_can_be_pasted(photos, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, one in enumerate(sorted(photos.glob("*/*"))[::2]):
        (flat / f"{number}{one.suffix}").write_bytes(one.read_bytes())
    rows = [f"{one.name},a picture of number {i}" for i, one in enumerate(sorted(flat.iterdir()))]
    (flat / "names.csv").write_text("\n".join(["file_name,caption", *rows]))
    code, told = tiny.command(tmp_path, tmp_path / "cache", "pretrain", *SMALL, "data=flat", "run=a")
    assert code == 0, told
    assert "; one table there is not read, which has captions: data=flat/names.csv reads both" in told
    *_, measured, line = told.strip().splitlines()
    assert measured == "to measure it, name data with labels: ssl-zoo evaluate run=a data=LABELLED"
    words = shlex.split(line.partition("next: ")[2])
    assert words == ["ssl-zoo", "embed", "run=a", "data=flat"]
    code, told = tiny.command(tmp_path, tmp_path / "cache", *words[1:])
    assert code == 0, told
    assert f": {len(rows)} vectors" in told


@pytest.mark.parametrize(
    ("word", "same"),
    [
        ("data='my photos'", "data=my photos"), ("+data.name='a.csv'", "+data.name=a.csv"),
        *((one, one) for one in ("data='a,b'", "data='1'", "data='null'", "data='${x}'", "~data.x")),
        *((one, one) for one in ("data=digits", "data.train=['a','b']", "data=my photos")),
    ],
)  # fmt: skip
def test_quotes_that_are_not_needed_go(word, same):
    assert bare(word) == same


@pytest.mark.parametrize("word", ["my photos", "data=my photos"])
def test_a_path_without_its_key_is_known(photos, word, monkeypatch):
    seen = []
    monkeypatch.chdir(photos.parent)
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    monkeypatch.setattr("ssl_zoo.cli.worth.run", lambda cfg, choices: seen.extend(data_words()))
    run_verb("worth", [word, "minutes=3"])
    assert shlex.split(again("worth", spelt("worth", [word]), seen)) == ["ssl-zoo", "worth", *seen]
    assert [one.replace("'", "") for one in seen] == ["data=my photos"]


def test_after_a_sweep_over_data_each_run_names_its_own(tmp_path):
    code, told = tiny.command(
        tmp_path, tmp_path / "cache", "pretrain", "-m", *SMALL, "data=digits", "seed=1,2", "run=a-${seed}"
    )
    assert code == 0, told
    assert "next: ssl-zoo evaluate run=a-2 data=digits" in told
