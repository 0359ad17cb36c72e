from itertools import combinations
from math import comb

import numpy as np
import pytest
from scipy import stats

from kdsearch.analysis.permutation import Pool, permutation_p, permutation_p_values, shuffled_orders
from kdsearch.analysis.samples import StatisticsError
from kdsearch.analysis.skewness import skewness_corrected_p


def welch_t(x, y, wx, wy):
    """The statistic as its definition says, with plain sums."""

    def mean_and_variance(s, w):
        mean = sum(w * s) / sum(w)
        return mean, len(s) / (len(s) - 1) * sum((w * (s - mean)) ** 2) / sum(w) ** 2

    (mx, vx), (my, vy) = mean_and_variance(x, wx), mean_and_variance(y, wy)
    if vx + vy < 1e-20:
        return 0.0 if mx == my else np.inf
    return abs(mx - my) / np.sqrt(vx + vy)


def brute_force_p(x, y, wx, wy):
    """Every division of the trials, one by one."""
    scores, weights = np.concatenate([x, y]), np.concatenate([wx, wy]).astype(float)
    observed = welch_t(x, y, weights[: len(x)], weights[len(x) :])
    hits = 0
    for chosen in combinations(range(len(scores)), len(x)):
        inside = np.isin(np.arange(len(scores)), chosen)
        drawn = welch_t(scores[inside], scores[~inside], weights[inside], weights[~inside])
        hits += drawn >= observed * (1 - 1e-7)
    return hits / comb(len(scores), len(x))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("n", "m"), [(2, 5), (4, 4), (6, 3)])
def test_small_groups_are_tested_exactly(n, m, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 6, n).astype(float), rng.integers(0, 6, m) + rng.integers(0, 3)  # with ties
    wx, wy = (rng.integers(1, 4, n), rng.integers(1, 4, m)) if seed % 2 else (np.ones(n), np.ones(m))
    assert permutation_p(x, y, wx, wy, rng=rng) == pytest.approx(brute_force_p(x, y, wx, wy))


def test_exact_test_agrees_with_scipy():
    rng = np.random.default_rng(1)
    x, y = rng.normal(0, 1, 5), rng.normal(1, 2, 6)

    def statistic(x, y, axis):
        return np.abs(stats.ttest_ind(x, y, axis=axis, equal_var=False).statistic)

    theirs = stats.permutation_test(
        (x, y), statistic, vectorized=True, n_resamples=np.inf, alternative="greater"
    )
    assert permutation_p(x, y, rng=rng) == pytest.approx(theirs.pvalue)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sizes", [(6, 8), (3, 23)])
def test_monte_carlo_converges_to_the_exact_p(weighted, sizes):
    n, m = sizes
    rng = np.random.default_rng(n)
    x, y = rng.exponential(1, n), rng.exponential(1.8, m)
    wx, wy = (rng.integers(1, 4, n), rng.integers(1, 4, m)) if weighted else (None, None)
    exact = permutation_p(x, y, wx, wy, rng=rng, resamples=comb(n + m, n))
    drawn = permutation_p(x, y, wx, wy, rng=rng, resamples=comb(n + m, n) - 1)
    assert drawn == pytest.approx(exact, abs=4.5 * np.sqrt(exact * (1 - exact) / (comb(n + m, n) - 1)) + 1e-3)


def test_p_is_never_zero():
    rng = np.random.default_rng(2)
    x, y = rng.normal(0, 1, 40), rng.normal(50, 1, 40)
    assert permutation_p(x, y, rng=rng, resamples=99) == 1 / 100
    assert permutation_p([1.0, 1.0], [2.0, 2.0], rng=rng) == pytest.approx(2 / comb(4, 2))
    assert skewness_corrected_p(x, y * 1e6) > 0


def test_p_is_one_without_any_difference():
    rng = np.random.default_rng(3)
    assert permutation_p([5.0] * 30, [5.0] * 20, rng=rng, resamples=99) == 1
    assert permutation_p([5.0, 5.0], [5.0, 5.0], rng=rng) == 1
    assert skewness_corrected_p([0.1] * 30, [0.1] * 20) == 1


def test_groups_of_a_table_get_the_p_they_would_get_alone():
    rng = np.random.default_rng(4)
    scores, labels = rng.exponential(1, 60), rng.integers(0, 4, 60)
    members = labels == np.arange(4)[:, None]
    together = permutation_p_values(Pool(scores), members, np.random.default_rng(5), 20_000)
    for p, member in zip(together, members, strict=True):
        alone = permutation_p(scores[member], scores[~member], rng=np.random.default_rng(6), resamples=20_000)
        assert p == pytest.approx(alone, abs=0.02)


def test_complements_get_the_same_p():
    rng = np.random.default_rng(7)
    member = np.arange(50) < 20
    p = permutation_p_values(Pool(rng.normal(0, 1, 50)), np.array([member, ~member]), rng, 500)
    assert p[0] == p[1]


@pytest.mark.parametrize(("m", "places"), [(12, 3), (6, 5), (40, 2)])
def test_orders_are_uniform_and_without_repeats(m, places):
    orders = shuffled_orders(np.random.default_rng(8), m, places, 30_000)
    assert all(len(set(row)) == places for row in orders[:2000].tolist())
    assert stats.chisquare(np.bincount(orders.ravel(), minlength=m)).pvalue > 1e-4
    pairs = np.sort(orders[:, :2], axis=1) @ [m, 1]
    counts = np.unique(pairs, return_counts=True)[1]
    assert len(counts) == comb(m, 2)
    assert stats.chisquare(counts).pvalue > 1e-4


def test_groups_of_one_are_refused():
    with pytest.raises(StatisticsError, match="at least two"):
        permutation_p([1.0], [2.0, 3.0], rng=np.random.default_rng(0))
    with pytest.raises(StatisticsError, match="two trials on each side"):
        skewness_corrected_p([1.0], [2.0, 3.0])


def null_sample(kind, rng):
    """Two groups of one mean: alike, of unequal variance and size, or answering 1 to 4 draws a trial."""
    if kind == "unequal":
        return rng.normal(0, 3, 20), rng.normal(0, 1, 60), None, None
    x, y = rng.exponential(1, 15), rng.exponential(1, 35)
    return (x, y, None, None) if kind == "equal" else (x, y, rng.integers(1, 5, 15), rng.integers(1, 5, 35))


def level(kind, rng, repeats=600, resamples=199):
    p = np.array(
        [
            permutation_p(x, y, wx, wy, rng=rng, resamples=resamples)
            for x, y, wx, wy in (null_sample(kind, rng) for _ in range(repeats))
        ]
    )
    return np.mean(p <= 0.05)


@pytest.mark.simulation
@pytest.mark.parametrize("kind", ["equal", "unequal", "weights"])
def test_permutation_test_keeps_its_level(kind):
    found = level(kind, np.random.default_rng(9))
    assert stats.binomtest(round(600 * found), 600, 0.05).pvalue > 0.002


@pytest.mark.simulation
def test_without_studentising_unequal_variances_would_break_the_level():
    # What the studentised statistic is for: the plain difference rejects far too often here.
    rng = np.random.default_rng(10)
    hits = 0
    for _ in range(300):
        x, y, _, _ = null_sample("unequal", rng)
        both = np.concatenate([x, y])
        first = shuffled_orders(rng, both.size, x.size, 199)
        inside = both[first].mean(axis=1)
        drawn = np.abs(inside - (both.sum() - x.size * inside) / y.size)
        hits += (1 + np.sum(drawn >= abs(x.mean() - y.mean()))) / 200 <= 0.05
    assert hits / 300 > 0.12
