"""Utility, F1 and areas of the 2019 challenge: against loops written from the definition, and by hand."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.scores.physionet2019 import (
    Cohort,
    best_predictions,
    f1,
    onsets,
    patient_utilities,
    score,
    utility,
)

_SPEC = importlib.util.spec_from_file_location("score_plain", Path(__file__).with_name("score_plain.py"))
score_plain = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(score_plain)


def flat(rows):
    return np.array([bool(value) for row in rows for value in row], dtype=np.bool_)


def lengths_of(rows):
    return np.array([len(row) for row in rows], dtype=np.int64)


def one(labels, predictions):
    return float(patient_utilities(flat([labels]), flat([predictions]), lengths_of([labels]))[0])


def test_the_example_of_the_official_scorer():
    # first positive label in row 4, so t_s = 10 and s = -10 ... -5; silent hours at s <= -6 are worth 0;
    # s = -8: -8/6 + 2 = 2/3; s = -7: 5/6; s = -6: 1; s = -5, past the best time: 5/9 + 1/3 = 8/9
    assert pytest.approx(3.388888888888889, rel=1e-15) == 2 / 3 + 5 / 6 + 1 + 8 / 9
    assert one([0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1]) == pytest.approx(3.388888888888889, rel=1e-14)


@pytest.mark.parametrize(
    ("hour", "warned", "silent"),
    [
        (0, -0.05, 0.0),  # s = -20: -20/6 + 2 = -1.33, but no worse than a false alarm
        (7, -0.05, 0.0),  # s = -13: -1/6
        (8, 0.0, 0.0),  # s = -12, where a warning begins to be worth something
        (11, 0.5, 0.0),  # s = -9
        (14, 1.0, 0.0),  # s = -6
        (15, 8 / 9, -2 / 9),  # s = -5: 5/9 + 3/9; 10/9 - 12/9
        (20, 1 / 3, -4 / 3),  # s = 0, the onset
        (23, 0.0, -2.0),  # s = 3, the last hour that counts
        (24, 0.0, 0.0),  # s = 4
    ],
)
def test_the_worth_of_single_hours(hour, warned, silent):
    labels = [0] * 14 + [1] * 12  # t_s = 20
    base = [0] * len(labels)
    said = [int(k == hour) for k in range(len(labels))]
    never = one(labels, base)
    assert never == pytest.approx(-sum(2 * k / 9 for k in range(1, 10)))  # s = -5 ... 3: -2 (s + 6) / 9
    assert one(labels, said) - never == pytest.approx(warned - silent)


def test_patients_without_sepsis_cost_a_twentieth_for_each_alarm():
    assert one([0] * 5, [1, 0, 1, 1, 0]) == pytest.approx(-0.15)
    assert one([0] * 5, [0] * 5) == 0


def test_the_first_positive_label_tells_the_onset_and_the_best_policy_ends_with_the_record():
    labels = [[0, 1, 0, 1], [1], [], [0] * 30]
    assert onsets(flat(labels), lengths_of(labels)).tolist() == [7.0, 6.0, math.inf, math.inf]
    # t_s = 7: from max(0, -5) on; t_s = 6: from 0; both records end before t_s + 3
    assert best_predictions(flat(labels), lengths_of(labels)).tolist() == [True] * 5 + [False] * 30
    long = [0] * 20 + [1] * 20  # t_s = 26: hours 14 to 29
    assert np.flatnonzero(best_predictions(flat([long]), lengths_of([long]))).tolist() == list(range(14, 30))


def test_a_cohort_without_sepsis_has_no_normalised_utility():
    rows = [[0, 0, 0], [0]]
    found = utility(flat(rows), flat([[1, 0, 0], [0]]), lengths_of(rows))
    assert (found.observed, found.best, found.inaction) == (-0.05, 0.0, 0.0)
    assert math.isnan(found.normalised)


def test_f1_is_one_where_nothing_is_positive():
    nothing = np.zeros(4, dtype=np.bool_)
    assert f1(nothing, nothing) == 1
    assert f1(np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.bool_)) == 1
    # 2 hits, 2 false alarms, none missed: 4 / (4 + 2)
    assert f1(flat([[0, 0, 0, 0, 1, 1]]), flat([[0, 0, 1, 1, 1, 1]])) == pytest.approx(2 / 3)


HOURS = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 6)), max_size=40)
PATIENTS = st.lists(HOURS, min_size=1, max_size=6)


def cohort_of(patients):
    columns = [[[hour[k] for hour in patient] for patient in patients] for k in range(3)]
    probabilities = np.array([value / 6 for row in columns[2] for value in row], dtype=np.float64)
    names = tuple(f"p{k}" for k in range(len(patients)))
    return Cohort(names, lengths_of(columns[0]), flat(columns[0]), flat(columns[1]), probabilities)


@settings(deadline=None)
@given(PATIENTS)
def test_all_scores_equal_the_plain_ones(patients):
    cohort = cohort_of(patients)
    rows = [([h[0] for h in patient], [h[1] for h in patient]) for patient in patients]
    by_patient = patient_utilities(cohort.labels, cohort.predictions, cohort.lengths)
    assert by_patient == pytest.approx([score_plain.plain_utility(*row) for row in rows], abs=1e-12)
    found = score(cohort)
    assert found.utility.normalised == pytest.approx(
        score_plain.plain_normalised(rows), nan_ok=True, abs=1e-9
    )
    labels, said = cohort.labels.tolist(), cohort.predictions.tolist()
    expected = score_plain.plain_f1(labels, said)
    assert found.f1 == pytest.approx(1.0 if expected is None else expected)
    assert found.auroc == pytest.approx(
        score_plain.plain_auroc(labels, cohort.probabilities.tolist()), nan_ok=True
    )
    assert found.auprc == pytest.approx(
        score_plain.plain_auprc(labels, cohort.probabilities.tolist()), nan_ok=True
    )
    assert found.accuracy == pytest.approx(
        np.mean([a == b for a, b in zip(labels, said, strict=True)] or [1.0])
    )


@settings(deadline=None)
@given(PATIENTS, st.randoms(use_true_random=False))
def test_best_is_one_silence_is_zero_and_the_order_of_patients_does_not_matter(patients, random):
    cohort = cohort_of(patients)
    best = best_predictions(cohort.labels, cohort.lengths)
    if cohort.labels.any():
        assert utility(cohort.labels, best, cohort.lengths).normalised == 1
        assert utility(cohort.labels, np.zeros_like(best), cohort.lengths).normalised == 0
        assert utility(cohort.labels, cohort.predictions, cohort.lengths).normalised <= 1 + 1e-12
    shuffled = list(patients)
    random.shuffle(shuffled)
    assert flattened(score(cohort_of(shuffled))) == pytest.approx(
        flattened(score(cohort)), nan_ok=True, abs=1e-9
    )


def flattened(found):
    told = found.to_dict()
    return [*told.pop("scores").values(), *told.pop("utility_sums").values(), *told.values()]


def test_probabilities_of_exactly_0_and_1_have_an_area():
    # The official curve begins at the threshold 1 and ends before 0: it has no area here, scikit-learn's has 1
    found = score(cohort_of([[(False, False, 0), (True, True, 6)]]))
    assert (found.auroc, found.auprc) == (1.0, 1.0)


def test_shapes_and_values_that_do_not_fit_are_refused():
    three, two = np.zeros(3, dtype=np.bool_), np.zeros(2, dtype=np.bool_)
    with pytest.raises(UsageError, match=r"predictions of shape \(2,\) for 3 hours"):
        Cohort(("a",), np.array([3]), three, two, np.zeros(3))
    with pytest.raises(UsageError, match="2 patients with 1 lengths"):
        Cohort(("a", "b"), np.array([3]), three, three, np.zeros(3))
    with pytest.raises(UsageError, match="NaN"):
        Cohort(("a",), np.array([3]), three, three, np.array([0, math.nan, 1]))
