"""Operations as lines of a spool file."""

from __future__ import annotations

import pickle
from datetime import UTC

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdsearch.search.trialdb import (
    AddDraws,
    AddEvents,
    AddSpaces,
    AddTrials,
    ArrayRow,
    AttemptEnd,
    AttemptStart,
    CheckpointRow,
    DrawRow,
    EndAttempts,
    EventRow,
    FinishTrials,
    Loss,
    MarkRunningLost,
    MetricRow,
    RecordArrays,
    RecordMetrics,
    ResultRow,
    SaveCheckpoints,
    SetSweepState,
    SpaceRow,
    StartAttempts,
    StateChange,
    TrialRow,
    arrays,
)
from kdsearch.search.trialdb.errors import RefusedRowsError
from kdsearch.search.trialdb.operations import from_line, row_count, to_line

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
TIMES = st.datetimes(timezones=st.just(UTC)).map(lambda time: time.replace(fold=0))
COUNTS = st.integers(0, 2**31 - 1)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.one_of(TEXT, st.integers(-(2**53), 2**53), NUMBERS, st.booleans())
JSON = st.recursive(
    st.one_of(st.none(), SCALARS),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=3)
KEYS = {"number": COUNTS, "n": COUNTS, "at": TIMES}
ROWS = {
    AddSpaces: st.builds(
        SpaceRow,
        name=TEXT,
        specification=OBJECTS,
        hash=TEXT,
        counts=st.dictionaries(TEXT, st.none() | st.integers(0, 2**62), max_size=3),
        parent=st.none() | TEXT,
        restriction_data=st.none() | OBJECTS,
    ),
    AddTrials: st.builds(
        TrialRow,
        number=COUNTS,
        configuration=st.dictionaries(TEXT, SCALARS, max_size=4),
        configuration_hash=TEXT,
        seed=st.integers(0, 2**63 - 1),
        created=TIMES,
        inclusion_probability=st.none() | st.floats(0, 1),
        plan=st.none() | OBJECTS,
    ),
    AddDraws: st.builds(DrawRow, space=TEXT, draw=COUNTS, trial=COUNTS, fresh=st.booleans()),
    StartAttempts: st.builds(AttemptStart, **KEYS, host=TEXT, device=TEXT),
    EndAttempts: st.builds(AttemptEnd, **KEYS, reason=TEXT),
    SaveCheckpoints: st.builds(CheckpointRow, number=COUNTS, n=COUNTS, epoch=COUNTS, path=TEXT),
    RecordMetrics: st.builds(
        MetricRow,
        number=COUNTS,
        attempt=COUNTS,
        step=COUNTS,
        values=st.dictionaries(TEXT, st.floats(), max_size=4),
    ),
    RecordArrays: st.builds(
        ArrayRow,
        number=COUNTS,
        attempt=COUNTS,
        step=COUNTS,
        name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
        shape=st.lists(COUNTS, max_size=3).map(tuple),
        data=st.binary(max_size=40),
    ),
    FinishTrials: st.builds(
        ResultRow,
        number=COUNTS,
        attempt=COUNTS,
        at=TIMES,
        error=st.none() | NUMBERS,
        best_epoch=st.none() | COUNTS,
    ),
    AddEvents: st.builds(EventRow, kind=TEXT, at=TIMES, data=OBJECTS),
    SetSweepState: st.builds(StateChange, at=TIMES),
    MarkRunningLost: st.builds(Loss, reason=TEXT, at=TIMES),
}
OPERATIONS = st.one_of(
    *(
        st.builds(kind, sweep=TEXT, rows=st.lists(rows, max_size=3).map(tuple), op=st.just(kind.op))
        for kind, rows in ROWS.items()
    )
)


@settings(max_examples=60)
@given(OPERATIONS)
def test_every_operation_comes_back_from_its_line(operation):
    line = to_line(operation)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    again = from_line(line)
    assert repr(again).replace("TzInfo(0)", "datetime.timezone.utc") == repr(
        operation
    )  # NaN differs from itself; 1, 1.0 and True differ only so
    assert to_line(again) == line


def test_rows_take_copies(clock):
    configuration, values, data = {"gate": "through"}, {"x": 1.0}, {"list": [1]}
    trial = TrialRow(number=0, configuration=configuration, configuration_hash="", seed=0, created=clock())
    metric = MetricRow(number=0, attempt=1, step=1, values=values)
    event = EventRow(kind="k", at=clock(), data=data)
    configuration["gate"], values["x"] = "cutoff", 2.0
    data["list"].append(2)
    assert (trial.configuration, metric.values, event.data) == (
        {"gate": "through"},
        {"x": 1.0},
        {"list": [1]},
    )


def test_numpy_integers_become_plain_and_floats_are_no_integers(clock):
    row = MetricRow(number=np.int64(3), attempt=np.int32(1), step=np.uint8(2), values={"x": np.float32(0.5)})
    assert [type(value) for value in (row.number, row.attempt, row.step, row.values["x"])] == [
        int,
        int,
        int,
        float,
    ]
    draw = DrawRow(space="A", draw=np.int64(0), trial=np.int64(1), fresh=np.bool_(1))
    assert (type(draw.draw), type(draw.trial)) == (int, int)
    with pytest.raises(TypeError):
        AttemptEnd(number=1.0, n=1, at=clock(), reason="")


def test_rows_are_counted_as_the_database_will_have_them(make):
    assert row_count(RecordMetrics("s", (make.epoch(0, 1, a=1, b=2), make.epoch(1, 1, a=1)))) == 3
    assert row_count(AddTrials("s", (make.trial(0), make.trial(1)))) == 2


def test_arrays_weigh_more_than_their_number(make):
    noise = np.random.default_rng(0).normal(size=(100, 100))
    assert row_count(RecordArrays("s", (make.array(0, [1.0]), make.array(0, noise)))) > 300


@pytest.mark.parametrize("values", [["a", "b"], [1j], [object()], [np.datetime64("2026-01-01")]])
def test_an_array_of_no_numbers_is_refused(make, values):
    with pytest.raises(RefusedRowsError, match=r"the array .cka. holds .*, not numbers") as caught:
        make.array(0, np.array(values))
    assert caught.value.hint


def test_an_array_at_the_limit_is_kept_and_a_larger_one_refused_with_its_size(make):
    largest = np.zeros(arrays.LIMIT_BYTES // 4, dtype=np.float32)
    assert make.array(0, largest).shape == largest.shape
    with pytest.raises(RefusedRowsError, match=r"shape \(4194305,\) takes 16,777,220 bytes") as caught:
        make.array(0, np.zeros(largest.size + 1, dtype=np.uint8))  # what counts is its size as float32
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_an_array_has_a_name_of_some_length(make, name):
    with pytest.raises(ValueError, match="1 to 200"):
        make.array(0, [1.0], name=name)


@pytest.mark.parametrize(
    "line", [b"{}\n", b'{"op": "drop_tables", "sweep": "s", "rows": []}\n', b"[1]\n", b"\n"]
)
def test_other_lines_are_refused(line):
    with pytest.raises(ValueError, match="validation error"):
        from_line(line)


def test_events_have_keys_of_their_own(clock):
    events = [EventRow(kind="k", at=clock(), data={}) for _ in range(2)]
    assert events[0].key != events[1].key


def test_a_spool_of_the_version_before_plans_can_be_read(make):
    line = to_line(AddTrials("s", (make.trial(0),)))
    earlier = line.replace(b',"plan":null', b"")
    assert earlier != line
    assert from_line(earlier).rows[0].plan is None
