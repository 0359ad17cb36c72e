"""Best thresholds: against every decision there is, judged by the challenges' scores, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.scores.physionet2019 import f1, utility
from kdsearch.trainables.scores.physionet2021 import challenge_metric, f1_by_class, scored_classes
from kdsearch.trainables.scores.ranking import defined_mean
from kdsearch.trainables.scores.thresholds import (
    ALWAYS,
    NEVER,
    Thresholds,
    decisions,
    hour_thresholds,
    signal_thresholds,
)

CLASSES = len(scored_classes().names)


def every_threshold(probabilities):
    """Never first, then each probability, falling: all decisions that a threshold can make."""
    return [NEVER, *sorted(set(probabilities.ravel().tolist()), reverse=True)]


def largest_best(probabilities, score):
    """Return the decisions of the largest threshold with the highest score, rounded so that ties are ties."""
    scores = [round(score(probabilities >= each), 9) for each in every_threshold(probabilities)]
    return probabilities >= every_threshold(probabilities)[int(np.argmax(scores))]


def patients(rng, count, longest, levels):
    """Make hours of patients, every other one septic from some hour on; probabilities on a grid, so that some tie."""
    lengths = rng.integers(0, longest + 1, count)
    labels = [np.arange(n) >= rng.integers(0, longest + 5) * (1 + rng.integers(0, 2) * 99) for n in lengths]
    labels = np.concatenate([*labels, np.zeros(0, dtype=np.bool_)])
    probabilities = np.round((rng.random(labels.size) + 0.3 * labels) / 1.3 * levels) / levels
    return probabilities, labels, lengths


@pytest.mark.parametrize("levels", [3, 20, 10**9])
def test_the_thresholds_of_hours_are_best_among_all_decisions_and_the_largest_such(levels):
    kinds = set()
    for seed in range(60):
        probabilities, labels, lengths = patients(np.random.default_rng(seed), 6, 25, levels)
        found = hour_thresholds(probabilities, labels, lengths)
        best = largest_best(probabilities, lambda said: utility(labels, said, lengths).observed)  # noqa: B023
        assert (decisions(probabilities, found.challenge) == best).all()
        best = largest_best(probabilities, lambda said: f1(labels, said))  # noqa: B023
        assert (decisions(probabilities, found.f1) == best).all()
        kinds |= {f"challenge {found.challenge}"} if labels.any() else set()
    if levels == 3:  # coarse probabilities make the ends best now and then
        assert {f"challenge {NEVER}", f"challenge {ALWAYS}"} <= kinds


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])), min_size=1, max_size=30)
)
def test_one_patient_of_any_labels_and_probabilities(hours):
    labels = np.array([label for label, _ in hours])
    probabilities = np.array([p for _, p in hours])
    lengths = np.array([len(hours)])
    found = hour_thresholds(probabilities, labels, lengths)
    best = largest_best(probabilities, lambda said: utility(labels, said, lengths).observed)
    assert (decisions(probabilities, found.challenge) == best).all()
    best = largest_best(probabilities, lambda said: f1(labels, said))
    assert (decisions(probabilities, found.f1) == best).all()


@pytest.mark.parametrize("levels", [4, 10**9])
@pytest.mark.parametrize("share", [0.02, 0.2])
def test_the_thresholds_of_signals_are_best_among_all_decisions_and_the_largest_such(levels, share):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        labels = rng.random((7, CLASSES)) < share
        probabilities = np.round((rng.random(labels.shape) + 0.5 * labels) / 1.5 * levels) / levels
        found = signal_thresholds(probabilities, labels)
        best = largest_best(probabilities, lambda said: challenge_metric(labels, said))  # noqa: B023
        assert (decisions(probabilities, found.challenge) == best).all()
        best = largest_best(probabilities, lambda said: defined_mean(f1_by_class(labels, said)))  # noqa: B023
        assert (decisions(probabilities, found.f1) == best).all()


def test_a_threshold_lies_midway_to_the_next_probability_below():
    labels, lengths = np.array([False, True, True, False]), np.array([4])
    found = hour_thresholds(np.array([0.2, 0.6, 0.9, 0.1]), labels, lengths)
    assert found.f1 == pytest.approx(0.4)  # hours 1 and 2, right as they are
    # t_s = 7, s = -7 ... -4: every warned hour is worth 5/6 or more, so that saying 1 always is best
    assert found.challenge == ALWAYS


@pytest.mark.parametrize("low", [0.3, math.nextafter(0.3, 1)])  # the middle is rounded down here, up there
def test_neighbouring_probabilities_are_kept_apart(low):
    high = math.nextafter(low, 1)
    labels, lengths = np.array([True, False]), np.array([2])
    threshold = hour_thresholds(np.array([high, low]), labels, lengths).f1
    assert decisions([high, low], threshold).tolist() == [True, False]


def test_decisions_on_single_precision_are_made_in_double():
    low = np.float32(0.25)
    high = np.nextafter(low, np.float32(1))
    labels, lengths = np.array([True, False]), np.array([2])
    single = np.array([high, low])
    threshold = hour_thresholds(single.astype(np.float64), labels, lengths).f1
    assert np.float32(threshold) == low  # midway, which is no float32
    assert decisions(single, threshold).tolist() == [True, False]


def test_a_probability_equal_to_the_threshold_is_positive_and_nan_is_not():
    assert decisions([0.5, 0.49, 1.0, math.nan], 0.5).tolist() == [True, False, True, False]
    assert not decisions([0.0, 1.0], NEVER).any()
    assert decisions([0.0, 1.0], ALWAYS).all()


def test_false_alarms_alone_are_best_avoided():
    rng = np.random.default_rng(0)
    probabilities, labels = rng.random(40), np.zeros(40, dtype=np.bool_)
    assert hour_thresholds(probabilities, labels, np.array([10, 30])) == Thresholds(challenge=NEVER, f1=NEVER)
    nothing = np.zeros((5, CLASSES), dtype=np.bool_)
    # No true class has a weight for a chosen one: all thresholds are equal, and the largest is taken.
    found = signal_thresholds(rng.random(nothing.shape), nothing)
    assert found == Thresholds(challenge=NEVER, f1=NEVER)


def test_where_the_metric_is_0_whatever_is_said_its_observed_sum_decides():
    normal = scored_classes().normal
    labels = np.zeros((3, CLASSES), dtype=np.bool_)
    labels[:, normal] = True
    probabilities = np.full(labels.shape, 0.1)
    probabilities[:, normal] = (0.5, 0.7, 0.9)
    found = signal_thresholds(probabilities, labels)
    assert challenge_metric(labels, labels) == 0
    assert (decisions(probabilities, found.challenge) == labels).all()
    assert found.challenge == pytest.approx(0.3)  # between 0.5 and 0.1


def test_nothing_and_nan_choose_never():
    never = Thresholds(challenge=NEVER, f1=NEVER)
    empty = np.zeros(0)
    assert hour_thresholds(empty, empty.astype(bool), np.zeros(0, dtype=np.int64)) == never
    assert hour_thresholds(np.array([0.5, math.nan]), np.array([True, False]), np.array([2])) == never
    assert signal_thresholds(np.zeros((0, CLASSES)), np.zeros((0, CLASSES), dtype=np.bool_)) == never
    probabilities = np.full((2, CLASSES), 0.5)
    probabilities[1, 3] = math.nan
    assert signal_thresholds(probabilities, np.ones((2, CLASSES), dtype=np.bool_)) == never


def test_what_does_not_fit_is_refused():
    labels = np.array([True, False])
    for values, lengths, message in (
        (np.array([0.5, 0.5]), [3], "3 hours in all"),
        (np.array([0.5]), [2], "shape"),
        (np.array([0.5, 1.5]), [2], r"outside \[0, 1\]"),
        (np.array([0.5, -math.inf]), [2], r"outside \[0, 1\]"),
    ):
        with pytest.raises(UsageError, match=message):
            hour_thresholds(values, labels, np.array(lengths))
    with pytest.raises(UsageError, match="26 scored classes"):
        signal_thresholds(np.zeros((2, 5)), np.zeros((2, 5), dtype=np.bool_))
    with pytest.raises(UsageError, match="shape"):
        signal_thresholds(np.zeros((3, CLASSES)), np.zeros((2, CLASSES), dtype=np.bool_))


def test_thresholds_go_into_plain_data():
    assert Thresholds(challenge=0.25, f1=NEVER).to_dict() == {"challenge": 0.25, "f1": 2.0}
