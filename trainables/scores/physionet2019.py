"""Scores of the PhysioNet/Computing in Cardiology Challenge 2019: early prediction of sepsis, hour by hour.

Source: Reyna et al., "Early Prediction of Sepsis From Clinical Data: The PhysioNet/Computing in Cardiology Challenge
2019", Critical Care Medicine 48 (2020), and the definition of the official scorer, evaluate_sepsis_score.

Patients lie one after another in flat arrays: [H] hours of all, `lengths` [P] hours of each. Hour t of a patient is the
number of the row, from 0. Labels are shifted: the first positive one stands 6 hours before the onset t_s of sepsis.
With s = t - t_s, an hour is worth

    patient with sepsis     predicted 1: max(s / 6 + 2, -0.05)  for s <= -6,   -s / 9 + 1 / 3       for -6 < s <= 3
                            predicted 0: 0                      for s <= -6,   -2 s / 9 - 4 / 3     for -6 < s <= 3
    patient without sepsis  predicted 1: -0.05,  predicted 0: 0

and nothing for s > 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.scores.ranking import Bools, Floats, auprc, auroc

Lengths = NDArray[np.int64]

EARLIEST: Final = -12  # hours from the onset at which a warning begins to be worth something
OPTIMAL: Final = -6  # hours from the onset at which it is worth most; the labels turn positive here
LATEST: Final = 3  # hours from the onset after which nothing counts
WARNED: Final = 1.0  # the most that a warning is worth
MISSED: Final = -2.0  # what the lack of one is worth at LATEST
FALSE_ALARM: Final = -0.05


@dataclass(frozen=True)
class Cohort:
    """Labels and predictions of patients.

    patients: P names; lengths: [P] hours of each, 0 or more; labels (shifted, as in the official files), predictions
    and probabilities: [H] with H the sum of `lengths`; probabilities are finite.

    Raises:
        UsageError: the shapes do not agree, or a probability is not finite.

    """

    patients: tuple[str, ...]
    lengths: Lengths
    labels: Bools
    predictions: Bools
    probabilities: Floats

    def __post_init__(self) -> None:
        hours = int(self.lengths.sum())
        if len(self.patients) != len(self.lengths):
            raise UsageError(f"{len(self.patients)} patients with {len(self.lengths)} lengths")
        for name in ("labels", "predictions", "probabilities"):
            shape = getattr(self, name).shape
            if shape != (hours,):
                raise UsageError(f"{name} of shape {shape} for {hours} hours in all")
        if not np.isfinite(self.probabilities).all():
            raise UsageError("probabilities hold NaN or infinite values")


@dataclass(frozen=True)
class Utility:
    """Utilities summed over all patients: of the predictions, of the best policy, and of never warning."""

    observed: float
    best: float
    inaction: float

    @property
    def normalised(self) -> float:
        """The challenge's score: 1 for the best policy, 0 for never warning; NaN if no patient has sepsis."""
        span = (
            self.best - self.inaction
        )  # an hour at t_s - 6 is worth 1 warned and 0 else: 0 without sepsis alone
        return (self.observed - self.inaction) / span if span else math.nan


@dataclass(frozen=True)
class Scores2019:
    """Scores of a cohort, as fractions; NaN where one is not defined. `septic`: patients with a positive label."""

    patients: int
    septic: int
    hours: int
    utility: Utility
    f1: float
    auroc: float
    auprc: float
    accuracy: float

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain data."""
        return {
            "patients": self.patients,
            "septic": self.septic,
            "hours": self.hours,
            "scores": {
                "utility": self.utility.normalised,
                "f1": self.f1,
                "auroc": self.auroc,
                "auprc": self.auprc,
                "accuracy": self.accuracy,
            },
            "utility_sums": {
                "observed": self.utility.observed,
                "best": self.utility.best,
                "inaction": self.utility.inaction,
            },
        }


def score(cohort: Cohort) -> Scores2019:
    """Return all scores of a cohort. F1, accuracy and areas are over the hours of all patients together."""
    labels, predictions, lengths = cohort.labels, cohort.predictions, cohort.lengths
    return Scores2019(
        patients=len(lengths),
        septic=int(np.isfinite(onsets(labels, lengths)).sum()),
        hours=len(labels),
        utility=utility(labels, predictions, lengths),
        f1=f1(labels, predictions),
        auroc=auroc(labels, cohort.probabilities),
        auprc=auprc(labels, cohort.probabilities),
        accuracy=float((labels == predictions).mean()) if len(labels) else 1.0,
    )


def utility(labels: Bools, predictions: Bools, lengths: Lengths) -> Utility:
    """Return the utilities of predictions, of the best policy and of inaction, each summed over all patients."""
    since = _hours_since_onset(labels, lengths)
    never = np.zeros_like(labels)
    sums = [float(_hourly(since, one).sum()) for one in (predictions, _best(since), never)]
    return Utility(*sums)


def patient_utilities(labels: Bools, predictions: Bools, lengths: Lengths) -> Floats:
    """Return the utility of each patient [P], before normalising."""
    hourly = _hourly(_hours_since_onset(labels, lengths), predictions)
    result: Floats = np.bincount(_owners(lengths), weights=hourly, minlength=len(lengths)).astype(np.float64)
    return result


def best_predictions(labels: Bools, lengths: Lengths) -> Bools:
    """Return the policy that counts as the best [H]: 1 from t_s - 12 to t_s + 3, both included, and 0 elsewhere."""
    return _best(_hours_since_onset(labels, lengths))


def onsets(labels: Bools, lengths: Lengths) -> Floats:
    """Return t_s of each patient [P], in hours from the first row; infinite for patients without sepsis."""
    owners = _owners(lengths)
    positive = np.flatnonzero(labels)
    septic, place = np.unique(owners[positive], return_index=True)  # the first positive hour of each
    result = np.full(len(lengths), math.inf)
    result[septic] = _rows(lengths)[positive[place]] - OPTIMAL
    return result


def f1(labels: Bools, predictions: Bools) -> float:
    """Return 2 TP / (2 TP + FP + FN); 1 if there is neither a positive label nor a positive prediction."""
    both, either = int((labels & predictions).sum()), int(labels.sum()) + int(predictions.sum())
    return 2 * both / either if either else 1.0


def _owners(lengths: Lengths) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(lengths)), lengths)


def _rows(lengths: Lengths) -> NDArray[np.int64]:
    return np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _hours_since_onset(labels: Bools, lengths: Lengths) -> Floats:
    """Return s = t - t_s [H]; minus infinity for patients without sepsis, for whom it is always too early."""
    rows: Floats = _rows(lengths).astype(np.float64)
    return rows - np.repeat(onsets(labels, lengths), lengths)


def _best(since: Floats) -> Bools:
    return (since >= EARLIEST) & (since <= LATEST)


def _hourly(since: Floats, predictions: Bools) -> Floats:
    rising = WARNED * (since - EARLIEST) / (OPTIMAL - EARLIEST)  # = s / 6 + 2; without sepsis minus infinity
    falling = -WARNED * (since - LATEST) / (LATEST - OPTIMAL)  # = -s / 9 + 1 / 3
    missing = MISSED * (since - OPTIMAL) / (LATEST - OPTIMAL)  # = -2 s / 9 - 4 / 3
    early = since <= OPTIMAL
    warned = np.where(early, np.maximum(rising, FALSE_ALARM), falling)
    silent = np.where(early, 0.0, missing)
    return np.where(since <= LATEST, np.where(predictions, warned, silent), 0.0)
