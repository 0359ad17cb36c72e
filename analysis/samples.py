"""What every statistic is given: errors of trials, their weights, and sums that respect who answered what.

One entry stands for one distinct trial. Its weight is the number of draws from the space that the trial
answers (graphs that are equal up to symmetry are trained once and keep their multiplicity) or, after
randomised promotion, that number times 1/p. Draws that one trial answers share its training noise, so they
are no independent evidence: every variance here is cluster robust, with the trial (or, where trials share a
seed, the seed) as the cluster (Liang & Zeger 1986, with the usual factor G/(G - 1) for G clusters). For
weights of one it is exactly s/sqrt(n).

It is right when trials are independent, and on the safe side for the share of the variance that the
configuration alone explains, because two draws of one configuration are then independent draws that agree.
Simulated (4,000 samples of 200 draws from 500 classes, each trained once): mean estimated over true standard
error 1.01 when the error is all training noise, 1.17 when the class fixes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdsearch.spaces.errors import UsageError

Floats = NDArray[np.float64]

_ROUNDING = 1e-12  # means of clusters that differ by less, relatively, are equal


class StatisticsError(UsageError):
    """Numbers that a statistic cannot be computed from, or settings it does not have."""


def as_errors(errors: ArrayLike) -> Floats:
    """Return errors as float64 [n]; raise StatisticsError unless all are finite."""
    values = np.asarray(errors, dtype=np.float64)
    if values.ndim != 1:
        raise StatisticsError(f"errors must be one-dimensional, not of shape {values.shape}")
    if not np.isfinite(values).all():
        raise StatisticsError(
            f"{int((~np.isfinite(values)).sum())} of {values.size} errors are not finite",
            "Diverged and failed trials are real draws: give them an error (population.count_outcomes).",
        )
    return values


def as_weights(weights: ArrayLike | None, size: int) -> Floats:
    """Return weights as float64 [size], ones for None; raise StatisticsError unless finite and positive."""
    if weights is None:
        return np.ones(size)
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (size,):
        raise StatisticsError(f"there are {size} errors but weights of shape {values.shape}")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise StatisticsError("weights must be positive and finite")
    return values


def as_scores(errors: ArrayLike, *, a: float, tau: float) -> Floats:
    """Return the share [0, 1] of [a, tau] that lies above each error: clip(tau - e, 0, tau - a) / (tau - a).

    Their weighted mean is the AUC of the EDF, exactly and whatever the ties.
    """
    if not (np.isfinite(a) and np.isfinite(tau) and a < tau):
        raise StatisticsError(f"the AUC needs a < tau, both finite, not a = {a:g} and tau = {tau:g}")
    shares: Floats = np.clip(tau - as_errors(errors), 0.0, tau - a) / (tau - a)
    return shares


def effective_n(weights: ArrayLike) -> float:
    """Return Kish's effective number of independent draws, (sum w)^2 / sum w^2: n if equal, 0 if none."""
    values = np.asarray(weights, dtype=np.float64)
    return float(values.sum() ** 2 / np.square(values).sum()) if values.size else 0.0


@dataclass(frozen=True, eq=False)
class Clusters:
    """Scores [n] in sums per cluster, each [G]: `totals` = sum w s, `weights` = sum w."""

    totals: Floats
    weights: Floats

    @property
    def count(self) -> int:
        """Number of clusters G."""
        return int(self.totals.size)

    @property
    def mean(self) -> float:
        """Weighted mean of the scores: the Hájek estimate."""
        return float(self.totals.sum() / self.weights.sum())

    @property
    def influence(self) -> Floats:
        """How far each cluster pulls the mean, [G], summing to 0: W_g (mean_g - mean) / sum W."""
        means = self.totals / self.weights
        if np.ptp(means) <= _ROUNDING * np.abs(means).max():
            return np.zeros(self.count)
        pulls: Floats = (self.totals - self.mean * self.weights) / self.weights.sum()
        return pulls

    @property
    def variance(self) -> float:
        """Cluster-robust variance of the mean; NaN for fewer than two clusters."""
        if self.count < 2:  # noqa: PLR2004 - a spread needs two
            return float("nan")
        factor = self.count / (self.count - 1)
        return float(factor * np.square(self.influence).sum())


def clustered(
    scores: Floats, weights: ArrayLike | None = None, clusters: ArrayLike | None = None
) -> Clusters:
    """Sum scores [n] and weights [n] by cluster label [n]; without labels each trial is its own cluster."""
    w = as_weights(weights, scores.size)
    if clusters is None:
        return Clusters(w * scores, w)
    labels = np.asarray(clusters)
    if labels.shape != scores.shape:
        raise StatisticsError(f"there are {scores.size} errors but cluster labels of shape {labels.shape}")
    _, index = np.unique(labels, return_inverse=True)
    totals: Floats = np.bincount(index, weights=w * scores).astype(np.float64)
    weight: Floats = np.bincount(index, weights=w).astype(np.float64)
    return Clusters(totals, weight)
