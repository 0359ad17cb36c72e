"""The one writer of a driver: a thread that batches operations and never makes the search wait.

    submit -> queue -> batch -> database     as long as it takes them
                             -> spool file   once it has been away for `patience_s`; replayed when it is back

Order is kept throughout. What the writer cannot put anywhere is raised at the driver's next `submit` or
`flush`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from kdsearch.search.trialdb import spool
from kdsearch.search.trialdb.database import TrialDatabase
from kdsearch.search.trialdb.errors import (
    DatabaseAwayError,
    DatabaseFullError,
    DatabaseMissingError,
    DatabaseReadOnlyError,
    LeaseLostError,
    RowsSpooledError,
    TrialDatabaseError,
)
from kdsearch.search.trialdb.leases import Lease
from kdsearch.search.trialdb.operations import Operation, row_count
from kdsearch.spaces.errors import KdsearchError

_LOG = logging.getLogger(__name__)
_FIRST_DELAY_S, _LAST_DELAY_S = 0.05, 2.0  # between tries, doubling
# What somebody may put right while the sweep goes on: a server that is away or refuses, a disk that is full.
_TROUBLES = (DatabaseAwayError, DatabaseReadOnlyError, DatabaseMissingError)
_Trouble = DatabaseAwayError | DatabaseReadOnlyError | DatabaseMissingError


@dataclass(frozen=True, kw_only=True)
class WriterStatus:
    """How a writer stands."""

    waiting: int  # operations in the queue
    spooled: int  # operations in the spool file
    spool: Path
    trouble: str | None  # why the database is away, None while it is not


class Hears(Protocol):
    """Who is told where batches went, in the writer's thread and in order; must neither raise nor take long."""

    def stored(self, batch: Sequence[Operation]) -> None:
        """It is in the database."""

    def spooled(self, batch: Sequence[Operation]) -> None:
        """It waits in the spool."""

    def brought_in(self) -> None:
        """All that waited in the spool is in the database."""


class WriterClosedError(TrialDatabaseError):
    """An operation was submitted to a writer that was closed."""


