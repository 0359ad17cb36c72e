"""A comparison of methods: each is run a number of times, and run r of every method has one training seed.

So the methods' differences are paired: what the seed decides (initial weights and, where both train on the same images,
their order) is the same on both sides. Methods go on side by side, each in its own rounds: the trials of a round, one
for each run, are asked for together once the round before is told, so that they share programs.

Trials are numbered by method, then round, then run, whenever they are asked for: the numbers do not depend on which
method was faster. Rebuilding is asking and telling again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kdsearch.search.searcher_settings import (
    ComparisonSettings,
    FixedMethod,
    GradientMethod,
    RandomMethod,
    TpeMethod,
)
from kdsearch.search.searchers.base import ConditionSoFar, Note, Outcome, Overview, Record, Request, Stage
from kdsearch.search.searchers.checks import generic
from kdsearch.search.searchers.kinds import SearcherKind, Task
from kdsearch.search.searchers.methods import Method, Setting, make_method
from kdsearch.search.searchers.plans import final_plan
from kdsearch.search.searchers.tpe import startup_note
from kdsearch.spaces import DesignSpace
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.protocol import TrainableKind


@dataclass
class _Progress:
    """How far a method is."""

    name: str
    method: Method
    first: int  # number of its first trial
    step: int = 0  # the round that is asked for next
    awaited: set[int] = field(default_factory=set)  # trials of the round before


class Comparison:
    """The searcher; see the module's text."""

    def __init__(
        self,
        space: DesignSpace,
        settings: ComparisonSettings,
        *,
        kind: TrainableKind,
        trainable: Mapping[str, object],
        seed: int,
        first_number: int,
    ) -> None:
        self.space = generic(space.renamed("A") if not space.name else space, "a comparison of methods")
        self._runs = settings.runs
        setting = Setting(space=self.space, kind=kind, trainable=trainable, seed=seed)
        self._methods: list[_Progress] = []
        self._records: list[Record] = [Stage(space=self.space, parent=None, exhaustive=False)]
        self._end = first_number
        for name, each in settings.all_methods().items():
            method = make_method(name, each, setting)
            self._methods.append(_Progress(name, method, self._end))
            self._end += method.rounds * self._runs
            if isinstance(each, TpeMethod) and (note := startup_note(name, each)) is not None:
                self._records.append(Note(note))
        self._first = first_number
        self._queue: list[Request] = []
        self._requests: dict[int, Request] = {}
        self._outcomes: dict[int, Outcome] = {}

    @property
    def done(self) -> bool:
        """Every trial has its outcome."""
        return len(self._outcomes) == self._end - self._first

    def overview(self) -> Overview:
        """Where the comparison stands: the mean accuracy of each method over the runs that are in."""
        conditions = []
        for each in self._methods:
            last = self._number(each, each.method.rounds - 1, 0)
            errors = [self._outcomes[n].error for n in range(last, last + self._runs) if n in self._outcomes]
            if errors:
                accuracy = 100 - sum(errors) / len(errors)
                conditions.append(
                    ConditionSoFar(group="method", value=each.name, n=len(errors), auc=accuracy)
                )
        return Overview(
            space=self.space.name or "A",
            restriction=None,
            done=len(self._outcomes),
            planned=self._end - self._first,
            conditions=conditions,
        )

    def ask(self, n: int) -> list[Request]:
        """At most n new trials, those of the methods with most rounds first."""
        for progress in sorted(self._methods, key=lambda each: -each.method.rounds):
            if not progress.awaited and progress.step < progress.method.rounds:
                self._queue += self._round(progress)
        taken, self._queue = self._queue[:n], self._queue[n:]
        return taken

    def tell(self, number: int, outcome: Outcome) -> None:
        """Keep the first outcome of a trial; the last one of a round is followed by the next round.

        Raises:
            KeyError: the trial was never asked for.

        """
        if number not in self._requests:
            raise KeyError(number)
        if number in self._outcomes:
            return
        self._outcomes[number] = outcome
        progress = next(each for each in self._methods if number in each.awaited)
        progress.awaited.remove(number)
        if not progress.awaited:
            self._learn(progress)

    def drain(self) -> list[Record]:
        """The space and what a reader must know, once."""
        records, self._records = self._records, []
        return records

    def _round(self, progress: _Progress) -> list[Request]:
        """The trials of a method's next round."""
        step = progress.step
        final = step == progress.method.rounds - 1
        found = []
        for run in range(self._runs):
            proposed = progress.method.propose(run, step)
            own = () if final else ("explore", progress.name, step)
            found.append(
                Request(
                    number=self._number(progress, step, run),
                    configuration=proposed.configuration,
                    orbit_size=1,
                    design=proposed.design,
                    probability=None,
                    plan=proposed.plan,
                    seed_key=("run", run, *own),
                )
            )
        progress.step += 1
        progress.awaited = {request.number for request in found}
        self._requests |= {request.number: request for request in found}
        return found

    def _learn(self, progress: _Progress) -> None:
        """Tell a method the outcomes of its round, in the order of runs."""
        step = progress.step - 1
        for run in range(self._runs):
            progress.method.learn(run, step, self._outcomes[self._number(progress, step, run)])

    def _number(self, progress: _Progress, step: int, run: int) -> int:
        return progress.first + step * self._runs + run


def _build(settings: ComparisonSettings, task: Task) -> Comparison:
    return Comparison(
        task.space,
        settings,
        kind=task.trainable,
        trainable=task.settings,
        seed=task.seed,
        first_number=task.first_number,
    )


def _check(settings: ComparisonSettings, task: Task) -> None:
    """Refuse a method that could not be carried out, by its name."""
    own = generic(task.space, "a comparison of methods")
    setting = Setting(space=own, kind=task.trainable, trainable=task.settings, seed=0)
    for name, each in settings.methods.items():
        plain = isinstance(each, FixedMethod | RandomMethod)
        train_on = each.train_on if isinstance(each, FixedMethod | RandomMethod) else "training"
        try:
            make_method(name, each, setting).check()
            optimiser = each.optimiser(start={}, bounds={}) if isinstance(each, GradientMethod) else None
            plan = final_plan(name, 0, train_on=train_on, optimised=not plain, optimiser=optimiser)
            task.trainable.check_plan(task.settings, plan)
        except UsageError as error:
            raise UsageError(f"searcher.methods.{name}: {error.message}", error.hint) from None


KIND = SearcherKind(ComparisonSettings, build=_build, check=_check)
