"""Searchers: what to try next. One protocol (`base`), one module for each searcher, one registry here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdsearch.search.searcher_settings import (
    ComparisonSettings,
    EnumerationSettings,
    GradientSettings,
    NamedSettings,
    RandomSettings,
    RefinementSettings,
    TpeSettings,
)
from kdsearch.search.searchers.base import Outcome, Request, Searcher
from kdsearch.search.searchers.comparison import Comparison
from kdsearch.search.searchers.confirmation import Confirmation
from kdsearch.search.searchers.descent import Descent
from kdsearch.search.searchers.enumeration import Enumeration
from kdsearch.search.searchers.gradient import GradientSearch
from kdsearch.search.searchers.policies import Chooser, interactive, policy_for
from kdsearch.search.searchers.random_search import RandomSearch
from kdsearch.search.searchers.refinement import Refinement
from kdsearch.search.searchers.tpe import TpeSearch
from kdsearch.trainables.registry import trainable_kind

if TYPE_CHECKING:  # sweep files are checked with the help of searchers
    from kdsearch.search.config import SweepFile

__all__ = ["Chooser", "Outcome", "Request", "Searcher", "interactive", "make_searcher"]


def make_searcher(sweep: SweepFile, *, first_number: int, chooser: Chooser | None = None) -> Searcher:
    """Build the searcher that a sweep file asks for; its trials are numbered from `first_number`."""
    searcher = _searcher(sweep, first_number=first_number, chooser=chooser)
    runs = getattr(sweep.searcher, "confirm", 0)
    return Confirmation(searcher, runs=runs) if runs else searcher


def _searcher(sweep: SweepFile, *, first_number: int, chooser: Chooser | None) -> Searcher:
    space, settings = sweep.design_space(), sweep.search()
    kind, trainable = trainable_kind(sweep.trainable.kind), sweep.trainable_settings()
    match settings:
        case RandomSettings():
            return RandomSearch(space, trials=settings.trials, seed=sweep.seed, first_number=first_number)
        case EnumerationSettings():
            return Enumeration(space, repeats=settings.repeats, first_number=first_number)
        case RefinementSettings():
            policy = policy_for(settings, chooser)
            return Refinement(
                space, settings, sweep.statistics, policy, seed=sweep.seed, first_number=first_number
            )
        case TpeSettings():
            return TpeSearch(space, settings, seed=sweep.seed, first_number=first_number)
        case GradientSettings():
            descent = Descent(space=space, kind=kind, settings=trainable, options=settings)
            return GradientSearch(descent, trials=settings.trials, seed=sweep.seed, first_number=first_number)
        case ComparisonSettings():
            return Comparison(
                space, settings, kind=kind, trainable=trainable, seed=sweep.seed, first_number=first_number
            )
        case NamedSettings():
            raise TypeError(settings)  # `SweepFile.search` has made a comparison of it
