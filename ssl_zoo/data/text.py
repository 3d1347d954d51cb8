"""A text data set: its splits, its documents, their labels, and the rows that a model reads.

Splits that are not given are carved from the training samples by a seed alone: labelled sets class by class,
unlabelled ones by documents, and a text that is one document at characters, in order: first the training
part, then validation, then test (nanoGPT's int(0.9 * n) rule for tinyshakespeare).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from ssl_zoo.data.cache import root, store
from ssl_zoo.data.rows import DataError, Rows
from ssl_zoo.data.split_files import Assigned, Given, dealt, read_assigned, refuse_both
from ssl_zoo.data.split_names import PARTS
from ssl_zoo.data.splits import carve_parts
from ssl_zoo.data.text_files import LIMITS, Errors, Limits
from ssl_zoo.data.text_formats import Format, Sample, Text
from ssl_zoo.data.text_rows import DocumentRows, PackedRows, write_stream
from ssl_zoo.data.text_sources import Fetched, Source, read, stamp
from ssl_zoo.data.text_tables import label_of
from ssl_zoo.data.text_tally import Tally
from ssl_zoo.data.tokenizer import Tokenizer, version
from ssl_zoo.messages import note

READING = 2  # raise it when the same files would be read otherwise: encoded text in caches is then not used


class TextData:
    """Text from files, the standard library or the Hugging Face hub.

    Args:
        name: what reports call it.
        train, validation, test: sources (see text_sources.py).
        format: how samples are written down in files (see text_formats.py); blank lines part documents
            unless it says otherwise.
        classes: label as written -> name to show, in the order of the class ids; None sorts the labels.
        splits: a file that says which samples of train are of which split (see split_files.py); nothing is
            carved by chance then.
        validation_fraction, test_fraction: of the training samples, carved where no source is given.
            0 makes no such split.
        split_seed: decides which samples are carved.
        errors: "strict" refuses bytes that are not UTF-8, NUL and lone surrogates, "replace" puts U+FFFD in
            their place.
        max_document_bytes, max_unpacking_ratio: limits that keep a file from filling memory or disk (see
            text_files.py).
        cache: folder for encoded text and learned tokenizers; None: the environment's SSL_ZOO_CACHE, else
            ~/.cache/ssl_zoo.

    Raises:
        DataError: fractions that leave no training samples. Files are read, and refused, when asked for.

    What is left out of the files, and how many documents of train are also in another split, is said on
    stderr with counts, once for each object.
    """

    modality = "text"

    def __init__(
        self,
        name: str,
        train: Source,
        validation: Source | None = None,
        test: Source | None = None,
        *,
        format: Format | None = None,
        classes: Mapping[str, str] | None = None,
        splits: Given | None = None,
        validation_fraction: float = 0.1,
        test_fraction: float = 0.0,
        split_seed: int = 0,
        errors: Errors = "strict",
        max_document_bytes: int = LIMITS.max_document_bytes,
        max_unpacking_ratio: int = LIMITS.max_unpacking_ratio,
        cache: str | Path | None = None,
    ):
        given = {"train": train, "validation": validation, "test": test}
        self.name, self._format = name, format or Text()
        self._errors: Errors = errors
        self._sources: dict[str, Source] = {s: source for s, source in given.items() if source is not None}
        refuse_both(name, splits, validation, test)
        self._splits_file = splits
        fractions = {} if splits else {"validation": validation_fraction, "test": test_fraction}
        self._carved = {s: f for s, f in fractions.items() if f and s not in self._sources}
        if not (all(f >= 0 for f in fractions.values()) and sum(self._carved.values()) < 1):  # NaN is neither
            raise DataError(f"{name}: fractions {fractions} leave no training samples; they must sum below 1")
        if errors not in ("strict", "replace"):
            raise DataError(f"{name}: errors is strict or replace, not {errors}")
        self._seed = split_seed
        self._limits = Limits(max_document_bytes, max_unpacking_ratio)
        self._said: list[str] = []
        self._names = None if classes is None else self._named(classes)
        self._cache, self._fetched = root(cache), Fetched(root(cache))

    def _named(self, classes: Mapping[str, str]) -> dict[str, str]:
        names = {label_of(label, f"{self.name}: a key of classes"): str(n) for label, n in classes.items()}
        if None in names or len(names) < len(classes):
            raise DataError(f"{self.name}: the keys of classes are empty or the same label: {list(classes)}")
        return {label: name for label, name in names.items() if label is not None}

    def splits(self) -> tuple[str, ...]:
        """Which of train, validation and test there are."""
        return tuple(s for s in PARTS if s in self._sources or s in self._cut)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of their ids; () for text without labels."""
        first = next(self._read("train"), None)
        if first is None:
            raise DataError(f"{self.name}: train holds no text")
        if first.label is None:
            return ()
        return tuple((self._names or {label: label for label in self._labels}).values())

    def texts(self, split: str) -> Iterator[str]:
        """The texts of a split, one after the other: read from their files as they are asked for."""
        return (sample.text for sample in self.samples(split))

    def documents(self, split: str) -> Sequence[str]:
        """All texts of a split, in memory."""
        return list(self.texts(split))

    def labels(self, split: str) -> np.ndarray | None:
        """(N,) int64 classes of `documents(split)`, or None for text without labels."""
        if not self.classes:
            self._check(split)
            return None
        return self._classify(split, [sample.label for sample in self.samples(split)])

    def name_of(self, label: str | None) -> str | None:
        """The name of the class that is written so; None for a sample without a label."""
        return label if label is None or self._names is None else self._names.get(label, label)

    def rows(
        self,
        split: str,
        tokenizer: Tokenizer,
        length: int,
        layout: Literal["document", "packed"] = "document",
        lookahead: int = 0,
        even: bool = False,
    ) -> Rows:
        """The split as rows of `length` ids, and `lookahead` more where rows are packed.

        Packed rows are encoded once, into the cache; document rows in memory at each call. With `even`,
        documents are padded to `length` whatever is read, for training in parts.

        Raises:
            DataError: a fault in the files, or less text than one row.
        """
        self._check(split)
        if layout == "document":
            if lookahead:
                raise DataError("lookahead is for packed rows: a document row ends where its document does")
            texts, labels = self.texts(split), self.labels(split)
            return DocumentRows(texts, tokenizer, length, labels, self.classes, even)
        if layout != "packed":
            raise DataError(f"layout is document or packed, not {layout}")
        folder = self._place("text", split, tokenizer.fingerprint)
        write_stream(self.texts(split), tokenizer, folder, f"{self.name} ({split})", self._said)
        rows = PackedRows(folder, length, lookahead)
        self._say(rows.notes)
        return rows

    def tokenizer(self, learn: Callable[[Iterable[str]], Tokenizer], settings: str) -> Tokenizer:
        """What is learned of the training texts: once, then it is read from the cache.

        Args:
            learn: the same texts give the same tokenizer.
            settings: what `learn` is, in words that differ where it does.

        Raises:
            DataError: a fault in the files, or texts that nothing can be learned from.
        """
        folder = self._place("tokenizers", version(), settings)
        title = f"a tokenizer of {self.name}"
        store(folder, title, lambda draft: learn(self.texts("train")).save(draft))
        return Tokenizer.load(folder)

    def _place(self, room: str, *facts: str) -> Path:
        """Where the cache keeps what is made of the files and of these facts."""
        key = hashlib.sha256(repr((READING, self._stamp, *facts)).encode()).hexdigest()[:24]
        return self._cache / room / key

    @cached_property
    def _assigned(self) -> Assigned | None:
        given = self._splits_file
        return None if given is None else read_assigned(given, self._sources["train"])

    @property
    def _cut(self) -> tuple[str, ...]:
        """The splits that are cut from train, by a draw or by a file of names."""
        return tuple(self._carved) if self._assigned is None else self._assigned.parts

    @property
    def _stamp(self) -> str:
        sources = {split: stamp(source, self._fetched) for split, source in self._sources.items()}
        named = () if self._assigned is None else self._assigned
        return repr((sources, self._format, self._carved, self._seed, self._errors, *named))

    def _check(self, split: str) -> None:
        if split not in self.splits():
            raise DataError(f"{self.name} has no split {split}: it has {', '.join(self.splits())}")

    def _read(self, split: str) -> Iterator[Sample]:
        """The samples of a given source; those of train that a given split also holds are left out."""
        tally = Tally()
        source = self._sources[split]
        for sample in read(source, self._format, self._errors, self._limits, tally, self._fetched):
            if split == "train" and sample.key is not None and sample.key in self._held_out:
                tally.add("row(s) left out whose key another split also has", f"{sample.key[:40]!r}")
            else:
                yield sample
        self._say(f"{self.name} ({split}): {line}" for line in tally.lines())

    def _say(self, notes: Iterable[str]) -> None:
        for line in notes:
            if line not in self._said:
                self._said.append(line)
                note(line)

    @cached_property
    def _held_out(self) -> frozenset[str]:
        given = (s for s in self._sources if s != "train")
        return frozenset(sample.key for s in given for sample in self._read(s) if sample.key is not None)

    def samples(self, split: str) -> Iterator[Sample]:
        """The samples of a split, each with the file it is from: read as they are asked for."""
        self._check(split)
        known, tally, count = self._known if split == "train" else {}, Tally(), 0
        for sample in self._read(split) if not self._carve_from(split) else self._part(split):
            count += 1
            also = known.get(_digest(sample.text)) if known else None
            if also is not None:
                tally.add(f"document(s) are word for word in {also} too", f"{sample.text[:40]!r}")
            yield sample
        if not count:
            raise DataError(f"{self.name}: {split} holds no text")
        self._say(f"{self.name} ({split}): {line}" for line in tally.lines())

    @cached_property
    def _known(self) -> dict[bytes, str]:
        """Digest of a text -> the split but train that holds it. A split that cannot be read has none."""
        known: dict[bytes, str] = {}
        for split in (s for s in self.splits() if s != "train"):
            tally = Tally()
            try:
                for text in self.texts(split):
                    if known.setdefault(_digest(text), split) != split:
                        tally.add("document(s) are word for word in validation too", f"{text[:40]!r}")
            except DataError:  # raised again when that split itself is asked for
                continue
            self._say(f"{self.name} ({split}): {line}" for line in tally.lines())
        return known

    def _carve_from(self, split: str) -> bool:
        return bool(self._cut) and (split == "train" or split in self._cut)

    def _part(self, split: str) -> Iterator[Sample]:
        if self._count == 1 and self._assigned is None:
            yield from self._piece(split)
            return
        kept = iter(self._parts[split].tolist())
        wanted = next(kept, None)
        for i, sample in enumerate(self._read("train")):
            if i == wanted:
                yield sample
                wanted = next(kept, None)

    @cached_property
    def _count(self) -> int:
        """Training samples before carving; only whether there are 0, 1 or more matters to callers."""
        return sum(1 for _ in islice(self._read("train"), 2))

    @cached_property
    def _labels(self) -> list[str]:
        return sorted({str(sample.label) for sample in self._read("train")})

    @cached_property
    def _parts(self) -> dict[str, np.ndarray]:
        """split -> sorted indices into the training source."""
        if self._assigned is not None:
            found = [(sample.file, sample.row) for sample in self._read("train")]
            return dealt(self._assigned, [file for file, _ in found], [row for _, row in found])
        labels = [sample.label for sample in self._read("train")]
        if not labels:
            raise DataError(f"{self.name}: train holds no text")
        y, names = np.zeros(len(labels), dtype=np.int64), ("documents",)
        if self.classes:
            y, names = self._classify("train", labels), self.classes
        return carve_parts(y, self._carved, self._seed, names)

    def _piece(self, split: str) -> Iterator[Sample]:
        """A part of the only document: first train, then validation, then test."""
        sample = next(self._read("train"))
        if sample.label is not None:
            raise DataError(
                f"{self.name}: one labelled sample cannot be split; give the other splits as sources"
            )
        text, shares = sample.text, self._carved
        ends = {"train": 1 - sum(shares.values()), "validation": 1 - shares.get("test", 0.0), "test": 1.0}
        before = {"train": 0, "validation": ends["train"], "test": ends["validation"]}
        piece = text[int(before[split] * len(text)) : int(ends[split] * len(text))]
        if not piece.strip():
            raise DataError(f"{self.name}: {split} would be an empty part of {len(text)} characters")
        yield Sample(piece)

    def _classify(self, split: str, labels: Sequence[str | None]) -> np.ndarray:
        ids = {label: i for i, label in enumerate(self._names or self._labels)}
        if unknown := sorted({str(label) for label in labels} - set(ids)):
            raise DataError(
                f"{self.name}: {split} has the labels {unknown[:5]}, which are not among {list(ids)[:20]}"
            )
        return np.array([ids[str(label)] for label in labels], dtype=np.int64)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
