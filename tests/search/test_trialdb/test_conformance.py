"""What every engine must do alike."""

from __future__ import annotations

import math
import pickle
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdsearch.analysis.record import DecisionRecord
from kdsearch.search.trialdb import (
    AddDraws,
    AddEvents,
    AttemptEnd,
    CheckpointRow,
    DrawRow,
    EndAttempts,
    EventRow,
    FinishTrials,
    Loss,
    MarkRunningLost,
    RecordArrays,
    RecordMetrics,
    Role,
    SaveCheckpoints,
    SetSweepState,
    StartAttempts,
    StateChange,
    SweepState,
    TrialDatabase,
    TrialState,
    decision_event,
    note_event,
    read_record,
    reads,
)
from kdsearch.search.trialdb.errors import (
    DatabaseReadOnlyError,
    LeaseLostError,
    RefusedRowsError,
    SweepBusyError,
    SweepNameTakenError,
)
from kdsearch.search.trialdb.frames import split_metric
from kdsearch.search.trialdb.schema import METADATA, VERSION_TABLE
from kdsearch.spaces.errors import UnknownNameError


def _made_here(item, name, kind, reflected, other):
    """Alembic's comparison does not know that a constraint is made on one engine alone."""
    return kind != "foreign_key_constraint" or item.table.name != "metric_value"


def test_the_migrations_make_exactly_the_tables_of_the_schema(database):
    with database.reading() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True, "include_object": _made_here}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), METADATA) == []


def test_opening_again_changes_nothing(database, database_url, dump):
    before = dump(database)
    with TrialDatabase.open(database_url) as again:
        assert dump(again) == before


# Sweeps


def test_a_sweep_comes_back_as_it_was_made(database, clock):
    sweep = database.sweep("s")
    assert (sweep.name, sweep.kind, sweep.trainable, sweep.seed) == ("s", "refine", "ktg", 7)
    assert sweep.settings == {"space": {"kind": "ktg"}}
    assert sweep.environment == {"python": "3.11"}
    assert sweep.state is SweepState.RUNNING
    assert sweep.created == clock()
    assert sweep.created.utcoffset() == timedelta(0)
    assert sweep.ended is None


def test_sweeps_are_listed_oldest_first(database, new_sweep):
    new_sweep(database, "b")
    new_sweep(database, "a")
    assert [sweep.name for sweep in database.sweeps()] == ["s", "b", "a"]


def test_a_taken_name_is_refused_and_says_how_to_go_on(database, new_sweep):
    with pytest.raises(SweepNameTakenError, match="already has a sweep 's'") as caught:
        new_sweep(database)
    assert "kdsearch resume s" in caught.value.hint
    assert len(database.sweeps()) == 1


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_refused(database, new_sweep, make, seed):
    with pytest.raises(ValueError, match="not in"):
        new_sweep(database, "t", seed=seed)
    with pytest.raises(ValueError, match="not in"):
        make.trial(0, seed=seed)


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_a_name_of_no_or_too_many_characters_is_refused(database, new_sweep, name):
    with pytest.raises(ValueError, match="1 to 200"):
        new_sweep(database, name)


def test_the_largest_seed_is_kept(database, new_sweep, make):
    new_sweep(database, "t", seed=2**63 - 1)
    database.add_trials("t", [make.trial(0, seed=2**63 - 1)])
    assert database.sweep("t").seed == 2**63 - 1
    assert database.trials_frame("t")["seed"].tolist() == [2**63 - 1]


def test_an_unknown_sweep_is_answered_with_the_known_ones(database, new_sweep, make):
    new_sweep(database, "ktg-digits")
    calls = [
        lambda: database.sweep("ktg-digit"),
        lambda: database.spaces("ktg-digit"),
        lambda: database.trials("ktg-digit"),
        lambda: database.trials_frame("ktg-digit"),
        lambda: database.draws_frame("ktg-digit"),
        lambda: database.curves_frame("ktg-digit"),
        lambda: database.events("ktg-digit"),
        lambda: database.counts_by_state("ktg-digit"),
        lambda: database.claim("ktg-digit"),
        lambda: database.add_trials("ktg-digit", [make.trial(0)]),
        lambda: database.update_sweep_state("ktg-digit", SweepState.COMPLETE),
    ]
    for call in calls:
        with pytest.raises(UnknownNameError, match="Did you mean 'ktg-digits'") as caught:
            call()
        assert caught.value.known == ("s", "ktg-digits")


