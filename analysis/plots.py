"""Figures of populations of trials: EDFs, conditions, lowest error against draws, learning curves.

Each function takes worked-out results and returns a Figure; call them inside `figure_style`. EDFs are drawn as the
step functions that they are, one step a distinct error, never a grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter

from kdsearch.analysis.edf import Band, Edf, edf
from kdsearch.analysis.figure_style import (
    DASHES,
    MUTED,
    PALETTE,
    SOLID,
    TARGET,
    new_figure,
    plain_axes,
    series_colours,
)
from kdsearch.analysis.frames import Floats
from kdsearch.analysis.results import LowestError, SpaceResult

_WIDTH = 7.6
_REACH = 2.0
_COLOURS = 6
_INSIDE = 6  # conditions whose legend fits into a panel
_LEGEND_WIDTH = 26  # letters of a condition that fit there
_LEGEND_LINE = 0.16  # inches
_LOG_FROM = 8  # curves whose values span such a factor get a logarithmic axis
_WHOLE = 100.0  # per cent
_FIRST_READ = 4  # draws from which on the whole band must be on the page; the mean is from the first
_ERROR = "validation error"  # what the errors are, unless somebody says otherwise
_SHARE_AXIS = "share of draws with a lower error"


def plot_edfs(curves: Sequence[tuple[str, Edf, Band | None]], *, error: str = _ERROR) -> Figure:
    """EDFs with simultaneous bands as exact steps (right half of Fig. 1).

    `curves`: label, EDF and band of each space, from the first to the last. The axis shows the bulk of every space;
    a note in the figure counts the draws that lie beyond it, such as diverged ones.
    """
    figure = new_figure(_WIDTH, 4.3)
    axes = figure.add_subplot()
    low, high = _error_range([curve for _, curve, _ in curves])
    emphasis = len(curves) - 1
    for i, ((label, curve, band), colour) in enumerate(zip(curves, series_colours(len(curves)), strict=True)):
        if band is not None:
            _draw_band(axes, curve, band, colour, (low, high))
        axes.plot(
            *edf_steps(curve, low, high),
            color=colour,
            linewidth=2.4 if i == emphasis else 1.7,
            linestyle=DASHES[0] if i == emphasis else DASHES[i % len(DASHES)],
            label=f"{label}  (n = {curve.n:,})",
            zorder=3 + i,
        )
    axes.set_xlim(low, high)
    axes.set_ylim(0, 1.01)
    plain_axes(axes, xlabel=f"{error} (%)", ylabel=_SHARE_AXIS)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(loc="lower right", handlelength=3)
    _note_beyond(axes, curves, high)
    return figure


def edf_steps(curve: Edf, low: float, high: float) -> tuple[Floats, Floats]:
    """Corners of the step function between two errors, two for each distinct error, [2k + 2]."""
    x = np.repeat(curve.errors, 2)
    y = np.column_stack([curve.f_below, curve.f_at_or_below]).ravel()
    return np.concatenate([[min(low, x[0])], x, [max(high, x[-1])]]), np.concatenate([[0.0], y, [y[-1]]])


def _draw_band(axes: Axes, curve: Edf, band: Band, colour: str, limits: tuple[float, float]) -> None:
    """The band as steps too: the EDF shifted by epsilon and cut to [0, 1]."""
    x, y = edf_steps(curve, *limits)
    axes.fill_between(
        x,
        np.clip(y - band.epsilon, 0, 1),
        np.clip(y + band.epsilon, 0, 1),
        color=colour,
        alpha=0.14,
        linewidth=0,
        zorder=1,
    )


def _error_range(curves: Sequence[Edf]) -> tuple[float, float]:
    """From the lowest error to the end of the bulk: errors up to three times as far out as the third quartile."""
    lowest = min(float(curve.errors[0]) for curve in curves)
    highest = lowest
    for curve in curves:
        start, quartile = float(curve.errors[0]), curve.quantile(0.75)
        inside = curve.errors[curve.errors <= quartile + _REACH * (quartile - start)]
        highest = max(highest, float(inside[-1]))
    margin = max(0.04 * (highest - lowest), 0.05)
    end = highest + margin
    return max(0.0, lowest - margin), end if highest > _WHOLE else min(_WHOLE, end)


def _note_beyond(axes: Axes, curves: Sequence[tuple[str, Edf, Band | None]], high: float) -> None:
    beyond = [
        f"{label}: {count:,}"
        for label, curve, _ in curves
        if (count := round(curve.n * (1.0 - float(curve(np.nextafter(high, np.inf))))))
    ]
    if beyond:
        text = f"draws beyond this axis: {', '.join(beyond)}"
        axes.text(0.0, 1.02, text, transform=axes.transAxes, fontsize=8.5, color=MUTED)


def plot_conditions(result: SpaceResult, *, error: str = _ERROR) -> Figure:
    """EDFs of one space under each of its groups of conditions (step 2 of Fig. 3); the chosen condition stands out."""
    groups = list(result.labels)
    columns = 2 if len(groups) > 1 else 1
    rows = math.ceil(len(groups) / columns)
    lines = [[row.value for row in result.outstanding(group)] for group in groups]
    below = any(len(one) > _INSIDE or max(map(len, one), default=0) > _LEGEND_WIDTH for one in lines)
    height = 2.75 + (_LEGEND_LINE * max(map(len, lines)) + 0.2 if below else 0.0)
    figure = new_figure(_WIDTH, height * rows + 0.2)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    drawn = result.population
    whole = edf(drawn.errors, drawn.weights)
    low, high = _error_range([whole])
    for axes, group in zip(panels, groups, strict=False):
        _plot_group(axes, result, group, (low, high), below=below)
        axes.set_xlim(low, high)
        axes.set_ylim(0, 1.01)
    for axes in panels[len(groups) :]:
        axes.remove()
    for axes in panels[0 if below else max(0, len(groups) - columns) : len(groups)]:
        axes.tick_params(labelbottom=True)  # nothing may stand below it
    figure.supxlabel(f"{error} (%)", fontsize=10)
    figure.supylabel(_SHARE_AXIS, fontsize=10)
    return figure


def _plot_group(
    axes: Axes, result: SpaceResult, group: str, limits: tuple[float, float], *, below: bool
) -> None:
    drawn, labels = result.population, np.array(result.labels[group], dtype=np.str_)
    rows = result.outstanding(group)
    colours = [PALETTE[f"series-{1 + i % _COLOURS}"] for i in range(len(rows))]
    for i, (row, colour) in enumerate(zip(rows, colours, strict=True)):
        mask = labels == row.value
        chosen = result.chosen(row)
        axes.plot(
            *edf_steps(edf(drawn.errors[mask], drawn.weights[mask]), *limits),
            color=TARGET if chosen else colour,
            linewidth=2.6 if chosen else 1.3,
            linestyle=SOLID if chosen else DASHES[i % len(DASHES)],
            label=f"{row.value} (fixed)" if chosen else row.value,
            zorder=4 if chosen else 2,
        )
    plain_axes(axes)
    axes.set_title(group.replace("->", " → "))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    where = {"loc": "upper left", "bbox_to_anchor": (0.0, -0.1)} if below else {"loc": "lower right"}
    axes.legend(**where, fontsize=7.5, handlelength=2.4, labelspacing=0.25, borderpad=0.1)


def plot_lowest(lowest: Sequence[LowestError], labels: Sequence[str], *, error: str = _ERROR) -> Figure:
    """Lowest error by the number of random draws (Fig. 4): mean and standard deviation over all orders of the draws."""
    figure = new_figure(_WIDTH, 3.9)
    axes = figure.add_subplot()
    shown = min(one.n for one in lowest)
    draws = np.arange(1, shown + 1)
    colours = series_colours(max(len(lowest), 2))[-len(lowest) :]
    for i, (one, label, colour) in enumerate(zip(lowest, labels, colours, strict=True)):
        mean, spread = one.mean[:shown], one.spread[:shown]
        low, high = np.maximum(mean - spread, one.best), mean + spread
        axes.fill_between(draws, low, high, step="post", color=colour, alpha=0.16, linewidth=0)
        dashes = SOLID if i == len(lowest) - 1 else DASHES[1]
        axes.step(draws, mean, where="post", color=colour, linewidth=2.1, linestyle=dashes, label=label)
    if shown > 30:  # noqa: PLR2004 - long searches are read on a logarithmic axis
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlim(1, max(shown, 2))
    if shown > 2 * _FIRST_READ:  # before, bands may be cut: a single diverged draw makes them wide
        top = max(float(max(one.mean[0], (one.mean + one.spread)[_FIRST_READ - 1])) for one in lowest)
        bottom = min(one.best for one in lowest)
        if top > bottom:
            axes.set_ylim(max(0.0, bottom - 0.08 * (top - bottom)), top + 0.05 * (top - bottom))
    plain_axes(axes, xlabel="draws at random", ylabel=f"lowest {error} so far (%)")
    axes.legend(loc="upper right")
    return figure


def plot_curves(
    panels: Sequence[tuple[str, Sequence[tuple[str, pd.DataFrame, str]]]], *, error: str = _ERROR
) -> Figure:
    """Learning curves: panels of (title, lines); a line is label, rows `epoch, value`, and a colour of the palette."""
    figure = new_figure(_WIDTH, 3.4)
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (title, lines) in zip(grid, panels, strict=True):
        for i, (label, rows, colour) in enumerate(lines):
            marker = "o" if len(rows) <= 12 else ""  # noqa: PLR2004 - few epochs are points, many are a line
            axes.plot(
                rows["epoch"],
                rows["value"],
                color=PALETTE[colour],
                linestyle=DASHES[i % len(DASHES)],
                marker=marker,
                markersize=3.2,
                linewidth=1.9,
                label=label,
            )
        plain_axes(axes, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_title(title)
        axes.legend(loc="upper right", fontsize=8.5, handlelength=2.8)
    values = np.concatenate([rows["value"].to_numpy() for _, lines in panels for _, rows, _ in lines])
    if values.min() > 0 and values.max() > _LOG_FROM * values.min():
        grid[0].set_yscale("log")  # shared by the panels; late differences are small beside the first epochs
        for axes in grid:
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_locator(NullLocator())
    else:
        grid[0].set_ylim(bottom=0)
    grid[0].set_ylabel(f"{error} (%)")
    return figure


def plot_history(trials: pd.DataFrame, *, error: str = _ERROR) -> Figure:
    """Errors in the order of trial numbers, and the lowest so far; `trials` has `number`, `error`, by number."""
    figure = new_figure(_WIDTH, 3.4)
    axes = figure.add_subplot()
    known = trials[trials["error"].notna()]
    axes.plot(
        known["number"],
        known["error"],
        linestyle="",
        marker="o",
        markersize=3,
        color=PALETTE["series-1"],
        alpha=0.7,
        label="trial",
    )
    axes.step(
        known["number"],
        known["error"].cummin(),
        where="post",
        color=PALETTE["series-last"],
        linewidth=2,
        label="lowest so far",
    )
    plain_axes(axes, xlabel="trial", ylabel=f"{error} (%)")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.legend(loc="upper right")
    return figure
