import numpy as np
import pytest
from scipy import stats

from kdsearch.analysis.auc import auc
from kdsearch.analysis.intervals import BOOTSTRAP_LIMIT, IntervalMethod, auc_interval
from kdsearch.analysis.samples import StatisticsError


def skewed(rng, size):
    return np.clip(20 + np.exp(rng.normal(2, 0.8, size)), 0, 100)


def diverging(rng, size):
    return np.where(rng.random(size) < 0.08, 100.0, np.clip(rng.normal(35, 4, size), 0, 100))


@pytest.mark.parametrize(
    ("method", "scipy_method"), [(IntervalMethod.PERCENTILE, "percentile"), (IntervalMethod.BCA, "BCa")]
)
def test_bootstrap_agrees_with_scipy(method, scipy_method):
    errors = skewed(np.random.default_rng(0), 40)
    ours = auc_interval(errors, method=method, rng=np.random.default_rng(1), resamples=40_000)
    theirs = stats.bootstrap(
        (100 - errors,), np.mean, method=scipy_method, n_resamples=40_000, rng=np.random.default_rng(2)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02 * width)


def test_bca_with_weights_agrees_with_a_jackknife_written_out():
    rng = np.random.default_rng(3)
    errors, weights = skewed(rng, 15), rng.integers(1, 5, 15)
    resampled = rng.integers(0, 15, (60_000, 15))
    means = np.sum((100 - errors)[resampled] * weights[resampled], axis=1) / weights[resampled].sum(axis=1)
    left_out = np.array([auc(np.delete(errors, i), np.delete(weights, i)) for i in range(15)])
    d = left_out.mean() - left_out
    acceleration = np.sum(d**3) / (6 * np.sum(d**2) ** 1.5)
    bias = stats.norm.ppf(np.mean(means < auc(errors, weights)))
    z = bias + stats.norm.ppf([0.025, 0.975])
    expected = np.quantile(means, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    ours = auc_interval(
        errors, weights, method=IntervalMethod.BCA, rng=np.random.default_rng(4), resamples=60_000
    )
    assert (ours.low, ours.high) == pytest.approx(expected, abs=0.02 * (expected[1] - expected[0]))


def test_student_interval_is_the_textbook_one():
    errors = skewed(np.random.default_rng(5), BOOTSTRAP_LIMIT + 1)
    interval = auc_interval(errors, rng=np.random.default_rng(0))
    expected = stats.t.interval(0.95, errors.size - 1, 100 - errors.mean(), stats.sem(errors))
    assert interval.method is IntervalMethod.STUDENT
    assert (interval.low, interval.high) == pytest.approx(expected)


def test_the_method_depends_on_the_number_of_trials():
    rng = np.random.default_rng(6)
    assert auc_interval(skewed(rng, BOOTSTRAP_LIMIT), rng=rng).method is IntervalMethod.EXPANDED_BCA
    assert auc_interval([30.0, 30.0], rng=rng).method is IntervalMethod.CONSTANT


def test_interval_is_reproducible_and_holds_its_estimate():
    errors = skewed(np.random.default_rng(7), 30)
    first, second = (auc_interval(errors, rng=np.random.default_rng(8)) for _ in range(2))
    assert first == second
    assert auc(errors) in first
    assert auc_interval(errors, rng=np.random.default_rng(8), alpha=0.01).low < first.low


@pytest.mark.parametrize("n", [2, 3, 5])
def test_tiny_samples_give_an_interval_within_the_range_of_an_auc(n):
    interval = auc_interval(
        [10.0, 90.0, 91.0, 92.0, 93.0][:n], [5, 1, 1, 1, 1][:n], rng=np.random.default_rng(9)
    )
    assert 0 <= interval.low <= interval.high <= 100


def test_trials_of_one_seed_are_resampled_together():
    rng = np.random.default_rng(10)
    seeds = np.repeat(np.arange(20), 5)
    errors = rng.normal(35, 5, 20)[seeds] + rng.normal(0, 0.1, 100)
    apart = auc_interval(errors, rng=np.random.default_rng(11))
    together = auc_interval(errors, clusters=seeds, rng=np.random.default_rng(11))
    # 20 seeds say as much as 20 trials, not 100: sqrt(5) times the width.
    assert (together.high - together.low) / (apart.high - apart.low) == pytest.approx(np.sqrt(5), rel=0.2)


def test_too_few_trials_are_refused():
    with pytest.raises(StatisticsError, match="two independent trials, not 1"):
        auc_interval([3.0], rng=np.random.default_rng(0))
    with pytest.raises(StatisticsError, match="not 1"):
        auc_interval([3.0, 4.0], clusters=["a", "a"], rng=np.random.default_rng(0))
    with pytest.raises(StatisticsError, match="alpha"):
        auc_interval([3.0, 4.0], alpha=0, rng=np.random.default_rng(0))


def coverage(population, n, rng, repeats, *, method=None, resamples=600):
    """Share of samples of n trials whose 95 per cent interval holds the population's AUC."""
    truth = 100 - population(np.random.default_rng(99), 2_000_000).mean()
    intervals = (
        auc_interval(population(rng, n), rng=rng, method=method, resamples=resamples) for _ in range(repeats)
    )
    return sum(truth in interval for interval in intervals) / repeats


# Expected is what was measured on 2,000 samples (table in `IntervalMethod`), within 3.3 standard errors of 400.
@pytest.mark.simulation
@pytest.mark.parametrize(
    ("population", "n", "measured"),
    [
        (skewed, 25, 0.921),
        (skewed, 50, 0.931),
        (skewed, 200, 0.938),
        (diverging, 25, 0.867),
        (diverging, 50, 0.97),
        (diverging, 200, 0.948),
    ],
)
def test_interval_holds_the_true_auc_about_as_often_as_it_says(population, n, measured):
    found = coverage(population, n, np.random.default_rng(n), 400)
    assert abs(found - measured) < 3.3 * np.sqrt(measured * (1 - measured) / 400)


@pytest.mark.simulation
def test_the_chosen_interval_covers_more_than_the_percentile_interval_at_n_25():
    chosen = coverage(skewed, 25, np.random.default_rng(12), 600)
    percentile = coverage(skewed, 25, np.random.default_rng(12), 600, method=IntervalMethod.PERCENTILE)
    assert chosen > percentile + 0.01
