"""Gradient search: random starts, each trained with an optimiser of its metaparameters.

Trials need nothing of one another: all are asked for at once, and what the gradients do shows in their trajectories.
"""

from __future__ import annotations

import numpy as np

from kdsearch.analysis.population import Proposal
from kdsearch.search.searcher_settings import GradientSettings
from kdsearch.search.searchers.descent import Descent
from kdsearch.search.searchers.kinds import SearcherKind, Task
from kdsearch.search.searchers.one_space import OneSpaceSearch
from kdsearch.search.searchers.plans import descent_plan
from kdsearch.trainables.seeds import derive_seed

GRADIENT = str(Proposal.GRADIENT)


class GradientSearch(OneSpaceSearch):
    """`trials` starts drawn from the space of `descent`."""

    def __init__(self, descent: Descent, *, trials: int, seed: int, first_number: int) -> None:
        super().__init__(descent.space, first_number=first_number, exhaustive=False)
        rng = np.random.default_rng(derive_seed(seed, "draws", self.space.name or "A"))
        starts = np.random.default_rng(derive_seed(seed, "starts", self.space.name or "A"))
        for _ in range(trials):
            canonical = self.space.canonical(self.space.sample(rng))
            plan = descent_plan(descent.optimiser(canonical, starts))
            trial = self.ledger.request(self.space, canonical, GRADIENT, probability=None, plan=plan)
            self.ledger.answer(self.space, trial)


def _descent(settings: GradientSettings, task: Task) -> Descent:
    return Descent(space=task.space, kind=task.trainable, settings=task.settings, options=settings)


def _build(settings: GradientSettings, task: Task) -> GradientSearch:
    return GradientSearch(
        _descent(settings, task), trials=settings.trials, seed=task.seed, first_number=task.first_number
    )


def _check(settings: GradientSettings, task: Task) -> None:
    _descent(settings, task).check()
    task.trainable.check_plan(task.settings, descent_plan(settings.optimiser(start={}, bounds={})))


KIND = SearcherKind(GradientSettings, build=_build, check=_check)
