"""What `status` and the end of a run say of a comparison of methods, from a database as a driver writes it."""

from __future__ import annotations

import io
import json
import math
import re
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from kdsearch.analysis.methods import compare
from kdsearch.search.cli import _run
from kdsearch.search.cli.methods import methods_of, print_methods
from kdsearch.search.cli.summary import print_summary, summary_of
from kdsearch.search.trialdb import (
    AttemptStart,
    MetricRow,
    ResultRow,
    SpaceRow,
    TrialDatabase,
    TrialRow,
    TrialState,
    read_record,
)
from kdsearch.spaces import space_from_spec

START = datetime(2026, 1, 2, tzinfo=UTC)
SPACE = {"kind": "parameters", "parameters": {"lambda_1": {"type": "float", "low": 0.0, "high": 1.0}}}
# test errors of the final trials, run by run; None: it diverged
FINAL = {"none": (6.0, 5.0, 7.0), "naive": (5.0, 4.5, 6.5), "tpe [optuna]": (4.0, None, 5.0)}
SETTINGS = {
    "name": "kd",
    "space": SPACE,
    "searcher": {
        "kind": "comparison",
        "runs": 3,
        "reference": "naive",
        "methods": {
            "none": {"kind": "fixed", "values": {"lambda_1": 1.0}},
            "naive": {"kind": "fixed", "values": {"lambda_1": 0.5}},
            "tpe [optuna]": {"kind": "tpe", "library": "optuna", "trials": 1},
        },
    },
    "trainable": {"kind": "kd", "data": {"name": "digits"}, "epochs": 2},
}


class Filler:
    """Writes trials as a driver does."""

    def __init__(self, database: TrialDatabase) -> None:
        self.database, self.number = database, 0
        settings = {"kind": "sweep", "trainable": "kd", "settings": SETTINGS, "seed": 1}
        database.create_sweep("kd", **settings, code_version="0.2.0", environment={"command": "kdsearch"})
        space = space_from_spec(SPACE, name="A")
        counts = space.counts().to_dict()
        database.add_spaces(
            "kd", [SpaceRow(name="A", specification=space.to_spec(), hash="0" * 64, counts=counts)]
        )

    def trial(self, error: float | None, **plan: object) -> None:
        number, metric = self.number, "test_error" if plan["final"] else "val_error"
        self.number += 1
        objective = {"objective": metric, "evaluate": plan["final"], "train_on": "training"}
        row = TrialRow(
            number=number,
            configuration={"lambda_1": 0.5},
            configuration_hash="0" * 64,
            seed=int(plan["run"]),
            created=START,
            sampling_design="fixed",
            plan={**plan, **objective},
        )
        self.database.add_trials("kd", [row])
        at = START + timedelta(seconds=number)
        self.database.start_attempts(
            "kd", [AttemptStart(number=number, n=1, host="here", device="cpu", at=at)]
        )
        told = {"seconds": 1.0, "train_seconds": 0.5, "iterations": 4.0, "members": 1.0, "meta.lambda_1": 0.5}
        told |= {"forward_passes": 4.0, "backward_passes": 4.0, "tangent_passes": 0.0, "1/train_loss": 0.1}
        for epoch in (1, 2):
            value = math.nan if error is None else error + 2 - epoch
            self.database.record_metrics(
                "kd",
                [MetricRow(number=number, attempt=1, step=epoch, values={**told, f"1/{metric}": value})],
            )
        state = TrialState.DIVERGED if error is None else TrialState.COMPLETE
        self.database.finish_trials(
            "kd",
            [ResultRow(number=number, attempt=1, state=state, at=at, error=error, last_epoch=2, seconds=2.0)],
        )

    def comparison(self, runs: int = 3) -> None:
        for method, errors in FINAL.items():
            for run, error in enumerate(errors[:runs]):
                if method.startswith("tpe"):
                    self.trial(1.0, method=method, run=run, final=False)  # on the validation part: flattering
                self.trial(error, method=method, run=run, final=True)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDSEARCH_DB", raising=False)
    return tmp_path


@pytest.fixture
def database(here):
    with TrialDatabase.open(f"sqlite:///{here / 'kdsearch.db'}") as database:
        yield database


