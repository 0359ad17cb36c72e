"""Which revision of the schema a database has, and bringing it to the newest.

New databases are made by the same migrations. A migration is one transaction: it is carried out or it is not.
Alembic is imported where there is something to migrate, which is seldom.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from kdsearch.search.trialdb.errors import (
    DatabaseMissingError,
    DatabaseNewerError,
    DatabaseOlderError,
    NotATrialDatabaseError,
    TrialDatabaseError,
)
from kdsearch.search.trialdb.schema import METADATA, REVISION, VERSION_TABLE

if TYPE_CHECKING:
    from alembic.config import Config

_LOCK = 0x6B64736561726368  # "kdsearch": PostgreSQL's key for the one who migrates


def alembic_config() -> Config:
    """Return Alembic's settings; the migrations are found beside this module, also in an installed wheel."""
    from alembic.config import Config  # noqa: PLC0415 see above

    config = Config()
    folder = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def check(found: str | None, place: str) -> None:
    """Raise unless a database's revision is the newest: DatabaseMissingError (None), -NewerError, -OlderError."""
    if found == REVISION:
        return
    if found is None:
        raise DatabaseMissingError(
            f"{place} is empty: it holds no sweeps", "Check --db and the current folder; a sweep creates one."
        )
    _refuse_newer(found, place)
    raise DatabaseOlderError(
        f"{place} was written by an earlier kdsearch (revision {found}; this one reads {REVISION})",
        "It is brought up to date when it is opened for writing: `kdsearch status`, by a user who may write it.",
    )


def migrate(connection: Connection, place: str) -> None:
    """Bring an empty or older database to the newest revision, in the connection's writing transaction.

    NotATrialDatabaseError if another program's tables are there, DatabaseNewerError if a later
    kdsearch wrote it.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    found = revision(connection, place)
    if found == REVISION:
        return
    if found is not None:
        _refuse_newer(found, place)
    elif connection.dialect.name == "postgresql":
        _refuse_other_encodings(connection, place)
    from alembic import command  # noqa: PLC0415

    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _refuse_other_encodings(connection: Connection, place: str) -> None:
    encoding = connection.execute(text("SHOW server_encoding")).scalar()
    if encoding != "UTF8":
        raise TrialDatabaseError(
            f"{place} keeps text as {encoding}, which does not know every character",
            "Create one with: createdb --template template0 --encoding UTF8 DATABASE",
        )


def revision(connection: Connection, place: str) -> str | None:
    """Return the database's revision, None if it is empty; NotATrialDatabaseError if it is another program's."""
    tables = set(inspect(connection).get_table_names())
    if VERSION_TABLE not in tables:
        # A server's database may be shared with other programs, a file may not.
        foreign = tables if connection.dialect.name == "sqlite" else tables & set(METADATA.tables)
        if foreign:
            raise NotATrialDatabaseError(
                f"{place} belongs to another program (tables: {', '.join(sorted(foreign)[:5])})",
                "Give the place of a trial database, or a new one, with --db.",
            )
        return None
    revision = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
    return None if revision is None else str(revision)


def _refuse_newer(found: str, place: str) -> None:
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    known = {script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    if found not in known:
        raise DatabaseNewerError(
            f"{place} was written by a later kdsearch (revision {found}; this one knows up to {REVISION})",
            "Update kdsearch (pip install --upgrade kdsearch), or give another database with --db.",
        )
