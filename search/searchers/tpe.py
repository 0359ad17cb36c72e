"""Search by tree-structured Parzen estimators (Bergstra et al. 2011), carried out by Optuna or Hyperopt."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import cast

from kdsearch.analysis.population import Proposal
from kdsearch.search.searcher_settings import TpeMethod, TpeOptions, TpeSettings
from kdsearch.search.searchers.axes import Axis, axes_of
from kdsearch.search.searchers.base import Note
from kdsearch.search.searchers.kinds import SearcherKind, Task
from kdsearch.search.searchers.proposing import ProposalSearch, Proposer
from kdsearch.trainables.seeds import derive_seed

# library -> module with `make` and `STARTUP`, imported when it is needed: the libraries take a while
_MODULES = {
    "optuna": "kdsearch.search.searchers.tpe_optuna",
    "hyperopt": "kdsearch.search.searchers.tpe_hyperopt",
}


def make_proposer(options: TpeOptions, axes: Sequence[Axis], seed: int) -> Proposer:
    """Begin a search with the library that the options name."""
    module = import_module(_MODULES[options.library])
    return cast(Proposer, module.make(axes, seed=seed, startup=options.startup))


def startup_note(name: str, options: TpeSettings | TpeMethod) -> str | None:
    """What a reader must know of a search that ends before its library has begun to estimate anything."""
    startup = options.startup or int(import_module(_MODULES[options.library]).STARTUP)
    if options.trials > startup:
        return None
    return (
        f"{name}: the library {options.library} draws its first {startup} trials at random, so a search of "
        f"{options.trials} is the best of random draws (the setting startup makes it estimate sooner)."
    )


def _build(settings: TpeSettings, task: Task) -> ProposalSearch:
    proposer = make_proposer(settings, axes_of(task.space), derive_seed(task.seed, "tpe"))
    search = ProposalSearch(
        settings,
        task,
        proposer,
        generation=settings.generation,
        design=Proposal.TPE,
        plan={"optimised": True},
    )
    note = startup_note("tpe", settings)
    if note is not None:
        search.ledger.records.append(Note(note))
    return search


KIND = SearcherKind(TpeSettings, build=_build)
