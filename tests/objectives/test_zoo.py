"""The contract of an objective, checked for every objective on every kind of backbone it takes: one of them
in each test run, the others by `make slow`.

A class in a new file of ssl_zoo/objectives/ is found by itself.
"""

import functools
import inspect
import re
from importlib import import_module

import pytest
import torch
import yaml
from zoo_backbones import backbone, batch, build, cases, discover, images, refusals, text

from ssl_zoo import hub
from ssl_zoo.backbones._base import KINDS, Kind, TokenBackbone, pool
from ssl_zoo.compose.composition import config_folder
from ssl_zoo.contract.rules import broken, loss_of
from ssl_zoo.objectives._base import Objective
from ssl_zoo.objectives.crops import DocumentCrops
from ssl_zoo.objectives.patch_kmeans import PatchKMeans
from ssl_zoo.objectives.simclr import SimCLR


def case_name(value) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


def check_contract(cls: type[Objective], kind: Kind) -> None:
    found = broken(lambda seed: build(cls, backbone(kind, seed)))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("cls", "kind"), cases(), ids=case_name)
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
from ssl_zoo.memory import Queue
from ssl_zoo.objectives._base import Loss, Objective
from ssl_zoo.objectives.simclr import SimCLR  # imported, not defined here: must not be found again


class Follow(Objective):
    """The student imitates a slow copy of itself."""
    family = "distillation"
    takes = ("vit",)

    def __init__(self, backbone, out: int = 128):
        super().__init__(backbone)
        self.head = nn.Linear(backbone.dim, out)
        self.slow = copy.deepcopy(backbone).requires_grad_(False)
        self.answer = nn.Linear(out, backbone.dim)
        self.register_buffer("seen", torch.zeros(()))
        self.queue, self.hidden, self.noted = Queue(3, 1), 0, 0
        {built}

    def forward(self, batch):
        x = batch.x.float() / 255
        {before}
        with torch.no_grad():
            target = self.slow(x).pooled
        loss = (self.answer(self.head(self.backbone(x).pooled)).float() - target).square().mean()
        {after}
        return Loss(loss, {{"copy": {part}}})

    def advance(self, t):
        super().advance({t})
        {then}
        with torch.no_grad():
            for slow, fast in zip(self.slow.parameters(), self.backbone.parameters()):
                slow.lerp_(fast, {rate})
    {more}
'''
GOOD = {
    **dict.fromkeys(("built", "before", "after", "then"), "pass"),
    **{"part": "loss.detach()", "t": "t", "rate": "0.5", "more": ""},
}
FAULTS = {
    "unused weight": ({"built": "self.unused = nn.Linear(2, 2)"}, "no gradient reaches unused"),
    "attached part": ({"part": "loss"}, "part 'copy' is not detached"),
    "wide part": ({"part": "target.mean(0)"}, "part 'copy' is not a scalar"),
    "infinite part": ({"part": "loss.detach() / 0"}, "part 'copy' is inf"),
    "no gradient": ({"after": "loss = loss.detach()"}, "the loss has no gradient"),
    "still teacher": ({"rate": "0.0"}, "slow starts as a copy .* and does not move"),
    "no t": ({"t": "0"}, "does not keep t"),
    "counts in evaluation": ({"before": "self.seen += 1"}, "evaluating changes seen"),
    "counts in training": ({"before": "self.seen += self.training"}, "`forward` changes seen: note"),
    "notes in evaluation": (
        {"after": "self.noted += 1", "then": "self.seen += self.noted; self.noted = 0"},
        "evaluating leaves something behind, which changes seen",
    ),
    "another loss each time": (
        {"before": "self.hidden += 1", "after": "loss = loss * self.hidden"},
        "evaluating twice gives .* a second pass of the same batch",
    ),
    "state outside of checkpoints": (
        {"then": "self.hidden += 1", "after": "loss = loss * (1 + self.hidden)"},
        "loads the state goes on in another way",
    ),
    "reads labels": (
        {"after": "loss = loss + batch.y.float().mean()"},
        "where `y` is missing, it reads what",
    ),
    "reads numbers": (
        {"after": "loss = loss + (0 if batch.index is None else batch.index.sum())"},
        "where `index` is missing, the loss is another",
    ),
    "exports nothing": ({"more": "def export(self): return {}"}, "no 'backbone', which is what is measured"),
    "exports what cannot be opened": (
        {"more": "def export(self): return {'backbone': self.head}"},
        "opens from its own description.* ended in",
    ),
    "half precision": ({"after": "loss = loss.bfloat16()"}, "in bfloat16 the loss is torch.bfloat16"),
    "breaks a Sum": (
        {"more": "lookahead = property(lambda self: self.backbone.missing)"},
        "it works as a term of a Sum.* ended in AttributeError",
    ),
    "cannot be built": ({"built": "raise KeyError('out')"}, "cannot be built .* KeyError: 'out'"),
}


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_a_file_dropped_into_the_folder_is_found_and_checked(tmp_path, fault):
    words, complaint = FAULTS.get(fault, ({}, None))
    (tmp_path / "follow.py").write_text(DROPPED_IN.format(**GOOD | words))
    (tmp_path / "__init__.py").write_text("")
    (found,) = discover(tmp_path)
    assert found.__name__ == "Follow"
    said = " ".join(broken(lambda seed: build(found, backbone("vit", seed))))
    assert re.search(complaint, said) if complaint else not said, said


@functools.cache
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
    if not stem.startswith("_"):  # a paper's file has a YAML of its own name
        assert named[stem] == f"{cls.__module__}.{cls.__name__}"


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_layers_are_tokens_or_their_means(kind):
    one = backbone(kind).eval()
    rows = images() if one.modality == "image" else text(layout="document")
    x = rows.x.float() / 255 if one.modality == "image" else rows.x
    tokens, pooled = (one(x, rows.segments, layers=how).layers for how in ("tokens", "pooled"))
    assert len(tokens) == (len(one.blocks()) or 1)  # what has no trunk is its only layer
    for layer, mean in zip(tokens, pooled, strict=True):
        segments = None if one.modality == "image" else rows.segments
        torch.testing.assert_close(pool(layer, segments), mean, rtol=1e-4, atol=1e-5)
    assert tokens[-1].shape == one(x, rows.segments).tokens.shape
    assert one(x, rows.segments).layers == ()


@pytest.mark.parametrize("kind", KINDS)
def test_export_round_trip(tmp_path, kind):
    """What is saved is the backbone alone, and it reads the same features in the same direction."""
    objective = build({"bag": DocumentCrops, "patches": PatchKMeans}.get(kind, SimCLR), backbone(kind))
    loss_of(objective, batch(objective), 0).value.backward()
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
