"""Image files below a folder: class folders, or, where some lie in no such folder, images without labels.

Each folder and each file that links lead to is read once. What really lies there goes first, then what lies
in folders that are linked to, then files that are linked to. So no link multiplies images or puts copies into
two splits.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections import Counter, deque
from pathlib import Path
from typing import NamedTuple

from ssl_zoo.data.image_decoding import is_image, open_file, suffixes
from ssl_zoo.data.image_shards import SHARDS
from ssl_zoo.data.rows import DataError, counted
from ssl_zoo.data.split_names import split_of
from ssl_zoo.messages import note
from ssl_zoo.portable import facts


class Found(NamedTuple):
    """name: relative, with slashes. size: in bytes. changed: in nanoseconds."""

    name: str
    size: int
    changed: int


class Folder(NamedTuple):
    """files: sorted by name. labels: one each, -1 without classes. left: what was left out, how often."""

    files: list[Found]
    labels: list[int]
    classes: tuple[str, ...]
    left: Counter[str]


def read_folder(spec: str, root: Path) -> Folder:
    """The images below `root`. Names, sizes and times are looked at, and how files without a suffix begin.

    Raises:
        DataError: there are none, a class has none or a name that is not UTF-8, or a folder cannot be read.
    """
    walk = _Walk(root)
    files, left = sorted(walk.files), walk.left
    flat = sum("/" not in file.name for file in files)
    if not files:
        raise DataError(f"the folder {spec!r} holds no images ({_instead(spec, root, left)})")
    if 0 < flat < len(files):
        note(
            f"{spec}: {flat} images lie beside folders with {len(files) - flat} more, so these are no class "
            "folders: all are read without labels"
        )
    if flat:
        return Folder(files, [-1] * len(files), (), left)
    classes = tuple(sorted({_top(file.name) for file in files}))
    if strange := [name for name in classes if not _is_utf8(name)]:
        raise DataError(
            f"the class folder {os.fsencode(strange[0])!r} of {spec!r} has a name that is not UTF-8, which "
            f"can be neither shown nor stored: rename it ({len(strange)} such folder(s))"
        )
    if empty := sorted(walk.tops - set(classes)):
        out = f"; left out: {counted(left)}" if left else ""
        raise DataError(f"these class folders of {spec!r} hold no images: {', '.join(empty)}{out}")
    if all(split_of(name) for name in classes):
        note(
            f"{spec}: its classes are called {', '.join(classes)}; if these are splits, give each by itself, "
            f"such as train='{spec}/{classes[-1]}'"
        )
    number = {name: i for i, name in enumerate(classes)}
    return Folder(files, [number[_top(file.name)] for file in files], classes, left)


def _top(name: str) -> str:
    return name.partition("/")[0]


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _instead(spec: str, root: Path, left: Counter[str]) -> str:
    if any(p.name.endswith(SHARDS) for p in root.iterdir()):
        return f"it holds shards: write '{spec}/*.tar*'"
    return f"looked for {', '.join(suffixes())}" + (f"; it holds {counted(left)}" if left else "")


class _Walk:
    """One pass over a folder.

    Attributes:
        files: the images. tops: names of the folders directly in it that were entered. left: what was left
            out.
    """

    def __init__(self, root: Path):
        self.root, self.suffixes = root, frozenset(suffixes())
        self.files: list[Found] = []
        self.tops: set[str] = set()
        self.left: Counter[str] = Counter()
        self.entered: set[tuple[int, int]] = set()  # device and inode
        self.numbers = array("Q")  # device and inode of each image, one after the other
        self.links: deque[str] = deque()
        try:
            self._enter("", os.stat(root))
            self._follow()
        except OSError as error:
            raise DataError(f"{root} cannot be read: {error}") from error

    def _enter(self, name: str, about: os.stat_result) -> None:
        """Take what really lies in a folder and in those below it; links are put off."""
        waiting = deque([(name, about)])
        while waiting:
            name, about = waiting.popleft()
            if (about.st_dev, about.st_ino) in self.entered:
                self.left["links to folders that are read anyway"] += 1
                continue
            self.entered.add((about.st_dev, about.st_ino))
            if name and "/" not in name:
                self.tops.add(name)
            with os.scandir(self.root / name) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    inner = f"{name}/{entry.name}" if name else entry.name
                    if entry.name.startswith("."):
                        self.left["hidden"] += 1
                    elif entry.is_symlink():
                        self.links.append(inner)
                    elif entry.is_dir():
                        waiting.append((inner, os.stat(self.root / inner)))
                    else:
                        self._take(inner, facts(entry))

    def _follow(self) -> None:
        """Enter the folders that links lead to, then take the files, unless that was done."""
        files: list[tuple[str, os.stat_result]] = []
        while self.links:
            name = self.links.popleft()
            try:
                about = os.stat(self.root / name)
            except OSError:  # it leads nowhere, or round in a circle
                self.left["broken links"] += 1
                continue
            if stat.S_ISDIR(about.st_mode):
                self._enter(name, about)
            else:
                files.append((name, about))
        taken = set(zip(self.numbers[::2], self.numbers[1::2], strict=True)) if files else set()
        for name, about in files:
            if (about.st_dev, about.st_ino) in taken:
                self.left["links to files that are read anyway"] += 1
            elif self._take(name, about):
                taken.add((about.st_dev, about.st_ino))

    def _take(self, name: str, about: os.stat_result) -> bool:
        """Add a file if it is an image."""
        suffix = os.path.splitext(name)[1].lower()
        if not stat.S_ISREG(about.st_mode):
            self.left["pipes, devices or sockets"] += 1
        elif suffix not in self.suffixes and (suffix or not self._begins_as_image(name)):
            self.left[suffix or "without a suffix"] += 1
        else:
            self.files.append(Found(name, about.st_size, about.st_mtime_ns))
            self.numbers.extend((about.st_dev, about.st_ino))
            return True
        return False

    def _begins_as_image(self, name: str) -> bool:
        try:
            with open_file(self.root / name) as file:
                return is_image(file.read(16))
        except (OSError, ValueError):
            return False
