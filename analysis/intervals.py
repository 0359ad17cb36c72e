"""Confidence intervals for the AUC of a population of trials.

Which one to take depends on n, and was simulated on errors that are skewed and bounded as those of trials are
(`IntervalMethod` has the table). Chosen: the bias-corrected and accelerated bootstrap (BCa; Efron 1987) with
its quantiles expanded from the normal's to Student's (Hesterberg 2015, eq. 3) up to `BOOTSTRAP_LIMIT` trials,
and Student's interval above, where it is as good and takes no resampling. Resampled are trials (or clusters)
with all the draws that they answer.

No method sees what a sample does not hold: if one trial in twelve diverges, ten trials hold none of them 42
times in 100, and no interval from those ten then reaches the truth. Below about 25 trials read the band
beside the interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from kdsearch.analysis.samples import Clusters, Floats, StatisticsError, as_scores, clustered

BOOTSTRAP_LIMIT = 400  # trials; above it Student's interval
_BLOCK = 1 << 20  # resampled values held at a time


class IntervalMethod(StrEnum):
    """How an interval was found.

    Share of 2,000 samples whose 95 per cent interval held the true AUC (`test_stat_intervals.py` repeats the
    last two columns on fewer samples). "Skewed": 20 + lognormal(2, .8) cut at 100. "Diverging": normal(35,
    4), and 8 per cent of the trials at 100.

    ==================  ======  ======  ======  =======  =======
    skewed              n = 10  n = 25  n = 50  n = 200  n = 400
    ==================  ======  ======  ======  =======  =======
    percentile            .850    .893    .918     .936     .943
    BCa                   .862    .900    .920     .934     .945
    Student               .879    .897    .927     .943     .946
    expanded BCa          .910    .921    .931     .938     .945
    diverging
    percentile            .560    .871    .917     .942     .936
    BCa                   .548    .861    .967     .947     .947
    Student               .585    .879    .910     .938     .947
    expanded BCa          .581    .867    .970     .948     .948
    ==================  ======  ======  ======  =======  =======
    """

    PERCENTILE = "percentile"
    BCA = "bca"
    EXPANDED_BCA = "expanded bca"
    STUDENT = "student"
    CONSTANT = "constant"  # all scores equal: the interval is one point, and says little about n = 2


@dataclass(frozen=True)
class Interval:
    """A confidence interval in per cent, both ends included."""

    low: float
    high: float
    method: IntervalMethod

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def bootstrap_means(groups: Clusters, rng: np.random.Generator, resamples: int) -> Floats:
    """Return the mean of each of `resamples` samples of G clusters drawn with replacement, [resamples]."""
    count = groups.count
    equal = np.ptp(groups.weights) == 0
    values = groups.totals / groups.weights
    means = np.empty(resamples)
    rows = max(1, _BLOCK // count)
    for start in range(0, resamples, rows):
        index = rng.integers(0, count, (min(rows, resamples - start), count))
        if equal:
            block = values[index].mean(axis=1)
        else:
            block = groups.totals[index].sum(axis=1) / groups.weights[index].sum(axis=1)
        means[start : start + len(block)] = block
    return means


def _bca_levels(groups: Clusters, means: Floats, z: Floats) -> Floats:
    """Return the levels of the bootstrap quantiles for normal quantiles z (Efron 1987)."""
    below = np.mean(means < groups.mean) + 0.5 * np.mean(means == groups.mean)
    bias = stats.norm.ppf(np.clip(below, 1 / (means.size + 1), means.size / (means.size + 1)))
    # Jackknife of a ratio of sums: leaving cluster g out moves the mean by -influence_g / (1 - share_g).
    moved = groups.influence / (1 - groups.weights / groups.weights.sum())
    moved = moved - moved.mean()
    acceleration = np.sum(moved**3) / (6 * np.sum(moved**2) ** 1.5)
    shrink = np.maximum(1 - acceleration * (bias + z), 1e-9)  # at its pole the level is 0 or 1
    levels: Floats = stats.norm.cdf(bias + (bias + z) / shrink)
    return levels


def _student(groups: Clusters, alpha: float) -> Floats:
    half = stats.t.ppf(1 - alpha / 2, groups.count - 1) * math.sqrt(groups.variance)
    ends: Floats = np.clip([groups.mean - half, groups.mean + half], 0.0, 1.0)
    return ends


def _bootstrap(groups: Clusters, method: IntervalMethod, alpha: float, means: Floats) -> Floats:
    levels = np.array([alpha / 2, 1 - alpha / 2])
    if method is not IntervalMethod.PERCENTILE:
        if (
            method is IntervalMethod.EXPANDED_BCA
        ):  # Student's quantiles, and the n - 1 that resampling leaves out
            z = math.sqrt(groups.count / (groups.count - 1)) * stats.t.ppf(levels, groups.count - 1)
        else:
            z = stats.norm.ppf(levels)
        levels = _bca_levels(groups, means, z)
    return np.asarray(np.quantile(means, levels), dtype=np.float64)


def auc_interval(
    errors: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    rng: np.random.Generator,
    a: float = 0.0,
    tau: float = 100.0,
    alpha: float = 0.05,
    resamples: int = 2000,
    clusters: ArrayLike | None = None,
    method: IntervalMethod | None = None,
) -> Interval:
    """Return the (1 - alpha) interval of the AUC, in per cent, of errors [n] with weights [n] (None: ones).

    `method` None chooses by the number of trials. `clusters` [n] are labels of trials that are not
    independent (one seed): then whole clusters are resampled. Raises StatisticsError for fewer than two
    trials or clusters.
    """
    if not 0 < alpha < 1 or resamples < 1:
        raise StatisticsError(f"an interval needs 0 < alpha < 1 and resamples, not {alpha:g} and {resamples}")
    scores = as_scores(errors, a=a, tau=tau)
    groups = clustered(scores, weights, clusters)
    if groups.count < 2:  # noqa: PLR2004 - a spread needs two
        raise StatisticsError(f"an interval needs two independent trials, not {groups.count}")
    if np.ptp(scores) == 0:
        return Interval(100 * groups.mean, 100 * groups.mean, IntervalMethod.CONSTANT)
    if method is None:
        method = IntervalMethod.EXPANDED_BCA if groups.count <= BOOTSTRAP_LIMIT else IntervalMethod.STUDENT
    if method is IntervalMethod.STUDENT:
        ends = _student(groups, alpha)
    else:
        ends = _bootstrap(groups, method, alpha, bootstrap_means(groups, rng, resamples))
    low, high = cast("list[float]", (100 * ends).tolist())
    return Interval(low, high, method)
