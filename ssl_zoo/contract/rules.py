"""The contract of an objective: what the trainer, the checkpoint and the log rely on, as rules one by one.

Each rule takes a function that builds the objective, tiny, on a backbone of a seed, and gives a sentence for
each thing that is not as it must be. Whoever breaks a rule in a way nobody foresaw raises an error, which
becomes a sentence too.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_zoo import hub
from ssl_zoo.backbones._base import KINDS, Backbone
from ssl_zoo.contract.tiny import batch
from ssl_zoo.noise import free_noise, seed_noise
from ssl_zoo.objectives._base import READS, Batch, Loss, Objective, Sum

Make = Callable[[int], Objective]  # seed of the backbone's weights -> the objective


def broken(make: Make) -> list[str]:
    """What is wrong with an objective: a sentence each, none if all is well. Random generators are kept."""
    found: list[str] = []
    with torch.random.fork_rng(devices=[]):
        try:
            make(0)
        except Exception as error:
            return [
                f"it cannot be built on a backbone alone, with the arguments in `tiny`: {format_error(error)}"
            ]
        for rule in RULES:
            try:
                found += rule(make)
            except Exception as error:
                what = str(rule.__doc__).strip().rstrip(".")
                found.append(f"trying whether {what[0].lower()}{what[1:]} ended in {format_error(error)}")
                if rule is gives_a_loss:  # all others would end so
                    return found
            finally:
                free_noise()
    return found


def format_error(error: BaseException) -> str:
    """The type of an error and the first line of its text, of 300 characters at most."""
    first = (f"{error}".splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:300]}"


def loss_of(objective: Objective, rows: Batch, step: int) -> Loss:
    """The loss with the noise of (seed 0, step)."""
    seed_noise(0, step)
    torch.manual_seed(step)
    return objective(rows)


def learn(objective: Objective, rows: Batch, steps: int = 1) -> None:
    """Some optimizer steps, as the trainer makes them."""
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.1)
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(objective, rows, step).value.backward()
        optimizer.step()
        objective.advance(0.5 * (step + 1) / steps)


def state(module: nn.Module, norms: bool = True) -> dict[str, Tensor]:
    """Copies of all tensors of a module that a checkpoint holds, by name.

    Args:
        norms: whether the weights and running statistics of batch norms are among them.
    """
    modules = dict(module.named_modules(remove_duplicate=False))
    return {
        name: value.clone()
        for name, value in module.state_dict().items()
        if norms or not isinstance(modules[name.rpartition(".")[0]], _BatchNorm)
    }


def changed(before: dict[str, Tensor], now: dict[str, Tensor]) -> str:
    """Names of what differs, a few of them; "" if nothing does."""
    names = [name for name, value in before.items() if not torch.equal(value, now[name])]
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def gives_a_loss(make: Make) -> Iterator[str]:
    """The loss and its parts are finite numbers, and the parts have no gradient."""
    objective = make(0).train()
    loss = loss_of(objective, batch(objective), 0)
    values = {"the loss": loss.value} | {f"part {k!r}": v for k, v in loss.parts.items()}
    for name, value in values.items():
        if not isinstance(value, Tensor) or value.shape != ():
            yield f"{name} is not a scalar tensor."
        elif not math.isfinite(value.item()):
            yield f"{name} is {value.item()}."
        elif value.requires_grad is not (name == "the loss"):
            yield f"{name} has no gradient." if name == "the loss" else f"{name} is not detached."
    if strange := sorted(set(loss.counts) - set(loss.parts)):
        yield f"it counts {strange}, which are no parts."


def learns(make: Make) -> Iterator[str]:
    """Each trainable weight has a gradient, and copies of trained modules follow them."""
    objective = make(0).train()
    rows = batch(objective)
    followers = {name: state(module) for name, module in copies(objective).items()}
    learn(objective, rows, 2)
    loss_of(objective, rows, 2).value.backward()
    # After two steps, because output projections may start at zero and block the gradient behind them.
    named = [(name, p) for name, p in objective.named_parameters() if p.requires_grad]
    idle = [name for name, p in named if p.grad is None or not p.grad.any()]
    if idle:
        yield f"no gradient reaches {', '.join(idle[:4])}: leave it out, or say requires_grad_(False)."
    for name, before in followers.items():
        if not changed(before, state(objective.get_submodule(name))):
            yield f"{name} starts as a copy of trained weights and does not move when `advance` is called."
    if objective.t.item() != 0.5:
        yield "`advance(t)` does not keep t: call super().advance(t)."


def copies(objective: Objective) -> dict[str, nn.Module]:
    """The outermost modules of frozen weights alone that start as copies of trained ones."""
    trained = [p for p in objective.parameters() if p.requires_grad]
    found: dict[str, nn.Module] = {}
    for name, module in objective.named_modules():
        weights = list(module.parameters())
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if inside or not weights or any(p.requires_grad for p in weights):
            continue
        if all(any(p.shape == t.shape and torch.equal(p, t) for t in trained) for p in weights):
            found[name] = module
    return found


def evaluates(make: Make) -> Iterator[str]:
    """Evaluation gives the same loss twice, and a checkpoint holds all there is to the state."""
    objective = make(0).train()
    rows = batch(objective)
    learn(objective, rows)
    before = state(objective.eval())
    first, second = (loss_of(objective, rows, 2).value for _ in range(2))
    if not torch.equal(first, second):
        yield f"evaluating twice gives {first.item():g} and {second.item():g}."
    if names := changed(before, state(objective)):
        yield f"evaluating changes {names}."
    if "t" not in before:
        yield "its state holds no `t`: call super().__init__(backbone)."
    if not (names := goes_on(make, objective.train(), rows)):
        return
    undisturbed = make(0).train()
    learn(undisturbed, rows)
    if elsewhere := goes_on(make, undisturbed, rows):
        yield f"one that is built anew and loads the state goes on in another way: {elsewhere} differ."
    else:
        yield f"evaluating leaves something behind, which changes {names} a step later."


def goes_on(make: Make, objective: Objective, rows: Batch) -> str:
    """Names of what differs after one more step from an objective built anew that loads the same state.

    It is "" if nothing differs.
    """
    anew = make(1).train()
    anew.load_state_dict(objective.state_dict())
    for one in (objective, anew):
        learn(one, rows)
    return changed(state(objective), state(anew))


def repeats(make: Make) -> Iterator[str]:
    """In training, a second pass before `advance` gives the same loss, and changes no state."""
    objective = make(0).train()
    rows = batch(objective)
    learn(objective, rows)
    before = state(objective, norms=False)
    first, second = (loss_of(objective, rows, 2).value for _ in range(2))
    if not torch.equal(first, second):
        yield f"a second pass of the same batch and noise gives {second.item():g}, after {first.item():g}."
    if names := changed(before, state(objective, norms=False)):
        yield f"`forward` changes {names}: note what is new in `forward`, and write it in `advance`."


def reads_what_it_says(make: Make) -> Iterator[str]:
    """The loss depends on no field of a batch that `reads` does not name."""
    objective = make(0).eval()
    rows = batch(objective)
    want = loss_of(objective, rows, 0).value
    unread = [name for name in READS if name not in objective.reads and getattr(rows, name) is not None]
    missing = dict.fromkeys(unread)
    another = {name: getattr(rows, name).flip(0) + 1 for name in unread}

    def fault(fields: dict[str, Tensor | None]) -> str | None:
        try:
            got = loss_of(objective, rows._replace(**fields), 0).value
        except Exception as error:
            return f"it reads what `reads` does not name: {format_error(error)}"
        return None if torch.equal(got, want) else "the loss is another, and `reads` does not name it."

    if fault(missing) or fault(another):  # all at once; if anything is wrong, each by itself
        for name in unread:
            for how, fields in (("missing", missing), ("another", another)):
                if wrong := fault({name: fields[name]}):
                    yield f"where `{name}` is {how}, {wrong}"
                    break


def exports(make: Make) -> Iterator[str]:
    """What it exports opens from its own description, with the same features."""
    objective = make(0).train()
    learn(objective, batch(objective))
    kept = objective.eval().export()
    if "backbone" not in kept:
        yield f"`export` gives {sorted(kept)}, and no 'backbone', which is what is measured."
    for name, backbone in kept.items():
        x, segments = read_by(backbone, objective)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            opened = hub.load(hub.save(backbone, Path(folder) / "backbone"))
            want, got = backbone(x, segments).pooled, opened(x, segments).pooled
        if not torch.equal(want, got):
            yield f"the exported {name!r} has other features when it is opened again."


def read_by(backbone: Backbone, objective: Objective) -> tuple[Tensor, Tensor | None]:
    """What an exported backbone reads, x and segments: those of the second half for a text tower."""
    rows = batch(objective)
    other = rows.other if rows.other is not None and backbone.modality == "text" else rows
    return other.x, other.segments


def works_in_half(make: Make) -> Iterator[str]:
    """A step in bfloat16 has a loss in float32, finite, with finite gradients."""
    objective = make(0).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(objective, batch(objective), 0).value
    if loss.dtype != torch.float32:
        yield f"in bfloat16 the loss is {loss.dtype}: compute it in float32 (ssl_zoo.heads.exact)."
    loss.backward()
    bad = [n for n, p in objective.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    if not loss.isfinite() or bad:
        yield f"in bfloat16 the loss is {loss.item():g}, and gradients that are not finite: {bad[:4]}."


class Beside(Objective[Backbone]):
    """The least objective there is, on any backbone."""

    family, takes = "test", tuple(KINDS)

    def forward(self, batch: Batch) -> Loss:
        return Loss(self.backbone(batch.x, batch.segments).pooled.float().square().mean(), {})


def adds_up(make: Make) -> Iterator[str]:
    """It works as a term of a Sum, on a backbone that it shares."""
    alone = make(0)
    beside = type("Beside", (Beside,), {"layout": alone.layout})
    # The objective is built with the backbone it shares; a Sum hands out one backbone.
    both = Sum(alone.backbone, {"own": lambda _: alone, "beside": beside}, {"beside": 0.5}).train()
    rows = batch(both)
    loss = loss_of(both, rows, 0)
    own = loss_of(alone, both.share(rows, "own"), 0).value
    if not torch.equal(loss.parts["own/loss"], own.detach()):
        yield f"as a term of a Sum its loss is {loss.parts['own/loss'].item():g}, and alone {own.item():g}."
    learn(both, rows)
    if alone.t.item() != both.t.item():
        yield "a Sum cannot move it on: `advance` does not keep t."


RULES = (
    gives_a_loss,
    learns,
    evaluates,
    repeats,
    reads_what_it_says,
    exports,
    works_in_half,
    adds_up,
)
