"""ASHA, asynchronous successive halving, in the variant that stops (Li et al. 2020; Ray's `AsyncHyperBandScheduler`).

A trial that reaches a rung is compared with those that were there before it, and goes on if its error is within the
best 1/eta of theirs. Nobody is waited for: the first at a rung always goes on. With c the linear percentile of the
errors recorded at the rung so far, at 1/eta from the best, a trial is stopped if its error is above c; then it is
recorded itself. This is Ray's rule to the last bit (`cutoff`), on a list of rungs in place of its geometric ones. What
differs: an error that is not finite is the worst there is, where Ray passes over it and lets the trial go on.

Where promotion is randomised (epsilon > 0), a trial that the rule would stop goes on all the same with probability
epsilon. Then every trial that is trained to its end has a known probability of that: the product over its rungs of 1,
where the rule let it go on, and epsilon, where chance did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf, isfinite

from kdsearch.search.schedulers.rung_state import RungState
from kdsearch.search.schedulers.verdicts import SHOWN, Place, Verdict


class Asha(RungState):
    """The variant that stops."""

    def report(self, trial: int, epoch: int, error: float, *, search: str = "") -> Verdict | None:
        """Judge a trial by its error (per cent) after `epoch` (from 1); None if there is no rung at this epoch.

        A trial is judged once at a rung. Where it comes again, in another attempt, its new error takes the place of
        the old one and the decision stands: it was what the other trials were compared with.
        """
        place = self._place(trial, epoch, search)
        if place is None:
            return None
        rung = self._rung(place)
        past = rung.by_trial.get(trial)
        rung.remove(trial)
        verdict = self._spared(place, self._by_rule(place, trial, error, rung.rewards))
        if past is not None and past.value is not None and isfinite(error):
            reason = f"at epoch {epoch} once more: the first decision stands"
            verdict = replace(past, value=error, reason=reason)
        self._put(place, verdict)
        return verdict

    def _by_rule(self, place: Place, trial: int, error: float, rewards: Sequence[float]) -> Verdict:
        highest = cutoff(rewards, self.reduction_factor)
        stopped = not isfinite(error) or (highest is not None and error > highest)
        return Verdict(
            trial=trial,
            rung=place.rung,
            value=error if isfinite(error) else None,
            cutoff=highest,
            recorded=len(rewards),
            stopped=stopped,
            reason=self._reason(error, highest, len(rewards)),
            bracket=place.bracket,
            probability=(self.chances.epsilon if stopped else 1.0) if self.chances.epsilon else None,
        )

    def _spared(self, place: Place, verdict: Verdict) -> Verdict:
        """Let chance decide where the rule would stop a trial."""
        if not verdict.stopped or not self.chances.spared(verdict.trial, place.rung):
            return verdict
        reason = f"{verdict.reason}; goes on by chance (probability {self.chances.epsilon:g})"
        return replace(verdict, stopped=False, reason=reason)

    def _reason(self, error: float, highest: float | None, n: int) -> str:
        if not isfinite(error):
            return f"its error is {error}"
        if highest is None:
            return "the first there: nothing to compare with"
        where = "not within" if error > highest else "within"
        return f"{error:.{SHOWN}g} % is {where} the best {self._share} of {n} (up to {highest:.{SHOWN}g} %)"


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
