"""Sample noise by counting: which part draws which numbers, and that they look random."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from scipy import stats

from ssl_zoo import noise
from ssl_zoo.noise import (
    fold,
    free_noise,
    rand,
    rand_shared,
    row_numbers,
    seed_noise,
    stratified,
    uniform,
)

MASK = 2**64 - 1
BLAKE2B = "228012c520be0408"  # of ('noise', 0, 0), 8 bytes


@pytest.fixture(autouse=True)
def _noise_as_it_was():
    yield
    free_noise()


def split_mix(key: int, number: int) -> float:
    """Number `number` of a stream of SplitMix64, as Vigna's C code has it, cut to 24 bits."""
    z = (key + number * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return ((z ^ (z >> 31)) >> 40) / 2**24


@pytest.mark.parametrize("key", [0, 1234567, 2**63 - 1])
@pytest.mark.parametrize("first", [0, 7, 2**40])
def test_numbers_are_those_of_split_mix_on_every_device(key, first):
    want = torch.tensor([split_mix(key, first + i) for i in range(50)])
    assert torch.equal(uniform(key, first, 50, torch.device("cpu")), want)
    assert torch.equal(noise._uniform(key, first, 50, torch.device("cpu")), want)  # as a GPU computes


def test_numbers_are_the_published_ones():
    """The first outputs of SplitMix64 from seed 1234567, as Rosetta Code lists them."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [split_mix(1234567, i) for i in (1, 2, 3)] == [(x >> 40) / 2**24 for x in published]


@pytest.mark.parametrize("parts", [1, 2, 6, 24])
def test_parts_draw_their_rows_of_the_whole(parts, monkeypatch):
    monkeypatch.setattr(noise, "HELD", 50)  # pieces do not matter

    def draws(part: int, of: int) -> list[torch.Tensor]:
        seed_noise(3, 7, part, of)
        rows = 24 // of
        return [rand(rows, 5), rand_shared(3), rand(rows), rand(rows, 2, 7)]

    whole = draws(0, 1)
    pieces = [draws(part, parts) for part in range(parts)]
    for number, want in enumerate(whole):
        if number == 1:
            assert all(torch.equal(piece[1], want) for piece in pieces)
        else:
            assert torch.equal(torch.cat([piece[number] for piece in pieces]), want)
    flat = torch.cat([draw.flatten() for draw in whole])
    assert len(flat.unique()) > len(flat) - 3, "no draw repeats another"


def test_a_part_draws_no_more_than_its_rows():
    tracemalloc.start()
    seed_noise(0, 0, part=999, parts=1000)
    rand(64, 1024)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 2**20


def test_one_number_that_all_parts_share():
    seed_noise(3, 4)
    one, row = rand_shared(), rand(2)
    free_noise()
    assert (one.shape, row.shape) == ((), (2,))
    assert 0 <= one.item() < 1


@pytest.mark.parametrize("parts", [1, 2, 6])
def test_rows_are_numbered_and_spread_over_the_whole_batch(parts):
    numbers, spread = [], []
    for part in range(parts):
        seed_noise(3, 4, part, parts)
        numbers += row_numbers(12 // parts).tolist()
        spread += stratified(12 // parts).tolist()
    seed_noise(3, 4)
    u = rand_shared().item()
    assert numbers == list(range(12))
    assert spread == pytest.approx([(r + u) / 12 for r in range(12)])


def test_numbers_spread_over_a_batch_stay_below_1_and_need_no_seed(monkeypatch):
    free_noise()
    assert rand_shared().shape == ()
    assert 0 <= stratified(3).min() < 1 / 3
    monkeypatch.setattr(noise, "rand_shared", lambda: torch.tensor(1 - 2.0**-24))
    assert stratified(1000).max() < 1


def test_there_is_no_part_beyond_the_last():
    with pytest.raises(ValueError, match="no part 2 of 2"):
        seed_noise(0, 0, 2, 2)


def test_noise_is_of_the_seed_and_the_step_alone():
    def draw(seed, step):
        seed_noise(seed, step)
        return rand(4, 3)

    first = draw(0, 0)
    torch.rand(100)  # what else is drawn does not matter
    assert torch.equal(draw(0, 0), first)
    assert not torch.equal(draw(0, 1), first)
    assert not torch.equal(draw(1, 0), first)
    state = torch.get_rng_state()
    draw(0, 2)
    assert torch.equal(torch.get_rng_state(), state), "nor does it touch the default generator"
    free_noise()
    torch.manual_seed(5)
    free = rand(4, 3)
    torch.manual_seed(5)
    assert torch.equal(free, torch.rand(4, 3))


def test_fold_is_the_same_everywhere():
    assert fold("noise", 0, 0) == int.from_bytes(bytes.fromhex(BLAKE2B), "little") >> 1
    assert len({fold("noise", a, b) for a in range(20) for b in range(20)}) == 400
    assert all(0 <= fold(a) < 2**63 for a in range(100))


def drawn(seeds: int, steps: int, number: int, rows: int, columns: int) -> np.ndarray:
    """(seeds, steps, draws, rows, columns)"""
    found = np.empty((seeds, steps, number, rows, columns), np.float32)
    for seed in range(seeds):
        for step in range(steps):
            seed_noise(seed, step)
            for k in range(number):
                found[seed, step, k] = rand(rows, columns).numpy()
    return found


def test_noise_is_uniform_and_independent_along_every_axis():
    x = drawn(6, 10, 5, 20, 30)
    n = x.size
    assert x.min() >= 0
    assert x.max() < 1
    assert abs(x.mean() - 0.5) < 4 / math.sqrt(12 * n)
    assert abs(x.var() - 1 / 12) < 4 / math.sqrt(180 * n)
    assert stats.kstest(x.flatten(), "uniform").pvalue > 1e-3
    centred = (x - 0.5) * math.sqrt(12)
    for axis in range(x.ndim):  # neighbours in seed, step, draw, row and column
        one, two = (np.moveaxis(centred, axis, 0)[cut] for cut in (slice(1, None), slice(None, -1)))
        assert abs((one * two).mean()) < 4 / math.sqrt(one.size), axis
        means = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1).mean(1)
        assert np.abs(means - 0.5).max() < 4.5 / math.sqrt(12 * n / x.shape[axis]), axis
    bits = (x.flatten() * 2**24).astype(np.int64)
    for bit in range(24):
        assert abs((bits >> bit & 1).mean() - 0.5) < 4.5 / (2 * math.sqrt(n)), bit


def test_pairs_of_numbers_fill_the_square():
    x = uniform(fold("pairs"), 0, 2**18, torch.device("cpu")).numpy()
    for lag in (1, 2, 64, 1000):
        cells = np.bincount((x[lag:] * 32).astype(int) * 32 + (x[:-lag] * 32).astype(int), minlength=1024)
        assert 1e-4 < stats.chisquare(cells).pvalue < 1 - 1e-4, lag