def test_a_sweep_ends_and_runs_again(database, clock):
    clock.pass_s(5)
    database.update_sweep_state("s", SweepState.INTERRUPTED)
    assert (database.sweep("s").state, database.sweep("s").ended) == (SweepState.INTERRUPTED, clock())
    database.update_sweep_state("s", SweepState.RUNNING)
    assert (database.sweep("s").state, database.sweep("s").ended) == (SweepState.RUNNING, None)


def test_naive_times_are_refused_and_others_are_brought_to_utc(database, make, clock):
    clock.now = datetime(2026, 1, 1, 1, 0, tzinfo=timezone(timedelta(hours=9)))
    database.add_trials("s", [make.trial(0)])
    assert database.trials("s")[0].created == datetime(2025, 12, 31, 16, 0, tzinfo=UTC)
    clock.now = datetime(2026, 1, 1)  # noqa: DTZ001 - the wrong one
    with pytest.raises(RefusedRowsError, match="time zone"):
        database.add_trials("s", [make.trial(1)])


# Leases


def test_a_second_driver_is_refused_with_the_first_ones_host_pid_and_age(database, clock):
    lease = database.claim("s")
    clock.pass_s(12)
    with pytest.raises(SweepBusyError) as caught:
        database.claim("s")
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.host, error.pid, error.age_s) == (lease.host, lease.pid, 12.0)
    assert f"process {lease.pid} on host {lease.host!r}, last heard of 12 s ago" in str(error)
    assert database.sweep("s").driver_pid == lease.pid


def test_a_heartbeat_keeps_the_lease_and_silence_loses_it(database, clock):
    first = database.claim("s")
    clock.pass_s(50)
    database.heartbeat(first)
    clock.pass_s(50)
    with pytest.raises(SweepBusyError):
        database.claim("s", stale_after_s=60)
    clock.pass_s(11)
    second = database.claim("s", stale_after_s=60)
    with pytest.raises(LeaseLostError, match=f"process {second.pid}"):
        database.heartbeat(first)
    database.release(first)  # no longer its own: nothing happens
    database.heartbeat(second)


def test_what_a_driver_writes_after_losing_its_lease_is_refused(database, clock, make, dump):
    first = database.claim("s")
    clock.pass_s(100)
    database.claim("s")
    before = dump(database)
    with pytest.raises(LeaseLostError):
        database.apply(make.filled("s", range(2)), lease=first)
    assert dump(database) == before


def test_a_sweep_begins_with_its_events_or_not_at_all(database, new_sweep, clock):
    data = EventRow(kind="data", at=clock(), data={"content": "of a file"})
    new_sweep(database, "t", events=[data])
    assert [(event.n, event.kind, event.data) for event in database.events("t")] == [
        (0, "data", {"content": "of a file"})
    ]
    with pytest.raises(SweepNameTakenError):
        new_sweep(database, "t", events=[EventRow(kind="data", at=clock(), data={})])
    assert len(database.events("t")) == 1


def test_a_sweep_is_changed_in_one_step_with_the_events_that_say_so(database, clock):
    database.update_sweep_state("s", SweepState.COMPLETE)
    lease = database.claim("s")
    change = EventRow(kind="change", at=clock(), data={"changed": []})
    database.change_sweep(
        "s", settings={"title": "new"}, state=SweepState.RUNNING, events=[change], lease=lease
    )
    sweep = database.sweep("s")
    assert (sweep.settings, sweep.state, sweep.ended) == ({"title": "new"}, "running", None)
    assert [event.kind for event in database.events("s")] == ["change"]
    database.release(lease)
    with pytest.raises(LeaseLostError):
        database.change_sweep("s", settings={}, state=SweepState.FAILED, events=[change], lease=lease)
    assert database.sweep("s").settings == {"title": "new"}
    assert database.sweep("s").state == "running"


