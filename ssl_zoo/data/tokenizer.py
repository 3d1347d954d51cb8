"""Tokenizers: text to ids and back, trained and run by the `tokenizers` library.

Three of our own: bytes, characters, and byte-level BPE (Sennrich et al. 2016, Radford et al. 2019). Their
special ids (0 <pad>, 1 <sep>, 2 <mask>) are kept outside of the library's tokenizer and put before its ids,
so that no text can spell one. Bytes and BPE give any text back exactly, unless told to lowercase.
tokenizer_pretrained.py has others.

Every factory takes the training texts first, so that `instantiate(cfg.tokenizer)(texts)` fits all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from ssl_zoo.backbones._base import Vocabulary
from ssl_zoo.data.rows import DataError
from ssl_zoo.untrusted import read_json, refuse_odd_values

# Without a value the library warns at each fork after a parallel encode. Loader workers say
# false (workers.py): the threads that it would wait for are not theirs.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

SPECIAL = ("<pad>", "<sep>", "<mask>")
PIECE = 1 << 16  # characters encoded as one string
BATCH = 1 << 21  # characters encoded in one call: bounds what the library holds at a time (~100 B a token)
LONGEST = 16  # pieces that a text without white space stays whole for
WORD = 1024  # characters of a word that BPE sees at once: its work grows with their square
_CUT = re.compile(r"\S(?=\s)")
_HALF = re.compile("[\ud800-\udfff]")


def version() -> str:
    """What a learned tokenizer depends on beside its texts and settings: this file, and the library."""
    return f"{tokenizers.__version__}-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]}"


class Tokenizer:
    """A vocabulary, and what turns text into its ids and ids into text.

    Args:
        inner: the library's tokenizer; its id i is our id i + offset.
        vocabulary: what the ids mean.
        prefix, suffix: ids put around each document: (separator,), () for our own; (CLS,), (SEP,) for BERT.
        offset: number of ids before the inner tokenizer's.
        divisible: whether a long text may be encoded in pieces cut before white space, with equal result.

    Attributes:
        fingerprint: changes when any text could be encoded otherwise.
    """

    def __init__(
        self,
        inner: tokenizers.Tokenizer,
        vocabulary: Vocabulary,
        prefix: tuple[int, ...],
        suffix: tuple[int, ...] = (),
        offset: int = 0,
        divisible: bool = True,
    ):
        self._inner, self.vocabulary = inner, vocabulary
        self.prefix, self.suffix, self._offset, self._divisible = prefix, suffix, offset, divisible
        text = inner.to_str() + json.dumps(self._settings())
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]

    def _settings(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocabulary._asdict(),
            "prefix": self.prefix,
            "suffix": self.suffix,
            "offset": self._offset,
            "divisible": self._divisible,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        plain(self._inner)  # which the library's pickle forgets

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Content ids of each text, int64 (n,), without prefix and suffix. All cores work on it.

        Raises:
            DataError: a text holds half a surrogate pair.
        """
        parts: list[list[np.ndarray]] = [[] for _ in texts]
        owners: list[int] = []
        batch: list[str] = []
        waiting = 0

        def flush() -> None:
            try:
                encodings = self._inner.encode_batch_fast(batch, add_special_tokens=False)
            except TypeError as error:  # that is how the library calls what is no UTF-8
                raise _no_text(batch) or error from error
            for owner, encoding in zip(owners, encodings, strict=True):
                parts[owner].append(np.asarray(encoding.ids, dtype=np.int64) + self._offset)
            owners.clear()
            batch.clear()

        for i, text in enumerate(texts):
            for piece in cut(text) if self._divisible else [text]:
                owners.append(i)
                batch.append(piece)
                waiting += len(piece)
                if waiting >= BATCH:
                    flush()
                    waiting = 0
        flush()
        return [np.concatenate(p) if p else np.zeros(0, dtype=np.int64) for p in parts]

    def parts(self, text: str) -> Iterator[str]:
        """Parts of a long text whose ids, one after the other, are those of the whole where it has words."""
        return cut(text, BATCH) if self._divisible else iter([text])

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; special ids leave no trace."""
        special = set(self.vocabulary.special)
        kept = [int(i) - self._offset for i in ids if int(i) not in special]
        return self._inner.decode(kept, skip_special_tokens=False)

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json (the library's format) and vocabulary.json into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._inner.save(str(folder / "tokenizer.json"))
        (folder / "vocabulary.json").write_text(json.dumps(self._settings()), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """What `save` wrote. Raises DataError if either file is missing or damaged."""
        folder = Path(folder)
        for name in ("tokenizer.json", "vocabulary.json"):
            if not (folder / name).is_file():
                raise DataError(f"{folder} holds no {name}: it is not a folder that Tokenizer.save wrote")
        inner = read(folder / "tokenizer.json")
        try:
            made = read_json(folder / "vocabulary.json")
            refuse_odd_values(made)
            named: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in made.pop("vocabulary").items()
            }
            prefix, suffix = tuple(made.pop("prefix")), tuple(made.pop("suffix"))
            return cls(inner, Vocabulary(**named), prefix, suffix, **made)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{folder / 'vocabulary.json'} is not what Tokenizer.save writes: {error}"
            ) from error


def _no_text(texts: Iterable[str]) -> DataError | None:
    """The error to raise for the first text that holds half a surrogate pair; None if none does."""
    for text in texts:
        if odd := _HALF.search(text):
            return DataError(
                f"the text {text[max(0, odd.start() - 20) : odd.start() + 20]!a} holds {odd[0]!a}, half a "
                "surrogate pair, which is no text: put U+FFFD in its place"
            )
    return None


def cut(text: str, size: int = PIECE) -> Iterator[str]:
    """Pieces of `text`, each ending at the first end of a word past `size` characters.

    A piece starts with all the white space before its first word. GPT-2's and BERT's pre-tokenizers always
    part a word from the white space after it, so their tokens are those of the undivided text. Where no word
    ends for LONGEST * size characters, the piece ends there, within a word.
    """
    start = 0
    while start < len(text):
        most = start + LONGEST * size
        found = _CUT.search(text, start + size, most)
        end = found.end() if found else most
        yield text[start:end]
        start = end


def opens_word(text: str) -> bool:
    """Whether a token with this text begins a word: all but letters, digits, _ and inner bytes do."""
    return not (text[:1].isalnum() or text[:1] in ("_", "\ufffd"))


def _own(inner: tokenizers.Tokenizer, special: tuple[int, ...] = (0, 1, 2)) -> Tokenizer:
    offset, decoder = len(SPECIAL), decoders.ByteLevel()
    byte_level = isinstance(inner.decoder, decoders.ByteLevel)
    texts = {i + offset: decoder.decode([t]) if byte_level else t for t, i in inner.get_vocab().items()}
    continues = tuple(sorted(i for i, t in texts.items() if i not in special and not opens_word(t)))
    size = inner.get_vocab_size() + offset
    return Tokenizer(inner, Vocabulary(size, special=special, continues=continues), (1,), offset=offset)


def _byte_level(model: models.Model) -> tokenizers.Tokenizer:
    # No space is put before the first word: a text with and one without would then decode alike.
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    inner.decoder = decoders.ByteLevel()  # pyright: ignore
    return inner


def bytes_tokenizer(texts: Iterable[str] = ()) -> Tokenizer:
    """The 256 byte values (in the order of GPT-2's alphabet) after the special ids: 259 ids."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return _own(_byte_level(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[])))


def characters(texts: Iterable[str]) -> Tokenizer:
    """The characters of `texts` in order, after the special ids and 3 = <unk> for those never seen."""
    alphabet = ["<unk>", *sorted({c for text in texts for c in set(text)})]
    if len(alphabet) == 1:
        raise DataError("there is no text to collect characters from")
    if error := _no_text(alphabet):
        raise error
    model = models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[], unk_token="<unk>")
    inner = tokenizers.Tokenizer(model)
    inner.decoder = decoders.Fuse()  # pyright: ignore[reportAttributeAccessIssue]
    return _own(inner, special=(0, 1, 2, 3))


