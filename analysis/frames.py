"""Records turned into populations: which draws of a space count, and with which error.

A draw counts when its trial has an outcome. Diverged and failed trials are outcomes too and count with the error
that the sweep fixed for them (usually 100 per cent); trials that wait, run or were lost have none yet and are counted
aside. Pre-trainings never enter a population.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdsearch.analysis.population import (
    PopulationError,
    Proposal,
    TrialDesign,
    count_outcomes,
    require_known_inclusion,
)
from kdsearch.analysis.random_promotion import RandomPromotion, random_promotion
from kdsearch.analysis.record import SpaceRecord, SweepRecord
from kdsearch.analysis.sweep_kinds import CONFIRMATION
from kdsearch.spaces import DesignSpace

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Value = str | int | float | bool

TRIAL_COLUMNS = (
    "number",
    "state",
    "error",
    "orbit_size",
    "seed",
    "role",
    "best_error",
    "best_epoch",
    "last_epoch",
    "seconds",
    "attempts",
    "message",
    "started",
    "ended",
    "design",
)
PLAN_COLUMNS = ("method", "run", "final", "plan")  # what trials were told beside their configuration
DRAW_COLUMNS = ("space", "draw", "trial", "fresh")
COMPLETE = "complete"
UNLUCKY = ("diverged", "failed")  # count with the error that the sweep fixed
STOPPED = "stopped"
PAUSED = "paused"  # waits at a rung: cut off by its results as well, as long as it is not promoted
SEARCH = "search"
PRETRAIN = "pretrain"


@dataclass(frozen=True, kw_only=True, eq=False)
class Population:
    """The draws from one space that have an outcome, one entry a distinct trial, in the order of trial numbers."""

    space: SpaceRecord
    numbers: Integers  # trials, [n]
    errors: Floats  # per cent, [n]
    answers: Integers  # draws that each trial answers, [n]
    weights: Floats  # the same times 1/p where trials were promoted at random with probability p, [n]
    fresh: Integers  # those of them that were trained for this space, [n]
    states: Mapping[str, int]  # draws by the state of the trial that answers them, all draws
    refused: str | None  # why these trials are no sample of the space; then there is no EDF and no AUC
    epsilon: float = 0.0  # probability of random promotion; 0: every trial was trained in full
    late: tuple[int, ...] = ()  # trials that were trained to their end with a probability that nobody knows
    late_draws: int = 0  # draws that these answer

    @property
    def n(self) -> int:
        """Draws with an outcome."""
        return int(self.answers.sum())

    @property
    def weighted(self) -> bool:
        """Whether some trials stand for others that were stopped."""
        return bool((self.weights != self.answers).any())

    @property
    def drawn(self) -> int:
        """All draws, with or without an outcome."""
        return sum(self.states.values())

    @property
    def usable(self) -> bool:
        """Whether there is anything to estimate from."""
        return self.refused is None and self.n > 0

    def share_of(self, states: Sequence[str]) -> int:
        """Draws whose trial is in one of these states."""
        return sum(self.states.get(state, 0) for state in states)


def counted_trials(record: SweepRecord) -> pd.DataFrame:
    """All trials of a sweep by number: the report's columns, those of the plan, then one for each parameter.

    `error` is the error that a trial counts with (`population.count_outcomes`): its own where it is complete, the
    sweep's `diverged_error` where it diverged or failed, NaN where it has no final result.
    """
    trials = record.trials.reindex(columns=[*TRIAL_COLUMNS, *PLAN_COLUMNS, *parameter_columns(record)])
    trials = trials.sort_values("number", kind="stable", ignore_index=True)
    errors = pd.to_numeric(trials["error"]).to_numpy(dtype=np.float64, na_value=np.nan)
    states = [str(state) for state in trials["state"]]
    outcomes = count_outcomes(states, errors, failure_error=record.diverged_error)
    counted = np.full(len(trials), np.nan)
    counted[outcomes.finished] = outcomes.errors
    trials["error"] = counted
    return trials


def of_search(trials: pd.DataFrame) -> pd.Series[bool]:
    """Say which trials a searcher learned from or a comparison is made of: no pre-training, no confirmation."""
    return (trials["role"] == SEARCH) & ~of_confirmation(trials)


def of_confirmation(trials: pd.DataFrame) -> pd.Series[bool]:
    """Say which trials train the best configuration of a search anew, after it; their errors are test errors."""
    return trials["design"].isin([CONFIRMATION])


def parameter_columns(record: SweepRecord) -> list[str]:
    """Names of the parameters, in the order of the frame."""
    fixed = {*TRIAL_COLUMNS, *PLAN_COLUMNS}
    return [str(name) for name in record.trials.columns if name not in fixed]


def configuration(row: Mapping[Any, object], names: Sequence[str]) -> dict[str, Value]:
    """The parameters that a trial has: a row's values without the missing ones, as plain Python values."""
    found: dict[str, Value] = {}
    for name in names:
        value = row.get(name)
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, str | int | float | bool) and value == value:  # noqa: PLR0124 - NaN is not itself
            found[name] = value
    return found


