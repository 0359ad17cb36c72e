from __future__ import annotations

import importlib.util
import json
from datetime import timedelta
from pathlib import Path

import pytest

from kdsearch.search.baselines import Baseline, baselines_for
from kdsearch.search.config import StatisticsSettings, load_sweep, parse_sweep
from kdsearch.search.coordinator import Idle
from kdsearch.search.failures import Cause, Failure, Place
from kdsearch.search.trial_states import PastEpoch, PastTrial
from kdsearch.search.trialdb import operations as op
from kdsearch.search.trialdb.states import Ending
from kdsearch.spaces import configuration_key
from kdsearch.spaces.errors import KdsearchError
from kdsearch.trainables.data.samples import sample
from kdsearch.trainables.protocol import EpochReport, MemberState

_SPEC = importlib.util.spec_from_file_location("driver", Path(__file__).with_name("driver.py"))
_DRIVER = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_DRIVER)
Driver, history_of = _DRIVER.Driver, _DRIVER.history_of

SPACE = {
    "kind": "ktg",
    "target": "resnet8w4",
    "auxiliary": {"count": 2, "models": ["resnet8w4", "resnet8w8"]},
    "gates": ["through", "cutoff", "linear"],
}


def sweep_of(searcher=None, run=None, **trainable):
    # the constant trainable's space is KTG's, so that it has conditions to refine
    return parse_sweep(
        {
            "name": "s",
            "space": SPACE,
            "trainable": {"kind": "constant", **trainable},
            "searcher": searcher or {"kind": "random", "trials": 20},
            "run": {"pack": 8, **(run or {})},
        },
        "test",
    )


def test_every_trial_is_written_started_measured_and_finished_once(clock, tmp_path):
    driver = Driver(sweep_of(epochs=3), clock, tmp_path).run()
    numbers = [row.number for row in driver.rows(op.AddTrials)]
    assert numbers == list(range(len(numbers)))
    assert sorted(row.number for row in driver.rows(op.FinishTrials)) == numbers
    assert sorted(row.number for row in driver.rows(op.StartAttempts)) == numbers
    assert len(driver.rows(op.RecordMetrics)) == 3 * len(numbers)
    assert driver.coordinator.done


def test_packs_are_as_large_as_allowed_and_evenly_filled(clock, tmp_path):
    driver = Driver(sweep_of({"kind": "random", "trials": 20}), clock, tmp_path).run()
    # 20 trials fit in three packs of 8; four keep both workers busy to the end
    assert [len(job.members) for job in driver.jobs] == [5, 5, 5, 5]


def test_seeds_differ_and_depend_on_the_number_alone(clock, tmp_path):
    seeds = [row.seed for row in Driver(sweep_of(), clock, tmp_path).run().rows(op.AddTrials)]
    again = [row.seed for row in Driver(sweep_of(run={"pack": 3}), clock, tmp_path).run().rows(op.AddTrials)]
    assert seeds == again
    assert len(set(seeds)) == len(seeds)


def test_a_member_that_fails_is_retried_alone_and_its_neighbours_are_not_lost(clock, tmp_path):
    driver = Driver(sweep_of(fail=[3], run={"attempts": 3}), clock, tmp_path).run()
    ends = {row.number: row for row in driver.rows(op.FinishTrials)}
    assert str(ends[3].state) == "failed"
    assert "told to fail" in ends[3].message
    assert ends[3].attempt == 4  # once among others, three times alone
    assert all(str(row.state) == "complete" for number, row in ends.items() if number != 3)
    again = [job for job in driver.jobs if any(member.number == 3 for member in job.members)]
    assert [len(job.members) for job in again] == [5, 1, 1, 1]
    assert driver.coordinator.tally.failed == 1


def test_a_failure_that_passes_is_an_attempt_of_the_same_trial(clock, tmp_path):
    driver = Driver(sweep_of(fail=[3], marker=str(tmp_path)), clock, tmp_path).run()
    assert {str(row.state) for row in driver.rows(op.FinishTrials)} == {"complete"}
    pack = next(job for job in driver.jobs if 3 in {member.number for member in job.members})
    ended = {row.number: row.ending for row in driver.rows(op.EndAttempts)}
    assert ended == {member.number: Ending.SHARED for member in pack.members}
    assert {row.n for row in driver.rows(op.StartAttempts)} == {1, 2}


