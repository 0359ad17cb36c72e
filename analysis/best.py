"""The best configurations that were found, what their nodes reached, and what the models reach alone.

A configuration that was trained several times is ranked by the mean over its trainings: the single best training of
many is lucky as well as good. Validation errors of chosen configurations are optimistic all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdsearch.analysis.frames import (
    COMPLETE,
    PRETRAIN,
    SEARCH,
    Population,
    Value,
    configuration,
    curve_table,
)
from kdsearch.analysis.record import SweepRecord
from kdsearch.spaces import Graph

SHOWN = 3
_EQUAL = 1e-9  # per cent: two means of the same errors
_MODELS = ("model.1", "teacher")  # where a pre-training's configuration names its model
_VALIDATION_ERROR = "val_error"


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """Errors of several trainings of one thing, in per cent."""

    numbers: tuple[int, ...]
    errors: tuple[float, ...]

    @property
    def n(self) -> int:
        """Number of trainings."""
        return len(self.errors)

    @property
    def mean(self) -> float:
        """Mean error."""
        return math.fsum(self.errors) / self.n  # in whatever order: equal errors have equal means

    @property
    def spread(self) -> float | None:
        """Standard deviation (n - 1); None for a single training."""
        return float(np.std(self.errors, ddof=1)) if self.n > 1 else None

    @property
    def best(self) -> tuple[int, float]:
        """Trial and error of the best training; the lowest number among equals."""
        return min(zip(self.numbers, self.errors, strict=True), key=lambda pair: (pair[1], pair[0]))


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A model trained on the labels alone (the paper's Table I)."""

    model: str
    trainings: Trainings


@dataclass(frozen=True, kw_only=True)
class BestConfiguration:
    """One configuration at the top of its space."""

    rank: int  # counts from 1
    space: str | None  # None: ranked among all trials
    configuration: Mapping[str, Value]
    trainings: Trainings
    graph: Graph | None  # None where the space is no KTG
    accuracies: Mapping[int, float]  # node -> accuracy in per cent, mean over the trainings
    all_through: Trainings | None  # the same graph with every edge through, if it was trained too


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Configurations by the mean error over their trainings, and how far that tells them apart."""

    top: tuple[BestConfiguration, ...]
    ranked: int  # configurations that were compared
    standard_error: float | None  # of a mean, from the spread within all of them; None without repetitions
    close: int  # further configurations whose mean is at most this far above the lowest, or equal to it


def baselines(trials: pd.DataFrame) -> tuple[Baseline, ...]:
    """Complete pre-trainings by model, in the order of their numbers."""
    alone = trials[(trials["role"] == PRETRAIN) & (trials["state"] == COMPLETE) & trials["error"].notna()]
    return tuple(
        Baseline(model=str(model), trainings=_trainings(part))
        for column in _MODELS
        if column in alone
        for model, part in alone.groupby(column, sort=False)
    )


def ranking(
    record: SweepRecord, trials: pd.DataFrame, parameters: Sequence[str], populations: Sequence[Population]
) -> Ranking:
    """Rank the configurations of the last space that has complete trials, else of all trials of the search.

    By the mean error over trainings; among equals by the best single training, then by the lowest trial number.
    """
    searched = trials[(trials["role"] == SEARCH) & trials["error"].notna()]
    searched = searched[searched["state"] != "stopped"]
    home, candidates, needed = _candidates(searched, populations)
    if not (candidates["state"] == COMPLETE).any():
        return Ranking(top=(), ranked=0, standard_error=None, close=0)
    by_key = _by_configuration(candidates, parameters)
    needed = min(needed, max(part.n for _, part in by_key.values()))
    ranked = sorted(
        ((config, part) for config, part in by_key.values() if part.n >= needed),
        key=lambda pair: (pair[1].mean, pair[1].best[1], min(pair[1].numbers)),
    )
    everything = _by_configuration(searched, parameters)
    target = _target(record, home)
    alone = {one.model: one.trainings.mean for one in baselines(trials)}
    top = tuple(
        BestConfiguration(
            rank=rank,
            space=home,
            configuration=config,
            trainings=part,
            graph=(graph := _graph(config, target)),
            accuracies=_accuracies(record, graph, part, alone) if graph else {},
            all_through=_all_through(graph, everything),
        )
        for rank, (config, part) in enumerate(ranked[:SHOWN], start=1)
    )
    trained = [part for _, part in ranked]
    error = _standard_error(trained)
    limit = trained[0].mean + (error or 0.0) + _EQUAL
    close = sum(part.mean <= limit for part in trained[1:])
    return Ranking(top=top, ranked=len(ranked), standard_error=error, close=close)


def _standard_error(trained: Sequence[Trainings]) -> float | None:
    """Of the first one's mean, by the variance within all of them: that of its own few trainings says little."""
    squares = math.fsum((part.n - 1) * part.spread**2 for part in trained if part.spread is not None)
    freedom = sum(part.n - 1 for part in trained)
    return math.sqrt(squares / freedom / trained[0].n) if freedom else None


