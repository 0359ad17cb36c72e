"""The trial database as the rest of kdsearch sees it: open it, write operations, read records and frames.

Any thread may use one `TrialDatabase`. A driver writes through one `writer.Writer`; workers never connect. Frames
are imported when one is asked for: pandas takes longer to import than a status takes to read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Engine, insert
from sqlalchemy.exc import IntegrityError

from kdsearch.search.trialdb import leases, reads, schema, versions, writes
from kdsearch.search.trialdb import operations as ops
from kdsearch.search.trialdb.column_types import plain, utc_now
from kdsearch.search.trialdb.engines import make_engine, reading, writing
from kdsearch.search.trialdb.errors import (
    DatabaseMissingError,
    DatabaseReadOnlyError,
    SweepNameTakenError,
    TrialDatabaseError,
)
from kdsearch.search.trialdb.leases import Lease
from kdsearch.search.trialdb.places import masked, parse_url, sqlite_path, warn_of_network
from kdsearch.search.trialdb.states import Role, SweepState, TrialState
from kdsearch.search.trialdb.writes import apply_operations
from kdsearch.spaces.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

Clock = Callable[[], datetime]  # aware times

_LONGEST_NAME = 200
_ANSWER_S = 60.0  # in which a server answers for a lease
STALE_AFTER_S = 60.0  # a driver silent for longer can be replaced


class TrialDatabase:
    """An open trial database.

    Every method raises the errors of `trialdb.errors`: DatabaseLockedError, DatabaseUnreachableError and
    DatabaseFullError (all DatabaseAwayError: trying again may help), DatabaseReadOnlyError, RefusedRowsError;
    and UnknownNameError with the known names where a sweep or space is not there. A write is one transaction.
    """

    def __init__(
        self, engine: Engine, place: str, path: Path | None, *, read_only: bool, clock: Clock
    ) -> None:
        self.engine = engine
        self.place = place  # the URL, without password
        self.path = path  # the SQLite file, None for a server
        self.read_only = read_only
        self.clock = clock

    @classmethod
    def open(
        cls,
        url: str,
        *,
        create: bool = True,
        read_only: bool = False,
        clock: Clock = utc_now,
        busy_timeout_s: float = 5.0,
    ) -> Self:
        """Open a database; unless `read_only`, make it (`create`) or bring it to the newest schema.

        url: `sqlite:///PATH` or `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`.
        busy_timeout_s: how long a write waits for another process's before it raises DatabaseLockedError.
        Raises DatabaseUrlError, DatabaseMissingError, NotATrialDatabaseError, DatabaseNewerError,
        DatabaseOlderError (read-only and in need of a migration), DatabaseDamagedError. A file that could not
        be made is not left behind.
        """
        parsed = parse_url(url)
        path, place = sqlite_path(parsed), masked(parsed)
        existed = path is None or path.exists()
        if path is not None:
            _check_path(path, place, create=create and not read_only)
            if not read_only:
                _check_rights(path, place)
            warn_of_network(path)
        engine = make_engine(parsed, read_only=read_only, busy_timeout_s=busy_timeout_s)
        try:
            _bring_up_to_date(engine, place, writable=not read_only, create=create)
        except BaseException:
            engine.dispose()
            if path is not None and not existed:
                _remove(path)
            raise
        return cls(engine, place, path, read_only=read_only, clock=clock)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Writing

    @contextmanager
    def writing(self, within_s: float | None = None) -> Iterator[Connection]:
        """Give a connection in one writing transaction; within_s: how long a server may take for it."""
        if self.read_only:
            raise DatabaseReadOnlyError(f"{self.place} was opened for reading", "Open it without read_only.")
        with writing(self.engine, self.place, within_s) as connection:
            yield connection

    def create_sweep(
        self,
        name: str,
        *,
        kind: str,
        trainable: str,
        settings: Mapping[str, Any],
        seed: int,
        code_version: str,
        environment: Mapping[str, Any],
        events: Sequence[ops.EventRow] = (),
    ) -> None:
        """Add a running sweep, with its first events; SweepNameTakenError if there is one of this name.

        name: 1 to 200 characters; seed: in [0, 2**63); ValueError (UsageError) otherwise.
        """
        values = self._new_sweep(
            name,
            kind=kind,
            trainable=trainable,
            settings=plain(settings),
            seed=seed,
            code_version=code_version,
            environment=plain(environment),
        )
        with self.writing() as connection:
            self._insert_sweep(connection, values)
            apply_operations(connection, [ops.AddEvents(name, tuple(events))])

    def add_whole_sweep(
        self,
        name: str,
        operations: Sequence[ops.Operation],
        *,
        kind: str,
        trainable: str,
        settings: Mapping[str, Any],
        seed: int,
        code_version: str,
        environment: Mapping[str, Any],
    ) -> None:
        """Add a complete sweep with all that it holds, in one transaction; errors as those of `create_sweep`."""
        values = self._new_sweep(
            name,
            kind=kind,
            trainable=trainable,
            settings=plain(settings),
            seed=seed,
            code_version=code_version,
            environment=plain(environment),
        )
        complete = ops.StateChange(state=SweepState.COMPLETE, at=self.clock())
        with self.writing() as connection:
            self._insert_sweep(connection, values)
            apply_operations(connection, [*operations, ops.SetSweepState(name, (complete,))])

    def _new_sweep(self, name: str, *, seed: int, **values: Any) -> dict[str, Any]:
        """The row of a sweep that begins now."""
        if not 1 <= len(name) <= _LONGEST_NAME:
            raise UsageError(f"a sweep's name has 1 to {_LONGEST_NAME} characters, not {len(name)}")
        ops.check_seed(seed)
        state, created = SweepState.RUNNING, self.clock()
        return {"name": name, "seed": seed, "state": state, "created": created, **values}

    def _insert_sweep(self, connection: Connection, values: Mapping[str, Any]) -> None:
        try:
            connection.execute(insert(schema.SWEEP), dict(values))
        except IntegrityError as error:
            name = values["name"]
            raise SweepNameTakenError(
                f"{self.place} already has a sweep {name!r}",
                f"Go on with it: `kdsearch resume {name}`; or give the new one another name or database.",
            ) from error

    def change_sweep(
        self,
        name: str,
        *,
        settings: Mapping[str, Any],
        state: SweepState,
        events: Sequence[ops.EventRow],
        lease: Lease,
    ) -> None:
        """Give a sweep other settings and a state, in one transaction with the events that say so.

        LeaseLostError, and nothing written, if the lease is lost.
        """
        with self.writing() as connection:
            leases.renew(connection, lease, self.clock())
            writes.change_settings(connection, name, plain(settings))
            change = ops.StateChange(state=state, at=self.clock())
            apply_operations(
                connection, [ops.SetSweepState(name, (change,)), ops.AddEvents(name, tuple(events))]
            )

    def apply(
        self,
        operations: Sequence[ops.Operation],
        *,
        lease: Lease | None = None,
        within_s: float | None = None,
    ) -> None:
        """Carry out operations in one transaction.

        With a lease: renew it in the same transaction; LeaseLostError, and nothing written, if it is lost.
        within_s: a server that takes longer counts as one that does not answer.
        """
        with self.writing(within_s) as connection:
            if lease is not None:
                leases.renew(connection, lease, self.clock())
            apply_operations(connection, operations)

    def update_sweep_state(self, sweep: str, state: SweepState) -> None:
        """Set a sweep's state; every one but RUNNING also sets when it ended."""
        self.apply([ops.SetSweepState(sweep, (ops.StateChange(state=state, at=self.clock()),))])

    def add_spaces(self, sweep: str, rows: Sequence[ops.SpaceRow]) -> None:
        """Add design spaces, parents first; known names stay as they are."""
        self.apply([ops.AddSpaces(sweep, tuple(rows))])

    def add_trials(self, sweep: str, rows: Sequence[ops.TrialRow]) -> None:
        """Add waiting trials; known numbers stay as they are."""
        self.apply([ops.AddTrials(sweep, tuple(rows))])

    def add_draws(self, sweep: str, rows: Sequence[ops.DrawRow]) -> None:
        """Add draws, or point known ones at another trial."""
        self.apply([ops.AddDraws(sweep, tuple(rows))])

    def start_attempts(self, sweep: str, rows: Sequence[ops.AttemptStart]) -> None:
        """Set trials running."""
        self.apply([ops.StartAttempts(sweep, tuple(rows))])

    def end_attempts(self, sweep: str, rows: Sequence[ops.AttemptEnd]) -> None:
        """End attempts without a result; their trials wait again."""
        self.apply([ops.EndAttempts(sweep, tuple(rows))])

    def save_checkpoints(self, sweep: str, rows: Sequence[ops.CheckpointRow]) -> None:
        """Note the newest checkpoints of attempts."""
        self.apply([ops.SaveCheckpoints(sweep, tuple(rows))])

    def record_metrics(self, sweep: str, rows: Sequence[ops.MetricRow]) -> None:
        """Record epochs."""
        self.apply([ops.RecordMetrics(sweep, tuple(rows))])

    def record_arrays(self, sweep: str, rows: Sequence[ops.ArrayRow]) -> None:
        """Record named arrays of trials."""
        self.apply([ops.RecordArrays(sweep, tuple(rows))])

    def finish_trials(self, sweep: str, rows: Sequence[ops.ResultRow]) -> None:
        """Give trials their results."""
        self.apply([ops.FinishTrials(sweep, tuple(rows))])

    def add_event(self, sweep: str, kind: str, data: Mapping[str, Any]) -> None:
        """Append an event at the present time."""
        self.apply([ops.AddEvents(sweep, (ops.EventRow(kind=kind, at=self.clock(), data=data),))])

    def mark_running_as_lost(self, sweep: str, reason: str) -> tuple[int, ...]:
        """Give up all running trials of a sweep whose driver is gone; return their numbers."""
        loss = ops.MarkRunningLost(sweep, (ops.Loss(reason=reason, at=self.clock()),))
        with self.writing() as connection:
            running = reads.trials(connection, sweep, states=[TrialState.RUNNING])
            apply_operations(connection, [loss])
        return tuple(trial.number for trial in running)

    # Leases

    def claim(self, sweep: str, *, stale_after_s: float = STALE_AFTER_S) -> Lease:
        """Become the sweep's driver; SweepBusyError while another one is alive.

        A driver counts as gone when its heartbeat is older than `stale_after_s`, or when it ran on this
        machine and its process is no more.
        """
        lease = leases.new_lease(sweep)
        with self.writing(_ANSWER_S) as connection:
            leases.claim(connection, lease, self.clock(), stale_after_s)
        return lease

    def driver_state(self, sweep: str, *, stale_after_s: float = STALE_AFTER_S) -> str:
        """Return "alive", "gone" or "none": how the driver of a sweep is, by its lease."""
        with self.reading() as connection:
            return leases.driver_state(connection, sweep, self.clock(), stale_after_s)

    def heartbeat(self, lease: Lease) -> None:
        """Say that the driver is alive; LeaseLostError if another one has taken over."""
        self.apply([], lease=lease)

    def release(self, lease: Lease) -> None:
        """Give the sweep back."""
        with self.writing(_ANSWER_S) as connection:
            leases.release(connection, lease)

    # Reading

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the database, for several reads that must agree."""
        with reading(self.engine, self.place) as connection:
            yield connection

    def sweeps(self) -> list[reads.Sweep]:
        """Return every sweep, oldest first."""
        with self.reading() as connection:
            return reads.sweeps(connection)

    def sweep(self, name: str) -> reads.Sweep:
        """Return one sweep."""
        with self.reading() as connection:
            return reads.sweep(connection, name)

    def spaces(self, sweep: str) -> list[ops.SpaceRow]:
        """Return a sweep's design spaces, parents before children."""
        with self.reading() as connection:
            return reads.spaces(connection, sweep)

    def trials(self, sweep: str, *, states: Collection[TrialState] | None = None) -> list[reads.Trial]:
        """Return trials by number, all or those in the given states."""
        with self.reading() as connection:
            return reads.trials(connection, sweep, states=states)

    def attempts(self, sweep: str, *, numbers: Sequence[int] | None = None) -> list[reads.Attempt]:
        """Return attempts by trial and n, of all trials or of the given ones."""
        with self.reading() as connection:
            return reads.attempts(connection, sweep, numbers=numbers)

    def events(
        self, sweep: str, *, kinds: Collection[str] | None = None, after: int = -1
    ) -> list[reads.Event]:
        """Return events in the order of writing, those with n > `after` and of the given kinds."""
        with self.reading() as connection:
            return reads.events(connection, sweep, kinds=kinds, after=after)

    def arrays(
        self, sweep: str, *, names: Collection[str] | None = None
    ) -> Mapping[tuple[int, str], npt.NDArray[np.float32]]:
        """Return arrays by (trial number, name), all or those of the given names."""
        with self.reading() as connection:
            return reads.arrays(connection, sweep, names=names)

    def counts_by_state(self, sweep: str, *, role: Role | None = None) -> dict[TrialState, int]:
        """Return how many trials stand in each state."""
        with self.reading() as connection:
            return reads.counts_by_state(connection, sweep, role=role)

    def best_trial(self, sweep: str, *, without: str) -> tuple[int, float] | tuple[None, None]:
        """Return number and error of the search's best complete trial; none of the design `without`."""
        with self.reading() as connection:
            return reads.best_trial(connection, sweep, without=without)

    def trials_frame(self, sweep: str, *, role: Role | None = None) -> pd.DataFrame:
        """Return one row a trial; columns in `frames.trials_frame`."""
        from kdsearch.search.trialdb import frames  # noqa: PLC0415 see above

        with self.reading() as connection:
            return frames.trials_frame(connection, sweep, role=role)

    def draws_frame(self, sweep: str) -> pd.DataFrame:
        """Return one row a draw; columns in `frames.draws_frame`."""
        from kdsearch.search.trialdb import frames  # noqa: PLC0415

        with self.reading() as connection:
            return frames.draws_frame(connection, sweep)

    def curves_frame(
        self, sweep: str, *, trials: Collection[int] | None = None, metrics: Collection[str] | None = None
    ) -> pd.DataFrame:
        """Return curves in long form; columns and filters in `frames.curves_frame`."""
        from kdsearch.search.trialdb import frames  # noqa: PLC0415

        with self.reading() as connection:
            return frames.curves_frame(connection, sweep, trials=trials, metrics=metrics)


