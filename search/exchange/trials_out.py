"""A sweep's trials as a table, one row a trial: everything that the database keeps of it beside its curves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from kdsearch.search.trialdb import TrialDatabase
from kdsearch.search.trialdb.reads import Trial
from kdsearch.spaces import Value, label_of, space_from_spec

_TIME: Final = pa.timestamp("us", tz="UTC")
COLUMNS: Final = {  # name -> type; `design` and the plan's text are made below
    "number": pa.int64(),
    "role": pa.string(),
    "state": pa.string(),
    "error": pa.float64(),
    "best_error": pa.float64(),
    "best_epoch": pa.int64(),
    "last_epoch": pa.int64(),
    "attempts": pa.int64(),
    "seed": pa.int64(),
    "orbit_size": pa.int64(),
    "design": pa.string(),
    "inclusion_probability": pa.float64(),
    "seconds": pa.float64(),
    "device_seconds": pa.float64(),
    "message": pa.string(),
    "created": _TIME,
    "started": _TIME,
    "ended": _TIME,
    "plan": pa.string(),
}
EPOCH: Final = "epoch"  # makes a table one of curves
DRAWS: Final = "draws:"  # and a space's name: draws of it that the trial answers
PARAMETER: Final = "parameter:"  # in front of a parameter that has the name of another column


def trials_table(database: TrialDatabase, name: str, *, seeds: bool = True) -> pa.Table:
    """Return the trials by number: `COLUMNS`, draws of each space, then a column for each parameter.

    seeds: False leaves the column `seed` out, for trials whose seeds nobody knows.
    """
    trials = database.trials(name)
    fixed = {column: kind for column, kind in COLUMNS.items() if seeds or column != "seed"}
    columns = {
        column: pa.array([_value(trial, column) for trial in trials], type=kind)
        for column, kind in fixed.items()
    }
    parameters = parameter_columns(trials, parameter_order(database, name))
    return pa.table(columns | _draws(database, name, trials) | parameters)


def parameter_order(database: TrialDatabase, name: str) -> tuple[str, ...]:
    """Return the parameters of a sweep's space, in its order; none before it has a space."""
    spaces = database.spaces(name)
    return space_from_spec(spaces[0].specification).parameter_names if spaces else ()


def parameter_columns(trials: Sequence[Trial], order: Sequence[str]) -> dict[str, pa.Array]:
    """Return the configurations, a column for each parameter that a trial has: the space's, then all others."""
    there = dict.fromkeys(parameter for trial in trials for parameter in trial.configuration)
    names = dict.fromkeys([*(name for name in order if name in there), *there])
    return {
        parameter_column(parameter): _values([trial.configuration.get(parameter) for trial in trials])
        for parameter in names
    }


def parameter_column(parameter: str) -> str:
    """Return the name of a parameter's column: its own, unless another column or prefix has it."""
    taken = parameter in COLUMNS or parameter == EPOCH or parameter.startswith((DRAWS, PARAMETER))
    return f"{PARAMETER}{parameter}" if taken else parameter


def _value(trial: Trial, column: str) -> Any:
    if column == "design":
        return trial.sampling_design
    if column == "plan":
        return json.dumps(trial.plan) if trial.plan else None
    return getattr(trial, column)


def _draws(database: TrialDatabase, name: str, trials: Sequence[Trial]) -> dict[str, pa.Array]:
    frame = database.draws_frame(name)
    found = Counter(zip(frame["space"].tolist(), frame["trial"].tolist(), strict=True))
    return {
        f"{DRAWS}{space.name}": pa.array(
            [found[space.name, trial.number] for trial in trials], type=pa.int64()
        )
        for space in database.spaces(name)
    }


def _values(values: Sequence[Value | None]) -> pa.Array:
    """A parameter's values with their type; of several types, as their labels."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return pa.array([None if value is None else float(value) for value in values], type=pa.float64())
    if len(kinds) > 1:
        return pa.array([None if value is None else label_of(value) for value in values], type=pa.string())
    return pa.array(values, type=None if kinds else pa.string())
