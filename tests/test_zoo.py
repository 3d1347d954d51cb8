"""The contract of an objective, checked for every objective on every kind of backbone it takes.

A class in a new file of ssl_zoo/objectives/ is found by itself.
"""

import inspect
import math
from importlib import import_module

import pytest
import torch
import yaml
from torch import Tensor
from zoo_backbones import backbone, batch, build, discover, pairs, refusals

from ssl_zoo import hub
from ssl_zoo.backbones._base import KINDS, Kind, TokenBackbone, pool
from ssl_zoo.compose.composition import config_folder
from ssl_zoo.noise import free_noise, seed_noise
from ssl_zoo.objectives._base import Loss, Objective
from ssl_zoo.objectives.crops import DocumentCrops
from ssl_zoo.objectives.simclr import SimCLR


def case_name(value) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


@pytest.fixture(autouse=True)
def _noise_as_it_was():
    yield
    free_noise()


def evaluate(objective: Objective, rows, step: int) -> Loss:
    """The loss with the noise of (seed 0, step)."""
    seed_noise(0, step)
    torch.manual_seed(step)
    return objective(rows)


def check_contract(cls: type[Objective], kind: Kind) -> None:
    """Everything the trainer, the checkpoint and the log rely on."""
    objective = build(cls, backbone(kind)).train()
    assert objective.backbone.kind == kind
    rows = batch(objective)
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.1)
    for step in range(2):
        optimizer.zero_grad()
        loss = evaluate(objective, rows, step)
        assert loss.value.shape == ()
        assert math.isfinite(loss.value.item())
        for name, part in loss.parts.items():
            assert isinstance(part, Tensor), name
            assert part.shape == (), f"part {name} is not a scalar"
            assert not part.requires_grad, f"part {name} is not detached"
            assert math.isfinite(part.item()), name
        loss.value.backward()
        if step == 0:
            optimizer.step()
            move_teacher(objective)
    # After one step, because output projections may start at zero and block the gradient behind them.
    idle = [
        name
        for name, weight in objective.named_parameters()
        if weight.requires_grad and (weight.grad is None or not weight.grad.any())
    ]
    assert not idle, f"no gradient for {idle}"
    assert objective.t.item() == 0.5
    assert "t" in objective.state_dict()

    state = {name: value.clone() for name, value in objective.state_dict().items()}
    objective.eval()
    first, second = (evaluate(objective, rows, 2).value for _ in range(2))
    assert torch.equal(first, second), "evaluating twice gives two losses"
    changed = [name for name, value in objective.state_dict().items() if not torch.equal(value, state[name])]
    assert not changed, f"evaluating changes {changed}"
    objective.train()

    again = build(cls, backbone(kind, seed=1)).train()
    before = evaluate(objective, rows, 2).value
    assert not torch.equal(evaluate(again, rows, 2).value, before), "the second one has weights of its own"
    again.load_state_dict(objective.state_dict())
    # The forward passes above moved the running statistics of batch norms, in both alike from here on.
    torch.testing.assert_close(
        evaluate(again, rows, 2).value, evaluate(objective, rows, 2).value, rtol=0, atol=0
    )
    for (name, one), (_, two) in zip(objective.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(one, two), name


def move_teacher(objective: Objective) -> None:
    """`advance` stores t; a teacher follows its student, and no gradient reaches it."""
    teachers = [module for name, module in objective.named_modules() if name.split(".")[-1] == "teacher"]
    before = [[p.clone() for p in teacher.parameters()] for teacher in teachers]
    objective.advance(0.5)
    for teacher, old in zip(teachers, before, strict=True):
        assert all(not p.requires_grad and p.grad is None for p in teacher.parameters()), "teacher learns"
        moved = [not torch.equal(p, q) for p, q in zip(teacher.parameters(), old, strict=True)]
        assert any(moved), "the teacher does not move"


@pytest.mark.parametrize(("cls", "kind"), pairs(), ids=case_name)
def test_contract(cls, kind):
    check_contract(cls, kind)


def test_every_file_holds_an_objective_with_a_family():
    classes = discover()
    assert {cls.__name__ for cls in classes} >= {"NextToken", "MaskedLM", "MAE", "Rotation", "SimCLR", "Sum"}
    for cls in classes:
        assert cls.family, cls
        assert cls.takes, cls
        assert set(cls.takes) <= set(KINDS), cls
        assert cls.__doc__, cls
        assert cls.layout in ("packed", "document")


@pytest.mark.parametrize(("cls", "kind"), refusals(), ids=case_name)
def test_other_kinds_are_refused_with_what_works(cls, kind):
    with pytest.raises(ValueError, match=cls.__name__) as refusal:
        build(cls, backbone(kind))
    works = [KINDS[good][1] for good in cls.takes]
    assert any(name in str(refusal.value) for name in works), f"{refusal.value} names none of {works}"


DROPPED_IN = '''
import copy
import torch
from torch import nn
from ssl_zoo.objectives._base import Loss, Objective
from ssl_zoo.objectives.simclr import SimCLR  # imported, not defined here: must not be found again


class Follow(Objective):
    """The student imitates a slow copy of itself."""
    family = "distillation"
    takes = ("cnn",)

    def __init__(self, backbone, out: int = 128):
        super().__init__(backbone)
        self.head = nn.Linear(backbone.dim, out)
        self.unused = {unused}
        self.teacher = copy.deepcopy(backbone).requires_grad_(False)
        self.answer = nn.Linear(out, backbone.dim)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, batch):
        x = batch.x.float() / 255
        if {counts}:
            self.seen += 1
        with torch.no_grad():
            target = self.teacher(x).pooled
        loss = (self.answer(self.head(self.backbone(x).pooled)) - target).square().mean()
        return Loss(loss, {{"copy": {part}}})

    def advance(self, t):
        super().advance({t})
        with torch.no_grad():
            for slow, fast in zip(self.teacher.parameters(), self.backbone.parameters()):
                slow.lerp_(fast, {rate})
'''
GOOD = {"unused": "None", "part": "loss.detach()", "t": "t", "rate": "0.5", "counts": "self.training"}


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ({}, None),
        ({"unused": "nn.Linear(2, 2)"}, "no gradient for .*unused"),
        ({"part": "loss"}, "not detached"),
        ({"part": "target.mean(0)"}, "not a scalar"),
        ({"part": "loss.detach() / 0"}, "copy"),
        ({"rate": "0.0"}, "does not move"),
        ({"t": "0"}, "assert"),
        ({"counts": "True"}, "evaluating changes .*seen"),
    ],
    ids=[
        "good",
        "unused weight",
        "attached part",
        "wide part",
        "infinite part",
        "still teacher",
        "no t",
        "counts",
    ],
)
def test_a_file_dropped_into_the_folder_is_found_and_checked(tmp_path, fault, complaint):
    (tmp_path / "follow.py").write_text(DROPPED_IN.format(**GOOD | fault))
    (tmp_path / "__init__.py").write_text("")
    (found,) = discover(tmp_path)
    assert found.__name__ == "Follow"
    if complaint is None:
        check_contract(found, "cnn")
    else:
        with pytest.raises(AssertionError, match=complaint):
            check_contract(found, "cnn")


