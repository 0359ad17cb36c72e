"""Which nodes of a graph can have a say in the target."""

from __future__ import annotations

from kdsearch.spaces.graph import TARGET, Graph


def reaching_nodes(graph: Graph) -> tuple[int, ...]:
    """Return the target and every node from which a path of edges that are not cut off leads to it, sorted."""
    reached = {TARGET}
    while True:
        sources = {edge.source for edge in graph.edges() if edge.target in reached}
        grown = reached | {source for source in sources if not isinstance(source, str)}
        if grown == reached:
            return tuple(sorted(reached))
        reached = grown
