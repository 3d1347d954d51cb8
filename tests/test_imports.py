"""Who imports whom, read from the syntax trees, and what is not imported before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ssl_zoo
from ssl_zoo.leaderboard import definitions

PACKAGE = Path(ssl_zoo.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Where a third-party library may be imported, from the package's folder.
HOME = {
    "timm": ("backbones/_timm.py", "export/"),
    "gensim": ("transfer/word_floors.py",),
    "numba": ("views/loops.py", "views/rendering.py"),
    "transformers": ("backbones/hf.py", "export/"),
    "sentence_transformers": ("export/",),
    "onnx": ("export/",),
    "onnxruntime": ("export/",),
    "huggingface_hub": ("export/",),
    "lightning": ("pretrain/", "loggers.py", "transfer/finetune.py"),
    "jinja2": ("pages/",),
    "vl_convert": ("pages/",),
    "hydra": ("compose/",),
    "omegaconf": ("compose/", "cli/"),
}
# What each part of the library may import of the others. Names ending in a dot are whole packages.
BASE = ("tokens", "schedules", "noise", "distributed", "norm", "backbones._base")
STAGES = (*BASE, "hub", "optim", "pace", "products", "views.", "objectives._base", "data.", "transfer.")
BELOW = {
    "tokens": (),
    "schedules": (),
    "noise": (),
    "columns": (),
    "messages": (),
    "pace": ("messages",),
    "portable": (),
    "loggers": (),
    "distributed": (),
    "norm": ("distributed",),
    "flops": (),
    "scaling": (),
    "untrusted": (),
    "backbones": ("tokens", "distributed", "norm", "products", "backbones."),
    "assign": ("distributed",),
    "heads": BASE,
    "hog": ("heads",),
    "stages": ("backbones._base",),
    "sparse": ("norm", "tokens"),
    "codebook": ("distributed", "heads", "memory", "products"),
    "decoders": (),
    "products": (),
    "token_scores": (*BASE, "heads", "products"),
    "teacher": (),
    "memory": ("distributed", "backbones._base"),
    "kmeans": ("distributed", "memory", "noise", "products"),
    "views": (*BASE, "messages", "views."),
    "contract": (*BASE, "hub", "backbones.", "objectives._base", "contract."),
    "contrast": ("distributed", "heads"),
    "covariance": (),
    "normality": ("heads",),
    "objectives": (
        *BASE,
        "assign",
        "codebook",
        "columns",
        "contrast",
        "covariance",
        "decoders",
        "heads",
        "hog",
        "hub",
        "kmeans",
        "memory",
        "normality",
        "sparse",
        "stages",
        "teacher",
        "token_scores",
        "views.",
        "backbones.patches",  # whose words one objective finds, and nobody else reads
        "objectives._base",
        "objectives._distilled",
        "objectives._dropped",
        "objectives._joint",
        "objectives._latent",
        "objectives._masked",
        "objectives._shown",
        "objectives._taught",
        "objectives._towers",
        "objectives._trunks",
    ),
    "optim": (*BASE, "objectives._base"),
    "hub": ("backbones.", "portable", "untrusted"),
    "data": (*BASE, "memory", "messages", "objectives._base", "portable", "data.", "untrusted"),
    "transfer": (*STAGES, "flops", "heads", "untrusted", "backbones.stepping"),  # by which text is written
    "leaderboard": ("data.", "portable", "transfer.", "pretrain.", "leaderboard."),
    "trial": ("leaderboard.", "pretrain.writing", "transfer.efficiency", "transfer.report", "trial."),
    "pages": (*BASE, "views.", "objectives.", "data.", "transfer.", "leaderboard.", "trial.", "pages."),
    "pretrain": (*STAGES, "loggers", "messages", "portable", "pretrain."),
    "export": (
        *BASE,
        "backbones.",
        "data.text_rows",
        "data.tokenizer",
        "hub",
        "transfer.report",
        "untrusted",
        "export.",
    ),
    "front": (
        *BASE,
        "compose.",
        "data.rows",
        "front.",
        "hub",
        "messages",
        "objectives._base",
        "transfer.embed",
        "transfer.kept",
        "transfer.model_file",
        "transfer.predictions",
        "transfer.table",
        "transfer.tasks.model",
        "transfer.tuned_completion",
        "transfer.vector_files",
        "trial.answer",
    ),
}


def imports(tree: ast.AST) -> set[str]:
    """Every module that is imported anywhere in the file: at its top, in functions, for type checkers."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names} - {"ssl_zoo.__version__"}
            modules = {name for name in names if is_module(name)}
            public = node.module == "ssl_zoo"  # its names stand for modules
            found |= modules | (names if public else {str(node.module)} if names - modules else set())
    return found


def is_module(name: str) -> bool:
    path = PACKAGE.parent / name.replace(".", "/")
    return name.startswith("ssl_zoo.") and (path.with_suffix(".py").exists() or path.is_dir())


def faults(file: str, text: str) -> list[str]:
    """What a file of the package imports but may not."""
    found = []
    part = file.removesuffix(".py").split("/")[0]
    for name in sorted(imports(ast.parse(text))):
        root, _, rest = name.partition(".")
        if root in HOME and not file.startswith(HOME[root]):
            found.append(f"{file} imports {name}: only {', '.join(HOME[root])} may")
        if (
            root == "ssl_zoo"
            and rest
            and part in BELOW
            and not f"{rest}.".startswith(tuple(dotted(BELOW[part])))
        ):
            found.append(f"{file} imports {name}: {part} may import {', '.join(BELOW[part]) or 'nothing'}")
    return found


