"""What is told after a choice: the winner's curse, the lowest error by trials, comparisons by seed."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdsearch.analysis.auc import auc
from kdsearch.analysis.best_of_n import best_of_n, expected_best
from kdsearch.analysis.by_seed import seed_difference, sign_flip_p
from kdsearch.analysis.comparison import auc_difference
from kdsearch.analysis.confirmation import confirmation
from kdsearch.analysis.samples import StatisticsError


def test_confirmation_sets_the_chosen_value_beside_the_fresh_one():
    rng = np.random.default_rng(0)
    selected, fresh, rest = rng.normal(33, 4, 20), rng.normal(35, 4, 60), rng.normal(40, 4, 50)
    weights = rng.integers(1, 4, 60)
    found = confirmation(selected, fresh, rng=rng, fresh_weights=weights, rest=rest)
    assert (found.selected_auc, found.selected_n) == (pytest.approx(auc(selected)), 20)
    assert (found.fresh_auc, found.fresh_n) == (pytest.approx(auc(fresh, weights)), weights.sum())
    assert found.fresh_auc in found.interval
    assert found.shift == auc_difference(selected, fresh, None, weights)
    assert found.gain == auc_difference(fresh, rest, weights, None)
    assert found.holds == (found.interval.high >= found.selected_auc)


def test_confirmation_without_fresh_draws_says_so():
    found = confirmation([30.0, 31.0], [], rng=np.random.default_rng(0))
    assert (found.fresh_auc, found.fresh_n, found.interval, found.shift, found.gain, found.holds) == (
        None,
        0,
        None,
        None,
        None,
        None,
    )
    assert confirmation([30.0], [32.0], rng=np.random.default_rng(0)).fresh_auc == 68


@pytest.mark.simulation
def test_the_winner_is_overestimated_and_fresh_draws_are_not():
    # Ten conditions of one and the same AUC, 65; the best of ten means of 20 draws is 1.54 s / sqrt(20) too high.
    rng = np.random.default_rng(1)
    found = []
    for _ in range(300):
        conditions = rng.normal(35, 5, (10, 20))
        winner = conditions[np.argmin(conditions.mean(axis=1))]
        found.append(confirmation(winner, rng.normal(35, 5, 20), rng=rng))
    curse = np.mean([c.selected_auc for c in found]) - 65
    assert curse == pytest.approx(1.5388 * 5 / np.sqrt(20), abs=0.25)
    assert np.mean([c.fresh_auc for c in found]) == pytest.approx(65, abs=0.25)
    covered = sum(65 in c.interval for c in found)
    assert stats.binomtest(covered, 300, 0.94).pvalue > 0.002


@given(st.lists(st.integers(0, 20).map(float), min_size=1, max_size=8))
def test_expected_lowest_error_equals_a_count_of_all_subsets(errors):
    mean, spread = expected_best(errors)
    for k in range(1, len(errors) + 1):
        lowest = [min(subset) for subset in combinations(errors, k)]
        assert mean[k - 1] == pytest.approx(np.mean(lowest))
        assert spread[k - 1] == pytest.approx(np.std(lowest), abs=1e-6)


def test_random_orders_scatter_around_the_expectation():
    rng = np.random.default_rng(2)
    errors, weights = rng.gamma(4, 10, 60), rng.integers(1, 4, 60)
    curve = best_of_n(errors, weights, rng=rng, orders=3000)
    assert curve.draws.tolist() == list(range(1, weights.sum() + 1))
    assert (curve.mean[-1], curve.exact_mean[-1]) == pytest.approx((errors.min(), errors.min()))
    assert curve.exact_mean[0] == pytest.approx(np.average(errors, weights=weights))
    assert (np.diff(curve.mean) <= 0).all()
    # Towards the last draws a few orders out of 3,000 make the whole difference; no normal limit fits those.
    off = np.abs(curve.mean - curve.exact_mean)[:60]
    assert (off <= 4.5 * curve.exact_spread[:60] / np.sqrt(3000)).all()
    np.testing.assert_allclose(curve.spread[:30], curve.exact_spread[:30], rtol=0.08)


def test_one_order_has_no_spread_and_bad_input_is_refused():
    rng = np.random.default_rng(3)
    assert best_of_n([5.0, 4.0], rng=rng, orders=1).spread.tolist() == [0, 0]
    assert best_of_n([5.0], rng=rng).exact_mean.tolist() == [5]
    for errors, weights, orders in [([], None, 5), ([5.0], [1.5], 5), ([5.0], None, 0)]:
        with pytest.raises(StatisticsError):
            best_of_n(errors, weights, rng=rng, orders=orders)


def test_sign_flips_are_counted_exactly_and_drawn_when_too_many():
    rng = np.random.default_rng(4)
    d = rng.normal(0.7, 1, 10)
    flips = [abs(sum(s * v for s, v in zip(signs, d, strict=True))) for signs in product((-1, 1), repeat=10)]
    exact = np.mean(np.array(flips) >= abs(d.sum()) - 1e-9)
    assert sign_flip_p(d, rng=rng) == pytest.approx(exact)
    theirs = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(d, rng=rng) == pytest.approx(theirs.pvalue)
    assert sign_flip_p(d, rng=rng, resamples=1023) == pytest.approx(exact, abs=0.05)
    assert sign_flip_p(np.full(50, 3.0), rng=rng, resamples=999) == 1 / 1000


def test_shared_seeds_narrow_a_difference():
    rng = np.random.default_rng(5)
    luck = rng.normal(0, 5, 25)
    seeds = np.repeat(np.arange(25), 2)
    x, y = 34 + luck[seeds] + rng.normal(0, 0.5, 50), 35 + luck[seeds] + rng.normal(0, 0.5, 50)
    found = seed_difference(x, y, seeds, seeds, rng=rng)
    paired = stats.ttest_1samp([np.mean((y - x)[seeds == s]) for s in range(25)], 0)
    interval = paired.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p < 0.001
    unpaired = auc_difference(x, y)
    assert found.high - found.low < (unpaired.high - unpaired.low) / 4
    assert (found.seeds, found.left_out) == (25, 0)


def test_seeds_of_one_group_only_are_left_out_and_counted():
    found = seed_difference(
        [1.0, 2.0, 3.0], [2.0, 3.0, 9.0], [0, 1, 2], [0, 1, 7], rng=np.random.default_rng(6)
    )
    assert (found.value, found.seeds, found.left_out) == (pytest.approx(1), 2, 2)
    with pytest.raises(StatisticsError, match="two seeds in both groups, not 1"):
        seed_difference([1.0], [2.0], [0], [0], rng=np.random.default_rng(6))
    with pytest.raises(StatisticsError, match="seeds of shape"):
        seed_difference([1.0], [2.0], [0, 1], [0], rng=np.random.default_rng(6))
