"""`ssl-zoo check` and `ssl_zoo.check_objective`: losses of one's own that are sound, and that are not."""

import math
import re
import sys
from pathlib import Path

import pytest
import tiny
import torch

import ssl_zoo
from ssl_zoo.contract import pair
from ssl_zoo.contract.check import about
from ssl_zoo.objectives.moco_v3 import MoCoV3

MINE = '''
import torch
import torch.nn.functional as F
from torch import nn
from ssl_zoo import Loss, Objective
from ssl_zoo.distributed import gather
from ssl_zoo.noise import rand


class Uniform(Objective):
    """Wang & Isola 2020, the half of it that spreads features."""
    family = "contrastive"
    takes = ("vit",)
    whole_batch = True

    def __init__(self, backbone, out: int = 8):
        super().__init__(backbone)
        self.head = nn.Linear(backbone.dim, out)

    def spread(self, z):
        everyone = gather(z)
        return torch.cdist(everyone, everyone).square().mul(-2).exp().mean().log()

    def noise(self, rows):
        return rand(rows, 1, 1, 1)

    def forward(self, batch):
        x = 0.5 * batch.x.float() / 255 + 0.5 * self.noise(len(batch.x))
        z = F.normalize(self.head(self.backbone(x).pooled).float(), dim=1)
        return Loss(self.spread(z), {"length": z.detach().norm()})


class OfAProcess(Uniform):
    """Compares the rows of one process alone."""

    def spread(self, z):
        return torch.cdist(z, z).square().mul(-2).exp().mean().log()


class InParts(Uniform):
    """Says that parts average to the whole, which they do not."""

    whole_batch = False


class OwnNoise(Uniform):
    def noise(self, rows):
        return torch.rand(rows, 1, 1, 1)


class Odd(Uniform):
    family = ""
    takes = ("vit", "trees")
    layout = "rows"
'''


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine_checked.py").write_text(MINE)
    sys.path.insert(0, str(folder))
    yield __import__("mine_checked")
    sys.path.remove(str(folder))


@pytest.fixture
def forked(monkeypatch):
    """Processes that have imported everything already; the command, below, starts its own."""

    def two_run(folder, about):
        logs = [Path(folder) / f"log-{i}" for i in range(2)]
        group = [tiny.spawn(log, pair.main, folder, about, i) for i, log in enumerate(logs)]
        codes = [tiny.outcome(process, 300) for process in group]
        return [log.read_text() for log, code in zip(logs, codes, strict=True) if code]

    monkeypatch.setattr(pair, "two_run", two_run)


@pytest.mark.usefixtures("forked")
def test_a_sound_loss_keeps_the_contract(mine):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    assert ssl_zoo.check_objective(mine.Uniform) == []
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert about(mine.Uniform) == []


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "OfAProcess",
            r"On vit: Two processes are not one: the loss of step 0 is .* \(ssl_zoo.distributed.gather\)",
        ),
        ("InParts", r"On vit: Two halves of a batch do not average to the whole: the loss of step 0"),
        ("OwnNoise", r"On vit: Two processes are not one.* Draw noise with ssl_zoo.noise.rand"),
    ],
)
def test_what_goes_wrong_where_a_batch_is_divided_is_said(mine, name, said):
    (sentence,) = ssl_zoo.check_objective(getattr(mine, name))
    assert re.match(said, sentence), sentence


def test_what_a_class_does_not_say_of_itself(mine):
    odd, family, layout = about(mine.Odd)
    assert odd.startswith("Odd.takes names ['trees']; the kinds are ['vit',")
    assert family.startswith("Odd.family is empty")
    assert layout == "Odd.layout is 'rows'; it is packed or document."
    with pytest.raises(TypeError, match="takes a subclass of"):
        ssl_zoo.check_objective(3)  # pyright: ignore
    with pytest.raises(ValueError, match=r"unknown: \['resnet'\]"):
        ssl_zoo.check_objective(mine.Uniform, ["resnet"])  # pyright: ignore


