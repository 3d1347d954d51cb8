"""Every objective, on the first kind of backbone it takes, dies in a step, goes on, and ends with the same
bits.

On other kinds, what a checkpoint holds is checked by the contract (test_zoo.py), and killed processes by
tests/faults/test_kills.py.
"""

import numpy as np
import pytest
import tiny
import torch
import zoo_backbones
from zoo_backbones import backbone, build, discover, part

from ssl_zoo.objectives._base import Batch

ROWS, KINDS_OF_NOISE = 12, {"vit": {"drop_path": 0.2}}  # texts have dropout as it is


class Held:
    """The rows of one batch as a data set."""

    unit, units_per_row, classes = "rows", 1, ("0", "1", "2")

    def __init__(self, batch: Batch):
        self.batch, self.fingerprint = batch, "held"
        self.y = None if batch.y is None else batch.y.numpy()

    def __len__(self) -> int:
        return len(self.batch.x)

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        return part(self.batch, torch.from_numpy(index))


class Died(Exception):
    """What a process that is killed does here, where it goes on living."""


def die():
    raise Died


def trained(folder, cls, kind, accumulate, die_at=-1) -> str:
    """Six steps, with a checkpoint after three; the hash of weights, memories and optimizer at the end."""
    on = lambda: backbone(kind, **KINDS_OF_NOISE.get(kind, {}))  # noqa: E731
    rows = Held(zoo_backbones.batch(build(cls, on()), ROWS))
    tiny.train(
        folder,
        build=(lambda: build(cls, on()), lambda seed: rows),
        **{"steps": 6, "save_every": 3, "batch": 4, "accumulate": accumulate, "die_at": die_at},
    )
    return (folder / "sha256").read_text()


@pytest.mark.parametrize("cls", discover(), ids=lambda cls: cls.__name__)
def test_what_dies_in_a_step_goes_on_to_the_same_bits(tmp_path, monkeypatch, cls):
    kind = cls.takes[0]
    monkeypatch.setattr(tiny, "die", die)
    # In parts, where two rows are enough for one, the first of a step has left what it noted when it dies.
    accumulate = 2
    whole = trained(tmp_path / "whole", cls, kind, accumulate)
    with pytest.raises(Died):
        trained(tmp_path / "run", cls, kind, accumulate, die_at=4 * accumulate)
    assert not (tmp_path / "run/sha256").exists()
    assert trained(tmp_path / "run", cls, kind, accumulate) == whole
