"""A server that stops, hangs, refuses or loses a connection while a driver's writer writes: nothing lost or doubled."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdsearch.search.trialdb import (
    AddEvents,
    AddTrials,
    EventRow,
    FinishTrials,
    RecordMetrics,
    StartAttempts,
    TrialDatabase,
    Writer,
    spool,
)
from kdsearch.search.trialdb.errors import (
    DatabaseUnreachableError,
    LeaseLostError,
    RowsSpooledError,
)

HASTE = {"flush_interval_s": 0.005, "patience_s": 0.05, "retry_spool_s": 0.02}
PATIENT = {"flush_interval_s": 0.005, "patience_s": 300.0}
NEVER_BACK = {**HASTE, "retry_spool_s": 1e9}


def wait_until(true) -> None:
    wake = threading.Event()
    while not true():
        wake.wait(0.005)


@pytest.fixture
def database(migrated_url, clock, new_sweep, tmp_path, monkeypatch) -> Iterator[TrialDatabase]:
    monkeypatch.chdir(tmp_path)  # where spools of a server's database lie
    with TrialDatabase.open(migrated_url, clock=clock, busy_timeout_s=0.2) as database:
        new_sweep(database)
        yield database


@pytest.fixture
def twin(tmp_path, clock, new_sweep) -> Iterator[TrialDatabase]:
    """A database that nothing happens to."""
    with TrialDatabase.open(f"sqlite:///{tmp_path / 'twin.db'}", clock=clock) as database:
        new_sweep(database)
        yield database


def sweep(make, clock, trials: int = 40, epochs: int = 30) -> list:
    """What a driver submits, in its order; every kind of write that is no plain upsert among it."""
    found = []
    for number in range(trials):
        found.append(AddTrials("s", (make.trial(number),)))
        found.append(StartAttempts("s", (make.start(number),)))
        for step in range(1, epochs + 1):
            values = {f"m{k}": float(step + k) for k in range(4)}
            found.append(RecordMetrics("s", (make.epoch(number, step, **values),)))
        found.append(AddEvents("s", (EventRow(kind="x", at=clock(), data={"n": number}),)))
        found.append(FinishTrials("s", (make.result(number, error=float(number)),)))
    return found


def alike(dump, one, other) -> bool:
    """Whether two databases hold the same, but for leases, and for the keys of metrics: a server counts tries too."""
    found = [dump(database) for database in (one, other)]
    for tables in found:
        del tables["sweep"]
        names = dict(tables.pop("metric"))
        tables["metric_value"] = sorted(
            (number, names[key], *rest) for _, number, key, *rest in tables["metric_value"]
        )
    return found[0] == found[1]


# Stopped and started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_server_that_restarts_is_bridged_by_patience(postgresql, database, twin, make, clock, dump, number):
    todo = sweep(make, clock)
    twin.apply(todo)
    lease = database.claim("s")
    with Writer(database, "s", lease=lease, **PATIENT) as writer:
        for n, operation in enumerate(todo):
            writer.submit(operation)
            if n in {300, 700, 1000}:
                postgresql.restart(number)
        writer.flush()
        assert not writer.status.spool.exists()
    assert alike(dump, database, twin)
    database.heartbeat(lease)


def test_a_server_that_is_away_for_long_is_bridged_by_the_spool(
    postgresql, database, twin, make, clock, dump, caplog
):
    todo = sweep(make, clock)
    twin.apply(todo)
    lease = database.claim("s")
    with Writer(database, "s", lease=lease, **HASTE) as writer:
        writer.submit(*todo[:500])
        writer.flush()
        postgresql.stop()
        writer.submit(*todo[500:900])
        writer.flush()
        assert writer.status.spooled == 400
        assert "does not answer" in writer.status.trouble
        writer.submit(*todo[900:])
        writer.flush()
        postgresql.start()
        wait_until(lambda: not writer.status.spooled)
        assert writer.status.trouble is None
        assert not writer.status.spool.exists()
    assert alike(dump, database, twin)
    database.heartbeat(lease)  # still its own
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]  # away, back


def test_a_server_that_never_returns_leaves_a_spool_that_the_next_driver_brings_in(
    postgresql, migrated_url, database, twin, make, clock, dump, tmp_path
):
    todo = sweep(make, clock)
    twin.apply(todo)
    lease = database.claim("s")
    writer = Writer(database, "s", lease=lease, **NEVER_BACK)
    writer.submit(*todo[:500])
    writer.flush()
    postgresql.stop(signal.SIGQUIT)
    writer.submit(*todo[500:])
    with pytest.raises(RowsSpooledError) as caught:
        writer.close()
    assert (
        f"{len(todo) - 500:,} operations of sweep 's' wait in {writer.status.spool}" in caught.value.message
    )
    assert "does not answer" in caught.value.message
    assert postgresql.password not in str(caught.value)
    assert "`kdsearch resume s`" in caught.value.hint
    assert writer.status.spool.parent == tmp_path
    with pytest.raises(DatabaseUnreachableError):
        database.release(lease)
    postgresql.start()
    with TrialDatabase.open(migrated_url, clock=clock) as again:
        clock.pass_s(61)  # the first driver lives, and did not give the sweep back
        Writer(again, "s", lease=again.claim("s")).close()
        assert alike(dump, again, twin)
    assert not writer.status.spool.exists()


def test_a_driver_that_was_away_for_long_does_not_write_into_anothers_sweep(
    postgresql, database, make, clock, dump
):
    writer = Writer(database, "s", lease=database.claim("s"), heartbeat_s=1e9, **NEVER_BACK)
    postgresql.stop()
    writer.submit(*sweep(make, clock, 2))
    writer.flush()
    clock.pass_s(61)
    path = writer.status.spool
    held = path.rename(path.with_name("aside"))  # the other driver is on another machine, without this spool
    postgresql.start()
    second = database.claim("s")
    before = dump(database)
    held.rename(path)
    with pytest.raises(LeaseLostError):
        writer.close()
    assert dump(database) == before
    assert path.exists()
    database.heartbeat(second)


# Hung


def test_a_server_that_hangs_is_bridged_by_the_spool(postgresql, database, twin, make, clock, dump):
    todo = sweep(make, clock, 10)
    twin.apply(todo)
    settings = {**HASTE, "answer_s": 0.3}
    url = database.engine.url.update_query_dict({"connect_timeout": "2"}).render_as_string(
        hide_password=False
    )
    with (
        TrialDatabase.open(url, clock=clock) as impatient,
        Writer(impatient, "s", lease=impatient.claim("s"), **settings) as writer,
    ):
        writer.submit(*todo[:100])
        writer.flush()
        wait_until(lambda: not writer.status.spooled)  # a slow machine takes longer than that too
        with postgresql.frozen():
            writer.submit(*todo[100:])
            writer.flush()
            assert writer.status.spooled == len(todo) - 100
        wait_until(lambda: not writer.status.spooled)
    assert alike(dump, database, twin)


# Connections that break


class Wire:
    """Between a client and the server: passes everything on until `cut` says otherwise.

    cut: (word, after): end the connection when a message of the client's holds the word; before it reaches the server,
    or after the server has answered it, without passing the answer on.
    """

    def __init__(self, port: int) -> None:
        self.port, self.cut, self.cuts = port, None, 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.own_port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self.port))
                answering = threading.Event()
                answering.set()
                threading.Thread(target=self._ask, args=(client, server, answering), daemon=True).start()
                threading.Thread(target=self._answer, args=(client, server, answering), daemon=True).start()

    def _ask(self, client, server, answering) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self.cut is not None and self.cut[0] in data:
                    after = self.cut[1]
                    self.cut, self.cuts = None, self.cuts + 1
                    if not after:
                        break
                    answering.clear()
                    server.sendall(data)
                    while not answering.wait(0.01):
                        pass
                    break
                server.sendall(data)
        self._end(client, server)

    def _answer(self, client, server, answering) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if not answering.is_set():
                    answering.set()  # the server has done it; nobody hears of it
                    break
                client.sendall(data)
        self._end(client, server)

    @staticmethod
    def _end(*sockets) -> None:
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@pytest.fixture
def wire(postgresql) -> Iterator[Wire]:
    wire = Wire(postgresql.port)
    yield wire
    wire.close()


@pytest.mark.parametrize(
    ("word", "after"),
    [
        (b"BEGIN", False),
        (b"BEGIN", True),
        (b"COPY metric_value", False),
        (b"COPY metric_value", True),
        (b"PGCOPY", False),
        (b"INSERT INTO metric_value", False),
        (b"INSERT INTO metric_value", True),
        (b"COMMIT", False),
        (b"COMMIT", True),
    ],
)
def test_a_connection_that_breaks_leaves_no_row_out_and_none_twice(
    postgresql, database, migrated_url, wire, twin, make, clock, dump, word, after
):
    """Nobody can know whether a commit was carried out whose answer was lost: it is carried out again."""
    todo = sweep(make, clock, 12, epochs=200 if b"COPY" in word else 20)
    twin.apply(todo)
    batch_rows, together = (20_000, 410) if b"COPY" in word else (50, 50)  # 410: a whole trial is among them
    url = migrated_url.replace(f":{postgresql.port}/", f":{wire.own_port}/") + "?sslmode=disable"
    with TrialDatabase.open(url, clock=clock) as through:
        lease = through.claim("s")
        with Writer(through, "s", lease=lease, batch_rows=batch_rows, **PATIENT) as writer:
            for first in range(0, len(todo), together):
                wire.cut = (word, after)
                writer.submit(*todo[first : first + together])
                writer.flush()
        assert not writer.status.spool.exists()
    assert wire.cuts >= 1  # a statement that was prepared is known by another word
    assert alike(dump, database, twin)
    assert [e.data["n"] for e in database.events("s")] == list(range(12))


# Which spool


def test_sweeps_of_one_name_in_two_databases_keep_their_own_spools(
    postgresql, postgresql_template, database, make, clock, new_sweep, tmp_path
):
    name = postgresql.new_database(postgresql_template)
    with TrialDatabase.open(postgresql.url(name), clock=clock) as second:
        clock.pass_s(5)
        new_sweep(second)
        writers = [Writer(each, "s", **NEVER_BACK) for each in (database, second)]
        postgresql.stop()
        for n, writer in enumerate(writers):
            writer.submit(AddTrials("s", (make.trial(n),)))
            with pytest.raises(RowsSpooledError):
                writer.close()
        assert len(list(tmp_path.glob("*.s.spool.jsonl"))) == 2
        postgresql.start()
        for each in (database, second):
            Writer(each, "s").close()
        assert [[trial.number for trial in each.trials("s")] for each in (database, second)] == [[0], [1]]
    assert list(tmp_path.glob("*.spool.jsonl")) == []
    postgresql.drop(name)


def test_a_spool_is_found_however_its_database_is_called(database, migrated_url, make, clock, tmp_path):
    """And so is one of an earlier version, which did not say whose it was."""
    sweep_ = database.sweep("s")
    path = spool.spool_path(database, "s")
    owner = spool.Owner(sweep="s", created=sweep_.created)
    spool.append(path, [AddTrials("s", (make.trial(1),))], 2**20, owner)
    earlier = tmp_path / "kdsearch.s.spool.jsonl"
    spool.append(earlier, [AddTrials("s", (make.trial(2),))], 2**20, owner)
    lines = earlier.read_bytes().split(b"\n", 1)
    earlier.write_bytes(b'{"kdsearch_spool": 1}\n' + lines[1])
    with TrialDatabase.open(migrated_url.replace("127.0.0.1", "localhost"), clock=clock) as other:
        assert spool.spool_path(other, "s") != path
        Writer(other, "s").close()
        assert [trial.number for trial in other.trials("s")] == [1, 2]
    assert not path.exists()
    assert not earlier.exists()


def test_names_of_files_beside_a_server_hold_no_password(database, postgresql):
    path = spool.spool_path(database, "a/b")
    assert re.fullmatch(r"kdsearch-test_\d+-[0-9a-f]{8}\.a%2Fb\.spool\.jsonl", path.name)
    assert postgresql.password not in str(path)
    assert Path(path).parent == Path.cwd()
