"""The errors of SQLite, PostgreSQL and their drivers in the words of `errors`.

libpq gives no SQLSTATE for a connection that was refused, only the server's text. It is read in English; in other
languages a refused password is told as a server that does not answer, with the text itself behind it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from kdsearch.search.trialdb.errors import (
    DatabaseDamagedError,
    DatabaseFullError,
    DatabaseLockedError,
    DatabaseMissingError,
    DatabaseReadOnlyError,
    DatabaseUnreachableError,
    DatabaseUrlError,
    NotATrialDatabaseError,
    RefusedRowsError,
    TrialDatabaseError,
)
from kdsearch.spaces.errors import KdsearchError


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Tell the errors of SQLite and PostgreSQL in this module's words; `place` is a masked URL."""
    try:
        yield
    except (IntegrityError, DataError) as error:
        raise _refused(error.orig, place) from error
    except DBAPIError as error:
        told = _told(error.orig, place)
        if told is None:
            raise
        raise told from error
    except StatementError as error:  # a column type refused a value: a naive time, an unknown state
        raise RefusedRowsError(f"{place} refused a value: {error.orig}") from error
    except KdsearchError:
        raise
    except Exception as error:  # of a driver itself, where SQLAlchemy did not stand in between
        if _refuses(error):
            raise _refused(error, place) from error
        told = _told(error, place)
        if told is None:
            raise
        raise told from error


def _refused(error: BaseException | None, place: str) -> RefusedRowsError:
    return RefusedRowsError(
        f"{place} refused rows that contradict it: {error}",
        "A trial must be added before its attempts, metrics, draws and results.",
    )


def _refuses(error: Exception) -> bool:
    """Whether PostgreSQL's driver says that rows are wrong: SQLSTATE classes 22 (data) and 23 (integrity)."""
    return (getattr(error, "sqlstate", None) or "").startswith(("22", "23"))


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


_Told = tuple[type[TrialDatabaseError], str, str]  # error, what is wrong, what to do

_AWAY: Final[_Told] = (
    DatabaseUnreachableError,
    "does not answer",
    "Check that the server runs and that the URL is right.",
)
_REFUSED: Final[_Told] = (
    DatabaseReadOnlyError,
    "refuses this user",
    "Check user and password; it can stand in a file: ?passfile=FILE behind the URL, PGPASSFILE or ~/.pgpass.",
)
_MISSING: Final[_Told] = (
    DatabaseMissingError,
    "does not exist",
    "Create it: `createdb --host HOST --username USER DATABASE`.",
)
_NOT_A_URL: Final[_Told] = (
    DatabaseUrlError,
    "has a setting that libpq refuses",
    "Behind the question mark stand libpq's connection parameters: sslmode, passfile, connect_timeout, service, ...",
)

# By SQLSTATE or its class of two characters (PostgreSQL's appendix of error codes).
_BY_STATE: Final[dict[str, _Told]] = {
    "08": _AWAY,
    "57": (
        DatabaseUnreachableError,
        "has stopped",
        "Start the server again, then `kdsearch resume` the sweep.",
    ),
    "57014": (DatabaseLockedError, "took too long and cancelled this", "Try again."),
    "53300": (DatabaseUnreachableError, "has too many connections", "Close some, or raise max_connections."),
    "53100": (DatabaseFullError, "has a full disk", "Free some space on the server."),
    "53": (DatabaseUnreachableError, "is short of resources", "Look at the server's log."),
    "58": (DatabaseUnreachableError, "has trouble with its files", "Look at the server's log."),
    "25P03": (DatabaseUnreachableError, "gave up on an idle connection", "Try again."),
    "55P03": (DatabaseLockedError, "is locked by another process", "Try again."),
    "40": (DatabaseLockedError, "is locked by another process", "Try again."),
    "3D000": _MISSING,
    "28": _REFUSED,
    "42501": (DatabaseReadOnlyError, "refuses this user", "Grant the user the rights on the database."),
    "25006": (DatabaseReadOnlyError, "is read-only", "Connect to the primary server."),
}

# By what libpq or the server say before there is a connection.
_BY_TEXT: Final[tuple[tuple[str, _Told], ...]] = (
    ("password authentication failed", _REFUSED),
    ("no password supplied", _REFUSED),
    ("no pg_hba.conf entry", _REFUSED),
    ('role "', _REFUSED),
    ('database "', _MISSING),
    ("too many clients", _BY_STATE["53300"]),
    ("too many connections", _BY_STATE["53300"]),
    ("remaining connection slots", _BY_STATE["53300"]),
    ("invalid connection option", _NOT_A_URL),
    ("bad value for", _NOT_A_URL),
    ("invalid value", _NOT_A_URL),
    ("definition of service", _NOT_A_URL),
)
# The driver's own classes for what happens to a connection; its other errors without an SQLSTATE are a program's.
_OF_CONNECTIONS: Final = frozenset({"OperationalError", "InterfaceError"})


def _postgresql_error(error: BaseException, place: str) -> TrialDatabaseError | None:
    state: str = getattr(error, "sqlstate", None) or ""
    said = str(error).strip().partition("\n")[0]
    found = _BY_STATE.get(state) or _BY_STATE.get(state[:2]) or (None if state else _before_it(error, said))
    if found is None:
        return None
    kind, wrong, hint = found
    return kind(f"{place} {wrong}: {said}", hint)


def _before_it(error: BaseException, said: str) -> _Told | None:
    """What went wrong without a word of the server's, or before there was a connection."""
    for text, found in _BY_TEXT:
        if text in said:
            return found
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return _AWAY if kinds & _OF_CONNECTIONS else None
