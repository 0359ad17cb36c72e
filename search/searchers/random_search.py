"""Random search: independent uniform draws from the valid configurations of a space (Bergstra and Bengio 2012)."""

from __future__ import annotations

import numpy as np

from kdsearch.analysis.population import Proposal
from kdsearch.search.searcher_settings import RandomSettings
from kdsearch.search.searchers.kinds import SearcherKind, Task
from kdsearch.search.searchers.one_space import OneSpaceSearch
from kdsearch.spaces import DesignSpace
from kdsearch.trainables.seeds import derive_seed

RANDOM_DRAW = str(Proposal.RANDOM)


class RandomSearch(OneSpaceSearch):
    """`trials` draws with replacement; graphs equal up to symmetry are trained once."""

    def __init__(self, space: DesignSpace, *, trials: int, seed: int, first_number: int) -> None:
        super().__init__(space, first_number=first_number, exhaustive=False)
        generator = np.random.default_rng(derive_seed(seed, "draws", self.space.name or "A"))
        for _ in range(trials):
            self.ledger.draw(self.space, self.space.sample(generator), RANDOM_DRAW)


def _build(settings: RandomSettings, task: Task) -> RandomSearch:
    return RandomSearch(task.space, trials=settings.trials, seed=task.seed, first_number=task.first_number)


KIND = SearcherKind(RandomSettings, build=_build)
