import numpy as np
import pytest
from scipy import stats

from kdsearch.analysis.power import n_needed, power_of, sample_size
from kdsearch.analysis.samples import StatisticsError


def test_sample_size_is_the_formula():
    # 2 (1.95996 + 0.84162)^2 = 15.698; halving the difference takes four times as many
    assert sample_size(1, 1) == 16
    assert sample_size(1, 2) == 63
    assert sample_size(-0.5, 1) == 63
    assert sample_size(1, 1, alpha=0.01) > sample_size(1, 1)
    assert sample_size(50, 1) == 2


def test_power_is_alpha_without_a_difference_and_rises_with_it():
    assert power_of(0, 1) == pytest.approx(0.05)
    assert power_of(2.8016, 1) == pytest.approx(0.8, abs=1e-3)
    assert power_of(-2.8016, 1) == pytest.approx(power_of(2.8016, 1))


def test_n_needed_counts_what_is_still_missing():
    # standard error 1 at n = 100 and difference 1.4: (2.8016 / 1.4)^2 = 4.004 times the draws
    assert n_needed(1.4, 1, 100) == 301
    assert n_needed(-1.4, 1, 100) == 301
    assert n_needed(100, 1, 100) == 1
    assert n_needed(0, 1, 100) is None
    assert n_needed(1, 0, 100) is None
    assert n_needed(1, float("nan"), 100) is None


def test_impossible_settings_are_refused():
    for call in (
        lambda: sample_size(0, 1),
        lambda: sample_size(1, 1, alpha=0),
        lambda: power_of(1, 0),
        lambda: n_needed(1, 1, 10, power=1),
    ):
        with pytest.raises(StatisticsError):
            call()


def simulated_power(difference, sizes, alpha, rng, repeats=4000):
    """Share of Welch's tests that show a difference of means between errors of standard deviation 5."""
    n, m = sizes
    x, y = rng.normal(35 - difference, 5, (repeats, n)), rng.normal(35, 5, (repeats, m))
    return np.mean(stats.ttest_ind(x, y, axis=1, equal_var=False).pvalue <= alpha)


@pytest.mark.simulation
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 14])
@pytest.mark.parametrize("difference", [1.0, 2.5])
def test_the_sample_size_gives_the_power_it_promises(difference, alpha):
    n = sample_size(difference, 5, alpha=alpha)
    found = simulated_power(difference, (n, n), alpha, np.random.default_rng(1))
    assert found == pytest.approx(0.8, abs=0.025)  # 4 standard errors of 4,000 repeats


@pytest.mark.simulation
def test_n_needed_gives_the_power_it_promises_at_unequal_shares():
    # A fifth of the draws meets the condition; 50 draws so far, true difference and standard error known.
    error = 5 * np.sqrt(1 / 10 + 1 / 40)
    total = 50 + n_needed(1.5, error, 50)
    found = simulated_power(1.5, (round(total / 5), total - round(total / 5)), 0.05, np.random.default_rng(2))
    assert found == pytest.approx(0.8, abs=0.025)
