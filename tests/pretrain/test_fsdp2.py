"""Weights divided over processes: a run is that of whole weights, and its checkpoints keep what files do."""

import json
import os
import pickle
import re
import shutil
import warnings
from functools import partial
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import ranks
import tiny
import torch
from alike import some_of
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, TensorDataset

from ssl_zoo import optim
from ssl_zoo.objectives._base import Objective
from ssl_zoo.pretrain import FSDP2, Budget, Pretraining, checkpoint_shards, sharding
from ssl_zoo.pretrain.checkpoint import CheckpointError, checkpoints, newest, read_checkpoint, whole
from ssl_zoo.pretrain.guard import Guard
from ssl_zoo.pretrain.watch import Monitor, Validation


def quiet_mae() -> Objective:
    """Without noise that belongs to a process."""
    return tiny.small_mae(tiny.vit())


QUIET = (quiet_mae, tiny.Pictures)
OF_EACH_KIND = ("masked_lm", "simclr")  # of the others, which are like these, `make slow` is sure
LABELLED = partial(tiny.Pictures, y=np.arange(22) % 3)
STEPS = 11


def run(folder: Path, *args, processes: int = 2, function=tiny.train, **options) -> tuple[list[int], str]:
    """Exit codes and output of a run of several processes in FOLDER/run."""
    options = {"strategy": "fsdp2", "devices": processes, "steps": STEPS} | options
    logs = folder / f"logs-{len(list(folder.glob('logs-*')))}"
    group = ranks.group(logs, function, folder / "run", *args, processes=processes, **options)
    return ranks.ended(logs, group)


def ran(folder: Path, *args, **options) -> Path:
    codes, text = run(folder, *args, **options)
    assert not any(codes), text
    return folder / "run"


def weights(run_folder: Path) -> dict[str, torch.Tensor]:
    return load_file(run_folder / "backbone/model.safetensors")


