"""Decisions from probabilities: the thresholds that are best on one part, to be applied to another.

Thresholds are chosen on the validation part and applied to the test part as they are. A decision is positive where
probability >= threshold. One threshold decides of all hours or of all classes, a different one for each score:

    hours (2019)    challenge: the largest normalised utility    f1: the largest F1 over all hours together
    signals (2021)  challenge: the largest challenge metric      f1: the largest macro F1

All are exact maximisers over every decision that a common threshold can make, "never" and "always" included. As the
threshold falls, hours (pairs of a recording and a class) turn positive one after another, and what each of them adds
depends on nothing that comes later; so the probabilities are sorted and the gains cumulated. For the challenge metric,
whose factor 1 / max(|true or chosen|, 1) joins the classes of a recording, the gain of a class is the change of its
recording's sum when it joins the classes that stand above it; for macro F1, the change of its class's F1.

Among equal scores the largest threshold is taken. It lies midway between the lowest probability that is decided
positive and the next below, so that rounding elsewhere does not turn a decision; never is NEVER, always ALWAYS.

A threshold for each class would be exact for macro F1 as well, but rare classes have a handful of positives in a
validation part, and a threshold fitted to those does not hold on other recordings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Final, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.scores.physionet2019 import (
    EARLIEST,
    LATEST,
    OPTIMAL,
    Lengths,
    onsets,
    patient_utilities,
)
from kdsearch.trainables.scores.physionet2021 import scored_classes
from kdsearch.trainables.scores.ranking import Bools, Floats

Gains = TypeVar("Gains", Floats, NDArray[np.int64])

NEVER: Final = 2.0  # no probability reaches it
ALWAYS: Final = 0.0  # every probability does
TIE: Final = 1e-12  # fractions this close are equal: sums of gains are rounded
_PARTS: Final = 180  # all utilities of an hour are whole numbers of 180ths: of 6ths, 9ths and 20ths


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Probabilities from which on a decision is positive, in [0, 1], or NEVER; one for each score."""

    challenge: float
    f1: float

    def to_dict(self) -> Mapping[str, float]:
        """Return the numbers by score."""
        return asdict(self)


def decisions(probabilities: ArrayLike, threshold: float) -> Bools:
    """Return where probability >= threshold, in the shape of the probabilities; NaN is nowhere."""
    # In double precision: rounded to float32, a threshold midway could fall on its neighbour.
    result: Bools = np.asarray(probabilities, dtype=np.float64) >= threshold
    return result


def check_hours(probabilities: Floats, labels: Bools, lengths: Lengths) -> None:
    """Raise UsageError unless there are [H] probabilities in [0, 1] or NaN, [H] labels, and H is the sum of lengths."""
    hours = int(lengths.sum())
    if labels.shape != (hours,):
        raise UsageError(f"labels of shape {labels.shape} for {hours} hours in all")
    _check(probabilities, labels)


def check_signals(probabilities: Floats, labels: Bools) -> None:
    """Raise UsageError unless there are [n, C] probabilities in [0, 1] or NaN, and [n, C] labels of scored classes."""
    classes = len(scored_classes().names)
    if labels.shape != (len(labels), classes):
        raise UsageError(f"labels of shape {labels.shape}, not recordings by the {classes} scored classes")
    _check(probabilities, labels)


def hour_thresholds(probabilities: Floats, labels: Bools, lengths: Lengths) -> Thresholds:
    """Return the best thresholds of hourly predictions.

    probabilities: [H] in [0, 1]; labels: [H], shifted as in the official files; lengths: [P] hours of each patient.
    Without a positive label both are NEVER, and so they are if a probability is NaN.

    Raises:
        UsageError: the shapes do not agree, or a probability is outside [0, 1].

    """
    check_hours(probabilities, labels, lengths)
    if not _usable(probabilities):
        return Thresholds(challenge=NEVER, f1=NEVER)
    falling = _Falling.of(probabilities)
    utility = falling.sums(_hourly_gains(labels, lengths))
    hits, said = falling.sums(labels.astype(np.int64)), falling.sums(np.ones(labels.size, dtype=np.int64))
    # Equal fractions of whole numbers are equal floats, and the utilities are whole numbers: no rounding to allow for.
    f1 = 2 * hits / np.maximum(said + int(labels.sum()), 1)
    return Thresholds(challenge=falling.best(utility), f1=falling.best(f1))


def signal_thresholds(probabilities: Floats, labels: Bools) -> Thresholds:
    """Return the best thresholds of diagnoses, common to all classes.

    probabilities: [n, C] in [0, 1]; labels: [n, C], C the challenge's scored classes. Macro F1 is over the classes that
    have a positive label or decision; without a positive label f1 is NEVER. Where the challenge metric is 0 by
    definition (no recording has another class than normal sinus rhythm), its observed sum decides. Both are NEVER if a
    probability is NaN.

    Raises:
        UsageError: the shapes do not agree, or a probability is outside [0, 1].

    """
    check_signals(probabilities, labels)
    if not _usable(probabilities):
        return Thresholds(challenge=NEVER, f1=NEVER)
    falling = _Falling.of(probabilities)
    observed = falling.sums(_challenge_gains(probabilities, labels)) / len(labels)
    gains, joins = _f1_gains(probabilities, labels)
    classes_defined = int(labels.any(axis=0).sum()) + falling.sums(joins)
    macro_f1 = falling.sums(gains) / np.maximum(classes_defined, 1)
    return Thresholds(challenge=falling.best(observed, TIE), f1=falling.best(macro_f1, TIE))


