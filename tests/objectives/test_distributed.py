"""Two processes of N rows equal one of 2 N: loss, gradient and three steps, in double precision.

Every objective that a file of ssl_zoo/objectives defines, on every kind of backbone that it takes (on one
where `make slow` does not run), in one pair of processes: raw torch.distributed over gloo, with gradients
averaged by hand as DDP does. One run goes through Lightning.
"""

import functools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ranks
import tiny
import torch
import torch.distributed as dist
from in_double import LAST, ZOO, build, each
from torch import nn

from ssl_zoo import distributed, norm
from ssl_zoo.assign import sinkhorn
from ssl_zoo.backbones._timm import BatchNormAct, BatchNormAct2d
from ssl_zoo.backbones.cnn import TimmCNN
from ssl_zoo.contract.pair import STEPS, faint, furthest, in_parts, learn
from ssl_zoo.contrast import nt_xent
from ssl_zoo.distributed import rank, world
from ssl_zoo.memory import Centre
from ssl_zoo.noise import free_noise, rand, seed_noise

REST = tuple(name for name in ZOO if name not in LAST)


def learned(name: str, accumulate: int = 1) -> dict[str, Any]:
    return learn(*build(name), accumulate)


def own_chunk(ctx, *grads):
    """A gather whose gradient forgets what the other processes' losses say about these rows."""
    return grads[0].chunk(world())[rank()]


def several(names: tuple[str, ...]) -> dict[str, Any]:
    return {name: learned(name) for name in names}


def everything() -> dict[str, Any]:
    """What one pair of processes does for all tests here."""
    found = several(LAST)
    found |= {"norms": norms(), "gathered": gathered(), "noise": noise(), "assigned": assigned()}
    found["contrast of two"] = contrast_of_two()
    found["summed"] = summed()
    found["accumulated"] = learned("MAE vit", accumulate=2)
    found["own norm"] = with_fault(norm, "world", lambda: 1, "Rotation cnn")
    found["own chunk"] = with_fault(distributed._Gather, "backward", staticmethod(own_chunk), "SimCLR vit")
    return found


def with_fault(where: Any, key: str, fault: Any, name: str) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, key, fault)
        return learned(name)


@pytest.fixture(scope="module")
def pair(tmp_path_factory, worker_id):
    return ranks.once(tmp_path_factory, worker_id, "two-processes", everything)


@pytest.fixture(scope="module")
def rest(tmp_path_factory, worker_id):
    return ranks.once(tmp_path_factory, worker_id, "rest-of-pairs", functools.partial(several, REST))


@functools.cache
def alone(name: str) -> dict[str, Any]:
    """What one process learns."""
    return learned(name)


@pytest.mark.parametrize("name", each(LAST))
def test_two_processes_equal_one(request, name):
    two, one = request.getfixturevalue("pair" if name in LAST else "rest")[name], alone(name)
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-9)
    assert len({f"{loss:.12g}" for loss in one["losses"]}) == STEPS  # the weights do move
    assert two["gradient"].keys() == one["gradient"].keys()
    assert furthest(two["gradient"], one["gradient"], faint(one["gradient"])) < 1e-9
    assert furthest(two["weights"], one["weights"]) < 1e-9
    assert furthest(one["weights"], build(name)[0].state_dict()) > 1e-3  # far enough to matter


@pytest.mark.fault("wrong gather", how="the same, in plain torch.distributed")
def test_a_gather_that_forgets_the_others_is_noticed(pair):
    """The first mutation check: the loss is right, the gradient is not."""
    wrong, right = pair["own chunk"], alone("SimCLR vit")
    assert wrong["losses"][0] == pytest.approx(right["losses"][0], rel=1e-9)
    assert furthest(wrong["gradient"], right["gradient"], faint(right["gradient"])) > 1e-2


@pytest.mark.fault("wrong gather", how="a batch norm over the rows of one process alone")
def test_batch_norm_of_a_process_alone_is_noticed(pair):
    """The second mutation check."""
    wrong, right = pair["own norm"], alone("Rotation cnn")
    assert wrong["losses"][0] != pytest.approx(right["losses"][0], rel=1e-5)
    assert furthest(wrong["gradient"], right["gradient"], faint(right["gradient"])) > 1e-2


