"""Knowledge transfer graphs as figures, in the manner of the paper's Fig. 5.

Cutoff edges are not drawn. Gates are told apart by line style and colour, the target stands in the middle in red, the
label is the rounded box on top, and two edges between the same nodes bend apart so that both are seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path
from numpy.typing import ArrayLike, NDArray

from kdsearch.analysis.figure_style import (
    FAINT,
    INK,
    MUTED,
    PALETTE,
    PAPER,
    SOLID,
    TARGET,
    Dashes,
    new_figure,
)
from kdsearch.spaces import Edge, Gate, Graph
from kdsearch.spaces.graph import edge_name

Source = str | int  # "label" or a node's number, counted from 1 (the target)
Point = tuple[float, float]

GATE_STYLES: dict[Gate, tuple[str, Dashes, str]] = {
    Gate.THROUGH: (PALETTE["gate-through"], SOLID, "through: passes as it is"),
    Gate.LINEAR: (PALETTE["gate-linear"], (0, (5, 2)), "linear: grows from 0 to 1"),
    Gate.NEGATIVE_LINEAR: (
        PALETTE["gate-negative-linear"],
        (0, (6, 2, 1.2, 2)),
        "negative linear: falls from 1 to 0",
    ),
    Gate.CORRECT: (PALETTE["gate-correct"], (0, (1.3, 1.5)), "correct: where the source is right"),
    Gate.LEARNED: (
        PALETTE["gate-learned"],
        (0, (5, 1.2, 1.2, 1.2, 1.2, 1.2)),
        "learned: a weight that the training optimises",
    ),
}
_THINNEST, _WIDER = 0.6, 2.4  # of a learned edge: the width at weight 0, and what weight 1 adds
_NODE_RADIUS = 0.36
_LABEL_HALF = (0.34, 0.155)
_RING = 1.42
_RING_STEP = 0.16  # wider for each auxiliary node beyond two
_PAIR_BEND = 0.2
_CLEARANCE = 0.5  # from the middle of the target to the middle of an edge that passes it
_GAP = 0.045  # between an arrow's end and its node
_SAMPLES = 401  # points at which a curve is tried when it is cut off
_PLANAR = 2  # up to so many auxiliary nodes no edges cross
_MARGIN = _NODE_RADIUS + 0.1
_LONGEST_MODEL = 11
_FILLED = 0.94  # of a circle's width that text may take


@dataclass(frozen=True, kw_only=True)
class EdgeLook:
    """How one edge is drawn."""

    source: Source
    target: int
    colour: str
    dashes: Dashes = SOLID
    width: float = 1.9
    alpha: float = 1.0


@dataclass(frozen=True, kw_only=True)
class NodeLook:
    """What stands in a node, line by line, and how the node is drawn."""

    lines: tuple[str, ...]
    outline: str
    fill: str = PAPER
    ink: str = INK
    dashes: Dashes = SOLID
    width: float = 1.6


def positions(auxiliary: int) -> dict[Source, Point]:
    """Places of the label ("label"), the target (1) and the auxiliary nodes (2, ...) for a number of auxiliary nodes.

    The target is the centre of a ring that holds the label on top and the auxiliary nodes below: with two of
    them no edge crosses another. Auxiliary nodes keep off the spot opposite the label.
    """
    if auxiliary == 1:
        return {"label": (-1.0, 0.6), 1: (0.0, -0.75), 2: (1.0, 0.6)}
    ring = _RING + _RING_STEP * max(0, auxiliary - _PLANAR)
    places: dict[Source, Point] = {"label": (0.0, _RING), 1: (0.0, 0.0)}
    first, last = (216.0, 324.0) if auxiliary <= _PLANAR else (188.0, 352.0)
    for i in range(auxiliary):
        angle = math.radians(first + (last - first) * i / (auxiliary - 1))
        places[2 + i] = (ring * math.cos(angle), ring * math.sin(angle))
    return places


def draw_graph(
    graph: Graph,
    *,
    accuracies: Mapping[int, float] | None = None,
    weights: Mapping[str, float] | None = None,
    title: str = "",
    legend: bool = True,
) -> Figure:
    """One graph as a figure; call inside `figure_style`.

    Args:
        graph: the graph.
        accuracies: node -> accuracy in per cent, written in parentheses; nodes may be missing.
        weights: edge such as `2->1` -> its learned weight in [0, 1], which the line's width shows; edges may be
            missing.
        title: stands above the graph.
        legend: whether the gates that occur are explained below the graph.

    """
    figure = new_figure(4.1, 4.4 if legend else 3.8)
    axes = figure.add_subplot()
    draw_graph_on(axes, graph, accuracies=accuracies, weights=weights, title=title)
    gates = sorted({edge.gate for edge in graph.edges()}, key=list(GATE_STYLES).index)
    if legend and gates:
        figure.legend(handles=gate_legend(gates), loc="outside lower center", ncols=1, handlelength=3.6)
    fit_nodes(figure)
    return figure


def draw_graph_on(
    axes: Axes,
    graph: Graph,
    *,
    accuracies: Mapping[int, float] | None = None,
    weights: Mapping[str, float] | None = None,
    title: str = "",
) -> None:
    """Draw one graph on given axes; frozen nodes (all incoming edges cut off) have a dashed outline.

    The arguments are those of `draw_graph`.
    """
    known = accuracies or {}
    frozen = set(graph.frozen_nodes())
    nodes = {}
    for number, model in enumerate(graph.models, start=1):
        role = "target" if number == 1 else "frozen" if number in frozen else f"node {number}"
        accuracy = (f"({known[number]:.2f})",) if number in known else ()
        nodes[number] = NodeLook(
            lines=(role, short_model(model), *accuracy),
            outline=TARGET if number == 1 else MUTED if number in frozen else INK,
            fill=TARGET if number == 1 else PAPER,
            ink=PAPER if number == 1 else INK,
            dashes=(0, (3, 2)) if number in frozen else SOLID,
        )
    edges = [_edge_look(edge, weights or {}) for edge in graph.edges()]
    draw_on(axes, nodes, edges, title)


def _edge_look(edge: Edge, weights: Mapping[str, float]) -> EdgeLook:
    """The line of the edge's gate; a learned weight that is known sets its width."""
    colour, dashes, _ = GATE_STYLES[edge.gate]
    weight = weights.get(edge_name(edge.source, edge.target))
    width = EdgeLook.width if weight is None else _THINNEST + _WIDER * weight
    return EdgeLook(source=edge.source, target=edge.target, colour=colour, dashes=dashes, width=width)


