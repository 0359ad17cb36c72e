"""The methods of a comparison: what each one trains in run r, and what it learns from.

A method has a number of rounds; in each it proposes one trial for every run, and the trials of its last round are the
final ones. Run r of every method is drawn with the same random numbers: where `random` stays, `gradient` starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kdsearch.analysis.population import Proposal
from kdsearch.search.searcher_settings import FixedMethod, GradientMethod, RandomMethod, TpeMethod
from kdsearch.search.searchers.axes import axes_of
from kdsearch.search.searchers.base import Outcome
from kdsearch.search.searchers.descent import Descent
from kdsearch.search.searchers.plans import final_plan, trial_plan
from kdsearch.search.searchers.proposing import Proposals
from kdsearch.search.searchers.tpe import make_proposer
from kdsearch.spaces import Categorical, Domain, Float, Parameter, Space, UnknownNameError, Value
from kdsearch.spaces.domains import is_number
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.protocol import TrainableKind
from kdsearch.trainables.seeds import derive_seed

FIXED = "fixed"  # the values were written down, not drawn
_WORST = 100.0  # per cent; what a trial that was not trained to its end counts with, at least


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all methods of a comparison have in common."""

    space: Space
    kind: TrainableKind
    trainable: Mapping[str, object]  # the trainable's settings
    seed: int

    def drawn(self, space: Space, run: int) -> dict[str, Value]:
        """The draw of a run: the same for every method, as far as the spaces are the same."""
        rng = np.random.default_rng(derive_seed(self.seed, "run", run, "draw"))
        return space.canonical(space.sample(rng))


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """One trial of a method."""

    configuration: Mapping[str, Value]
    design: str
    plan: Mapping[str, Any]


class Method(Protocol):
    """One method; rounds and runs count from 0."""

    @property
    def rounds(self) -> int:
        """Trials that one run needs; the last one is the final one."""

    def check(self) -> None:
        """Refuse what cannot be done in this space with this trainable (UsageError)."""

    def propose(self, run: int, step: int) -> Proposed:
        """The trial of a run in round `step`; asked once, when the rounds before are told."""

    def learn(self, run: int, step: int, outcome: Outcome) -> None:
        """The outcome of a trial; rounds are told in order."""


class OneRound:
    """A method without a search before its final trial: there is nothing to be learned."""

    rounds = 1

    def learn(self, run: int, step: int, outcome: Outcome) -> None:
        """Nothing depends on the outcome."""


class Fixed(OneRound):
    """Values that a person wrote down; the other parameters are the run's draw."""

    def __init__(self, name: str, settings: FixedMethod, setting: Setting) -> None:
        self._name, self._settings, self._setting = name, settings, setting

    def check(self) -> None:
        """Refuse values that the trainable cannot take; they may lie outside the space."""
        values, space = self._settings.values, self._setting.space
        if values:
            single = Space(tuple(Parameter(name, Categorical((value,))) for name, value in values.items()))
            self._setting.kind.check_space(self._setting.trainable, single)
        if self._bound and self._configuration(0) not in space:
            raise UsageError(
                "the values are no configuration of the space, which has conditions or constraints",
                f"Give every active parameter a value that the space has: {', '.join(space.parameter_names)}.",
            )

    def propose(self, run: int, step: int) -> Proposed:
        """The values."""
        del step
        plan = final_plan(self._name, run, train_on=self._settings.train_on, optimised=False)
        return Proposed(configuration=self._configuration(run), design=FIXED, plan=plan)

    @property
    def _bound(self) -> bool:
        """Whether some values forbid others, so that they cannot be drawn one by one."""
        space = self._setting.space
        return bool(space.constraints) or any(parameter.when for parameter in space.parameters)

    def _configuration(self, run: int) -> dict[str, Value]:
        space = self._setting.space
        drawn = {} if self._bound else self._setting.drawn(space, run)
        domains = {each.name: each.domain for each in space.parameters}
        return {
            name: _own(domains[name], value) if name in domains else value
            for name, value in {**drawn, **self._settings.values}.items()
        }


def _own(domain: Domain, value: Value) -> Value:
    """A value as its parameter writes it, also outside of the space: 1 is 1.0 in an interval."""
    own = domain.find(value)
    if own is not None:
        return own
    return float(value) if isinstance(domain, Float) and is_number(value) else value


