"""Files of text: opened whatever they are packed in, checked for being text at all, and read line by line.

Files that end in .gz, .xz, .bz2 or .zst are unpacked on the way. Text is UTF-8; a byte order mark is dropped
and CRLF becomes LF, as does a lone CR where a file knows no other line end (old Mac).
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

from ssl_zoo.data.rows import DataError
from ssl_zoo.data.zstandard import open_zstd

Errors = Literal["strict", "replace"]
PACKED: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".bz2": bz2.open,
    ".zst": open_zstd,
}
CHUNK = 1 << 20  # bytes read at a time
SMALL = 1 << 24  # bytes that any packed file may unpack to, however small it is

# What begins a file that is no text, and what to do about it.
UNPACK = "unpack it first (.gz, .xz, .bz2 and .zst are read as they are, if the name ends so)"
CONVERT = "save its text as .txt or .jsonl first"
BEGINNINGS = {
    b"\x1f\x8b": ("packed with gzip", UNPACK),
    b"BZh": ("packed with bzip2", UNPACK),
    b"\xfd7zXZ": ("packed with xz", UNPACK),
    b"\x28\xb5\x2f\xfd": ("packed with Zstandard", UNPACK),
    b"\x04\x22\x4d\x18": ("packed with LZ4", UNPACK),
    b"7z\xbc\xaf": ("a 7z archive", UNPACK),
    b"Rar!": ("a RAR archive", UNPACK),
    b"PK\x03\x04": ("a ZIP archive or an office document", "unpack it, or save its text as .txt, first"),
    b"%PDF-": ("a PDF", CONVERT),
    b"\xd0\xcf\x11\xe0": ("an office document", CONVERT),
    b"PAR1": ("a Parquet file", CONVERT),
    b"ARROW1": ("an Arrow file", CONVERT),
    b"\xff\xfe": ("UTF-16", "save it as UTF-8"),
    b"\xfe\xff": ("UTF-16", "save it as UTF-8"),
}
# Suffixes of files that would be read as prose by mistake: what such a file is, and what would work.
TABLES = {".csv", ".tsv", ".json", ".parquet"}
OTHER = {
    **dict.fromkeys([".html", ".htm", ".xhtml", ".xml"], ("markup", "save the text in it as .txt")),
    **dict.fromkeys([".ipynb", ".rtf"], ("a document with markup", CONVERT)),
    **dict.fromkeys(
        [
            ".arrow",
            ".feather",
            ".orc",
            ".npy",
            ".npz",
            ".pkl",
            ".pickle",
            ".pt",
            ".db",
            ".sqlite",
        ],
        ("binary data", CONVERT),
    ),
    **dict.fromkeys(
        [".zstd", ".zip", ".7z", ".rar", ".tar", ".tgz", ".lz4", ".lzma", ".z", ".br"],
        ("packed", UNPACK),
    ),
    **dict.fromkeys(
        [".pdf", ".docx", ".doc", ".odt", ".epub", ".xlsx", ".xls", ".pptx"], ("an office document", CONVERT)
    ),
}


@dataclass(frozen=True)
class Limits:
    """What a file may ask of memory and disk; TextData's options of these names raise them.

    Attributes:
        max_document_bytes: of one document, line, or row of a table.
        max_unpacking_ratio: how many times its own size a packed file may unpack to, beyond 16 MiB.
    """

    max_document_bytes: int = 1 << 28
    max_unpacking_ratio: int = 256


LIMITS = Limits()


def kind(path: Path) -> str:
    """The suffix that says what is in a file: .txt for a.TXT.xz."""
    return Path(path.stem if path.suffix.lower() in PACKED else path.name).suffix.lower()


def refuse_other(path: Path, tables: bool = False) -> None:
    """Raise DataError for a file that is no text by its suffix; `tables` lets `TABLES` pass."""
    if kind(path) in TABLES and not tables:
        raise DataError(
            f"{path} is a table, not running text: name the column of the text, with format: {{_target_: "
            "ssl_zoo.data.text_formats.Table, text: COLUMN}"
        )
    if kind(path) in OTHER:
        what, cure = OTHER[kind(path)]
        raise DataError(f"{path} is not text but {what} by its name: {cure}")


def lines(path: Path, errors: Errors = "strict", limits: Limits = LIMITS) -> Iterator[str]:
    """Lines of a UTF-8 file, each with its line feed.

    Raises:
        DataError: the file cannot be read or unpacked, is no text, exceeds a limit, or holds a byte that is
            NUL or not UTF-8 (with its line and its offset in the unpacked text).
    """
    offset = number = 0
    try:
        with _open(path) as stream:
            for number, raw in enumerate(_split(path, _chunks(path, stream, limits), limits), 1):
                if offset == 0:
                    bom = raw.startswith(b"\xef\xbb\xbf")
                    raw, offset = (raw[3:], 3) if bom else (raw, 0)
                if b"\0" in raw:
                    if errors == "strict":
                        at = offset + raw.index(0)
                        raise DataError(
                            f"{path}, line {number}: byte {at} of the text is NUL (0x00), which text does "
                            "not hold. Mend the file, or set data.errors=replace to put U+FFFD in its place"
                        )
                    raw = raw.replace(b"\0", "\ufffd".encode())
                yield raw.decode("utf-8", errors).replace("\r\n", "\n")
                offset += len(raw)
    except UnicodeDecodeError as error:
        at, byte = offset + error.start, error.object[error.start]
        raise DataError(
            f"{path}, line {number}: byte {at} of the text (0x{byte:02x}) is not UTF-8. Save the file "
            "as UTF-8, or set data.errors=replace to put U+FFFD in its place"
        ) from error
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], PACKED.get(path.suffix.lower(), open)(path, "rb"))


def _chunks(path: Path, stream: IO[bytes], limits: Limits) -> Iterator[bytes]:
    packed, total = path.suffix.lower() in PACKED, 0
    most = max(SMALL, limits.max_unpacking_ratio * path.stat().st_size)
    while chunk := stream.read(CHUNK):
        if not total:
            _refuse_binary(path, chunk)
        total += len(chunk)
        if packed and total > most:
            raise DataError(
                f"{path} unpacks to more than {most:,} bytes, {limits.max_unpacking_ratio} times its size, "
                "as a decompression bomb does: if it is text all the same, raise max_unpacking_ratio"
            )
        yield chunk


def _split(path: Path, chunks: Iterable[bytes], limits: Limits) -> Iterator[bytes]:
    """Lines with their ends, none over the limit."""
    end, rest, size = b"", [], 0
    for chunk in chunks:
        # Only where the first megabyte has no line feed at all can a carriage return be what ends lines.
        end = end or (b"\r" if b"\r" in chunk and b"\n" not in chunk else b"\n")
        first, *others = chunk.split(end)
        rest.append(first)
        size += len(first)
        if max(size, *map(len, others), 0) > limits.max_document_bytes:
            raise too_long(f"{path}: a line", limits)
        if others:
            yield b"".join(rest) + b"\n"
            for line in others[:-1]:
                yield line + b"\n"
            rest, size = [others[-1]], len(others[-1])
    if size:
        yield b"".join(rest)


def too_long(what: str, limits: Limits) -> DataError:
    """The error to raise for `what` where it has more bytes than a document may have."""
    return DataError(
        f"{what} has more than {limits.max_document_bytes:,} bytes: part it, or raise max_document_bytes if "
        "memory holds several times as much"
    )


def _refuse_binary(path: Path, head: bytes) -> None:
    """Raise DataError if a file that begins with `head` is no text, which has few control bytes."""
    head = head[: 1 << 16]
    controls = len(head) - len(head.translate(None, _CONTROLS))
    for begin, (what, cure) in BEGINNINGS.items():
        if head.startswith(begin) and (controls or not head.isascii()):
            raise DataError(f"{path} is not text but {what} by its content: {cure}")
    if head[257:262] == b"ustar":
        raise DataError(f"{path} is not text but a tar archive by its content: unpack it first")
    # About a tenth of compressed bytes are control bytes. A stray one in a text is left to `lines`.
    if controls > max(8, 0.02 * len(head)):
        raise DataError(
            f"{path} is not text: {controls:,} of its first {len(head):,} bytes are control characters. "
            f"If its text is packed, {UNPACK}; if it is UTF-16, save it as UTF-8"
        )


_CONTROLS = bytes(b for b in range(32) if b not in b"\t\n\v\f\r\b\x1b")