def gate_legend(gates: Sequence[Gate]) -> list[Line2D]:
    """Legend entries of the given gates."""
    return [
        Line2D([], [], color=colour, linestyle=dashes, linewidth=1.9, label=words)
        for colour, dashes, words in (GATE_STYLES[gate] for gate in gates)
    ]


def fit_nodes(figure: Figure) -> None:
    """Shrink texts that are wider than the circle of their node; lays the figure out once."""
    figure.draw_without_rendering()
    for axes in figure.axes:
        to_data = axes.transData.inverted()
        circles = [patch for patch in axes.patches if isinstance(patch, Circle)]
        for text in axes.texts:
            home = next(
                (one for one in circles if math.dist(one.center, text.get_position()) < one.radius), None
            )
            if home is None:
                continue
            box = text.get_window_extent().transformed(to_data)
            reach = max(abs(box.y0 - home.center[1]), abs(box.y1 - home.center[1]))
            chord = 2 * math.sqrt(max(home.radius**2 - reach**2, (0.5 * home.radius) ** 2))
            if box.width > _FILLED * chord:
                text.set_fontsize(float(text.get_fontsize()) * _FILLED * chord / box.width)


def short_model(name: str) -> str:
    """A model's name as it fits into a node."""
    return name if len(name) <= _LONGEST_MODEL else name[: _LONGEST_MODEL - 1] + "…"


def draw_on(
    axes: Axes, nodes: Mapping[int, NodeLook], edges: Sequence[EdgeLook], title: str, size: float = 1.0
) -> None:
    """Draw nodes (1 is the target) and edges around the label; texts are `size` times as large as usual."""
    places = positions(len(nodes) - 1)
    present = {(edge.source, edge.target) for edge in edges}
    for edge in edges:
        paired = (edge.target, edge.source) in present
        for patch in _arrow(places, edge, _bend(places, edge, paired=paired)):
            axes.add_patch(patch)
    axes.add_patch(_label_patch(places["label"]))
    for node, look in nodes.items():
        axes.add_patch(_node_patch(places[node], look))
    axes.text(*places["label"], "Label", ha="center", va="center", fontsize=9.5 * size, zorder=4)
    for node, look in nodes.items():
        _write_node(axes, places[node], look, size)
    xs, ys = zip(*places.values(), strict=True)
    side = max(*map(abs, xs), 1.0) + _MARGIN
    axes.set_xlim(-side, side)
    axes.set_ylim(min(ys) - _MARGIN, max(ys) + _MARGIN * (1.0 if len(nodes) == _PLANAR else 0.6))
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_title(title, loc="center")


