"""Two processes of N rows equal one of 2 N: loss, gradient and three steps, in double precision.

Raw torch.distributed over gloo, with gradients averaged by hand as DDP does; one run goes through Lightning.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import torch.distributed as dist
from tiny import Ids, Pictures, small_mae, small_simclr, transformer, vit
from torch import nn

from ssl_zoo import distributed
from ssl_zoo.distributed import rank, seed_noise, shares, world
from ssl_zoo.objectives._base import Objective, Sum
from ssl_zoo.objectives.masked_lm import MaskedLM
from ssl_zoo.objectives.next_token import NextToken
from ssl_zoo.objectives.rotation import Rotation

ROWS, STEPS, SEED = 8, 3, 5
FULL = {"padded": False}

# Layer norm and no dropout: batch norm and the noise inside a model belong to a process.
ZOO: dict[str, tuple[Callable[[], Objective], Callable[[], Any]]] = {
    "next_token": (lambda: NextToken(transformer(0.0)), lambda: Ids(ROWS, lookahead=1)),
    "masked_lm": (lambda: MaskedLM(transformer(0.0)), lambda: Ids(ROWS)),
    "full next_token": (lambda: NextToken(transformer(0.0)), lambda: Ids(ROWS, lookahead=1, **FULL)),
    "full masked_lm": (lambda: MaskedLM(transformer(0.0)), lambda: Ids(ROWS, **FULL)),
    "mae": (lambda: small_mae(vit()), lambda: Pictures(ROWS)),
    "rotation": (lambda: Rotation(vit()), lambda: Pictures(ROWS)),
    "simclr": (lambda: small_simclr(vit()), lambda: Pictures(ROWS)),
    "sum": (
        lambda: Sum(vit(), {"simclr": small_simclr, "mae": small_mae}, {"mae": 0.5}),
        lambda: Pictures(ROWS),
    ),
}


class Double(nn.Module):
    """A view whose images are in double precision, as the weights are."""

    def __init__(self, view: nn.Module):
        super().__init__()
        self.view = view

    def forward(self, x):
        return self.view(x).double()


def build(name: str) -> tuple[Objective, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(3)
    objective = ZOO[name][0]().double()
    for module in list(objective.modules()):
        if isinstance(module, Objective) and getattr(module, "view", None) is not None:
            module.view = Double(module.view)
    with torch.no_grad():  # nothing starts at zero, so that every gradient counts
        for parameter in objective.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return objective, ZOO[name][1]()


def learn(name: str, accumulate: int = 1) -> dict[str, Any]:
    """Three SGD steps of this process's share: losses, the first gradient and the last weights."""
    objective, rows = build(name)
    parameters = dict(objective.named_parameters())
    found: dict[str, Any] = {"losses": []}
    each = ROWS // (world() * accumulate)
    for step in range(STEPS):
        total = torch.zeros((), dtype=torch.float64)
        for micro in range(accumulate):
            part = micro * world() + rank()
            seed_noise(SEED, step, part, accumulate * world())
            loss = objective(rows.read(np.arange(part * each, (part + 1) * each)))
            (loss.value / accumulate).backward()
            total += loss.value.detach() / accumulate
        for value in [total, *(p.grad for p in parameters.values())]:
            if world() > 1:
                dist.all_reduce(value)
                value /= world()
        found["losses"].append(total.item())
        if step == 0:
            found["gradient"] = {name: p.grad.clone() for name, p in parameters.items()}
        with torch.no_grad():
            for p in parameters.values():
                p -= 0.05 * p.grad
                p.grad = None
    found["weights"] = {name: p.detach() for name, p in parameters.items()}
    return found


def member(number: int, processes: int, folder: Path, fault: bool, job: Callable, args: tuple) -> None:
    """Process `number` of several; the first keeps what the job returns."""
    if fault:
        distributed._Gather.backward = staticmethod(own_chunk)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=number, world_size=processes)
    found = job(*args)
    if number == 0:
        torch.save(found, folder / "found.pt")
    dist.barrier()
    dist.destroy_process_group()


