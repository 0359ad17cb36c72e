"""The symmetry of knowledge transfer graphs: permutations of the auxiliary nodes with all their edges.

Owns two exact computations that list no orbits: the canonical order of one graph's auxiliary nodes (by
partition refinement), and the cycle types that Burnside's lemma sums over.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Classes = tuple[
    tuple[int, ...], ...
]  # nodes not yet placed, in the order that is fixed so far; ties share a class


@dataclass(frozen=True)
class Auxiliary:
    """What a graph says about its m auxiliary nodes, numbered 0 to m - 1, as level indices.

    keys[i]: compared first: (model, gate to the target).
    heads[i]: the first entries of the node's row: (gate from the label, gate from the target).
    gates[s][t]: the gate from auxiliary node s to t; the diagonal is not looked at.
    """

    keys: Sequence[tuple[int, ...]]
    heads: Sequence[tuple[int, ...]]
    gates: Sequence[Sequence[int]]

    def are_twins(self, a: int, b: int) -> bool:
        """Tell whether swapping two nodes with their edges leaves the graph as it is."""
        if (
            self.keys[a] != self.keys[b]
            or self.heads[a] != self.heads[b]
            or self.gates[a][b] != self.gates[b][a]
        ):
            return False
        others = (node for node in range(len(self.keys)) if node not in (a, b))
        return all(
            self.gates[a][node] == self.gates[b][node] and self.gates[node][a] == self.gates[node][b]
            for node in others
        )


@dataclass(frozen=True)
class _Partial:
    """The first places of an order that may still be the smallest, and how many orders it stands for."""

    placed: tuple[int, ...]
    classes: Classes
    orders: int


def canonical_order(graph: Auxiliary) -> tuple[tuple[int, ...], int]:
    """Return the order of the auxiliary nodes that makes the encoding smallest, and how many such orders.

    Encodings are compared entry by entry: all models, all gates to the target, then node by node its row
    (label, target, the other auxiliary nodes in order). The number of orders that reach the minimum is the
    order of the graph's automorphism group, so that the orbit has m! / number encodings.

    Nodes are placed one after another. Placing a node at place k decides its whole row: the nodes still to
    come are ordered by their gate to it, class by class, and only the partial orders with the smallest row go
    on. Twins give the same rows, so one of them stands for all.
    """
    m = len(graph.keys)
    first_twin = [next(a for a in range(b + 1) if a == b or graph.are_twins(a, b)) for b in range(m)]
    partials = [_Partial((), _split(tuple(range(m)), graph.keys), 1)]
    for _ in range(m):
        steps = [step for partial in partials for step in _steps(graph, partial, first_twin)]
        smallest = min(row for row, _ in steps)
        partials = [partial for row, partial in steps if row == smallest]
    return partials[0].placed, sum(partial.orders for partial in partials)


def cycle_types(m: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield each cycle type (cycle lengths) of permutations of m things, and how many permutations have it."""
    for lengths in _partitions(m, m):
        symmetric = math.prod(lengths) * math.prod(
            math.factorial(lengths.count(length)) for length in set(lengths)
        )
        yield lengths, math.factorial(m) // symmetric


def pair_cycles(lengths: Sequence[int]) -> tuple[int, ...]:
    """Return the cycle lengths on ordered pairs of different things, given those on the things.

    Within a cycle of length l the l (l - 1) pairs form l - 1 cycles of length l; between two cycles of
    lengths a and b the 2 a b pairs form 2 gcd(a, b) cycles of length lcm(a, b).
    """
    cycles: list[int] = []
    for index, a in enumerate(lengths):
        cycles += [a] * (a - 1)
        for b in lengths[index + 1 :]:
            cycles += [math.lcm(a, b)] * (2 * math.gcd(a, b))
    return tuple(cycles)


def _steps(
    graph: Auxiliary, partial: _Partial, first_twin: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], _Partial]]:
    """Yield each way to fill the next place from the first class, twins once, and the row it gives."""
    first, *rest = partial.classes
    for twin in sorted({first_twin[node] for node in first}):
        twins = [node for node in first if first_twin[node] == twin]
        node = twins[0]
        into = [(graph.gates[source][node],) for source in range(len(graph.keys))]
        remaining = (tuple(other for other in first if other != node), *rest)
        classes = tuple(part for block in remaining for part in _split(block, into))
        earlier = tuple(graph.gates[source][node] for source in partial.placed)
        later = tuple(graph.gates[source][node] for part in classes for source in part)
        row = (*graph.heads[node], *earlier, *later)
        yield row, _Partial((*partial.placed, node), classes, partial.orders * len(twins))


def _split(block: tuple[int, ...], keys: Sequence[tuple[int, ...]]) -> Classes:
    """Split a class by the nodes' keys, smallest key first."""
    return tuple(
        tuple(node for node in block if keys[node] == key) for key in sorted({keys[node] for node in block})
    )


def _partitions(total: int, largest: int) -> Iterator[tuple[int, ...]]:
    """Yield the ways to write `total` as a sum of positive integers, largest first."""
    if total == 0:
        yield ()
    for first in range(min(total, largest), 0, -1):
        for rest in _partitions(total - first, first):
            yield (first, *rest)
