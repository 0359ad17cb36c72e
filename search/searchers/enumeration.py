"""Full enumeration: every valid configuration of a finite space, `repeats` times; symmetric duplicates train once."""

from __future__ import annotations

from kdsearch.analysis.population import Proposal
from kdsearch.search.searchers.ledger import Ledger
from kdsearch.search.searchers.one_space import OneSpaceSearch
from kdsearch.spaces import DesignSpace

CENSUS = str(Proposal.ENUMERATION)


def enumerate_into(ledger: Ledger, space: DesignSpace, *, repeats: int) -> None:
    """Draw every encoding of `space` `repeats` times.

    A class of graphs that is equal up to symmetry has `repeats` trials; trials that are known already count first.
    Each trial answers as many draws as its class has encodings, so that draws are uniform over encodings.
    """
    for canonical in space.enumerate(classes=True):
        trials = ledger.trials_of(space, canonical)[:repeats]
        trials += [ledger.request(space, canonical, CENSUS) for _ in range(repeats - len(trials))]
        for trial in trials:
            for _ in range(space.orbit_size(canonical)):
                ledger.answer(space, trial)


class Enumeration(OneSpaceSearch):
    """The whole of a finite space."""

    def __init__(self, space: DesignSpace, *, repeats: int, first_number: int) -> None:
        super().__init__(space, first_number=first_number, exhaustive=True, repeats=repeats)
        enumerate_into(self.ledger, self.space, repeats=repeats)