class Writer:
    """Writes a sweep's operations in the background; `submit` returns at once.

    A spool that an earlier driver left is brought in before the constructor returns, so read the sweep's
    state after making the writer. With a lease, the writer keeps it alive and every batch is refused once
    another driver has taken over (LeaseLostError).
    """

    def __init__(
        self,
        database: TrialDatabase,
        sweep: str,
        *,
        lease: Lease | None = None,
        flush_interval_s: float = 0.2,
        batch_rows: int = 20_000,
        patience_s: float = 10.0,
        retry_spool_s: float = 5.0,
        heartbeat_s: float = 5.0,
        answer_s: float = 60.0,
        spool_folder: Path | None = None,
        spool_limit_bytes: int = 2**30,
        hears: Hears | None = None,
    ) -> None:
        """Bring in what an earlier driver spooled, and start.

        patience_s: how long a batch is tried before it is spooled; retry_spool_s: how often the spool is tried then.
        answer_s: a server that takes longer for a batch counts as one that does not answer.
        hears: told in the writer's thread where batches went.
        """
        self._database, self._lease, self._answer_s = database, lease, answer_s
        self._flush_interval_s, self._batch_rows = flush_interval_s, batch_rows
        self._patience_s, self._retry_spool_s, self._heartbeat_s = patience_s, retry_spool_s, heartbeat_s
        self._hears = hears
        self._spool, self._spool_limit_bytes = (
            spool.spool_path(database, sweep, spool_folder),
            spool_limit_bytes,
        )
        self._change = threading.Condition()  # guards everything below
        self._queue: deque[Operation] = deque()
        self._queued_rows = self._submitted = self._stored = self._spooled = 0
        self._flush_to = 0  # write at once until this many operations are stored
        self._closing = False
        self._failure: KdsearchError | None = None
        self._trouble: _Trouble | None = None
        self._last_write = self._last_spool_try = time.monotonic()
        self._owner = spool.Owner(sweep=sweep, created=database.sweep(sweep).created)
        recovered = sum(
            spool.replay(database, path, lease, within_s=answer_s)
            for path in spool.spools(database, self._owner, spool_folder)
        )
        if recovered:
            _LOG.warning("brought %d spooled operations of an earlier run into %s", recovered, database.place)
        self._thread = threading.Thread(target=self._run, name="kdsearch trial database writer", daemon=True)
        self._thread.start()

    # The driver's side

    def submit(self, *operations: Operation) -> None:
        """Queue operations; raises what made the writer give up, WriterClosedError after `close`."""
        rows = sum(row_count(operation) for operation in operations)
        with self._change:
            self._raise_failure()
            if self._closing:
                raise WriterClosedError("the trial database's writer is closed")
            self._queue.extend(operations)
            self._submitted += len(operations)
            self._queued_rows += rows
            if self._queued_rows >= self._batch_rows:
                self._change.notify_all()

    def flush(self) -> None:
        """Wait until all that was submitted is in database or spool; raises what made the writer give up."""
        with self._change:
            self._flush_to = self._submitted
            self._change.notify_all()
            self._change.wait_for(lambda: self._stored >= self._flush_to or self._failure is not None)
            self._raise_failure()

    def close(self) -> None:
        """Flush, try to bring in the spool, and stop; RowsSpooledError if rows wait in it for the next run."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._thread.join()
        with self._change:
            self._raise_failure()
            if self._spooled:
                raise self._left_in_spool()

    def _left_in_spool(self) -> RowsSpooledError:
        why = f"{self._database.place} is away" if self._trouble is None else self._trouble.message
        return RowsSpooledError(
            f"{why}; {self._spooled:,} operations of sweep {self._owner.sweep!r} wait in {self._spool}",
            "Bring the database back, then, on this machine, in this folder and with the same --db, `kdsearch resume "
            f"{self._owner.sweep}`: that brings them in, and nothing is lost.",
        )

    @property
    def status(self) -> WriterStatus:
        """How the writer stands now."""
        with self._change:
            return WriterStatus(
                waiting=self._submitted - self._stored,
                spooled=self._spooled,
                spool=self._spool,
                trouble=None if self._trouble is None else self._trouble.message,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except RowsSpooledError as spooled:
            if error is None:
                raise
            _LOG.warning("%s. %s", spooled.message, spooled.hint)
        except KdsearchError:
            if error is None:  # else the driver's own error says more
                raise
            _LOG.debug("the trial database's writer failed too", exc_info=True)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    # The thread's side

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._work()
            self._end()
        except KdsearchError as error:
            self._give_up(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver must hear of it
            failure = TrialDatabaseError(f"writing to {self._database.place} failed: {error}")
            failure.__cause__ = error
            self._give_up(failure)

    def _give_up(self, error: KdsearchError) -> None:
        with self._change:
            self._failure = error
            self._change.notify_all()

    def _wait_for_work(self) -> bool:
        """Sleep until there is something to write or a while has passed; False once the driver closes."""
        with self._change:
            self._change.wait_for(self._has_urgent_work, timeout=self._flush_interval_s)
            return not self._closing

    def _has_urgent_work(self) -> bool:
        return self._closing or self._queued_rows >= self._batch_rows or self._stored < self._flush_to

    def _work(self) -> None:
        """Write what is queued; else bring in the spool or renew the lease when it is time."""
        now = time.monotonic()
        if self._spooled and now - self._last_spool_try >= self._retry_spool_s:
            self._bring_in_spool()
        while batch := self._take():
            self._store(batch)
        if self._lease is not None and now - self._last_write >= self._heartbeat_s:
            self._renew()

    def _take(self) -> list[Operation]:
        """Take operations from the queue, up to a batch's rows."""
        batch: list[Operation] = []
        rows = 0
        with self._change:
            while self._queue and rows < self._batch_rows:
                batch.append(self._queue.popleft())
                rows += row_count(batch[-1])
            self._queued_rows -= rows
        return batch

    def _store(self, batch: list[Operation]) -> None:
        """Put a batch into the database, or into the spool if that is in use or must be."""
        if self._spooled:
            self._put_aside(batch, self._trouble or DatabaseAwayError(f"{self._database.place} is away"))
        else:
            trouble = self._write_patiently(batch)
            if trouble is not None:
                _LOG.warning("%s; writing to %s until it is back", trouble.message, self._spool)
                self._last_spool_try = time.monotonic()
                self._put_aside(batch, trouble)
            elif self._hears is not None:
                self._hears.stored(batch)
        with self._change:
            self._stored += len(batch)
            self._change.notify_all()

    def _write_patiently(self, batch: list[Operation]) -> _Trouble | None:
        """Write a batch, trying again while the database is away; return the trouble when patience ends."""
        start, delay = time.monotonic(), _FIRST_DELAY_S
        while True:
            try:
                self._write(batch)
            except _TROUBLES as error:
                self._note(error)
                left = start + self._patience_s - time.monotonic()
                if left <= 0 or isinstance(error, DatabaseFullError):
                    return error
                time.sleep(min(delay, left))
                delay = min(2 * delay, _LAST_DELAY_S)
            else:
                self._note(None)
                return None

    def _write(self, batch: list[Operation]) -> None:
        """Write a batch; if the database refuses it, write all before the refused operation."""
        try:
            self._database.apply(batch, lease=self._lease, within_s=self._answer_s)
        except (*_TROUBLES, LeaseLostError):
            raise
        except KdsearchError:
            for operation in batch:
                self._database.apply([operation], lease=self._lease, within_s=self._answer_s)
        self._last_write = time.monotonic()

    def _put_aside(self, batch: list[Operation], trouble: _Trouble) -> None:
        """Spool a batch; if that fails too, raise the database's trouble with what is wrong with the spool."""
        try:
            spool.append(self._spool, batch, self._spool_limit_bytes, self._owner)
        except spool.SpoolFullError as error:
            raise type(trouble)(f"{trouble.message}, and {error.message}", error.hint) from error
        with self._change:
            self._spooled += len(batch)
        if self._hears is not None:
            self._hears.spooled(batch)

    def _bring_in_spool(self) -> None:
        self._last_spool_try = time.monotonic()
        try:
            count = spool.replay(self._database, self._spool, self._lease, within_s=self._answer_s)
        except _TROUBLES as error:
            self._note(error)
            return
        if count < self._spooled:
            self._write([])  # another driver may have brought them in, and have the lease
            raise TrialDatabaseError(
                f"the spool file {self._spool} has lost {self._spooled - count:,} operations: somebody changed it",
                f"Put it back if you can, then `kdsearch resume {self._owner.sweep}`; what is lost is trained again.",
            )
        _LOG.warning("%s is back: brought in %d spooled operations", self._database.place, count)
        self._last_write = time.monotonic()
        with self._change:
            self._spooled, self._trouble = 0, None
        if self._hears is not None:
            self._hears.brought_in()

    def _renew(self) -> None:
        self._last_write = time.monotonic()
        try:
            self._write([])
        except _TROUBLES as error:
            self._note(error)  # batches will tell; the lease may grow old

    def _end(self) -> None:
        while batch := self._take():
            self._store(batch)
        if self._spooled:
            self._bring_in_spool()

    def _note(self, trouble: _Trouble | None) -> None:
        with self._change:
            self._trouble = trouble
