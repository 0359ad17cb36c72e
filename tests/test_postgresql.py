"""The PostgreSQL of the tests: what other rooms' tests count on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest


def test_databases_are_empty_and_apart(postgresql, postgresql_url):
    with psycopg.connect(postgresql_url) as connection:
        connection.execute("CREATE TABLE t (a integer)")
    other = postgresql.new_database()
    assert postgresql.execute("SELECT count(*) FROM pg_tables WHERE tablename = 't'", other) == [(0,)]
    name = postgresql_url.rpartition("/")[2]
    copy = postgresql.new_database(template=name)
    assert postgresql.execute("SELECT * FROM t", copy) == []
    for database in (other, copy):
        postgresql.drop(database)


def test_a_wrong_password_is_refused(postgresql):
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgresql.url().replace(postgresql.password, "guessed"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
def test_it_comes_back_with_its_data_at_the_same_place(postgresql, postgresql_url, number):
    name = postgresql_url.rpartition("/")[2]
    postgresql.execute("CREATE TABLE t AS SELECT 7 AS a", name)
    postgresql.stop(number)
    assert not postgresql.running
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(postgresql_url)
    postgresql.start()
    assert postgresql.execute("SELECT a FROM t", name) == [(7,)]


def test_a_frozen_server_does_not_answer_and_goes_on_afterwards(postgresql, postgresql_url):
    with psycopg.connect(postgresql_url) as connection:
        with postgresql.frozen(), pytest.raises(psycopg.OperationalError):
            psycopg.connect(postgresql_url, connect_timeout=2)
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_it_leaves_nothing_behind(postgresql_server):
    server = type(postgresql_server)()
    folder, family = server.folder, server._family()
    assert len(family) > 1
    server.close()
    assert not folder.exists()
    for process in family:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_it_ends_with_a_process_that_is_killed():
    program = f"""
import importlib.util, time
spec = importlib.util.spec_from_file_location("p", {str(Path(__file__).with_name("postgresql.py"))!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
server = module.PostgreSQL()
print(server.folder, server._process.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        folder, server = process.stdout.readline().split()
        process.kill()
    end = time.monotonic() + 120
    while Path(folder).exists() or Path(f"/proc/{server}").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
