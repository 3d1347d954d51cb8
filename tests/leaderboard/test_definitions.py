"""The hash of code behind a line: what changes it, and what leaves it standing. On a copy of the package."""

import ast
import shutil

import pytest

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


def change(package, full, how):
    """Change a definition where it stands, whichever file that is."""
    one = resolve(full)
    assert isinstance(one, Definition)
    file = package.parent / (one.module.replace(".", "/") + ".py")
    tree = ast.parse(file.read_text())
    at = next(i for i, node in enumerate(tree.body) if one.name in named(node))
    how(tree.body, at)
    file.write_text(ast.unparse(ast.fix_missing_locations(tree)))
    definitions.forget()


def named(node):
    """The names that a statement binds, one of which is looked for."""
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return {getattr(node, "name", None), *(getattr(target, "id", None) for target in targets)}


def grow(body, at):
    """One statement more in a function or class."""
    body[at].body.append(ast.parse("more = 1").body[0])


def differ(body, at):
    """Another value of a constant."""
    body[at].value = ast.Tuple([body[at].value], ast.Load())


def bare(body, at):
    """Without its decorators."""
    assert body[at].decorator_list
    body[at].decorator_list = []


def preset(body, at):
    """A statement before it that binds nothing."""
    body.insert(at, ast.parse("torch.set_default_dtype(torch.float64)").body[0])


SIMCLR = (
    ["ssl_zoo.objectives.simclr.SimCLR", "ssl_zoo.views.recipes.simclr"],
    ["ssl_zoo.backbones.vision.timm_backbone"],
    ["ssl_zoo.optim.adamw", "ssl_zoo.schedules.cosine"],
    ["ssl_zoo.data.images.ImageData"],
)


def hashes():
    found = code.pretraining(*SIMCLR)
    return found | {"linear": code.transfer(["ssl_zoo.transfer.protocols.Linear"])}


@pytest.fixture(scope="module")
def before():
    """Of the package as it is, which a copy has too."""
    definitions.forget()
    return hashes()


def changed(before):
    now = hashes()
    return {part for part in now if now[part] != before[part]}


SHARED = ("heads", "optim", "schedules", "noise", "views/recipes", "backbones/_base", "objectives/_base")


def test_what_is_added_to_shared_files_makes_no_line_stale(before, package):
    assert hashes() == before
    assert set(before) == {"backbone", "views", "objective", "training", "linear"}
    for name in SHARED:
        edit(
            package / f"{name}.py",
            new='\n\ndef brand_new(x: int) -> int:\n    """Words."""\n    return x + 1\n',
        )
    edit(package / "transfer/protocols.py", new="\n\nBRAND_NEW = 1\n")
    edit(package / "objectives/mae.py", "import torch\n", "import torch\nimport numpy\n")
    edit(package / "objectives/simclr.py", "class SimCLR", "# why\nclass SimCLR")
    edit(package / "objectives/simclr.py", "temperature: float", "temperature: complex")
    edit(package / "objectives/simclr.py", "the diagonal should be high", "the diagonal should be higher")
    assert changed(before) == set()


@pytest.mark.parametrize(
    ("full", "how", "parts"),
    [
        ("objectives.simclr.nt_xent", grow, {"objective"}),  # a function
        ("objectives.simclr.nt_xent", bare, {"objective"}),  # its decorator
        ("objectives._base.Objective", grow, {"objective"}),  # a base class
        ("heads._wide", grow, {"objective"}),  # what a decorator calls
        ("backbones._timm.LUMA", differ, {"backbone"}),  # a constant
        ("optim.POSITIONS", differ, {"training"}),
        ("distributed._Gather", grow, {"objective", "backbone", "training"}),
        ("views.loops.BLOCK", differ, {"views"}),
        ("views.image.LUMA", preset, {"views"}),  # what is done when a file is imported
        ("transfer.logistic.HISTORY", differ, {"linear"}),
        ("data.permutation.ROUNDS", differ, {"training"}),
    ],
)
def test_a_change_of_what_is_reached_makes_it_stale(before, package, full, how, parts):
    change(package, f"ssl_zoo.{full}", how)
    assert changed(before) == parts


