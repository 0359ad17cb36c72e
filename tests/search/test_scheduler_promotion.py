"""ASHA that promotes, through the coordinator: packs run in this process, the trial database is real."""

from __future__ import annotations

import importlib.util
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from kdsearch.analysis.report import write_report
from kdsearch.analysis.results import analyse
from kdsearch.search.coordinator import Idle
from kdsearch.search.failures import Cause, Failure
from kdsearch.search.schedulers import make_scheduler
from kdsearch.search.trialdb import TrialDatabase, read_record
from kdsearch.search.trialdb import operations as op


def _load(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_SCHEDULED, _ALGORITHM = _load("scheduled"), _load("test_asha_promotion")
Driver, ends, verdicts = _SCHEDULED.Driver, _SCHEDULED.ends, _SCHEDULED.verdicts
PROMOTE = {"kind": "asha", "mode": "promote", "rungs": [2, 4]}


def sweep_of(searcher=None, run=None, scheduler=None, **more):
    return _SCHEDULED.sweep_of(searcher, run, {**PROMOTE, **(scheduler or {})}, **more)


def standing(database):
    """How trials ended, and every decision in its order, but for attempts."""
    trials = {t.number: (str(t.state), t.error, t.last_epoch, t.best_error) for t in database.trials("s")}
    decided = [
        {key: value for key, value in event.data.items() if key != "attempt"}
        for event in database.events("s", kinds=["scheduler"])
    ]
    return trials, decided


@pytest.mark.parametrize("pack", [1, 4, 16])
def test_every_trial_ends_once_and_no_epoch_is_trained_twice(clock, tmp_path, pack):
    driver = Driver(sweep_of(run={"pack": pack}), clock, tmp_path).run()
    assert sorted(row.number for row in driver.rows(op.FinishTrials)) == list(range(10))
    states = Counter(str(row.state) for row in ends(driver).values())
    passed = Counter(v["rung"] for v in verdicts(driver) if v["late"] and not v["stopped"])
    assert passed[2] >= 5  # of 10; more where the best came late
    assert passed[4] >= passed[2] // 2
    assert states == {"complete": passed[4], "stopped": 10 - passed[4]}
    assert len(set(driver.reported)) == len(driver.reported) == 10 * 2 + passed[2] * 2 + passed[4] * 2
    assert driver.coordinator.done
    assert driver.coordinator.paused == 0


@pytest.mark.parametrize("pack", [1, 4, 16])
def test_members_of_packs_are_given_what_algorithm_2_gives_single_trials(clock, tmp_path, pack):
    """The results of the run, member by member, through the naive version: the same jobs in the same order."""
    sweep = sweep_of({"kind": "random", "trials": 40}, {"pack": pack}, {"reduction_factor": 2})
    driver = Driver(sweep, clock, tmp_path).run()
    paper, rungs, promoted = _ALGORITHM.AlgorithmTwo((2, 4), 2), (2, 4), 0
    for verdict in verdicts(driver):
        k = rungs.index(verdict["rung"])
        if not verdict["late"]:
            paper.losses[k][verdict["trial"]] = verdict["value"]
        elif not verdict["stopped"]:
            assert paper.get_job() == (verdict["trial"], k)
            promoted += 1
    assert paper.get_job() is None
    assert promoted >= 20 + 10


@pytest.mark.parametrize("pack", [4, 16])
def test_a_stopping_scheduler_decides_about_members_as_about_single_trials(clock, tmp_path, pack):
    sweep = _SCHEDULED.sweep_of({"kind": "random", "trials": 40}, {"pack": pack})
    driver = Driver(sweep, clock, tmp_path).run()
    alone = make_scheduler(sweep).asha
    for verdict in verdicts(driver):
        again = alone.report(verdict["trial"], verdict["rung"], verdict["value"])
        assert (again.stopped, again.cutoff, again.recorded) == tuple(
            verdict[key] for key in ("stopped", "cutoff", "recorded")
        )


def test_promoted_trials_are_packed_anew_by_rung_and_before_new_ones(clock, tmp_path):
    driver = Driver(sweep_of({"kind": "random", "trials": 12}, {"pack": 3}), clock, tmp_path)
    driver.run()
    trained = {}  # epochs of each trial when its packs began
    for job in driver.jobs:
        begun = {trained.get(member.number, 0) for member in job.members}
        assert len(begun) == 1
        for member in job.members:
            assert (member.checkpoint is None) is (begun == {0})
            assert member.checkpoint is None or member.checkpoint.name == f"{member.number}-{min(begun)}.pt"
            trained[member.number] = min(begun) + 2
    begun = [len({m.checkpoint for m in job.members if m.checkpoint}) for job in driver.jobs]
    assert begun.index(1) < len(begun) - begun[::-1].index(0)  # a promotion came before the last new pack


def test_a_paused_trial_is_known_to_the_database_and_its_reason_too(clock, tmp_path):
    database = _database(tmp_path, clock)
    driver = Driver(sweep_of({"kind": "random", "trials": 4}, {"pack": 4}), clock, tmp_path, kill_after=2)
    with pytest.raises(_SCHEDULED.CutError):
        driver.run()
    with database:
        database.apply(driver.operations[:-1])  # all but the promotions
        found = {t.number: t for t in database.trials("s")}
        waiting = [t for t in found.values() if str(t.state) == "paused"]
        assert len(waiting) == 4
        assert all(t.message.startswith("paused after epoch 2: ") and t.ended is None for t in waiting)
        assert all(a.checkpoint_epoch == 2 for a in database.attempts("s"))
        database.mark_running_as_lost("s", "gone")
        assert {str(t.state) for t in database.trials("s")} == {"paused"}


@pytest.mark.parametrize(
    ("pack", "more"),
    [(1, {}), (16, {}), (1, {"epsilon": 0.3}), (1, {"brackets": 2}), (16, {"epsilon": 0.5, "brackets": 2})],
)
def test_interrupted_and_resumed_decisions_equal_uninterrupted_ones(clock, tmp_path, pack, more):
    template = tmp_path / "template.db"
    TrialDatabase.open(f"sqlite:///{template}").close()
    sweep = sweep_of({"kind": "random", "trials": 9}, {"pack": pack}, more, diverge=[2])

    def run(name, cuts):
        folder = tmp_path / name
        reported = _SCHEDULED.run_with_cuts(sweep, clock, folder, template, cuts)[2]
        with TrialDatabase.open(f"sqlite:///{folder / 't.db'}") as database:
            return *standing(database), reported

    trials, decided, reported = run("whole", [])
    assert {state for state, *_ in trials.values()} == {"complete", "stopped", "diverged"}
    results = len(reported) if pack == 1 else 6
    for n, first in enumerate(range(1, results, 3 if pack == 1 else 1)):
        cut_trials, cut_decided, _ = run(str(n), [(first, n % 5), (2, 0)])
        assert cut_trials == trials
        assert _first(cut_decided) == _first(decided)


def _first(decided):
    """The decisions without those that repeat one in another attempt."""
    return [data for data in decided if "once more" not in data["reason"]]


def test_trials_that_wait_are_stopped_when_a_searcher_waits_for_them(clock, tmp_path):
    """TPE proposes a generation, and learns from those of it that are never promoted too."""
    searcher = {"kind": "tpe", "trials": 12, "generation": 4}
    space = {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}}
    sweep = sweep_of(searcher, {"pack": 4}, space=space)
    driver = Driver(sweep, clock, tmp_path).run()
    assert ends(driver).keys() == set(range(12))
    assert driver.coordinator.done
    settled = [v for v in verdicts(driver) if v["stopped"]]
    assert settled
    assert all(v["late"] and v["reason"].startswith("not promoted: ") for v in settled)


