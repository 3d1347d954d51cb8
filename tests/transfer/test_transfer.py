"""Features, budgets, sealed tests, reports, and `evaluate` as a whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from torch.nn import functional as F
from transfer_fakes import MLP, Bag, FakeRows, documents, images

from ssl_zoo.data.rows import DataError, Subset
from ssl_zoo.objectives._base import Batch
from ssl_zoo.transfer import floors, report
from ssl_zoo.transfer.evaluate import evaluate
from ssl_zoo.transfer.features import extract, forward, prepare
from ssl_zoo.transfer.labels import budget
from ssl_zoo.transfer.metrics import score, true_labels
from ssl_zoo.transfer.protocols import Finetune, Fitted, Knn, Layers, Linear
from ssl_zoo.transfer.sealed import Sealed
from ssl_zoo.transfer.table import Table


def test_extract_is_forward_in_eval_mode_and_leaves_no_trace():
    torch.manual_seed(0)
    backbone, rows = MLP(), images(50, 0)
    backbone.trunk[1].eval()  # a submodule the caller froze must come back frozen
    modes = [part.training for part in backbone.modules()]
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    state = torch.get_rng_state()
    features = extract(backbone, rows, batch_size=16, layers=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in backbone.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    backbone.eval()
    with torch.no_grad():
        direct = backbone(rows.x.float() / 255, layers="pooled")
    torch.testing.assert_close(features.pooled, direct.pooled)
    assert len(features.layers) == 2
    torch.testing.assert_close(features.layers[0], direct.layers[0])
    assert torch.equal(features.y, torch.from_numpy(rows.y))
    with torch.no_grad():
        online = forward(backbone, rows.read(np.arange(50)))
    torch.testing.assert_close(features.pooled, online.pooled)


def test_extract_of_padded_text_does_not_depend_on_the_batch():
    torch.manual_seed(0)
    backbone, rows = Bag(), documents(30, 0)  # 12 columns, at most 8 used: trimmed below max_length
    alone, together = (extract(backbone, rows, batch_size=size).pooled for size in (1, 30))
    torch.testing.assert_close(alone, together)
    row = rows.x[0][rows.segments[0] >= 0][None]
    torch.testing.assert_close(together[:1], backbone(row).pooled.detach())


def test_prepare_scales_and_resizes():
    x = torch.full((2, 3, 16, 16), 255, dtype=torch.uint8)
    x[:, :, ::2] = 0  # stripes: only an antialiased resize makes them grey
    out, _ = prepare(Batch(x), MLP())
    assert out.shape == (2, 3, 8, 8)
    assert ((out > 0.4) & (out < 0.6)).all()
    half = torch.full((1, 3, 8, 8), 51, dtype=torch.uint8)
    torch.testing.assert_close(prepare(Batch(half), MLP())[0], torch.full((1, 3, 8, 8), 0.2))


def test_prepare_refuses_what_does_not_fit():
    with pytest.raises(DataError, match="at most 10"):
        prepare(Batch(torch.ones(2, 11, dtype=torch.int64)), Bag())
    with pytest.raises(DataError, match="reads images"):
        prepare(Batch(torch.ones(2, 5, dtype=torch.int64)), MLP())
    with pytest.raises(DataError, match="uint8 or float"):
        prepare(Batch(torch.ones(2, 3, 8, 8, dtype=torch.int64)), MLP())
    for side in (8, 16):  # 16 is resized, which cuts off what is out of range
        for wrong in (torch.full((2, 3, side, side), 200.0), torch.full((2, 3, side, side), torch.nan)):
            with pytest.raises(DataError, match=r"divide by 255|NaN"):
                prepare(Batch(wrong), MLP())


def test_budgets():
    y = np.array([0] * 50 + [1] * 30 + [2] * 4)
    few = budget(y, 3, seed=0)
    assert np.bincount(y[few]).tolist() == [3, 3, 3]
    assert np.array_equal(few, budget(y, 3, seed=0))
    assert not np.array_equal(few, budget(y, 3, seed=1))
    assert set(few) <= set(budget(y, 4, seed=0))
    assert np.bincount(y[budget(y, 0.1, seed=0)]).tolist() == [5, 3, 1]
    assert np.array_equal(budget(y, None, seed=5), np.arange(84))
    with pytest.raises(DataError, match=r"class 2 has 4 .* the 5"):
        budget(y, 5, seed=0)
    for wrong in (1.0, 0.0, 0, -2, True, "3"):
        with pytest.raises(DataError):
            budget(y, wrong, seed=0)


class Peek:
    """A protocol that looks at the test while it chooses."""

    name, stochastic = "peek", False

    def __init__(self, look):
        self.look = look

    def fit(self, backbone, task):
        self.look()
        return Fitted(lambda rows: [torch.zeros(len(rows), dtype=torch.int64)], [{}], {})


def test_sealed_test_rows_cannot_be_peeked_at():
    rows = images(9, 0)
    for look in (
        lambda test: test.read(np.arange(3)),
        lambda test: test.y,
        lambda test: test.open("a peek"),
    ):
        test = Sealed(images(9, 1))
        with pytest.raises(DataError, match="test rows"):
            evaluate(MLP(), rows, rows, test, Peek(lambda look=look, test=test: look(test)), device="cpu")
    honest = evaluate(MLP(), rows, rows, Sealed(images(9, 1)), Peek(lambda: None), device="cpu")
    assert honest.mean == pytest.approx(1 / 3)


@pytest.mark.parametrize("protocol", [Knn(), Linear(), Layers()], ids=lambda protocol: protocol.name)
def test_frozen_protocols(protocol):
    torch.manual_seed(0)
    backbone = MLP()
    train, validation, test = images(90, 0), images(60, 1), images(60, 2)
    result = evaluate(backbone, train, validation, test, protocol, device="cpu")
    assert result.interval is None
    assert len(result.values) == 1
    assert result.mean > 0.7
    assert (test.reads == 1).all()
    few = evaluate(
        backbone, train, validation, images(60, 2), protocol, labels=5, validation_limit=15, device="cpu"
    )
    assert (few.train, few.validation, few.test, len(few.values)) == (15, 15, 60, 3)
    assert few.interval is not None
    assert few.mean < result.mean
    loaded = json.loads(json.dumps(few.as_dict()))
    assert loaded["mean"] == few.mean
    assert len(loaded["chosen"]) == 3
    if protocol.name == "layers":
        curve = few.details["curve"]
        assert [len(layers) for layers in curve] == [2, 2, 2]
        assert max(curve[0]) == few.chosen[0]["validation"]


def test_protocols_read_the_same_features(monkeypatch):
    """What kNN, linear and fine-tuning read of a row is bit for bit what `extract` gives."""
    from ssl_zoo.transfer import finetune, protocols

    torch.manual_seed(0)
    backbone, rows, seen = MLP(), images(30, 0), []

    def spy(*args, **kwargs):
        seen.append(extract(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(protocols, "extract", spy)
    monkeypatch.setattr(finetune, "extract", spy)
    untrained = Finetune(lrs=(0.0,), steps=1, augment=None)
    for protocol in (Knn(), Linear(), untrained):
        frozen = MLP().requires_grad_(True)
        frozen.load_state_dict(backbone.state_dict())
        for part in frozen.modules():
            if isinstance(part, torch.nn.BatchNorm1d):
                part.momentum = 0.0  # one step of training would move the statistics
        evaluate(frozen, rows, rows, rows, protocol, seeds=(0,), device="cpu")
    reference = extract(backbone, rows).pooled
    assert len(seen) == 8
    assert all(torch.equal(features.pooled, reference) for features in seen)


def test_interval_is_students():
    values = [0.91, 0.87, 0.95, 0.90]
    expected = scipy.stats.t.interval(0.95, 3, loc=np.mean(values), scale=scipy.stats.sem(values))
    assert report.interval(values) == pytest.approx(expected)
    low, high = report.interval([1.0, 2.0, 3.0])
    assert (high - low) / 2 == pytest.approx(4.30265 / 3**0.5, rel=1e-5)
    assert report.interval([0.5]) is None


def test_table_is_aligned():
    assert report.table(("name", "x"), [("a", 1), ("longer", 12.5)]) == (
        "name       x\n------  ----\na          1\nlonger  12.5"
    )


def test_labels_of_what_uses_none():
    result = report.Result("bits_per_byte", "bits_per_byte", (0,), (2.5,), {}, ({},), None, 0, 0, 9, 1.0)
    for one, labels in (
        (result, "none"),
        (replace(result, train=90), "all"),
        (replace(result, train=50, labels=5), "5"),
        (replace(result, train=9, labels=0.1), "0.1"),
    ):
        assert report.results_table([("pretrained", one)]).splitlines()[-1].split()[2] == labels
        assert f"<td>{labels}</td>" in Table((("pretrained", one),))._repr_html_()


def test_metrics_by_hand():
    predicted, y = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
    assert score("accuracy", predicted, y, 2) == pytest.approx(3 / 4)
    assert score("macro_f1", predicted, y, 2) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert score("matthews", predicted, y, 2) == pytest.approx(2 / (2 * 2 * 1 * 3) ** 0.5)


def test_pixels_floor_reads_pixels():
    rows = images(30, 0)
    pixels = floors.Pixels(rows, side=4)
    features = extract(pixels, rows)
    small = F.interpolate(rows.x.float() / 255, (4, 4), mode="bilinear", antialias=True)
    torch.testing.assert_close(features.pooled, small.flatten(1))
    assert pixels.dim == 48
    assert evaluate(pixels, images(90, 0), images(30, 1), images(60, 2), Linear(), device="cpu").mean > 0.9


def test_random_weights_differ_by_seed_and_repeat():
    rows = images(60, 0)
    runs = [
        floors.random_weights(MLP, rows, images(30, 1), images(60, 2), Linear(), labels=3, device="cpu")
        for _ in range(2)
    ]
    assert runs[0].values == runs[1].values
    assert len(runs[0].values) == 3
    assert not torch.equal(floors.fresh(MLP, 0).stem.weight, floors.fresh(MLP, 1).stem.weight)
    for seeds, says in (
        ((), "seeds is empty"),
        ((0, 0), "each another one"),
    ):  # a twin would narrow the interval
        with pytest.raises(ValueError, match=says):
            floors.random_weights(MLP, rows, rows, rows, Linear(), seeds=seeds, device="cpu")


def test_tfidf_of_texts_without_words_counts_symbols():
    """Sequences of bases whose classes differ in a motif: as single words they would all be alike."""
    rng = np.random.default_rng(0)

    def sequences(count, label):
        found = ["".join(rng.choice(list("acgt"), 40)) for _ in range(count)]
        return [one[:20] + "tataat" + one[20:] if label else one for one in found]

    def texts(count):
        return floors.Texts(sequences(count, 0) + sequences(count, 1), np.repeat([0, 1], count))

    found = floors.tfidf(texts(60), texts(30), texts(60))
    assert found.values[0] > 0.8
    assert found.chosen[0]["units"] == "symbols"
    assert not floors.has_words(["acgt", "two words here"] * 3 + ["a"] * 3)
    assert floors.has_words(["two words", "and three more"])


def test_tfidf_floor():
    y = np.arange(40) % 2
    texts = [f"{'good' if label else 'bad'} film number {i}" for i, label in enumerate(y)]
    data = floors.Texts(texts, y)
    result = floors.tfidf(data, data, floors.Texts(["a good one", "bad bad", "so bad"], np.array([1, 0, 1])))
    assert result.values == (pytest.approx(2 / 3),)
    for seeds, says in (((), "seeds is empty"), ((0, 0), "each another one")):
        with pytest.raises(ValueError, match=says):
            floors.tfidf(data, data, data, labels=4, seeds=seeds)
    few = floors.tfidf(data, data, data, labels=4)
    assert few.train == 8
    assert len(few.values) == 3


def test_missing_labels_are_named():
    rows, bare = images(9, 0), FakeRows(images(9, 1).x, None)
    for splits, name in [
        ((bare, rows, rows), "train"),
        ((rows, bare, rows), "valid"),
        ((rows, rows, bare), "test"),
    ]:
        with pytest.raises(DataError, match=name):
            evaluate(MLP(), *splits, Knn(), device="cpu")


@pytest.mark.parametrize("name", ["knn", "linear", "layers", "finetune"])
def test_yaml_builds_the_defaults(name):
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    path = Path(__file__).parents[2] / "configs" / "protocol" / f"{name}.yaml"
    built = instantiate(OmegaConf.load(path))
    default = type(built)()
    assert built.name == name
    for key, value in vars(default).items():
        given = getattr(built, key)
        if key == "augment":  # a module has no equality
            given, value = vars(given), vars(value)
        assert (tuple(given) if isinstance(given, list) else given) == value, key


# What cannot be measured is refused


def relabelled(rows: FakeRows, y) -> FakeRows:
    return FakeRows(rows.x, np.asarray(y), rows.segments)


@pytest.mark.parametrize("protocol", [Knn(), Linear(), Layers(), Finetune()], ids=lambda one: one.name)
def test_one_class_is_refused(protocol):
    rows, one = images(9, 0), relabelled(images(9, 0), [1] * 9)
    with pytest.raises(DataError, match=r"all 9 train rows .* class 1 \(c1\).*folder too high or too low"):
        evaluate(MLP(), one, one, one, protocol, device="cpu")
    evaluate(MLP(), rows, one, one, Knn(), device="cpu")  # a test set of one class can be right or wrong


@pytest.mark.parametrize(
    ("train", "test", "says"),
    [
        ([0, 0, 0, 1, 1, 1, 0, 1, 0], [0, 1, 2] * 3, "3 of 9 test rows .* 1 unknown ones, mostly 2"),
        ([0, 0, 0, 2, 2, 2, 0, 2, 0], [0, 1, 1] * 3, r"6 of 9 test rows .* mostly 1 \(c1\)"),
        ([0, 0, 0, 2, 2, 2, 0, 2, -1], [0] * 9, "train rows have a label of -1"),
        ([0, 1, 2] * 3, [0, 1, -100] * 3, "test rows have a label of -100"),
    ],
)
def test_labels_that_cannot_be_learnt_are_counted(train, test, says):
    rows = images(9, 0)
    splits = relabelled(rows, train), relabelled(rows, train), relabelled(rows, test)
    with pytest.raises(DataError, match=says):
        evaluate(MLP(), *splits, Linear(), seeds=(0,), device="cpu")


def test_budgets_say_how_many_classes_have_too_few():
    y = np.array([0] * 50 + [1] * 3 + [2] * 4)
    with pytest.raises(DataError, match=r"class 1 has 3 .* the 5 .* 2 of 3 .* take labels=3 or fewer"):
        budget(y, 5, seed=0)


def test_splits_without_rows_are_named():
    rows, none = images(9, 0), Subset(images(9, 0), np.zeros(0, dtype=int))
    for place, name in enumerate(("train", "validation", "test")):
        splits = [none if i == place else rows for i in range(3)]
        with pytest.raises(DataError, match=f"the {name} split has no rows"):
            evaluate(MLP(), *splits, Knn(), device="cpu")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seeds": ()}, "seeds is empty"),
        ({"seeds": (0, 1, 0)}, r"each another one, not \[0, 1, 0\]"),
        ({"seeds": (-1,)}, "whole numbers from 0"),
        ({"seeds": (0.5,)}, r"whole numbers from 0, .* not \[0\.5\]"),
        ({"validation_limit": 0}, "validation_limit must be at least 1"),
        ({"validation_limit": -1}, "validation_limit must be at least 1"),
        ({"device": "cuda:99"}, "device=cuda:99 cannot be used .* take auto or cpu"),
        ({"device": "gpu"}, "device=gpu cannot be used"),
    ],
)
def test_arguments_that_cannot_be_are_named(change, says):
    rows = images(9, 0)
    with pytest.raises(ValueError, match=says):
        evaluate(MLP(), rows, rows, rows, Knn(), **{"device": "cpu"} | change)


@pytest.mark.parametrize(
    ("protocol", "says"),
    [
        (Knn(ks=()), "k must be at least 1"),
        (Knn(ks=(0,)), "k must be at least 1"),
        (Knn(temperatures=()), "temperatures above 0"),
        (Knn(batch_size=0), "batch_size=0"),
        (Linear(weight_decays=()), "weight_decays must be one or more"),
        (Layers(weight_decays=(1.0, -1.0)), "none below 0"),
        (Finetune(lrs=()), r"lrs=\[\]"),
        (Finetune(head_start="prob"), "head_start=prob"),
    ],
)
def test_settings_that_cannot_be_are_named(protocol, says):
    rows = images(9, 0)
    with pytest.raises(ValueError, match=says):
        evaluate(MLP(), rows, rows, rows, protocol, device="cpu")


@pytest.mark.parametrize("protocol", [Knn(), Linear()], ids=lambda one: one.name)
def test_features_that_are_not_finite_are_refused(protocol):
    model, rows = MLP(), images(9, 0)
    with torch.no_grad():
        model.stem.weight[0, 0] = torch.nan
    with pytest.raises(DataError, match="9 of 9 feature rows are not finite: did pretraining diverge"):
        evaluate(model, rows, rows, rows, protocol, device="cpu")


def test_a_rate_that_diverges_is_not_chosen():
    rows, protocol = images(9, 0), Finetune(lrs=(1e30, 1e-3), steps=3, batch_size=8)
    with pytest.warns(UserWarning, match=r"diverged with lr=1e\+30"):
        assert evaluate(MLP(), rows, rows, rows, protocol, seeds=(0,), device="cpu").chosen[0]["lr"] == 1e-3
    with pytest.warns(UserWarning, match="diverged"), pytest.raises(DataError, match="diverged with all of"):
        evaluate(MLP(), rows, rows, rows, replace(protocol, lrs=(1e30,)), seeds=(0,), device="cpu")


def test_one_row_a_step_is_too_few_for_batch_norm():
    rows = images(9, 0)
    with pytest.raises(DataError, match=r"one row of a step \(batch_size=1, 9 labelled"):
        evaluate(MLP(), rows, rows, rows, Finetune(lrs=(1e-3,), steps=2, batch_size=1), device="cpu")
    with pytest.raises(ValueError, match="steps=0"):
        evaluate(MLP(), rows, rows, rows, Finetune(lrs=(1e-3,), steps=0), device="cpu")


@pytest.mark.parametrize("kind", [np.int32, np.uint8])
def test_labels_of_any_whole_type_are_the_same_labels(kind):
    rows = images(12, 0)
    other = FakeRows(rows.x, rows.y.astype(kind))
    torch.manual_seed(0)
    backbone = MLP()
    values = [evaluate(backbone, some, some, some, Linear(), seeds=(0,)).values for some in (rows, other)]
    assert values[0] == values[1]
    with pytest.raises(DataError, match=r"train rows have labels of type float64 .* whole numbers"):
        true_labels(FakeRows(rows.x, rows.y.astype(float)), "train")
