"""A sweep's curves as a table in long form, one row a trial and epoch."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from kdsearch.search.exchange.trials_out import EPOCH, parameter_columns, parameter_order
from kdsearch.search.searchers.plans import VALIDATION
from kdsearch.search.trialdb import TrialDatabase
from kdsearch.spaces import TARGET

TRIAL: Final = "trial"
OBJECTIVE: Final = f"{TARGET}/{VALIDATION}"


def curves_table(database: TrialDatabase, name: str, *, parameters: bool, every: int = 1) -> pa.Table:
    """Return `trial`, the parameters if they are asked for, `epoch`, then a column for each metric.

    every: epochs that are multiples of it alone, and each trial's last one.
    """
    wide = _wide(thinned(database.curves_frame(name), every))
    trials = {trial.number: trial for trial in database.trials(name)}
    columns: dict[str, Any] = {TRIAL: pa.array(wide.trials)}
    if parameters:
        rows = [trials[number] for number in wide.trials.tolist()]
        columns |= parameter_columns(rows, parameter_order(database, name))
    return pa.table(columns | {EPOCH: pa.array(wide.epochs)} | wide.metrics)


def thinned(curves: pd.DataFrame, every: int) -> pd.DataFrame:
    """Keep the epochs of curves that are multiples of `every`, and the last one of each trial."""
    if every == 1:
        return curves
    last = curves.groupby("trial")["epoch"].transform("max")
    return curves[(curves["epoch"] % every == 0) | (curves["epoch"] == last)]


class _Wide:
    """Curves with a column for each metric, by trial and epoch; a missing value is none, NaN is one."""

    def __init__(
        self, trials: npt.NDArray[np.int64], epochs: npt.NDArray[np.int64], metrics: dict[str, pa.Array]
    ) -> None:
        self.trials, self.epochs, self.metrics = trials, epochs, metrics


def _wide(curves: pd.DataFrame) -> _Wide:
    keys = curves[["trial", "epoch"]].to_numpy(dtype=np.int64)
    rows, place = np.unique(keys, axis=0, return_inverse=True)
    place = place.reshape(-1)
    nodes, labels = curves["node"].to_numpy(), curves["metric"].astype(str).to_numpy()
    values = curves["value"].to_numpy(dtype=np.float64)
    metrics = {}
    for node, label in sorted(set(zip(nodes.tolist(), labels.tolist(), strict=True)), key=_order):
        chosen = (nodes == node) & (labels == label)
        column, missing = np.full(len(rows), np.nan), np.ones(len(rows), dtype=np.bool_)
        column[place[chosen]], missing[place[chosen]] = values[chosen], False
        metrics[f"{node}/{label}" if node else label] = pa.array(column, mask=missing, from_pandas=False)
    return _Wide(rows[:, 0], rows[:, 1], metrics)


def _order(metric: tuple[int, str]) -> tuple[bool, bool, int, str]:
    """The target's validation error first, metrics of the whole trial last."""
    node, label = metric
    return f"{node}/{label}" != OBJECTIVE, node == 0, node, label
