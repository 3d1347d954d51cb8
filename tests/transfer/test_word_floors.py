"""Word vectors that are counted or made by gensim, against plain loops, dense algebra and toy topics."""

import importlib.util
import math
import sys

import numpy as np
import pytest
import torch

from ssl_zoo.backbones._base import Vocabulary
from ssl_zoo.backbones.bag import TokenBag
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.tokenizer import bytes_tokenizer
from ssl_zoo.transfer import word_floors
from ssl_zoo.transfer.word_floors import cooccurrences, encoded, filled, ppmi, ppmi_svd, word2vec

WORDS = Vocabulary(size=24)
GENSIM = {"window": 5, "epochs": 5}
needs_gensim = pytest.mark.skipif(
    importlib.util.find_spec("gensim") is None, reason="gensim is not installed: pip install 'ssl-zoo[bench]'"
)


def documents(seed=0, count=30, size=WORDS.size):
    """Documents of 1 to 40 random ids, frequent ones first; special ids are among them."""
    random = np.random.default_rng(seed)
    share = 1 / np.arange(1, size + 1)
    return [
        random.choice(size, random.integers(1, 41), p=share / share.sum()).astype(np.int32)
        for _ in range(count)
    ]


def counted(texts, size, window):
    """`cooccurrences` by loops over documents, places and distances."""
    found = np.zeros((size, size), dtype=int)
    for ids in texts:
        for i in range(len(ids)):
            for j in range(len(ids)):
                if i != j and abs(i - j) <= window:
                    found[ids[i], ids[j]] += 1
    return found


def dense(texts, vocabulary, width, window):
    """U S U', the products of `ppmi_svd`'s vectors, by loops and a whole SVD."""
    counts = counted(texts, vocabulary.size, window).astype(float)
    counts[list(vocabulary.special)] = 0
    counts[:, list(vocabulary.special)] = 0
    smoothed = counts.sum(0) ** 0.75
    table = np.zeros_like(counts)
    for w, c in zip(*counts.nonzero(), strict=True):
        joint, word, context = (
            counts[w, c] / counts.sum(),
            counts[w].sum() / counts.sum(),
            smoothed[c] / smoothed.sum(),
        )
        table[w, c] = max(0, math.log(joint / (word * context)))
    u, s, _ = np.linalg.svd(table)
    return u[:, :width] * s[:width] @ u[:, :width].T


@pytest.mark.parametrize("window", [1, 2, 5, 100])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_pairs_are_those_of_plain_loops(monkeypatch, window, chunk):
    monkeypatch.setattr(word_floors, "CHUNK", chunk)
    texts = documents()
    found = cooccurrences(texts, WORDS.size, window)
    assert found.dtype == np.int32
    assert (found.toarray() == counted(texts, WORDS.size, window)).all()


def test_documents_never_meet_across_their_border():
    texts = [np.array([3, 4]), np.zeros(0, np.int32), np.array([5, 6]), np.array([7])]
    found = cooccurrences(texts, 8, 100).toarray()
    assert set(zip(*(side.tolist() for side in found.nonzero()), strict=True)) == {
        (3, 4),
        (4, 3),
        (5, 6),
        (6, 5),
    }


def test_ppmi_of_two_words_by_hand():
    """Sums of rows 4 and 4, contexts 4^0.75 each: log(n / (4 * 1 / 2)), and less than 0 becomes nothing."""
    table = ppmi(word_floors.csr_array(np.array([[1, 3], [3, 1]])))
    assert table.toarray() == pytest.approx(np.array([[0, math.log(1.5)], [math.log(1.5), 0]]))
    assert table.nnz == 2
    uneven = ppmi(word_floors.csr_array(np.array([[0, 1], [1, 14]]))).toarray()
    assert uneven[0, 1] == pytest.approx(math.log((1 + 15**0.75) / 15**0.75))
    assert uneven[1, 0] == 0, "contexts alone are smoothed: log((1 + 15^0.75) / 15) is below 0"


@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize("width", [12, 24])
def test_vectors_are_those_of_dense_algebra(window, width):
    texts = documents(seed=window)
    vectors = ppmi_svd(texts, WORDS, width, seed=3, window=window)
    assert vectors.shape == (24, width)
    assert vectors.dtype == torch.float32
    gram = (vectors @ vectors.T).numpy()
    assert gram == pytest.approx(dense(texts, WORDS, width, window), abs=2e-5)


def test_ids_that_are_no_words_or_never_seen_get_zeros():
    texts = [ids for ids in documents() if not (ids == 23).any()]
    vectors = ppmi_svd(texts, WORDS, 8, seed=0, window=2)
    assert not vectors[[0, 1, 2, 23]].any()
    assert (vectors[3:20].norm(dim=1) > 0.1).all()


