"""Judgements: the challenges' own scores at the thresholds given or chosen, and what becomes of degenerate parts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.bbm.judging import Judgement, judge_hours, judge_signals, objective
from kdsearch.trainables.bbm.objectives import Objective
from kdsearch.trainables.scores import physionet2019, physionet2021
from kdsearch.trainables.scores.thresholds import NEVER, Thresholds, hour_thresholds, signal_thresholds

CLASSES = len(physionet2021.scored_classes().names)
GIVEN = Thresholds(challenge=0.6, f1=0.3)


def hours(seed, count=12):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 30, count)
    labels = np.concatenate([(np.arange(n) >= n - 6) & (k % 3 == 0) for k, n in enumerate(lengths)])
    return (rng.random(labels.size) + labels) / 2, labels, lengths


def signals(seed, count=40):
    rng = np.random.default_rng(seed)
    labels = rng.random((count, CLASSES)) < np.linspace(0, 0.3, CLASSES)  # class 0 has no positive
    return (rng.random(labels.shape) + labels) / 2, labels


def scored_hours(probabilities, labels, lengths, threshold):
    names = tuple(str(k) for k in range(len(lengths)))
    cohort = physionet2019.Cohort(names, lengths, labels, probabilities >= threshold, probabilities)
    return physionet2019.score(cohort)


def scored_signals(probabilities, labels, threshold):
    names = tuple(str(k) for k in range(len(labels)))
    recordings = physionet2021.Recordings(names, labels, probabilities >= threshold, probabilities)
    return physionet2021.score(recordings)


def test_hours_are_scored_as_the_challenge_does_each_score_at_its_threshold():
    values = hours(0)
    judged = judge_hours(*values, GIVEN)
    assert judged.thresholds == GIVEN
    assert judged.challenge == scored_hours(*values, 0.6).utility.normalised
    at_f1 = scored_hours(*values, 0.3)
    assert (judged.f1, judged.auroc, judged.auprc) == (at_f1.f1, at_f1.auroc, at_f1.auprc)
    assert judged.challenge != at_f1.utility.normalised


def test_signals_are_scored_as_the_challenge_does_each_score_at_its_threshold():
    values = signals(0)
    judged = judge_signals(*values, GIVEN)
    assert judged.thresholds == GIVEN
    assert judged.challenge == scored_signals(*values, 0.6).challenge_metric
    at_f1 = scored_signals(*values, 0.3)
    assert (judged.f1, judged.auroc, judged.auprc) == (at_f1.macro_f1, at_f1.macro_auroc, at_f1.macro_auprc)
    assert judged.challenge != at_f1.challenge_metric


def test_thresholds_are_chosen_where_none_are_given_and_applied_as_they_are_elsewhere():
    for judge, choose, make in (
        (judge_hours, hour_thresholds, hours),
        (judge_signals, signal_thresholds, signals),
    ):
        validation, test = make(1), make(2)
        judged = judge(*validation)
        assert judged.thresholds == choose(*validation)
        assert judged == judge(*validation, judged.thresholds)
        applied = judge(*test, judged.thresholds)
        assert applied.thresholds == judged.thresholds
        chosen_there = judge(*test)
        assert chosen_there.thresholds != judged.thresholds
        assert chosen_there.challenge >= applied.challenge
        assert chosen_there.f1 >= applied.f1


def test_single_precision_and_labels_of_numbers_are_taken():
    probabilities, labels, lengths = hours(3)
    single = probabilities.astype(np.float32)
    judged = judge_hours(single, labels.astype(np.float32), lengths.tolist())
    assert judged == judge_hours(single.astype(np.float64), labels, lengths)
    probabilities, labels = signals(3)
    single = probabilities.astype(np.float32)
    assert judge_signals(single, labels.astype(np.uint8)) == judge_signals(single.astype(np.float64), labels)


def assert_scores(judged, **expected):
    for name, value in expected.items():
        assert getattr(judged, name) == pytest.approx(value, nan_ok=True), name


def test_hours_without_a_positive():
    probabilities, labels, lengths = hours(4)
    nan = math.nan
    judged = judge_hours(probabilities, np.zeros_like(labels), lengths)
    # F1 is officially 1 if nothing is positive and nothing was said; the other scores are not defined.
    assert_scores(judged, challenge=nan, f1=1.0, auroc=nan, auprc=nan)
    assert judged.thresholds == Thresholds(challenge=NEVER, f1=NEVER)
    judged = judge_hours(probabilities, np.zeros_like(labels), lengths, GIVEN)
    assert_scores(judged, challenge=nan, f1=0.0, auroc=nan, auprc=nan)


def test_hours_of_positives_alone():
    judged = judge_hours([0.2, 0.7, 0.4], [1, 1, 1], [3])
    assert_scores(judged, challenge=1.0, f1=1.0, auroc=math.nan, auprc=1.0)


def test_equal_probabilities():
    _, labels, lengths = hours(5)
    judged = judge_hours(np.full(labels.size, 0.25), labels, lengths)
    share = labels.mean()
    assert_scores(judged, auroc=0.5, auprc=share, f1=2 * share / (1 + share))
    assert judged.challenge >= 0  # never is among the decisions


def test_signals_without_a_positive_or_with_one_class_alone():
    probabilities, labels = signals(6)
    nan = math.nan
    judged = judge_signals(probabilities, np.zeros_like(labels))
    assert_scores(judged, challenge=0.0, f1=nan, auroc=nan, auprc=nan)
    judged = judge_signals(probabilities, np.ones_like(labels))
    assert_scores(judged, challenge=1.0, f1=1.0, auroc=nan, auprc=1.0)
    only = np.zeros_like(labels)
    only[:3, 5] = True
    judged = judge_signals((probabilities + only) / 2, only)
    column = (probabilities + only)[:, 5]
    assert_scores(judged, auroc=physionet2019.auroc(only[:, 5], column))


def test_a_part_of_nothing():
    nan = math.nan
    assert_scores(judge_hours([], [], []), challenge=nan, f1=1.0, auroc=nan, auprc=nan)
    empty = np.zeros((0, CLASSES))
    assert_scores(judge_signals(empty, empty), challenge=0.0, f1=nan, auroc=nan, auprc=nan)


@pytest.mark.parametrize("all_of_them", [False, True])
@pytest.mark.parametrize("given", [None, GIVEN])
def test_a_probability_that_is_nan_leaves_no_score(all_of_them, given):
    for judge, values in ((judge_hours, hours(7)), (judge_signals, signals(7))):
        probabilities, *rest = values
        probabilities.flat[slice(None) if all_of_them else 3] = math.nan
        judged = judge(probabilities, *rest, given)
        assert all(math.isnan(score) for score in judged.scores().values())
        assert judged.thresholds == (given or Thresholds(challenge=NEVER, f1=NEVER))


@pytest.mark.parametrize("given", [None, GIVEN])
def test_what_does_not_fit_is_refused_with_thresholds_and_without(given):
    with pytest.raises(UsageError, match="hours in all"):
        judge_hours([0.1, 0.2], [0, 1], [3], given)
    with pytest.raises(UsageError, match="logistic"):
        judge_hours([-4.0, 0.2], [0, 1], [2], given)
    with pytest.raises(UsageError, match="scored classes"):
        judge_signals(np.zeros((2, 3)), np.zeros((2, 3)), given)


def test_the_error_is_what_is_missing_to_1_in_per_cent():
    judged = Judgement(challenge=-0.25, f1=0.5, auroc=1.0, auprc=math.nan, thresholds=GIVEN)
    assert [objective(judged, name) for name in Objective] == [125.0, 50.0, 0.0, 100.0]
    assert objective(judged, "f1") == 50.0
    with pytest.raises(UnknownNameError, match="Known: challenge, f1, auroc, auprc"):
        objective(judged, "accuracy")
