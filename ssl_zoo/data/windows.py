"""An order for rows that lie in shards, of which few are at hand at a time.

Each epoch takes the shards in an order of its own, cuts what they hold, one after the other, into windows of
so many rows, and shuffles within each. Which row stands where is a function of the seed and the place alone,
computed where it is asked for; only the numbers of rows of the shards are kept.
"""

from __future__ import annotations

import numpy as np

from ssl_zoo.data.permutation import permuted

BLOCK = 1 << 14  # shards whose places are computed together


class Windows:
    """Rows 0, 1, ... lie in shards, as many as `sizes` (S,) says of each, one shard after the other.

    Args:
        window: rows that are shuffled among each other.
    """

    def __init__(self, sizes: np.ndarray, window: int):
        self.sizes, self.window = np.asarray(sizes, np.int64), window
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.count = int(self.sizes.sum())
        # Of two epochs: at the end of one, what the next one begins with is asked for as well.
        self._epochs: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def order(self, places: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """The rows at these places (n,) of an epoch's order, (n,) int64."""
        shards, ends = self._shards(seed, epoch)
        moved = np.empty(len(places), np.int64)
        number = places // self.window
        for one in np.unique(number).tolist():
            first, here = one * self.window, number == one
            length = min(self.window, self.count - first)
            moved[here] = first + permuted(places[here] - first, length, seed, "window", epoch, one)
        at = np.searchsorted(ends, moved, side="right")
        return self.starts[shards[at]] + moved - (ends[at] - self.sizes[shards[at]])

    def shards(self, place: int, seed: int, epoch: int) -> np.ndarray:
        """The shards of the window that a place of an epoch's order is in, in the order of that epoch."""
        shards, ends = self._shards(seed, epoch)
        first = place // self.window * self.window
        last = min(first + self.window, self.count) - 1
        low, high = np.searchsorted(ends, [first, last], side="right").tolist()
        return shards[low : high + 1]

    def _shards(self, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The shards in the order of an epoch, and where the rows of each end in it."""
        if (seed, epoch) not in self._epochs:
            every = np.arange(len(self.sizes))
            parts = np.split(every, range(BLOCK, len(every), BLOCK))  # each of which stays in the cache
            shards = np.concatenate([permuted(one, len(every), seed, "shards", epoch) for one in parts])
            for oldest in list(self._epochs)[:-1]:
                del self._epochs[oldest]
            self._epochs[seed, epoch] = shards, np.cumsum(self.sizes[shards])
        return self._epochs[seed, epoch]
