"""Retraining: versions of one configuration on the test part of one or several data sets, seed by seed.

The question is that of the refinement paper's Tables V and VI: is the configuration that a search chose (the subject)
better than the same graph with every edge through, and does that carry over to other data? Seed s is the same for every
version on a data set, so versions are compared in pairs (`paired`). The comparisons with one other version over all
data sets are looked at together: their p are corrected by Holm over data sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from kdsearch.analysis.best import Baseline, Trainings
from kdsearch.analysis.frames import COMPLETE, PRETRAIN, SEARCH
from kdsearch.analysis.methods import MethodComparison, MethodRow, PairedDifference, compare, possible
from kdsearch.analysis.paired import paired_table
from kdsearch.analysis.record import SweepRecord
from kdsearch.analysis.sweep_kinds import BBM, is_retraining
from kdsearch.analysis.wording import p_value, plural

OWN = ""  # the name of the data set where a sweep has no other


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrainedSet:
    """What the versions reached on the test part of one data set."""

    name: str  # OWN where there is none
    comparison: MethodComparison | None  # None before any trial has ended; its differences are not used
    differences: Mapping[str, PairedDifference]  # version -> the subject's accuracy less the version's
    teachers: tuple[Baseline, ...]  # trained beforehand on what the versions train on

    @property
    def rows(self) -> tuple[MethodRow, ...]:
        """A row for each version that has a training which ended, in the order of the sweep file."""
        return self.comparison.rows if self.comparison is not None else ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Retrained:
    """All that is said of a retraining; accuracies and differences are in per cent and points."""

    subject: str
    versions: Mapping[str, Mapping[str, Any]]  # name -> configuration
    measure: str  # what is counted: accuracy, or the score that trials are judged by
    seeds: int  # planned, of each version on each data set
    on_all: bool  # training and validation images trained together
    sets: tuple[RetrainedSet, ...]
    alpha: float
    chosen: Mapping[str, Any] | None  # sweep, trial, by, words

    @property
    def others(self) -> tuple[str, ...]:
        """The versions that the subject is compared with."""
        return tuple(name for name in self.versions if name != self.subject)


def retrained(record: SweepRecord) -> Retrained | None:
    """Return what a retraining came to; None for any other sweep."""
    if not is_retraining(record.settings):
        return None
    searcher = record.settings["searcher"]
    subject = str(searcher["subject"])
    names = [str(name) for name in searcher.get("data") or {}] or [OWN]
    parts = {name: _part(record, name) for name in names}
    found = {name: compare(part) for name, part in parts.items()}
    differences = _differences(found, subject, list(searcher["versions"]), record)
    return Retrained(
        subject=subject,
        versions={name: dict(each["configuration"]) for name, each in searcher["versions"].items()},
        measure=_measure(record),
        seeds=int(searcher["seeds"]),
        on_all=searcher.get("train_on") == "all",
        sets=tuple(
            RetrainedSet(
                name=name,
                comparison=found[name],
                differences={version: each for (home, version), each in differences.items() if home == name},
                teachers=_teachers(part.trials),
            )
            for name, part in parts.items()
        ),
        alpha=record.alpha,
        chosen=searcher.get("chosen"),
    )


def _measure(record: SweepRecord) -> str:
    """What 100 less the error is: the accuracy, or the score of block-by-block matching."""
    if record.trainable != BBM:
        return "accuracy"
    told = record.settings.get("trainable")
    objective = told.get("objective", "challenge") if isinstance(told, Mapping) else "challenge"
    return f"score ({objective})"


def _part(record: SweepRecord, name: str) -> SweepRecord:
    """The trials of one data set, as a comparison of methods with the subject for reference."""
    own = np.array([(plan or {}).get("data", OWN) == name for plan in record.trials["plan"]], dtype=np.bool_)
    trials = record.trials[own]
    searcher = record.settings["searcher"]
    methods = {"reference": searcher["subject"], "methods": searcher["versions"], "runs": searcher["seeds"]}
    return replace(
        record,
        settings={**record.settings, "searcher": methods},
        trials=trials,
        curves=record.curves[record.curves["trial"].isin(trials["number"])],
    )


def _differences(
    found: Mapping[str, MethodComparison | None],
    subject: str,
    versions: Sequence[str],
    record: SweepRecord,
) -> dict[tuple[str, str], PairedDifference]:
    """The subject less each other version by (data set, version), corrected over the data sets of that version."""
    told: dict[tuple[str, str], PairedDifference] = {}
    for version in versions:
        pairs = {}
        for name, comparison in found.items():
            rows = {row.name: row for row in comparison.rows} if comparison is not None else {}
            if version != subject and version in rows and subject in rows:
                common = _common(rows[subject], rows[version])
                if common[0]:
                    pairs[name] = common
        table = paired_table(list(pairs.values()), alpha=record.alpha, seed=record.seed)
        for name, difference in zip(pairs, table, strict=True):
            told[name, version] = possible(difference)
    return told


def _common(subject: MethodRow, other: MethodRow) -> tuple[list[float], list[float]]:
    """The accuracies of the seeds that both have finished."""
    first = dict(zip(subject.numbers, subject.accuracies.tolist(), strict=True))
    second = dict(zip(other.numbers, other.accuracies.tolist(), strict=True))
    seeds = sorted(first.keys() & second.keys())
    return [first[seed] for seed in seeds], [second[seed] for seed in seeds]


def _teachers(trials: pd.DataFrame) -> tuple[Baseline, ...]:
    """Pre-trainings of a data set, by model."""
    alone = trials[(trials["role"] == PRETRAIN) & (trials["state"] == COMPLETE) & trials["error"].notna()]
    columns = [column for column in ("model.1", "teacher") if column in alone]
    return tuple(
        Baseline(
            model=str(row[column]),
            trainings=Trainings(numbers=(int(row["number"]),), errors=(float(row["error"]),)),
        )
        for row in alone.to_dict("records")
        for column in columns
        if isinstance(row[column], str)
    )


def open_trials(record: SweepRecord) -> int:
    """Trials of a retraining that have no outcome yet."""
    ended = record.trials["state"].isin(["complete", "diverged", "failed"])
    return int(((record.trials["role"] == SEARCH) & ~ended).sum())


def cannot_decide(found: Retrained) -> str:
    """Why no difference can be decided, whatever the trainings show; nothing where one can."""
    return undecidable(found.seeds, len(found.sets), found.alpha) if found.others else ""


def undecidable(seeds: int, sets: int, alpha: float) -> str:
    """Why so few seeds cannot decide a difference at alpha on any of so many data sets; nothing where they can.

    Of the 2^n sign flips of n pairs two at least are as extreme as what was seen, and Holm multiplies the least p by
    the number of data sets.
    """
    if seeds < 2:  # noqa: PLR2004 - a spread needs two
        return "With one seed there is no standard deviation and no test: nothing can be decided."
    least = min(1.0, sets * 2.0 ** (1 - seeds))
    if least <= alpha:
        return ""
    enough = next(n for n in range(2, 1100) if sets * 2.0 ** (1 - n) <= alpha)
    over = f" after Holm over {plural(sets, 'data set')}" if sets > 1 else ""
    return (
        f"With {plural(seeds, 'seed')} the exact sign-flip test cannot decide anything: its least p is "
        f"{p_value(least)}{over}, above {alpha:g}. {enough} seeds could."
    )
