"""TPE by Optuna (Akiba et al. 2019): one study in memory, asked and told."""

from __future__ import annotations

from typing import Final

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from kdsearch.search.searchers.tpe_domains import Domains
from kdsearch.spaces import Categorical, Domain, Float, LogUniform, Value

STARTUP: Final = 10  # the sampler's own number of random draws before the first estimate

# The library writes every study and trial to the terminal, which belongs to the progress display.
optuna.logging.set_verbosity(optuna.logging.ERROR)


class OptunaTpe:
    """One search."""

    def __init__(self, domains: Domains, *, seed: int, startup: int | None) -> None:
        self._domains = domains
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=startup or STARTUP)
        self._study = optuna.create_study(sampler=sampler, direction="minimize")
        self._distributions = {name: _distribution(domain) for name, domain in domains.free.items()}

    def ask(self) -> dict[str, Value]:
        """The next configuration."""
        return self._domains.configuration(self._study.ask(self._distributions).params)

    def tell(self, index: int, error: float) -> None:
        """The outcome of proposal number `index`."""
        self._study.tell(index, error)


def _distribution(domain: Domain) -> BaseDistribution:
    """A parameter as Optuna knows it; finite ones by index."""
    match domain:
        case Float():
            return FloatDistribution(domain.low, domain.high, log=isinstance(domain, LogUniform))
        case Categorical():
            return CategoricalDistribution(tuple(range(domain.size)))
        case _:
            return IntDistribution(0, domain.size - 1)


def make(domains: Domains, *, seed: int, startup: int | None) -> OptunaTpe:
    """Begin a search."""
    return OptunaTpe(domains, seed=seed, startup=startup)