def test_notes_that_a_change_withdraws_are_no_longer_told(database):
    for text in ("right", "wrong"):
        database.add_event("s", "note", {"text": text})
    assert read_record(database, "s").notes == ("right", "wrong")
    database.add_event("s", "change", {"changed": [], "withdrawn": ["wrong"]})
    assert read_record(database, "s").notes == ("right",)


def test_a_released_sweep_can_be_claimed_at_once(database):
    database.release(database.claim("s"))
    assert database.sweep("s").driver_host is None
    database.claim("s")


# Spaces and draws


def test_spaces_come_back_with_their_lineage(database, make):
    a = make.space("A", counts={"encodings": 3**40, "classes": None})
    b = make.space(
        "B",
        parent="A",
        restriction="label->target = through",
        restriction_data={"label->target": ["through"]},
        exhaustive=True,
        repeats=3,
    )
    database.add_spaces("s", [a, b])
    database.add_spaces("s", [b])
    assert database.spaces("s") == [a, b]


def test_a_space_without_its_parent_is_refused(database, make):
    with pytest.raises(RefusedRowsError):
        database.add_spaces("s", [make.space("B", parent="A")])
    assert database.spaces("s") == []


def test_draws_form_a_frame_in_the_order_of_spaces(database, make):
    database.add_spaces("s", [make.space("Z"), make.space("B", parent="Z")])
    database.add_trials("s", [make.trial(0), make.trial(5)])
    draws = [("B", 0, 5, False), ("Z", 1, 5, True), ("Z", 0, 0, True)]
    database.add_draws("s", [DrawRow(space=s, draw=d, trial=t, fresh=f) for s, d, t, f in draws])
    frame = database.draws_frame("s")
    assert frame.to_dict("list") == {
        "space": ["Z", "Z", "B"],
        "draw": [0, 1, 0],
        "trial": [0, 5, 5],
        "fresh": [1, 1, 0],
    }


def test_a_draw_from_an_unknown_space_or_of_an_unknown_trial_is_refused(database, make):
    database.add_spaces("s", [make.space("A")])
    with pytest.raises(UnknownNameError, match="unknown space 'B'"):
        database.add_draws("s", [DrawRow(space="B", draw=0, trial=0, fresh=True)])
    with pytest.raises(RefusedRowsError):
        database.add_draws("s", [DrawRow(space="A", draw=0, trial=0, fresh=True)])


# Trials and attempts


def test_a_trial_goes_from_waiting_to_its_result(database, make, clock):
    database.add_trials(
        "s", [make.trial(3, orbit_size=2, inclusion_probability=0.25, sampling_design="halving")]
    )
    assert database.trials("s")[0].state is TrialState.WAITING
    clock.pass_s(1)
    started = clock()
    database.start_attempts("s", [make.start(3)])
    assert database.trials("s", states=[TrialState.RUNNING])[0].attempts == 1
    database.record_metrics("s", [make.epoch(3, 1), make.epoch(3, 2)])
    assert database.trials("s")[0].last_epoch == 2
    clock.pass_s(10)
    result = {"error": 12.5, "best_error": 12.0, "best_epoch": 1, "seconds": 9.0, "device_seconds": 4.5}
    database.finish_trials("s", [make.result(3, **result, message="ok")])
    trial = database.trials("s")[0]
    assert {name: getattr(trial, name) for name in result} == result
    assert (trial.state, trial.started, trial.ended) == (TrialState.COMPLETE, started, clock())
    assert (trial.last_epoch, trial.message, trial.orbit_size) == (2, "ok", 2)
    assert (trial.inclusion_probability, trial.sampling_design) == (0.25, "halving")
    attempt = database.attempts("s")[0]
    assert (attempt.n, attempt.host, attempt.device, attempt.started) == (1, "node-1", "cuda:0", started)
    assert (attempt.ended, attempt.reason) == (clock(), "complete")


