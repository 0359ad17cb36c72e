"""Searchers: what to try next. One protocol (`base`), one module for each searcher, one registry (`registry`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdsearch.search.searcher_settings import ProposingSettings
from kdsearch.search.searchers.base import Outcome, Request, Searcher
from kdsearch.search.searchers.confirmation import Confirmation
from kdsearch.search.searchers.kinds import SearcherKind, Task
from kdsearch.search.searchers.policies import Chooser, interactive, nobody
from kdsearch.search.searchers.proposing import ProposalSearch, Proposer

if TYPE_CHECKING:  # sweep files are checked with the help of searchers
    from kdsearch.search.config import SweepFile

__all__ = [
    "Chooser",
    "Outcome",
    "ProposalSearch",
    "Proposer",
    "ProposingSettings",
    "Request",
    "Searcher",
    "SearcherKind",
    "Task",
    "interactive",
    "make_searcher",
    "nobody",
]


def make_searcher(sweep: SweepFile, *, first_number: int, chooser: Chooser | None = None) -> Searcher:
    """Build the searcher that a sweep file asks for; its trials are numbered from `first_number`."""
    from kdsearch.search.searchers.registry import registry  # noqa: PLC0415 - it may load other packages

    settings = sweep.search()
    task = Task.of(sweep, first_number=first_number, chooser=chooser)
    searcher: Searcher = registry().kinds[settings.kind].build(settings, task)
    runs = getattr(sweep.searcher, "confirm", 0)
    return Confirmation(searcher, runs=runs) if runs else searcher
