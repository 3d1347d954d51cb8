"""Models of every task: they learn, are kept, open again and tell the same, in every file, as they scored."""

import csv
import json
import shutil

import numpy as np
import pyarrow.parquet
import pytest
import torch
from alike import some_of
from PIL import Image
from safetensors.torch import load_file, save_file

import ssl_zoo
from ssl_zoo import ConfigError, DataError, HubError
from ssl_zoo.cli.verb import run_verb

QUIET = {"progress": False}
SMALL = {"evaluate_every": 0, "trainer": "cpu", "steps": 2, "batch_size": 8, **QUIET}
HELD = {"data__test_fraction": 0.25, **QUIET}
TUNED = {"steps": 30, "protocol__lrs": [3e-3], "protocol__batch_size": 8}
TOPICS = {
    "sea": ["wave", "ship", "salt"],
    "sky": ["cloud", "bird", "star"],
    "land": ["tree", "road", "hill"],
}
PALETTE = [0, 0, 0, 250, 10, 10, 10, 250, 10]


def texts(draw, count=120):
    """Texts of words of several topics, the topics, and a number that is about ten times their count."""
    for _ in range(count):
        topics = [one for one in TOPICS if draw.random() < 0.45]
        words = [word for one in topics for word in draw.choice(TOPICS[one], 2)]
        words += draw.choice(["and", "the"], 2).tolist()
        draw.shuffle(words)
        yield " ".join(words), topics, round(10 * len(topics) + draw.normal() / 4, 3)


