"""Real Ray, real SQLite, real training: methods of distillation compared, from the sweep file to the report."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pandas as pd
import pytest

from kdsearch.analysis.methods import compare
from kdsearch.analysis.report import write_report
from kdsearch.search import launch
from kdsearch.search.config import load_sweep, parse_sweep
from kdsearch.search.progress import Quiet
from kdsearch.search.runner import Interrupted
from kdsearch.search.trialdb import TrialDatabase, read_record

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]

SMALL = (
    "trainable.data.train_size=96",
    "trainable.data.val_size=64",
    "trainable.teacher.epochs=1",
    "trainable.epochs=3",
    "searcher.runs=2",
    "searcher.methods.hyperopt.trials=2",
    "searcher.methods.optuna.trials=2",
    "searcher.periods={method: gradient and prediction, equal: [2, 10], e1: 10, e2: [3, 10]}",
    "run.checkpoint_every=1",
)
METHODS = [
    "no distillation",
    "naive",
    "naive without validation part",
    "random",
    "hyperopt",
    "optuna",
    "gradient",
    "gradient and prediction",
]


@contextlib.contextmanager
def quiet(coordinator):
    yield Quiet()


def sweep_of(*changes, preset="kd-digits"):
    sweep = load_sweep(preset, (*SMALL, *changes))
    return parse_sweep({**sweep.resolved(), "name": "s"}, "test")


def record_of(db):
    with TrialDatabase.open(db, create=False, read_only=True) as database:
        return read_record(database, "s")


def learned(record) -> pd.DataFrame:
    """All that does not depend on a clock."""
    timed = {"seconds", "train_seconds", "images_per_s", "members"}
    curves = record.curves[~record.curves["metric"].isin(timed)]
    return curves.sort_values(["trial", "node", "metric", "epoch"]).reset_index(drop=True)


@pytest.fixture(scope="module")
def compared(ray_slots, tmp_path_factory):
    db = f"sqlite:///{tmp_path_factory.mktemp('kd') / 't.db'}"
    launch.start(sweep_of(), "sweep", launch.Launch(db=db, clock=lambda: datetime.now(UTC)), quiet)
    return db


def test_all_methods_are_trained_and_the_teacher_first(compared):
    record = record_of(compared)
    trials = record.trials.set_index("number")
    assert set(trials["state"]) == {"complete"}
    assert trials.loc[trials["role"] == "pretrain", "teacher"].tolist() == ["resnet8w16"]
    # 6 methods of one trial a run, 2 of TPE with 2 + 1, and 2 further points of e1 and e2
    assert len(trials) - 1 == 2 * (6 + 2 * 3 + 2)
    result = compare(record)
    assert [row.name for row in result.rows] == METHODS
    assert all(row.runs == 2 for row in result.rows)
    assert [(point.e1, point.e2) for point in result.equal_periods] == [(2, 2), (10, 10)]
    assert [(point.e1, point.e2) for point in result.varied_e2] == [(10, 3), (10, 10)]
    costs = {row.method: (row.forward, row.backward, row.tangent) for row in result.costs}
    assert costs["naive"] == (1, 1, 0)
    assert costs["gradient"] == (2, 2, 1)


def test_runs_of_all_methods_are_pairs(compared):
    trials = record_of(compared).trials
    final = trials[trials["final"]]
    for _, run in final.groupby("run"):
        assert len(set(run["seed"])) == 1
    random = final[final["method"] == "random"].set_index("run")["lambda_1"]
    starts = final[final["method"] == "gradient"].set_index("run")["lambda_1"]
    assert random.tolist() == starts.tolist()


def test_only_final_trials_were_measured_on_the_test_part(compared):
    record = record_of(compared)
    final = set(record.trials.loc[record.trials["final"], "number"])
    measured = set(record.curves.loc[record.curves["metric"] == "test_error", "trial"])
    assert measured == final


def test_trajectories_are_recorded_at_every_epoch(compared):
    record = record_of(compared)
    gradient = record.trials.loc[record.trials["design"] == "gradient", "number"]
    for name in ("meta.lambda_1", "meta.temperature"):
        values = record.curves[record.curves["metric"] == name]
        assert values.groupby("trial").size().eq(3).all()
        assert set(values["trial"]) == set(gradient)


def test_the_report_has_the_tables_and_figures_of_the_paper(compared, tmp_path):
    write_report([record_of(compared)], tmp_path / "report")
    names = {path.name for path in (tmp_path / "report").rglob("*") if path.is_file()}
    assert {
        "report.html",
        "methods.csv",
        "costs.csv",
        "accuracy_by_epoch.csv",
        "periods.csv",
        "trajectories.csv",
        "accuracy-by-epoch.svg",
        "periods.svg",
        "trajectories-1.svg",
    } <= names
    table = pd.read_csv(tmp_path / "report" / "methods.csv")
    assert table["method"].tolist() == METHODS


def test_an_interrupted_comparison_goes_on_to_what_an_uninterrupted_one_comes_to(
    ray_slots, compared, tmp_path, clock
):
    """Stopped in the middle of training, with checkpoints: the same numbers, epoch by epoch."""
    db = f"sqlite:///{tmp_path / 't.db'}"
    start = launch.Launch(db=db, clock=clock)

    @contextlib.contextmanager
    def interrupting(coordinator):
        class Stop(Quiet):
            def tick(self):
                checkpoints = list(coordinator.checkpoints.glob("*.pt"))
                if coordinator.tally.finished >= 8 and checkpoints:
                    coordinator.interrupted = True

        yield Stop()

    with contextlib.suppress(Interrupted, Exception):
        launch.start(sweep_of(), "sweep", start, interrupting)
    halfway = record_of(db)
    assert halfway.state != "complete"
    assert (halfway.trials["state"] != "complete").any()
    launch.resume("s", start, quiet)
    whole, resumed = record_of(compared), record_of(db)
    assert set(resumed.trials["state"]) == {"complete"}
    columns = ["number", "method", "run", "seed", "lambda_1", "temperature", "error", "best_error"]
    pd.testing.assert_frame_equal(whole.trials[columns], resumed.trials[columns], rtol=1e-4)
    pd.testing.assert_frame_equal(learned(whole), learned(resumed), rtol=1e-3, atol=1e-4)


def test_a_second_sweep_beside_the_same_database_finds_the_teacher_again(compared, ray_slots, clock):
    start = launch.Launch(db=compared, clock=clock)
    sweep = sweep_of("searcher={kind: gradient, trials: 2, e1: 2, e2: 1}")
    launch.start(parse_sweep({**sweep.resolved(), "name": "again"}, "test"), "sweep", start, quiet)
    with TrialDatabase.open(compared, create=False, read_only=True) as database:
        record = read_record(database, "again")
    teacher = record.trials[record.trials["role"] == "pretrain"].iloc[0]
    assert "reused" in teacher["message"]
    assert set(record.trials["state"]) == {"complete"}
    assert compare(record) is None
