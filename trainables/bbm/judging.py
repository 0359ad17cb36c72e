"""How good probabilities are: the challenge's score, F1, AUROC and AUPRC, with the thresholds that decide.

Thresholds are chosen on the validation part (`thresholds=None`) and applied to the test part. The scores are those of
`scores`, with their edge cases: NaN where one is not defined. If a probability is NaN, as those of a network that has
diverged are, every score is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdsearch.spaces.errors import UnknownNameError
from kdsearch.trainables.bbm.objectives import Objective
from kdsearch.trainables.scores import physionet2019, physionet2021
from kdsearch.trainables.scores.ranking import Bools, Floats, auprc, auroc, defined_mean
from kdsearch.trainables.scores.thresholds import (
    Thresholds,
    check_hours,
    check_signals,
    decisions,
    hour_thresholds,
    signal_thresholds,
)

UNDEFINED_ERROR: Final = 100.0  # per cent, of a score that is NaN


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Scores of one part, as fractions; NaN where one is not defined. `thresholds` are those that were applied."""

    challenge: float
    f1: float
    auroc: float
    auprc: float
    thresholds: Thresholds

    def scores(self) -> Mapping[Objective, float]:
        """Return the scores by name."""
        return {name: getattr(self, name) for name in Objective}


def judge_hours(
    probabilities: ArrayLike, labels: ArrayLike, lengths: ArrayLike, thresholds: Thresholds | None = None
) -> Judgement:
    """Judge hourly predictions of sepsis: normalised utility, and F1, AUROC and AUPRC over all hours together.

    probabilities: [H] in [0, 1]; labels: [H], shifted as in the official files; lengths: [P] hours of each patient.
    thresholds: None chooses the best on these very hours.

    Raises:
        UsageError: the shapes do not agree, or a probability is outside [0, 1].

    """
    scalar, known = _arrays(probabilities, labels)
    hours: NDArray[np.int64] = np.asarray(lengths, dtype=np.int64)
    check_hours(scalar, known, hours)
    used = hour_thresholds(scalar, known, hours) if thresholds is None else thresholds
    if np.isnan(scalar).any():
        return _undefined(used)
    warned = decisions(scalar, used.challenge)
    return Judgement(
        challenge=physionet2019.utility(known, warned, hours).normalised,
        f1=physionet2019.f1(known, decisions(scalar, used.f1)),
        auroc=auroc(known, scalar),
        auprc=auprc(known, scalar),
        thresholds=used,
    )


def judge_signals(
    probabilities: ArrayLike, labels: ArrayLike, thresholds: Thresholds | None = None
) -> Judgement:
    """Judge diagnoses: challenge metric, and the means of F1, AUROC and AUPRC over the classes that have one.

    probabilities: [n, C] in [0, 1]; labels: [n, C], C the challenge's scored classes. thresholds: None chooses the
    best on these very recordings.

    Raises:
        UsageError: the shapes do not agree, or a probability is outside [0, 1].

    """
    scalar, known = _arrays(probabilities, labels)
    check_signals(scalar, known)
    used = signal_thresholds(scalar, known) if thresholds is None else thresholds
    if np.isnan(scalar).any():
        return _undefined(used)
    columns = list(zip(known.T, scalar.T, strict=True))
    return Judgement(
        challenge=physionet2021.challenge_metric(known, decisions(scalar, used.challenge)),
        f1=defined_mean(physionet2021.f1_by_class(known, decisions(scalar, used.f1))),
        auroc=defined_mean(np.array([auroc(*column) for column in columns])),
        auprc=defined_mean(np.array([auprc(*column) for column in columns])),
        thresholds=used,
    )


def objective(judgement: Judgement, name: Objective | str) -> float:
    """Return the error in per cent, 100 * (1 - score), of the score of this name.

    It is above 100 where a score is negative, as utility and challenge metric can be. A score that is NaN counts as
    an error of 100, as a score of 0 would: a searcher has to be told a number.

    Raises:
        UnknownNameError: no such score; the known ones are listed.

    """
    if name not in list(Objective):
        raise UnknownNameError("objective", name, [str(each) for each in Objective])
    score = judgement.scores()[Objective(name)]
    return UNDEFINED_ERROR if math.isnan(score) else 100.0 * (1.0 - score)


def _arrays(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Floats, Bools]:
    return np.asarray(probabilities, dtype=np.float64), np.asarray(labels).astype(np.bool_)


def _undefined(thresholds: Thresholds) -> Judgement:
    nan = math.nan
    return Judgement(challenge=nan, f1=nan, auroc=nan, auprc=nan, thresholds=thresholds)
