"""What searchers of a single space have in common: a ledger that is filled once and worked off."""

from __future__ import annotations

from dataclasses import replace

from kdsearch.search.searchers.base import Outcome, Overview, Record, Request, Stage
from kdsearch.search.searchers.ledger import Ledger
from kdsearch.spaces import DesignSpace


class OneSpaceSearch:
    """A search whose draws are known from the start; a subclass fills `ledger` in its constructor."""

    def __init__(self, space: DesignSpace, *, first_number: int, exhaustive: bool, repeats: int = 1) -> None:
        self.space = space if space.name else space.renamed("A")
        self.ledger = Ledger(first_number)
        self.ledger.records.append(
            Stage(space=self.space, parent=None, exhaustive=exhaustive, repeats=repeats)
        )

    @property
    def done(self) -> bool:
        """All trials have their outcomes."""
        return self.ledger.idle

    def overview(self) -> Overview:
        """Where the search stands."""
        return self.ledger.overview(self.space)

    def ask(self, n: int) -> list[Request]:
        """At most n new trials."""
        return self.ledger.take(n)

    def tell(self, number: int, outcome: Outcome) -> None:
        """Keep the outcome, without its curve: nothing is learned from it, and it may be long."""
        self.ledger.tell(number, replace(outcome, curve=()))

    def drain(self) -> list[Record]:
        """Draws since the last call."""
        return self.ledger.drain()