@pytest.mark.parametrize("name", each(LAST))
def test_accumulated_parts_equal_one_batch(name):
    """Where each sample has a loss of its own; else they are smaller batches, as the trainer says."""
    whole, halves = alone(name), learned(name, accumulate=2)
    if in_parts(build(name)[0]):
        assert halves["losses"] == pytest.approx(whole["losses"], rel=1e-9)
        assert furthest(halves["gradient"], whole["gradient"], faint(whole["gradient"])) < 1e-9
        assert furthest(halves["weights"], whole["weights"]) < 1e-9
    else:
        assert halves["losses"][-1] != pytest.approx(whole["losses"][-1], rel=1e-6)


def test_two_processes_accumulate_as_one(pair):
    """Part m of the batch is the same rows for 1 x 4 and for 2 x 2 (processes x accumulated)."""
    one, two = learned("MAE vit", accumulate=4), pair["accumulated"]
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-9)
    assert furthest(two["weights"], one["weights"]) < 1e-9


# Batch norm over all processes

# name -> (torch's or timm's own, what follows the rows and channels)
NORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "1d": (lambda: nn.BatchNorm1d(4), ()),
    "1d of a sequence": (lambda: nn.BatchNorm1d(4, affine=False), (5,)),
    "2d": (lambda: nn.BatchNorm2d(4, eps=1e-3, momentum=0.3), (3, 2)),
    "3d": (lambda: nn.BatchNorm3d(4, momentum=None), (1, 3, 2)),
    "no memory": (lambda: nn.BatchNorm2d(4, track_running_stats=False), (3, 2)),
    "timm": (lambda: BatchNormAct2d(4, act_layer=nn.SiLU, inplace=False), (3, 2)),
    "timm without act": (lambda: BatchNormAct2d(4, apply_act=False), (3, 2)),
}


def normed(name: str) -> dict[str, torch.Tensor]:
    """Two steps of a norm on this process's rows, 3 of 8 and the other 5: results, gradients and buffers."""
    torch.manual_seed(1)
    make, rest = NORMS[name]
    layer = make().double()
    for p in layer.parameters():
        nn.init.normal_(p)
    if world() > 1:
        norm.over_all_processes(layer)
    mine = slice(0, 8) if world() == 1 else slice(0, 3) if rank() == 0 else slice(3, 8)
    found = {}
    for step in range(2):
        x, weigh = (torch.randn(8, 4, *rest, dtype=torch.float64) * (1 + step) + 2 for _ in range(2))
        x = x[mine].requires_grad_()
        y = layer(x)
        layer.zero_grad()
        (y * weigh[mine]).sum().backward()
        found |= {f"y{step}": y.detach(), f"dx{step}": x.grad}
        for key, p in layer.named_parameters():
            if world() > 1:
                dist.all_reduce(p.grad)
            found[f"{key}{step}"] = p.grad
    if layer.track_running_stats:  # without, a norm that evaluates has the rows before it alone
        found["eval"] = layer.eval()(x).detach()
    return found | layer.state_dict()


def norms() -> dict[str, Any]:
    found: dict[str, Any] = {name: normed(name) for name in NORMS}
    image = torch.randn(2, 4, 3, 2).to(memory_format=torch.channels_last)
    half = norm.BatchNorm2d(4)(image.bfloat16())
    return found | {"half": half, "laid out": norm.BatchNorm2d(4)(image).stride() == image.stride()}


@pytest.mark.parametrize("name", NORMS)
def test_batch_norm_is_that_of_the_rows_of_all_processes(pair, name):
    whole, two = normed(name), pair["norms"][name]
    assert two.keys() == whole.keys()
    for key, want in whole.items():
        rows = key.startswith(("y", "dx", "eval"))
        torch.testing.assert_close(two[key], want[:3] if rows else want, rtol=1e-10, atol=1e-10)


def test_batch_norm_keeps_type_and_layout(pair):
    assert pair["norms"]["half"].dtype == torch.bfloat16
    assert pair["norms"]["laid out"]