def own_chunk(ctx, *grads):
    """A gather whose gradient forgets what the other processes' losses say about these rows."""
    return grads[0].chunk(world())[rank()]


def together(folder: Path, job: Callable, *args: Any, fault: bool = False, processes: int = 2) -> Any:
    """What `job` returns in the first of two processes."""
    folder.mkdir()
    logs = [folder / f"log-{i}" for i in range(processes)]
    group = [tiny.spawn(log, member, i, processes, folder, fault, job, args) for i, log in enumerate(logs)]
    codes = [tiny.outcome(process) for process in group]
    assert codes == [0] * processes, "\n".join(log.read_text() for log in logs)
    return torch.load(folder / "found.pt")


def learn_all(names: tuple[str, ...]) -> dict[str, Any]:
    return {name: learn(name) for name in names}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Every objective, trained by two processes."""
    return together(tmp_path_factory.mktemp("pair") / "run", learn_all, tuple(ZOO))


def furthest(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Largest difference, relative to the largest value of the tensor."""
    return max(
        ((found[k] - e).abs().max() / e.abs().max().clamp_min(1e-12)).item() for k, e in expected.items()
    )


@pytest.mark.parametrize("name", list(ZOO))
def test_two_processes_equal_one(pair, name):
    one = learn(name)
    two = pair[name]
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-9)
    assert len({f"{loss:.12g}" for loss in one["losses"]}) == STEPS  # the weights do move
    assert two["gradient"].keys() == one["gradient"].keys()
    dead = [k for k, g in one["gradient"].items() if not g.any()]
    assert not dead
    assert furthest(two["gradient"], one["gradient"]) < 1e-9
    assert furthest(two["weights"], one["weights"]) < 1e-9


def test_a_gather_that_forgets_the_others_is_noticed(tmp_path):
    """The mutation check: the loss is right, the gradient is not."""
    one, two = learn("simclr"), together(tmp_path / "run", learn, "simclr", fault=True)
    assert two["losses"][0] == pytest.approx(one["losses"][0], rel=1e-9)
    assert furthest(two["gradient"], one["gradient"]) > 1e-2


@pytest.mark.parametrize("name", ["full next_token", "full masked_lm", "mae", "rotation"])
def test_two_accumulated_parts_equal_one_batch(name):
    """Where each sample has a loss of its own and all weigh the same."""
    whole, halves = learn(name), learn(name, accumulate=2)
    assert halves["losses"] == pytest.approx(whole["losses"], rel=1e-9)
    assert furthest(halves["gradient"], whole["gradient"]) < 1e-9
    assert furthest(halves["weights"], whole["weights"]) < 1e-9


def test_two_processes_accumulate_as_one(tmp_path):
    """Part m of the batch is the same rows for 1 x 4 and for 2 x 2 (processes x accumulated)."""
    one, two = learn("mae", accumulate=4), together(tmp_path / "run", learn, "mae", 2)
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-9)
    assert furthest(two["weights"], one["weights"]) < 1e-9


def test_accumulated_contrastive_parts_are_smaller_batches():
    """Fewer negatives, as the note at the start of training says."""
    assert abs(learn("simclr", accumulate=2)["losses"][0] - learn("simclr")["losses"][0]) > 1e-3


