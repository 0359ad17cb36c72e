"""Real Ray, real SQLite, real training: ways to transfer an inductive bias, from the sweep file to the report."""

from __future__ import annotations

import contextlib
import os
import signal
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from kdsearch.search import launch
from kdsearch.search.cli.report import report
from kdsearch.search.config import parse_sweep
from kdsearch.search.progress import Quiet
from kdsearch.search.runner import Interrupted
from kdsearch.search.trialdb import TrialDatabase, read_record
from kdsearch.trainables.records import sample_records

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]

METHODS = ["teacher", "transformer", "deit", "bbm"]
TRAINABLE = {
    "kind": "bbm",
    "data": {"name": "physionet2019", "elsewhere": "eicu"},
    "teacher": {"network": "lstm", "units": 2, "hidden": 6},
    "student": {
        "network": "transformer",
        "units": 2,
        "width": 8,
        "heads": 2,
        "feed_forward": 8,
        "causal": True,
    },
    "blocks": 2,
    "lambda": 0.001,
    "epochs": 2,
    "warm_up": 1,
    "batch_size": 32,
    "learning_rate": 0.01,
}
SPACE = {
    "method": {"type": "categorical", "values": METHODS},
    "lambda": {"type": "log-uniform", "low": 1e-6, "high": 1e-2},
}
COMPARISON = {
    "kind": "comparison",
    "runs": 2,
    "reference": "transformer",
    "methods": {name: {"kind": "fixed", "values": {"method": name, "lambda": 0.001}} for name in METHODS},
}
TIMED = {"seconds", "train_seconds", "members"}


@contextlib.contextmanager
def quiet(coordinator):
    yield Quiet()


def interrupting(condition):
    """A display that interrupts the sweep as a user would, once the condition holds of the coordinator."""

    @contextlib.contextmanager
    def display(coordinator):
        class Stop(Quiet):
            def tick(self):
                if condition(coordinator) and not coordinator.interrupted:
                    os.kill(os.getpid(), signal.SIGINT)

        yield Stop()

    return display


def sweep_of(searcher, *, space=SPACE, trainable=TRAINABLE, name="s", **keys):
    return parse_sweep(
        {
            "name": name,
            "space": {"kind": "parameters", "parameters": space},
            "trainable": trainable,
            "searcher": searcher,
            "run": {"pack": 4, "checkpoint_every": 1},
            **keys,
        },
        "test",
    )


def record_of(db, name="s"):
    with TrialDatabase.open(db, create=False, read_only=True) as database:
        return read_record(database, name)