def test_a_worker_that_dies_with_promoted_trials_loses_none(clock, tmp_path):
    plain = Driver(sweep_of({"kind": "random", "trials": 6}, {"pack": 6}), clock, tmp_path / "a").run()
    dies = Driver(
        sweep_of({"kind": "random", "trials": 6}, {"pack": 6}), clock, tmp_path / "b", worker_dies={1}
    ).run()
    assert [m.number for m in plain.jobs[1].members] == [m.number for m in dies.jobs[1].members]
    assert {n: row.state for n, row in ends(dies).items()} == {n: row.state for n, row in ends(plain).items()}


def test_a_promoted_trial_without_its_checkpoint_begins_again_and_goes_on_behind_its_rung(clock, tmp_path):
    driver = Driver(sweep_of({"kind": "random", "trials": 2}, {"pack": 2, "backoff_s": 0}), clock, tmp_path)
    job = driver.coordinator.next_job()
    driver._run(job)
    up = driver.coordinator.next_job()
    number = up.members[0].number
    driver.coordinator.on_pack_failure(
        up.id, Failure(reason="it raised", cause=Cause.ERROR)
    )  # alone: its checkpoint is not trusted
    again = driver.coordinator.next_job()
    assert (again.members[0].number, again.members[0].checkpoint) == (number, None)
    driver._run(again)
    assert [epoch for n, epoch in driver.reported if n == number] == [1, 2, 1, 2, 3, 4]
    assert isinstance(driver.coordinator.next_job(), Idle)
    assert str(ends(driver)[number].state) == "stopped"  # at the second rung, alone


def _database(folder, clock):
    database = TrialDatabase.open(f"sqlite:///{folder / 't.db'}", clock=clock)
    database.create_sweep(
        "s", kind="sweep", trainable="constant", settings={}, seed=0, code_version="", environment={}
    )
    return database


@pytest.mark.parametrize("mode", ["stop", "promote"])
def test_a_report_of_random_promotion_speaks_for_all_draws(clock, tmp_path, mode):
    sweep = sweep_of(
        {"kind": "random", "trials": 80}, {"pack": 8}, {"mode": mode, "rungs": [2], "epsilon": 0.3}
    )
    database = _database(tmp_path, clock)
    driver = Driver(sweep, clock, tmp_path).run()
    with database:
        database.apply(driver.operations)
        record = replace(read_record(database, "s"), settings=sweep.resolved())
    space = analyse(record).spaces[0]
    drawn = space.population
    assert space.curve is not None
    assert drawn.refused is None
    assert drawn.weights.sum() == pytest.approx(80)
    assert drawn.n < 80
    assert drawn.n + drawn.late_draws + drawn.states["stopped"] == 80
    assert (len(drawn.late) > 0) is (mode == "promote")
    assert space.curve.n == drawn.n
    for group in {row.group for row in space.conditions}:
        rows = [row for row in space.conditions if row.group == group]
        assert sum(row.n for row in rows) == drawn.n
    assert any(row.low is not None for row in space.conditions)
    assert analyse(record).ranking.ranked == drawn.n + len(
        drawn.late
    )  # late ones: no sample, and maybe the best
    assert analyse(record).lowest == ()
    page = write_report([record], tmp_path / "report").page.read_text(encoding="utf-8")
    assert (
        "stopped or paused by the scheduler, or promoted late; those that chance (epsilon 0.3) let go on"
        in page
    )
