"""What can go wrong with a trial database.

All are `KdsearchError`s with a hint, and all survive pickling. Passwords never reach a message: places are
URLs that were masked by `places.masked`.
"""

from __future__ import annotations

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


class RowsSpooledError(TrialDatabaseError):
    """A driver that came to its end while the database was away: what it had to write waits in a file."""


class LeaseLostError(TrialDatabaseError):
    """A driver that was silent for too long, and whose sweep another one has taken over."""
