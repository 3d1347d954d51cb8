"""What code hands over as an object in the place of a configuration: its own objective, backbone or rows.

A run writes down what they are called. What only names them cannot be built again: whoever opens such a run
later hands over the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from torch import nn

from ssl_zoo.backbones._base import Backbone
from ssl_zoo.compose.gate import HANDED_OVER, ConfigError
from ssl_zoo.compose.own_data import HELD_OUT, WHOLE
from ssl_zoo.data.image_captions import ImageCaptions
from ssl_zoo.data.image_streams import ImageStream
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.own import PARTS, OwnData, refuse_others
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.data.text_streams import TextStream
from ssl_zoo.objectives._base import Objective

DATA = (ImageData, ImageCaptions, ImageStream, TextData, TextStream, TextPairs, OwnData)


@dataclass(frozen=True)
class Objects:
    """Live objects by the group that each stands for; None where the configuration says it.

    Attributes:
        objective: a function that makes the objective of a backbone, as a class or a partial does.
        backbone: which is trained itself, and not copied.
        data: one of `DATA`.
    """

    objective: Callable[[Backbone], Objective] | None = None
    backbone: Backbone | None = None
    data: Any = None

    def described(self) -> dict[str, dict[str, Any]]:
        """Group -> what config.yaml says of it."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {group: described(one) for group, one in found.items() if one is not None}


NONE = Objects()


def described(one: Any) -> dict[str, Any]:
    """What config.yaml says of an object: its full name and those of its arguments that are plain values."""
    made = one.func if isinstance(one, partial) else one
    kind = made if isinstance(made, type) or not isinstance(made, (Backbone, *DATA)) else type(made)
    about = {"_target_": named(kind), HANDED_OVER: True}
    if isinstance(one, partial):
        about |= {key: value for key, value in one.keywords.items() if is_plain(value)}
    if isinstance(one, Backbone):
        about |= {key: value for key, value in one.config.items() if is_plain(value)}
    if isinstance(one, DATA):
        about["name"] = one.name
    if isinstance(one, ImageData | ImageCaptions | ImageStream | OwnData):
        about["image_size"] = one.image_size
    return about


def named(made: Any) -> str:
    """The full name of a class or function, as far as it has one."""
    return f"{getattr(made, '__module__', '')}.{getattr(made, '__qualname__', type(made).__name__)}"


def is_plain(value: Any) -> bool:
    """Whether YAML holds it."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_plain(one) for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def can_be_named(made: Any) -> bool:
    """Whether the configuration can say which class this is: its module has it by its name.

    A class within a function or another class has a name with dots, which no attribute of a module has.
    """
    return getattr(sys.modules.get(made.__module__), made.__qualname__, None) is made


def as_objective(given: Any) -> Callable[[Backbone], Objective]:
    """A function that makes the objective around its backbone.

    Raises:
        ConfigError: something else, with what to hand over instead.
    """
    if isinstance(given, Objective):
        raise ConfigError(
            f"objective: this {type(given).__name__} has a backbone already. Hand over its class, or "
            "functools.partial(ITS_CLASS, ...): the run builds it around backbone=..."
        )
    if isinstance(given, nn.Module) or not callable(given):
        raise ConfigError(
            f"objective: {type(given).__name__} is no objective. Take a name ('simclr'), a subclass of "
            "ssl_zoo.Objective, or a function that makes one of a backbone"
        )
    if isinstance(given, type) and not issubclass(given, Objective):
        raise ConfigError(
            f"objective: {given.__name__} is not a subclass of ssl_zoo.Objective: derive it from that"
        )
    return given  # pyright: ignore[reportReturnType]


def as_backbone(given: Any) -> Backbone:
    """The backbone that was given.

    Raises:
        ConfigError: something else, with what to wrap it in.
    """
    if isinstance(given, Backbone):
        return given
    if isinstance(given, nn.Module):
        raise ConfigError(
            f"backbone: {type(given).__name__} is a plain nn.Module: take backbone=ssl_zoo.backbone(module)"
        )
    if isinstance(given, type):
        raise ConfigError(f"backbone: {given.__name__} is a class: hand over an instance of it")
    raise ConfigError(
        f"backbone: {type(given).__name__} is no backbone. Take a name ('resnet18') or "
        "ssl_zoo.backbone(module)"
    )


def as_data(given: Any, verb: str) -> Any:
    """A data set with splits: what was given, or one around the rows that were given.

    Args:
        given: one of `DATA`, rows, or a mapping of "train", "validation" and "test" to rows.
        verb: evaluate needs a test split, which is carved from train if it is missing; what reads all that
            there is carves nothing.

    Raises:
        ConfigError, DataError: something else, with what to wrap it in.
    """
    if isinstance(given, DATA):
        return given
    parts = given if isinstance(given, Mapping) else {"train": given}
    for split, rows in parts.items():
        if split not in PARTS:
            raise ConfigError(f"data: rows are given for train, validation and test, not for {split!r}")
        if not hasattr(rows, "read") or not hasattr(rows, "fingerprint"):
            refuse_others(rows)
            raise ConfigError(f"data: {type(rows).__name__} is no rows yet: wrap it, data=ssl_zoo.rows(...)")
    validation = 0.0 if verb in WHOLE else 0.1
    return OwnData("own", parts, {"validation": validation, "test": HELD_OUT if verb == "evaluate" else 0.0})
