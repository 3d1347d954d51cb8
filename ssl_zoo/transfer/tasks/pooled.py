"""Whole images or texts with a target each: what a head on the pooled feature is trained and scored on."""

from __future__ import annotations

import numpy as np
import torch

from ssl_zoo.data.items import fingerprint
from ssl_zoo.data.rows import Rows
from ssl_zoo.objectives._base import Batch


class Pooled:
    """Rows with a float target each.

    Args:
        rows: the inputs. targets: (N, ...) float32; None: nobody knows them, and y is zero.
    """

    def __init__(self, rows: Rows, targets: np.ndarray | None):
        self.rows, self.targets = rows, targets
        known = None if targets is None else targets.tobytes()
        self.fingerprint = fingerprint([rows.fingerprint, known])

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        y = np.zeros(len(index), np.float32) if self.targets is None else self.targets[index]
        return self.rows.read(index, epoch)._replace(y=torch.from_numpy(y))

    def truth(self, i: int) -> np.ndarray | None:
        return None if self.targets is None else self.targets[i]
