"""How a loss falls with what is spent on it, and how sure that is.

    L(C)    = E + A / C^alpha                         the compute-efficient frontier
    L(N, D) = E + A / N^alpha + B / D^beta            Hoffmann et al. 2022, eq. 2 and 10

of C floating-point operations, N parameters and D tokens or images (Hoffmann et al., "Training
Compute-Optimal Large Language Models", arXiv:2203.15556). Both are sums of powers, so log L is a log-sum-exp
of lines in the logarithms of the inputs; its Huber loss is minimised from a grid of starts, as in their
section 3.3.

The inputs of a ladder are chosen, not drawn, and there are few of them: resampling whole runs would leave
some fits with two points. So the bootstrap resamples the residuals of the runs, seeds and misfit alike, onto
the fitted curve (Efron & Tibshirani 1993, section 9.4), made larger by sqrt(n / (n - p)) for the p parameters
fitted. Percentiles are moved outwards to Student's t of n - p degrees (Hesterberg 2015, arXiv:1411.5279,
"expanded percentile interval"), without which few runs give intervals that are too short. Which runs are on
the frontier is settled before and not resampled; the ends of a frontier are those of the ladder.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import ndtr, stdtrit

# Residuals of log L count squared up to here and linearly beyond: 1 %, about what a seed changes. Hoffmann et
# al. take 0.001, for many more runs than a ladder has.
DELTA = 0.01
STEEPEST = 10.0  # an exponent larger than this, or below its negative, would fit one point and nothing else
ROUNDS = 300  # of the minimiser at most; most problems need 10 to 40
LEVEL = 0.95  # of the intervals
STAYS = (0.05, 0.5, 0.9)  # the starts' values of E, as parts of the lowest loss
INPUTS = {("C",): ("E", "A", "alpha"), ("N", "D"): ("E", "A", "alpha", "B", "beta")}


class TooFew(ValueError):
    """There are not enough runs to fit; the message says what to add."""


@dataclass(frozen=True)
class Fit:
    """A fitted law.

    Attributes:
        inputs: ("C",) or ("N", "D"). names: of the parameters, as in the equations above.
        runs: how many runs were fitted.
        residual: root mean square of log L - log fit; 0.01 is 1 %.
        theta: (p,) internal parameters (see `starts`). draws: (resamples, p) those of the bootstrap.
        centre: (k,) means of the logarithms of the inputs.
        seed: of the bootstrap.
    """

    inputs: tuple[str, ...]
    names: tuple[str, ...]
    runs: int
    residual: float
    theta: np.ndarray
    draws: np.ndarray
    centre: np.ndarray
    seed: int

    def parameters(self) -> dict[str, tuple[float, float, float]]:
        """Name -> (value, low, high), the last two of the 95 % interval."""
        values = self._named(self.theta[None])[0]
        low, high = self.between(self._named(self.draws))
        return {
            name: (float(v), float(a), float(b))
            for name, v, a, b in zip(self.names, values, low, high, strict=True)
        }

    def curve(self, *inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The loss and its 95 % band at inputs (n,): three of (n,)."""
        x = np.log(np.stack(inputs, 1)) - self.centre
        low, high = self.between(np.exp(log_loss(self.draws, x)))
        return np.exp(log_loss(self.theta[None], x))[0], low, high

    def share(self) -> tuple[float, float, float]:
        """a of N ~ C^a, the size that is best for C ~ N D: beta / (alpha + beta) (Hoffmann et al., eq. 4).

        Returns:
            The value, and the two ends of its 95 % interval.

        Raises:
            ValueError: this is a fit of L(C), which has no beta.
        """
        alpha, beta = self.names.index("alpha"), self.names.index("beta")
        value = self.theta[beta] / (self.theta[alpha] + self.theta[beta])
        low, high = self.between(self.draws[:, beta] / (self.draws[:, alpha] + self.draws[:, beta]))
        return float(value), float(low), float(high)

    def between(self, draws: np.ndarray) -> np.ndarray:
        """The two ends of the interval of draws (resamples, ...)."""
        tail = ndtr(stdtrit(self.runs - len(self.names), (1 - LEVEL) / 2))
        return np.quantile(draws, [tail, 1 - tail], axis=0)

    def flat(self) -> list[str]:
        """Names of the exponents whose interval contains 0: the loss may not depend on that input."""
        found = self.parameters()
        return [name for name in ("alpha", "beta") if name in found and found[name][1] <= 0 <= found[name][2]]

    def _named(self, theta: np.ndarray) -> np.ndarray:
        """(S, p) internal parameters -> (S, p) those of the equations."""
        shown = theta.copy()
        shown[:, 0] = np.exp(theta[:, 0])
        shown[:, 1::2] = np.exp(theta[:, 1::2] + theta[:, 2::2] * self.centre)
        return shown


