"""Random search: independent uniform draws from the valid configurations of a space (Bergstra and Bengio 2012)."""

from __future__ import annotations

import numpy as np

from kdsearch.analysis.population import Proposal
from kdsearch.search.searchers.base import Outcome, Overview, Record, Request, Stage
from kdsearch.search.searchers.ledger import Ledger
from kdsearch.spaces import DesignSpace
from kdsearch.trainables.seeds import derive_seed

RANDOM_DRAW = str(Proposal.RANDOM)


class RandomSearch:
    """`trials` draws with replacement; graphs equal up to symmetry are trained once."""

    def __init__(self, space: DesignSpace, *, trials: int, seed: int, first_number: int) -> None:
        self.space = space if space.name else space.renamed("A")
        self._ledger = Ledger(first_number)
        self._ledger.records.append(Stage(space=self.space, parent=None, exhaustive=False))
        generator = np.random.default_rng(derive_seed(seed, "draws", self.space.name or "A"))
        for _ in range(trials):
            self._ledger.draw(self.space, self.space.sample(generator), RANDOM_DRAW)

    @property
    def done(self) -> bool:
        """All draws have their outcomes."""
        return self._ledger.idle

    def overview(self) -> Overview:
        """Where the search stands."""
        return self._ledger.overview(self.space)

    def ask(self, n: int) -> list[Request]:
        """At most n new trials."""
        return self._ledger.take(n)

    def tell(self, number: int, outcome: Outcome) -> None:
        """Keep the outcome."""
        self._ledger.tell(number, outcome)

    def drain(self) -> list[Record]:
        """Draws since the last call."""
        return self._ledger.drain()
