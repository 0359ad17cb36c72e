"""Writes down what a searcher drew and decided, and what a scheduler decided: spaces, draws, events, as they come."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import islice
from typing import Any

from kdsearch.search.schedulers.verdicts import Verdict
from kdsearch.search.searchers.base import Decision, Draw, Note, Record, Stage
from kdsearch.search.trialdb import operations as op
from kdsearch.search.trialdb.record import SCHEDULER


class Logbook:
    """The searcher's and the scheduler's side of the record; trials are written by the coordinator."""

    def __init__(
        self, sweep: str, submit: Callable[[op.Operation], None], clock: Callable[[], datetime]
    ) -> None:
        self._sweep, self._submit, self._clock = sweep, submit, clock
        self._waiting: dict[int, list[Draw]] = {}  # by trials that are not in the database yet
        self._trials = 0  # how many are

    def write(self, records: Sequence[Record], trials: Collection[int]) -> None:
        """Write records in order; a draw waits until its trial is among `trials`, in order, which only grow."""
        ready: list[Draw] = []
        for record in records:
            match record:
                case Draw() if record.trial in trials:
                    ready.append(record)
                case Draw():
                    self._waiting.setdefault(record.trial, []).append(record)
                case Stage():
                    self._submit(op.AddSpaces(self._sweep, (_space_row(record),)))
                case Decision():
                    self._event("decision", f"{record.space}:{record.look}", asdict(record))
                case Note(text):
                    self._event("note", text, {"text": text})
        if self._waiting and len(trials) > self._trials:
            new = islice(trials, self._trials, None)  # called after every epoch, and draws that wait are many
            ready = [*(draw for trial in new for draw in self._waiting.pop(trial, ())), *ready]
        self._trials = len(trials)
        if ready:
            rows = (
                op.DrawRow(space=draw.space, draw=draw.draw, trial=draw.trial, fresh=draw.fresh)
                for draw in ready
            )
            self._submit(op.AddDraws(self._sweep, tuple(rows)))

    def judged(self, verdicts: Sequence[tuple[Verdict, int]]) -> None:
        """Write down what the scheduler decided about trials at rungs, each with the trial's attempt (from 1).

        As one operation: of trials that are promoted together none is forgotten alone.
        """
        rows = tuple(
            self._row(
                SCHEDULER,
                f"{verdict.trial}:{attempt}:{verdict.rung}{':late' if verdict.late else ''}",
                {**asdict(verdict), "attempt": attempt},
            )
            for verdict, attempt in verdicts
        )
        if rows:
            self._submit(op.AddEvents(self._sweep, rows))

    def _event(self, kind: str, name: str, data: Mapping[str, Any]) -> None:
        self._submit(op.AddEvents(self._sweep, (self._row(kind, name, data),)))

    def _row(self, kind: str, name: str, data: Mapping[str, Any]) -> op.EventRow:
        """An event; `name` makes it the same event when a resume comes upon it again."""
        key = hashlib.sha256(f"{self._sweep}\x1f{kind}\x1f{name}".encode()).hexdigest()[:32]
        return op.EventRow(kind=kind, at=self._clock(), data=data, key=key)


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