def test_what_is_not_finite_is_not_the_same():
    def learnt(loss, weight):
        return {
            "losses": [loss],
            "gradient": {"w": torch.ones(2)},
            "weights": {"w": torch.tensor([1.0, weight])},
        }

    assert pair.apart(learnt(1.0, 1.0), learnt(1.0, 1.0)) is None
    assert pair.apart(learnt(1.0, math.inf), learnt(1.0, math.inf)) is None  # a mask in a buffer
    for other, says in ((learnt(math.nan, 1.0), "loss of step 0"), (learnt(1.0, math.nan), "weights differ")):
        assert says in pair.apart(learnt(1.0, 1.0), other)
        assert says in pair.apart(other, learnt(1.0, 1.0))


def test_rounding_is_no_fault_and_a_fault_in_a_small_gradient_is():
    """A bias before a batch norm has a gradient of 0, and of 1e-7 in float32; others are small and right."""

    def learnt(bias, small, moved=0.0):
        gradient = {"w": torch.tensor([0.8, 0.1]), "b": torch.tensor([bias]), "small": torch.tensor([small])}
        return {"losses": [1.0], "gradient": gradient, "weights": {"b": torch.tensor([moved])}}

    right = learnt(2e-7, 2e-3)
    assert pair.apart(right, learnt(-1e-7, 2e-3, moved=5e-8)) is None
    assert "gradient differs by 0.01" in pair.apart(right, learnt(2e-7, 2.02e-3))  # 1 % of a small one
    assert "gradient differs" in pair.apart(right, learnt(1e-5, 2e-3))  # a hundred times rounding
    assert "weights differ" in pair.apart(right, learnt(2e-7, 2e-3, moved=1e-5))
    assert "gradient differs" in pair.apart(right, learnt(math.nan, 2e-3))
    masked, other = ({"m": torch.tensor([math.inf, value])} for value in (1.0, 2.0))
    assert pair.furthest(other, masked) == 1  # infinity beside it hides nothing


def test_an_objective_with_a_bias_before_a_batch_norm_passes():
    """The norm that ends a ViT has one: MoCo v3 projects its features by a linear layer and a batch norm."""
    assert pair.divided(MoCoV3, ["vit"]) == {"vit": []}


def test_a_process_that_ends_without_a_word_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert pair.two_run(str(tmp_path), {}) == ["exit code 1", "exit code 1"]


def test_the_command_finds_classes_in_files_and_modules(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("def loss(:\n")
    (tmp_path / "empty.py").touch()
    (tmp_path / "package").mkdir()
    code, log = tiny.command(tmp_path, tmp_path, "check", "mine.OfAProcess")
    assert code == 1
    first, log = log.split("\n", 1)
    assert first.startswith("ssl-zoo check mine.OfAProcess: begins")
    assert log.startswith("OfAProcess: on vit\n  - On vit: Two processes are not one")
    for word, said in (
        ("mine.Uniforn", "mine defines no objective 'Uniforn', but Uniform"),
        ("other.Uniform", "there is no module 'other' in .*write FILE.CLASS"),
        ("package.part.inner.Uniform", "there is no module 'package.part.inner' in"),
        (".Uniform", "there is no module '.Uniform' in"),
        ("", "there is no module '' in"),
        ("empty.Uniform", "empty defines no objective 'Uniform'$"),
        ("broken.Uniform", "(?s)SyntaxError.*broken.Uniform cannot be imported, for the reason above$"),
        ("broken.py", "(?s)SyntaxError.*broken.py cannot be imported, for the reason above$"),
        ("other.py", "there is no file other.py"),
        ("ssl_zoo/heads.py", "there is no file ssl_zoo/heads.py"),
        (str(Path(ssl_zoo.__file__).with_name("tokens.py")), "tokens.py defines no subclass"),
    ):
        code, log = tiny.command(tmp_path, tmp_path, "check", word)
        assert code == 1
        assert re.search(said, log.strip()), log
    code, log = tiny.command(tmp_path, tmp_path, "check", "--help")
    assert code == 0
    assert "ssl-zoo check losses/mine.py" in log
