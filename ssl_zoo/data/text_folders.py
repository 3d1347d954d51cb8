"""The text files that a path, a folder or a pattern stands for.

Links are followed, and what several lead to is read once. Only regular files are opened: a named pipe would
wait for ever, and a device never ends.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ssl_zoo.data.rows import DataError, absent
from ssl_zoo.data.text_files import kind
from ssl_zoo.data.text_names import FASTA, RUNNING, WHOLE
from ssl_zoo.data.text_tally import Tally

FOUND = {*RUNNING, *WHOLE, *FASTA, ".jsonl", ".ndjson"}  # what a folder is searched for
NO_FILE = {
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def find(source: str | Path, tally: Tally | None = None) -> list[Path]:
    """The files that a path, a folder or a pattern stands for, sorted by name.

    Hidden files and folders are passed over; `tally` counts the other files that are left out.

    Raises:
        DataError: there is none, or what is named is no file, or a folder cannot be read.
    """
    tally = Tally() if tally is None else tally
    if not str(source).strip():
        raise DataError("the path of the text is empty: name a file, a folder or a pattern")
    try:
        path = Path(source).expanduser()
        if path.is_dir():
            found = _chosen(_inside(path), tally, FOUND)
            wanted = f"in it is a {', '.join(sorted(FOUND))} file (or one of these as .gz, .xz, .bz2 or .zst)"
        elif path.exists() or path.is_symlink():
            if what := _no_file(path):
                raise DataError(f"{source} is a {what}, and text is read from files")
            found, wanted = [path], ""
        else:
            found, wanted = _chosen(_matches(str(path)), tally, None), "there is such a file"
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"text at {str(source)!r} cannot be looked up: {error}") from error
    if not found:
        above = next((p for p in path.parents if not glob.has_magic(str(p))), path)
        if not above.exists():
            raise DataError(absent("text", str(source), path))
        left = f" ({'; '.join(tally.lines())})" if tally.lines() else ""
        raise DataError(f"no text at {path}: nothing {wanted}{left}")
    return sorted(found, key=lambda p: p.as_posix())


def _no_file(path: Path) -> str | None:
    """What a path leads to that is no regular file; None for one that is."""
    try:
        mode = stat.S_IFMT(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return "link to nothing"
    except OSError as error:
        if path.is_symlink():
            return "link to nothing"  # a loop of links
        raise error
    return None if mode == stat.S_IFREG else NO_FILE.get(mode, "folder")


def _chosen(paths: Iterator[Path], tally: Tally, suffixes: set[str] | None) -> list[Path]:
    """The regular files with one of the suffixes (None: any), each once, whatever links lead to it."""
    seen: set[tuple[int, int]] = set()
    chosen = []
    # Files before links, so that a file is known by its own name. A pattern with two ** gives paths twice.
    for path in sorted(set(paths), key=lambda p: (p.is_symlink(), p.as_posix())):
        what = _no_file(path)
        if what == "folder":
            continue
        if what:
            tally.add(f"{what} left out", str(path))
        elif suffixes is not None and kind(path) not in suffixes:
            tally.add(f"file(s) left out for the suffix {kind(path) or '(none)'}", str(path))
        else:
            facts = path.stat()
            if (facts.st_dev, facts.st_ino) in seen:
                tally.add("link(s) to a file that is read already left out", str(path))
            else:
                chosen.append(path)
            seen.add((facts.st_dev, facts.st_ino))
    return chosen


def _folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """(folder, names of its files) of a folder and all below it, hidden ones not; each once."""
    seen: set[tuple[int, int]] = set()
    waiting = [str(root)]

    def fail(error: OSError) -> None:
        raise error

    while waiting:  # the links that were met come after the folders, which keep their own names so
        links: list[str] = []
        for top in waiting:
            for here, below, names in os.walk(top, onerror=fail):
                facts = os.stat(here)
                if (facts.st_dev, facts.st_ino) in seen:
                    below.clear()
                    continue
                seen.add((facts.st_dev, facts.st_ino))
                below[:] = sorted(name for name in below if not name.startswith("."))
                links += [p for p in (os.path.join(here, name) for name in below) if os.path.islink(p)]
                yield Path(here), [name for name in names if not name.startswith(".")]
        waiting = links


def _inside(root: Path) -> Iterator[Path]:
    return (here / name for here, names in _folders(root) for name in names)


def _matches(pattern: str) -> Iterator[Path]:
    """What a pattern matches; its first `**` goes through each folder once, where glob follows loops."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from map(Path, glob.glob(pattern))
        return
    at = parts.index("**")
    head, tail = os.path.join("", *parts[:at]), os.path.join(*(parts[at + 1 :] or ("*",)))
    for root in glob.glob(head) if head else ["."]:
        if os.path.isdir(root):
            for here, _ in _folders(Path(root)):
                yield from _matches(os.path.join(glob.escape(str(here)), tail))
