"""Plans, budgets, watchers and run folders of pretraining."""

import gc
import json
import math
import re
import subprocess
import sys
import threading
import time
from functools import partial
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from tiny import CONTEXT, Ids, Pictures, forked, small_mae, small_simclr, train, transformer, vit

from ssl_zoo import hub, optim, schedules
from ssl_zoo.data import plan as plan_module
from ssl_zoo.data.plan import Parts, Plan, loader, one_ahead
from ssl_zoo.data.rows import DataError, everything
from ssl_zoo.noise import seed_noise
from ssl_zoo.objectives._base import Batch, Loss, Objective, Tune
from ssl_zoo.objectives.next_token import NextToken
from ssl_zoo.pretrain import Budget, Pretraining, PretrainingData, pretrain
from ssl_zoo.pretrain import data as pretrain_data
from ssl_zoo.pretrain import module as pretrain_module
from ssl_zoo.pretrain.budget import ENDLESS, Clock
from ssl_zoo.pretrain.watch import Monitor, Validation, spread

# Which rows make which batch


@pytest.mark.parametrize(("accumulate", "world"), [(2, 1), (1, 2), (2, 2), (4, 2)])
def test_any_division_gives_the_same_batches(accumulate, world):
    rows, plan = Pictures(37), Plan(37, 8, seed=3)
    (whole,) = [Parts(rows, plan, 1, 1, 0)]
    parts = [Parts(rows, plan, accumulate, world, rank) for rank in range(world)]
    for step in range(9):  # two epochs and a step
        found = [part[step * accumulate + m][1].x for m in range(accumulate) for part in parts]
        assert torch.equal(torch.cat(found), whole[step][1].x)


