"""Schedulers: which trials go on, and which are stopped or wait. ASHA with rungs as a list, in two variants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdsearch.search.schedulers.asha import Asha
from kdsearch.search.schedulers.chances import Chances
from kdsearch.search.schedulers.promotion import PromotingAsha
from kdsearch.search.schedulers.scheduler import Scheduler

if TYPE_CHECKING:  # sweep files are checked with the help of the scheduler's settings
    from kdsearch.search.config import SweepFile

__all__ = ["Scheduler", "make_scheduler"]


def make_scheduler(sweep: SweepFile) -> Scheduler | None:
    """Build the scheduler that a sweep file asks for; None where every trial is trained to its end."""
    rungs = sweep.rungs()
    settings = sweep.scheduler
    if settings is None or not rungs:
        return None
    chances = Chances(seed=sweep.seed, brackets=settings.brackets, epsilon=settings.epsilon)
    variant = PromotingAsha if settings.mode == "promote" else Asha
    return Scheduler(variant(rungs, settings.reduction_factor, chances))
