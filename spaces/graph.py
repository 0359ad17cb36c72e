"""The knowledge transfer graph as a value: nodes, gates, and a line of text that reads back in.

Source: Minami et al., "Knowledge Transfer Graph for Deep Collaborative Learning" (ACCV 2020); Iwata et al.,
"Refining Design Spaces in Knowledge Distillation for Deep Collaborative Learning". Nodes count from 1, node 1
is the target, and the label is a source only. Edges are named source->target.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Self

from kdsearch.spaces.errors import SpaceError, UnknownNameError
from kdsearch.spaces.values import Configuration, Value

LABEL: Final = "label"
TARGET: Final = 1
NO_EDGES: Final = "no edges"
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:/@-]*")
_NODE = re.compile(r"([0-9]+)=(\S+)")
_EDGE = re.compile(r"(label|[0-9]+)->([0-9]+)=(\S+)")


class Gate(StrEnum):
    """What an edge does to the per-sample losses it carries (reference formulas stand with the trainable)."""

    THROUGH = "through"  # their mean
    CUTOFF = "cutoff"  # nothing: the edge is absent
    LINEAR = "linear"  # their mean times the share of the run that is done
    NEGATIVE_LINEAR = "negative-linear"  # their mean times the share of the run that is left
    CORRECT = "correct"  # those where the source is right, over the whole batch's size
    LEARNED = "learned"  # their mean times a weight in [0, 1] that the training itself optimises


@dataclass(frozen=True)
class Edge:
    """An edge that is not cut off; the source is "label" or a node."""

    source: str | int
    target: int
    gate: Gate

    def __str__(self) -> str:
        return f"{edge_name(self.source, self.target)}={self.gate}"


@dataclass(frozen=True)
class Graph:
    """A knowledge transfer graph of M nodes.

    models: M model names; index 0 is node 1, the target.
    gates: M rows of M + 1 gates; `gates[t - 1][s]` is the gate of the edge to node t from the label (s = 0)
        or from node s. A node has no edge to itself: the diagonal s = t is cutoff.

    Raises:
        SpaceError: if the shape is wrong, a node has an edge to itself, or a model's name cannot stand in a
        line.
    """

    models: tuple[str, ...]
    gates: tuple[tuple[Gate, ...], ...]

    def __post_init__(self) -> None:
        nodes = len(self.models)
        if not nodes:
            raise SpaceError("a graph without nodes", "Give at least the target's model.")
        for node, model in enumerate(self.models, 1):
            check_model_name(model, f"node {node} of a graph")
        if len(self.gates) != nodes or any(len(row) != nodes + 1 for row in self.gates):
            shape = [len(row) for row in self.gates]
            raise SpaceError(
                f"a graph of {nodes} nodes has rows of {shape} gates",
                f"Give {nodes} rows (targets) of {nodes + 1} gates (label, nodes 1 to {nodes}).",
            )
        rows = tuple(tuple(read_gate(gate, "a graph") for gate in row) for row in self.gates)
        for node in range(1, nodes + 1):
            if rows[node - 1][node] is not Gate.CUTOFF:
                raise SpaceError(f"node {node} of a graph has an edge to itself", "Its gate must be cutoff.")
        object.__setattr__(self, "models", tuple(self.models))
        object.__setattr__(self, "gates", rows)

    @property
    def nodes(self) -> range:
        """The nodes' numbers, 1 (the target) to M."""
        return range(1, len(self.models) + 1)

    @property
    def is_degenerate(self) -> bool:
        """Whether no edge reaches the target, so that it could not learn."""
        return self._is_cut_off(TARGET)

    def gate(self, source: str | int, target: int) -> Gate:
        """Return the gate of the edge from "label" or a node to a node.

        Raises:
            SpaceError: if the graph has no such node.
        """
        known = source == LABEL or (not isinstance(source, str) and source in self.nodes)
        if not known or target not in self.nodes:
            raise SpaceError(
                f"no edge {edge_name(source, target)} in a graph of {len(self.models)} nodes",
                f"Sources are label and 1 to {len(self.models)}, targets 1 to {len(self.models)}.",
            )
        return self.gates[target - 1][0 if isinstance(source, str) else source]

    def edges(self) -> tuple[Edge, ...]:
        """Return the edges that are not cut off, by target, then by source with the label first."""
        return tuple(
            Edge(source, target, self.gate(source, target))
            for source, target in edge_ends(len(self.models))
            if self.gate(source, target) is not Gate.CUTOFF
        )

    def frozen_nodes(self) -> tuple[int, ...]:
        """Return the auxiliary nodes that no edge reaches: pre-trained teachers that are not trained."""
        return tuple(node for node in self.nodes if node != TARGET and self._is_cut_off(node))

    def learned_edges(self) -> tuple[Edge, ...]:
        """Return the edges whose weight is learned, in the order of `edges`."""
        return tuple(edge for edge in self.edges() if edge.gate is Gate.LEARNED)

    def all_through(self) -> Graph:
        """Return the graph of the same nodes in which every edge is through: deep mutual learning."""
        row = [Gate.THROUGH] * (len(self.models) + 1)
        rows = [[*row[:node], Gate.CUTOFF, *row[node + 1 :]] for node in self.nodes]
        return replace(self, gates=tuple(tuple(gates) for gates in rows))

    def to_configuration(self) -> dict[str, Value]:
        """Return the model of each auxiliary node and the gate of each edge; the space has the target's model."""
        configuration: dict[str, Value] = {model_key(node): self.models[node - 1] for node in self.nodes[1:]}
        for source, target in edge_ends(len(self.models)):
            configuration[edge_name(source, target)] = str(self.gate(source, target))
        return configuration

    @classmethod
    def from_configuration(cls, configuration: Configuration, target_model: str) -> Self:
        """Return the graph of a complete configuration.

        Raises:
            SpaceError: if a parameter is missing or is none of such a graph's; the message names it.
            UnknownNameError: if a gate is unknown.
        """
        auxiliary = sum(1 for name in configuration if name.startswith("model."))
        models = [_entry(configuration, model_key(node)) for node in range(2, auxiliary + 2)]
        gates = {
            (source, target): read_gate(
                _entry(configuration, edge_name(source, target)), edge_name(source, target)
            )
            for source, target in edge_ends(auxiliary + 1)
        }
        known = {model_key(node) for node in range(2, auxiliary + 2)} | {edge_name(*ends) for ends in gates}
        if unknown := [name for name in configuration if name not in known]:
            raise SpaceError(
                f"{unknown[0]!r} is no parameter of a graph with {auxiliary} auxiliary nodes",
                "Parameters are model.2, model.3, ... and edges such as label->1 and 2->1.",
            )
        return cls((target_model, *models), _rows(auxiliary + 1, gates))

    def to_text(self) -> str:
        """Return the graph in one line; edges that are cut off are left out.

        Example: `1=resnet32 2=resnet32 3=wrn28-2; label->1=through 2->1=linear label->2=through`.
        """
        nodes = " ".join(f"{node}={self.models[node - 1]}" for node in self.nodes)
        return f"{nodes}; {' '.join(map(str, self.edges())) or NO_EDGES}"

    def __str__(self) -> str:
        return self.to_text()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `to_text` writes; edges that are not named are cut off, their order is free.

        Raises:
            SpaceError: naming the part that cannot be read.
            UnknownNameError: if a gate is unknown.
        """
        node_part, separator, edge_part = text.partition(";")
        if not separator:
            raise SpaceError(
                f"graph {text!r} has no semicolon",
                "Write nodes; edges: 1=resnet32 2=wrn28-2; label->1=through",
            )
        models = _read_nodes(node_part)
        return cls(models, _rows(len(models), _read_edges(edge_part, len(models))))

    def _is_cut_off(self, node: int) -> bool:
        return all(gate is Gate.CUTOFF for gate in self.gates[node - 1])


def edge_ends(nodes: int) -> Iterator[tuple[str | int, int]]:
    """Yield (source, target) of every possible edge: by target, then by source with the label first."""
    for target in range(1, nodes + 1):
        yield LABEL, target
        yield from ((source, target) for source in range(1, nodes + 1) if source != target)


def edge_name(source: str | int, target: int) -> str:
    """Return the parameter name of an edge: `label->1`, `2->1`."""
    return f"{source}->{target}"


def model_key(node: int) -> str:
    """Return the parameter name of an auxiliary node's model: `model.2`."""
    return f"model.{node}"


