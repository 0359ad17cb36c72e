"""Which trials a scheduler judges, by which number, and how it comes back after an interruption.

Judged is a trial of the search after each epoch, by the error that its plan names. Never judged, and never compared
with, are pre-trainings and final trials: they stand in tables and are wanted whole. In a comparison of methods each
run of each method is a search of its own, and only its own trials are compared with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from math import isfinite
from typing import Any

from kdsearch.search.schedulers.asha import Asha, Verdict
from kdsearch.search.searchers.plans import objective_metric
from kdsearch.search.trial_states import LiveTrial, PastTrial
from kdsearch.trainables.protocol import EpochReport, MemberState


class Scheduler:
    """ASHA over the trials of a sweep."""

    def __init__(self, asha: Asha) -> None:
        self.asha = asha

    def stops(
        self,
        trials: Mapping[int, LiveTrial],
        reports: Sequence[EpochReport],
        write: Callable[[Verdict, int], None],
    ) -> dict[int, Verdict]:
        """Judge the trials of a pack by what they report, and return the stops by number.

        trials: by number, those of the reports among them. write: gets every verdict and the trial's attempt.
        """
        stops = {}
        for report in reports:
            trial = trials[report.number]
            verdict = self.judge(trial, report)
            if verdict is None:
                continue
            write(verdict, trial.attempt)
            if verdict.stopped:
                stops[report.number] = verdict
        return stops

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
        known = [field.name for field in fields(Verdict)]
        verdicts = [Verdict(**{name: event[name] for name in known}) for event in events]
        self.asha.restore((_search(trials[verdict.trial].plan), verdict) for verdict in verdicts)


def _search(plan: Mapping[str, Any]) -> str:
    """The search that a trial belongs to; the whole sweep, unless it compares methods."""
    return f"{plan['method']}:{plan.get('run', 0)}" if "method" in plan else ""


def told(verdict: Verdict) -> str:
    """The message of a trial that was stopped."""
    return f"stopped after epoch {verdict.rung}: {verdict.reason}"


def error_that_counts(state: str, error: float | None) -> float | None:
    """Return the error that a trial's searcher is told, None where it has none: neither complete nor stopped."""
    counts = state in {"complete", "stopped"} and error is not None and isfinite(error)
    return error if counts else None
