"""What a user waits for: minutes from image files on disk until frozen features tell classes apart.

The clock of a side begins with its process. What measures it, and what a user would not do, is left out: the
other library's imports, writing the files, and looking at the features. So everything is imported where it is
needed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duel import Gate, Race

if TYPE_CHECKING:
    from ssl_zoo.backbones._base import Backbone
    from ssl_zoo.data.images import ImageData

GOAL = 0.44  # kNN accuracy on the validation rows
CAP = 6.0  # minutes after which a side gives up
PAUSE = 5.0  # seconds of training between two looks, at first
STEPS = 700  # of our recipe, whose learning rate falls to 0 by then
RECIPE = (
    "objective=simclr_small",
    "objective.temperature=0.2",
    "backbone=resnet_micro",
    "batch_size=128",
    "optimizer.lr=3e-3",
)


def age() -> float:
    """Seconds since this process began, as Linux counts them."""
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK")


class Watch:
    """The age of this process without the time for which the watch stood still."""

    def __init__(self, now: Callable[[], float] = age):
        self.now, self.stood = now, 0.0

    def seconds(self) -> float:
        return self.now() - self.stood

    @contextmanager
    def standing(self) -> Iterator[None]:
        began = self.now()
        yield
        self.stood += self.now() - began


class Lookout:
    """Called after each step of a side: looks at its features now and then, and ends it when they are good.

    Args:
        look: gives the accuracy of the features as they are.
        goal: an accuracy. cap: minutes. The next look is after `PAUSE` seconds or a tenth of the time so far,
            whichever is longer.
    """

    def __init__(
        self, look: Callable[[], float], watch: Watch, gate: Gate, goal: float = GOAL, cap: float = CAP
    ):
        self.look, self.watch, self.gate, self.goal, self.cap = look, watch, gate, goal, cap
        self.next = 0.0

    def __call__(self, _: float = 0.0, last: bool = False) -> None:
        seconds = self.watch.seconds()
        over = last or seconds >= 60 * self.cap
        if seconds < self.next and not over:
            return
        with self.watch.standing():
            accuracy = self.look()
        self.next = max(seconds + PAUSE, 1.1 * seconds)
        reached = accuracy >= self.goal
        if reached or over:
            minutes = seconds / 60 if reached else self.cap
            self.gate.note(minutes=minutes, accuracy=accuracy, reached=reached)
            self.gate(0)


def labelled() -> ImageData:
    """The images whose training rows lie in files, and whose validation rows are asked about."""
    from cases.material import IMAGES, recipe

    return recipe(*RECIPE, f"data={IMAGES}").data  # pyright: ignore[reportReturnType]


def files(data: ImageData) -> Path:
    """The training rows as PNG files in a folder for each class, written once."""
    import numpy as np

    from cases.material import pil, scratch

    rows = data.labelled("train")
    folder = scratch() / f"png-{data.name}-{len(rows)}"
    if not folder.exists():
        draft = folder.with_name(f"{folder.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        for name in rows.classes:
            (draft / name).mkdir(parents=True)
        batch = rows.read(np.arange(len(rows)))
        for i, (image, y) in enumerate(zip(pil(batch.x), batch.y.tolist(), strict=True)):
            image.save(draft / rows.classes[y] / f"{i:06}.png")
        draft.rename(folder)
    return folder


def looking(backbone: Backbone, data: ImageData, device: str = "cpu") -> Callable[[], float]:
    """The library's own kNN on the features of all training rows, for both sides."""
    import numpy as np
    import torch

    from ssl_zoo.transfer.protocols import Knn, Task

    train, validation = data.labelled("train"), data.labelled("validation")
    every = {0: np.arange(len(train))}
    task = Task(train, validation, every, len(train.classes), "accuracy", torch.device(device))
    return lambda: Knn().fit(backbone, task).chosen[0]["validation"]


def ours(gate: Gate) -> None:
    import hydra.utils  # noqa: F401 - what `ssl-zoo pretrain` imports, which takes its time

    import ssl_zoo.compose.pretraining  # noqa: F401
    from cases.material import recipe, train

    watch = Watch()
    with watch.standing():
        data = labelled()
        folder = files(data)
    with tempfile.TemporaryDirectory() as cache:  # empty: the files have to be decoded
        parts = recipe(
            *RECIPE,
            "data=image_folder",
            f"data.train={folder}",
            f"data.image_size={data.decoding.image_size}",
            "data.validation_fraction=0.0",
            f"+data.cache={cache}",
        )
        with watch.standing():
            lookout = Lookout(looking(parts.objective.backbone, data), watch, gate)
        train(parts, lookout, parts.batch_size, steps=STEPS)
        lookout(last=True)


def lightly(optimizer: dict[str, Any] | None, gate: Gate) -> None:
    """lightly's SimCLR example on a folder; `optimizer`: AdamW's arguments, in place of the example's SGD."""
    import pytorch_lightning  # noqa: F401 - what a script of lightly imports, which takes its time
    import torch
    import torchvision  # noqa: F401
    from lightly.data import LightlyDataset
    from lightly.loss import NTXentLoss  # noqa: F401
    from lightly.transforms import SimCLRTransform  # noqa: F401

    watch = Watch()
    with watch.standing():
        from cases.images import SGD, fit, simclr_example
        from cases.material import IMAGES, recipe

        parts = recipe(*RECIPE, f"data={IMAGES}")
        data = labelled()
        folder = files(data)
        lookout = Lookout(looking(parts.objective.backbone, data), watch, gate)
    how = SGD if optimizer is None else partial(torch.optim.AdamW, **optimizer)
    module, transform = simclr_example(parts, optimizer=how)
    images = LightlyDataset(str(folder), transform=transform)
    fit(module, images, parts.batch_size, 2, lookout)


def minutes_to_knn() -> Race:
    aside = "lightly with AdamW"
    return Race(
        title=f"from PNG files of CIFAR-10's training rows to features of {100 * GOAL:g} % by kNN on its "
        "validation rows, ResNet of 0.7 M parameters, 2 cores",
        unit="minutes",
        against="lightly's SimCLR example on a LightlyDataset of the folder, with 2 loader workers",
        sides={
            "ssl_zoo": ours,
            "lightly": partial(lightly, None),
            aside: partial(lightly, {"lr": 2e-3, "weight_decay": 1e-4}),
        },
        asides=(aside,),
        bar=3.0,
        same="files, batch of 128, network (the same timm module), widths of the projection, temperature, "
        "crop, flip, jitter, grey, no blur; features and kNN by ours, on the same rows, at 32 pixels. The "
        "clock begins with the process, and stands still while features are looked at: every 5 seconds, and "
        f"later whenever a tenth more time is over. A side gives up after {CAP:g} minutes; each runs once",
        differs="ours decodes all files once, into an empty cache, makes views in batches, and trains "
        f"{STEPS} steps of AdamW whose learning rate rises to 3e-3 and falls; lightly's example decodes each "
        "image whenever it is drawn, has batch norm in the projection, and plain SGD with a learning rate of "
        "0.06. The aside has AdamW with 2e-3 instead. lightly's loader workers may run ahead while its "
        "features are looked at",
        threads=2,
    )


CASES = {"minutes_to_knn": minutes_to_knn}
