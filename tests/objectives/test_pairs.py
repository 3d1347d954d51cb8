"""Pairs: captions of images, CLIP and SigLIP on them, two towers kept, and what they do without labels.

Reference (clip): `CLIPModel` of transformers, loss to 1e-12 and gradients to 1e-9.
Reference (siglip): `SiglipModel` of transformers, loss to 1e-12 and gradients to 1e-9.
Peers (clip): transformers does not bound the scale, which the paper keeps at 100 or below.
Peers (siglip): no difference found in the loss; the published model pools images by a learnt query.
"""

import json
import math

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.stats import binomtest, chisquare
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel
from zoo_backbones import backbone, batch, build

import ssl_zoo
from ssl_zoo import hub, optim
from ssl_zoo.compose.evaluation import subject
from ssl_zoo.compose.reopen import reopen, reopen_pair
from ssl_zoo.compose.reporting import predictions
from ssl_zoo.data.captions import ClassCaptions, captioned, filled
from ssl_zoo.data.image_captions import ImageCaptions
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.pairs import DrawnRows, PairRows
from ssl_zoo.data.plan import Parts, Plan
from ssl_zoo.data.rows import DataError, Subset, refuse_lacking
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.data.text_rows import DocumentRows
from ssl_zoo.data.tokenizer import bytes_tokenizer
from ssl_zoo.noise import free_noise, seed_noise
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives.clip import CLIP, clip_loss
from ssl_zoo.objectives.siglip import SigLIP, siglip_loss
from ssl_zoo.objectives.simclr import SimCLR
from ssl_zoo.pretrain import Budget, Pretraining, PretrainingData, pretrain
from ssl_zoo.pretrain.watch import Validation
from ssl_zoo.transfer.features import move
from ssl_zoo.transfer.measures import Subject, examine
from ssl_zoo.transfer.report import wilson
from ssl_zoo.transfer.retrieval import own_rank
from ssl_zoo.transfer.zero_shot import PairRetrieval, ZeroShot

WORDS = bytes_tokenizer()
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


def documents(*texts: str) -> DocumentRows:
    return DocumentRows(texts, WORDS, 40)


