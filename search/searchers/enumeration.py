"""Full enumeration: every valid configuration of a finite space, `repeats` times; symmetric duplicates train once."""

from __future__ import annotations

from kdsearch.analysis.population import Proposal
from kdsearch.search.searchers.base import Outcome, Overview, Record, Request, Stage
from kdsearch.search.searchers.ledger import Ledger
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


class Enumeration:
    """The whole of a finite space."""

    def __init__(self, space: DesignSpace, *, repeats: int, first_number: int) -> None:
        self.space = space if space.name else space.renamed("A")
        self._ledger = Ledger(first_number)
        self._ledger.records.append(Stage(space=self.space, parent=None, exhaustive=True, repeats=repeats))
        enumerate_into(self._ledger, self.space, repeats=repeats)

    @property
    def done(self) -> bool:
        """All trials have their outcomes."""
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