def test_every_epoch_is_another_permutation():
    plan = Plan(37, 8, seed=3)
    assert plan.steps_per_epoch == 4
    epochs = [np.concatenate([plan.rows(4 * epoch + k) for k in range(4)]) for epoch in range(3)]
    for rows in epochs:
        assert len(set(rows.tolist())) == 32  # no row twice; 5 wait for another epoch
        assert set(rows.tolist()) <= set(range(37))
    assert not any(np.array_equal(epochs[a], epochs[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert [plan.epoch(step) for step in (0, 3, 4, 11)] == [0, 0, 1, 2]
    # A function of the step alone: asked for out of order, the answer is the same.
    again = Plan(37, 8, seed=3)
    assert np.array_equal(again.rows(9), np.concatenate(epochs)[72:80])
    assert not np.array_equal(Plan(37, 8, seed=4).rows(0), plan.rows(0))


def test_too_few_rows_and_uneven_parts_are_refused():
    with pytest.raises(DataError, match="7 rows, fewer than one batch of 8: take batch_size=7"):
        Plan(7, 8, 0)
    with pytest.raises(DataError, match="at least 1"):
        Plan(7, 0, 0)
    with pytest.raises(DataError, match="2 processes x 3 accumulation steps; take a multiple of 6"):
        Parts(Pictures(), Plan(22, 8, 0), 3, 2, 0)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # said where fewer cores are free
@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_begin_anywhere_and_agree(workers):
    rows, plan = Ids(), Plan(22, 4, seed=1)
    start = 3
    items = loader(Parts(rows, plan, 2, 1, 0), lambda: start, 17, workers, pin=False)
    start = 6  # asked when iteration begins, not when the loader is made
    found = list(items)
    assert [micro for micro, _ in found] == list(range(6, 17))
    for micro, batch in found:
        index = plan.rows(micro // 2)[2 * (micro % 2) :][:2]
        expected = rows.read(index, plan.epoch(micro // 2))
        assert torch.equal(batch.x, expected.x)
        assert torch.equal(batch.segments, expected.segments)


def test_one_ahead_reads_while_the_last_one_is_worked_on():
    log = []

    def items():
        for i in range(3):
            log.append(f"read {i} in {threading.current_thread().name}")
            yield i

    found = one_ahead(items())
    assert log == []  # nothing is read, nor a step asked for, before the first item is
    for i in found:
        while len(log) < min(i + 2, 3):  # the next one comes although nobody asks for it
            time.sleep(0.001)
        assert len(log) == min(i + 2, 3)  # and no more than one
    assert log == [f"read {i} in one-ahead_0" for i in range(3)]
    assert one_ahead_threads() == 0


def one_ahead_threads() -> int:
    return sum(thread.name.startswith("one-ahead") for thread in threading.enumerate())


def test_what_goes_wrong_one_ahead_is_raised_in_its_place():
    def items():
        yield 1
        raise DataError("a damaged image")

    found = one_ahead(items())
    assert next(found) == 1
    with pytest.raises(DataError, match="a damaged image") as caught:
        next(found)
    assert "items" in [entry.name for entry in caught.traceback]  # where in the thread it happened
    assert one_ahead_threads() == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_one_ahead_ends_with_the_loop(error):
    def loop():
        for i in one_ahead(range(100)):
            if i == 3:
                raise error

    with pytest.raises(error):
        loop()
    gc.collect()  # the error's traceback held the iterator
    assert one_ahead_threads() == 0


@pytest.mark.parametrize(
    ("workers", "pin", "read", "ahead"),
    [
        (0, True, True, True),
        (0, False, True, False),  # no device computes meanwhile
        (1, True, True, False),  # a worker reads ahead already
        (0, True, False, False),  # there is nothing to read
    ],
)
def test_who_reads_ahead(workers, pin, read, ahead):
    parts = Parts(Ids(), Plan(22, 4, 0), 1, 1, 0, read=read)
    assert loader(parts, int, 5, workers, pin).ahead == ahead


def test_reading_ahead_changes_no_batch():
    feeds = [loader(Parts(Ids(), Plan(22, 4, 1), 2, 1, 0), lambda: 6, 17, 0, pin=False) for _ in range(2)]
    feeds[1].ahead = True
    assert [len(feed) for feed in feeds] == [17, 17]
    for (micro, batch), (other, again) in zip(*feeds, strict=True):
        assert micro == other
        assert torch.equal(batch.x, again.x)


def test_training_one_ahead_ends_alike(tmp_path, monkeypatch):
    def ahead(*args):
        feed = loader(*args)
        feed.ahead = True
        return feed

    train(tmp_path / "plain", steps=7)
    monkeypatch.setattr(pretrain_data, "loader", ahead)
    train(tmp_path / "ahead", steps=7)
    assert (tmp_path / "ahead/sha256").read_text() == (tmp_path / "plain/sha256").read_text()
    assert one_ahead_threads() == 0


def test_the_wait_is_what_reading_takes(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(plan_module, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    class Slow(Ids):
        def read(self, index, epoch=0):
            now[0] += 3
            return super().read(index, epoch)

    feed = loader(Parts(Slow(), Plan(22, 4, 0), 1, 1, 0), int, 4, 0, pin=False)
    for number, _ in enumerate(feed, start=1):
        assert feed.waited == 3 * number
        now[0] += 50  # the step


class Sleepy(Pictures):
    def read(self, index, epoch=0):
        time.sleep(0.3)
        return super().read(index, epoch)


def test_waiting_for_data_is_said_with_what_would_help(tmp_path, capsys):
    train(tmp_path / "slow", build=(partial(small_mae, vit()), Sleepy), steps=5)
    (said,) = re.findall(
        r"waiting for data (\d+) % of the time \(workers=0; try more\)", capsys.readouterr().out
    )
    assert 30 < int(said) <= 100


def test_only_row_numbers_travel_where_the_images_live_on_the_device():
    rows = Pictures(2500)
    data = PretrainingData(rows, 4)
    data.resident = everything(rows, torch.device("cpu"))
    assert torch.equal(data.resident, rows.x)
    rows.read = None  # pyright: ignore  # nothing is read from here on
    data.trainer = SimpleNamespace(  # pyright: ignore
        strategy=SimpleNamespace(root_device=torch.device("cpu")), global_step=2
    )
    data.stop = 6
    found = list(data.train_dataloader())
    assert [step for step, _ in found] == [2, 3, 4, 5]
    for step, batch in found:
        assert batch.x.dtype == torch.int64
        assert batch.x.tolist() == data.plan.rows(step).tolist()
        assert batch.segments is batch.y is None
        _, (x, *rest) = data.on_after_batch_transfer((step, batch), 0)
        assert torch.equal(x, rows.x[data.plan.rows(step)])
        assert all(part is None for part in rest)


# How long


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        (Budget(steps=7), 7),
        (Budget(epochs=2), 10),
        (Budget(epochs=0.5), 2),  # round(2.5), to even
        (Budget(samples=41), 10),
        (Budget(tokens=3 * 4 * CONTEXT + 5), 3),
        (Budget(samples=1), 1),
        (Budget(minutes=1), ENDLESS),
    ],
)
def test_budgets_in_steps(budget, steps):
    assert budget.total_steps(Plan(22, 4, 0), Ids(22)) == steps


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "exactly one of steps, epochs, samples, tokens, minutes.*; given: none"),
        ({"steps": 3, "minutes": 1}, "given: {'steps': 3, 'minutes': 1}"),
        ({"steps": 0}, "budget.steps must be positive"),
        ({"minutes": -1}, "budget.minutes must be positive"),
        ({"steps": 1.5}, "budget.steps is a whole number, not 1.5"),
        ({"steps": True}, "budget.steps is a number, not True"),
        ({"epochs": float("nan")}, "budget.epochs is a number, not nan"),
        ({"samples": "many"}, "budget.samples is a number, not 'many'"),
    ],
)
def test_budgets_that_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        Budget(**options)


def test_a_whole_number_may_be_written_as_a_float():
    assert Budget(samples=1e6) == Budget(samples=1_000_000)  # pyright: ignore[reportArgumentType]
    assert str(Budget(samples=1e6)) == "budget.samples=1000000"  # pyright: ignore[reportArgumentType]


def test_tokens_are_for_text():
    with pytest.raises(ValueError, match="images take steps, epochs, samples or minutes"):
        Budget(tokens=100).total_steps(Plan(22, 4, 0), Pictures())


def test_the_clock_counts_steps_or_seconds():
    cpu = torch.device("cpu")
    assert [Clock(Budget(steps=4), 4).fraction(step, cpu) for step in (0, 1, 4, 9)] == [0, 0.25, 1, 1]
    clock = Clock(Budget(minutes=2), ENDLESS)
    clock.spent = 30.0
    assert clock.fraction(1000, cpu) == 0.25
    clock.spent = 150.0
    assert clock.fraction(0, cpu) == 1


def test_a_run_of_minutes_ends_by_the_clock(tmp_path):
    code, log = forked(tmp_path, record_time, tmp_path)
    assert code == 0, log
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["t"] == 1
    assert found["steps"] > 1
    assert 1.2 <= found["seconds"] < 5
    assert found["last lr"] < found["peak lr"] / 2  # the schedule follows the clock


def record_time(folder):
    rates = []

    class Noted(tiny.Killed):
        def optimizer_step(self, *args, **options):
            super().optimizer_step(*args, **options)
            rates.append(self.lr)

    tiny.Killed = Noted
    summary, module = train(folder / "run", "mae", budget=Budget(minutes=0.02), save_every=1000)
    facts = {"t": module.objective.t.item(), "peak lr": max(rates), "last lr": rates[-1]}
    (folder / "found.json").write_text(json.dumps(summary | facts))


# Losses that are not finite


class Bursting(Objective):
    """At step `at`, the loss is infinite, or its gradient is."""

    takes = ("vit",)

    def __init__(self, backbone, at: int, gradient: bool):
        super().__init__(backbone)
        self.at, self.gradient, self.seen = at, gradient, 0

    def forward(self, batch: Batch) -> Loss:
        value = self.backbone(batch.x.float() / 255).pooled.square().mean()
        if self.seen == self.at:
            value = (value - value.detach()).abs().sqrt() if self.gradient else value * float("inf")
        self.seen += 1
        return Loss(value, {"size": value.detach()})


def burst(folder, at: int, gradient: bool, save_every: int) -> None:
    """Keeps what the weights were when training stopped."""
    build = (partial(bursting, at, gradient), Pictures)
    found = {}

    class Noted(tiny.Killed):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            found["module"] = self

    tiny.Killed = Noted
    try:
        train(folder / "run", build=build, save_every=save_every)
    finally:
        torch.save(found["module"].state_dict(), folder / "stopped.pt")


def bursting(at: int, gradient: bool) -> Objective:
    return Bursting(vit(), at, gradient)


def test_an_infinite_loss_stops_before_the_weights_are_touched(tmp_path):
    code, log = forked(tmp_path, burst, tmp_path, 6, False, 6)
    assert code == 1
    assert "NonFinite: the loss was not finite at step 6" in log
    rows = ", ".join(map(str, Plan(22, 4, 0).rows(6)))
    assert f"rows {rows}; last loss: loss=inf, size=inf" in log
    (saved,) = (tmp_path / "run/checkpoints").glob("*.ckpt")
    assert saved.name == "step-000000000006.ckpt"
    before, stopped = torch.load(saved)["state_dict"], torch.load(tmp_path / "stopped.pt")
    assert all(torch.equal(stopped[name], value) for name, value in before.items())
    assert not (tmp_path / "run/summary.json").exists()


def test_an_infinite_gradient_never_reaches_a_checkpoint(tmp_path):
    """The loss of the step that is saved is finite, and the weights after it are not."""
    code, log = forked(tmp_path, burst, tmp_path, 5, True, 3)
    assert code == 1
    assert "NonFinite: the loss is finite, but after step 6 these weights are not: backbone." in log
    (saved,) = (tmp_path / "run/checkpoints").glob("*.ckpt")
    assert saved.name == "step-000000000003.ckpt"
    assert all(value.isfinite().all() for value in torch.load(saved)["state_dict"].values())


def test_gradients_are_clipped_for_a_fused_optimizer_in_bfloat16(tmp_path, monkeypatch):
    """Lightning's own clipping refuses it."""
    clip, norms = Pretraining.configure_gradient_clipping, []

    def watched(self, *args, **options):
        clip(self, *args, **options)
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in self.objective.parameters()]).item())

    monkeypatch.setattr(Pretraining, "configure_gradient_clipping", watched)
    _, module = train(tmp_path, steps=3, precision="bf16-mixed")
    assert module.trainer.optimizers[0].defaults["fused"]
    assert norms == pytest.approx([0.5] * 3, rel=1e-4)


