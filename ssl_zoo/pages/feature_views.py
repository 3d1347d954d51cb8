"""What frozen features look like: maps to the plane, nearest neighbours, and a linear probe of each layer."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_zoo.pages.samples import Sample
from ssl_zoo.transfer.features import FeatureSet, labels_of
from ssl_zoo.transfer.linear import probe_layers
from ssl_zoo.transfer.report import wilson


class Neighbours(NamedTuple):
    """A sample and those nearest to it, by falling cosine similarity."""

    query: Sample
    nearest: list[tuple[Sample, float]]


class LayerScore(NamedTuple):
    """The accuracy of the probe of one layer, a fraction, with its 95 % Wilson interval.

    layer: 0 for the mean of the embeddings of a text, 1 for what comes after the first block.
    """

    layer: int
    accuracy: float
    low: float
    high: float


class Layers(NamedTuple):
    """The probes of all layers.

    Attributes:
        scores: one for each layer.
        commonest: the accuracy of always naming the commonest class, a fraction.
        train, choosing, scoring: how many rows each was done on.
    """

    scores: list[LayerScore]
    commonest: float
    train: int
    choosing: int
    scoring: int


class FeatureView(NamedTuple):
    """What the page of a run shows of its frozen features.

    Attributes:
        samples: the N samples of the maps.
        maps: name -> (N, 2) places in the plane.
        explained: the share of variance that the two axes of PCA keep.
        layers: the probes of the layers; None without labels.
        data, split: the names of the data set and of the split.
        classes: the names of the classes; () without labels.
    """

    samples: list[Sample]
    maps: dict[str, np.ndarray]
    explained: float
    neighbours: list[Neighbours]
    layers: Layers | None
    data: str
    split: str
    classes: tuple[str, ...]


def maps(features: Tensor) -> tuple[dict[str, np.ndarray], float]:
    """Maps of features (N, D), N >= 3, after they are scaled to unit length, and the share of variance that
    PCA explains.

    PCA is always among them. t-SNE (van der Maaten & Hinton 2008) takes ten rows, and so does UMAP (McInnes
    et al. 2018), which takes the package `umap` too.

    Returns:
        Name -> (N, 2) places in the plane, and the share.
    """
    unit = F.normalize(features, dim=1).numpy()
    from sklearn.decomposition import PCA  # seconds, which only who draws maps waits for
    from sklearn.manifold import TSNE

    pca = PCA(2, svd_solver="full").fit(unit)
    found = {"PCA": pca.transform(unit)}
    if len(unit) >= 10:
        perplexity = min(30, (len(unit) - 1) / 3)
        found["t-SNE"] = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(unit)
        if find_spec("umap"):
            umap = importlib.import_module("umap")
            found["UMAP"] = umap.UMAP(random_state=0, n_jobs=1).fit_transform(unit)
    return found, float(np.nan_to_num(pca.explained_variance_ratio_).sum())


def neighbours(features: Tensor, samples: list[Sample], queries: int = 12, k: int = 6) -> list[Neighbours]:
    """The k rows nearest to each of the first `queries`, by cosine, themselves left out.

    features: (N, D), the rows of `samples`.
    """
    unit = F.normalize(features, dim=1)
    similarity = unit[:queries] @ unit.T  # (Q, N)
    similarity.fill_diagonal_(-torch.inf)
    near = similarity.topk(min(k, len(unit) - 1))
    return [
        Neighbours(samples[i], [(samples[j], value) for j, value in zip(at, values, strict=True)])
        for i, (at, values) in enumerate(zip(near.indices.tolist(), near.values.tolist(), strict=True))
    ]


def layer_scores(train: FeatureSet, validation: FeatureSet, classes: int) -> Layers:
    """A linear probe of each layer: the even validation rows choose its weight decay, the odd ones score it.

    train, validation: features extracted with layers=True, in random order, with labels. There are two or
    more of validation.
    """
    index = np.arange(len(validation.pooled))
    choosing, scoring = validation.take(index[::2]), validation.take(index[1::2])
    truth = labels_of(scoring)
    scores = []
    probes = probe_layers(train, choosing, classes)
    for number, (probe, x) in enumerate(zip(probes, scoring.layers, strict=True), scoring.first):
        guess = probe.classifier.logits(x).argmax(1)
        right = int((guess == truth).sum())
        scores.append(LayerScore(number, right / len(truth), *wilson(right / len(truth), len(truth))))
    common = labels_of(train).bincount().argmax()
    commonest = float((truth == common).float().mean())
    return Layers(scores, commonest, len(train.pooled), len(choosing.pooled), len(truth))
