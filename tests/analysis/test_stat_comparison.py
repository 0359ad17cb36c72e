from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdsearch.analysis.comparison import (
    auc_difference,
    holm,
    ks_test,
    ks_threshold,
    mann_whitney,
    permutation_floor,
)
from kdsearch.analysis.samples import StatisticsError

errors = st.lists(st.integers(0, 40).map(float), min_size=3, max_size=20)


def test_difference_is_that_of_welch_on_clipped_scores():
    rng = np.random.default_rng(0)
    x, y = rng.normal(35, 9, 30), rng.normal(40, 4, 50)
    clipped = [100 * np.clip(50 - e, 0, 30) / 30 for e in (x, y)]
    ours = auc_difference(x, y, a=20, tau=50)
    theirs = stats.ttest_ind(*clipped, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert ours.value == pytest.approx(clipped[0].mean() - clipped[1].mean())
    assert ours.standard_error == pytest.approx(np.hypot(*(stats.sem(s) for s in clipped)))
    assert (ours.p, ours.df) == pytest.approx((theirs.pvalue, theirs.df))
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high))


def test_difference_without_spread_has_a_p_that_its_trials_can_give():
    assert auc_difference([10.0, 10.0], [10.0, 10.0, 10.0]).p == 1
    assert auc_difference([10.0, 10.0], [20.0, 20.0, 20.0]).p == pytest.approx(2 / 10)
    assert auc_difference([0.0, 1e-9] * 500, [100.0, 99.0] * 500).p > 0
    with pytest.raises(StatisticsError, match="not 1 and 2"):
        auc_difference([10.0], [20.0, 30.0])


def brute_force_superiority(x, y, wx, wy):
    pairs = [
        (u * v, 1.0 if a < b else 0.5 if a == b else 0.0)
        for a, u in zip(x, wx, strict=True)
        for b, v in zip(y, wy, strict=True)
    ]
    return sum(w * s for w, s in pairs) / sum(w for w, _ in pairs)


@given(errors, errors, st.randoms(use_true_random=False))
def test_superiority_counts_pairs_of_draws(x, y, random):
    wx, wy = ([random.randint(1, 3) for _ in group] for group in (x, y))
    ones = [1] * len(x), [1] * len(y)
    assert mann_whitney(x, y).superiority == pytest.approx(brute_force_superiority(x, y, *ones))
    assert mann_whitney(x, y, wx, wy).superiority == pytest.approx(brute_force_superiority(x, y, wx, wy))


def test_mann_whitney_agrees_with_a_count_of_all_divisions():
    x, y = np.array([1.0, 4, 6, 9]), np.array([5.0, 7, 8, 10, 12])
    both = np.concatenate([x, y])
    centre = len(x) * len(y) / 2

    def u(chosen):
        inside = np.isin(np.arange(9), chosen)
        return np.sum(both[inside][:, None] < both[~inside][None, :])

    observed = abs(u(range(4)) - centre)
    divisions = list(combinations(range(9), 4))
    exact = np.mean([abs(u(chosen) - centre) >= observed for chosen in divisions])
    assert mann_whitney(x, y).p == pytest.approx(exact)


def test_repeated_draws_are_tested_by_brunner_and_munzel():
    rng = np.random.default_rng(1)
    x, y = rng.normal(0, 1, 30), rng.normal(0.5, 3, 40)
    theirs = stats.brunnermunzel(x, y)
    ours = mann_whitney(x, y, np.full(30, 2), np.full(40, 2))  # equal multiplicity changes nothing
    assert ours.method == "brunner-munzel"
    assert ours.p == pytest.approx(theirs.pvalue)
    assert mann_whitney([1.0, 2.0], [3.0, 4.0], [2, 1], [1, 1]).p == permutation_floor(2, 2)
    assert mann_whitney([1.0, 1.0], [1.0, 1.0]).p == 1
    with pytest.raises(StatisticsError, match="both sides"):
        mann_whitney([], [1.0])


@given(errors, errors)
def test_ks_distance_agrees_with_scipy(x, y):
    assert ks_test(x, y).distance == pytest.approx(stats.ks_2samp(x, y, method="asymp").statistic)


def test_ks_threshold_is_the_formula_and_the_quantile_of_the_limit():
    assert ks_threshold(100, 300) == pytest.approx(np.sqrt(-np.log(0.025) / 2) * np.sqrt(400 / 30_000))
    # Kolmogorov's distribution has further terms; at .05 they are below a thousandth.
    assert ks_threshold(1, 1) / np.sqrt(2) == pytest.approx(stats.kstwobign.isf(0.05), abs=1e-3)


def test_ks_rejects_different_populations_and_counts_effective_draws():
    rng = np.random.default_rng(2)
    x, y = rng.normal(35, 5, 200), rng.normal(39, 5, 200)
    assert ks_test(x, y).rejected
    assert not ks_test(x, x).rejected
    heavy = np.where(np.arange(200) < 20, 50, 1)
    assert ks_test(x, y, heavy, None).threshold > 2 * ks_test(x, y).threshold
    with pytest.raises(StatisticsError, match="both sides"):
        ks_test([], [1.0])


@pytest.mark.simulation
def test_ks_keeps_its_level():
    rng = np.random.default_rng(3)
    rejected = sum(ks_test(rng.random(60), rng.random(90)).rejected for _ in range(1000))
    assert stats.binomtest(rejected, 1000, 0.05, alternative="greater").pvalue > 0.002


def holm_by_definition(p, alpha):
    """Holm 1979: go up through the ordered p and reject while p_(k) <= alpha / (M - k + 1)."""
    rejected = [False] * len(p)
    for k, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[i] > alpha / (len(p) - k):
            break
        rejected[i] = True
    return rejected


@given(st.lists(st.floats(0, 1), max_size=25), st.floats(0.001, 0.5))
def test_holm_rejects_what_its_definition_rejects(p, alpha):
    adjusted = holm(p)
    clear = [abs(a - alpha) > 1e-12 for a in adjusted]  # no verdict on a rounding error
    ours = [bool(a <= alpha) for a in adjusted]
    theirs = holm_by_definition(p, alpha)
    assert [o for o, c in zip(ours, clear, strict=True) if c] == [
        t for t, c in zip(theirs, clear, strict=True) if c
    ]


def test_holm_example():
    # 4 x .01, 3 x .02, then 2 x .03 = .06 is already reached, and .04 is held up to it
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([]).size == 0
    with pytest.raises(StatisticsError, match=r"\[0, 1\]"):
        holm([1.2])