def test_a_retry_is_an_attempt_of_the_same_trial(database, make, clock):
    database.add_trials("s", [make.trial(0)])
    database.start_attempts("s", [make.start(0)])
    database.save_checkpoints("s", [CheckpointRow(number=0, n=1, epoch=4, path="runs/0/4.pt")])
    database.end_attempts("s", [AttemptEnd(number=0, n=1, at=clock(), reason="worker died")])
    assert database.trials("s")[0].state is TrialState.WAITING
    clock.pass_s(1)
    database.start_attempts("s", [make.start(0, n=2)])
    first, second = database.attempts("s", numbers=[0])
    assert (first.reason, first.checkpoint, first.checkpoint_epoch) == ("worker died", "runs/0/4.pt", 4)
    assert second.ended is None
    trial = database.trials("s")[0]
    assert (trial.attempts, trial.state, trial.started) == (2, TrialState.RUNNING, first.started)
    assert database.attempts("s", numbers=[1]) == []


def test_what_an_overtaken_attempt_says_changes_nothing(database, make, dump):
    database.add_trials("s", [make.trial(0)])
    database.start_attempts("s", [make.start(0)])
    database.start_attempts("s", [make.start(0, n=2)])
    database.record_metrics("s", [make.epoch(0, 1, attempt=2, x=2.0)])
    before = dump(database)["trial"], dump(database)["metric_value"]
    database.record_metrics("s", [make.epoch(0, 1, attempt=1, x=1.0)])
    database.start_attempts("s", [make.start(0, n=1)])
    database.finish_trials("s", [make.result(0, attempt=1, error=99.0)])
    assert (dump(database)["trial"], dump(database)["metric_value"]) == before


def test_a_lost_trial_can_run_again(database, make, clock):
    database.add_trials("s", [make.trial(number) for number in range(3)])
    database.start_attempts("s", [make.start(0), make.start(1)])
    database.finish_trials("s", [make.result(0, error=1.0)])
    clock.pass_s(1)
    assert database.mark_running_as_lost("s", "driver killed") == (1,)
    assert database.mark_running_as_lost("s", "again") == ()
    lost = database.trials("s", states=[TrialState.LOST])
    assert [(trial.number, trial.message, trial.ended) for trial in lost] == [(1, "driver killed", clock())]
    assert database.attempts("s", numbers=[1])[0].reason == "driver killed"
    database.start_attempts("s", [make.start(1, n=2)])
    again = database.trials("s")[1]
    assert (again.state, again.message, again.ended) == (TrialState.RUNNING, "", None)


def test_trials_are_counted_by_state_and_role(database, make):
    database.add_trials("s", [make.trial(0, role=Role.PRETRAIN), make.trial(1), make.trial(2)])
    database.start_attempts("s", [make.start(1)])
    counts = database.counts_by_state("s")
    assert {state: count for state, count in counts.items() if count} == {"waiting": 2, "running": 1}
    assert set(counts) == set(TrialState)
    assert database.counts_by_state("s", role=Role.PRETRAIN)["waiting"] == 1


@pytest.mark.parametrize("error", [math.nan, math.inf, None])
def test_an_error_that_is_no_number_is_none(database, make, error):
    database.add_trials("s", [make.trial(0)])
    database.finish_trials(
        "s", [make.result(0, state=TrialState.DIVERGED, error=error, message="NaN\x00\ud800")]
    )
    assert database.trials("s")[0].error is None
    assert database.trials("s")[0].message == "NaN\N{REPLACEMENT CHARACTER}?"
    assert math.isnan(database.trials_frame("s")["error"][0])


def test_rows_of_unknown_trials_are_refused_and_nothing_of_the_batch_is_written(database, make, dump):
    before = dump(database)
    for bad in (
        StartAttempts("s", (make.start(9),)),
        RecordMetrics("s", (make.epoch(9, 1),)),
        FinishTrials("s", (make.result(9),)),
    ):
        with pytest.raises(RefusedRowsError):
            database.apply([*make.filled("s", range(2)), bad])
        assert dump(database) == before


