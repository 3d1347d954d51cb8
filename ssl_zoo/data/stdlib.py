"""Text that every machine has: Python's own standard library.

`modules` are its sources without tests and generated tables, `topics` a labelled set cut from them: which of
eight topics does an excerpt of about 300 characters come from? Both depend on the Python version, so scores
compare only between runs on the same one. Files whose excerpts validate or test are left out of `modules`.
"""

from __future__ import annotations

import os
import re
import sysconfig
from functools import cache
from pathlib import Path

from ssl_zoo.data.rows import DataError
from ssl_zoo.noise import fold

# Tests, vendored packages, charmap tables, and what some Python installations leave out.
SKIP = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3", "idlelib"}
SKIP |= {"encodings", "pydoc_data", "ensurepip", "distutils", "turtledemo", "lib-dynload"}

# Top-level modules and packages of each topic; those that this Python lacks are passed over.
TOPICS = {
    "concurrency": "asyncio concurrent multiprocessing threading queue sched subprocess selectors",
    "files": "tarfile zipfile gzip bz2 lzma _compression shutil tempfile pathlib glob fnmatch posixpath "
    "ntpath genericpath filecmp fileinput linecache os zipapp zipimport _pyio",
    "language": "ast inspect dis opcode typing enum dataclasses importlib pkgutil modulefinder tokenize "
    "symtable types abc _py_abc functools codeop code pyclbr pickle pickletools copyreg copy",
    "mail": "email mailbox smtplib imaplib poplib mimetypes quopri base64 netrc",
    "markup": "xml html plistlib json configparser csv tomllib",
    "numbers": "_pydecimal fractions statistics random datetime _pydatetime calendar numbers colorsys bisect "
    "heapq _strptime zoneinfo ipaddress uuid",
    "testing": "unittest doctest pdb bdb trace profile cProfile pstats timeit traceback tracemalloc logging "
    "warnings pprint",
    "web": "http urllib wsgiref xmlrpc socketserver ftplib webbrowser ssl socket",
}
LENGTH = 300  # characters of an excerpt, about
PER_FILE = 60  # at most, so that no long file stands for its topic
SHARES = {"test": 0.2, "validation": 0.15}  # of a topic's excerpts, at least, in whole files
_IMPORT = re.compile(r"^\s*(import|from)\b")


@cache
def root() -> Path:
    """The folder of the standard library."""
    return Path(sysconfig.get_path("stdlib"))


def files() -> list[Path]:
    """All module files that `modules` and `topics` draw from, sorted by name.

    Raises:
        DataError: this Python has no source files of its library.
    """
    found: list[Path] = []
    for folder, below, names in os.walk(root()):
        below[:] = [b for b in below if b not in SKIP]
        chosen = (n for n in names if n.endswith(".py") and not n.startswith("_sysconfigdata"))
        found += [Path(folder, n) for n in chosen]
    if not found:
        raise DataError(
            f"Python's standard library is not in {root()} as source files; name text files instead"
        )
    return sorted(found, key=name)


def name(path: Path) -> str:
    """The path of a module file below the library's folder, with slashes."""
    return path.relative_to(root()).as_posix()


def modules() -> list[str]:
    """Source of each module (training files of `topics` and all others), one document each."""
    held_out = {file for split in SHARES for file in assignment()[split]}
    texts = (path.read_text("utf-8", "replace") for path in files() if path not in held_out)
    return [text for text in texts if text.strip()]


@cache
def excerpts(path: Path) -> list[str]:
    """Runs of whole lines of about LENGTH characters: no imports, no line that names the file's package."""
    names = {part.removesuffix(".py").lstrip("_") for part in path.relative_to(root()).parts} - {"init__"}
    given_away = re.compile("|".join(map(re.escape, sorted(names))), re.IGNORECASE)
    chunks, chunk = [], ""
    for line in path.read_text("utf-8", "replace").splitlines():
        if not line.strip() or _IMPORT.match(line) or given_away.search(line):
            continue
        chunk += line.rstrip() + "\n"
        if len(chunk) >= LENGTH:
            chunks.append(chunk)
            chunk = ""
    return _spread(chunks, PER_FILE)


def _spread(items: list, count: int) -> list:
    """`count` of the items, evenly spaced; all of them if there are fewer."""
    if len(items) <= count:
        return items
    return [items[i * len(items) // count] for i in range(count)]


@cache
def assignment() -> dict[str, dict[Path, str]]:
    """split -> {file: topic}. Whole files go to test, then validation, in an order that a hash gives."""
    topic_of = {top: topic for topic, tops in TOPICS.items() for top in tops.split()}
    by_topic: dict[str, list[Path]] = {topic: [] for topic in TOPICS}
    for path in files():
        top = path.relative_to(root()).parts[0].removesuffix(".py")
        if top in topic_of:
            by_topic[topic_of[top]].append(path)
    splits: dict[str, dict[Path, str]] = {"train": {}, **{split: {} for split in SHARES}}
    for topic, paths in by_topic.items():
        sizes = {path: len(excerpts(path)) for path in paths}
        order = sorted((p for p in paths if sizes[p]), key=lambda p: fold("stdlib_topics", name(p)))
        left = {split: share * sum(sizes.values()) for split, share in SHARES.items()}
        for path in order:
            split = next((s for s in SHARES if left[s] > 0), "train")
            splits[split][path] = topic
            if split != "train":
                left[split] -= sizes[path]
    return splits


def topics(split: str) -> tuple[list[str], list[str]]:
    """(excerpts, topic of each) of "train", "validation" or "test", the same number of every topic."""
    if split not in assignment():
        raise DataError(f"stdlib_topics has the splits {', '.join(assignment())}, not {split}")
    pools: dict[str, list[str]] = {topic: [] for topic in TOPICS}
    for path, topic in assignment()[split].items():
        pools[topic] += excerpts(path)
    count = min(map(len, pools.values()))
    texts = [(text, topic) for topic, pool in pools.items() for text in _spread(pool, count)]
    return [text for text, _ in texts], [topic for _, topic in texts]
