"""Connections: how SQLite and PostgreSQL are set up, and what a transaction is on each.

SQLite: write-ahead log, so that readers and the one writer do not wait for each other; writing transactions
take the write lock at their beginning (BEGIN IMMEDIATE), because one that starts by reading cannot wait for it.
PostgreSQL: a small pool whose connections are tried before they are used, so that a server that was restarted is
found again; locks are waited for as long as SQLite's is. Reading transactions see one state of the database on both.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Dialect, Engine, QueuePool, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import NoSuchModuleError

from kdsearch.search.trialdb.column_types import to_json
from kdsearch.search.trialdb.engine_errors import translated
from kdsearch.search.trialdb.errors import DatabaseUrlError
from kdsearch.search.trialdb.places import masked, sqlite_path

_WRITES = "kdsearch_writes"


# libpq's settings, unless the URL or the environment say otherwise: a dead network is noticed within half a minute.
_CLIENT = {
    "connect_timeout": 10,  # s
    "keepalives_idle": 10,  # s
    "keepalives_interval": 5,  # s
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # ms
    "application_name": "kdsearch",
}
_FROM_ENVIRONMENT = {"connect_timeout": "PGCONNECT_TIMEOUT", "application_name": "PGAPPNAME"}
# The server's side of the same: what a driver that vanished had locked is free again within a minute or two.
_SESSION = {
    "tcp_keepalives_idle": "30",  # s
    "tcp_keepalives_interval": "10",  # s
    "tcp_keepalives_count": "3",
    "idle_in_transaction_session_timeout": "120s",
}


# The open connections of each engine of a server, by what all its copies share.
_LIVE: weakref.WeakKeyDictionary[Dialect, weakref.WeakSet[Any]] = weakref.WeakKeyDictionary()


def make_engine(url: URL, *, read_only: bool, busy_timeout_s: float) -> Engine:
    """Return an engine for a URL of `places.parse_url`; nothing is opened yet."""
    path = sqlite_path(url)
    if path is None:
        return _postgresql(url, busy_timeout_s)
    return _sqlite(path, read_only=read_only, busy_timeout_s=busy_timeout_s)


def _postgresql(url: URL, busy_timeout_s: float) -> Engine:
    _check_password_file(url)
    try:
        engine = create_engine(
            url,
            pool_size=3,
            max_overflow=2,
            pool_pre_ping=True,
            json_serializer=to_json,
            hide_parameters=True,
            connect_args=_client_settings(url),
        )
    except (ImportError, NoSuchModuleError) as error:
        raise DatabaseUrlError(
            f"{masked(url)} needs the PostgreSQL driver, which is not installed",
            'Install it with: pip install "psycopg[binary]"',
        ) from error
    settings = {**_SESSION, "lock_timeout": f"{max(1, round(busy_timeout_s * 1000))}ms"}
    live = _LIVE[engine.dialect] = weakref.WeakSet[Any]()

    def set_up(raw: Any, record: object) -> None:
        del record
        live.add(raw)
        _set_up_session(raw, settings)

    event.listen(engine, "connect", set_up)
    return engine


def _check_password_file(url: URL) -> None:
    """Refuse a password file that is named and that libpq would pass over."""
    name = url.query.get("passfile") or os.environ.get("PGPASSFILE")
    if url.password is not None or not isinstance(name, str):
        return
    path = Path(name)
    if not path.is_file():
        raise DatabaseUrlError(
            f"{masked(url)}: there is no password file {path}",
            "Its lines are HOST:PORT:DATABASE:USER:PASSWORD; only its owner may read it (chmod 600).",
        )
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise DatabaseUrlError(f"others may read the password file {path}", f"Forbid it: chmod 600 {path}")


def _client_settings(url: URL) -> dict[str, Any]:
    said = {name for name, variable in _FROM_ENVIRONMENT.items() if variable in os.environ} | set(url.query)
    return {
        "client_encoding": "utf8",  # whatever the database's own is
        **{name: value for name, value in _CLIENT.items() if name not in said},
    }


def _set_up_session(raw: Any, settings: Mapping[str, str]) -> None:
    words = ", ".join("set_config(%s, %s, false)" for _ in settings)
    with raw.cursor() as cursor:
        cursor.execute(f"SELECT {words}", [word for pair in settings.items() for word in pair])
    raw.commit()


def _sqlite(path: Path, *, read_only: bool, busy_timeout_s: float) -> Engine:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            _sqlite_uri(path, read_only=read_only),
            uri=True,
            timeout=busy_timeout_s,
            isolation_level=None,  # transactions are begun below
            check_same_thread=False,
        )
        try:
            _set_up_sqlite(connection, read_only=read_only)
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine(
        "sqlite://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=3,
        json_serializer=to_json,
        hide_parameters=True,
    )
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _sqlite_uri(path: Path, *, read_only: bool) -> str:
    mode = "ro" if read_only else "rwc"
    # Reading a write-ahead log needs a shared-memory file. Where none can be made and no log lies, nobody writes.
    alone = read_only and not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
    return f"file:{quote(str(path))}?mode={mode}{'&immutable=1' if alone else ''}"


def _set_up_sqlite(connection: sqlite3.Connection, *, read_only: bool) -> None:
    if not read_only:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "PRAGMA synchronous = NORMAL"
        )  # a power cut may undo the last commits, never damage
        connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA cache_size = -65536")  # KiB
    connection.execute("PRAGMA temp_store = MEMORY")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def writing(engine: Engine, place: str, within_s: float | None = None) -> Iterator[Connection]:
    """Give a connection in a writing transaction; committed at the end, undone by an exception.

    within_s: how long a server may take for all of it; then it counts as one that does not answer. Its own system
    keeps the connection of a server that hangs alive, so that libpq would wait for ever.
    """
    writer = engine.execution_options(**{_WRITES: True})
    with (
        translated(place),
        _deadline(engine, within_s),
        writer.begin() as connection,
    ):
        yield connection


@contextmanager
def _deadline(engine: Engine, within_s: float | None) -> Iterator[None]:
    """Hang up on a server that has not answered by then, whatever it was asked: trying the connection comes first."""
    if within_s is None or engine.dialect not in _LIVE:
        yield
        return
    timer = threading.Timer(within_s, _hang_up, [_LIVE[engine.dialect]])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _hang_up(connections: weakref.WeakSet[Any]) -> None:
    """End connections under whoever waits for them: those of one engine, which all lead to the same server."""
    for connection in list(connections):
        with suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as connected:
            connected.shutdown(socket.SHUT_RDWR)


@contextmanager
def reading(engine: Engine, place: str) -> Iterator[Connection]:
    """Give a connection that sees one state of the database throughout."""
    options: dict[str, Any] = {}
    if engine.dialect.name == "postgresql":
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with translated(place), engine.execution_options(**options).begin() as connection:
        yield connection


def insert_into(connection: Connection, table: Table) -> Any:
    """Return the engine's INSERT, which knows ON CONFLICT (SQLite and PostgreSQL spell it alike)."""
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    return make(table)
