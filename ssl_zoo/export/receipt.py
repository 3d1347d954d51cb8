"""The receipt of an export: recipe, code, data, seed and digest, which `ssl-zoo reproduce FILE` runs again.

It is a JSON object under the key `ssl_zoo` of the metadata of a safetensors or ONNX file. Words that begin
with DATA/ in its recipe are paths in the folder of data sets, which lies elsewhere on another machine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ssl_zoo.export._base import KEY, ExportError
from ssl_zoo.untrusted import LARGEST

FORMAT = 1
NEEDED = {"format": int, "config": dict, "weights": str, "backbone": str, "seed": int}
LONGEST = LARGEST  # characters


def read(path: Path) -> dict[str, Any]:
    """The receipt in a file, or in the first file of a folder that has one.

    Raises:
        ExportError: there is no file, none with a receipt, or a receipt that this version cannot read.
    """
    if not path.exists():
        raise ExportError(f"{path} does not exist; name a file that `ssl-zoo export` wrote, or its folder")
    files = [path]
    if path.is_dir():
        files = sorted(one for end in ("safetensors", "onnx") for one in path.rglob(f"*.{end}"))
    text = next(filter(None, map(found, files)), None)
    if text is None:
        raise ExportError(
            f"{path} holds no receipt: only exports of runs have one, in a .safetensors or .onnx file"
        )
    return checked(text, path)


def found(file: Path) -> str | None:
    """The text of the receipt in a file; None without one. Raises ExportError for a damaged file."""
    try:
        if file.suffix == ".onnx":
            import onnx

            model = onnx.load(str(file), load_external_data=False)
            return next((one.value for one in model.metadata_props if one.key == KEY), None)
        with safe_open(file, "pt") as opened:
            return (opened.metadata() or {}).get(KEY)
    except ImportError as error:
        raise ExportError(f"{file} is an ONNX file: pip install 'ssl-zoo[onnx]'") from error
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{file} cannot be read: {error}") from error
    except Exception as error:  # protobuf's errors have no common class
        raise ExportError(f"{file} is no ONNX file: {error}") from error


def checked(text: str, path: Path) -> dict[str, Any]:
    """A receipt from its text.

    Raises:
        ExportError: it is no JSON object, lacks something, or is of a newer version.
    """
    try:
        made = json.loads(text) if len(text) <= LONGEST else None
    except (ValueError, RecursionError):
        made = None
    if not isinstance(made, dict):
        raise ExportError(f"the receipt in {path} is damaged: it is no JSON object")
    if wrong := [key for key, kind in NEEDED.items() if not isinstance(made.get(key), kind)]:
        raise ExportError(f"the receipt in {path} is damaged: it lacks {', '.join(wrong)}")
    if made["format"] != FORMAT:
        raise ExportError(
            f"the receipt in {path} is of format {made['format']}, not {FORMAT}: update ssl_zoo"
        )
    return made
