"""kNN and the linear probe against scikit-learn and hand-worked votes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_zoo.data.rows import DataError
from ssl_zoo.transfer import knn, linear, logistic
from ssl_zoo.transfer.features import FeatureSet
from ssl_zoo.transfer.retrieval import recall


def blobs(count: int, seed: int, classes: int = 4, dim: int = 12) -> FeatureSet:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((classes, dim))
    y = rng.integers(0, classes, count)
    x = centres[y] + 1.3 * rng.standard_normal((count, dim))
    return FeatureSet(torch.from_numpy(x * np.linspace(0.1, 20, dim) + 5).float(), torch.from_numpy(y))


def test_knn_agrees_with_sklearn():
    train, queries = blobs(300, 0), blobs(100, 1)
    guesses = knn.predict(queries.pooled, train.pooled, train.y, 4, (1, 7, 30), (0.07, 0.5), batch_size=33)
    assert len(guesses) == 6
    for (k, temperature), guess in guesses.items():
        reference = KNeighborsClassifier(
            k, metric="cosine", algorithm="brute", weights=lambda d, t=temperature: np.exp((1 - d) / t)
        ).fit(train.pooled.double().numpy(), train.y.numpy())
        assert (guess.numpy() == reference.predict(queries.pooled.double().numpy())).all()


def test_a_large_bank_is_searched_a_few_queries_at_a_time(monkeypatch):
    """Half of the bank is there twice under other labels: of equals, the same ones vote as in one search."""
    bank, queries = blobs(300, 0), blobs(100, 1)
    bank = FeatureSet(bank.pooled.repeat(2, 1), torch.cat([bank.y, (bank.y + 1) % 4]))
    whole = knn.predict(queries.pooled, bank.pooled, bank.y, 4, (1, 7, 30), (0.07,))
    recalled = recall(bank.pooled, bank.y, (1, 5))
    monkeypatch.setattr(knn, "SIMILARITIES", 600 * 7 + 3)
    widest = []

    def topk(x, *args, **kwargs):
        widest.append(x.numel())
        return torch.topk(x, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "topk", topk)
    parts = knn.predict(queries.pooled, bank.pooled, bank.y, 4, (1, 7, 30), (0.07,))
    assert all(torch.equal(parts[setting], guess) for setting, guess in whole.items())
    assert recall(bank.pooled, bank.y, (1, 5)) == recalled
    assert max(widest) == 600 * 7
    monkeypatch.undo()
    assert knn.at_once(1_281_167, 1024) * 1_281_167 * 4 <= 2**28
    assert (knn.at_once(50_000, 1024), knn.at_once(2**27, 1024)) == (1024, 1)


def test_a_larger_bank_is_searched_in_blocks(monkeypatch):
    bank, queries = blobs(300, 0), blobs(100, 1)
    whole = knn.predict(queries.pooled, bank.pooled, bank.y, 4, (1, 7, 300, 999), (0.07, 1.0))
    for block in (1, 5, 128, 299):
        monkeypatch.setattr(knn, "BLOCK", block)
        parts = knn.predict(queries.pooled, bank.pooled, bank.y, 4, (1, 7, 300, 999), (0.07, 1.0))
        assert all(torch.equal(parts[setting], guess) for setting, guess in whole.items())
        similar, at = knn.nearest(F.normalize(queries.pooled, dim=1), bank.pooled, 7)
        cosines = F.cosine_similarity(queries.pooled[:, None], bank.pooled[None], dim=2)
        torch.testing.assert_close(similar, cosines.sort(descending=True).values[:, :7])
        torch.testing.assert_close(cosines.gather(1, at), similar)


def test_knn_votes_by_hand():
    # Cosines with the query: 1 for class 0, 0.8 twice for class 1.
    bank, y = torch.tensor([[2.0, 0.0], [0.8, 0.6], [4.0, -3.0]]), torch.tensor([0, 1, 1])
    query = torch.tensor([[5.0, 0.0]])
    # exp(1/t) against 2 exp(0.8/t): class 0 wins when exp(0.2/t) > 2, that is t < 0.2885.
    guesses = knn.predict(query, bank, y, 2, (1, 50), (0.005, 0.28, 0.30))
    assert {key: int(guess) for key, guess in guesses.items()} == {
        (1, 0.005): 0,
        (1, 0.28): 0,
        (1, 0.30): 0,
        (50, 0.005): 0,
        (50, 0.28): 0,
        (50, 0.30): 1,
    }


def test_knn_takes_any_float_type_and_refuses_what_has_no_neighbours():
    bank, query = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    y, asked = torch.tensor([0, 1]), (2, (1, 9), (0.07,))
    for other in (torch.float16, torch.float64):
        guesses = knn.predict(query.to(other), bank, y, *asked)
        assert all(guess.tolist() == [0, 1] for guess in guesses.values())
    with pytest.raises(DataError, match="1 of 2 feature rows are not finite"):
        knn.predict(query / torch.tensor([[1.0], [0.0]]), bank, y, *asked)
    for wrong in ((query, bank[:0], y[:0]), (query, bank, y[:1]), (query[:, :1], bank, y)):
        with pytest.raises(ValueError, match=r"cannot be compared with a bank"):
            knn.predict(*wrong, *asked)
    with pytest.raises(ValueError, match="labels 1 to 2, and 2 classes"):
        knn.predict(query, bank, y + 1, *asked)


def test_knn_chooses_the_best_on_validation():
    train, validation = blobs(200, 0), blobs(100, 1)
    best = knn.choose(train, validation, 4, (1, 20), (0.07, 0.5))
    guesses = knn.predict(validation.pooled, train.pooled, train.y, 4, (1, 20), (0.07, 0.5))
    scores = {pair: (guess == validation.y).float().mean().item() for pair, guess in guesses.items()}
    assert best.validation == pytest.approx(max(scores.values()))
    assert scores[best.k, best.temperature] == pytest.approx(max(scores.values()))
    assert max(scores.values()) > min(scores.values())


def objective(x: torch.Tensor, y: torch.Tensor, weight, bias, decay: float) -> float:
    return float(F.cross_entropy(x @ weight.T + bias, y) + decay / 2 * weight.square().sum())


@pytest.mark.parametrize("decay", [1e-1, 1e-3, 1e-5])
def test_linear_agrees_with_sklearn(decay):
    train, queries = blobs(400, 0), blobs(1000, 1)
    model = linear.fit_path(train.pooled, train.y, 4, linear.WEIGHT_DECAYS)[decay]
    z = ((train.pooled - model.mean) / model.std).double()
    reference = LogisticRegression(C=1 / (len(z) * decay), tol=1e-10, max_iter=10000).fit(
        z.numpy(), train.y.numpy()
    )
    theirs = objective(
        z, train.y, torch.from_numpy(reference.coef_), torch.from_numpy(reference.intercept_), decay
    )
    ours = objective(z, train.y, model.weight.double(), model.bias.double(), decay)
    assert theirs - 1e-9 <= ours <= theirs + 1e-4
    guess = reference.predict(((queries.pooled - model.mean) / model.std).double().numpy())
    right = queries.y.numpy()
    accuracy = (model.logits(queries.pooled).argmax(1) == queries.y).double().mean().item()
    assert accuracy == pytest.approx((guess == right).mean(), abs=0.003)


def standard(features: FeatureSet) -> torch.Tensor:
    mean, std = linear.statistics(features.pooled.double())
    return (features.pooled.double() - mean) / std


def to_the_end(z: torch.Tensor, y: torch.Tensor, classes: int, decays: tuple[float, ...]):
    return logistic.solve(z, y, classes, decays, tolerance=1e-13, max_iter=1000)


@pytest.mark.parametrize(
    ("count", "dim", "classes"), [(400, 12, 4), (30, 50, 3), (90, 90, 20), (500, 30, 2), (7, 3, 5)]
)
def test_logistic_solves_the_whole_path(count, dim, classes):
    """The gradient, by autograd in float64, is 0 at the solution (wide, tall, square; a constant feature)."""
    train = blobs(count, 0, classes, dim)
    train.pooled[:, 1] = 3
    z, decays = standard(train), (1e-6, 1e1, 1e-2, 1e-4)
    path = to_the_end(z, train.y, classes, decays)
    assert list(path) == sorted(decays, reverse=True)
    for decay, solution in path.items():
        weight, bias = (part.requires_grad_() for part in solution)
        loss = F.cross_entropy(z @ weight.T + bias, train.y) + decay / 2 * weight.square().sum()
        loss.backward()
        assert max(weight.grad.abs().max(), bias.grad.abs().max()) < 1e-6
        alone = to_the_end(z, train.y, classes, (decay,))[decay]
        reached = objective(z, train.y, *(part.detach() for part in solution), decay)
        assert reached == pytest.approx(objective(z, train.y, *alone, decay), abs=1e-7)


@pytest.mark.parametrize("classes", [2, 5])
def test_logistic_has_the_weights_of_sklearn(classes):
    """For two classes scikit-learn keeps one weight vector, and its penalty is that of half the decay."""
    train = blobs(300, 0, classes=classes)
    z = standard(train)
    weight, bias = to_the_end(z, train.y, classes, (1e-2,))[1e-2]
    decay = 0.5e-2 if classes == 2 else 1e-2
    reference = LogisticRegression(C=1 / (300 * decay), solver="newton-cholesky", tol=1e-12, max_iter=1000)
    reference.fit(z.numpy(), train.y.numpy())
    if classes == 2:
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    np.testing.assert_allclose(weight.numpy(), reference.coef_, atol=1e-5)
    theirs = reference.intercept_ - reference.intercept_.mean() * (classes > 2)
    np.testing.assert_allclose((bias - bias.mean() * (classes > 2)).numpy(), theirs, atol=1e-5)


def test_linear_leaves_out_a_class_that_no_train_row_has():
    train, queries = blobs(400, 0), blobs(200, 1)
    for decay, model in linear.fit_path(train.pooled, train.y + 1, 6, linear.WEIGHT_DECAYS).items():
        guess = model.logits(queries.pooled).argmax(1)
        assert guess.min() >= 1
        assert guess.max() <= 4
        without = linear.fit_path(train.pooled, train.y, 4, (decay,))[decay]
        same = guess == without.logits(queries.pooled).argmax(1) + 1
        assert same.double().mean() > 0.98


def test_linear_separates_what_can_be_separated():
    train = blobs(40, 0, dim=60)
    hardest = linear.fit_path(train.pooled, train.y, 4, linear.WEIGHT_DECAYS)[1e-6]
    assert hardest.weight.isfinite().all()
    logits = hardest.logits(train.pooled)
    assert (logits.argmax(1) == train.y).all()
    assert F.cross_entropy(logits, train.y) < 1e-3


def test_linear_does_not_depend_on_the_chunks(monkeypatch):
    train = blobs(100, 0)
    whole = linear.fit_path(train.pooled, train.y, 4, (1e-1,))[1e-1]
    monkeypatch.setattr(logistic, "CHUNK", 4 * 33)
    parts = linear.fit_path(train.pooled, train.y, 4, (1e-1,))[1e-1]
    torch.testing.assert_close(parts.weight, whole.weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(parts.bias, whole.bias, rtol=1e-4, atol=1e-5)


class Products(TorchDispatchMode):
    """Counts the multiplications of all matrix products."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_):
            left, right = args[-2:]
            self.count += left.numel() * right.shape[1]
        return func(*args, **(kwargs or {}))


