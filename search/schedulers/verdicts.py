"""What a scheduler decided about a trial at a rung, with the evidence, and what it remembers of each rung.

The state of a scheduler is what it decided: `Rungs` is rebuilt from the verdicts themselves, so that the next one after
a resume is the one that would have come without the interruption.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

SHOWN = 4  # significant digits of errors in reasons


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one trial at one rung, with the evidence. It goes on unless it was stopped or paused."""

    trial: int
    rung: int  # epoch
    value: float | None  # per cent, at the rung; None: not finite, or diverged before it
    cutoff: float | None  # the highest error that goes on; None: nothing to compare with, or no comparison
    recorded: int  # other trials of the same search and bracket that were at the rung before
    stopped: bool
    reason: str
    paused: bool = False  # waits at the rung until it is promoted
    late: bool = False  # of a paused trial: promoted, or stopped at the end
    bracket: int = 0
    # Of going on here, given all that happened before; None: not known. Known where promotion is randomised
    probability: float | None = None

    @property
    def leaves(self) -> bool:
        """Whether the trial leaves its pack."""
        return self.stopped or self.paused


class Place(NamedTuple):
    """Where trials are compared with one another."""

    search: str  # searches of one sweep that have nothing to do with each other stay apart
    bracket: int
    rung: int  # epoch


class Promotable(NamedTuple):
    """A paused trial that may go on now."""

    place: Place
    trial: int


@dataclass
class Rung:
    """Verdicts at one rung by trial, and their errors as rewards (minus the error, as Ray has it), lowest first."""

    by_trial: dict[int, Verdict] = field(default_factory=dict)
    rewards: list[float] = field(default_factory=list)
    _ranks: list[tuple[float, int]] = field(default_factory=list)  # (error, trial), best first

    def put(self, verdict: Verdict) -> None:
        """Take a verdict in; it takes the place of an earlier one about its trial."""
        self.remove(verdict.trial)
        self.by_trial[verdict.trial] = verdict
        insort(self.rewards, -_error(verdict))
        insort(self._ranks, (_error(verdict), verdict.trial))

    def remove(self, trial: int) -> None:
        """Forget a trial, if it is known."""
        verdict = self.by_trial.pop(trial, None)
        if verdict is not None:
            del self.rewards[bisect_left(self.rewards, -_error(verdict))]
            del self._ranks[bisect_left(self._ranks, (_error(verdict), trial))]

    def best(self, k: int) -> Iterator[Verdict]:
        """Yield the verdicts about the k trials with the lowest errors, best first; of equals the lower number."""
        return (self.by_trial[trial] for _, trial in self._ranks[:k])

    def rank(self, trial: int) -> int:
        """Return the place of a known trial, from 0 for the best."""
        return bisect_left(self._ranks, (_error(self.by_trial[trial]), trial))


def _error(verdict: Verdict) -> float:
    return inf if verdict.value is None else verdict.value
