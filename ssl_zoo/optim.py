"""Optimizers with the right parameter groups: matrices decay; norms, biases and positions do not.

Each function takes the objective and returns a torch optimizer. The learning rate given is the one used. Only
what the objective asks for one of its parameters (`Objective.tune`) changes it. Schedules multiply each
group's `base_lr` and `base_decay`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ssl_zoo.objectives._base import Objective, Tune

TOGETHER = 1 << 24  # numbers that are made orthogonal together, in several times their memory
POSITIONS = ("pos_embed", "position_embeddings", "wpe")  # tables of positions: do not decay


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies to a parameter: to matrices and kernels, not to vectors (norms, biases, a
    class or mask token of shape (1, 1, D)), and not to tables of positions."""
    wide = sum(side > 1 for side in parameter.shape) >= 2
    return wide and not any(part in name for part in POSITIONS)


def as_it_is(name: str, parameter: nn.Parameter) -> Tune:
    """What asks for nothing of its own for any parameter (see `Objective.tune`)."""
    return Tune()


def groups(
    named: Iterable[tuple[str, nn.Parameter]],
    lr: float,
    weight_decay: float,
    tune: Callable[[str, nn.Parameter], Tune] = as_it_is,
) -> list[dict[str, Any]]:
    """Parameter groups: one that decays, one that does not, and one more for each thing that `tune` asks.

    They hold trainable parameters alone; groups without any are left out. The keys of a group are those of a
    torch optimizer, and "base_lr" and "base_decay", which schedules multiply; "matrices", whether its
    parameters are such as decay, even where the decay is 0; and "constant", whether the schedule of the
    learning rate leaves the group alone.

    Args:
        named: names and parameters.
        lr, weight_decay: of the groups for which `tune` asks nothing.
        tune: name and parameter -> what is asked for it.
    """
    split: dict[tuple[bool, Tune], list[nn.Parameter]] = {(True, Tune()): [], (False, Tune()): []}
    for name, parameter in named:
        if parameter.requires_grad:
            split.setdefault((decays(name, parameter), tune(name, parameter)), []).append(parameter)
    made = []
    for (matrices, asked), params in split.items():
        decay = asked.decay if asked.decay is not None else weight_decay * matrices
        rates = {"lr": lr * asked.lr, "base_lr": lr * asked.lr, "weight_decay": decay, "base_decay": decay}
        made.append({"params": params, **rates, "matrices": matrices, "constant": asked.constant})
    return [group for group in made if group["params"]]


def tuned(objective: Objective, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """The groups of an objective's parameters, with what it asks for them."""
    return groups(objective.named_parameters(), lr, weight_decay, objective.tune)


def adamw(
    objective: Objective,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    betas: Sequence[float] = (0.9, 0.95),
    eps: float = 1e-8,
) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019), torch's fused one."""
    return _fused_adamw(tuned(objective, lr, weight_decay), lr, betas, eps)


def _fused_adamw(
    params: list[dict[str, Any]], lr: float, betas: Sequence[float], eps: float = 1e-8
) -> Optimizer:
    first, second = betas
    optimizer = torch.optim.AdamW(params, lr=lr, betas=(first, second), eps=eps, fused=True)
    # Fused AdamW offers to unscale fp16 gradients itself, and Lightning then refuses to clip them even
    # where nothing is scaled (bf16-mixed). Declining the offer leaves unscaling to the GradScaler.
    optimizer._step_supports_amp_scaling = False  # pyright: ignore[reportAttributeAccessIssue]
    return optimizer


def sgd(
    objective: Objective, lr: float = 0.1, weight_decay: float = 1e-4, momentum: float = 0.9
) -> Optimizer:
    """torch's SGD with momentum."""
    return torch.optim.SGD(tuned(objective, lr, weight_decay), lr=lr, momentum=momentum)


def lars(
    objective: Objective,
    lr: float = 0.3,
    weight_decay: float = 1e-4,
    momentum: float = 0.9,
    trust: float = 1e-3,
) -> Optimizer:
    """LARS (You et al. 2017, arXiv:1708.03888); vectors are not decayed or rescaled, as in SimCLR's code.

    trust: the length of a step at learning rate 1, as a part of the length of the weights.
    """
    return LARS(tuned(objective, lr, weight_decay), lr, momentum, trust)


def larc(
    objective: Objective,
    lr: float = 0.3,
    weight_decay: float = 1e-4,
    momentum: float = 0.9,
    trust: float = 0.02,
) -> Optimizer:
    """LARC, the clipped form of LARS, whose defaults are those of solo-learn's CIFAR recipes.

    Vectors are neither decayed nor rescaled. A recipe for one of the two does not work with the other: at lr
    0.3 and trust 1e-3, LARS takes steps of 3e-4 |w|, and LARC with trust 0.02 takes steps of up to 0.02 |w|.

    trust: the length of the longest step, as a part of the length of the weights.
    """
    return LARC(tuned(objective, lr, weight_decay), lr, momentum, trust)


def muon(
    objective: Objective,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    momentum: float = 0.95,
    betas: Sequence[float] = (0.9, 0.95),
) -> Optimizer:
    """Muon (Jordan et al. 2024) for the matrices of the backbone's blocks, AdamW for everything else.

    Updates are scaled to AdamW's RMS (Liu et al. 2025, eq. 4), so one learning rate serves both.

    Raises:
        ValueError: the blocks have no matrices.
    """
    inner = {id(p) for block in objective.backbone.blocks() for p in block.parameters() if p.dim() == 2}
    named = list(objective.named_parameters())
    matrices, rest = (
        groups([(n, p) for n, p in named if (id(p) in inner) is chosen], lr, weight_decay, objective.tune)
        for chosen in (True, False)
    )
    if not matrices:
        raise ValueError("optimizer=muon found no matrices in the backbone's blocks; take adamw, sgd or lars")
    return Together(Muon(matrices, lr, momentum), _fused_adamw(rest, lr, betas))


