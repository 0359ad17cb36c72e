"""Which figures a report holds, and under which file names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from kdsearch.analysis.best import BestConfiguration
from kdsearch.analysis.figure_style import Drawing, figure_style, finish
from kdsearch.analysis.figures_methods import method_drawings, trajectory_drawings
from kdsearch.analysis.figures_retrained import retrained_drawings
from kdsearch.analysis.frames import curve_table
from kdsearch.analysis.graph_drawing import draw_graph
from kdsearch.analysis.paths import last_values
from kdsearch.analysis.plots import plot_conditions, plot_curves, plot_edfs, plot_history, plot_lowest
from kdsearch.analysis.results import SweepResult, best_and_median
from kdsearch.analysis.space_drawing import draw_lineage
from kdsearch.analysis.wording import count, percent
from kdsearch.spaces import KtgSpace

_NODE_COLOURS = ("target", "series-2", "series-3", "series-4", "series-5", "series-1")
_TARGET_NODE = 1
_WEIGHT = "weight."  # in the names of learned gates' metaparameters
_COMPARED = 8  # curves that one figure can hold

Line = tuple[str, pd.DataFrame, str]


def slug(name: str) -> str:
    """A name as a piece of a file name: letters, digits, dots and hyphens."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.") or "sweep"


def sweep_drawings(result: SweepResult, prefix: str) -> dict[str, Drawing]:
    """All figures of one sweep by their key in the page; file names begin with `prefix`."""
    with figure_style():
        return {key: drawing for key, drawing in _drawings(result, prefix) if drawing is not None}


def _drawings(result: SweepResult, prefix: str) -> Iterator[tuple[str, Drawing | None]]:
    if result.retrained is not None:
        yield from retrained_drawings(result, prefix)
    elif result.compares:
        yield from method_drawings(result, prefix)
    else:
        yield from _space_drawings(result, prefix)
    yield from trajectory_drawings(result, prefix)


def _space_drawings(result: SweepResult, prefix: str) -> Iterator[tuple[str, Drawing | None]]:
    yield "lineage", _lineage(result, prefix)
    yield "edf", _edfs(result, prefix)
    for space in result.estimated:
        if space.conditions:
            words = f"EDFs of {space.name} under each condition of {', '.join(space.labels)}."
            yield (
                f"conditions-{space.name}",
                finish(
                    plot_conditions(space, error=result.error),
                    f"{prefix}conditions-{slug(space.name)}",
                    words,
                ),
            )
    yield "lowest", _lowest(result, prefix)
    for best in result.best:
        yield f"graph-{best.rank}", _graph(best, _learned_weights(result, best), prefix)
    yield "curves", _curves(result, prefix)
    yield "history", _history(result, prefix)


def comparison_drawing(results: Sequence[SweepResult]) -> Drawing | None:
    """EDFs of the last spaces of several sweeps."""
    last = [(result.record.name, result.estimated[-1]) for result in results if result.estimated][:_COMPARED]
    if len(last) < 2:  # noqa: PLR2004 - a comparison needs two
        return None
    curves = [(f"{name}: {one.name}", one.curve, one.band) for name, one in last if one.curve is not None]
    words = "EDFs of the last spaces: " + "; ".join(f"{name}, AUC {percent(one.auc)}" for name, one in last)
    with figure_style():
        return finish(plot_edfs(curves, error=_error_of(results)), "comparison", words)


def _error_of(results: Sequence[SweepResult]) -> str:
    """What the errors of several sweeps are: of validation, unless that is not known of one."""
    kinds = {result.error for result in results}
    return kinds.pop() if len(kinds) == 1 else "error"


def _lineage(result: SweepResult, prefix: str) -> Drawing | None:
    spaces = [one.space for one in result.spaces if isinstance(one.space, KtgSpace)]
    if len(spaces) < len(result.spaces) or len(spaces) < 2:  # noqa: PLR2004 - one space fixes nothing
        return None
    captions = [f"{count(one.record.counts['classes'])} graphs" for one in result.spaces]
    words = "; ".join(
        f"{one.name}: {one.record.restriction or 'no restriction'}, {caption}"
        for one, caption in zip(result.spaces, captions, strict=True)
    )
    return finish(
        draw_lineage(spaces, captions), f"{prefix}lineage", f"What each design space fixes. {words}."
    )