def test_while_a_trial_waits_to_be_tried_again_others_go_on_and_the_sweep_is_not_done(clock, tmp_path):
    sweep = sweep_of(
        {"kind": "random", "trials": 3}, fail=[1], run={"pack": 1, "attempts": 2, "backoff_s": 600}
    )
    driver = Driver(sweep, clock, tmp_path)
    for _ in range(3):
        driver._run(driver.coordinator.next_job())
    assert driver.coordinator.next_job() is Idle.WAIT
    assert (driver.coordinator.retrying, driver.coordinator.done) == (1, False)
    assert {row.number for row in driver.rows(op.FinishTrials)} == {0, 2}
    clock.now += timedelta(seconds=600)
    again = driver.coordinator.next_job()
    assert [member.number for member in again.members] == [1]
    driver._run(again)
    assert driver.coordinator.next_job() is Idle.DONE
    assert (str(driver.rows(op.FinishTrials)[-1].state), driver.coordinator.done) == ("failed", True)


def test_a_retry_keeps_away_from_the_node_where_it_failed_and_its_attempts_say_where_they_ran(
    clock, tmp_path
):
    sweep = sweep_of({"kind": "random", "trials": 1}, run={"backoff_s": 0})
    coordinator = (driver := Driver(sweep, clock, tmp_path)).coordinator
    first = coordinator.next_job()
    coordinator.on_start(first.id, Place(host="alpha", node="a1"))
    coordinator.on_pack_failure(first.id, Failure(reason="gone", cause=Cause.NODE))
    second = coordinator.next_job()
    coordinator.on_start(second.id, Place(host="beta", node="b1"))
    coordinator.on_result(second.id, [], Failure(reason="raised"))
    third = coordinator.next_job()
    assert [job.avoid for job in (first, second, third)] == [set(), {"a1"}, {"a1", "b1"}]
    assert [(row.n, row.host) for row in driver.rows(op.StartAttempts)] == [(1, "alpha"), (2, "beta")]
    assert [row.ending for row in driver.rows(op.EndAttempts)] == [Ending.LOST, Ending.FAILED]


def test_a_pack_that_no_node_takes_any_more_is_handed_out_again_without_an_attempt(clock, tmp_path):
    driver = Driver(sweep_of({"kind": "random", "trials": 1}), clock, tmp_path)
    driver.coordinator.on_return(driver.coordinator.next_job().id)
    assert driver.rows(op.StartAttempts) == []
    driver.run()
    assert [(row.number, row.n) for row in driver.rows(op.StartAttempts)] == [(0, 1)]
    assert str(driver.rows(op.FinishTrials)[0].state) == "complete"


def test_members_of_a_pack_whose_node_is_gone_go_on_together(clock, tmp_path):
    driver = Driver(sweep_of({"kind": "random", "trials": 8}), clock, tmp_path)
    first = driver.coordinator.next_job()
    driver.coordinator.on_start(first.id, Place(host="alpha", node="a1"))
    driver.coordinator.on_pack_failure(first.id, Failure(reason="gone", cause=Cause.NODE))
    again = driver.coordinator.next_job()
    assert [m.number for m in again.members] == [m.number for m in first.members]
    assert len(again.members) > 1
    driver._run(again)
    driver.run()
    assert sorted(row.number for row in driver.rows(op.FinishTrials)) == list(range(8))


def test_a_pack_that_is_declined_after_it_was_taken_to_run_is_handed_out_again_and_its_attempt_has_an_end(
    clock, tmp_path
):
    driver = Driver(sweep_of({"kind": "random", "trials": 1}), clock, tmp_path)
    coordinator = driver.coordinator
    job = coordinator.next_job()
    coordinator.on_start(job.id, None)  # the worker did not say where it is
    coordinator.on_return(job.id)
    driver.run()
    assert [(row.n, row.ending) for row in driver.rows(op.EndAttempts)] == [(1, Ending.LOST)]
    assert [(row.attempt, str(row.state)) for row in driver.rows(op.FinishTrials)] == [(2, "complete")]


def test_a_pack_that_is_handed_back_again_and_again_says_how_often(clock, tmp_path):
    coordinator = Driver(sweep_of({"kind": "random", "trials": 8}), clock, tmp_path).coordinator
    counts = []
    for _ in range(3):
        job = coordinator.next_job()
        counts.append((len(job.members) > 1, job.returned))
        coordinator.on_return(job.id)
    assert counts == [(True, 0), (True, 1), (True, 2)]


