"""ASHA that promotes on real Ray: members leave their packs at rungs and go on in others from their checkpoints."""

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
SPACE = {
    "kind": "ktg",
    "target": "s",
    "auxiliary": {"count": 2, "models": ["s", "w"]},
    "gates": ["through", "cutoff", "linear"],
}
PROMOTE = {"kind": "asha", "mode": "promote", "rungs": [1, 3]}


@contextlib.contextmanager
def quiet(coordinator):
    yield Quiet()


def promoting(**changes):
    return parse_sweep(
        {
            "name": "s",
            "space": SPACE,
            "trainable": {"kind": "constant", "epochs": 6, "diverge": [5]},
            "searcher": {"kind": "random", "trials": 24},
            "scheduler": PROMOTE,
            "run": {"pack": 4},
            **changes,
        },
        "test",
    )


def result(start, name="s"):
    with TrialDatabase.open(start.db, create=False, read_only=True) as database:
        decided = [event.data for event in database.events(name, kinds=["scheduler"])]
        return read_record(database, name), database.attempts(name), decided


def test_no_trial_is_lost_and_no_epoch_trained_twice(ray_slots, tmp_path, clock):
    start = launch.Launch(db=f"sqlite:///{tmp_path / 't.db'}", clock=clock)
    launch.start(promoting(), "sweep", start, quiet)
    record, attempts, decided = result(start)
    states = record.trials["state"].value_counts().to_dict()
    passed = {
        rung: {d["trial"] for d in decided if d["rung"] == rung and d["late"] and not d["stopped"]}
        for rung in (1, 3)
    }
    assert states["diverged"] == 1
    assert states["complete"] == len(passed[3]) >= 5
    assert sum(states.values()) == 24
    curves = record.curves[record.curves["metric"] == "val_error"]
    assert len(curves) == 24 + 2 * len(passed[1]) + 3 * len(passed[3])
    assert len(attempts) == 24 + len(passed[1]) + len(passed[3])
    assert {a.checkpoint_epoch for a in attempts if a.reason.startswith("paused")} == {1, 3}
    assert not list((launch.files_folder(start.db) / "checkpoints" / "s").glob("*"))


def test_an_interrupted_sweep_goes_on_with_those_that_wait(ray_slots, tmp_path, clock):
    @contextlib.contextmanager
    def cutting(coordinator):
        class Cut(Quiet):
            def tick(self):
                if coordinator.paused >= 8 and not coordinator.interrupted:
                    os.kill(os.getpid(), signal.SIGINT)

        yield Cut()

    start = launch.Launch(db=f"sqlite:///{tmp_path / 't.db'}", clock=clock)
    with pytest.raises(Interrupted):
        launch.start(promoting(), "sweep", start, cutting)
    before, _, _ = result(start)
    assert (before.trials["state"] == "paused").sum() >= 6
    launch.resume("s", start, quiet)
    record, _, decided = result(start)
    assert set(record.trials["state"]) == {"complete", "stopped", "diverged"}
    arrivals = [(d["trial"], d["rung"]) for d in decided if not d["late"]]
    assert len(set(arrivals)) == len(arrivals)
    curves = record.curves[record.curves["metric"] == "val_error"]
    assert len(curves) == record.trials["last_epoch"].sum()


def test_a_graph_that_was_promoted_learns_what_it_would_have_without_waiting(ray_slots, tmp_path, clock):
    changes = [
        "searcher={kind: random, trials: 6}",
        "trainable.epochs=4",
        "trainable.data={name: digits, train_size: 128}",
        "run.pack=1",
    ]
    plain = load_sweep("ktg-digits", changes)
    waits = load_sweep("ktg-digits", [*changes, "scheduler={kind: asha, mode: promote, rungs: [1, 2]}"])
    records = []
    for name, sweep in (("plain", plain), ("waits", waits)):
        start = launch.Launch(db=f"sqlite:///{tmp_path / name}.db", clock=clock)
        launch.start(sweep, "sweep", start, quiet)
        records.append(result(start, sweep.name)[0])
    whole, promoted = (
        record.curves[record.curves["metric"] == "val_loss"].set_index(["trial", "node", "epoch"])["value"]
        for record in records
    )
    complete = records[1].trials.query("role == 'search' and state == 'complete'")["number"]
    assert len(complete) >= 1
    kept = promoted[promoted.index.get_level_values("trial").isin(complete)]
    assert len(kept) == len(complete) * 3 * 4
    assert kept.equals(whole.loc[kept.index])
    assert promoted.equals(whole.loc[promoted.index])  # the others too, as far as they came