def read_gate(name: object, where: str) -> Gate:
    """Return the gate of that name, or raise an `UnknownNameError` that lists the gates."""
    if name not in list(Gate):
        raise UnknownNameError("gate", name, [str(gate) for gate in Gate], where)
    return Gate(str(name))


def check_model_name(name: object, where: str) -> str:
    """Return a model's name if it can stand in a graph's line of text."""
    if not isinstance(name, str) or not MODEL_NAME.fullmatch(name):
        raise SpaceError(
            f"model name {name!r} in {where}", "Use letters, digits and . _ + : / @ - without spaces."
        )
    return name


def _entry(configuration: Configuration, name: str) -> str:
    if name not in configuration:
        raise SpaceError(
            f"the configuration of a graph lacks {name!r}", "Give every node's model and every edge's gate."
        )
    return str(configuration[name])


def _rows(nodes: int, gates: Mapping[tuple[str | int, int], Gate]) -> tuple[tuple[Gate, ...], ...]:
    """Lay gates out as M rows of M + 1; edges that are not given are cut off."""
    sources: list[str | int] = [LABEL, *range(1, nodes + 1)]
    return tuple(
        tuple(gates.get((source, target), Gate.CUTOFF) for source in sources)
        for target in range(1, nodes + 1)
    )


def _read_nodes(text: str) -> tuple[str, ...]:
    models: list[str] = []
    for word in text.split():
        found = _NODE.fullmatch(word)
        if found is None or int(found[1]) != len(models) + 1:
            raise SpaceError(
                f"graph text: {word!r} stands where node {len(models) + 1} is expected",
                f"Write the nodes in order, such as {len(models) + 1}=resnet32.",
            )
        models.append(check_model_name(found[2], f"graph text, node {found[1]}"))
    if not models:
        raise SpaceError("graph text: no nodes before the semicolon", "Write them as 1=resnet32 2=wrn28-2.")
    return tuple(models)


def _read_edges(text: str, nodes: int) -> dict[tuple[str | int, int], Gate]:
    gates: dict[tuple[str | int, int], Gate] = {}
    if text.strip() == NO_EDGES:
        return gates
    possible = set(edge_ends(nodes))
    for word in text.split():
        found = _EDGE.fullmatch(word)
        if found is None:
            raise SpaceError(
                f"graph text: cannot read the edge {word!r}", "Write it as 2->1=linear or label->1=through."
            )
        ends = (found[1] if found[1] == LABEL else int(found[1]), int(found[2]))
        if ends not in possible:
            raise SpaceError(
                f"graph text: {edge_name(*ends)} is no edge among {nodes} nodes",
                "Edges go from label or a node to another node that is listed.",
            )
        if ends in gates:
            raise SpaceError(f"graph text: {edge_name(*ends)} stands twice", "Give each edge once.")
        gates[ends] = read_gate(found[3], f"graph text, edge {edge_name(*ends)}")
    if not gates:
        raise SpaceError(
            "graph text: no edges after the semicolon", f"Write {NO_EDGES!r} if every edge is cut off."
        )
    return gates
