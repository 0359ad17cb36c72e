"""Real Ray, real SQLite, the constant trainable: the path around a trial."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
import yaml

from kdsearch.search import launch
from kdsearch.search.cli.summary import print_summary, summary_of
from kdsearch.search.config import parse_sweep
from kdsearch.search.progress import Quiet
from kdsearch.search.runner import Interrupted, RayOptions, RunnerError, ray_session
from kdsearch.search.trialdb import TrialDatabase, read_record
from kdsearch.spaces.errors import UsageError

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
EFFECTS = {"label->1=cutoff": 25, "2->1=linear": -6, "3->1=linear": -6, "model.2=w": -3, "model.3=w": -3}


@contextlib.contextmanager
def quiet(coordinator):
    yield Quiet()


SMALL = {
    **SPACE,
    "restrictions": [{"auxiliary models": ["w", "w"]}, {"label->auxiliary": ["through", "through"]}],
}


def sweep_of(searcher, space=SPACE, **trainable):
    return parse_sweep(
        {
            "name": "s",
            "space": space,
            "trainable": {"kind": "constant", "effects": EFFECTS, **trainable},
            "searcher": searcher,
        },
        "test",
    )


def run(sweep, tmp_path, clock, name="t.db"):
    start = launch.Launch(db=f"sqlite:///{tmp_path / name}", clock=clock)
    launch.start(sweep, "sweep", start, quiet)
    with TrialDatabase.open(start.db, create=False, read_only=True) as database:
        return read_record(database, "s"), database.attempts("s")


def test_trials_that_hang_or_take_too_much_memory_are_ended_and_the_database_says_where_they_stood(
    ray_slots, tmp_path, clock
):
    (tmp_path / "marker").mkdir()
    bad = {"at": 2, "hang": [1], "leak": [3], "marker": str(tmp_path / "marker")}
    sweep = sweep_of({"kind": "random", "trials": 4}, epochs=3, **bad)
    limits = {"pack": 1, "epoch_limit_s": 20, "memory_limit_gb": 1, "backoff_s": 0, "checkpoint_every": 1}
    sweep = sweep.model_copy(update={"run": sweep.run.model_copy(update=limits)})
    record, attempts = run(sweep, tmp_path, clock)
    assert set(record.trials["state"]) == {"complete"}
    failed = {each.number: each for each in attempts if each.ending is not None}
    assert sorted(failed) == [1, 3]
    assert {str(each.ending) for each in failed.values()} == {"failed"}
    assert "no epoch ended within 20 s (run.epoch_limit_s)" in failed[1].reason
    assert "time.sleep(10**9)" in failed[1].reason  # the innermost call
    assert "more than 1 (run.memory_limit_gb)" in failed[3].reason
    again = {each.number for each in attempts if each.n == 2}
    assert again == {1, 3}
    steps = record.curves[record.curves["metric"] == "val_error"]
    assert steps.groupby("trial").size().eq(3).all()


def test_a_refinement_runs_from_its_first_draw_to_its_last_space(ray_slots, tmp_path, clock):
    sweep = sweep_of({"kind": "refinement", "draws": 80, "repeats": 1}, epochs=2)
    record, _ = run(sweep, tmp_path, clock)
    assert record.state == "complete"
    assert set(record.trials["state"]) == {"complete"}
    assert [space.name for space in record.spaces][-1] == "X"
    assert len(record.decisions) == len(record.spaces) - 1
    assert set(record.draws["trial"]) <= set(record.trials["number"])
    errors = record.curves[record.curves["metric"] == "val_error"]
    assert errors.groupby("trial").size().eq(2).all()
    assert set(errors["trial"]) == set(record.trials["number"])


def test_the_same_seed_gives_the_same_trials_and_decisions(ray_slots, tmp_path, clock):
    sweep = sweep_of({"kind": "refinement", "draws": 60, "repeats": 1})
    first, _ = run(sweep, tmp_path, clock, "one.db")
    second, _ = run(sweep, tmp_path, clock, "two.db")
    columns = ["number", "state", "error", "seed", "orbit_size", *SPACE_COLUMNS]
    assert first.trials[columns].equals(second.trials[columns])
    assert first.draws.equals(second.draws)
    assert [d.table for d in first.decisions] == [d.table for d in second.decisions]


SPACE_COLUMNS = ["model.2", "model.3", "label->1", "2->1", "3->1", "label->2", "1->2", "3->2"]


def test_a_worker_process_that_dies_costs_one_attempt_of_its_members(ray_slots, tmp_path, clock):
    sweep = sweep_of({"kind": "random", "trials": 20}, kill=[4], marker=str(tmp_path))
    record, attempts = run(sweep, tmp_path, clock)
    assert record.state == "complete"
    assert set(record.trials["state"]) == {"complete"}
    killed = [attempt for attempt in attempts if attempt.number == 4]
    assert [attempt.n for attempt in killed] == [1, 2]
    assert "worker process ended" in killed[0].reason


def test_a_member_that_always_fails_is_marked_failed_with_its_reason(ray_slots, tmp_path, clock):
    sweep = sweep_of({"kind": "random", "trials": 12}, fail=[3])
    record, _ = run(sweep, tmp_path, clock)
    row = record.trials.set_index("number").loc[3]
    assert row["state"] == "failed"
    assert row["attempts"] == 4  # once among others, three times alone
    assert "told to fail" in row["message"]
    assert "Traceback (most recent call last)" in row["message"]
    assert (record.trials["state"] == "complete").sum() == len(record.trials) - 1


def test_every_finished_trial_is_in_the_database_while_the_sweep_runs(ray_slots, tmp_path, clock):
    seen = []

    @contextlib.contextmanager
    def watching(coordinator):
        class Watch(Quiet):
            def tick(self):
                with contextlib.closing(sqlite3.connect(f"file:{tmp_path / 't.db'}?mode=ro", uri=True)) as db:
                    seen.append(
                        db.execute("select count(*) from trial where state = 'complete'").fetchone()[0]
                    )

        yield Watch()

    sweep = sweep_of({"kind": "random", "trials": 120}, epoch_s=0.3)
    start = launch.Launch(db=f"sqlite:///{tmp_path / 't.db'}", clock=clock)
    launch.start(sweep, "sweep", start, watching)
    assert 0 < max(seen) <= 120
    assert seen == sorted(seen)


def test_tune_keeps_no_more_than_the_trials_of_the_last_seconds(ray_slots, tmp_path, clock):
    """Everything in Tune that holds on to trials would make the driver's memory grow with them."""
    from ray.air.execution._internal.tracked_actor import TrackedActor
    from ray.tune.experiment import Trial

    held, trials = [], 300

    @contextlib.contextmanager
    def counting(coordinator):
        class Display:
            def tick(self):
                if coordinator.tally.finished >= trials - 10 and not held:
                    gc.collect()
                    kinds = [type(each) for each in gc.get_objects()]
                    held.extend(kinds.count(kind) for kind in (Trial, TrackedActor))

        yield Display()

    sweep = sweep_of({"kind": "random", "trials": trials}, epochs=1, epoch_s=0.05)
    sweep = sweep.model_copy(update={"run": sweep.run.model_copy(update={"pack": 1})})
    start = launch.Launch(db=f"sqlite:///{tmp_path / 't.db'}", clock=clock)
    launch.start(sweep, "sweep", start, counting)
    assert len(held) == 2
    assert (
        max(held) < trials / 2
    )  # those that ended since the last look two seconds ago, and those that are out


