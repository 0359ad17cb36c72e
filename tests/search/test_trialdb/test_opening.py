"""Opening databases: what is made, what is refused and how it is said."""

from __future__ import annotations

import math
import os
import pickle
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command, op
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, make_url

from kdsearch.search.trialdb import TrialDatabase, places, read_record, schema, versions
from kdsearch.search.trialdb.engine_errors import _told
from kdsearch.search.trialdb.engines import _sqlite_uri
from kdsearch.search.trialdb.errors import (
    DatabaseAwayError,
    DatabaseDamagedError,
    DatabaseFullError,
    DatabaseLockedError,
    DatabaseMissingError,
    DatabaseNewerError,
    DatabaseOlderError,
    DatabaseReadOnlyError,
    DatabaseUnreachableError,
    DatabaseUrlError,
    NotATrialDatabaseError,
    RefusedRowsError,
    TrialDatabaseError,
)
from kdsearch.search.trialdb.schema import METADATA, REVISION
from kdsearch.spaces.errors import KdsearchError

KEPT = Path(__file__).parent / "kept"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my 100% trials.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


def refusal(url: str, kind: type[KdsearchError], **options) -> KdsearchError:
    """Open in vain; the error has a hint and survives pickling."""
    with pytest.raises(kind) as caught:
        TrialDatabase.open(url, **options)
    assert caught.value.hint
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (type(caught.value), str(caught.value))
    return caught.value


def test_a_new_file_is_made_by_the_migrations_and_equals_the_schema_to_the_letter(url, path, tmp_path):
    TrialDatabase.open(url).close()
    other = create_engine(f"sqlite:///{tmp_path / 'models.db'}")
    METADATA.create_all(other)
    other.dispose()

    def statements(file: Path) -> dict[str, str]:
        connection = sqlite3.connect(file)
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        connection.close()
        return {name: "".join(sorted(sql.replace("\t", "").replace("\n", ""))) for name, sql in found}

    migrated = statements(path)
    migrated.pop("kdsearch_version")
    assert migrated == statements(tmp_path / "models.db")


def test_the_newest_migration_is_the_one_the_program_names():
    assert ScriptDirectory.from_config(versions.alembic_config()).get_current_head() == REVISION


def test_settings_of_the_connection(url):
    with TrialDatabase.open(url, busy_timeout_s=3.5) as database, database.writing() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        found = [connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() for pragma in pragmas]
    assert found == ["wal", 1, 1, 3500]  # synchronous 1: NORMAL


def test_metric_values_have_no_rowid(url, path):
    TrialDatabase.open(url).close()
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.OperationalError, match="no such column: rowid"):
        connection.execute("SELECT rowid FROM metric_value")
    connection.close()


def test_nothing_is_made_where_nothing_was_to_be(url, path):
    error = refusal(url, DatabaseMissingError, create=False)
    assert "there is no trial database at sqlite:///" in error.message
    refusal(url, DatabaseMissingError, read_only=True)
    refusal(f"sqlite:///{path}/deeper/x.db", DatabaseMissingError)
    assert not path.exists()


def test_an_empty_file_is_made_into_a_database_only_where_that_is_wanted(url, path):
    path.touch()
    refusal(url, DatabaseMissingError, create=False)
    refusal(url, DatabaseMissingError, read_only=True)
    TrialDatabase.open(url).close()
    TrialDatabase.open(url, create=False).close()


def test_a_folder_is_refused(url, path):
    path.mkdir()
    assert "is a folder" in refusal(url, TrialDatabaseError).message


@pytest.mark.parametrize("options", [{}, {"create": False}, {"read_only": True}])
def test_garbage_is_refused_and_left_as_it_is(url, path, options):
    garbage = b"number,state,error\n" * 1000
    path.write_bytes(garbage)
    assert "is not an SQLite database" in refusal(url, NotATrialDatabaseError, **options).message
    assert path.read_bytes() == garbage
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("options", [{}, {"create": False}, {"read_only": True}])
def test_another_programs_database_is_refused_and_left_as_it_is(url, path, options):
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE studies (a); CREATE TABLE alembic_version (version_num)")
    connection.close()
    error = refusal(url, NotATrialDatabaseError, **options)
    assert "belongs to another program (tables: alembic_version, studies)" in error.message
    connection = sqlite3.connect(path)
    assert len(connection.execute("SELECT * FROM sqlite_master").fetchall()) == 2
    connection.close()


