"""What a record says, worked out once: the page, the figures and the CSV files are all rendered from these values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdsearch.analysis.auc import auc
from kdsearch.analysis.best import Baseline, BestConfiguration, Ranking, baselines, ranking
from kdsearch.analysis.best_of_n import expected_best
from kdsearch.analysis.conditions import ConditionRow, condition_table
from kdsearch.analysis.confirmation import Confirmation, confirmation
from kdsearch.analysis.confirmed import Confirmed, confirmed
from kdsearch.analysis.edf import Band, Edf, edf, edf_band
from kdsearch.analysis.frames import (
    COMPLETE,
    Floats,
    Population,
    configuration,
    counted_trials,
    fitting,
    of_confirmation,
    of_search,
    parameter_columns,
    population,
)
from kdsearch.analysis.intervals import Interval, auc_interval
from kdsearch.analysis.methods import MethodComparison, Trajectory, compare, trajectories
from kdsearch.analysis.random_promotion import LEAST_SPARED
from kdsearch.analysis.record import DecisionRecord, SpaceRecord, SweepRecord
from kdsearch.analysis.retrained import OWN, Retrained, retrained
from kdsearch.analysis.sweep_kinds import COMPARISONS, is_retraining
from kdsearch.spaces import DesignSpace, space_from_spec

FIGURE_CONDITIONS = 8  # conditions of a group that one figure can hold
_SAME = 1e-9  # per cent: two AUCs of the same trials


@dataclass(frozen=True, kw_only=True, eq=False)
class LowestError:
    """Lowest error in per cent after 1, 2, ... draws, over all orders of the draws that were made; arrays [n]."""

    space: str
    mean: Floats
    spread: Floats  # standard deviation
    best: float  # of all draws

    @property
    def n(self) -> int:
        """Draws that were made."""
        return len(self.mean)

    def draws_to_reach(self, error: float) -> int | None:
        """Fewest draws whose mean lowest error is `error` or less; None if that is never so."""
        reached = np.flatnonzero(self.mean <= error + _SAME)
        return int(reached[0]) + 1 if reached.size else None


@dataclass(frozen=True, kw_only=True, eq=False)
class SpaceResult:
    """One space of a sweep with everything that is estimated from its draws; AUC in per cent."""

    record: SpaceRecord
    space: DesignSpace
    population: Population
    labels: Mapping[str, Sequence[str]]  # group -> label of each trial of the population
    curve: Edf | None
    band: Band | None
    auc: float | None
    interval: Interval | None
    conditions: tuple[ConditionRow, ...]
    from_decision: bool  # the conditions are those that were stored with the decision
    decision: DecisionRecord | None  # the last one about this space
    confirmation: Confirmation | None  # of the decision that led into this space

    @property
    def name(self) -> str:
        """The space's letter."""
        return self.record.name

    def chosen(self, row: ConditionRow) -> bool:
        """Whether this condition was the one that was fixed."""
        made = self.decision
        return made is not None and (made.group, made.value) == (row.group, row.value)

    def outstanding(self, group: str) -> tuple[ConditionRow, ...]:
        """The conditions of a group that a figure shows, in their order: all of a few, else the best and the worst.

        The condition that was fixed is always one of them. Conditions without draws are not counted.
        """
        rows = [row for row in self.conditions if row.group == group and row.n]
        if len(rows) <= FIGURE_CONDITIONS:
            return tuple(rows)
        ranked = sorted(rows, key=lambda row: -(row.auc or 0.0))
        half = FIGURE_CONDITIONS // 2
        shown = ranked[:half] + ranked[-half:]
        fixed = [row for row in ranked[half:-half] if self.chosen(row)]
        if fixed:
            shown[half:] = [*fixed, *shown[half + len(fixed) :]]
        return tuple(row for row in rows if row in shown)


