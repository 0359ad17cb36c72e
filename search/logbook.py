"""Writes down what a searcher drew and decided, and what a scheduler decided: spaces, draws, events, as they come."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from kdsearch.search.schedulers.asha import Verdict
from kdsearch.search.searchers.base import Decision, Draw, Note, Record, Stage
from kdsearch.search.trialdb import operations as op
from kdsearch.search.trialdb.record import SCHEDULER


class Logbook:
    """The searcher's and the scheduler's side of the record; trials are written by the coordinator."""

    def __init__(
        self, sweep: str, submit: Callable[[op.Operation], None], clock: Callable[[], datetime]
    ) -> None:
        self._sweep, self._submit, self._clock = sweep, submit, clock
        self.draws: list[Draw] = []  # answered by trials that are not in the database yet
        self._trials = 0  # when draws were last looked through

    def write(self, records: Sequence[Record], trials: Collection[int]) -> None:
        """Write records in order; a draw waits until its trial is among `trials`, which only grow."""
        for record in records:
            match record:
                case Draw():
                    self.draws.append(record)
                case Stage():
                    self._submit(op.AddSpaces(self._sweep, (_space_row(record),)))
                case Decision():
                    self._event("decision", f"{record.space}:{record.look}", asdict(record))
                case Note(text):
                    self._event("note", text, {"text": text})
        if not records and len(trials) == self._trials:
            return  # called after every epoch: draws that wait are many, and nothing is new
        self._trials = len(trials)
        ready = tuple(
            op.DrawRow(space=draw.space, draw=draw.draw, trial=draw.trial, fresh=draw.fresh)
            for draw in self.draws
            if draw.trial in trials
        )
        if ready:
            self._submit(op.AddDraws(self._sweep, ready))
            self.draws = [draw for draw in self.draws if draw.trial not in trials]

    def judged(self, verdict: Verdict, attempt: int) -> None:
        """Write down what the scheduler decided about a trial at a rung, in one of its attempts (from 1)."""
        data = {**asdict(verdict), "attempt": attempt}
        self._event(SCHEDULER, f"{verdict.trial}:{attempt}:{verdict.rung}", data)

    def _event(self, kind: str, name: str, data: Mapping[str, Any]) -> None:
        """Append an event; `name` makes it the same event when a resume comes upon it again."""
        key = hashlib.sha256(f"{self._sweep}\x1f{kind}\x1f{name}".encode()).hexdigest()[:32]
        row = op.EventRow(kind=kind, at=self._clock(), data=data, key=key)
        self._submit(op.AddEvents(self._sweep, (row,)))


def _space_row(stage: Stage) -> op.SpaceRow:
    space = stage.space
    return op.SpaceRow(
        name=space.name or "A",
        specification=space.to_spec(),
        hash=space.hash,
        counts=asdict(space.counts()),
        parent=stage.parent,
        restriction=None if space.restriction is None else str(space.restriction),
        restriction_data=None if space.restriction is None else space.restriction.to_dict(),
        exhaustive=stage.exhaustive,
        repeats=stage.repeats,
    )
