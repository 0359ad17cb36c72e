"""The driver's writer: batches, trouble, spool and recovery. SQLite stands for any engine that goes away."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import event

from kdsearch.search.trialdb import (
    AddTrials,
    FinishTrials,
    RecordArrays,
    RecordMetrics,
    TrialDatabase,
    Writer,
    spool,
)
from kdsearch.search.trialdb.errors import (
    DatabaseFullError,
    DatabaseLockedError,
    DatabaseReadOnlyError,
    LeaseLostError,
    RefusedRowsError,
    RowsSpooledError,
    TrialDatabaseError,
)
from kdsearch.search.trialdb.spool import SpoolFormatError
from kdsearch.search.trialdb.writer import WriterClosedError

HASTE = {"flush_interval_s": 0.005, "patience_s": 0.02, "retry_spool_s": 0.01}
OWNER = spool.Owner(sweep="s")
NEVER_BACK = {**HASTE, "retry_spool_s": 1e9}


@pytest.fixture
def database(tmp_path, clock, new_sweep):
    with TrialDatabase.open(f"sqlite:///{tmp_path / 'a.db'}", clock=clock, busy_timeout_s=0.01) as database:
        new_sweep(database)
        yield database


@pytest.fixture
def twin(tmp_path, clock, new_sweep):
    """A database that is written without a writer and without trouble."""
    with TrialDatabase.open(f"sqlite:///{tmp_path / 'twin.db'}", clock=clock) as database:
        new_sweep(database)
        yield database


@contextmanager
def locked(database: TrialDatabase):
    """Another process writes and does not end."""
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def wait_until(true) -> None:
    wake = threading.Event()
    while not true():
        wake.wait(0.005)


def operations(make, count: int = 30) -> list:
    found = []
    for number in range(count):
        found.append(AddTrials("s", (make.trial(number),)))
        found.extend(
            RecordMetrics("s", (make.epoch(number, step, x=float("nan"), y=step),)) for step in range(1, 4)
        )
        found.append(RecordArrays("s", (make.array(number, [[number, float("nan")]]),)))
        found.append(FinishTrials("s", (make.result(number, error=float(number)),)))
    return found


@pytest.mark.parametrize("batch_rows", [1, 7, 20_000])
def test_what_is_submitted_is_there_after_flush(database, twin, make, dump, batch_rows):
    todo = operations(make)
    twin.apply(todo)
    with Writer(database, "s", batch_rows=batch_rows) as writer:
        for operation in todo:
            writer.submit(operation)
        writer.flush()
        assert dump(database) == dump(twin)
        assert (writer.status.waiting, writer.status.spooled, writer.status.trouble) == (0, 0, None)
        writer.flush()


def test_close_writes_what_waits(database, make):
    writer = Writer(database, "s", flush_interval_s=1e9)
    writer.submit(*operations(make, 3))
    writer.close()
    assert len(database.trials("s")) == 3
    writer.close()
    with pytest.raises(WriterClosedError):
        writer.submit(*operations(make, 3))


def test_several_threads_may_submit(database, make):
    with Writer(database, "s", **HASTE) as writer:
        threads = [
            threading.Thread(
                target=lambda k=k: [
                    writer.submit(AddTrials("s", (make.trial(8 * i + k),))) for i in range(20)
                ]
            )
            for k in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [trial.number for trial in database.trials("s")] == list(range(160))


def test_a_lock_that_goes_away_costs_nothing(database, twin, make, dump):
    todo = operations(make)
    twin.apply(todo)
    with Writer(database, "s", **{**HASTE, "patience_s": 1e9}) as writer:
        with locked(database):
            writer.submit(*todo)  # returns although nothing can be written
            wait_until(lambda: writer.status.trouble)
            assert "is locked" in writer.status.trouble
            assert writer.status.waiting == len(todo)
        writer.flush()
        assert writer.status.trouble is None
        assert not writer.status.spool.exists()
    assert dump(database) == dump(twin)


def test_a_lock_that_lasts_is_bridged_by_the_spool(database, twin, make, dump, caplog):
    todo = operations(make)
    twin.apply(todo)
    with Writer(database, "s", **HASTE) as writer:
        with locked(database):
            writer.submit(*todo[:50])
            writer.flush()  # into the spool
            writer.submit(*todo[50:100])
            writer.flush()
            assert writer.status.spooled == 100
            assert writer.status.spool.exists()
        writer.submit(*todo[100:])
        wait_until(lambda: not writer.status.spooled)
        assert not writer.status.spool.exists()
    assert dump(database) == dump(twin)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2  # away, back


def test_a_spool_that_is_left_is_brought_in_by_the_next_writer(database, twin, make, dump, caplog):
    todo = operations(make)
    twin.apply(todo)
    with locked(database):
        writer = Writer(database, "s", **NEVER_BACK)
        writer.submit(*todo)
        with pytest.raises(RowsSpooledError, match=f"{len(todo)} operations of sweep 's' wait in") as caught:
            writer.close()
        assert "is locked by another process" in caught.value.message
        assert str(writer.status.spool) in caught.value.message
        assert "kdsearch resume s" in caught.value.hint
    assert database.trials("s") == []
    Writer(database, "s").close()
    assert dump(database) == dump(twin)
    assert not writer.status.spool.exists()


def test_a_replay_that_is_cut_short_begins_again(database, twin, make, dump, monkeypatch):
    todo = operations(make, 250)  # more than one transaction
    twin.apply(todo)
    path = spool.spool_path(database, "s")
    spool.append(path, todo, 2**30, OWNER)
    calls = []

    def killed_in_the_second(batch, **_):
        calls.append(len(batch))
        if len(calls) == 2:
            raise KeyboardInterrupt
        TrialDatabase.apply(database, batch)

    monkeypatch.setattr(database, "apply", killed_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        spool.replay(database, path)
    monkeypatch.undo()
    monkeypatch.setattr(Path, "unlink", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        spool.replay(database, path)
    monkeypatch.undo()
    assert spool.replay(database, path) == len(todo)
    assert spool.replay(database, path) == 0
    assert dump(database) == dump(twin)


def test_a_line_that_a_crash_cut_short_is_passed_over(database, make):
    path = spool.spool_path(database, "s")
    spool.append(path, operations(make, 2), 2**30, OWNER)
    with path.open("ab") as file:
        file.write(b'{"sweep": "s", "ro')
    Writer(database, "s").close()
    assert len(database.trials("s")) == 2


def test_writing_goes_on_after_a_line_that_a_crash_cut_short(database, make):
    path = spool.spool_path(database, "s")
    todo = operations(make, 2)
    spool.append(path, todo[:5], 2**30, OWNER)
    with path.open("ab") as file:
        file.write(b'{"sweep": "s", "ro')
    spool.append(path, todo[5:], 2**30, OWNER)
    assert len(list(spool.read(path))) == len(todo)


@pytest.mark.parametrize(
    "content", [b'{"kdsearch_spool": 2}\n', b"hello\n", b'{"kdsearch_spool": 1}\n{"op": "x"}\n']
)
def test_a_spool_that_cannot_be_read_is_named_and_kept(database, content):
    path = spool.spool_path(database, "s")
    path.write_bytes(content)
    with pytest.raises(SpoolFormatError, match=r"a\.db\.s\.spool\.jsonl, line "):
        Writer(database, "s")
    assert path.read_bytes() == content


def test_where_the_spool_lies(database, tmp_path):
    assert spool.spool_path(database, "a/b c").name == "a.db.a%2Fb c.spool.jsonl"
    assert spool.spool_path(database, "s", tmp_path / "x").parent == tmp_path / "x"


def test_a_spool_of_another_sweep_of_this_name_is_refused(database, make):
    path = spool.spool_path(database, "s")
    other = spool.Owner(sweep="s", created=datetime(2020, 1, 1, tzinfo=UTC))
    spool.append(path, operations(make, 1), 2**30, other)
    with pytest.raises(SpoolFormatError, match="spool of another sweep 's'"):
        Writer(database, "s")
    assert path.exists()
    assert database.trials("s") == []


def test_the_drivers_own_error_is_told_and_the_spool_is_remarked_on(database, make, caplog):
    def drive():
        with Writer(database, "s", **NEVER_BACK) as writer:
            writer.submit(*operations(make, 1))
            raise LookupError

    with locked(database), pytest.raises(LookupError):
        drive()
    assert "6 operations of sweep 's' wait in" in caplog.text


def test_a_spool_that_somebody_took_away_is_told(database, make):
    with locked(database):
        writer = Writer(database, "s", **NEVER_BACK)
        writer.submit(*operations(make, 1))
        writer.flush()
        writer.status.spool.unlink()
    with pytest.raises(TrialDatabaseError, match="has lost 6 operations"):
        writer.close()


def test_a_database_that_refuses_writes_for_a_while_loses_nothing(database, twin, make, dump, monkeypatch):
    todo = operations(make)
    twin.apply(todo)
    right, apply = threading.Event(), database.apply

    def refusing(*given, **more):
        if not right.is_set():
            raise DatabaseReadOnlyError("no", "Grant it.")
        apply(*given, **more)

    monkeypatch.setattr(database, "apply", refusing)
    with Writer(database, "s", **HASTE) as writer:
        writer.submit(*todo)
        writer.flush()
        assert writer.status.spooled == len(todo)
        right.set()
    assert dump(database) == dump(twin)


def test_a_spool_at_its_limit_is_told_at_the_next_submit(database, make):
    with locked(database):
        writer = Writer(database, "s", spool_limit_bytes=2000, **NEVER_BACK)
        writer.submit(*operations(make, 1))
        writer.flush()
        content = writer.status.spool.read_bytes()
        writer.submit(*operations(make, 30))
        with pytest.raises(
            DatabaseLockedError, match=r"is locked by another process, and the spool file .* limit"
        ):
            writer.flush()
        with pytest.raises(DatabaseLockedError, match="limit"):
            writer.submit()
        with pytest.raises(DatabaseLockedError, match="limit"):
            writer.close()
        assert writer.status.spool.read_bytes() == content


def fill_disk(database: TrialDatabase) -> None:
    database.engine.dispose()
    event.listen(database.engine, "connect", lambda raw, _: raw.execute("PRAGMA max_page_count = 1"))


def test_a_full_disk_is_bridged_by_a_spool_on_another_disk(database, make, tmp_path):
    (tmp_path / "other").mkdir()
    fill_disk(database)
    writer = Writer(database, "s", spool_folder=tmp_path / "other", **{**NEVER_BACK, "patience_s": 1e9})
    writer.submit(*operations(make, 30))
    writer.flush()
    assert writer.status.spooled == 180
    with pytest.raises(RowsSpooledError, match=r"the disk of .* is full; 180 operations"):
        writer.close()
    event.listen(database.engine, "connect", lambda raw, _: raw.execute("PRAGMA max_page_count = 4294967294"))
    database.engine.dispose()
    Writer(database, "s", spool_folder=tmp_path / "other").close()
    assert len(database.trials("s")) == 30


def test_a_full_disk_that_takes_no_spool_either_is_told_at_the_next_submit(database, make, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    fill_disk(database)
    monkeypatch.setattr(os, "fsync", full)
    writer = Writer(database, "s", **HASTE)
    writer.submit(*operations(make, 30))
    with pytest.raises(
        DatabaseFullError, match=r"the disk of .* is full, and the spool file .* No space left"
    ) as caught:
        writer.flush()
    assert "kdsearch resume" in caught.value.hint
    with pytest.raises(DatabaseFullError):
        writer.submit(*operations(make, 1))
    with pytest.raises(DatabaseFullError):
        writer.close()
    assert list(spool.read(writer.status.spool)) == []


def test_a_refused_operation_is_told_and_those_before_it_are_kept(database, make):
    writer = Writer(database, "s", flush_interval_s=1e9)
    writer.submit(
        AddTrials("s", (make.trial(0),)),
        FinishTrials("s", (make.result(1),)),
        AddTrials("s", (make.trial(2),)),
    )
    with pytest.raises(RefusedRowsError, match="never added: 1"):
        writer.flush()
    assert [trial.number for trial in database.trials("s")] == [0]
    with pytest.raises(RefusedRowsError):
        writer.close()


def test_whatever_stops_the_thread_reaches_the_driver(database, make, monkeypatch):
    monkeypatch.setattr(database, "apply", lambda *_, **__: 1 / 0)
    writer = Writer(database, "s", **HASTE)
    writer.submit(*operations(make, 1))
    with pytest.raises(TrialDatabaseError, match="division by zero") as caught:
        writer.flush()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_the_drivers_own_error_goes_before_the_writers(database, make, monkeypatch, caplog):
    monkeypatch.setattr(database, "apply", lambda *_, **__: 1 / 0)
    caplog.set_level("DEBUG")
    writer = Writer(database, "s")
    writer.submit(*operations(make, 1))
    with pytest.raises(LookupError, match="the driver's"), writer:
        raise LookupError("the driver's")
    assert "writer failed too" in caplog.text


# Leases


def test_an_idle_writer_keeps_its_lease(database, clock):
    lease = database.claim("s")
    with Writer(database, "s", lease=lease, heartbeat_s=0, **HASTE):
        clock.pass_s(3600)
        wait_until(lambda: database.sweep("s").heartbeat == clock())


def test_a_writer_whose_lease_was_taken_stops(database, clock, make):
    lease = database.claim("s")
    writer = Writer(database, "s", lease=lease, heartbeat_s=1e9, flush_interval_s=0.005)
    clock.pass_s(3600)
    second = database.claim("s")
    writer.submit(*operations(make, 1))
    with pytest.raises(LeaseLostError):
        writer.flush()
    assert database.trials("s") == []
    with pytest.raises(LeaseLostError):
        writer.close()
    Writer(database, "s", lease=second).close()


# Processes

WRITE_FOREVER = """
import sys
from datetime import UTC, datetime
from kdsearch.search.trialdb import AddTrials, MetricRow, RecordMetrics, TrialDatabase, TrialRow, Writer
database = TrialDatabase.open(sys.argv[1])
lease = database.claim("s")
writer = Writer(database, "s", lease=lease, flush_interval_s=0.001)
number = 0
while True:
    trial = TrialRow(number=number, configuration={}, configuration_hash="", seed=0, created=datetime.now(UTC))
    rows = tuple(MetricRow(number=number, attempt=1, step=k, values={"x": 1.0}) for k in range(50))
    writer.submit(AddTrials("s", (trial,)), RecordMetrics("s", rows))
    if number % 7 == 0:
        writer.flush()
        print(number, flush=True)
    number += 1
