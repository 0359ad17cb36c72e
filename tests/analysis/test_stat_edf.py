import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from kdsearch.analysis.auc import auc, auc_standard_error
from kdsearch.analysis.edf import dkw_epsilon, edf, edf_band
from kdsearch.analysis.samples import StatisticsError, effective_n

percents = st.lists(st.integers(0, 1000).map(lambda tenth: tenth / 10), min_size=1, max_size=30)
weighted = percents.flatmap(
    lambda errors: st.tuples(
        st.just(errors), st.lists(st.integers(1, 5), min_size=len(errors), max_size=len(errors))
    )
)


def naive_f(errors, weights, e):
    """Eq. (1) as it stands, a draw at a time."""
    draws = [error for error, weight in zip(errors, weights, strict=True) for _ in range(weight)]
    return sum(1 for error in draws if error < e) / len(draws)


def test_edf_is_strict_and_jumps_at_its_errors():
    curve = edf([30.0, 10.0, 20.0, 20.0])
    assert curve.errors.tolist() == [10, 20, 30]
    assert curve.f_below.tolist() == [0, 0.25, 0.75]
    assert curve.f_at_or_below.tolist() == [0.25, 0.75, 1]
    assert curve([0, 10, 10.01, 20, 20.01, 30, 30.01]).tolist() == [0, 0, 0.25, 0.25, 0.75, 0.75, 1]
    assert (curve.n, curve.trials, curve.n_effective) == (4, 4, 4)
    assert [curve.quantile(share) for share in (0.25, 0.5, 0.75, 0.76, 1)] == [10, 20, 20, 30, 30]


@given(weighted, st.floats(-1, 101))
def test_edf_equals_the_definition_with_draws_counted_one_by_one(sample, e):
    errors, weights = sample
    curve = edf(errors, weights)
    assert curve(e) == pytest.approx(naive_f(errors, weights, e))
    np.testing.assert_allclose(curve(curve.errors), curve.f_below)
    assert curve.f_at_or_below[-1] == pytest.approx(1)
    assert (np.diff(curve.f_at_or_below) > 0).all()
    assert curve.n == sum(weights)


@given(percents)
def test_edf_agrees_with_scipy(errors):
    reference = stats.ecdf(errors).cdf
    curve = edf(errors)
    np.testing.assert_array_equal(curve.errors, reference.quantiles)
    np.testing.assert_allclose(curve.f_at_or_below, reference.probabilities)


@given(weighted, st.floats(0, 50), st.floats(1, 50))
def test_auc_is_the_integral_of_the_edf(sample, a, width):
    errors, weights = sample
    tau = a + width
    edges = np.unique(np.clip([a, tau, *errors], a, tau))
    midpoints = (edges[1:] + edges[:-1]) / 2  # F is constant between two steps
    area = sum(naive_f(errors, weights, e) * d for e, d in zip(midpoints, np.diff(edges), strict=True))
    assert auc(errors, weights, a=a, tau=tau) == pytest.approx(100 * area / width, abs=1e-9)


def test_auc_agrees_with_numerical_quadrature():
    errors = np.random.default_rng(0).uniform(0, 100, 7)
    area, _ = integrate.quad(edf(errors), 5, 60, points=np.sort(errors), limit=200)
    assert auc(errors, a=5, tau=60) == pytest.approx(100 * area / 55)


def test_auc_over_all_errors_is_the_mean_accuracy():
    errors = [12.5, 40.0, 100.0]
    assert auc(errors) == pytest.approx(100 - np.mean(errors))
    assert auc(errors, [2, 1, 1]) == pytest.approx(100 - np.mean([12.5, 12.5, 40, 100]))


def test_standard_error_is_s_over_root_n_of_the_clipped_scores():
    errors = np.random.default_rng(1).normal(35, 8, 40)
    scores = 100 * np.clip(45 - errors, 0, 20) / 20
    assert auc_standard_error(errors, a=25, tau=45) == pytest.approx(stats.sem(scores))


def test_standard_error_does_not_shrink_when_every_trial_answers_more_draws():
    errors = np.random.default_rng(2).normal(35, 8, 40)
    once = auc_standard_error(errors)
    assert auc_standard_error(errors, np.full(40, 7)) == pytest.approx(once)
    repeated = auc_standard_error(np.repeat(errors, 7), clusters=np.repeat(np.arange(40), 7))
    assert repeated == pytest.approx(once)
    assert auc_standard_error(np.repeat(errors, 7)) < once / 2  # what ignoring it would claim


def test_effective_n_is_that_of_kish():
    assert effective_n([1, 1, 1]) == 3
    assert effective_n([4, 4]) == 2
    assert effective_n([3, 1]) == pytest.approx(16 / 10)
    assert effective_n([]) == 0


