"""Blocks that are computed twice: the same loss and gradients to the bit, and less that is kept."""

import pytest
import tiny
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from ssl_zoo import products
from ssl_zoo.noise import free_noise, seed_noise
from ssl_zoo.objectives._base import Objective
from ssl_zoo.pretrain.recompute import recompute


def step(name: str, twice: bool) -> tuple[Objective, torch.Tensor, int]:
    """The objective after a backward pass, its loss, and how many numbers it kept for that pass."""
    make, make_rows = tiny.ZOO[name]
    torch.manual_seed(7)
    objective = make().train()
    with torch.no_grad():  # no branch starts at zero
        for p in objective.parameters():
            p.add_(0.1 * torch.randn_like(p))
    if twice:
        recompute(objective)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    seed_noise(0, 0, 0, 1)
    torch.manual_seed(3)
    rows = make_rows().read(torch.arange(16).numpy())
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = objective(rows).value
    numbers = sum(kept.values())
    loss.backward()
    free_noise()
    return objective, loss.detach(), numbers


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("name", ["next_token", "masked_lm", "mae", "simcse", "sum"])
def test_the_same_to_the_bit_with_less_kept(name, slow, monkeypatch):
    """Dropout and stochastic depth are those of the first time, and so are linear layers, which are
    convolutions on a processor on which MKL is slow."""
    monkeypatch.setattr(products, "slow_mkl", lambda: slow)
    monkeypatch.setattr(products, "ROWS", 1)
    monkeypatch.setattr(products, "WORK", 1)
    with products.at_full_rate(torch.device("cpu")):
        (plain, one, much), (twice, two, little) = step(name, False), step(name, True)
    assert torch.equal(one, two)
    gradients = {key: p.grad for key, p in twice.named_parameters() if p.grad is not None}
    assert len(gradients) > 5
    for key, p in plain.named_parameters():
        assert (p.grad is None) is (key not in gradients)
        assert p.grad is None or torch.equal(p.grad, gradients[key]), key
    assert little < 0.75 * much


def test_batch_norms_and_backbones_without_blocks_are_refused():
    with pytest.raises(ValueError, match="the batch norms of TimmCNN would count each batch twice"):
        recompute(tiny.ZOO["rotation"][0]())


def test_from_the_command_line(tmp_path, cache):
    words = ("objective=mae_small", "backbone=vit_micro", "data=digits", "budget.steps=3", "batch_size=16")
    words += ("threads=1", "evaluate_every=0", "trainer=cpu")
    for run, more in (("one", ()), ("two", ("recompute=true",))):
        code, text = tiny.command(tmp_path, cache, "pretrain", *words, *more, f"run={run}")
        assert code == 0, text
    one, two = (tmp_path / run / "backbone/model.safetensors" for run in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    code, text = tiny.command(
        tmp_path,
        cache,
        "pretrain",
        "objective=rotation",
        "backbone=resnet_micro",
        *words[2:],
        "recompute=true",
    )
    assert code == 1
    assert "would count each batch twice" in text
    assert "Traceback" not in text