def dotted(names: tuple[str, ...]) -> list[str]:
    return [name if name.endswith(".") else f"{name}." for name in names]


@pytest.mark.parametrize("file", [str(file.relative_to(PACKAGE)) for file in FILES])
def test_imports_go_downwards(file):
    if file != "__init__.py":  # the public names, imported when first used
        assert not faults(file, (PACKAGE / file).read_text())


def test_benchmarks_and_documents_import_what_there_is():
    files = [file for room in ("benchmarks", "docs") for file in (PACKAGE.parent / room).rglob("*.py")]
    assert files
    for file in files:
        for name in definitions.imported(ast.parse(file.read_text())).values():
            if name.startswith("ssl_zoo."):
                assert isinstance(definitions.resolve(name), definitions.Definition), f"{file}: {name}"


def test_every_part_has_its_rules():
    parts = {file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in FILES}
    missing = "a new part of the library needs a line in BELOW"
    assert parts - set(BELOW) == {"__init__", "cli", "compose"}, missing


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("objectives/mae.py", "from ssl_zoo.objectives.simclr import SimCLR"),
        ("objectives/mae.py", "import ssl_zoo.pretrain.module"),
        ("objectives/mae.py", "from ssl_zoo.data.plan import Plan"),
        ("objectives/mae.py", "def f():\n    import timm.layers"),
        ("objectives/mae.py", "import lightning as L"),
        ("backbones/vision.py", "from timm import create_model"),
        ("backbones/transformer.py", "from transformers import AutoModel"),
        ("pretrain/export.py", "import timm"),
        ("transfer/knn.py", "import onnxruntime"),
        ("export/card.py", "from ssl_zoo.pretrain.run import environment"),
        ("export/doors.py", "from ssl_zoo.compose.gate import ConfigError"),
        ("transfer/knn.py", "from lightning import Trainer"),
        ("pretrain/run.py", "from hydra.utils import instantiate"),
        ("data/plan.py", "from ssl_zoo.objectives import mae"),
        ("data/plan.py", "from ssl_zoo import hub"),
        ("heads.py", "from ssl_zoo.backbones.vision import TimmViT"),
        ("tokens.py", "from ssl_zoo import distributed"),
        ("leaderboard/unit.py", "from ssl_zoo.compose import composition"),
        ("leaderboard/check.py", "from omegaconf import OmegaConf"),
        ("pretrain/run.py", "from ssl_zoo import SimCLR, __version__"),
    ],
)
def test_the_rules_catch(file, text):
    assert len(faults(file, text)) == 1


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("objectives/mae.py", "from ssl_zoo.objectives._base import Batch"),
        ("data/rows.py", "from ssl_zoo.objectives._base import Batch"),
        ("transfer/finetune.py", "import lightning"),
        ("pretrain/run.py", "import ssl_zoo\nfrom ssl_zoo import __version__, hub"),
        ("compose/composition.py", "import hydra, ssl_zoo.pretrain"),
    ],
)
def test_the_rules_allow(file, text):
    assert faults(file, text) == []


QUICK = {
    "import": "import ssl_zoo, ssl_zoo.cli; assert 'NextToken' in ssl_zoo.__all__",
    "help": "import sys; sys.argv = ['ssl-zoo', '--help']; from ssl_zoo.cli import main; main()",
    "list": "import sys; sys.argv = ['ssl-zoo', 'list']; from ssl_zoo.cli import main; main()",
}
TABLE = QUICK["list"].replace("'list'", "'leaderboard', 'show', 'digits'")


@pytest.mark.parametrize("what", QUICK)
def test_it_answers_without_importing_torch(what):
    check = "import sys; heavy = {'torch', 'timm', 'transformers', 'lightning', 'numpy'} & set(sys.modules)"
    code = f"{QUICK[what]}\n{check}\nassert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if what == "help":
        assert "ssl-zoo pretrain" in done.stdout
    if what == "list":
        assert "simclr_small" in done.stdout


def test_a_table_is_shown_without_torch_data_and_composing():
    heavy = "{'torch', 'hydra', 'omegaconf', 'lightning', 'sklearn', 'ssl_zoo.data', 'ssl_zoo.compose'}"
    code = f"{TABLE}\nheavy = {heavy} & set(sys.modules)\nassert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "SimCLR, small ResNet" in done.stdout


def test_what_does_not_pretrain_starts_without_the_trainer():
    """Lightning imports torchmetrics, which imports transformers and torchvision: five seconds."""
    verbs = ", ".join(
        f"ssl_zoo.cli.{verb}"
        for verb in ("evaluate", "embed", "predict", "generate", "export", "report", "look", "finetune")
    )
    heavy = "{'lightning', 'torchmetrics', 'transformers', 'torchvision'}"
    code = f"import sys, {verbs}\nheavy = {heavy} & set(sys.modules)\nassert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there():
    for name in ssl_zoo.__all__:
        assert getattr(ssl_zoo, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = ssl_zoo.Nothing
