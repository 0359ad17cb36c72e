"""Comparing methods by runs that share a seed: one difference a run, few runs, and now and then a collapsed one.

The test flips the signs of the differences, which leaves their distribution as it is where the two methods of a pair
could be exchanged (Fisher 1935): exact for up to `EXACT_PAIRS` pairs, at random above. The interval holds every mean
that this test does not reject (Tritchler 1984), so it never contradicts the p. It is no more than the means of
subsets of the differences: flipping the signs of a subset S leaves a mean m unrejected on the upper side if and only
if the mean over S is at most m. Where no sign flips could reject (fewer than six pairs at alpha = .05) and where there
are too many to go through, the interval is Student's. `docs/statistics.md` has the coverage of both at ten pairs;
`test_paired.py` repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from kdsearch.analysis.by_seed import sign_flip_p
from kdsearch.analysis.comparison import holm
from kdsearch.analysis.power import POWER
from kdsearch.analysis.samples import Floats, StatisticsError, as_errors

EXACT_PAIRS = 16  # all 2^16 = 65,536 sign flips are gone through
_RANDOM_FLIPS = 9999
_ROUNDING = 1e-9  # a level that is a whole number of sign flips to this is that number


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Mean difference of two methods over runs that share a seed, in percentage points of accuracy."""

    n: int  # pairs
    mean: float
    low: float | None  # of the interval at the record's alpha; None where the pairs leave nothing to judge by
    high: float | None
    p: float | None  # two-sided; None for one pair
    p_holm: float | None  # corrected for all comparisons of the table
    n_needed: int | None  # further pairs for 80 % power; None when decided or not estimable
    decided: bool
    left_out: int = 0  # runs that one of the two methods has not finished


def mean_interval(values: ArrayLike, *, alpha: float = 0.05) -> tuple[float, float] | None:
    """Return the (1 - alpha) interval, ends included, of the mean that values [n] were drawn around.

    None if nothing can be said: fewer than two values, or equal ones where no sign flips could reject. Raises
    StatisticsError for values that are not finite or alpha outside (0, 1).
    """
    _check_level(alpha)
    x = as_errors(values)
    rank = math.floor(alpha / 2 * 2.0**x.size + _ROUNDING) if x.size <= EXACT_PAIRS else 0
    if rank >= 1:
        means = np.sort(_subsets(x.size) @ x)
        return float(means[rank - 1]), float(means[-rank])
    if x.size < 2 or np.ptp(x) == 0:  # noqa: PLR2004 - a spread needs two
        return None
    half = float(stats.t.ppf(1 - alpha / 2, x.size - 1)) * float(x.std(ddof=1)) / math.sqrt(x.size)
    return float(x.mean()) - half, float(x.mean()) + half


@lru_cache(maxsize=4)
def _subsets(n: int) -> Floats:
    """Return the weights of the mean over each non-empty subset of n values, [2^n - 1, n]."""
    members = np.array(list(product((0.0, 1.0), repeat=n))[1:])
    weights: Floats = members / members.sum(axis=1, keepdims=True)
    return weights


def paired_difference(x: ArrayLike, y: ArrayLike, *, alpha: float = 0.05, seed: int = 0) -> PairedDifference:
    """Return the mean of x - y over pairs, x and y [n] in per cent, as the only comparison that is made.

    seed: of the random sign flips above `EXACT_PAIRS` pairs. Raises StatisticsError unless there is a pair, x and y
    are of one length and finite, and alpha lies in (0, 1).
    """
    return paired_table([(x, y)], alpha=alpha, seed=seed)[0]


def paired_table(
    pairs: Sequence[tuple[ArrayLike, ArrayLike]], *, alpha: float = 0.05, seed: int = 0
) -> tuple[PairedDifference, ...]:
    """Return `paired_difference` of each (x, y), their p-values corrected by Holm for being looked at together.

    A difference is decided if its corrected p is at most alpha. Pairs still needed are for a power of 80 % at the level
    that Holm compares this p with, of equal ones the strictest; where nothing is decided yet they are no fewer than let
    sign flips reach the level of the first decision. Comparisons of one pair have no p and are not corrected for.
    """
    _check_level(alpha)
    differences = [_differences(x, y) for x, y in pairs]
    judged = [i for i, d in enumerate(differences) if d.size > 1]
    p = np.array(
        [
            sign_flip_p(
                differences[i], rng=np.random.default_rng([seed, i]), resamples=_flips(differences[i].size)
            )
            for i in judged
        ]
    )
    place = {i: k for k, i in enumerate(judged)}
    corrected = holm(p)
    first = alpha / len(judged) if judged and not (corrected <= alpha).any() else None
    rows = []
    for i, d in enumerate(differences):
        k = place.get(i)
        level = alpha if k is None else alpha / (len(judged) - int((p < p[k] - _ROUNDING).sum()))
        values = (None, None) if k is None else (float(p[k]), float(corrected[k]))
        rows.append(_row(d, *values, alpha=alpha, level=level, first=first))
    return tuple(rows)


def _check_level(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise StatisticsError(f"alpha must lie in (0, 1), not {alpha:g}")


def _differences(x: ArrayLike, y: ArrayLike) -> Floats:
    first, second = as_errors(x), as_errors(y)
    if first.size != second.size or not first.size:
        raise StatisticsError(f"pairs need as many values on both sides, not {first.size} and {second.size}")
    d: Floats = first - second
    return d


def _flips(n: int) -> int:
    return 2**n if n <= EXACT_PAIRS else _RANDOM_FLIPS


def _row(
    d: Floats, p: float | None, p_holm: float | None, *, alpha: float, level: float, first: float | None
) -> PairedDifference:
    low, high = mean_interval(d, alpha=alpha) or (None, None)
    decided = p_holm is not None and p_holm <= alpha
    return PairedDifference(
        n=d.size,
        mean=float(d.mean()),
        low=low,
        high=high,
        p=p,
        p_holm=p_holm,
        n_needed=None if decided else pairs_needed(d, level=level, first=first),
        decided=decided,
    )


def pairs_needed(
    differences: ArrayLike, *, level: float = 0.05, power: float = POWER, first: float | None = None
) -> int | None:
    """Return how many further pairs would show the mean of differences [n] at a two-sided level; at least 1.

    The number for the paired t-test (Guenther 1981), and no fewer than with which sign flips can reach the level at
    all, or `first` where it is stricter: the level that some other comparison must reach before this one is looked at.
    It takes the mean and the spread of these pairs for the true ones, so it is itself uncertain, widely so below two
    standard errors. None if nothing can be said: fewer than two pairs, or a mean of 0.
    """
    _check_level(level)
    d = as_errors(differences)
    if d.size < 2 or math.isclose(d.mean(), 0.0, abs_tol=1e-12 * float(np.abs(d).max())):  # noqa: PLR2004
        return None
    quantile = float(stats.norm.ppf(1 - level / 2))
    ratio = float(d.std(ddof=1)) / float(d.mean())
    total = ((quantile + float(stats.norm.ppf(power))) * ratio) ** 2 + quantile**2 / 2
    least = 1 + math.log2(1 / min(level, first or level))  # 2^(1 - n) <= level
    return max(1, math.ceil(max(total, least) - _ROUNDING) - d.size)
