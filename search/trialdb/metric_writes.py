"""Where nearly all rows go: the values of epochs, in batches, as quickly as each engine takes them.

SQLite: one `executemany` of upserts. PostgreSQL: a small batch is one INSERT of arrays; a large one is a COPY straight
into the table, and once more as that INSERT if it holds a row that is there already (an epoch that is trained again, a
batch whose commit was never confirmed). There the values have no foreign keys, which would take three quarters of the
time: that their trials are there is asked once for a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from kdsearch.search.trialdb import operations as ops
from kdsearch.search.trialdb import schema
from kdsearch.search.trialdb.engines import insert_into
from kdsearch.search.trialdb.errors import RefusedRowsError
from kdsearch.search.trialdb.states import TrialState

_CHUNK = 500  # numbers in one IN list
_LONGEST_NAME = 200
_COPY_FROM = 500  # rows from which on COPY is quicker
_COLUMNS = tuple(column.name for column in schema.METRIC_VALUE.c)
_UNIQUE_VIOLATION = "23505"  # SQLSTATE

# A row of metric_value in the order of its columns: sweep, trial, metric, step, attempt, value, nonfinite.
_Row = tuple[int, int, int, int, int, float | None, str | None]

_INSERT_ARRAYS = """
INSERT INTO metric_value (sweep_id, number, metric_id, step, attempt, value, nonfinite)
SELECT * FROM unnest(%s::int4[], %s::int4[], %s::int4[], %s::int4[], %s::int4[], %s::float8[], %s::text[])
ON CONFLICT (sweep_id, number, metric_id, step) DO UPDATE
SET attempt = excluded.attempt, value = excluded.value, nonfinite = excluded.nonfinite
WHERE excluded.attempt >= metric_value.attempt
"""
_COPY = f"COPY metric_value ({', '.join(_COLUMNS)}) FROM STDIN (FORMAT BINARY)"
_TYPES = ("int4", "int4", "int4", "int4", "int4", "float8", "varchar")


def record_metrics(connection: Connection, sweep: int, rows: Sequence[ops.MetricRow]) -> None:
    """Write epochs; a known value gives way unless a newer attempt wrote it."""
    metrics = _metric_ids(connection, {name for row in rows for name in row.values})
    values: list[_Row] = [
        (sweep, row.number, metrics[name], row.step, row.attempt, value + 0.0, None)  # SQLite knows no -0.0
        if math.isfinite(value)
        else (sweep, row.number, metrics[name], row.step, row.attempt, None, str(value))
        for row in rows
        for name, value in row.values.items()
    ]
    if values and connection.dialect.name == "postgresql":
        refuse_unknown_trials(connection, sweep, {row.number for row in rows})
        _write_to_server(connection, _newest(values))
    elif values:
        _upsert(connection, values)
    _note_epochs(connection, sweep, rows)


def _upsert(connection: Connection, values: Sequence[_Row]) -> None:
    """Hand rows straight to SQLite's driver: SQLAlchemy's own handling of parameters would take half of the time."""
    statement = insert_into(connection, schema.METRIC_VALUE)
    new, old = statement.excluded, schema.METRIC_VALUE.c
    statement = statement.on_conflict_do_update(
        index_elements=["sweep_id", "number", "metric_id", "step"],
        set_={"attempt": new.attempt, "value": new.value, "nonfinite": new.nonfinite},
        where=new.attempt >= old.attempt,
    )
    compiled = statement.compile(dialect=connection.dialect, column_keys=list(_COLUMNS))
    connection.exec_driver_sql(str(compiled), list(values))


def _newest(values: Sequence[_Row]) -> list[_Row]:
    """Of rows with one key, that which would be left if they were written one after the other."""
    found: dict[tuple[int, int, int, int], _Row] = {}
    for row in values:
        key = row[:4]
        there = found.get(key)
        if there is None or row[4] >= there[4]:
            found[key] = row
    return list(found.values())


def _write_to_server(connection: Connection, values: Sequence[_Row]) -> None:
    if len(values) >= _COPY_FROM and _copied(connection, values):
        return
    connection.exec_driver_sql(_INSERT_ARRAYS, tuple(list(column) for column in zip(*values, strict=True)))


def _copied(connection: Connection, values: Sequence[_Row]) -> bool:
    """Copy rows into the table; False, and nothing was written, if one of them is there already."""
    driver: Any = connection.connection.driver_connection
    try:
        with connection.begin_nested(), driver.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.set_types(_TYPES)
            for row in values:
                copy.write_row(row)
    except Exception as error:
        if driver.closed:
            connection.invalidate(error)  # or the pool would hand it out again
        if getattr(error, "sqlstate", None) != _UNIQUE_VIOLATION:
            raise
        return False
    return True


def refuse_unknown_trials(connection: Connection, sweep: int, numbers: set[int]) -> None:
    """Raise RefusedRowsError for numbers of trials that are not there, which no foreign key would refuse."""
    trial, unknown, wanted = schema.TRIAL, set(numbers), sorted(numbers)
    for start in range(0, len(wanted), _CHUNK):
        chunk = trial.c.number.in_(wanted[start : start + _CHUNK])
        unknown -= set(
            connection.execute(select(trial.c.number).where(trial.c.sweep_id == sweep, chunk)).scalars()
        )
    if unknown:
        raise RefusedRowsError(
            f"results of trials that were never added: {', '.join(map(str, sorted(unknown)[:10]))}",
            "A trial must be added before its result.",
        )


def _note_epochs(connection: Connection, sweep: int, rows: Iterable[ops.MetricRow]) -> None:
    """Keep each trial's newest epoch beside it, so that progress is seen without reading curves."""
    newest = {(row.number, row.attempt): row.step for row in rows}
    trial = schema.TRIAL
    statement = (
        update(trial)
        .where(
            trial.c.sweep_id == sweep,
            trial.c.number == bindparam("k"),
            trial.c.attempts <= bindparam("a"),
            trial.c.state == TrialState.RUNNING,
        )
        .values(last_epoch=bindparam("step"))
    )
    connection.execute(
        statement, [{"k": number, "a": attempt, "step": step} for (number, attempt), step in newest.items()]
    )


def _metric_ids(connection: Connection, names: set[str]) -> dict[str, int]:
    """Return the keys of metrics, new names included."""
    known = _known_metrics(connection)
    missing = sorted(names - known.keys())
    if not missing:
        return known
    for name in missing:
        if len(name) > _LONGEST_NAME:  # SQLite would take it
            raise RefusedRowsError(
                f"the name of a metric has {len(name)} characters: {name[:40]}...",
                f"Keep it to {_LONGEST_NAME}.",
            )
    connection.execute(
        insert_into(connection, schema.METRIC).on_conflict_do_nothing(index_elements=["name"]),
        [{"name": name} for name in missing],
    )
    return _known_metrics(connection)


def _known_metrics(connection: Connection) -> dict[str, int]:
    table = schema.METRIC
    return dict(connection.execute(select(table.c.name, table.c.id)).all())
