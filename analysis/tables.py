"""The CSV files and lineage.json of a report, built from the same results as the page.

Numbers are written in full (shortest text that reads back as the same float), errors and AUC in per cent, missing
values as empty cells. With nothing but these files anyone can compute every AUC again: join draws.csv with trials.csv,
take the mean of clip(tau - error, 0, tau - a) / (tau - a) over the draws whose trial has an error. The last column,
`sweep`, tells several sweeps of one report apart.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from kdsearch.analysis import tables_methods as methods
from kdsearch.analysis import tables_retrained as retrained
from kdsearch.analysis.frames import DRAW_COLUMNS, TRIAL_COLUMNS
from kdsearch.analysis.record import DecisionRecord
from kdsearch.analysis.results import SpaceResult, SweepResult, shown_trials
from kdsearch.spaces.cells import guarded

ALL = "all"  # group and value of the row for a whole space
SWEEP = "sweep"
RUN_COLUMNS = ("method", "run", "final")  # of trials.csv, where a sweep compares methods
EDF_COLUMNS = ("space", "error", "f", "low", "high")
AUC_COLUMNS = ("space", "group", "value", "n", "auc", "low", "high", "p", "p_holm", "n_needed")
AUC_EXTRA = ("trials", "rest_auc", "difference", "chosen")
CURVE_COLUMNS = ("trial", "node", "metric", "epoch", "value")
MOST_CURVE_ROWS = 200_000  # of all sweeps together; of more only the trials that the page shows
LOWEST_COLUMNS = ("space", "draws", "mean", "spread")
_WHOLE = frozenset({"number", "orbit_size", "seed", "best_epoch", "last_epoch", "attempts", "run", "final"})

Cell = object
Row = tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A CSV file in the making."""

    name: str  # file name
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def to_csv(self) -> str:
        """The file's text; lines end with a line feed."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([guarded(name) for name in self.columns])
        writer.writerows([_cell(value) for value in row] for row in self.rows)
        return text.getvalue()


def all_tables(results: Sequence[SweepResult]) -> tuple[Table, ...]:
    """Every CSV file of a report on one or more sweeps; those about spaces or methods only where a sweep has some."""
    return (
        trials_table(results),
        *(_space_tables(results) if any(not result.compares for result in results) else ()),
        curves_table(results),
        *(_method_tables(results) if any(_compares(result) for result in results) else ()),
        *retrained_tables(results),
        *(_trajectory_tables(results) if any(result.trajectories for result in results) else ()),
    )


def _space_tables(results: Sequence[SweepResult]) -> tuple[Table, ...]:
    return (
        _stacked("draws.csv", DRAW_COLUMNS, results, draw_rows),
        _stacked("edf.csv", EDF_COLUMNS, results, edf_rows),
        _stacked("auc.csv", (*AUC_COLUMNS, *AUC_EXTRA), results, auc_rows),
        _stacked("lowest.csv", LOWEST_COLUMNS, results, lowest_rows),
    )


def _method_tables(results: Sequence[SweepResult]) -> tuple[Table, ...]:
    return (
        _stacked("methods.csv", methods.METHOD_COLUMNS, results, methods.method_rows),
        _stacked("accuracy_by_epoch.csv", methods.EPOCH_COLUMNS, results, methods.epoch_rows),
        _stacked("periods.csv", methods.PERIOD_COLUMNS, results, methods.period_rows),
        _stacked("costs.csv", methods.COST_COLUMNS, results, methods.cost_rows),
    )


def _compares(result: SweepResult) -> bool:
    return result.compares and result.retrained is None


def retrained_tables(results: Sequence[SweepResult]) -> tuple[Table, ...]:
    """retrained.csv, where a sweep is a retraining."""
    again = [result for result in results if result.retrained is not None]
    return (_stacked("retrained.csv", retrained.COLUMNS, again, retrained.rows),) if again else ()


def _trajectory_tables(results: Sequence[SweepResult]) -> tuple[Table, ...]:
    return (_stacked("trajectories.csv", methods.TRAJECTORY_COLUMNS, results, methods.trajectory_rows),)


def trials_table(results: Sequence[SweepResult]) -> Table:
    """One row a trial; `error` is what the trial counts with. Parameters of all sweeps have a column each."""
    fixed = (*TRIAL_COLUMNS, *(RUN_COLUMNS if any(result.compares for result in results) else ()))
    fixed = (*fixed, *(("data",) if any(result.retrained for result in results) else ()))
    parameters = tuple(dict.fromkeys(name for result in results for name in result.parameters))
    rows: list[Row] = []
    for result in results:
        frame = result.trials.reindex(columns=[*fixed, *parameters])
        if not result.record.seeds_known:
            frame["seed"] = pd.array([pd.NA] * len(frame), dtype="Int64")
        columns = [_whole(frame[name]) if name in _WHOLE else frame[name].tolist() for name in frame.columns]
        rows += [(*row, result.record.name) for row in zip(*columns, strict=True)]
    return Table(name="trials.csv", columns=(*fixed, *parameters, SWEEP), rows=tuple(rows))


def draw_rows(result: SweepResult) -> Iterable[Row]:
    """`space, draw, trial, fresh`, by space and draw."""
    draws = result.record.draws
    for space in () if result.compares else result.record.spaces:
        own = draws[draws["space"] == space.name].sort_values("draw", kind="stable")
        for draw, trial, fresh in zip(own["draw"], own["trial"], own["fresh"], strict=True):
            yield space.name, int(draw), int(trial), int(fresh)


def edf_rows(result: SweepResult) -> Iterable[Row]:
    """`space, error, f, low, high`: F(error), the share of draws strictly below, at each distinct error and at 100.

    F is the same from just above one row's error up to and including the next row's.
    """
    for space in result.estimated:
        curve, band = space.curve, space.band
        if curve is None or band is None:
            continue
        columns = (curve.errors, curve.f_below, band.low_below, band.high_below)
        yield from ((space.name, *map(float, row)) for row in zip(*columns, strict=True))
        if curve.errors[-1] < 100:  # noqa: PLR2004 - per cent
            yield space.name, 100.0, 1.0, float(band.low[-1]), float(band.high[-1])


def auc_rows(result: SweepResult) -> Iterable[Row]:
    """One row for each whole space (group and value "all"), then one for each of its conditions."""
    for space in result.estimated:
        low, high = (space.interval.low, space.interval.high) if space.interval else (None, None)
        trials = len(space.population.numbers)
        yield (
            *(space.name, ALL, ALL, space.population.n, space.auc, low, high, None, None, None),
            *(trials, None, None, None),
        )
        for row in space.conditions:
            yield (
                *(space.name, row.group, row.value, row.n, row.auc, row.low, row.high, row.p, row.p_holm),
                *(row.n_needed, row.trials, row.rest_auc, row.difference, int(space.chosen(row))),
            )


def lowest_rows(result: SweepResult) -> Iterable[Row]:
    """`space, draws, mean, spread`: the lowest error after so many draws."""
    for one in result.lowest:
        for i, (mean, spread) in enumerate(zip(one.mean, one.spread, strict=True), start=1):
            yield one.space, i, float(mean), float(spread)


def curves_table(results: Sequence[SweepResult]) -> Table:
    """What each node reported at each epoch, by trial; only the trials that the page shows where it is too much."""
    whole = curves_whole(results)
    rows: list[Row] = []
    for result in results:
        curves = result.record.curves
        if not whole:
            curves = curves[curves["trial"].isin(shown_trials(result))]
        ordered = curves.sort_values(["trial", "node", "metric", "epoch"], kind="stable")
        columns = [ordered[name].tolist() for name in CURVE_COLUMNS]
        rows += [(*row, result.record.name) for row in zip(*columns, strict=True)]
    return Table(name="curves.csv", columns=(*CURVE_COLUMNS, SWEEP), rows=tuple(rows))


def curves_whole(results: Sequence[SweepResult]) -> bool:
    """Whether curves.csv holds every trial."""
    return sum(len(result.record.curves) for result in results) <= MOST_CURVE_ROWS


def lineage(results: Sequence[SweepResult]) -> str:
    """lineage.json: each sweep's spaces with parent, restriction, sizes and AUC, and each decision with evidence."""
    sweeps = [
        {
            "sweep": result.record.name,
            "kind": result.record.kind,
            "state": result.record.state,
            "seed": result.record.seed,
            "created": result.record.created.isoformat(),
            "a": result.record.a,
            "tau": result.record.tau,
            "alpha": result.record.alpha,
            "diverged_error": result.record.diverged_error,
            "spaces": [_space_entry(space) for space in result.spaces],
            "decisions": [_decision_entry(decision) for decision in result.record.decisions],
        }
        for result in results
    ]
    return (
        json.dumps({"sweeps": sweeps}, indent=2, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"
    )


def _space_entry(space: SpaceResult) -> dict[str, Any]:
    again = space.confirmation
    return {
        "name": space.name,
        "parent": space.record.parent,
        "restriction": space.record.restriction,
        "counts": dict(space.record.counts),
        "exhaustive": space.record.exhaustive,
        "repeats": space.record.repeats,
        "spec": dict(space.record.spec),
        "hash": space.space.hash,
        "draws": space.population.n,
        "trials": len(space.population.numbers),
        "auc": space.auc,
        "low": space.interval.low if space.interval else None,
        "high": space.interval.high if space.interval else None,
        "draws_by_state": dict(space.population.states),
        "confirmation": None
        if again is None
        else {
            "selected_auc": again.selected_auc,
            "selected_n": again.selected_n,
            "fresh_auc": again.fresh_auc,
            "fresh_n": again.fresh_n,
            "low": again.interval.low if again.interval else None,
            "high": again.interval.high if again.interval else None,
        },
    }


def _decision_entry(decision: DecisionRecord) -> dict[str, Any]:
    return {
        "step": decision.step,
        "look": decision.look,
        "space": decision.space,
        "policy": decision.policy,
        "chooser": decision.chooser,
        "group": decision.group,
        "value": decision.value,
        "child": decision.child,
        "reason": decision.reason,
        "at": decision.at.isoformat(),
        "alpha": decision.alpha,
        "draws": decision.draws,
        "table": [{key: _finite(value) for key, value in row.items()} for row in decision.table],
    }


def _stacked(name: str, columns: Sequence[str], results: Sequence[SweepResult], rows_of: Any) -> Table:
    rows = tuple((*row, result.record.name) for result in results for row in rows_of(result))
    return Table(name=name, columns=(*columns, SWEEP), rows=rows)


def _whole(column: pd.Series[Any]) -> list[int | None]:
    """Whole numbers that pandas may hold as floats because some are missing."""
    return [None if pd.isna(value) else int(value) for value in column.tolist()]


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _cell(value: object) -> str:
    """One cell: empty for nothing and NaN, floats in full, times in ISO 8601."""
    if value is None or value is pd.NaT or value is pd.NA:
        return ""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return repr(value) if np.isfinite(value) else ""
    if isinstance(value, datetime):
        return value.isoformat()
    return guarded(str(value)) if isinstance(value, str) else str(value)


def _plain(value: object) -> object:
    """What json cannot write by itself: NumPy's numbers, mappings that are no dict."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
