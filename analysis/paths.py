"""Paths of metaparameters through the epochs: their mean, where they end, and which figure shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdsearch.analysis.methods import Trajectory
from kdsearch.analysis.samples import Floats

_AT_BOUND = 1e-6  # of a bound: values nearer to it are at it


@dataclass(frozen=True, kw_only=True)
class PathFigure:
    """One figure of trajectories."""

    figure: str  # its key
    method: str
    numbers: int  # runs that are drawn


@dataclass(frozen=True, kw_only=True)
class PathEnd:
    """Where one metaparameter of a method began and ended, over the runs that reached the last epoch."""

    method: str
    metaparameter: str
    whole: int  # these runs
    start: float | None
    mean: float | None
    low: float | None
    high: float | None
    at_bound: int  # runs that ended at the lower or upper bound


def logarithmic(trajectory: Trajectory) -> bool:
    """Whether a metaparameter is a scale: positive, and not confined to values up to 1."""
    low, high = trajectory.bounds
    return low > 0 and high > 1


def mean_trajectory(trajectory: Trajectory) -> Floats:
    """Mean over the runs that have a value at every epoch, [epochs]; geometric on a logarithmic axis.

    A run that ended early would make it jump; without any whole run it is NaN.
    """
    whole = whole_runs(trajectory)
    if not len(whole):
        return np.full(len(trajectory.epochs), np.nan)
    mean: Floats = np.exp(np.log(whole).mean(axis=0)) if logarithmic(trajectory) else whole.mean(axis=0)
    return mean


def whole_runs(trajectory: Trajectory) -> Floats:
    """The runs that have a value at every epoch, [whole runs, epochs]."""
    whole: Floats = trajectory.values[np.isfinite(trajectory.values).all(axis=1)]
    return whole


def paths(trajectories: Sequence[Trajectory]) -> tuple[PathFigure, ...]:
    """The figures of trajectories, in the order of the methods."""
    return tuple(
        PathFigure(figure=f"trajectories-{i}", method=method, numbers=max(len(one.values) for one in group))
        for i, (method, group) in enumerate(by_method(trajectories).items(), start=1)
    )


def by_method(trajectories: Sequence[Trajectory]) -> dict[str, list[Trajectory]]:
    """The trajectories of each method, in their order."""
    found: dict[str, list[Trajectory]] = {}
    for one in trajectories:
        found.setdefault(one.method, []).append(one)
    return found


def path_ends(trajectories: Sequence[Trajectory]) -> tuple[PathEnd, ...]:
    """Start and end of every metaparameter."""
    return tuple(_path_end(one) for one in trajectories)


def last_values(trajectories: Sequence[Trajectory]) -> dict[tuple[int, str], float]:
    """The last known value of each metaparameter by trial and name."""
    return {
        (number, one.metaparameter): float(values[np.isfinite(values)][-1])
        for one in trajectories
        for number, values in zip(one.numbers, one.values, strict=True)
        if np.isfinite(values).any()
    }


def _path_end(one: Trajectory) -> PathEnd:
    whole, mean = whole_runs(one), mean_trajectory(one)
    last = whole[:, -1]
    some = bool(len(whole))
    at = [np.isclose(last, bound, rtol=_AT_BOUND, atol=_AT_BOUND) for bound in one.bounds]
    return PathEnd(
        method=one.method,
        metaparameter=one.metaparameter,
        whole=len(whole),
        start=float(mean[0]) if some else None,
        mean=float(mean[-1]) if some else None,
        low=float(last.min()) if some else None,
        high=float(last.max()) if some else None,
        at_bound=int((at[0] | at[1]).sum()),
    )
