"""CoNLL-style files: a token and its tag on each line, sentences parted by blank lines.

Columns are parted by tabs, where a line has one, else by white space. The first column is the token, the last
one the tag. Lines that begin with -DOCSTART- are left out, as are comments of the form `# name = value`.
"""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from ssl_zoo.data.items import Item
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text_files import lines

_COMMENT = re.compile(r"# ?[\w. ]+ = ")
_TAG = re.compile(r"O|[BIESLU]-\S+")
DOCUMENT = "-DOCSTART-"


def read_conll(path: Path, tag: int | None = None) -> list[Item]:
    """The sentences of a file: `input` and `target` are tuples of words and of tags, equally long.

    Args:
        tag: the number of the column with the tag, from 0; None = the last one. A file of one column has no
            tags, and its targets are None.

    Raises:
        DataError: with the line: rows of several widths, a column that is not there, or no sentence at all.
    """
    found: list[Item] = []
    words: list[str] = []
    tags: list[str] = []
    width = 0

    def close() -> None:
        if words:
            target = tuple(tags) if width > 1 else None
            found.append(Item(str(path), len(found), tuple(words), target))
        words.clear()
        tags.clear()

    for number, line in enumerate(lines(path), 1):
        cells = columns(line)
        if not cells:
            close()
            continue
        if cells[0] == DOCUMENT or _COMMENT.match(line):
            continue
        width = width or len(cells)
        if len(cells) != width:
            raise DataError(
                f"{path}, line {number} has {len(cells)} columns, and the first one has {width}: a line is a "
                "token and what belongs to it, and a blank line ends a sentence"
            )
        if tag is not None and not 0 <= tag < width:
            raise DataError(f"{path}, line {number} has {width} columns, and tag={tag} is wanted, from 0")
        if tag == 0:
            raise DataError(f"{path}: column 0 is the token; tag= is another one, 1 to {width - 1}")
        if not cells[0].strip() or not (mark := cells[-1 if tag is None else tag].strip()):
            raise DataError(f"{path}, line {number} has an empty cell where a token or its tag should be")
        words.append(cells[0].strip())
        tags.append(mark)
    close()
    if not found:
        raise DataError(f"{path} holds no sentence: a token and its tag on each line, blank lines between")
    return found


def columns(line: str) -> list[str]:
    """The cells of a line; none of a blank one."""
    line = line.rstrip("\r\n")
    if not line.strip():
        return []
    return line.split("\t") if "\t" in line else line.split()


def looks_like_conll(path: Path) -> bool:
    """Whether a text file is one, as its first lines tell: two or more columns, and tags of spans."""
    head = [cells for line in islice(lines(path), 200) if (cells := columns(line)) and cells[0] != DOCUMENT]
    widths = {len(cells) for cells in head}
    return len(widths) == 1 and min(widths) > 1 and all(_TAG.fullmatch(cells[-1].strip()) for cells in head)


def one_word_a_line(path: Path) -> bool:
    """Whether a text file is a column of tokens without tags: words alone on their lines, with blank ones."""
    head = [columns(line) for line in islice(lines(path), 200)]
    return any(not cells for cells in head) and all(len(cells) < 2 for cells in head)


def read_sentences(path: Path) -> list[Item]:
    """The sentences of running text, one a line, whose words white space parts; without tags.

    Raises:
        DataError: there is none.
    """
    found = [tuple(line.split()) for line in lines(path) if line.strip()]
    if not found:
        raise DataError(f"{path} holds no sentence: one a line, its words parted by spaces")
    return [Item(str(path), i, words) for i, words in enumerate(found)]
