"""The graph as a value: gates, edges, text."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdsearch.spaces import Gate, Graph, KtgSpace, SpaceError, UnknownNameError, accv_space

T, C, L = Gate.THROUGH, Gate.CUTOFF, Gate.LINEAR
GRAPH = Graph(("resnet32", "resnet32", "wrn28-2"), ((T, C, L, C), (T, C, C, C), (C, C, C, C)))
TEXT = "1=resnet32 2=resnet32 3=wrn28-2; label->1=through 2->1=linear label->2=through"

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+:/@-]{0,8}", fullmatch=True)


@st.composite
def graphs(draw):
    models = draw(st.lists(names, min_size=1, max_size=5))
    gates = st.sampled_from(list(Gate))
    rows = [[C if s == t else draw(gates) for s in range(len(models) + 1)] for t in range(1, len(models) + 1)]
    return Graph(tuple(models), tuple(map(tuple, rows)))


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_text_round_trips(graph):
    assert Graph.parse(graph.to_text()) == graph
    assert "\n" not in graph.to_text()


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_configurations_round_trip(graph):
    assert Graph.from_configuration(graph.to_configuration(), graph.models[0]) == graph
    assert pickle.loads(pickle.dumps(graph)) == graph


def test_a_graph_has_the_parameters_of_its_space():
    space = accv_space()
    configuration = space.sample(np.random.default_rng(0))
    graph = space.graph(configuration)
    assert graph.to_configuration() == configuration
    assert tuple(graph.to_configuration()) == space.parameter_names
    assert graph.models[0] == "resnet32"


def test_text():
    assert str(GRAPH) == TEXT
    assert (
        Graph.parse("  1=resnet32   2=resnet32 3=wrn28-2 ;label->2=through 2->1=linear label->1=through")
        == GRAPH
    )
    assert Graph(("a",), ((C, C),)).to_text() == "1=a; no edges"


def test_gates_and_edges():
    assert GRAPH.gate("label", 1) is T
    assert GRAPH.gate(2, 1) is L
    assert GRAPH.gate(1, 2) is C
    assert [(edge.source, edge.target, edge.gate) for edge in GRAPH.edges()] == [
        ("label", 1, T),
        (2, 1, L),
        ("label", 2, T),
    ]
    assert GRAPH.frozen_nodes() == (3,)
    assert not GRAPH.is_degenerate
    assert Graph(("a", "b"), ((C, C, C), (T, C, C))).is_degenerate


def test_all_through():
    through = GRAPH.all_through()
    assert through.models == GRAPH.models
    assert len(through.edges()) == 9
    assert {edge.gate for edge in through.edges()} == {T}
    assert through.frozen_nodes() == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1=a 2=b", "has no semicolon"),
        ("; label->1=through", "no nodes before the semicolon"),
        ("1=a 3=b; label->1=through", "'3=b' stands where node 2 is expected"),
        ("1=a b; label->1=through", "'b' stands where node 2 is expected"),
        ("1=a 2=b;", "no edges after the semicolon"),
        ("1=a 2=b; label-1=through", "cannot read the edge 'label-1=through'"),
        ("1=a 2=b; 3->1=through", "3->1 is no edge among 2 nodes"),
        ("1=a 2=b; 1->1=through", "1->1 is no edge"),
        ("1=a 2=b; 2->1=through 2->1=linear", "2->1 stands twice"),
        ("1=(a); label->1=through", r"model name '\(a\)' in graph text, node 1"),
    ],
)
def test_text_that_cannot_be_read(text, message):
    with pytest.raises(SpaceError, match=message):
        Graph.parse(text)


def test_an_unknown_gate_lists_the_known_ones():
    with pytest.raises(UnknownNameError) as caught:
        Graph.parse("1=a 2=b; 2->1=positive")
    assert str(caught.value) == (
        "unknown gate 'positive' in graph text, edge 2->1\n"
        "Known: through, cutoff, linear, negative-linear, correct, learned."
    )


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"model.2": "a", "label->1": "through"}, "lacks '2->1'"),
        ({"model.3": "a", "label->1": "through"}, "lacks 'model.2'"),
        ({"label->1": "through", "lr": 0.1}, "'lr' is no parameter of a graph with 0 auxiliary nodes"),
    ],
)
def test_configurations_that_are_no_graph(configuration, message):
    with pytest.raises(SpaceError, match=message):
        Graph.from_configuration(configuration, "t")


def test_wrong_shapes():
    with pytest.raises(SpaceError, match="edge to itself"):
        Graph(("a",), ((T, T),))
    with pytest.raises(SpaceError, match="Give 2 rows"):
        Graph(("a", "b"), ((T, C, C),))
    with pytest.raises(SpaceError, match="without nodes"):
        Graph((), ())
    with pytest.raises(SpaceError, match="no edge 4->1 in a graph of 3 nodes"):
        GRAPH.gate(4, 1)
    with pytest.raises(SpaceError, match="no edge text->1"):
        GRAPH.gate("text", 1)


def test_the_gates_are_those_of_both_papers_and_the_learned_one():
    papers = ["through", "cutoff", "linear", "negative-linear", "correct"]
    assert [str(gate) for gate in Gate] == [*papers, "learned"]
    assert KtgSpace("t", 2, ("a",), tuple(Gate)).counts().encodings == 6**9


def test_a_learned_edge_is_open():
    graph = Graph.parse("1=a 2=b 3=c; 3->1=learned label->2=learned 1->2=through")
    assert [str(edge) for edge in graph.learned_edges()] == ["3->1=learned", "label->2=learned"]
    assert graph.frozen_nodes() == (3,)
    assert not graph.is_degenerate
    assert GRAPH.learned_edges() == ()
