"""Block-by-block matching: similarity of layers (Fig. 3), attention by block (Fig. 4) and how far it reaches.

Arrays are averaged over the runs of a method, value by value; what is not finite in a run (CKA of too few samples, an
hour that no record reaches) is left out of the mean there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdsearch.analysis.bbm_methods import Mean, mean_over_seeds
from kdsearch.analysis.bbm_scores import DISTANCE, last_values
from kdsearch.analysis.frames import COMPLETE
from kdsearch.analysis.record import SweepRecord
from kdsearch.analysis.samples import Floats

CKA, ATTENTION = "cka", "attention"
ELSEWHERE = "_external"  # names of arrays about data from elsewhere end so
_CAUSAL = 1e-6  # of the attention to later hours, at most
_DIMENSIONS = {CKA: 2, ATTENTION: 3}


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerMean:
    """An array of one method, averaged over runs."""

    method: str
    kind: str
    mean: Floats  # cka: [student units, teacher units]; attention: [units, queries, keys]
    spread: Floats  # standard deviation over runs, NaN where fewer than two have a value
    runs: int
    left_out: int  # runs whose array has another shape, or no finite value
    each: Floats  # [runs]: the mean of all values of a run's array


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How far the attention of a method reaches in each block, in tokens."""

    method: str
    kind: str
    blocks: tuple[Mean, ...]  # first block first
    over_blocks: Mean  # of the runs' own means over their blocks

    @property
    def mean(self) -> float | None:
        """Mean over the blocks that are known."""
        known = [block.mean for block in self.blocks if block.mean is not None]
        return float(np.mean(known)) if known else None


def layer_means(
    records: Sequence[SweepRecord], table: pd.DataFrame, names: Sequence[str], array: str
) -> tuple[LayerMean, ...]:
    """Average the arrays of one name over the runs of each method.

    table: trials of `bbm_scores.table_trials`, with the method's name of each row in its column name; names: the
    methods in their order; array: cka, cka_external, attention or attention_external. Methods without any are left out.
    """
    arrays = {(record.name, *key): values for record in records for key, values in record.arrays.items()}
    found = []
    for name in names:
        rows = table[(table["name"] == name) & (table["state"] == COMPLETE)]
        own = [
            arrays[sweep, number, array]
            for sweep, number in zip(rows["sweep"], rows["number"], strict=True)
            if (sweep, number, array) in arrays
        ]
        mean = _mean(own, _DIMENSIONS[array.removesuffix(ELSEWHERE)])
        if mean is not None:
            values, spread, each = mean
            found.append(
                LayerMean(
                    method=name,
                    kind=str(rows["kind"].iloc[0]),
                    mean=values,
                    spread=spread,
                    runs=len(each),
                    left_out=len(own) - len(each),
                    each=each,
                )
            )
    return tuple(found)


def _mean(arrays: Sequence[NDArray[np.float32]], dimensions: int) -> tuple[Floats, Floats, Floats] | None:
    """Of the arrays of the most frequent shape that hold a number: mean, standard deviation, the mean of each."""
    usable = [a for a in arrays if a.ndim == dimensions and a.size and np.isfinite(a).any()]
    if not usable:
        return None
    shape = Counter(a.shape for a in usable).most_common(1)[0][0]
    stack = np.stack([a for a in usable if a.shape == shape]).astype(np.float64)
    stack[~np.isfinite(stack)] = np.nan
    known = np.isfinite(stack).sum(axis=0)
    total = np.nansum(stack, axis=0)
    mean = np.divide(total, known, out=np.full(shape, np.nan), where=known > 0)
    squares = np.nansum((stack - mean) ** 2, axis=0)
    variance = np.divide(squares, known - 1, out=np.full(shape, np.nan), where=known > 1)
    return mean, np.sqrt(variance), np.nanmean(stack.reshape(len(stack), -1), axis=1)


def best_match(mean: Floats) -> Floats:
    """Return the highest CKA of each student block with any teacher block, [student units]; NaN where none is known."""
    known = np.isfinite(mean)
    highest = np.where(known, mean, -np.inf).max(axis=1)
    return np.where(known.any(axis=1), highest, np.nan)


def is_causal(mean: Floats) -> bool:
    """Whether no query looks at a later key: attention [units, queries, keys]."""
    later = np.triu(np.ones(mean.shape[1:], dtype=bool), k=1)
    return bool(later.any()) and bool(np.nan_to_num(np.abs(mean[:, later])).max() <= _CAUSAL)


def over_equal(mean: Floats) -> Floats:
    """Return attention [units, queries, keys] in multiples of attention that is equal for all keys a query may see.

    NaN at keys that lie later than the query, where attention is causal; there a query sees itself and those before.
    """
    _, queries, keys = mean.shape
    causal = is_causal(mean)
    seen = np.arange(1, queries + 1)[:, None] if causal else np.full((queries, 1), keys)
    later = np.triu(np.ones((queries, keys), dtype=bool), k=1) & causal
    relative: Floats = np.where(later, np.nan, mean * seen)
    return relative


def uniform_reach(tokens: int) -> float:
    """Return the mean distance |i - j| of attention that is equal for all of `tokens` tokens: (T^2 - 1) / (3 T)."""
    return (tokens * tokens - 1) / (3 * tokens)


def reaches(
    records: Sequence[SweepRecord],
    table: pd.DataFrame,
    names: Sequence[str],
    alpha: float,
    *,
    metric: str = DISTANCE,
) -> tuple[Reach, ...]:
    """Return mean attention distance by method and block, from what trials reported at their last epoch.

    metric: the metrics' names without the unit; those about data from elsewhere have one of their own.
    """
    found: list[Reach] = []
    values = {record.name: _distances(record, metric) for record in records}
    units = max((int(frame.columns.max()) for frame in values.values() if len(frame.columns)), default=0)
    for name in names:
        rows = table[(table["name"] == name) & (table["state"] == COMPLETE)]
        parts = [
            frame.reindex(index=rows.loc[rows["sweep"] == sweep, "number"], columns=range(1, units + 1))
            for sweep, frame in values.items()
        ]
        own = np.concatenate([part.to_numpy(dtype=np.float64) for part in parts])
        known = np.flatnonzero(np.isfinite(own).any(axis=0))
        if known.size:
            blocks = tuple(mean_over_seeds(own[:, unit], alpha) for unit in range(known[-1] + 1))
            each = own[np.isfinite(own).any(axis=1)]
            found.append(
                Reach(
                    method=name,
                    kind=str(rows["kind"].iloc[0]),
                    blocks=blocks,
                    over_blocks=mean_over_seeds(np.nanmean(each, axis=1), alpha),
                )
            )
    return tuple(found)


def _distances(record: SweepRecord, metric: str) -> pd.DataFrame:
    """Distances by trial (the index) and unit (columns from 1)."""
    names = [name for name in record.curves["metric"].astype(str).unique() if name.startswith(metric)]
    units = dict(_units(names, metric))
    found = last_values(record, list(units)).rename(columns=units)
    return found.reindex(columns=sorted(units.values()))


def _units(names: Sequence[str], metric: str) -> Iterator[tuple[str, int]]:
    for name in names:
        unit = name.removeprefix(metric)
        if unit.isdecimal():
            yield name, int(unit)