@dataclass(frozen=True, kw_only=True, eq=False)
class SweepResult:
    """One sweep."""

    record: SweepRecord
    trials: pd.DataFrame
    parameters: tuple[str, ...]
    spaces: tuple[SpaceResult, ...]
    baselines: tuple[Baseline, ...]
    ranking: Ranking
    lowest: tuple[
        LowestError, ...
    ]  # for the first and the last space; none where trials stand for stopped ones
    compares: bool = False  # the sweep compares methods; then nothing is estimated of its space
    methods: MethodComparison | None = None  # None too where no run of any method is known yet
    trajectories: tuple[Trajectory, ...] = ()  # of the metaparameters that gradient searchers moved
    confirmed: Confirmed | None = None  # the best configuration, trained anew after the search
    retrained: Retrained | None = None  # of a retraining; then nothing was searched

    @property
    def best(self) -> tuple[BestConfiguration, ...]:
        """The best few configurations."""
        return self.ranking.top

    @property
    def error(self) -> str:
        """What a trial's error is called: of which part it is, is not known of trials that were run elsewhere."""
        return "error" if self.record.imported else "validation error"

    @property
    def lowest_single(self) -> tuple[int, float] | None:
        """Trial and error of the best training of the search; the lowest number among equals."""
        done = self.searched[self.searched["state"] == COMPLETE].dropna(subset="error")
        if done.empty:
            return None
        error = float(done["error"].min())
        return int(done.loc[done["error"] == error, "number"].min()), error

    @property
    def searched(self) -> pd.DataFrame:
        """Trials that are no pre-training, and that confirm no best configuration: those count for the search."""
        return self.trials[of_search(self.trials)]

    @property
    def estimated(self) -> tuple[SpaceResult, ...]:
        """Spaces that have an EDF."""
        return tuple(space for space in self.spaces if space.curve is not None)


def analyse(record: SweepRecord) -> SweepResult:
    """Work out everything that a report says about one sweep. The same record always gives the same values."""
    if is_retraining(record.settings) or compares_methods(record):
        return _compared(record)
    trials = counted_trials(record)
    parameters = tuple(parameter_columns(record))
    found = trials[~of_confirmation(trials)]
    spaces: list[SpaceResult] = []
    for space in record.spaces:
        spaces.append(_space_result(record, space, trials, parameters, before=spaces))
    estimated = [space for space in spaces if space.curve is not None]
    ends = estimated[:1] + estimated[-1:] if len(estimated) > 1 else estimated
    return SweepResult(
        record=record,
        trials=trials,
        parameters=parameters,
        spaces=tuple(spaces),
        baselines=baselines(trials),
        ranking=ranking(record, found, parameters, [space.population for space in spaces]),
        lowest=() if any(space.population.weighted for space in ends) else tuple(map(_lowest, ends)),
        trajectories=trajectories(found[of_search(found)], record.curves),
        confirmed=confirmed(trials, parameters, diverged_error=record.diverged_error),
    )


def compares_methods(record: SweepRecord) -> bool:
    """Whether a sweep compares methods: its searcher says so, since trials that confirm a search have a method too.

    Where the settings name no searcher, trials say it that have a method and confirm nothing.
    """
    searcher = record.settings.get("searcher")
    if isinstance(searcher, Mapping) and "kind" in searcher:
        return searcher["kind"] in COMPARISONS
    trials = record.trials.reindex(columns=["method", "design"])
    return bool((trials["method"].notna() & ~of_confirmation(trials)).any())


def _compared(record: SweepRecord) -> SweepResult:
    """A comparison of methods. Its trials are no sample of its space, and have errors on two splits: no ranking."""
    trials = counted_trials(record)
    parameters = tuple(parameter_columns(record))
    apart = replace(record, draws=record.draws.iloc[:0])
    again = retrained(record)
    found = compare(record) if again is None else None
    if again is not None:
        trials["data"] = [(plan or {}).get("data", OWN) for plan in trials["plan"]]
    return SweepResult(
        record=record,
        trials=trials,
        parameters=parameters,
        spaces=tuple(_space_result(apart, space, trials, parameters, before=()) for space in record.spaces),
        baselines=baselines(trials),
        ranking=Ranking(top=(), ranked=0, standard_error=None, close=0),
        lowest=(),
        compares=True,
        methods=found,
        trajectories=found.trajectories if found is not None else _trajectories(again),
        retrained=again,
    )


