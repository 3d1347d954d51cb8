"""Measures: two acts over a sealed test split, retrieval, diagnostics, and what reading features costs."""

import inspect
import math
from collections import Counter
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from torch import nn
from transfer_fakes import MLP, Bag, FakeRows, documents, images
from zoo_backbones import backbone, batch, build, pairs

import ssl_zoo
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.rows import DataError, Subset
from ssl_zoo.objectives._base import Batch
from ssl_zoo.pretrain.watch import Monitor
from ssl_zoo.transfer import diagnostics, knn, linear, protocols
from ssl_zoo.transfer.diagnostics import Diagnostics, Halves, alignment, half, spread, uniformity
from ssl_zoo.transfer.evaluate import evaluate
from ssl_zoo.transfer.features import extract, remembering
from ssl_zoo.transfer.measures import READERS, Data, Measured, Subject, examine
from ssl_zoo.transfer.protocols import Finetune, Knn, Layers, Linear
from ssl_zoo.transfer.retrieval import Retrieval, recall


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    cache = str(tmp_path_factory.mktemp("cache"))
    return ImageData("digits", train="digits", image_size=8, test_fraction=0.2, cache=cache)


# Two acts


class Peek:
    """A measure that reads the test split in its first act."""

    name, stochastic = "peek", False

    def __init__(self, look):
        self.look = look

    def begin(self, subject, data, seed):
        self.look(subject, data)
        return lambda opened: Measured("accuracy", 1.0)


@pytest.mark.parametrize(
    "look",
    [
        lambda subject, data: data.rows("test"),
        lambda subject, data: data.labelled("test"),
        lambda subject, data: subject.rows(data, "test"),
        lambda subject, data: data.rows(split="test"),
    ],
)
def test_a_measure_that_peeks_at_the_test_split_fails(digits, look):
    with pytest.raises(DataError, match="the test split of digits is sealed"):
        examine(Subject(MLP()), digits, Peek(look))


def test_every_method_that_reads_a_split_is_sealed():
    for kind in get_args(Data):
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_") and "split" in inspect.signature(method).parameters:
                assert name in READERS, f"{kind.__name__}.{name}"


def test_act_one_may_read_all_else_and_act_two_the_test_split(digits):
    seen = []

    class Proper:
        name, stochastic = "proper", True

        def begin(self, subject, data, seed):
            assert isinstance(data, ImageData)
            seen.append((seed, len(data.rows("train")), len(data.rows("validation")), data.splits()))
            return lambda opened: Measured("accuracy", seed / 10, test=len(opened.rows("test")))

    found = examine(Subject(MLP()), digits, Proper(), seeds=(3, 5))
    assert found.values == (0.3, 0.5)
    assert found.test == 359
    assert seen == [(seed, 1259, 179, ("train", "validation", "test")) for seed in (3, 5)]


def test_a_subject_refuses_the_other_modality(digits):
    with pytest.raises(DataError, match="Bag reads texts, and digits holds images"):
        Subject(Bag()).rows(digits, "train")


# Retrieval and diagnostics


def test_recall_agrees_with_sklearn():
    torch.manual_seed(0)
    features, y = torch.randn(300, 8), torch.randint(0, 4, (300,))
    unit = torch.nn.functional.normalize(features, dim=1).numpy()
    at = NearestNeighbors(n_neighbors=11).fit(unit).kneighbors(unit, return_distance=False)[:, 1:]
    right = y.numpy()[at] == y.numpy()[:, None]
    found = recall(features, y, (1, 5, 10), batch_size=64)
    assert found == pytest.approx({k: right[:, :k].any(1).mean() for k in (1, 5, 10)})
    with pytest.raises(ValueError, match="k must lie from 1 to 299"):
        recall(features, y, (0,))


def test_retrieval_reads_the_test_split(digits):
    found = examine(Subject(MLP()), digits, Retrieval())
    features = extract(MLP(), digits.rows("test"))
    assert (found.metric, found.test, found.seeds) == ("recall@1", 359, (0,))
    assert set(found.others) == {"recall@5", "recall@10"}
    assert 0.1 < found.mean <= found.others["recall@5"][0] <= found.others["recall@10"][0] <= 1
    assert features.y is not None


def test_retrieval_of_one_class_is_refused():
    one = FakeRows(images(9, 0).x, np.zeros(9, dtype=np.int64))
    subject = SimpleNamespace(rows=lambda data, split: one)
    with pytest.raises(DataError, match="all 9 test rows are of class 0"):
        Retrieval().begin(subject, None, 0)(None)


def test_a_measure_that_is_not_finite_is_refused(digits):
    class Wild:
        name, stochastic = "wild", False

        def begin(self, subject, data, seed):
            return lambda opened: Measured("accuracy", math.nan)

    with pytest.raises(DataError, match="wild gives no finite accuracy"):
        examine(Subject(MLP()), digits, Wild())


