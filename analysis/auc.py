"""The area under the EDF over [a, tau], by which design spaces are compared, and its standard error.

AUC = integral of F over [a, tau] / (tau - a) = mean(clip(tau - e_i, 0, tau - a)) / (tau - a): exact whatever
the ties, and indifferent to < or <=. Over errors in [0, 100] it is the mean accuracy in per cent. `a` and
`tau` are to be fixed before looking at the data and stored with the result.
"""

from __future__ import annotations

import math

from numpy.typing import ArrayLike

from kdsearch.analysis.samples import StatisticsError, as_scores, clustered


def auc(errors: ArrayLike, weights: ArrayLike | None = None, *, a: float = 0.0, tau: float = 100.0) -> float:
    """Return the AUC in per cent, [0, 100], of errors [n] with weights [n] (None: ones; the Hájek estimate).

    Raises StatisticsError for no errors, for errors that are not finite, and unless a < tau.
    """
    scores = as_scores(errors, a=a, tau=tau)
    if not scores.size:
        raise StatisticsError("there is no AUC of no trials")
    return 100 * clustered(scores, weights).mean


def auc_standard_error(
    errors: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    clusters: ArrayLike | None = None,
    a: float = 0.0,
    tau: float = 100.0,
) -> float:
    """Return the cluster-robust standard error of the AUC in per cent; NaN for fewer than two clusters.

    For weights of one it is s / sqrt(n) of the clipped scores. `clusters` [n] are labels of trials that are
    not independent, for example of one seed; without them each trial stands for itself.
    """
    groups = clustered(as_scores(errors, a=a, tau=tau), weights, clusters)
    return 100 * math.sqrt(groups.variance)
