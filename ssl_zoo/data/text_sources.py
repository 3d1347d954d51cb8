"""What a name or a path in a text config becomes: samples, one after the other.

A source is `stdlib`, `stdlib_topics:SPLIT`, `stdlib_roles:SPLIT`, `hf:NAME:SPLIT:COLUMN[:LABEL_COLUMN]`
(NAME@CONFIG where a data set of the Hugging Face hub has several), a file, a folder (read with its
subfolders), a pattern, a list of these, or a mapping from label to these.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ssl_zoo.data import stdlib, stdlib_roles
from ssl_zoo.data.absent import absent
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text_formats import WHOLE, Errors, Format, Sample, kind

Source = str | Path | Sequence[str | Path] | Mapping[str, "str | Path | Sequence[str | Path]"]
FOUND = WHOLE | {".txt", ".jsonl"}  # what a folder is searched for


def find(source: str | Path) -> list[Path]:
    """The files that a path, a folder or a pattern stands for, sorted by name. DataError if none."""
    path = Path(source).expanduser()
    if path.is_dir():
        inner = (p for p in path.rglob("*") if not any(x.startswith(".") for x in p.relative_to(path).parts))
        found = [p for p in inner if p.is_file() and kind(p) in FOUND]
        wanted = f"in it is a {', '.join(sorted(FOUND))} file (or one of these as .gz or .xz)"
    else:
        found = [path] if path.is_file() else [Path(p) for p in glob.glob(str(path), recursive=True)]
        found, wanted = [p for p in found if p.is_file()], "there is such a file"
    if not found:
        if not path.parent.exists():
            raise DataError(absent("text", str(source), path))
        raise DataError(f"no text at {path}: nothing {wanted}")
    return sorted(found, key=lambda p: p.as_posix())


def read(source: Source, format: Format, errors: Errors = "strict") -> Iterator[Sample]:
    """All samples of a source, in an order that is the same everywhere. Empty texts are left out.

    Raises:
        DataError: nothing there, a file named by itself that holds no text, or a fault in a file.
    """
    if isinstance(source, Mapping):
        for label, inner in source.items():
            yield from (sample._replace(label=str(label)) for sample in read(inner, format, errors))
    elif not isinstance(source, str | Path):
        for inner in source:
            yield from read(inner, format, errors)
    elif source == "stdlib":
        yield from map(Sample, stdlib.modules())
    elif str(source).startswith("stdlib_topics:"):
        yield from map(Sample, *stdlib.topics(str(source).partition(":")[2]))
    elif str(source).startswith("stdlib_roles:"):
        yield from map(Sample, *stdlib_roles.roles(str(source).partition(":")[2]))
    elif str(source).startswith("hf:"):
        yield from _hub(str(source))
    else:
        for path in find(source):
            empty = True
            for sample in format.samples(path, errors):
                if sample.text.strip():
                    empty = False
                    yield sample
            if empty and path == Path(source).expanduser():
                raise DataError(f"{path} holds no text")


def _hub(source: str) -> Iterator[Sample]:
    parts = source.split(":")
    if len(parts) not in (4, 5):
        raise DataError(f"{source} is not of the form hf:NAME:SPLIT:COLUMN or hf:NAME:SPLIT:COLUMN:LABEL")
    try:
        from datasets import load_dataset  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DataError(f"{source} needs the datasets library: pip install 'ssl-zoo[hf]'") from error
    name, _, config = parts[1].partition("@")
    try:
        rows = load_dataset(name, config or None, split=parts[2])
    except Exception as error:  # the network, the hub and the builder each raise their own
        raise DataError(f"{source} could not be loaded: {error}") from error
    if missing := [column for column in parts[3:] if column not in rows.column_names]:
        raise DataError(f"{source}: no column {missing[0]} among {rows.column_names}")
    names = getattr(rows.features[parts[4]], "names", None) if len(parts) == 5 else None
    for row in rows:
        label = row[parts[4]] if len(parts) == 5 else None
        text = str(label if names is None else names[label]) if label is not None else None
        yield Sample(str(row[parts[3]]), text)


def stamp(source: Source) -> str:
    """What changes when the content of a source does, without reading it: names, sizes, times."""
    if isinstance(source, Mapping):
        return repr([(str(label), stamp(inner)) for label, inner in source.items()])
    if not isinstance(source, str | Path):
        return repr([stamp(inner) for inner in source])
    if str(source).startswith("hf:"):
        return str(source)
    paths = stdlib.files() if str(source).startswith("stdlib") else find(source)
    facts = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    return repr((str(source), facts))