def test_each_gradient_is_clipped_by_itself():
    short, long = torch.tensor([0.3, 0.4]), torch.tensor([[6.0, 0.0], [0.0, 8.0]])
    pretrain_module.clip_each([short, long], 1.0)
    torch.testing.assert_close(short, torch.tensor([0.3, 0.4]))
    torch.testing.assert_close(long, torch.tensor([[0.6, 0.0], [0.0, 0.8]]))
    with pytest.raises(ValueError, match="clip=0: the longest gradient"):
        Pretraining(small_mae(vit()), optim.adamw, Budget(steps=1), clip=0)


def test_rates_decay_and_lengths_are_set_for_each_step(tmp_path):
    """Learning rate, weight decay and gradients of each group, where the head's rate is to be constant."""

    class Tuned(type(small_mae(vit()))):
        takes = ("vit",)

        def tune(self, name, parameter):
            return Tune(lr=0.5, constant=True) if name.startswith("widen") else Tune()

    seen = []

    def watching(objective):
        optimizer = torch.optim.AdamW(optim.tuned(objective, 0.01, 0.2))
        step = optimizer.step

        def noted(closure=None):
            closure()
            longest = max(p.grad.norm().item() for p in objective.parameters() if p.grad is not None)
            rates = {
                (g["constant"], g["matrices"]): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups
            }
            seen.append((longest, rates))
            step()

        optimizer.step = noted
        return optimizer

    objective = Tuned(vit(), masked=0.5, width=16, depth=1, heads=2)
    module = Pretraining(
        objective,
        watching,
        Budget(steps=2),
        schedules.ramp(1.0, 0.0, "linear"),
        decay=schedules.ramp(1.0, 3.0, "linear"),
        clip=1e-3,
    )
    pretrain(module, PretrainingData(Pictures(), 4), tmp_path, accelerator="cpu", devices=1)
    for (longest, rates), t in zip(seen, (0.25, 0.75), strict=True):
        assert longest == pytest.approx(1e-3, rel=1e-2)
        decay = 0.2 * (1 + 2 * t)
        assert rates[False, True] == pytest.approx((0.01 * (1 - t), decay))
        assert rates[False, False] == pytest.approx((0.01 * (1 - t), 0))
        assert rates[True, True] == pytest.approx((0.005, decay))


