"""Rows of the CSV files about methods: the table of methods, accuracy by epoch, periods, costs and trajectories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple

import numpy as np

from kdsearch.analysis.results import SweepResult

METHOD_COLUMNS = (
    *("method", "runs", "mean", "spread", "least", "greatest", "diverged", "failed", "unfinished"),
    *(
        "trials_per_run",
        "reference",
        "pairs",
        "difference",
        "low",
        "high",
        "p",
        "p_holm",
        "n_needed",
        "decided",
    ),
)
EPOCH_COLUMNS = ("method", "epoch", "mean", "low", "high", "runs")
PERIOD_COLUMNS = ("study", "method", "e1", "e2", "runs", "mean", "low", "high", "least", "greatest")
COST_COLUMNS = (
    *("method", "forward", "backward", "tangent", "seconds", "ratio", "members", "trials_per_run"),
    *("run_seconds", "run_ratio"),
)
TRAJECTORY_COLUMNS = ("method", "metaparameter", "trial", "epoch", "value")
EQUAL, VARIED = "e1=e2", "e2"  # studies

Row = tuple[object, ...]


def method_rows(result: SweepResult) -> Iterator[Row]:
    """One row a method; those about the difference to the reference are empty where there is none."""
    found = result.methods
    for row in found.rows if found is not None else ():
        one = row.difference
        judged: Row = (None,) * 8
        if one is not None:
            judged = (one.n, one.mean, one.low, one.high, one.p, one.p_holm, one.n_needed, int(one.decided))
        yield (
            *(row.name, row.runs, row.mean, row.spread, row.low, row.high, row.diverged, row.failed),
            *(row.unfinished, row.trials_per_run, found.reference if found is not None else None, *judged),
        )


def epoch_rows(result: SweepResult) -> Iterator[Row]:
    """Mean accuracy and its interval, by method and epoch."""
    for curve in result.methods.curves if result.methods is not None else ():
        columns = (curve.epochs, curve.mean, curve.low, curve.high)
        for epoch, mean, low, high in zip(*columns, strict=True):
            yield curve.method, int(epoch), float(mean), float(low), float(high), curve.runs


def period_rows(result: SweepResult) -> Iterator[Row]:
    """Accuracy by e1 and e2, the study of e1 = e2 first."""
    found = result.methods
    studies = ((EQUAL, found.equal_periods), (VARIED, found.varied_e2)) if found is not None else ()
    for study, points in studies:
        for point in points:
            runs = point.accuracies
            yield (
                *(study, point.method, point.e1, point.e2, len(runs), point.mean, point.low, point.high),
                *(float(runs.min()), float(runs.max())),
            )


def cost_rows(result: SweepResult) -> Iterator[Row]:
    """Measured cost, one row a method; the columns are the fields of `CostRow`."""
    for cost in result.methods.costs if result.methods is not None else ():
        yield astuple(cost)


def trajectory_rows(result: SweepResult) -> Iterator[Row]:
    """Every known value of every metaparameter by trial and epoch; epoch 0 is the start value."""
    for one in result.trajectories:
        for number, values in zip(one.numbers, one.values, strict=True):
            for epoch, value in zip(one.epochs, values, strict=True):
                if np.isfinite(value):
                    yield one.method, one.metaparameter, number, int(epoch), float(value)