def test_more_packs_than_cores_are_refused(ray_slots):
    options = RayOptions(address=None, cpus=1, gpus=0, max_concurrent=1000, data_root=None)
    with (
        pytest.raises(UsageError, match=r"1000 concurrent packs .* do not fit") as caught,
        ray_session(options),
    ):
        pass
    assert "--max-concurrent" in str(caught.value.hint)


def test_a_gpu_that_is_not_there_is_refused_and_auto_does_without(ray_slots):
    options = RayOptions(address=None, cpus=1, gpus=64, max_concurrent=None, data_root=None)
    with pytest.raises(UsageError, match="64 GPUs, and no node has that"), ray_session(options):
        pass
    if not ray_slots.gpus:
        auto = RayOptions(address=None, cpus=1, gpus="auto", max_concurrent=None, data_root=None)
        with ray_session(auto) as slots:
            assert slots.gpus_per_pack == 0


def test_ray_that_does_not_start_is_told_and_writes_nothing(tmp_path, clock, monkeypatch):
    import ray

    def refuse(*args, **kwargs):
        raise RuntimeError("no room")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    start = launch.Launch(db=f"sqlite:///{tmp_path / 't.db'}", clock=clock)
    with pytest.raises(RunnerError, match="Ray does not start: RuntimeError: no room"):
        launch.start(sweep_of({"kind": "random", "trials": 2}), "sweep", start, quiet)
    assert not (tmp_path / "t.db").exists()


