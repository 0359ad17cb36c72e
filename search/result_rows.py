"""Rows for the trial database, made of what packs report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdsearch.search.trial_states import LiveTrial
from kdsearch.search.trialdb import operations as op
from kdsearch.trainables.protocol import EpochReport


def metric_rows(reports: Sequence[EpochReport], trials: Mapping[int, LiveTrial]) -> tuple[op.MetricRow, ...]:
    """One row for each member and epoch."""
    return tuple(
        op.MetricRow(number=r.number, attempt=trials[r.number].attempt, step=r.epoch, values=r.metrics)
        for r in reports
    )


def array_rows(reports: Sequence[EpochReport], trials: Mapping[int, LiveTrial]) -> tuple[op.ArrayRow, ...]:
    """One row for each array; few reports have any."""
    return tuple(
        op.ArrayRow.of(array, number=r.number, attempt=trials[r.number].attempt, step=r.epoch, name=name)
        for r in reports
        for name, array in r.arrays.items()
    )
