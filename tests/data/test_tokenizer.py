"""Tokenizers: exact round trips, special ids that no text can spell, whole words, saving."""

import itertools
import json
import random
import time

import numpy as np
import pytest
import tokenizers
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from ssl_zoo.data import tokenizer as module
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.tokenizer import Tokenizer, bpe, bytes_tokenizer, characters, cut
from ssl_zoo.data.tokenizer_pretrained import pretrained

TEXT = "The cat sat on the mat.\n\nThe cat's mat: it_was  flat!\n\tdef cat(self):\n" * 8
ODD = [
    "",
    " lead",
    "trail \n\n",
    "a\x00b\r\n",
    "naïve — 東京 🦊e\u0301",
    "<pad><sep><mask><unk>",
    "\n \n",
    "\ufeffx",
]


@pytest.fixture(scope="module")
def learned():
    return bpe([TEXT], size=300)


def test_bytes_are_bytes_after_three_special_ids():
    tokenizer = bytes_tokenizer()
    ids = tokenizer.encode(["AB", "é"])
    assert tokenizer.vocabulary.size == 259
    assert ids[0][1] - ids[0][0] == 1
    assert len(ids[1]) == 2
    everything = tokenizer.encode(["".join(map(chr, range(0x800)))])[0]
    assert set(everything.tolist()) <= set(range(3, 259))


@pytest.mark.parametrize("text", ODD)
def test_bytes_and_bpe_give_any_text_back(text, learned):
    for tokenizer in (bytes_tokenizer(), learned):
        ids = tokenizer.encode([text])[0]
        assert ids.dtype == np.int64
        assert tokenizer.decode(ids) == text
        assert not set(ids.tolist()) & set(tokenizer.vocabulary.special)


def test_bpe_learns_frequent_pairs_and_stays_in_size(learned):
    assert 259 < learned.vocabulary.size <= 300
    (ids,) = learned.encode([" cat"])
    assert len(ids) < 4
    assert (learned.prefix, learned.suffix) == ((1,), ())


def test_uncased_bpe_reads_capitals_as_small_letters(tmp_path):
    bpe([TEXT], size=300, lowercase=True).save(tmp_path)
    uncased = Tokenizer.load(tmp_path)
    small, large = uncased.encode(["the cat naïve É", "The CAT naïVE É"])
    assert small.tolist() == large.tolist()
    assert uncased.decode(large) == "the cat naïve é"


def test_bpe_refuses_what_it_cannot_learn():
    with pytest.raises(DataError, match="259"):
        bpe([TEXT], size=258)
    with pytest.raises(DataError, match="no pair"):
        bpe([""], size=300)


def test_characters_are_sorted_and_strangers_are_unknown():
    tokenizer = characters(["cab", "bad"])
    assert tokenizer.vocabulary.size == 4 + 4
    assert tokenizer.encode(["abcd", "a?é"])[0].tolist() == [4, 5, 6, 7]
    assert tokenizer.encode(["a?é"])[0].tolist() == [4, 3, 3]
    assert tokenizer.decode([1, 6, 4, 5]) == "cab"
    assert 3 in tokenizer.vocabulary.special
    with pytest.raises(DataError, match="no text"):
        characters([])


def test_continues_marks_the_inside_of_words(learned):
    for tokenizer in (bytes_tokenizer(), learned, characters([TEXT + "é"])):
        inner = set(tokenizer.vocabulary.continues)
        (ids,) = tokenizer.encode([" cat mat. The"])
        words: list[list[int]] = []
        for i in ids.tolist():
            if i in inner and words:
                words[-1].append(i)
            else:
                words.append([i])
        assert [tokenizer.decode(w) for w in words] == [" cat", " mat", ".", " The"]
        assert not inner & set(tokenizer.vocabulary.special)


def test_pieces_join_and_end_at_words():
    text = "ab cd\n\n  ef " + "g" * 30 + "\n"
    pieces = list(cut(text, 4))
    assert "".join(pieces) == text
    assert pieces == ["ab cd", "\n\n  ef", " " + "g" * 30, "\n"]


