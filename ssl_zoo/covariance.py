"""Sums over the entries of covariance matrices, without the matrices where these would be large."""

from __future__ import annotations

from torch import Tensor


def off_diagonal(a: Tensor, b: Tensor) -> Tensor:
    """The sum of the squares of those entries of a^T b that are off its diagonal: a scalar.

    The sum over all entries is also that of the products of the entries of a a^T and b b^T, which are smaller
    where there are fewer rows than columns: 32 times for 256 rows of 8,192.

    Args:
        a, b: (N, D), float32 or wider.
    """
    if len(a) < a.shape[1]:
        gram = a @ a.T  # (N, N)
        total = (gram * (gram if b is a else b @ b.T)).sum()
    else:
        total = (a.T @ b).square().sum()
    return total - (a * b).sum(0).square().sum()