@pytest.mark.usefixtures("here")
def test_status_shows_the_table_of_methods(database, capsys):
    Filler(database).comparison()
    assert _run(["status"]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert ["naive", "3", "94.67", "1.04", "95.50"] in lines
    assert next(line for line in lines if line[:1] == ["none"])[:6] == [
        "none",
        "3",
        "94.00",
        "1.00",
        "95.00",
        "−0.67",
    ]
    assert "(trial" not in out  # no best error of several methods on two parts
    assert "-" in next(line for line in lines if line[:1] == ["kd"])
    assert "less naive: mean difference over runs of the same seed, with its 95 % interval" in out
    assert "Runs that diverged count with their fixed error: 1 of tpe [optuna]" in out


def test_the_numbers_as_json_are_those_of_the_analysis(database, capsys):
    Filler(database).comparison()
    assert _run(["status", "kd", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)[0]["comparison"]
    found = compare(read_record(database, "kd"))
    assert (told["reference"], told["accuracy_of"], told["planned_runs"], told["alpha"]) == (
        "naive",
        "test",
        3,
        0.05,
    )
    assert [row["method"] for row in told["methods"]] == list(FINAL)
    none, naive, tpe = told["methods"]
    assert none["accuracies"] == [94.0, 95.0, 93.0]
    assert naive["difference"] is None
    assert none["difference"]["mean"] == pytest.approx(-2 / 3)
    assert none["difference"]["p"] == found.rows[0].difference.p
    assert (tpe["diverged"], tpe["accuracies"], tpe["trials_per_run"]) == (1, [96.0, 0.0, 95.0], 2.0)
    assert [row["method"] for row in told["costs"]] == list(FINAL)


@pytest.mark.usefixtures("here")
def test_few_pairs_are_said_to_decide_nothing(database, capsys):
    Filler(database).comparison()
    assert _run(["status"]) == 0
    assert (
        "With 3 pairs of runs no p can be below 0.250 (2/2^3), 0.500 after Holm for 2 methods: no difference"
        in (" ".join(capsys.readouterr().out.split()))
    )


def test_a_comparison_that_has_just_begun_says_so(database, capsys):
    Filler(database)
    assert _run(["status"]) == 0
    assert "No method has finished a run yet." in capsys.readouterr().out
    assert methods_of(read_record(database, "kd")) == {"planned_runs": 3, "methods": [], "notes": []}


def test_runs_that_are_not_in_yet_are_counted(database, capsys):
    Filler(database).comparison(runs=2)
    assert _run(["status"]) == 0
    assert ["naive", "2/3", "95.25", "0.35", "95.50"] in [
        line.split() for line in capsys.readouterr().out.splitlines()
    ]


def test_a_sweep_without_methods_has_no_table(database):
    database.create_sweep(
        "other",
        kind="sweep",
        trainable="kd",
        settings={**SETTINGS, "searcher": {"kind": "random", "trials": 1}},
        seed=1,
        code_version="0.2.0",
        environment={},
    )
    assert methods_of(read_record(database, "other")) is None


def test_a_narrow_terminal_loses_no_number(database):
    Filler(database).comparison()
    text = io.StringIO()
    print_methods(Console(file=text, width=30, highlight=False), methods_of(read_record(database, "kd")))
    assert "…" not in text.getvalue()
    assert "[optuna]" in text.getvalue()  # a name is no markup


def test_the_query_in_the_documentation_gives_the_same_means(database):
    Filler(database).comparison()
    text = (Path(__file__).parents[2] / "docs" / "trials.md").read_text()
    query = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)[-1]
    connection = sqlite3.connect(database.path)
    rows = connection.execute(query, {"sweep": "kd", "diverged": 100.0}).fetchall()
    connection.close()
    means = {row.name: (row.runs, round(row.mean, 2)) for row in compare(read_record(database, "kd")).rows}
    assert {name: (runs, mean) for name, runs, mean in rows} == means


@pytest.mark.usefixtures("here")
def test_the_end_of_a_run_prints_the_table_and_where_the_report_is(database, capsys):
    Filler(database).comparison()
    summary = summary_of("kd", database.place, database.path.parent / "out", seconds=12.0)
    print_summary(summary)
    out = capsys.readouterr().out
    assert "kd: 12 trials (11 complete, 1 diverged) in 12 s" in out
    assert ["naive", "3", "94.67", "1.04", "95.50"] in [line.split() for line in out.splitlines()]
    assert "out/report.html" in out
    assert (database.path.parent / "out" / "report.html").exists()
    assert summary["comparison"]["methods"][0]["method"] == "none"
    json.dumps(summary, default=str)
