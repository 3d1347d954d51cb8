"""ssl_zoo: self-supervised objectives for text and images, and a measure of what each is worth.

Names are imported when they are first used, so that the command line answers at once.
"""

import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_zoo.backbones.own import backbone as backbone
    from ssl_zoo.compose.gate import ConfigError as ConfigError
    from ssl_zoo.contract.check import check_objective as check_objective
    from ssl_zoo.data.own import rows as rows
    from ssl_zoo.data.rows import DataError as DataError
    from ssl_zoo.front.functions import embed as embed
    from ssl_zoo.front.functions import evaluate as evaluate
    from ssl_zoo.front.functions import export as export
    from ssl_zoo.front.functions import finetune as finetune
    from ssl_zoo.front.functions import generate as generate
    from ssl_zoo.front.functions import pretrain as pretrain
    from ssl_zoo.front.functions import report as report
    from ssl_zoo.front.functions import worth as worth
    from ssl_zoo.front.model import Answers as Answers
    from ssl_zoo.front.model import Model as Model
    from ssl_zoo.front.model import load as load
    from ssl_zoo.front.run import Run as Run
    from ssl_zoo.hub import HubError as HubError
    from ssl_zoo.hub import save as save
    from ssl_zoo.objectives._base import Batch as Batch
    from ssl_zoo.objectives._base import Loss as Loss
    from ssl_zoo.objectives._base import Objective as Objective
    from ssl_zoo.objectives._base import Sum as Sum
    from ssl_zoo.pretrain.checkpoint import CheckpointError as CheckpointError
    from ssl_zoo.pretrain.module import NonFinite as NonFinite
    from ssl_zoo.pretrain.session import RunError as RunError
    from ssl_zoo.transfer.table import Table as Table
    from ssl_zoo.transfer.vector_files import Vectors as Vectors
    from ssl_zoo.trial.answer import Answer as Answer

__version__ = "0.2.0"

# Public name -> the module of this package that defines it.
_HOME = {
    "pretrain": "front.functions",
    "evaluate": "front.functions",
    "finetune": "front.functions",
    "embed": "front.functions",
    "generate": "front.functions",
    "export": "front.functions",
    "report": "front.functions",
    "worth": "front.functions",
    "Run": "front.run",
    "Table": "transfer.table",
    "Vectors": "transfer.vector_files",
    "Answer": "trial.answer",
    "backbone": "backbones.own",
    "rows": "data.own",
    "ConfigError": "compose.gate",
    "DataError": "data.rows",
    "RunError": "pretrain.session",
    "CheckpointError": "pretrain.checkpoint",
    "NonFinite": "pretrain.module",
    "HubError": "hub",
    "check_objective": "contract.check",
    "load": "front.model",
    "Model": "front.model",
    "Answers": "front.model",
    "save": "hub",
    "Batch": "objectives._base",
    "Loss": "objectives._base",
    "Objective": "objectives._base",
    "Sum": "objectives._base",
}
# Whatever a file of objectives/ defines is found, so that a new one is a file and no line here.
for _file in (Path(__file__).parent / "objectives").glob("[!_]*.py"):
    for _name in re.findall(r"^class (\w+)\(", _file.read_text(encoding="utf-8"), re.MULTILINE):
        _HOME[_name] = f"objectives.{_file.stem}"
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ssl_zoo' has no attribute {name!r}")
    return getattr(import_module(f"ssl_zoo.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


class _Package(ModuleType):
    """Keeps `ssl_zoo.pretrain` and `ssl_zoo.export` the functions: once the packages of these names are
    imported, Python would put them there instead."""

    @property
    def pretrain(self):
        return __getattr__("pretrain")

    @pretrain.setter
    def pretrain(self, package: ModuleType) -> None:
        """Does nothing: `from ssl_zoo.pretrain import ...` finds the package all the same."""

    @property
    def export(self):
        return __getattr__("export")

    @export.setter
    def export(self, package: ModuleType) -> None:
        """Does nothing, as above."""


sys.modules[__name__].__class__ = _Package
