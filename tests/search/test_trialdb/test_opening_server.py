"""Opening databases on PostgreSQL: what is made, brought up to date, refused, and how it is said."""

from __future__ import annotations

import pickle
import sqlite3
import threading
from pathlib import Path

import pytest
from alembic import command, op
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, insert, text

from kdsearch.search.trialdb import TrialDatabase, places, read_record, schema, versions
from kdsearch.search.trialdb.engine_errors import _told
from kdsearch.search.trialdb.errors import (
    DatabaseMissingError,
    DatabaseNewerError,
    DatabaseOlderError,
    DatabaseReadOnlyError,
    DatabaseUnreachableError,
    DatabaseUrlError,
    NotATrialDatabaseError,
    TrialDatabaseError,
)
from kdsearch.search.trialdb.schema import METADATA, REVISION, VERSION_TABLE

KEPT = Path(__file__).parent / "kept"
REVISIONS = sorted(path.stem for path in KEPT.glob("*.sql"))

# Everything that a schema is made of, whatever the order of its columns.
SCHEMA = """
SELECT 'column', table_name, column_name, format('%s %s %s %s', data_type, character_maximum_length, is_nullable,
       column_default)
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
"""


def opening(url: str, kind: type[TrialDatabaseError], **options) -> TrialDatabaseError:
    """Open in vain; the error has a hint and survives pickling."""
    with pytest.raises(kind) as caught:
        TrialDatabase.open(url, **options)
    assert caught.value.hint
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (type(caught.value), str(caught.value))
    return caught.value


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


def made_here(item, name, kind, reflected, other) -> bool:
    """Alembic's comparison does not know that a constraint is made on one engine alone."""
    return kind != "foreign_key_constraint" or item.table.name != "metric_value"


def engine_of(url: str):
    return create_engine(places.parse_url(url))


def migrate_to(url: str, revision: str, direction=command.upgrade) -> None:
    engine = engine_of(url)
    with engine.begin() as connection:
        config = versions.alembic_config()
        config.attributes["connection"] = connection
        direction(config, revision)
    engine.dispose()


def kept(url: str, revision: str) -> None:
    """Make a database as the program of an earlier revision left it: its migrations, and the rows of the kept file."""
    migrate_to(url, revision)
    old = sqlite3.connect(":memory:")
    old.row_factory = sqlite3.Row
    old.executescript((KEPT / f"{revision}.sql").read_text())
    file = create_engine("sqlite://", creator=lambda: old, poolclass=None)
    there, engine = MetaData(), engine_of(url)
    there.reflect(engine)
    with engine.begin() as connection:
        for table in there.sorted_tables:
            rows = [dict(row) for row in old.execute(f"SELECT * FROM {table.name}")]  # noqa: S608
            if table.name != VERSION_TABLE and rows:
                _fill(connection, table, rows)
    engine.dispose()
    file.dispose()


def _fill(connection, table, rows) -> None:
    kinds = {column.name: str(column.type) for column in table.columns}
    casts = [
        f"CAST(:{name} AS {kind})"
        if kind in {"BOOLEAN", "JSON"}
        else f"CAST(:{name} AS TIMESTAMP) AT TIME ZONE 'UTC'"
        if kind == "TIMESTAMP"
        else f":{name}"
        for name, kind in kinds.items()
    ]
    told = [{k: bool(v) if kinds[k] == "BOOLEAN" else v for k, v in row.items()} for row in rows]
    names = ", ".join(f'"{name}"' for name in kinds)
    connection.execute(text(f'INSERT INTO "{table.name}" ({names}) VALUES ({", ".join(casts)})'), told)  # noqa: S608
    if "id" in kinds:
        connection.execute(
            text(
                f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), max(id)) FROM {table.name}"  # noqa: S608
            )
        )


# Made and brought up to date