def share(values: list[float], weights: list[float]) -> tuple[float, list[float]]:
    """Mean over processes of a mean by `shares`, and of its gradient with respect to a factor."""
    half = slice(rank() * len(values) // world(), (rank() + 1) * len(values) // world())
    factor = torch.ones(2, dtype=torch.float64, requires_grad=True)
    x = torch.tensor(values, dtype=torch.float64)[half]
    w = torch.tensor(weights, dtype=torch.float64)[half]
    loss = ((x * factor[0] + factor[1] ** 2 * x**2) * shares(w)).sum()
    loss.backward()
    found = torch.cat([loss.detach()[None], factor.grad])
    if world() > 1:
        dist.all_reduce(found)
        found /= world()
    return found[0].item(), found[1:].tolist()


def test_weighted_mean_with_unequal_weights(tmp_path):
    values, weights = [1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 1.0, 0.0]
    # The first process has 2 of the 3 scored rows. Means by hand: of x 6/3 = 2, of x^2 14/3.
    expected = (2 + 14 / 3, [2.0, 2 * 14 / 3])
    for value, gradient in (share(values, weights), together(tmp_path / "run", share, values, weights)):
        assert value == pytest.approx(expected[0], rel=1e-12)
        assert gradient == pytest.approx(expected[1], rel=1e-12)


def test_weighted_mean_of_nothing_is_zero():
    assert shares(torch.zeros(3)).tolist() == [0, 0, 0]


def gathered() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.arange(2.0)[:, None] + 10 * rank()
    x.requires_grad_()
    everyone = distributed.gather(x)
    (everyone.flatten() * torch.tensor([1.0, 2, 3, 4]) * (rank() + 1)).sum().backward()
    return everyone.detach(), x.grad


def test_gather_orders_by_rank_and_sums_gradients(tmp_path):
    everyone, gradient = together(tmp_path / "run", gathered)
    assert everyone.flatten().tolist() == [0, 1, 10, 11]
    # Rank 0 weighs its rows 1 and 2; rank 1 doubles that: 1 + 2 and 2 + 4.
    assert gradient.flatten().tolist() == [3, 6]


def noise() -> torch.Tensor:
    seed_noise(1, 2, rank(), world())
    return torch.cat([distributed.rand(4 // world(), 3), distributed.rand(4 // world(), 3)], 1)


def test_noise_of_a_part_is_rows_of_the_whole(tmp_path):
    whole = noise()
    assert torch.equal(together(tmp_path / "run", noise), whole[:2])
    seed_noise(1, 2, part=1, parts=2)
    second = torch.cat([distributed.rand(2, 3), distributed.rand(2, 3)], 1)
    assert torch.equal(second, whole[2:])
    seed_noise(1, 3)
    assert not torch.equal(distributed.rand(4, 3), whole[:, :3])
    distributed.free_noise()


TINY = (
    *("pretrain", "objective=mae_simclr", "backbone=vit_micro", "data=digits", "data.image_size=8"),
    *("backbone.depth=1", "backbone.embed_dim=16", "backbone.num_heads=2", "budget.steps=4", "save_every=2"),
    *("batch_size=16", "optimizer=sgd", "optimizer.lr=0.05", "validation_limit=32"),
)


def test_lightning_trains_two_processes_as_one(tmp_path):
    """The command itself, which Lightning calls again for the second process: DDP over gloo, in fp32."""
    cache = tmp_path / "cache"
    code, log = tiny.command(tmp_path, cache, *TINY, "trainer=cpu", "run=one")
    assert code == 0, log
    command = [str(Path(sys.executable).with_name("ssl-zoo")), *TINY, "trainer=ddp_cpu", "run=two"]
    environment = os.environ | {"SSL_ZOO_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "batch       16 = 2 processes x 1 accumulated x 8" in ended.stdout

    def weights(run: str, step: int) -> dict[str, torch.Tensor]:
        path = tmp_path / run / f"checkpoints/step-{step:012d}.ckpt"
        return torch.load(path)["state_dict"]

    one, two = weights("one", 4), weights("two", 4)
    moved = max((one[k] - v).abs().max().item() for k, v in weights("one", 2).items())
    apart = max((two[k] - v).abs().max().item() for k, v in one.items())
    assert apart < 2e-6 < 1e-3 < moved
    first, second = (json.loads((tmp_path / run / "summary.json").read_text()) for run in ("one", "two"))
    assert second["val/mae/loss"] == pytest.approx(first["val/mae/loss"], rel=1e-5)