# What is watched


def at_step(step: int, objective: Objective) -> tuple[SimpleNamespace, Pretraining]:
    """A trainer, as far as callbacks look at it, and a module."""
    return SimpleNamespace(global_step=step, loggers=[]), untrained(objective)


def untrained(objective: Objective) -> Pretraining:
    return Pretraining(objective, optim.adamw, Budget(steps=1))


def test_validation_is_the_loss_of_the_held_out_rows():
    torch.manual_seed(0)
    objective, rows = NextToken(transformer(0.5)), Ids(22, lookahead=1)
    rows.bytes_per_token = 3.0
    rows.segments.zero_()  # every position is scored, so that the mean over rows is that over tokens
    watch = Validation(rows, every=5, batch_size=8)
    watch.after_step(*at_step(10, objective))
    assert objective.training
    objective.eval()
    with torch.no_grad():
        direct = objective(rows.read(np.arange(22))).value.item()
    assert watch.last["val/loss"] == pytest.approx(direct, rel=1e-6)
    assert watch.last["val/nats_per_token"] == pytest.approx(direct, rel=1e-6)
    assert watch.last["val/bits_per_byte"] == pytest.approx(direct / math.log(2) / 3.0, rel=1e-6)


def test_validation_sees_the_same_noise_each_time_and_stops_at_its_limit():
    torch.manual_seed(0)
    objective, rows = small_mae(vit()), Pictures(22)
    watch = Validation(rows, every=5, batch_size=8, limit=10)
    module = untrained(objective)
    first = watch.losses(module)
    seed_noise(123, 4)
    assert watch.losses(module) == first
    objective.eval()
    with torch.no_grad():
        values = []
        for number, (start, stop) in enumerate(((0, 8), (8, 10))):
            seed_noise(0, number)
            values.append(objective(rows.read(np.arange(start, stop))).value.item() * (stop - start))
    assert first["val/loss"].item() == pytest.approx(sum(values) / 10, rel=1e-6)


