"""What the database brings back of a sweep's trials on a resume, and how a trial of this run takes it up."""

from __future__ import annotations

from collections.abc import Mapping

from kdsearch.search.trial_states import LiveTrial, PastTrial
from kdsearch.search.trialdb.states import Ending
from kdsearch.spaces import configuration_key
from kdsearch.spaces.errors import KdsearchError

ENDED = frozenset({"complete", "diverged", "failed", "stopped"})


class History:
    """Trials by number; empty for a new sweep."""

    def __init__(self, sweep: str, trials: Mapping[int, PastTrial]) -> None:
        self._sweep, self._trials = sweep, dict(trials)
        # trials that had a worker and were cut off: they go on before anything new begins
        self.cut_off = frozenset(n for n, past in trials.items() if past.attempts and past.state not in ENDED)

    def get(self, number: int) -> PastTrial | None:
        """A trial as the database knows it; None if it does not."""
        return self._trials.get(number)

    def same(self, trial: LiveTrial) -> PastTrial | None:
        """The trial as the database knows it; None if it does not.

        Raises:
            KdsearchError: it has another configuration or plan there.

        """
        past = self._trials.get(trial.number)
        if past is None:
            return None
        differs = "configuration" if past.key != configuration_key(trial.configuration) else "plan"
        if differs == "configuration" or dict(past.plan) != dict(trial.plan):
            raise KdsearchError(
                f"trial {trial.number} of sweep {self._sweep} has another {differs} in the database",
                "The sweep file, the data or the program changed since the sweep began. Start a new sweep.",
            )
        return past


def take_up(trial: LiveTrial, past: PastTrial) -> None:
    """Let a trial that was cut off go on behind the newest checkpoint that the database knows.

    It is charged with its failures of earlier runs; the nodes of that time may be others by now.
    """
    trial.attempt = past.attempts
    trial.failures = list(past.endings).count(Ending.FAILED)
    trial.alone = Ending.FAILED in past.endings or Ending.SHARED in past.endings
    if past.checkpoint is None:
        return
    trial.checkpoint, trial.checkpoint_epoch = past.checkpoint, past.checkpoint_epoch
    count_epochs(trial, past, last=past.checkpoint_epoch)


def count_epochs(trial: LiveTrial, past: PastTrial, *, last: int | None = None) -> None:
    """Let a trial have the epochs that the database has of it, up to `last` (None: all)."""
    for epoch in past.epochs:
        if last is None or epoch.epoch <= last:
            trial.count(epoch.epoch, epoch.error, epoch.seconds)