def set_revision(path: Path, revision: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE kdsearch_version SET version_num = ?", (revision,))
    connection.commit()
    connection.close()


@pytest.mark.parametrize("options", [{}, {"create": False}, {"read_only": True}])
def test_a_database_of_a_later_version_is_refused(url, path, options):
    TrialDatabase.open(url).close()
    set_revision(path, "9999")
    error = refusal(url, DatabaseNewerError, **options)
    assert f"later kdsearch (revision 9999; this one knows up to {REVISION})" in error.message
    assert "Update kdsearch" in error.hint


def test_an_older_database_needs_writing_to_be_read(url, monkeypatch):
    TrialDatabase.open(url).close()
    monkeypatch.setattr(versions, "REVISION", "9999")
    assert "earlier kdsearch" in refusal(url, DatabaseOlderError, read_only=True).message


def kept(revision: str, path: Path) -> None:
    """Make a database as the program of an earlier revision wrote it."""
    connection = sqlite3.connect(path)
    connection.executescript((KEPT / f"{revision}.sql").read_text())
    connection.close()


def tables(path: Path) -> dict[str, list[dict]]:
    """All rows of the tables of the schema that are there, without SQLAlchemy."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    there = {row["name"] for row in connection.execute("SELECT name FROM sqlite_master")}
    found = {
        table.name: [dict(row) for row in connection.execute(f"SELECT * FROM {table.name}")]  # noqa: S608
        for table in METADATA.sorted_tables
        if table.name in there
    }
    connection.close()
    return found


@pytest.mark.parametrize("revision", ["0001", "0002", "0003"])
def test_an_older_database_is_brought_up_to_date_and_loses_nothing(revision, url, path, make, clock):
    kept(revision, path)
    before = tables(path)
    refusal(url, DatabaseOlderError, read_only=True)
    assert tables(path) == before
    with TrialDatabase.open(url) as database, database.reading() as connection:
        options = {"version_table": schema.VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, METADATA) == []
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    trials = [{"plan": None, **row} for row in before["trial"]]
    attempts = [{**row, "ending": None} for row in before["attempt"]]
    arrays = before.get("trial_array", [])
    assert tables(path) == {**before, "trial": trials, "attempt": attempts, "trial_array": arrays}
    with TrialDatabase.open(url, clock=clock) as database:
        states = [trial.state for trial in database.trials("ktg-digits")]
        assert states == ["complete", "complete", "diverged", "waiting", "waiting"]
        database.start_attempts("ktg-digits", [make.start(3, n=2)])  # it goes on
        database.finish_trials("ktg-digits", [make.result(3, attempt=2, error=1.0)])
        database.add_trials("ktg-digits", [make.trial(5, plan={"method": "naive"})])
        database.record_arrays("ktg-digits", [make.array(5, [[1.0, 2.0]])])
    with TrialDatabase.open(url, read_only=True) as database:
        frame = database.trials_frame("ktg-digits")
        assert frame["error"][:4].tolist() == [25.0, 26.0, pytest.approx(math.nan, nan_ok=True), 1.0]
        planned = [number for number, row in enumerate(trials) if row["plan"]]
        assert frame.index[frame["method"].notna()].tolist() == [*planned, 5]
        assert list(database.arrays("ktg-digits")) == [*[(0, "cka") for _ in arrays], (5, "cka")]
        assert len(database.curves_frame("ktg-digits")) == 24
        assert read_record(database, "ktg-digits").notes == ("the budget was spent",)


def test_a_migration_that_is_cut_short_leaves_the_database_as_it_was(url, path, monkeypatch):
    kept("0001", path)
    before = tables(path)
    monkeypatch.setattr(op, "create_table", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        TrialDatabase.open(url)
    monkeypatch.undo()
    assert tables(path) == before
    TrialDatabase.open(url).close()
    assert "plan" in tables(path)["trial"][0]


@pytest.mark.parametrize("revision", ["0001", "0002", "0003"])
def test_every_migration_can_be_taken_back(url, path, revision):
    kept(revision, path)
    before = tables(path)
    TrialDatabase.open(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        config = versions.alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
    engine.dispose()
    assert tables(path) == before


def test_a_damaged_file_is_told_from_garbage(url, path):
    TrialDatabase.open(url).close()  # the last connection writes the log back
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996  # the page with the table of tables
    path.write_bytes(content)
    refusal(url, DatabaseDamagedError)


def test_a_locked_database_says_so(url, path):
    TrialDatabase.open(url).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert "is locked by another process" in refusal(url, DatabaseLockedError, busy_timeout_s=0.01).message
    TrialDatabase.open(url, read_only=True).close()  # readers need not wait
    other.close()


def test_a_full_disk_leaves_nothing_behind(url, path, monkeypatch):
    def full(connection, place):
        connection.exec_driver_sql("PRAGMA max_page_count = 3")
        for i in range(9):
            connection.exec_driver_sql(f"CREATE TABLE t{i} (a PRIMARY KEY)")

    monkeypatch.setattr(versions, "migrate", full)
    assert "the disk of" in refusal(url, DatabaseFullError).message
    assert list(path.parent.iterdir()) == []


def test_a_full_disk_undoes_the_whole_batch(url, new_sweep, make, dump):
    with TrialDatabase.open(url) as database:
        new_sweep(database)
        database.apply(make.filled("s", range(3)))
        before = dump(database)
        database.engine.dispose()
        event.listen(database.engine, "connect", lambda raw, _: raw.execute("PRAGMA max_page_count = 40"))
        with pytest.raises(DatabaseFullError):
            database.apply(make.filled("s", range(2000)))
        assert dump(database) == before


def test_a_folder_without_rights_is_told(url, path, monkeypatch):
    # root may write anywhere, so SQLite's own answer is given to the translation
    found = sqlite3.OperationalError("attempt to write a readonly database")
    found.sqlite_errorname = "SQLITE_READONLY_DIRECTORY"
    assert isinstance(_told(found, url), DatabaseReadOnlyError)
    found.sqlite_errorname = "SQLITE_CANTOPEN"
    assert isinstance(_told(found, url), DatabaseReadOnlyError)
    found.sqlite_errorname = "SQLITE_IOERR_WRITE"
    assert isinstance(_told(found, url), DatabaseUnreachableError)
    TrialDatabase.open(url).close()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "no permission to write" in refusal(url, DatabaseReadOnlyError).message
    assert _sqlite_uri(path, read_only=True).endswith("mode=ro&immutable=1")
    with TrialDatabase.open(url, read_only=True) as reader:
        assert reader.sweeps() == []
    Path(f"{path}-wal").touch()
    assert _sqlite_uri(path, read_only=True).endswith("mode=ro")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_database_in_a_read_only_folder_can_be_read(url, path, new_sweep):
    with TrialDatabase.open(url) as database:
        new_sweep(database)
    path.parent.chmod(0o555)
    try:
        with TrialDatabase.open(url, read_only=True) as reader:
            assert len(reader.sweeps()) == 1
        refusal(f"sqlite:///{path.parent}/new.db", DatabaseReadOnlyError)
    finally:
        path.parent.chmod(0o755)


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("57P01", DatabaseUnreachableError),
        ("08006", DatabaseUnreachableError),
        ("53100", DatabaseFullError),
        ("40P01", DatabaseLockedError),
        ("3D000", DatabaseMissingError),
        ("28P01", DatabaseReadOnlyError),
    ],
)
def test_postgresql_states_are_told_in_the_same_words(state, kind):
    error = Exception("said\nmore")
    error.sqlstate = state
    told = _told(error, "postgresql+psycopg://u:***@h/d")
    assert type(told) is kind
    assert told.message.endswith(": said")
    assert isinstance(told, DatabaseAwayError) == issubclass(kind, DatabaseAwayError)


# URLs


@pytest.mark.parametrize(
    "text",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///a.db?mode=ro",
        "sqlite://host/a.db",
        "mysql://u:secret@h/d",
    ],
)
def test_urls_that_cannot_be_a_trial_database(text):
    error = refusal(text, DatabaseUrlError)
    assert "secret" not in str(error)
    assert isinstance(error, ValueError)
    assert error.exit_code == 2


def test_a_bare_path_is_answered_with_its_url():
    assert "Did you mean sqlite:///runs/a.db?" in refusal("runs/a.db", DatabaseUrlError).hint


def test_malformed_urls_do_not_show_their_password():
    for text in (
        "postgresql://u:se cret@[::1/d",
        "postgres ql://u:secret@h/d",
        "postgresql://u:secret@h:port/d",
    ):
        error = refusal(text, DatabaseUrlError)
        assert "secret" not in str(error)
        assert "se cret" not in str(error)


def test_passwords_are_masked_wherever_they_stand():
    url = places.parse_url("postgresql://me:s3cret@host/db?sslpassword=s3cret&sslmode=require")
    assert url.drivername == "postgresql+psycopg"
    assert "s3cret" not in places.masked(url)
    assert "sslmode=require" in places.masked(url)


def test_a_home_folder_is_meant_by_a_tilde():
    assert places.sqlite_path(places.parse_url("sqlite:///~/a.db")) == Path("~/a.db").expanduser()
    assert places.sqlite_path(make_url("postgresql+psycopg://h/d")) is None


# File systems

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 22 0:40 / /home rw shared:3 - nfs4 server:/export rw
41 40 0:41 / /home/me/my\\040disk rw - xfs /dev/sdb rw
42 22 0:42 / /mnt rw - fuse.sshfs me@host:/ rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/a.db", "ext4"),
        ("/home/me/a.db", "nfs4"),
        ("/homeless/a.db", "ext4"),
        ("/home/me/my disk/a.db", "xfs"),
        ("/mnt/a.db", "fuse.sshfs"),
    ],
)
def test_the_file_system_of_a_path_is_found(path, kind, tmp_path, recwarn):
    assert places.file_system(Path(path), MOUNTS) == kind
    (tmp_path / "mountinfo").write_text(MOUNTS)
    if kind in {"nfs4", "fuse.sshfs"}:
        with pytest.warns(places.NetworkFileSystemWarning, match=f"network file system .{kind}."):
            places.warn_of_network(Path(path), tmp_path / "mountinfo")
    else:
        places.warn_of_network(Path(path), tmp_path / "mountinfo")
    assert not recwarn.list
    places.warn_of_network(Path(path), tmp_path / "missing")


# Installed


def test_the_migrations_work_where_the_package_is_installed(tmp_path):
    """From a folder with a percent sign and a space, as from an unpacked wheel: nothing but the package's files."""
    source = Path(versions.__file__).parents[2]
    site = tmp_path / "site %packages"
    for room in ("search/trialdb", "spaces", "analysis"):
        for file in (source / room).rglob("*.py"):
            target = site / "kdsearch" / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    (site / "kdsearch" / "search" / "__init__.py").touch()
    masking = Path("search") / "masking.py"
    (site / "kdsearch" / masking).write_bytes((source / masking).read_bytes())
    code = f"""
import sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path.insert(0, {str(site)!r})
from kdsearch.search.trialdb import TrialDatabase, versions
assert versions.__file__.startswith({str(site)!r}), versions.__file__
print(TrialDatabase.open({f"sqlite:///{tmp_path / 'a.db'}"!r}).sweeps())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_values_that_no_column_takes_are_refused(url, new_sweep, make):
    with TrialDatabase.open(url) as database:
        new_sweep(database)
        with pytest.raises(RefusedRowsError, match="nowhere"):
            database.add_trials("s", [make.trial(0, role="nowhere")])
