"""Learning curves from CSV and Parquet files in long form: one row a trial and epoch.

They come in a file of their own beside the trials', and then trials are told by their number; or alone, and then rows
with the same number (without numbers: the same parameters and `seed` or `repeat`) are one trial, whose error is that
of its last epoch, and whose state, if --state names its column, is that of the last epoch's row.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from typing import Final

from kdsearch.search.exchange.incoming import (
    WITH_ERROR,
    Batch,
    Incoming,
    read_state,
    settle_state,
    some,
    without_error,
)
from kdsearch.search.exchange.table_in import Naming, Roles, batch_of, parameters_of, roles_of
from kdsearch.search.exchange.text_tables import TextTable
from kdsearch.search.searchers.plans import TEST, VALIDATION, objective_metric
from kdsearch.search.trialdb import TrialState
from kdsearch.spaces import TARGET, DesignSpace
from kdsearch.spaces.errors import UsageError

_NAMED: Final = 5  # trials that a note lists
_OBJECTIVES: Final = tuple(f"{TARGET}/{name}" for name in (VALIDATION, TEST))


@dataclass(frozen=True, kw_only=True)
class _Epochs:
    """The rows of one trial."""

    rows: Mapping[int, int]  # epoch -> row

    @property
    def last(self) -> int:
        """The row of the last epoch."""
        return self.rows[max(self.rows)]


def trials_from_curves(table: TextTable, naming: Naming, roles: Roles) -> Batch:
    """Read a file that holds nothing but curves.

    Raises:
        UsageError: an epoch stands twice, parameters change within a trial, a cell cannot be read.

    """
    groups = _groups(table, roles)
    shift = _shift(groups.values())
    found, without = [], []
    for place, (key, epochs) in enumerate(groups.items()):
        trial = _trial(
            table, naming, roles, epochs, number=key if isinstance(key, int) else place, shift=shift
        )
        if trial is None:
            without.append(table.place(epochs.last))
        else:
            found.append(trial)
    if without:
        raise without_error(table.where, without, roles.objective)
    batch = batch_of(table, naming, roles, found)
    return replace(batch, notes=(*batch.notes, *_notes(table, shift), *_short(table, roles, found)))


def _short(table: TextTable, roles: Roles, trials: Sequence[Incoming]) -> tuple[str, ...]:
    """Say that trials end sooner than others do: nothing but their state tells whether they were cut short."""
    longest = max((max(trial.curve) for trial in trials), default=0)
    short = [t for t in trials if t.state is TrialState.COMPLETE and max(t.curve) < longest]
    if not short or roles.state is not None:
        return ()
    shown = ", ".join(trial.place for trial in short[:_NAMED]) + (", ..." if len(short) > _NAMED else "")
    note = (
        f"The curves of {some(len(short), 'trial', 'trials')} of {table.where} end before epoch {longest}, where "
        f"others end ({shown}), and were taken for whole trainings. If they were cut short, say so in a column that "
        "--state names: their last errors are no final ones."
    )
    return (note,)


def with_curves(batch: Batch, table: TextTable, naming: Naming, space: DesignSpace | None) -> Batch:
    """Return the batch with the curves of another file, whose trials are told by their number.

    Raises:
        UsageError: a trial is in none of the batch, and as above.

    """
    roles = _curve_roles(table, naming, batch, space)
    groups = _groups(table, roles)
    known = {trial.number for trial in batch.trials}
    strange = [key for key in groups if key not in known]
    if strange:
        raise UsageError(
            f"{table.where} has curves of trials that {batch.where} does not have: "
            f"{', '.join(map(str, strange[:5]))}{', ...' if len(strange) > 5 else ''}",  # noqa: PLR2004 what a person reads
            "Trials of both files are told by their number.",
        )
    shift = _shift(groups.values())
    trials = []
    for trial in batch.trials:
        epochs = groups.get(trial.number)
        if epochs is None:
            trials.append(trial)
            continue
        curve = _curve(table, naming, roles, epochs, metric=objective_metric(trial.plan or {}), shift=shift)
        trials.append(replace(trial, curve=curve))
    return replace(batch, trials=trials, notes=(*batch.notes, *_notes(table, shift)))


def _curve_roles(table: TextTable, naming: Naming, batch: Batch, space: DesignSpace | None) -> Roles:
    """Say what the columns of a second file are: its parameters, if it has them, are those of the trials."""
    there = set(table.columns)
    own = replace(
        naming,
        error=naming.error if naming.error in there else None,
        accuracy=naming.accuracy if naming.accuracy in there else None,
        number=naming.number if naming.number in there else None,
        epoch=naming.epoch,
        state=None,
        seed=None,
        parameters=(),
        ignore=tuple(each for each in naming.ignore if fnmatch.filter(there, each)),
    )
    names = {name for trial in batch.trials for name in trial.configuration}
    names |= set(space.parameter_names) if space is not None else set()
    roles = roles_of(table, own, None)
    metrics = tuple(column for name, column in roles.parameters.items() if name not in names)
    roles = replace(roles, parameters={}, metrics=(*roles.metrics, *metrics))
    if roles.epoch is None:
        raise UsageError(f"{table.where} has no column `epoch`", "Name it with --epoch.")
    if roles.number is None:
        raise UsageError(f"{table.where} has no column `trial`", "Name it with --number: the trial's number.")
    if naming.accuracy is not None and own.accuracy is None:
        raise UsageError(
            f"{table.where} has no column {naming.accuracy!r}", "Curves and trials name the accuracy alike."
        )
    return roles


def _groups(table: TextTable, roles: Roles) -> dict[object, _Epochs]:
    """Rows by trial and epoch."""
    found: dict[object, dict[int, int]] = {}
    for row in range(table.size):
        key = _key(table, row, roles)
        epoch = table.whole(row, str(roles.epoch))
        if epoch is None:
            raise UsageError(
                f"{table.at(row, str(roles.epoch))} is empty", "Every row of curves has its epoch."
            )
        rows = found.setdefault(key, {})
        if epoch in rows:
            what = f"trial {key}" if isinstance(key, int) else "the same parameters and seed"
            raise UsageError(
                f"{table.where}: epoch {epoch} of {what} stands twice, in {table.place(rows[epoch])} and "
                f"{table.place(row)}",
                "Leave one out; trainings of one configuration are told apart by a column `trial`, `seed` or `repeat`.",
            )
        rows[epoch] = row
    return {key: _Epochs(rows=dict(sorted(rows.items()))) for key, rows in found.items()}


def _key(table: TextTable, row: int, roles: Roles) -> object:
    if roles.number is not None:
        number = table.whole(row, roles.number)
        if number is None:
            raise UsageError(f"{table.at(row, roles.number)} is empty", "Number every trial, or none.")
        return number
    told = (table.columns[column][row].strip() for column in (roles.seed, roles.repeat) if column is not None)
    return (*parameters_of(table, row, roles).items(), *told)


def _shift(groups: Iterable[_Epochs]) -> int:
    """Epochs count from 1 here: what is added where a file counts from 0."""
    return int(any(0 in epochs.rows for epochs in groups))


def _notes(table: TextTable, shift: int) -> tuple[str, ...]:
    return (f"Epochs of {table.where} count from 0; here they count from 1.",) if shift else ()


def _trial(
    table: TextTable, naming: Naming, roles: Roles, epochs: _Epochs, *, number: int, shift: int
) -> Incoming | None:
    first = next(iter(epochs.rows.values()))
    configuration = parameters_of(table, first, roles)
    for row in epochs.rows.values():
        other = parameters_of(table, row, roles)
        if other != configuration:
            changed = sorted(
                name for name in {*other, *configuration} if other.get(name) != configuration.get(name)
            )
            raise UsageError(
                f"{table.where}: {', '.join(changed)} of trial {number} changes between {table.place(first)} and "
                f"{table.place(row)}",
                "A trial has the same parameters at every epoch. Name the parameters with --parameters: other "
                "columns are metrics then.",
            )
    curve = _curve(table, naming, roles, epochs, metric=_OBJECTIVES[0], shift=shift)
    last = curve[max(curve)].get(_OBJECTIVES[0])
    state = None
    if roles.state is not None:
        state = read_state(table.columns[roles.state][epochs.last], table.at(epochs.last, roles.state))
    diverged = last is not None and not isfinite(last) and (state is None or state in WITH_ERROR)
    settled, error, message = settle_state(
        TrialState.DIVERGED if diverged else state, last, naming.missing, ""
    )
    if settled is None:
        return None
    return Incoming(
        place=table.place(first),
        number=number,
        configuration=configuration,
        state=settled,
        error=error,
        seed=None if roles.seed is None else table.whole(first, roles.seed),
        curve=curve,
        message=message or ("the error after its last epoch is not finite" if diverged else ""),
    )


def _curve(
    table: TextTable, naming: Naming, roles: Roles, epochs: _Epochs, *, metric: str, shift: int
) -> dict[int, dict[str, float]]:
    """Metrics by epoch; the objective, if it is not named as a metric of the target, is the metric that is given."""
    objective = roles.objective if roles.objective in _OBJECTIVES else metric
    found = {}
    for epoch, row in epochs.rows.items():
        values = {}
        error = table.number(row, roles.objective)
        if error is not None:
            values[objective] = naming.scale.error(error) if isfinite(error) else nan
        for name in roles.metrics:
            value = table.number(row, name)
            if value is not None:
                values[name] = value
        found[epoch + shift] = values
    return found
