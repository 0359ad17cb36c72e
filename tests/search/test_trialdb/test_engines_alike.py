"""SQLite and PostgreSQL side by side: the same operations leave the same rows, frames and records."""

from __future__ import annotations

import json
import math
import re
import threading
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import event, text

from kdsearch.search.trialdb import (
    AddDraws,
    AddEvents,
    AddTrials,
    AttemptEnd,
    CheckpointRow,
    DrawRow,
    EndAttempts,
    EventRow,
    FinishTrials,
    MetricRow,
    RecordArrays,
    RecordMetrics,
    SaveCheckpoints,
    StartAttempts,
    TrialDatabase,
    TrialState,
    read_record,
)
from kdsearch.search.trialdb.engines import reading
from kdsearch.search.trialdb.errors import DatabaseLockedError, RefusedRowsError

ODD = (
    "NUL \x00, half a pair \ud83d, 'quotes' \"double\" %s %(x)s :k \\ \n ünïcødé \N{GREEK SMALL LETTER LAMDA}"
)
FLOATS = [0.1, 1e308, 5e-324, -0.0, math.nan, math.inf, -math.inf, 1 / 3]


@pytest.fixture
def two(tmp_path, migrated_url, clock, new_sweep):
    """A database on each engine, SQLite first, with a sweep "s"."""
    urls = (f"sqlite:///{tmp_path / 'a.db'}", migrated_url)
    databases = [TrialDatabase.open(url, clock=clock, busy_timeout_s=0.2) for url in urls]
    for database in databases:
        new_sweep(database, settings={"text": ODD, "big": 3**60, "none": None})
    yield databases
    for database in databases:
        database.close()


def story(make, clock):
    """Everything that happens to trials, with what engines tend to take differently."""
    configuration = {"gate": ODD, "rate": 1e-300, "flip": True, "depth": -7}
    rows = [
        make.trial(n, configuration={**configuration, "n": n}, plan={"run": n, "odd": ODD}) for n in range(6)
    ]
    names = [f"{node}/val_error" for node in (1, 2)] + ["seconds", "meta.λ %s"]
    first = [
        make.epoch(n, step, **{name: FLOATS[(n + step + k) % 8] for k, name in enumerate(names)})
        for n in range(6)
        for step in range(1, 40)
    ]
    again = [make.epoch(2, step, attempt=2, **dict.fromkeys(names, float(step))) for step in range(5, 50)]
    late = [make.epoch(2, step, attempt=1, **dict.fromkeys(names, -1.0)) for step in range(45, 60)]
    clock.pass_s(0.000001)
    return [
        *make.filled("s", range(0)),
        AddTrials("s", tuple(rows)),
        AddDraws("s", tuple(DrawRow(space="A", draw=n, trial=n % 3, fresh=n < 3) for n in range(6))),
        StartAttempts("s", tuple(make.start(n) for n in range(6))),
        RecordMetrics("s", tuple(first)),
        EndAttempts("s", (AttemptEnd(number=2, n=1, at=clock(), reason=ODD),)),
        StartAttempts("s", (make.start(2, n=2),)),
        RecordMetrics("s", tuple(again)),
        RecordMetrics("s", tuple(late)),
        RecordArrays("s", (make.array(1, [[math.nan, 2.0], [math.inf, -0.0]]), make.array(2, []))),
        SaveCheckpoints("s", (CheckpointRow(number=2, n=2, epoch=9, path="/a b/ü.pt"),)),
        FinishTrials(
            "s",
            (
                make.result(0, error=12.5, best_error=1 / 3, best_epoch=2, seconds=math.nan),
                make.result(1, state=TrialState.DIVERGED, error=math.inf, message=ODD),
                make.result(2, attempt=1, error=1.0),  # overtaken
            ),
        ),
        AddEvents("s", (EventRow(kind="note", at=clock(), data={"text": ODD, "x": [math.nan, 3**60]}),)),
    ]


