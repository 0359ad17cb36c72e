"""What a scheduler leaves to chance: the bracket of a trial, and whether it goes on though the rule would not let it.

Each is decided by the sweep's seed and the trial's number alone, so it is the same in every order, on every machine and
after a resume, and no other random number depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from kdsearch.trainables.seeds import derive_seed


@dataclass(frozen=True, kw_only=True)
class Chances:
    """Brackets (1 or more) and the probability of random promotion, in [0, 1)."""

    seed: int = 0
    brackets: int = 1
    epsilon: float = 0.0

    def bracket(self, trial: int) -> int:
        """Return the bracket of a trial, from 0: s with a probability in proportion to e^-s.

        As Ray draws it (`AsyncHyperBandScheduler`: softmax of the number of rungs, and bracket s has s rungs fewer),
        but from the seed.
        """
        if self.brackets == 1:
            return 0
        weights = [exp(-s) for s in range(self.brackets)]
        left = self._unit("bracket", trial) * sum(weights)
        for bracket, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return bracket
        return self.brackets - 1

    def spared(self, trial: int, rung: int) -> bool:
        """Whether a trial that the rule would not let go on at a rung does so all the same, by probability epsilon."""
        return self.epsilon > 0 and self._unit("promotion", trial, rung) < self.epsilon

    def _unit(self, *key: str | int) -> float:
        """Return a number that is uniform in [0, 1)."""
        return derive_seed(self.seed, "scheduler", *key) / 2**63