def test_alignment_and_uniformity_by_hand():
    # On the circle: pairs at 90 degrees are sqrt(2) apart, so at squared distance 2.
    first, second = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[0.0, 1.0], [0.0, 5.0]])
    assert alignment(first, second) == pytest.approx((2 + 0) / 2)
    # Three points at 0, 90, 180 degrees: squared distances 2, 4, 2.
    points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert uniformity(points) == pytest.approx(math.log((2 * math.exp(-4) + math.exp(-8)) / 3), rel=1e-5)


def test_spread_by_hand():
    # Two opposite directions used equally: one singular value, so rank 1; along one of two axes.
    line = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).repeat(50, 1)
    assert spread(line)["effective_rank"] == pytest.approx(1, rel=1e-4)
    axes = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).repeat(50, 1)
    assert spread(axes)["effective_rank"] == pytest.approx(2, rel=1e-4)
    assert spread(axes)["feature_std"] == pytest.approx(1, rel=1e-2)
    assert spread(torch.ones(9, 4))["feature_std"] == pytest.approx(0, abs=1e-6)


def test_halves_of_padded_texts():
    x = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0], [9, 0, 0, 0, 0]])
    segments = torch.tensor([[0] * 5, [0] * 3 + [-1] * 2, [0] + [-1] * 4])

    def rows(part: Batch) -> list[list[int]]:
        assert part.segments is not None
        return [ids[inside >= 0].tolist() for ids, inside in zip(part.x, part.segments, strict=True)]

    assert rows(half(Batch(x, segments), 0)) == [[1, 2], [6], [9]]
    assert rows(half(Batch(x, segments), 1)) == [[3, 4, 5], [7, 8], [9]]


def test_diagnostics_of_images(digits):
    found = examine(Subject(MLP()), digits, Diagnostics(limit=50))
    assert found.validation == 50
    assert found.metric == "effective_rank"
    layers = len(found.details["alignment"][0])
    assert layers == len(extract(MLP(), digits.rows("validation"), layers=True).layers) + 1
    rows = Subset(digits.rows("validation"), np.arange(50))
    one, two = (Halves(rows, MLP(), which, 0).read(np.arange(50)).x for which in (0, 1))
    assert not torch.equal(one, two)
    assert torch.equal(one, Halves(rows, MLP(), 0, 0).read(np.arange(50)).x)


# Cost


def test_diagnostics_of_one_row_are_refused(digits):
    with pytest.raises(DataError, match="two validation rows or more"):
        examine(Subject(MLP()), digits, Diagnostics(limit=1))


def test_flops_of_frozen_and_fine_tuned():
    class Products(MLP):
        """Only the products of its two layers, known by hand."""

    model, rows = Products(), images(40, 0)
    weights = sum(part.weight.numel() for part in model.modules() if isinstance(part, nn.Linear))
    frozen = evaluate(model, rows, rows, rows, Linear(), seeds=(0,), device="cpu")
    assert frozen.details["flops"] == [2 * weights * 40]
    tuned = evaluate(
        model, rows, rows, rows, Finetune(lrs=(1e-3,), steps=5, batch_size=8, augment=None), seeds=(0,)
    )
    head = 3 * model.dim
    first = next(part for part in model.modules() if isinstance(part, nn.Linear)).weight.numel()
    # Forward, and backward to weights and inputs; the images themselves want no gradient.
    assert tuned.details["flops"] == [5 * 8 * (6 * (weights + head) - 2 * first)]
    assert tuned.details["training_seconds"][0] > 0


def test_remembered_features_are_read_once(monkeypatch):
    model, train, test = MLP(), images(60, 0), images(30, 1)
    calls = []
    forward = MLP.forward
    monkeypatch.setattr(
        MLP, "forward", lambda self, x, *a, **k: calls.append(len(x)) or forward(self, x, *a, **k)
    )

    def all_three():
        three = (Layers(), Knn(), Linear())
        return [evaluate(model, train, test, test, one, seeds=(0,), device="cpu").values for one in three]

    plain = all_three()
    before = sum(calls)
    calls.clear()
    with remembering():
        kept = all_three()
        subset = extract(model, Subset(train, np.array([5, 3])))
        counting = 3 * 60  # each protocol reads one batch to count its cost
        assert sum(calls) == 60 + 30 + counting
        assert before == 3 * (60 + 30 + 30) + counting
        assert torch.equal(subset.pooled, extract(model, train).pooled[[5, 3]])
        with torch.no_grad():
            next(model.parameters()).add_(1.0)  # other weights, other features
        assert not torch.equal(extract(model, train).pooled, subset.pooled[:1])
        assert sum(calls) == 60 + 30 + counting + 60
    assert kept == plain


# One way to read features, whoever asks


def read():
    """Every objective with every kind of backbone; of each kind the first few, and `make slow` the others."""
    count: Counter[str] = Counter()
    for cls, kind in pairs():
        count[str(kind)] += 1
        marks = [pytest.mark.slow] if count[str(kind)] > 4 else []
        yield pytest.param(cls, kind, id=f"{cls.__name__}-{kind}", marks=marks)


