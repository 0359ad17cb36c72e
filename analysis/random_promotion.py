"""Trials that a scheduler promoted at random: the probability that each was trained to its end, from its decisions.

A trial's probability is the product over its rungs of 1, where the rule let it go on, and epsilon, where chance did.
It is known given all that happened before, so sums weighted by 1/p are unbiased over the draws, those that were
stopped included (a martingale, rung by rung). Trials that chance spared at the same rungs are a cell: what was stopped
in a cell is represented by what was spared there. How many of a cell were spared is known, so that share is taken in
place of epsilon, which it is on average (post-stratification: where each trial answers one draw, the weights add up to
the draws). Where few or none of a cell were spared, nobody speaks for a part of the space that is known to be there,
and no weight could help.

Bands and intervals then hold what they should, where there are `LEAST_SPARED` in every cell, and hold F more often than
with epsilon itself: docs/statistics.md has the figures, `tests/benchmarks/random_promotion.py` makes them.

Of a trial that waited at a rung and was promoted later by the rule nobody knows the probability: it stands for no
other, and its part of the space is spoken for by those that chance let go on where it had to wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, cast

from kdsearch.analysis.record import SweepRecord

LEAST_SPARED = 3  # trials that chance must have let go on in every cell where it had to decide


@dataclass
class Cell:
    """Trials that chance spared at the same rungs and that the rule would have stopped at the next one."""

    decided: int = 0
    spared: int = 0


@dataclass(frozen=True, kw_only=True)
class RandomPromotion:
    """What became of the trials of a sweep.

    spared: by trial number, the epochs of the rungs where chance let a trial go on; None for a trial that was promoted
    late. A trial that came to no rung is not among them.
    cells: by the epochs of the rungs where chance decided, the last one being the cell's own.
    """

    epsilon: float
    spared: Mapping[int, tuple[int, ...] | None]
    cells: Mapping[tuple[int, ...], Cell]

    def probability(self, trial: int) -> float | None:
        """Return the share of trials like this one that were trained to their end, in (0, 1]; None if it is unknown."""
        spared = self.spared.get(trial, ())
        if spared is None:
            return None
        cells = [self.cells[spared[: n + 1]] for n in range(len(spared))]
        return prod(cell.spared / cell.decided for cell in cells)

    def unrepresented(self) -> str | None:
        """Say for which trials nobody speaks; None if every cell has enough that were spared."""
        poor = {rungs: cell for rungs, cell in self.cells.items() if cell.spared < LEAST_SPARED}
        if not poor:
            return None
        rungs, cell = min(poor.items(), key=lambda item: (item[1].spared, len(item[0]), item[0]))
        where = " and then ".join(f"epoch {rung}" for rung in rungs)
        return (
            f"Too few trials speak for those that the scheduler stopped: of the {cell.decided} that its rule would "
            f"have stopped after {where}, chance (epsilon {self.epsilon:g}) let {cell.spared} go on, and at least "
            f"{LEAST_SPARED} are needed. More draws, a larger epsilon or fewer rungs give them."
        )


@dataclass
class _Path:
    """The rungs of one trial, as far as it came."""

    spared: tuple[int, ...] = ()
    judged: set[int] = field(default_factory=set)
    late: bool = False


def random_promotion(record: SweepRecord) -> RandomPromotion | None:
    """Return what is known of the probabilities; None where the scheduler left nothing to chance."""
    settings = record.settings.get("scheduler")
    epsilon = float(settings.get("epsilon") or 0.0) if isinstance(settings, Mapping) else 0.0
    if not epsilon:
        return None
    paths: dict[int, _Path] = {}
    cells: dict[tuple[int, ...], Cell] = {}
    for row in cast(list[dict[str, Any]], record.rungs.to_dict("records")):
        path = paths.setdefault(int(row["trial"]), _Path())
        rung = int(row["rung"])
        if row["late"]:
            path.late = path.late or not row["stopped"]
        elif rung not in path.judged and not path.late:
            path.judged.add(rung)
            _arrive(path, cells, rung, row)
    return RandomPromotion(
        epsilon=epsilon,
        spared={trial: None if path.late else path.spared for trial, path in paths.items()},
        cells=cells,
    )


def _arrive(path: _Path, cells: dict[tuple[int, ...], Cell], rung: int, row: Mapping[str, Any]) -> None:
    """Take in the first decision about a trial at a rung: by the rule (probability 1) or by chance."""
    if row["probability"] == 1:
        return
    cell = cells.setdefault((*path.spared, rung), Cell())
    cell.decided += 1
    if not row["stopped"] and not row["paused"]:
        cell.spared += 1
        path.spared = (*path.spared, rung)