"""


def test_kill_9_loses_nothing_that_was_committed(database, database_writer):
    process = database_writer(database)
    for _ in range(20):
        committed = int(process.stdout.readline())
    with TrialDatabase.open(f"sqlite:///{database.path}", read_only=True) as reader:
        assert len(reader.trials("s")) > committed  # readable while it is written
    process.send_signal(signal.SIGKILL)
    committed = max([committed, *map(int, process.stdout.read().split())])
    process.wait()
    with TrialDatabase.open(f"sqlite:///{database.path}") as again, again.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        numbers = [trial.number for trial in again.trials("s")]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > committed
        counts = again.curves_frame("s").groupby("trial").size()
        assert (counts[: committed + 1] == 50).all()
        assert database.sweep("s").driver_pid == process.pid


def test_the_lease_of_a_killed_process_on_this_machine_is_free_at_once(database, database_writer):
    if not Path("/proc/self/ns/pid").exists():
        pytest.skip("needs /proc to know whether a process is of this machine")
    process = database_writer(database)
    process.stdout.readline()
    with (
        TrialDatabase.open(f"sqlite:///{database.path}", busy_timeout_s=60) as patient,
        pytest.raises(TrialDatabaseError, match=f"process {process.pid}"),
    ):
        patient.claim("s", stale_after_s=1e9)
    process.kill()
    process.wait()
    database.claim("s", stale_after_s=1e9)


@pytest.fixture
def database_writer():
    """Start a process that writes until it is killed."""
    processes = []

    def start(database: TrialDatabase) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WRITE_FOREVER, f"sqlite:///{database.path}"]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_how_a_driver_is(database, clock):
    assert database.driver_state("s") == "none"
    lease = database.claim("s")
    assert database.driver_state("s") == "alive"
    clock.pass_s(3600)
    assert database.driver_state("s") == "gone"  # silent for too long
    database.release(lease)
    assert database.driver_state("s") == "none"


def test_batches_are_told_where_they_went_and_when_the_spool_was_brought_in(database, make):
    told = []

    class Hears:
        def stored(self, batch):
            told.append(("stored", numbers(batch), {trial.number for trial in database.trials("s")}))

        def spooled(self, batch):
            told.append(("spooled", numbers(batch)))

        def brought_in(self):
            told.append(("brought in", {trial.number for trial in database.trials("s")}))

    def numbers(batch):
        return [row.number for operation in batch for row in operation.rows]

    with Writer(database, "s", **NEVER_BACK, hears=Hears()) as writer:
        writer.submit(AddTrials("s", (make.trial(1),)))
        writer.flush()
        assert told == [("stored", [1], {1})]
        with locked(database):
            writer.submit(AddTrials("s", (make.trial(2),)))
            writer.flush()
            assert writer.status.spooled == 1
    assert told[1:] == [("spooled", [2]), ("brought in", {1, 2})]
