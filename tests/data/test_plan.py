"""The order of an epoch: a permutation that is computed and not kept."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from ssl_zoo.data.permutation import MOST, permuted
from ssl_zoo.data.plan import Plan


def even(counts: np.ndarray, shares: np.ndarray | float = 1.0) -> bool:
    """Whether counts may come from these shares, by Pearson's chi-square."""
    shares = np.broadcast_to(shares, counts.shape)
    return stats.chisquare(counts, shares / shares.sum() * counts.sum()).pvalue > 1e-4


def test_every_number_stands_once():
    for count in range(1, 2001):
        found = permuted(np.arange(count), count, count % 3)
        assert np.array_equal(np.sort(found), np.arange(count)), count


@pytest.mark.parametrize("count", [999_983, 2**20, 1000 * 1000 + 1])
def test_every_number_of_many_stands_once(count):
    seen = np.zeros(count, bool)
    for start in range(0, count, 2**17):  # asked for in pieces, as batches are
        seen[permuted(np.arange(start, min(start + 2**17, count)), count, 0)] = True
    assert seen.all()


@pytest.mark.parametrize("count", [10**8, 10**12, MOST])
def test_numbers_of_more_than_memory_holds_differ_and_are_spread(count):
    """A sample of a permutation has no number twice; a random function of 200,000 in 10^8 has 200 twice."""
    places = np.concatenate([np.arange(100_000), count - 1 - np.arange(100_000)])
    found = permuted(places, count, 5)
    assert len(np.unique(found)) == len(places)
    assert 0 <= found.min() < found.max() < count
    assert even(np.bincount(found * 100 // count, minlength=100))
    assert np.array_equal(permuted(places[70:90], count, 5), found[70:90])


def test_few_things_stand_in_all_orders_alike():
    for count in (2, 3, 4, 5):
        orders = dict.fromkeys(itertools.permutations(range(count)), 0)
        for seed in range(20 * len(orders)):
            orders[tuple(permuted(np.arange(count), count, seed).tolist())] += 1
        assert even(np.array(list(orders.values())))


@pytest.mark.parametrize("count", [13, 100, 1437])
def test_each_number_stands_anywhere_and_beside_any_other(count):
    draws = 600
    orders = np.stack([permuted(np.arange(count), count, "seed", seed) for seed in range(draws)])
    for place in (0, 1, count // 2, count - 1):
        thirds = np.bincount(orders[:, place] * 3 // count, minlength=3)
        assert even(thirds, np.bincount(np.arange(count) * 3 // count))
    steps = np.diff(orders, axis=1) % count  # of neighbours in the order: never 0, else any
    assert even(np.bincount(steps.flatten(), minlength=count)[1:])
    fixed = (orders == np.arange(count)).sum(1)  # about Poisson with mean 1
    assert abs(fixed.mean() - 1) < 5 / math.sqrt(draws)
    # The order of one seed says nothing on that of the next.
    next_to = np.array([np.corrcoef(a, b)[0, 1] for a, b in itertools.pairwise(orders)])
    assert abs(next_to.mean()) < 5 / math.sqrt(draws * count)
    assert next_to.std() * math.sqrt(count - 1) == pytest.approx(1, abs=0.2)


def test_epochs_and_seeds_have_orders_of_their_own():
    count, batch = 1000, 100

    def epoch(seed: int, number: int) -> np.ndarray:
        plan = Plan(count, batch, seed)
        return np.concatenate([plan.rows(number * 10 + k) for k in range(10)])

    orders = {key: epoch(*key) for key in itertools.product(range(3), range(4))}
    for one, two in itertools.combinations(orders.values(), 2):
        assert abs(np.corrcoef(one, two)[0, 1]) < 5 / math.sqrt(count)
        assert (one == two).sum() < 10
    assert np.array_equal(orders[1, 2], epoch(1, 2))
    assert epoch(1, 2).dtype == np.int64


def test_parts_of_a_step_are_its_rows_in_order():
    plan = Plan(1000, 120, seed=2)
    for step in (0, 7, 8, 30):
        parts = [plan.rows(step, part, 6) for part in range(6)]
        assert np.array_equal(np.concatenate(parts), plan.rows(step))


def test_a_plan_of_a_billion_rows_takes_no_memory():
    tracemalloc.start()
    plan = Plan(10**9, 512, seed=0)
    for step in (0, 1, plan.steps_per_epoch - 1, plan.steps_per_epoch, 10**7):
        assert len(set(plan.rows(step).tolist())) == 512
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500_000


@pytest.mark.parametrize("count", [0, MOST + 1])
def test_orders_of_nothing_and_of_too_much_are_refused(count):
    with pytest.raises(ValueError, match=f"an order of {count} things"):
        permuted(np.arange(1), count)