def test_a_resume_charges_failures_of_earlier_runs_and_packs_no_suspect_with_others(clock, tmp_path):
    sweep = sweep_of({"kind": "random", "trials": 4}, fail=[1], run={"attempts": 3, "backoff_s": 0})
    rows = Driver(sweep_of({"kind": "random", "trials": 4}), clock, tmp_path).run().rows(op.AddTrials)
    endings = {0: [Ending.LOST], 1: [Ending.SHARED, Ending.FAILED], 2: [Ending.SHARED], 3: [None]}
    history = {
        row.number: PastTrial(
            state="waiting",
            key=row.configuration_hash,
            error=None,
            attempts=len(endings[row.number]),
            endings=endings[row.number],
        )
        for row in rows
    }
    driver = Driver(sweep, clock, tmp_path, history=history).run()
    packs = [sorted(member.number for member in job.members) for job in driver.jobs]
    assert packs.count([1]) == 2  # of three failures one is behind it
    assert [2] in packs
    assert any({0, 3} & set(pack) and not {1, 2} & set(pack) for pack in packs)
    ends = {row.number: row for row in driver.rows(op.FinishTrials)}
    assert ends[1].message.startswith("failed in 3 attempts: ")
    assert {str(ends[number].state) for number in (0, 2, 3)} == {"complete"}


def test_a_worker_that_dies_costs_an_attempt(clock, tmp_path):
    driver = Driver(sweep_of(), clock, tmp_path, worker_dies={0}).run()
    assert {str(row.state) for row in driver.rows(op.FinishTrials)} == {"complete"}
    assert {row.reason for row in driver.rows(op.EndAttempts)} == {"the worker process ended"}


def test_a_pack_that_never_began_is_handed_out_again_first_and_costs_no_attempt(clock, tmp_path):
    driver = Driver(sweep_of({"kind": "random", "trials": 20}), clock, tmp_path)
    job = driver.coordinator.next_job()
    assert driver.coordinator.packs == (0, 1)
    driver.coordinator.on_return(job.id)
    assert driver.coordinator.packs == (0, 0)
    again = driver.coordinator.next_job()
    assert [member.number for member in again.members] == [member.number for member in job.members]
    driver.coordinator.on_start(again.id)
    assert driver.coordinator.packs == (1, 0)
    assert {row.n for row in driver.rows(op.StartAttempts)} == {1}


def test_a_diverged_member_counts_with_error_100_and_its_neighbours_go_on(clock, tmp_path):
    driver = Driver(sweep_of(diverge=[2], epochs=4), clock, tmp_path).run()
    ends = {row.number: row for row in driver.rows(op.FinishTrials)}
    assert (str(ends[2].state), ends[2].error, ends[2].last_epoch) == ("diverged", None, 1)
    assert all(row.last_epoch == 4 for number, row in ends.items() if number != 2)
    assert driver.coordinator.searcher.ledger.outcomes[2].error == 100.0


def test_what_lost_trials_count_with_may_lie_above_every_error(clock, tmp_path):
    sweep = sweep_of(diverge=[2]).model_copy(update={"statistics": StatisticsSettings(diverged_error=400)})
    driver = Driver(sweep, clock, tmp_path).run()
    assert driver.coordinator.searcher.ledger.outcomes[2].error == 400.0


def test_draws_are_written_after_their_trials(clock, tmp_path):
    driver = Driver(
        sweep_of({"kind": "refinement", "draws": 60, "repeats": 1, "min_draws": 2}), clock, tmp_path
    ).run()
    known, spaces = set(), set()
    for operation in driver.operations:
        if isinstance(operation, op.AddTrials):
            known |= {row.number for row in operation.rows}
        if isinstance(operation, op.AddSpaces):
            assert all(row.parent is None or row.parent in spaces for row in operation.rows)
            spaces |= {row.name for row in operation.rows}
        if isinstance(operation, op.AddDraws):
            assert {row.trial for row in operation.rows} <= known
            assert {row.space for row in operation.rows} <= spaces
    assert driver.coordinator._logbook._waiting == {}


def baseline_of(path):
    configuration = {"model.1": "m", "label->1": "through"}
    return Baseline(number=0, model="m", configuration=configuration, seed=5, path=path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.35, 0.6, 0.9, 1.0])
