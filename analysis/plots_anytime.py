"""Figures of searchers compared on a table: what incumbents are worth at each cost, and who found a good one when.

Call inside `figure_style`. Errors are in per cent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from kdsearch.analysis.anytime import Comparison
from kdsearch.analysis.figure_style import (
    MUTED,
    SOLID,
    Dashes,
    Drawing,
    figure_style,
    finish,
    new_figure,
    plain_axes,
)
from kdsearch.analysis.plots_methods import method_colours
from kdsearch.analysis.traces import Axis, Trace

_LABELS = {
    Axis.TRIALS: "trials that ended",
    Axis.EPOCHS: "epochs of all trials",
    Axis.SECONDS: "virtual time (s)",
}
_WIDTH, _HEIGHT = 10.5, 3.9
_DASHES: tuple[
    Dashes, ...
] = (  # none is solid; one more than there are colours, so that pairs of both come late again
    (0, (5, 1.6)),
    (0, (1.2, 1.4)),
    (0, (6, 1.6, 1.2, 1.6)),
    (0, (3, 1.4)),
    (0, (6, 1.6, 1.2, 1.6, 1.2, 1.6)),
    (0, (9, 2.2)),
    (0, (1.2, 2.8)),
    (0, (3, 1.4, 1.2, 1.4)),
)
_BROAD = 3.4  # of the reference's line, which shows on both sides of one that covers it


def drawings(comparison: Comparison, traces: Mapping[str, Sequence[Trace]]) -> list[Drawing]:
    """Every figure of a comparison."""
    with figure_style():
        return [
            finish(
                plot_errors(comparison),
                "error-by-cost",
                "Mean error of each searcher's incumbent, by trials, epochs and virtual time, with intervals",
            ),
            finish(
                plot_found(comparison, traces),
                "found-by-cost",
                f"Share of runs that trained one of the best {comparison.best} configurations, by cost",
            ),
        ]


def plot_errors(comparison: Comparison) -> Figure:
    """The mean over the table's trainings of the incumbent, averaged over runs, with pointwise intervals."""
    figure, panels = _panels()
    styles = _styles([entry.name for entry in comparison.entries], comparison.reference)
    for axis, axes in panels.items():
        for entry in comparison.entries:
            curve = entry.curves[axis, "mean"]
            if not curve.cost.size:
                continue
            style = styles[entry.name]
            axes.step(curve.cost, curve.mean, where="post", label=entry.name, **style)
            axes.fill_between(
                curve.cost, curve.low, curve.high, step="post", color=style["color"], alpha=0.13, linewidth=0
            )
        _cost_axis(axes, axis)
    first = panels[Axis.TRIALS]
    first.set_ylim(bottom=max(0.0, first.get_ylim()[0]))  # intervals may reach below, errors cannot
    first.set_ylabel("error of the incumbent (%)\nmean over the table's trainings")
    _legend(figure, first)
    return figure


def plot_found(comparison: Comparison, traces: Mapping[str, Sequence[Trace]]) -> Figure:
    """Steps of the share of runs that trained one of the best configurations to its end."""
    figure, panels = _panels()
    styles = _styles(list(traces), comparison.reference)
    for axis, axes in panels.items():
        for name, runs in traces.items():
            within = [
                trace.need(axis, np.inf, best=comparison.best, held=False)
                for trace in runs
                if np.isfinite(
                    trace.need(comparison.axis, comparison.budget, best=comparison.best, held=False)
                )
            ]
            costs = np.sort(np.array(within, dtype=np.float64))
            last = comparison.budget if axis is comparison.axis else max(trace.end(axis) for trace in runs)
            x = np.concatenate(([costs[0]] if costs.size else [], costs, [last]))
            y = np.concatenate(
                ([0.0] if costs.size else [], np.arange(1.0, costs.size + 1), [float(costs.size)])
            )
            axes.step(
                x,
                100 * y / len(runs),
                where="post",
                label=name,
                **styles[name],
            )
        axes.set_ylim(-2, 102)
        _cost_axis(axes, axis)
    first = panels[Axis.TRIALS]
    first.set_ylabel(f"runs that trained one of\nthe best {comparison.best} (%)")
    _legend(figure, first)
    return figure


def _styles(names: Sequence[str], reference: str) -> dict[str, dict[str, Any]]:
    """How each entry's line looks: dashes of its own for each, the reference solid, broad and beneath the others."""
    colours = method_colours(names, reference)
    others = [name for name in names if name != reference]
    styles = {
        name: {"color": colours[name], "linestyle": _DASHES[place % len(_DASHES)], "zorder": 2.5}
        for place, name in enumerate(others)
    }
    return {
        reference: {"color": colours[reference], "linestyle": SOLID, "linewidth": _BROAD, "zorder": 2},
        **styles,
    }


def _panels() -> tuple[Figure, dict[Axis, Axes]]:
    figure = new_figure(_WIDTH, _HEIGHT)
    first = figure.add_subplot(1, 3, 1)
    rest = [figure.add_subplot(1, 3, place, sharey=first) for place in (2, 3)]
    return figure, dict(zip(Axis, (first, *rest), strict=True))


def _cost_axis(axes: Axes, axis: Axis) -> None:
    axes.set_xscale("log")
    plain_axes(axes, xlabel=_LABELS[axis])
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelcolor=MUTED, labelsize=9)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(4, len(labels)), frameon=False)
