"""Fixtures of the trial database's tests. The conformance suite runs once for each engine in ENGINES."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from kdsearch.search.trialdb import (
    AddSpaces,
    AddTrials,
    ArrayRow,
    AttemptStart,
    MetricRow,
    RecordMetrics,
    ResultRow,
    SpaceRow,
    TrialDatabase,
    TrialRow,
    TrialState,
)
from kdsearch.search.trialdb.schema import METADATA

ENGINES = ["sqlite", "postgresql"]
START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Make:
    """Rows with as little said as a test needs."""

    clock: FakeClock

    def space(self, name: str = "A", **other) -> SpaceRow:
        given = {
            "specification": {"kind": "test"},
            "hash": "0" * 64,
            "counts": {"encodings": 9, "classes": None},
        }
        return SpaceRow(name=name, **{**given, **other})

    def trial(self, number: int, **other) -> TrialRow:
        given = {"configuration": {"gate": "through"}, "configuration_hash": f"{number:064x}", "seed": number}
        return TrialRow(number=number, created=self.clock(), **{**given, **other})

    def start(self, number: int, n: int = 1) -> AttemptStart:
        return AttemptStart(number=number, n=n, host="node-1", device="cuda:0", at=self.clock())

    def epoch(self, number: int, step: int, attempt: int = 1, **values: float) -> MetricRow:
        return MetricRow(
            number=number, attempt=attempt, step=step, values=values or {"1/val_error": 50.0 / step}
        )

    def array(self, number: int, values, attempt: int = 1, step: int = 3, name: str = "cka") -> ArrayRow:
        return ArrayRow.of(values, number=number, attempt=attempt, step=step, name=name)

    def result(
        self, number: int, attempt: int = 1, state: TrialState = TrialState.COMPLETE, **other
    ) -> ResultRow:
        return ResultRow(number=number, attempt=attempt, state=state, at=self.clock(), **other)

    def filled(self, sweep: str, numbers: range, epochs: int = 3) -> list:
        """Operations of a small sweep with one space, whose trials have run `epochs` epochs."""
        steps = [self.epoch(number, step) for number in numbers for step in range(1, epochs + 1)]
        return [
            AddSpaces(sweep, (self.space(),)),
            AddTrials(sweep, tuple(self.trial(number) for number in numbers)),
            RecordMetrics(sweep, tuple(steps)),
        ]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make(clock) -> Make:
    return Make(clock)


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server) -> str:
    """A database with the tables of the newest schema, to be copied: quicker than its migrations for every test."""
    name = postgresql_server.new_database()
    TrialDatabase.open(postgresql_server.url(name)).close()
    return name


@pytest.fixture
def migrated_url(postgresql, postgresql_template) -> Iterator[str]:
    """The URL of a trial database on PostgreSQL without sweeps."""
    name = postgresql.new_database(postgresql_template)
    yield postgresql.url(name)
    if not postgresql.running:
        postgresql.start()
    postgresql.drop(name)


@pytest.fixture(params=ENGINES)
def database_url(request, tmp_path: Path) -> str:
    """The URL of a database that does not exist yet (SQLite) or holds no sweep."""
    if request.param == "postgresql":
        return request.getfixturevalue("migrated_url")
    return f"sqlite:///{tmp_path / 'trials.db'}"


@pytest.fixture
def new_sweep():
    def add(database: TrialDatabase, name: str = "s", **other) -> str:
        given = {
            "kind": "refine",
            "trainable": "ktg",
            "settings": {"space": {"kind": "ktg"}},
            "seed": 7,
            "code_version": "0.1.0",
            "environment": {"python": "3.11"},
        }
        database.create_sweep(name, **{**given, **other})
        return name

    return add


@pytest.fixture
def database(database_url: str, clock, new_sweep):
    """An open database with a sweep "s"."""
    with TrialDatabase.open(database_url, clock=clock, busy_timeout_s=0.2) as database:
        new_sweep(database)
        yield database


@pytest.fixture
def dump():
    """All rows of all tables, to compare databases."""

    def read(database: TrialDatabase) -> dict[str, list[tuple]]:
        with database.reading() as connection:
            return {
                table.name: [
                    tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))
                ]
                for table in METADATA.sorted_tables
            }

    return read
