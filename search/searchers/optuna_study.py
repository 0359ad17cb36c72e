"""Any sampler of Optuna (Akiba et al. 2019) as a proposer: one study in memory, asked and told.

A space is defined by running through it: a parameter is suggested where its parents make it active. What is kept in
another form than it was proposed in (its canonical form, or a draw in its place) stands in the study as a trial of its
own. What was proposed and not kept stays pending until something is, so that a sampler that avoids pending trials does
not propose it over and over; then it is told as failed, which samplers pass over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.trial import Trial, TrialState, create_trial

from kdsearch.search.searchers.axes import Axis, free, places, walk
from kdsearch.search.searchers.base import Outcome
from kdsearch.spaces import Configuration, Float, LogUniform, Value

# The library writes every study and trial to the terminal, which belongs to the progress display.
optuna.logging.set_verbosity(optuna.logging.ERROR)


class OptunaStudy:
    """One search."""

    def __init__(self, axes: Sequence[Axis], sampler: BaseSampler) -> None:
        self._axes = axes
        self._storage = optuna.storages.InMemoryStorage()
        self._study = optuna.create_study(storage=self._storage, sampler=sampler, direction="minimize")
        self._id = self._storage.get_study_id_from_name(self._study.study_name)
        self._distributions = {axis.name: _distribution(axis) for axis in free(axes)}
        self._open: list[Trial] = []  # proposed since the last one was kept
        self._size = 0  # trials in the study
        self._kept: list[int] = []  # number in the study of each proposal that was kept

    def propose(self) -> dict[str, Value]:
        """What the sampler suggests next."""
        trial = self._study.ask()
        self._open.append(trial)
        self._size += 1
        return walk(self._axes, lambda axis: _suggested(trial, axis))

    def keep(self, configuration: Configuration) -> None:
        """Let a configuration be the next proposal that is pending."""
        found = places(self._axes, configuration)
        if self._open and self._open[-1].params == found:
            self._kept.append(self._open.pop().number)
        else:
            self._add(found, TrialState.RUNNING)
            self._kept.append(self._size - 1)
        for trial in self._open:
            self._study.tell(trial, state=TrialState.FAIL)
        self._open.clear()

    def learn(self, index: int, outcome: Outcome) -> None:
        """Tell a complete trial's error, a stopped one's curve, and of others that they failed."""
        number = self._kept[index]
        match outcome.state:
            case "complete":
                self._study.tell(number, outcome.error)
            case "stopped":
                trial = self._storage.get_trial_id_from_study_id_trial_number(self._id, number)
                for epoch, error in outcome.curve or ((0, outcome.error),):
                    self._storage.set_trial_intermediate_value(trial, epoch, error)
                self._study.tell(number, state=TrialState.PRUNED)
            case _:
                self._study.tell(number, state=TrialState.FAIL)

    def describe(self) -> None:
        """Let the sampler know all parameters before the first proposal, by a trial that it learns nothing from.

        For samplers that take the parameters from finished trials, and would draw at random without any. The space has
        no conditions.
        """
        first = {axis.name: _first(axis) for axis in free(self._axes)}
        self._add(first, TrialState.COMPLETE)

    def tell_error(self, index: int, error: float) -> None:
        """Tell an error, whatever state its trial ended in."""
        self._study.tell(self._kept[index], error)

    def _add(self, params: Mapping[str, float | int], state: TrialState) -> None:
        distributions = {name: self._distributions[name] for name in params}
        value = 0.0 if state is TrialState.COMPLETE else None
        self._study.add_trial(
            create_trial(state=state, value=value, params=dict(params), distributions=distributions)
        )
        self._size += 1


def _suggested(trial: Trial, axis: Axis) -> float:
    """The place that the sampler suggests; the parameter as `_distribution` has it."""
    match axis.domain:
        case Float(low=low, high=high):
            return trial.suggest_float(axis.name, low, high, log=isinstance(axis.domain, LogUniform))
        case domain if axis.ordered:
            return trial.suggest_int(axis.name, 0, domain.size - 1)
        case domain:
            return trial.suggest_categorical(axis.name, tuple(range(domain.size)))


def _distribution(axis: Axis) -> BaseDistribution:
    """A parameter as Optuna knows it; finite ones by place."""
    match axis.domain:
        case Float(low=low, high=high):
            return FloatDistribution(low, high, log=isinstance(axis.domain, LogUniform))
        case domain if axis.ordered:
            return IntDistribution(0, domain.size - 1)
        case domain:
            return CategoricalDistribution(tuple(range(domain.size)))


def _first(axis: Axis) -> float | int:
    return axis.domain.low if isinstance(axis.domain, Float) else 0