def _bend(places: Mapping[Source, Point], edge: EdgeLook, *, paired: bool) -> float:
    """Curvature (control point to the right of the edge's direction if positive).

    Edges between the same two nodes bend apart, and an edge that would run through the target bends around it.
    """
    (x1, y1), (x2, y2), (x0, y0) = places[edge.source], places[edge.target], places[1]
    dx, dy = x2 - x1, y2 - y1
    length = math.hypot(dx, dy)
    natural = _PAIR_BEND if paired else 0.0
    if 1 in {edge.source, edge.target}:
        return natural
    aside = (dx * (y0 - y1) - dy * (x0 - x1)) / length  # positive: the target lies to the left
    along = (dx * (x0 - x1) + dy * (y0 - y1)) / length**2
    if abs(aside + natural * length / 2) >= _CLEARANCE or not 0 < along < 1:
        return natural
    first = edge.source == "label" or int(edge.source) < edge.target
    away = (
        _CLEARANCE if first or abs(aside) >= _CLEARANCE else _CLEARANCE * 1.45
    )  # of two, one inside the other
    return 2 * (math.copysign(away, aside) - aside) / length


def _arrow(places: Mapping[Source, Point], edge: EdgeLook, bend: float) -> tuple[PathPatch, Polygon]:
    """The shaft, a quadratic Bézier curve cut off at the outlines of its ends, and the head as a filled triangle."""
    start, end = np.array(places[edge.source]), np.array(places[edge.target])
    across = np.array([end[1] - start[1], start[0] - end[0]])  # to the right, as long as the edge
    corners = np.array([start, (start + end) / 2 + bend * across, end])
    t = np.linspace(0.0, 1.0, _SAMPLES)
    points = _bezier(corners, t, t)
    leaves = t[np.argmax(_outside(points - start, edge.source == "label"))]
    arrives = t[_SAMPLES - 1 - np.argmax(_outside(points - end, box=False)[::-1])]
    tip = _bezier(corners, arrives, arrives)
    length, half_width = 0.085 + 0.022 * edge.width, 0.03 + 0.012 * edge.width
    before = np.linalg.norm(points - tip, axis=1) >= length
    neck_at = t[np.flatnonzero(before & (t < arrives))[-1]]
    neck = _bezier(corners, neck_at, neck_at)
    shaft = np.array([_bezier(corners, leaves, leaves), _bezier(corners, leaves, neck_at), neck])
    side = np.array([-(tip - neck)[1], (tip - neck)[0]]) * half_width / np.linalg.norm(tip - neck)
    line = PathPatch(
        Path(shaft, [Path.MOVETO, Path.CURVE3, Path.CURVE3]),
        facecolor="none",
        edgecolor=edge.colour,
        linestyle=edge.dashes,
        linewidth=edge.width,
        alpha=edge.alpha,
        capstyle="butt",
        zorder=2,
    )
    return line, Polygon(
        [tip, neck + side, neck - side], facecolor=edge.colour, edgecolor="none", alpha=edge.alpha, zorder=2
    )


def _bezier(corners: NDArray[np.float64], u: ArrayLike, v: ArrayLike) -> NDArray[np.float64]:
    """The blossom of a quadratic Bézier curve with corners [3, 2]: its points at u = v, the corner between u and v."""
    first, second = np.asarray(u)[..., None], np.asarray(v)[..., None]
    blossom: NDArray[np.float64] = (
        (1 - first) * (1 - second) * corners[0]
        + ((1 - first) * second + first * (1 - second)) * corners[1]
        + first * second * corners[2]
    )
    return blossom


def _outside(offsets: NDArray[np.float64], box: bool) -> NDArray[np.bool_]:  # noqa: FBT001 - a shape
    """Which offsets [n, 2] from the middle of the label's box or of a node lie outside it, with a small gap."""
    if box:
        half = np.array(_LABEL_HALF) + _GAP
        return np.asarray((np.abs(offsets) > half).any(axis=1))
    return np.asarray(np.linalg.norm(offsets, axis=1) > _NODE_RADIUS + _GAP)


def _node_patch(place: Point, look: NodeLook) -> Circle:
    return Circle(
        place,
        _NODE_RADIUS,
        facecolor=look.fill,
        edgecolor=look.outline,
        linewidth=look.width,
        linestyle=look.dashes,
        zorder=3,
    )


def _label_patch(place: Point) -> FancyBboxPatch:
    half_width, half_height = _LABEL_HALF
    return FancyBboxPatch(
        (place[0] - half_width, place[1] - half_height),
        2 * half_width,
        2 * half_height,
        boxstyle="round,pad=0,rounding_size=0.1",
        facecolor=FAINT,
        edgecolor=INK,
        linewidth=1.2,
        zorder=3,
    )


def _write_node(axes: Axes, place: Point, look: NodeLook, size: float) -> None:
    """Lines of text around the middle of a node; of several the second one (the model) is bold."""
    step = 0.185
    top = place[1] + step * (len(look.lines) - 1) / 2
    for i, line in enumerate(look.lines):
        axes.text(
            place[0],
            top - i * step,
            line,
            ha="center",
            va="center",
            fontsize=(8 if i != 1 else 8.5) * size,
            fontweight="bold" if i == 1 else "normal",
            color=look.ink,
            zorder=4,
        )
