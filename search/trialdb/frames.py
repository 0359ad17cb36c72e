"""A sweep's trials, draws and curves as the frames that `kdsearch.analysis.record.SweepRecord` describes."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Connection, Text, cast, select

from kdsearch.search.trialdb import schema
from kdsearch.search.trialdb.curve_reads import read_values
from kdsearch.search.trialdb.states import Role
from kdsearch.search.trialdb.writes import sweep_id

_INTEGERS = ("best_epoch", "last_epoch")
_FLOATS = ("error", "best_error", "seconds")
_TRIAL_COLUMNS = (
    *(
        "number",
        "role",
        "state",
        "error",
        "best_error",
        "best_epoch",
        "last_epoch",
        "orbit_size",
        "seed",
        "seconds",
    ),
    *("attempts", "message", "started", "ended"),
    "sampling_design",
)
_PLAN_COLUMNS = ("method", "run", "final", "plan")
_TEXT = pd.StringDtype(na_value=np.nan)  # "str" of pandas 3
_NODE = re.compile(r"(\d+)/(.+)", re.DOTALL)


def trials_frame(connection: Connection, name: str, *, role: Role | None = None) -> pd.DataFrame:
    """Return one row a trial, by number: the columns of `SweepRecord.trials`, then one for each parameter.

    Integers that a trial may lack (best_epoch, last_epoch, run, a conditional parameter) are Int64 with NA. A
    parameter that has the name of a fixed column is called "parameter:<name>".
    """
    table = schema.TRIAL
    configuration = cast(table.c.configuration, Text).label("configuration")  # equal ones are parsed once
    query = (
        select(*(table.c[column] for column in _TRIAL_COLUMNS), table.c.plan, configuration)
        .where(table.c.sweep_id == sweep_id(connection, name))
        .order_by(table.c.number)
    )
    if role is not None:
        query = query.where(table.c.role == role)
    rows = connection.execute(query).all()
    *fixed, plans, texts = zip(*rows, strict=True) if rows else ((),) * (len(_TRIAL_COLUMNS) + 2)
    frame = pd.DataFrame(
        {column: _fixed(column, values) for column, values in zip(_TRIAL_COLUMNS, fixed, strict=True)}
    ).rename(columns={"sampling_design": "design"})
    told = pd.DataFrame(_plans(plans), index=frame.index)
    parameters = pd.DataFrame(_parameters(texts), index=frame.index)
    return pd.concat([frame, told, parameters], axis="columns")


def _fixed(column: str, values: Sequence[Any]) -> Any:
    if column in {"started", "ended"}:
        return _times(values)
    if column in _FLOATS:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    if column in _INTEGERS:
        return pd.array(list(values), dtype="Int64")
    if column in {"role", "state", "message", "sampling_design"}:
        return pd.array([str(value) for value in values], dtype=_TEXT)
    return np.array(values, dtype=np.int64)


def _plans(plans: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Return the columns of what trials were told beside their configuration."""
    given = [plan or {} for plan in plans]
    return {
        "method": pd.array([plan.get("method", np.nan) for plan in given], dtype=_TEXT),
        "run": pd.array([plan.get("run") for plan in given], dtype="Int64"),
        "final": np.array([bool(plan.get("final")) for plan in given], dtype=np.bool_),
        "plan": pd.Series(list(plans), dtype=object),
    }


def _times(values: Sequence[datetime | None]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.to_datetime(pd.Series(list(values), dtype=object), utc=True)).as_unit("us")


def _parameters(texts: Sequence[str]) -> dict[str, Any]:
    """Return a column for each parameter, in the order of first appearance."""
    parsed = {text: json.loads(text) for text in dict.fromkeys(texts)}
    names = dict.fromkeys(name for configuration in parsed.values() for name in configuration)
    taken = {*_TRIAL_COLUMNS, *_PLAN_COLUMNS, "design"}
    columns = {name: [parsed[text].get(name) for text in texts] for name in names}
    return {
        f"parameter:{name}" if name in taken else name: _parameter(values) for name, values in columns.items()
    }


def _parameter(values: list[Any]) -> Any:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int}:
        return pd.array(values, dtype="Int64" if None in values else "int64")
    if kinds == {bool}:
        return pd.array(values, dtype="boolean" if None in values else "bool")
    if kinds == {str}:
        return pd.array(values, dtype=_TEXT)
    if kinds <= {int, float}:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return pd.Series(values, dtype=object)


def draws_frame(connection: Connection, name: str) -> pd.DataFrame:
    """Return `space`, `draw`, `trial` (number), `fresh` (0 or 1); spaces in the order of adding."""
    space, draw = schema.DESIGN_SPACE, schema.DRAW
    query = (
        select(space.c.name, draw.c.draw, draw.c.number, draw.c.fresh)
        .join_from(draw, space, space.c.id == draw.c.space_id)
        .where(space.c.sweep_id == sweep_id(connection, name))
        .order_by(draw.c.space_id, draw.c.draw)
    )
    rows = connection.execute(query).all()
    names, draws, numbers, fresh = zip(*rows, strict=True) if rows else ((),) * 4
    return pd.DataFrame(
        {
            "space": pd.array(list(names), dtype=_TEXT),
            "draw": np.array(draws, dtype=np.int64),
            "trial": np.array(numbers, dtype=np.int64),
            "fresh": np.array(fresh, dtype=np.int64),
        }
    )


def curves_frame(
    connection: Connection,
    name: str,
    *,
    trials: Collection[int] | None = None,
    metrics: Collection[str] | None = None,
) -> pd.DataFrame:
    """Return curves in long form: `trial` (number), `node`, `metric` (categorical), `epoch`, `value`.

    A metric reported as "2/val_error" is `val_error` of node 2; one without a node has node 0. `trials` and
    `metrics` (without node) keep only these. By trial, then metric and epoch.
    """
    known = _metrics(connection, metrics)
    wanted = None if trials is None else np.unique(np.fromiter(trials, dtype=np.int64))
    numbers, of_metric, steps, values = read_values(
        connection, sweep_id(connection, name), None if metrics is None else known, wanted
    )
    labels = sorted({label for _, label in known.values()})
    nodes, codes = _key_tables(known, labels)
    used = np.unique(codes[of_metric])
    names = pd.Index([labels[code] for code in used], dtype=_TEXT)
    metric = pd.Categorical.from_codes(np.searchsorted(used, codes[of_metric]).astype(np.int64), names)
    return pd.DataFrame(
        {"trial": numbers, "node": nodes[of_metric], "metric": metric, "epoch": steps, "value": values}
    )


def _metrics(connection: Connection, wanted: Collection[str] | None) -> dict[int, tuple[int, str]]:
    """Return (node, name) for each metric's key."""
    found = {
        key: split_metric(name)
        for key, name in connection.execute(select(schema.METRIC.c.id, schema.METRIC.c.name))
    }
    return {key: metric for key, metric in found.items() if wanted is None or metric[1] in wanted}


def split_metric(name: str) -> tuple[int, str]:
    """Return node and name of a reported metric.

    >>> split_metric("2/val_error"), split_metric("seconds")
    ((2, 'val_error'), (0, 'seconds'))
    """
    match = _NODE.fullmatch(name)
    return (int(match[1]), match[2]) if match else (0, name)


def _key_tables(known: dict[int, tuple[int, str]], labels: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return, indexed by metric key, the node and the place of the name in `labels`."""
    size = max(known, default=0) + 1
    nodes, codes = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    for key, (node, label) in known.items():
        nodes[key], codes[key] = node, labels.index(label)
    return nodes, codes
