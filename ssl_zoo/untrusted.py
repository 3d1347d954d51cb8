"""Reading what strangers wrote: JSON files, and descriptions of models to build.

A description may not name more than memory holds. Sizes are not judged by their names: what is built is
watched while it is built, and stopped before a tensor that is too large is made (`Bounded`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

LARGEST = 1 << 24  # no width, depth, vocabulary or side of an image is larger in any model
OPERATIONS = 300_000  # of PyTorch, to build one model; the deepest published ones need some ten thousands
FREE = ("rope_theta",)  # keys of any number: they are wavelengths, not sizes


class Untrusted(ValueError):
    """A file of a stranger says what cannot be taken; the message names it."""


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        OSError: the file cannot be read.
        Untrusted: it is not UTF-8, not JSON, nested too deeply, holds a number of thousands of digits, NaN or
            infinity, or is no object.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise Untrusted(f"{file} is nested too deeply to be read") from error
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise Untrusted(f"{file} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise Untrusted(f"{file} holds a {type(found).__name__}, not an object with keys")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number that JSON has")


def refuse_odd_values(config: dict[str, Any]) -> None:
    """Refuse what is no plain JSON value, and numbers that no model has.

    Raises:
        Untrusted: there is such a value; the message names its full key.
    """
    ahead: list[tuple[str, Any]] = list(config.items())
    while ahead:
        key, value = ahead.pop()
        if isinstance(value, (dict, list, tuple)):
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            ahead += [(f"{key}.{name}" if len(key) < 200 else key, one) for name, one in inner]
        elif value is not None and not isinstance(value, (bool, int, float, str)):
            raise Untrusted(f"{key} is a {type(value).__name__}, which is no JSON value")
        elif isinstance(value, float) and not math.isfinite(value):
            raise Untrusted(f"{key}={value} is not a finite number")
        elif isinstance(value, int) and abs(value) > LARGEST and key.rpartition(".")[2] not in FREE:
            raise Untrusted(
                f"{key} is a number of {len(bin(value)) - 2} bits; none over {LARGEST:,} is taken"
            )


class Bounded(TorchDispatchMode):
    """Within, tensors may be made up to `limit` bytes in all, counted as float32.

    Raises:
        Untrusted: a tensor that goes beyond is about to be made, or too many operations have been done.
    """

    def __init__(self, limit: int):
        super().__init__()
        self.limit, self.taken, self.count = limit, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.count += args[0].shape[0] if func is torch.ops.aten.unbind.int else 1
        if self.count > OPERATIONS:
            raise Untrusted(f"the model is too deep: it takes more than {OPERATIONS:,} operations to make")
        for numbers, lasts in asked(func, args, kwargs):
            size = 4 * numbers + (self.taken if lasts else 0)
            self.taken = size if lasts else self.taken
            if size > self.limit:
                raise Untrusted(
                    f"the model takes {size / 1e6:,.0f} MB or more, and {self.limit / 1e6:,.0f} MB are what "
                    "it may have"
                )
        return func(*args, **kwargs)


def asked(func: Any, args: Any, kwargs: Any) -> Iterator[tuple[int, bool]]:
    """How many numbers an operation of PyTorch makes, and whether they count until the end.

    Those of a new tensor do, as it may be a weight; the result of an operation on tensors lasts for a while.
    """
    names = [argument.name for argument in func._schema.arguments]
    given = dict(zip(names, args, strict=False)) | kwargs
    tensors = [value for value in given.values() if isinstance(value, Tensor)]
    if any(tensor.is_meta for tensor in tensors) or torch.device(given.get("device") or "cpu").type == "meta":
        return
    packet = func._schema.name.partition("::")[2]
    if "size" in given and (not tensors or packet.startswith("new_")):
        yield math.prod(map(int, given["size"])), True
    elif packet in ("arange", "linspace", "logspace"):
        steps = (given["end"] - given.get("start", 0)) / given.get("step", 1)
        yield int(given.get("steps") or abs(steps)), True
    elif packet == "eye":
        yield int(given["n"]) * int(given.get("m", given["n"])), True
    elif packet == "repeat":
        yield tensors[0].numel() * math.prod(map(int, given["repeats"])), True
    elif len(tensors) > 1:  # operations on pairs of numbers make large of small: (N, 1) with (1, N)
        try:
            yield math.prod(torch.broadcast_shapes(*(tensor.shape for tensor in tensors))), False
        except RuntimeError:
            return