def length(x: Tensor) -> Tensor:
    """|x|, a scalar; of all of it where each process holds a part (a collective call there)."""
    found = x.norm()
    return found.full_tensor() if hasattr(found, "full_tensor") else found  # pyright: ignore


def loss_of(closure: Callable[[], Any] | None) -> Any:
    """What the closure of a step computes, with gradients; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def orthogonal(x: Tensor) -> Tensor:
    """About U V^T of each of the matrices (N, A, B) = U S V^T: S comes to between 0.5 and 1.5.

    Five of Jordan's (2024) quintic Newton-Schulz iterations, in the dtype of x.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(Optimizer):
    """Momentum whose steps are made orthogonal (Jordan et al. 2024), at AdamW's RMS (Liu et al. 2025, eq. 4):

        v <- m v + (1 - m) g;  w <- (1 - lr d) w - 0.2 lr sqrt(max(A, B)) orthogonal(m v + (1 - m) g)

    for matrices w (A, B). That is torch.optim.Muon with match_rms_adamw, whose state it reads; but matrices
    of one shape are made orthogonal together, and in float32 on a CPU: many are slow in torch's bfloat16.
    """

    def __init__(self, params: Iterable[dict[str, Any]], lr: float, momentum: float):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None):  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = loss_of(closure)
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for w in group["params"]:
                if w.grad is not None:
                    shapes.setdefault(w.shape, []).append(w)
            for shape, alike in shapes.items():
                some = max(1, TOGETHER // shape.numel())
                for first in range(0, len(alike), some):
                    self.move(alike[first : first + some], group)
        return loss

    def move(self, ws: list[Tensor], group: dict[str, Any]) -> None:
        """One step of weights of one shape, in place."""
        moves = []
        for w in ws:
            if not self.state[w]:
                self.state[w]["momentum_buffer"] = torch.zeros_like(w)
            v = self.state[w]["momentum_buffer"]
            assert w.grad is not None
            v.lerp_(w.grad, 1 - group["momentum"])
            moves.append(w.grad.lerp(v, group["momentum"]))
        move = torch.stack(moves)
        move = orthogonal(move.to(torch.bfloat16 if move.is_cuda else torch.float32))
        for w, each in zip(ws, move, strict=True):
            w.mul_(1 - group["lr"] * group["weight_decay"])
            w.add_(each, alpha=-0.2 * group["lr"] * max(w.shape) ** 0.5)


class _Layerwise(Optimizer, ABC):
    """Momentum with a rate of its own for each matrix. Parameters of other groups take plain steps."""

    def __init__(self, params, lr: float, momentum: float, trust: float):
        defaults = {"lr": lr, "momentum": momentum, "trust": trust, "weight_decay": 0.0, "matrices": True}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None):  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = loss_of(closure)
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is None:
                    continue
                state = self.state[w]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(w)
                self.move(w, w.grad, state["momentum"], group)
        return loss

    @abstractmethod
    def move(self, w: Tensor, g: Tensor, v: Tensor, group: dict[str, Any]) -> None:
        """One step of a weight w with gradient g and momentum v, in place."""


class LARS(_Layerwise):
    """Layer-wise adaptive rates: v <- m v + lr * trust * |w| / |g + d w| * (g + d w);  w <- w - v.

    You et al. 2017, algorithm 1. A zero weight or gradient takes a plain step.
    """

    def move(self, w, g, v, group) -> None:
        if group["matrices"]:
            g = g.add(w, alpha=group["weight_decay"])
            norms = length(w), length(g)
            ratio = group["trust"] * norms[0] / norms[1].clamp_min(torch.finfo(g.dtype).tiny)
            g = g * torch.where((norms[0] > 0) & (norms[1] > 0), ratio, torch.ones_like(ratio))
        w.sub_(v.mul_(group["momentum"]).add_(g, alpha=group["lr"]))


class LARC(_Layerwise):
    """LARS that never takes a longer step than plain momentum would:

        r = min(trust * |w| / (|g| + d |w|), lr) / lr;  v <- m v + r (g + d w);  w <- w - lr v

    NVIDIA apex, `LARC.py` with clip=True; solo-learn and eb_jepa train with it (trust 0.02). A zero weight or
    gradient takes a plain step, without decay.
    """

    def move(self, w, g, v, group) -> None:
        if group["matrices"]:
            decay, norms = group["weight_decay"], (length(w), length(g))
            moves = (norms[0] > 0) & (norms[1] > 0)
            tiny = torch.finfo(g.dtype).tiny
            rate = group["trust"] * norms[0] / (norms[1] + decay * norms[0]).clamp_min(tiny)
            ratio = (rate / max(group["lr"], tiny)).clamp_max(1)
            g = torch.where(moves, ratio * g.add(w, alpha=decay), g)
        w.sub_(v.mul_(group["momentum"]).add_(g), alpha=group["lr"])


class Together(Optimizer):
    """Several optimizers over disjoint parameters that take their steps as one."""

    def __init__(self, *parts: Optimizer):
        super().__init__([p for part in parts for g in part.param_groups for p in g["params"]], {})
        self.parts = parts
        self.param_groups = [group for part in parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None):  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = loss_of(closure)
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
