"""The table behind a refinement's decision: each condition of each group against the rest of the same space.

AUC with interval, difference to the rest, a two-sided p that Holm corrects over all rows, and the draws still
needed. Which test a row gets depends on its smaller side alone: a studentised permutation test up to
`PERMUTATION_LIMIT` trials, above it Welch's test corrected for skewness, which keeps its level there
(`skewness.py`) and takes no shuffling.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from kdsearch.analysis.auc import auc
from kdsearch.analysis.comparison import Difference, auc_difference, holm
from kdsearch.analysis.intervals import auc_interval
from kdsearch.analysis.permutation import Pool, permutation_p_values
from kdsearch.analysis.power import n_needed
from kdsearch.analysis.samples import Floats, StatisticsError, as_errors, as_scores, as_weights
from kdsearch.analysis.skewness import skewness_corrected_p
from kdsearch.spaces.errors import UnknownNameError

PERMUTATION_LIMIT = 100  # trials on the smaller side; above it Welch's test, corrected
MOST_RESAMPLES = 200_000
_FINER = 4  # a row can get a corrected p of alpha / 4 at least
_PROMISING = 5  # as extreme shuffles that a row may have and still be tested with more of them


@dataclass(frozen=True, kw_only=True)
class ConditionRow:
    """One condition of a space, compared with the rest of the space. AUCs in per cent."""

    group: str
    value: str
    n: int  # draws
    trials: int  # distinct trials that answer them
    auc: float | None  # None without draws
    low: float | None  # (1 - interval_alpha) interval, ends included; None for fewer than `min_n` trials
    high: float | None
    rest_auc: float | None  # of the draws of the space that do not meet the condition
    difference: float | None  # auc - rest_auc
    p: float | None  # two-sided; None if either side has fewer than `min_n` trials
    p_holm: float | None  # corrected over all rows that have a p
    n_needed: (
        int | None
    )  # further draws from the space for a power of 80 per cent; None if decided or not estimable
    decided: bool  # p_holm <= alpha
    method: str | None = None  # permutation or welch-hall
    interval_method: str | None = None


@dataclass(frozen=True, eq=False)
class _Case:
    """A row in the making."""

    row: ConditionRow
    member: NDArray[np.bool_]  # [n]
    difference: Difference | None


def _members(
    labels: Mapping[str, Sequence[str]], group_values: Mapping[str, Sequence[str]], size: int
) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """Return (group, value, mask [size]) in the order of group_values."""
    found = []
    for group, values in group_values.items():
        if group not in labels:
            raise UnknownNameError("condition group", group, labels)
        given = np.asarray(labels[group], dtype=np.str_)
        if given.shape != (size,):
            raise StatisticsError(f"{group}: there are {size} errors but labels of shape {given.shape}")
        masks = [given == value for value in values]
        unknown = ~np.any(masks, axis=0) if masks else np.ones(size, dtype=bool)
        if unknown.any():
            raise UnknownNameError("value", str(given[unknown][0]), values, where=group)
        found += [(group, value, mask) for value, mask in zip(values, masks, strict=True)]
    return found


@dataclass(frozen=True, eq=False)
class _Space:
    """The trials of a space and the settings of its table."""

    errors: Floats
    weights: Floats
    a: float
    tau: float
    alpha: float  # of the tests
    interval_alpha: float
    seed: int
    min_n: int

    def case(self, group: str, value: str, member: NDArray[np.bool_]) -> _Case:
        """Estimate one condition; p and what follows from it are still to come."""
        x, wx, y, wy = self.errors[member], self.weights[member], self.errors[~member], self.weights[~member]
        own = auc(x, wx, a=self.a, tau=self.tau) if x.size else None
        rest = auc(y, wy, a=self.a, tau=self.tau) if y.size else None
        low = high = method = difference = None
        if x.size >= self.min_n:
            # Keyed by name, so that a row's interval does not depend on which other rows there are.
            rng = np.random.default_rng([self.seed, zlib.crc32(f"{group}\x1f{value}".encode())])
            interval = auc_interval(x, wx, rng=rng, a=self.a, tau=self.tau, alpha=self.interval_alpha)
            low, high, method = interval.low, interval.high, str(interval.method)
            if y.size >= self.min_n:
                difference = auc_difference(x, y, wx, wy, a=self.a, tau=self.tau, alpha=self.alpha)
        row = ConditionRow(
            group=group,
            value=value,
            n=round(float(wx.sum())),
            trials=int(x.size),
            auc=own,
            low=low,
            high=high,
            rest_auc=rest,
            difference=None if own is None or rest is None else own - rest,
            p=None,
            p_holm=None,
            n_needed=None,
            decided=False,
            interval_method=method,
        )
        return _Case(row, member, difference)

    def p_values(self, cases: Sequence[_Case], resamples: int) -> tuple[Floats, list[str]]:
        """Return p and method of each case; all must have a difference."""
        scores = as_scores(self.errors, a=self.a, tau=self.tau)
        members = np.array([case.member for case in cases])
        inside = members.sum(axis=1)
        shuffled = np.minimum(inside, scores.size - inside) <= PERMUTATION_LIMIT
        p = np.empty(len(cases))
        if shuffled.any():
            p[shuffled] = self._shuffle(Pool(scores, self.weights), members[shuffled], resamples, len(cases))
        for i in np.flatnonzero(~shuffled).tolist():
            part, rest = members[i], ~members[i]
            p[i] = skewness_corrected_p(scores[part], scores[rest], self.weights[part], self.weights[rest])
        return p, ["permutation" if few else "welch-hall" for few in shuffled.tolist()]

    def _shuffle(self, pool: Pool, members: NDArray[np.bool_], resamples: int, rows: int) -> Floats:
        """Test by `resamples` shuffles, and promising rows anew by as many as alpha after Holm asks for.

        A p of at most (5 + 1) / (R + 1) is replaced by one from more, independent shuffles. Small p then come
        from the second test alone and others from the first alone, so both are as valid as before.
        """
        rng = np.random.default_rng(self.seed)
        p = permutation_p_values(pool, members, rng, resamples)
        finer = min(MOST_RESAMPLES, math.ceil(_FINER * rows / self.alpha))
        again = np.flatnonzero(p <= (_PROMISING + 1) / (resamples + 1))
        if finer > resamples and again.size:
            p[again] = permutation_p_values(pool, members[again], rng, finer)
        return p


def _finish(
    case: _Case, p: float, p_holm: float, method: str, *, n: int, alpha: float, level: float
) -> ConditionRow:
    decided = p_holm <= alpha
    needed = None
    if not decided and case.difference is not None:
        # A p that is larger than the standard error's own speaks of more spread than it: then the p's counts.
        z = float(stats.norm.isf(p / 2))
        told = abs(case.difference.value) / z if z > 0 else math.inf
        needed = n_needed(case.difference.value, max(case.difference.standard_error, told), n, alpha=level)
    return replace(case.row, p=p, p_holm=p_holm, n_needed=needed, decided=decided, method=method)


def condition_table(
    errors: ArrayLike,
    weights: ArrayLike | None,
    labels: Mapping[str, Sequence[str]],
    group_values: Mapping[str, Sequence[str]],
    *,
    a: float = 0.0,
    tau: float = 100.0,
    alpha: float = 0.05,
    interval_alpha: float = 0.05,
    seed: int,
    resamples: int = 9999,
    min_n: int = 2,
) -> list[ConditionRow]:
    """Return one row for each value of each group, in the order of group_values.

    errors [n] in per cent, one a distinct trial; weights [n], the draws of the space that each answers (None:
    ones); labels, for each group the value [n] that each trial has. alpha is the level of this look at this
    step (`sequential.AlphaPlan`), 1 - interval_alpha that of the intervals. The same seed gives the same table.
    Raises StatisticsError or UnknownNameError for arrays that do not fit together or labels that the group
    does not list.
    """
    if not 0 < alpha < 1 or min_n < 2 or resamples < 1:  # noqa: PLR2004 - a spread needs two
        raise StatisticsError(
            f"a table needs 0 < alpha < 1, min_n >= 2 and resamples, not {alpha:g}, {min_n} and {resamples}"
        )
    values = as_errors(errors)
    space = _Space(values, as_weights(weights, values.size), a, tau, alpha, interval_alpha, seed, min_n)
    cases = [space.case(*member) for member in _members(labels, group_values, values.size)]
    tested = [i for i, case in enumerate(cases) if case.difference is not None]
    rows = [case.row for case in cases]
    if not tested:
        return rows
    p, methods = space.p_values([cases[i] for i in tested], resamples)
    adjusted = holm(p)
    rank = np.argsort(np.argsort(p, kind="stable"), kind="stable")
    n = round(float(space.weights.sum()))
    for place, i in enumerate(tested):
        level = alpha / (len(tested) - int(rank[place]))  # the one that Holm compares this p with
        rows[i] = _finish(
            cases[i], float(p[place]), float(adjusted[place]), methods[place], n=n, alpha=alpha, level=level
        )
    return rows
