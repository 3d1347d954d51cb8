"""What a name or a path in a text config becomes: samples, one after the other.

A source is `stdlib`, `stdlib_topics:SPLIT`, `stdlib_roles:SPLIT`, `hf:NAME:SPLIT:COLUMN[:LABEL_COLUMN]`
(NAME@CONFIG where a data set of the Hugging Face hub has several), a file, a folder (read with its
subfolders), a pattern, an address of files (see addresses.py), a list of these, or a mapping from label to
these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ssl_zoo.data import addresses, hub, stdlib, stdlib_roles
from ssl_zoo.data.cache import root
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.schemes import is_address
from ssl_zoo.data.shelf import ROOM, File, Shelf
from ssl_zoo.data.text_chats import as_text
from ssl_zoo.data.text_files import LIMITS, Errors, Limits
from ssl_zoo.data.text_folders import find
from ssl_zoo.data.text_formats import Format, Sample
from ssl_zoo.data.text_tables import label_of, text_of
from ssl_zoo.data.text_tally import Tally

KEPT = 64 << 30  # bytes of files from addresses that are kept in the cache
TOPICS, ROLES = "stdlib_topics:", "stdlib_roles:"  # what the names of two sources begin with

Source = str | Path | Sequence[str | Path] | Mapping[str, "str | Path | Sequence[str | Path]"]


class Fetched:
    """Files at addresses, which are looked up and asked for their sizes once.

    Args:
        cache: where they are kept; None = the usual one.
    """

    def __init__(self, cache: Path | None = None):
        self.shelf = Shelf(root(cache) / ROOM, KEPT)
        self._files: dict[str, list[File]] = {}

    def files(self, pattern: str) -> list[File]:
        """Those that an address stands for. Raises DataError if there are none, or one cannot be asked."""
        if pattern not in self._files:
            found = addresses.expanded(pattern)
            self._files[pattern] = [File(one, addresses.size_of(one)) for one in found]
        return self._files[pattern]


def read(
    source: Source,
    format: Format,
    errors: Errors = "strict",
    limits: Limits = LIMITS,
    tally: Tally | None = None,
    fetched: Fetched | None = None,
) -> Iterator[Sample]:
    """All samples of a source, in an order that is the same everywhere. Empty texts are left out.

    fetched: where files at addresses are kept; None = the usual cache.

    Raises:
        DataError: nothing there, a file named by itself that holds no text, or a fault in a file.
    """
    tally = Tally() if tally is None else tally
    fetched = Fetched() if fetched is None else fetched
    if isinstance(source, Mapping):
        for label, inner in source.items():
            word = label_of(label, f"the label of {inner}")
            if word is None:
                raise DataError(f"{inner} has an empty label: name its class")
            samples = read(inner, format, errors, limits, tally, fetched)
            yield from (sample._replace(label=word) for sample in samples)
    elif not isinstance(source, str | Path):
        for inner in source:
            yield from read(inner, format, errors, limits, tally, fetched)
    elif source == "stdlib":
        yield from map(Sample, stdlib.modules())
    elif str(source).startswith(TOPICS):
        yield from map(Sample, *stdlib.topics(str(source).partition(":")[2]))
    elif str(source).startswith(ROLES):
        yield from map(Sample, *stdlib_roles.roles(str(source).partition(":")[2]))
    elif str(source).startswith("hf:"):
        yield from _full(_hub(str(source), errors, tally), str(source), tally)
    elif is_address(source):
        found = fetched.files(str(source))
        for file in found:
            with fetched.shelf.pinned(file) as path:
                one = len(found) == 1
                tally.called = str(path), file.address
                try:
                    yield from _file(path, file.address, format, errors, limits, tally, one)
                except DataError as error:
                    raise DataError(f"{error}".replace(*tally.called)) from error
                finally:
                    tally.called = "", ""
    else:
        for path in find(source, tally):
            one = path == Path(source).expanduser()
            yield from _file(path, str(path), format, errors, limits, tally, one)


def _file(
    path: Path, name: str, format: Format, errors: Errors, limits: Limits, tally: Tally, alone: bool
) -> Iterator[Sample]:
    """The samples of one file; `alone`: it was named by itself, and must hold some."""
    empty = True
    for sample in _full(format.samples(path, errors, limits, tally), name, tally):
        empty = False
        yield sample._replace(file=name)
    if empty and alone:
        left = f" ({'; '.join(tally.lines())})" if tally.lines() else ""
        raise DataError(f"{name} holds no text{left}")
    if empty:
        tally.add("file(s) without text", name)


def _full(samples: Iterator[Sample], where: str, tally: Tally) -> Iterator[Sample]:
    for sample in samples:
        if sample.text.strip():
            yield sample
        else:
            tally.add("empty text(s) left out", where)


def _hub(source: str, errors: Errors, tally: Tally) -> Iterator[Sample]:
    parts = source.split(":")
    if len(parts) not in (4, 5):
        raise DataError(f"{source} is not of the form hf:NAME:SPLIT:COLUMN or hf:NAME:SPLIT:COLUMN:LABEL")
    rows = hub.table(parts[1], parts[2])
    if missing := [column for column in parts[3:] if column not in rows.column_names]:
        raise DataError(f"{source}: no column {missing[0]} among {rows.column_names}")
    names = getattr(rows.features[parts[4]], "names", None) if len(parts) == 5 else None
    for number, row in enumerate(rows):
        where = f"{source}, row {number}"
        cell = as_text(row[parts[3]], f"{where}: {parts[3]!r}", tally)
        text = text_of(cell, f"{where}: {parts[3]!r}", errors)
        label = None
        if len(parts) == 5:
            value = row[parts[4]]
            if names is not None and value is not None:
                if not isinstance(value, int) or not -1 <= value < len(names):
                    raise DataError(f"{where} has the label {value!r}, and there are {len(names)} classes")
                value = None if value == -1 else names[value]  # -1 is the library's mark of a hidden label
            label = label_of(value, f"{where}: label")
            if label is None:
                tally.add("row(s) without a label left out", where)
                continue
        if text is None:
            tally.add("null text(s) left out", where)
        else:
            yield Sample(text, label, file=source, row=number)


def stamp(source: Source, fetched: Fetched) -> str:
    """A text that changes when the content of a source does: the names, sizes and times of its files.

    Nothing is read. Of a data set on the Hugging Face hub the name counts alone: a new version is not seen.
    Of a file at an address, name and size count; another change is noticed when it is fetched again.
    """
    if isinstance(source, Mapping):
        return repr([(str(label), stamp(inner, fetched)) for label, inner in source.items()])
    if not isinstance(source, str | Path):
        return repr([stamp(inner, fetched) for inner in source])
    if str(source).startswith("hf:"):
        return str(source)
    if is_address(source):
        return repr((str(source), [(file.address, file.size) for file in fetched.files(str(source))]))
    named = source == "stdlib" or str(source).startswith((TOPICS, ROLES))
    paths = stdlib.files() if named else find(source)
    facts = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    return repr((str(source), facts))
