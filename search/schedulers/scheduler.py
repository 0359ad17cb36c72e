"""Which trials a scheduler judges, by which number, and how it comes back after an interruption.

Judged is a trial of the search after each epoch, by the error that its plan names. Never judged, and never compared
with, are pre-trainings and final trials: they stand in tables and are wanted whole. In a comparison of methods each
run of each method is a search of its own, and only its own trials are compared with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from math import isfinite
from typing import Any

from kdsearch.search.schedulers.asha import Asha
from kdsearch.search.schedulers.promotion import PromotingAsha
from kdsearch.search.schedulers.verdicts import Verdict
from kdsearch.search.searchers.plans import objective_metric
from kdsearch.search.trial_states import LiveTrial, PastTrial
from kdsearch.trainables.protocol import EpochReport, MemberState

Write = Callable[[Sequence[tuple[Verdict, int]]], None]  # verdicts, each with the trial's attempt


class Scheduler:
    """ASHA over the trials of a sweep, in either variant."""

    def __init__(self, asha: Asha | PromotingAsha) -> None:
        self.asha = asha
        self._restored: dict[int, Verdict] = {}  # trial -> the last decision before an interruption

    @property
    def save_at(self) -> tuple[int, ...]:
        """Epochs after which every trial is checkpointed: it may leave its pack there and go on in another."""
        return self.asha.rungs if isinstance(self.asha, PromotingAsha) else ()

    def leaves(
        self, trials: Mapping[int, LiveTrial], reports: Sequence[EpochReport], write: Write
    ) -> dict[int, Verdict]:
        """Judge the trials of a pack by what they report, and return by number those that leave it.

        trials: by number, those of the reports among them. write: gets every verdict.
        """
        judged = [(self.judge(trials[report.number], report), trials[report.number]) for report in reports]
        verdicts = [(verdict, trial.attempt) for verdict, trial in judged if verdict is not None]
        write(verdicts)
        return {verdict.trial: verdict for verdict, _ in verdicts if verdict.leaves}

    def judge(self, trial: LiveTrial, report: EpochReport) -> Verdict | None:
        """Judge a trial by its newest epoch; None where there is nothing to decide.

        A trial that does not report the error of its plan after an epoch is not judged there.
        """
        error = report.metrics.get(objective_metric(trial.plan))
        if not trial.search or trial.plan.get("final") or report.state is MemberState.COMPLETE:
            return None
        if report.state is MemberState.DIVERGED:
            return self.asha.diverged(trial.number, report.epoch, search=_search(trial.plan))
        if error is None:
            return None
        return self.asha.report(trial.number, report.epoch, error, search=_search(trial.plan))

    def restore(self, events: Iterable[Mapping[str, Any]], trials: Mapping[int, PastTrial]) -> None:
        """Take in the decisions that the database holds, oldest first, with the trials they are about."""
        known = {field.name for field in fields(Verdict)}
        verdicts = [
            Verdict(**{name: value for name, value in event.items() if name in known}) for event in events
        ]
        self.asha.restore((_search(trials[verdict.trial].plan), verdict) for verdict in verdicts)
        self._restored = {verdict.trial: verdict for verdict in verdicts}

    def stopped_before(self, trial: int) -> Verdict | None:
        """The decision by which a trial was stopped before an interruption, if it was; its end may not be recorded."""
        verdict = self._restored.get(trial)
        return verdict if verdict is not None and verdict.stopped else None

    def is_paused(self, trial: int) -> bool:
        """Whether a trial waits at a rung."""
        return self.asha.is_paused(trial)

    def promotable(self) -> Iterator[int]:
        """Yield paused trials that may go on now, in the order in which workers take them."""
        return (found.trial for found in self.asha.promotable())

    def promote(self, trial: int) -> Verdict:
        """Let a paused trial go on; KeyError if it is not paused."""
        return self.asha.promote(trial)

    def settle(self, trial: int) -> Verdict:
        """Stop a paused trial, since nothing is left to train that could let it go on; KeyError if it is not paused."""
        return self.asha.settle(trial)


def _search(plan: Mapping[str, Any]) -> str:
    """The search that a trial belongs to; the whole sweep, unless it compares methods."""
    return f"{plan['method']}:{plan.get('run', 0)}" if "method" in plan else ""


def told(verdict: Verdict) -> str:
    """The message of a trial that was stopped or paused."""
    return f"{'paused' if verdict.paused else 'stopped'} after epoch {verdict.rung}: {verdict.reason}"


def error_that_counts(state: str, error: float | None) -> float | None:
    """Return the error that a trial's searcher is told, None where it has none: neither complete nor stopped."""
    counts = state in {"complete", "stopped"} and error is not None and isfinite(error)
    return error if counts else None
