"""`kdsearch compare`: comparison files, runs in the simulator, what is printed and written."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest
import yaml

from kdsearch.analysis.traces import Axis
from kdsearch.search.cli import _run
from kdsearch.search.compare.runs import Truth
from kdsearch.search.compare.settings import load_comparison, parse_comparison
from kdsearch.search.compare.study import prepare, run_study
from kdsearch.search.trialdb import TrialDatabase, read_record
from kdsearch.spaces import space_from_spec
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.table.kind import load_table
from kdsearch.trainables.table.settings import TableSettings

EPOCHS = 6
SPACE = {
    "kind": "parameters",
    "parameters": {
        "a": {"type": "categorical", "values": ["w", "x", "y", "z"]},
        "b": {"type": "integer", "low": 1, "high": 15},
    },
}
STOP = {"kind": "asha", "rungs": [1, 3], "reduction_factor": 2}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """60 configurations of two curves; b moves the error, a does a little."""
    path = tmp_path_factory.mktemp("table") / "table.csv"
    rng = np.random.default_rng(1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "repeat", "epoch", "1/val_error", "seconds"])
        for configuration in space_from_spec(SPACE).enumerate():
            level = 5 + 2 * configuration["b"] + "wxyz".index(configuration["a"]) + rng.normal()
            for repeat in range(2):
                for epoch in range(1, EPOCHS + 1):
                    error = level + 30 / epoch + rng.normal(0, 0.5)
                    writer.writerow([*configuration.values(), repeat, epoch, round(error, 6), 0.5])
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDSEARCH_DB", raising=False)
    return tmp_path


def file_of(table, **more):
    return {
        "name": "searchers",
        "space": SPACE,
        "trainable": {"kind": "table", "file": str(table)},
        "runs": 5,
        "budget": {"epochs": 90},
        "best": 5,
        "entries": {
            "random": {"searcher": "random"},
            "asha": {"searcher": "random", "scheduler": STOP},
            "promoting": {"searcher": "random", "scheduler": {**STOP, "mode": "promote"}},
            "all": {"searcher": "enumeration"},
        },
        **more,
    }


def study_of(table, **more):
    file = parse_comparison(file_of(table, **more), "test")
    return prepare(file, "test", db="", folder=table.parent, data_root=None)


def write(path, data):
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return str(path)


def test_the_truth_is_the_mean_over_all_trainings(table):
    curves = load_table(TableSettings.from_mapping({"file": str(table), "space": SPACE}), None)
    truth = Truth(curves, lost=100)
    rows = pd.read_csv(table)
    last = rows[rows["epoch"] == EPOCHS]
    means = last.groupby(["a", "b"])["1/val_error"].mean()
    for (a, b), mean in means.items():
        assert truth.mean({"a": a, "b": b}) == pytest.approx(mean)
        assert truth.rank({"a": a, "b": b}) == 1 + (means < mean - 1e-9).sum()
    assert truth.best(5) == 3
    assert truth.best(0.1) == 1
    seed = next(seed for seed in range(99) if curves.curve({"a": "w", "b": 1}, seed).repeat == "1")
    other = last[(last["a"] == "w") & (last["b"] == 1) & (last["repeat"] == 0)]["1/val_error"].item()
    assert truth.fresh({"a": "w", "b": 1}, seed) == pytest.approx(other)


def test_runs_of_one_number_share_their_seed(table):
    study = study_of(table, entries={"random": {"searcher": "random"}, "again": {"searcher": "random"}})
    traces = run_study(study)
    for one, two in zip(traces["random"], traces["again"], strict=True):
        assert one.error.tolist() == two.error.tolist()
    assert len({tuple(trace.error) for trace in traces["random"]}) == 5
    own = {"random": {"searcher": "random"}, "again": {"searcher": "random", "own_seeds": True}}
    traces = run_study(study_of(table, entries=own))
    assert traces["random"][0].error.tolist() != traces["again"][0].error.tolist()


def test_a_budget_is_spent_and_no_more_counts(table):
    study = study_of(table)
    traces = run_study(study)
    for name in ("random", "asha", "promoting", "all"):
        assert all(trace.end(Axis.EPOCHS) >= 90 for trace in traces[name])
    assert all(trace.end(Axis.TRIALS) == 15 for trace in traces["random"])  # 90 / 6
    assert all(set(trace.states) == {"complete", "stopped"} for trace in traces["asha"])
    assert all(set(trace.states) == {"complete"} for trace in traces["promoting"])  # others wait
    result = study.compared(traces)
    assert [entry.name for entry in result.entries] == ["random", "asha", "promoting", "all"]
    assert result.best == 3


def test_a_trial_knows_what_it_cost(table):
    trace = run_study(study_of(table, entries={"random": {"searcher": "random"}}))["random"][0]
    assert trace.epochs.tolist() == [EPOCHS * n for n in range(1, 16)]
    assert trace.seconds == pytest.approx(trace.epochs * 0.5)


def test_two_processes_find_what_one_finds(table):
    one, two = run_study(study_of(table)), run_study(study_of(table), processes=2)
    for name, traces in one.items():
        for left, right in zip(traces, two[name], strict=True):
            assert left.error.tobytes() == right.error.tobytes()
            assert left.total == right.total


def test_a_refinement_says_where_it_ended(table):
    refine = {"kind": "refinement", "draws": 40, "limit": 10, "repeats": 1, "min_draws": 3}
    entries = {"random": {"searcher": "random"}, "refine": {"searcher": refine}}
    study = study_of(table, entries=entries, budget={"epochs": 600})
    refined = study.compared(run_study(study)).entries[1].refined
    assert refined.ended == 5
    assert refined.draws[0] >= 40
    assert sum(count for _, count in refined.finals) == 5
    assert refined.finals[0][0].startswith(("a = ", "b = "))


def test_the_command_prints_and_writes(table, here, capsys):
    path = write(here / "c.yaml", file_of(table))
    assert _run(["compare", path, "--out", "out"]) == 0
    shown = capsys.readouterr().out
    assert "60 configurations, 2 curves each, 6 epochs" in shown
    assert "5 runs of each searcher, 1 virtual worker, 90 epochs a run" in shown
    assert "promoting" in shown
    found = {each.name for each in (here / "out").iterdir()}
    figures = {f"{stem}.{end}" for stem in ("error-by-cost", "found-by-cost") for end in ("svg", "png")}
    assert found == {"comparison.json", "entries.csv", "curves.csv", "runs.csv", *figures}
    data = json.loads((here / "out" / "comparison.json").read_text())
    assert data["entries"]["asha"]["final"]["mean"] > 0
    assert len(pd.read_csv(here / "out" / "runs.csv")) == 20
    assert _run(["compare", path, "--out", "out", "--runs", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["runs"] == 2
    assert "out holds the comparison searchers: it is written over." in err


def test_errors_that_may_be_fractions_are_told(table, here, capsys):
    rows = pd.read_csv(table)
    rows["1/val_error"] /= 100
    rows.to_csv(here / "fractions.csv", index=False)
    path = write(here / "c.yaml", file_of(here / "fractions.csv", runs=2))
    assert _run(["compare", path, "--json"]) == 0
    out, err = capsys.readouterr()
    told = "all errors (column 1/val_error) lie in [0, 1]"
    assert told in err
    assert any(told in note for note in json.loads(out)["table"]["notes"])


def test_runs_can_be_kept_in_a_database(table, here, capsys):
    entries = {"random": {"searcher": "random"}, "with asha": {"searcher": "random", "scheduler": STOP}}
    path = write(here / "c.yaml", file_of(table, runs=2, entries=entries))
    assert _run(["compare", path, "--keep", "sqlite:///kept.db", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    with TrialDatabase.open("sqlite:///kept.db", create=False, read_only=True) as database:
        names = [sweep.name for sweep in database.sweeps()]
        record = read_record(database, "searchers.with-asha.1")
    assert names == [
        "searchers.random.0",
        "searchers.with-asha.0",
        "searchers.random.1",
        "searchers.with-asha.1",
    ]
    assert (record.kind, record.state) == ("simulation", "interrupted")
    assert {"complete", "stopped"} <= set(record.trials["state"])
    assert not {"running"} & set(record.trials["state"])
    assert len(record.rungs)
    again = file_of(table, runs=2, entries=entries)
    assert _run(["compare", write(here / "d.yaml", again), "--keep", "sqlite:///kept.db"]) == 2
    assert "has the sweep searchers.random.0 already" in capsys.readouterr().err
    assert data["simulated"]["trials"] > 0


def test_entries_that_would_be_kept_under_one_name_are_refused_before_anything_runs(table, here, capsys):
    entries = {"random": {"searcher": "random"}, "a b": {"searcher": "random"}, "a+b": {"searcher": "random"}}
    path = write(here / "c.yaml", file_of(table, runs=2, entries=entries))
    assert _run(["compare", path, "--keep", "sqlite:///kept.db"]) == 2
    assert "'a b' and 'a+b' would both be kept as searchers.a-b.0" in capsys.readouterr().err
    assert not (here / "kept.db").exists()


def refusal(data):
    def read():
        prepare(parse_comparison(data, "c.yaml"), "c.yaml", db="", folder=None, data_root=None)

    with pytest.raises(UsageError) as caught:
        read()
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"budget": {}}, "budget: needs exactly one of trials, epochs and seconds (found none of them)"),
        ({"budget": {"trials": 5, "epochs": 9}}, "found trials and epochs"),
        ({"budget": {"hours": 1}}, "unknown key 'budget.hours'"),
        ({"reference": "nobody"}, "reference 'nobody' is no entry; entries: random"),
        ({"runs": 1}, "runs: Input should be greater than or equal to 2 (found 1)"),
        ({"extra": 1}, "unknown key 'extra' (known: name, title, seed, "),
        ({"refrence": "random"}, "unknown key 'refrence', did you mean 'reference'? (known: "),
        (
            {"budget": {"epoch": 9}},
            "unknown key 'budget.epoch', did you mean 'epochs'? (known: trials, epochs, ",
        ),
        ({"statistics": {"alfa": 0.1}}, "unknown key 'statistics.alfa', did you mean 'alpha'?"),
        (
            {"entries": {"random": {"searcher": "random", "schedule": "none"}}},
            "unknown key 'entries.random.schedule', did you mean 'scheduler'? (known: searcher, scheduler, own_seeds)",
        ),
        ({"trainable": {"kind": "ktg", "data": "digits"}}, "trainable.kind must be table (found 'ktg')"),
        ({"entries": {}}, "entries"),
        (
            {"entries": {"random": {"searcher": "nosuch"}}},
            "c.yaml: entries.random: unknown searcher 'nosuch'",
        ),
        (
            {"entries": {"random": {"searcher": {"kind": "random", "tirals": 3}}}},
            "entries.random: unknown key",
        ),
        ({"entries": {"random": {}}}, "key 'entries.random.searcher' is missing"),
        (
            {"entries": {"random": {"searcher": "random", "scheduler": {"kind": "asha", "rungs": [3, 1]}}}},
            "entries.random: scheduler.rungs: rungs must rise",
        ),
        ({"budget": {"seconds": 5}}, "searcher.trials is missing, and a budget of seconds"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(table, change, words):
    assert words in refusal({**file_of(table), **change})


def test_a_table_that_lacks_configurations_is_refused_before_anything_runs(table, here, capsys):
    short = here / "short.csv"
    lines = table.read_text().splitlines(keepends=True)
    short.write_text("".join(line for line in lines if not line.startswith("z,")))
    assert _run(["compare", write(here / "c.yaml", file_of(short))]) == 2
    told = capsys.readouterr().err
    assert "lacks 15 of the 60 configurations of the space: a=z b=1; a=z b=2; a=z b=3; ..." in told


def test_files_that_are_no_comparisons(here, capsys, table):
    assert _run(["compare", "none.yaml"]) == 2
    assert "cannot read the comparison file none.yaml" in capsys.readouterr().err
    (here / "list.yaml").write_text("- a\n")
    assert _run(["compare", "list.yaml"]) == 2
    assert "does not hold a mapping" in capsys.readouterr().err
    (here / "full").mkdir()
    (here / "full" / "mine.txt").touch()
    assert _run(["compare", write(here / "c.yaml", file_of(table)), "--out", "full"]) == 2
    assert "is not empty and holds no comparison" in capsys.readouterr().err
    for theirs in ('{"name": "of another program"}', "[]", "no JSON"):
        (here / "full" / "comparison.json").write_text(theirs)
        assert _run(["compare", "c.yaml", "--out", "full"]) == 2
        assert "is not empty and holds no comparison" in capsys.readouterr().err
        assert (here / "full" / "comparison.json").read_text() == theirs
    assert load_comparison(here / "c.yaml", {"runs": 3}).runs == 3