def test_linear_needs_few_passes_over_the_features():
    """The whole grid, counted in passes of two products each, for logits and gradient; the products for the
    covariance, the rotation and the curvature pairs are in it. Plain L-BFGS (torch's, strong Wolfe), each
    decay from the solution of the one before and given up after 100 steps, takes 494 here."""
    rng, rows, dim, classes = torch.Generator().manual_seed(0), 4000, 64, 10
    y = torch.arange(rows) % classes
    latent = torch.randn(classes, dim, generator=rng)[y] / 2 + torch.randn(rows, dim, generator=rng)
    mix = torch.randn(dim, dim, generator=rng) * torch.logspace(1, -2, dim)[:, None]
    with Products() as products:
        linear.fit_path(latent @ mix + 3, y, classes, linear.WEIGHT_DECAYS)
    assert 20 < products.count / (2 * rows * dim * classes) < 100


def test_linear_chooses_on_validation_and_folds():
    train, validation = blobs(40, 0, dim=30), blobs(200, 1, dim=30)
    probe = linear.choose(train, validation, 4)
    scores = {
        decay: (model.logits(validation.pooled).argmax(1) == validation.y).float().mean().item()
        for decay, model in linear.fit_path(train.pooled, train.y, 4, linear.WEIGHT_DECAYS).items()
    }
    assert probe.validation == pytest.approx(max(scores.values()))
    assert probe.validation > min(scores.values())
    weight, bias = probe.classifier.folded()
    raw = F.linear(validation.pooled, weight, bias)
    torch.testing.assert_close(raw, probe.classifier.logits(validation.pooled), rtol=1e-3, atol=1e-3)


def test_linear_with_dead_and_broken_features():
    train = blobs(60, 0)
    dead = train.pooled.clone()
    dead[:, 3] = 7.0
    model = linear.fit_path(dead, train.y, 4, (1e-3,))[1e-3]
    assert model.std[3] == 1
    assert model.logits(dead).isfinite().all()
    dead[5, 0] = float("nan")
    with pytest.raises(DataError, match="1 of 60"):
        linear.fit_path(dead, train.y, 4, (1e-3,))


def test_probe_layers_finds_the_informative_layer():
    def layered(count: int, seed: int) -> FeatureSet:
        good = blobs(count, seed)
        noise = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
        return FeatureSet(noise, good.y, (noise, good.pooled))

    probes = linear.probe_layers(layered(200, 0), layered(100, 1), 4, (1e-1, 1e-3))
    assert probes[1].validation > probes[0].validation + 0.2
    with pytest.raises(DataError, match="layers=True"):
        linear.probe_layers(blobs(20, 0), blobs(20, 1), 4)
