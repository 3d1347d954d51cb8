"""Tiny runs in processes of their own, and faults for them.

Processes are forked from one server that has imported everything, so that each costs a fraction of a second
and may be killed at will.
"""

from __future__ import annotations

import atexit
import concurrent.futures.process  # noqa: F401  (preloaded, as what follows)
import gc
import hashlib
import multiprocessing
import multiprocessing.pool
import multiprocessing.synchronize  # preloaded: a fork may become a user who can read no library
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning  # noqa: F401  (preloaded for the forks, as omegaconf and the like)
import numpy as np
import omegaconf  # noqa: F401
import sklearn.datasets  # noqa: F401
import tensorboard.summary.writer.event_file_writer  # noqa: F401
import torch
import torch.utils.tensorboard
import torchmetrics  # noqa: F401
from torch import Tensor

import ssl_zoo.cli.evaluate
import ssl_zoo.cli.pretrain
import ssl_zoo.cli.verb  # noqa: F401
from ssl_zoo import cli, optim
from ssl_zoo.backbones._base import Backbone, Vocabulary
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.backbones.vision import timm_backbone
from ssl_zoo.compose.gate import usual_hydra
from ssl_zoo.objectives._base import Batch, Objective, Sum
from ssl_zoo.objectives.mae import MAE
from ssl_zoo.objectives.masked_lm import MaskedLM
from ssl_zoo.objectives.next_token import NextToken
from ssl_zoo.objectives.rotation import Rotation
from ssl_zoo.objectives.simclr import SimCLR
from ssl_zoo.pretrain import Budget, Pretraining, PretrainingData, pretrain
from ssl_zoo.pretrain.sharding import whole
from ssl_zoo.views.kernels import warm_up

warm_up()  # compiled once, in the server
usual_hydra(())  # composed once
gc.collect()
gc.freeze()  # what is imported is not looked through again, nor are its pages copied, in each fork
atexit.register(gc.unfreeze)
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tiny"])
# The server is a fresh interpreter: tell it where this file lies. (An empty entry is the working folder.)
places = (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, places))

WORDS = Vocabulary(size=24)
SIDE, CONTEXT = 8, 12


class Pictures:
    """Random images (N, 3, SIDE, SIDE), which may be labelled."""

    unit, units_per_row, classes = "images", 1, ()

    def __init__(self, count: int = 22, seed: int = 0, y: np.ndarray | None = None):
        self.x = torch.from_numpy(
            np.random.default_rng(seed).integers(0, 256, (count, 3, SIDE, SIDE), np.uint8)
        )
        self.y, self.fingerprint = y, f"pictures-{seed}-{count}"

    def __len__(self) -> int:
        return len(self.x)

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        y = None if self.y is None else torch.from_numpy(self.y[index])
        return Batch(self.x[torch.from_numpy(index)], None, y)


class Ids:
    """Random rows of ids (N, CONTEXT + lookahead): two documents and, if padded, what ends them short."""

    unit, classes, y = "tokens", (), None

    def __init__(self, count: int = 22, seed: int = 0, lookahead: int = 0, padded: bool = True):
        draw = np.random.default_rng(seed)
        length = CONTEXT + lookahead
        self.units_per_row, self.fingerprint = CONTEXT, f"ids-{seed}-{count}"
        self.x = torch.from_numpy(draw.integers(3, WORDS.size, (count, length)))
        column = np.arange(length)
        first, stop = draw.integers(2, 6, (count, 1)), draw.integers(7, length + 1, (count, 1))
        self.segments = torch.from_numpy(
            np.where(column < first, 0, np.where(column < stop, 1, -1 if padded else 1))
        )
        self.x[self.segments < 0] = WORDS.pad

    def __len__(self) -> int:
        return len(self.x)

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        at = torch.from_numpy(index)
        return Batch(self.x[at].roll(epoch % 3, 0), self.segments[at].roll(epoch % 3, 0))


def vit(**options: Any) -> Backbone:
    return timm_backbone(
        "vit_tiny_patch16_224", image_size=SIDE, patch_size=4, embed_dim=16, depth=2, num_heads=2, **options
    )


def resnet() -> Backbone:
    """Batch norm, whose running statistics are part of the state."""
    return timm_backbone(
        "resnet18", image_size=SIDE, stem="small", layers=[1, 1, 1, 1], channels=[4, 8, 8, 16], stem_width=4
    )


def transformer(dropout: float) -> TextTransformer:
    return TextTransformer(WORDS, width=16, depth=2, heads=2, dropout=dropout)


def small_mae(backbone: Any) -> Objective:
    return MAE(backbone, masked=0.5, width=16, depth=1, heads=2)


def small_simclr(backbone: Any) -> Objective:
    return SimCLR(backbone, width=16, out=8)


# name -> (objective, with the noise in the model that resumption must bring back; its rows)
ZOO: dict[str, tuple[Callable[[], Objective], Callable[..., Any]]] = {
    "next_token": (lambda: NextToken(transformer(0.1)), partial(Ids, lookahead=1)),
    "masked_lm": (lambda: MaskedLM(transformer(0.1)), Ids),
    "mae": (lambda: small_mae(vit(drop_path=0.2)), Pictures),
    "rotation": (lambda: Rotation(resnet()), Pictures),
    "simclr": (lambda: small_simclr(resnet()), Pictures),
    "simcse": (lambda: small_simclr(transformer(0.1)), Ids),
    "sum": (lambda: Sum(vit(drop_path=0.2), {"mae": small_mae, "simclr": small_simclr}), Pictures),
}


