"""Real Ray, real SQLite, real training: the best graph of a search, retrained on two data sets with frozen teachers."""

from __future__ import annotations

import contextlib

import pytest

from kdsearch.analysis.report import write_report
from kdsearch.analysis.retrained import retrained
from kdsearch.search import launch
from kdsearch.search.config import parse_sweep
from kdsearch.search.progress import Quiet
from kdsearch.search.retrain import ALL_THROUGH, LABEL_ONLY, Wish, retraining_of
from kdsearch.search.runner import Interrupted
from kdsearch.search.trialdb import TrialDatabase, read_record
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data.loading import forget_loaded
from kdsearch.trainables.data.samples import sample

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]

SEARCH = {
    "name": "s",
    "space": {
        "kind": "ktg",
        "target": "resnet8w4",
        "auxiliary": {"count": 1, "models": ["resnet8w6"]},
        "gates": ["through", "cutoff"],
        "restrictions": [  # node 2 is a frozen teacher, and the target learns from the label and from it
            {"label->auxiliary": ["cutoff"]},
            {"target->auxiliary": ["cutoff"]},
            {"auxiliary->target": ["through"]},
            {"label->target": "through"},
        ],
    },
    "trainable": {
        "kind": "ktg",
        "data": {"name": "digits", "train_size": 64, "val_size": 32, "augment": False},
        "epochs": 2,
        "batch_size": 16,
    },
    "searcher": {"kind": "random", "trials": 1},
    "run": {"checkpoint_every": 1},
}
OTHER = "{name: fashion-mnist, train_size: 48, val_size: 16, augment: false}"
SEEDS = 2


@contextlib.contextmanager
def quiet(coordinator):
    yield Quiet()


class Stop:
    """Interrupts the sweep once so many trials have ended."""

    def __init__(self, coordinator, after):
        self._coordinator, self._after = coordinator, after

    def tick(self):
        if self._coordinator.tally.finished >= self._after:
            raise Interrupted("enough")


def stopping(after):
    @contextlib.contextmanager
    def opened(coordinator):
        yield Stop(coordinator, after)

    return opened


@pytest.fixture(scope="module")
def again(ray_slots, tmp_path_factory):
    """(database, data root) with the search and its retraining, which was interrupted and resumed."""
    folder = tmp_path_factory.mktemp("retrain")
    sample("fashion-mnist", folder / "data", seed=3)
    forget_loaded()
    start = launch.Launch(db=f"sqlite:///{folder / 't.db'}", data_root=folder / "data")
    launch.start(parse_sweep(SEARCH, "test"), "sweep", start, quiet)
    with TrialDatabase.open(start.db, create=False, read_only=True) as database:
        sweep = retraining_of(database, "s", Wish(seeds=SEEDS, data=("digits", OTHER)))
    with pytest.raises(Interrupted):
        launch.start(sweep, "retrain", start, stopping(5))
    with TrialDatabase.open(start.db, create=False, read_only=True) as database:
        assert database.sweep(sweep.name).state == "interrupted"
    launch.resume(sweep.name, start, quiet)
    return start, folder


def record_of(start):
    with TrialDatabase.open(start.db, create=False, read_only=True) as database:
        return read_record(database, "s-retrain")


def test_every_version_is_trained_on_every_data_set_with_paired_seeds(again):
    record = record_of(again[0])
    assert (record.kind, record.state) == ("retrain", "complete")
    trials = record.trials[record.trials["role"] == "search"]
    assert set(trials["state"]) == {"complete"}
    assert len(trials) == 2 * 3 * SEEDS
    assert trials.groupby("run")["seed"].nunique().eq(1).all()
    assert trials["seed"].nunique() == SEEDS
    assert set(trials["method"]) == {"trial 2", ALL_THROUGH, LABEL_ONLY}
    metrics = set(record.curves["metric"])
    assert "test_error" in metrics
    assert not {"val_error", "val_loss"} & metrics  # the validation images were trained on


def test_frozen_teachers_are_trained_on_the_same_images_of_each_data_set(again):
    record = record_of(again[0])
    teachers = record.trials[record.trials["role"] == "pretrain"]
    assert [plan["data"] for plan in teachers["plan"]] == ["digits", "fashion-mnist"]
    assert {plan["train_on"] for plan in teachers["plan"]} == {"all"}
    curves = record.curves[(record.curves["metric"] == "test_error") & (record.curves["node"] == 2)]
    for teacher in teachers.itertuples():
        own = record.trials[
            [
                plan["data"] == teacher.plan["data"] and plan.get("method") == "trial 2"
                for plan in record.trials["plan"]
            ]
        ]
        shown = curves[curves["trial"].isin(own["number"])]["value"]
        assert set(shown) == {teacher.error}  # frozen: as good as it was when it was trained


def test_the_result_is_told_and_reported(again, tmp_path):
    record = record_of(again[0])
    found = retrained(record)
    assert [len(part.rows) for part in found.sets] == [3, 3]
    assert all(row.runs == SEEDS for part in found.sets for row in part.rows)
    assert any("made-up sample" in note for note in record.notes)
    files = write_report([record], tmp_path / "r")
    assert "retrained.csv" in {path.name for path in files.tables}
    assert "made-up sample" in files.page.read_text(encoding="utf-8")


def test_it_does_not_go_on_with_other_data(again, tmp_path):
    start, _ = again
    with TrialDatabase.open(start.db, create=False, read_only=True) as database:
        wish = Wish(seeds=2, data=("digits", OTHER), trial=2)
        sweep = parse_sweep({**retraining_of(database, "s", wish).resolved(), "name": "other"}, "test")
    with pytest.raises(Interrupted):
        launch.start(sweep, "retrain", start, stopping(1))
    sample("fashion-mnist", tmp_path / "data", seed=4)
    forget_loaded()
    elsewhere = launch.Launch(db=start.db, data_root=tmp_path / "data")
    with pytest.raises(UsageError, match="not those that the sweep other began with"):
        launch.resume("other", elsewhere, quiet)
    forget_loaded()
