"""Sweeps as tables and back, and the table that comes with kdsearch."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from kdsearch.search.cli import _run
from kdsearch.search.config import load_sweep, parse_sweep
from kdsearch.search.searchers.plans import final_plan
from kdsearch.search.tables import sweep_table, with_table, write_table
from kdsearch.search.trialdb import TrialDatabase
from kdsearch.search.trialdb import operations as op
from kdsearch.search.trialdb.states import SweepState, TrialState
from kdsearch.spaces import configuration_key
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.registry import trainable_kind
from kdsearch.trainables.table.kind import load_table
from kdsearch.trainables.table.known import known_table, known_tables
from kdsearch.trainables.table.settings import TableSettings

_spec = importlib.util.spec_from_file_location(
    "exchange_cases", Path(__file__).with_name("exchange_cases.py")
)
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)

PLAIN = {
    "kind": "parameters",
    "parameters": {
        "state": {"type": "categorical", "values": ["no", "yes"]},  # a column of the frame of trials too
        "b": {"type": "quantised", "low": 0, "high": 0.2, "step": 0.1, "when": {"state": "yes"}},
    },
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDSEARCH_DB", raising=False)
    return tmp_path


@pytest.fixture
def db(here):
    """A finished sweep, `all.every.0`, that trained each of four configurations three times; one curve diverged."""
    rows = ["state,b,repeat,epoch,1/val_error,2/val_error,seconds"]
    for place, (state, b) in enumerate([("no", ""), ("yes", "0.0"), ("yes", "0.1"), ("yes", "0.2")]):
        for epoch in (1, 2):
            error = "nan" if (place, epoch) == (3, 2) else f"{10 * place + 1 / epoch}"
            rows.append(f"{state},{b},0,{epoch},{error},{place + 0.5},0.25")
    (here / "curves.csv").write_text("\n".join(rows) + "\n")
    comparison = {
        "name": "all",
        "space": PLAIN,
        "trainable": {"kind": "table", "file": "curves.csv"},
        "runs": 2,
        "budget": {"epochs": 1000},
        "reference": "every",
        "entries": {"every": {"searcher": {"kind": "enumeration", "repeats": 3}}},
    }
    (here / "all.yaml").write_text(yaml.safe_dump(comparison))
    assert _run(["compare", "all.yaml", "--keep", "sqlite:///all.db", "--json"]) == 0
    return "sqlite:///all.db"


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
def test_a_sweep_comes_back_as_the_table_that_answered_it(db, here, name, capsys):
    assert _run(["table", "all.every.0", "--db", db, "--out", name]) == 0
    assert "12 curves of 4 configurations, 24 rows" in capsys.readouterr().out
    first, again = (
        load_table(TableSettings.from_mapping({"file": each, "space": PLAIN}), None)
        for each in ("curves.csv", name)
    )
    assert len(again.configurations) == 4
    for configuration in first.configurations:
        (curve,) = first.curves(configuration)
        found = again.curves(configuration)
        assert [each.repeat for each in found] == ["0", "1", "2"]
        assert all(each.final_error == curve.final_error for each in found)
        assert all(each.metrics(1) == curve.metrics(1) for each in found)


@pytest.fixture
def small(here):
    """A finished sweep of two configurations without `y`; trials 2 and 3 are final ones of the first."""
    spec = {
        "kind": "parameters",
        "parameters": {
            "x": {"type": "categorical", "values": ["a", "b", "c"]},
            "y": {"type": "float", "low": 0, "high": 1, "when": {"x": "c"}},
        },
    }
    with TrialDatabase.open("sqlite:///small.db") as database:
        cases.add_sweep(database, "s", spec, [{"x": "a"}, {"x": "b"}], errors=[5.0, 20.0])
        for number in (2, 3):
            plan = final_plan("best", number - 2, train_on="all", optimised=False)
            row = op.TrialRow(
                number=number, configuration={"x": "a"}, configuration_hash=configuration_key({"x": "a"}),
                seed=number, created=cases.START, sampling_design="confirmation", plan=plan,
            )  # fmt: skip
            values = {"1/train_loss": 1.0, "1/test_error": 6.0}
            database.apply(
                [
                    op.AddTrials("s", (row,)),
                    op.RecordMetrics("s", (op.MetricRow(number=number, attempt=1, step=3, values=values),)),
                    op.FinishTrials(
                        "s",
                        (
                            op.ResultRow(
                                number=number, attempt=1, state=TrialState.COMPLETE, at=cases.START, error=6.0
                            ),
                        ),
                    ),
                ]
            )
        database.apply([op.SetSweepState("s", (op.StateChange(state=SweepState.COMPLETE, at=cases.START),))])
    return spec


def test_final_trials_are_not_in_the_table(small, here):
    """They have no validation error: in the table they would be trainings of the best one that diverged."""
    with TrialDatabase.open("sqlite:///small.db", read_only=True) as database:
        found = sweep_table(database, "s")
    write_table(found, here / "t.csv")
    table = load_table(TableSettings.from_mapping({"file": "t.csv", "space": small}), None)
    assert (found.curves, found.left_out) == (2, 0)
    assert [curve.final_error for curve in table.curves({"x": "a"})] == [5.0]
    assert "1/test_error" not in found.frame


def test_a_parameter_that_no_trial_has_is_an_empty_column(small):
    with TrialDatabase.open("sqlite:///small.db", read_only=True) as database:
        found = sweep_table(database, "s")
    assert found.configurations == 2
    ends = found.frame[found.frame["epoch"] == 3]
    assert ends[["x", "y", "repeat", "1/val_error"]].to_numpy().tolist() == [
        ["a", "", 0, 5.0],
        ["b", "", 0, 20.0],
    ]


def test_metrics_can_be_chosen_and_files_are_not_written_over(db, here, capsys):
    asked = ["table", "all.every.0", "--db", db, "--out", "t.csv", "--metric", "1/val_error"]
    assert _run([*asked, "--json"]) == 0
    columns = json.loads(capsys.readouterr().out)["columns"]
    assert sorted(columns[:2]) == ["b", "state"]
    assert columns[2:] == ["repeat", "epoch", "1/val_error", "seconds"]
    assert _run(asked) == 2
    assert "t.csv exists" in capsys.readouterr().err
    assert _run([*asked, "--force"]) == 0
    assert _run(["table", "all.every.0", "--db", db, "--out", "t.txt"]) == 2
    assert "It ends in .csv, .csv.gz or .parquet" in capsys.readouterr().err
    assert _run(["table", "nosuch", "--db", db, "--out", "u.csv"]) == 2
    assert not list(here.glob(".*.part"))


@pytest.mark.parametrize("more", [(), ("--metric", "1/val_error")])
def test_a_metric_that_no_trial_has_is_refused(db, here, capsys, more):
    arguments = ["table", "all.every.0", "--db", db, "--out", "t.csv", *more, "--metric", "1/val_eror"]
    assert _run(arguments) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "no trial of sweep all.every.0 has a metric '1/val_eror', did you mean '1/val_error'?" in said
    assert "There are: 1/val_error, 2/val_error." in said
    assert not (here / "t.csv").exists()


def test_the_same_table_is_the_same_bytes(db, here):
    with TrialDatabase.open(db, create=False, read_only=True) as database:
        for name in ("one.csv.gz", "two.csv.gz"):
            write_table(sweep_table(database, "all.every.0"), here / name)
    assert (here / "one.csv.gz").read_bytes() == (here / "two.csv.gz").read_bytes()


def test_a_sweep_answers_another_sweep(db, here, capsys):
    data = {
        "name": "again",
        "space": PLAIN,
        "trainable": {"kind": "table", "sweep": "all.every.1", "db": db},
        "searcher": {"kind": "random", "trials": 5},
    }
    sweep = parse_sweep(data, "test")
    answered = with_table(sweep, "sqlite:///other.db", here / "files")
    notes = trainable_kind("table").check_data(answered.trainable_settings(), None)
    assert "the table of sweep all.every.1 (4 configurations, 3 curves each, 2 epochs)" in notes[0]
    assert with_table(answered, "sqlite:///other.db", here / "files") == answered
    comparison = {**yaml.safe_load((here / "all.yaml").read_text()), "name": "on-a-sweep"}
    comparison["trainable"] = {"kind": "table", "sweep": "all.every.1"}
    (here / "c.yaml").write_text(yaml.safe_dump(comparison))
    assert _run(["compare", "c.yaml", "--db", db, "--processes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["table"]["described"].startswith("4 configurations, 3 curves")


@pytest.mark.parametrize("name", ["epoch", "seconds"])
def test_a_parameter_cannot_share_the_name_of_a_column(here, name):
    space = {"kind": "parameters", "parameters": {name: {"type": "categorical", "values": ["1"]}}}
    (here / "t.csv").write_text("epoch,seconds,1/val_error\n1,1,3\n")
    with pytest.raises(UsageError, match=f"the parameter {name} has the name of a column"):
        trainable_kind("table").check_data({"file": "t.csv", "space": space}, None)


def test_a_parameter_called_repeat_leaves_seed_to_tell_trainings_apart(here):
    space = {"kind": "parameters", "parameters": {"repeat": {"type": "categorical", "values": ["no", "yes"]}}}
    (here / "t.csv").write_text("repeat,seed,epoch,1/val_error\nno,4,1,3\nno,5,1,4\nyes,4,1,5\n")
    table = load_table(TableSettings.from_mapping({"file": "t.csv", "space": space}), None)
    assert [curve.repeat for curve in table.curves({"repeat": "no"})] == ["4", "5"]


def test_the_table_of_all_graphs_of_space_c():
    assert "ktg-digits-c" in known_tables()
    path = known_table("ktg-digits-c")
    assert path.stat().st_size < 5e6
    told = json.loads(
        (resources.files("kdsearch.trainables.table") / "data" / "ktg-digits-c.json").read_text()
    )
    assert hashlib.sha256(path.read_bytes()).hexdigest() == told["sha256"]
    sweep = load_sweep("ktg-digits-c")
    counts = sweep.design_space().counts()
    # without an edge to the target: 3^4 encodings, (3^4 + 3^2) / 2 = 45 classes
    assert (counts.classes, counts.valid_classes) == (1134, 1134 - 45)
    assert (told["counts"]["classes"], told["counts"]["valid_classes"]) == (
        counts.classes,
        counts.valid_classes,
    )
    assert sweep.space == told["settings"]["space"]
    settings = {"file": "ktg-digits-c", "space": sweep.space, "epochs": 12}
    trainable_kind("table").check_data(settings, None)
    table = load_table(TableSettings.from_mapping(settings), None)
    assert len(table.configurations) == 1089
    assert all(len(table.curves(each)) == 2 for each in table.configurations)
    errors = np.array([c.final_error for each in table.configurations for c in table.curves(each)])
    # per cent of 288 validation images: a whole number of them
    assert np.allclose(errors * 288 / 100, np.round(errors * 288 / 100), atol=1e-5)
    assert pd.Series(errors).between(0, 100).all()
