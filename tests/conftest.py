"""Fixtures that several folders of tests share."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

# Ray reads its mode once a process, when it is first imported: said here, no test depends on which one that is.
os.environ["RAY_AUTH_MODE"] = "disabled"
# So it is with the interface that it listens on: tests have no token, and are no concern of other machines.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
# One thread for small tensors: more of them than idle cores make torch slower, not faster. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Prepared records of this run alone, gone at its end; Ray's workers are told by the same variable.
_CACHE = tempfile.TemporaryDirectory(prefix="kdsearch-cache-")
os.environ["KDSEARCH_CACHE"] = _CACHE.name


@pytest.fixture(scope="session")
def ray_slots() -> Iterator[object]:
    """The one Ray instance of the test session: two cores, no dashboard, ended at the end."""
    from kdsearch.search.runner import RayOptions, ray_session

    options = RayOptions(address=None, cpus=1, gpus=0, max_concurrent=None, data_root=None)
    with ray_session(options) as slots:
        yield slots


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[object]:
    """The one PostgreSQL of the test session (`postgresql.PostgreSQL`), ended at the end."""
    spec = importlib.util.spec_from_file_location("postgresql", Path(__file__).with_name("postgresql.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.PostgreSQL()
    yield server
    server.close()


@pytest.fixture
def postgresql(postgresql_server):
    """The session's PostgreSQL; a test may stop it (`stop`, `start`, `restart`), it runs again afterwards."""
    yield postgresql_server
    if not postgresql_server.running:
        postgresql_server.start()


@pytest.fixture
def postgresql_url(postgresql) -> Iterator[str]:
    """The URL of an empty database on it, with its password; gone after the test."""
    name = postgresql.new_database()
    yield postgresql.url(name)
    if not postgresql.running:
        postgresql.start()
    postgresql.drop(name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests that kill drivers for minutes, unless they are asked for (`pytest -m kill`)."""
    if "kill" in config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("kill")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


class Clock:
    """A clock that moves one second at each look."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()
