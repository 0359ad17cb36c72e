"""Comparing the errors of two disjoint groups of trials.

A refinement compares a condition with the rest of the same space (B with A without B), never with all of it.
A difference of means is found soonest by Welch's test on clipped scores; Mann-Whitney asks which group tends
to err less whatever the distances; Kolmogorov-Smirnov sees any difference between two EDFs but has no
direction and needs more trials. Several comparisons at once: Holm 1979.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from kdsearch.analysis.edf import edf
from kdsearch.analysis.samples import (
    Clusters,
    Floats,
    StatisticsError,
    as_errors,
    as_scores,
    as_weights,
    clustered,
    effective_n,
)


@dataclass(frozen=True)
class Difference:
    """A difference of two means, first less second, in per cent points where it is one of AUCs."""

    value: float
    standard_error: float  # sqrt(se_1^2 + se_2^2)
    df: float  # Welch & Satterthwaite
    low: float  # (1 - alpha) interval, ends included
    high: float
    p: float  # two-sided


def _welch(x: Clusters, y: Clusters, alpha: float, scale: float) -> Difference:
    if min(x.count, y.count) < 2:  # noqa: PLR2004 - a spread needs two
        raise StatisticsError(f"a comparison needs two trials on each side, not {x.count} and {y.count}")
    value, parts = x.mean - y.mean, (x.variance, y.variance)
    variance = sum(parts)
    if variance == 0:
        point = scale * value
        same = math.isclose(x.mean, y.mean, rel_tol=1e-12)
        p = 1.0 if same else permutation_floor(x.count, y.count)
        return Difference(point, 0.0, math.inf, point, point, p)
    df = variance**2 / (parts[0] ** 2 / (x.count - 1) + parts[1] ** 2 / (y.count - 1))
    error = math.sqrt(variance)
    half = float(stats.t.ppf(1 - alpha / 2, df)) * error
    p = max(float(2 * stats.t.sf(abs(value) / error, df)), sys.float_info.min)  # never 0
    return Difference(scale * value, scale * error, df, scale * (value - half), scale * (value + half), p)


def auc_difference(
    x: ArrayLike,
    y: ArrayLike,
    wx: ArrayLike | None = None,
    wy: ArrayLike | None = None,
    *,
    a: float = 0.0,
    tau: float = 100.0,
    alpha: float = 0.05,
) -> Difference:
    """Return AUC(x) - AUC(y) in per cent points with Welch's interval and p.

    x [n], y [m] are errors in per cent of disjoint groups of trials, w* the draws that each trial answers.
    This is Welch's test on the clipped scores. Raises StatisticsError if a group has fewer than two trials.
    """
    first, second = (as_scores(e, a=a, tau=tau) for e in (x, y))
    return _welch(clustered(first, wx), clustered(second, wy), alpha, 100.0)


@dataclass(frozen=True)
class RankTest:
    """Mann & Whitney's test: `superiority` is P(x < y) + P(x = y) / 2, the chance that x errs less."""

    superiority: float
    p: float  # two-sided
    method: str  # "mann-whitney", or "brunner-munzel" where trials answer several draws


def _placements(x: Floats, y: Floats, wy: Floats) -> Floats:
    """Return for each x the weighted share of y above it, ties counting half, [n]."""
    curve = edf(y, wy)
    upto = np.concatenate(([0.0], curve.f_at_or_below))[np.searchsorted(curve.errors, x, side="right")]
    shares: Floats = 1 - (curve(x) + upto) / 2
    return shares


def mann_whitney(
    x: ArrayLike, y: ArrayLike, wx: ArrayLike | None = None, wy: ArrayLike | None = None
) -> RankTest:
    """Test whether errors x [n] tend to be lower or higher than errors y [m] of a disjoint group.

    With weights other than one, ranks of draws are no longer exchangeable; then the test is Brunner &
    Munzel's (2000) on the placements, with cluster-robust variances. Raises StatisticsError if a group is
    empty, or with such weights has fewer than two trials.
    """
    first, second = as_errors(x), as_errors(y)
    if not (first.size and second.size):
        raise StatisticsError("a rank test needs trials on both sides")
    u, v = as_weights(wx, first.size), as_weights(wy, second.size)
    above = _placements(first, second, v)
    superiority = clustered(above, u).mean
    if np.ptp(np.concatenate([first, second])) == 0:
        return RankTest(superiority, 1.0, "mann-whitney")
    if (u == 1).all() and (v == 1).all():
        p = float(stats.mannwhitneyu(first, second, alternative="two-sided").pvalue)
        return RankTest(superiority, p, "mann-whitney")
    # The placements of y among x deviate from their mean as the other half of the variance asks.
    half = _welch(clustered(above, u), clustered(_placements(second, first, u), v), 0.05, 1.0)
    if half.standard_error == 0:  # the groups do not overlap
        return RankTest(superiority, permutation_floor(first.size, second.size), "brunner-munzel")
    t = abs(superiority - 0.5) / half.standard_error
    return RankTest(superiority, float(2 * stats.t.sf(t, half.df)), "brunner-munzel")


def permutation_floor(n: int, m: int) -> float:
    """Return the smallest two-sided p that n and m exchangeable trials can give, 2 / C(n + m, n)."""
    return min(1.0, max(math.exp(math.log(2) - math.log(math.comb(n + m, n))), sys.float_info.min))


@dataclass(frozen=True)
class KsTest:
    """Kolmogorov & Smirnov's test of two EDFs: rejected if distance > threshold."""

    distance: float  # largest |F_x - F_y|
    threshold: float
    rejected: bool


def ks_threshold(n: float, m: float, alpha: float = 0.05) -> float:
    """Return sqrt(-ln(alpha / 2) / 2) sqrt((n + m) / (n m)) for effective n and m; cautious if small."""
    return math.sqrt(-math.log(alpha / 2) / 2) * math.sqrt((n + m) / (n * m))


def ks_test(
    x: ArrayLike,
    y: ArrayLike,
    wx: ArrayLike | None = None,
    wy: ArrayLike | None = None,
    *,
    alpha: float = 0.05,
) -> KsTest:
    """Compare the EDFs of errors x [n] and y [m] of two disjoint groups, by effective numbers of draws.

    Raises StatisticsError if a group is empty.
    """
    one, two = edf(x, wx), edf(y, wy)
    if not (one.trials and two.trials):
        raise StatisticsError("a comparison of EDFs needs trials on both sides")
    steps = np.concatenate([one.errors, two.errors])
    after = np.nextafter(steps, np.inf)  # F is strict: a step shows just above its error
    distance = float(np.abs(one(after) - two(after)).max())
    threshold = ks_threshold(
        effective_n(as_weights(wx, one.trials)), effective_n(as_weights(wy, two.trials)), alpha
    )
    return KsTest(distance, threshold, distance > threshold)


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """Return Holm's adjusted p-values, in the order given; reject where they are <= alpha.

    The k-th smallest (from 0) of M is multiplied by M - k and is at least as large as the one before, at most
    1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.size and not ((p >= 0) & (p <= 1)).all():
        raise StatisticsError("p-values must lie in [0, 1]")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate((p.size - np.arange(p.size)) * p[order]))
    return adjusted
