"""CMA-ES (Hansen and Ostermeier 2001) by Optuna and the package cmaes: a Gaussian that moves and turns downhill.

A generation of ours is one of the algorithm's: its samples, and one step of mean and covariance. The algorithm looks at
ranks alone, so a trial that did not end well counts with its error like any other, and the Gaussian moves away from it.
Whole numbers are searched with a margin (Hamano et al. 2022), which keeps them from being stuck at one value.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

from kdsearch.analysis.population import Proposal
from kdsearch.search.searcher_settings import CmaesSettings
from kdsearch.search.searchers.axes import axes_of, check_unconditional, free
from kdsearch.search.searchers.base import Outcome
from kdsearch.search.searchers.checks import check_plain
from kdsearch.search.searchers.kinds import SearcherKind, Task
from kdsearch.search.searchers.proposing import ProposalSearch
from kdsearch.spaces import Configuration, Float, Value
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.seeds import derive_seed

if TYPE_CHECKING:
    from kdsearch.search.searchers.optuna_study import OptunaStudy


_LEAST = 2  # parameters that can move; a covariance of one has nothing to turn


class _Ranked:
    """A study that is told the error of every trial."""

    def __init__(self, study: OptunaStudy) -> None:
        self._study = study

    def propose(self) -> dict[str, Value]:
        """What the sampler suggests next."""
        return self._study.propose()

    def keep(self, configuration: Configuration) -> None:
        """Let a configuration be the next proposal that is pending."""
        self._study.keep(configuration)

    def learn(self, index: int, outcome: Outcome) -> None:
        """Tell the error that the trial counts with."""
        self._study.tell_error(index, outcome.error)


def population(dimensions: int) -> int:
    """The algorithm's own number of samples in a generation (Hansen 2016, table 1)."""
    return 4 + math.floor(3 * math.log(dimensions))


def _build(settings: CmaesSettings, task: Task) -> ProposalSearch:
    import optuna  # noqa: PLC0415 - takes a while

    from kdsearch.search.searchers.optuna_study import OptunaStudy  # noqa: PLC0415 - likewise

    axes = axes_of(task.space)
    size = settings.generation or population(len(free(axes)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.CmaEsSampler(
            seed=derive_seed(task.seed, "cmaes") % 2**32,
            popsize=size,
            with_margin=any(not isinstance(axis.domain, Float) for axis in free(axes)),
        )
    study = OptunaStudy(axes, sampler)
    study.describe()
    return ProposalSearch(
        settings, task, _Ranked(study), generation=size, design=Proposal.CMA_ES, plan={"optimised": True}
    )


def _check(settings: CmaesSettings, task: Task) -> None:
    """Refuse what has no coordinates to move along, or too few of them."""
    check_plain(settings, task.space, task.trainable, task.settings)
    axes = axes_of(task.space)
    check_unconditional(axes, "cmaes")
    unordered = [axis.name for axis in free(axes) if not axis.ordered]
    if unordered:
        raise UsageError(
            f"the searcher cmaes moves along numbers, and {_named(unordered)} has values without order",
            "Use tpe, qmc or random, or give it the type float, log-uniform, integer or quantised.",
        )
    if len(free(axes)) < _LEAST:
        raise UsageError(
            f"the searcher cmaes needs {_LEAST} or more parameters that can move, and the space has {len(free(axes))}",
            "Use tpe, qmc or random.",
        )


def _named(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"each of {', '.join(names)}"


KIND = SearcherKind(CmaesSettings, build=_build, check=_check)
