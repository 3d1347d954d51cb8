"""Layer-wise learning rates, batches, augmentation, and whole fine-tuning runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from transfer_fakes import MLP, Bag, documents, images

from ssl_zoo.data.rows import Subset
from ssl_zoo.transfer.evaluate import evaluate
from ssl_zoo.transfer.features import extract
from ssl_zoo.transfer.finetune import Steps, classify, finetune, parameter_groups
from ssl_zoo.transfer.floors import from_scratch, random_weights
from ssl_zoo.transfer.linear import choose
from ssl_zoo.transfer.protocols import Finetune, Task
from ssl_zoo.views.recipes import crop_flip


def test_layerwise_groups_hold_every_parameter_once():
    backbone, head = MLP(), nn.Linear(16, 3)
    groups = parameter_groups(backbone, head, 1.0, 0.05, 0.5)
    found = {id(p): group for group in groups for p in group["params"]}
    everything = [*backbone.parameters(), *head.parameters()]
    assert sum(len(group["params"]) for group in groups) == len(everything)
    assert set(found) == {id(p) for p in everything}
    rates = {name: found[id(p)]["lr"] for name, p in backbone.named_parameters()}
    # L = 2 blocks: the stem at 0.5^3, block 0 at 0.5^2, block 1 at 0.5^1, the final norm at 1.
    assert rates["stem.weight"] == rates["stem.bias"] == 0.125
    assert rates["trunk.0.0.weight"] == rates["trunk.0.1.bias"] == 0.25
    assert rates["trunk.1.0.weight"] == 0.5
    assert rates["norm.weight"] == found[id(head.weight)]["lr"] == 1.0
    for parameter in everything:
        assert found[id(parameter)]["weight_decay"] == (0.05 if parameter.dim() > 1 else 0.0)
    backbone.stem.requires_grad_(False)
    fewer = parameter_groups(backbone, head, 1.0, 0.05, 0.5)
    assert sum(len(group["params"]) for group in fewer) == len(everything) - 2
    with pytest.raises(ValueError, match="frozen"):
        parameter_groups(backbone.requires_grad_(False), head, 1.0, 0.05, 0.5)


def test_batches_are_a_function_of_seed_and_step():
    rows = images(10, 0)
    steps = Steps(rows, 4, 5, seed=0)
    stream = np.concatenate([steps.index(step) for step in range(5)])
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10))
    assert not np.array_equal(stream[:10], stream[10:])
    assert np.array_equal(Steps(rows, 4, 99, seed=0).index(3), steps.index(3))
    assert not np.array_equal(Steps(rows, 4, 5, seed=1).index(0), steps.index(0))
    assert Steps(rows, 64, 1, seed=0).index(0).size == 10
    assert len(list(steps)) == 5


def test_finetuning_learns_and_repeats():
    torch.manual_seed(0)
    backbone, train, test = MLP(), images(60, 0), images(60, 1)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    state = torch.get_rng_state()
    runs = []
    for seed in (0, 0, 1):
        torch.rand(3 + seed)  # what ran before must not matter
        head = nn.Linear(16, 3)
        nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
        runs.append(
            finetune(backbone, train, head, lr=3e-3, steps=40, batch_size=16, seed=seed, layer_decay=0.9)
        )
    assert torch.equal(runs[0].head.weight, runs[1].head.weight)
    assert torch.equal(runs[0].backbone.stem.weight, runs[1].backbone.stem.weight)
    assert not torch.equal(runs[0].head.weight, runs[2].head.weight)
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    accuracy = (classify(runs[0], test, device="cpu") == torch.from_numpy(test.y)).float().mean()
    assert accuracy > 0.9
    torch.set_rng_state(state)
    finetune(backbone, train, nn.utils.skip_init(nn.Linear, 16, 3), lr=1e-3, steps=2, batch_size=8, seed=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_one_step_is_a_plain_adamw_step():
    """Against a loop in plain PyTorch: the first step of AdamW, with the clipped gradient."""
    torch.manual_seed(0)
    backbone, rows = MLP().eval(), images(8, 0)
    for block in backbone.trunk:
        block[3].p = 0.0
    head = nn.Linear(16, 3)
    tuned = finetune(
        backbone, rows, head, lr=1e-2, steps=1, batch_size=8, seed=0, layer_decay=0.5, warmup=0.0
    )
    backbone.train()
    loss = nn.functional.cross_entropy(head(backbone(rows.x.float() / 255).pooled), torch.from_numpy(rows.y))
    loss.backward()
    torch.nn.utils.clip_grad_norm_([*backbone.parameters(), *head.parameters()], 1.0)
    for ours, old, lr in [
        (tuned.head.weight, head.weight, 0.5e-2),  # half a cosine is at 1/2 in the middle of the only step
        (tuned.backbone.stem.weight, backbone.stem.weight, 0.5e-2 * 0.5**3),
    ]:
        grad = old.grad
        expected = old * (1 - lr * 0.05) - lr * grad / (grad.abs() + 1e-8)
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


def test_evaluate_finetune_reads_the_test_once_a_seed():
    torch.manual_seed(0)
    test = images(60, 2)
    protocol = Finetune(lrs=(1e-7, 3e-3), steps=40, batch_size=16, layer_decay=0.9)
    result = evaluate(
        MLP(), images(90, 0), images(30, 1), test, protocol, seeds=(0, 1), labels=20, device="cpu"
    )
    assert (test.reads == 2).all()
    assert [choice["lr"] for choice in result.chosen] == [3e-3, 3e-3]
    assert result.mean > 0.8
    assert result.train == 60


def test_head_can_start_at_the_probe():
    torch.manual_seed(0)
    backbone, train, validation = MLP(), images(90, 0), images(60, 1)
    task = Task(train, validation, {0: np.arange(60)}, 3, "accuracy", torch.device("cpu"))
    idle = Finetune(lrs=(0.0,), steps=1, head_start="probe")
    head = idle._head(backbone, task, 0)
    features = extract(backbone, validation)
    probe = choose(extract(backbone, Subset(train, np.arange(60))), features, 3)
    torch.testing.assert_close(
        head(features.pooled), probe.classifier.logits(features.pooled), rtol=1e-3, atol=1e-3
    )
    assert not Finetune()._head(backbone, task, 0).weight.any()


def test_augmentation_sees_float_images_and_repeats():
    torch.manual_seed(0)
    backbone, rows, seen = MLP(), images(30, 0), []
    view = crop_flip(scale=(0.6, 1.0))

    def augment(x):
        seen.append((x, view(x)))
        return seen[-1][1]

    for _ in range(2):
        finetune(backbone, rows, nn.Linear(16, 3), lr=1e-3, steps=3, batch_size=8, seed=0, augment=augment)
    assert all(x.is_floating_point() and x.max() <= 1 for x, _ in seen)
    assert all(not torch.equal(x, out) for x, out in seen)
    assert all(torch.equal(one[1], two[1]) for one, two in zip(seen[:3], seen[3:], strict=True))


def test_mixed_precision_keeps_float_weights():
    rows = images(30, 0)
    tuned = finetune(
        MLP(), rows, nn.Linear(16, 3), lr=1e-3, steps=2, batch_size=8, seed=0, precision="bf16-mixed"
    )
    assert tuned.head.weight.dtype == torch.float32
    assert tuned.head.weight.isfinite().all()


def test_finetuning_text():
    torch.manual_seed(0)
    result = evaluate(
        Bag(),
        documents(80, 0),
        documents(40, 1),
        documents(60, 2),
        Finetune(lrs=(3e-2,), steps=60, batch_size=16),
        seeds=(0,),
        metric="matthews",
        device="cpu",
    )
    assert result.metric == "matthews"
    assert set(result.others) == {"accuracy", "macro_f1"}
    assert result.others["accuracy"][0] > 0.8


def test_from_scratch_chooses_the_rate_once():
    protocol = from_scratch(Finetune(lrs=(1e-7, 3e-3), steps=30, batch_size=16, head_start="probe"))
    assert (protocol.layer_decay, protocol.head_start) == (1.0, "zero")
    test = images(30, 2)
    result = random_weights(MLP, images(60, 0), images(30, 1), test, protocol, seeds=(0, 1), device="cpu")
    assert [choice["lr"] for choice in result.chosen] == [3e-3, 3e-3]
    assert len(result.values) == 2
    assert (test.reads == 2).all()
