"""Figures of block-by-block matching about scores: every run, validation by epoch, a search's parameters.

Each function takes worked-out results and returns a Figure; call them inside `figure_style`. Scores are fractions.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from kdsearch.analysis.bbm_curves import ScoreCurve
from kdsearch.analysis.bbm_methods import MethodRow
from kdsearch.analysis.bbm_scores import DEIT, TEACHER, TRANSFORMER
from kdsearch.analysis.bbm_search import SearchResult
from kdsearch.analysis.bbm_wording import method
from kdsearch.analysis.figure_style import DASHES, INK, MUTED, PALETTE, Dashes, new_figure, plain_axes
from kdsearch.analysis.frames import COMPLETE, STOPPED
from kdsearch.analysis.sweep_kinds import BBM

WIDTH = 7.6
_NAME_WIDTH = 22  # letters of a method beside a row
_COLUMNS = 3  # panels side by side
_KIND = {TRANSFORMER: "series-first", TEACHER: "series-2", DEIT: "series-3", BBM: "series-last"}
_SPARE = ("series-5", "series-4", "series-6", "series-1")
_LEGEND_WIDTH, _LEGEND_MARK = 88, 8  # letters above a figure, and those that a line and its margin take
_FEW = 12  # epochs that are drawn as points
_SWARM = 0.24  # how far runs of one method stand apart


def colours(rows: Sequence[MethodRow]) -> dict[str, str]:
    """A colour for each method, the same in every figure: its kind's for the first of a kind."""
    found: dict[str, str] = {}
    spare = 0
    for row in rows:
        colour = PALETTE[_KIND.get(row.kind, "ink")]
        if colour in found.values() and not row.given:
            colour = PALETTE[_SPARE[spare % len(_SPARE)]]
            spare += 1
        found[row.name] = colour
    return found


def wrapped(name: str, width: int = _NAME_WIDTH) -> str:
    """A method's name as it stands beside a row or above a panel."""
    return "\n".join(textwrap.wrap(method(name), width) or [name])


def side_by_side(panels: int) -> int:
    """How many panels stand in a row: at most three, or as many as fill two rows."""
    return {4: 2}.get(panels, min(_COLUMNS, panels))


def legend_columns(names: Sequence[str]) -> int:
    """How many names stand side by side above a figure."""
    longest = max(map(len, names), default=1)
    return max(1, min(len(names), _LEGEND_WIDTH // (longest + _LEGEND_MARK)))


def plot_scores(rows: Sequence[MethodRow], scores: Sequence[tuple[str, str]]) -> Figure:
    """Every run as a dot and the mean as a bar, a row for each method, a panel for each of scores (key, name)."""
    tint = colours(rows)
    columns = min(2, len(scores))
    lines = math.ceil(len(scores) / columns)
    figure = new_figure(WIDTH, lines * (0.34 * len(rows) + 0.75))
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for axes, (key, name) in zip(grid, scores, strict=False):
        for place, row in enumerate(rows):
            _draw_runs(axes, row.scores[key], place, tint[row.name])
        plain_axes(axes, xlabel=name, grid="x")
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.margins(x=0.08)
        axes.tick_params(axis="y", length=0)
    for axes in grid[len(scores) :]:
        axes.remove()
    grid[0].set_yticks(range(len(rows)), [wrapped(row.name) for row in rows])
    grid[0].set_ylim(len(rows) - 0.45, -0.55)
    return figure


def _draw_runs(axes: Axes, values: np.ndarray, place: int, colour: str) -> None:
    known = values[np.isfinite(values)]
    if not known.size:
        return
    heights = place + (np.linspace(-_SWARM, _SWARM, known.size) if known.size > 1 else np.zeros(1))
    axes.plot(known, heights, linestyle="", marker="o", markersize=4.8, color=colour, alpha=0.75, mew=0)
    axes.plot([known.mean()] * 2, [place - 0.34, place + 0.34], color=INK, linewidth=2.0, zorder=4)


def plot_score_curves(curves: Sequence[ScoreCurve], tint: Mapping[str, str], name: str) -> Figure:
    """Mean validation score by epoch with the range of the runs; each line is named at its end."""
    figure = new_figure(WIDTH, 3.6)
    axes = figure.add_subplot()
    for i, curve in enumerate(curves):
        colour, known = tint[curve.method], np.isfinite(curve.mean)
        x = curve.epochs[known]
        if curve.runs > 1:
            axes.fill_between(x, curve.low[known], curve.high[known], color=colour, alpha=0.18, linewidth=0)
        axes.plot(
            x,
            curve.mean[known],
            color=colour,
            linestyle=_dashes(i),
            linewidth=2.0,
            marker="o" if len(x) <= _FEW else "",
            markersize=3.2,
            label=method(curve.method),
        )
    plain_axes(axes, xlabel="epoch", ylabel=name)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    figure.legend(
        loc="outside upper left",
        ncols=legend_columns([curve.method for curve in curves]),
        fontsize=9,
        handlelength=2.8,
    )
    return figure


def _dashes(place: int) -> Dashes:
    return DASHES[place % len(DASHES)]


def plot_search(search: SearchResult) -> Figure:
    """Validation score against each parameter that varies: full dots ended, hollow ones were stopped earlier."""
    names = search.parameters
    columns = side_by_side(len(names))
    rows = math.ceil(len(names) / columns)
    figure = new_figure(WIDTH, 2.2 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, name in zip(grid, names, strict=False):
        _draw_parameter(axes, search, name)
    for axes in grid[len(names) :]:
        axes.remove()
    figure.supylabel("validation score", fontsize=10)
    return figure


def _draw_parameter(axes: Axes, search: SearchResult, name: str) -> None:
    column = search.points[name]
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    shown = search.points[column.notna() & np.isfinite(search.points["score"])]
    if numeric:
        places = shown[name].astype(np.float64).to_numpy()
    else:
        labels = sorted(shown[name].astype(str).unique())
        places = (
            shown[name].astype(str).map({label: i for i, label in enumerate(labels)}).to_numpy(np.float64)
        )
        axes.set_xticks(range(len(labels)), labels)
    scores, states = shown["score"].to_numpy(dtype=np.float64), shown["state"].to_numpy()
    for state, filled in ((STOPPED, False), (COMPLETE, True)):
        mask = states == state
        axes.plot(
            places[mask],
            scores[mask],
            linestyle="",
            marker="o",
            markersize=4.6,
            color=PALETTE["series-2"] if filled else MUTED,
            markerfacecolor=PALETTE["series-2"] if filled else "none",
            markeredgewidth=0 if filled else 0.9,
            alpha=0.85,
            zorder=3 if filled else 2,
        )
    if search.best and (best := shown[shown["number"] == search.best[0].number]).size:
        x = places[(shown["number"] == search.best[0].number).to_numpy()]
        axes.plot(
            x, best["score"], linestyle="", marker="D", markersize=6, color=PALETTE["series-last"], zorder=4
        )
    plain_axes(axes, xlabel=name)
    axes.margins(x=0.08)
    _place_axis(axes, places, logarithmic=name in search.logarithmic, numeric=numeric)


def _place_axis(axes: Axes, places: np.ndarray, *, logarithmic: bool, numeric: bool) -> None:
    if numeric and logarithmic and places.size and places.min() > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    elif numeric:
        few = np.unique(places)
        if few.size <= 5:  # noqa: PLR2004 - as many ticks as there is room for
            axes.set_xticks(few, [f"{value:g}" for value in few])
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
