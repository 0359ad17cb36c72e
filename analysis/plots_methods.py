"""Figures of a comparison of methods: accuracies of runs, accuracy by epoch, periods, metaparameter trajectories.

Each function takes worked-out results (`kdsearch.analysis.methods`) and returns a Figure; call them inside
`figure_style`. Accuracies are in per cent. Figures 4 and 6 are those of "Metaparameter optimization in knowledge
distillation".
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from kdsearch.analysis.figure_style import DASHES, FAINT, INK, MUTED, PALETTE, new_figure, plain_axes
from kdsearch.analysis.methods import EpochCurve, MethodRow, PeriodPoint, Trajectory
from kdsearch.analysis.paths import logarithmic, mean_trajectory
from kdsearch.analysis.samples import Floats

_WIDTH = 7.6
_COLUMNS = 3  # panels side by side
_TITLE_WIDTH = 28  # letters of a method that fit above a panel
_NAME_WIDTH = 24  # and beside a row
_ORDER = ("series-2", "series-last", "series-3", "series-5", "series-4", "series-6", "series-1")
_NAMED = 4  # runs below an axis that it names
_REACH = 3.0  # times as far below a method's median as its best run is above it, an axis follows its runs
_LEAST_REACH = 0.5  # points
_EARLY = 0.25  # of the epochs, which may lie below the axis
_STEEP = 1.0  # how many times the later range must lie below it for that
_WIDE = 4.0  # periods that span such a factor get a logarithmic axis
_ASIDE = 7 / 72  # inches that the dots of runs stand to the left of their mean


def accuracy_axis(*, tested: bool) -> str:
    """What an axis of accuracies is called."""
    return f"{'test' if tested else 'validation'} accuracy (%)"


def method_colours(names: Sequence[str], reference: str) -> dict[str, str]:
    """A colour for each method, the same in every figure; the reference is grey."""
    others = [name for name in names if name != reference]
    colours = {name: PALETTE[_ORDER[i % len(_ORDER)]] for i, name in enumerate(others)}
    return {reference: PALETTE["series-first"], **colours}


def plot_accuracies(rows: Sequence[MethodRow], reference: str, *, tested: bool) -> Figure:
    """One dot for each run, in a row for each method, and a bar at the mean.

    The axis follows the bulk of each method's runs; runs and means that lie below it are named at its left end.
    """
    shown = [row for row in rows if len(row.accuracies)]
    colours = method_colours([row.name for row in rows], reference)
    figure = new_figure(_WIDTH, 0.46 * len(shown) + 0.8)
    axes = figure.add_subplot()
    low, high = _bulk([row.accuracies for row in shown])
    for place, row in enumerate(shown):
        _draw_runs(axes, row, place, colours[row.name], low)
        if row.name == reference:
            axes.axvline(row.mean, color=MUTED, linestyle=DASHES[1], linewidth=1.1, zorder=1)
    axes.set_xlim(low, high)
    axes.set_ylim(len(shown) - 0.45, -0.55)
    plain_axes(axes, xlabel=accuracy_axis(tested=tested), grid="x")
    axes.set_yticks(range(len(shown)), [_wrapped(row.name, _NAME_WIDTH) for row in shown])
    axes.tick_params(axis="y", length=0)
    return figure


def _draw_runs(axes: Axes, row: MethodRow, place: int, colour: str, low: float) -> None:
    values = row.accuracies
    heights = place + np.linspace(-0.24, 0.24, len(values)) if len(values) > 1 else np.array([float(place)])
    inside = values >= low
    axes.plot(
        values[inside],
        heights[inside],
        linestyle="",
        marker="o",
        markersize=4.5,
        color=colour,
        alpha=0.65,
        markeredgewidth=0,
    )
    below = [f"{value:.1f}" for value in sorted(values[~inside])]
    if row.mean >= low:
        axes.plot([row.mean] * 2, [place - 0.33, place + 0.33], color=INK, linewidth=2.2, zorder=4)
    else:
        below.append(f"mean {row.mean:.1f}")
    if below:
        told = ", ".join(below if len(below) <= _NAMED else [*below[: _NAMED - 1], "...", below[-1]])
        axes.annotate(
            f"◂ {told}",
            (0.004, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8.5,
            color=MUTED,
        )


def _bulk(groups: Sequence[Floats]) -> tuple[float, float]:
    """From the lowest to the highest accuracy, runs far below the others of their method left out."""
    medians = [float(np.median(values)) for values in groups]
    least = max(max(medians) - min(medians), _LEAST_REACH)
    lowest, highest = math.inf, -math.inf
    for values in groups:
        median, end = float(np.median(values)), float(values.max())
        inside = values[values >= median - _REACH * max(end - median, least)]
        lowest, highest = min(lowest, float(inside.min())), max(highest, float(values.max()))
    margin = max(0.05 * (highest - lowest), 0.1)
    return max(0.0, lowest - margin), min(100.0 + margin / 2, highest + margin)


def plot_accuracy_by_epoch(curves: Sequence[EpochCurve], reference: str, *, tested: bool) -> Figure:
    """Mean accuracy by epoch with the interval of the mean (Fig. 4): a panel for each method beside the reference.

    The other methods' means stand behind it as faint lines. Early epochs lie below the axis where they would
    leave no room for the later differences.
    """
    base = next((curve for curve in curves if curve.method == reference), None)
    panels = [curve for curve in curves if curve is not base] or list(curves)
    colours = method_colours([curve.method for curve in curves], reference)
    columns = _side_by_side(len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(_WIDTH, 2.15 * rows + 0.75)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, curve in zip(grid, panels, strict=False):
        for other in curves:
            if other is not curve and other is not base:
                axes.plot(other.epochs, other.mean, color=FAINT, linewidth=1.1, zorder=1)
        if base is not None and base is not curve:
            _draw_curve(axes, base, colours[reference], dashed=True)
        _draw_curve(axes, curve, colours[curve.method], dashed=False)
        plain_axes(axes)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_title(_wrapped(curve.method, _TITLE_WIDTH * _COLUMNS // columns), fontsize=9.5)
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes in grid[max(0, len(panels) - columns) : len(panels)]:
        axes.tick_params(labelbottom=True)  # nothing may stand below it
    grid[0].set_ylim(*_curve_range(curves))
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel(accuracy_axis(tested=tested), fontsize=10)
    _legend(figure, reference if base in curves and base not in panels else None, others=len(panels) > 1)
    return figure


def _side_by_side(panels: int) -> int:
    """How many panels stand in a row: at most three, or as many as fill two rows where three would leave a gap."""
    return {4: 2, 7: 4, 8: 4}.get(panels, min(_COLUMNS, panels))


def _draw_curve(axes: Axes, curve: EpochCurve, colour: str, *, dashed: bool) -> None:
    axes.fill_between(
        curve.epochs, curve.low, np.minimum(curve.high, 100.0), color=colour, alpha=0.2, linewidth=0, zorder=2
    )
    few = len(curve.epochs) <= 12  # noqa: PLR2004 - few epochs are points, many are a line
    axes.plot(
        curve.epochs,
        curve.mean,
        color=colour,
        linestyle=DASHES[1 if dashed else 0],
        linewidth=1.6 if dashed else 2.1,
        marker="o" if few and not dashed else "",
        markersize=3,
        zorder=3 if dashed else 4,
    )


def _legend(figure: Figure, reference: str | None, *, others: bool) -> None:
    axes = figure.axes[0]
    handles = [axes.plot([], [], color=INK, linewidth=2.1, label="the panel's method")[0]]
    if reference is not None:
        colour = PALETTE["series-first"]
        label = f"{reference} (reference)"
        handles += axes.plot([], [], color=colour, linestyle=DASHES[1], linewidth=1.6, label=label)
    if others:
        handles += axes.plot([], [], color=FAINT, linewidth=1.6, label="the other methods")
    if len(handles) > 1:
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), fontsize=9)


def _curve_range(curves: Sequence[EpochCurve]) -> tuple[float, float]:
    """All means, or those after the first quarter of the epochs where the earlier ones reach much lower.

    Intervals may widen the range by half of what the means span, at either end; one collapsed run among few makes
    them so wide that nothing else could be read.
    """
    late = [curve.epochs >= curve.epochs.min() + _EARLY * np.ptp(curve.epochs) for curve in curves]
    means = np.concatenate([curve.mean[mask] for curve, mask in zip(curves, late, strict=True)])
    lows = np.concatenate(
        [np.fmin(curve.low, curve.mean)[mask] for curve, mask in zip(curves, late, strict=True)]
    )
    high_ends = np.concatenate([np.fmax(curve.high, curve.mean) for curve in curves])
    span = max(float(np.ptp(means)), 2 * _LEAST_REACH)
    low = max(float(lows.min()), float(means.min()) - span / 2)
    high = min(float(high_ends.max()), float(means.max()) + span / 2, 100.0)
    lowest = min(float(curve.mean.min()) for curve in curves)
    if low - lowest <= _STEEP * (high - low):
        low = min(low, lowest)
    margin = max(0.04 * (high - low), 0.1)
    return max(0.0, low - margin), min(100.0 + margin / 2, high + margin)


def plot_periods(
    equal: Sequence[PeriodPoint], varied: Sequence[PeriodPoint], base: MethodRow | None, *, tested: bool
) -> Figure:
    """Accuracy against e1 = e2, and against e2 with e1 fixed (Fig. 6): mean, its interval, and the runs as dots.

    `base` is the reference method, whose mean is drawn as a line; None where it has none.
    """
    studies = [(points, axis) for points, axis in ((equal, "e1 = e2"), (varied, "e2")) if points]
    figure = new_figure(_WIDTH, 3.5)
    grid = figure.subplots(1, len(studies), squeeze=False, sharey=True)[0]
    for axes, (points, name) in zip(grid, studies, strict=True):
        xs = [point.e2 for point in points]
        _draw_points(axes, xs, points)
        if base is not None:
            label = f"{base.name} (reference)"
            colour = PALETTE["series-first"]
            axes.axhline(base.mean, color=colour, linestyle=DASHES[1], linewidth=1.5, label=label, zorder=1)
        plain_axes(axes, xlabel=f"{name} (iterations)")
        _period_axis(axes, xs)
        axes.set_title("phases of equal length" if points is equal else _fixed_e1(points))
    means = np.array([point.mean for point in (*equal, *varied)] + ([base.mean] if base is not None else []))
    low, high = _bulk([point.accuracies for point in (*equal, *varied)])
    margin = max(0.05 * (high - low), 0.1)
    lows, highs = _interval_ends([*equal, *varied])
    grid[0].set_ylim(
        min(low, float(means.min()) - margin, max(lows - margin, low - (high - low) / 2)),
        max(high, float(means.max()) + margin, min(highs + margin, high + (high - low) / 2)),
    )
    grid[0].set_ylabel(accuracy_axis(tested=tested))
    figure.legend(
        handles=grid[0].get_legend_handles_labels()[0], loc="outside upper left", ncols=2, fontsize=9
    )
    return figure


def _interval_ends(points: Sequence[PeriodPoint]) -> tuple[float, float]:
    """The lowest and the highest end of the intervals, or of the means where there are none."""
    lows = [point.mean if point.low is None else point.low for point in points]
    highs = [point.mean if point.high is None else min(point.high, 100.0) for point in points]
    return min(lows), max(highs)


def _fixed_e1(points: Sequence[PeriodPoint]) -> str:
    fixed = sorted({point.e1 for point in points})
    return f"gradient phases of e1 = {', '.join(map(str, fixed))}"


def _draw_points(axes: Axes, xs: Sequence[int], points: Sequence[PeriodPoint]) -> None:
    colour = PALETTE["series-last"]
    beside = axes.transData + ScaledTranslation(-_ASIDE, 0, axes.figure.dpi_scale_trans)
    for x, point in zip(xs, points, strict=True):
        runs = point.accuracies
        axes.plot(
            [x] * len(runs),
            runs,
            linestyle="",
            marker="o",
            markersize=3.5,
            color=colour,
            alpha=0.4,
            mew=0,
            transform=beside,
        )
        if point.low is not None and point.high is not None:
            axes.plot([x, x], [point.low, min(point.high, 100.0)], color=colour, linewidth=2, zorder=3)
    means = [point.mean for point in points]
    axes.plot(
        xs,
        means,
        color=colour,
        linewidth=1.2,
        marker="D",
        markersize=5,
        label="mean and its interval",
        zorder=4,
    )


def _period_axis(axes: Axes, xs: Sequence[int]) -> None:
    """Logarithmic where the periods span a factor of four; a period of 0 then stands apart at the left."""
    positive = [x for x in xs if x > 0]
    if positive and max(positive) >= _WIDE * min(positive):
        axes.set_xscale("symlog", linthresh=min(positive), linscale=0.6)
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(xs))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    spread = 0.25 * min(positive, default=1) if min(xs) == 0 else 0.3 * min(xs)
    axes.set_xlim(min(xs) - spread, max(xs) * 1.15 + 0.5)


def plot_trajectories(trajectories: Sequence[Trajectory], colour: str) -> Figure:
    """Metaparameters of one method by epoch: a panel for each, thin lines for runs, a thick one for their mean.

    Circles are start values, dotted lines the bounds. A positive metaparameter that may exceed 1, such as a
    temperature, has a logarithmic axis and a geometric mean.
    """
    columns = min(_COLUMNS, len(trajectories))
    rows = math.ceil(len(trajectories) / columns)
    figure = new_figure(_WIDTH, 2.5 * rows + 0.3)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axes, one in zip(grid, trajectories, strict=False):
        _draw_trajectory(axes, one, colour)
        axes.set_title(_wrapped(one.metaparameter.replace("->", " → "), _TITLE_WIDTH))
        axes.tick_params(labelbottom=True)
    for axes in grid[len(trajectories) :]:
        axes.remove()
    figure.supxlabel("epoch", fontsize=10)
    return figure


def _draw_trajectory(axes: Axes, one: Trajectory, colour: str) -> None:
    many = max(1.0, len(one.values) / 10)
    axes.plot(
        one.epochs, one.values.T, color=colour, linewidth=0.9, alpha=max(0.15, 0.5 / many**0.5), zorder=2
    )
    axes.plot(
        [one.epochs[0]] * len(one.values),
        one.values[:, 0],
        linestyle="",
        marker="o",
        markersize=3.6,
        color=colour,
        alpha=0.8,
        mew=0,
        clip_on=False,
        zorder=3,
    )
    axes.plot(one.epochs, mean_trajectory(one), color=INK, linewidth=2.4, zorder=4)
    plain_axes(axes)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _bounded_axis(axes, one)


def _bounded_axis(axes: Axes, one: Trajectory) -> None:
    """The range between the bounds, and the bounds themselves; an infinite bound leaves that end to the values."""
    log = logarithmic(one)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    known = one.values[np.isfinite(one.values)]
    low, high = (
        bound if math.isfinite(bound) and (bound > 0 or not log) else value
        for bound, value in zip(one.bounds, (float(known.min()), float(known.max())), strict=True)
    )
    for bound in one.bounds:
        if math.isfinite(bound):
            axes.axhline(bound, color=MUTED, linestyle=DASHES[2], linewidth=1.2, zorder=1)
    if log:
        margin = max((high / low) ** 0.05, 1.02)
        axes.set_ylim(low / margin, high * margin)
    else:
        space = 0.05 * (high - low) or 0.05
        axes.set_ylim(low - space, high + space)


def _wrapped(name: str, width: int) -> str:
    return "\n".join(textwrap.wrap(name, width) or [name])
