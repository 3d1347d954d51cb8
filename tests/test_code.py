"""The hash of code behind a line: what changes it, and what leaves it standing. On a copy of the package."""

import shutil

import pytest

import ssl_zoo
from ssl_zoo.leaderboard import code, definitions
from ssl_zoo.leaderboard.definitions import Definition, digest, reached, resolve


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package, which is read in its place."""
    copy = tmp_path / "ssl_zoo"
    shutil.copytree(
        definitions.PACKAGE,
        copy,
        ignore=lambda _, names: [n for n in names if "." in n and not n.endswith(".py")],
    )
    monkeypatch.setattr(definitions, "PACKAGE", copy)
    monkeypatch.setattr(code, "PACKAGE", copy)
    definitions.forget()
    yield copy
    definitions.forget()


def edit(file, old="", new=""):
    """Replace text in a file; without an old one, add it to the end."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1) if old else text + new)
    definitions.forget()


SIMCLR = (
    ["ssl_zoo.objectives.simclr.SimCLR", "ssl_zoo.views.recipes.simclr"],
    ["ssl_zoo.backbones.vision.timm_backbone"],
    ["ssl_zoo.optim.adamw", "ssl_zoo.schedules.cosine"],
    ["ssl_zoo.data.images.ImageData"],
)


def hashes():
    found = code.pretraining(*SIMCLR)
    return found | {"linear": code.transfer(["ssl_zoo.transfer.protocols.Linear"])}


def changed(before):
    now = hashes()
    return {part for part in now if now[part] != before[part]}


def test_what_is_added_to_shared_files_makes_no_line_stale(package):
    before = hashes()
    assert set(before) == {"backbone", "views", "objective", "training", "linear"}
    for name in (
        "heads",
        "optim",
        "schedules",
        "noise",
        "views/recipes",
        "backbones/_base",
        "objectives/_base",
    ):
        edit(
            package / f"{name}.py",
            new='\n\ndef brand_new(x: int) -> int:\n    """Words."""\n    return x + 1\n',
        )
    edit(package / "transfer/protocols.py", new="\n\nBRAND_NEW = 1\n")
    edit(package / "objectives/mae.py", "import torch\n", "import torch\nimport numpy\n")
    edit(package / "objectives/simclr.py", "class SimCLR", "# why\nclass SimCLR")
    edit(package / "objectives/simclr.py", "temperature: float", "temperature: complex")
    assert changed(before) == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "parts"),
    [
        ("objectives/simclr.py", "similarity.argmax(1)", "similarity.argmin(1)", {"objective"}),  # a function
        ("objectives/_base.py", "self.t.fill_(t)", "self.t.fill_(t + 1)", {"objective"}),  # a base class
        ("backbones/_timm.py", "LUMA = ", "LUMA = () or ", {"backbone"}),
        ("optim.py", "POSITIONS = ", "POSITIONS = () or ", {"training"}),  # a constant
        ("objectives/simclr.py", "@exact\ndef nt_xent", "def nt_xent", {"objective"}),  # a decorator
        ("objectives/simclr.py", "heads import exact", "heads import score_tokens as exact", {"objective"}),
        ("objectives/simclr.py", "import torch.nn.functional as F", "import torch as F", {"objective"}),
        ("distributed.py", "class _Gather(", "class _Gather(object, ", {"objective", "backbone", "training"}),
        ("views/loops.py", "BLOCK = ", "BLOCK = 1 + ", {"views"}),
        ("transfer/logistic.py", "HISTORY = ", "HISTORY = 1 + ", {"linear"}),
        ("data/permutation.py", "ROUNDS = ", "ROUNDS = 1 + ", {"training"}),
        ("views/image.py", "\n\n\ndef ", "\ntorch.set_default_dtype(torch.float64)\n\n\ndef ", {"views"}),
    ],
)
def test_a_change_of_what_is_reached_makes_it_stale(package, file, old, new, parts):
    before = hashes()
    edit(package / file, old, new)
    assert changed(before) == parts


def test_a_definition_may_move_to_another_file(package):
    before = hashes()
    text = (package / "objectives/simclr.py").read_text()
    start, end = text.index("@exact"), text.index("class SimCLR")
    edit(package / "objectives/simclr.py", text[start:end], "from ssl_zoo.contrast import nt_xent\n\n")
    (package / "contrast.py").write_text(text[: text.index("from ssl_zoo.objectives")] + text[start:end])
    definitions.forget()
    assert changed(before) == set()


def test_names_lead_through_imports_and_lazy_packages(tmp_path, monkeypatch):
    assert resolve("ssl_zoo.Objective") == Definition("ssl_zoo.objectives._base", "Objective")
    assert resolve("torch.nn.GELU") == "torch.nn.GELU"
    assert not any("mae" in one.module or "transfer" in one.module for one in reached(SIMCLR[0]))
    with pytest.raises(ImportError, match="no module nowhere_at_all"):
        reached(["nowhere_at_all.Thing"])
    # the user's own code in the working folder, with a file of its own beside it
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import ssl_zoo\nimport other as o\nclass Mine(ssl_zoo.Objective):\n    x = o.X\n"
    )
    (tmp_path / "other.py").write_text("X = 1\nY = 2\n")
    definitions.forget()
    found = reached(["mine.Mine"])
    assert {Definition("other", "X"), Definition("ssl_zoo.objectives._base", "Objective")} <= found
    assert Definition("other", "Y") not in found
    before = digest(found)
    (tmp_path / "other.py").write_text("X = 3\nY = 2\n")
    definitions.forget()
    assert digest(reached(["mine.Mine"])) != before
    definitions.forget()


def test_registrations_count_where_their_name_is_reached(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "ops.py"
    file.write_text(
        "def f(): pass\ndef g(): pass\n@f.register\ndef _(): return 1\n@g.register\ndef h(): pass\n"
    )
    definitions.forget()
    assert {one.name for one in reached(["ops.f"])} == {"f", "_"}
    definitions.forget()


def test_everything_of_the_package_can_be_read():
    code.freeze()
    assert definitions.read("ssl_zoo").imports["SimCLR"] == "ssl_zoo.objectives.simclr.SimCLR"
    assert ssl_zoo.__version__
