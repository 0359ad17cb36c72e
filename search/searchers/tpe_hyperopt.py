"""TPE by Hyperopt (Bergstra et al. 2013), through its suggest function, without its loop."""

from __future__ import annotations

import math
from typing import Any, Final

from hyperopt import hp, tpe
from hyperopt.base import JOB_STATE_DONE, STATUS_OK, Domain, Trials

from kdsearch.search.searchers.tpe_domains import Domains
from kdsearch.spaces import Categorical, Float, LogUniform, Value
from kdsearch.spaces import Domain as OwnDomain
from kdsearch.trainables.seeds import derive_seed

STARTUP: Final = 20  # `tpe.suggest`'s own number of random draws before the first estimate


class HyperoptTpe:
    """One search."""

    def __init__(self, domains: Domains, *, seed: int, startup: int | None) -> None:
        self._domains, self._seed, self._startup = domains, seed, startup or STARTUP
        self._trials = Trials()
        expressions = {name: _expression(name, domain) for name, domain in domains.free.items()}
        self._domain = Domain(_never_called, expressions, pass_expr_memo_ctrl=False)

    def ask(self) -> dict[str, Value]:
        """The next configuration; proposals without an outcome count as bad ones, as Hyperopt has it."""
        index = len(self._trials.trials)
        found = tpe.suggest(
            [index],
            self._domain,
            self._trials,
            derive_seed(self._seed, "ask", index) % 2**32,
            n_startup_jobs=self._startup,
            verbose=False,
        )
        self._trials.insert_trial_docs(found)
        self._trials.refresh()
        values = self._trials.trials[index]["misc"]["vals"]
        return self._domains.configuration({name: values[name][0] for name in self._domains.free})

    def tell(self, index: int, error: float) -> None:
        """The outcome of proposal number `index`."""
        trial = self._trials.trials[index]
        trial["state"], trial["result"] = JOB_STATE_DONE, {"status": STATUS_OK, "loss": error}


def _expression(name: str, domain: OwnDomain) -> Any:
    """A parameter as Hyperopt knows it; finite ones by index."""
    match domain:
        case LogUniform():
            return hp.loguniform(name, math.log(domain.low), math.log(domain.high))
        case Float():
            return hp.uniform(name, domain.low, domain.high)
        case Categorical():
            return hp.randint(name, domain.size)
        case _:
            # rounded to whole numbers, of which the outermost ones have their full share too
            return hp.quniform(name, -0.5, domain.size - 0.5, 1)


def _never_called(point: object) -> float:
    """Hyperopt wants an objective; trials are trained elsewhere."""
    raise RuntimeError(f"Hyperopt was to propose and not to train, and asked for the outcome of {point}")


def make(domains: Domains, *, seed: int, startup: int | None) -> HyperoptTpe:
    """Begin a search."""
    return HyperoptTpe(domains, seed=seed, startup=startup)
