"""Which condition a refinement fixes, given the table of all conditions of a space.

best-auc: the condition with the best AUC over all groups (Iwata et al.: each step fixes the single best condition).
significant: that condition too, but only when its comparison with the rest of the same space is decided at the
    step's share of alpha after Holm; otherwise more draws, up to a budget; otherwise stop and say so.
interactive: a person sees the table and chooses.

alpha is divided evenly among the steps that a refinement can take (one for each group of conditions) and, within a
step, among the looks at the growing sample, so that the chance that a refinement ever fixes a condition that makes no
difference stays at most alpha (union bound; statistics reference: repeated looks void a fixed-n test).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn, Protocol

from kdsearch.analysis.conditions import ConditionRow
from kdsearch.search.searcher_settings import RefinementSettings


class Verdict(StrEnum):
    """What to do with a space after a look at it."""

    FIX = "fix"
    DRAW_MORE = "draw more"
    STOP = "stop"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A policy's answer, with its reason in a sentence for the reader."""

    verdict: Verdict
    reason: str
    row: ConditionRow | None = None
    chooser: str = "kdsearch"


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a policy is shown: one look at one space."""

    space: str
    step: int  # counts from 1
    number: int  # which look at this space, from 1
    draws: int
    last: bool  # the budget of draws is spent
    alpha: float  # level of this look
    table: Sequence[ConditionRow]


class Policy(Protocol):
    """Judges a look."""

    @property
    def name(self) -> str:
        """As sweep files call it."""

    def judge(self, look: Look) -> Choice:
        """Fix a condition, ask for more draws, or stop."""


# Shows a look to a person; returns the chosen row (None: stop) and the person's name.
Chooser = Callable[[Look, Sequence[ConditionRow]], tuple[ConditionRow | None, str]]


def candidates(table: Sequence[ConditionRow], min_draws: int) -> list[ConditionRow]:
    """Conditions with enough draws on both sides to be fixed, best AUC first (ties: in the order of the table)."""
    total = {row.group: sum(r.n for r in table if r.group == row.group) for row in table}
    able = [r for r in table if r.auc is not None and r.n >= min_draws and total[r.group] > r.n]
    return sorted(able, key=lambda row: -(row.auc or 0.0))


@dataclass(frozen=True)
class BestAuc:
    """Fix the best condition, whatever its p."""

    min_draws: int
    name: str = "best-auc"

    def judge(self, look: Look) -> Choice:
        """Fix the best condition; stop if none has enough draws."""
        rows = candidates(look.table, self.min_draws)
        if not rows:
            return _too_few(self.min_draws)
        return Choice(
            verdict=Verdict.FIX, reason=f"best AUC of all conditions: {evidence(rows[0])}", row=rows[0]
        )


@dataclass(frozen=True)
class Significant:
    """Fix the best condition when the data decide it."""

    min_draws: int
    name: str = "significant"

    def judge(self, look: Look) -> Choice:
        """Fix, draw more while the budget lasts, or stop."""
        rows = candidates(look.table, self.min_draws)
        best = rows[0] if rows else None
        if best is not None and best.p_holm is not None and best.p_holm <= look.alpha and _better(best):
            reason = f"decided at level {look.alpha:.2g}: {evidence(best)}"
            return Choice(verdict=Verdict.FIX, reason=reason, row=best)
        told = _too_few(self.min_draws).reason if best is None else evidence(best)
        if not look.last:
            return Choice(
                verdict=Verdict.DRAW_MORE, reason=f"not decided at level {look.alpha:.2g} yet: {told}"
            )
        decided = [row for row in look.table if row.p_holm is not None and row.p_holm <= look.alpha]
        others = (
            f"; decided, but not the best: {', '.join(f'{r.group} = {r.value}' for r in decided)}"
            if decided
            else ""
        )
        needed = f"; about {best.n_needed} further draws would be needed" if best and best.n_needed else ""
        budget = f"within the budget of {look.draws} draws"
        reason = f"not decided at level {look.alpha:.2g} {budget}: {told}{needed}{others}"
        return Choice(verdict=Verdict.STOP, reason=reason)


@dataclass(frozen=True)
class Interactive:
    """A person chooses."""

    min_draws: int
    choose: Chooser
    name: str = "interactive"

    def judge(self, look: Look) -> Choice:
        """Ask the person."""
        rows = candidates(look.table, 1)
        if not rows:
            return _too_few(1)
        row, who = self.choose(look, rows)
        if row is None:
            return Choice(verdict=Verdict.STOP, reason=f"{who} chose to stop refining", chooser=who)
        return Choice(verdict=Verdict.FIX, reason=f"chosen by {who}: {evidence(row)}", row=row, chooser=who)


def _better(row: ConditionRow) -> bool:
    """The test is two-sided; what is fixed must lie above its rest."""
    return row.difference is not None and row.difference > 0


def evidence(row: ConditionRow) -> str:
    """One condition's numbers as a clause."""
    interval = "" if row.low is None or row.high is None else f" [{row.low:.2f}, {row.high:.2f}]"
    rest = "" if row.rest_auc is None else f" against {row.rest_auc:.2f} for the rest"
    p = "" if row.p_holm is None else f", p = {row.p_holm:.2g} after Holm"
    return f"{row.group} = {row.value} with AUC {row.auc:.2f}{interval} over {row.n} draws{rest}{p}"


def policy_for(settings: RefinementSettings, chooser: Chooser | None) -> Policy:
    """The policy that a sweep file names.

    Raises:
        ValueError: the policy is interactive and nobody is there to choose.

    """
    match settings.policy:
        case "best-auc":
            return BestAuc(settings.min_draws)
        case "significant":
            return Significant(settings.min_draws)
        case "interactive":
            if chooser is None:
                raise ValueError("the interactive policy needs a chooser")
            return Interactive(settings.min_draws, chooser)


def nobody(look: Look, rows: Sequence[ConditionRow]) -> NoReturn:
    """The chooser of a search that is looked at and never run: no result is told, so nothing is to be chosen."""
    raise RuntimeError(f"nobody is there to choose among {len(rows)} conditions of space {look.space}")


def interactive(settings: RefinementSettings) -> bool:
    """Whether a person must be there."""
    return settings.policy == "interactive"


def _too_few(min_draws: int) -> Choice:
    return Choice(
        verdict=Verdict.STOP, reason=f"no condition has {min_draws} draws and a rest to compare it with"
    )
