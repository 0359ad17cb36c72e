"""How many trials a comparison takes: before it, and when it is not decided yet.

Normal approximation for two means (any textbook, e.g. Chow, Shao & Wang 2008, section 3.2): n per group about
2 (z_{1 - alpha/2} + z_{power})^2 sigma^2 / Delta^2. Checked against simulated power in `test_stat_power.py`.
"""

from __future__ import annotations

import math

from scipy import stats

from kdsearch.analysis.samples import StatisticsError

POWER = 0.8


def _quantiles(alpha: float, power: float) -> float:
    if not (0 < alpha < 1 and 0 < power < 1):
        raise StatisticsError(f"alpha and power must lie in (0, 1), not {alpha:g} and {power:g}")
    return float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power))


def sample_size(difference: float, sigma: float, *, alpha: float = 0.05, power: float = POWER) -> int:
    """Return the trials per group that show a true `difference` between trials of standard deviation `sigma`.

    Raises StatisticsError for a difference of 0 or a negative sigma.
    """
    z = _quantiles(alpha, power)
    if difference == 0 or sigma < 0:
        raise StatisticsError("a sample size needs a difference other than 0 and sigma >= 0")
    return max(2, math.ceil(2 * (z * sigma / difference) ** 2))


def power_of(difference: float, standard_error: float, *, alpha: float = 0.05) -> float:
    """Return the chance that a two-sided test shows a true `difference` estimated with `standard_error`."""
    if standard_error <= 0:
        raise StatisticsError("power needs a standard error above 0")
    z, shift = float(stats.norm.ppf(1 - alpha / 2)), abs(difference) / standard_error
    return float(stats.norm.cdf(shift - z) + stats.norm.cdf(-shift - z))


def n_needed(
    difference: float, standard_error: float, n: int, *, alpha: float = 0.05, power: float = POWER
) -> int | None:
    """Return how many more draws of a space would decide a difference, both sides keeping their shares.

    The difference and its standard error are those of the n draws so far; variances fall as 1/n. At least 1.
    It takes the estimated difference as true, so it is itself uncertain, widely so while |difference| < 2
    standard errors. None if nothing can be said: no difference, or no spread.
    """
    z = _quantiles(alpha, power)
    if difference == 0 or not standard_error > 0 or not math.isfinite(standard_error / difference):
        return None
    total = n * (z * standard_error / difference) ** 2
    return max(1, math.ceil(total) - n) if math.isfinite(total) else None
