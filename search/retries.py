"""Who is tried again after a failure: how often, when, and where not.

A trial that fails alone is charged with it, waits (longer each time: back-off), and is tried again, on another node if
there is one, until it has failed `attempts` times. Of the members of a pack nobody knows who is to blame: each is tried
again alone, at once. What a node does to its trials is not charged to them, but a trial whose nodes are gone again and
again is given up too: it may be what brings them down. Where the storage of checkpoints and weights cannot be reached
nobody is charged either, and the wait grows as it does after a failure.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import datetime, timedelta

from kdsearch.search.failures import Cause, Failure
from kdsearch.search.trial_states import LiveTrial
from kdsearch.search.trialdb.states import Ending

LONGEST_S = 600.0  # seconds that a back-off grows to
NODES_LOST = 10  # nodes that a trial may lose
STORAGE_LOST = 20  # attempts that may end because files could not be reached: some two hours of back-off
RETURNED_S = 1.0  # seconds until what was handed out in vain is handed out again


class Retries:
    """Trials that wait to be tried again, each alone."""

    def __init__(self, clock: Callable[[], datetime], *, attempts: int, backoff_s: float) -> None:
        """attempts: failures after which a trial is given up. backoff_s: seconds before the first retry; doubled."""
        self._clock, self._attempts, self._backoff_s = clock, attempts, backoff_s
        self._queue: list[tuple[datetime, int, int]] = []  # heap of (due, order of coming, trial)
        self._came = 0

    def __len__(self) -> int:
        """Trials that wait."""
        return len(self._queue)

    @property
    def next_due(self) -> datetime | None:
        """When the next trial may be tried again; None if none waits."""
        return self._queue[0][0] if self._queue else None

    def charge(self, trial: LiveTrial, failure: Failure, *, alone: bool, node: str | None) -> Ending:
        """Count a failure of a pack with this member; node: where that was, if it is known."""
        trial.returned = 0
        if failure.cause is Cause.STORAGE:
            trial.storage_lost += 1
            return Ending.LOST
        if node is not None:
            trial.avoid |= {node}
        if failure.cause is Cause.NODE:
            trial.nodes_lost += 1
            return Ending.LOST
        trial.alone = True
        if not alone:
            return Ending.SHARED
        trial.failures += 1
        trial.stuck = 0 if trial.progressed else trial.stuck + 1
        if trial.stuck and (failure.cause is Cause.ERROR or trial.stuck > 1):
            trial.checkpoint, trial.checkpoint_epoch = None, 0  # it may be what fails
        return Ending.FAILED

    def given_up(self, trial: LiveTrial) -> str | None:
        """Why a trial is not tried again; None if it is."""
        if trial.failures >= self._attempts:
            return f"failed in {trial.failures} attempt{'s' * (trial.failures != 1)}"
        if trial.nodes_lost >= NODES_LOST:
            return f"{trial.nodes_lost} times its node was gone"
        if trial.storage_lost >= STORAGE_LOST:
            return f"{trial.storage_lost} times its files could not be reached"
        return None

    def add(self, trial: LiveTrial, ending: Ending) -> None:
        """Let a trial wait for as long as its failures say; one that is not charged may go at once."""
        failures = trial.failures if ending is Ending.FAILED else trial.storage_lost
        self._push(trial, self.delay_s(failures) if failures and ending is not Ending.SHARED else 0.0)

    def _push(self, trial: LiveTrial, wait_s: float) -> None:
        heapq.heappush(self._queue, (self._clock() + timedelta(seconds=wait_s), self._came, trial.number))
        self._came += 1

    def put_back(self, trial: LiveTrial) -> None:
        """Let a trial wait a moment that was handed out in vain."""
        self._push(trial, RETURNED_S)

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after so many failures."""
        return min(self._backoff_s * 2.0 ** min(failures - 1, 30), LONGEST_S)

    def due(self) -> int | None:
        """The number of the trial that has waited long enough and came first, taken from the queue; None if none."""
        if not self._queue or self._queue[0][0] > self._clock():
            return None
        return heapq.heappop(self._queue)[2]
