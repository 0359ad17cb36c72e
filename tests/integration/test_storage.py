"""Checkpoints and weights under a URL, and on a disk that takes no more: the path through Ray's workers."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from kdsearch.search import launch
from kdsearch.search.config import load_sweep, parse_sweep
from kdsearch.search.progress import Quiet
from kdsearch.search.runner import Interrupted
from kdsearch.search.trialdb import TrialDatabase, read_record

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]
SPACE = {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}}


@contextlib.contextmanager
def quiet(coordinator):
    yield Quiet()


def sweep_of(**changes):
    data = {
        "name": "s",
        "space": SPACE,
        "trainable": {"kind": "constant", "epochs": 6, "epoch_s": 0.05, "wobble": 10},
        "searcher": {"kind": "random", "trials": 16},
        "scheduler": {"kind": "asha", "mode": "promote", "rungs": [1, 3]},
        "run": {"pack": 1, "max_concurrent": 1, "checkpoint_every": 1},
        **changes,
    }
    return parse_sweep(data, "test")


def result(db):
    with TrialDatabase.open(db, create=False, read_only=True) as database:
        events = database.events("s", kinds=["checkpoint", "storage"])
        return read_record(database, "s"), database.attempts("s"), events


COLUMNS = ["number", "state", "error", "last_epoch"]


def test_paused_trials_go_on_from_a_url_also_in_a_resume(ray_slots, tmp_path, clock):
    there = tmp_path / "there"
    start = launch.Launch(db=f"sqlite:///{tmp_path / 'cut.db'}", clock=clock, storage=f"local://{there}")

    @contextlib.contextmanager
    def cutting(coordinator):
        class Cut(Quiet):
            def tick(self):
                if coordinator.paused >= 8 and not coordinator.interrupted:
                    os.kill(os.getpid(), signal.SIGINT)

        yield Cut()

    with pytest.raises(Interrupted):
        launch.start(sweep_of(), "sweep", start, cutting)
    _, attempts, _ = result(start.db)
    places = [attempt.checkpoint for attempt in attempts if attempt.checkpoint]
    assert len(places) >= 8
    assert all(place.startswith(f"local://{there}/checkpoints/s-") for place in places)
    assert list(there.glob("checkpoints/*/*.pt"))

    launch.resume("s", launch.Launch(db=start.db, clock=clock), quiet)  # it is remembered where they lie
    cut, attempts, events = result(start.db)
    whole = launch.Launch(db=f"sqlite:///{tmp_path / 'whole.db'}", clock=clock)
    launch.start(sweep_of(), "sweep", whole, quiet)
    record, _, _ = result(whole.db)
    assert cut.trials[COLUMNS].equals(record.trials[COLUMNS])
    assert len(cut.curves) == len(record.curves)
    assert [event.kind for event in events] == ["storage"]
    assert not list(there.glob("checkpoints/*/*.pt"))
    assert not (tmp_path / "cut.db.files").exists()


def test_teachers_are_found_under_a_url_and_once_more_by_another_sweep(ray_slots, tmp_path, clock):
    changes = [
        "searcher={kind: random, trials: 3}",
        "trainable.epochs=1",
        "trainable.data={name: digits, train_size: 64, val_size: 60}",
        "space.gates=[through, cutoff]",
    ]
    sweep = load_sweep("ktg-digits", changes)
    for name, reused in (("one", False), ("two", True)):
        start = launch.Launch(
            db=f"sqlite:///{tmp_path / name}.db", clock=clock, storage=f"local://{tmp_path / 'there'}"
        )
        launch.start(sweep.model_copy(update={"name": "s"}), "sweep", start, quiet)
        record, _, _ = result(start.db)
        assert set(record.trials["state"]) == {"complete"}
        taught = record.trials[record.trials["role"] == "pretrain"]
        assert len(taught) >= 1
        assert taught["message"].str.startswith("reused").eq(reused).all()
    assert list((tmp_path / "there" / "pretrained").glob("*.pt"))


def test_a_checkpoint_that_cannot_be_written_costs_no_trial(ray_slots, tmp_path, clock):
    """A folder in the way of the files: as a disk that is full, for as long as it is there."""
    store = tmp_path / "there"
    start = launch.Launch(db=f"sqlite:///{tmp_path / 't.db'}", clock=clock, storage=str(store))

    @contextlib.contextmanager
    def blocking(coordinator):
        coordinator.checkpoints.parent.mkdir(parents=True)
        coordinator.checkpoints.touch()  # no folder can be made there
        seen = []

        class Mend(Quiet):
            def tick(self):
                seen.append(coordinator.notices.texts)
                if coordinator.tally.finished >= 4 and coordinator.checkpoints.is_file():
                    coordinator.checkpoints.unlink()

        yield Mend()
        assert any("could not be written" in text for texts in seen for text in texts)
        assert coordinator.notices.texts == ()

    plain = sweep_of(scheduler={"kind": "none"}, searcher={"kind": "random", "trials": 8})
    launch.start(plain, "sweep", start, blocking)
    record, attempts, events = result(start.db)
    assert set(record.trials["state"]) == {"complete"}
    assert {attempt.n for attempt in attempts} == {1}
    told = [event.data["what"] for event in events if event.kind == "checkpoint"]
    assert told == ["not written", "written again"]


def test_trials_that_pause_without_a_checkpoint_begin_again_and_end_the_same(ray_slots, tmp_path, clock):
    records = []
    for name, blocked in (("blocked", True), ("plain", False)):
        start = launch.Launch(db=f"sqlite:///{tmp_path / name}.db", clock=clock, storage=str(tmp_path / name))

        @contextlib.contextmanager
        def blocking(coordinator, blocked=blocked):
            coordinator.checkpoints.parent.mkdir(parents=True)
            if blocked:
                coordinator.checkpoints.touch()
            yield Quiet()

        launch.start(sweep_of(), "sweep", start, blocking)
        records.append(result(start.db)[0])
    assert records[0].trials[COLUMNS].equals(records[1].trials[COLUMNS])
    assert len(records[0].curves) == len(records[1].curves)