def test_dkw_epsilon_has_the_published_values():
    # sqrt(ln 40 / (2 n)): reference table for alpha = .05
    for n, epsilon in [(50, 0.192), (100, 0.136), (500, 0.061), (2500, 0.027)]:
        assert dkw_epsilon(n) == pytest.approx(epsilon, abs=5e-4)
    assert dkw_epsilon(0) == 1


def test_band_is_wider_for_repeated_draws_and_stays_in_the_unit_interval():
    errors = np.linspace(10, 60, 100)
    plain, repeated = edf_band(edf(errors)), edf_band(edf(errors, [1, 9] * 50))
    assert plain.epsilon == dkw_epsilon(100)
    assert repeated.epsilon == dkw_epsilon(500**2 / (50 + 50 * 81))
    for ends in (plain.low, plain.high, plain.low_below, plain.high_below):
        assert ends.min() >= 0
        assert ends.max() <= 1
    assert (plain.high - plain.low <= 2 * plain.epsilon + 1e-12).all()


def test_an_empty_population_has_an_empty_edf_and_no_auc():
    curve = edf([])
    assert (curve.n, curve.trials, curve.errors.size) == (0, 0, 0)
    assert np.isnan(curve(50))
    assert edf_band(curve).epsilon == 1
    with pytest.raises(StatisticsError, match="no AUC"):
        auc([])
    with pytest.raises(StatisticsError, match="no quantile"):
        curve.quantile(0.5)


@pytest.mark.parametrize(
    ("errors", "weights", "match"),
    [
        ([1.0, np.nan], None, "1 of 2 errors are not finite"),
        ([1.0, 2.0], [1], "weights of shape"),
        ([1.0, 2.0], [1, 0], "positive"),
        ([[1.0]], None, "one-dimensional"),
    ],
)
def test_bad_numbers_are_refused(errors, weights, match):
    with pytest.raises(StatisticsError, match=match):
        edf(errors, weights)


def test_bad_limits_are_refused():
    with pytest.raises(StatisticsError, match="a < tau"):
        auc([1.0], a=50, tau=50)
    with pytest.raises(StatisticsError, match="alpha"):
        dkw_epsilon(5, 1.5)
    with pytest.raises(StatisticsError, match="cluster labels"):
        auc_standard_error([1.0, 2.0], clusters=[1])


def band_coverage(kind, n, rng, repeats=1000):
    """Share of samples whose 95 per cent band holds F everywhere; F is uniform on [0, 100] or on whole per cents."""
    held = 0
    for _ in range(repeats):
        if kind == "ties":
            errors, weights = rng.integers(0, 20, n).astype(float), None
        else:
            errors, weights = rng.uniform(0, 100, n), rng.integers(1, 5, n) if kind == "weights" else None
        curve = edf(errors, weights)
        band = edf_band(curve)
        if kind == "ties":
            before, after = curve.errors / 20, (curve.errors + 1) / 20  # P(e < k), P(e <= k)
        else:
            before = after = curve.errors / 100
        low_side = (before >= band.low_below - 1e-12) & (after >= band.low - 1e-12)
        held += bool(np.all(low_side & (before <= band.high_below + 1e-12) & (after <= band.high + 1e-12)))
    return held / repeats


@pytest.mark.simulation
@pytest.mark.parametrize("kind", ["continuous", "ties", "weights"])
@pytest.mark.parametrize("n", [25, 50, 200])
def test_band_holds_the_true_function_as_often_as_it_says(kind, n):
    coverage = band_coverage(kind, n, np.random.default_rng(n))
    # The band may only be too wide: refuse if a true coverage of .95 would give so few in 1,000.
    assert stats.binomtest(round(1000 * coverage), 1000, 0.95, alternative="less").pvalue > 0.001
    assert coverage < 1 or kind == "ties"


def standard_error_ratio(noise, rng, repeats=1000):
    """Mean estimated over true standard error: 200 draws from 500 classes, each trained once if drawn."""
    classes = rng.normal(35, 5, 500)
    values, errors = [], []
    for _ in range(repeats):
        trained = rng.normal(35, 5, 500) if noise else classes
        drawn, weights = np.unique(rng.integers(0, 500, 200), return_counts=True)
        values.append(auc(trained[drawn], weights))
        errors.append(auc_standard_error(trained[drawn], weights))
    return np.mean(errors) / np.std(values, ddof=1)


@pytest.mark.simulation
def test_cluster_robust_errors_are_right_for_noise_and_cautious_for_fixed_classes():
    # With 199 other draws in 500 classes, variance is overstated by 1 + 199/500 where classes are fixed: 1.18^2.
    rng = np.random.default_rng(3)
    assert standard_error_ratio(noise=True, rng=rng) == pytest.approx(1, abs=0.08)
    assert standard_error_ratio(noise=False, rng=rng) == pytest.approx(np.sqrt(1 + 199 / 500), abs=0.09)