WORDS = ("backbones.bag.TokenBag", "data.text.TextData", "data.tokenizer.bpe")


def word_floors():
    """Hashes of the floors that are word vectors of a bag, and of a bag with random ones."""
    bag, data, tokenizer = ([f"ssl_zoo.{name}"] for name in WORDS)
    return {
        kind: code.pretraining([], bag, (), data, tokenizer, floor=kind)["floor"]
        for kind in ("ppmi_svd", "word2vec", "random")
    }


@pytest.mark.parametrize(
    ("full", "how", "kinds"),
    [
        ("transfer.word_floors.SMOOTHING", differ, {"ppmi_svd"}),
        ("transfer.word_floors.cooccurrences", grow, {"ppmi_svd"}),
        ("transfer.word_floors.SENTENCE", differ, {"word2vec"}),
        ("transfer.word_floors.encoded", grow, {"ppmi_svd", "word2vec"}),
        ("data.tokenizer.cut", grow, {"ppmi_svd", "word2vec", "random"}),
        ("transfer.floors.fresh", grow, {"random"}),
        ("transfer.floors.tfidf", grow, set()),
    ],
)
def test_a_change_of_what_makes_word_vectors_makes_their_floor_stale(package, full, how, kinds):
    before = word_floors()
    change(package, f"ssl_zoo.{full}", how)
    now = word_floors()
    assert {kind for kind in now if now[kind] != before[kind]} == kinds


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("contrast.py", "import torch.nn.functional as F", "import torch as F"),
        ("objectives/simclr.py", "heads import mlp", "heads import exact as mlp"),
    ],
)
def test_another_import_under_the_same_name_makes_it_stale(before, package, file, old, new):
    edit(package / file, old, new)
    assert changed(before) == {"objective"}


def test_a_definition_may_move_to_another_file(before, package):
    shutil.copy(package / "contrast.py", package / "brand_new.py")
    edit(package / "objectives/simclr.py", "ssl_zoo.contrast import", "ssl_zoo.brand_new import")
    assert resolve("ssl_zoo.objectives.simclr.nt_xent") == Definition("ssl_zoo.brand_new", "nt_xent")
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


def test_relative_imports_are_followed(tmp_path, monkeypatch):
    """Those of the user's own package; what they lead to used to be no part of the hash."""
    monkeypatch.chdir(tmp_path)
    inner = tmp_path / "own_package/inner"
    inner.mkdir(parents=True)
    (tmp_path / "own_package/__init__.py").write_text("from .heads import Head\n")
    (tmp_path / "own_package/heads.py").write_text("class Head: pass\n")
    (inner / "__init__.py").write_text("")
    (inner / "mine.py").write_text(
        "from .. import Head\nfrom . import other\ndef f():\n    from .other import Y\n"
        "    return Head(), other.X, Y\n"
    )
    (inner / "other.py").write_text("X = 1\nY = 2\nZ = 3\n")
    definitions.forget()
    found = reached(["own_package.inner.mine.f"])
    assert {(one.module.removeprefix("own_package."), one.name) for one in found} == {
        ("inner.mine", "f"),
        ("heads", "Head"),
        ("inner.other", "X"),
        ("inner.other", "Y"),
    }
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
    assert resolve("ssl_zoo.SimCLR") == Definition("ssl_zoo.objectives.simclr", "SimCLR")
    assert resolve("ssl_zoo.Nothing") == "ssl_zoo.Nothing"


def test_a_name_imported_in_a_try_counts_with_what_stands_in_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "fallback.py"
    text = "try:\n    from torch import quick\nexcept ImportError:\n    quick = None\n\n"
    file.write_text(text + "def f():\n    return quick\n")
    definitions.forget()
    before = digest(reached(["fallback.f"]))
    edit(file, "quick = None", "quick = 1")
    assert digest(reached(["fallback.f"])) != before
    definitions.forget()