@pytest.mark.parametrize("name", NORMS)
def test_batch_norm_of_one_process_is_the_librarys_own(name):
    """The same bits, the same names."""
    torch.manual_seed(0)
    make, rest = NORMS[name]
    theirs, ours = make(), make()
    ours.load_state_dict(theirs.state_dict())
    norm.over_all_processes(ours)
    assert type(ours) is not type(theirs)
    assert isinstance(ours, type(theirs))
    x = torch.randn(6, 4, *rest)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), theirs.buffers(), strict=True))


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "efficientnet_b0", "densenet121"])
def test_all_batch_norms_of_a_cnn_are_over_all_processes(name):
    model = TimmCNN(name, image_size=64).model
    found = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(found) > 10
    assert all(isinstance(m, norm.BatchNorm) for m in found)
    assert any(isinstance(m, BatchNormAct) for m in found) is (name != "resnet18")


# Gather and noise


def gathered() -> tuple[torch.Tensor, ...]:
    x = torch.arange(2.0)[:, None] + 10 * rank()
    x.requires_grad_()
    everyone = distributed.gather(x)
    beside = torch.zeros(4, 1, requires_grad=True)
    weighed = torch.tensor([1.0, 2, 3, 4]) * (rank() + 1)
    ((everyone + beside).flatten() * weighed).sum().backward()
    return everyone.detach(), x.grad, beside.grad


def test_gather_orders_by_rank_and_sums_gradients(pair):
    everyone, gradient, beside = pair["gathered"]
    assert everyone.flatten().tolist() == [0, 1, 10, 11]
    # Rank 0 weighs its rows 1 and 2; rank 1 doubles that: 1 + 2 and 2 + 4.
    assert gradient.flatten().tolist() == [3, 6]
    assert beside.flatten().tolist() == [1, 2, 3, 4]  # what shares its gradient keeps it


def summed() -> dict[str, torch.Tensor]:
    """Sums and means over both processes' rows, of which the first chooses one and the second all three."""
    x = torch.tensor([[1.0, 2.0, 3.0], [10.0, 20.0, 60.0]])[rank()].requires_grad_()
    where = torch.tensor([[True, False, False], [True, True, True]])[rank()]
    part = distributed.mean(x, where)
    part.backward()
    dist.all_reduce(whole := part.detach().clone())
    return {
        "total": distributed.total(x),
        "everybody": distributed.everybody(x),
        "mean": whole / world(),
        "gradient": x.grad / world(),
    }


def test_sums_and_means_are_those_of_all_processes(pair):
    found = pair["summed"]
    assert found["total"].tolist() == [11, 22, 63]
    assert found["everybody"].tolist() == [1, 2, 3, 10, 20, 60]
    assert found["mean"].item() == pytest.approx((1 + 10 + 20 + 60) / 4)
    assert found["gradient"].tolist() == [0.25, 0, 0]  # of the first process's rows, averaged as DDP does


def contrast_of_two() -> float:
    """One sample a process."""
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0]]) if rank() == 0 else torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    return nt_xent(z, 1.0)[0].item()


def test_a_contrast_may_have_one_sample_in_each_process(pair):
    assert pair["contrast of two"] == pytest.approx(-math.log(math.e / (math.e + 2)), rel=1e-6)


def assigned() -> tuple[torch.Tensor, torch.Tensor]:
    """Assignments of this process's rows, and the centre of everybody's in two accumulated parts."""
    scores = torch.rand(8, 3, generator=torch.Generator().manual_seed(0)).chunk(world())[rank()]
    centre = Centre(3)
    for part in scores.chunk(2):
        centre.stash(part)
    centre.flush()
    return sinkhorn(scores), centre.value


def test_assignments_and_centres_are_those_of_all_rows(pair):
    (mine, centre), (whole, want) = pair["assigned"], assigned()
    torch.testing.assert_close(mine, whole[:4])
    torch.testing.assert_close(centre, want)
    alone = sinkhorn(torch.rand(8, 3, generator=torch.Generator().manual_seed(0))[:4])
    assert (alone - whole[:4]).abs().max() > 1e-3, "these rows alone are assigned in another way"


def noise() -> torch.Tensor:
    seed_noise(1, 2, rank(), world())
    return torch.cat([rand(4 // world(), 3), rand(4 // world(), 3)], 1)


def test_noise_of_a_part_is_rows_of_the_whole(pair):
    whole = noise()
    assert torch.equal(pair["noise"], whole[:2])
    seed_noise(1, 2, part=1, parts=2)
    second = torch.cat([rand(2, 3), rand(2, 3)], 1)
    assert torch.equal(second, whole[2:])
    seed_noise(1, 3)
    assert not torch.equal(rand(4, 3), whole[:, :3])
    free_noise()


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