def _candidates(
    searched: pd.DataFrame, populations: Sequence[Population]
) -> tuple[str | None, pd.DataFrame, int]:
    """The space whose trials are ranked, these trials, and the trainings that a configuration must have."""
    for drawn in reversed(populations):
        inside = searched[searched["number"].isin([*drawn.numbers, *drawn.late])]
        if (inside["state"] == COMPLETE).any():
            return drawn.space.name, inside, drawn.space.repeats if drawn.space.exhaustive else 1
    return None, searched, 1


def _by_configuration(
    trials: pd.DataFrame, parameters: Sequence[str]
) -> dict[frozenset[tuple[str, Value]], tuple[dict[str, Value], Trainings]]:
    rows = trials[list(parameters)].to_dict("records")
    ends = zip(trials["number"].tolist(), trials["error"].tolist(), strict=True)
    found: dict[frozenset[tuple[str, Value]], tuple[dict[str, Value], list[tuple[int, float]]]] = {}
    for row, end in zip(rows, ends, strict=True):
        config = configuration(row, parameters)
        found.setdefault(frozenset(config.items()), (config, []))[1].append(end)
    return {  # no frame of each: there may be as many configurations as trials
        key: (config, Trainings(numbers=tuple(n for n, _ in part), errors=tuple(e for _, e in part)))
        for key, (config, part) in found.items()
    }


def _trainings(trials: pd.DataFrame) -> Trainings:
    return Trainings(
        numbers=tuple(int(number) for number in trials["number"]),
        errors=tuple(float(error) for error in trials["error"]),
    )


def _target(record: SweepRecord, home: str | None) -> str | None:
    """The target's architecture, if the space is a KTG."""
    specs = [space.spec for space in record.spaces if home in (None, space.name)]
    if not specs or specs[-1].get("kind") != "ktg":
        return None
    return str(specs[-1]["target"])


def _graph(config: Mapping[str, Value], target: str | None) -> Graph | None:
    return Graph.from_configuration(config, target) if target is not None else None


def _all_through(
    graph: Graph | None, everything: Mapping[frozenset[tuple[str, Value]], tuple[dict[str, Value], Trainings]]
) -> Trainings | None:
    if graph is None:
        return None
    found = everything.get(frozenset(graph.all_through().to_configuration().items()))
    return found[1] if found else None


def _accuracies(
    record: SweepRecord, graph: Graph, part: Trainings, alone: Mapping[str, float]
) -> dict[int, float]:
    """Accuracy of each node at the last epoch, mean over trainings.

    The target's is what the ranking says; a frozen teacher without a curve has that of its model alone.
    """
    found = {
        node: 100.0 - alone[graph.models[node - 1]]
        for node in graph.frozen_nodes()
        if graph.models[node - 1] in alone
    }
    curves = curve_table(record, part.numbers, _VALIDATION_ERROR)
    last = curves[curves["node"] > 0].groupby(["trial", "node"])["value"].last()
    for node, error in last.groupby(level="node").mean().items():
        found[int(str(node))] = 100.0 - float(error)
    found[1] = 100.0 - part.mean
    return found
