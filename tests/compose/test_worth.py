"""Whether pretraining is worth it: all of it on small data, once, and again where it was interrupted."""

import json
import re
import shlex
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import ssl_zoo
from ssl_zoo.compose import composition, worthwhile
from ssl_zoo.trial.diary import OtherQuestion

LINES = ["cifar10-small/rotation-resnet"]
SUM = "text-small/crops_word_vectors"  # of two terms, one of which reads one row in eight
FEW = {"minutes": 0.02, "labels": [3], "seeds": [0, 1], "threads": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Class folders of 60 images, with a space in their path; a class is told by its brightness."""
    root = tmp_path_factory.mktemp("own") / "my photos"
    for i in range(60):
        name = root / ("dark", "light")[i % 2] / f"{i:02}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 90, (32, 32, 3), dtype=np.uint8) + np.uint8(
            150 * (i % 2)
        )
        Image.fromarray(pixels).save(name)
    return root


def hurry(patch):
    """Fine-tuning takes two or three steps, and there is time for them whatever the minutes are."""
    patch.setattr(worthwhile, "STEPS", (2, 3))
    patch.setattr(worthwhile.Work, "spare", 600.0)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    hurry(monkeypatch)


@pytest.fixture(scope="module")
def answer(photos, tmp_path_factory):
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        hurry(patch)
        out = tmp_path_factory.mktemp("answers") / "photos"
        made = ssl_zoo.worth(photos, out=out, lines=LINES, progress=lines.append, **FEW)
    return SimpleNamespace(made=made, lines=lines, out=out, photos=photos)


def test_all_ways_and_floors_are_measured_at_every_budget(answer):
    made = answer.made
    found = {(one.line, one.how, one.labels) for one in made.figures}
    wanted = [
        ("rotation-resnet", "linear probe"),
        ("rotation-resnet", "fine-tuned"),
        ("random weights", "linear probe"),
        ("raw pixels", "linear probe"),
        ("from scratch", "fine-tuned"),
    ]
    assert found == {(*one, labels) for one in wanted for labels in (3, None)}
    assert made.verdict.winner == "rotation-resnet"
    assert (made.asked.classes, made.asked.rows, made.asked.chosen_on) == (2, 42, 6)
    assert made.ways[0].pretraining["flops"] > 0


def test_figures_are_those_of_evaluate(answer):
    """The page shows what `ssl-zoo evaluate` finds on the same run."""
    (file,) = (answer.made.ways[0].run / "evaluations").glob("*linear-3.json")
    kept = json.loads(file.read_text())["results"]["pretrained"]
    ours = next(
        one
        for one in answer.made.figures
        if (one.line, one.how, one.labels) == ("rotation-resnet", "linear probe", 3)
    )
    assert list(ours.values) == kept["values"]
    assert ours.rows == kept["test"] == 12


def test_the_page_says_it_and_the_commands_compose(answer):
    page = (answer.out / "worth.html").read_text()
    assert answer.made.verdict.sentences[0] in page
    assert "Is pretraining worth it on my photos?" in page
    cells = re.findall(r'<td class="number">(\d+\.\d ± \d+\.\d)</td>', page)
    assert len(cells) == 10
    assert any("none were named" in one for one in answer.made.left)
    assert any("a longer run" in one or "longer" in str(answer.made.ways[-1].run) for one in answer.made.left)
    for command in answer.made.commands:
        name, verb, *words = shlex.split(command)
        assert name == "ssl-zoo"
        assert f"data={answer.photos}" in words
        assert not any(word.startswith("data.train") for word in words)
        composition.check(verb, words)


def test_the_same_call_again_reads_what_is_done(answer, photos, monkeypatch):
    def never(*args):
        raise AssertionError("it was done before")

    monkeypatch.setattr(worthwhile.pretraining, "pretrain_from", never)
    monkeypatch.setattr(worthwhile.evaluation, "evaluate_from", never)
    again = ssl_zoo.worth(photos, out=answer.out, lines=LINES, progress=False, **FEW)
    assert again.figures == answer.made.figures
    with pytest.raises(OtherQuestion, match="labels was"):
        ssl_zoo.worth(photos, out=answer.out, lines=LINES, progress=False, **{**FEW, "labels": [2]})


def test_an_interrupted_answer_goes_on(photos, tmp_path, monkeypatch):
    whole = worthwhile.evaluation.evaluate_from

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(worthwhile.evaluation, "evaluate_from", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ssl_zoo.worth(photos, out=tmp_path / "a", lines=LINES, progress=False, **FEW)
    kept = json.loads((tmp_path / "a" / "worth.json").read_text())["pieces"]
    assert list(kept) == ["pretrain rotation-resnet"]
    monkeypatch.setattr(worthwhile.evaluation, "evaluate_from", whole)
    made = ssl_zoo.worth(photos, out=tmp_path / "a", lines=LINES, progress=False, **FEW)
    assert made.ways[0].pretraining == kept["pretrain rotation-resnet"]
    assert len(made.figures) == 10


@pytest.mark.parametrize(
    ("spare", "steps", "labels"),
    [
        (2000.0, 300, (5, 25, 100, None)),  # the most
        (640.0, 100, (5, 25, 100, None)),
        (256.0, 40, (5, 25, 100, None)),  # the fewest
        (200.0, 41, (5, 25, None)),
        (130.0, 40, (5, None)),
        (70.0, 43, (5,)),
        (60.0, 0, None),
    ],
)
def test_fine_tuning_fits_into_what_is_left(monkeypatch, spare, steps, labels):
    """A step takes 0.2 seconds here; at each number of labels there are two rates and two more draws, and all
    of it twice, for training from scratch: 1.6 seconds a step."""
    monkeypatch.setattr(worthwhile, "STEPS", (40, 300))
    monkeypatch.setattr(worthwhile.Work, "spare", spare)
    training = {"samples": 32 * 100, "seconds": 20.0 / 2.2}  # in larger batches, which are faster
    work = worthwhile.Work.__new__(worthwhile.Work)
    work.asked = SimpleNamespace(budgets=(5, 25, 100, None))
    work.cfg = SimpleNamespace(seeds=[0, 1, 2])
    assert work.tuning(SimpleNamespace(pretraining={"training": training})) == (steps, labels)


def test_fine_tuning_without_time_is_left_out_and_said(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(worthwhile.Work, "spare", 0.0)
    made = ssl_zoo.worth(photos, out=tmp_path / "a", lines=LINES, progress=False, **FEW)
    assert {one.how for one in made.figures} == {"linear probe"}
    assert any("fine-tuning of rotation-resnet, whose 2 steps" in one for one in made.left)


@pytest.mark.slow
def test_a_floor_without_a_network_is_measured_once(photos, tmp_path):
    lines = [*LINES, "cifar10-small/simclr-vit"]
    made = ssl_zoo.worth(photos, out=tmp_path / "a", lines=lines, progress=False, **FEW)
    second = (tmp_path / "a" / "runs" / "simclr-vit" / "evaluations").glob("*linear-3.json")
    assert set(json.loads(next(second).read_text())["results"]) == {"pretrained", "random, frozen"}
    assert {one.line for one in made.figures} >= {
        "raw pixels",
        "random weights",
        "random weights of simclr-vit",
    }


def test_a_way_that_fails_is_said_and_the_others_go_on(photos, tmp_path):
    lines = ["cifar10-small/mae-vit", *LINES]
    made = ssl_zoo.worth(photos, out=tmp_path / "a", lines=lines, progress=False, data__image_size=30, **FEW)
    assert made.verdict.winner == "rotation-resnet"
    assert any("mae-vit failed" in one for one in made.left)


@pytest.mark.slow
def test_unlabelled_photos_are_measured_on_labelled_ones(photos, tmp_path):
    (tmp_path / "heap").mkdir()
    for i, file in enumerate(photos.glob("*/*.png")):
        (tmp_path / "heap" / f"{i}.png").write_bytes(file.read_bytes())
    with pytest.raises(ssl_zoo.ConfigError, match=r"no labels.*labelled=PATH"):
        ssl_zoo.worth(tmp_path / "heap", out=tmp_path / "a", progress=False, **FEW)
    assert not (tmp_path / "a").exists()
    made = ssl_zoo.worth(
        tmp_path / "heap", labelled=photos, out=tmp_path / "a", lines=LINES, progress=False, **FEW
    )
    assert made.asked.title == "heap"
    assert len(made.figures) == 10


def test_batches_shrink_to_few_texts(tmp_path):
    words = (["night", "shade", "coal", "moon"], ["noon", "snow", "sun", "day"])
    rows = [
        f"{' '.join(np.random.default_rng(i).choice(words[i % 2], 40))},{('dark', 'light')[i % 2]}"
        for i in range(80)
    ]
    (tmp_path / "notes.csv").write_text("\n".join(["text,class", *rows]) + "\n")
    made = ssl_zoo.worth(
        tmp_path / "notes.csv", out=tmp_path / "a", lines=["text_crops", SUM], progress=False, **FEW
    )
    smaller = [one for one in made.left if "batches as large as the recipe's" in one]
    assert any(one.startswith("text_crops:") for one in smaller)
    one = next(one for one in smaller if one.startswith("crops_word_vectors:"))
    assert int(re.search(r"in batches of (\d+)", one)[1]) % 8 == 0
    assert not [one for one in made.left if "failed" in one]
    assert {one.line for one in made.figures} >= {"text_crops", "TF-IDF", "random weights"}