def frontier(compute: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """The points whose loss no other point of as much compute or less reaches: (n,), (n,) -> their indices,
    by compute."""
    order = np.lexsort((loss, compute))
    best = np.minimum.accumulate(loss[order])
    first = np.r_[True, best[1:] < best[:-1]]
    return order[first]


def fit(loss: np.ndarray, *, resamples: int = 1000, seed: int = 0, **inputs: np.ndarray) -> Fit:
    """Fit L(C) to `C=` or L(N, D) to `N=, D=`.

    Args:
        loss: (n,) positive losses of runs. Several seeds of one size are several runs.
        resamples, seed: how many samples the bootstrap draws, and from which seed.
        inputs: (n,) each, positive.

    Raises:
        TooFew: fewer than 4 different computes; or fewer than 6 different pairs, or 3 different sizes or
            amounts of data.
        ValueError: inputs other than these, or values that have no logarithm.
    """
    names = INPUTS.get(tuple(inputs))
    if names is None:
        raise ValueError(f"fit takes C=, or N= and D=, not {', '.join(inputs) or 'nothing'}")
    values = np.stack([np.asarray(x, np.float64) for x in inputs.values()], 1)
    if not (
        np.isfinite(values).all() and (values > 0).all() and np.isfinite(loss).all() and (loss > 0).all()
    ):
        raise ValueError("losses and inputs must be positive and finite: the laws are fitted in logarithms")
    refuse_few(tuple(inputs), values)
    x = np.log(values)
    centre = x.mean(0)
    x, y = x - centre, np.log(np.asarray(loss, np.float64))
    begun = starts(loss, len(inputs))
    theta = best_of(x, y[None], begun)[0]
    residual = y - log_loss(theta[None], x)[0]
    n, p = len(y), len(names)
    spread = (residual - residual.mean()) * np.sqrt(n / (n - p))
    drawn = np.random.default_rng(seed).choice(spread, (resamples, n))
    draws = best_of(x, y - residual + drawn, np.vstack([theta, likeliest(begun, x, y)]))
    rms = float(np.sqrt(np.mean(residual**2)))
    return Fit(tuple(inputs), names, n, rms, theta, draws, centre, seed)


def refuse_few(inputs: tuple[str, ...], values: np.ndarray) -> None:
    """Raise TooFew for values (n, k) that cannot fix the parameters with one to spare."""
    different = len(np.unique(values, axis=0))
    if inputs == ("C",) and different < 4:
        raise TooFew(
            f"L(C) has 3 parameters and needs 4 runs of different compute; there are {different}: "
            f"add {4 - different} more, smaller or larger, or with more or fewer steps"
        )
    if inputs == ("N", "D"):
        sizes, amounts = (len(np.unique(column)) for column in values.T)
        if sizes < 3 or amounts < 3 or different < 6:
            raise TooFew(
                "L(N, D) has 5 parameters and needs 3 sizes, 3 amounts of data and 6 runs of different ones; "
                f"there are {sizes}, {amounts} and {different}: add sizes or steps"
            )


def best_of(x: np.ndarray, y: np.ndarray, begun: np.ndarray) -> np.ndarray:
    """The best minimum of each problem y (R, n) over starts (S, p): (R, p). Where a loss has hardly begun to
    bend, E near 0 and E near the lowest loss are minima of their own, and one start would hide the other."""
    r, s = len(y), len(begun)
    found, cost = minimise(x, np.repeat(y, s, 0), np.tile(begun, (r, 1)))
    return found.reshape(r, s, -1)[np.arange(r), cost.reshape(r, s).argmin(1)]


def likeliest(begun: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of the starts (S, p) of each E the one that fits y (n,) best."""
    cost = huber(log_loss(begun, x) - y).reshape(len(STAYS), -1)
    return begun.reshape(len(STAYS), -1, begun.shape[1])[np.arange(len(STAYS)), cost.argmin(1)]


def starts(loss: np.ndarray, k: int) -> np.ndarray:
    """(S, 1 + 2 k) internal parameters to start from: log E, then for each of k inputs the logarithm of its
    factor and its exponent. Parts of the lowest loss, for E, are combined with exponents."""
    made = []
    for stays, *exponents in product(STAYS, *[(-0.1, 0.05, 0.3, 1.0)] * k):
        floor = stays * np.min(loss)
        rest = np.log((np.mean(loss) - floor) / k)
        made.append([np.log(floor), *(value for exponent in exponents for value in (rest, exponent))])
    return np.array(made)


def terms(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """log E, log A - alpha x_1, ...: theta (S, 1 + 2 k), x (n, k) -> (S, n, 1 + k)."""
    powers = theta[:, None, 1::2] - theta[:, None, 2::2] * x
    floor = np.broadcast_to(theta[:, None, :1], (*powers.shape[:2], 1))
    return np.concatenate([floor, powers], 2)


def log_loss(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The logarithm of the law: theta (S, 1 + 2 k), x (n, k) -> (S, n)."""
    return np.logaddexp.reduce(terms(theta, x), 2)


def huber(residual: np.ndarray) -> np.ndarray:
    """The Huber losses of residuals (S, n), summed over n: (S,)."""
    size = np.abs(residual)
    return np.where(size <= DELTA, size**2 / 2, DELTA * (size - DELTA / 2)).sum(1)


def minimise(x: np.ndarray, y: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Damped Newton steps on S Huber problems at once: a thousand resamples take as long as a few calls of
    scipy's least_squares, which the tests compare it with.

    x (n, k), y (S, n) logarithms of losses, theta (S, p) starts -> (S, p) and the sums (S,).
    """
    found = theta.copy()
    cost = huber(log_loss(found, x) - y)
    damping = np.full(len(found), 1e-2)
    at = np.arange(len(found))  # the problems still being solved
    for _ in range(ROUNDS):
        step = newton(x, y[at], found[at], damping[at])
        trial = found[at] - step
        trial[:, 2::2] = trial[:, 2::2].clip(-STEEPEST, STEEPEST)
        after = huber(log_loss(trial, x) - y[at])
        gain = cost[at] - after
        better = gain > 0
        found[at[better]], cost[at[better]] = trial[better], after[better]
        ended = np.where(better, gain <= 1e-7 * cost[at], damping[at] > 1e4)
        damping[at] *= np.where(better, 0.1, 10.0)
        at = at[~ended]
        if not len(at):
            break
    return found, cost


def newton(x: np.ndarray, y: np.ndarray, theta: np.ndarray, damping: np.ndarray) -> np.ndarray:
    """The damped Newton step (S, p): the curvature comes from the runs within DELTA, the damping and the
    gradient from all runs."""
    p = theta.shape[1]
    logs = terms(theta, x)
    total = np.logaddexp.reduce(logs, 2)
    residual = total - y
    share = np.exp(logs - total[..., None])
    slope = np.empty((*y.shape, p))
    slope[..., 0], slope[..., 1::2], slope[..., 2::2] = share[..., 0], share[..., 1:], -share[..., 1:] * x
    weight = np.minimum(1, DELTA / np.maximum(np.abs(residual), 1e-300))[..., None]
    along = slope.transpose(0, 2, 1)
    square = along @ (slope * (weight == 1))
    scale = damping[:, None] * ((slope**2 * weight).sum(1) + 1e-9)
    step = np.linalg.solve(square + scale[..., None] * np.eye(p), along @ (weight * residual[..., None]))
    return step[..., 0]
