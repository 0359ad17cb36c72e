"""After a search: its best configuration is trained anew, several times, and these trials alone see the test part.

The search chooses on the validation part, so its own best value is too good to be believed: it is the least of many.
The trainings here have other seeds than the search's, and stand in the report's tables. Of equal errors the trial with
the lower number is the best; only a trial that was trained to its end can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from kdsearch.analysis.sweep_kinds import CONFIRMATION
from kdsearch.search.searchers.base import Note, Outcome, Overview, Record, Request, Searcher
from kdsearch.search.searchers.plans import final_plan
from kdsearch.spaces import DesignSpace

METHOD: Final = "best"  # what plans and tables call these trials
DESIGN: Final = CONFIRMATION  # by which reports tell these trials from the search's


class Confirmation:
    """A search of any kind, and `runs` trainings (1 or more) of the best configuration that it found."""

    def __init__(self, searcher: Searcher, *, runs: int) -> None:
        self._searcher, self._runs = searcher, runs
        self._asked: dict[int, Request] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._confirming: list[int] | None = None  # numbers of the trainings, once the search is over
        self._queue: list[Request] = []
        self._notes: list[Record] = []

    @property
    def done(self) -> bool:
        """The search is done, and every training has its outcome."""
        if not self._searcher.done:
            return False
        self._confirm()
        return all(number in self._outcomes for number in self._confirming or ())

    @property
    def space(self) -> DesignSpace:
        """The search's space."""
        return self._searcher.space

    def overview(self) -> Overview:
        """Where the search stands, with the trainings that follow it counted from the start."""
        found, confirming = self._searcher.overview(), self._confirming
        if confirming is None:
            return replace(found, planned=found.planned + self._runs)
        done = sum(number in self._outcomes for number in confirming)
        return replace(found, done=found.done + done, planned=found.planned + len(confirming))

    def ask(self, n: int) -> Sequence[Request]:
        """At most n new trials: the search's and, once it is done, those of its best configuration."""
        if not self._searcher.done:
            found = self._searcher.ask(n)
            self._asked |= {request.number: request for request in found}
            if found or not self._searcher.done:
                return found  # a search may also find, when asked, that there is nothing left to try
        self._confirm()
        taken, self._queue = self._queue[:n], self._queue[n:]
        return taken

    def tell(self, number: int, outcome: Outcome) -> None:
        """Keep the first outcome of a trial.

        Raises:
            KeyError: the trial was never asked for.

        """
        if number not in self._asked:
            raise KeyError(number)
        self._outcomes.setdefault(number, outcome)
        if self._confirming is None or number not in self._confirming:
            self._searcher.tell(number, outcome)

    def drain(self) -> Sequence[Record]:
        """The search's records, and a note where there was nothing to confirm."""
        notes, self._notes = self._notes, []
        return [*self._searcher.drain(), *notes]

    def _confirm(self) -> None:
        """Choose the best trial and queue its trainings, once."""
        if self._confirming is not None:
            return
        ended = [(each.error, number) for number, each in self._outcomes.items() if each.state == "complete"]
        self._confirming = []
        if not ended:
            self._notes.append(
                Note("No trial was trained to its end: there is no best configuration to confirm.")
            )
            return
        best = self._asked[min(ended)[1]]
        first = max(self._asked) + 1
        optimised = bool(best.plan.get("optimised", False))
        for run in range(self._runs):
            request = Request(
                number=first + run,
                configuration=best.configuration,
                orbit_size=best.orbit_size,
                design=DESIGN,
                probability=None,
                plan=final_plan(METHOD, run, train_on="training", optimised=optimised),
                seed_key=("run", run),
            )
            self._asked[request.number] = request
            self._confirming.append(request.number)
            self._queue.append(request)
