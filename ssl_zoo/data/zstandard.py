"""Files packed with Zstandard, unpacked as they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssl_zoo.data.rows import DataError


def open_zstd(path: Path, mode: str = "rb") -> Any:
    """A file's unpacked bytes, as an open file; `mode` is what `open` takes, and only "rb" is known.

    Raises:
        DataError: pyarrow, which unpacks, is not installed.
        OSError: the file cannot be read; while reading, it is damaged or cut off.
    """
    assert mode == "rb"
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(
            f"{path}: what is packed as .zst needs pyarrow: pip install 'ssl-zoo[parquet]'"
        ) from error
    return pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