def _trajectories(again: Retrained | None) -> tuple[Trajectory, ...]:
    """Paths of metaparameters in a retraining, of the first data set where one has some."""
    found = [part.comparison.trajectories for part in (again.sets if again else ()) if part.comparison]
    return next((each for each in found if each), ())


def _space_result(
    record: SweepRecord,
    space: SpaceRecord,
    trials: pd.DataFrame,
    parameters: Sequence[str],
    *,
    before: Sequence[SpaceResult],
) -> SpaceResult:
    index = len(before)
    design = space_from_spec(space.spec, name=space.name)
    drawn = population(record, space, trials)
    labels = _labels(design, drawn, trials, parameters)
    decision = next((made for made in reversed(record.decisions) if made.space == space.name), None)
    conditions, from_decision = _conditions(record, design, drawn, labels, decision=decision, index=index)
    usable = drawn.usable
    curve = replace(edf(drawn.errors, drawn.weights), n=drawn.n) if usable else None
    return SpaceResult(
        record=space,
        space=design,
        population=drawn,
        labels=labels,
        curve=curve,
        band=edf_band(curve, record.alpha) if curve is not None else None,
        auc=_auc(record, drawn.errors, drawn.weights) if usable else None,
        interval=_interval(record, drawn.errors, drawn.weights, (index, 0)) if usable else None,
        conditions=conditions,
        from_decision=from_decision,
        decision=decision,
        confirmation=_confirmation(record, space, drawn, before),
    )


def _auc(record: SweepRecord, errors: Floats, weights: np.ndarray) -> float:
    return auc(errors, weights, a=record.a, tau=record.tau)


def _interval(
    record: SweepRecord, errors: Floats, weights: np.ndarray, key: tuple[int, int]
) -> Interval | None:
    """The interval of an AUC; None where the trials leave no spread to judge by: one alone, or all alike."""
    if len(errors) < 2 or np.ptp(errors) == 0:  # noqa: PLR2004 - a spread needs two
        return None
    rng = np.random.default_rng([record.seed, *key])
    return auc_interval(errors, weights, a=record.a, tau=record.tau, alpha=record.alpha, rng=rng)


def _labels(
    space: DesignSpace, drawn: Population, trials: pd.DataFrame, parameters: Sequence[str]
) -> dict[str, list[str]]:
    """Each group's value in each trial of the population."""
    rows = trials.set_index("number").loc[drawn.numbers, list(parameters)].to_dict("records")
    configurations = [fitting(space, configuration(row, space.parameter_names)) for row in rows]
    return {group.name: [group.value_of(one) for one in configurations] for group in space.groups()}


def _conditions(
    record: SweepRecord,
    space: DesignSpace,
    drawn: Population,
    labels: Mapping[str, Sequence[str]],
    *,
    decision: DecisionRecord | None,
    index: int,
) -> tuple[tuple[ConditionRow, ...], bool]:
    """The table that the decision was made on if it still fits the draws, else one computed now."""
    if not drawn.usable or not labels:
        return (), False
    stored = _stored_rows(decision)
    if stored and all(_still_true(record, row, drawn, labels) for row in stored):
        return stored, True
    levels = {group.name: group.values for group in space.groups()}  # noqa: PD011 - no frame
    seed = int(np.random.SeedSequence([record.seed, index, 1]).generate_state(1)[0])
    rows = condition_table(
        drawn.errors,
        drawn.weights,
        labels,
        levels,
        a=record.a,
        tau=record.tau,
        alpha=decision.alpha if decision is not None else record.alpha,
        interval_alpha=record.alpha,
        seed=seed,
    )
    if drawn.weighted:
        rows = [_unweighted_counts(row, drawn, np.array(labels[row.group], dtype=np.str_)) for row in rows]
    return tuple(rows), False