class Random(OneRound):
    """The run's draw."""

    def __init__(self, name: str, settings: RandomMethod, setting: Setting) -> None:
        self._name, self._settings, self._setting = name, settings, setting

    def check(self) -> None:
        """Refuse laws of parameters that the space does not have, or the trainable cannot take."""
        known = self._setting.space.parameter_names
        for name in self._settings.parameters:
            if name not in known:
                raise UnknownNameError("parameter", name, known, "the space")
        self._setting.kind.check_space(self._setting.trainable, self._space())

    def propose(self, run: int, step: int) -> Proposed:
        """The draw."""
        del step
        plan = final_plan(self._name, run, train_on=self._settings.train_on, optimised=False)
        drawn = self._setting.drawn(self._space(), run)
        return Proposed(configuration=drawn, design=str(Proposal.RANDOM), plan=plan)

    def _space(self) -> Space:
        """The sweep's space with the laws of this method."""
        spec = self._setting.space.to_spec()
        laws = {**spec["parameters"], **self._settings.parameters}
        return Space.from_spec({**spec, "parameters": laws}, where="parameters")


class Gradient(OneRound):
    """The run's draw, from where gradients lead."""

    def __init__(self, name: str, settings: GradientMethod, setting: Setting) -> None:
        self._name, self._setting = name, setting
        self._descent = Descent(
            space=setting.space, kind=setting.kind, settings=setting.trainable, options=settings
        )

    def check(self) -> None:
        """Refuse metaparameters that are not differentiable."""
        self._descent.check()

    def propose(self, run: int, step: int) -> Proposed:
        """The draw, with an optimiser."""
        del step
        start = self._setting.drawn(self._setting.space, run)
        rng = np.random.default_rng(derive_seed(self._setting.seed, "run", run, "start"))
        optimiser = self._descent.optimiser(start, rng)
        plan = final_plan(self._name, run, train_on="training", optimised=True, optimiser=optimiser)
        return Proposed(configuration=start, design=str(Proposal.GRADIENT), plan=plan)


class Tpe:
    """For each run a chain of trials that TPE proposes one by one; the best one's values train the final trial."""

    def __init__(self, name: str, settings: TpeMethod, setting: Setting) -> None:
        self._name, self._settings, self._setting = name, settings, setting
        self._chains: dict[int, Proposals] = {}
        self._tried: dict[int, list[Mapping[str, Value]]] = {}
        self._errors: dict[int, list[float]] = {}

    @property
    def rounds(self) -> int:
        """The trials of the search, and the final one."""
        return self._settings.trials + 1

    def check(self) -> None:
        """Nothing: TPE searches every space."""

    def propose(self, run: int, step: int) -> Proposed:
        """The library's next proposal or, in the last round, the best one so far (of equal ones the first)."""
        tried = self._tried.setdefault(run, [])
        if step == self._settings.trials:
            errors = self._errors[run]
            best = tried[errors.index(min(errors))]
            plan = final_plan(self._name, run, train_on="training", optimised=True)
            return Proposed(configuration=best, design=str(Proposal.TPE), plan=plan)
        found = self._chain(run).next()
        if found is None:
            raise RuntimeError("a space without a configuration")  # which no space is
        tried.append(found)
        return Proposed(configuration=tried[-1], design=str(Proposal.TPE), plan=trial_plan(self._name, run))

    def learn(self, run: int, step: int, outcome: Outcome) -> None:
        """Tell the library. Whatever a lost trial counts with in the tables, it is never the best."""
        if step < self._settings.trials:
            self._chain(run).learn(step, outcome)
            lost = outcome.state != "complete"
            error = max(outcome.error, _WORST) if lost else outcome.error
            self._errors.setdefault(run, []).append(error)

    def _chain(self, run: int) -> Proposals:
        if run not in self._chains:
            space = self._setting.space
            seed = derive_seed(self._setting.seed, "run", run, "tpe", self._name)
            proposer = make_proposer(self._settings, axes_of(space), seed)
            self._chains[run] = Proposals(space, proposer, seed=seed)
        return self._chains[run]


def make_method(
    name: str, settings: FixedMethod | RandomMethod | TpeMethod | GradientMethod, setting: Setting
) -> Method:
    """Build the method that a sweep file describes."""
    match settings:
        case FixedMethod():
            return Fixed(name, settings, setting)
        case RandomMethod():
            return Random(name, settings, setting)
        case TpeMethod():
            return Tpe(name, settings, setting)
        case GradientMethod():
            return Gradient(name, settings, setting)