def test_validation_of_a_contrastive_loss_keeps_to_whole_batches():
    torch.manual_seed(0)
    objective, rows = small_simclr(vit()), Pictures(22)
    module = untrained(objective)
    whole = Validation(rows, 5, batch_size=8, limit=16).losses(module)
    assert Validation(rows, 5, batch_size=8).losses(module) == whole  # the 6 left over would be easier


def test_validation_of_a_contrast_of_one_row_is_left_out(capsys):
    watch = Validation(Pictures(1), every=5, batch_size=8)
    watch.after_step(*at_step(5, small_simclr(vit())))
    assert watch.last == {}
    assert "no validation loss: one held-out row" in capsys.readouterr().out


def test_validation_weighs_tokens_where_rows_have_unequal_numbers():
    torch.manual_seed(0)
    objective, rows = NextToken(transformer(0.0)), Ids(20, lookahead=1)
    losses = Validation(rows, every=5, batch_size=3).losses(untrained(objective))
    with torch.no_grad():
        code = objective.backbone(rows.x[:, :-1], rows.segments[:, :-1]).tokens
        logits = code @ objective.output.weight.T
    nats = torch.nn.functional.cross_entropy(logits.mT, rows.x[:, 1:], reduction="none")
    scored = rows.segments[:, 1:] >= 0
    assert losses["val/nats_per_token"].item() == pytest.approx(nats[scored].mean().item(), rel=1e-5)
    assert losses["val/loss"].item() == pytest.approx((nats * scored).mean().item(), rel=1e-5)


