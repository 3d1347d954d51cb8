"""Divided weights (FSDP2) learn what whole ones learn: loss, gradient and steps, in double precision.

The same objectives on the same backbones as in test_distributed, and every optimizer.
"""

from functools import cache, partial
from typing import Any

import pytest
import ranks
import test_distributed
import torch
import torch.distributed as dist
from in_double import FIRST, ZOO, build, each
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from ssl_zoo import optim
from ssl_zoo.contract import tiny
from ssl_zoo.contract.pair import ROWS, SEED, STEPS, faint, furthest
from ssl_zoo.distributed import rank, world
from ssl_zoo.noise import free_noise, seed_noise
from ssl_zoo.objectives._base import Batch, Objective
from ssl_zoo.pretrain.module import clip_each
from ssl_zoo.pretrain.sharding import shard, whole

OPTIMIZERS = {
    "adamw": partial(optim.adamw, lr=1e-2),
    "sgd": partial(optim.sgd, lr=1e-2),
    "lars": partial(optim.lars, lr=0.3, trust=0.02),
    "larc": partial(optim.larc, lr=0.3),
}
IN_FOUR = ("MAE vit", "SwAV cnn", "MoCo vit", "MaskedLM encoder", "DocumentCrops bag")
REST = tuple(name for name in ZOO if name not in FIRST)


def descend(objective: Objective, optimizer: torch.optim.Optimizer | None) -> None:
    """A step of plain descent, or one of an optimizer after both ways of clipping."""
    parameters = [p for p in objective.parameters() if p.grad is not None]
    if optimizer is None:
        with torch.no_grad():
            for p in parameters:
                assert p.grad is not None
                p.sub_(0.05 * p.grad)
    else:
        clip_each([p.grad for p in parameters if p.grad is not None], 1e-2)
        nn.utils.clip_grad_norm_(objective.parameters(), 2e-2)
        optimizer.step()
    for p in parameters:
        p.grad = None


def learned(name: str, optimizer: str | None = None) -> dict[str, Any]:
    """As `contract.pair.learn`, with weights divided where there are several processes."""
    objective, rows = build(name)
    use = (lambda do: do()) if world() == 1 else shard(objective, init_device_mesh("cpu", (world(),)))
    made = OPTIMIZERS[optimizer](objective) if optimizer else None
    found: dict[str, Any] = {"losses": []}
    each = len(rows.x) // world()
    for step in range(STEPS):
        seed_noise(SEED, step, rank(), world())
        part: Batch = tiny.part(rows, slice(rank() * each, (rank() + 1) * each))
        value: Tensor = use(lambda part=part: objective(part).value)
        value.backward()
        loss = value.detach().double()
        if world() > 1:
            dist.all_reduce(loss)
        found["losses"].append(loss.item() / world())
        named = {key: p.grad for key, p in objective.named_parameters() if p.grad is not None}
        found["gradient"] = {key: whole(gradient).clone() for key, gradient in named.items()}
        descend(objective, made)
        objective.advance((step + 1) / STEPS)
    free_noise()
    state = objective.state_dict()
    assert world() == 1 or all(isinstance(p, DTensor) for p in objective.parameters())
    found["weights"] = {key: whole(value.detach()).double() for key, value in state.items()}
    return found


def several(names: tuple[str, ...]) -> dict[str, Any]:
    return {name: learned(name) for name in names}


def everything(names: tuple[str, ...]) -> dict[str, Any]:
    return several(names) | {optimizer: learned("MAE vit", optimizer) for optimizer in OPTIMIZERS}


@pytest.fixture(scope="module")
def two(tmp_path_factory, worker_id):
    return ranks.once(tmp_path_factory, worker_id, "two-divided", partial(everything, FIRST))


@pytest.fixture(scope="module")
def rest(tmp_path_factory, worker_id):
    return ranks.once(tmp_path_factory, worker_id, "rest-divided", partial(several, REST))


@pytest.fixture(scope="module")
def four(tmp_path_factory, worker_id):
    return ranks.once(tmp_path_factory, worker_id, "four-divided", partial(everything, IN_FOUR), 4)


alone = cache(learned)


def assert_equal(found: dict[str, Any], one: dict[str, Any]) -> None:
    assert found["losses"] == pytest.approx(one["losses"], rel=1e-9)
    assert found["gradient"].keys() == one["gradient"].keys()
    assert furthest(found["gradient"], one["gradient"], faint(one["gradient"])) < 1e-9
    assert found["weights"].keys() == one["weights"].keys()
    assert furthest(found["weights"], one["weights"]) < 1e-9


@pytest.mark.parametrize("name", each(FIRST))
def test_two_processes_with_half_the_weights_each_equal_one(request, name):
    found = request.getfixturevalue("two" if name in FIRST else "rest")[name]
    assert_equal(found, test_distributed.alone(name))
    assert furthest(found["weights"], build(name)[0].state_dict()) > 1e-3  # far enough to matter


@pytest.mark.parametrize("name", IN_FOUR)
def test_four_processes_equal_one(four, name):
    assert ROWS == 8
    assert_equal(four[name], test_distributed.alone(name))


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_and_clipping_of_divided_weights(request, processes, optimizer):
    found = request.getfixturevalue({2: "two", 4: "four"}[processes])
    assert_equal(found[optimizer], alone("MAE vit", optimizer))
    plain = test_distributed.alone("MAE vit")["weights"]
    assert furthest(found[optimizer]["weights"], plain) > 1e-4  # each goes its own way