def test_the_same_operations_leave_the_same_rows_and_frames(two, make, clock, dump):
    told = story(make, clock)
    for database in two:
        database.apply(told)
        database.apply(told)  # a commit that was never confirmed
        for operation in told:
            database.apply([operation])
    sqlite, postgresql = two
    assert dump(postgresql) == dump(sqlite)
    one, other = (read_record(database, "s") for database in two)
    for field in fields(one):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, pd.DataFrame):
            pd.testing.assert_frame_equal(left, right, obj=field.name)
        elif field.name == "arrays":
            assert left.keys() == right.keys()
            for key, values in left.items():
                np.testing.assert_array_equal(values, right[key])
        else:
            assert left == right, field.name
    assert sqlite.trials("s") == postgresql.trials("s")
    assert sqlite.attempts("s") == postgresql.attempts("s")
    assert sqlite.events("s") == postgresql.events("s")
    assert sqlite.sweeps() == postgresql.sweeps()


def test_curves_are_alike_however_they_are_asked_for(two, make, clock):
    for database in two:
        database.apply(story(make, clock))
    for asked in (
        {},
        {"trials": [2]},
        {"trials": []},
        {"trials": range(-600, 600)},
        {"metrics": ["val_error"]},
        {"metrics": []},
        {"trials": [1, 2], "metrics": ["seconds", "nothing"]},
    ):
        frames = [database.curves_frame("s", **asked) for database in two]
        pd.testing.assert_frame_equal(*frames)


def test_one_batch_may_hold_an_epoch_twice(two, make):
    """PostgreSQL refuses to change a row twice in one command; the newest attempt stands, then the last row."""
    many = [make.epoch(0, step, attempt=n, x=float(10 * n + step)) for n in (2, 1, 2) for step in range(400)]
    last = make.epoch(0, 3, attempt=2, x=-1.0)
    for database in two:
        database.add_trials("s", [make.trial(0)])
        for rows in ([last, last], [*many, last], many[:5]):
            database.record_metrics("s", rows)
    pd.testing.assert_frame_equal(*[database.curves_frame("s") for database in two])
    assert two[1].curves_frame("s")["value"][:5].tolist() == [20.0, 21.0, 22.0, 23.0, 24.0]


@pytest.mark.parametrize("epochs", [1, 1000])
def test_values_of_unknown_trials_are_refused_alike(two, make, epochs, dump):
    for database in two:
        database.add_trials("s", [make.trial(0)])
        before = dump(database)
        rows = [make.epoch(number, step, x=1.0) for number in (0, 7) for step in range(epochs)]
        with pytest.raises(RefusedRowsError):
            database.record_metrics("s", rows)
        assert dump(database) == before


def test_a_name_that_only_one_engine_would_take_is_refused_by_both(two, make):
    for database in two:
        database.add_trials("s", [make.trial(0)])
        with pytest.raises(RefusedRowsError, match="201 characters"):
            database.record_metrics("s", [MetricRow(number=0, attempt=1, step=1, values={"x" * 201: 1.0})])


# Locks and readers


def test_a_lock_of_another_process_is_waited_for_and_then_told(two, make):
    sqlite, postgresql = two
    for database in two:
        lease = database.claim("s")
        other = TrialDatabase.open(
            database.engine.url.render_as_string(hide_password=False)
            if database is postgresql
            else f"sqlite:///{sqlite.path}"
        )
        with other, other.writing() as connection:
            connection.execute(text("UPDATE sweep SET code_version = 'x'"))
            with pytest.raises(DatabaseLockedError, match="is locked by another process"):
                database.apply(make.filled("s", range(2)), lease=lease)
        database.apply(make.filled("s", range(2)), lease=lease)