def test_pieces_do_not_change_the_ids(learned, monkeypatch):
    rng = random.Random(0)
    parts = ["cat", "The", "'s", " ", "\n", "\n\n", "\t", ".", "it_was", "é", "\u00a0", "12"]
    texts = ["".join(rng.choices(parts, k=400)) for _ in range(20)]
    whole = learned.encode(texts)
    monkeypatch.setattr(module.cut, "__defaults__", (16,))
    monkeypatch.setattr(module, "BATCH", 100)
    assert len(list(cut(texts[0]))) > 10
    for a, b in zip(whole, learned.encode(texts), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("use", [characters, bpe, bytes_tokenizer().encode])
def test_half_a_surrogate_pair_is_refused(use):
    with pytest.raises(DataError, match=r"^the text '.*ud800.*' holds '\\ud800', half a surrogate pair"):
        use(["good", "ab ab \ud800 c"])


@pytest.mark.parametrize("letters", ["ACGT", "A", " ", "東京都の人口は", "aB3+/=_"])
def test_text_without_white_space_takes_time_in_proportion(letters):
    rng = random.Random(0)
    texts = ["".join(rng.choices(letters, k=k)) for k in (20_000, 200_000)]
    took = []
    for text in texts:
        begun = time.process_time()
        tokenizer = bpe([text], 600)
        (ids,) = tokenizer.encode([text])
        took.append(time.process_time() - begun)
        assert tokenizer.decode(ids) == text
    assert took[1] < 20 * took[0] + 1  # it was 100 times where time grows with the square


def test_a_word_is_cut_only_past_its_limit():
    plain = tokenizers.Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    word, other = "ab" * (module.WORD // 2 - 1), "12" * (module.WORD // 2 - 1)
    text = f"{word} {other}{' ' * 900}x {word}東京{other}\n" * 3 + TEXT
    trainer = trainers.BpeTrainer(
        vocab_size=297,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    plain.train_from_iterator([text], trainer)
    learned = bpe([text], 300)
    assert (learned.encode([text])[0] - 3).tolist() == plain.encode(text).ids
    long = learned.encode(["ab" * module.WORD])[0]
    assert long.tolist() == 2 * learned.encode(["ab" * (module.WORD // 2)])[0].tolist()


def test_a_text_without_any_word_end_is_encoded_in_pieces():
    text = "x" * 100
    assert list(cut(text, 2)) == ["x" * 32, "x" * 32, "x" * 32, "x" * 4]


def test_saved_and_loaded_is_the_same(learned, tmp_path):
    for number, tokenizer in enumerate((bytes_tokenizer(), learned, characters([TEXT]))):
        tokenizer.save(tmp_path / str(number))
        for again in (Tokenizer.load(tmp_path / str(number)), pretrained(name=str(tmp_path / str(number)))):
            assert again.vocabulary == tokenizer.vocabulary
            assert again.fingerprint == tokenizer.fingerprint
            assert again.encode(["The cat"])[0].tolist() == tokenizer.encode(["The cat"])[0].tolist()
    with pytest.raises(DataError, match=r"no tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_fingerprints_are_stable_and_tell_tokenizers_apart(learned):
    assert bpe([TEXT], size=300).fingerprint == learned.fingerprint
    prints = [t.fingerprint for t in (learned, bytes_tokenizer(), characters("ab"), characters("ac"))]
    assert all(a != b for a, b in itertools.combinations(prints, 2))
    # GPT-2's alphabet starts with the 15 signs ! to /, then 0, 1, 2.
    assert bytes_tokenizer().vocabulary.continues[:3] == tuple(range(18, 21))


def word_piece(path):
    vocab = {
        t: i
        for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s", "[", "]", "mask"])
    }
    inner = Library(models.WordPiece(vocab, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    inner.decoder = decoders.WordPiece()
    inner.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    inner.enable_truncation(2)
    inner.enable_padding(length=2)
    inner.save(str(path))


def test_pretrained_bert(tmp_path):
    word_piece(tmp_path / "tokenizer.json")
    tokenizer = pretrained(name=str(tmp_path))
    vocabulary = tokenizer.vocabulary
    assert (vocabulary.size, vocabulary.pad, vocabulary.separator, vocabulary.mask) == (10, 0, 2, 4)
    assert (vocabulary.special, vocabulary.continues) == ((0, 1, 2, 3, 4), (6,))
    assert (tokenizer.prefix, tokenizer.suffix) == ((2,), (3,))
    assert [x.tolist() for x in tokenizer.encode(["Cats cats cat", "[MASK]"])] == [[5, 6, 5, 6, 5], [7, 9, 8]]
    tokenizer.save(tmp_path / "saved")
    assert Tokenizer.load(tmp_path / "saved").fingerprint == tokenizer.fingerprint


def test_pretrained_gpt_pads_with_its_end_and_has_no_mask(tmp_path):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Library(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<|endoftext|>"])
    inner.save(str(tmp_path / "gpt.json"))
    tokenizer = pretrained(name=str(tmp_path / "gpt.json"))
    vocabulary = tokenizer.vocabulary
    assert vocabulary[:5] == (257, 256, 256, None, (256,))
    assert (tokenizer.prefix, tokenizer.suffix) == ((256,), ())
    assert tokenizer.decode([256, *tokenizer.encode(["a <|endoftext|>"])[0]]) == "a <|endoftext|>"
    assert inner.token_to_id("a") in vocabulary.continues
    assert inner.token_to_id("Ġ") not in vocabulary.continues


def test_pretrained_says_what_is_wrong(tmp_path, monkeypatch):
    (tmp_path / "bad.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(DataError, match=r"bad\.json is not a tokenizer\.json"):
        pretrained(name=str(tmp_path / "bad.json"))
    Library(models.BPE(vocab={"a": 0}, merges=[])).save(str(tmp_path / "bare.json"))
    with pytest.raises(DataError, match="no special token"):
        pretrained(name=str(tmp_path / "bare.json"))

    def offline(name):
        raise Exception("no route to host")

    monkeypatch.setattr(
        "ssl_zoo.data.tokenizer_pretrained.tokenizers.Tokenizer", type("T", (), {"from_pretrained": offline})
    )
    with pytest.raises(DataError, match="neither a file here"):
        pretrained(name="nobody/nothing")