@pytest.mark.parametrize(("cls", "kind"), list(read()))
def test_every_reader_sees_the_same_features(cls, kind, tmp_path, monkeypatch):
    """The online monitor, kNN, linear probe, fine-tuning and the export: bit for bit, after a step."""
    objective = build(cls, backbone(kind))
    one = batch(objective, rows=12)
    objective(one).value.backward()
    torch.optim.SGD(objective.parameters(), 0.01).step()
    trunk = objective.export()["backbone"]  # a teacher's, where that is what is measured
    x = one.x if one.x.dim() == 4 else one.x[:, :16]
    segments = None if one.segments is None else torch.zeros_like(x)
    y = np.arange(12) % 3

    class Rows:
        unit, units_per_row, classes, fingerprint = "samples", 1, (), "twelve"

        def __init__(self):
            self.y = y

        def __len__(self):
            return 12

        def read(self, index, epoch=0):
            at = torch.from_numpy(np.asarray(index))
            return Batch(x[at], None if segments is None else segments[at], torch.from_numpy(self.y[index]))

    rows, seen = Rows(), {}

    def spy(name):
        def read(model, some, **options):
            found = extract(model, some, **options)
            seen.setdefault(name, []).append(
                (np.asarray(getattr(some, "index", np.arange(12))), found.pooled)
            )
            return found

        return read

    from ssl_zoo.pretrain import watch
    from ssl_zoo.transfer import finetune

    monkeypatch.setattr(watch, "extract", spy("monitor"))
    monkeypatch.setattr(watch, "log", lambda *_: None)

    class Module:
        device = torch.device("cpu")

        def reading(self, do):
            return do()

    Module.objective = objective

    class Trainer:
        global_step = 1

    Monitor(rows, rows, 1).look(Trainer(), Module())
    for name, protocol in {"knn": Knn(), "linear": Linear(), "layers": Layers()}.items():
        monkeypatch.setattr(protocols, "extract", spy(name))
        evaluate(trunk, rows, rows, rows, protocol, seeds=(0,), device="cpu")
    monkeypatch.setattr(finetune, "extract", spy("fine-tuned"))
    tuned = finetune.Tuned(trunk, nn.Linear(trunk.dim, 3), 0.0, 0.0)
    finetune.classify(tuned, rows, device="cpu")
    ssl_zoo.save(trunk, tmp_path / "backbone")
    reference = extract(ssl_zoo.load(tmp_path / "backbone"), rows).pooled  # the export
    assert set(seen) == {"monitor", "knn", "linear", "layers", "fine-tuned"}
    for name, reads in seen.items():
        for index, pooled in reads:
            assert torch.equal(pooled, reference[index]), name


# Against scikit-learn, on real features


@pytest.fixture(scope="module")
def features(digits):
    torch.manual_seed(0)
    model = MLP(dim=32)
    return [extract(model, digits.rows(split)) for split in ("train", "test")]


def test_linear_probe_agrees_with_sklearn_on_digits(features):
    train, test = features
    decay = 1e-3
    ours = linear.fit_path(train.pooled, train.y, 10, (decay,))[decay]
    z, z_test = (ours.standardised(part.pooled).double().numpy() for part in (train, test))
    theirs = LogisticRegression(C=1 / (len(z) * decay), max_iter=2000, tol=1e-6).fit(z, train.y.numpy())
    accuracy = (ours.logits(test.pooled).argmax(1) == test.y).double().mean().item()
    assert accuracy > 0.5
    assert abs(accuracy - theirs.score(z_test, test.y.numpy())) <= 0.003


@pytest.mark.parametrize("k", [1, 20, 100])
def test_knn_agrees_with_sklearn_on_digits(features, k):
    train, test = features
    ours = knn.predict(test.pooled, train.pooled, train.y, 10, (k,), (0.07,))[k, 0.07]
    unit, unit_test = (torch.nn.functional.normalize(p.pooled, dim=1).double().numpy() for p in (train, test))
    # On the unit sphere cosine = 1 - distance^2 / 2.
    theirs = KNeighborsClassifier(k, weights=lambda d: np.exp((1 - d**2 / 2) / 0.07), algorithm="brute")
    theirs.fit(unit, train.y.numpy())
    accuracy = (ours == test.y).double().mean().item()
    assert accuracy > 0.5
    assert abs(accuracy - theirs.score(unit_test, test.y.numpy())) <= 0.003


def test_documents_have_diagnostics_too():
    rows = documents(40, 0)
    found = Halves(rows, Bag(), 1, 0).read(np.arange(8))
    assert found.x.shape[0] == 8
    assert diagnostics.METRICS[0] == "effective_rank"
    assert extract(Bag(), Halves(rows, Bag(), 0, 0)).pooled.shape == (40, Bag().dim)
