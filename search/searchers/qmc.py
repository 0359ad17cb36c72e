"""Quasi-random search (Bergstra and Bengio 2012): points of a scrambled Sobol' or Halton sequence, by Optuna.

The sequence fills the space more evenly than independent draws would. Nothing is learned from outcomes, so all trials
are asked for at once. A point that is no configuration of the space (constraints) gives its place to the next one.
"""

from __future__ import annotations

import warnings

from kdsearch.analysis.population import Proposal
from kdsearch.search.searcher_settings import QmcSettings
from kdsearch.search.searchers.axes import axes_of, check_unconditional
from kdsearch.search.searchers.checks import check_plain
from kdsearch.search.searchers.kinds import SearcherKind, Task
from kdsearch.search.searchers.proposing import ProposalSearch
from kdsearch.trainables.seeds import derive_seed


def _build(settings: QmcSettings, task: Task) -> ProposalSearch:
    import optuna  # noqa: PLC0415 - takes a while

    from kdsearch.search.searchers.optuna_study import OptunaStudy  # noqa: PLC0415 - likewise

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.QMCSampler(
            qmc_type=settings.sequence, scramble=True, seed=derive_seed(task.seed, "qmc") % 2**32
        )
    study = OptunaStudy(axes_of(task.space), sampler)
    study.describe()
    return ProposalSearch(settings, task, study, generation=settings.trials, design=Proposal.QMC)


def _check(settings: QmcSettings, task: Task) -> None:
    check_plain(settings, task.space, task.trainable, task.settings)
    check_unconditional(axes_of(task.space), "qmc")


KIND = SearcherKind(QmcSettings, build=_build, check=_check)
