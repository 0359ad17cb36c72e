"""Block-by-block matching: the table of methods (Table 2), paired differences, blocks (Table 3), outputs (Table 1).

A mean is over the runs of a method that ended and have the score. A run that failed, diverged or has not ended has
none, and no number could stand for it (both challenges' scores may be negative): it is counted beside the mean.
Intervals are Student's, of the mean over seeds. Runs of one number are compared with each other (`paired`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from kdsearch.analysis.bbm_scores import (
    KINDS,
    R2,
    R2_ELSEWHERE,
    SCORES,
    TEACHER,
    TRANSFORMER,
    VALIDATION,
)
from kdsearch.analysis.frames import COMPLETE
from kdsearch.analysis.paired import PairedDifference, paired_table
from kdsearch.analysis.samples import Floats
from kdsearch.analysis.sweep_kinds import BBM

TESTED = tuple(f"test_{score}" for score in SCORES)
SUMMED = (*TESTED, *(f"val_{score}" for score in SCORES), VALIDATION, R2, R2_ELSEWHERE)
_TWO = 2  # a spread, a pair of groups
_FEWEST = 3  # runs that have an interval: Student's of two at 95 % is 12.7 times as wide as they lie apart


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over seeds."""

    n: int  # runs that have the value
    mean: float | None
    spread: float | None  # standard deviation (n - 1); None for fewer than two
    low: float | None  # interval of the mean, both ends included; None for fewer than three, or all alike
    high: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodRow:
    """One line of a table: a method, or a number of blocks."""

    name: str
    kind: str  # transformer, teacher, deit, bbm
    given: bool  # the teacher that was trained before the others
    runs: tuple[int, ...]  # those that ended, ascending
    scores: Mapping[str, Floats]  # [runs] of each; NaN where a run has none
    means: Mapping[str, Mean]
    epochs: tuple[int, int] | None  # fewest and most
    seconds: float | None  # mean of a run
    unlucky: Mapping[str, int]  # other runs by state: failed, diverged, running, ...
    seeds: tuple[int, ...] = ()  # [runs]

    @property
    def n(self) -> int:
        """Runs that ended."""
        return len(self.runs)

    def mean(self, score: str) -> Mean:
        """The mean of a score, of nothing where it was never reported."""
        return self.means.get(score, Mean(n=0, mean=None, spread=None, low=None, high=None))


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A method less a reference, over the runs that both have."""

    method: str
    reference: str
    score: str
    paired: PairedDifference


@dataclass(frozen=True, kw_only=True, eq=False)
class Blocks:
    """Table 3: block-by-block matching by the number of blocks, ascending."""

    rows: tuple[MethodRow, ...]
    differences: tuple[Difference, ...]  # to the fewest blocks
    alike: bool  # the trials differ in nothing but their blocks


def mean_over_seeds(values: ArrayLike, alpha: float) -> Mean:
    """Return mean, spread and Student's (1 - alpha) interval of the finite values among values [n].

    No spread for fewer than two values, no interval for fewer than three or equal ones.
    """
    x = np.asarray(values, dtype=np.float64)
    x = x[np.isfinite(x)]
    if not x.size:
        return Mean(n=0, mean=None, spread=None, low=None, high=None)
    mean = float(x.mean())
    if x.size < _TWO:
        return Mean(n=1, mean=mean, spread=None, low=None, high=None)
    spread = float(x.std(ddof=1)) if np.ptp(x) > 0 else 0.0
    if not spread or x.size < _FEWEST:
        return Mean(n=int(x.size), mean=mean, spread=spread, low=None, high=None)
    half = float(stats.t.ppf(1 - alpha / 2, x.size - 1)) * spread / math.sqrt(x.size)
    return Mean(n=int(x.size), mean=mean, spread=spread, low=mean - half, high=mean + half)


def method_rows(table: pd.DataFrame, alpha: float) -> tuple[MethodRow, ...]:
    """Return a row for each method of `bbm_scores.table_trials`, in the order of Table 2, the given teacher last.

    A method that two sweeps have, or whose name stands for two kinds, is told apart by its sweep or kind.
    """
    named = table.assign(name=distinct_names(table))
    order = {kind: place for place, kind in enumerate(KINDS)}
    first = {name: place for place, name in enumerate(named["name"].drop_duplicates())}
    groups = [(str(name), group) for name, group in named.groupby("name", sort=False)]
    groups.sort(
        key=lambda item: (
            bool(item[1]["given"].iloc[0]),
            order.get(item[1]["kind"].iloc[0], len(KINDS)),
            first[item[0]],
        )
    )
    return tuple(_row(name, group, alpha) for name, group in groups)


def distinct_names(table: pd.DataFrame) -> list[str]:
    """The name of each trial's row: with its kind, then its sweep, where the plan's name alone is not one method's."""
    kinds = table.groupby("name")["kind"].transform("nunique") > 1
    sweeps = table.groupby(["name", "kind"])["sweep"].transform("nunique") > 1
    return [
        f"{name}{f' {kind}' if two_kinds else ''}{f' ({sweep})' if two_sweeps else ''}"
        for name, kind, sweep, two_kinds, two_sweeps in zip(
            table["name"], table["kind"], table["sweep"], kinds, sweeps, strict=True
        )
    ]


