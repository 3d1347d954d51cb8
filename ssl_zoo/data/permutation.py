"""An order of N things that is computed, not kept: where number i stands is arithmetic on i.

The numbers are laid out in a grid of A columns and B rows, A * B >= N, as nearly square as can be. Each round
adds to the column a random function of the row, or to the row one of the column: a Feistel network on a grid
(Black & Rogaway 2002, "Ciphers with arbitrary finite domains"), which is a permutation whatever the functions
are. What lands beyond N goes round again until it lands within ("cycle walking", from the same paper).
"""

from __future__ import annotations

import math

import numpy as np

from ssl_zoo.noise import fold, mixed

ROUNDS = 8
FEW, MORE = 64, 32  # so few things need as many rounds: a row of their grid has too few numbers to be random
MOST = 2**40


def permuted(index: np.ndarray, count: int, *keys: int | str) -> np.ndarray:
    """The numbers that stand at these places of an order of 0..count-1 that `keys` decide.

    Args:
        index: (n,) places in 0..count-1. count: at most 2^40. keys: such as seed and epoch.

    Returns:
        (n,) int64. All places together give each number once.
    """
    if not 0 < count <= MOST:
        raise ValueError(f"an order of {count} things; it may have 1 to {MOST:,}")
    columns = math.isqrt(count - 1) + 1
    rows = -(-count // columns)
    secrets = [fold("permutation", *keys, number) for number in range(MORE if count <= FEW else ROUNDS)]
    found = _once(index.astype(np.uint64), columns, rows, secrets)
    while (outside := np.flatnonzero(found >= np.uint64(count))).size:
        found[outside] = _once(found[outside], columns, rows, secrets)
    return found.astype(np.int64)


def _once(x: np.ndarray, columns: int, rows: int, secrets: list[int]) -> np.ndarray:
    sizes = [np.uint64(columns), np.uint64(rows)]
    row = x // sizes[0]
    at = [x - row * sizes[0], row]
    for number, secret in enumerate(secrets):
        side = number % 2
        # The upper half of a random number, scaled to 0..size-1: below 2^52 by the limit on count.
        step = (mixed(at[1 - side], secret) >> np.uint64(32)) * sizes[side] >> np.uint64(32)
        moved = at[side] + step
        at[side] = np.where(moved >= sizes[side], moved - sizes[side], moved)
    return at[1] * sizes[0] + at[0]
