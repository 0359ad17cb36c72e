from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Circle, PathPatch, Polygon

from kdsearch.analysis.figure_style import figure_style, finish, inline_svg
from kdsearch.analysis.graph_drawing import (
    GATE_STYLES,
    EdgeLook,
    _arrow,
    _bend,
    draw_graph,
    positions,
)
from kdsearch.analysis.space_drawing import draw_lineage, edge_group
from kdsearch.spaces import Gate, Graph, refinement_spaces

FULL = (
    "1=resnet32 2=wrn28-2 3=wrn28-2; label->1=through 2->1=linear 3->1=negative-linear label->2=correct "
    "1->2=through label->3=through 2->3=linear 3->2=linear"
)


def drawn(text: str, **options) -> Figure:
    with figure_style():
        return draw_graph(Graph.parse(text), **options)


def texts(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.axes[0].texts}


def test_one_arrow_for_each_edge_that_is_not_cut_off():
    graph = Graph.parse(FULL)
    axes = drawn(FULL).axes[0]
    shafts = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
    heads = [patch for patch in axes.patches if isinstance(patch, Polygon)]
    assert len(shafts) == len(heads) == len(graph.edges()) == 8


def test_gates_differ_in_colour_and_in_line():
    drawn_gates = [gate for gate in Gate if gate is not Gate.CUTOFF]
    assert set(GATE_STYLES) == set(drawn_gates)
    assert len({GATE_STYLES[gate][0] for gate in drawn_gates}) == len(drawn_gates)
    assert len({GATE_STYLES[gate][1] for gate in drawn_gates}) == len(drawn_gates)


def test_a_learned_edge_is_as_wide_as_its_weight():
    figure = drawn("1=a 2=b; label->1=learned 2->1=learned", weights={"label->1": 0.0, "2->1": 1.0})
    widths = [patch.get_linewidth() for patch in figure.axes[0].patches if isinstance(patch, PathPatch)]
    assert widths == [pytest.approx(0.6), pytest.approx(3.0)]


def test_the_legend_explains_the_gates_that_occur():
    figure = drawn("1=a 2=b 3=b; label->1=through 2->1=linear")
    words = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert words == ["through: passes as it is", "linear: grows from 0 to 1"]


def test_long_names_stay_inside_their_nodes():
    figure = drawn(
        "1=mobilenet-v2-x 2=wrn28-10-long 3=resnet110w16 4=wrn28-10-long; label->1=through 2->1=through",
        accuracies={1: 74.5, 2: 100.0},
    )
    axes = figure.axes[0]
    circles = [patch for patch in axes.patches if isinstance(patch, Circle)]
    for text in axes.texts:
        box = text.get_window_extent().transformed(axes.transData.inverted())
        home = [one for one in circles if math.dist(one.center, text.get_position()) < one.radius]
        assert all(math.dist(home[0].center, corner) < 0.37 for corner in box.corners()) if home else True


def test_target_is_red_and_accuracies_stand_in_the_nodes():
    figure = drawn(FULL, accuracies={1: 74.519, 3: 75.9})
    circles = [patch for patch in figure.axes[0].patches if isinstance(patch, Circle)]
    assert [to_hex(circle.get_facecolor()) for circle in circles].count("#d7263d") == 1
    assert {"Label", "target", "resnet32", "wrn28-2", "(74.52)", "(75.90)"} <= texts(figure)


def test_frozen_teachers_are_told_apart():
    assert "frozen" in texts(drawn("1=a 2=b; 2->1=through label->1=through"))
    assert "frozen" not in texts(drawn("1=a 2=b; 2->1=through label->2=through"))


def test_edges_between_the_same_nodes_bend_apart():
    places = positions(2)
    there, back = (EdgeLook(source=s, target=t, colour="black") for s, t in ((2, 3), (3, 2)))
    middles = []
    for edge in (there, back):
        shaft, _ = _arrow(places, edge, _bend(places, edge, paired=True))
        middles.append(shaft.get_path().interpolated(10).vertices.mean(axis=0))
    assert math.dist(*middles) > 0.2


@pytest.mark.parametrize("auxiliary", range(1, 6))
def test_no_edge_runs_through_a_node_that_it_does_not_join_with_the_target(auxiliary):
    places = positions(auxiliary)
    assert set(places) == {"label", *range(1, auxiliary + 2)}
    for source, target in itertools.permutations(places, 2):
        if target == "label" or 1 in {source, target}:
            continue
        edge = EdgeLook(source=source, target=target, colour="black")
        shaft, head = _arrow(places, edge, _bend(places, edge, paired=True))
        control = shaft.get_path().vertices
        t = np.linspace(0, 1, 50)[:, None]
        curve = (1 - t) ** 2 * control[0] + 2 * t * (1 - t) * control[1] + t**2 * control[2]
        points = np.concatenate([curve, head.get_xy()])
        assert np.linalg.norm(points - np.array(places[1]), axis=1).min() > 0.36


@pytest.mark.parametrize("auxiliary", range(6))
def test_nodes_keep_apart(auxiliary):
    for one, other in itertools.combinations(positions(auxiliary).values(), 2):
        assert math.dist(one, other) > 2 * 0.36


def test_groups_of_edges_are_the_spaces_own():
    space = refinement_spaces()["A"]
    for group in space.groups():
        for member in group.members:
            if "->" in member:
                source, target = member.split("->")
                assert edge_group(source if source == "label" else int(source), int(target)) == group.name


def test_lineage_shows_every_space_and_what_it_fixes():
    spaces = list(refinement_spaces().values())
    with figure_style():
        figure = draw_lineage(spaces, [f"{i} graphs" for i in range(len(spaces))])
        drawing = finish(figure, "lineage", "what each space fixes")
    assert [axes.get_title(loc="center") for axes in figure.axes[: len(spaces)]] == ["A", "B", "C", "X"]
    red = [
        sum(isinstance(p, PathPatch) and to_hex(p.get_edgecolor()) == "#d7263d" for p in axes.patches)
        for axes in figure.axes[: len(spaces)]
    ]
    assert red == [0, 0, 2, 4]  # B fixes models; C adds label->2, label->3; X adds 2->1, 3->1
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words[0] == "open"
    assert {f"fixed: {value}" for value in ("through", "model")} <= set(words)
    assert drawing.png.startswith(b"\x89PNG")


def test_text_is_escaped_and_no_formula():
    with figure_style():
        drawing = finish(draw_graph(Graph.parse("1=a 2=b; 2->1=through"), title="<&> $x$ -->"), "one", "<&>")
    assert "&lt;&amp;&gt; $x$" in drawing.svg
    piece = inline_svg(drawing, "caption")
    assert "&lt;&amp;&gt; $x$" in piece
    assert 'role="img" aria-labelledby="caption"' in piece
    assert "var(--target)" in piece
    assert "#d7263d" not in piece