def test_the_migrations_make_the_tables_of_the_schema_to_the_letter(postgresql, postgresql_url):
    TrialDatabase.open(postgresql_url).close()
    other = postgresql.new_database()
    engine = engine_of(postgresql.url(other))
    METADATA.create_all(engine)
    engine.dispose()
    migrated = {row for row in postgresql.execute(SCHEMA, name_of(postgresql_url)) if row[1] != VERSION_TABLE}
    assert migrated == set(postgresql.execute(SCHEMA, other))
    assert len(migrated) > 100
    postgresql.drop(other)


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_older_database_is_brought_up_to_date_like_a_file(
    revision, postgresql_url, tmp_path, dump, make, clock
):
    kept(postgresql_url, revision)
    opening(postgresql_url, DatabaseOlderError, read_only=True)
    file = tmp_path / "a.db"
    connection = sqlite3.connect(file)
    connection.executescript((KEPT / f"{revision}.sql").read_text())
    connection.close()
    with TrialDatabase.open(f"sqlite:///{file}") as one, TrialDatabase.open(postgresql_url) as other:
        assert dump(other) == dump(one)
        assert read_record(other, "ktg-digits").notes == read_record(one, "ktg-digits").notes
        with other.reading() as connection:
            options = {"version_table": VERSION_TABLE, "compare_type": True, "include_object": made_here}
            context = MigrationContext.configure(connection, opts=options)
            assert compare_metadata(context, METADATA) == []
        other.start_attempts("ktg-digits", [make.start(3, n=2)])  # it goes on
        other.add_trials("ktg-digits", [make.trial(5)])
        other.record_metrics("ktg-digits", [make.epoch(5, 1, new=1.0)])


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_migration_can_be_taken_back_to_the_letter(postgresql, postgresql_url, revision):
    kept(postgresql_url, revision)
    name = name_of(postgresql_url)
    before = set(postgresql.execute(SCHEMA, name))
    rows = postgresql.execute("SELECT * FROM trial ORDER BY number", name)
    TrialDatabase.open(postgresql_url).close()
    assert set(postgresql.execute(SCHEMA, name)) != before
    migrate_to(postgresql_url, revision, command.downgrade)
    assert set(postgresql.execute(SCHEMA, name)) == before
    assert postgresql.execute("SELECT * FROM trial ORDER BY number", name) == rows


