"""Do features that lie close mean the same? Semantic textual similarity (STS-B: Cer et al. 2017).

Spearman's correlation, over pairs of sentences, between the cosine of their features and the score that
people gave. Nothing is trained. Features of language models share one large direction, which hides the
others in the cosine (Ethayarajh 2019; Mu & Viswanath 2018, "All-but-the-Top"), so validation chooses whether
their mean over the train sentences is taken away, or mean and scale, or mean and covariance, which is
whitening (Su et al. 2021, arXiv:2103.15316):

    z = L^-1 (x - m),  L L^T = C + s (tr C / D) I,

whose cosines are those of (C + ...)^-1/2 (x - m). Without s, whitening makes directions that few sentences
have as long as all others; validation chooses how far the covariance C is shrunk to a multiple of the
identity (Ledoit & Wolf 2004). It also chooses the depth at which features are read, from the mean of the
embeddings to what a probe reads, as the `layers` protocol does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.data.text_rows import DocumentRows
from ssl_zoo.transfer.features import extract
from ssl_zoo.transfer.measures import Measured, Subject

Ready = Callable[[Tensor], Tensor]

SHRINKAGES = (0.01, 0.1, 1.0, 10.0)


def correlations(guess: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Spearman's and Pearson's correlation of (N,) and (N,); 0 where either is constant and tells nothing.

    Guesses are rounded to 6 digits: features are float32, and what differs beyond would rank pairs of equal
    sentences, whose cosine is 1, by rounding errors.
    """
    guess = guess.round(6)
    if np.ptp(guess) == 0 or np.ptp(truth) == 0:
        return {"spearman": 0.0, "pearson": 0.0}
    # statistic: scipy's result objects are typed as tuples.
    found = {"spearman": stats.spearmanr(guess, truth), "pearson": stats.pearsonr(guess, truth)}
    return {name: float(one.statistic) for name, one in found.items()}  # pyright: ignore


def train_sentences(data: TextPairs) -> list[str]:
    """The different sentences of the train pairs, sorted."""
    return sorted({sentence for pair in data.pairs("train") for sentence in pair})


def readiness(train: Tensor) -> Iterator[tuple[str, Ready]]:
    """Ways to make features (N, D) ready for a cosine, from those of the train sentences (M, D).

    One after the other, since whitening holds D x D numbers.
    """
    mean, std = train.mean(0), train.std(0).clamp_min(1e-6)
    yield "raw", lambda x: x
    yield "centred", lambda x: x - mean
    yield "standardised", lambda x: (x - mean) / std
    centred = train.double() - mean
    covariance = centred.T @ centred / len(train)
    for shrinkage in SHRINKAGES:
        yield f"whitened-{shrinkage:g}", whitening(mean, covariance, shrinkage)


def whitening(mean: Tensor, covariance: Tensor, shrinkage: float) -> Ready:
    """Whitening by a mean (D,) and a covariance (D, D) float64 that is shrunk first."""
    own = (shrinkage * covariance.diagonal().mean()).clamp_min(1e-12)
    root = torch.linalg.cholesky(covariance + own * torch.eye(len(mean), dtype=torch.float64))

    def whiten(x: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(root, (x - mean).double().T, upper=False).T

    return whiten


def cosines(first: Tensor, second: Tensor) -> np.ndarray:
    """The cosine of each pair of features: (N, D), (N, D) -> (N,) float64."""
    return F.cosine_similarity(first.double(), second.double()).numpy()


@dataclass(frozen=True)
class Similarity:
    """Spearman's correlation of the features' cosine with human scores of pairs."""

    name: ClassVar[str] = "similarity"
    stochastic: ClassVar[bool] = False
    batch_size: int = 256

    def begin(self, subject: Subject, data: Any, seed: int) -> Callable[[TextPairs], Measured]:
        """Raises DataError: data that is no scored pairs, or a backbone that does not read text."""
        if not isinstance(data, TextPairs):
            raise DataError(f"{data.name} holds no scored pairs of sentences: similarity needs some (stsb)")
        tokenizer = subject.words()

        def read(sentences: Sequence[str]) -> dict[str, Tensor]:
            rows = DocumentRows(sentences, tokenizer, subject.length)
            batch_size = self.batch_size
            one = extract(subject.backbone, rows, device=subject.device, batch_size=batch_size, layers=True)
            depths = {str(depth): layer for depth, layer in enumerate(one.layers, one.first)}
            return {"pooled": one.pooled, **depths}

        def sides(data: TextPairs, split: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
            first, second = zip(*data.pairs(split), strict=True)
            return read(first), read(second)

        train = train_sentences(data)
        first, second = sides(data, "validation")
        truth = data.scores("validation")
        tried: dict[str, float] = {}

        def attempts() -> Iterator[tuple[float, str, str, Ready]]:
            every = read(train)
            for depth, features in every.items():
                if depth != "pooled" and torch.equal(features, every["pooled"]):
                    continue  # a bag has one depth
                for way, ready in readiness(features):
                    cosine = cosines(ready(first[depth]), ready(second[depth]))
                    tried[f"{depth} {way}"] = found = correlations(cosine, truth)["spearman"]
                    yield found, depth, way, ready

        validation, depth, way, ready = max(attempts(), key=lambda attempt: attempt[0])

        def score(data: TextPairs) -> Measured:
            first, second = (ready(side[depth]) for side in sides(data, "test"))
            scores = correlations(cosines(first, second), data.scores("test"))
            return Measured(
                "spearman",
                scores.pop("spearman"),
                others=scores,
                chosen={"depth": depth, "features": way, "validation": validation},
                details={"validation": tried},
                train=len(train),
                validation=len(truth),
                test=len(data.scores("test")),
            )

        return score
