"""Challenge metric, F1 and areas of 2021: against loops written from the definition, and by hand."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.scores.physionet2021 import (
    Recordings,
    ScoredClasses,
    challenge_metric,
    f1_by_class,
    score,
    scored_classes,
)

_SPEC = importlib.util.spec_from_file_location("score_plain", Path(__file__).with_name("score_plain.py"))
score_plain = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(score_plain)

CLASSES = scored_classes()
C = len(CLASSES.names)
AF, NORMAL, BRADY, RBBB = (
    CLASSES.index[code] for code in ("164889003", "426783006", "426627000", "59118001")
)


def rows(*chosen):
    result = np.zeros((len(chosen), C), dtype=np.bool_)
    for row, classes in zip(result, chosen, strict=True):
        row[list(classes)] = True
    return result


def test_the_table():
    assert (C, len(CLASSES.index)) == (26, 30)  # four pairs of codes count as equal
    joined = [name for name in CLASSES.names if "|" in name]
    assert joined == ["733534002|164909002", "713427006|59118001", "284470004|63593006", "427172004|17338001"]
    assert CLASSES.index["713427006"] == CLASSES.index["59118001"]
    assert CLASSES.abbreviations[RBBB] == "CRBBB|RBBB"
    assert CLASSES.abbreviations[CLASSES.normal] == "NSR"
    weights = CLASSES.weights
    assert (weights == weights.T).all()
    assert (np.diag(weights) == 1).all()
    assert weights.min() == 0.15  # a Q wave that is abnormal for normal sinus rhythm, or the other way
    assert (weights[AF, NORMAL], weights[AF, BRADY], weights[BRADY, NORMAL]) == (0.25, 0.3, 0.45)
    with pytest.raises(ValueError, match="read-only"):
        weights[0, 0] = 2


def test_codes_become_classes():
    found = CLASSES.matrix([("164889003", "59118001", "713427006", "55827005"), ()])
    assert (found == rows({AF, RBBB}, set())).all()


def test_a_metric_by_hand():
    # The first is AF, said to be AF and normal, two classes in all: (1 + 0.25) / 2 = 0.625; the second is bradycardia,
    # said to be AF: 0.3 / 2 = 0.15. Right outputs have 1 each; normal rhythm for both 0.25 / 2 + 0.45 / 2 = 0.35.
    labels, outputs = rows({AF}, {BRADY}), rows({AF, NORMAL}, {AF})
    assert challenge_metric(labels, outputs) == pytest.approx((0.775 - 0.35) / (2 - 0.35))


def test_correct_outputs_of_two_labels_are_worth_more_than_one():
    # AF and bradycardia, all four pairs: (1 + 1 + 0.3 + 0.3) / 2 = 1.3; normal rhythm: (0.25 + 0.45) / 3;
    # AF alone: (1 + 0.3) / 2 = 0.65
    found = challenge_metric(rows({AF, BRADY}), rows({AF}))
    assert found == pytest.approx((0.65 - 0.7 / 3) / (1.3 - 0.7 / 3))


def test_a_metric_can_be_below_zero_and_is_zero_where_nothing_can_be_won():
    # {AF} true, nothing chosen: (0 - 0.125) / (1 - 0.125)
    assert challenge_metric(rows({AF}), rows(set())) == pytest.approx(-1 / 7)
    normal = rows({NORMAL}, set())  # correct is inactive here
    assert challenge_metric(normal, normal) == 0
    assert challenge_metric(normal, rows({AF}, {AF})) == 0
    assert challenge_metric(rows(set()), rows({AF})) == 0
    assert challenge_metric(rows(), rows()) == 0


def test_a_table_of_ones_own():
    own = ScoredClasses(("426783006", "1|2"), ("N", "X"), np.array([[1.0, 0.5], [0.5, 1.0]]))
    # {X} true, {N, X} chosen: 1.5 / 2; inactive 0.5 / 2
    assert challenge_metric(np.array([[False, True]]), np.array([[True, True]]), own) == pytest.approx(
        (0.75 - 0.25) / (1 - 0.25)
    )


def test_a_class_without_positives_and_predictions_is_left_out_of_the_mean():
    labels, outputs = rows({AF}, {AF}, {BRADY}), rows({AF}, set(), {NORMAL})
    found = f1_by_class(labels, outputs)
    # AF: one hit, one missed: 2 / 3; brady: missed; normal: one false alarm
    assert found[AF] == pytest.approx(2 / 3)
    assert (found[BRADY], found[NORMAL]) == (0, 0)
    assert np.isnan(np.delete(found, [AF, BRADY, NORMAL])).all()
    scores = score(Recordings(("a", "b", "c"), labels, outputs, np.zeros((3, C))))
    assert scores.macro_f1 == pytest.approx(2 / 9)
    assert scores.accuracy == pytest.approx(1 / 3)
    assert scores.positives[AF] == 2
    assert scores.predicted[AF] == 1


def test_without_anything_positive_no_mean_is_defined():
    found = score(Recordings(("a",), rows(set()), rows(set()), np.zeros((1, C))))
    assert math.isnan(found.macro_f1)
    assert math.isnan(found.macro_auroc)
    assert math.isnan(found.macro_auprc)
    assert found.accuracy == 1


BOTH = st.integers(0, 6).flatmap(
    lambda n: st.tuples(
        arrays(np.bool_, (n, C), elements=st.booleans(), fill=st.just(value=False)),
        arrays(np.bool_, (n, C), elements=st.booleans(), fill=st.just(value=False)),
        st.integers(0, 2**32 - 1),
    )
)


@settings(deadline=None)
@given(BOTH)
def test_all_scores_equal_the_plain_ones(drawn):
    labels, outputs, seed = drawn
    n = len(labels)
    scalar = np.random.default_rng(seed).integers(0, 5, (n, C)) / 4
    found = score(Recordings(tuple(map(str, range(n))), labels, outputs, scalar))
    plain = score_plain.plain_challenge_metric(
        CLASSES.weights.tolist(), labels.tolist(), outputs.tolist(), NORMAL
    )
    assert found.challenge_metric == pytest.approx(plain, abs=1e-12)
    for k in range(C):
        truth, values = labels[:, k].tolist(), scalar[:, k].tolist()
        expected = score_plain.plain_f1(truth, outputs[:, k].tolist())
        assert found.f1[k] == pytest.approx(math.nan if expected is None else expected, nan_ok=True)
        assert found.auroc[k] == pytest.approx(score_plain.plain_auroc(truth, values), nan_ok=True)
        assert found.auprc[k] == pytest.approx(score_plain.plain_auprc(truth, values), nan_ok=True)
    defined = [value for value in found.f1.tolist() if not math.isnan(value)]
    assert found.macro_f1 == pytest.approx(np.mean(defined) if defined else math.nan, nan_ok=True)


@settings(deadline=None)
@given(BOTH)
def test_right_is_one_inaction_is_zero_and_the_order_does_not_matter(drawn):
    labels, outputs, seed = drawn
    order = np.random.default_rng(seed).permutation(len(labels))
    assert challenge_metric(labels[order], outputs[order]) == pytest.approx(challenge_metric(labels, outputs))
    inactive = np.zeros_like(labels)
    inactive[:, NORMAL] = True
    assert challenge_metric(labels, inactive) == 0
    if np.delete(labels, NORMAL, axis=1).any():
        assert challenge_metric(labels, labels) == 1


def test_shapes_and_values_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match=r"binary of shape \(1, 3\), not \(1, 26\)"):
        Recordings(("a",), rows(set()), np.zeros((1, 3), dtype=np.bool_), np.zeros((1, C)))
    with pytest.raises(UsageError, match="NaN"):
        Recordings(("a",), rows(set()), rows(set()), np.full((1, C), math.nan))