def _unweighted_counts(row: ConditionRow, drawn: Population, labels: NDArray[np.str_]) -> ConditionRow:
    """Count the draws that were made, and give no interval where too few trials stand for those that were stopped."""
    member = labels == row.value
    row = replace(row, n=int(drawn.answers[member].sum()))
    if int((drawn.weights > drawn.answers)[member].sum()) >= LEAST_SPARED:
        return row
    return replace(row, low=None, high=None, interval_method=None)


def _stored_rows(decision: DecisionRecord | None) -> tuple[ConditionRow, ...]:
    """Condition rows as stored with a decision; none if the decision has no table or one of another version."""
    if decision is None:
        return ()
    names = {field.name for field in fields(ConditionRow)}
    if not all(names <= set(row) for row in decision.table):
        return ()
    return tuple(ConditionRow(**{name: row[name] for name in names}) for row in decision.table)


def _still_true(
    record: SweepRecord, row: ConditionRow, drawn: Population, labels: Mapping[str, Sequence[str]]
) -> bool:
    mask = np.array(labels.get(row.group, [""] * len(drawn.errors)), dtype=np.str_) == row.value
    if row.n != int(drawn.answers[mask].sum()):
        return False
    return row.auc is None or abs(_auc(record, drawn.errors[mask], drawn.weights[mask]) - row.auc) < _SAME


def _confirmation(
    record: SweepRecord, space: SpaceRecord, drawn: Population, before: Sequence[SpaceResult]
) -> Confirmation | None:
    """Compare the draws that this space was chosen on with its fresh draws (winner's curse)."""
    parent = next((one for one in before if one.name == space.parent), None)
    fresh = drawn.fresh > 0
    if parent is None or parent.decision is None or not drawn.usable or not fresh.any():
        return None
    made, old = parent.decision, parent.population
    if made.group is None or made.group not in parent.labels or made.child != space.name:
        return None
    selected = np.array(parent.labels[made.group], dtype=np.str_) == made.value
    if not selected.any():
        return None
    return confirmation(
        old.errors[selected],
        drawn.errors[fresh],
        selected_weights=old.weights[selected],
        fresh_weights=drawn.fresh[fresh],
        rest=old.errors[~selected],
        rest_weights=old.weights[~selected],
        rng=np.random.default_rng([record.seed, len(before), 2]),
        a=record.a,
        tau=record.tau,
        alpha=record.alpha,
    )


def _lowest(result: SpaceResult) -> LowestError:
    drawn = result.population
    mean, spread = expected_best(drawn.errors, drawn.answers)
    return LowestError(space=result.name, mean=mean, spread=spread, best=float(drawn.errors.min()))


def best_and_median(space: SpaceResult) -> tuple[int, int]:
    """Trial numbers with the lowest error and with the median error over draws (the lower one of two)."""
    drawn = space.population
    order = np.argsort(drawn.errors, kind="stable")
    share = np.cumsum(drawn.weights[order]) / drawn.weights.sum()
    return int(drawn.numbers[order[0]]), int(drawn.numbers[order[int((share >= 0.5).argmax())]])  # noqa: PLR2004


def shown_trials(result: SweepResult) -> tuple[int, ...]:
    """Trials whose learning curves or node accuracies the page shows, by number; of methods, what stands for a run."""
    if result.compares:
        final = result.searched[result.searched["final"].isin([True])]
        return tuple(int(number) for number in final["number"])
    ends = [*result.estimated[:1], *result.estimated[-1:]]
    shown = {number for space in ends for number in best_and_median(space)}
    return tuple(sorted(shown.union(*(best.trainings.numbers for best in result.best))))