class Killed(Pretraining):
    """Dies by SIGKILL after the backward pass of one part of a step; -1: never."""

    die_at = -1

    def on_after_backward(self) -> None:
        if self.die_at == self.parts_seen:
            die()

    def training_step(self, batch: tuple[int, Batch], _: int) -> Tensor:
        self.parts_seen = batch[0]
        return super().training_step(batch, _)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sha256(value: Any) -> str:
    """Of nested dicts and lists of tensors and numbers, to the bit; tensors may be divided over processes."""
    digest = hashlib.sha256()

    def feed(part: Any) -> None:
        if isinstance(part, dict):
            for key in sorted(part, key=str):
                digest.update(repr(key).encode())
                feed(part[key])
        elif isinstance(part, (list, tuple)):
            for item in part:
                feed(item)
        elif isinstance(part, Tensor):
            digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
            digest.update(whole(part.detach()).contiguous().flatten().view(torch.uint8).numpy().tobytes())
        else:
            digest.update(repr(part).encode())

    feed(value)
    return digest.hexdigest()


def train(
    folder: Path,
    name: str = "mae",
    *,
    steps: int = 11,
    batch: int = 4,
    accumulate: int = 1,
    workers: int = 0,
    seed: int = 0,
    data_seed: int = 0,
    save_every: int = 4,
    die_at: int = -1,
    die_writing: int = -1,
    build: tuple[Callable[[], Objective], Callable[..., Any]] | None = None,
    budget: Budget | None = None,
    **options: Any,
) -> tuple[dict[str, Any], Killed]:
    """Pretrain objective `name`, and write the hash of weights and optimizer into FOLDER/sha256.

    Args:
        die_at: part (step * accumulate + part of the step) in which the process kills itself.
        die_writing: step whose checkpoint is never renamed into place, for the same reason.
    """
    torch.set_num_threads(1)
    make, make_rows = build or ZOO[name]
    torch.manual_seed(7)
    module = Killed(make(), partial(optim.adamw, lr=3e-3), budget or Budget(steps=steps), seed=seed)
    module.die_at = die_at
    replace = os.replace

    def torn(source: Any, target: Any) -> None:
        if str(target).endswith(f"{die_writing:012d}.ckpt"):
            die()
        replace(source, target)

    if die_writing >= 0:
        os.replace = torn  # in a process of its own
    data = PretrainingData(make_rows(seed=data_seed), batch, seed, accumulate, workers)
    summary = pretrain(
        module,
        data,
        folder,
        save_every=save_every,
        **{"log_every": 5, "accelerator": "cpu", "devices": 1, "gradient_clip_val": 0.5} | options,
    )
    optimizer = module.trainer.optimizers[0]
    (folder / "sha256").write_text(sha256([module.state_dict(), optimizer.state_dict()]))
    return summary, module


def _guarded(log: Path, function: Callable[..., Any], args: tuple, options: dict[str, Any]) -> None:
    multiprocessing.set_start_method("fork", force=True)  # of the loader's workers, as everywhere on Linux
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background ignore it
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            function(*args, **options)
        except SystemExit as error:  # as the interpreter ends it
            if isinstance(error.code, str):
                print(error.code, file=sys.stderr)
            sys.stderr.flush()
            os._exit(error.code if isinstance(error.code, int) else int(error.code is not None))
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)


def spawn(log: Path, function: Callable[..., Any], *args: Any, **options: Any):
    """Start function(*args, **options) in a process of its own that writes into `log`."""
    process = SERVER.Process(target=_guarded, args=(log, function, args, options))
    process.start()
    return process


@atexit.register
def kill_the_rest() -> None:
    """What a failed test left running is not waited for at the end (multiprocessing would, for ever)."""
    for process in multiprocessing.active_children():
        process.kill()


def outcome(process: Any, timeout: float = 120) -> int:
    """Its exit code: 0, 1 for an exception, -9 for SIGKILL."""
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{process.name} did not end in {timeout} s")
    return process.exitcode


def forked(folder: Path, function: Callable[..., Any], *args: Any, **options: Any) -> tuple[int, str]:
    """Exit code and output of function(*args, **options) in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"log-{len(list(folder.glob('log-*')))}"
    return outcome(spawn(log, function, *args, **options)), log.read_text()


def called(folder: Path, cache: Path, words: tuple[str, ...]) -> None:
    """`ssl-zoo WORDS` in this process, which it changes for good."""
    torch.set_num_threads(1)
    os.chdir(folder)
    os.environ["SSL_ZOO_CACHE"] = str(cache)
    sys.argv = ["ssl-zoo", *words]
    cli.main()


def called_from(source: Path, folder: Path, cache: Path, commands: list[tuple[str, ...]]) -> None:
    """`ssl-zoo WORDS` of each command with the package in another folder, in this process, which has imported
    the rest."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "ssl_zoo"]:
        del sys.modules[name]
    sys.path.insert(0, str(source))
    from ssl_zoo import cli

    assert Path(cli.__file__).is_relative_to(source)
    os.chdir(folder)
    os.environ["SSL_ZOO_CACHE"] = str(cache)
    for words in commands:
        sys.argv = ["ssl-zoo", *words]
        cli.main()


def command(folder: Path, cache: Path, *words: str) -> tuple[int, str]:
    """Exit code and output of `ssl-zoo WORDS`, called in `folder`."""
    return forked(folder, called, folder, cache, words)