def bpe(texts: Iterable[str], size: int = 8192, lowercase: bool = False) -> Tokenizer:
    """Byte-level BPE learned from `texts`, with GPT-2's word pattern (white space starts a word).

    A word at the very start of a document or a line has another id than after a space, as in GPT-2. A word
    of more than 1,024 characters is learned from and encoded in parts of so many.

    Args:
        texts: what to learn from; read once.
        size: number of ids in all; fewer when the text holds fewer pairs that occur twice.
        lowercase: lose the difference between capital and small letters ("uncased"), which leaves more ids
            for other words. Decoding then gives small letters, and bits per byte are those of the small ones.

    Raises:
        DataError: a size below 259 (special ids and bytes), no text, or half a surrogate pair in it.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    least = len(alphabet) + len(SPECIAL)
    if size < least:
        raise DataError(f"a byte-level BPE of {size} ids cannot be: the bytes and special ids need {least}")
    inner = _byte_level(models.BPE())
    # DNA, base64 and minified code are one word of any length: those of GPT-2's kinds are cut every WORD.
    kinds = (r"\p{L}", r"\p{N}", r"[^\s\p{L}\p{N}]", r"\s")
    long = pre_tokenizers.Split(Regex("|".join(f"{kind}{{{WORD}}}" for kind in kinds)), "isolated")
    inner.pre_tokenizer = pre_tokenizers.Sequence([long, inner.pre_tokenizer])  # pyright: ignore
    if lowercase:
        inner.normalizer = normalizers.Lowercase()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(SPECIAL),
        min_frequency=2,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    try:
        inner.train_from_iterator((piece for text in texts for piece in cut(text)), trainer)
    except UnicodeEncodeError as error:
        raise _no_text([error.object]) or error from error
    if inner.get_vocab_size() == len(alphabet):
        raise DataError("no pair of bytes occurs twice in the text: give BPE more of it, or use bytes")
    return _own(inner)


def plain(inner: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same tokenizer, which no longer cuts or pads texts, nor reads special tokens in them."""
    inner.no_truncation()
    inner.no_padding()
    inner.encode_special_tokens = True  # the letters [MASK] in a document are text
    return inner


def read(file: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a tokenizer.json, made `plain`.

    Raises:
        DataError: the file is missing or is not one of the `tokenizers` library.
    """
    try:
        return plain(tokenizers.Tokenizer.from_file(str(file)))
    except Exception as error:  # the library raises bare Exception
        raise DataError(f"{file} is not a tokenizer.json of the tokenizers library: {error}") from error
