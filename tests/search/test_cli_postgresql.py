"""The command line against PostgreSQL, side by side with SQLite; packs run in this process, without Ray."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from kdsearch.search import launch as launching
from kdsearch.search.cli import _run, resume, run
from kdsearch.search.runner import Slots
from kdsearch.search.trialdb import TrialDatabase, read_record

_SPEC = importlib.util.spec_from_file_location("inline", Path(__file__).with_name("inline.py"))
INLINE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(INLINE)

SWEEP = {
    "name": "s",
    "seed": 5,
    "space": {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}},
    "trainable": {"kind": "constant", "epochs": 3, "curve": 20, "metaparameters": {"x": [0, 1]}},
    "searcher": {"kind": "random", "trials": 6},
    "scheduler": {"kind": "asha", "rungs": [1, 2]},
    "run": {"pack": 1},
}


@pytest.fixture
def two(tmp_path, monkeypatch, postgresql_url):
    """URLs of a database on each engine; what trains runs in this process."""
    monkeypatch.chdir(tmp_path)
    for name in ("KDSEARCH_DB", "KDSEARCH_DATA"):
        monkeypatch.delenv(name, raising=False)
    slots = Slots(concurrency=1, fits=1, cpus=1.0, gpus=0.0, gpus_per_pack=0.0)
    monkeypatch.setattr(launching, "_ray", lambda *_: contextlib.nullcontext(slots))
    monkeypatch.setattr(launching, "run", INLINE.Worker().run)
    for module in (run, resume):  # a report takes longer than all trials
        monkeypatch.setattr(module, "report", lambda *_, **__: None)
    Path("s.yaml").write_text(yaml.safe_dump(SWEEP))
    return "sqlite:///kdsearch.db", postgresql_url


def standing(url, name):
    """What a sweep came to, without times."""
    with TrialDatabase.open(url, create=False, read_only=True) as database:
        record = read_record(database, name)
    left_out = ["started", "ended", "seconds"]
    curves = record.curves[record.curves["metric"] != "seconds"].reset_index(drop=True)
    return record.trials.drop(columns=left_out), record.draws, record.rungs, curves.astype({"metric": str})


def test_sweep_resume_retrain_table_and_status_come_to_the_same(two, monkeypatch, capsys, postgresql):
    told = []
    for number, url in enumerate(two):
        monkeypatch.setenv("KDSEARCH_DB", url)
        for command in (
            ["sweep", "s.yaml", "--out", f"r{number}"],
            ["resume", "s", "--trials", "9", "--out", f"r{number}"],
            ["retrain", "s", "--seeds", "2", "--name", "again", "--out", f"again{number}"],
            ["table", "s", "--metric", "1/val_error", "--out", f"t{number}.csv"],
            ["status", "s", "--json"],
        ):
            capsys.readouterr()
            code = _run(command)
            out = capsys.readouterr()
            assert code == 0, (command, out.err)
            assert postgresql.password not in out.out + out.err
        status = json.loads(out.out)[0]
        told.append({key: value for key, value in status.items() if key not in {"created", "ended"}})
    assert told[0] == told[1]
    assert told[0]["state"] == "complete"
    for name in ("s", "again"):
        for one, other in zip(*(standing(url, name) for url in two), strict=True):
            pd.testing.assert_frame_equal(one, other)
    assert Path("t0.csv").read_text() == Path("t1.csv").read_text()
