"""Comparison of methods: what each method reached over its runs, at what cost, along which metaparameters.

Runs of one number share their training seed in every method, so methods are compared with the reference run by run
(`paired`). A run counts once its final trial has ended; one that diverged or failed is a real outcome and counts with
the error that the sweep fixed for it. A run that only one of two methods has finished drops out of their pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from kdsearch.analysis.frames import COMPLETE, SEARCH, UNLUCKY
from kdsearch.analysis.method_costs import CostRow, cost_rows, packing_notes, trials_per_run
from kdsearch.analysis.method_curves import (
    EpochCurve,
    Trajectory,
    accuracy_interval,
    epoch_curve,
    trajectories,
)
from kdsearch.analysis.paired import PairedDifference, paired_table
from kdsearch.analysis.record import SweepRecord
from kdsearch.analysis.samples import Floats

__all__ = [
    "CostRow",
    "EpochCurve",
    "MethodComparison",
    "MethodRow",
    "PairedDifference",
    "PeriodPoint",
    "Trajectory",
    "compare",
    "trajectories",
]

REFERENCE = "naive"  # where the sweep's settings name none
_PERCENT = 100.0


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodRow:
    """One line of the table of methods (the paper's Table 2); accuracies in per cent, of the last epoch."""

    name: str
    runs: int  # finished ones: complete, diverged and failed
    accuracies: Floats  # [runs], by run; a diverged or failed run counts as 100 - diverged_error, or 0
    mean: float
    spread: float | None  # standard deviation over runs (n - 1); None for one run
    low: float  # least accuracy
    high: float  # greatest
    diverged: int
    failed: int
    trials_per_run: float  # trainings that one run needs, those of the search included
    difference: PairedDifference | None  # to the reference method; None for itself
    numbers: tuple[int, ...] = ()  # [runs]: which runs these are
    unfinished: int = 0  # runs of the sweep that this method has not finished


@dataclass(frozen=True, kw_only=True, eq=False)
class PeriodPoint:
    """A gradient method's accuracy at one choice of e1 and e2 (Fig. 6)."""

    method: str
    e1: int
    e2: int
    accuracies: Floats  # [runs]
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodComparison:
    """All that the report says of a sweep with the searcher `comparison`."""

    reference: str
    rows: tuple[MethodRow, ...]  # in the order of the sweep file; studies of e1 and e2 are not among them
    curves: tuple[EpochCurve, ...]
    equal_periods: tuple[PeriodPoint, ...]  # e1 = e2, ascending
    varied_e2: tuple[PeriodPoint, ...]  # e1 fixed, e2 ascending
    trajectories: tuple[Trajectory, ...]
    costs: tuple[CostRow, ...]
    tested: bool  # accuracies are of the test part (else of the validation part)
    alpha: float
    notes: tuple[str, ...] = ()  # sentences that a reader of the table must know


def compare(record: SweepRecord) -> MethodComparison | None:
    """Return the comparison of a sweep's methods; None if no trial stands for a method's run.

    Methods without a finished run are not among the rows; a note names them.
    """
    trials = _of_methods(record.trials)
    if not trials["final"].any():
        return None
    settings = record.settings.get("searcher") or {}
    periods = settings.get("periods") or {}
    reference = str(settings.get("reference") or REFERENCE)
    diverged_error = min(_PERCENT, record.diverged_error)  # an accuracy is 0 at the least
    finals = _finals(trials, diverged_error)
    studied = _is_studied(finals["method"], periods)
    names = _names(finals.loc[~studied, "method"], settings)
    finished = finals[finals["finished"]]
    tested = all(plan.get("objective") == "test_error" for plan in finals["plan"])
    rows = _rows(finished, trials, names, settings)
    rows = _with_differences(rows, reference, alpha=record.alpha, seed=record.seed)
    costs = cost_rows(trials, record.curves, methods=names, reference=reference)
    equal, varied = _period_points(finished, periods, record.alpha)
    return MethodComparison(
        reference=reference,
        rows=rows,
        curves=tuple(
            epoch_curve(
                row.name,
                finished[finished["method"] == row.name],
                record.curves,
                metric="test_error" if tested else "val_error",
                alpha=record.alpha,
                diverged_error=diverged_error,
            )
            for row in rows
        ),
        equal_periods=equal,
        varied_e2=varied,
        trajectories=trajectories(finals[~studied], record.curves),
        costs=costs,
        tested=tested,
        alpha=record.alpha,
        notes=_notes(rows, names, reference) + packing_notes(costs, reference),
    )


def _of_methods(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials of a search that belong to a method's run, explorations among them."""
    if not {"method", "run", "final"} <= set(trials):
        return pd.DataFrame({"final": pd.Series([], dtype=bool)})
    told = (trials["role"] == SEARCH) & trials["method"].notna() & trials["run"].notna()
    return trials[told].astype({"method": object, "run": np.int64, "final": bool})


def _finals(trials: pd.DataFrame, diverged_error: float) -> pd.DataFrame:
    """Return the final trials by run, with `finished`, `accuracy` (per cent) and `outcome`.

    A complete trial without a finite error counts as diverged.
    """
    finals = trials[trials["final"]].drop_duplicates(["method", "run"], keep="last")
    whole = finals["state"] == COMPLETE
    outcome = finals["state"].where(~whole | np.isfinite(finals["error"]), "diverged").astype(object)
    errors = finals["error"].where(outcome == COMPLETE, diverged_error)
    finished = outcome.isin([COMPLETE, *UNLUCKY])
    return finals.assign(outcome=outcome, finished=finished, accuracy=_PERCENT - errors).sort_values(
        "run", kind="stable"
    )


def _is_studied(methods: pd.Series, periods: Mapping[str, Any]) -> pd.Series:
    """Say which trials belong to a study of e1 and e2: their method is called "NAME e1=5 e2=5"."""
    if not periods:
        return methods.isin([])
    pairs = [(e, e) for e in periods.get("equal") or ()]
    pairs += [(periods.get("e1"), e2) for e2 in periods.get("e2") or ()]
    return methods.isin([f"{periods['method']} e1={e1} e2={e2}" for e1, e2 in pairs])


def _names(methods: pd.Series, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the methods in the order of the sweep file, then any others by name."""
    listed = [str(name) for name in settings.get("methods") or {}]
    return tuple(dict.fromkeys([*listed, *sorted(set(methods))]))


def _rows(
    finished: pd.DataFrame, trials: pd.DataFrame, names: Sequence[str], settings: Mapping[str, Any]
) -> tuple[MethodRow, ...]:
    planned = int(settings.get("runs") or trials.loc[trials["final"], "run"].nunique())
    rows = []
    for name in names:
        own = finished[finished["method"] == name]
        if own.empty:
            continue
        accuracies = own["accuracy"].to_numpy(dtype=np.float64)
        rows.append(
            MethodRow(
                name=name,
                runs=len(own),
                accuracies=accuracies,
                mean=float(accuracies.mean()),
                spread=float(accuracies.std(ddof=1)) if len(own) > 1 else None,
                low=float(accuracies.min()),
                high=float(accuracies.max()),
                diverged=int((own["outcome"] == "diverged").sum()),
                failed=int((own["outcome"] == "failed").sum()),
                trials_per_run=trials_per_run(trials[trials["method"] == name]),
                difference=None,
                numbers=tuple(own["run"].tolist()),
                unfinished=max(0, planned - len(own)),
            )
        )
    return tuple(rows)


def _with_differences(
    rows: tuple[MethodRow, ...], reference: str, *, alpha: float, seed: int
) -> tuple[MethodRow, ...]:
    """Compare each method with the reference over the runs that both have finished."""
    plain = next((row for row in rows if row.name == reference), None)
    if plain is None:
        return rows
    known = dict(zip(plain.numbers, plain.accuracies.tolist(), strict=True))
    common = {
        row.name: [k for k, run in enumerate(row.numbers) if run in known] for row in rows if row is not plain
    }
    compared = [row for row in rows if common.get(row.name)]
    pairs = [
        (row.accuracies[common[row.name]], [known[row.numbers[k]] for k in common[row.name]])
        for row in compared
    ]
    differences = {
        row.name: replace(difference, left_out=len(set(row.numbers) ^ set(plain.numbers)))
        for row, difference in zip(
            compared, map(possible, paired_table(pairs, alpha=alpha, seed=seed)), strict=True
        )
    }
    return tuple(replace(row, difference=differences.get(row.name)) for row in rows)


def _period_points(
    finished: pd.DataFrame, periods: Mapping[str, Any], alpha: float
) -> tuple[tuple[PeriodPoint, ...], tuple[PeriodPoint, ...]]:
    """Return the points of e1 = e2 and of e1 fixed; the method's own runs stand for its own e1 and e2."""
    if not periods:
        return (), ()
    base = str(periods["method"])
    own = finished[(finished["method"] == base) | _is_studied(finished["method"], periods)]
    groups: dict[tuple[int, int], Floats] = {}
    for _, group in own.groupby("method"):
        optimiser = group["plan"].iloc[0].get("optimiser") or {}
        if {"e1", "e2"} <= set(optimiser):
            key = (int(optimiser["e1"]), int(optimiser["e2"]))
            groups[key] = group["accuracy"].to_numpy(dtype=np.float64)
    fixed = periods.get("e1")
    equal = [(int(e), int(e)) for e in sorted(periods.get("equal") or ())]
    varied = [(int(fixed), int(e2)) for e2 in sorted(periods.get("e2") or ())] if fixed is not None else []
    return _points(base, equal, groups, alpha), _points(base, varied, groups, alpha)


def _points(
    method: str, wanted: Sequence[tuple[int, int]], groups: Mapping[tuple[int, int], Floats], alpha: float
) -> tuple[PeriodPoint, ...]:
    points = []
    for e1, e2 in dict.fromkeys(wanted):
        if (e1, e2) in groups:
            accuracies = groups[e1, e2]
            low, high = accuracy_interval(accuracies, alpha) or (None, None)
            mean = float(accuracies.mean())
            points.append(
                PeriodPoint(method=method, e1=e1, e2=e2, accuracies=accuracies, mean=mean, low=low, high=high)
            )
    return tuple(points)


def _notes(rows: Sequence[MethodRow], names: Sequence[str], reference: str) -> tuple[str, ...]:
    """Return what the table alone does not say: methods and pairs that are missing, and runs that are no repeats."""
    notes = []
    absent = [name for name in names if name not in {row.name for row in rows}]
    if absent:
        notes.append(f"No run of {', '.join(absent)} has ended yet.")
    if reference in absent or reference not in names:
        notes.append(f"Nothing is compared: the reference method {reference} has no run that ended.")
    short = [
        f"{row.name} ({row.difference.n} pairs)" for row in rows if row.difference and row.difference.left_out
    ]
    if short:
        notes.append(
            f"Runs that only one of the two methods has finished are left out of the comparison with {reference}: "
            f"{', '.join(short)}."
        )
    alike = [row.name for row in rows if row.runs > 1 and row.spread == 0]
    if alike:
        notes.append(
            f"All runs of {', '.join(alike)} ended alike: seeds change nothing there, and these runs are one "
            "experiment. Intervals and p-values speak of seeds alone, and say nothing of other data."
        )
    return tuple(notes)


def possible(difference: PairedDifference) -> PairedDifference:
    """Cut an interval to what a difference of two accuracies can be, which costs it no coverage."""
    if difference.low is None or difference.high is None:
        return difference
    return replace(difference, low=max(-100.0, difference.low), high=min(100.0, difference.high))