def test_two_sweeps_in_one_database_keep_their_own_decisions(ray_slots, tmp_path, clock):
    sweep = sweep_of({"kind": "refinement", "draws": 60, "repeats": 1, "min_draws": 4}, SMALL)
    start = launch.Launch(db=f"sqlite:///{tmp_path / 't.db'}", clock=clock)
    for name in ("one", "two"):
        launch.start(sweep.model_copy(update={"name": name}), "refine", start, quiet)
    with TrialDatabase.open(start.db, create=False, read_only=True) as database:
        one, two = read_record(database, "one"), read_record(database, "two")
    assert one.decisions
    assert [d.table for d in one.decisions] == [d.table for d in two.decisions]


def test_an_interrupted_sweep_is_marked_and_a_resume_makes_it_whole(ray_slots, tmp_path, clock):
    sweep = sweep_of({"kind": "refinement", "draws": 60, "repeats": 1, "min_draws": 4}, SMALL)
    start = launch.Launch(db=f"sqlite:///{tmp_path / 't.db'}", clock=clock)
    launch.start(sweep.model_copy(update={"name": "whole"}), "refine", start, quiet)

    @contextlib.contextmanager
    def cutting(coordinator):
        class Cut(Quiet):
            def tick(self):
                if coordinator.tally.finished >= 20 and not coordinator.interrupted:
                    os.kill(os.getpid(), signal.SIGINT)

        yield Cut()

    slow = sweep_of({"kind": "refinement", "draws": 60, "repeats": 1, "min_draws": 4}, SMALL, epoch_s=0.2)
    with pytest.raises(Interrupted, match="interrupted by SIGINT"):
        launch.start(slow.model_copy(update={"name": "cut"}), "refine", start, cutting)
    with TrialDatabase.open(start.db, create=False, read_only=True) as database:
        states = read_record(database, "cut").trials["state"]
        assert database.sweep("cut").state == "interrupted"
    assert (states == "complete").sum() >= 20
    assert not (states == "running").any()

    launch.resume("cut", start, quiet)
    with TrialDatabase.open(start.db, create=False, read_only=True) as database:
        whole, cut = read_record(database, "whole"), read_record(database, "cut")
    columns = ["number", "state", "error", "seed", "orbit_size", *SPACE_COLUMNS]
    assert cut.state == "complete"
    assert whole.trials[columns].equals(cut.trials[columns])
    assert whole.draws.equals(cut.draws)
    assert [d.table for d in whole.decisions] == [d.table for d in cut.decisions]