def check_place(url: str) -> None:
    """Refuse a place where `TrialDatabase.open` could make or write no database, as far as can be seen from outside.

    Raises DatabaseUrlError, DatabaseMissingError, DatabaseReadOnlyError, TrialDatabaseError. Makes nothing; of a server
    nothing is asked.
    """
    parsed = parse_url(url)
    path, place = sqlite_path(parsed), masked(parsed)
    if path is not None:
        _check_path(path, place, create=True)
        _check_rights(path, place)


def _check_path(path: Path, place: str, *, create: bool) -> None:
    if path.is_dir():
        raise TrialDatabaseError(f"{place} is a folder", "Give the path of a file in it with --db.")
    if not path.parent.is_dir():
        raise DatabaseMissingError(f"{place}: the folder {path.parent} does not exist", "Create it first.")
    if not create and not path.exists():
        raise DatabaseMissingError(
            f"there is no trial database at {place}",
            "Check --db and the current folder; a sweep creates one.",
        )


def _check_rights(path: Path, place: str) -> None:
    """Refuse now what SQLite would refuse at the first write: it opens what it can only read without a word."""
    for needed in (path.parent, path):
        if needed.exists() and not os.access(needed, os.W_OK):
            raise DatabaseReadOnlyError(
                f"{place} cannot be written: no permission to write {needed}",
                "Change the permissions of the file and its folder, or give another place with --db.",
            )


def _bring_up_to_date(engine: Engine, place: str, *, writable: bool, create: bool) -> None:
    if not writable or not create:
        with reading(engine, place) as connection:
            current = versions.revision(connection, place)
            if not writable or current is None:
                versions.check(current, place)
    if writable:
        with writing(engine, place) as connection:
            versions.migrate(connection, place)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