def test_validation_waits_for_its_step():
    watch = Validation(Pictures(), every=4, batch_size=8)
    watch.after_step(*at_step(6, small_mae(vit())))
    assert watch.last == {}
    watch.on_train_end(*at_step(6, small_mae(vit())))
    assert "val/loss" in watch.last


def test_spread_of_hand_made_features():
    collapsed = torch.tensor([[1.0, 2, 3, 4]]).repeat(50, 1) * torch.rand(50, 1).add(0.5)
    found = spread(collapsed)
    assert found["feature_std"] < 1e-3
    assert found["effective_rank"] == pytest.approx(1, abs=0.05)
    axes = torch.cat([torch.eye(4), -torch.eye(4)]).repeat(100, 1)
    found = spread(axes)  # each coordinate is ±1 in a quarter of the rows: std 1/2 = 1/sqrt(D)
    assert found["feature_std"] == pytest.approx(1, abs=2e-3)
    assert found["effective_rank"] == pytest.approx(4, rel=1e-5)
    # Two directions with singular values 3 : 1 -> exp of the entropy of (3/4, 1/4).
    lopsided = torch.cat([torch.eye(4)[:1].repeat(9, 1), torch.eye(4)[1:2]])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert spread(lopsided)["effective_rank"] == pytest.approx(math.exp(entropy), rel=1e-4)


def coloured(count: int, seed: int) -> Pictures:
    """Two classes: bright and dark images."""
    rows = Pictures(count, seed, np.arange(count) % 2)
    rows.x = (rows.x.float() / 8 + 200 * torch.from_numpy(rows.y)[:, None, None, None]).to(torch.uint8)
    return rows


def test_the_monitor_votes_among_neighbours(capsys):
    torch.manual_seed(0)
    watch = Monitor(coloured(60, 0), coloured(30, 1), every=5)
    watch.after_step(*at_step(10, small_mae(vit())))
    assert watch.last["knn"] == 1
    assert 0 < watch.last["feature_std"] < 1.5
    wrong = coloured(30, 1)
    wrong.y = 1 - wrong.y
    watch = Monitor(coloured(60, 0), wrong, every=5)
    watch.after_step(*at_step(10, small_mae(vit())))
    assert watch.last["knn"] == 0
    assert "WARNING" not in capsys.readouterr().out


def test_the_monitor_warns_of_a_collapse(capsys):
    objective = small_mae(vit())
    with torch.no_grad():
        objective.backbone.model.norm.weight.mul_(1e-6)  # only the bias is left: one point
        objective.backbone.model.norm.bias.normal_()
    watch = Monitor(Pictures(60), Pictures(30, 1), every=5)
    watch.after_step(*at_step(10, objective))
    assert watch.last["feature_std"] < 0.01
    assert watch.last["effective_rank"] < 1.1
    assert "knn" not in watch.last
    assert "WARNING: the features have almost collapsed" in capsys.readouterr().out


# The run folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with everything watched, of 9 steps."""
    folder = tmp_path_factory.mktemp("finished")
    code, log = forked(folder, watched, folder / "run")
    assert code == 0, log
    (folder / "log").write_text(log)
    return folder


def watched(run) -> None:
    train(
        run,
        "mae",
        steps=9,
        accumulate=2,
        validation=Validation(Pictures(10, 5), 3, 4),
        monitor=Monitor(coloured(40, 0), coloured(20, 1), 4),
    )


