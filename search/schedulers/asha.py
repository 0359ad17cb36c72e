"""ASHA, asynchronous successive halving, in the variant that stops (Li et al. 2020; Ray's `AsyncHyperBandScheduler`).

A trial that reaches a rung is compared with those that were there before it, and goes on if its error is within the
best 1/eta of theirs. Nobody is waited for: the first at a rung always goes on. With c the linear percentile of the
errors recorded at the rung so far, at 1/eta from the best, a trial is stopped if its error is above c; then it is
recorded itself. This is Ray's rule to the last bit (`cutoff`), on a list of rungs in place of its geometric ones. What
differs: an error that is not finite is the worst there is, where Ray passes over it and lets the trial go on.

The state is what was recorded. It is rebuilt from the verdicts themselves (`restore`), so that the next verdict after a
resume is the one that would have come without the interruption.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, isfinite

SHOWN = 4  # significant digits of errors in reasons


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one trial at one rung, with the evidence."""

    trial: int
    rung: int  # epoch
    value: float | None  # per cent, at the rung; None: not finite, or diverged before it
    cutoff: float | None  # the highest error that goes on; None: nothing to compare with, or no comparison
    recorded: int  # other trials of the same search that were at the rung before
    stopped: bool
    reason: str


@dataclass
class _Rung:
    """Errors at one rung, kept as rewards (minus the error, as Ray has it), lowest first."""

    by_trial: dict[int, Verdict] = field(default_factory=dict)
    rewards: list[float] = field(default_factory=list)

    def put(self, verdict: Verdict) -> None:
        self.remove(verdict.trial)
        self.by_trial[verdict.trial] = verdict
        insort(self.rewards, _reward(verdict))

    def remove(self, trial: int) -> None:
        if trial in self.by_trial:
            del self.rewards[bisect_left(self.rewards, _reward(self.by_trial.pop(trial)))]


def _reward(verdict: Verdict) -> float:
    return -inf if verdict.value is None else -verdict.value


class Asha:
    """Rungs and what was recorded at them; searches of one sweep that have nothing to do with each other stay apart."""

    def __init__(self, rungs: Sequence[int], reduction_factor: float) -> None:
        """rungs: epochs, 1 or more, each above the one before. reduction_factor: eta, above 1.

        Raises:
            ValueError: something else.

        """
        if not rungs or rungs[0] < 1 or any(b <= a for a, b in pairwise(rungs)):
            raise ValueError(f"rungs must be 1 or more and rise: {list(rungs)}")
        if not 1 < reduction_factor < inf:
            raise ValueError(f"the reduction factor must be above 1: {reduction_factor}")
        self.rungs, self.reduction_factor = tuple(rungs), float(reduction_factor)
        self._recorded: dict[tuple[str, int], _Rung] = {}

    def report(self, trial: int, epoch: int, error: float, *, search: str = "") -> Verdict | None:
        """Judge a trial by its error (per cent) after `epoch` (from 1); None if there is no rung at this epoch.

        A trial is judged once at a rung. Where it comes again, in another attempt, its new error takes the place of
        the old one and the decision stands: it was what the other trials were compared with.
        """
        if epoch not in self.rungs:
            return None
        rung = self._recorded.setdefault((search, epoch), _Rung())
        past = rung.by_trial.get(trial)
        rung.remove(trial)
        highest, n = cutoff(rung.rewards, self.reduction_factor), len(rung.rewards)
        stopped = not isfinite(error) or (highest is not None and error > highest)
        reason = self._reason(error, highest, n)
        if past is not None and past.value is not None and isfinite(error):
            stopped, highest, n = past.stopped, past.cutoff, past.recorded
            reason = f"at epoch {epoch} once more: the first decision stands"
        verdict = Verdict(
            trial=trial,
            rung=epoch,
            value=error if isfinite(error) else None,
            cutoff=highest,
            recorded=n,
            stopped=stopped,
            reason=reason,
        )
        rung.put(verdict)
        return verdict

    def diverged(self, trial: int, epoch: int, *, search: str = "") -> Verdict | None:
        """Let a trial that diverged in `epoch` count as the worst at the rung it was on its way to, if there is one."""
        epochs = [rung for rung in self.rungs if rung >= epoch]
        if not epochs:
            return None
        rung = self._recorded.setdefault((search, epochs[0]), _Rung())
        rung.remove(trial)
        verdict = Verdict(
            trial=trial,
            rung=epochs[0],
            value=None,
            cutoff=None,
            recorded=len(rung.rewards),
            stopped=False,
            reason=f"diverged in epoch {epoch}: counts as the worst",
        )
        rung.put(verdict)
        return verdict

    def restore(self, verdicts: Iterable[tuple[str, Verdict]]) -> None:
        """Take in (search, verdict) as they came; of one trial at one rung the last stands."""
        for search, verdict in verdicts:
            self._recorded.setdefault((search, verdict.rung), _Rung()).put(verdict)

    def _reason(self, error: float, highest: float | None, n: int) -> str:
        if not isfinite(error):
            return f"its error is {error}"
        if highest is None:
            return "the first there: nothing to compare with"
        where = "not within" if error > highest else "within"
        share = f"1/{self.reduction_factor:g}"
        return f"{error:.{SHOWN}g} % is {where} the best {share} of {n} (up to {highest:.{SHOWN}g} %)"


def cutoff(rewards: Sequence[float], reduction_factor: float) -> float | None:
    """Return the highest error that goes on, per cent; None where nothing is recorded.

    rewards: minus the errors recorded, lowest first; minus infinity for a trial that diverged. It is minus
    `numpy.percentile(rewards, (1 - 1 / reduction_factor) * 100)`, to the last bit, without NaN at infinities.
    """
    if not rewards:
        return None
    position = (len(rewards) - 1) * ((1 - 1 / reduction_factor) * 100 / 100)
    below = int(position)
    low, high = rewards[below], rewards[min(below + 1, len(rewards) - 1)]
    part = position - below
    if part == 0 or low in {high, -inf}:
        return -low
    # numpy goes from the nearer end, so that the result is right at both
    return -(low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part))  # noqa: PLR2004
