from itertools import product

import numpy as np
import pytest
from scipy import stats

from kdsearch.analysis.comparison import holm
from kdsearch.analysis.paired import (
    EXACT_PAIRS,
    mean_interval,
    paired_difference,
    paired_table,
    pairs_needed,
)
from kdsearch.analysis.samples import StatisticsError


def brute_force_p(differences):
    """Every assignment of signs, one by one."""
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=len(differences))]
    return np.mean([each >= sums[-1] - 1e-9 for each in sums])


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_p_counts_all_sign_flips(n):
    rng = np.random.default_rng(n)
    x, y = rng.normal(1, 1, n), rng.integers(0, 3, n).astype(float)
    found = paired_difference(x, y)
    assert found.mean == pytest.approx(np.mean(x - y))
    assert found.p == (None if n == 1 else pytest.approx(brute_force_p(x - y)))


def test_p_agrees_with_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.6, 1, 10), rng.normal(0, 1, 10)
    theirs = stats.permutation_test(
        (x, y), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", n_resamples=np.inf
    )
    assert paired_difference(x, y).p == pytest.approx(theirs.pvalue)


def test_many_pairs_are_tested_at_random_and_repeatably():
    d = np.random.default_rng(1).normal(0.5, 1, EXACT_PAIRS + 4)
    first, again = (paired_difference(d, np.zeros_like(d), seed=3) for _ in range(2))
    assert first == again
    assert first.p == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.01)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 1 / 8])
@pytest.mark.parametrize("n", [6, 10])
def test_the_interval_holds_exactly_the_means_that_are_not_rejected(n, alpha):
    d = np.random.default_rng(n).normal(0.3, 1, n)
    low, high = mean_interval(d, alpha=alpha)
    for end, inside in ((low, 1), (high, -1)):
        assert brute_force_p(d - end - inside * 1e-6) > alpha
        assert brute_force_p(d - end + inside * 1e-6) <= alpha


@pytest.mark.parametrize("seed", range(5))
def test_interval_and_p_never_contradict_each_other(seed):
    rng = np.random.default_rng(seed)
    for n in (6, 9, 12):
        found = paired_difference(rng.normal(0.7, 1, n), np.zeros(n))
        assert found.low <= found.mean <= found.high
        assert (found.low <= 0 <= found.high) == (found.p > 0.05)


def test_the_interval_of_a_collapsed_run_stays_within_the_runs():
    low, high = mean_interval([90.0, 91, 90.5, 89.5, 90.2, 90.8, 91.2, 10, 90.1, 89.9])
    assert 60 < low < 83
    assert 90 < high < 91.2  # Student's would go to 100.6


def test_few_pairs_get_students_interval_and_cannot_be_decided():
    x, y = np.array([80.0, 81.5, 79.0, 82.2, 80.7]), np.array([70.0, 71.0, 70.5, 71.2, 69.9])
    found = paired_difference(x, y)
    expected = stats.t.interval(0.95, 4, np.mean(x - y), stats.sem(x - y))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.p == 2 / 32  # all five in one direction: no five pairs say more
    assert not found.decided
    assert found.n_needed == 1


def test_pairs_that_leave_nothing_to_judge_by():
    one = paired_difference([3.0], [2.0])
    assert (one.n, one.mean, one.low, one.high, one.p, one.p_holm, one.n_needed) == (1, 1.0, *[None] * 5)
    same = paired_difference([3.0, 4.0], [2.0, 3.0])
    assert (same.low, same.p, same.n_needed) == (None, 0.5, 4)
    nothing = paired_difference([3.0] * 8, [3.0] * 8)
    assert (nothing.low, nothing.high, nothing.p, nothing.n_needed) == (0.0, 0.0, 1.0, None)
    always = paired_difference([3.0] * 8, [2.0] * 8)
    assert always.decided
    assert always.p == 2 / 2**8


def test_a_table_is_corrected_by_holm_and_says_what_each_row_still_takes():
    rng = np.random.default_rng(2)
    y = rng.normal(0, 1, 10)
    shifts = (3.0, 0.9, 0.1)
    pairs = [(y + rng.normal(shift, 1, 10), y) for shift in shifts] + [([1.0], [0.0])]
    table = paired_table(pairs)
    assert [row.p_holm for row in table[:3]] == pytest.approx(holm([row.p for row in table[:3]]))
    assert table[3].p_holm is None  # one pair: not judged, and no burden to the others
    assert table[0].decided
    assert table[0].n_needed is None
    rank = int(np.argsort(np.argsort([row.p for row in table[:3]]))[2])
    assert table[2].n_needed == pairs_needed(pairs[2][0] - y, level=0.05 / (3 - rank))
    assert paired_table([]) == ()


def test_equal_p_values_all_need_the_strictest_level_while_nothing_is_decided():
    pairs = [([1.0 + k, 1.1 + k, 0.9 + k], [0.0] * 3) for k in range(5)]  # p is 2/8 of each
    assert [row.n_needed for row in paired_table(pairs)] == [5] * 5  # 8 pairs reach .05 / 5
    mixed = [*pairs[:1], ([1.0, -1.0, 0.5], [0.0] * 3)]
    for row in paired_table(mixed):
        assert row.n + row.n_needed >= 7  # also the last that Holm looks at: 2^(1 - 7) <= .05 / 2


