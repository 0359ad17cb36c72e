"""What grows with the number of trials, and what must not: the driver's memory, Tune's list, queries of a status."""

from __future__ import annotations

import gc
import importlib.util
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

from sqlalchemy import event

from kdsearch.search.cli.status import row_of
from kdsearch.search.config import parse_sweep
from kdsearch.search.coordinator import Coordinator, Idle
from kdsearch.search.runner_controller import for_a_free_actor, forget_ended, take_back, without_room
from kdsearch.search.searchers import make_searcher
from kdsearch.search.trialdb import TrialDatabase
from kdsearch.trainables.protocol import EpochReport, MemberState

_SPEC = importlib.util.spec_from_file_location("driver", Path(__file__).with_name("driver.py"))
_DRIVER = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_DRIVER)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPACE = {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}}


def sweep_of(trials, epochs):
    return parse_sweep(
        {
            "name": "s",
            "space": SPACE,
            "trainable": {"kind": "constant", "epochs": epochs},
            "searcher": {"kind": "random", "trials": trials},
            "run": {"pack": 1},
        },
        "test",
    )


def run(coordinator, trials, epochs):
    """Let so many trials come to their end, without Ray and without a database."""
    for _ in range(trials):
        job = coordinator.next_job()
        number = job.members[0].number
        for epoch in range(1, epochs + 1):
            state = MemberState.COMPLETE if epoch == epochs else MemberState.RUNNING
            metrics = {"1/val_error": float(number % 89) + epoch, "seconds": 1.0}
            report = EpochReport(number=number, epoch=epoch, state=state, metrics=metrics)
            coordinator.on_result(job.id, [report], None)


def bytes_held():
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_what_the_driver_keeps_of_a_trial_that_has_ended_does_not_grow_with_its_epochs(tmp_path):
    trials, epochs = 300, 60
    sweep = sweep_of(2 * trials, epochs)
    coordinator = Coordinator(
        sweep,
        make_searcher(sweep, first_number=0),
        lambda _: None,
        baselines=(),
        folder=tmp_path,
        concurrency=8,
        clock=lambda: NOW,
        host="here",
        device="cpu",
    )
    tracemalloc.start()
    try:
        run(coordinator, trials, epochs)
        before = bytes_held()
        run(coordinator, trials, epochs)
        each = (bytes_held() - before) / trials
    finally:
        tracemalloc.stop()
    assert coordinator.next_job() is Idle.DONE
    # about 600 bytes: a record, its outcome and its place in the lists; 60 epochs of a curve alone would be 4,000
    assert each < 1500


class Trial:
    """A Tune trial, as far as forgetting looks at it."""

    def __init__(self, folder, name, *, ended):
        self.trial_id, self.local_path, self._ended = name, str(folder / name), ended
        (folder / name).mkdir()
        (folder / name / "error.txt").write_text("Traceback ...")

    def is_finished(self):
        return self._ended


def controller_of(trials, **more):
    names = {trial.trial_id: trial for trial in trials}
    held = {
        "_trials": list(trials),
        "_pending_trials_list": list(trials),
        **{
            name: set(trials)
            for name in ("_stopped_trials", "_failed_trials", "_trials_to_cache", "_live_trials")
        },
        **{
            name: dict.fromkeys(names, "state")
            for name in ("_trial_metadata", "_cached_trial_decisions", "_queued_trial_decisions")
        },
        **{
            name: set()
            for name in ("_staged_trials", "_resetting_trials", "_running_trials", "_pending_trials")
        },
        "_trial_to_actor": {},
        **more,
    }
    return SimpleNamespace(**held)


def test_tune_forgets_trials_that_have_ended_and_hold_no_actor(tmp_path):
    ended, held, live, newest = (
        Trial(tmp_path, name, ended=name != "live") for name in ("ended", "held", "live", "newest")
    )
    controller = controller_of([ended, held, live, newest], _trial_to_actor={held: "actor"})
    told = []
    assert forget_ended(SimpleNamespace(_tune_controller=controller), told.append) == 1
    assert told == ["ended"]
    assert controller._trials == [
        held,
        live,
        newest,
    ]  # the newest stays, or Tune would read its snapshot at its end
    assert ended not in controller._stopped_trials | controller._trials_to_cache | controller._failed_trials
    assert "ended" not in controller._trial_metadata
    assert not (tmp_path / "ended").exists()
    assert (tmp_path / "held").exists()


def test_calls_of_actors_that_were_taken_back_before_they_had_room_are_forgotten(tmp_path):
    calls = {"gone": ["stop"], "waits": ["train"]}
    manager = SimpleNamespace(
        _pending_actors_to_enqueued_actor_tasks=calls, _pending_actors_to_attrs={"waits": ()}
    )
    forget_ended(controller_of([], _actor_manager=manager), lambda _: None)
    assert calls == {"waits": ["train"]}


