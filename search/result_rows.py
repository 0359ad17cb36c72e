"""Rows for the trial database, made of trials and of what packs report of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from kdsearch.search.schedulers.scheduler import error_that_counts
from kdsearch.search.trial_states import LiveTrial
from kdsearch.search.trialdb import operations as op
from kdsearch.search.trialdb.states import Role, TrialState
from kdsearch.spaces import configuration_key
from kdsearch.spaces.printable import printable
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


def trial_row(
    trial: LiveTrial, at: datetime, orbit_size: int = 1, probability: float | None = None
) -> op.TrialRow:
    """A trial as it was asked for; probability: of its being drawn, None where nobody knows."""
    return op.TrialRow(
        number=trial.number,
        configuration=trial.configuration,
        configuration_hash=configuration_key(trial.configuration),
        seed=trial.seed,
        created=at,
        role=Role.SEARCH if trial.search else Role.PRETRAIN,
        orbit_size=orbit_size,
        sampling_design=trial.design,
        inclusion_probability=probability,
        plan=trial.plan,
    )


def start_row(trial: LiveTrial, at: datetime, *, host: str, device: str) -> op.AttemptStart:
    """The trial's newest attempt begins."""
    return op.AttemptStart(number=trial.number, n=trial.attempt, host=host, device=device, at=at)


def checkpoint_rows(
    reports: Sequence[EpochReport], saved: Mapping[int, str], trials: Mapping[int, LiveTrial]
) -> tuple[op.CheckpointRow, ...]:
    """One row for each member that was saved; saved: member -> path."""
    return tuple(
        op.CheckpointRow(number=r.number, n=trials[r.number].attempt, epoch=r.epoch, path=saved[r.number])
        for r in reports
        if r.number in saved
    )


def result_row(trial: LiveTrial, state: str, message: str, *, at: datetime, on_device: bool) -> op.ResultRow:
    """How a trial ended; on_device: its seconds were an accelerator's."""
    return op.ResultRow(
        number=trial.number,
        attempt=trial.attempt,
        state=TrialState(state),
        at=at,
        error=error_that_counts(state, trial.last_error),
        best_error=trial.best_error,
        best_epoch=trial.best_epoch,
        last_epoch=trial.last_epoch,
        seconds=trial.seconds,
        device_seconds=trial.seconds if on_device else None,
        message=printable(message),
    )
