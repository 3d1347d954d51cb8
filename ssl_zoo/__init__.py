"""ssl_zoo: self-supervised objectives for text and images, and a measure of what each is worth.

Names are imported when they are first used, so that the command line answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl_zoo.contract.check import check_objective as check_objective
    from ssl_zoo.hub import load as load
    from ssl_zoo.hub import save as save
    from ssl_zoo.objectives._base import Batch as Batch
    from ssl_zoo.objectives._base import Loss as Loss
    from ssl_zoo.objectives._base import Objective as Objective
    from ssl_zoo.objectives._base import Sum as Sum
    from ssl_zoo.objectives.byol import BYOL as BYOL
    from ssl_zoo.objectives.crops import DocumentCrops as DocumentCrops
    from ssl_zoo.objectives.mae import MAE as MAE
    from ssl_zoo.objectives.masked_lm import MaskedLM as MaskedLM
    from ssl_zoo.objectives.moco import MoCo as MoCo
    from ssl_zoo.objectives.next_token import NextToken as NextToken
    from ssl_zoo.objectives.rotation import Rotation as Rotation
    from ssl_zoo.objectives.simclr import SimCLR as SimCLR
    from ssl_zoo.objectives.supervised import Supervised as Supervised

__version__ = "0.1.0"

_HOME = {
    "check_objective": "contract.check",
    "load": "hub",
    "save": "hub",
    "Batch": "objectives._base",
    "Loss": "objectives._base",
    "Objective": "objectives._base",
    "Sum": "objectives._base",
    "BYOL": "objectives.byol",
    "DocumentCrops": "objectives.crops",
    "MAE": "objectives.mae",
    "MaskedLM": "objectives.masked_lm",
    "MoCo": "objectives.moco",
    "NextToken": "objectives.next_token",
    "Rotation": "objectives.rotation",
    "SimCLR": "objectives.simclr",
    "Supervised": "objectives.supervised",
}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'ssl_zoo' has no attribute {name!r}")
    return getattr(import_module(f"ssl_zoo.{_HOME[name]}"), name)