def test_nothing_is_forgotten_where_tune_has_other_attributes(tmp_path):
    trials = [Trial(tmp_path, name, ended=True) for name in ("a", "b")]
    controller = controller_of(trials)
    del controller._trials_to_cache
    assert forget_ended(controller, lambda _: None) == 0
    assert controller._trials == trials


class Waiting:
    """A Tune trial, as far as what waits for an actor is looked at."""

    def __init__(self, status="PENDING", nodes="any"):
        self.status, self.placement_group_factory = status, nodes


def free_actors(trials, actors, *, without_room, nodes=("any",)):
    """A controller with a finished actor for each kind of nodes, and with the actors that trials have."""
    return SimpleNamespace(
        _trials=trials,
        _resetting_trials=set(),
        _trial_to_actor=actors,
        _actor_manager=SimpleNamespace(_pending_actors_to_attrs=dict.fromkeys(without_room)),
        _actor_cache=SimpleNamespace(
            num_cached_objects=len(nodes), has_cached_object=lambda wanted: wanted in nodes
        ),
    )


def test_a_finished_actor_goes_to_a_trial_that_has_none_starting():
    runs, starts, elsewhere, waits, last = (
        Waiting("RUNNING"),
        Waiting(),
        Waiting(nodes="strict"),
        Waiting(),
        Waiting(),
    )
    trials = [runs, starts, elsewhere, waits, last]
    actors = {runs: "a", starts: "b", waits: "c"}
    assert for_a_free_actor(free_actors(trials, actors, without_room=["c"])) is waits
    assert for_a_free_actor(free_actors(trials, actors, without_room=[])) is last  # it has none at all
    assert for_a_free_actor(free_actors(trials, actors, without_room=[], nodes=("strict",))) is elsewhere
    assert for_a_free_actor(free_actors(trials, actors, without_room=["c"], nodes=())) is None
    assert for_a_free_actor(free_actors([runs, starts], actors, without_room=[])) is None
    assert without_room(free_actors(trials, actors, without_room=["c"])) == [elsewhere, waits, last]
    resets = free_actors(trials, actors, without_room=["c"])
    resets._resetting_trials = {elsewhere, waits}
    assert without_room(resets) == [last]


def test_a_trial_whose_worker_died_in_its_reset_is_forgotten(tmp_path):
    died, resets, newest = (Trial(tmp_path, name, ended=True) for name in ("died", "resets", "newest"))
    controller = controller_of(
        [died, resets, newest], _resetting_trials={died, resets}, _trial_to_actor={resets: "a"}
    )
    assert forget_ended(controller, lambda _: None) == 1
    assert controller._trials == [resets, newest]
    assert controller._resetting_trials == {resets}


def test_a_trial_that_is_taken_back_leaves_tunes_books_of_staged_ones_first():
    told = []
    controller = SimpleNamespace(
        _staged_trials={"staged"},
        _unstage_trial_with_resources=lambda trial: told.append(("unstage", trial)),
        stop_trial=lambda trial: told.append(("stop", trial)),
    )
    for trial in ("staged", "other"):
        take_back(SimpleNamespace(_tune_controller=controller), trial)
    assert told == [("unstage", "staged"), ("stop", "staged"), ("stop", "other")]


def test_a_status_asks_as_much_of_a_large_database_as_of_a_small_one(clock, tmp_path):
    def queries(trials):
        url, asked = f"sqlite:///{tmp_path / f'{trials}.db'}", []
        driver = _DRIVER.Driver(sweep_of(trials, 1), clock, tmp_path).run()
        with TrialDatabase.open(url) as database:
            database.create_sweep(
                "s", kind="sweep", trainable="constant", settings={}, seed=0, code_version="", environment={}
            )
            database.apply(driver.operations)
            event.listen(
                database.engine, "before_cursor_execute", lambda *told: asked.append((told[2], told[3]))
            )
            row = row_of(database, "s")
        assert row["trials"]["complete"] == trials
        assert row["best_error"] is not None
        return len(asked)

    assert queries(200) == queries(3)


def test_the_best_trial_is_the_first_of_the_lowest_and_none_of_what_confirms_it(clock, tmp_path):
    driver = _DRIVER.Driver(sweep_of(12, 2), clock, tmp_path).run()
    with TrialDatabase.open(f"sqlite:///{tmp_path / 't.db'}") as database:
        database.create_sweep(
            "s", kind="sweep", trainable="constant", settings={}, seed=0, code_version="", environment={}
        )
        assert database.best_trial("s", without="confirmation") == (None, None)
        database.apply(driver.operations)
        error, number = min((trial.error, trial.number) for trial in database.trials("s"))
        assert database.best_trial("s", without="confirmation") == (number, error)
        assert database.best_trial("s", without="random") == (None, None)  # the design of all of them


def test_a_status_imports_neither_pandas_nor_scipy_nor_alembic():
    code = "import sys, kdsearch.search.cli.status; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"pandas", "scipy", "alembic", "matplotlib", "torch", "ray"}.isdisjoint(done.stdout.split())