def assert_same(one: Path, two: Path) -> None:
    """The same backbone but for rounding, far from where it started."""
    a, b = weights(one), weights(two)
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(
            value, b[name], rtol=1e-3, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    return ran(tmp_path_factory.mktemp("unbroken"), build=QUIET)


@pytest.mark.parametrize("name", some_of(tiny.ZOO, OF_EACH_KIND))
def test_a_divided_run_is_that_of_whole_weights(tmp_path, name):
    """With gradients clipped by their length over all processes."""
    divided = ran(tmp_path / "divided", name)
    assert_same(divided, ran(tmp_path / "whole", name, strategy="ddp"))
    found = [path.name for path in checkpoints(divided / "checkpoints")]
    assert found == ["step-000000000011.ckpt", "step-000000000008.ckpt"]
    assert all(whole(path) is None for path in checkpoints(divided / "checkpoints"))


@pytest.mark.slow  # four processes that go on, below, are in every run
def test_accumulated_parts_and_four_processes(tmp_path, unbroken):
    assert_same(unbroken, ran(tmp_path / "parts", build=QUIET, accumulate=2))
    assert_same(unbroken, ran(tmp_path / "four", build=QUIET, processes=4))


def test_each_process_holds_its_part_alone(tmp_path):
    ran(tmp_path, function=weighing, build=QUIET)
    held = [json.loads((tmp_path / f"run/held-{rank}.json").read_text()) for rank in range(2)]
    for one in held:
        assert one["weights"] < 0.6 * one["of"]  # odd sides are not halved evenly
        assert one["state"] < 0.6 * 2 * one["of"]
    assert sum(one["weights"] for one in held) == held[0]["of"]


def weighing(folder: Path, **options) -> None:
    """Train, and write how many numbers this process holds."""
    _, module = tiny.train(folder, **options)

    def local(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor

    parameters = list(module.objective.parameters())
    state = [value for one in module.trainer.optimizers[0].state.values() for value in one.values()]
    held = {
        "weights": sum(local(p).numel() for p in parameters),
        "of": sum(p.numel() for p in parameters),
        "state": sum(local(value).numel() for value in state if value.dim()),
    }
    (folder / f"held-{os.environ['RANK']}.json").write_text(json.dumps(held))


# Killed and resumed


@pytest.mark.fault("kill", how="both of two processes that divide the weights")
@pytest.mark.parametrize("die_at", some_of([2, 6], [6]))
def test_a_killed_run_ends_with_the_same_bits(tmp_path, unbroken, die_at):
    codes, _ = run(tmp_path, build=QUIET, die_at=die_at)
    assert codes == [-9, -9]
    assert len(checkpoints(tmp_path / "run/checkpoints")) == (die_at > 4)
    resumed = ran(tmp_path, build=QUIET)
    assert (resumed / "sha256").read_text() == (unbroken / "sha256").read_text()


def dying_in(folder: Path, at: str, **options) -> None:
    """Train; the first process kills itself when it comes to this function of its second checkpoint."""
    calls = []
    original = getattr(checkpoint_shards, at)

    def fatal(*args, **kwargs):
        calls.append(at)
        if os.environ["RANK"] == "0" and len(list((folder / "checkpoints").glob("step-*"))) == 1:
            tiny.die()
        return original(*args, **kwargs)

    setattr(checkpoint_shards, at, fatal)
    tiny.train(folder, **options)


@pytest.mark.fault(
    "kill", how="one of two processes that divide the weights, at three moments of a checkpoint"
)
@pytest.mark.parametrize("at", some_of(["apart", "about", "put"], ["put"]))
def test_a_process_killed_while_it_writes_leaves_what_was_there(tmp_path, unbroken, at):
    """Before anything is written, before the manifest, and before the folder gets its name."""
    codes, _ = run(tmp_path, function=dying_in, at=at, build=QUIET)
    assert codes[0] == -9
    assert codes[1] != 0
    folder = tmp_path / "run/checkpoints"
    assert [path.name for path in checkpoints(folder)] == ["step-000000000004.ckpt"]
    assert newest(folder) == folder / "step-000000000004.ckpt"
    resumed = ran(tmp_path, build=QUIET)
    assert (resumed / "sha256").read_text() == (unbroken / "sha256").read_text()
    assert not list(folder.glob(".*"))  # what the killed one left is gone


@pytest.mark.fault("world", how="weights divided over two processes, then over one or four; in float32")
@pytest.mark.parametrize("processes", some_of([1, 4], [4]))
def test_another_number_of_processes_goes_on(tmp_path, unbroken, processes):
    run(tmp_path, build=QUIET, die_at=6)
    assert_same(unbroken, ran(tmp_path, build=QUIET, processes=processes))


def test_whole_weights_go_on_from_divided_ones_and_the_other_way(tmp_path, unbroken):
    run(tmp_path / "one", build=QUIET, die_at=6)
    code, text = tiny.forked(
        tmp_path / "one/logs", tiny.train, tmp_path / "one/run", build=QUIET, steps=STEPS
    )
    assert code == 0, text
    assert_same(unbroken, tmp_path / "one/run")
    code, _ = tiny.forked(
        tmp_path / "two/logs", tiny.train, tmp_path / "two/run", build=QUIET, steps=STEPS, die_at=6
    )
    assert code == -9
    assert_same(unbroken, ran(tmp_path / "two", build=QUIET))


def test_a_checkpoint_reads_whole_in_one_process(unbroken, tmp_path):
    """As pages and exports read it; to the bit what was exported."""
    found = read_checkpoint(checkpoints(unbroken / "checkpoints")[0])
    prefix = "objective.backbone."
    state = {k.removeprefix(prefix): v for k, v in found["state_dict"].items() if k.startswith(prefix)}
    assert state.keys() == weights(unbroken).keys()
    assert all(torch.equal(value, weights(unbroken)[name]) for name, value in state.items())
    assert found["global_step"] == STEPS


# Damage


@pytest.fixture
def copied(unbroken, tmp_path) -> Path:
    return Path(shutil.copytree(unbroken, tmp_path / "run"))


@pytest.mark.fault("damaged", how="a checkpoint of divided weights: five damages of its files")
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda one: (one / "manifest.json").unlink(), "its manifest is missing"),
        (lambda one: (one / "manifest.json").write_text("{"), "its manifest is damaged"),
        (lambda one: (one / "__1_0.distcp").unlink(), "__1_0.distcp is missing"),
        (lambda one: os.truncate(one / "__0_0.distcp", 100), "__0_0.distcp has 100 bytes instead of"),
        (lambda one: flipped(one / "rest.pt"), "the SHA-256 of rest.pt is not the one recorded"),
    ],
)
def test_a_damaged_newest_is_skipped(copied, damage, says):
    damage(checkpoints(copied / "checkpoints")[0])
    with pytest.warns(UserWarning, match=re.escape(says)):
        assert newest(copied / "checkpoints") == copied / "checkpoints/step-000000000008.ckpt"


