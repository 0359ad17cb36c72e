"""One run of one searcher on a table, in the simulator, and the trace that is left of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import nan
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kdsearch.analysis.traces import Axis, Lineage, Trace
from kdsearch.search.config import RefinementSettings, SweepFile
from kdsearch.search.coordinator import Coordinator
from kdsearch.search.schedulers import make_scheduler
from kdsearch.search.searchers import make_searcher
from kdsearch.search.simulator import Progress, Simulator, VirtualClock, table_packs
from kdsearch.search.trialdb import operations as op
from kdsearch.spaces import Value
from kdsearch.trainables.protocol import Configuration
from kdsearch.trainables.table.curves import Curve, CurveTable, Key

NOWHERE: Final = Path("simulated")  # a folder that is not there: nothing is written
_TIES: Final = 9  # decimals to which two means are the same


class Truth:
    """What each configuration of a table is worth: the mean over its trainings, and its rank by it."""

    def __init__(self, table: CurveTable, *, lost: float) -> None:
        """lost: the error, in per cent, that a training which diverged counts with."""
        self.table, self._lost = table, lost
        self._means = {
            frozenset(each.items()): float(np.mean([self.worth(curve) for curve in table.curves(each)]))
            for each in table.configurations
        }

    def worth(self, curve: Curve) -> float:
        """The error that a training counts with."""
        return self._lost if curve.final_error is None else curve.final_error

    @cached_property
    def ranks(self) -> dict[Key, int]:
        """Rank of each configuration, from 1; equal ones have the same, the best of theirs."""
        order = sorted(self._means.items(), key=lambda pair: pair[1])
        found: dict[Key, int] = {}
        rank, before = 0, nan
        for place, (key, mean) in enumerate(order, start=1):
            if round(mean, _TIES) != before:
                rank, before = place, round(mean, _TIES)
            found[key] = rank
        return found

    def best(self, share: float) -> int:
        """How many configurations are the best `share` per cent, at least one."""
        return max(1, int(np.floor(len(self._means) * share / 100 + 1e-9)))

    def mean(self, configuration: Configuration) -> float:
        """The mean over all trainings of a configuration, per cent."""
        return self._means[_key(configuration)]

    def fresh(self, configuration: Configuration, seed: int) -> float:
        """The mean over the trainings that do not answer a trial with this seed; NaN where there is no other."""
        curves = self.table.curves(configuration)
        answered = self.table.curve(configuration, seed)
        others = [self.worth(curve) for curve in curves if curve is not answered]
        return float(np.mean(others)) if others else nan

    def rank(self, configuration: Configuration) -> int:
        """Its rank."""
        return self.ranks[_key(configuration)]


def _key(configuration: Configuration) -> frozenset[tuple[str, Value]]:
    return frozenset(configuration.items())


@dataclass
class Recorder:
    """Takes a coordinator's operations and keeps what a trace needs."""

    truth: Truth
    further: Callable[[op.Operation], None] | None = None  # gets every operation as well
    progress: Progress = field(default_factory=Progress)
    _trials: dict[int, op.TrialRow] = field(default_factory=dict)
    _ends: list[tuple[op.ResultRow, int, float]] = field(default_factory=list)
    _spaces: list[op.SpaceRow] = field(default_factory=list)
    _draws: list[op.DrawRow] = field(default_factory=list)
    _looks: int = 0

    def __call__(self, operation: op.Operation) -> None:
        """Keep what matters of one operation."""
        match operation:
            case op.AddTrials():
                self._trials |= {row.number: row for row in operation.rows}
            case op.FinishTrials():
                now = self.progress
                self._ends += [(row, now.epochs, now.seconds) for row in operation.rows]
            case op.AddSpaces():
                self._spaces += operation.rows
            case op.AddDraws():
                self._draws += operation.rows
            case op.AddEvents():
                self._looks += sum(row.kind == "decision" for row in operation.rows)
        if self.further is not None:
            self.further(operation)

    def trace(self, entry: str, run: int, *, done: bool, refines: bool) -> Trace:
        """What happened, as a value."""
        known = [self._trials[row.number] for row, _, _ in self._ends]
        complete = [row.state == "complete" and row.error is not None for row, _, _ in self._ends]
        pairs = list(zip(known, complete, strict=True))
        truth = self.truth
        return Trace(
            entry=entry,
            run=run,
            error=_floats(
                [row.error if ok else nan for (row, _, _), ok in zip(self._ends, complete, strict=True)]
            ),
            mean=_floats([truth.mean(trial.configuration) if ok else nan for trial, ok in pairs]),
            fresh=_floats(
                [truth.fresh(trial.configuration, trial.seed) if ok else nan for trial, ok in pairs]
            ),
            rank=np.array(
                [truth.rank(trial.configuration) if ok else 0 for trial, ok in pairs], dtype=np.int64
            ),
            epochs=np.array([epochs for _, epochs, _ in self._ends], dtype=np.int64),
            seconds=_floats([seconds for _, _, seconds in self._ends]),
            states=tuple(str(row.state) for row, _, _ in self._ends),
            total=(len(self._ends), self.progress.epochs, self.progress.seconds),
            done=done,
            lineage=self._lineage(done=done) if refines else None,
        )

    def _lineage(self, *, done: bool) -> Lineage:
        compared = {space.name for space in self._spaces if not space.exhaustive}
        draws = [draw for draw in self._draws if draw.space in compared]
        return Lineage(
            spaces=tuple(str(space.restriction) for space in self._spaces if space.parent is not None),
            draws=len(draws),
            trials=len({draw.trial for draw in draws}),
            looks=self._looks,
            ended=done and any(space.exhaustive for space in self._spaces),
        )


def _floats(values: list[float | None] | list[float]) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is simulated: a checked sweep, and up to where."""

    entry: str
    number: int  # from 0
    sweep: SweepFile
    seed: int
    workers: int
    axis: Axis
    limit: float  # in units of the axis

    def over(self, progress: Progress, ended: int) -> bool:
        """Whether the budget is spent."""
        match self.axis:
            case Axis.TRIALS:
                return ended >= self.limit
            case Axis.EPOCHS:
                return progress.epochs >= self.limit
            case Axis.SECONDS:
                return progress.seconds >= self.limit


def simulate(
    run: Run,
    truth: Truth,
    *,
    further: Callable[[op.Operation], None] | None = None,
    clock: VirtualClock | None = None,
) -> Trace:
    """Simulate a run and return its trace; `further` gets every operation for a trial database.

    Raises:
        KdsearchError: what the searcher or the coordinator raises.

    """
    sweep = run.sweep.model_copy(update={"seed": run.seed})
    clock = clock or VirtualClock()
    recorder = Recorder(truth, further)
    coordinator = Coordinator(
        sweep,
        make_searcher(sweep, first_number=0),
        recorder,
        baselines=[],
        folder=NOWHERE,
        concurrency=run.workers,
        clock=clock,
        host="simulator",
        device="cpu",
        scheduler=make_scheduler(sweep),
    )
    simulator = Simulator(
        coordinator, table_packs(truth.table), clock, workers=run.workers, timed=truth.table.timed
    )
    recorder.progress = simulator.progress
    simulator.run(lambda progress: run.over(progress, coordinator.tally.finished))
    return recorder.trace(
        run.entry,
        run.number,
        done=coordinator.done,
        refines=isinstance(sweep.searcher, RefinementSettings),
    )


def derived_name(name: str, entry: str, run: int) -> str:
    """The name of a run's sweep in a trial database."""
    plain = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in entry)
    return f"{name[:40]}.{plain[:28]}.{run}"
