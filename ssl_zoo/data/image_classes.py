"""Class indices and their limit, and a file of class names, whose line i, counted from 0, names class i."""

from __future__ import annotations

from pathlib import Path

from ssl_zoo.data.image_decoding import open_file
from ssl_zoo.data.rows import DataError

CLASSES = 1_000_000  # more than any set of images has; names are made for all of them
LARGEST = 1 << 26  # bytes of a file of names


def class_index(label: int, name: str) -> int:
    """The label as a class index; -1, which means no label, for any number below 0.

    Raises:
        DataError: it is `CLASSES` or more; the message calls the image `name`.
    """
    if label >= CLASSES:
        raise DataError(f"{name} has the class {label}; class indices count from 0 and end below {CLASSES:,}")
    return max(label, -1)


def read_names(path: Path) -> tuple[str, ...]:
    """The names in a file, in the order of the classes.

    Raises:
        DataError: there is no such file, it is not UTF-8, a line between others is empty, or a name is there
            twice.
    """
    try:
        with open_file(path) as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise DataError(f"the file of class names {str(path)!r} does not exist") from None
    except (OSError, ValueError) as error:
        raise DataError(f"the file of class names {str(path)!r} cannot be read: {error}") from error
    if len(content) > LARGEST:
        raise DataError(f"the file of class names {str(path)!r} has more than {LARGEST:,} bytes")
    names: dict[str, int] = {}
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").rstrip().splitlines(), start=1):
        try:
            name = line.decode().strip()
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number}: {line[:40]!r} is not UTF-8 ({error})") from None
        if not name:
            raise DataError(
                f"{path}, line {number} is empty: each line names a class, and none may be skipped"
            )
        if name in names:
            raise DataError(f"{path}, line {number}: the class {name!r} is also named in line {names[name]}")
        names[name] = number
    return tuple(names)