def test_a_damaged_newest_is_written_again(unbroken, copied):
    flipped(checkpoints(copied / "checkpoints")[0] / "rest.pt")
    ran(copied.parent, build=QUIET)
    assert whole(copied / "checkpoints/step-000000000011.ckpt") is None
    assert (copied / "sha256").read_text() == (unbroken / "sha256").read_text()


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harmed",)


def test_a_description_that_would_run_something_is_not_opened(copied, monkeypatch):
    path = checkpoints(copied / "checkpoints")[0]
    (path / ".metadata").write_bytes(pickle.dumps(Harm()))
    monkeypatch.chdir(copied)
    with pytest.raises(CheckpointError, match=r"holds more than tensors and plain values.*posix\.mkdir"):
        read_checkpoint(path)
    assert not Path("harmed").exists()


def full_disk(folder: Path, **options) -> None:
    """Train; the disk of the second process fills up at its second checkpoint."""
    save = checkpoint_shards.save

    def full(state, *, storage_writer, **rest):
        if len(list((folder / "checkpoints").glob("step-*"))) == 1 and os.environ["RANK"] == "1":
            (storage_writer.path).mkdir(exist_ok=True, parents=True)
            storage_writer.write_data = no_room
        return save(state, storage_writer=storage_writer, **rest)

    checkpoint_shards.save = full
    tiny.train(folder, **options)


def no_room(*args):
    raise OSError(28, "No space left on device")


@pytest.mark.fault("disk", how="of one of two processes that divide the weights")
def test_a_full_disk_of_one_process_ends_all_with_the_reason(tmp_path, unbroken):
    codes, text = run(tmp_path, function=full_disk, build=QUIET)
    assert codes == [1, 1]
    assert len(re.findall(r"CheckpointError: could not write .*step-000000000008.ckpt", text)) == 2
    assert "No space left on device" in text
    assert "Older checkpoints are untouched; make room and resume." in text
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-000000000004.ckpt"]
    assert (ran(tmp_path, build=QUIET) / "sha256").read_text() == (unbroken / "sha256").read_text()


# What looks at weights


def watched(folder: Path, **options) -> None:
    rows, held_out = LABELLED(), LABELLED(seed=1)
    monitor = Monitor(rows, held_out, 4, k=3)
    tiny.train(
        folder,
        build=(QUIET[0], LABELLED),
        validation=Validation(held_out, 4, 4),
        monitor=monitor,
        guard=Guard("effective_rank", head_start=0.3, margin=0.0),
        **options,
    )


