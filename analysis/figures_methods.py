"""Which figures a comparison of methods holds, and what they show in words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kdsearch.analysis.figure_style import PALETTE, Drawing, finish
from kdsearch.analysis.methods import MethodComparison, MethodRow
from kdsearch.analysis.paths import by_method, paths
from kdsearch.analysis.plots_methods import (
    method_colours,
    plot_accuracies,
    plot_accuracy_by_epoch,
    plot_periods,
    plot_trajectories,
)
from kdsearch.analysis.results import SweepResult
from kdsearch.analysis.story_methods import accuracy
from kdsearch.analysis.wording import listed, percent


def method_drawings(result: SweepResult, prefix: str) -> Iterator[tuple[str, Drawing]]:
    """Figures of the methods by their key in the page; call inside `figure_style`."""
    found = result.methods
    if found is None or not found.rows:
        return
    told = "; ".join(f"{row.name}: {percent(row.mean)} %" for row in found.rows)
    yield (
        "methods",
        finish(
            plot_accuracies(found.rows, found.reference, tested=found.tested),
            f"{prefix}methods",
            f"{accuracy(found).capitalize()} of every run. Means, {told}.",
        ),
    )
    if any(np.isfinite(curve.mean).sum() > 1 for curve in found.curves):  # a single epoch is no curve
        curves = [curve for curve in found.curves if np.isfinite(curve.mean).any()]
        figure = plot_accuracy_by_epoch(curves, found.reference, tested=found.tested)
        words = f"Mean {accuracy(found)} by epoch of {listed([curve.method for curve in curves])}."
        yield "epochs", finish(figure, f"{prefix}accuracy-by-epoch", words)
    if found.equal_periods or found.varied_e2:
        yield "periods", _periods(found, prefix)


def trajectory_drawings(result: SweepResult, prefix: str) -> Iterator[tuple[str, Drawing]]:
    """A figure of metaparameters by epoch for each method that moved some; call inside `figure_style`."""
    colours: dict[str, str] = {}
    if result.methods is not None:
        colours = method_colours([row.name for row in result.methods.rows], result.methods.reference)
    groups = by_method(result.trajectories)
    for path in paths(result.trajectories):
        group = groups[path.method]
        names = listed([one.metaparameter for one in group])
        figure = plot_trajectories(group, colours.get(path.method, PALETTE["series-2"]))
        yield path.figure, finish(figure, f"{prefix}{path.figure}", f"{path.method}: {names} by epoch.")


def _periods(found: MethodComparison, prefix: str) -> Drawing:
    base: MethodRow | None = next((row for row in found.rows if row.name == found.reference), None)
    figure = plot_periods(found.equal_periods, found.varied_e2, base, tested=found.tested)
    points = (*found.equal_periods, *found.varied_e2)
    told = "; ".join(f"e1 = {one.e1}, e2 = {one.e2}: {percent(one.mean)} %" for one in points)
    return finish(figure, f"{prefix}periods", f"Mean {accuracy(found)} by the lengths of the phases. {told}.")