def test_readers_see_whole_batches_while_a_writer_writes(database, database_url, make):
    """Each batch writes ten metrics of eight epochs; whatever moment a reader sees, batches are whole in it."""
    batches, errors, done = 40, [], threading.Event()
    database.add_trials("s", [make.trial(n) for n in range(batches)])

    def read():
        try:
            with TrialDatabase.open(database_url, read_only=True) as reader:
                looks = 0
                while not done.is_set() or looks < 3:
                    with reader.reading() as connection:
                        counts = [
                            connection.execute(text(f"SELECT count(*) FROM {table}")).scalar()  # noqa: S608
                            for table in ("metric_value", "metric_value")
                        ]
                    assert counts[0] == counts[1]  # one moment
                    assert counts[0] % 80 == 0
                    frame = reader.curves_frame("s")
                    assert frame.groupby("trial").size().isin([80]).all()
                    looks += 1
        except BaseException as error:  # noqa: BLE001 told by the test
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for n in range(batches):
        names = {f"m{k}": float(k) for k in range(10)}
        database.record_metrics("s", [make.epoch(n, step, **names) for step in range(8)])
    done.set()
    for reader in readers:
        reader.join()
    assert errors == []
    assert len(database.curves_frame("s")) == batches * 80


# Indexes

PLANS = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN (FORMAT JSON) "}


@pytest.fixture
def statements():
    """What is asked of a database, as text with its parameters."""

    def listen(database):
        found = []

        def note(connection, cursor, statement, parameters, context, many):
            found.append((statement, parameters))

        event.listen(database.engine, "before_cursor_execute", note)
        return found

    return listen


def plan(database, statement, parameters):
    """What the engine does for a statement, as words."""
    engine = database.engine.dialect.name
    with reading(database.engine, "x") as connection:
        rows = connection.exec_driver_sql(PLANS[engine] + statement, parameters).all()
    return " ".join(str(row[-1]) for row in rows) if engine == "sqlite" else json.dumps(rows[0][0])


ASKED = (
    lambda d: d.trials("s", states=[TrialState.RUNNING]),
    lambda d: d.trials("s"),
    lambda d: d.trials_frame("s"),
    lambda d: d.counts_by_state("s"),
    lambda d: d.attempts("s"),
    lambda d: d.events("s", after=50),
    lambda d: d.curves_frame("s"),
    lambda d: d.curves_frame("s", trials=[7]),
    lambda d: d.draws_frame("s"),
)
LARGE = ("trial", "attempt", "event", "metric_value")


def read_whole(plans):
    """Which of the large tables are read from end to end."""
    return [
        table
        for table in LARGE
        for each in plans
        if f"SCAN {table} " in f"{each} " or (f'"Relation Name": "{table}"' in each and "Seq Scan" in each)
    ]


def test_what_is_asked_often_goes_by_an_index(database, make, clock, statements, new_sweep):
    """With twenty sweeps and statistics as they are in a database at work."""
    for n in range(20):
        name = "s" if n == 0 else new_sweep(database, f"s{n}")
        numbers = range(200)
        rows = [make.epoch(number, step, x=1.0) for number in numbers[:40] for step in range(9)]
        database.apply(
            [
                AddTrials(name, tuple(make.trial(number) for number in numbers)),
                StartAttempts(name, tuple(make.start(number) for number in numbers[:40])),
                RecordMetrics(name, tuple(rows)),
                FinishTrials(name, tuple(make.result(number, error=1.0) for number in numbers[:36])),
                AddEvents(name, tuple(EventRow(kind="x", at=clock(), data={}) for _ in range(100))),
            ]
        )
    with database.writing() as connection:
        connection.execute(text("ANALYZE"))
    found = statements(database)
    for asked in ASKED:
        asked(database)
    plans = [
        plan(database, *each) for each in list(found) if re.search(rf"FROM ({'|'.join(LARGE)})\b", each[0])
    ]
    assert len(plans) == len(ASKED) - 1  # a join has another first table
    assert read_whole(plans) == []
