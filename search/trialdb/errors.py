"""What can go wrong with a trial database, and how an engine's own errors are told in these words.

All are `KdsearchError`s with a hint, and all survive pickling. Passwords never reach a message: places are
URLs that were masked by `places.masked`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from kdsearch.spaces.errors import KdsearchError, UsageError


class TrialDatabaseError(KdsearchError):
    """The root of the trial database's errors."""


class DatabaseUrlError(TrialDatabaseError, UsageError):
    """A database URL that is not well formed or names an engine that is not supported."""


class DatabaseMissingError(TrialDatabaseError):
    """There is no database at this place, and none was to be created."""


class NotATrialDatabaseError(TrialDatabaseError):
    """A file or database that is something else."""


class DatabaseDamagedError(TrialDatabaseError):
    """A file that was a database and can no longer be read as one."""


class DatabaseNewerError(TrialDatabaseError):
    """The database was written by a later version of kdsearch."""


class DatabaseOlderError(TrialDatabaseError):
    """The database needs a migration and was opened read-only."""


class DatabaseAwayError(TrialDatabaseError):
    """The database cannot take a write now, but may later: the writer waits, then spools."""


class DatabaseLockedError(DatabaseAwayError):
    """Another process has held the write lock for longer than the waiting time."""


class DatabaseUnreachableError(DatabaseAwayError):
    """The server does not answer, or the file's disk does not."""


class DatabaseFullError(DatabaseAwayError):
    """The disk is full."""


class DatabaseReadOnlyError(TrialDatabaseError):
    """The database or its folder does not permit writing."""


class RefusedRowsError(TrialDatabaseError, ValueError):
    """Rows that contradict the database: of an unknown trial, say, or out of range."""


class SweepNameTakenError(TrialDatabaseError, UsageError):
    """The database already has a sweep of this name."""


class SweepBusyError(TrialDatabaseError):
    """Another driver is at work on the sweep."""

    def __init__(self, sweep: str, host: str, pid: int, age_s: float, stale_after_s: float) -> None:
        self.sweep, self.host, self.pid, self.age_s, self.stale_after_s = (
            sweep,
            host,
            pid,
            age_s,
            stale_after_s,
        )
        super().__init__(
            f"sweep {sweep!r} is being run by process {pid} on host {host!r}, last heard of "
            f"{age_s:.0f} s ago",
            f"Wait for it or stop it there (Ctrl-C); a driver that is silent for {stale_after_s:.0f} s "
            "can be replaced.",
        )

    def __reduce__(self) -> tuple[type[SweepBusyError], tuple[object, ...]]:
        return type(self), (self.sweep, self.host, self.pid, self.age_s, self.stale_after_s)


class LeaseLostError(TrialDatabaseError):
    """A driver that was silent for too long, and whose sweep another one has taken over."""


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Tell the errors of SQLite and PostgreSQL in this module's words; `place` is a masked URL."""
    try:
        yield
    except (IntegrityError, DataError) as error:
        raise RefusedRowsError(
            f"{place} refused rows that contradict it: {error.orig}",
            "A trial must be added before its attempts, metrics, draws and results.",
        ) from error
    except DBAPIError as error:
        told = _told(error.orig, place)
        if told is None:
            raise
        raise told from error
    except StatementError as error:  # a column type refused a value: a naive time, an unknown state
        raise RefusedRowsError(f"{place} refused a value: {error.orig}") from error
    except sqlite3.Error as error:
        told = _told(error, place)
        if told is None:
            raise
        raise told from error


def _told(error: BaseException | None, place: str) -> TrialDatabaseError | None:
    if isinstance(error, sqlite3.Error):
        return _sqlite_error(error, place)
    if error is not None and hasattr(error, "sqlstate"):
        return _postgresql_error(error, place)
    return None


def _sqlite_error(error: sqlite3.Error, place: str) -> TrialDatabaseError | None:  # noqa: PLR0911 - a table
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return DatabaseLockedError(
            f"{place} is locked by another process",
            "Close programs that write to it (an SQLite browser, another kdsearch), then try again.",
        )
    if name == "SQLITE_FULL":
        return DatabaseFullError(
            f"the disk of {place} is full", "Free some space, then `kdsearch resume` the sweep."
        )
    if name.startswith("SQLITE_READONLY"):
        return DatabaseReadOnlyError(
            f"{place} cannot be written: {error}",
            "Check the permissions of the file and its folder, or give another place with --db.",
        )
    if name.startswith("SQLITE_CANTOPEN"):
        return DatabaseReadOnlyError(
            f"{place} cannot be opened: {error}",
            "Check that the folder exists and you may write in it, or give another place with --db.",
        )
    if name == "SQLITE_NOTADB":
        return NotATrialDatabaseError(
            f"{place} is not an SQLite database",
            "Give the path of a trial database, or of a new file, with --db.",
        )
    if name.startswith("SQLITE_CORRUPT"):
        return DatabaseDamagedError(
            f"{place} is damaged: {error}",
            "Copy the file, then try `sqlite3 FILE .recover`; databases on network file systems are at risk.",
        )
    if name.startswith("SQLITE_IOERR"):
        return DatabaseUnreachableError(
            f"the disk of {place} does not answer: {error} ({name})", "Check the disk and its quota."
        )
    return None


# By SQLSTATE or its class of two characters (PostgreSQL's appendix of error codes): error, wrong, what to do.
_POSTGRESQL: dict[str, tuple[type[TrialDatabaseError], str, str]] = {
    "": (
        DatabaseUnreachableError,
        "does not answer",
        "Check that the server runs and that the URL is right.",
    ),
    "08": (
        DatabaseUnreachableError,
        "does not answer",
        "Check that the server runs and that the URL is right.",
    ),
    "57": (
        DatabaseUnreachableError,
        "has stopped",
        "Start the server again, then `kdsearch resume` the sweep.",
    ),
    "53300": (DatabaseUnreachableError, "has too many connections", "Close some, or raise max_connections."),
    "53100": (DatabaseFullError, "has a full disk", "Free some space on the server."),
    "55P03": (DatabaseLockedError, "is locked by another process", "Try again."),
    "40": (DatabaseLockedError, "is locked by another process", "Try again."),
    "3D000": (DatabaseMissingError, "does not exist", "Create it with `createdb`."),
    "28": (DatabaseReadOnlyError, "refuses this user", "Check user and password."),
    "42501": (DatabaseReadOnlyError, "refuses this user", "Grant the user the rights on the database."),
    "25006": (DatabaseReadOnlyError, "is read-only", "Connect to the primary server."),
}


def _postgresql_error(error: BaseException, place: str) -> TrialDatabaseError | None:
    state: str = getattr(error, "sqlstate", None) or ""
    found = _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2])
    if found is None:
        return None
    kind, wrong, hint = found
    said = str(error).strip().partition("\n")[0]
    return kind(f"{place} {wrong}: {said}", hint)
