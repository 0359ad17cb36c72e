"""What the page shows of a comparison of methods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdsearch.analysis import story_methods
from kdsearch.analysis.bars import Scale
from kdsearch.analysis.frames import COMPLETE, PRETRAIN, SEARCH, UNLUCKY
from kdsearch.analysis.method_costs import packing_notes
from kdsearch.analysis.methods import MethodComparison, MethodRow
from kdsearch.analysis.results import SweepResult
from kdsearch.analysis.wording import plural


@dataclass(frozen=True, kw_only=True)
class MethodsView:
    """Everything that the template shows of a comparison beside its results."""

    accuracy: str  # "test accuracy" or "validation accuracy"
    level: str  # of the intervals: "95 %"
    runs: str  # "10 runs each"
    explorations: int  # trials that stand for no run
    descriptions: tuple[tuple[str, str], ...]  # of each method, in words
    scale: Scale  # of the differences to the reference, 0 among them
    scope: str  # what the intervals do not cover
    too_few: str  # why nothing can be decided yet
    notes: tuple[str, ...]  # that a reader of the table must know
    cost_notes: tuple[str, ...]
    states: tuple[tuple[str, int, int, int], ...]  # state; trials that stand for a run, others, pre-trainings


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodMatrix:
    """The paper's Table 2: methods in rows, sweeps in columns."""

    sweeps: tuple[SweepResult, ...]
    rows: tuple[tuple[str, tuple[MethodRow | None, ...]], ...]


def methods_view(result: SweepResult, states: Sequence[str]) -> MethodsView:
    """Work out what the template needs; `states` are those that a row is shown for, in order."""
    found = result.methods
    costs = packing_notes(found.costs, found.reference) if found is not None else ()
    return MethodsView(
        accuracy=story_methods.accuracy(found) if found is not None else "accuracy",
        level=story_methods.level(found) if found is not None else "",
        runs=_runs(found.rows) if found is not None and found.rows else "",
        explorations=int((~_final(result) & (result.trials["role"] == SEARCH).to_numpy()).sum()),
        descriptions=story_methods.descriptions(result),
        scale=_scale(found),
        scope=story_methods.scope(result),
        too_few=_too_few(found),
        notes=tuple(note for note in (found.notes if found is not None else ()) if note not in costs),
        cost_notes=costs,
        states=_states(result, states),
    )


def method_matrix(results: Sequence[SweepResult]) -> MethodMatrix | None:
    """Methods of all sweeps that compare some, side by side; None where fewer than two do."""
    sweeps = tuple(result for result in results if result.methods is not None and result.methods.rows)
    if len(sweeps) < 2:  # noqa: PLR2004 - one has its own table
        return None
    known = [{row.name: row for row in sweep.methods.rows} for sweep in sweeps if sweep.methods is not None]
    names = dict.fromkeys(name for rows in known for name in rows)
    return MethodMatrix(
        sweeps=sweeps, rows=tuple((name, tuple(rows.get(name) for rows in known)) for name in names)
    )


def _runs(rows: Sequence[MethodRow]) -> str:
    fewest, most = min(row.runs for row in rows), max(row.runs for row in rows)
    return f"{plural(most, 'run')} each" if fewest == most else f"{fewest:,} to {plural(most, 'run')}"


def _scale(found: MethodComparison | None) -> Scale:
    differences = (
        [row.difference for row in found.rows if row.difference is not None] if found is not None else []
    )
    ends = [(one.mean, one.low, one.high) for one in differences]
    return Scale.around([0.0, *(value for values in ends for value in values if value is not None)])


def _too_few(found: MethodComparison | None) -> str:
    rows = found.rows if found is not None else ()
    pairs = [row.difference.n for row in rows if row.difference is not None]
    return story_methods.too_few(pairs, found.alpha) if found is not None else ""


def _final(result: SweepResult) -> NDArray[np.bool_]:
    """Which trials stand for a run, [trials]."""
    final: NDArray[np.bool_] = result.trials["final"].isin([True]).to_numpy(dtype=np.bool_)
    return final


def _states(result: SweepResult, states: Sequence[str]) -> tuple[tuple[str, int, int, int], ...]:
    roles = np.where(
        result.trials["role"] == PRETRAIN, "pretrain", np.where(_final(result), "final", "other")
    )
    table = Counter(zip(result.trials["state"], roles, strict=True))
    rows = [
        (state, table[state, "final"], table[state, "other"], table[state, "pretrain"]) for state in states
    ]
    return tuple(row for row in rows if any(row[1:]) or row[0] in (COMPLETE, *UNLUCKY))
