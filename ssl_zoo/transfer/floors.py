"""What a pretrained backbone must beat: raw pixels, TF-IDF, random weights, training from scratch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from ssl_zoo.backbones._base import Backbone, Features, ImageBackbone, Layers
from ssl_zoo.data.rows import Rows
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.transfer.evaluate import evaluate
from ssl_zoo.transfer.labels import budget, drawable
from ssl_zoo.transfer.late import LogisticRegression, TfidfVectorizer
from ssl_zoo.transfer.metrics import METRICS, Metric, score
from ssl_zoo.transfer.protocols import Finetune, Protocol
from ssl_zoo.transfer.report import Result, merge
from ssl_zoo.transfer.similarity import correlations, train_sentences


class Pixels(ImageBackbone):
    """The pixels themselves as features, at `side` x `side` or smaller: a floor for any image backbone.

    Evaluate it like any other: `evaluate(Pixels(rows), train, validation, test, Linear())`.

    Args:
        rows: images (C, H, W), of which the first tells the size.
        side: larger images are resized to this height and width, in pixels.
    """

    kind = "cnn"

    def __init__(self, rows: Rows, side: int = 32):
        super().__init__({"side": side})
        channels, height, width = rows.read(np.zeros(1, dtype=np.int64)).x.shape[1:]
        self.image_size = (min(height, side), min(width, side))
        self.dim = channels * self.image_size[0] * self.image_size[1]

    def forward(self, x: Tensor, segments: Tensor | None = None, *, layers: Layers | None = None) -> Features:
        tokens = x.flatten(1)[:, None]  # (B, 1, C * H * W)
        pooled = tokens[:, 0]
        after = {None: (), "pooled": (pooled,), "tokens": (tokens,)}[layers]
        return Features(tokens, pooled, after)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return 1, 1  # the whole image is one token

    def blocks(self) -> Sequence[nn.Module]:
        return ()


def fresh(build: Callable[[], Backbone], seed: int) -> Backbone:
    """A backbone with random weights; the default generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def random_weights(
    build: Callable[[], Backbone],
    train: Rows,
    validation: Rows,
    test: Rows,
    protocol: Protocol,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    **options: Any,
) -> Result:
    """A protocol on fresh weights, other ones for each seed. Options are those of `evaluate`.

    With `Finetune` it is training from scratch: use `from_scratch(protocol)`. The learning rate is
    chosen with the first seed, as in `evaluate`.

    Raises:
        DataError, ValueError: as `evaluate`.
    """
    results: list[Result] = []
    for seed in drawable(seeds):
        result = evaluate(fresh(build, seed), train, validation, test, protocol, seeds=(seed,), **options)
        results.append(result)
        if isinstance(protocol, Finetune):
            protocol = replace(protocol, lrs=(result.chosen[0]["lr"],))
    return merge(results)


def from_scratch(protocol: Finetune) -> Finetune:
    """The same training for random weights: all learning rates equal, the head from zero."""
    return replace(protocol, layer_decay=1.0, head_start="zero")


class Texts(NamedTuple):
    """Documents and their labels (N,) int64."""

    texts: Sequence[str]
    y: np.ndarray


def tfidf(
    train: Texts,
    validation: Texts,
    test: Texts,
    *,
    labels: int | float | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    metric: Metric = "accuracy",
    cs: Sequence[float] = (0.1, 1.0, 10.0, 100.0),
) -> Result:
    """Logistic regression on TF-IDF of words and word pairs: the floor for texts.

    Texts of fewer than two words on average, such as sequences of bases, are taken apart into runs of 2 to 5
    symbols instead, which `chosen` then says.

    Args:
        labels, seeds, metric: as in `evaluate`. Only drawn train texts are seen, by TF-IDF too.
        cs: inverse penalties of scikit-learn's LogisticRegression, chosen on validation.

    Raises:
        DataError: a label budget that cannot be met.
        ValueError: seeds that cannot be, or train texts of one class alone.
    """
    began = time.perf_counter()
    seeds = drawable(seeds)
    classes = int(max(train.y.max(), validation.y.max())) + 1
    seeds = seeds[:1] if labels is None else seeds
    fitted, chosen, count, spaced = [], [], 0, has_words(train.texts)
    for seed in seeds:
        index = budget(train.y, labels, seed)
        count = len(index)
        words = TfidfVectorizer(
            analyzer="word" if spaced else "char", ngram_range=(1, 2) if spaced else (2, 5), sublinear_tf=True
        )
        x, x_validation = (
            words.fit_transform([train.texts[i] for i in index]),
            words.transform(validation.texts),
        )
        scored = []
        for c in cs:
            model = LogisticRegression(C=c, max_iter=1000).fit(x, train.y[index])
            scored.append((_score(metric, model.predict(x_validation), validation.y, classes), c, model))
        value, c, model = max(scored, key=lambda one: one[0])
        fitted.append((words, model))
        chosen.append({"C": c, "validation": value} | ({} if spaced else {"units": "symbols"}))
    guesses = [model.predict(words.transform(test.texts)) for words, model in fitted]
    scores = {m: tuple(_score(m, guess, test.y, classes) for guess in guesses) for m in METRICS}
    return Result(
        protocol="tfidf",
        metric=metric,
        seeds=seeds,
        values=scores.pop(metric),
        others=scores,
        chosen=tuple(chosen),
        labels=labels,
        train=count,
        validation=len(validation.y),
        test=len(test.y),
        seconds=time.perf_counter() - began,
    )


def has_words(texts: Sequence[str]) -> bool:
    """Whether the first 1,000 texts hold two words or more on average."""
    some = [text for text, _ in zip(texts, range(1000), strict=False)]
    return sum(len(text.split()) for text in some) >= 2 * len(some)


def tfidf_similarity(data: TextPairs) -> Result:
    """The cosine of TF-IDF vectors against the human scores: the floor for `Similarity`.

    Frequencies are those of the train sentences. Validation chooses between words and letters (runs of 2 to
    5 within a word). It is run once: nothing is drawn.
    """
    began = time.perf_counter()
    train = train_sentences(data)
    units = {"words": ("word", (1, 1)), "letters": ("char_wb", (2, 5))}
    fitted = {
        name: TfidfVectorizer(analyzer=analyzer, ngram_range=ngrams, sublinear_tf=True).fit(train)
        for name, (analyzer, ngrams) in units.items()
    }

    def scored(name: str, split: str) -> dict[str, float]:
        sides = zip(*data.pairs(split), strict=True)
        first, second = (csr_array(fitted[name].transform(side)) for side in sides)
        cosine = first.multiply(second).sum(1)  # rows have length 1
        return correlations(cosine, data.scores(split))

    validation = {name: scored(name, "validation")["spearman"] for name in units}
    best = max(validation, key=lambda name: validation[name])
    found = scored(best, "test")
    return Result(
        protocol="tfidf_similarity",
        metric="spearman",
        seeds=(0,),
        values=(found["spearman"],),
        others={"pearson": (found["pearson"],)},
        chosen=({"units": best, "validation": validation[best]},),
        labels=None,
        train=len(train),
        validation=len(data.pairs("validation")),
        test=len(data.pairs("test")),
        seconds=time.perf_counter() - began,
    )


def _score(metric: Metric, predicted: np.ndarray, y: np.ndarray, classes: int) -> float:
    return score(metric, torch.from_numpy(predicted), torch.from_numpy(y), classes)