@dataclass(frozen=True)
class _Falling:
    """Everything that can be decided by a threshold as it falls: nothing positive, ..., all positive; G + 1 decisions.

    order: [E] places of the E probabilities, falling; ends: [G] in `order`, the last of each of the G different ones;
    thresholds: [G + 1].
    """

    order: NDArray[np.int64]
    ends: NDArray[np.int64]
    thresholds: Floats

    @classmethod
    def of(cls, probabilities: Floats) -> _Falling:
        values = probabilities.ravel()
        order = np.argsort(-values)
        falling = values[order]
        ends = np.append(np.flatnonzero(falling[1:] < falling[:-1]), len(falling) - 1)
        upper, lower = falling[ends[:-1]], falling[ends[1:]]
        middle = (upper + lower) / 2
        middle = np.where(middle > lower, middle, upper)  # of two neighbouring floats the middle is one
        return cls(order, ends, np.concatenate([[NEVER], middle, [ALWAYS]]))

    def sums(self, gains: Gains) -> Gains:
        """Return the sum of the gains of all that is positive, at each decision [G + 1]; gains in the given shape."""
        cumulated = np.cumsum(gains.ravel()[self.order])[self.ends]
        return np.concatenate([np.zeros(1, dtype=cumulated.dtype), cumulated])

    def best(self, scores: NDArray[np.int64] | Floats, tie: float = 0.0) -> float:
        """Return the largest threshold with the highest score."""
        return float(self.thresholds[np.argmax(scores >= scores.max() - tie)])


def _check(probabilities: Floats, labels: Bools) -> None:
    if probabilities.shape != labels.shape:
        raise UsageError(f"probabilities of shape {probabilities.shape} for labels of shape {labels.shape}")
    if ((probabilities < 0) | (probabilities > 1)).any():
        raise UsageError(
            "probabilities outside [0, 1]", "Logits have to go through the logistic function first."
        )


def _usable(probabilities: Floats) -> bool:
    """Say whether there is something to choose from: probabilities, and none of them NaN."""
    return probabilities.size > 0 and not bool(np.isnan(probabilities).any())


def _hourly_gains(labels: Bools, lengths: Lengths) -> NDArray[np.int64]:
    """Return what saying 1 rather than 0 is worth in each hour [H], in 180ths of the challenge's utility."""
    rows = np.arange(len(labels)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    since = rows - np.repeat(
        onsets(labels, lengths), lengths
    )  # minus infinity without sepsis: always too early
    steps = np.clip(since, EARLIEST - 1, LATEST + 1) - (EARLIEST - 1)
    result: NDArray[np.int64] = _gains_around_onset()[steps.astype(np.int64)]
    return result


@cache
def _gains_around_onset() -> NDArray[np.int64]:
    """Return the gains at s = EARLIEST - 1, ..., LATEST + 1; they are constant before and after.

    The challenge's definition is asked: equal patients of whom each is warned in one hour, and the last one never.
    """
    hours = LATEST - EARLIEST + 3
    labels = np.tile(np.arange(hours) > OPTIMAL - EARLIEST, hours + 1)
    warned = np.eye(hours + 1, hours, dtype=np.bool_).ravel()
    worth = patient_utilities(labels, warned, np.full(hours + 1, hours))
    result: NDArray[np.int64] = np.rint(_PARTS * (worth[:-1] - worth[-1])).astype(np.int64)
    return result


def _challenge_gains(probabilities: Floats, labels: Bools) -> Floats:
    """Return the change of a recording's sum(W * A) when a class joins those of higher probability [n, C]."""
    order = np.argsort(-probabilities, axis=1)
    weights = labels @ scored_classes().weights  # [n, C]: sum of W[j, k] over the true classes j
    chosen = np.cumsum(np.take_along_axis(weights, order, 1), 1)
    either = labels.sum(axis=1, keepdims=True) + np.cumsum(np.take_along_axis(~labels, order, 1), 1)
    return _back(np.diff(chosen / np.maximum(either, 1), axis=1, prepend=0.0), order, 1)


def _f1_gains(probabilities: Floats, labels: Bools) -> tuple[Floats, NDArray[np.int64]]:
    """Return the change of a class's F1 when a recording joins those of higher probability, and of the classes [n, C].

    A class without positive labels has an F1, of 0, from its first positive decision on: it joins the mean.
    """
    order = np.argsort(-probabilities, axis=0)
    hits = np.cumsum(np.take_along_axis(labels, order, 0), 0)
    said = np.arange(1, len(labels) + 1)[:, None]
    f1 = 2 * hits / (said + labels.sum(axis=0))
    joins = np.zeros(labels.shape, dtype=np.int64)
    joins[0] = ~labels.any(axis=0)
    return _back(np.diff(f1, axis=0, prepend=0.0), order, 0), _back(joins, order, 0)


def _back(values: Gains, order: NDArray[np.int64], axis: int) -> Gains:
    """Return what was sorted along an axis in its order from before."""
    result = np.empty_like(values)
    np.put_along_axis(result, order, values, axis)
    return result