def test_two_sweeps_do_not_mix(database, new_sweep, make):
    new_sweep(database, "t")
    database.apply(make.filled("s", range(3)))
    database.apply(make.filled("t", range(1), epochs=1))
    assert (len(database.trials("s")), len(database.trials("t"))) == (3, 1)
    assert (len(database.curves_frame("s")), len(database.curves_frame("t"))) == (9, 1)
    assert (len(database.spaces("s")), len(database.spaces("t"))) == (1, 1)


# Metrics


def test_curves_are_in_long_form_with_nodes_apart(database, make):
    database.add_trials("s", [make.trial(4), make.trial(2)])
    values = {"1/val_error": 3.0, "2/val_error": 4.0, "seconds": 0.5}
    database.record_metrics("s", [make.epoch(4, 1, **values), make.epoch(2, 1, seconds=0.25)])
    frame = database.curves_frame("s")
    found = {tuple(row) for row in frame.itertuples(index=False)}
    assert found == {
        (2, 0, "seconds", 1, 0.25),
        (4, 0, "seconds", 1, 0.5),
        (4, 1, "val_error", 1, 3.0),
        (4, 2, "val_error", 1, 4.0),
    }
    assert list(frame.columns) == ["trial", "node", "metric", "epoch", "value"]
    assert database.curves_frame("s", metrics=["val_error"])["node"].tolist() == [1, 2]
    assert database.curves_frame("s", trials=[2])["value"].tolist() == [0.25]
    assert len(database.curves_frame("s", trials=[4], metrics=["seconds"])) == 1
    for none in (database.curves_frame("s", trials=[]), database.curves_frame("s", metrics=["other"])):
        assert list(none.columns) == list(frame.columns)
        assert none.empty


def test_many_trials_can_be_asked_for(database, make):
    database.apply(make.filled("s", range(1200), epochs=1))
    odd = range(1, 1200, 2)
    assert database.curves_frame("s", trials=odd)["trial"].tolist() == list(odd)


NAMES = st.builds(
    "{}{}".format, st.sampled_from(["", "0/", "1/", "12/"]), st.text("aé_/ %'", min_size=1, max_size=4)
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.dictionaries(NAMES, st.floats(), min_size=1, max_size=5))
def test_every_float_comes_back_as_it_was_by_its_name_and_node(database, make, values):
    database.examples = attempt = getattr(database, "examples", 0) + 1  # one trial serves all examples
    database.add_trials("s", [make.trial(0)])
    database.record_metrics("s", [make.epoch(0, attempt, attempt=attempt, **values)])
    frame = database.curves_frame("s")
    found = frame[frame["epoch"] == attempt]
    # SQLite keeps no sign of a zero; -0.0 + 0.0 is 0.0, and every other float stays what it is
    expected = [(*split_metric(name), repr(value + 0.0)) for name, value in values.items()]
    assert sorted(zip(found["node"], found["metric"], map(repr, found["value"]), strict=True)) == sorted(
        expected
    )


def test_nan_and_infinities_are_kept_in_words(database, make):
    database.add_trials("s", [make.trial(0)])
    database.record_metrics("s", [make.epoch(0, 1, a=math.nan, b=math.inf, c=-math.inf, d=1.0)])
    with database.reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT value, nonfinite FROM metric_value ORDER BY metric_id"
        ).all()
    assert [tuple(row) for row in rows] == [(None, "nan"), (None, "inf"), (None, "-inf"), (1.0, None)]
    assert [str(value) for value in database.curves_frame("s")["value"]] == ["nan", "inf", "-inf", "1.0"]


# Events


def test_events_keep_their_order_and_are_never_doubled(database, clock):
    rows = [EventRow(kind=kind, at=clock(), data={"i": i}) for i, kind in enumerate("abcab")]
    database.apply([AddEvents("s", tuple(rows[:3]))])
    database.apply([AddEvents("s", tuple(rows)), AddEvents("s", tuple(rows))])
    events = database.events("s")
    assert [(event.n, event.kind, event.data["i"]) for event in events] == [
        *((0, "a", 0), (1, "b", 1), (2, "c", 2), (3, "a", 3), (4, "b", 4))
    ]
    assert [event.n for event in database.events("s", kinds=["a"], after=0)] == [3]


