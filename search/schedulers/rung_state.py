"""What both variants of ASHA remember: the rungs of each search and bracket, and what was decided at them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf

from kdsearch.search.schedulers.chances import Chances
from kdsearch.search.schedulers.verdicts import Place, Promotable, Rung, Verdict


class RungState:
    """Rungs as a list, with verdicts; searches and brackets that have nothing to do with each other stay apart."""

    def __init__(self, rungs: Sequence[int], reduction_factor: float, chances: Chances | None = None) -> None:
        """rungs: epochs, 1 or more, each above the one before. reduction_factor: eta, above 1.

        Bracket s has all rungs but the first s.

        Raises:
            ValueError: something else, or more brackets than rungs.

        """
        if not rungs or rungs[0] < 1 or any(b <= a for a, b in pairwise(rungs)):
            raise ValueError(f"rungs must be 1 or more and rise: {list(rungs)}")
        if not 1 < reduction_factor < inf:
            raise ValueError(f"the reduction factor must be above 1: {reduction_factor}")
        self.rungs, self.reduction_factor = tuple(rungs), float(reduction_factor)
        self.chances = chances or Chances()
        if not 1 <= self.chances.brackets <= len(self.rungs):
            raise ValueError(f"{self.chances.brackets} brackets must have {len(self.rungs)} rungs or fewer")
        self._recorded: dict[Place, Rung] = {}
        self._passed: dict[int, dict[int, float | None]] = {}  # trial -> rung -> probability of going on

    def diverged(self, trial: int, epoch: int, *, search: str = "") -> Verdict | None:
        """Let a trial that diverged in `epoch` count as the worst at the rung it was on its way to, if there is one.

        Where it does so again, in another attempt, the first decision stands.
        """
        bracket = self.chances.bracket(trial)
        epochs = [rung for rung in self.rungs[bracket:] if rung >= epoch]
        if not epochs:
            return None
        place = Place(search, bracket, epochs[0])
        rung = self._rung(place)
        past = rung.by_trial.get(trial)
        rung.remove(trial)
        if past is not None and past.value is None:
            verdict = replace(past, reason=f"diverged in epoch {epoch} once more: the first decision stands")
        else:
            verdict = Verdict(
                trial=trial,
                rung=place.rung,
                value=None,
                cutoff=None,
                recorded=len(rung.rewards),
                stopped=False,
                reason=f"diverged in epoch {epoch}: counts as the worst",
                bracket=bracket,
                probability=1.0 if self.chances.epsilon else None,
            )
        self._put(place, verdict)
        return verdict

    def restore(self, verdicts: Iterable[tuple[str, Verdict]]) -> None:
        """Take in (search, verdict) as they came; of one trial at one rung the last stands."""
        for search, verdict in verdicts:
            self._put(Place(search, verdict.bracket, verdict.rung), verdict)

    def is_paused(self, trial: int) -> bool:
        """Whether a trial waits at a rung; none does where trials are stopped."""
        del trial
        return False

    def promotable(self) -> Iterator[Promotable]:
        """Yield the trials that may go on now, in the order in which workers take them."""
        yield from ()

    def promote(self, trial: int) -> Verdict:
        """Let a paused trial go on; KeyError if it is not paused."""
        raise KeyError(trial)

    def settle(self, trial: int) -> Verdict:
        """Stop a paused trial: nothing is left to train that could let it go on; KeyError if it is not paused."""
        raise KeyError(trial)

    def inclusion(self, trial: int) -> float | None:
        """Return the probability of a trial to come as far as it did, given what happened on its way; None: unknown.

        The product over its rungs; 1 for a trial that came to none.
        """
        product = 1.0
        for probability in self._passed.get(trial, {}).values():
            if probability is None:
                return None
            product *= probability
        return product

    def _place(self, trial: int, epoch: int, search: str) -> Place | None:
        """Where a trial is compared after an epoch; None if there is no rung for it."""
        bracket = self.chances.bracket(trial)
        return Place(search, bracket, epoch) if epoch in self.rungs[bracket:] else None

    def _rung(self, place: Place) -> Rung:
        return self._recorded.setdefault(place, Rung())

    def _put(self, place: Place, verdict: Verdict) -> None:
        self._rung(place).put(verdict)
        self._passed.setdefault(verdict.trial, {})[verdict.rung] = verdict.probability

    @property
    def _share(self) -> str:
        return f"1/{self.reduction_factor:g}"