def test_watchers_see_whole_weights(tmp_path):
    divided, plain = (ran(tmp_path / s, function=watched, strategy=s) for s in ("fsdp2", "ddp"))
    one, two = (json.loads((folder / "summary.json").read_text()) for folder in (divided, plain))
    assert one.keys() == two.keys()
    for name in ("feature_std", "effective_rank", "knn", "val/loss", "exported_step"):
        assert one[name] == pytest.approx(two[name], rel=1e-4), name
    assert_same(divided, plain)


def test_half_precision_keeps_weights_and_heads_in_float32(tmp_path):
    half = ran(tmp_path / "half", build=QUIET, precision="bf16-mixed")
    both = weights(half), weights(ran(tmp_path / "ddp", build=QUIET, precision="bf16-mixed", strategy="ddp"))
    assert {value.dtype for value in both[0].values()} == {torch.float32}
    for name, value in both[0].items():
        torch.testing.assert_close(value, both[1][name], rtol=0, atol=0.02)


def overflowing(folder: Path, **options) -> None:
    """Train; one number of one weight, which the second process holds, is infinite before the first look."""

    def make() -> Objective:
        objective = quiet_mae()
        advance = objective.advance

        def break_a_weight(t: float) -> None:
            advance(t)
            weight = next(objective.backbone.blocks()[0].parameters()).detach()
            assert isinstance(weight, DTensor)
            if os.environ["RANK"] == "1":
                weight.to_local()[-1] = float("inf")

        objective.advance = break_a_weight
        return objective

    tiny.train(folder, build=(make, tiny.Pictures), save_every=1, **options)


def test_a_weight_that_is_not_finite_in_one_process_is_named_in_all(tmp_path):
    codes, text = run(tmp_path, function=overflowing)
    assert codes == [1, 1]
    assert len(re.findall("NonFinite: the loss is finite, but after step 1 these weights are not", text)) == 2
    assert not checkpoints(tmp_path / "run/checkpoints")


def own_trainer(folder: Path, epochs: int) -> None:
    """A Lightning Trainer and a loader of somebody's own, with Lightning's own checkpoints."""
    torch.manual_seed(0)
    module = Pretraining(quiet_mae(), partial(optim.adamw, lr=1e-3), Budget(epochs=2))
    keeper = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
    trainer = L.Trainer(
        strategy=FSDP2(), accelerator="cpu", devices=2, max_epochs=epochs, callbacks=[keeper], logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    images = tiny.Pictures(24).x
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = folder / "epoch=0.ckpt"
        loader = DataLoader(TensorDataset(images), 4)
        trainer.fit(module, loader, ckpt_path=before if before.exists() else None, weights_only=True)
    assert trainer.global_step == 3 * epochs
    if os.environ["RANK"] == "0":
        (folder / f"epochs-{epochs}").write_text(str(trainer.callback_metrics["train/loss"].item()))


def test_a_trainer_of_ones_own_divides_saves_and_goes_on(tmp_path):
    for folder, epochs in (("at once", 2), ("in two", 1), ("in two", 2)):
        logs = tmp_path / f"{folder}-{epochs}"
        codes, text = ranks.ended(logs, ranks.group(logs, own_trainer, tmp_path / folder, epochs=epochs))
        assert not any(codes), text
    assert whole(tmp_path / "in two/epoch=0.ckpt") is None
    once, twice = ((tmp_path / name / "epochs-2").read_text() for name in ("at once", "in two"))
    assert float(twice) == pytest.approx(float(once), rel=1e-6)  # this loader shuffles nothing


# Refused


def test_the_first_fsdp_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ValueError, match=r"trainer\.strategy=fsdp is FSDP1: it flattens .* trainer=fsdp2"):
        tiny.train(tmp_path / "run", strategy="fsdp")
    assert not (tmp_path / "run").exists()


def test_a_weight_without_an_axis_is_refused_by_name():
    objective = tiny.small_mae(tiny.vit())
    objective.temperature = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"MAE has one without any: temperature.*torch\.zeros\(1\)"):
        sharding.shard(objective, None)  # pyright: ignore[reportArgumentType]