def sentences(draw, count=100):
    people, places, others = ["anna", "bert"], ["rome", "oslo"], ["went", "to", "saw", "in"]
    for _ in range(count):
        made = []
        for _ in range(draw.integers(2, 5)):
            kind = draw.integers(3)
            if kind == 0:
                made += [(draw.choice(people), "B-PER"), *[("smith", "I-PER")][: draw.integers(2)]]
            else:
                made.append((draw.choice(places), "B-LOC") if kind == 1 else (draw.choice(others), "O"))
        yield made


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Data of every task, and a run on texts and one on images."""
    home, draw = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    made = list(texts(draw))
    with open(home / "topics.csv", "w", newline="") as file:
        csv.writer(file).writerows([("text", "topics"), *((text, ";".join(some)) for text, some, _ in made)])
    rows = [{"text": text, "size": size} for text, _, size in made]
    (home / "sizes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with open(home / "names.conll", "w") as file:
        for sentence in sentences(draw):
            file.write("".join(f"{word} {tag}\n" for word, tag in sentence) + "\n")
    for i in range(40):
        pixels, mask = draw.integers(0, 60, (20, 24, 3), dtype=np.uint8), np.zeros((20, 24), np.uint8)
        y, x, kind = draw.integers(0, 10), draw.integers(0, 12), i % 2
        pixels[y : y + 10, x : x + 12, kind] += 180
        mask[y : y + 10, x : x + 12] = kind + 1
        mask[0] = 255
        for folder, image in (("images", Image.fromarray(pixels)), ("masks", Image.fromarray(mask))):
            (home / "shapes" / folder).mkdir(parents=True, exist_ok=True)
            if folder == "masks":
                image.putpalette(PALETTE + [0] * 759)
            image.save(home / "shapes" / folder / f"{i:02}.png")
    rows = [f"shapes/images/{i:02}.png,{'red' if i % 2 == 0 else 'green'}|{'low' if i < 20 else 'high'}"
            for i in range(40)]  # fmt: skip
    (home / "photos.csv").write_text("".join(f"{row}\n" for row in ("image,labels", *rows)))
    ssl_zoo.pretrain("masked_lm", backbone="transformer_micro", data=home / "topics.csv", context=32,
                     tokenizer="bytes", out=home / "texts", **SMALL)  # fmt: skip
    ssl_zoo.pretrain("simmim", backbone="vit_micro", data=home / "shapes" / "images", data__image_size=24,
                     backbone__image_size=24, out=home / "images", **SMALL)  # fmt: skip
    for task, (_, _, least) in TASKS.items():
        model = tuned(home, task, home / task, protocol="linear")
        assert model.about["scores"]["test"]["value"] > least, task
    return home


TASKS = {
    "labels": ("texts", "topics.csv", 0.8),
    "regression": ("texts", "sizes.jsonl", 0.5),
    "tags": ("texts", "names.conll", 0.6),
    "masks": ("images", "shapes", 0.6),
}


def tuned(home, task, out, **options):
    """A model of a task, with a fourth of the data held out as test."""
    run, data, _ = TASKS[task]
    options |= {"length": 64} if run == "texts" else {}
    options |= {"task": task} if task == "regression" else {}
    return ssl_zoo.finetune(home / run, data=home / data, out=out, **HELD, **options)


def flat(one):
    return json.dumps(one.plain()) if hasattr(one, "plain") else one.mask.tobytes() + str(one.shares).encode()


@pytest.mark.parametrize("task", some_of(TASKS, ["labels", "masks"]))
def test_a_model_that_is_opened_again_tells_the_same(home, task, tmp_path):
    data = TASKS[task][1]
    made = tuned(home, task, tmp_path / "model", protocol="linear")
    again = ssl_zoo.load(tmp_path / "model")
    assert (again.task, again.classes, again.about) == (task, made.classes, made.about)
    before, after = made.predict(home / data), again.predict(home / data)
    assert list(map(flat, before)) == list(map(flat, after))
    assert repr(again).startswith(f"TunedModel in {tmp_path / 'model'}: tells ")


@pytest.mark.parametrize("task", some_of(TASKS, ["tags", "masks"]))
def test_fine_tuning_learns_and_leaves_the_run_alone(home, task, tmp_path):
    run, data, least = TASKS[task]
    weights = (home / run / "backbone" / "model.safetensors").read_bytes()
    options = {"head": "conv"} if task == "masks" else {}
    model = tuned(home, task, tmp_path / "model", **TUNED, **options)
    assert model.about["scores"]["test"]["value"] > least - 0.15
    assert model.about["made"]["chosen"] == {"lr": 3e-3}
    assert (home / run / "backbone" / "model.safetensors").read_bytes() == weights
    again = ssl_zoo.load(tmp_path / "model")
    assert list(map(flat, again.predict(home / data))) == list(map(flat, model.predict(home / data)))


@pytest.mark.parametrize("task", some_of(TASKS, ["regression", "masks"]))
def test_predictions_score_as_was_reported(home, task, tmp_path, capsys):
    """Train, validation and test lie apart, so that the test rows alone can be told again."""
    run, data, _ = TASKS[task]
    parts = tmp_path / "parts"
    parts.mkdir()
    if task == "masks":
        for i in range(40):
            part = ("train", "train", "val", "test")[i // 2 % 4]
            for folder in ("images", "masks"):
                (parts / part / folder).mkdir(parents=True, exist_ok=True)
                shutil.copy(home / data / folder / f"{i:02}.png", parts / part / folder)
        tests = parts / "test"
    else:
        text = (home / data).read_text()
        gap = "\n\n" if task == "tags" else "\n"
        first, rows = "", text.strip().split(gap)
        if task == "labels":
            first, rows = rows[0] + "\n", rows[1:]
        for part, some in (("train", rows[:60]), ("val", rows[60:80]), ("test", rows[80:])):
            tests = parts / f"{part}{(home / data).suffix}"
            tests.write_text(first + gap.join(some) + "\n")
    model = ssl_zoo.finetune(
        home / run, data=parts, out=tmp_path / "model", protocol="linear", task=task, **QUIET
    )
    found = model.about["scores"]["test"]
    capsys.readouterr()
    run_verb("predict", [str(tmp_path / "model"), str(tests), "show=1"])
    line = next(one for one in capsys.readouterr().out.splitlines() if one.startswith("against"))
    for name, one in {found["metric"]: found, **found["others"]}.items():
        assert f"{name} {one['value']:.4g}" in line
    assert f"{found['rows']} rows" in line


def test_every_table_says_the_same(home, tmp_path):
    model = ssl_zoo.load(home / "labels")
    told = model.predict(home / "topics.csv")
    for ending in ("csv", "jsonl", "parquet"):
        model.predict(home / "topics.csv", out=tmp_path / f"p.{ending}")
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    cells = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    table = pyarrow.parquet.read_table(tmp_path / "p.parquet").to_pylist()
    for i, (one, line, row, item) in enumerate(zip(told, lines, cells, table, strict=True)):
        assert line == {"file": one.file, "row": i, "labels": list(one.labels), "p": one.probabilities}
        assert row["labels"] == ";".join(one.labels)
        assert float(row["p(sea)"]) == one.probabilities["sea"] == item["p(sea)"]
        assert item["labels"] == list(one.labels)
        threshold = json.loads((home / "labels" / "model.json").read_text())["goal"]["threshold"]
        assert {n for n, p in one.probabilities.items() if p >= threshold} == set(one.labels)
    assert len(list(tmp_path.iterdir())) == 3


def test_numbers_are_told_in_their_own_units(home, tmp_path):
    model = ssl_zoo.load(home / "regression")
    one, other = model.predict(["wave ship tree road cloud star and the", "and the"])
    assert one.value > 20 > other.value
    model.predict(home / "sizes.jsonl", out=tmp_path / "p.csv")
    head, *rows = csv.reader((tmp_path / "p.csv").read_text().splitlines())
    assert head == ["file", "row", "value"]
    assert len(rows) == 120


def test_tags_are_written_as_they_are_read(home, tmp_path):
    model = ssl_zoo.load(home / "tags")
    model.predict(home / "names.conll", out=tmp_path / "p.conll")
    again = model.predict(tmp_path / "p.conll", out=tmp_path / "p.jsonl")
    told = model.predict(home / "names.conll")
    assert [(one.words, one.tags) for one in again] == [(one.words, one.tags) for one in told]
    from ssl_zoo.data.conll import read_conll

    assert [one.target for one in read_conll(tmp_path / "p.conll")] == [one.tags for one in told]
    line = json.loads((tmp_path / "p.jsonl").read_text().splitlines()[0])
    assert set(line) == {"file", "row", "tokens", "tags", "spans"}
    (tmp_path / "running.txt").write_text("anna smith saw rome\n\nbert went to oslo\n")
    (tmp_path / "column.txt").write_text("anna\nsmith\nsaw\nrome\n\nbert\nwent\nto\noslo\n")
    running, column = (model.predict(tmp_path / name) for name in ("running.txt", "column.txt"))
    assert [one.tags for one in running] == [one.tags for one in column]
    assert [one.tags for one in model.predict(["anna smith saw rome", "bert went to oslo"])] == [
        one.tags for one in running
    ]


def test_masks_are_written_at_the_size_of_the_image_in_their_colours(home, tmp_path, capsys):
    model = ssl_zoo.load(home / "masks")
    told = model.predict(home / "shapes", out=tmp_path / "masks")
    for one in told:
        with Image.open(tmp_path / "masks" / one.file.rpartition("/")[2]) as mask:
            assert (mask.size, mask.mode, mask.getpalette()[:9]) == ((24, 20), "P", PALETTE)
            assert (np.array(mask) == one.mask).all()
    rows = list(csv.DictReader((tmp_path / "masks" / "shares.csv").read_text().splitlines()))
    assert [row["mask"] for row in rows] == [f"{i:02}.png" for i in range(40)]
    assert float(rows[0]["share(1)"]) == pytest.approx((told[0].mask == 1).mean(), abs=1e-5)
    with pytest.raises(ConfigError, match="is there already: masks go into a folder of their own"):
        model.predict(home / "shapes", out=tmp_path / "masks")
    with pytest.raises(ConfigError, match=r"p.csv: masks go into a folder"):
        model.predict(home / "shapes", out=tmp_path / "p.csv")
    (tmp_path / "new").mkdir()
    Image.fromarray(np.zeros((6, 9, 3), np.uint8)).save(tmp_path / "new" / "one.jpg")
    (tmp_path / "new" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    run_verb("predict", [str(home / "masks"), str(tmp_path / "new"), f"out={tmp_path / 'more'}"])
    printed = capsys.readouterr()
    assert "1 predictions" in printed.out
    assert "against" not in printed.out
    assert "left out 1 damaged: the image" in printed.err
    assert sorted(one.name for one in (tmp_path / "more").iterdir()) == ["one.png", "shares.csv"]


def test_several_labels_an_image(home, tmp_path):
    words = {"protocol": "linear", **HELD}
    model = ssl_zoo.finetune(home / "images", data=home / "photos.csv", out=tmp_path / "model", **words)
    assert model.classes == ("green", "high", "low", "red")
    told = model.predict(home / "photos.csv")
    colours = [{"red", "green"} & set(one.labels) for one in told]
    assert sum(one == {("red", "green")[i % 2]} for i, one in enumerate(colours)) > 30
    folder = model.predict(home / "shapes" / "images")
    assert [one.labels for one in folder] == [one.labels for one in told]
    assert all(one.file.endswith(".png") and one.row is None for one in folder)
    images = torch.zeros(2, 3, 24, 24)
    assert len(model.predict(ssl_zoo.rows(images))) == 2


@pytest.mark.parametrize(
    ("data", "words", "said"),
    [
        (
            "topics.csv",
            {"metric": "macro_f1"},
            "metric=macro_f1 is for classes; task=labels chooses by its own",
        ),
        ("topics.csv", {"labels": 5}, "labels=NUMBER counts rows per class"),
        ("topics.csv", {"labels": 1.5}, "labels=1.5 is no fraction"),
        ("topics.csv", {"tag": 1}, "tag= is the column of tags, and task=labels has none"),
        ("topics.csv", {"head": "conv"}, "head=conv is for task=masks with protocol=finetune"),
        ("topics.csv", {"protocol": "knn"}, "task=labels takes protocol=finetune or linear, not knn"),
        ("topics.csv", {"task": "regression"}, "topics.csv has no column of numbers"),
        ("topics.csv", {"task": "regression", "label": "topics"}, "row 0: 'sky;land' is no finite number"),
        ("topics.csv", {"data__validation_fraction": 0.0}, "nothing is left to choose on"),
        ("shapes", {}, "texts holds a backbone for texts; data=.* is image"),
        ("names.conll", {"tag": 5}, "line 1 has 2 columns, and tag=5 is wanted"),
    ],
)
def test_what_cannot_be_made_is_refused_and_leaves_nothing(home, monkeypatch, data, words, said):
    monkeypatch.chdir(home)
    before = sorted(home.rglob("*"))
    with pytest.raises((ConfigError, DataError), match=said):
        ssl_zoo.finetune("texts", **{"data": data, "out": "new", "protocol": "linear", **QUIET, **words})
    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize(
    ("task", "name", "text", "said"),
    [
        (
            "labels",
            "val.csv",
            "text,topics\nx,sea;moon\n",
            r"row 0 has the label 'moon', which no train row has",
        ),
        (
            "tags",
            "val.conll",
            "anna B-ORG\n",
            r"val.conll, row 0 has the tag 'B-ORG', which no train row has",
        ),
        ("tags", "val.conll", "anna\n", r"val.conll, row 0 \(validation\) has no label"),
        ("regression", "val.jsonl", '{"text": "x", "size": "NaN"}\n', r"row 0: 'NaN' is no finite number"),
    ],
)
def test_what_validation_has_and_train_lacks_is_named(home, tmp_path, task, name, text, said):
    data = home / TASKS[task][1]
    shutil.copy(data, tmp_path / f"train{data.suffix}")
    (tmp_path / name).write_text(text)
    words = {"label": "size"} if task == "regression" else {}
    with pytest.raises(DataError, match=said):
        ssl_zoo.finetune(home / "texts", data=tmp_path, task=task, out=tmp_path / "m", **words, **QUIET)


def test_masks_that_validation_has_and_train_lacks_are_named(home, tmp_path):
    for part in ("train", "val"):
        shutil.copytree(home / "shapes", tmp_path / part)
    Image.fromarray(np.full((20, 24), 9, np.uint8)).save(tmp_path / "val" / "masks" / "07.png")
    with pytest.raises(DataError, match=r"07.png has pixels of class 9, which no train mask has \(0, 1, 2\)"):
        ssl_zoo.finetune(home / "images", data=tmp_path, out=tmp_path / "m", **QUIET)
    (tmp_path / "val" / "masks" / "07.png").unlink()
    with pytest.raises(DataError, match=r"images/07.png has no mask"):
        ssl_zoo.finetune(home / "images", data=tmp_path, out=tmp_path / "m", **QUIET)


def test_targets_that_a_model_does_not_know_are_not_scored(home, tmp_path, capsys):
    (tmp_path / "a.csv").write_text("text,topics\nwave ship,sea;moon\n")
    (tmp_path / "b.csv").write_text("text,n\nwave ship,3\n")
    (tmp_path / "c.jsonl").write_text('{"text": "wave ship", "topics": null}\n')
    assert len(ssl_zoo.load(home / "labels").predict(tmp_path / "c.jsonl")) == 1
    for name, said in (
        ("a.csv", "nothing is scored: "),
        ("b.csv", "has no column 'topics': nothing is scored"),
    ):
        run_verb("predict", [str(home / "labels"), str(tmp_path / name), f"out={tmp_path / 'p.csv'}"])
        printed = capsys.readouterr()
        assert said in printed.err
        assert "against" not in printed.out
        assert "sea" in printed.out


def split_of(i):
    return ("train", "train", "val", "test")[i % 4]


def own_column(home, folder):
    """A table of texts with a column of splits, which is its own file of splits."""
    header, *rows = (home / "topics.csv").read_text().splitlines()
    rows = [f"{row},{split_of(i)}" for i, row in enumerate(rows)]
    (folder / "topics.csv").write_text("".join(f"{row}\n" for row in (f"{header},split", *rows)))
    return "texts", folder / "topics.csv", folder / "topics.csv"


def files_of_sentences(home, folder):
    """Four files of tags; one is named as validation, one as test."""
    parts = (home / "names.conll").read_text().split("\n\n")[:-1]
    (folder / "tags").mkdir()
    for i in range(4):
        (folder / f"tags/{i}.conll").write_text("\n\n".join(parts[i::4]) + "\n")
    (folder / "held.txt").write_text("2.conll\n")
    (folder / "last.txt").write_text("3.conll\n")
    return "texts", folder / "tags", {"val": str(folder / "held.txt"), "test": str(folder / "last.txt")}


def names_of_images(home, folder):
    rows = [f"{i:02}.png,{split_of(i)}\n" for i in range(40)]
    (folder / "splits.csv").write_text("file,split\n" + "".join(rows))
    return "images", home / "shapes", folder / "splits.csv"


def images_in_a_table(home, folder):
    return names_of_images(home, folder)[0], home / "photos.csv", folder / "splits.csv"


@pytest.mark.parametrize(
    ("made", "rows"),
    [(own_column, 120), (files_of_sentences, 100), (names_of_images, 40), (images_in_a_table, 40)],
)
def test_a_file_of_names_parts_the_rows(home, tmp_path, made, rows):
    run, data, splits = made(home, tmp_path)
    splits = splits if isinstance(splits, dict) else str(splits)
    model = ssl_zoo.finetune(
        home / run, data=data, data__splits=splits, out=tmp_path / "model", protocol="linear", **QUIET
    )
    held = {split: found["rows"] for split, found in model.about["scores"].items()}
    assert held == {"validation": rows // 4, "test": rows // 4}
    assert model.about["made"]["rows"] == rows // 2


def test_a_file_of_names_is_refused_where_it_has_no_say(home, tmp_path):
    _, data, splits = own_column(home, tmp_path)
    with pytest.raises(DataError, match="leave validation and test out, or splits"):
        ssl_zoo.finetune(home / "texts", data=data, data__splits=str(splits), data__test=str(data),
                         out=tmp_path / "model", protocol="linear", **QUIET)  # fmt: skip
    with pytest.raises(SystemExit, match=r"embed reads all that lies at .*topics.csv: leave data.splits out"):
        run_verb("embed", [str(home / "texts"), str(data), f"data.splits={splits}", "out=a.npy"])
    with pytest.raises(ConfigError, match=r"data\.splits is for single samples"):
        ssl_zoo.finetune(home / "texts", data=data, data__splits=str(splits), out=tmp_path / "model",
                         protocol="completion", **QUIET)  # fmt: skip
    assert not (tmp_path / "model").exists()


def test_fewer_rows_are_drawn_by_the_seed(home, tmp_path):
    lines = []
    words = {"labels": 0.25, "protocol": "linear", "progress": lines.append}
    model = ssl_zoo.finetune(home / "texts", data=home / "topics.csv", out=tmp_path / "m", **words)
    assert model.about["made"]["rows"] == 27
    assert "linear: 27 labelled rows, 12 to choose on, by mAP" in lines
    assert any("labels are column 'topics', parted by ';'" in line for line in lines)


@pytest.mark.parametrize("task", TASKS)
def test_a_damaged_model_is_refused(home, tmp_path, task):
    shutil.copytree(home / task, tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    about = json.loads(file.read_text())
    for changed, said in (
        ({"goal": None}, "does not say what the model tells"),
        ({"goal": {}}, "model.json has no"),
        ({"head_sha256": "0"}, "head.safetensors is not what was saved"),
        ({"format": 7}, "is not of format 1"),
    ):
        file.write_text(json.dumps(about | changed))
        with pytest.raises(HubError, match=said):
            ssl_zoo.load(tmp_path / "model")
    if task == "masks":
        file.write_text(json.dumps(about | {"goal": about["goal"] | {"grid": [1, 1]}}))
        with pytest.raises(HubError, match="says another grid than the backbone has"):
            ssl_zoo.load(tmp_path / "model")
    elif task != "regression":
        goal = about["goal"] | {"classes": [*about["goal"]["classes"], "more"]}
        file.write_text(json.dumps(about | {"goal": goal}))
        with pytest.raises(HubError, match=f"head.safetensors does not fit the {task} and the backbone"):
            ssl_zoo.load(tmp_path / "model")
    file.write_text(json.dumps(about))
    weights = load_file(tmp_path / "model" / "head.safetensors")
    save_file({name: one + 1 for name, one in weights.items()}, tmp_path / "model" / "head.safetensors")
    with pytest.raises(HubError, match="is not what was saved"):
        ssl_zoo.load(tmp_path / "model")


def test_what_a_model_cannot_read(home, tmp_path):
    with pytest.raises(ConfigError, match="this model reads images"):
        ssl_zoo.load(home / "masks").predict(["red"])
    with pytest.raises(DataError, match="one of the texts is empty"):
        ssl_zoo.load(home / "tags").predict(["warm", " "])
    with pytest.raises(ConfigError, match="a model of masks reads files"):
        ssl_zoo.load(home / "masks").predict(ssl_zoo.rows(torch.zeros(2, 3, 24, 24)))
    with pytest.raises(ValueError, match=r"its ending says how it is written, and is one of .conll, .jsonl"):
        ssl_zoo.load(home / "tags").predict(home / "names.conll", out=tmp_path / "p.csv")
    with pytest.raises(ConfigError, match="task=labels reads labelled files: data=PATH"):
        ssl_zoo.finetune(
            home / "images", data=ssl_zoo.rows(torch.zeros(4, 3, 24, 24)), task="labels", **QUIET
        )
