"""Scores of the PhysioNet/Computing in Cardiology Challenge 2021: diagnoses of electrocardiograms.

Source: Reyna et al., "Will Two Do? Varying Dimensions in Electrocardiography: The PhysioNet/Computing in Cardiology
Challenge 2021", Computing in Cardiology 48 (2021), and the definition of the official scorer, evaluate_model. The table
of weights and the names of the classes are the challenge's (`tables/physionet2021`, BSD 2-Clause, source in SOURCE.md).

Labels and outputs are [n, C] booleans, n recordings by C scored classes in the order of the table. A class may stand
for several SNOMED CT codes, which count as equal; the table joins them by `|`.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.scores.ranking import Bools, Floats, auprc, auroc, defined_mean

NORMAL_CODE: Final = "426783006"  # normal sinus rhythm, what the inactive model says of every recording
_TABLES: Final = "tables/physionet2021"


@dataclass(frozen=True)
class ScoredClasses:
    """Classes that are scored, and what each is worth for another.

    names: C, equal codes joined by `|`; abbreviations: C, joined likewise; weights: [C, C], true class by chosen class,
    symmetric, ones on the diagonal.
    """

    names: tuple[str, ...]
    abbreviations: tuple[str, ...]
    weights: Floats

    @cached_property
    def index(self) -> Mapping[str, int]:
        """The number of the class, from 0, that each code belongs to."""
        return MappingProxyType({code: k for k, name in enumerate(self.names) for code in name.split("|")})

    @property
    def normal(self) -> int:
        """The number of the class of normal sinus rhythm."""
        return self.index[NORMAL_CODE]

    def matrix(self, codes: Sequence[Collection[str]]) -> Bools:
        """Return the classes [n, C] of n recordings given by their codes; codes that are not scored are left out."""
        result = np.zeros((len(codes), len(self.names)), dtype=np.bool_)
        for row, found in zip(result, codes, strict=True):
            for code in found:
                if code in self.index:
                    row[self.index[code]] = True
        return result


@cache
def scored_classes() -> ScoredClasses:
    """Return the challenge's 26 classes of 30 codes, with its table of weights."""
    rows = list(csv.reader(_text("weights.csv").splitlines()))
    names, values = tuple(rows[0][1:]), rows[1:]
    if tuple(row[0] for row in values) != names:
        raise UsageError("the table of weights has other rows than columns")
    weights = np.array([[float(cell) for cell in row[1:]] for row in values])
    weights.flags.writeable = False
    short = {
        row["SNOMEDCTCode"]: row["Abbreviation"]
        for row in csv.DictReader(_text("dx_mapping_scored.csv").splitlines())
    }
    return ScoredClasses(
        names, tuple("|".join(short[code] for code in name.split("|")) for name in names), weights
    )


@dataclass(frozen=True)
class Recordings:
    """Labels and outputs of recordings.

    names: n; labels and binary: [n, C]; scalar: [n, C], finite.

    Raises:
        UsageError: the shapes do not agree, or a scalar output is not finite.

    """

    names: tuple[str, ...]
    labels: Bools
    binary: Bools
    scalar: Floats

    def __post_init__(self) -> None:
        wanted = (len(self.names), len(scored_classes().names))
        for name in ("labels", "binary", "scalar"):
            shape = getattr(self, name).shape
            if shape != wanted:
                raise UsageError(
                    f"{name} of shape {shape}, not {wanted}: recordings by the challenge's scored classes"
                )
        if not np.isfinite(self.scalar).all():
            raise UsageError("scalar outputs hold NaN or infinite values")


@dataclass(frozen=True)
class Scores2021:
    """Scores of recordings, as fractions; NaN where one is not defined. Arrays are by class [C]."""

    recordings: int
    challenge_metric: float
    accuracy: float
    f1: Floats
    auroc: Floats
    auprc: Floats
    positives: tuple[int, ...]
    predicted: tuple[int, ...]

    @property
    def macro_f1(self) -> float:
        """Mean of `f1` over the classes that have a positive label or output."""
        return defined_mean(self.f1)

    @property
    def macro_auroc(self) -> float:
        """Mean of `auroc` over the classes that have positive and negative labels."""
        return defined_mean(self.auroc)

    @property
    def macro_auprc(self) -> float:
        """Mean of `auprc` over the classes that have a positive label."""
        return defined_mean(self.auprc)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain data, with each class."""
        classes = scored_classes()
        columns = zip(
            classes.names,
            classes.abbreviations,
            self.positives,
            self.predicted,
            self.f1.tolist(),
            self.auroc.tolist(),
            self.auprc.tolist(),
            strict=True,
        )
        keys = ("codes", "abbreviation", "positives", "predicted", "f1", "auroc", "auprc")
        return {
            "recordings": self.recordings,
            "scores": {
                "challenge_metric": self.challenge_metric,
                "macro_f1": self.macro_f1,
                "auroc": self.macro_auroc,
                "auprc": self.macro_auprc,
                "accuracy": self.accuracy,
            },
            "classes": [dict(zip(keys, column, strict=True)) for column in columns],
        }


def score(recordings: Recordings) -> Scores2021:
    """Return all scores of recordings; accuracy is the share of recordings of which every class is right."""
    labels, binary, scalar = recordings.labels, recordings.binary, recordings.scalar
    classes = range(labels.shape[1])
    return Scores2021(
        recordings=len(labels),
        challenge_metric=challenge_metric(labels, binary),
        accuracy=float((labels == binary).all(axis=1).mean()) if len(labels) else float("nan"),
        f1=f1_by_class(labels, binary),
        auroc=np.array([auroc(labels[:, k], scalar[:, k]) for k in classes]),
        auprc=np.array([auprc(labels[:, k], scalar[:, k]) for k in classes]),
        positives=tuple(labels.sum(axis=0).tolist()),
        predicted=tuple(binary.sum(axis=0).tolist()),
    )


def challenge_metric(labels: Bools, outputs: Bools, classes: ScoredClasses | None = None) -> float:
    """Return (observed - inactive) / (correct - inactive): 1 for right outputs, 0 for normal sinus rhythm everywhere.

    It can be below 0. Labels and outputs: [n, C] in the order of `classes`, the challenge's by default. 0 if the
    denominator is 0, that is if no recording has another scored class than normal sinus rhythm.
    """
    known = classes or scored_classes()
    inactive = np.zeros_like(labels)
    inactive[:, known.normal] = True
    observed, correct, nothing = (_weighted(known, labels, chosen) for chosen in (outputs, labels, inactive))
    return (observed - nothing) / (correct - nothing) if correct != nothing else 0.0


def f1_by_class(labels: Bools, outputs: Bools) -> Floats:
    """Return 2 TP / (2 TP + FP + FN) of each class [C]; NaN for one without any positive label or output."""
    both = 2.0 * (labels & outputs).sum(axis=0)
    either = labels.sum(axis=0) + outputs.sum(axis=0)
    return np.where(either > 0, both / np.maximum(either, 1), np.nan)


def _weighted(classes: ScoredClasses, labels: Bools, outputs: Bools) -> float:
    """Return sum(W * A), A[j, k] = sum of 1 / max(|true or chosen|, 1) over recordings with j true and k chosen."""
    share = 1.0 / np.maximum((labels | outputs).sum(axis=1), 1)
    A = (labels * share[:, None]).T @ outputs.astype(np.float64)
    return float((classes.weights * A).sum())


def _text(name: str) -> str:
    return (files("kdsearch.trainables.scores") / _TABLES / name).read_text(encoding="utf-8")
