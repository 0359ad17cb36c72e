"""`--or-resume`: a command that is started again goes on with what its database holds. Packs run in this process."""

from __future__ import annotations

import contextlib
import importlib.util
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from sqlalchemy import update

from kdsearch.search import launch as launching
from kdsearch.search.cli import _run, resume, run
from kdsearch.search.cli.running import go_on
from kdsearch.search.launch import Launch, utc_now
from kdsearch.search.runner import Slots
from kdsearch.search.trialdb import TrialDatabase
from kdsearch.search.trialdb.schema import SWEEP as SWEEP_TABLE

_SPEC = importlib.util.spec_from_file_location("inline", Path(__file__).with_name("inline.py"))
INLINE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(INLINE)

SWEEP = {
    "name": "s",
    "seed": 5,
    "space": {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}},
    "trainable": {"kind": "constant", "epochs": 3, "curve": 20, "wobble": 10},
    "searcher": {"kind": "random", "trials": 6},
    "run": {"pack": 1},
}
URL = "sqlite:///kdsearch.db"
BEGIN = ["sweep", "s.yaml", "--or-resume"]


@pytest.fixture
def worker(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("KDSEARCH_DB", "KDSEARCH_DB_FILE", "KDSEARCH_DATA"):
        monkeypatch.delenv(name, raising=False)
    slots = Slots(concurrency=1, fits=1, cpus=1.0, gpus=0.0, gpus_per_pack=0.0)
    monkeypatch.setattr(launching, "_ray", lambda *_: contextlib.nullcontext(slots))
    worker = INLINE.Worker()
    monkeypatch.setattr(launching, "run", worker.run)
    for module in (run, resume):  # a report takes longer than all trials
        monkeypatch.setattr(module, "report", lambda *_, **__: None)
    Path("s.yaml").write_text(yaml.safe_dump(SWEEP))
    return worker


def told(capsys):
    out = capsys.readouterr()
    assert "Traceback" not in out.err + out.out
    return " ".join(out.err.split())


def names():
    with TrialDatabase.open(URL, create=False, read_only=True) as database:
        return [sweep.name for sweep in database.sweeps()]


def test_it_begins_goes_on_and_then_has_nothing_to_do(worker, capsys):
    worker.before = 4
    assert _run(BEGIN) == 130
    worker.before = None
    assert _run(BEGIN) == 0
    assert sorted(worker.ran) == list(range(6))  # each once
    assert _run(BEGIN) == 0
    assert "s is complete: nothing was run." in told(capsys)
    assert sorted(worker.ran) == list(range(6))
    assert names() == ["s"]
    assert _run(["sweep", "s.yaml"]) == 0  # without it a name that is taken is numbered
    assert names() == ["s", "s-2"]


def test_a_name_that_is_given_is_looked_for(worker, capsys):
    worker.before = 2
    assert _run([*BEGIN, "--name", "mine"]) == 130
    worker.before = None
    assert _run([*BEGIN, "--name", "mine"]) == 0
    assert names() == ["mine"]
    assert sorted(worker.ran) == list(range(6))


def test_more_trials_extend_and_fewer_are_those_of_the_beginning(worker, capsys):
    assert _run(BEGIN) == 0
    assert _run([*BEGIN, "--set", "searcher.trials=8", "--set", "run.pack=2"]) == 0
    assert sorted(worker.ran) == list(range(8))
    assert "searcher.trials 6 8" in told(capsys)
    assert _run(BEGIN) == 0  # a job that is started again has its old file
    assert "nothing was run" in told(capsys)
    with TrialDatabase.open(URL, create=False, read_only=True) as database:
        assert database.sweep("s").settings["searcher"]["trials"] == 8


@pytest.mark.parametrize("change", ["seed=6", "trainable.epochs=4", "searcher.kind=qmc"])
def test_another_sweep_of_the_name_is_refused(worker, capsys, change):
    worker.before = 2
    assert _run(BEGIN) == 130
    assert _run([*BEGIN, "--set", change]) == 2
    assert f"this is not the sweep that s is now: {change.partition('=')[0]}" in told(capsys)
    assert worker.ran == [0, 1]


@pytest.mark.parametrize("alive", [False, True])
def test_it_waits_for_a_driver_elsewhere_until_it_is_known_to_be_dead(worker, capsys, monkeypatch, alive):
    worker.before = 2
    assert _run(BEGIN) == 130
    worker.before = None
    slept = []

    def heard(before_s):
        with TrialDatabase.open(URL, create=False) as database, database.writing() as connection:
            connection.execute(
                update(SWEEP_TABLE).values(
                    lease_host="node-1",
                    lease_pid=7,
                    lease_token="another boot/x",  # noqa: S106 no secret
                    lease_heartbeat=utc_now() - timedelta(seconds=before_s),
                )
            )

    def sleep(seconds):
        slept.append(seconds)
        heard(0 if alive and len(slept) == 2 else 30 + 20 * len(slept))

    heard(30)
    monkeypatch.setattr(resume, "sleep", sleep)
    assert _run(BEGIN) == (1 if alive else 0)
    said = told(capsys)
    assert "'node-1', last heard of 30 s ago: waiting until it is heard of again, or 60 s are over" in said
    assert len(slept) == 2
    assert sorted(worker.ran) == (list(range(2)) if alive else list(range(6)))


def test_the_database_comes_from_a_file_where_nothing_names_one(worker, capsys, monkeypatch):
    Path("url").write_text("sqlite:///of-the-file.db\n")
    monkeypatch.setenv("KDSEARCH_DB_FILE", "url")
    assert _run(BEGIN) == 0
    assert Path("of-the-file.db").exists()
    assert go_on(Launch(db="sqlite:///of-the-file.db"), "s") == "Go on with: kdsearch resume s"
    monkeypatch.setenv("KDSEARCH_DB", "sqlite:///of-the-variable.db\n")  # as secrets of files end
    assert _run(BEGIN) == 0
    assert Path("of-the-variable.db").exists()
    assert _run([*BEGIN, "--db", "sqlite:///of-the-option.db"]) == 0
    assert Path("of-the-option.db").exists()


@pytest.mark.parametrize(("text", "why"), [(None, "No such file"), ("", "one line"), ("a\nb", "one line")])
def test_a_file_that_names_no_database_is_refused(worker, capsys, monkeypatch, text, why):
    monkeypatch.setenv("KDSEARCH_DB_FILE", "url")
    if text is not None:
        Path("url").write_text(text)
    assert _run(["status"]) == 2
    assert f"KDSEARCH_DB_FILE names url, which {'cannot' if text is None else 'does not hold'}" in (
        said := told(capsys)
    )
    assert why in said
