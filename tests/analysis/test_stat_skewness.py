import numpy as np
import pytest
from scipy import stats

from kdsearch.analysis.permutation import permutation_p
from kdsearch.analysis.skewness import skewness_corrected_p


def diverging(rng, size):
    return np.where(rng.random(size) < 0.08, 100.0, np.clip(rng.normal(35, 4, size), 0, 100))


def skewed(rng, size):
    return np.clip(20 + np.exp(rng.normal(2, 0.8, size)), 0, 100)


def test_correction_vanishes_for_groups_of_one_size_and_symmetric_scores():
    x = np.array([-3.0, -1, 1, 3, 0, 2, -2])
    y = x + 1.3
    assert skewness_corrected_p(x, y) == pytest.approx(stats.ttest_ind(x, y, equal_var=False).pvalue)


def test_correction_is_the_published_transformation():
    rng = np.random.default_rng(0)
    x, y = rng.exponential(1, 12), rng.exponential(1, 40)
    welch = stats.ttest_ind(x, y, equal_var=False)
    residuals = np.concatenate([x - x.mean(), y - y.mean()])
    gamma = np.mean(residuals**3) / np.mean(residuals**2) ** 1.5
    a = gamma * (1 / 12**2 - 1 / 40**2) / (1 / 12 + 1 / 40) ** 1.5
    t = welch.statistic
    expected = 2 * stats.t.sf(abs(t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6), welch.df)
    assert skewness_corrected_p(x, y) == pytest.approx(expected)


def test_it_comes_close_to_the_permutation_test():
    rng = np.random.default_rng(1)
    for _ in range(5):
        x, y = skewed(rng, 120), skewed(rng, 900)
        exact = permutation_p(x, y, rng=rng, resamples=4000)
        assert skewness_corrected_p(x, y) == pytest.approx(exact, abs=0.08)


def false_positives(population, sizes, levels, *, rng, repeats, corrected=True):
    def p_value():
        x, y = (population(rng, size) for size in sizes)
        return skewness_corrected_p(x, y) if corrected else stats.ttest_ind(x, y, equal_var=False).pvalue

    p = np.array([p_value() for _ in range(repeats)])
    return [float(np.mean(p <= level)) for level in levels]


@pytest.mark.simulation
@pytest.mark.parametrize("population", [diverging, skewed])
def test_level_holds_far_out_in_the_tail_where_welch_does_not(population):
    levels = [0.05, 0.05 / 18]
    rng = np.random.default_rng(2)
    found = false_positives(population, (110, 2000), levels, rng=rng, repeats=3000)
    plain = false_positives(population, (110, 2000), levels, rng=rng, repeats=2000, corrected=False)
    assert stats.binomtest(round(3000 * found[0]), 3000, 0.05).pvalue > 0.002
    assert stats.binomtest(round(3000 * found[1]), 3000, levels[1], alternative="greater").pvalue > 0.002
    assert plain[1] > 2 * levels[1]