def learned(record) -> pd.DataFrame:
    """All that does not depend on a clock."""
    curves = record.curves[~record.curves["metric"].isin(TIMED)]
    return curves.sort_values(["trial", "node", "metric", "epoch"]).reset_index(drop=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data root with made-up sets."""
    folder = tmp_path_factory.mktemp("records")
    for name in ("physionet2019", "eicu"):
        sample_records(name, folder)
    return folder


@pytest.fixture(scope="module")
def compared(ray_slots, root, tmp_path_factory):
    """The database of a comparison of all methods."""
    db = f"sqlite:///{tmp_path_factory.mktemp('bbm') / 't.db'}"
    start = launch.Launch(db=db, data_root=root, clock=lambda: datetime.now(UTC))
    launch.start(sweep_of(COMPARISON), "sweep", start, quiet)
    return db


def test_the_teacher_is_trained_once_and_before_all(compared):
    trials = record_of(compared).trials
    assert set(trials["state"]) == {"complete"}
    before, rest = trials[trials["role"] == "pretrain"], trials[trials["role"] != "pretrain"]
    assert before["parameter:method"].tolist() == ["teacher"]
    assert rest["method"].value_counts().to_dict() == dict.fromkeys(METHODS, 2)
    for _, run in rest.groupby("run"):
        assert len(set(run["seed"])) == 1
    assert len(set(rest["seed"])) == 2
    with TrialDatabase.open(compared, create=False, read_only=True) as database:
        stored = {trial.number: trial for trial in database.trials("s")}
    (teacher,) = before["number"]
    learning = rest.loc[rest["method"] != "teacher", "number"]
    assert all(stored[number].started >= stored[teacher].ended for number in learning)


def test_scores_of_the_test_part_and_similarities_are_recorded(compared):
    record = record_of(compared)
    final = record.trials[record.trials["final"]].set_index("number")
    assert sorted(final["method"]) == sorted(METHODS * 2)
    by_metric = record.curves.groupby("metric")["trial"].agg(set)
    for name in ("test_error", "test_challenge", "test_f1", "test_auroc", "test_auprc"):
        assert by_metric[name] == set(final.index)
    students = set(final.index[final["method"] != "teacher"])
    for name in ("r2", "r2_external"):
        assert by_metric[name] == students
    assert by_metric["train_matching"] == set(final.index[final["method"] == "bbm"])
    last = record.curves[record.curves["metric"] == "test_error"].set_index("trial")
    assert (last["epoch"] == 2).all()


def test_arrays_are_kept_of_every_evaluated_trial(compared):
    record = record_of(compared)
    final = record.trials[record.trials["final"]].set_index("number")
    names = {"cka", "cka_external", "attention", "attention_external"}
    with TrialDatabase.open(compared, create=False, read_only=True) as database:
        arrays = database.arrays("s")
    assert set(arrays) == {
        (number, name) for number in final.index[final["method"] != "teacher"] for name in names
    }
    for (_, name), array in arrays.items():
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
        if name.startswith("cka"):
            assert array.shape == (2, 2)
        else:
            assert array.shape[0] == 2
            assert array.shape[1] == array.shape[2] > 20
    assert record.arrays.keys() == arrays.keys()


def test_what_was_made_up_is_said(compared):
    with TrialDatabase.open(compared, create=False, read_only=True) as database:
        notes = [event.data for event in database.events("s")]
    assert any("made-up sample" in str(note) for note in notes)


def test_the_report_is_a_page_of_methods(compared, tmp_path):
    out = tmp_path / "report"
    result = CliRunner().invoke(report, ["s", "--db", compared, "--out", str(out)])
    assert result.exit_code == 0, result.output
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "made-up sample" in page
    for method in METHODS:
        assert method in page
    assert len(list(out.rglob("*.svg"))) >= 2
    assert len(list(out.rglob("*.csv"))) >= 1


def test_an_interrupted_comparison_goes_on_to_what_an_uninterrupted_one_comes_to(
    ray_slots, root, compared, tmp_path, clock
):
    start = launch.Launch(db=f"sqlite:///{tmp_path / 't.db'}", data_root=root, clock=clock)

    def halfway(coordinator):
        return coordinator.tally.finished >= 3

    with pytest.raises(Interrupted):
        launch.start(sweep_of(COMPARISON), "sweep", start, interrupting(halfway))
    cut = record_of(start.db)
    assert cut.state == "interrupted"
    assert (cut.trials["state"] != "complete").any() or len(cut.trials) < 9
    launch.resume("s", start, quiet)
    whole, resumed = record_of(compared), record_of(start.db)
    assert set(resumed.trials["state"]) == {"complete"}
    columns = ["number", "role", "method", "run", "seed", "error", "best_error"]
    pd.testing.assert_frame_equal(whole.trials[columns], resumed.trials[columns], rtol=1e-4)
    pd.testing.assert_frame_equal(learned(whole), learned(resumed), rtol=1e-3, atol=1e-4)
    for key, array in whole.arrays.items():
        np.testing.assert_allclose(resumed.arrays[key], array, rtol=1e-3, atol=1e-4)


def test_a_search_stops_the_worse_half_and_confirms_the_best(ray_slots, root, compared, clock):
    """Beside the comparison's database, whose teacher is found again."""
    start = launch.Launch(db=compared, data_root=root, clock=clock)
    sweep = sweep_of(
        {"kind": "random", "trials": 4, "confirm": 2},
        space={
            "lambda": SPACE["lambda"],
            "learning_rate": {"type": "log-uniform", "low": 1e-4, "high": 1e-1},
        },
        trainable={**TRAINABLE, "method": "bbm"},
        scheduler={"kind": "asha", "rungs": [1], "reduction_factor": 2},
        name="search",
    )
    launch.start(sweep, "sweep", start, quiet)
    record = record_of(compared, "search")
    trials = record.trials
    teacher = trials[trials["role"] == "pretrain"].iloc[0]
    assert "reused" in teacher["message"]
    searched = trials[(trials["role"] != "pretrain") & ~trials["final"].astype(bool)]
    assert len(searched) == 4
    assert set(searched["state"]) <= {"complete", "stopped"}
    stopped = searched[searched["state"] == "stopped"]
    assert 1 <= len(stopped) <= 3
    assert (stopped["last_epoch"] == 1).all()
    complete = searched[searched["state"] == "complete"]
    best = complete.loc[complete["error"].idxmin()]
    confirmed = trials[trials["final"].astype(bool)]
    assert (confirmed["state"] == "complete").tolist() == [True, True]
    assert (confirmed["lambda"] == best["lambda"]).all()
    assert (confirmed["learning_rate"] == best["learning_rate"]).all()
    assert len(set(confirmed["seed"])) == 2
    tested = record.curves[record.curves["metric"] == "test_error"]
    assert set(tested["trial"]) == set(confirmed["number"])
    assert {number for number, _ in record.arrays} == set(confirmed["number"])