def spelt(rows: Batch | None) -> list[str]:
    """The texts of a batch."""
    assert rows is not None
    assert rows.segments is not None
    return [WORDS.decode(x[s >= 0].tolist()) for x, s in zip(rows.x, rows.segments, strict=True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table of 24 images with two captions each, and two rows that lack something."""
    where = tmp_path_factory.mktemp("own")
    (where / "img").mkdir()
    lines = ["filepath,title,licence"]
    for i in range(24):
        colour = list(COLOURS)[i % 3]
        Image.new("RGB", (8, 8), COLOURS[colour]).save(where / f"img/{i}.png")
        lines += [f"img/{i}.png,{colour} number {i},x", f'img/{i}.png,"again {i}, {colour}",x']
    lines += ["img/99.png,gone,x", "img/3.png,,x"]
    (where / "pairs.csv").write_text("\n".join(lines) + "\n")
    return where


def own(folder, table="pairs.csv", **options) -> ImageCaptions:
    cache = str(folder / "cache")
    return ImageCaptions("own", str(folder / table), image_size=8, cache=cache, **options)


# Rows


def test_a_pair_is_one_row_of_each_half():
    first, second = documents("a", "bb", "c", "dd"), documents("one", "two", "three", "four")
    rows = PairRows(first, second)
    found = rows.read(np.array([2, 0]))
    assert spelt(found) == ["c", "a"]
    assert spelt(found.other) == ["three", "one"]
    part = Subset(rows, np.array([3, 1])).read(np.array([1]))
    assert (spelt(part), spelt(part.other)) == (["bb"], ["two"])
    other = PairRows(first, documents("one", "two", "three", "5"))
    assert len({rows.fingerprint, other.fingerprint, PairRows(second, first).fingerprint}) == 3
    with pytest.raises(DataError, match="4 and 1 rows"):
        PairRows(first, documents("one"))


def test_a_caption_is_drawn_by_seed_epoch_and_row_alone():
    start, count = np.array([0, 1, 4]), np.array([1, 3, 2])
    texts = documents(*"abcdef")
    rows = DrawnRows(texts, start, count, seed=1)
    draws = np.array([spelt(rows.read(np.arange(3), epoch)) for epoch in range(600)])
    assert set(draws[:, 0]) == {"a"}
    for row, letters in ((1, "bcd"), (2, "ef")):
        assert chisquare([(draws[:, row] == one).sum() for one in letters]).pvalue > 1e-4
    again = [spelt(rows.read(np.array([2, 1]), epoch)) for epoch in range(600)]
    assert np.array_equal(draws[:, [2, 1]], again)
    other = DrawnRows(texts, start, count, seed=2)
    assert other.fingerprint != rows.fingerprint
    assert [spelt(other.read(np.arange(3), e))[1] for e in range(20)] != draws[:20, 1].tolist()


def test_class_names_are_captions(tmp_path):
    data = ImageData("digits", "digits", image_size=8, cache=str(tmp_path))
    made = captioned(data, ["it is a {}", "{}!"])
    rows = made.pairs("validation", WORDS, 40, seed=3)
    found = rows.read(np.arange(50))
    assert found.y is not None
    allowed = [{f"it is a {y}", f"{y}!"} for y in found.y.tolist()]
    assert all(text in texts for text, texts in zip(spelt(found.other), allowed, strict=True))
    assert len({text[-1] for text in spelt(found.other)}) > 1
    assert filled("SeaLake", ["the {}."]) == ["the sea lake."]
    assert filled("aquarium_fish", ["{}"]) == ["aquarium fish"]
    with pytest.raises(DataError, match=r"one \{\}"):
        ClassCaptions(data, ["a photo"])
    with pytest.raises(DataError, match=r"one \{\}.*: \[\]"):
        captioned(data, [])
    text = TextData("t", str(tmp_path / "t.txt"))
    with pytest.raises(DataError, match="t holds no images with captions"):
        captioned(text)


# Tables


def test_a_table_of_images_and_captions(folder, capsys):
    data = own(folder, test_fraction=0.25)
    images, pairs = data.rows("train"), data.pairs("train", WORDS, 40)
    said = capsys.readouterr().err
    assert "image is column 'filepath', caption 'title'" in said
    assert "1 row(s) left out whose image is not in" in said
    assert "line 50: 'img/99.png'" in said
    assert "1 row(s) left out that lack an image or a caption" in said
    seen: dict[str, set[str]] = {}
    for split in data.splits():
        rows = data.pairs(split, WORDS, 40)
        for epoch in range(8):
            found = rows.read(np.arange(len(rows)), epoch)
            for x, text in zip(found.x, spelt(found.other), strict=True):
                colour = next(name for name, value in COLOURS.items() if x[:, 0, 0].tolist() == list(value))
                assert colour in text
                seen.setdefault(split, set()).add(text)
    numbers = [{"".join(filter(str.isdigit, text)) for text in texts} for texts in seen.values()]
    assert sum(map(len, numbers)) == len(set.union(*numbers)) == 24, "an image is in one split"
    assert sum(map(len, seen.values())) == 48, "every caption is drawn"
    assert len(images) == len(pairs)
    encoded = own(folder, test_fraction=0.25, unpack=False).pairs("train", WORDS, 40)
    one, two = pairs.read(np.arange(5)), encoded.read(np.arange(5))
    assert torch.equal(one.x, two.x)
    assert spelt(one.other) == spelt(two.other)
    with pytest.raises(DataError, match="own has no test pairs"):
        examine(Subject(backbone("vit"), WORDS, pair=lambda: None), own(folder), PairRetrieval())
    (folder / "scored.csv").write_text("one,two,3\n")
    sentences = TextPairs("scored", *[folder / "scored.csv"] * 3)
    with pytest.raises(DataError, match="scored holds no images with captions"):
        examine(Subject(backbone("vit"), WORDS, pair=lambda: None), sentences, PairRetrieval())


def test_other_tables(folder):
    (folder / "t.tsv").write_text("img/0.png\t7\tred one\nimg/1.png\t7\tgreen one\n")
    numbered = own(folder, "t.tsv", image=0, caption=2, validation_fraction=0)
    assert sorted(numbered.captions("train")) == ["green one", "red one"]
    lines = [{"path": f"{i}.png", "text": f"text {i}", "more": [1]} for i in range(3)]
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    named = own(folder, "t.jsonl", root=str(folder / "img"), validation_fraction=0)
    assert named.captions("train") == ["text 0", "text 1", "text 2"]
    (folder / "mixed.csv").write_text("text,what,more\nimg/0.png,7,red one\n")
    for columns in ({"image": 0, "caption": "more"}, {"image": "text", "caption": 2}):
        mixed = own(folder, "mixed.csv", validation_fraction=0, **columns)
        assert mixed.captions("train") == ["red one"]
    (folder / "guess.csv").write_text("text,caption\nimg/0.png,red one\n")
    for columns in ({"image": 0}, {"image": "text"}):
        assert own(folder, "guess.csv", validation_fraction=0, **columns).captions("train") == ["red one"]
    (folder / "twice.csv").write_text("path,text\nimg/0.png,red one\n./img/0.png,small red\n")  # one image
    twice = own(folder, "twice.csv", validation_fraction=0)
    assert (len(twice.rows("train")), twice.captions("train")) == (1, ["red one", "small red"])
    (folder / "part.csv").write_text("text,title\nimg/0.png,red one\n")  # column 0 is the image, not the text
    assert own(folder, "part.csv", validation_fraction=0, image=0).captions("train") == ["red one"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\nimg/0.png,x\n", {}, "no column of image files by a usual name; its columns are a, b"),
        ("path,b\nimg/0.png,x\n", {}, "no column of captions"),
        ("path,text\nimg/0.png,x,y\n", {}, "line 2 has 3 columns"),
        ("path,text\nno.png,x\n", {}, "holds no image with a caption: 1 row.*data.root=FOLDER"),
        ("path,text\nt.csv,x\n", {}, "line 2: .*t.csv: its 23 bytes are not an image"),
        ("path,text\nimg/0.png,x\n", {"caption": "title"}, "no column 'title'"),
        ("path,text\nimg/0.png,x\n", {"delimiter": "||"}, "delimiter is one character"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_with_its_place(folder, text, options, message):
    (folder / "t.csv").write_text(text + " " * max(0, 23 - len(text)) if "t.csv" in text else text)
    with pytest.raises(DataError, match=message):
        own(folder, "t.csv", validation_fraction=0, **options).rows("train")


# Transport


class Numbered(Objective):
    """Reads all there is, and keeps what it saw."""

    family = "test"
    takes = ("vit",)
    reads = ("x", "index", "other")

    def __init__(self, on):
        super().__init__(on)
        self.seen = []

    def forward(self, batch):
        self.seen.append((batch.index, spelt(batch.other), batch.x))
        return Loss(self.backbone(batch.x).pooled.square().mean(), {})


def numbered_pairs() -> PairRows:
    return PairRows(tiny.Pictures(32), documents(*map(str, range(32))))


@pytest.mark.parametrize("workers", [0, 1])
def test_row_numbers_and_second_halves_reach_the_objective(tmp_path, capsys, workers):
    objective = Numbered(tiny.vit())
    module = Pretraining(objective, optim.sgd, Budget(steps=3))
    data = PretrainingData(numbered_pairs(), 8, 0, workers=workers)
    trained(module, data, tmp_path / "run", validation=Validation(numbered_pairs(), 3, 8))
    assert "no validation loss: held-out rows have no number in training" in capsys.readouterr().out
    plan, rows = Plan(32, 8, 0), numbered_pairs()
    for step, (index, texts, x) in enumerate(objective.seen):
        assert index.tolist() == plan.rows(step).tolist() == list(map(int, texts))
        assert torch.equal(x, rows.read(index.numpy()).x)
    assert len(objective.seen) == 3


def trained(module, data, run, **options):
    return pretrain(module, data, run, accelerator="cpu", devices=1, save_every=0, **options)


def test_images_that_live_on_the_device_keep_what_belongs_to_them():
    rows = numbered_pairs()
    whole, apart = (Parts(rows, Plan(32, 8, 0), 1, 1, 0, read, numbered=True)[2] for read in (True, False))
    data = PretrainingData(rows, 8)
    data.resident = torch.from_numpy(tiny.Pictures(32).read(np.arange(32)).x.numpy())
    _, found = data.on_after_batch_transfer(apart, 0)
    assert torch.equal(found.x, whole[1].x)
    assert torch.equal(found.index, whole[1].index)
    assert spelt(found.other) == spelt(whole[1].other)
    moved = move(whole[1], torch.device("meta"))
    assert moved.other is not None
    assert {moved.x.device.type, moved.other.x.device.type, moved.index.device.type} == {"meta"}


def test_what_the_rows_lack_is_said_before_the_first_step(tmp_path):
    module = Pretraining(build(CLIP, tiny.vit()), optim.sgd, Budget(steps=1))
    with pytest.raises(DataError, match="CLIP learns from pairs, and these rows are single"):
        trained(module, PretrainingData(tiny.Pictures(32), 8), tmp_path / "run")
    refuse_lacking(build(CLIP, tiny.vit()), numbered_pairs())
    refuse_lacking(build(SimCLR, tiny.vit()), tiny.Pictures(32))


# Losses

TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = TEXT | {"image_size": 16, "patch_size": 8}


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_loss_and_gradient_are_those_of_transformers(kind):
    torch.manual_seed(0)
    make, config = (CLIPModel, CLIPConfig) if kind == "clip" else (SiglipModel, SiglipConfig)
    texts = TEXT | {"vocab_size": 50, "max_position_embeddings": 8, "projection_size": 16}
    model = make(config(text_config=texts, vision_config=VISION, projection_dim=16)).double().eval()
    ids = torch.randint(3, 50, (6, 8))
    pixels = torch.randn(6, 3, 16, 16, dtype=torch.float64)
    out = model(input_ids=ids, pixel_values=pixels, return_loss=True)
    u, v = (x.detach().clone().mul(3).requires_grad_() for x in (out.image_embeds, out.text_embeds))
    given = [model.logit_scale] if kind == "clip" else [model.logit_scale, model.logit_bias]
    ours = [x.detach().clone().requires_grad_() for x in given]
    loss, found = (clip_loss if kind == "clip" else siglip_loss)(u, v, *ours)
    assert loss.item() == pytest.approx(out.loss.item(), rel=1e-12)
    assert 0 <= found <= 1
    theirs = torch.autograd.grad(out.loss, [*given, out.image_embeds, out.text_embeds])
    mine = torch.autograd.grad(loss, [*ours, u, v])
    for one, two in zip(mine[:-2], theirs[:-2], strict=True):
        torch.testing.assert_close(one.squeeze(), two.squeeze(), rtol=1e-10, atol=0)
    for x, one, two in zip((u, v), mine[-2:], theirs[-2:], strict=True):
        unit = F.normalize(x.detach(), dim=1)
        across = two - (two * unit).sum(1, keepdim=True) * unit  # what normalising lets through, at length 3
        torch.testing.assert_close(one, across / 3, rtol=1e-9, atol=1e-14)


def test_the_learnt_scale_starts_as_published_is_bounded_and_does_not_decay():
    clip, siglip = build(CLIP, backbone("vit")), build(SigLIP, backbone("cnn"))
    assert clip.log_scale.exp().item() == pytest.approx(1 / 0.07)
    assert (siglip.log_scale.exp().item(), siglip.bias.item()) == (pytest.approx(10), -10)
    for objective in (clip, siglip):
        with torch.no_grad():
            objective.log_scale.fill_(5)
        objective.advance(0.5)
        for group in optim.adamw(objective, weight_decay=0.1).param_groups:
            if any(p is objective.log_scale for p in group["params"]):
                assert group["weight_decay"] == 0
    assert clip.log_scale.exp().item() == pytest.approx(100)
    assert siglip.log_scale.item() == 5


@pytest.mark.parametrize("cls", [CLIP, SigLIP])
@pytest.mark.parametrize("tower", ["transformer", "encoder", "bag"])
def test_any_text_tower_in_half_precision(cls, tower):
    objective = build(cls, backbone("vit"), text=backbone(tower, 2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(batch(objective))
    loss.value.backward()
    assert loss.value.dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())
    with pytest.raises(ValueError, match="TimmCNN reads images"):
        build(cls, backbone("vit"), text=backbone("cnn"))
    with pytest.raises(ValueError, match="one alone"):
        objective(batch(objective, rows=1))


@pytest.mark.parametrize("cls", [CLIP, SigLIP])
def test_images_are_cropped_to_the_size_that_the_tower_reads(cls):
    vit = backbone("vit")
    view = build(cls, vit, text=backbone("transformer")).view
    assert view.size == vit.image_size
    assert view(torch.zeros(2, 3, 23, 31, dtype=torch.uint8)).shape[-2:] == vit.image_size


def test_it_works_in_a_sum():
    terms = {
        "pair": lambda on: build(CLIP, on),
        "views": lambda on: build(SimCLR, on),
    }
    objective = ssl_zoo.Sum(backbone("vit"), terms)
    seed_noise(0, 0)
    loss = objective(batch(objective))
    free_noise()
    assert set(objective.export()) == {"backbone", "text"}
    total = loss.parts["pair/loss"] + loss.parts["views/loss"]
    assert loss.value.item() == pytest.approx(total.item())


# Without labels


class Plain(torch.nn.Module):
    """Two towers without heads."""

    def __init__(self, image, text):
        super().__init__()
        self.backbone, self.text = image, text

    def image_vectors(self, pooled):
        return F.normalize(pooled[:, :16], dim=1)

    def text_vectors(self, pooled):
        return F.normalize(pooled[:, :16], dim=1)


def test_zero_shot_is_the_nearest_mean_of_captions(tmp_path):
    text = ssl_zoo.backbones.transformer.TextTransformer(WORDS.vocabulary, width=32, depth=1, heads=2)
    pair = Plain(backbone("vit", image_size=8), text).eval()
    data = ImageData("digits", "digits", image_size=8, test_fraction=0.1, cache=str(tmp_path))
    templates = ["a {}", "the digit {} here"]
    subject = Subject(pair.backbone, WORDS, 40, pair=lambda: pair)
    found = examine(subject, data, ZeroShot(templates))
    rows = data.labelled("test")
    right = 0
    with torch.no_grad():
        means = []
        for name in data.classes:
            units = [
                pair.text_vectors(pair.text(torch.tensor([[1, *WORDS.encode([t.format(name)])[0]]])).pooled)
                for t in templates
            ]
            means.append(F.normalize((units[0] + units[1]) / 2, dim=1))
        for i in range(len(rows)):
            one = rows.read(np.array([i]))
            unit = pair.image_vectors(pair.backbone(one.x.float() / 255).pooled)
            right += int(torch.stack([(unit * mean).sum() for mean in means]).argmax() == one.y)
    assert found.values == (pytest.approx(right / len(rows)),)
    assert found.others["chance"] == (0.1,)
    assert found.train == found.validation == 0
    with pytest.raises(DataError, match="no text tower: pretrain with objective=clip"):
        examine(Subject(pair.backbone), data, ZeroShot())
    theirs = binomtest(right, len(rows)).proportion_ci(method="wilson")
    assert found.details["interval"] == [pytest.approx(tuple(theirs))]
    assert wilson(1.0, 10)[1] == pytest.approx(1.0)


def test_rank_of_the_own_half():
    torch.manual_seed(0)
    u, v = (F.normalize(torch.randn(40, 5), dim=1) for _ in range(2))
    want = [sum(float(u[i] @ v[j]) > float(u[i] @ v[i]) for j in range(40)) for i in range(40)]
    assert own_rank(u, v, 7).tolist() == want
    point = torch.ones(5, 3)
    assert own_rank(point, point, 2).tolist() == [2] * 5, "a collapse finds nothing"
    assert own_rank(point * torch.nan, point).tolist() == [2] * 5
    v[1] = v[0]
    assert own_rank(u[:2], v[:2]).tolist() == [0.5, 0.5]


# The command

STEPS = 12
RUN = (
    *("pretrain", "objective=clip", "backbone=resnet_micro", "backbone.channels=[8,8,16,32]", "data=digits"),
    *("data.image_size=8", "objective.out=16", "backbone@objective.text=transformer_mini"),
    *("objective.text.depth=1", "objective.text.width=16", "tokenizer=bytes", "context=24", "batch_size=64"),
    *("optimizer.lr=0.01", "save_every=6", "evaluate_every=0", "trainer=cpu"),
    "threads=1",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of STEPS, and one of half of them that went on to the end."""
    where = tmp_path_factory.mktemp("runs")
    for run, steps in (("whole", STEPS), ("parted", STEPS // 2), ("parted", STEPS)):
        words = (*RUN, f"run={run}", f"budget.steps={steps}", "schedule=constant")
        code, log = tiny.command(where, where / "cache", *words)
        assert code == 0, log
    return where, log


def test_it_resumes_to_the_bit_and_keeps_both_towers(runs):
    where, log = runs
    one, two = (
        torch.load(where / run / f"checkpoints/step-{STEPS:012d}.ckpt")["state_dict"]
        for run in ("whole", "parted")
    )
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert one["objective.log_scale"] != math.log(1 / 0.07)
    assert f"resuming    after step {STEPS // 2}" in log
    image, text = ssl_zoo.load(where / "whole"), ssl_zoo.load(where / "whole", name="text")
    assert (image.modality, text.modality) == ("image", "text")
    key = "objective.text.words.weight"
    assert torch.equal(text.words.weight, one[key])
    assert (text.vocabulary.size, text.dim) == (259, 16)
    kinds = {kind: subject(where / "whole", None, "cpu", kind) for kind in ("image", "text")}
    assert [one.backbone.modality for one in kinds.values()] == ["image", "text"]
    assert {one.length for one in kinds.values()} == {24}
    with pytest.raises(hub.HubError, match=r"no teacher backbone .* Besides backbone there is text"):
        ssl_zoo.load(where / "whole", name="teacher")


def test_the_command_classifies_without_labels_and_a_page_shows_pairs(runs, monkeypatch):
    where, _ = runs
    words = ("evaluate", "run=whole", "data=digits", "data.image_size=8", "data.test_fraction=0.2")
    code, log = tiny.command(where, where / "cache", *words, "protocol=zero_shot")
    assert code == 0, log
    found = json.loads((where / "whole/evaluations/digits-zero_shot.json").read_text())
    data = ImageData("digits", "digits", image_size=8, test_fraction=0.2, cache=str(where / "cache"))
    subject = Subject(ssl_zoo.load(where / "whole"), WORDS, 24, pair=lambda: reopen_pair(where / "whole"))
    assert found["results"]["pretrained"]["values"] == list(examine(subject, data, ZeroShot()).values)
    opened = reopen_pair(where / "whole")
    for name, kept in opened.export().items():
        state = ssl_zoo.load(where / "whole", name=name).state_dict()
        assert all(torch.equal(state[key], value) for key, value in kept.state_dict().items())
    assert "chance 10.0" in log
    monkeypatch.setenv("SSL_ZOO_CACHE", str(where / "cache"))
    (shown,) = predictions(reopen(where / "whole"))
    assert shown.kind == "pairs"
    assert all(one.image and other.text for one, other in zip(shown.first, shown.second, strict=True))
    assert np.abs(shown.similarity).max() <= 1 + 1e-6


def test_a_table_is_guessed_from_its_columns(folder):
    words = [word for word in RUN if not word.startswith(("data=", "evaluate_every", "batch_size"))]
    more = (
        f"data={folder}/pairs.csv",
        "run=own",
        "budget.steps=2",
        "evaluate_every=2",
        "batch_size=8",
        "objective=siglip",
    )
    words = [word for word in words if not word.startswith("objective=")]
    code, log = tiny.command(folder, folder / "cache", *words, *more)
    assert code == 0, log
    assert "a table of images and captions; image is column 'filepath', caption 'title'" in log
    assert "22 rows of 1 images" in log
    assert "step 2  val/loss" in log
