"""Searches whose trials are proposed one by one by something that learns from the outcomes of earlier ones.

Proposals come in generations: all of one are made before any of its outcomes is known, and are learned from in order
once the last one is in. So a search depends on its seed, its settings and the outcomes alone, whatever the number of
workers; it is rebuilt by asking and telling again; and a search of N trials is the first N of a longer one.

Whatever a proposer proposes, a trial is a configuration of the space in its canonical form: what is none, or is not
wanted, is proposed again, at most `TRIES` times in all; then the last proposal is mixed with uniform draws, of which it
takes one parameter, two, four, ..., and at last all. A proposal that equals a known configuration (up to the symmetry
of the space) is answered by its trial, replaced by another, or trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

import numpy as np

from kdsearch.analysis.population import Proposal
from kdsearch.search.searcher_settings import Duplicates, ProposingSettings
from kdsearch.search.searchers.base import Note, Outcome, Overview, Request
from kdsearch.search.searchers.kinds import Task
from kdsearch.search.searchers.one_space import OneSpaceSearch
from kdsearch.spaces import Configuration, DesignSpace, Value
from kdsearch.trainables.seeds import derive_seed

TRIES: Final = 3  # proposals that are made for one trial, if none is usable
MIXED: Final = 10  # draws that a proposal is mixed with, for each number of parameters
DRAWS: Final = 1_000  # uniform draws for a configuration that is wanted, before the space is listed


class Proposer(Protocol):
    """What proposes; the same seed and calls give the same proposals."""

    def propose(self) -> Configuration:
        """A configuration, which may turn out to be none of the space, or not to be wanted."""

    def keep(self, configuration: Configuration) -> None:
        """Take a configuration as the next proposal, from 0 on; its outcome will be known later.

        It is canonical. It is the one that was proposed last, a mirror image of it, or one that was drawn in its place.
        What was proposed and not kept will have no outcome.
        """

    def learn(self, index: int, outcome: Outcome) -> None:
        """The outcome of proposal number `index`; errors are per cent, lower is better."""


Wanted = Callable[[Configuration], bool]
Known = Callable[[Configuration], Outcome | None]


class Proposals:
    """The usable proposals of a proposer."""

    def __init__(self, space: DesignSpace, proposer: Proposer, *, seed: int) -> None:
        self._space, self._proposer, self._seed = space, proposer, seed
        self._kept = 0  # by the proposer
        self._places: list[int] = []  # which of those each proposal is that was handed out

    def next(self, wanted: Wanted = lambda _: True, known: Known = lambda _: None) -> dict[str, Value] | None:
        """The next proposal, canonical; None if no configuration of the space is wanted.

        known: the outcome of a configuration that is not wanted, if there is one: the proposer learns from it that it
            proposed what it should have known, or else would propose it again and again.
        """
        proposal: Configuration = {}
        for _ in range(TRIES):
            proposal = self._proposer.propose()
            if proposal in self._space:
                canonical = self._space.canonical(proposal)
                if wanted(canonical):
                    return self._hand_out(canonical)
                if (outcome := known(canonical)) is not None:
                    self._proposer.learn(self._keep(canonical), outcome)
        rng = np.random.default_rng(derive_seed(self._seed, "draw", len(self._places)))
        found = self._mixed(proposal, wanted, rng) or self._drawn(wanted, rng)
        return None if found is None else self._hand_out(found)

    def learn(self, index: int, outcome: Outcome) -> None:
        """The outcome of proposal number `index`, from 0."""
        self._proposer.learn(self._places[index], outcome)

    def _hand_out(self, canonical: dict[str, Value]) -> dict[str, Value]:
        self._places.append(self._keep(canonical))
        return canonical

    def _keep(self, canonical: Configuration) -> int:
        self._proposer.keep(canonical)
        self._kept += 1
        return self._kept - 1

    def _mixed(
        self, proposal: Configuration, wanted: Wanted, rng: np.random.Generator
    ) -> dict[str, Value] | None:
        """A configuration that is as near to a proposal as chance finds one."""
        names = self._space.parameter_names
        share = 1
        while share < len(names):
            for _ in range(MIXED):
                draw = self._space.sample(rng)
                taken = {names[place] for place in rng.choice(len(names), share, replace=False)}
                sources = {name: draw if name in taken else proposal for name in names}
                mixed = {name: source[name] for name, source in sources.items() if name in source}
                if mixed in self._space and wanted(canonical := self._space.canonical(mixed)):
                    return canonical
            share *= 2
        return None

    def _drawn(self, wanted: Wanted, rng: np.random.Generator) -> dict[str, Value] | None:
        """A uniform draw or, where hardly anything is wanted, the first configuration in the order of the space."""
        for _ in range(DRAWS):
            canonical = self._space.canonical(self._space.sample(rng))
            if wanted(canonical):
                return canonical
        if self._space.counts().valid_classes is None:
            return None
        return next((each for each in self._space.enumerate(classes=True) if wanted(each)), None)


class ProposalSearch(OneSpaceSearch):
    """`settings.trials` proposals, `generation` at a time."""

    def __init__(
        self,
        settings: ProposingSettings,
        task: Task,
        proposer: Proposer,
        *,
        generation: int,
        design: Proposal = Proposal.OTHER,
        plan: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin; `design` says how trials came to be asked for, `plan` is what each is told."""
        super().__init__(task.space, first_number=task.first_number, exhaustive=False)
        self._proposals = Proposals(self.space, proposer, seed=derive_seed(task.seed, "proposals"))
        self._duplicates, self._trials, self._generation = settings.duplicates, settings.trials, generation
        self._design, self._plan = str(design), plan or {}
        self._classes = self.space.counts().valid_classes
        self._answers: list[int] = []  # the trial of each proposal
        self._learned = 0
        self._exhausted = False

    @property
    def done(self) -> bool:
        """All proposals were made, and have their outcomes."""
        return self.ledger.idle and self._complete

    def overview(self) -> Overview:
        """Where the search stands; proposals to come are counted as trials."""
        found = super().overview()
        to_come = 0 if self._complete else self._trials - len(self._answers)
        return replace(found, planned=found.planned + to_come)

    def tell(self, number: int, outcome: Outcome) -> None:
        """Keep the outcome with its curve: proposals are learned from both."""
        self.ledger.tell(number, outcome)

    def ask(self, n: int) -> list[Request]:
        """At most n new trials; none while outcomes of the last generation are awaited."""
        while self.ledger.idle and not self._complete:  # known trials may answer a whole generation
            self._learn()
            self._propose()
        return self.ledger.take(n)

    @property
    def _complete(self) -> bool:
        return self._exhausted or len(self._answers) == self._trials

    def _learn(self) -> None:
        """Let the proposer learn from the last generation, in order."""
        for index in range(self._learned, len(self._answers)):
            self._proposals.learn(index, self.ledger.outcomes[self._answers[index]])
        self._learned = len(self._answers)

    def _propose(self) -> None:
        """Make the proposals of a generation, as many of it as fit."""
        for _ in range(min(self._generation, self._trials - len(self._answers))):
            found = None if self._is_exhausted() else self._proposals.next(self._is_wanted, self._known)
            if found is None:
                self._end_early()
                return
            known = self.ledger.trials_of(self.space, found) if self._duplicates == Duplicates.ANSWER else []
            trial = known[0] if known else self._request(found)
            self.ledger.answer(self.space, trial)
            self._answers.append(trial)

    def _request(self, configuration: Configuration) -> int:
        return self.ledger.request(self.space, configuration, self._design, probability=None, plan=self._plan)

    def _is_wanted(self, configuration: Configuration) -> bool:
        return self._duplicates != Duplicates.REPLACE or not self.ledger.trials_of(self.space, configuration)

    def _known(self, configuration: Configuration) -> Outcome | None:
        """The outcome of a trial of the configuration, if it has ended."""
        [first, *_] = self.ledger.trials_of(self.space, configuration)
        return self.ledger.outcomes.get(first)

    def _is_exhausted(self) -> bool:
        """Whether nothing is left that could take a duplicate's place."""
        return self._duplicates == Duplicates.REPLACE and len(self._answers) == self._classes

    def _end_early(self) -> None:
        self._exhausted = True
        tried = len(self._answers)
        self.ledger.records.append(
            Note(
                f"The search ends after {tried} of {self._trials} trials: every configuration of the space was tried "
                "(duplicates: replace)."
            )
        )
