"""Stage 1: the Lightning trainer around an objective.

Names are imported when they are first used: what only reads runs does without Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_zoo.pretrain.budget import Budget as Budget
    from ssl_zoo.pretrain.data import PretrainingData as PretrainingData
    from ssl_zoo.pretrain.fsdp2 import FSDP2 as FSDP2
    from ssl_zoo.pretrain.module import Pretraining as Pretraining
    from ssl_zoo.pretrain.run import pretrain as pretrain

_HOME = {
    "Budget": "budget",
    "FSDP2": "fsdp2",
    "PretrainingData": "data",
    "Pretraining": "module",
    "pretrain": "run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
