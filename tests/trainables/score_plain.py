"""The challenges' scores as one would first write them down: loops over patients, hours, recordings and classes.

Written from the definitions in the challenges' papers; nothing is shared with the program.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def plain_utility(labels: Sequence[int], predictions: Sequence[int]) -> float:
    """Return the utility of one patient, not normalised."""
    septic = any(labels)
    onset = list(labels).index(1) + 6 if septic else None
    total = 0.0
    for hour, said in enumerate(predictions):
        if onset is None:
            total += -0.05 if said else 0.0
            continue
        s = hour - onset
        if s > 3:
            continue
        if said:
            total += max(s / 6 + 2, -0.05) if s <= -6 else -s / 9 + 1 / 3
        else:
            total += 0.0 if s <= -6 else -2 * s / 9 - 4 / 3
    return total


def plain_normalised(patients: Sequence[tuple[Sequence[int], Sequence[int]]]) -> float:
    """Return (observed - inaction) / (best - inaction); patients: labels and predictions of each."""
    observed = best = inaction = 0.0
    for labels, predictions in patients:
        ideal = [0] * len(labels)
        if any(labels):
            onset = list(labels).index(1) + 6
            for hour in range(max(0, onset - 12), min(onset + 3, len(labels) - 1) + 1):
                ideal[hour] = 1
        observed += plain_utility(labels, predictions)
        best += plain_utility(labels, ideal)
        inaction += plain_utility(labels, [0] * len(labels))
    return (observed - inaction) / (best - inaction) if best != inaction else math.nan


def plain_f1(labels: Sequence[int], predictions: Sequence[int]) -> float | None:
    """Return F1, or None if there is nothing positive."""
    pairs = list(zip(labels, predictions, strict=True))
    hits, false, missed = (pairs.count(kind) for kind in ((1, 1), (0, 1), (1, 0)))
    return 2 * hits / (2 * hits + false + missed) if hits + false + missed else None


def plain_challenge_metric(
    weights: Sequence[Sequence[float]],
    labels: Sequence[Sequence[int]],
    outputs: Sequence[Sequence[int]],
    normal: int,
) -> float:
    """Return the challenge metric of 2021; labels and outputs: recordings by classes."""

    def weighted(chosen: Sequence[Sequence[int]]) -> float:
        total = 0.0
        for true, said in zip(labels, chosen, strict=True):
            either = sum(1 for a, b in zip(true, said, strict=True) if a or b)
            for j, is_true in enumerate(true):
                for k, is_said in enumerate(said):
                    if is_true and is_said:
                        total += weights[j][k] / max(either, 1)
        return total

    inactive = weighted([[int(k == normal) for k in range(len(row))] for row in labels])
    correct = weighted(labels)
    return (weighted(outputs) - inactive) / (correct - inactive) if correct != inactive else 0.0


def plain_auroc(labels: Sequence[int], scores: Sequence[float]) -> float:
    """Return the chance that a positive stands above a negative, ties counted half."""
    positive = [s for label, s in zip(labels, scores, strict=True) if label]
    negative = [s for label, s in zip(labels, scores, strict=True) if not label]
    if not positive or not negative:
        return math.nan
    wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    return wins / (len(positive) * len(negative))


def plain_auprc(labels: Sequence[int], scores: Sequence[float]) -> float:
    """Return the sum over falling thresholds of (rise of recall) x (precision there)."""
    if not any(labels):
        return math.nan
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [label for label, s in zip(labels, scores, strict=True) if s >= threshold]
        now = sum(taken) / sum(labels)
        area += (now - recall) * sum(taken) / len(taken)
        recall = now
    return area
