"""Searchers: what to try next. One protocol (`base`), one module for each searcher, one registry here."""

from __future__ import annotations

from kdsearch.search.config import EnumerationSettings, RandomSettings, RefinementSettings, SweepFile
from kdsearch.search.searchers.base import Outcome, Request, Searcher
from kdsearch.search.searchers.enumeration import Enumeration
from kdsearch.search.searchers.policies import Chooser, interactive, policy_for
from kdsearch.search.searchers.random_search import RandomSearch
from kdsearch.search.searchers.refinement import Refinement

__all__ = ["Chooser", "Outcome", "Request", "Searcher", "interactive", "make_searcher"]


def make_searcher(sweep: SweepFile, *, first_number: int, chooser: Chooser | None = None) -> Searcher:
    """Build the searcher that a sweep file asks for; its trials are numbered from `first_number`."""
    space, settings = sweep.design_space(), sweep.searcher
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
