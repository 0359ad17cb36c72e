"""Which trials may speak for a space, with which weight, and what a trial without a result counts as.

Only trials with a known inclusion probability belong in an EDF: full-budget random draws (weight 1), full
enumeration (weight 1 for each encoding), or trials promoted at random (weight 1/p). Everything here that is
averaged with such weights is the Hájek estimate, sum w y / sum w (Hájek 1971): a mean of the trials at hand,
so an EDF still ends at 1. The Horvitz-Thompson estimate, sum w y / (number of draws), is exactly unbiased but
need not end at 1.

Diverged and failed runs are real draws from the population: they get an error and a count, and are never
dropped. Degenerate graphs are no matter of results: a constraint keeps them out of the space.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdsearch.analysis.samples import Floats, StatisticsError
from kdsearch.spaces.errors import UnknownNameError

_SHOWN = 5  # trial numbers named in a refusal


class PopulationError(StatisticsError):
    """Trials that cannot speak for their space, because their chance of being included is unknown."""


class Proposal(StrEnum):
    """What proposed a configuration."""

    RANDOM = "random"  # uniform over the space, also after a restriction (stepwise refinement)
    ENUMERATION = "enumeration"  # every configuration of the space
    TPE = "tpe"
    QMC = "qmc"  # quasi-random points
    CMA_ES = "cma-es"
    GRADIENT = "gradient"
    PERSON = "person"
    OTHER = "other"  # a searcher of another package
    UNKNOWN = "unknown"  # nobody said how: trials from elsewhere


class Schedule(StrEnum):
    """What decided how long a trial ran."""

    FULL_BUDGET = "full-budget"
    ASHA = "asha"
    RANDOM_PROMOTION = "random-promotion"  # promoted with a known probability


_REFUSED: Mapping[str, str] = {
    Proposal.TPE: "TPE proposes where errors were low before, so its trials show its taste and not the space",
    Proposal.QMC: "quasi-random points depend on one another, as each fills what earlier ones left open: they cover "
    "the space evenly, but bands, intervals and tests are those of independent draws",
    Proposal.CMA_ES: "CMA-ES moves where errors were low before, so its trials show its path and not the space",
    Proposal.GRADIENT: "gradient steps walk downhill, so their trials show the descent and not the space",
    Proposal.PERSON: "a person chose them, with a chance that nobody knows",
    Proposal.OTHER: "a searcher of another package proposed them, with a chance that is not known here",
    Proposal.UNKNOWN: "nobody said how their configurations were chosen, so whether they are a random sample of the "
    "space is unknown",
    Schedule.ASHA: "ASHA trains to the end only what led early on, so its survivors look better than the "
    "space; the last errors of stopped trials look worse, and Kaplan-Meier does not help, because the stopping "
    "depends on the error",
}
_REMEDY = (
    "An EDF takes full-budget random draws, a full enumeration, or trials promoted at random with a known "
    "probability. Draw some with `searcher: {kind: random, trials: N}`."
)


@dataclass(frozen=True, kw_only=True)
class TrialDesign:
    """How a trial came to be in the sample."""

    number: int
    proposal: Proposal
    schedule: Schedule = Schedule.FULL_BUDGET
    probability: float = (
        1.0  # of reaching the full budget, the product over rungs; 1 unless promoted at random
    )


_Name = TypeVar("_Name", bound=StrEnum)


def _known(kind: str, names: type[_Name], name: str) -> _Name:
    try:
        return names(name)
    except ValueError:
        raise UnknownNameError(kind, name, [str(n) for n in names]) from None


def _refusals(designs: Sequence[TrialDesign]) -> dict[str, list[int]]:
    refused: dict[str, list[int]] = {}
    for design in designs:
        for name in (
            _known("proposal", Proposal, design.proposal),
            _known("schedule", Schedule, design.schedule),
        ):
            if name in _REFUSED:
                refused.setdefault(_REFUSED[name], []).append(design.number)
    return refused


def require_known_inclusion(designs: Sequence[TrialDesign]) -> Floats:
    """Return the weight 1/p of each trial, [n], if all trials have a known inclusion probability.

    Multiply with the number of draws that each trial answers. Raises PopulationError, saying which trials and
    why, if any was proposed by TPE, by gradient or by a person, or was subject to ASHA, or has a probability
    outside (0, 1] or, without random promotion, other than 1.
    """
    refused = _refusals(designs)
    if refused:
        lines = [
            f"{len(numbers)} of {len(designs)} trials ({_some(numbers)}) do not belong in an EDF: {why}."
            for why, numbers in refused.items()
        ]
        raise PopulationError("\n".join(lines), _REMEDY)
    for design in designs:
        certain = design.schedule != Schedule.RANDOM_PROMOTION
        if not 0 < design.probability <= 1 or (certain and design.probability != 1):
            raise PopulationError(
                f"trial {design.number} ({design.proposal}, {design.schedule}) has inclusion probability "
                f"{design.probability:g}",
                "It must lie in (0, 1], and be 1 unless the trial was promoted at random.",
            )
    return 1.0 / np.array([design.probability for design in designs], dtype=np.float64)


def _some(numbers: Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:_SHOWN])
    return f"{shown}, ..." if len(numbers) > _SHOWN else shown


_FAILED = ("diverged", "failed")
_OPEN = ("waiting", "running", "paused", "stopped", "lost")


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The errors that trials count with."""

    errors: Floats  # per cent, of the finished trials, [k]
    finished: NDArray[np.bool_]  # which of the trials given these are, [n]
    counts: Mapping[str, int]  # trials in each state that occurs
    failure_error: float  # what a diverged or failed trial counts with

    @property
    def failures(self) -> int:
        """Trials that count with `failure_error`."""
        return sum(self.counts.get(state, 0) for state in _FAILED)

    def __str__(self) -> str:
        parts = ", ".join(f"{count} {state}" for state, count in self.counts.items())
        note = f"; diverged and failed trials count as {self.failure_error:g} %" if self.failures else ""
        return f"{parts or 'no trials'}{note}"


def chance_error(classes: int) -> float:
    """Return the error in per cent of guessing among equally frequent classes."""
    if classes < 1:
        raise StatisticsError(f"there is no guessing among {classes} classes")
    return 100 * (1 - 1 / classes)


def count_outcomes(states: Sequence[str], errors: ArrayLike, *, failure_error: float = 100.0) -> Outcomes:
    """Turn states [n] and errors [n] (per cent, NaN if none) into the errors that trials count with.

    complete: its error (a complete trial without a finite error counts as diverged). diverged, failed:
    `failure_error`, 100 per cent or `chance_error(classes)`, whatever was last reported. waiting, running,
    paused, lost: not finished, counted apart; they are draws yet to be answered. stopped: counted apart too; that
    such trials are no loss to the sample is for `require_known_inclusion` to say. Raises UnknownNameError for
    another state.
    """
    values = np.asarray(errors, dtype=np.float64)
    if values.shape != (len(states),):
        raise StatisticsError(f"there are {len(states)} states but errors of shape {values.shape}")
    known = ("complete", *_FAILED, *_OPEN)
    for state in states:
        if state not in known:
            raise UnknownNameError("trial state", state, known)
    told = [
        "diverged" if state == "complete" and not np.isfinite(value) else str(state)
        for state, value in zip(states, values, strict=True)
    ]
    labels = np.array(told, dtype=np.str_)
    filled = np.where(np.isin(labels, _FAILED), failure_error, values)
    finished = ~np.isin(labels, _OPEN)
    tally = Counter(told)
    counts = {state: tally[state] for state in known if tally[state]}
    return Outcomes(filled[finished], finished, counts, failure_error)
