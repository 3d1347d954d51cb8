"""Features, budgets, sealed tests, reports, and `evaluate` as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from torch.nn import functional as F
from transfer_fakes import MLP, Bag, FakeRows, documents, images

from ssl_zoo.data.rows import DataError
from ssl_zoo.objectives._base import Batch
from ssl_zoo.transfer import floors, report
from ssl_zoo.transfer.evaluate import evaluate
from ssl_zoo.transfer.features import extract, forward, prepare
from ssl_zoo.transfer.labels import budget
from ssl_zoo.transfer.metrics import score
from ssl_zoo.transfer.protocols import Finetune, Fitted, Knn, Layers, Linear
from ssl_zoo.transfer.sealed import Sealed


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
        direct = backbone(rows.x.float() / 255, layers=True)
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
    for wrong in (1.0, 0.0, 0, -2):
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


def test_tfidf_floor():
    y = np.arange(40) % 2
    texts = [f"{'good' if label else 'bad'} film number {i}" for i, label in enumerate(y)]
    data = floors.Texts(texts, y)
    result = floors.tfidf(data, data, floors.Texts(["a good one", "bad bad", "so bad"], np.array([1, 0, 1])))
    assert result.values == (pytest.approx(2 / 3),)
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

    path = Path(__file__).parents[1] / "configs" / "protocol" / f"{name}.yaml"
    built = instantiate(OmegaConf.load(path))
    default = type(built)()
    assert built.name == name
    for key, value in vars(default).items():
        given = getattr(built, key)
        if key == "augment":  # a module has no equality
            given, value = vars(given), vars(value)
        assert (tuple(given) if isinstance(given, list) else given) == value, key
