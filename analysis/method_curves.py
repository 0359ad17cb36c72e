"""How the methods of a comparison went, epoch by epoch: accuracy (the paper's Fig. 4) and metaparameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kdsearch.analysis.paired import mean_interval
from kdsearch.analysis.samples import Floats

_META = "meta."
_PERCENT = 100.0


@dataclass(frozen=True, kw_only=True, eq=False)
class EpochCurve:
    """Accuracy by epoch (Fig. 4): arrays [epochs]; low and high are the interval of the mean over runs."""

    method: str
    epochs: Floats
    mean: Floats
    low: Floats  # NaN where runs are too few for an interval
    high: Floats
    runs: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectory:
    """One metaparameter of one method by epoch, run by run."""

    method: str
    metaparameter: str
    epochs: Floats  # [epochs]; 0 is the start value
    values: Floats  # [runs, epochs]; NaN where a run had ended
    bounds: tuple[float, float]
    numbers: tuple[int, ...] = ()  # [runs]: the trials


def accuracy_interval(accuracies: Floats, alpha: float) -> tuple[float, float] | None:
    """Return the interval of the mean of accuracies [runs] in per cent, cut at 0 and 100; None for too few."""
    ends = mean_interval(accuracies, alpha=alpha)
    return None if ends is None else (max(0.0, ends[0]), min(_PERCENT, ends[1]))


def epoch_curve(
    method: str,
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    *,
    metric: str,
    alpha: float,
    diverged_error: float,
) -> EpochCurve:
    """Return the mean accuracy of a method's finished final trials by epoch.

    metric: test_error or val_error of node 1. A diverged or failed trial counts with its own errors as far as it came
    and with `diverged_error` after, so that the curve ends at the mean of the table of methods.
    """
    numbers = trials["number"].tolist()
    errors = _values(curves[curves["trial"].isin(numbers)], metric, node=1).reindex(numbers)
    ended_early = (trials["state"] != "complete").to_numpy()
    table = errors.to_numpy(dtype=np.float64)
    fill = (
        ended_early[:, None] | ~np.isfinite(table[:, -1:]) if table.size else np.zeros_like(table, dtype=bool)
    )
    table = np.where(~np.isfinite(table) & fill, diverged_error, table)
    ends = np.array([_ends(_PERCENT - column, alpha) for column in table.T]).reshape(-1, 3)
    return EpochCurve(
        method=method,
        epochs=errors.columns.to_numpy(dtype=np.float64),
        mean=ends[:, 0],
        low=ends[:, 1],
        high=ends[:, 2],
        runs=len(numbers),
    )


def _ends(accuracies: Floats, alpha: float) -> tuple[float, float, float]:
    known = accuracies[np.isfinite(accuracies)]
    mean = float(known.mean()) if known.size else float("nan")
    return mean, *(accuracy_interval(known, alpha) or (float("nan"), float("nan")))


def _values(curves: pd.DataFrame, metric: str, *, node: int) -> pd.DataFrame:
    """Return a metric's values, a row a trial and a column an epoch; NaN where there is none."""
    chosen = curves[(curves["metric"] == metric) & (curves["node"] == node)]
    return chosen.pivot_table(index="trial", columns="epoch", values="value", aggfunc="last", dropna=False)


def trajectories(trials: pd.DataFrame, curves: pd.DataFrame) -> tuple[Trajectory, ...]:
    """Return the path of every metaparameter that a gradient optimiser moved, by method, then metaparameter.

    trials: final trials of a comparison, or the trials of a gradient searcher; others are passed over. Those without a
    method go by the name of their design. The start value and the bounds are those that the searcher handed out.
    """
    if "plan" not in trials:
        return ()
    moved = trials[[_optimiser(plan) is not None for plan in trials["plan"]]]
    if moved.empty:
        return ()
    labels = moved["design"].astype(object)
    if "method" in moved:
        labels = moved["method"].astype(object).where(moved["method"].notna(), labels)
    mine = curves[(curves["node"] == 0) & curves["trial"].isin(moved["number"])]
    found = []
    for method in dict.fromkeys(labels):
        own = moved[labels == method].sort_values(["run", "number"] if "run" in moved else ["number"])
        plans = {int(n): _optimiser(plan) or {} for n, plan in zip(own["number"], own["plan"], strict=True)}
        names = dict.fromkeys(name for plan in plans.values() for name in plan.get("start", {}))
        found += [_trajectory(str(method), name, plans, mine) for name in names]
    return tuple(found)


def _optimiser(plan: Any) -> Mapping[str, Any] | None:
    return plan.get("optimiser") if isinstance(plan, Mapping) else None


def _trajectory(
    method: str, name: str, plans: Mapping[int, Mapping[str, Any]], curves: pd.DataFrame
) -> Trajectory:
    having = [number for number, plan in plans.items() if name in plan["start"]]
    later = _values(curves, _META + name, node=0).reindex(having)
    start = np.array([[float(plans[number]["start"][name])] for number in having])
    bounds = plans[having[0]].get("bounds", {}).get(name, (-np.inf, np.inf))
    return Trajectory(
        method=method,
        metaparameter=name,
        epochs=np.concatenate([[0.0], later.columns.to_numpy(dtype=np.float64)]),
        values=np.concatenate([start, later.to_numpy(dtype=np.float64)], axis=1),
        bounds=(float(bounds[0]), float(bounds[1])),
        numbers=tuple(having),
    )