def objective_files() -> dict[str, dict]:
    """The YAML files of objectives as they are written, `custom` (the user's own) aside."""
    files = sorted((config_folder() / "objective").glob("*.yaml"))
    read = {file.stem: yaml.safe_load(file.read_text()) for file in files}
    return {name: about for name, about in read.items() if about["_target_"] != "???"}


@pytest.mark.parametrize("name", objective_files())
def test_yaml_names_a_class_and_its_arguments(name):
    about = objective_files()[name]
    module, _, cls = about["_target_"].rpartition(".")
    made = getattr(import_module(module), cls)
    assert issubclass(made, Objective)
    assert about["_partial_"] is True
    written = {key for key in about if key not in ("_target_", "_partial_", "_convert_", "defaults")}
    parts = [next(iter(part)) if isinstance(part, dict) else part for part in about.get("defaults", [])]
    written |= {part.partition("@")[2].split(".")[0] for part in parts if part != "_self_"}
    assert written <= set(inspect.signature(made).parameters) - {"backbone"}


@pytest.mark.parametrize("cls", discover(), ids=case_name)
def test_every_objective_has_a_yaml(cls):
    stem = cls.__module__.rsplit(".", 1)[-1]
    named = {name: about["_target_"] for name, about in objective_files().items()}
    assert f"{cls.__module__}.{cls.__name__}" in named.values()
    if not stem.startswith("_"):  # a file has a YAML of its own name, of one of its papers
        assert named[stem].rpartition(".")[0] == cls.__module__


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_layers_are_tokens_or_their_means(kind):
    one = backbone(kind).eval()
    rows = batch(build(SimCLR, one))
    x = rows.x.float() / 255 if one.modality == "image" else rows.x
    tokens, pooled = (one(x, rows.segments, layers=how).layers for how in ("tokens", "pooled"))
    assert len(tokens) == len(one.blocks()) > 1
    for layer, mean in zip(tokens, pooled, strict=True):
        segments = None if one.modality == "image" else rows.segments
        torch.testing.assert_close(pool(layer, segments), mean, rtol=1e-4, atol=1e-5)
    assert tokens[-1].shape == one(x, rows.segments).tokens.shape
    assert one(x, rows.segments).layers == ()


@pytest.mark.parametrize("kind", KINDS)
def test_export_round_trip(tmp_path, kind):
    """What is saved is the backbone alone, and it reads the same features in the same direction."""
    objective = build(DocumentCrops if kind == "bag" else SimCLR, backbone(kind))
    evaluate(objective, batch(objective), 0).value.backward()
    with torch.no_grad():
        for weight in objective.parameters():
            if weight.grad is not None:
                weight -= 0.1 * weight.grad
    inside = objective.backbone.eval()
    if isinstance(inside, TokenBackbone) and len(inside.orders) > 1:
        (inside.order,) = inside.orders - {backbone(kind).order}  # not what a new one has
    opened = hub.load(hub.save(inside, tmp_path / "backbone"))
    assert set(opened.state_dict()) == set(inside.state_dict())
    assert {name.removeprefix("backbone.") for name in objective.state_dict()} > set(opened.state_dict())
    rows = batch(objective)
    x = rows.x.float() / 255 if inside.modality == "image" else rows.x
    with torch.no_grad():
        want, got = (one(x, rows.segments, layers="pooled") for one in (inside, opened))
    assert torch.equal(got.tokens, want.tokens)
    assert torch.equal(got.pooled, want.pooled)
    assert all(torch.equal(a, b) for a, b in zip(got.layers, want.layers, strict=True))
    if isinstance(inside, TokenBackbone):
        assert isinstance(opened, TokenBackbone)
        assert opened.order == inside.order