def test_evidence_of_numpy_and_without_numbers_is_kept(database, clock):
    database.add_event(
        "s", "look", {"p": np.float64(0.25), "n": np.int64(3), "auc": [math.nan, 1.0], "at": clock()}
    )
    event = database.events("s")[0]
    assert event.data == {"p": 0.25, "n": 3, "auc": [None, 1.0], "at": clock().isoformat()}
    assert event.at == clock()
    with pytest.raises(TypeError, match="cannot be kept as JSON"):
        database.add_event("s", "look", {"what": object()})


# Idempotence


def everything(make, clock):
    return [
        *make.filled("s", range(4)),
        StartAttempts("s", tuple(make.start(number) for number in range(4))),
        RecordMetrics("s", tuple(make.epoch(number, 1, x=math.nan, y=1.0) for number in range(4))),
        RecordArrays("s", tuple(make.array(number, [[number, math.nan]]) for number in range(4))),
        SaveCheckpoints("s", (CheckpointRow(number=0, n=1, epoch=1, path="a"),)),
        AddDraws("s", tuple(DrawRow(space="A", draw=d, trial=d, fresh=True) for d in range(4))),
        FinishTrials("s", (make.result(0, error=3.0), make.result(1, state=TrialState.DIVERGED))),
        EndAttempts("s", (AttemptEnd(number=2, n=1, at=clock(), reason="out of memory"),)),
        StartAttempts("s", (make.start(2, n=2),)),
        AddEvents("s", (EventRow(kind="note", at=clock(), data={"text": "x"}),)),
        MarkRunningLost("s", (Loss(reason="gone", at=clock()),)),
        SetSweepState("s", (StateChange(state=SweepState.FAILED, at=clock()),)),
    ]


def test_all_operations_can_be_carried_out_again(database, make, clock, dump):
    operations = everything(make, clock)
    database.apply(operations)
    once = dump(database)
    database.apply(operations)
    assert dump(database) == once
    for operation in operations:
        database.apply([operation])
    assert dump(database) == once


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_replay_that_was_cut_short_and_begun_again_ends_alike(database, make, clock, dump, data):
    operations = everything(make, clock)
    cut = data.draw(st.integers(0, len(operations)))
    database.apply(operations)
    once = dump(database)
    database.apply(operations[:cut])
    database.apply(operations)
    assert dump(database) == once


# Frames


def test_the_trials_frame_has_the_promised_columns_and_types(database, make, clock):
    configurations = [
        {"gate": "through", "depth": 2, "rate": 0.5, "flip": True},
        {"gate": "cutoff", "depth": 3, "rate": 1.5, "flip": False, "warmup": 4, "mode": "a", "seed": "clash"},
    ]
    configurations[1] |= {"run": 5}
    database.add_trials("s", [make.trial(n, configuration=c) for n, c in enumerate(configurations)])
    database.start_attempts("s", [make.start(0)])
    database.finish_trials(
        "s", [make.result(0, error=10.0, best_error=9.0, best_epoch=2, last_epoch=3, seconds=1.5)]
    )
    frame = database.trials_frame("s")
    fixed = [
        "number",
        "role",
        "state",
        "error",
        "best_error",
        "best_epoch",
        "last_epoch",
        "orbit_size",
        "seed",
    ]
    fixed += ["seconds", "attempts", "message", "started", "ended", "design"]
    fixed += ["method", "run", "final", "plan"]
    parameters = ["gate", "depth", "rate", "flip", "warmup", "mode", "parameter:seed", "parameter:run"]
    assert list(frame.columns) == fixed + parameters
    assert frame["role"].tolist() == ["search", "search"]
    assert frame["state"].tolist() == ["complete", "waiting"]
    assert frame["started"].tolist() == [clock(), pd.NaT]
    assert str(frame["ended"].dtype) == "datetime64[us, UTC]"
    assert frame["best_epoch"].tolist() == [2, pd.NA]
    assert (frame["depth"].dtype, frame["flip"].dtype, frame["rate"].dtype) == ("int64", "bool", "float64")
    assert frame["warmup"].isna().tolist() == [True, False]
    assert frame["warmup"][1] == 4
    assert frame["mode"].isna().tolist() == [True, False]
    assert type(frame["state"][0]) is str


