"""Comparing two groups of trials that share seeds (common random numbers).

The same seed and data order for both groups narrows their difference, but makes trials dependent: seeds, not
trials, are then the independent units. Each seed gives one difference of mean scores; the interval is
Student's on them and the test flips their signs, which under the null hypothesis leaves their distribution as
it is. For one group whose trials share seeds: `auc_interval(..., clusters=seeds)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from kdsearch.analysis.samples import Floats, StatisticsError, as_scores

_TIE = 1e-9


@dataclass(frozen=True)
class SeedDifference:
    """Mean over seeds of AUC(x) - AUC(y) in per cent points."""

    value: float
    low: float  # (1 - alpha) interval, ends included
    high: float
    p: float  # two-sided, sign flips
    seeds: int  # seeds in both groups
    left_out: int  # seeds in one group only: they say nothing about the difference within a seed


def sign_flip_p(differences: ArrayLike, *, rng: np.random.Generator, resamples: int = 9999) -> float:
    """Return the two-sided p of differences [n] symmetric about 0, exact if 2^n <= resamples; never 0."""
    d = np.asarray(differences, dtype=np.float64)
    exact = 2.0**d.size <= resamples
    if exact:
        signs = np.array(list(product((-1.0, 1.0), repeat=d.size)))
    else:
        signs = rng.choice((-1.0, 1.0), (resamples, d.size))
    hits = int(np.sum(np.abs(signs @ d) >= abs(d.sum()) * (1 - _TIE)))
    return hits / len(signs) if exact else (hits + 1) / (resamples + 1)


def _mean_by_seed(scores: Floats, seeds: ArrayLike) -> dict[object, float]:
    labels = np.asarray(seeds)
    if labels.shape != scores.shape:
        raise StatisticsError(f"there are {scores.size} errors but seeds of shape {labels.shape}")
    distinct, index = np.unique(labels, return_inverse=True)
    means = np.bincount(index, weights=scores) / np.bincount(index)
    return dict(zip(distinct.tolist(), means.tolist(), strict=True))


def seed_difference(
    x: ArrayLike,
    y: ArrayLike,
    seeds_x: ArrayLike,
    seeds_y: ArrayLike,
    *,
    rng: np.random.Generator,
    a: float = 0.0,
    tau: float = 100.0,
    alpha: float = 0.05,
    resamples: int = 9999,
) -> SeedDifference:
    """Compare errors x [n] and y [m], in per cent, seed by seed.

    Raises StatisticsError unless at least two seeds are in both groups.
    """
    first = _mean_by_seed(as_scores(x, a=a, tau=tau), seeds_x)
    second = _mean_by_seed(as_scores(y, a=a, tau=tau), seeds_y)
    common = sorted(first.keys() & second.keys(), key=str)
    if len(common) < 2:  # noqa: PLR2004 - a spread needs two
        raise StatisticsError(f"a comparison by seed needs two seeds in both groups, not {len(common)}")
    d = 100 * np.array([first[seed] - second[seed] for seed in common])
    half = float(stats.t.ppf(1 - alpha / 2, d.size - 1)) * float(d.std(ddof=1)) / math.sqrt(d.size)
    return SeedDifference(
        value=float(d.mean()),
        low=float(d.mean()) - half,
        high=float(d.mean()) + half,
        p=sign_flip_p(d, rng=rng, resamples=resamples),
        seeds=len(common),
        left_out=len(first.keys() ^ second.keys()),
    )
