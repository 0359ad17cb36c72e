"""In and out on PostgreSQL: the trial database there, Optuna's storage there, and both in one database."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import optuna
import pandas as pd
import pytest

from kdsearch.search.cli import _run
from kdsearch.search.trialdb import TrialDatabase, optuna_storage, read_record
from kdsearch.search.trialdb.places import with_driver

_SPEC = importlib.util.spec_from_file_location(
    "exchange_cases", Path(__file__).with_name("exchange_cases.py")
)
_CASES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CASES)

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture
def here(tmp_path, monkeypatch, postgresql_url, clock):
    """A folder, and a trial database on PostgreSQL that is the default, with the sweep "mine"."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDSEARCH_DB", postgresql_url)
    with TrialDatabase.open(postgresql_url, clock=clock) as database:
        states = [*_CASES.ENDS] * 3
        drawn = _CASES.draws(_CASES.MIXED, len(states))
        _CASES.add_sweep(database, "mine", _CASES.MIXED, drawn, states=states)
    return tmp_path


@pytest.fixture
def storage(postgresql):
    """The URL of an empty database for Optuna."""
    name = postgresql.new_database()
    yield postgresql.url(name)
    postgresql.drop(name)


def sweep(url, name):
    with TrialDatabase.open(url, create=False, read_only=True) as database:
        return read_record(database, name)


def same(one, other):
    columns = [c for c in one.trials.columns if c not in {"started", "ended", "attempts", "plan"}]
    pd.testing.assert_frame_equal(one.trials[columns], other.trials[columns])
    pd.testing.assert_frame_equal(errors(one), errors(other))


def errors(record):
    """The curves that a study has: its objective's."""
    curves = record.curves
    found = curves[(curves["metric"] == "val_error") & (curves["node"] == 1)].reset_index(drop=True)
    return found.assign(metric=found["metric"].astype(str))


def test_a_study_goes_to_a_server_and_comes_back(here, storage, postgresql, postgresql_url, capsys):
    export = ["export", "mine", "--format", "optuna", "--out", storage]
    assert _run([*export, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["trials"] == 12
    assert postgresql.password not in out + err
    opened = optuna_storage.open_storage(with_driver(storage), storage, create=False)
    study = optuna.load_study(study_name="mine", storage=opened)
    record = sweep(postgresql_url, "mine")
    complete = record.trials[record.trials["state"] == "complete"]
    assert study.best_value == complete["error"].min()
    assert sum(len(trial.intermediate_values) for trial in study.trials) > 0
    optuna_storage.close(opened)
    assert _run(export) == 2  # the study is there
    assert "already has a study 'mine'" in capsys.readouterr().err
    assert _run([*export, "--study", "again"]) == 0
    assert _run(["import", storage, "--design", "stated", "--name", "back"]) == 2
    assert "--study: again, mine" in capsys.readouterr().err
    assert _run(["import", storage, "--study", "mine", "--design", "stated", "--name", "back"]) == 0
    out, err = capsys.readouterr()
    assert postgresql.password not in out + err
    same(sweep(postgresql_url, "back"), record)


def test_optuna_may_have_its_tables_beside_ours(here, postgresql_url, capsys):
    assert _run(["export", "mine", "--format", "optuna", "--out", postgresql_url]) == 0
    assert _run(["import", postgresql_url, "--design", "stated", "--name", "back"]) == 0
    same(sweep(postgresql_url, "back"), sweep(postgresql_url, "mine"))
    assert _run(["status"]) == 0
    assert "back" in capsys.readouterr().out


def test_files_of_a_sweep_are_alike_from_both_engines(here, postgresql_url, capsys):
    for form in ("csv", "parquet"):
        for what in ("trials", "curves"):
            file = f"{what}.{form}"
            assert _run(["export", "mine", "--format", form, "--what", what, "--out", file]) == 0
    again = ["import", "trials.parquet", "--curves", "curves.parquet", "--design", "stated", "--name", "mine"]
    assert _run([*again, "--db", "sqlite:///a.db"]) == 0
    same(sweep("sqlite:///a.db", "mine"), sweep(postgresql_url, "mine"))
    for what in ("trials", "curves"):
        told = ["export", "mine", "--format", "csv", "--what", what, "--out", f"sqlite-{what}.csv"]
        assert _run([*told, "--db", "sqlite:///a.db"]) == 0
    assert Path("curves.csv").read_text() == Path("sqlite-curves.csv").read_text()
    for name in ("one", "other"):
        db = ["--db", "sqlite:///a.db"] if name == "other" else []
        assert _run(["report", "mine", "--out", name, *db, "--json"]) == 0
    for table in ("curves.csv", "edf.csv"):
        if (here / "one" / table).exists():
            assert (here / "one" / table).read_text() == (here / "other" / table).read_text()


def test_what_is_no_storage_of_optunas_is_refused(here, storage, capsys, postgresql):
    for url, said in (
        (storage, "no database of Optuna's, but an empty one"),
        (postgresql.url("nowhere"), "does not exist"),
        (storage.replace(postgresql.password, "s3cret"), "password authentication failed"),
        ("mysql://me:s3cret@db/x", "no database URL that can be opened"),
    ):
        assert _run(["import", url]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert "s3cret" not in err
        assert postgresql.password not in err
