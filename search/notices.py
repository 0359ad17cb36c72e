"""What is shown of troubles while a sweep runs, and written down: packs that wait, files that could not be written.

A notice is shown as long as it holds; what it tells is written down as an event once, when it begins, and once when it
is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

from kdsearch.search.trialdb import operations as op

CLUSTER: Final = "cluster"  # event: packs that no node can place, nodes that come and go
CHECKPOINT: Final = "checkpoint"  # event: a checkpoint could not be written, or they are written again
DISPLAY: Final = "display"  # event: the progress display ended by a fault of its own

# what an event tells (its `what`), where others look for it
NO_NODE: Final = "no node fits"
TAKEN: Final = "no room is free"
KEPT_OFF: Final = "room is free only where packs failed"
PLACED: Final = "placed"
LEFT_OUT, USED, NODE_LEFT = "node left out", "node used after all", "node left"
NOT_WRITTEN, WRITTEN_AGAIN = "not written", "written again"
ANEW: Final = "another driver took over"  # what stood before was the last one's


class Notices:
    """The notices of one sweep, by what they are about."""

    def __init__(
        self, sweep: str, submit: Callable[[op.Operation], None], clock: Callable[[], datetime]
    ) -> None:
        self._sweep, self._submit, self._clock = sweep, submit, clock
        self._open: dict[str, str] = {}

    @property
    def texts(self) -> tuple[str, ...]:
        """What holds now."""
        return tuple(self._open.values())

    def holds(self, about: str) -> bool:
        """Whether there is a notice about something."""
        return about in self._open

    def show(self, about: str, text: str) -> None:
        """Show a notice, or its newest wording."""
        self._open[about] = text

    def over(self, about: str) -> None:
        """Show it no more."""
        self._open.pop(about, None)

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        """Write an event down."""
        self._submit(op.AddEvents(self._sweep, (op.EventRow(kind=kind, at=self._clock(), data=data),)))


class Unsaved:
    """Checkpoints that workers could not write: trials go on without, and it is said."""

    def __init__(self, notices: Notices) -> None:
        self._notices, self._missed = notices, 0

    def take(self, saved: Mapping[int, str], unsaved: list[tuple[int, int, str]]) -> None:
        """Take in what one epoch of a pack wrote and did not write."""
        if unsaved:
            number, epoch, why = unsaved[-1]
            if not self._missed:
                told = {"what": NOT_WRITTEN, "trial": number, "epoch": epoch, "reason": why}
                self._notices.event(CHECKPOINT, told)
            self._missed += len(unsaved)
            self._notices.show(
                CHECKPOINT,
                f"{self._missed} checkpoint{'s' * (self._missed != 1)} could not be written; trials go on, and would "
                f"begin again behind their last one: {why}",
            )
        elif saved and self._missed:
            self._notices.event(CHECKPOINT, {"what": WRITTEN_AGAIN, "missed": self._missed})
            self._notices.over(CHECKPOINT)
            self._missed = 0


class Told(Protocol):
    """An event as it is read back."""

    @property
    def at(self) -> datetime:
        """When it happened."""

    @property
    def data(self) -> Mapping[str, Any]:
        """What it tells."""


def standing(events: Iterable[Told]) -> list[str]:
    """What still holds after a sweep's events of the kinds `CLUSTER` and `CHECKPOINT`, in their order, in words."""
    held: dict[str, str] = {}
    for event in events:
        told, since = event.data, f"since {event.at:%Y-%m-%d %H:%M} UTC"
        what = told.get("what")
        if what == ANEW:
            held.clear()
        elif what in {NO_NODE, TAKEN, KEPT_OFF}:
            held[CLUSTER] = f"packs wait for a place {since}: {what}"
        elif what == PLACED:
            held.pop(CLUSTER, None)
        elif what == LEFT_OUT:
            held[told["node"]] = f"node {told['node']} is not used {since}: {told['reason']}"
        elif what in {USED, NODE_LEFT}:
            held.pop(told["node"], None)
        elif what == NOT_WRITTEN:
            held[CHECKPOINT] = f"checkpoints cannot be written {since}: {told['reason']}"
        elif what == WRITTEN_AGAIN:
            held.pop(CHECKPOINT, None)
    return list(held.values())
