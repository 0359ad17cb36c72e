"""ASHA through the coordinator: packs run in this process, the trial database is real."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sqlite3
from math import nan
from pathlib import Path

import pytest
from rich.console import Console

from kdsearch.search.config import parse_sweep
from kdsearch.search.coordinator import Idle
from kdsearch.search.failures import Cause, Failure
from kdsearch.search.progress import LiveDisplay, seen
from kdsearch.search.trialdb import TrialDatabase
from kdsearch.search.trialdb import operations as op
from kdsearch.trainables.protocol import EpochReport, MemberState

_SPEC = importlib.util.spec_from_file_location("scheduled", Path(__file__).with_name("scheduled.py"))
_SCHEDULED = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_SCHEDULED)
CurvePack, Driver, CutError = _SCHEDULED.CurvePack, _SCHEDULED.Driver, _SCHEDULED.CutError
sweep_of, verdicts, ends = _SCHEDULED.sweep_of, _SCHEDULED.verdicts, _SCHEDULED.ends
run_with_cuts, standing = _SCHEDULED.run_with_cuts, _SCHEDULED.standing


def test_a_stopped_trial_ends_with_its_last_error_and_its_reason(clock, tmp_path):
    driver = Driver(sweep_of(), clock, tmp_path).run()
    stopped = {n: row for n, row in ends(driver).items() if str(row.state) == "stopped"}
    complete = {n for n, row in ends(driver).items() if str(row.state) == "complete"}
    assert len(stopped) >= 3
    assert complete
    assert stopped.keys() | complete == set(range(10))
    outcomes = driver.coordinator.searcher.ledger.outcomes
    for number, row in stopped.items():
        told = next(v for v in verdicts(driver) if v["trial"] == number and v["stopped"])
        assert row.last_epoch == told["rung"] == max(epoch for n, epoch in driver.reported if n == number)
        assert row.error == told["value"] > told["cutoff"]
        assert row.message == f"stopped after epoch {told['rung']}: {told['reason']}"
        assert (outcomes[number].state, outcomes[number].error) == ("stopped", row.error)
    assert driver.coordinator.tally.stopped == len(stopped)
    assert driver.coordinator.tally.best_error == min(ends(driver)[n].error for n in complete)
    assert driver.coordinator.done


def test_the_progress_display_counts_stopped_trials_and_shows_no_auc_of_the_others(clock, tmp_path):
    text = io.StringIO()
    driver = Driver(sweep_of(), clock, tmp_path).run()
    with LiveDisplay(
        driver.coordinator, Console(file=text, force_terminal=True, width=110, color_system=None)
    ):
        pass
    stopped = driver.coordinator.tally.stopped
    assert f"finished 10   running 0   stopped {stopped}   diverged 0" in text.getvalue()
    assert driver.coordinator.searcher.overview().conditions
    assert "label->target" not in text.getvalue()
    assert seen(driver.coordinator).conditions == ()


def test_every_trial_is_judged_once_at_each_rung_that_it_reaches(clock, tmp_path):
    driver = Driver(sweep_of(), clock, tmp_path).run()
    judged = [(v["trial"], v["rung"]) for v in verdicts(driver)]
    assert judged == [(n, epoch) for n, epoch in driver.reported if epoch in {2, 4}]
    first = [v for v in verdicts(driver) if v["rung"] == 2]
    assert [v["recorded"] for v in first] == list(range(10))
    assert [v["value"] for v in first] == [
        row.values["1/val_error"] for row in driver.rows(op.RecordMetrics) if row.step == 2
    ]


def test_a_decision_is_written_behind_its_metrics_and_before_checkpoint_and_end(clock, tmp_path):
    driver = Driver(sweep_of(run={"checkpoint_every": 2}), clock, tmp_path).run()
    place = {}
    for n, operation in enumerate(driver.operations):
        for row in operation.rows:
            if isinstance(operation, op.RecordMetrics):
                place["metrics", row.number, row.step] = n
            elif isinstance(operation, op.SaveCheckpoints):
                place["checkpoint", row.number, row.epoch] = n
            elif isinstance(operation, op.FinishTrials):
                place["end", row.number, row.last_epoch] = n
            elif isinstance(operation, op.AddEvents) and row.kind == "scheduler":
                place["verdict", row.data["trial"], row.data["rung"]] = n
    for verdict in verdicts(driver):
        where = (verdict["trial"], verdict["rung"])
        later = ("end", *where) if verdict["stopped"] else ("checkpoint", *where)
        assert place["metrics", *where] < place["verdict", *where] < place[later]
        assert not verdict["stopped"] or ("checkpoint", *where) not in place


def test_what_a_stopped_trial_reports_late_is_passed_over(clock, tmp_path):
    class Deaf(Driver):  # packs that are not told
        def _run(self, job):
            on_result = self.coordinator.on_result
            self.coordinator.on_result = lambda *args: (on_result(*args), ())[1]
            super()._run(job)
            self.coordinator.on_result = on_result

    told, deaf = Driver(sweep_of(), clock, tmp_path).run(), Deaf(sweep_of(), clock, tmp_path).run()
    assert len(deaf.reported) == 10 * 6 > len(told.reported)
    assert verdicts(deaf) == verdicts(told)

    def results(driver):
        return [
            (r.number, str(r.state), r.error, r.last_epoch, r.best_error)
            for r in driver.rows(op.FinishTrials)
        ]

    assert sorted(results(deaf)) == sorted(results(told))
    assert len(deaf.rows(op.RecordMetrics)) == len(told.rows(op.RecordMetrics)) == len(told.reported)


def test_a_pack_whose_members_are_all_stopped_leaves_nothing_behind(clock, tmp_path):
    driver = Driver(sweep_of({"kind": "random", "trials": 2}, {"pack": 1}), clock, tmp_path)
    job = driver.coordinator.next_job()
    driver.coordinator.scheduler.asha.report(99, 2, 0.0)

    def report(number, epoch):
        return EpochReport(
            number=number, epoch=epoch, state=MemberState.RUNNING, metrics={"1/val_error": 50.0}
        )

    assert driver.coordinator.on_result(job.id, [report(0, 1)], None) == ()
    assert driver.coordinator.on_result(job.id, [report(0, 2)], None) == (0,)
    other = driver.coordinator.next_job()
    assert driver.coordinator.on_result(other.id, [report(1, 2)], None) == (1,)
    assert driver.coordinator.on_result(job.id, [], None) == ()  # the pack says that it is empty
    gone = Failure(reason="the worker process ended", cause=Cause.WORKER)
    driver.coordinator.on_pack_failure(job.id, gone)  # or its worker goes
    assert driver.coordinator.next_job() is Idle.DONE
    assert driver.coordinator.done


def test_a_diverged_trial_stays_diverged_and_counts_as_the_worst(clock, tmp_path):
    driver = Driver(sweep_of(diverge=[0, 3]), clock, tmp_path).run()
    assert {n for n, row in ends(driver).items() if str(row.state) == "diverged"} == {0, 3}
    own = [v for v in verdicts(driver) if v["trial"] in {0, 3}]
    assert [(v["rung"], v["value"], v["stopped"]) for v in own] == [(2, None, False)] * 2
    assert [member.number for member in driver.jobs[0].members] == [0, 3, 6, 9]
    third = next(v for v in verdicts(driver) if v["trial"] == 6)
    assert (third["recorded"], third["cutoff"], third["stopped"]) == (2, None, False)  # None: infinite


def test_an_error_that_is_not_finite_at_a_rung_stops_the_trial(clock, tmp_path):
    driver = Driver(sweep_of({"kind": "random", "trials": 1}), clock, tmp_path)
    job = driver.coordinator.next_job()
    report = EpochReport(number=0, epoch=2, state=MemberState.RUNNING, metrics={"1/val_error": nan})
    assert driver.coordinator.on_result(job.id, [report], None) == (0,)
    assert (str(ends(driver)[0].state), ends(driver)[0].error) == ("stopped", None)
    assert driver.coordinator.searcher.ledger.outcomes[0].error == 100.0


COMPARISON = {
    "kind": "comparison",
    "runs": 2,
    "reference": "fixed",
    "methods": {
        "fixed": {"kind": "fixed", "values": {"x": 0.5}},
        "search": {"kind": "tpe", "trials": 6},
        "other": {"kind": "tpe", "trials": 6},
    },
}


def test_final_trials_are_never_judged_and_every_run_of_a_method_is_a_search_of_its_own(clock, tmp_path):
    sweep = parse_sweep(
        {
            **sweep_of().resolved(),
            "space": {"kind": "parameters", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}},
            "searcher": COMPARISON,
        },
        "test",
    )
    driver = Driver(sweep, clock, tmp_path).run()
    plans = {row.number: row.plan for row in driver.rows(op.AddTrials)}
    final = {n for n, plan in plans.items() if plan["final"]}
    assert len(final) == 6
    assert all(str(ends(driver)[n].state) == "complete" for n in final)
    judged = {v["trial"] for v in verdicts(driver)}
    assert judged == set(plans) - final
    most = {}
    for verdict in verdicts(driver):
        if verdict["rung"] == 2:
            plan = plans[verdict["trial"]]
            most.setdefault((plan["method"], plan["run"]), []).append(verdict["recorded"])
    assert {key: sorted(found) for key, found in most.items()} == {
        (method, run): [0, 1, 2, 3, 4, 5] for method in ("search", "other") for run in (0, 1)
    }


def test_pretrainings_are_never_judged(clock, tmp_path):
    from kdsearch.search.baselines import Baseline

    path = tmp_path / "m.pt"
    baseline = Baseline(number=0, model="m", configuration={"model.1": "m"}, seed=5, path=path)
    driver = Driver(sweep_of(), clock, tmp_path, baselines=[baseline])
    driver.coordinator.scheduler.asha.report(99, 2, 0.0)
    driver._write(path)
    driver.run()
    assert str(ends(driver)[0].state) == "complete"
    assert 0 not in {v["trial"] for v in verdicts(driver)}


def test_a_member_that_fails_is_judged_again_by_its_new_error_and_its_decision_stands(clock, tmp_path):
    driver = Driver(sweep_of({"kind": "random", "trials": 4}), clock, tmp_path)
    coordinator = driver.coordinator
    job = coordinator.next_job()

    def reports(epoch, errors):
        return [
            EpochReport(number=n, epoch=epoch, state=MemberState.RUNNING, metrics={"1/val_error": error})
            for n, error in errors.items()
        ]

    assert coordinator.on_result(job.id, reports(2, {0: 50.0, 1: 40.0}), None) == ()
    coordinator.on_pack_failure(job.id, Failure(reason="the worker process ended", cause=Cause.WORKER))
    alone = [coordinator.next_job() for _ in range(4)]
    assert [[member.number for member in each.members] for each in alone] == [[0], [1], [2], [3]]
    assert coordinator.on_result(alone[0].id, reports(2, {0: 60.0}), None) == ()  # above 40, and goes on
    assert coordinator.on_result(alone[2].id, reports(2, {2: 49.0}), None) == ()
    assert coordinator.on_result(alone[3].id, reports(2, {3: 51.0}), None) == (3,)
    told = [(v["trial"], v["attempt"], v["value"], v["recorded"], v["cutoff"]) for v in verdicts(driver)]
    assert told == [
        (0, 1, 50.0, 0, None),
        (1, 1, 40.0, 1, 50.0),
        (0, 2, 60.0, 0, None),
        (2, 2, 49.0, 2, 50.0),  # the median of 40 and 60
        (3, 2, 51.0, 3, 49.0),
    ]


# -- resume ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "t.db"
    TrialDatabase.open(f"sqlite:///{path}").close()
    return path


@pytest.mark.parametrize("pack", [1, 16])
@pytest.mark.parametrize("every", [0, 1, 2])
def test_interrupted_and_resumed_decisions_equal_uninterrupted_ones(
    clock, tmp_path, empty_database, pack, every
):
    """One after the other, or all in one pack: in several, who comes first at a rung depends on who is left to run."""
    sweep = sweep_of({"kind": "random", "trials": 7}, {"pack": pack, "checkpoint_every": every}, diverge=[2])
    trials, decided, reported = run_with_cuts(sweep, clock, tmp_path / "whole", empty_database, [])
    assert {state for state, *_ in trials.values()} == {"complete", "stopped", "diverged"}
    results, step = (len(reported), 5) if pack == 1 else (6, 1)
    for n, first in enumerate(range(1, results, step)):
        cuts = [(first, n % 5), (2, 0)]  # and once more, soon after
        cut_trials, cut_decided, _ = run_with_cuts(sweep, clock, tmp_path / str(n), empty_database, cuts)
        assert cut_trials == trials
        assert cut_decided == decided


def test_a_trial_that_goes_on_behind_a_rung_is_not_judged_there_again(clock, tmp_path, empty_database):
    sweep = sweep_of({"kind": "random", "trials": 3}, {"pack": 4, "checkpoint_every": 1})
    *_, whole = run_with_cuts(sweep, clock, tmp_path / "whole", empty_database, [])
    folder = tmp_path / "cut"
    _, _, reported = run_with_cuts(sweep, clock, folder, empty_database, [(3, 0)])
    assert sorted(reported) == sorted(whole)  # no epoch was trained twice
    with TrialDatabase.open(f"sqlite:///{folder / 't.db'}") as database:
        judged = [(e.data["trial"], e.data["rung"]) for e in database.events("s", kinds=["scheduler"])]
        assert len(set(judged)) == len(judged)


def test_the_documented_query_counts_what_was_judged(clock, tmp_path, empty_database):
    text = (Path(__file__).parents[2] / "docs" / "schedulers.md").read_text(encoding="utf-8")
    query = text.partition("```sql")[2].partition("```")[0]
    _, decided, _ = run_with_cuts(sweep_of(), clock, tmp_path / "whole", empty_database, [])
    with contextlib.closing(sqlite3.connect(tmp_path / "whole" / "t.db")) as database:
        rows = database.execute(query, {"sweep": "s"}).fetchall()
    expected = {}
    for (_, rung), (*_, stopped) in decided.items():
        judged, out = expected.get(rung, (0, 0))
        expected[rung] = judged + 1, out + stopped
    assert {rung: (judged, stopped) for rung, judged, stopped in rows} == expected
    assert rows[0][2] > 0
