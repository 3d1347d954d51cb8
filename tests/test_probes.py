"""kNN and the linear probe against scikit-learn and hand-worked votes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional as F

from ssl_zoo.data.rows import DataError
from ssl_zoo.transfer import knn, linear
from ssl_zoo.transfer.features import FeatureSet


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
    assert ours == pytest.approx(theirs, rel=1e-4)
    guess = reference.predict(((queries.pooled - model.mean) / model.std).double().numpy())
    right = queries.y.numpy()
    accuracy = (model.logits(queries.pooled).argmax(1) == queries.y).double().mean().item()
    assert accuracy == pytest.approx((guess == right).mean(), abs=0.003)


def test_linear_for_two_classes_is_sklearn_at_half_the_decay():
    train = blobs(300, 0, classes=2)
    model = linear.fit_path(train.pooled, train.y, 2, (1e-2,))[1e-2]
    z = ((train.pooled - model.mean) / model.std).double().numpy()
    reference = LogisticRegression(C=1 / (300 * 0.5e-2), tol=1e-10, max_iter=10000).fit(z, train.y.numpy())
    ours = (model.weight[1] - model.weight[0]).numpy()
    np.testing.assert_allclose(ours, reference.coef_[0], atol=2e-3)


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
