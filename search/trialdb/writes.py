"""Operations as SQL: each is an upsert that can be carried out again without a second effect.

Rows come sorted out by kind (`apply_operations` joins neighbours of one kind), so that a batch of epochs is
one `executemany`. Guards compare attempt numbers: what an overtaken attempt still says never changes a newer
one's rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain, groupby
from typing import Any, cast

from sqlalchemy import Connection, bindparam, func, insert, select, update

from kdsearch.search.trialdb import operations as ops
from kdsearch.search.trialdb import schema
from kdsearch.search.trialdb.arrays import record_arrays
from kdsearch.search.trialdb.engines import insert_into
from kdsearch.search.trialdb.metric_writes import record_metrics, refuse_unknown_trials
from kdsearch.search.trialdb.states import Ending, SweepState, TrialState
from kdsearch.spaces.errors import UnknownNameError

_CHUNK = 500  # numbers in one IN list
_UNFINISHED = (TrialState.WAITING, TrialState.RUNNING, TrialState.PAUSED, TrialState.LOST)


def apply_operations(connection: Connection, operations: Sequence[ops.Operation]) -> None:
    """Carry out operations in their order, in the connection's transaction.

    UnknownNameError for a sweep or space that is not there; RefusedRowsError (through `engine_errors.translated`)
    for rows of unknown trials.
    """
    for (kind, sweep), neighbours in groupby(
        operations, key=lambda operation: (type(operation), operation.sweep)
    ):
        rows = tuple(chain.from_iterable(operation.rows for operation in neighbours))
        if rows:
            _WRITERS[kind](connection, sweep_id(connection, sweep), rows)


def sweep_id(connection: Connection, name: str) -> int:
    """Return a sweep's key; UnknownNameError with the known names if there is none."""
    found = connection.execute(select(schema.SWEEP.c.id).where(schema.SWEEP.c.name == name)).scalar()
    if found is None:
        known = connection.execute(select(schema.SWEEP.c.name).order_by(schema.SWEEP.c.id)).scalars().all()
        raise UnknownNameError("sweep", name, known, where="the trial database")
    return int(found)


def _add_spaces(connection: Connection, sweep: int, rows: Sequence[ops.SpaceRow]) -> None:
    values = [
        {
            "sweep_id": sweep,
            "name": row.name,
            "parent": row.parent,
            "restriction": row.restriction,
            "restriction_data": row.restriction_data,
            "specification": row.specification,
            "hash": row.hash,
            "counts": row.counts,
            "exhaustive": row.exhaustive,
            "repeats": row.repeats,
        }
        for row in rows
    ]
    connection.execute(
        insert_into(connection, schema.DESIGN_SPACE).on_conflict_do_nothing(
            index_elements=["sweep_id", "name"]
        ),
        values,
    )


def _add_trials(connection: Connection, sweep: int, rows: Sequence[ops.TrialRow]) -> None:
    values = [
        {
            "sweep_id": sweep,
            "number": row.number,
            "role": row.role,
            "configuration": row.configuration,
            "configuration_hash": row.configuration_hash,
            "orbit_size": row.orbit_size,
            "seed": row.seed,
            "sampling_design": row.sampling_design,
            "inclusion_probability": row.inclusion_probability,
            "state": TrialState.WAITING,
            "attempts": 0,
            "message": "",
            "created": row.created,
            "plan": row.plan,
        }
        for row in rows
    ]
    connection.execute(
        insert_into(connection, schema.TRIAL).on_conflict_do_nothing(index_elements=["sweep_id", "number"]),
        values,
    )


def _add_draws(connection: Connection, sweep: int, rows: Sequence[ops.DrawRow]) -> None:
    table = schema.DESIGN_SPACE
    found = connection.execute(select(table.c.name, table.c.id).where(table.c.sweep_id == sweep))
    spaces = dict(found.all())
    for row in rows:
        if row.space not in spaces:
            raise UnknownNameError(
                "space", row.space, spaces, where="the sweep's spaces in the trial database"
            )
    values = [
        {
            "space_id": spaces[row.space],
            "draw": row.draw,
            "sweep_id": sweep,
            "number": row.trial,
            "fresh": bool(row.fresh),
        }
        for row in rows
    ]
    statement = insert_into(connection, schema.DRAW)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["space_id", "draw"],
            set_={"number": statement.excluded.number, "fresh": statement.excluded.fresh},
        ),
        values,
    )


