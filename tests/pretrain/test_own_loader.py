"""`Pretraining` in a Lightning Trainer of one's own, with a loader of one's own."""

import csv
import warnings

import lightning as L
import pytest
import tiny
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from ssl_zoo import Batch
from ssl_zoo.data.rows import DataError
from ssl_zoo.pretrain import Budget, Pretraining, PretrainingData
from ssl_zoo.pretrain.data import as_batch
from ssl_zoo.pretrain.run import quiet

ROWS = 24
IMAGES = torch.from_numpy(tiny.Pictures(ROWS).x.numpy())


class Noted(L.Callback):
    """What callbacks see of the loss, after each batch."""

    def __init__(self):
        self.seen, self.bars = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append((trainer.callback_metrics["train/loss"].item(), pl_module.loss["loss"].item()))
        self.bars.append(set(trainer.progress_bar_metrics))


def fitted(folder, items, *callbacks, budget=None, epochs=3, logger=False, ckpt_path=None, **options):
    torch.manual_seed(0)
    module = Pretraining(
        tiny.small_simclr(tiny.vit()),
        tiny.partial(tiny.optim.adamw, lr=1e-3),
        budget or Budget(epochs=epochs),
    )
    trainer = L.Trainer(
        max_epochs=epochs,
        callbacks=[*callbacks],
        logger=logger,
        default_root_dir=folder,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **{"enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks)} | options,
    )
    with warnings.catch_warnings():
        quiet()
        trainer.fit(module, items, ckpt_path=ckpt_path)
    return module, trainer


def loader(dataset=None, size=8):
    return DataLoader(dataset or TensorDataset(IMAGES, torch.zeros(ROWS, dtype=torch.long)), size)


def test_batches_of_a_loader_of_ones_own():
    x, y = torch.zeros(2, 3, 4, 4), torch.ones(2)
    assert as_batch(x) == Batch(x)
    assert as_batch([x]) == Batch(x)
    made = as_batch([x, y])
    assert made.x is x
    assert made.y is y
    whole = Batch(x, index=y)
    assert as_batch(whole) is whole
    for wrong, said in (
        ([x, y, y], r"a list of \(Tensor, Tensor, Tensor\)"),
        ({"x": x}, "gives a dict, and"),
    ):
        with pytest.raises(DataError, match=said):
            as_batch(wrong)


def test_loggers_callbacks_and_bars_see_loss_and_parts(tmp_path):
    noted, best = Noted(), ModelCheckpoint(tmp_path / "best", monitor="train/loss", filename="{epoch}")
    logger = CSVLogger(tmp_path)
    with pytest.warns(UserWarning, match="a loader of your own, which decides which rows") as said:
        module, trainer = fitted(tmp_path, loader(), noted, best, logger=logger)
    assert len([w for w in said if "PretrainingData alone" in str(w.message)]) == 1
    assert trainer.global_step == 9
    assert all(seen == own for seen, own in noted.seen)
    assert all({"train/loss", "train/pair_found"} <= bar for bar in noted.bars)
    means = [sum(loss for _, loss in noted.seen[i : i + 3]) / 3 for i in (0, 3, 6)]
    assert best.best_model_score.item() == pytest.approx(min(means))
    assert f"epoch={means.index(min(means))}" in best.best_model_path
    logger.save()
    with open(tmp_path / "lightning_logs/version_0/metrics.csv") as file:
        logged = [float(row["train/loss"]) for row in csv.DictReader(file)]
    assert logged == pytest.approx([loss for loss, _ in noted.seen], rel=1e-6)
    assert module.lr == pytest.approx(1e-3 * module.schedule(8.5 / 9))
    assert module.objective.t.item() == 1


def test_early_stopping_looks_at_the_loss(tmp_path):
    stop = EarlyStopping("train/loss", patience=1, min_delta=100.0)
    with pytest.warns(UserWarning, match="a loader of your own"):
        _, trainer = fitted(tmp_path, loader(), stop, epochs=5)
    assert trainer.current_epoch == 2  # one to compare with, and one that is no better


def test_a_run_with_a_loader_of_ones_own_goes_on_where_it_was(tmp_path):
    with pytest.warns(UserWarning, match="a loader of your own"):
        whole, _ = fitted(tmp_path, loader())
    budget = Budget(epochs=3)
    saving = lambda folder: ModelCheckpoint(tmp_path / folder, save_top_k=-1, filename="{epoch}")  # noqa: E731
    with pytest.warns(UserWarning, match="a loader of your own"):
        fitted(tmp_path, loader(), saving("saved"), budget=budget)
    first = tmp_path / "saved/epoch=0.ckpt"
    with pytest.warns(UserWarning, match="a loader of your own"):
        again, trainer = fitted(tmp_path, loader(), saving("saved"), budget=budget, ckpt_path=first)
    assert trainer.global_step == 9
    for (name, one), two in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two), name


@pytest.mark.filterwarnings("ignore:the batches come from a loader of your own")
def test_budgets_with_a_loader_of_ones_own(tmp_path):
    _, trainer = fitted(tmp_path, loader(), budget=Budget(steps=4))
    assert trainer.global_step == 4
    with pytest.warns(UserWarning, match=r"ends after 9 steps, and budget.steps=20 is 20"):
        fitted(tmp_path, loader(), budget=Budget(steps=20))
    with pytest.raises(ValueError, match=r"budget.samples=20: with a loader of your own take budget.steps"):
        fitted(tmp_path, loader(), budget=Budget(samples=20))
    module, trainer = fitted(tmp_path, loader(), budget=Budget(epochs=2), accumulate_grad_batches=2)
    assert (trainer.global_step, module.clock.steps) == (4, 4)
    module, trainer = fitted(tmp_path, loader(), budget=Budget(epochs=0.1))  # less than half a step
    assert (trainer.global_step, module.clock.steps) == (1, 1)


class Stream(IterableDataset):
    """Batches without end or length."""

    def __iter__(self):
        while True:
            yield IMAGES[:8]


@pytest.mark.filterwarnings("ignore:the batches come from a loader of your own")
def test_budgets_with_a_loader_without_length(tmp_path):
    endless = DataLoader(Stream(), batch_size=None)
    _, trainer = fitted(tmp_path, endless, budget=Budget(steps=2))  # without a warning of an early end
    assert trainer.global_step == 2
    module, trainer = fitted(tmp_path, endless, budget=Budget(minutes=0.002))
    assert trainer.global_step >= 1
    assert module.objective.t.item() == 1
    with pytest.raises(ValueError, match=r"budget.epochs where the loader has a length"):
        fitted(tmp_path, endless, budget=Budget(epochs=1))


def test_the_librarys_batches_are_logged_too_and_not_warned_of(tmp_path):
    noted = Noted()
    _, trainer = fitted(
        tmp_path, PretrainingData(tiny.Pictures(ROWS), 8), noted, use_distributed_sampler=False
    )
    assert trainer.global_step == 9
    assert all(seen == own for seen, own in noted.seen)