def test_pairs_needed():
    d = np.array([1.0, -1.0] * 8) + 0.5  # mean 0.5, standard deviation 1.033
    assert pairs_needed(d) == np.ceil((2.8016 * 1.0328 / 0.5) ** 2 + 1.96**2 / 2) - 16
    assert pairs_needed([1.0, 1.1, 0.9], level=0.05) == 3  # six pairs can reach .05, five cannot
    assert pairs_needed([1.0, 1.1, 0.9], level=0.05 / 6) == 5
    assert pairs_needed([1.0, -1.0]) is None
    assert pairs_needed([1.0]) is None


@pytest.mark.parametrize(
    ("x", "y", "alpha", "message"),
    [
        ([1.0, 2.0], [1.0], 0.05, "as many values"),
        ([], [], 0.05, "as many values"),
        ([float("nan")], [1.0], 0.05, "not finite"),
        ([1.0], [1.0], 1.0, "alpha"),
    ],
)
def test_impossible_pairs_are_refused(x, y, alpha, message):
    with pytest.raises(StatisticsError, match=message):
        paired_difference(x, y, alpha=alpha)


# --- Simulations behind docs/statistics.md: accuracies in per cent, seven methods, the first is the reference.


def normal(rng, shape):
    return rng.normal(90, 1, shape)


def skewed(rng, shape):
    return 90 - np.exp(rng.normal(0, 0.8, shape))


def collapsing(rng, shape):
    """One run in ten falls to chance level."""
    return np.where(rng.random(shape) < 0.1, 10.0, rng.normal(90, 0.6, shape))


def steady(rng, shape):
    return rng.normal(90, 0.6, shape)


def constant(rng, shape):
    return np.full(shape, 90.0)


TRUE_MEAN = {normal: 90.0, skewed: 90 - np.exp(0.32), collapsing: 82.0, steady: 90.0, constant: 90.0}


def coverage(first, second, n, repeats, seed, interval=mean_interval):
    """Share of samples whose 95 per cent interval holds the true mean difference of two methods."""
    rng = np.random.default_rng(seed)
    truth = TRUE_MEAN[first] - TRUE_MEAN[second]
    samples = first(rng, (repeats, n)) - second(rng, (repeats, n))
    ends = np.array([interval(d) for d in samples])
    return np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1]))


def false_positives(population, n, repeats, seed):
    """Share of single comparisons at p <= .05, and of tables of six that decide anything, without a difference."""
    rng = np.random.default_rng(seed)
    single = table = 0
    for _ in range(repeats):
        accuracies = population(rng, (7, n))
        rows = paired_table([(each, accuracies[0]) for each in accuracies[1:]])
        single += rows[0].p <= 0.05
        table += any(row.decided for row in rows)
    return single / repeats, table / repeats


# Expected is what was measured on 20,000 samples (docs/statistics.md), within 3.3 standard errors of 1,500.
@pytest.mark.simulation
@pytest.mark.parametrize(
    ("first", "second", "n", "measured"),
    [
        (normal, normal, 5, 0.951),
        (normal, normal, 10, 0.954),
        (skewed, skewed, 10, 0.953),
        (skewed, constant, 10, 0.884),
        (collapsing, collapsing, 10, 0.950),
        (collapsing, steady, 10, 0.647),
    ],
)
def test_the_interval_holds_the_true_difference_about_as_often_as_the_docs_say(first, second, n, measured):
    found = coverage(first, second, n, 1500, seed=n)
    assert abs(found - measured) < 3.3 * np.sqrt(measured * (1 - measured) / 1500)


@pytest.mark.simulation
def test_students_interval_is_wider_where_runs_collapse():
    def width(interval):
        rng = np.random.default_rng(4)
        samples = collapsing(rng, (500, 10)) - collapsing(rng, (500, 10))
        return np.median([np.ptp(interval(d)) for d in samples])

    def student(d):
        return stats.t.interval(0.95, 9, d.mean(), stats.sem(d))

    assert width(student) > 1.1 * width(mean_interval)


@pytest.mark.simulation
@pytest.mark.parametrize("population", [normal, skewed, collapsing])
def test_false_positives_are_no_more_than_alpha_alone_and_in_a_table_of_six(population):
    for found in false_positives(population, 10, 400, seed=3):
        assert found < 0.05 + 3.3 * np.sqrt(0.05 * 0.95 / 400)


# Sign flips at a strict level lose a little to the t-test that pairs_needed counts with, whose power is .8.
@pytest.mark.simulation
@pytest.mark.parametrize(("shift", "level", "measured"), [(0.986, 0.05, 0.79), (1.361, 0.05 / 6, 0.75)])
def test_ten_pairs_have_about_the_power_that_pairs_needed_promises(shift, level, measured):
    pattern = np.array([1.0, -1.0] * 5) * np.sqrt(9 / 10)  # mean 0, standard deviation 1
    assert pairs_needed(pattern + shift, level=level) == 1  # ten are just enough
    rng = np.random.default_rng(6)
    p = [paired_difference(rng.normal(shift, 1, 10), np.zeros(10)).p for _ in range(1500)]
    assert np.mean(np.array(p) <= level) == pytest.approx(measured, abs=0.04)