def _start_attempts(connection: Connection, sweep: int, rows: Sequence[ops.AttemptStart]) -> None:
    values = [
        {
            "sweep_id": sweep,
            "number": row.number,
            "n": row.n,
            "host": row.host,
            "device": row.device,
            "started": row.at,
        }
        for row in rows
    ]
    connection.execute(
        insert_into(connection, schema.ATTEMPT).on_conflict_do_nothing(
            index_elements=["sweep_id", "number", "n"]
        ),
        values,
    )
    trial = schema.TRIAL
    statement = (
        update(trial)
        .where(trial.c.sweep_id == sweep, trial.c.number == bindparam("k"), trial.c.attempts < bindparam("n"))
        .values(
            state=TrialState.RUNNING,
            attempts=bindparam("n"),
            started=func.coalesce(trial.c.started, bindparam("at", type_=trial.c.started.type)),
            ended=None,
            error=None,
            message="",
        )
    )
    connection.execute(statement, [{"k": row.number, "n": row.n, "at": row.at} for row in rows])


def _end_attempts(connection: Connection, sweep: int, rows: Sequence[ops.AttemptEnd]) -> None:
    values = [
        {"k": row.number, "a": row.n, "at": row.at, "why": row.reason, "how": row.ending} for row in rows
    ]
    connection.execute(_attempt_end(sweep), values)
    for row in rows:
        _set_waiting(connection, sweep, row)


def _set_waiting(connection: Connection, sweep: int, row: ops.AttemptEnd) -> None:
    """Let a trial wait: one that ran for another attempt, one that has not ended for its promotion."""
    trial, paused = schema.TRIAL, row.state is TrialState.PAUSED
    before = _UNFINISHED if paused else (TrialState.RUNNING,)
    told = {"message": row.reason, "ended": None} if paused else {}
    connection.execute(
        update(trial)
        .where(
            trial.c.sweep_id == sweep,
            trial.c.number == row.number,
            trial.c.attempts == row.n,
            trial.c.state.in_(before),
        )
        .values(state=row.state, **told)
    )


def _attempt_end(sweep: int) -> Any:
    """Return the UPDATE that ends attempts which have not ended (parameters k, a, at, why, how)."""
    attempt = schema.ATTEMPT
    return (
        update(attempt)
        .where(
            attempt.c.sweep_id == sweep,
            attempt.c.number == bindparam("k"),
            attempt.c.n == bindparam("a"),
            attempt.c.ended.is_(None),
        )
        .values(ended=bindparam("at"), reason=bindparam("why"), ending=bindparam("how"))
    )


def _save_checkpoints(connection: Connection, sweep: int, rows: Sequence[ops.CheckpointRow]) -> None:
    attempt = schema.ATTEMPT
    statement = (
        update(attempt)
        .where(attempt.c.sweep_id == sweep, attempt.c.number == bindparam("k"), attempt.c.n == bindparam("a"))
        .values(checkpoint=bindparam("path"), checkpoint_epoch=bindparam("epoch"))
    )
    connection.execute(
        statement, [{"k": row.number, "a": row.n, "path": row.path, "epoch": row.epoch} for row in rows]
    )


def _finish_trials(connection: Connection, sweep: int, rows: Sequence[ops.ResultRow]) -> None:
    refuse_unknown_trials(connection, sweep, {row.number for row in rows})
    ends = [
        {
            "k": row.number,
            "a": row.attempt,
            "at": row.at,
            "why": row.state.value,
            "how": Ending.FAILED if row.state is TrialState.FAILED else None,
        }
        for row in rows
    ]
    connection.execute(_attempt_end(sweep), ends)
    trial = schema.TRIAL
    results = ("state", "error", "best_error", "best_epoch", "seconds", "device_seconds", "message", "ended")
    statement = (
        update(trial)
        .where(
            trial.c.sweep_id == sweep, trial.c.number == bindparam("k"), trial.c.attempts <= bindparam("a")
        )
        .values(
            **{name: bindparam(f"r_{name}") for name in results},
            last_epoch=func.coalesce(bindparam("r_last", type_=trial.c.last_epoch.type), trial.c.last_epoch),
        )
    )
    connection.execute(statement, [_result(row) for row in rows])