def test_a_killed_driver_loses_nothing_and_a_resume_goes_on_from_the_checkpoints(ray_slots, tmp_path, clock):
    """SIGKILL of a driver of its own, with its own Ray; the resume runs here."""
    path = tmp_path / "sweep.yaml"
    sweep = sweep_of({"kind": "random", "trials": 6}, epochs=30, epoch_s=0.3, noise=5.0)
    resolved = sweep.resolved()
    resolved["run"]["checkpoint_every"] = 2
    path.write_text(yaml.safe_dump(resolved))
    url = f"sqlite:///{tmp_path / 't.db'}"
    program = "from kdsearch.search.cli import main; main()"
    driver = subprocess.Popen(
        [sys.executable, "-c", program, "sweep", str(path), "--db", url, "--json"],
        cwd=tmp_path,
        env={**os.environ, "RAY_ADDRESS": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: checkpoints(tmp_path / "t.db") >= 6, 240)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    finally:
        end_group(driver.pid)
    with TrialDatabase.open(url, create=False, read_only=True) as database:
        assert set(read_record(database, "s").trials["state"]) == {"running"}

    launch.resume("s", launch.Launch(db=url, clock=clock), quiet)
    with TrialDatabase.open(url, create=False, read_only=True) as database:
        record, attempts = read_record(database, "s"), database.attempts("s")
    assert record.state == "complete"
    assert set(record.trials["state"]) == {"complete"}
    assert {attempt.n for attempt in attempts} == {1, 2}
    first = [attempt for attempt in attempts if attempt.n == 1]
    assert all(attempt.reason == "the driver ended without a word" for attempt in first)
    assert all(attempt.checkpoint for attempt in first)
    epochs = record.curves[record.curves["metric"] == "val_error"].groupby("trial")["epoch"]
    assert all(sorted(found) == list(range(1, 31)) for _, found in epochs)


ASHA = {"kind": "asha", "rungs": [2, 4]}


def stopping(tmp_path, **changes):
    """A sweep in packs of several members, of which a scheduler stops some."""
    resolved = sweep_of({"kind": "random", "trials": 24}, epochs=6, diverge=[5]).resolved()
    return parse_sweep({**resolved, "scheduler": ASHA, "run": {"pack": 6}, **changes}, "test")


@pytest.mark.parametrize("every", [0, 2])
def test_members_that_a_scheduler_stops_leave_their_pack_before_its_next_epoch(
    ray_slots, tmp_path, clock, every
):
    reported, stops = [], set()

    @contextlib.contextmanager
    def watching(coordinator):
        on_result = coordinator.on_result

        def watched(job, reports, failure, saved):
            assert failure is None
            late = [report for report in reports if report.number in stops]
            reported.extend(late)
            stopped = on_result(job, reports, failure, saved)
            stops.update(stopped)
            return stopped

        coordinator.on_result = watched
        yield Quiet()

    sweep = stopping(tmp_path, run={"pack": 6, "checkpoint_every": every})
    start = launch.Launch(db=f"sqlite:///{tmp_path / 't.db'}", clock=clock)
    launch.start(sweep, "sweep", start, watching)
    assert reported == []  # no epoch was trained too much
    with TrialDatabase.open(start.db, create=False, read_only=True) as database:
        record = read_record(database, "s")
        decided = [event.data for event in database.events("s", kinds=["scheduler"])]
    trials = record.trials.set_index("number")
    ended = {state: set(part.index) for state, part in trials.groupby("state")}
    assert ended["stopped"] == stops == {found["trial"] for found in decided if found["stopped"]}
    assert ended["diverged"] == {5}
    assert len(stops) >= 4
    assert len(ended["complete"]) == 23 - len(stops)
    epochs = record.curves[record.curves["metric"] == "val_error"].groupby("trial")["epoch"].max()
    assert {n: epochs[n] for n in stops} == {
        found["trial"]: found["rung"] for found in decided if found["stopped"]
    }
    assert all(epochs[n] == 6 for n in ended["complete"])
    folder = launch.files_folder(start.db) / "checkpoints" / "s"
    assert list(folder.glob("*.pt")) == []


def test_a_pack_whose_members_were_all_stopped_ends_and_the_next_one_runs(ray_slots, tmp_path, clock):
    # a rung after every epoch; each pack is worse than all before it but for the first: eta 16 stops nearly all
    sweep = stopping(
        tmp_path, scheduler={"kind": "asha", "every": 1, "reduction_factor": 16}, run={"pack": 4}
    )
    record, _ = run(sweep, tmp_path, clock)
    assert record.state == "complete"
    states = record.trials["state"].value_counts()
    assert states["stopped"] >= 15
    assert states.sum() == 24
    curves = record.curves[record.curves["metric"] == "val_error"]
    assert len(curves) == record.trials["last_epoch"].sum() < 24 * 6


def test_an_interrupted_sweep_with_a_scheduler_is_made_whole_without_judging_twice(
    ray_slots, tmp_path, clock
):
    @contextlib.contextmanager
    def cutting(coordinator):
        class Cut(Quiet):
            def tick(self):
                if coordinator.tally.stopped >= 3 and not coordinator.interrupted:
                    os.kill(os.getpid(), signal.SIGINT)

        yield Cut()

    sweep = stopping(tmp_path, run={"pack": 6, "checkpoint_every": 1})
    start = launch.Launch(db=f"sqlite:///{tmp_path / 't.db'}", clock=clock)
    with pytest.raises(Interrupted):
        launch.start(sweep, "sweep", start, cutting)
    with TrialDatabase.open(start.db, create=False, read_only=True) as database:
        before = {t.number: t.ended for t in database.trials("s") if t.state == "stopped"}
    launch.resume("s", start, quiet)
    with TrialDatabase.open(start.db, create=False, read_only=True) as database:
        after = {t.number: t.ended for t in database.trials("s") if t.state == "stopped"}
        states = {str(t.state) for t in database.trials("s")}
        judged = [(e.data["trial"], e.data["rung"]) for e in database.events("s", kinds=["scheduler"])]
        record = read_record(database, "s")
    assert len(before) >= 3
    assert before.items() <= after.items()
    assert states == {"complete", "stopped", "diverged"}
    assert len(set(judged)) == len(judged)
    at_two = [n for n, rung in judged if rung == 2]
    assert sorted(at_two) == list(range(24))  # trial 5 diverged before, and counts there
    assert len(record.curves[record.curves["metric"] == "val_error"]) == record.trials["last_epoch"].sum()


def test_stopped_trials_are_no_sample_and_never_the_best(ray_slots, tmp_path, clock, capsys):
    sweep = stopping(tmp_path)
    record, _ = run(sweep, tmp_path, clock)
    summary = summary_of("s", f"sqlite:///{tmp_path / 't.db'}", tmp_path / "out", 1.0)
    trials = record.trials
    stopped = trials[trials["state"] == "stopped"]
    assert stopped["error"].notna().all()
    assert sum(row["trials"] for row in summary["stopped"]) == summary["trials"]["stopped"] == len(stopped)
    assert summary["lineage"][0]["auc"] is None
    assert summary["lowest"]["error"] == trials[trials["state"] == "complete"]["error"].min()
    assert not set(summary["best"]["trials"]) & set(stopped["number"])
    assert "they are no sample of the space" in " ".join(
        (tmp_path / "out" / "report.html").read_text().split()
    )
    print_summary(summary)
    assert "Stopped by the scheduler: " in capsys.readouterr().out


def checkpoints(path):
    if not path.exists():
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        try:
            return db.execute("select count(*) from attempt where checkpoint is not null").fetchone()[0]
        except sqlite3.OperationalError:
            return 0


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def end_group(group):
    """End what the killed driver started: its Ray has the driver's process group or its session."""
    for line in subprocess.run(
        ["ps", "-eo", "pid,sess"], capture_output=True, text=True, check=True
    ).stdout.splitlines():
        fields = line.split()
        if len(fields) == 2 and fields[1] == str(group):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(fields[0]), signal.SIGKILL)
