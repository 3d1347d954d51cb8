"""Texts that stay where they are, in shards at any address: fetched and tokenized while a run reads them.

For sets whose tokens neither the disk nor the memory holds; what fits is read by `TextData`, which stores all
of it. Shards are files of text, or of tokens (see `token_shards`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from ssl_zoo.backbones._base import Modality
from ssl_zoo.data import addresses
from ssl_zoo.data.cache import store
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.schemes import is_address
from ssl_zoo.data.shelf import File, Shelf, shelf_key
from ssl_zoo.data.stream_counts import TOGETHER, Counts
from ssl_zoo.data.streams import Stream
from ssl_zoo.data.text import READING, TextData
from ssl_zoo.data.text_files import LIMITS, Errors, Limits
from ssl_zoo.data.text_folders import find
from ssl_zoo.data.text_formats import Format, Sample, Text
from ssl_zoo.data.text_tally import Tally
from ssl_zoo.data.token_rows import Counted, TokenRows
from ssl_zoo.data.token_shards import read_tokens, write_tokens
from ssl_zoo.data.tokenizer import Tokenizer, version
from ssl_zoo.messages import note

LEARNED_OF = 1 << 28  # characters that a tokenizer is learned from at most


class Reading(NamedTuple):
    """How files are read, as arguments of `TextStream` of these names say."""

    format: Format
    errors: Errors
    limits: Limits

    @property
    def facts(self) -> tuple[Any, ...]:
        """What decides which texts a file has; what passes limits is the same for all of them."""
        return READING, self.format, self.errors

    def samples(self, path: Path, name: str) -> Iterator[Sample]:
        """The samples of a file, which notes and errors call by a name."""
        tally = Tally()
        tally.called = str(path), name
        try:
            for sample in self.format.samples(path, self.errors, self.limits, tally):
                if sample.text.strip():
                    yield sample._replace(file=name, label=None)
        except DataError as error:
            raise DataError(f"{error}".replace(*tally.called)) from error
        for line in tally.lines():
            told(line)


@cache
def told(line: str) -> None:
    """Say something once: a file may be read again in each epoch."""
    note(line)


class Tokenize(NamedTuple):
    """Makes a shard of tokens of a file of text (see `Shelf`)."""

    reading: Reading
    tokenizer: Tokenizer

    def __call__(self, raw: Path, into: Path, address: str) -> None:
        texts = (sample.text for sample in self.reading.samples(raw, address))
        write_tokens(texts, self.tokenizer, into, address)

    @property
    def made(self) -> str:
        """Tells apart what is made of one file."""
        about = (*self.reading.facts, self.tokenizer.fingerprint)
        return hashlib.blake2b(repr(about).encode(), digest_size=6).hexdigest()


class TextStream(Stream):
    """Texts for pretraining in shards at addresses, or shards of their tokens.

    Args:
        name, validation, window, validation_fraction, split_seed, limit, cache: see `Stream`.
        train: the address of files of text, packed or not, with {000..127} or, where the protocol lists
            files, with *; or of shards of tokens (.bin), which the tokenizer of the run must have made.
            Paths, folders and patterns here are addresses too.
        format: how documents are written down in a file (see text_formats.py).
        errors, max_document_bytes, max_unpacking_ratio: see `TextData`.

    Raises:
        DataError: an argument is out of range. `rows` raises more, later.
    """

    modality: ClassVar[Modality] = "text"

    def __init__(
        self,
        name: str,
        train: str,
        validation: str | None = None,
        *,
        format: Format | None = None,
        window: int = 16384,
        validation_fraction: float = 0.01,
        split_seed: int = 0,
        limit: float = 64.0,
        errors: Errors = "strict",
        max_document_bytes: int = LIMITS.max_document_bytes,
        max_unpacking_ratio: int = LIMITS.max_unpacking_ratio,
        cache: str | None = None,
    ):
        super().__init__(name, train, validation, window, validation_fraction, split_seed, limit, cache)
        if errors not in ("strict", "replace"):
            raise DataError(f"{name}: errors is strict or replace, not {errors}")
        self.reading = Reading(format or Text(), errors, Limits(max_document_bytes, max_unpacking_ratio))

    def rows(
        self,
        split: str,
        tokenizer: Tokenizer,
        length: int,
        layout: Literal["document", "packed"] = "packed",
        lookahead: int = 0,
        even: bool = False,
    ) -> TokenRows:
        """The rows of a split, `length` ids each and `lookahead` more; `even` changes nothing.

        Shards of text are fetched and tokenized once, so that the number of their rows is known.

        Raises:
            DataError: no such split, or layout; shards that cannot be listed, fetched or read; or one window
                of them is more than the limit.
        """
        if layout != "packed":
            raise DataError(
                f"{self.name}: a stream of texts has packed rows, and this objective reads a document a row: "
                "take data=text_files, or an objective that reads packed rows"
            )
        files, shelf = self._files(split), self.shelf()
        if not _are_tokens(files):
            tokenize = Tokenize(self.reading, tokenizer)
            shelf = self.shelf(tokenize, tokenize.made)
        counted = self._counted(files, shelf)
        return TokenRows(files, counted, shelf, tokenizer, length, lookahead, self.window)

    def texts(self, split: str) -> Iterator[str]:
        """The texts of `samples`.

        Raises:
            DataError: the shards hold tokens, with what to do about it.
        """
        if self.holds_tokens:
            raise DataError(
                f"{self.name}: its shards hold tokens, and not the text that a tokenizer is learned from: "
                "name the tokenizer that made them, tokenizer=pretrained tokenizer.name=FOLDER_OR_NAME"
            )
        for sample in self.samples(split):
            yield sample.text

    def samples(self, split: str) -> Iterator[Sample]:
        """The texts of a split, without labels, one shard after the other, each of them fetched.

        Raises:
            DataError: no such split, or a fault in a file.
        """
        if self.holds_tokens:
            raise DataError(f"{self.name}: its shards hold tokens, and only pretraining reads these")
        files, shelf = self._files(split), self.shelf()
        for file in files:
            with shelf.pinned(file) as path:
                yield from self.reading.samples(path, file.address)

    def name_of(self, label: str | None) -> None:
        """No sample has a label."""

    def tokenizer(self, learn: Callable[[Iterable[str]], Tokenizer], settings: str) -> Tokenizer:
        """What is learned of the first texts: once, then it is read from the cache (see `TextData`)."""
        files = self._files("train")
        known = (version(), *map(shelf_key, files), *self.reading.facts, LEARNED_OF, settings)
        key = hashlib.sha256(repr(known).encode()).hexdigest()[:24]
        folder = self.cache / "tokenizers" / key
        store(folder, f"a tokenizer of {self.name}", lambda draft: learn(self._first()).save(draft))
        return Tokenizer.load(folder)

    def _first(self) -> Iterator[str]:
        total = 0
        for text in self.texts("train"):
            yield text
            total += len(text)
            if total >= LEARNED_OF:
                note(f"{self.name}: the tokenizer is learned from the first {LEARNED_OF:,} characters")
                return

    @property
    def holds_tokens(self) -> bool:
        """Whether the shards hold tokens, and not text."""
        return _are_tokens(self._shards)

    def _files(self, split: str) -> list[File]:
        if split not in self.splits():
            raise DataError(f"{self.name} has no split {split}: it has {', '.join(self.splits())}")
        if split == "validation" and self.validation:
            return _found(self.validation)
        return [self._shards[i] for i in self._parted[split].tolist()]

    @cached_property
    def _shards(self) -> list[File]:
        return _found(self.train)

    @cached_property
    def _parted(self) -> dict[str, np.ndarray]:
        return self.parted(len(self._shards))

    def _counted(self, files: list[File], shelf: Shelf) -> list[Counted]:
        """What is known of each of the shards; those of which nothing is are had here for that."""
        counts = Counts(shelf.folder, f"tokens {shelf.made}")

        def known(file: File) -> Counted | None:
            found = counts.of(file)
            return Counted(*found) if found is not None and found[0] == file.size else None

        def count(file: File) -> Counted:
            with shelf.pinned(file) as path:
                made = read_tokens(path, file.address)
            ids, text = made.ids, (made.bytes, made.content, made.digest)
            found = Counted(file.size, made.first, ids.itemsize, len(ids), *text)
            counts.keep(file, found)
            return found

        settled = {file: found for file in files if (found := known(file))}
        if _are_tokens(files):  # their sizes tell how many there are
            like = settled.get(files[0]) or count(files[0])
            for file in files:
                if file.size >= 0:
                    tokens = (file.size - like.first) // like.each
                    settled[file] = Counted(file.size, like.first, like.each, tokens)
        unknown = [file for file in files if file not in settled]
        if unknown:
            several = "s are" if len(unknown) > 1 else " is"
            note(
                f"{self.name}: {len(unknown)} shard{several} fetched and read once before training, since "
                f"the number of rows has to be known (the first is {unknown[0].address})"
            )
        with ThreadPoolExecutor(TOGETHER) as threads:
            settled |= zip(unknown, threads.map(count, unknown), strict=True)
        return [settled[file] for file in files]


def _found(spec: str) -> list[File]:
    """The shards at an address, at a path, or in a folder here.

    Raises:
        DataError: there are none.
    """
    if is_address(spec):
        found = addresses.expanded(spec)
    elif not (folder := Path(spec).expanduser().absolute()).is_dir():
        found = addresses.expanded(str(folder))
    elif found := [str(path) for path in sorted(folder.glob("*.bin"))]:
        held_out = [path for path in found if "val" in Path(path).stem.lower()]
        if 0 < len(held_out) < len(found):
            raise DataError(
                f"{held_out[0]} is for validation by its name, and others of {folder} are not: name both, "
                f"data.train='{folder}/*train*.bin' data.validation='{folder}/*val*.bin'"
            )
        note(f"{folder}: {len(found)} shards of tokens (.bin) are read; other files are not")
    else:
        found = [str(one) for one in find(folder)]
    with ThreadPoolExecutor(TOGETHER) as threads:
        return [
            File(one, size) for one, size in zip(found, threads.map(addresses.size_of, found), strict=True)
        ]


def _are_tokens(files: list[File]) -> bool:
    """Whether these are shards of tokens. Raises DataError if only some are."""
    tokens = [file.address for file in files if file.address.endswith(".bin")]
    if 0 < len(tokens) < len(files):
        raise DataError(f"{tokens[0]} holds tokens by its name, and other shards hold text: take one of them")
    return bool(tokens)


Texts = TextData | TextStream