def fitting(space: DesignSpace, found: dict[str, Value]) -> dict[str, Value]:
    """A configuration whose whole numbers pandas may have turned into floats, as the space wants them."""
    if found in space:
        return found
    whole = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in found.items()
    }
    return whole if whole in space else found


def population(record: SweepRecord, space: SpaceRecord, trials: pd.DataFrame) -> Population:
    """Collect the draws of one space; `trials` is what `counted_trials` returned."""
    draws = record.draws[record.draws["space"] == space.name]
    searched = trials[trials["role"] != PRETRAIN]
    joined = draws.merge(
        searched[["number", "state", "error", "design"]], left_on="trial", right_on="number", how="left"
    )
    states = joined["state"].fillna("lost").value_counts().sort_index()
    answered = joined[joined["error"].notna()]
    chance = random_promotion(record)
    known = answered if chance is None else answered[answered["number"].map(chance.probability).notna()]
    grouped = known.groupby("number").agg(
        error=("error", "first"), weight=("draw", "size"), fresh=("fresh", "sum")
    )
    answers = grouped["weight"].to_numpy(dtype=np.int64)
    stopped = _refusal(space.name, states) if chance is None else chance.unrepresented()
    return Population(
        space=space,
        numbers=grouped.index.to_numpy(dtype=np.int64),
        errors=grouped["error"].to_numpy(dtype=np.float64),
        answers=answers,
        weights=answers / _probabilities(chance, grouped.index),
        fresh=grouped["fresh"].to_numpy(dtype=np.int64),
        states={str(state): int(count) for state, count in states.items()},
        refused=unknown_inclusion(answered) or stopped,
        epsilon=0.0 if chance is None else chance.epsilon,
        late=tuple(sorted({int(number) for number in answered["number"]} - set(grouped.index))),
        late_draws=len(answered) - len(known),
    )


def _probabilities(chance: RandomPromotion | None, trials: pd.Index) -> Floats:
    """The probability that each trial was trained to its end."""
    if chance is None:
        return np.ones(len(trials))
    found = [chance.probability(int(trial)) for trial in trials]
    return np.array(found, dtype=np.float64)


def _refusal(space: str, states: pd.Series[int]) -> str | None:
    """Only draws with a known inclusion probability belong in an EDF; survivors of a scheduler have none."""
    stopped, paused = int(states.get(STOPPED, 0)), int(states.get(PAUSED, 0))
    if not stopped and not paused:
        return None
    told = {"stopped early": stopped, "paused at a rung": paused}
    became = " and ".join(f"{count:,} {what}" for what, count in told.items() if count)
    return (
        f"Of {int(states.sum()):,} draws from {space} a scheduler left {became}. Those that were left to finish were "
        "chosen by their results, so they are no sample of the space, and the others have no final error: an EDF or "
        "AUC of either would be wrong."
    )


def unknown_inclusion(answered: pd.DataFrame) -> str | None:
    """Why trials are no sample of their space, by their `design`; None if they are.

    Trials that were chosen by earlier results are none; unnamed designs are the sweep's own draws.
    """
    named = answered.dropna(subset=["design"]).drop_duplicates("number")
    designs = [
        TrialDesign(number=int(number), proposal=_proposal(str(design)))
        for number, design in zip(named["number"], named["design"], strict=True)
    ]
    try:
        require_known_inclusion(designs)
    except PopulationError as error:
        return error.message
    return None


def _proposal(design: str) -> Proposal:
    """How trials of a design were proposed; of one that is none of a search's, such as `fixed`, nobody knows."""
    return Proposal(design) if design in set(Proposal) else Proposal.UNKNOWN


def curve_table(record: SweepRecord, numbers: Sequence[int], metric: str) -> pd.DataFrame:
    """Rows of `record.curves` of some trials and one metric, by trial, node and epoch; finite values only."""
    curves = record.curves
    chosen = curves[(curves["metric"] == metric) & curves["trial"].isin(list(numbers))]
    chosen = chosen[np.isfinite(chosen["value"].to_numpy(dtype=np.float64))]
    ordered: pd.DataFrame = chosen.sort_values(["trial", "node", "epoch"], kind="stable", ignore_index=True)
    return ordered