def test_what_a_searcher_told_a_trial_comes_back(database, make):
    plan = {
        "method": "gradient e1=5",
        "run": 3,
        "final": True,
        "optimiser": {"start": {"lambda_1": np.float64(0.5)}, "bounds": {"lambda_1": (0, 1)}, "clip": None},
    }
    kept = {**plan, "optimiser": {"start": {"lambda_1": 0.5}, "bounds": {"lambda_1": [0, 1]}, "clip": None}}
    rows = [make.trial(0), make.trial(1, plan={}), make.trial(2, plan=plan), make.trial(3, plan={"run": 0})]
    database.add_trials("s", rows)
    assert [trial.plan for trial in database.trials("s")] == [None, None, kept, {"run": 0}]
    frame = database.trials_frame("s")
    assert frame["method"].isna().tolist() == [True, True, False, True]
    assert frame["method"][2] == "gradient e1=5"
    assert frame["run"].tolist() == [pd.NA, pd.NA, 3, 0]
    assert (frame["final"].dtype, frame["final"].tolist()) == ("bool", [False, False, True, False])
    assert frame["plan"].tolist() == [None, None, kept, {"run": 0}]
    with database.reading() as connection:
        found = connection.exec_driver_sql("SELECT count(*) FROM trial WHERE plan IS NULL").scalar()
    assert found == 2


def test_empty_frames_have_their_columns(database):
    assert list(database.draws_frame("s").columns) == ["space", "draw", "trial", "fresh"]
    assert list(database.trials_frame("s").columns)[:3] == ["number", "role", "state"]
    frame = database.trials_frame("s")
    types = [str(frame[column].dtype) for column in ("ended", "method", "run", "final", "plan")]
    assert types == ["datetime64[us, UTC]", "str", "Int64", "bool", "object"]


def test_roles_can_be_read_apart(database, make):
    label = {"model.1": "resnet32", "label->1": "through"}
    database.add_trials("s", [make.trial(0, role=Role.PRETRAIN, configuration=label), make.trial(1)])
    assert "gate" not in database.trials_frame("s", role=Role.PRETRAIN)
    assert database.trials_frame("s", role=Role.SEARCH)["number"].tolist() == [1]


# Records


def decision(clock, **other) -> DecisionRecord:
    given = {
        "step": 1,
        "space": "A",
        "policy": "significant",
        "chooser": "kdsearch",
        "group": "label->target",
        "value": "through",
        "child": "B",
        "reason": "its AUC is highest",
        "at": clock(),
        "alpha": 0.0125,
        "draws": 300,
        "table": ({"group": "label->target", "value": "through", "p": 0.001, "low": None},),
        "look": 2,
    }
    return DecisionRecord(**{**given, **other})


