"""Areas under the ROC and the precision-recall curve, by scikit-learn.

The official scorers integrate the curves themselves; docs/scores.md says where that gives another number. An area that
is not defined is NaN here, without a warning, so that a mean over classes can leave it out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def auroc(labels: Bools, scores: Floats) -> float:
    """Return `sklearn.metrics.roc_auc_score`, in [0, 1]; NaN if only one class is there.

    labels: [n]; scores: [n], finite, higher for what is more likely positive.
    """
    if labels.all() or not labels.any():
        return math.nan
    return float(_metrics().roc_auc_score(labels, scores))


def auprc(labels: Bools, scores: Floats) -> float:
    """Return `sklearn.metrics.average_precision_score`, in (0, 1]; NaN if there is no positive.

    labels: [n]; scores: [n], finite.
    """
    if not labels.any():
        return math.nan
    return float(_metrics().average_precision_score(labels, scores))


def defined_mean(values: Floats) -> float:
    """Return the mean of the entries that are not NaN; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


def _metrics() -> Any:
    import sklearn.metrics  # noqa: PLC0415 takes seconds, and the other scores do without it

    return sklearn.metrics
