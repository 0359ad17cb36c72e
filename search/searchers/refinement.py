"""Stepwise refinement of a design space (Iwata et al., Algorithm 1).

    A: draw, train, compare the groups of conditions by AUC, restrict -> B -> C -> ... until at most `limit` (the
    paper's D) combinations are left -> X: train every graph, with repeats.

"Combinations" are graphs that differ by more than symmetry (exact classes; the paper counts encodings / 2). Spaces
are named A, B, C, ...; the last is X. Which groups of conditions exist is data of the space. Draws of a space come
from a generator keyed by (seed, space), trials of an ancestor that fall in a space count as draws of it, and fresh
draws make up the rest; they also confirm the choice, because the reused ones helped to make it.

The state is a pure function of settings, seed and outcomes: after a crash the searcher is rebuilt by asking again
and telling what the database holds (decisions of a person are replayed by the chooser that the runner passes in).
"""

from __future__ import annotations

from dataclasses import asdict
from string import ascii_uppercase
from typing import TYPE_CHECKING

import numpy as np

from kdsearch.analysis.conditions import ConditionRow, condition_table
from kdsearch.analysis.sequential import AlphaPlan
from kdsearch.search.searcher_settings import RefinementSettings
from kdsearch.search.searchers.base import Decision, Note, Outcome, Overview, Record, Request, Stage
from kdsearch.search.searchers.checks import check_plain
from kdsearch.search.searchers.enumeration import MOST_LISTED, enumerate_into
from kdsearch.search.searchers.kinds import SearcherKind, Task
from kdsearch.search.searchers.ledger import Ledger
from kdsearch.search.searchers.policies import Choice, Look, Policy, Verdict, policy_for
from kdsearch.search.searchers.random_search import RANDOM_DRAW
from kdsearch.spaces import DesignSpace
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.seeds import derive_seed

if TYPE_CHECKING:  # sweep files are checked with the help of searchers
    from kdsearch.search.config import StatisticsSettings

LAST = "X"
_NAMES = [letter for letter in ascii_uppercase if letter != LAST]


