"""ASHA in the variant that promotes: Algorithm 2 of Li et al., "A system for massively parallel hyperparameter tuning".

A trial that reaches a rung is paused there, with a checkpoint. Whenever a worker is free, the highest rung that has one
gives it a trial: with n trials at the rung, the best of its paused ones that is among the best floor(n / eta) of all n.
If no rung has one, a new trial begins. No trial is lost: one that is not promoted now may be, once more trials are at
its rung. When nothing is left to train, those that still wait are stopped.

Where promotion is randomised (epsilon > 0), a trial is judged as it arrives: among the best floor(n / eta), itself
counted, it goes on at once; otherwise it goes on with probability epsilon and is paused else. A paused trial that is
promoted later has no known probability of that, and stands in no EDF.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from math import floor, isfinite

from kdsearch.search.schedulers.chances import Chances
from kdsearch.search.schedulers.rung_state import RungState
from kdsearch.search.schedulers.verdicts import SHOWN, Place, Promotable, Rung, Verdict


class PromotingAsha(RungState):
    """The variant that promotes."""

    def __init__(self, rungs: Sequence[int], reduction_factor: float, chances: Chances | None = None) -> None:
        """Take the same as the variant that stops."""
        super().__init__(rungs, reduction_factor, chances)
        self._eta = Fraction(repr(self.reduction_factor))
        self._paused: dict[int, Place] = {}
        self._open: set[Place] = set()  # rungs that may have somebody to promote

    def report(self, trial: int, epoch: int, error: float, *, search: str = "") -> Verdict | None:
        """Record a trial's error (per cent) after `epoch` (from 1); None if there is no rung at this epoch.

        A trial that was promoted from the rung and comes there again, in another attempt, goes on: its new error takes
        the place of the old one and the decision stands.
        """
        place = self._place(trial, epoch, search)
        if place is None:
            return None
        past = self._rung(place).by_trial.get(trial)
        if past is not None and past.value is not None and isfinite(error):
            reason = f"at epoch {epoch} once more: the first decision stands"
            verdict = replace(past, value=error, late=False, reason=reason)
        elif isfinite(error):
            verdict = self._arrived(place, trial, error)
        else:
            verdict = self._lost(place, trial, error)
        self._put(place, verdict)
        return verdict

    def promotable(self) -> Iterator[Promotable]:
        """Yield the trials that may go on now, in the order in which workers take them."""
        for place in sorted(self._open, key=lambda each: (-each.rung, each.bracket, each.search)):
            rung = self._recorded[place]
            best = [verdict.trial for verdict in rung.best(self._most(rung)) if verdict.paused]
            if not best:
                self._open.discard(place)
            yield from (Promotable(place, trial) for trial in best)

    def promote(self, trial: int) -> Verdict:
        """Let a paused trial go on.

        Raises:
            KeyError: it is not paused.

        """
        place = self._paused[trial]
        rung = self._recorded[place]
        most = self._most(rung)
        last = list(rung.best(most))[-1].value if most else None
        reason = f"promoted: {self._told(rung, trial)}, of which the best {most} go on"
        verdict = replace(
            rung.by_trial[trial],
            cutoff=last,
            recorded=len(rung.by_trial) - 1,
            paused=False,
            late=True,
            reason=reason,
            probability=None,
        )
        self._put(place, verdict)
        return verdict

    def settle(self, trial: int) -> Verdict:
        """Stop a paused trial: nothing is left to train that could let it go on.

        Raises:
            KeyError: it is not paused.

        """
        place = self._paused[trial]
        rung = self._recorded[place]
        reason = f"not promoted: {self._told(rung, trial)} when nothing else was left to train"
        verdict = replace(rung.by_trial[trial], paused=False, stopped=True, late=True, reason=reason)
        self._put(place, verdict)
        return verdict

    def is_paused(self, trial: int) -> bool:
        """Whether a trial waits at a rung."""
        return trial in self._paused

    def _put(self, place: Place, verdict: Verdict) -> None:
        super()._put(place, verdict)
        self._open.add(place)
        if verdict.paused:
            self._paused[verdict.trial] = place
        elif self._paused.get(verdict.trial) == place:
            del self._paused[verdict.trial]

    def _arrived(self, place: Place, trial: int, error: float) -> Verdict:
        rung = self._rung(place)
        waits = Verdict(
            trial=trial,
            rung=place.rung,
            value=error,
            cutoff=None,
            recorded=len(rung.by_trial) - (trial in rung.by_trial),
            stopped=False,
            paused=True,
            reason=f"{error:.{SHOWN}g} % waits to be promoted",
            bracket=place.bracket,
        )
        return self._judged_at_once(rung, waits) if self.chances.epsilon else waits

    def _judged_at_once(self, rung: Rung, waits: Verdict) -> Verdict:
        """Decide on arrival, so that the probability is known."""
        rung.put(waits)
        most = self._most(rung)
        told = self._told(rung, waits.trial)
        if rung.rank(waits.trial) < most:
            reason = f"promoted on arrival: {told}, of which the best {most} go on"
            return replace(waits, paused=False, reason=reason, probability=1.0)
        if self.chances.spared(waits.trial, waits.rung):
            reason = f"{told}; goes on by chance (probability {self.chances.epsilon:g})"
            return replace(waits, paused=False, reason=reason, probability=self.chances.epsilon)
        return replace(waits, probability=self.chances.epsilon)

    def _lost(self, place: Place, trial: int, error: float) -> Verdict:
        """Judge a trial whose error is not finite: it would never be promoted."""
        rung = self._rung(place)
        rung.remove(trial)
        spared = self.chances.spared(trial, place.rung)
        chance = f"; goes on by chance (probability {self.chances.epsilon:g})" if spared else ""
        return Verdict(
            trial=trial,
            rung=place.rung,
            value=None,
            cutoff=None,
            recorded=len(rung.by_trial),
            stopped=not spared,
            reason=f"its error is {error}{chance}",
            bracket=place.bracket,
            probability=self.chances.epsilon or None,
        )

    def _most(self, rung: Rung) -> int:
        """Return how many of a rung go on: floor(n / eta), of eta as it is written (33 / 1.1 is 30)."""
        return floor(len(rung.by_trial) / self._eta)

    def _told(self, rung: Rung, trial: int) -> str:
        value = rung.by_trial[trial].value
        shown = "" if value is None else f"{value:.{SHOWN}g} % "
        return f"{shown}is number {rung.rank(trial) + 1} of {len(rung.by_trial)}"