def _edfs(result: SweepResult, prefix: str) -> Drawing | None:
    if not result.estimated:
        return None
    curves = [(one.name, one.curve, one.band) for one in result.estimated if one.curve is not None]
    words = "; ".join(
        f"{one.name}: AUC {percent(one.auc)}, n = {one.population.n}" for one in result.estimated
    )
    return finish(
        plot_edfs(curves, error=result.error),
        f"{prefix}edf",
        f"Empirical distribution functions of the errors. {words}.",
    )


def _lowest(result: SweepResult, prefix: str) -> Drawing | None:
    if not result.lowest or min(one.n for one in result.lowest) < 2:  # noqa: PLR2004 - one draw is no curve
        return None
    labels = [f"random search in {one.space}" for one in result.lowest]
    words = f"Lowest error by the number of draws from {' and '.join(one.space for one in result.lowest)}."
    return finish(plot_lowest(result.lowest, labels, error=result.error), f"{prefix}lowest", words)


def _learned_weights(result: SweepResult, best: BestConfiguration) -> dict[str, float]:
    """The weights that the best training of a graph learned for its gates, by edge."""
    number, _ = best.trainings.best
    return {
        name.removeprefix(_WEIGHT): value
        for (trial, name), value in last_values(result.trajectories).items()
        if trial == number and name.startswith(_WEIGHT)
    }


def _graph(best: BestConfiguration, weights: Mapping[str, float], prefix: str) -> Drawing | None:
    if best.graph is None:
        return None
    words = f"Graph of rank {best.rank}, accuracy {percent(best.accuracies.get(1))} %: {best.graph.to_text()}"
    figure = draw_graph(best.graph, accuracies=best.accuracies, weights=weights)
    return finish(figure, f"{prefix}graph-{best.rank}", words)


def _curves(result: SweepResult, prefix: str) -> Drawing | None:
    panels = [panel for panel in (_best_panel(result), _space_panel(result)) if panel[1]]
    if not any(len(rows) > 1 for _, lines in panels for _, rows, _ in lines):
        return None  # a single epoch is no curve
    return finish(
        plot_curves(panels, error=result.error),
        f"{prefix}curves",
        f"{result.error.capitalize()} by epoch of the best and of median trials.",
    )


def _best_panel(result: SweepResult) -> tuple[str, list[Line]]:
    """Every node of the best training of the best graph."""
    if not result.best:
        return "", []
    trial, _ = result.best[0].trainings.best
    rows = curve_table(result.record, [trial], "val_error")
    lines: list[Line] = []
    for node in sorted({int(node) for node in rows["node"] if node > 0}):
        name = "target" if node == _TARGET_NODE else f"node {node}"
        lines.append((name, rows[rows["node"] == node], _NODE_COLOURS[(node - 1) % len(_NODE_COLOURS)]))
    return f"best, trial {trial}: all nodes", lines


def _space_panel(result: SweepResult) -> tuple[str, list[Line]]:
    """The target in the best and in the median trial of the first and the last space."""
    ends = (
        [result.estimated[0], result.estimated[-1]] if len(result.estimated) > 1 else list(result.estimated)
    )
    colours = [("series-last", "series-5"), ("series-first", "series-1")]
    lines: list[Line] = []
    for space, pair in reversed(list(zip(reversed(ends), colours, strict=False))):
        best, median = best_and_median(space)
        for word, trial, colour in (("best", best, pair[0]), ("median", median, pair[1])):
            rows = curve_table(result.record, [trial], "val_error")
            part = rows[rows["node"] == _TARGET_NODE]
            if len(part):
                lines.append((f"{space.name}, {word}", part, colour))
    return "target: best and median trials", lines


def _history(result: SweepResult, prefix: str) -> Drawing | None:
    """Errors in order, for sweeps that are no refinement."""
    known = result.searched["error"].notna()
    if result.record.kind == "refine" or known.sum() < 2:  # noqa: PLR2004 - one trial is no history
        return None
    words = f"Errors of {int(known.sum())} trials in the order of their numbers, and the lowest so far."
    return finish(plot_history(result.searched, error=result.error), f"{prefix}history", words)
