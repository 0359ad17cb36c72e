"""Who is tried again after a failure, when, and where not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kdsearch.search.failures import Cause, Failure
from kdsearch.search.retries import LONGEST_S, NODES_LOST, STORAGE_LOST, Retries
from kdsearch.search.trial_states import LiveTrial
from kdsearch.search.trialdb.states import Ending


class StandingClock:
    def __init__(self):
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self):
        return self.now


@pytest.fixture
def still():
    return StandingClock()


def trial_of(number=0, **more):
    return LiveTrial(number=number, configuration={}, seed=0, search=True, attempt=1, **more)


def fail(retries, trial, cause=Cause.ERROR, *, alone=True, node="a"):
    ending = retries.charge(trial, Failure(reason="why", cause=cause), alone=alone, node=node)
    if retries.given_up(trial) is None:
        retries.add(trial, ending)
    return ending


def test_a_trial_that_fails_alone_waits_twice_as_long_each_time_and_is_given_up_in_the_end(still):
    retries, trial = Retries(still, attempts=4, backoff_s=5.0), trial_of()
    for failures, wait_s in [(1, 5), (2, 10), (3, 20)]:
        assert fail(retries, trial) is Ending.FAILED
        assert trial.failures == failures
        still.now += timedelta(seconds=wait_s - 0.001)
        assert (retries.due(), len(retries)) == (None, 1)
        still.now += timedelta(seconds=0.001)
        assert (retries.due(), len(retries)) == (0, 0)
    fail(retries, trial)
    assert retries.given_up(trial) == "failed in 4 attempts"
    assert len(retries) == 0


def test_the_wait_has_an_end_however_often_a_trial_fails(still):
    retries = Retries(still, attempts=10**6, backoff_s=5.0)
    assert [retries.delay_s(n) for n in (7, 8, 1000, 10**5)] == [320.0, LONGEST_S, LONGEST_S, LONGEST_S]
    assert Retries(still, attempts=3, backoff_s=0.0).delay_s(3) == 0.0


def test_members_of_a_failed_pack_are_not_charged_and_go_at_once_each_alone(still):
    retries, trials = Retries(still, attempts=1, backoff_s=100.0), [trial_of(number) for number in (4, 2)]
    assert {fail(retries, trial, Cause.WORKER, alone=False) for trial in trials} == {Ending.SHARED}
    assert [trial.failures for trial in trials] == [0, 0]
    assert [retries.due(), retries.due(), retries.due()] == [4, 2, None]  # in the order of coming


def test_what_a_node_does_is_not_charged_but_a_trial_whose_nodes_vanish_is_given_up(still):
    retries, trial = Retries(still, attempts=1, backoff_s=5.0), trial_of()
    for _ in range(NODES_LOST - 1):
        assert fail(retries, trial, Cause.NODE) is Ending.LOST
        assert retries.due() == 0
    fail(retries, trial, Cause.NODE)
    assert retries.given_up(trial) == f"{NODES_LOST} times its node was gone"


def test_nodes_where_it_failed_are_remembered(still):
    retries, trial = Retries(still, attempts=9, backoff_s=0.0), trial_of()
    fail(retries, trial, node="a")
    fail(retries, trial, Cause.WORKER, alone=False, node="b")
    fail(retries, trial, node=None)
    assert trial.avoid == {"a", "b"}


@pytest.mark.parametrize(
    ("cause", "progressed", "kept"),
    [
        (Cause.ERROR, [True, True, True], [True, True, True]),  # it comes further each time
        (Cause.ERROR, [False], [False]),
        (Cause.WORKER, [False, False], [True, False]),  # once may be somebody else's doing
        (Cause.WORKER, [False, True, False], [True, True, True]),
    ],
)
def test_a_checkpoint_is_kept_unless_it_may_be_what_fails(still, tmp_path, cause, progressed, kept):
    retries, trial = Retries(still, attempts=9, backoff_s=0.0), trial_of(checkpoint=tmp_path)
    for far, keeps in zip(progressed, kept, strict=True):
        trial.progressed = far
        fail(retries, trial, cause)
        assert (trial.checkpoint is not None) == keeps


def test_a_storage_that_is_away_charges_nobody_and_the_wait_for_it_grows(still, tmp_path):
    retries, trial = Retries(still, attempts=1, backoff_s=5.0), trial_of(checkpoint=tmp_path)
    for wait_s in (5, 10, 20):
        assert fail(retries, trial, Cause.STORAGE) is Ending.LOST
        still.now += timedelta(seconds=wait_s - 0.001)
        assert retries.due() is None
        still.now += timedelta(seconds=0.001)
        assert retries.due() == 0
    assert (trial.checkpoint, trial.failures, trial.avoid) == (tmp_path, 0, set())
    for _ in range(STORAGE_LOST - 3):
        fail(retries, trial, Cause.STORAGE)
    assert retries.given_up(trial) == f"{STORAGE_LOST} times its files could not be reached"


def test_the_one_that_may_go_first_goes_first(still):
    retries, slow, quick = Retries(still, attempts=9, backoff_s=5.0), trial_of(1), trial_of(2)
    fail(retries, slow)
    fail(retries, slow)
    retries.due()
    fail(retries, quick)
    still.now += timedelta(seconds=60)
    assert [retries.due() for _ in range(4)] == [1, 2, 1, None]
    assert retries.next_due is None
