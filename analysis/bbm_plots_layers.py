"""Figures of block-by-block matching about layers: CKA as heat maps (Fig. 3), attention by unit (Fig. 4), its reach.

Each function takes worked-out results and returns a Figure; call them inside `figure_style`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kdsearch.analysis.bbm_layers import LayerMean, Reach, over_equal
from kdsearch.analysis.bbm_plots import WIDTH, legend_columns, side_by_side, wrapped
from kdsearch.analysis.bbm_wording import method
from kdsearch.analysis.figure_style import DASHES, FAINT, MUTED, new_figure, plain_axes
from kdsearch.analysis.samples import Floats

SHOWN_BLOCKS = 8  # of attention, side by side
_MAP = "viridis"
_PANELS = 4  # heat maps that have room in one row
_TITLE_WIDTH = 20
_BRIGHTEST = 99.5  # per cent of the values that the scale of attention covers
_LEAST_TOP = 2.0  # times equal attention that it covers at least
_TICKS = 6  # numbered blocks along an axis, at most
_BLOCKS_APART = 0.3
_HEADROOM = 1.08  # above the highest bar, so that nothing is cut


def plot_cka(found: Sequence[LayerMean]) -> Figure:
    """CKA of every unit against every unit, a panel for each method, all on one scale from 0 to 1.

    Units count from 1, at the lower left corner.
    """
    columns = len(found) if len(found) <= _PANELS else side_by_side(len(found))
    rows = math.ceil(len(found) / columns)
    students, teachers = max(one.mean.shape[0] for one in found), max(one.mean.shape[1] for one in found)
    side = (WIDTH - 1.3) / max(columns, 3)
    figure = new_figure(WIDTH, rows * (side * min(1.6, max(0.7, students / teachers)) + 0.55) + 0.35)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    image = None
    for axes, one in zip(grid, found, strict=False):
        values = np.ma.masked_invalid(one.mean)
        image = axes.imshow(
            values, cmap=_map(), vmin=0.0, vmax=1.0, origin="lower", aspect="auto", interpolation="none"
        )
        axes.set_title(wrapped(one.method, _TITLE_WIDTH), fontsize=9.5)
        _numbered(axes, one.mean.shape)
    for axes in grid[len(found) :]:
        axes.remove()
    figure.supxlabel("unit of the teacher", fontsize=10)
    figure.supylabel("unit of the network", fontsize=10)
    if image is not None:
        bar = figure.colorbar(image, ax=grid[: len(found)].tolist(), fraction=0.04, pad=0.02, label="CKA")
        bar.outline.set_visible(False)
    return figure


def _map() -> Colormap:
    """Perceptually even, told apart by colour-blind people; what is unknown is grey."""
    return colormaps[_MAP].with_extremes(bad=FAINT)


def _numbered(axes: Axes, shape: tuple[int, ...]) -> None:
    """Number blocks from 1, not all of many."""
    for axis, size in ((axes.yaxis, shape[0]), (axes.xaxis, shape[1])):
        step = math.ceil(size / _TICKS)
        places = range(0, size, step)
        axis.set_ticks(list(places), [str(place + 1) for place in places])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def shown_blocks(units: int) -> list[int]:
    """Which of a method's blocks a figure has room for, from 0: all of a few, else evenly from first to last."""
    if units <= SHOWN_BLOCKS:
        return list(range(units))
    return sorted({round(place) for place in np.linspace(0, units - 1, SHOWN_BLOCKS)})


def plot_attention(found: Sequence[LayerMean], pieces: str) -> Figure:
    """Mean attention, a row for each method and a panel for each unit; queries downwards, keys to the right.

    In multiples of equal attention, so that the first hours of a causal network, which see few keys, do not outshine
    the rest. All panels have one scale of colours, by square roots; what lies later, or is not known, is grey.
    """
    values = [over_equal(one.mean) for one in found]
    blocks = [shown_blocks(len(each)) for each in values]
    columns = max(map(len, blocks))
    side = (WIDTH - 1.6) / max(columns, 4)
    figure = new_figure(WIDTH, (side + 0.08) * len(found) + 0.9)
    grid = figure.subplots(len(found), columns, squeeze=False)
    known = np.concatenate([each[np.isfinite(each)] for each in values])
    top = max(_LEAST_TOP, float(np.percentile(known, _BRIGHTEST)))
    norm = PowerNorm(0.5, vmin=0.0, vmax=top)
    for line, (row, each, shown) in enumerate(zip(grid, values, blocks, strict=True)):
        for axes, block in zip(row, shown, strict=False):
            _draw_matrix(axes, each[block], norm)
            if line == 0 or shown != blocks[0]:
                axes.set_title(f"unit {block + 1}", fontsize=8.5, fontweight="normal")
        for axes in row[len(shown) :]:
            axes.remove()
        row[0].set_ylabel(wrapped(found[line].method, 14), fontsize=9.5, fontweight="bold")
    figure.supxlabel(f"key: {pieces} of the record", fontsize=9.5)
    bar = figure.colorbar(
        ScalarMappable(norm, _map()),
        ax=grid.ravel().tolist(),
        fraction=0.03,
        pad=0.02,
        label="times equal attention",
        extend="max",
    )
    bar.outline.set_visible(False)
    return figure


def _draw_matrix(axes: Axes, values: Floats, norm: PowerNorm) -> None:
    matrix = np.ma.masked_invalid(values)
    axes.imshow(matrix, cmap=_map(), norm=norm, origin="upper", interpolation="none")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def plot_reach(reach: Sequence[Reach], tint: Mapping[str, str], pieces: str, uniform: float | None) -> Figure:
    """Mean attention distance by unit: dots are means over runs, bars one standard deviation.

    uniform: the distance of attention that is equal everywhere, drawn as a line; None for none.
    """
    figure = new_figure(WIDTH, 3.2)
    axes = figure.add_subplot()
    width = _BLOCKS_APART / max(len(reach), 1)
    for i, one in enumerate(reach):
        shift = (i - (len(reach) - 1) / 2) * width
        known = [(unit + 1 + shift, block) for unit, block in enumerate(one.blocks) if block.mean is not None]
        axes.errorbar(
            [x for x, _ in known],
            [block.mean or 0.0 for _, block in known],
            yerr=[block.spread or 0.0 for _, block in known],
            color=tint[one.method],
            linestyle=DASHES[i % len(DASHES)],
            linewidth=1.3,
            marker="o",
            markersize=5,
            capsize=2.5,
            label=method(one.method),
        )
    if uniform is not None:
        label = "attention that is equal everywhere"
        axes.axhline(uniform, color=MUTED, linestyle=DASHES[2], linewidth=1.3, label=label, zorder=1)
    names = axes.get_legend_handles_labels()[1]
    plain_axes(axes, xlabel="unit", ylabel=f"mean distance ({pieces})", grid="y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, _HEADROOM * _highest(reach, uniform))
    figure.legend(loc="outside upper left", ncols=legend_columns(names), fontsize=9, handlelength=2.8)
    return figure


def _highest(reach: Sequence[Reach], uniform: float | None) -> float:
    """The upper end of the highest bar, or the line of equal attention."""
    ends = [
        block.mean + (block.spread or 0.0) for one in reach for block in one.blocks if block.mean is not None
    ]
    return max([*ends, uniform or 0.0]) or 1.0