def test_a_migration_that_is_cut_short_leaves_the_database_as_it_was(postgresql, postgresql_url, monkeypatch):
    kept(postgresql_url, "0001")
    before = set(postgresql.execute(SCHEMA, name_of(postgresql_url)))
    monkeypatch.setattr(op, "create_table", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        TrialDatabase.open(postgresql_url)
    monkeypatch.undo()
    assert set(postgresql.execute(SCHEMA, name_of(postgresql_url))) == before
    TrialDatabase.open(postgresql_url).close()


def test_programs_that_start_together_make_one_database(postgresql_url):
    errors = []

    def begin():
        try:
            TrialDatabase.open(postgresql_url, busy_timeout_s=60).close()
        except Exception as error:  # noqa: BLE001 told by the test
            errors.append(error)

    threads = [threading.Thread(target=begin) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_nothing_is_made_where_nothing_was_to_be(postgresql, postgresql_url):
    for options in ({"create": False}, {"read_only": True}):
        assert "is empty" in opening(postgresql_url, DatabaseMissingError, **options).message
    assert postgresql.execute(SCHEMA, name_of(postgresql_url)) == []


def test_tables_of_other_programs_may_stand_beside_ours_unless_they_have_our_names(
    postgresql, postgresql_url
):
    name = name_of(postgresql_url)
    postgresql.execute("CREATE TABLE studies (a integer)", name)
    TrialDatabase.open(postgresql_url).close()
    other = postgresql.new_database()
    postgresql.execute("CREATE TABLE trial (a integer)", other)
    assert "belongs to another program (tables: trial)" in (
        opening(postgresql.url(other), NotATrialDatabaseError).message
    )
    postgresql.drop(other)


def test_a_database_of_a_later_version_is_refused(postgresql, postgresql_url):
    TrialDatabase.open(postgresql_url).close()
    postgresql.execute("UPDATE kdsearch_version SET version_num = '9999'", name_of(postgresql_url))
    for options in ({}, {"create": False}, {"read_only": True}):
        message = opening(postgresql_url, DatabaseNewerError, **options).message
        assert f"later kdsearch (revision 9999; this one knows up to {REVISION})" in message


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_does_not_know_every_character_is_refused(postgresql, encoding):
    postgresql.execute(f"CREATE DATABASE odd TEMPLATE template0 ENCODING '{encoding}'")
    error = opening(postgresql.url("odd"), TrialDatabaseError)
    assert f"keeps text as {encoding}" in error.message
    assert "--encoding UTF8" in error.hint
    postgresql.drop("odd")


# Users


def test_a_user_who_may_only_read_can_read(postgresql, postgresql_url, new_sweep, make):
    name = name_of(postgresql_url)
    with TrialDatabase.open(postgresql_url) as database:
        new_sweep(database)
    for word in ("DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN PASSWORD 'r'"):
        postgresql.execute(word)
    postgresql.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", name)
    url = postgresql_url.replace(f"kdsearch:{postgresql.password}", "reader:r")
    with TrialDatabase.open(url, read_only=True) as reader:
        assert [sweep.name for sweep in reader.sweeps()] == ["s"]
        assert reader.driver_state("s") == "none"
    with (
        TrialDatabase.open(url) as reader,
        pytest.raises(DatabaseReadOnlyError, match="refuses this user"),
    ):
        reader.add_trials("s", [make.trial(0)])
    empty = postgresql.new_database()
    opening(url.replace(name, empty), DatabaseReadOnlyError)
    postgresql.execute("DROP OWNED BY reader", name)
    postgresql.execute("DROP ROLE reader")
    postgresql.drop(empty)


def without_password(postgresql, url: str) -> str:
    return url.replace(f":{postgresql.password}", "")


def test_what_is_wrong_with_a_url_is_told_without_its_password(postgresql, postgresql_url):
    cases = [
        (postgresql_url.replace(postgresql.password, "s3cret"), DatabaseReadOnlyError, "refuses this user"),
        (without_password(postgresql, postgresql_url), DatabaseReadOnlyError, "no password supplied"),
        (postgresql.url("nowhere"), DatabaseMissingError, "does not exist"),
        (postgresql.url(port=1), DatabaseUnreachableError, "does not answer"),
        (
            postgresql_url.replace("127.0.0.1", "nowhere.invalid"),
            DatabaseUnreachableError,
            "nowhere.invalid",
        ),
        (f"{postgresql_url}?connect_timout=3", DatabaseUrlError, "connect_timout"),
        (f"{postgresql_url}?connect_timeout=soon", DatabaseUrlError, "connect_timeout"),
    ]
    for url, kind, said in cases:
        error = opening(url, kind)
        assert said in error.message
        assert "s3cret" not in str(error)
        assert postgresql.password not in str(error)


def test_passwords_come_from_files_and_the_environment(postgresql, postgresql_url, tmp_path, monkeypatch):
    url, name = without_password(postgresql, postgresql_url), name_of(postgresql_url)
    file = tmp_path / "pass word"
    file.write_text(f"127.0.0.1:{postgresql.port}:{name}:kdsearch:{postgresql.password}\n")
    file.chmod(0o600)

    def opens(text: str) -> None:
        TrialDatabase.open(text).close()

    opens(f"{url}?passfile={file}")
    with monkeypatch.context() as environment:
        environment.setenv("PGPASSFILE", str(file))
        opens(url)
        service = f"[kd]\nhost=127.0.0.1\nport={postgresql.port}\nuser=kdsearch\ndbname={name}\n"
        (tmp_path / "services").write_text(service)
        environment.setenv("PGSERVICEFILE", str(tmp_path / "services"))
        opens("postgresql://?service=kd")
        environment.setenv("PGSERVICE", "kd")
        opens("postgresql://")
    with monkeypatch.context() as environment:
        environment.setenv("PGPASSWORD", postgresql.password)
        opens(url)
    with monkeypatch.context() as environment:
        environment.setenv("PGHOST", "127.0.0.1")
        environment.setenv("PGPORT", str(postgresql.port))
        environment.setenv("PGUSER", "kdsearch")
        opens(f"postgresql:///{name}?passfile={file}")
    file.chmod(0o644)
    assert "others may read the password file" in opening(f"{url}?passfile={file}", DatabaseUrlError).message
    file.unlink()
    assert "there is no password file" in opening(f"{url}?passfile={file}", DatabaseUrlError).message


# Settings


def test_settings_of_the_session(postgresql_url, monkeypatch):
    shown = (
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "client_encoding",
        "application_name",
        "transaction_isolation",
        "transaction_read_only",
    )
    with TrialDatabase.open(postgresql_url, busy_timeout_s=3.5) as database:
        with database.writing() as connection:
            found = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in shown]
        assert found == ["3500ms", "2min", "UTF8", "kdsearch", "read committed", "off"]
        with database.reading() as connection:
            found = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in shown[-2:]]
        assert found == ["repeatable read", "on"]
    monkeypatch.setenv("PGAPPNAME", "mine")
    with (
        TrialDatabase.open(f"{postgresql_url}?connect_timeout=3") as database,
        database.reading() as connection,
    ):
        assert connection.exec_driver_sql("SHOW application_name").scalar() == "mine"
        assert connection.connection.driver_connection.info.get_parameters()["connect_timeout"] == "3"


def test_errors_of_a_program_are_no_trouble_of_the_server():
    import psycopg

    assert _told(psycopg.ProgrammingError("the query has 1 placeholder"), "p") is None
    assert isinstance(_told(psycopg.OperationalError("connection lost"), "p"), DatabaseUnreachableError)
    assert isinstance(
        _told(psycopg.InterfaceError("the connection is closed"), "p"), DatabaseUnreachableError
    )


def test_an_insert_of_the_schema_stays_in_use(postgresql_url, new_sweep):
    """The keys that the server counts go on behind rows that were there before."""
    kept(postgresql_url, REVISIONS[-1])
    with TrialDatabase.open(postgresql_url) as database:
        new_sweep(database, "later")
        assert [sweep.name for sweep in database.sweeps()][-1] == "later"
        with database.writing() as connection:
            connection.execute(insert(schema.METRIC).values(name="later"))