def test_a_run_folder_holds_what_it_promises(finished):
    run = finished / "run"
    names = {path.name for path in run.iterdir()} - {"sha256", ".lock"}
    # config.yaml and tokenizer/ are written by the command line.
    assert names == {"environment.json", "logs", "checkpoints", "backbone", "summary.json"}
    assert {path.name for path in (run / "backbone").iterdir()} == {"config.json", "model.safetensors"}
    environment = json.loads((run / "environment.json").read_text())
    assert environment["versions"]["torch"] == metadata.version("torch")
    assert {"ssl_zoo", "python", "machine", "cores", "command", "commit"} <= set(environment)
    assert [path.stem for path in sorted((run / "checkpoints").glob("*.ckpt"))] == [
        "step-000000000008",
        "step-000000000009",
    ]
    assert len(list((run / "logs/tensorboard").rglob("events*"))) == 1
    summary = json.loads((run / "summary.json").read_text())
    assert summary["objective"] == "MAE"
    assert summary["backbone"] == "TimmViT"
    assert (summary["steps"], summary["samples"], summary["images"]) == (9, 36, 36)
    assert summary["seconds"] > 0
    assert not summary["stopped"]
    assert {"val/loss", "feature_std", "effective_rank", "knn"} <= set(summary)


def test_metrics_are_logged_at_their_steps(finished):
    (file,) = (finished / "run/logs/csv").rglob("metrics.csv")
    header, *lines = (line.split(",") for line in file.read_text().splitlines())
    at = {name: set() for name in header}
    for line in lines:
        for name, value in zip(header, line, strict=True):
            if value:
                at[name].add(int(line[header.index("step")]))
    assert at["train/loss"] == {5}  # log_every
    assert at["lr"] == at["images_per_second"] == at["data_wait_percent"] == {5}
    assert at["val/loss"] == {3, 6, 9}
    assert at["monitor/knn"] == {4, 8, 9}


def test_what_is_about_to_happen_is_printed(finished):
    log = (finished / "log").read_text()
    for line in (
        "objective   MAE, 11,888 parameters",
        "backbone    TimmViT, 7,472 parameters",
        "batch       4 = 1 processes x 2 accumulated x 2",
        "optimizer   AdamW, peak lr 0.003, weight decay 0.05",
        "length      9 steps = 1.80 epochs, on cpu, 32-true",
    ):
        assert line in log


def test_the_backbone_of_a_run_is_that_of_its_last_checkpoint(finished):
    saved = torch.load(finished / "run/checkpoints/step-000000000009.ckpt")["state_dict"]
    loaded = hub.load(finished / "run").state_dict()
    assert all(torch.equal(value, saved[f"objective.backbone.{name}"]) for name, value in loaded.items())


def test_a_run_is_opened_without_hydra_or_lightning(finished):
    program = (
        "import sys, torch, ssl_zoo\n"
        f"backbone = ssl_zoo.load({str(finished / 'run')!r})\n"
        "print(tuple(backbone(torch.rand(2, 3, 8, 8)).pooled.shape), backbone.training)\n"
        "print(sorted({'hydra', 'omegaconf', 'lightning'} & {name.split('.')[0] for name in sys.modules}))\n"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.splitlines() == ["(2, 16) False", "[]"]


@pytest.mark.parametrize(
    ("name", "why"),
    [("simclr", "SimCLR compares the samples of a batch"), ("rotation", "TimmCNN has batch norm")],
)
def test_accumulated_parts_that_are_not_one_batch_are_said_to_be(tmp_path, name, why):
    code, log = forked(tmp_path, train, tmp_path / "run", name, steps=1, accumulate=2)
    assert code == 0, log
    assert f"{why}: accumulation gives 2 batches of 2, not one of 4" in log


def test_trainer_and_data_must_accumulate_alike():
    data = PretrainingData(Pictures(), 4, accumulate=2)
    data.trainer = SimpleNamespace(accumulate_grad_batches=1)  # pyright: ignore
    with pytest.raises(DataError, match=r"accumulate=2.*accumulate_grad_batches=1"):
        data.setup()
