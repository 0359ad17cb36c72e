"""The design spaces of a refinement side by side, in the manner of the left half of the paper's Fig. 1."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kdsearch.analysis.figure_style import INK, MUTED, PAPER, SOLID, TARGET, new_figure
from kdsearch.analysis.graph_drawing import (
    GATE_STYLES,
    EdgeLook,
    NodeLook,
    Source,
    draw_on,
    fit_nodes,
    short_model,
)
from kdsearch.spaces import Gate, KtgSpace

_LINEAGE_COLUMNS = 4
_SMALL = 0.8  # size of text where several graphs stand side by side
_MODELS = "auxiliary models"


def draw_lineage(spaces: Sequence[KtgSpace], captions: Sequence[str]) -> Figure:
    """The spaces of a refinement side by side (left half of Fig. 1); what a space fixes is red, the rest is open.

    `captions`: one line for each space, below its letter. Call inside `figure_style`.
    """
    columns = min(len(spaces), _LINEAGE_COLUMNS)
    rows = -(-len(spaces) // columns)
    figure = new_figure(max(2.1 * columns, 4.2), 2.45 * rows + 0.35)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(spaces) :]:
        axes.axis("off")
    for axes, space, caption in zip(grid, spaces, captions, strict=False):
        _draw_space(axes, space, caption)
    figure.legend(
        handles=_lineage_legend(spaces), loc="outside lower center", ncols=_LINEAGE_COLUMNS, handlelength=3.4
    )
    fit_nodes(figure)
    return figure


def _lineage_legend(spaces: Sequence[KtgSpace]) -> list[Line2D]:
    """What is open, and the line of every gate that some space fixes."""
    groups = [item for space in spaces for item in _fixed(space).items()]
    values = {value for group, fixed in groups if group != _MODELS for value in fixed}
    gates = [gate for gate in Gate if gate in values]
    handles = [Line2D([], [], color=MUTED, linewidth=1.2, alpha=0.6, label="open")]
    for gate in gates:
        dashes = SOLID if gate is Gate.CUTOFF else GATE_STYLES[gate][1]
        words = f"fixed: {gate}" + (" (not drawn)" if gate is Gate.CUTOFF else "")
        width = 0.0 if gate is Gate.CUTOFF else 2.2
        handles.append(Line2D([], [], color=TARGET, linewidth=width, linestyle=dashes, label=words))
    if any(group == _MODELS for group, _ in groups):
        circle = Line2D([], [], color=TARGET, linestyle="", marker="o", markersize=9, label="fixed: model")
        circle.set(markerfacecolor=PAPER, markeredgewidth=2.2)
        handles.append(circle)
    return handles


def _fixed(space: KtgSpace) -> dict[str, tuple[str, ...]]:
    """Values of the groups that a space fixes."""
    return {r.group: r.values for r in space.restrictions if r.mode == "equals"}


def _draw_space(axes: Axes, space: KtgSpace, caption: str) -> None:
    spec = space.to_spec()
    count = int(spec["auxiliary"]["count"])
    fixed = _fixed(space)
    models = fixed.get(_MODELS)
    nodes = {1: NodeLook(lines=("target",), outline=INK)}
    for i in range(count):
        nodes[2 + i] = NodeLook(
            lines=(short_model(models[i]) if models else "any",),
            outline=TARGET if models else MUTED,
            width=2.2 if models else 1.2,
        )
    edges = [
        _space_edge(source, target, fixed.get(edge_group(source, target)))
        for target in range(1, count + 2)
        for source in ("label", *range(1, count + 2))
        if source != target
    ]
    draw_on(axes, nodes, [edge for edge in edges if edge is not None], space.name or "", size=_SMALL)
    axes.text(0.5, 0.0, caption, transform=axes.transAxes, ha="center", va="top", fontsize=9, color=MUTED)


def edge_group(source: Source, target: int) -> str:
    """The group of conditions that an edge belongs to."""
    kinds = ["label" if source == "label" else "target" if source == 1 else "auxiliary"]
    kinds.append("target" if target == 1 else "auxiliary")
    return "->".join(kinds)


def _space_edge(source: Source, target: int, values: tuple[str, ...] | None) -> EdgeLook | None:
    """An open edge in grey, a fixed one in red; None where it is fixed to cutoff.

    Which auxiliary node gets which of several fixed gates is a matter of symmetry: the first gets the first.
    """
    if values is None:
        return EdgeLook(source=source, target=target, colour=MUTED, width=1.0, alpha=0.55)
    auxiliary = target if target > 1 else 2 if source == "label" else int(source)
    gate = Gate(values[min(auxiliary - 2, len(values) - 1)])
    if gate is Gate.CUTOFF:
        return None
    return EdgeLook(source=source, target=target, colour=TARGET, dashes=GATE_STYLES[gate][1], width=2.2)
