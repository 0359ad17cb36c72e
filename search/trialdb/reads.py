"""What can be read from a trial database as records: one frozen dataclass for each kind of row."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, func, select

from kdsearch.search.trialdb import schema
from kdsearch.search.trialdb.arrays import unpack
from kdsearch.search.trialdb.operations import SpaceRow
from kdsearch.search.trialdb.states import Ending, Role, SweepState, TrialState
from kdsearch.search.trialdb.writes import sweep_id


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep as it stands."""

    name: str
    kind: str  # refine or sweep
    trainable: str
    settings: Mapping[str, Any]  # the resolved sweep file
    seed: int
    code_version: str
    environment: Mapping[str, Any]
    state: SweepState
    created: datetime
    ended: datetime | None
    driver_host: str | None  # None: no driver has claimed it
    driver_pid: int | None
    heartbeat: datetime | None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial as it stands, with what is needed to go on with it."""

    number: int
    role: Role
    configuration: Mapping[str, str | int | float | bool]  # canonical
    configuration_hash: str
    orbit_size: int
    seed: int
    sampling_design: str
    inclusion_probability: float | None
    state: TrialState
    attempts: int
    error: float | None  # per cent
    best_error: float | None
    best_epoch: int | None
    last_epoch: int | None
    seconds: float | None
    device_seconds: float | None
    message: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    plan: Mapping[str, Any] | None = None  # what its searcher told it beside the configuration


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at a trial."""

    number: int
    n: int  # counts from 1
    host: str
    device: str
    started: datetime
    ended: datetime | None
    reason: str | None
    ending: Ending | None
    checkpoint: str | None  # path or URL
    checkpoint_epoch: int | None


@dataclass(frozen=True, kw_only=True)
class Event:
    """A decision or note, in the order of writing."""

    n: int
    at: datetime
    kind: str
    data: Mapping[str, Any]


def sweeps(connection: Connection) -> list[Sweep]:
    """Return every sweep, oldest first."""
    return [_sweep(row) for row in connection.execute(select(schema.SWEEP).order_by(schema.SWEEP.c.id))]


def sweep(connection: Connection, name: str) -> Sweep:
    """Return a sweep; UnknownNameError with the known names if there is none."""
    key = sweep_id(connection, name)
    return _sweep(connection.execute(select(schema.SWEEP).where(schema.SWEEP.c.id == key)).one())


def _sweep(row: Any) -> Sweep:
    return Sweep(
        name=row.name,
        kind=row.kind,
        trainable=row.trainable,
        settings=row.settings,
        seed=row.seed,
        code_version=row.code_version,
        environment=row.environment,
        state=row.state,
        created=row.created,
        ended=row.ended,
        driver_host=row.lease_host,
        driver_pid=row.lease_pid,
        heartbeat=row.lease_heartbeat,
    )


def spaces(connection: Connection, name: str) -> list[SpaceRow]:
    """Return a sweep's design spaces in the order of adding (parents before children)."""
    table = schema.DESIGN_SPACE
    found = connection.execute(
        select(table).where(table.c.sweep_id == sweep_id(connection, name)).order_by(table.c.id)
    )
    return [
        SpaceRow(
            name=row.name,
            specification=row.specification,
            hash=row.hash,
            counts=row.counts,
            parent=row.parent,
            restriction=row.restriction,
            restriction_data=row.restriction_data,
            exhaustive=row.exhaustive,
            repeats=row.repeats,
        )
        for row in found
    ]


def trials(connection: Connection, name: str, *, states: Collection[TrialState] | None = None) -> list[Trial]:
    """Return a sweep's trials by number; `states` keeps only those that stand so."""
    table = schema.TRIAL
    columns = [column for column in table.c if column.name != "sweep_id"]
    query = select(*columns).where(table.c.sweep_id == sweep_id(connection, name)).order_by(table.c.number)
    if states is not None:
        query = query.where(table.c.state.in_(list(states)))
    return [Trial(**row) for row in connection.execute(query).mappings()]


def attempts(connection: Connection, name: str, *, numbers: Sequence[int] | None = None) -> list[Attempt]:
    """Return attempts by trial number and n; `numbers` keeps only those trials'."""
    table = schema.ATTEMPT
    columns = [column for column in table.c if column.name != "sweep_id"]
    query = select(*columns).where(table.c.sweep_id == sweep_id(connection, name))
    found = [
        Attempt(**row) for row in connection.execute(query.order_by(table.c.number, table.c.n)).mappings()
    ]
    wanted = None if numbers is None else set(numbers)
    return [attempt for attempt in found if wanted is None or attempt.number in wanted]


def events(
    connection: Connection, name: str, *, kinds: Collection[str] | None = None, after: int = -1
) -> list[Event]:
    """Return a sweep's events in the order of writing, with n > `after`; `kinds` keeps only these."""
    table = schema.EVENT
    query = select(table.c.n, table.c.at, table.c.kind, table.c.data).where(
        table.c.sweep_id == sweep_id(connection, name), table.c.n > after
    )
    if kinds is not None:
        query = query.where(table.c.kind.in_(list(kinds)))
    return [Event(**row) for row in connection.execute(query.order_by(table.c.n)).mappings()]


def arrays(
    connection: Connection, name: str, *, names: Collection[str] | None = None
) -> dict[tuple[int, str], npt.NDArray[np.float32]]:
    """Return a sweep's arrays by (trial number, name), in that order; `names` keeps only these."""
    table = schema.TRIAL_ARRAY
    query = (
        select(table.c.number, table.c.name, table.c.dtype, table.c.shape, table.c.data)
        .where(table.c.sweep_id == sweep_id(connection, name))
        .order_by(table.c.number, table.c.name)
    )
    if names is not None:
        query = query.where(table.c.name.in_(list(names)))
    return {
        (row.number, row.name): unpack(row.dtype, row.shape, bytes(row.data))
        for row in connection.execute(query)
    }


def best_trial(connection: Connection, name: str, *, without: str) -> tuple[int, float] | tuple[None, None]:
    """Return number and error of a search's best complete trial, of equal ones the first; none of a design."""
    table = schema.TRIAL
    query = (
        select(table.c.number, table.c.error)
        .where(
            table.c.sweep_id == sweep_id(connection, name),
            table.c.state == TrialState.COMPLETE,
            table.c.role == Role.SEARCH,
            table.c.sampling_design != without,
            table.c.error.is_not(None),
        )
        .order_by(table.c.error, table.c.number)
        .limit(1)
    )
    found = connection.execute(query).one_or_none()
    return (None, None) if found is None else (found.number, found.error)


def counts_by_state(connection: Connection, name: str, *, role: Role | None = None) -> dict[TrialState, int]:
    """Return how many trials stand in each state; every state has an entry."""
    table = schema.TRIAL
    query = select(table.c.state, func.count()).where(table.c.sweep_id == sweep_id(connection, name))
    if role is not None:
        query = query.where(table.c.role == role)
    found: dict[TrialState, int] = dict(connection.execute(query.group_by(table.c.state)).all())
    return {state: int(found.get(state, 0)) for state in TrialState}