def _row(name: str, group: pd.DataFrame, alpha: float) -> MethodRow:
    ended = group[group["state"] == COMPLETE].sort_values("run", kind="stable")
    values = {score: ended[score].to_numpy(dtype=np.float64) for score in SUMMED}
    epochs, seconds = ended["epochs"].dropna(), ended["seconds"].dropna()
    other = group.loc[group["state"] != COMPLETE, "state"].value_counts()
    return MethodRow(
        name=name,
        kind=str(group["kind"].iloc[0]),
        given=bool(group["given"].iloc[0]),
        runs=tuple(int(run) for run in ended["run"]),
        scores=values,
        means={score: mean_over_seeds(each, alpha) for score, each in values.items()},
        epochs=(int(epochs.min()), int(epochs.max())) if len(epochs) else None,
        seconds=float(seconds.mean()) if len(seconds) else None,
        unlucky={str(state): int(count) for state, count in sorted(other.items())},
        seeds=tuple(int(seed) for seed in ended["seed"]),
    )


def references(rows: Sequence[MethodRow]) -> tuple[MethodRow, ...]:
    """The rows that the others are compared with: the transformer from scratch, then the teacher, if they have runs."""
    found = [
        next((row for row in rows if row.kind == kind and not row.given and row.n), None)
        for kind in (TRANSFORMER, TEACHER)
    ]
    return tuple(row for row in found if row is not None)


def differences(rows: Sequence[MethodRow], *, alpha: float, seed: int) -> tuple[Difference, ...]:
    """Return every method less the transformer from scratch, and less the teacher, by score.

    Holm corrects for all differences of one score. Two references are compared with each other once.
    """
    bases = references(rows)
    pairs = [
        (row, base)
        for place, base in enumerate(bases)
        for row in rows
        if row is not base and not row.given and row not in bases[:place]
    ]
    return tuple(one for score in TESTED for one in _compared(pairs, score, alpha=alpha, seed=seed))


def _compared(
    pairs: Sequence[tuple[MethodRow, MethodRow]], score: str, *, alpha: float, seed: int
) -> list[Difference]:
    """Compare the rows of each pair that have common runs with this score."""
    common = []
    for row, base in pairs:
        x, y = _by_run(row, score), _by_run(base, score)
        if runs := sorted(x.keys() & y.keys()):
            common.append(
                (row, base, [x[run] for run in runs], [y[run] for run in runs], len(x.keys() ^ y.keys()))
            )
    tested = paired_table([(x, y) for _, _, x, y, _ in common], alpha=alpha, seed=seed) if common else ()
    return [
        Difference(
            method=row.name, reference=base.name, score=score, paired=replace(paired, left_out=left_out)
        )
        for (row, base, _, _, left_out), paired in zip(common, tested, strict=True)
    ]


def _by_run(row: MethodRow, score: str) -> dict[int, float]:
    """The finite values of a score by run."""
    values = zip(row.runs, row.scores[score].tolist(), strict=True)
    return {run: value for run, value in values if math.isfinite(value)}


def blocks_table(table: pd.DataFrame, *, alpha: float, seed: int) -> Blocks | None:
    """Table 3 from trials of block-by-block matching; None unless they have more than one number of blocks."""
    matched = table[(table["kind"] == BBM) & ~table["given"]]
    counts = sorted(matched["blocks"].dropna().unique())
    if len(counts) < _TWO:
        return None
    rows = tuple(_row(_blocks_name(count), matched[matched["blocks"] == count], alpha) for count in counts)
    pairs = [(row, rows[0]) for row in rows[1:]]
    compared = [one for score in TESTED for one in _compared(pairs, score, alpha=alpha, seed=seed)]
    return Blocks(rows=rows, differences=tuple(compared), alike=len(set(matched["rest"])) <= 1)


def _blocks_name(count: float) -> str:
    return f"{count:g} block{'' if count == 1 else 's'}"


def similar_rows(rows: Sequence[MethodRow]) -> tuple[MethodRow, ...]:
    """The rows of Table 1: those whose outputs were compared with the teacher's, on either set of records."""
    return tuple(row for row in rows if row.mean(R2).n or row.mean(R2_ELSEWHERE).n)


def pairing_notes(rows: Sequence[MethodRow]) -> tuple[str, ...]:
    """What a reader must know of how runs were paired: runs of one number with other seeds."""
    seeds: dict[int, set[int]] = {}
    for row in rows:
        if not row.given:
            for run, seed in zip(row.runs, row.seeds, strict=True):
                seeds.setdefault(run, set()).add(seed)
    mixed = sum(len(found) > 1 for found in seeds.values())
    if not mixed:
        return ()
    told = (
        "Runs of one number do not all have the same training seed, as the sweeps have seeds of their own: they are "
        "compared by number all the same, which is valid, but gains nothing from pairing."
    )
    return (told,)
