"""The values of epochs as arrays, millions of them: without an object of Python's for each where the engine lets us.

SQLite hands over rows, straight from its driver. PostgreSQL sews the epochs of one trial and metric together as bytes,
step and value behind one another, which numpy reads as they are: a fiftieth of the work of reading rows.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Connection, Double, LargeBinary, Select, cast, func, literal, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from kdsearch.search.trialdb import schema

_ROWS = 1_000  # fetched at a time: so few stay in the cache
_GROUPS = 2_000  # trials times metrics that are fetched at a time
_IN_LIST = 500  # longer lists of trials are filtered after reading their range
_EPOCH = np.dtype([("step", ">i4"), ("value", ">f8")])  # as PostgreSQL sends them

# trial, metric key, step, value
Values = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]


def read_values(
    connection: Connection, sweep: int, keys: Collection[int] | None, trials: npt.NDArray[np.int64] | None
) -> Values:
    """Return a sweep's values by trial, metric and step; NaN and infinities as such.

    keys: of metrics, None: all. trials: sorted numbers, None: all.
    """
    where = _where(sweep, keys, trials)
    read = _from_server if connection.dialect.name == "postgresql" else _from_file
    empty = np.zeros(0, dtype=np.int64)
    parts = [(empty, empty, empty, np.zeros(0)), *read(connection, where)]
    numbers, metrics, steps, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    if trials is not None and len(trials) > _IN_LIST:
        keep = np.isin(numbers, trials)
        numbers, metrics, steps, values = numbers[keep], metrics[keep], steps[keep], values[keep]
    return numbers, metrics, steps, values


def _where(
    sweep: int, keys: Collection[int] | None, trials: npt.NDArray[np.int64] | None
) -> list[ColumnElement[bool]]:
    table = schema.METRIC_VALUE
    found = [table.c.sweep_id == sweep]
    if keys is not None:
        found.append(table.c.metric_id.in_(list(keys)))
    if trials is None:
        return found
    if 0 < len(trials) <= _IN_LIST:
        return [*found, table.c.number.in_(trials.tolist())]
    low, high = (int(trials[0]), int(trials[-1])) if len(trials) else (0, -1)
    return [*found, table.c.number.between(low, high)]


def _from_file(connection: Connection, where: list[ColumnElement[bool]]) -> Iterator[Values]:
    """Rows from SQLite's driver, whose columns are numbers already: SQLAlchemy's rows would take half of the time."""
    table = schema.METRIC_VALUE
    query: Select[Any] = (
        select(table.c.number, table.c.metric_id, table.c.step, table.c.value, table.c.nonfinite)
        .where(*where)
        .order_by(table.c.number, table.c.metric_id, table.c.step)
    )
    with connection.execute(query) as result:
        cursor: Any = result.cursor
        while rows := cursor.fetchmany(_ROWS):
            *integers, values, nonfinite = zip(*rows, strict=True)
            numbers, metrics, steps = (np.frombuffer(array("q", part), dtype=np.int64) for part in integers)
            yield numbers, metrics, steps, _floats(values, nonfinite)


def _floats(values: tuple[float | None, ...], words: tuple[str | None, ...]) -> npt.NDArray[np.float64]:
    found = np.array(values, dtype=np.float64)  # None becomes NaN
    for place in np.flatnonzero(np.isnan(found)):
        found[place] = float(words[place] or "nan")
    return found


def _from_server(connection: Connection, where: list[ColumnElement[bool]]) -> Iterator[Values]:
    table = schema.METRIC_VALUE
    value = func.coalesce(table.c.value, cast(table.c.nonfinite, Double))
    epoch = func.int4send(table.c.step).op("||")(func.float8send(value))
    sewn = func.string_agg(epoch, aggregate_order_by(literal(b"", LargeBinary), table.c.step))
    query = (
        select(table.c.number, table.c.metric_id, func.count(), cast(sewn, LargeBinary))
        .where(*where)
        .group_by(table.c.number, table.c.metric_id)
        .order_by(table.c.number, table.c.metric_id)
    )
    for rows in connection.execute(query.execution_options(yield_per=_GROUPS)).partitions():
        numbers, metrics, counts, pieces = zip(*rows, strict=True)
        epochs = np.frombuffer(b"".join(pieces), dtype=_EPOCH)
        yield (
            np.repeat(np.array(numbers, dtype=np.int64), counts),
            np.repeat(np.array(metrics, dtype=np.int64), counts),
            epochs["step"].astype(np.int64),
            epochs["value"].astype(np.float64),
        )