def _result(row: ops.ResultRow) -> dict[str, Any]:
    return {
        "k": row.number,
        "a": row.attempt,
        "r_state": row.state,
        "r_error": _finite(row.error),
        "r_best_error": _finite(row.best_error),
        "r_best_epoch": row.best_epoch,
        "r_last": row.last_epoch,
        "r_seconds": _finite(row.seconds),
        "r_device_seconds": _finite(row.device_seconds),
        "r_message": row.message,
        "r_ended": row.at,
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value) + 0.0  # SQLite knows no -0.0


def _add_events(connection: Connection, sweep: int, rows: Sequence[ops.EventRow]) -> None:
    table = schema.EVENT
    unique = {row.key: row for row in rows}
    keys = list(unique)
    for start in range(0, len(keys), _CHUNK):
        known = connection.execute(select(table.c.key).where(table.c.key.in_(keys[start : start + _CHUNK])))
        for key in known.scalars():
            del unique[key]
    if not unique:
        return
    last = connection.execute(select(func.max(table.c.n)).where(table.c.sweep_id == sweep)).scalar()
    first = 0 if last is None else last + 1
    values = [
        {"sweep_id": sweep, "n": n, "key": row.key, "at": row.at, "kind": row.kind, "data": row.data}
        for n, row in enumerate(unique.values(), first)
    ]
    connection.execute(insert(table), values)


def _set_sweep_state(connection: Connection, sweep: int, rows: Sequence[ops.StateChange]) -> None:
    change = rows[-1]
    table = schema.SWEEP
    ended = None if change.state is SweepState.RUNNING else change.at
    connection.execute(update(table).where(table.c.id == sweep).values(state=change.state, ended=ended))


def change_settings(connection: Connection, sweep: str, settings: Any) -> None:
    """Put other settings, plain JSON values, in the place of a sweep's."""
    table = schema.SWEEP
    connection.execute(
        update(table).where(table.c.id == sweep_id(connection, sweep)).values(settings=settings)
    )


def _mark_running_lost(connection: Connection, sweep: int, rows: Sequence[ops.Loss]) -> None:
    trial = schema.TRIAL
    loss = rows[0]
    lost = connection.execute(
        select(trial.c.number, trial.c.attempts).where(
            trial.c.sweep_id == sweep, trial.c.state == TrialState.RUNNING
        )
    ).all()
    if not lost:
        return
    reason = loss.reason
    connection.execute(
        _attempt_end(sweep),
        [{"k": number, "a": n, "at": loss.at, "why": reason, "how": Ending.LOST} for number, n in lost],
    )
    connection.execute(
        update(trial)
        .where(trial.c.sweep_id == sweep, trial.c.state == TrialState.RUNNING)
        .values(state=TrialState.LOST, message=reason, ended=loss.at)
    )


_WRITERS = cast(
    "dict[type[ops.Operation], Callable[[Connection, int, Sequence[Any]], None]]",
    {
        ops.AddSpaces: _add_spaces,
        ops.AddTrials: _add_trials,
        ops.AddDraws: _add_draws,
        ops.StartAttempts: _start_attempts,
        ops.EndAttempts: _end_attempts,
        ops.SaveCheckpoints: _save_checkpoints,
        ops.RecordMetrics: record_metrics,
        ops.RecordArrays: record_arrays,
        ops.FinishTrials: _finish_trials,
        ops.AddEvents: _add_events,
        ops.SetSweepState: _set_sweep_state,
        ops.MarkRunningLost: _mark_running_lost,
    },
)
