"""What keeps a step fast, held by counting operations: never by time, which says something else each day.

The views' own counts are in test_views.py, those of the data in test_images.py, of the probe in
test_probes.py, and of the output matrix in test_small.py.
"""

from __future__ import annotations

from collections import Counter

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from zoo_backbones import VOCABULARY, backbone, batch, build, pairs

from ssl_zoo.backbones import attention
from ssl_zoo.noise import seed_noise
from ssl_zoo.objectives._base import Loss
from ssl_zoo.objectives.masked_lm import MaskedLM
from ssl_zoo.objectives.simclr import SimCLR
from ssl_zoo.optim import adamw
from ssl_zoo.pretrain import Budget, Pretraining

aten = torch.ops.aten
# Operations whose result, or its shape, the host must wait for.
WAITS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default}


class Watch(TorchDispatchMode):
    """Counts every operation, and keeps the arguments of some."""

    def __init__(self, *keep):
        super().__init__()
        self.count: Counter = Counter()
        self.keep, self.kept = keep, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count[func] += 1
        if func in self.keep:
            self.kept.append(args)
        return func(*args, **(kwargs or {}))

    @property
    def waits(self) -> dict[str, int]:
        return {str(func): count for func, count in self.count.items() if func in WAITS}


@pytest.mark.parametrize(("cls", "kind"), pairs(), ids=str)
def test_a_step_never_waits_for_the_device(cls, kind):
    objective = build(cls, backbone(kind)).train()
    rows = batch(objective)
    optimizer = adamw(objective, lr=1e-3)
    seed_noise(0, 0)
    with Watch() as watch:
        objective(rows).value.backward()
        optimizer.step()
        optimizer.zero_grad()
        objective.advance(0.5)
    assert watch.count.total() > 50
    assert not watch.waits


def test_the_trainer_reads_nothing_back_from_a_device():
    module = Pretraining(build(SimCLR, backbone("cnn")), adamw, Budget(steps=1))
    module.to("meta")  # where a number that is read is an error
    with Watch() as watch:
        module.watch(Loss(torch.zeros((), device="meta"), {"part": torch.zeros((), device="meta")}), 0)
    assert not watch.waits


def test_adamw_is_one_operation():
    objective = build(SimCLR, backbone("cnn"))
    optimizer = adamw(objective, lr=1e-3)
    objective(batch(objective)).value.backward()
    with Watch() as watch:
        optimizer.step()
    fused = sum(count for func, count in watch.count.items() if func is aten._fused_adamw_.default)
    assert fused == len(optimizer.param_groups) == 2  # with and without decay
    assert watch.count[aten.addcmul_.default] == watch.count[aten.addcdiv_.default] == 0


def test_cnns_stay_in_channels_last():
    objective = build(SimCLR, backbone("cnn"))
    rows = batch(objective)
    with Watch(aten.convolution.default) as watch:
        objective(rows)
    assert len(watch.kept) > 5
    for image, weight, *_ in watch.kept:
        for tensor in (image, weight):
            assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_masked_lm_multiplies_chosen_rows_alone_with_the_vocabulary():
    objective = build(MaskedLM, backbone("transformer"))
    rows = batch(objective)
    with Watch(aten.mm.default, aten.addmm.default) as watch:
        objective(rows).value.backward()
    sizes = [
        {side for part in args if isinstance(part, Tensor) for side in part.shape} for args in watch.kept
    ]
    most = max(max(size - {VOCABULARY.size}) for size in sizes if VOCABULARY.size in size)
    chosen = rows.x.shape[0] * -(-15 * rows.x.shape[1] // 100)
    assert most <= max(chosen, objective.backbone.dim) < rows.x.numel()


@pytest.mark.parametrize("order", ["causal", "both"])
def test_what_may_be_seen_is_worked_out_once_for_all_blocks(monkeypatch, order):
    made = []
    mask = attention.attention_mask
    monkeypatch.setattr(attention, "attention_mask", lambda *args: made.append(args) or mask(*args))
    model = backbone("transformer", depth=4)
    ids = torch.randint(3, VOCABULARY.size, (2, 12))
    segments = torch.tensor([[0] * 5 + [1] * 7] * 2)
    model.encode(model.embed(ids), None, segments, order=order)  # pyright: ignore
    assert len(made) == 1
    model.encode(model.embed(ids), None, None, order=order)  # pyright: ignore
    assert len(made) == 1  # one document a row needs none


def test_the_library_adds_no_read_to_lightnings_step(tmp_path, monkeypatch):
    """Between two lines of the log, the only number read on a CPU is whether the loss was finite."""
    from tiny import train

    logged = []
    monkeypatch.setattr(L.pytorch.loggers.CSVLogger, "log_metrics", lambda self, m, step: logged.append(step))
    counts = []
    step = Pretraining.training_step
    watch = Watch()

    def counted(self, *args):
        counts.append(sum(watch.waits.values()))
        return step(self, *args)

    monkeypatch.setattr(Pretraining, "training_step", counted)
    with watch:
        train(tmp_path / "run", "mae", budget=Budget(steps=4), save_every=1000)  # logs every 5
    assert counts == list(range(counts[0], counts[0] + 4))
    assert logged == [0]  # the loss of chance, once, before the first step