class Refinement:
    """The searcher; see the module's text."""

    def __init__(
        self,
        space: DesignSpace,
        settings: RefinementSettings,
        statistics: StatisticsSettings,
        policy: Policy,
        *,
        seed: int,
        first_number: int,
    ) -> None:
        self._settings, self._statistics, self._policy, self._seed = settings, statistics, policy, seed
        self._ledger = Ledger(first_number, reuse=settings.reuse)
        # A refinement fixes each group at most once, so it takes at most as many steps as there are groups.
        self._plan = AlphaPlan(
            alpha=statistics.alpha, steps=max(1, len(space.groups())), looks=settings.looks
        )
        self._step = 0
        self._done = False
        self._enter(space, parent=None)

    @property
    def space(self) -> DesignSpace:
        """The space of the present stage."""
        return self._space

    @property
    def done(self) -> bool:
        """The last space is trained, or nothing more could be decided."""
        return self._done

    def overview(self) -> Overview:
        """Where the search stands."""
        return self._ledger.overview(self._space, a=self._statistics.a, tau=self._statistics.tau)

    def ask(self, n: int) -> list[Request]:
        """At most n new trials; none while a stage waits for its last outcomes."""
        return self._ledger.take(n)

    def tell(self, number: int, outcome: Outcome) -> None:
        """Keep the outcome; the last one of a stage decides about the next."""
        self._ledger.tell(number, outcome)
        while not self._done and self._ledger.settled(self._space) and self._ledger.idle:
            self._advance()

    def drain(self) -> list[Record]:
        """Spaces, draws and decisions since the last call."""
        return self._ledger.drain()

    # -- stages -----------------------------------------------------------------------------------------------------

    def _enter(self, space: DesignSpace, parent: DesignSpace | None) -> None:
        """Begin with a space: the last one in full, any other by random draws."""
        name = LAST if self._is_last(space) else _NAMES[self._step]
        self._space = space.renamed(name)
        self._exhaustive = name == LAST and space.counts().valid_encodings is not None
        self._look = 0
        self._ledger.draws.setdefault(name, [])
        self._ledger.records.append(
            Stage(
                space=self._space,
                parent=parent.name if parent is not None else None,
                exhaustive=self._exhaustive,
                repeats=self._settings.repeats if self._exhaustive else 1,
            )
        )
        if self._exhaustive:
            enumerate_into(self._ledger, self._space, repeats=self._settings.repeats)
            return
        if parent is not None:
            self._ledger.inherit(parent, self._space)
        self._generator = np.random.default_rng(derive_seed(self._seed, "draws", name))
        inherited, wanted = len(self._ledger.draws[name]), self._settings.draws
        self._draw(max(wanted - inherited, wanted // 2))  # enough fresh ones to confirm the choice by

    def _is_last(self, space: DesignSpace) -> bool:
        combinations = space.counts().classes
        return not space.groups() or (combinations is not None and combinations <= self._settings.limit)

    def _draw(self, draws: int) -> None:
        self._look += 1
        for _ in range(draws):
            self._ledger.draw(self._space, self._space.sample(self._generator), RANDOM_DRAW)

    def _advance(self) -> None:
        """All outcomes of the stage are in: decide."""
        if self._space.name == LAST:
            self._done = True
            return
        drawn = len(self._ledger.draws[self._space.name or ""])
        room = (self._settings.budget or 4 * self._settings.draws) - drawn
        look = Look(
            space=self._space.name or "",
            step=self._step + 1,
            number=self._look,
            draws=drawn,
            last=room <= 0 or self._look >= self._settings.looks,
            alpha=self._plan.level(self._look),
            table=self._table(),
        )
        choice = self._policy.judge(look)
        if choice.verdict is Verdict.FIX and choice.row is not None:
            self._fix(look, choice, choice.row)
        elif choice.verdict is Verdict.DRAW_MORE:
            self._decide(look, choice, child=None)
            self._draw(min(room, self._settings.draws))
        else:
            self._decide(look, choice, child=None)
            text = f"Refinement stopped in space {look.space}: {choice.reason}."
            self._ledger.records.append(Note(text))
            self._done = True

    def _fix(self, look: Look, choice: Choice, row: ConditionRow) -> None:
        group = next(group for group in self._space.groups() if group.name == row.group)
        child = self._space.restrict(group.restriction(row.value))
        self._step += 1
        parent = self._space
        name = LAST if self._is_last(child) else _NAMES[self._step]
        self._decide(look, choice, child=name)
        self._enter(child, parent)

    def _decide(self, look: Look, choice: Choice, child: str | None) -> None:
        fixed = choice.row if choice.verdict is Verdict.FIX else None
        self._ledger.records.append(
            Decision(
                step=look.step,
                space=look.space,
                policy=self._policy.name,
                chooser=choice.chooser,
                group=fixed.group if fixed else None,
                value=fixed.value if fixed else None,
                child=child,
                reason=choice.reason,
                alpha=look.alpha,
                draws=look.draws,
                look=look.number,
                table=[asdict(row) for row in look.table],
            )
        )

    def _table(self) -> list[ConditionRow]:
        """Compare all open conditions of the present space."""
        trials, weights = np.unique(self._ledger.draws[self._space.name or ""], return_counts=True)
        errors = np.array([self._ledger.outcomes[int(trial)].error for trial in trials])
        groups = self._space.groups()
        labels = {
            group.name: [group.value_of(self._ledger.requests[int(trial)].configuration) for trial in trials]
            for group in groups
        }
        return condition_table(
            errors,
            weights,
            labels,
            {group.name: group.values for group in groups},
            a=self._statistics.a,
            tau=self._statistics.tau,
            alpha=self._plan.level(self._look),
            interval_alpha=self._statistics.alpha,
            seed=derive_seed(self._seed, "permutations", self._space.name or ""),
        )


def _build(settings: RefinementSettings, task: Task) -> Refinement:
    policy = policy_for(settings, task.chooser)
    return Refinement(
        task.space, settings, task.statistics, policy, seed=task.seed, first_number=task.first_number
    )


def _check(settings: RefinementSettings, task: Task) -> None:
    check_plain(settings, task.space, task.trainable, task.settings)
    if settings.limit > MOST_LISTED:
        raise UsageError(
            f"searcher.limit is {settings.limit:,}; at most {MOST_LISTED:,} can be trained in full",
            "The limit is the size at which refining ends and every graph is trained; the paper's is 500.",
        )


KIND = SearcherKind(RefinementSettings, build=_build, check=_check)
