"""What one run of one searcher on a table did: its trials in the order in which they ended.

The **incumbent** is what the search would hand over: of the trials that were trained to their end so far, the one with
the lowest validation error. It is chosen by that error, so the error itself is too good to be believed; what it is
worth is said by the mean over all the table's trainings of its configuration, and by those that had no part in the
choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kdsearch.analysis.samples import Floats, StatisticsError
from kdsearch.spaces.errors import UnknownNameError


class Axis(StrEnum):
    """What a search costs."""

    TRIALS = "trials"  # that ended, whatever their state
    EPOCHS = "epochs"  # of all trials
    SECONDS = "seconds"  # virtual time


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What a refinement decided in one run."""

    spaces: tuple[str, ...]  # restrictions in the order in which they were added, since the first space
    draws: int  # from the spaces that were compared, reused ones included
    trials: int  # trained for these draws
    looks: int
    ended: bool  # in a space that was trained in full

    @property
    def final(self) -> str:
        """The last space: its restrictions in whatever order; "" is the first space."""
        return " + ".join(sorted(self.spaces))


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """One run. Arrays [n] are of trials in the order in which they ended."""

    entry: str
    run: int
    error: Floats  # per cent, after the last epoch; NaN unless the trial is complete
    mean: Floats  # per cent, over the table's trainings of its configuration
    fresh: Floats  # over those that did not answer the trial; NaN where there is none
    rank: NDArray[np.int64]  # of its configuration by mean in the whole table, from 1, equal ones alike
    epochs: NDArray[np.int64]  # of all trials when it ended
    seconds: Floats  # virtual time when it ended
    states: Sequence[str] = field(default=())
    total: tuple[int, int, float] = (0, 0, 0.0)  # trials, epochs, seconds at the end of the run
    done: bool = False  # the searcher had nothing more to ask
    lineage: Lineage | None = None

    @cached_property
    def incumbents(self) -> NDArray[np.int64]:
        """The place of the incumbent after each trial, [n]; -1 while there is none."""
        best, held = np.inf, -1
        found = np.empty(len(self.error), dtype=np.int64)
        for place, error in enumerate(self.error.tolist()):
            if error < best:
                best, held = error, place
            found[place] = held
        return found

    def axis(self, axis: Axis) -> Floats:
        """Return the cost at which each trial ended, [n]."""
        match axis:
            case Axis.TRIALS:
                return np.arange(1.0, len(self.error) + 1)
            case Axis.EPOCHS:
                return self.epochs.astype(np.float64)
            case Axis.SECONDS:
                return self.seconds

    def end(self, axis: Axis) -> float:
        """Return the cost of the whole run."""
        return float(self.total[list(Axis).index(axis)])

    def held(self, axis: Axis, at: Floats) -> NDArray[np.int64]:
        """Return the place of the incumbent at each cost of `at`, [k]; -1 while there is none."""
        ended = np.searchsorted(self.axis(axis), at, side="right")
        return np.where(ended > 0, self.incumbents[np.maximum(ended - 1, 0)] if len(self.error) else -1, -1)

    def values(self, name: str, axis: Axis, at: Floats) -> Floats:
        """Return `error`, `mean`, `fresh` or `rank` of the incumbent at each cost, [k]; NaN while there is none."""
        if name not in {"error", "mean", "fresh", "rank"}:
            raise UnknownNameError("value of an incumbent", name, ["error", "mean", "fresh", "rank"])
        held = self.held(axis, at)
        source = np.append(np.asarray(getattr(self, name), dtype=np.float64), np.nan)
        found: Floats = source[held]
        return found

    def need(self, axis: Axis, limit: float, *, best: int, held: bool) -> float:
        """Return the cost of coming upon one of the `best` configurations of the table, infinite if beyond `limit`.

        held: of having one of them for its incumbent; else of having trained one to its end.
        """
        if held:
            places = self.incumbents
            good = (places >= 0) & (self.rank[np.maximum(places, 0)] <= best)
        else:
            good = np.isfinite(self.error) & (self.rank <= best)
        hits = np.flatnonzero(good)
        if not hits.size:
            return np.inf
        cost = float(self.axis(axis)[hits[0]])
        return cost if cost <= limit else np.inf


def check_traces(traces: Sequence[Trace], runs: int) -> None:
    """Refuse traces that are not runs 0, 1, ... of one entry (StatisticsError)."""
    if [trace.run for trace in traces] != list(range(runs)):
        raise StatisticsError(f"{runs} runs are wanted in order, not {[trace.run for trace in traces]}")
