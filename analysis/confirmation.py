"""The winner's curse: the condition with the highest AUC is estimated too high on the draws that it won on.

The remedy is to estimate it again on fresh draws from the restricted space and to show both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kdsearch.analysis.auc import auc
from kdsearch.analysis.comparison import Difference, auc_difference
from kdsearch.analysis.intervals import Interval, auc_interval
from kdsearch.analysis.samples import as_errors, as_weights


@dataclass(frozen=True)
class Confirmation:
    """The AUC that a condition was chosen on, and its AUC on draws made after the choice. In per cent."""

    selected_auc: float
    selected_n: int  # draws
    fresh_auc: float | None  # None without fresh draws
    fresh_n: int
    interval: Interval | None  # of the fresh AUC; None for fewer than two fresh trials
    shift: Difference | None  # selected less fresh: above 0 is the curse's side
    gain: (
        Difference | None
    )  # fresh less the rest of the parent space: what the choice is worth, without the curse

    @property
    def holds(self) -> bool | None:
        """Whether the fresh interval reaches up to the selected value; None without an interval."""
        return None if self.interval is None else self.interval.high >= self.selected_auc


def confirmation(
    selected: ArrayLike,
    fresh: ArrayLike,
    *,
    rng: np.random.Generator,
    selected_weights: ArrayLike | None = None,
    fresh_weights: ArrayLike | None = None,
    rest: ArrayLike | None = None,
    rest_weights: ArrayLike | None = None,
    a: float = 0.0,
    tau: float = 100.0,
    alpha: float = 0.05,
) -> Confirmation:
    """Compare the draws that a condition was selected on with fresh draws from the restricted space.

    selected [n], fresh [m] and rest [r] are errors in per cent of three disjoint sets of trials, rest those
    of the parent space that do not meet the condition. Raises StatisticsError if selected is empty.
    """
    chosen, new = as_errors(selected), as_errors(fresh)
    enough = new.size >= 2  # noqa: PLR2004 - a spread needs two
    others = as_errors([] if rest is None else rest)
    shift = gain = interval = None
    if enough:
        interval = auc_interval(new, fresh_weights, rng=rng, alpha=alpha, a=a, tau=tau)
        if chosen.size >= 2:  # noqa: PLR2004
            shift = auc_difference(chosen, new, selected_weights, fresh_weights, alpha=alpha, a=a, tau=tau)
        if others.size >= 2:  # noqa: PLR2004
            gain = auc_difference(new, others, fresh_weights, rest_weights, alpha=alpha, a=a, tau=tau)
    return Confirmation(
        selected_auc=auc(chosen, selected_weights, a=a, tau=tau),
        selected_n=round(float(as_weights(selected_weights, chosen.size).sum())),
        fresh_auc=auc(new, fresh_weights, a=a, tau=tau) if new.size else None,
        fresh_n=round(float(as_weights(fresh_weights, new.size).sum())),
        interval=interval,
        shift=shift,
        gain=gain,
    )