def test_a_record_holds_the_whole_sweep(database, make, clock):
    database.apply(make.filled("s", range(3)))
    database.add_spaces(
        "s", [make.space("B", parent="A", restriction="gate = through", exhaustive=True, repeats=2)]
    )
    database.add_draws("s", [DrawRow(space="B", draw=0, trial=1, fresh=False)])
    clock.pass_s(1)
    decided = [
        decision(clock),
        decision(clock, step=2, space="B", group=None, value=None, child=None, table=()),
    ]
    events = (*map(decision_event, decided), note_event("the budget was spent", clock()))
    database.apply([AddEvents("s", events), AddEvents("s", (EventRow(kind="other", at=clock(), data={}),))])
    verdict = {"trial": 1, "rung": 2, "value": 40.0, "cutoff": None, "stopped": False, "reason": "first"}
    for data in (
        verdict,
        verdict | {"trial": 2, "value": None, "cutoff": 40.0, "stopped": True},
        {"of": "x"},
    ):
        database.add_event("s", "scheduler", data)
    database.record_arrays("s", [make.array(1, [[0.5]])])
    database.update_sweep_state("s", SweepState.INTERRUPTED)
    record = read_record(database, "s")
    assert (record.name, record.kind, record.trainable, record.state, record.seed) == (
        *("s", "refine", "ktg", "interrupted", 7),
    )
    assert record.environment == {"code_version": "0.1.0", "python": "3.11"}
    assert (record.created, record.ended) == (database.sweep("s").created, clock())
    assert [(space.name, space.parent, space.exhaustive, space.repeats) for space in record.spaces] == [
        ("A", None, False, 1),
        ("B", "A", True, 2),
    ]
    assert list(record.decisions) == decided
    assert record.notes == ("the budget was spent",)
    pd.testing.assert_frame_equal(record.trials, database.trials_frame("s"))
    pd.testing.assert_frame_equal(record.draws, database.draws_frame("s"))
    pd.testing.assert_frame_equal(record.curves, database.curves_frame("s"))
    assert {key: values.tolist() for key, values in record.arrays.items()} == {(1, "cka"): [[0.5]]}
    rungs = pd.DataFrame({"trial": [1, 2], "rung": [2, 2], "value": [40.0, math.nan]})
    rungs = rungs.assign(cutoff=[math.nan, 40.0], stopped=[False, True], paused=False, late=False)
    rungs = rungs.assign(probability=math.nan)
    pd.testing.assert_frame_equal(record.rungs, rungs)
    assert read_record(database, "s", metrics=["train_loss"]).curves.empty


def test_settings_of_the_statistics_reach_the_record(database, new_sweep):
    defaults = read_record(database, "s")
    assert (defaults.tau, defaults.a, defaults.alpha, defaults.diverged_error) == (100.0, 0.0, 0.05, 100.0)
    new_sweep(database, "t", settings={"statistics": {"tau": 50, "alpha": 0.1, "resamples": 99}})
    given = read_record(database, "t")
    assert (given.tau, given.a, given.alpha, given.diverged_error) == (50.0, 0.0, 0.1, 100.0)
    new_sweep(database, "u", settings={"statistics": None})
    assert read_record(database, "u").alpha == 0.05


def test_a_decision_of_a_later_version_can_be_read(database, clock):
    event = decision_event(decision(clock))
    later = EventRow(kind=event.kind, at=event.at, data={**event.data, "added in 2.0": 1})
    database.apply([AddEvents("s", (later,))])
    assert read_record(database, "s").decisions == (decision(clock),)


def test_a_record_is_of_one_moment_while_a_driver_writes(database, database_url, make):
    database.apply(make.filled("s", range(2)))
    with TrialDatabase.open(database_url, read_only=True) as reader, reader.reading() as connection:
        assert len(reads.trials(connection, "s")) == 2
        database.add_trials("s", [make.trial(2)])  # does not wait for the reader
        assert len(reads.trials(connection, "s")) == 2
        assert len(reader.trials("s")) == 3


@pytest.mark.usefixtures("database")
def test_a_reader_cannot_write(database_url, make):
    with TrialDatabase.open(database_url, read_only=True) as reader:
        with pytest.raises(DatabaseReadOnlyError, match="opened for reading"):
            reader.add_trials("s", [make.trial(0)])
        with pytest.raises(DatabaseReadOnlyError), reader.reading() as connection:
            connection.exec_driver_sql("DELETE FROM trial")


def test_a_whole_sweep_is_added_with_everything_or_not_at_all(database, make):
    told = {
        "kind": "import",
        "trainable": "import",
        "settings": {},
        "seed": 0,
        "code_version": "0",
        "environment": {},
    }
    draw = AddDraws("w", (DrawRow(space="A", draw=0, trial=7, fresh=True),))
    with pytest.raises(RefusedRowsError):
        database.add_whole_sweep("w", [*make.filled("w", range(2)), draw], **told)  # there is no trial 7
    assert [sweep.name for sweep in database.sweeps()] == ["s"]
    database.add_whole_sweep("w", make.filled("w", range(2)), **told)
    assert database.sweep("w").state is SweepState.COMPLETE
    assert len(database.trials("w")) == 2
    with pytest.raises(SweepNameTakenError):
        database.add_whole_sweep("w", [], **told)
