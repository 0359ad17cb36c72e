"""Search by tree-structured Parzen estimators (Bergstra et al. 2011), carried out by Optuna or Hyperopt.

Proposals come in generations: all of one are asked for before any of its outcomes is known, and are told in the order
of their numbers once the last one is in. So the search depends on its seed and its settings alone, whatever the number
of workers, and is rebuilt by asking and telling again. A diverged or failed trial is told with the error that it
counts with.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from kdsearch.analysis.population import Proposal
from kdsearch.search.searcher_settings import TpeMethod, TpeOptions, TpeSettings
from kdsearch.search.searchers.base import Note, Request
from kdsearch.search.searchers.checks import check_plain
from kdsearch.search.searchers.kinds import SearcherKind, Task
from kdsearch.search.searchers.one_space import OneSpaceSearch
from kdsearch.search.searchers.tpe_domains import Domains
from kdsearch.spaces import DesignSpace, Value
from kdsearch.trainables.seeds import derive_seed

TPE = str(Proposal.TPE)
# library -> module with `make` and `STARTUP`, imported when it is needed: the libraries take a while
_MODULES = {
    "optuna": "kdsearch.search.searchers.tpe_optuna",
    "hyperopt": "kdsearch.search.searchers.tpe_hyperopt",
}


class Proposer(Protocol):
    """One search of a library; the same seed, asks and tells give the same proposals."""

    def ask(self) -> dict[str, Value]:
        """The next configuration; those that are not told yet are known to the library as pending."""

    def tell(self, index: int, error: float) -> None:
        """The outcome of the proposal number `index`, from 0 in the order of asks: per cent, lower is better."""


def make_proposer(options: TpeOptions, domains: Domains, seed: int) -> Proposer:
    """Begin a search with the library that the options name."""
    module = import_module(_MODULES[options.library])
    return cast(Proposer, module.make(domains, seed=seed, startup=options.startup))


def startup_note(name: str, options: TpeSettings | TpeMethod) -> str | None:
    """What a reader must know of a search that ends before its library has begun to estimate anything."""
    startup = options.startup or int(import_module(_MODULES[options.library]).STARTUP)
    if options.trials > startup:
        return None
    return (
        f"{name}: the library {options.library} draws its first {startup} trials at random, so a search of "
        f"{options.trials} is the best of random draws (the setting startup makes it estimate sooner)."
    )


class TpeSearch(OneSpaceSearch):
    """`trials` proposals, `generation` at a time."""

    def __init__(self, space: DesignSpace, settings: TpeSettings, *, seed: int, first_number: int) -> None:
        super().__init__(space, first_number=first_number, exhaustive=False)
        self._settings, self._first = settings, first_number
        self._proposer = make_proposer(settings, Domains.of(self.space), derive_seed(seed, "tpe"))
        self._told = 0
        note = startup_note("tpe", settings)
        if note is not None:
            self.ledger.records.append(Note(note))

    @property
    def done(self) -> bool:
        """All trials have their outcomes."""
        return self.ledger.idle and len(self.ledger.requests) == self._settings.trials

    def ask(self, n: int) -> list[Request]:
        """At most n new trials; none while outcomes of the last generation are awaited."""
        if self.ledger.idle:
            self._tell_all()
            left = self._settings.trials - len(self.ledger.requests)
            for _ in range(min(left, self._settings.generation)):
                trial = self.ledger.request(
                    self.space, self._proposer.ask(), TPE, probability=None, plan={"optimised": True}
                )
                self.ledger.answer(self.space, trial)
        return self.ledger.take(n)

    def _tell_all(self) -> None:
        for index in range(self._told, len(self.ledger.requests)):
            self._proposer.tell(index, self.ledger.outcomes[self._first + index].error)
        self._told = len(self.ledger.requests)


def _build(settings: TpeSettings, task: Task) -> TpeSearch:
    return TpeSearch(task.space, settings, seed=task.seed, first_number=task.first_number)


def _check(settings: TpeSettings, task: Task) -> None:
    check_plain(settings, task.space, task.trainable, task.settings)
    Domains.of(task.space)


KIND = SearcherKind(TpeSettings, build=_build, check=_check)


__all__ = ["KIND", "Proposer", "TpeSearch", "make_proposer", "startup_note"]
