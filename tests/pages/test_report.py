"""`ssl-zoo report`: pages of real tiny runs, opened from disk in a browser."""

# ruff: noqa: F811 (fixtures are asked for by the name under which they are imported)
import json
import re

import numpy as np
import pytest
import tiny
import torch
from browser import browser, page, show  # noqa: F401
from zoo_backbones import backbone, batch, build, pairs

from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.compose.reporting import evaluations
from ssl_zoo.data.tokenizer import bytes_tokenizer
from ssl_zoo.objectives._base import Batch, Sum
from ssl_zoo.objectives.mae import MAE
from ssl_zoo.objectives.masked_diffusion import MaskedDiffusion
from ssl_zoo.objectives.masked_lm import MaskedLM
from ssl_zoo.objectives.next_token import NextToken
from ssl_zoo.objectives.prefix_lm import PrefixLM
from ssl_zoo.objectives.rotation import Rotation
from ssl_zoo.objectives.span_corruption import SpanCorruption
from ssl_zoo.pages.feature_views import FeatureView, neighbours
from ssl_zoo.pages.page import embedded
from ssl_zoo.pages.run_report import Report, evaluation_rows, html
from ssl_zoo.pages.samples import Sample, beginning
from ssl_zoo.pages.shown import ask, continuations, drawn, predict
from ssl_zoo.pages.shown import name as token_name
from ssl_zoo.tokens import patchify
from ssl_zoo.transfer.generate import Choice, end_of_document, follow