def test_the_same_seed_gives_the_same_vectors():
    size, texts = 200, documents(count=200, size=200)
    one, again, other = (ppmi_svd(iter(texts), Vocabulary(size), 20, seed, window=2) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert one.norm().item() == pytest.approx(other.norm().item(), rel=0.01)


@pytest.mark.parametrize(
    ("given", "options", "error", "said"),
    [
        ([], {}, DataError, "no documents with ids"),
        ([np.array([5]), np.array([6])], {}, DataError, "no two words stand in one document"),
        ([np.array([1, 2, 5, 0])], {"window": 1}, DataError, "no two words"),
        ([np.array([5, 24])], {}, ValueError, "ids from 5 to 24 do not fit a vocabulary of 24"),
        ([np.array([5, 6])], {"window": 0}, ValueError, "a window of 0 tokens holds no neighbour"),
        ([np.array([5, 6])], {"width": 25}, ValueError, "vectors of 1 to 24 numbers, not 25"),
    ],
)
def test_texts_and_sizes_that_cannot_be_are_named(given, options, error, said):
    options = {"width": 4, "window": 2, **options}
    with pytest.raises(error, match=said):
        ppmi_svd(given, WORDS, options.pop("width"), 0, **options)


def test_texts_are_encoded_without_prefix():
    tokenizer = bytes_tokenizer()
    one, two = encoded(["ab", ""], tokenizer)
    assert one.dtype == np.int32
    assert tokenizer.decode(one) == "ab"
    assert len(two) == 0


def test_a_bag_is_filled_and_nothing_else():
    vectors = torch.randn(24, 8, generator=torch.Generator().manual_seed(0))
    bag = filled(TokenBag(WORDS, 8), vectors)
    pooled = bag(torch.tensor([[3, 4, 0]]), torch.tensor([[0, 0, -1]])).pooled
    torch.testing.assert_close(pooled, vectors[3:5].mean(0, keepdim=True))
    assert bag.word_embedding().weight.requires_grad, "it can be fine-tuned"
    with pytest.raises(ValueError, match="a bag and no TextTransformer: say backbone=bag"):
        filled(TextTransformer(WORDS, width=8, depth=1, heads=2), vectors)
    with pytest.raises(ValueError, match=r"vectors \(24, 8\) do not fit a table \(24, 9\)"):
        filled(TokenBag(WORDS, 9), vectors)


# word2vec


def topics(count=300):
    """Documents of ids 3 to 12 or 13 to 22."""
    random = np.random.default_rng(0)
    return [random.integers(3, 13, 30) + 10 * (i % 2) for i in range(count)]


def apart(vectors):
    """Mean cosine within topics, less that between them."""
    unit = torch.nn.functional.normalize(vectors[3:23], dim=1)
    cosine, same = unit @ unit.T, torch.arange(20)[:, None] // 10 == torch.arange(20) // 10
    return (cosine[same].mean() - cosine[~same].mean()).item()


def test_counted_words_of_a_topic_are_nearer():
    assert apart(ppmi_svd(topics(), WORDS, 8, 0, window=2)) > 0.5


@needs_gensim
def test_gensims_words_of_a_topic_are_nearer():
    vectors = word2vec(topics(), WORDS, 8, seed=0, **GENSIM)
    assert vectors.shape == (24, 8)
    assert vectors.dtype == torch.float32
    assert apart(vectors) > 0.5
    assert not vectors[[0, 1, 2, 23]].any()
    assert torch.equal(vectors, word2vec(iter(topics()), WORDS, 8, seed=0, **GENSIM))
    assert not torch.equal(vectors, word2vec(topics(), WORDS, 8, seed=1, **GENSIM))


@needs_gensim
def test_gensim_reads_the_whole_of_a_long_document_and_no_special_ids():
    """It leaves out what follows 10,000 words of one sentence."""
    ids = np.repeat(np.arange(3, 13), 2500)
    parts = list(word_floors._Sentences([np.insert(ids, 5, 1), ids[:0]], WORDS.special))
    assert [len(part) for part in parts if part] == [10_000, 10_000, 5_000]
    assert [one for part in parts for one in part] == ids.tolist()
    assert word2vec([ids], WORDS, 4, 0, window=5, epochs=1)[12].any()


@needs_gensim
def test_gensim_needs_words_that_occur_five_times():
    rare = [np.array([3, 4] * 5 + [5] * 4)]
    assert word2vec(rare, WORDS, 4, 0, **GENSIM)[3:6].any(1).tolist() == [True, True, False]
    with pytest.raises(DataError, match="no id occurs 5 times"):
        word2vec([np.array([3, 4])], WORDS, 4, 0, **GENSIM)


def test_without_gensim_it_says_what_to_install(monkeypatch):
    for name in ("gensim", "gensim.models"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"needs gensim: pip install 'ssl-zoo\[bench\]'"):
        word2vec(topics(), WORDS, 8, 0, **GENSIM)
    with pytest.raises(ValueError, match="epochs=0: each has to be 1 or more"):
        word2vec(topics(), WORDS, 8, 0, window=5, epochs=0)
