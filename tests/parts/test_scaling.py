"""The fits against known laws, against scipy, and their intervals against a hundred repetitions."""

import numpy as np
import pytest
from scipy.optimize import curve_fit, least_squares

from ssl_zoo import scaling
from ssl_zoo.scaling import DELTA, TooFew, fit, frontier

C = np.logspace(12, 16, 10)
TRUE = {"E": 1.5, "A": 2000.0, "alpha": 0.25}
LAW = TRUE["E"] + TRUE["A"] * C ** -TRUE["alpha"]


def noisy(size: float, seed: int = 0) -> np.ndarray:
    return LAW * np.exp(size * np.random.default_rng(seed).standard_normal(len(C)))


def test_a_law_without_noise_comes_back():
    found = fit(LAW, C=C, resamples=20).parameters()
    for name, value in TRUE.items():
        assert found[name][0] == pytest.approx(value, rel=1e-4), name


def test_a_law_of_two_inputs_comes_back():
    """The constants that Hoffmann et al. print below eq. 10, on a ladder of 5 sizes and 4 budgets."""
    n, d = (x.ravel() for x in np.meshgrid(np.logspace(6, 9, 5), np.logspace(8, 10.5, 4)))
    law = 1.69 + 406.4 / n**0.34 + 410.7 / d**0.28
    exact = fit(law, N=n, D=d, resamples=20)
    for name, value in {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}.items():
        assert exact.parameters()[name][0] == pytest.approx(value, rel=1e-3), name
    assert exact.share()[0] == pytest.approx(0.28 / 0.62, rel=1e-3)
    found = fit(law * np.exp(0.003 * np.random.default_rng(0).standard_normal(20)), N=n, D=d, resamples=200)
    for name, value in {"alpha": 0.34, "beta": 0.28}.items():
        _, low, high = found.parameters()[name]
        assert low < value < high, name
    _, low, high = found.share()
    assert low < 0.28 / 0.62 < high


@pytest.mark.parametrize("seed", range(3))
def test_against_scipy(seed):
    """Small residuals are least squares of log L, as curve_fit has it; large ones scipy's Huber loss."""
    log_law = lambda c, e, a, alpha: np.log(e + a * (c / 1e14) ** -alpha)  # noqa: E731
    y = noisy(0.002, seed)
    squares, _ = curve_fit(log_law, C, np.log(y), p0=(1, 1, 0.3))
    found = fit(y, C=C, resamples=10).parameters()
    at_zero = squares[1] * 1e14 ** squares[2]
    assert [found[name][0] for name in TRUE] == pytest.approx([squares[0], at_zero, squares[2]], rel=1e-3)

    y = noisy(0.03, seed)
    theirs = least_squares(
        lambda p: log_law(C, *p) - np.log(y), (1, 1, 0.3), loss="huber", f_scale=DELTA, xtol=1e-12, ftol=1e-12
    )
    found = fit(y, C=C, resamples=10)
    ours = scaling.huber(log_law(C, *inner(found))[None] - np.log(y))[0]
    assert ours <= theirs.cost * (1 + 1e-6)
    assert ours == pytest.approx(theirs.cost, rel=1e-3)


def inner(found: scaling.Fit) -> tuple[float, float, float]:
    """E, A and alpha with C in units of 1e14."""
    e, a, alpha = (value for value, _, _ in found.parameters().values())
    return e, a * 1e14**-alpha, alpha


def test_the_intervals_hold_what_they_promise():
    """95 % intervals; the truth lies in at least 85 of 100 for each, and not by being vast."""
    hits, widths = dict.fromkeys(TRUE, 0), []
    for seed in range(100):
        found = fit(noisy(0.005, seed), C=C, resamples=60).parameters()
        for name, value in TRUE.items():
            hits[name] += found[name][1] <= value <= found[name][2]
        widths.append(found["alpha"][2] - found["alpha"][1])
    assert min(hits.values()) >= 85, hits
    assert np.median(widths) < 0.1


def test_the_band_lies_about_the_curve_and_widens_outside():
    found = fit(noisy(0.01), C=C, resamples=200)
    at = np.array([1e12, 1e14, 1e16, 1e19])
    middle, low, high = found.curve(at)
    assert (low < middle).all()
    assert (middle < high).all()
    assert (high - low)[3] > (high - low)[2]
    assert np.array_equal(found.curve(at)[1], fit(noisy(0.01), C=C, resamples=200).curve(at)[1])  # seeded
    assert not np.array_equal(found.draws, fit(noisy(0.01), C=C, resamples=200, seed=1).draws)


def test_an_outlier_does_not_move_the_fit():
    y = LAW.copy()
    y[4] *= 1.5
    assert fit(y, C=C, resamples=10).parameters()["alpha"][0] == pytest.approx(0.25, abs=0.02)


def test_a_loss_that_hardly_bends_leaves_its_floor_open():
    """Both E near 0 and E just below the losses explain a fall of 1 %; the interval must hold both."""
    compute, y = np.array([1.87e6, 3.75e6, 5.52e6, 1.1e7]), np.array([4.2124, 4.2014, 4.1909, 4.1710])
    _, low, high = fit(y, C=compute, resamples=200).parameters()["E"]
    assert low < 0.2
    assert high > 4


def test_a_loss_that_does_not_depend_on_compute_says_so():
    y = 2 * np.exp(0.01 * np.random.default_rng(3).standard_normal(len(C)))
    assert fit(y, C=C, resamples=200).flat() == ["alpha"]
    assert fit(noisy(0.003), C=C, resamples=200).flat() == []


def test_too_few():
    with pytest.raises(TooFew, match="needs 4 runs of different compute; there are 3: add 1 more"):
        fit(LAW[:3], C=C[:3])
    with pytest.raises(TooFew, match="there are 2: add 2 more"):  # seeds are not computes
        fit(LAW[[0, 0, 0, 1, 1]], C=C[[0, 0, 0, 1, 1]])
    n, d = np.array([1e6, 1e7] * 3), np.repeat([1e8, 1e9, 1e10], 2)
    with pytest.raises(TooFew, match="there are 2, 3 and 6: add sizes or steps"):
        fit(LAW[:6], N=n, D=d)
    fit(LAW[:4], C=C[:4], resamples=5)


def test_wrong_inputs():
    with pytest.raises(ValueError, match="not D"):
        fit(LAW, D=C)
    with pytest.raises(ValueError, match="positive and finite"):
        fit(-LAW, C=C)
    with pytest.raises(ValueError, match="positive and finite"):
        fit(LAW * np.nan, C=C)


def test_frontier():
    compute = np.array([4.0, 1, 2, 2, 3, 5])
    loss = np.array([1.0, 3, 2, 2.5, 2.0, 1.5])
    assert frontier(compute, loss).tolist() == [1, 2, 0]
