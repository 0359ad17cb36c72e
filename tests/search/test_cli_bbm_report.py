"""`kdsearch report` on block-by-block matching, from a database as a driver writes it."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from kdsearch.search.cli import _run
from kdsearch.search.trialdb import (
    AddEvents,
    ArrayRow,
    AttemptStart,
    EventRow,
    MetricRow,
    ResultRow,
    Role,
    SpaceRow,
    TrialDatabase,
    TrialRow,
    TrialState,
    note_event,
)
from kdsearch.spaces import space_from_spec

START = datetime(2026, 1, 2, tzinfo=UTC)
SPACE = {
    "kind": "parameters",
    "parameters": {
        "method": {"type": "categorical", "values": ["transformer", "bbm"]},
        "learning_rate": {"type": "log-uniform", "low": 1e-4, "high": 1e-2},
    },
}
SETTINGS = {
    "name": "ehr",
    "space": SPACE,
    "searcher": {"kind": "named"},
    "trainable": {"kind": "bbm", "data": {"name": "physionet2019"}, "epochs": 2},
}
SCORES = {"transformer": (0.20, 0.22), "bbm": (0.24, 0.27)}  # utility on the test part, run by run


class Filler:
    """Writes trials as a driver does."""

    def __init__(self, database: TrialDatabase) -> None:
        self.database, self.number = database, 0
        given = {"kind": "sweep", "trainable": "bbm", "settings": SETTINGS, "seed": 1}
        database.create_sweep("ehr", **given, code_version="0.3.0", environment={"command": "kdsearch"})
        space = space_from_spec(SPACE, name="A")
        row = SpaceRow(
            name="A", specification=space.to_spec(), hash=space.hash, counts=space.counts().to_dict()
        )
        database.add_spaces("ehr", [row])

    def trial(self, method: str, score: float, *, state: TrialState = TrialState.COMPLETE, **row) -> int:
        number, self.number = self.number, self.number + 1
        configuration = {"method": method, "learning_rate": 1e-3 * (1 + number)}
        given = {"configuration": configuration, "configuration_hash": f"{number:064x}", "seed": 1, **row}
        self.database.add_trials("ehr", [TrialRow(number=number, created=START, **given)])
        start = AttemptStart(number=number, n=1, host="h", device="cpu", at=START)
        self.database.start_attempts("ehr", [start])
        last = 2 if state is TrialState.COMPLETE else 1
        for epoch in range(1, last + 1):
            self.metrics(number, epoch, {"1/val_error": 100 * (1 - score / (3 - epoch)), "seconds": 0.5})
        result = ResultRow(number=number, attempt=1, state=state, at=START, last_epoch=last, seconds=1.0)
        self.database.finish_trials("ehr", [result])
        return number

    def metrics(self, number: int, epoch: int, values: dict[str, float]) -> None:
        self.database.record_metrics("ehr", [MetricRow(number=number, attempt=1, step=epoch, values=values)])

    def final(self, method: str, run: int, score: float) -> None:
        plan = {"method": method, "run": run, "final": True, "evaluate": True, "objective": "test_error"}
        number = self.trial(method, score, plan=plan)
        told = {f"1/test_{name}": score for name in ("challenge", "f1", "auroc", "auprc")}
        self.metrics(number, 2, told | {"1/r2": score, "attention_distance.1": 3.0})
        arrays = {"cka": np.eye(3), "attention": np.full((1, 4, 4), 0.25)}
        rows = [ArrayRow.of(a, number=number, attempt=1, step=2, name=name) for name, a in arrays.items()]
        self.database.record_arrays("ehr", rows)


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    with TrialDatabase.open(url) as database:
        filler = Filler(database)
        filler.trial("teacher", 0.3, role=Role.PRETRAIN)
        filler.trial("bbm", 0.2, plan={})
        filler.trial("bbm", 0.1, state=TrialState.STOPPED)
        for method, scores in SCORES.items():
            for run, score in enumerate(scores):
                filler.final(method, run, score)
        verdict = {"trial": 2, "rung": 1, "value": 95.0, "cutoff": 90.0, "stopped": True, "recorded": 1}
        events = [EventRow(kind="scheduler", at=START, data=verdict | {"reason": "above"})]
        events.append(note_event("The records of X are a made-up sample: the numbers are no results.", START))
        database.apply([AddEvents("ehr", tuple(events))])
    return url


def test_the_report_of_a_sweep(url, tmp_path, capsys):
    out = tmp_path / "report"
    assert _run(["report", "ehr", "--db", url, "--out", str(out), "--json"]) == 0
    files = {Path(path).name for path in json.loads(capsys.readouterr().out)["files"]}
    assert {"report.html", "bbm.json", "arrays.npz", "cka.csv", "rungs.csv", "attention.svg"} <= files
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<title>ehr (made-up sample)</title>" in page
    with (out / "methods.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file) if row["score"] == "test_challenge"}
    for method, scores in SCORES.items():
        assert float(rows[method]["mean"]) == pytest.approx(np.mean(scores))
        assert float(rows[method]["spread"]) == pytest.approx(np.std(scores, ddof=1))
    found = json.loads((out / "bbm.json").read_text(encoding="utf-8"))
    assert found["searches"][0]["rungs"] == [
        {"epoch": 1, "reached": 1, "stopped": 1, "best": 95.0, "cutoff": 90.0}
    ]
    assert found["searches"][0]["best"][0]["parameters"] == {
        "method": "bbm",
        "learning_rate": 0.002,
    }


def test_status_tells_scores_of_the_test_part(url, capsys):
    assert _run(["status", "ehr", "--db", url]) == 0
    told = capsys.readouterr().out
    line = next(line for line in told.splitlines() if line.startswith("BBM"))
    assert line.split()[:5] == ["BBM", "2", "0.255", "±", "0.021"]
    assert "P-19" in told
    assert "accuracy" not in told
    assert "no difference can be decided" in told


def test_status_of_all_sweeps_is_their_tables_alone(url, capsys):
    assert _run(["status", "--db", url]) == 0
    told = capsys.readouterr().out
    assert any(line.startswith("BBM") for line in told.splitlines())
    assert "no difference can be decided" not in told


def test_status_as_json(url, capsys):
    assert _run(["status", "ehr", "--db", url, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["comparison"] is None
    means = {each["method"]: each["scores"]["challenge"]["mean"] for each in row["study"]["methods"]}
    assert {name: means[name] for name in SCORES} == pytest.approx(
        {name: np.mean(scores) for name, scores in SCORES.items()}
    )
