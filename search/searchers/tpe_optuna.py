"""TPE by Optuna, multivariate (Falkner et al. 2018): parameters that exist together are estimated together.

Trials that are pending count among the bad ones (constant liar), so that the proposals of a generation differ. Where
parameters are conditional, each group that always exists together has an estimate of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Final

import optuna

from kdsearch.search.searchers.axes import Axis
from kdsearch.search.searchers.optuna_study import OptunaStudy

STARTUP: Final = 10  # the sampler's own number of random draws before the first estimate


def make(axes: Sequence[Axis], *, seed: int, startup: int | None) -> OptunaStudy:
    """Begin a search."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=seed % 2**32,
            n_startup_trials=startup or STARTUP,
            multivariate=True,
            group=any(axis.when for axis in axes),
            constant_liar=True,
        )
    return OptunaStudy(axes, sampler)
