"""Losses of more scores than are held at a time: the same value and gradient, and never all of the scores."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import ranks
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ssl_zoo import contrast
from ssl_zoo.contrast import in_batch, koleo, nt_xent
from ssl_zoo.objectives.clip import clip_loss
from ssl_zoo.objectives.dcl import decoupled
from ssl_zoo.objectives.siglip import siglip_loss
from ssl_zoo.objectives.supcon import supervised_contrast

N, D = 15, 6  # 30 views
LABELS = torch.tensor([i % 4 - 1 for i in range(N)])  # -1: without a label


def halves(z: Tensor) -> list[Tensor]:
    return list(z.chunk(2))


LOSSES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "nt_xent": lambda z: nt_xent(z, 0.2),
    "in_batch": lambda z: in_batch(*halves(z), 0.2),
    "dcl": lambda z: decoupled(z, 0.2),
    "dclw": lambda z: decoupled(z, 0.2, 0.5),
    "supcon": lambda z: supervised_contrast(z, LABELS[: len(z) // 2], 0.2),
    "clip": lambda z: clip_loss(*halves(z), z.new_tensor(1.5)),
    "siglip": lambda z: siglip_loss(*halves(z), z.new_tensor(1.5), z.new_tensor(-2.0)),
    "koleo": lambda z: (koleo(z), z.new_zeros(())),
}


def numbers(rows: int = 2 * N) -> Tensor:
    return torch.randn(rows, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def judged(name: str, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    z = z.clone().requires_grad_()
    loss, found = LOSSES[name](z)
    (slope,) = torch.autograd.grad(loss, z)
    return loss.detach(), found.detach(), slope


class Largest(TorchDispatchMode):
    """Notes the most numbers that a tensor holds which is made within."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        self.numbers = max(self.numbers, *sizes, 0)
        return made


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("held", [1, 100, 210, 899])  # a row at a time, several, all but one of 30
def test_blocks_give_the_same_loss_and_gradient(name, held, monkeypatch):
    whole = judged(name, numbers())
    monkeypatch.setattr(contrast, "HELD", held)
    loss, found, slope = judged(name, numbers())
    torch.testing.assert_close(loss, whole[0], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(found, whole[1], atol=1e-6, rtol=0, check_dtype=False)
    torch.testing.assert_close(slope, whole[2], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_no_more_scores_are_held_than_one_block_of_them(name, monkeypatch):
    rows = 128
    monkeypatch.setitem(LOSSES, "supcon", lambda z: supervised_contrast(z, torch.arange(rows // 2) % 3, 0.2))
    columns = rows // 2 if name in ("in_batch", "clip", "siglip") else rows
    with Largest() as seen:
        judged(name, numbers(rows))
    assert seen.numbers == columns**2
    monkeypatch.setattr(contrast, "HELD", 8 * columns)
    with Largest() as seen:
        judged(name, numbers(rows))
    assert seen.numbers <= max(8 * columns, rows * D)


def both(name: str, held: int) -> tuple[Tensor, Tensor]:
    """The mean loss over the processes, and the gradient of the rows of all."""
    contrast.HELD = held
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    one, two = numbers().chunk(2)
    own = slice(rank * N // world, (rank + 1) * N // world)
    z = torch.cat([one[own], two[own]]).requires_grad_()
    loss, _ = LOSSES[name](z)
    (slope,) = torch.autograd.grad(loss / world, z)
    everyone = [torch.empty_like(slope) for _ in range(world)]
    torch.distributed.all_gather(everyone, slope)
    mean = loss.detach() / world
    torch.distributed.all_reduce(mean)
    parts = [part.chunk(2) for part in everyone]
    return mean, torch.cat([torch.cat([part[k] for part in parts]) for k in (0, 1)])


@pytest.mark.parametrize("name", ["nt_xent", "in_batch", "dclw", "clip"])
def test_three_processes_with_blocks_equal_one_without(name, tmp_path: Path):
    loss, _, slope = judged(name, numbers())
    found = ranks.together(tmp_path / "group", partial(both, name), 40, processes=3)
    torch.testing.assert_close(found[0], loss, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(found[1], slope, atol=1e-12, rtol=1e-12)
