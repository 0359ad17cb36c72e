"""Arrays of trials: what every engine must do alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdsearch.search.trialdb.errors import RefusedRowsError
from kdsearch.spaces.errors import UnknownNameError

SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=SHAPES.flatmap(
        lambda shape: st.lists(st.floats(width=32), min_size=math.prod(shape), max_size=math.prod(shape)).map(
            lambda row: np.array(row, dtype=np.float32).reshape(shape)
        )
    )
)
def test_every_array_comes_back_as_it_was(database, make, values):
    database.add_trials("s", [make.trial(0)])
    database.record_arrays("s", [make.array(0, values)])
    found = database.arrays("s")[0, "cka"]
    assert (found.dtype, found.shape) == (np.float32, values.shape)
    np.testing.assert_array_equal(found, values)
    found += 1  # it is the reader's own


def test_an_array_of_other_numbers_or_another_order_is_kept_as_float32(database, make):
    given = np.arange(6, dtype=">i8").reshape(2, 3).T
    database.add_trials("s", [make.trial(0)])
    database.record_arrays("s", [make.array(0, given), make.array(0, np.bool_(1), name="one")])
    found = database.arrays("s")
    np.testing.assert_array_equal(found[0, "cka"], given)
    assert (found[0, "one"].shape, found[0, "one"].dtype) == ((), np.float32)


def test_arrays_are_read_by_trial_and_name(database, new_sweep, make):
    new_sweep(database, "t")
    for sweep in "st":
        database.add_trials(sweep, [make.trial(4), make.trial(2)])
    rows = [make.array(4, [1.0]), make.array(2, [2.0]), make.array(2, [3.0], name="attention")]
    database.record_arrays("s", rows)
    found = database.arrays("s")
    assert {key: values.tolist() for key, values in found.items()} == {
        (2, "attention"): [3.0],
        (2, "cka"): [2.0],
        (4, "cka"): [1.0],
    }
    assert list(found) == sorted(found)
    assert list(database.arrays("s", names=["attention"])) == [(2, "attention")]
    assert database.arrays("s", names=[]) == database.arrays("t") == {}


def test_an_array_gives_way_to_a_newer_one_and_not_to_an_overtaken_attempts(database, make):
    database.add_trials("s", [make.trial(0)])
    database.record_arrays("s", [make.array(0, [1.0], step=3)])
    database.record_arrays("s", [make.array(0, [[2.0, 3.0]], attempt=2, step=4)])
    database.record_arrays("s", [make.array(0, [9.0], attempt=1, step=5)])
    assert database.arrays("s")[0, "cka"].tolist() == [[2.0, 3.0]]
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT step, attempt FROM trial_array").all() == [(4, 2)]
    database.record_arrays("s", [make.array(0, [5.0], attempt=2), make.array(0, [6.0], attempt=2)])
    assert database.arrays("s")[0, "cka"].tolist() == [6.0]


def test_arrays_of_unknown_trials_are_refused(database, make):
    with pytest.raises(RefusedRowsError):
        database.record_arrays("s", [make.array(7, [1.0])])
    with pytest.raises(UnknownNameError):
        database.arrays("t")