SMALL_VIT = ("backbone=vit_micro", "backbone.depth=2", "backbone.embed_dim=32", "backbone.num_heads=2")
SMALL_TEXT = ("backbone=transformer_micro", "backbone.width=32", "backbone.depth=1", "tokenizer=bytes")
RUNS = {
    "mae_simclr": ("objective=mae_simclr", *SMALL_VIT, "data=digits", "batch_size=16"),
    "rotation": ("objective=rotation", "backbone=resnet_micro", "data=digits", "batch_size=16"),
    "next_token": ("objective=next_token", *SMALL_TEXT, "data=stdlib", "batch_size=2", "context=48"),
    "span_corruption": (
        "objective=span_corruption",
        *SMALL_TEXT,
        "data=stdlib",
        "batch_size=2",
        "context=48",
    ),
    "masked_lm": ("objective=masked_lm", *SMALL_TEXT, "data=stdlib", "batch_size=2", "context=48"),
}
STEPS = (
    "budget.steps=6",
    "log_every=2",
    "evaluate_every=3",
    "validation_limit=16",
    "trainer=cpu",
    "threads=1",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def report(folder):
    """name of a run -> its page, each made once."""
    made = {}

    def make(name, *words):
        if name not in made:
            code, said = tiny.command(
                folder, folder / "cache", "pretrain", *RUNS[name], *STEPS, f"run={name}"
            )
            assert code == 0, said
            code, said = tiny.command(folder, folder / "cache", "report", name, "limit=60", *words)
            assert code == 0, said
            made[name] = folder / name / "report.html"
        return made[name]

    return make


def headings(page):
    return [one.inner_text() for one in page.locator("h2").all()]


def test_a_run_of_two_image_objectives(report, page):
    show(page, report("mae_simclr"))
    assert {"Facts", "Pretraining", "Map of the features", "Nearest neighbours"} <= set(headings(page))
    assert "Sum on digits" in page.title()
    assert page.locator("svg").count() >= 5
    assert page.locator("img").count() > 12 * 6, "neighbours, reconstructions and views are pictures"
    assert page.evaluate("document.images.length && [...document.images].every(i => i.naturalWidth > 0)")
    assert "MAE" in page.content()
    assert "SimCLR" in page.content()


def test_the_map_switches_and_tells_of_its_points(report, page):
    show(page, report("mae_simclr"))
    menu = page.locator("#layout")
    choices = menu.locator("option").all_inner_texts()
    assert {"PCA", "t-SNE"} <= set(choices)
    map_of = page.locator("#map")
    before = map_of.inner_html()
    menu.focus()
    menu.select_option("t-SNE")
    page.wait_for_timeout(500)
    assert map_of.inner_html() != before
    map_of.scroll_into_view_if_needed()
    map_of.locator("g.mark-symbol.role-mark path").nth(3).hover(force=True)
    tip = page.locator("#vg-tooltip-element")
    tip.wait_for()
    assert tip.locator("img").count() == 1, "the thumbnail of the row"


@pytest.mark.parametrize(("classes", "says"), [(20, "in the legend"), (21, "Click a point")])
def test_the_map_says_how_a_class_is_picked(classes, says):
    """Too many classes have no legend, in which the page used to ask for a click all the same."""
    names = tuple(map(str, range(classes)))
    samples = [Sample(image="data:,", label=name) for name in names]
    near = neighbours(torch.eye(classes), samples)
    places = {"PCA": np.zeros((classes, 2))}
    view = FeatureView(samples, places, 0.5, near, None, "d", "validation", names)
    text = html(Report("t", "", (), "", features=view))
    assert says in text
    assert ('"bind":"legend"' in text) == (classes == 20)


def test_light_and_dark_by_the_button(report, page):
    show(page, report("rotation"))
    ground = "getComputedStyle(document.body).backgroundColor"
    seen = set()
    for _ in range(3):
        page.locator("#theme").focus()
        page.keyboard.press("Enter")
        page.wait_for_timeout(200)
        seen.add(page.evaluate(ground))
    assert len(seen) == 2


@pytest.mark.parametrize(
    "name", ["rotation", *(pytest.param(one, marks=pytest.mark.slow) for one in RUNS if one != "rotation")]
)
def test_no_page_scrolls_sideways_on_a_phone(report, page, name):
    page.set_viewport_size({"width": 360, "height": 740})
    show(page, report(name))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_tokens_are_read_by_keyboard(report, page):
    show(page, report("next_token"))
    assert "Continuation 3" in page.locator("main").inner_text()
    tokens = page.locator(".tokens[role=listbox]").first
    tokens.locator("[tabindex='0']").focus()
    first = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("ArrowRight")
    second = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert first != second
    assert re.search(r"\d %. Likeliest: ", second)


def test_hidden_words_are_told_with_probabilities(report, page):
    show(page, report("masked_lm"))
    hidden = page.locator(".tokens mark").count()
    assert hidden > 0
    rows = page.locator("table", has_text="hidden token").locator("tbody tr")
    assert rows.count() == hidden
    assert rows.first.locator("td").count() == 4, "its own probability and the three likeliest"


def test_hidden_spans_and_the_span_after_a_prompt(report, page):
    """The marks, without which nothing is written, are those of the checkpoint."""
    show(page, report("span_corruption"))
    assert page.locator(".tokens mark").count() > 0
    drawn = page.locator(".tokens[role=listbox][aria-label='Sampled continuation']")
    assert drawn.count() == 3
    assert re.search(
        r"\d %. Likeliest: ", drawn.first.locator("[role=option]").first.get_attribute("aria-label")
    )
    assert "as the span behind the prompt that a mark stands for" in page.locator("main").inner_text()


def test_a_page_that_nothing_can_break_out_of():
    assert "<" not in embedded({"text": "</script><script>alert(1)</script>"})
    assert json.loads(str(embedded(["</script>", "\u2028"]))) == ["</script>", "\u2028"]


def test_an_unfinished_run_still_has_a_page(report, folder):
    done = report("rotation").parent
    other = folder / "unfinished"
    other.mkdir()
    for name in ("config.yaml", "environment.json", "logs"):
        (other / name).symlink_to(done / name)
    code, said = tiny.command(folder, folder / "cache", "report", "unfinished", "limit=60")
    assert code == 0, said
    assert re.search("no backbone|no checkpoint|unfinished", (other / "report.html").read_text())


@pytest.mark.parametrize(
    ("words", "said"),
    [(("nowhere",), "nowhere"), ((), "run"), (("rotation", "limt=3"), "did you mean 'limit'")],
)
def test_words_that_cannot_work(folder, report, words, said):
    report("rotation")
    code, printed = tiny.command(folder, folder / "cache", "report", *words)
    assert code == 1
    assert said in printed
    assert "Traceback" not in printed


def test_what_is_missing_or_damaged_is_noted(report, folder):
    done = report("masked_lm").parent
    other = folder / "no_tokenizer"
    other.mkdir()
    for one in done.iterdir():
        if one.name not in ("tokenizer", "report.html", "environment.json"):
            (other / one.name).symlink_to(one)
    (other / "environment.json").write_text('{"versions": {}}')
    code, said = tiny.command(folder, folder / "cache", "report", "no_tokenizer", "data=stsb", "limit=60")
    assert code == 0, said
    page = (other / "report.html").read_text()
    assert "the backbone reads text, and the run has no tokenizer" in page
    assert "stsb holds pairs of sentences: take data of single texts" in page
    assert "environment.json is not as pretrain writes it" in page


# What is drawn


def test_evaluations_are_shown_as_their_metrics_are():
    one = {
        "metric": "matthews",
        "mean": 0.1234,
        "interval": [0.1, 0.15],
        "values": [0.1, 0.14],
        "labels": None,
    }
    one |= {"protocol": "linear", "train": 8000, "validation": 500, "test": 1043}
    two = one | {
        "metric": "exact_match",
        "mean": 0.5,
        "interval": None,
        "values": [0.5],
        "labels": 25,
        "steps": 40,
    }
    first, second = evaluation_rows("cola-linear", {"results": {"pretrained": one, "from scratch": two}})
    assert (first.data, first.what, first.labels) == ("cola-linear", "pretrained", "all labels")
    assert (first.metric, first.score, first.span) == ("Matthews correlation", "0.123", "0.100 to 0.150")
    assert (second.metric, second.score, second.span) == ("exact match, %", "50.0", "one value")
    assert second.labels == "25 labels a class, 40 steps"
    assert (second.seeds, second.rows) == (1, "8,000 / 500 / 1,043")
    assert evaluation_rows("other", {"figures": []}) == []


def test_what_a_board_measured_is_shown_too(tmp_path):
    assert evaluations(tmp_path) == {}
    (tmp_path / "measures").mkdir()
    points = [
        {"protocol": "finetune", "metric": "accuracy", "value": value, "labels": labels, "steps": None}
        | {"train": 10, "validation": 5, "test": 100}
        for value, labels in ((0.25, 1), (0.5, None))
    ]
    body = {"words": ["labels=[1,null]"], "data": {"digits": "abc"}, "results": points}
    (tmp_path / "measures/labels.json").write_text(json.dumps(body))
    rows = [row for name, one in evaluations(tmp_path).items() for row in evaluation_rows(name, one)]
    assert [(row.data, row.what, row.labels, row.score, row.seeds) for row in rows] == [
        ("digits", "labels", "1 label a class", "25.0", 1),
        ("digits", "labels", "all labels", "50.0", 1),
    ]


class Few:
    """Rows that are one batch."""

    unit = "images"

    def __init__(self, batch):
        self.batch = batch

    def __len__(self):
        return len(self.batch.x)

    def read(self, index):
        return self.batch


def test_what_mae_saw_is_drawn_as_it_is():
    objective = build(MAE, backbone("vit")).eval()
    found = ask(objective, Few(batch(objective, rows=2)))
    crop, seen, made = found.columns.values()
    patches = patchify(crop, 8)  # (B, N, 192)
    kept = (patchify(seen, 8) == patches).all(-1)
    assert kept.sum(1).tolist() == [4, 4], "a quarter of 16 patches is seen"
    assert (patchify(seen, 8)[~kept] == 0.5).all()
    assert torch.equal(patchify(made, 8)[kept], patches[kept])
    # what is drawn has the mean and the deviation of the true patch wherever the decoder's has 0 and 1
    _, raw = objective.predict(crop)
    assert torch.equal(made, ask(objective, Few(batch(objective, rows=2))).columns["drawn"])
    assert raw.shape == (2, 12, 192)
    assert not torch.equal(made, crop)
    page = drawn(found, None, "MAE", "the first rows")
    assert (page.kind, len(page.pictures), len(page.pictures[0])) == ("pictures", 2, 3)


def test_turns_are_probabilities():
    objective = build(Rotation, backbone("cnn")).eval()
    found = ask(objective, Few(batch(objective, rows=3)))
    assert found.right.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert torch.equal(found.images[3:6], torch.rot90(found.images[:3], 1, (2, 3))), "counter-clockwise"
    assert found.p.sum(1) == pytest.approx(torch.ones(12), abs=1e-5)
    guess = drawn(found, None, "Rotation", "rows").guesses[4]
    assert [right for _, _, right in guess.choices] == [False, True, False, False]


def test_every_objective_can_be_asked_and_is_as_it_was():
    """Those that show nothing return None; what they show, a page can draw, whatever it is of."""
    words = bytes_tokenizer()
    seen = set()
    for cls, kind in pairs():
        if kind not in ("vit", "transformer"):
            continue
        objective = build(cls, backbone(kind))
        before = {key: value.clone() for key, value in objective.state_dict().items()}
        random = torch.get_rng_state()
        found = ask(objective, Few(batch(objective, rows=4)))
        assert objective.training, cls
        assert torch.equal(torch.get_rng_state(), random), cls
        assert all(torch.equal(value, before[key]) for key, value in objective.state_dict().items()), cls
        if found is not None:
            assert drawn(found, words, cls.__name__, "rows").note.endswith(".")
            seen.add(cls.__name__)
    assert {"MAE", "Rotation", "SimCLR", "MaskedLM", "NextToken", "Supervised"} <= seen


def test_guesses_of_hidden_tokens_are_the_networks():
    words = bytes_tokenizer()
    objective = MaskedLM(TextTransformer(words.vocabulary, width=32, depth=1, heads=2)).eval()
    ids = torch.from_numpy(words.encode(["some words to hide some of"])[0].astype("int64"))[None]
    found = ask(objective, Few(Batch(ids)))
    page = drawn(found, words, "MaskedLM", "rows")
    hidden = [i for i, token in enumerate(page.tokens) if token.hidden]
    assert hidden == found.at.tolist()
    shown = ids.clone()
    shown[0, found.at] = words.vocabulary.mask
    code = objective.backbone(shown).tokens[0, found.at]
    p = (objective.transform(code) @ objective.output.weight.T + objective.bias).softmax(1)
    assert found.p == pytest.approx(p.detach(), abs=1e-6)
    assert page.tokens[hidden[0]].p == pytest.approx(p[0, ids[0, hidden[0]]].item(), abs=1e-6)


def test_continuations_are_drawn_from_the_model():
    words = bytes_tokenizer()
    model = TextTransformer(words.vocabulary, width=32, depth=1, heads=2)
    objective = NextToken(model).eval()
    prompt = [*words.prefix, *words.encode(["ab"])[0].tolist()]
    found = continuations(objective, words, prompt, length=5, count=2)
    ids = torch.tensor(prompt)
    p = ask(objective, Few(Batch(torch.cat([ids, ids[:1]])[None]))).p[-1].clone()
    p[[i for i in words.vocabulary.special if i != end_of_document(words)]] = 0
    p = p / p.sum()
    for run in found:
        assert 1 <= len(run) <= 5
        first = next(i for i in range(len(p)) if token_name(words, i) == run[0].text and p[i] > 0)
        assert run[0].p == pytest.approx(p[first].item(), rel=1e-4) or "part of" in run[0].text
        assert len(run[0].likely) == 3
    assert found == continuations(objective, words, prompt, length=5, count=2)


WRITERS = {
    NextToken: "one after the other after the prompt.",
    PrefixLM: "one after the other after the prompt, which the network reads in both directions.",
    SpanCorruption: "one after the other as the span behind the prompt that a mark stands for",
    MaskedDiffusion: "in the places of masks after the prompt, in 40 steps and in any order",
}


@pytest.mark.parametrize("cls", WRITERS)
def test_every_objective_that_writes_has_samples_on_its_page(cls):
    words = bytes_tokenizer()
    torch.manual_seed(0)
    model = TextTransformer(words.vocabulary, width=32, depth=1, heads=2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    objective = cls(model).eval()
    text = "a page has samples of what an objective writes, and they are drawn from it"
    ids = torch.tensor([[*words.prefix, *words.encode([text])[0].tolist()]])
    one = predict(objective, Few(Batch(ids)), words, cls.__name__, "rows")
    assert len(one.continuations) == 3
    assert {prompt for prompt, _ in one.continuations} == {words.decode(ids[0, :24].tolist())}
    marks = {"marks": objective.marks.weight} if cls is SpanCorruption else {}
    runs = follow(model, [ids[0, :24].tolist()] * 3, 40, 67, Choice(), end=1, never=[0, 2], **marks)
    for (_, tokens), run in zip(one.continuations, runs, strict=True):
        assert [token.p for token in tokens] == pytest.approx([step.p for step in run], rel=1e-4)
        last = "⟨end⟩" if cls is SpanCorruption else "⟨document⟩"
        names = [last if step.id == 1 else token_name(words, step.id) for step in run]
        assert [token.text for token in tokens] == names
        assert [len(token.likely) for token in tokens] == [3] * len(tokens)
    page = html(Report("t", "", (), "", predictions=[one]))
    assert page.count("drawn from the network's own distribution, temperature 1, " + WRITERS[cls]) == 3
    assert page.count('aria-label="Sampled continuation"') == 3


def test_only_the_term_that_taught_it_to_write_has_samples():
    words = bytes_tokenizer()
    ids = torch.tensor([[*words.prefix, *words.encode(["some words that are long enough"])[0].tolist()]])
    for terms, having in (
        ((MaskedLM, MaskedDiffusion), [False, True]),
        ((NextToken, PrefixLM, MaskedLM), [True, False, False]),
        ((MaskedLM,), [False]),
    ):
        model = TextTransformer(words.vocabulary, width=32, depth=1, heads=2)
        both = Sum(model, {cls.__name__: cls for cls in terms})
        pages = [predict(term, Few(Batch(ids)), words, "one", "rows") for term in both.terms.values()]
        assert [bool(page.continuations) for page in pages] == having


def test_guesses_of_hidden_spans_know_what_is_before_them():
    words = bytes_tokenizer()
    objective = SpanCorruption(TextTransformer(words.vocabulary, width=32, depth=1, heads=2), rate=0.3).eval()
    with torch.no_grad():
        for weight in objective.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    ids = torch.from_numpy(words.encode(["some words to hide some spans of, and others"])[0].astype("int64"))
    rows = torch.stack([torch.cat([ids, ids[:9]]), torch.cat([ids, ids[:9]])])
    segments = torch.zeros_like(rows)
    segments[:, len(ids) :] = 1
    found = ask(objective, Few(Batch(rows, segments)))
    assert torch.equal(found.ids, ids), "the first document"
    at = found.at.tolist()
    assert len(at) == round(0.3 * len(ids))
    starts = [i for i in at if i - 1 not in at]
    size = words.vocabulary.size
    inputs, targets = [], []  # written once more by hand
    for i, one in enumerate(ids.tolist()):
        if i in starts:
            inputs.append(size + starts.index(i))
            targets.append(size + starts.index(i))
        (targets if i in at else inputs).append(one)
    row = [*inputs, 1, *targets]
    matrix = torch.cat([objective.output.weight, objective.marks.weight]).detach()
    order = torch.tensor([[max(0, i - len(inputs)) for i in range(len(row))]])
    with torch.no_grad():
        code = objective.backbone.encode(matrix[torch.tensor(row)][None], order=order).tokens[0]
    told = [i for i in range(len(inputs) + 1, len(row)) if row[i] < size]
    p = (code @ matrix.T).softmax(1)[[i - 1 for i in told], :size]
    assert [row[i] for i in told] == ids[at].tolist()
    torch.testing.assert_close(found.p, p, rtol=1e-4, atol=1e-6)
    assert ask(objective, Few(Batch(rows[:, :1]))) is None


def test_the_beginning_of_a_text():
    assert beginning("a  b\nc") == "a b c"
    assert beginning("abcdef", 4) == "abc…"