def test_a_resumed_sweep_equals_an_uninterrupted_one(clock, tmp_path, share):
    sweep = sweep_of({"kind": "refinement", "draws": 60, "repeats": 1, "min_draws": 2}, epochs=2)
    whole = Driver(sweep, clock, tmp_path).run()
    cut = int(share * len(whole.operations))
    history = history_of(whole.operations, upto=cut)
    again = Driver(sweep, clock, tmp_path, history=history).run()

    def results(driver, past):
        known = {n: (t.state, t.error) for n, t in past.items() if t.state in {"complete", "diverged"}}
        return known | {row.number: (str(row.state), row.error) for row in driver.rows(op.FinishTrials)}

    assert results(again, history) == results(whole, {})
    finished = {n for n, t in history.items() if t.state == "complete"}
    assert not finished & {row.number for row in again.rows(op.StartAttempts)}
    assert again.rows(op.AddDraws) == whole.rows(op.AddDraws)
    assert [e.data for e in again.rows(op.AddEvents)] == [e.data for e in whole.rows(op.AddEvents)]
    assert {e.key for e in again.rows(op.AddEvents)} == {e.key for e in whole.rows(op.AddEvents)}


def test_a_resume_refuses_a_database_that_holds_other_configurations(clock, tmp_path):
    history = {0: PastTrial(state="complete", key="other", error=1.0, attempts=1)}
    with pytest.raises(KdsearchError, match="another configuration"):
        Driver(sweep_of(), clock, tmp_path, history=history).run()


def test_an_interrupt_marks_what_runs_and_starts_nothing_more(clock, tmp_path):
    driver = Driver(sweep_of(), clock, tmp_path)
    driver.coordinator.next_job()
    driver.coordinator.interrupt("interrupted by SIGINT")
    assert [row.reason for row in driver.rows(op.MarkRunningLost)] == ["interrupted by SIGINT"]
    assert driver.coordinator.next_job() is Idle.DONE
    assert not driver.coordinator.done


def test_baselines_are_trained_once_and_found_again(clock, tmp_path):
    baseline = baseline_of(tmp_path / "pretrained" / "m.pt")
    first = Driver(sweep_of(), clock, tmp_path, baselines=[baseline]).run()
    assert first.rows(op.AddTrials)[0].role == "pretrain"
    assert json.loads(baseline.path.with_suffix(".json").read_text())["trial"] == 0
    second = Driver(sweep_of(), clock, tmp_path, baselines=[baseline]).run()
    ended = next(row for row in second.rows(op.FinishTrials) if row.number == 0)
    assert "reused: trained as trial 0 of sweep s" in ended.message
    assert 0 not in {row.number for row in second.rows(op.StartAttempts)}
    baseline.path.write_text("damaged")
    assert baseline.known() is None
    baseline.path.unlink()
    third = Driver(sweep_of(), clock, tmp_path, baselines=[baseline]).run()
    assert 0 in {row.number for row in third.rows(op.StartAttempts)}


def test_baselines_are_keyed_by_all_that_defines_them(tmp_path):
    def paths(*changes, seed=0, root=None):
        return [b.path for b in baselines_for(load_sweep("ktg-digits", changes, seed), tmp_path, root)]

    assert len(set(paths())) == 2
    assert paths() == paths("searcher.draws=7", "run.pack=3")
    assert not set(paths()) & set(paths("trainable.epochs=3"))
    assert not set(paths()) & set(paths("trainable.data.split_seed=3"))
    assert not set(paths()) & set(paths(seed=1))
    assert paths() == paths(root=tmp_path)  # the data are the same, wherever the root is


def test_baselines_of_other_data_under_the_same_name_are_others(tmp_path):
    def paths(seed):
        root = tmp_path / f"root{seed}"
        sample("fashion-mnist", root, seed)
        sweep = load_sweep("ktg-fashion-mnist", (), None)
        return [b.path for b in baselines_for(sweep, tmp_path, root)]

    assert not set(paths(1)) & set(paths(2))


class NeedsTeachers:
    """The constant trainable, with frozen teachers as KTG has them."""

    def __init__(self, kind):
        self._kind = kind

    def __getattr__(self, name):
        return getattr(self._kind, name)

    def inputs(self, settings, configuration):
        return ("m",) if configuration.get("label->2") == "cutoff" else ()


