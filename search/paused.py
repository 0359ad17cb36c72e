"""Trials that a scheduler paused at a rung: who goes on when a worker is free, and in which pack.

What a scheduler decides is a trial's business; that trials go on in packs is the coordinator's. A pack of promoted
trials has one shape and goes on behind one epoch, since only trials that are equally far share an epoch: behind a
rung's, or an earlier one where a checkpoint could not be written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdsearch.search.packing import shape_of
from kdsearch.search.schedulers.scheduler import Scheduler, Write
from kdsearch.search.schedulers.verdicts import Verdict
from kdsearch.search.trial_states import LiveTrial
from kdsearch.trainables.protocol import TrainableKind


class Paused:
    """Paused trials by number; without a scheduler that pauses there are none."""

    def __init__(
        self,
        scheduler: Scheduler | None,
        write: Write,
        *,
        kind: TrainableKind,
        settings: Mapping[str, object],
        most: int,
    ) -> None:
        """most: trials of a pack. write: gets every verdict."""
        self._scheduler, self._write = scheduler, write
        self._kind, self._settings, self._most = kind, settings, most
        self._trials: dict[int, LiveTrial] = {}

    def __len__(self) -> int:
        """Trials that wait to be promoted."""
        return len(self._trials)

    def add(self, trial: LiveTrial) -> None:
        """A trial was paused."""
        self._trials[trial.number] = trial

    def holds(self, number: int) -> bool:
        """Whether the scheduler has a trial wait, also one that it learned of from the database."""
        return self._scheduler is not None and self._scheduler.is_paused(number)

    def promoted(self) -> list[int]:
        """Promote trials for one pack, the scheduler's first choice and those that fit it; none if nobody may go on."""
        if self._scheduler is None or not self._trials:
            return []
        found = [self._trials[number] for number in self._scheduler.promotable()]
        if not found:
            return []
        key = self._key(found[0])
        pack = [trial for trial in found if self._key(trial) == key][: self._most]
        self._write([(self._scheduler.promote(trial.number), trial.attempt) for trial in pack])
        for trial in pack:
            del self._trials[trial.number]
        return sorted(trial.number for trial in pack)

    def settle(self) -> Sequence[tuple[LiveTrial, Verdict]]:
        """Give up all paused trials, by number: nothing is left to train that could let one of them go on."""
        trials = [self._trials[number] for number in sorted(self._trials)]
        self._trials.clear()
        if self._scheduler is None:
            return []
        settled = [(trial, self._scheduler.settle(trial.number)) for trial in trials]
        self._write([(verdict, trial.attempt) for trial, verdict in settled])
        return settled

    def _key(self, trial: LiveTrial) -> tuple[object, ...]:
        alone = trial.number if trial.alone else None
        return (alone, trial.checkpoint_epoch, *shape_of(trial, self._kind, self._settings))
