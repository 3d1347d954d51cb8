"""Word vectors that no network learned, for a bag of tokens: what a text backbone must beat.

`ppmi_svd` counts which ids stand near each other and factors the table, `word2vec` hands the same ids to
gensim. Both give a vector for each id of a vocabulary, and `filled` puts them into a backbone that is nothing
but such vectors and their mean.

Documents are arrays of ids without prefix and suffix, as `encoded` gives them. Nothing is counted across
their borders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from ssl_zoo.backbones._base import Backbone, TokenBackbone, Vocabulary
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.transfer.late import randomized_svd

SMOOTHING = 0.75  # the power of the distribution of contexts
WEIGHTING = 0.5  # the power of the singular values
CHUNK = 1 << 20  # ids whose pairs are counted at a time
SENTENCE = 10_000  # ids of a sentence that gensim reads; it leaves out what follows in the same sentence


def encoded(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """The ids of each text, int32 (n,), without prefix and suffix.

    Raises:
        DataError: a text holds half a surrogate pair.
    """
    for text in texts:
        yield tokenizer.encode([text])[0].astype(np.int32)


def cooccurrences(documents: Iterable[np.ndarray], size: int, window: int) -> csr_array:
    """How often ids stand near each other: entry (i, j) of (size, size) int32 counts the places of id i and
    id j that are at most `window` apart and in one document.

    The table is symmetric: each two places count in both orders, and all distances count alike.

    Args:
        documents: ids (n,), integers from 0 to size - 1.
        size: how many ids there are.
        window: the largest distance, in tokens.

    Raises:
        DataError: there is no id in the documents.
        ValueError: an id outside of 0 to size - 1, or a window below 1.
    """
    if window < 1:
        raise ValueError(f"a window of {window} tokens holds no neighbour: give 1 or more")
    documents = list(documents)
    ids = np.concatenate(documents) if documents else np.zeros(0, np.int32)
    if not len(ids):
        raise DataError("there are no documents with ids to count: give texts that are not empty")
    if ids.min() < 0 or ids.max() >= size:
        raise ValueError(f"ids from {ids.min()} to {ids.max()} do not fit a vocabulary of {size} ids")
    document = np.repeat(np.arange(len(documents), dtype=np.int32), [len(one) for one in documents])
    found = csr_array((size, size), dtype=np.int32)
    for start in range(0, len(ids), CHUNK):
        # (first, second) of all pairs whose earlier place lies in this chunk
        pairs = [_apart(ids, document, start, distance) for distance in range(1, window + 1)]
        first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
        ones = np.ones(len(first), dtype=np.int32)
        found = found + coo_array((ones, (first, second)), shape=found.shape).tocsr()
    return csr_array(found + found.T)


def _apart(ids: np.ndarray, document: np.ndarray, start: int, distance: int) -> list[np.ndarray]:
    """The ids of places `distance` apart in one document, the earlier from `start` to start + CHUNK."""
    stop = max(start, min(start + CHUNK, len(ids) - distance))
    here, there = slice(start, stop), slice(start + distance, stop + distance)
    same = document[here] == document[there]
    return [ids[here][same], ids[there][same]]


def ppmi(counts: csr_array, smoothing: float = SMOOTHING) -> csr_array:
    """Positive pointwise mutual information of words (rows) and contexts (columns), (V, V) float32, >= 0.

        max(0, log P(w, c) / (P(w) P_s(c))),   P_s(c) = n_c^s / sum over contexts of n^s

    with P as the shares of `counts`, n_c the sum of column c, and s the smoothing, which keeps rare contexts
    from high values (context distribution smoothing: Levy, Goldberg & Dagan 2015, section 3).

    Args:
        counts: (V, V), of at least one pair.
    """
    words, contexts = (counts.sum(axis).astype(np.float64) for axis in (1, 0))
    smoothed = contexts**smoothing
    seen = counts.tocoo()
    row, column = seen.coords
    ratio = seen.data * (smoothed.sum() / (words[row] * smoothed[column]))
    kept = ratio > 1
    values = np.log(ratio[kept]).astype(np.float32)
    return coo_array((values, (row[kept], column[kept])), shape=counts.shape).tocsr()


def ppmi_svd(
    documents: Iterable[np.ndarray], vocabulary: Vocabulary, width: int, seed: int, *, window: int
) -> Tensor:
    """Vectors U_d S_d^0.5 of the truncated SVD of the PPMI of ids and their neighbours: (V, width) float32.

    Levy, Goldberg & Dagan 2015, "Improving distributional similarity with lessons learned from word
    embeddings", section 3: PMI without a shift, context distribution smoothing of 0.75 and singular values to
    the power of 0.5, as they recommend; a window of 2 is theirs for SVD, wider ones tell more of topics. What
    they also try, to leave out frequent words at random and to weight near neighbours more, is not done here.

    The decomposition is scikit-learn's `randomized_svd` with a sketch of twice the width: of enwiki_books
    (16,384 ids, width 256, window 8) the first singular values come out exact, the last 0.6 % low. The seed
    shows there alone.

    Args:
        documents: ids (n,) of each document.
        vocabulary: its special ids are no words, and get zeros, as do ids that never stand near another one.
        width: numbers of a vector.
        seed: of the SVD's random start.
        window: the largest distance of neighbours, in tokens.

    Raises:
        DataError: no two ids of the documents are near each other.
        ValueError: a window or a width below 1, a width above V, or an id outside of the vocabulary.
    """
    size = vocabulary.size
    if not 1 <= width <= size:
        raise ValueError(f"an SVD of {size} ids gives vectors of 1 to {size} numbers, not {width}")
    counts = cooccurrences(documents, size, window)
    words = np.ones(size, dtype=np.int32)
    words[list(vocabulary.special)] = 0
    counts = counts.multiply(words[:, None]).multiply(words[None]).tocsr()
    counts.eliminate_zeros()
    if not counts.nnz:
        raise DataError("no two words stand in one document: give longer texts")
    left, values, _ = randomized_svd(ppmi(counts), width, n_oversamples=width, random_state=seed)
    vectors = left * values**WEIGHTING  # (V, width)
    vectors[counts.sum(1) == 0] = 0  # exactly, also where the SVD left a trace
    return torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32))


def word2vec(
    documents: Iterable[np.ndarray],
    vocabulary: Vocabulary,
    width: int,
    seed: int,
    *,
    window: int,
    epochs: int,
) -> Tensor:
    """gensim's word2vec on ids in the place of words, by one worker: (V, width) float32.

    Skip-gram with negative sampling (Mikolov et al. 2013, arXiv:1310.4546, eq. 4) with gensim's defaults: 5
    negatives drawn by frequency to the power of 0.75, frequent words left out at random from a share of 0.001
    on, a learning rate from 0.025 down to 0.0001, and words that occur five times or more. The same seed
    gives the same vectors.

    Args:
        documents: ids (n,) of each document. One of more than 10,000 is read in parts of so many.
        vocabulary: its special ids are no words, and get zeros, as do ids that are rarer than five.
        width: numbers of a vector.
        seed: of the vectors' start and of what is drawn.
        window: the largest distance of neighbours, in tokens; each centre draws its own from 1 to that.
        epochs: how often the documents are read.

    Raises:
        ImportError: gensim is not installed.
        DataError: no id occurs five times.
        ValueError: a width, a window or a number of epochs below 1.
    """
    if min(width, window, epochs) < 1:
        raise ValueError(f"width={width}, window={window}, epochs={epochs}: each has to be 1 or more")
    try:
        from gensim.models import Word2Vec  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError("the floor word2vec needs gensim: pip install 'ssl-zoo[bench]'") from error
    sentences = _Sentences(documents, vocabulary.special)
    model = Word2Vec(vector_size=width, window=window, sg=1, workers=1, seed=seed, epochs=epochs)
    try:
        model.build_vocab(sentences)
        model.train(sentences, total_examples=model.corpus_count, epochs=epochs)
    except RuntimeError as error:  # that is how gensim calls a vocabulary of no words
        raise DataError(
            f"no id occurs {model.min_count} times, so gensim learns none: give more text"
        ) from error
    vectors = np.zeros((vocabulary.size, width), dtype=np.float32)
    vectors[model.wv.index_to_key] = model.wv.vectors
    return torch.from_numpy(vectors)


class _Sentences:
    """Documents as gensim reads them, again and again: lists of ids, without special ones."""

    def __init__(self, documents: Iterable[np.ndarray], special: Sequence[int]):
        whole = (ids[~np.isin(ids, special)] for ids in documents)
        self.parts = [part for ids in whole for part in np.split(ids, range(SENTENCE, len(ids), SENTENCE))]

    def __iter__(self) -> Iterator[list[int]]:
        return (part.tolist() for part in self.parts)


def filled(backbone: Backbone, vectors: Tensor) -> Backbone:
    """The backbone, a bag, with these vectors (V, width) in the place of its own.

    Raises:
        ValueError: a backbone that is no bag, or vectors of another shape.
    """
    if not isinstance(backbone, TokenBackbone) or backbone.kind != "bag":
        raise ValueError(f"word vectors make a bag and no {type(backbone).__name__}: say backbone=bag")
    table = backbone.word_embedding().weight
    if table.shape != vectors.shape:
        raise ValueError(f"vectors {tuple(vectors.shape)} do not fit a table {tuple(table.shape)}")
    with torch.no_grad():
        table.copy_(vectors)
    return backbone