def test_trials_wait_for_their_teachers_and_fail_with_them(clock, tmp_path, monkeypatch):
    from kdsearch.search import coordinator

    kind = NeedsTeachers(coordinator.trainable_kind("constant"))
    monkeypatch.setattr(coordinator, "trainable_kind", lambda name: kind)
    baseline = baseline_of(tmp_path / "m.pt")
    driver = Driver(sweep_of(), clock, tmp_path, baselines=[baseline]).run()
    needing = [m for job in driver.jobs for m in job.members if m.configuration.get("label->2") == "cutoff"]
    assert needing
    assert all(member.inputs == {"teacher:m": baseline.path} for member in needing)
    baseline.path.unlink()
    broken = Driver(sweep_of(diverge=[0]), clock, tmp_path, baselines=[baseline]).run()
    ends = {row.number: row for row in broken.rows(op.FinishTrials)}
    for member in needing:
        assert str(ends[member.number].state) == "failed"
        assert "its teacher m (trial 0) diverged" in ends[member.number].message
    assert broken.coordinator.done


def test_a_baseline_that_was_cut_off_and_is_known_elsewhere_is_complete_in_this_sweep(clock, tmp_path):
    baseline = baseline_of(tmp_path / "m.pt")
    elsewhere = sweep_of().model_copy(update={"name": "another"})
    Driver(elsewhere, clock, tmp_path, baselines=[baseline]).run()
    key = configuration_key(baseline.configuration)
    history = {0: PastTrial(state="lost", key=key, error=None, attempts=1)}
    driver = Driver(sweep_of(), clock, tmp_path, baselines=[baseline], history=history).run()
    ended = next(row for row in driver.rows(op.FinishTrials) if row.number == 0)
    assert (str(ended.state), ended.attempt) == ("complete", 1)  # an older attempt's result would be ignored


def test_a_baseline_of_a_driver_that_was_killed_before_its_end_was_written_is_trained_again(clock, tmp_path):
    baseline = baseline_of(tmp_path / "m.pt")
    whole = Driver(sweep_of(), clock, tmp_path, baselines=[baseline]).run()
    key = configuration_key(baseline.configuration)
    history = {0: PastTrial(state="lost", key=key, error=None, attempts=1)}
    driver = Driver(sweep_of(), clock, tmp_path, baselines=[baseline], history=history).run()
    again, plain = (next(r for r in each.rows(op.FinishTrials) if r.number == 0) for each in (driver, whole))
    assert (str(again.state), again.attempt, again.message) == ("complete", 2, "")
    assert (again.error, again.last_epoch) == (plain.error, plain.last_epoch)
    curve = [row.step for row in driver.rows(op.RecordMetrics) if row.number == 0]
    assert curve == list(range(1, plain.last_epoch + 1))  # no epoch is missing from the database


def test_one_bad_member_does_not_fail_its_neighbours_even_with_a_single_attempt(clock, tmp_path):
    driver = Driver(sweep_of(fail=[3], run={"attempts": 1}), clock, tmp_path).run()
    failed = [row.number for row in driver.rows(op.FinishTrials) if str(row.state) == "failed"]
    assert failed == [3]


def test_a_resume_counts_what_lies_behind_the_checkpoint(clock, tmp_path):
    path = tmp_path / "checkpoints" / "s" / "0-2.pt"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"epoch": 2}))
    sweep = sweep_of({"kind": "random", "trials": 1}, epochs=4)
    whole = Driver(sweep, clock, tmp_path / "other").run()
    key = whole.rows(op.AddTrials)[0].configuration_hash
    epochs = [PastEpoch(epoch=n, error=1.0 if n == 3 else 99.0, seconds=5.0) for n in (1, 2, 3)]
    history = {
        0: PastTrial(
            state="lost", key=key, error=None, attempts=1, epochs=epochs, checkpoint=path, checkpoint_epoch=2
        )
    }
    driver = Driver(sweep, clock, tmp_path, history=history).run()
    assert [row.step for row in driver.rows(op.RecordMetrics)] == [3, 4]
    ended, plain = driver.rows(op.FinishTrials)[0], whole.rows(op.FinishTrials)[0]
    assert (ended.error, ended.last_epoch) == (plain.error, 4)
    assert ended.seconds == 10.0  # epochs 1 and 2; the third was done again
    assert ended.best_error == plain.error  # and not the 1.0 of the epoch behind the checkpoint


def test_a_completed_trial_without_a_finite_error_counts_as_diverged(clock, tmp_path):
    driver = Driver(sweep_of({"kind": "random", "trials": 1}), clock, tmp_path)
    job = driver.coordinator.next_job()
    report = EpochReport(
        number=0, epoch=1, state=MemberState.COMPLETE, metrics={"1/val_error": float("nan")}, message=""
    )
    driver.coordinator.on_result(job.id, [report], None)
    assert str(driver.rows(op.FinishTrials)[0].state) == "diverged"
    assert driver.coordinator.searcher.ledger.outcomes[0].error == 100.0
