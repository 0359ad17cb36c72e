"""The groups of parameters of a KTG space, what restrictions leave of each, and counting within a group.

Auxiliary nodes are interchangeable, so the parameters fall into six groups (the orbits of parameters under
permutations of the auxiliary nodes). Every restriction speaks of one group and treats its members alike; so a
space is a product of groups, and its sizes and fixed points are products too.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from kdsearch.spaces.errors import SpaceError, UnknownNameError
from kdsearch.spaces.graph import LABEL, TARGET, edge_name, model_key
from kdsearch.spaces.restriction import Restriction

AUXILIARY_MODELS = "auxiliary models"
LABEL_TO_AUXILIARY = "label->auxiliary"
AUXILIARY_TO_TARGET = "auxiliary->target"
LABEL_TO_TARGET = "label->target"
TARGET_TO_AUXILIARY = "target->auxiliary"
AUXILIARY_TO_AUXILIARY = "auxiliary->auxiliary"
COMPARED = (
    AUXILIARY_MODELS,
    LABEL_TO_AUXILIARY,
    AUXILIARY_TO_TARGET,
    LABEL_TO_TARGET,
)  # the paper's four groups
GROUPS = (*COMPARED, TARGET_TO_AUXILIARY, AUXILIARY_TO_AUXILIARY)
INCOMING = (
    LABEL_TO_TARGET,
    AUXILIARY_TO_TARGET,
)  # the edges to the target: cut off all, and the graph is degenerate
PER_NODE = (AUXILIARY_MODELS, AUXILIARY_TO_TARGET, LABEL_TO_AUXILIARY, TARGET_TO_AUXILIARY)


@dataclass(frozen=True)
class Group:
    """A group of parameters and what restrictions leave of it.

    members: parameter names, in the order of the auxiliary nodes (pairs: by target, then source).
    levels: labels of what a member can be at the root; a member's code is an index into it.
    allowed: codes that a member may have, ascending.
    counts: how often each code must occur among the members (one entry for each level); None: as often as it
    likes.
    """

    name: str
    members: tuple[str, ...]
    levels: tuple[str, ...]
    allowed: tuple[int, ...]
    counts: tuple[int, ...] | None = None

    @cached_property
    def size(self) -> int:
        """The number of ways to give codes to the members."""
        if self.counts is None:
            return math.prod([len(self.allowed)] * len(self.members))
        return _arrangements(self.counts)

    def fixed_points(self, cycles: Sequence[int]) -> int:
        """Return how many ways are constant on each cycle of a permutation of the members."""
        if self.counts is None:
            return math.prod([len(self.allowed)] * len(cycles))
        ways = Counter({self.counts: 1})  # what is left to place -> number of ways to have come there
        for length in cycles:
            step: Counter[tuple[int, ...]] = Counter()
            for left, number in ways.items():
                for code, count in enumerate(left):
                    if count >= length:
                        step[(*left[:code], count - length, *left[code + 1 :])] += number
            ways = step
        return sum(ways.values())

    def unrank(self, rank: int) -> list[int]:
        """Return the codes of the members for a rank in [0, size), in lexicographic order of the codes."""
        if self.counts is None:
            digits = []
            for _ in self.members:
                rank, digit = divmod(rank, len(self.allowed))
                digits.append(self.allowed[digit])
            return digits[::-1]
        return _unrank_arrangement(self.counts, rank)

    def rank_of_all(self, code: int) -> int | None:
        """Return the rank of the way that gives every member `code`, or None if there is none."""
        if self.counts is not None:
            return 0 if self.counts[code] == len(self.members) else None
        if code not in self.allowed and self.members:
            return None
        rank = 0
        for _ in self.members:
            rank = rank * len(self.allowed) + self.allowed.index(code)
        return rank

    def admits(self, codes: Sequence[int]) -> bool:
        """Tell whether the members may have these codes."""
        if any(code not in self.allowed for code in codes):
            return False
        return self.counts is None or self.counts == self._count(codes)

    def values(self) -> Iterator[tuple[str, ...]]:
        """Yield the labels of each multiset that the members may have, in the order of the levels."""
        if self.counts is not None:
            yield tuple(
                itertools.chain.from_iterable(
                    [label] * n for label, n in zip(self.levels, self.counts, strict=True)
                )
            )
        else:
            yield from itertools.combinations_with_replacement(
                [self.levels[code] for code in self.allowed], len(self.members)
            )

    def codes(self, labels: Sequence[str], where: str) -> list[int]:
        """Return the codes of labels, ascending; an unknown label lists the known ones."""
        for label in labels:
            if label not in self.levels:
                kind = "model" if self.name == AUXILIARY_MODELS else "gate"
                raise UnknownNameError(kind, label, self.levels, where)
        return sorted(self.levels.index(label) for label in labels)

    def normalised(self, restriction: Restriction) -> Restriction:
        """Return the restriction with its values in the order of the levels, if it fits the group.

        Raises:
            UnknownNameError: for a value that no member can have at the root.
            SpaceError: if the group has no members, or `equals` gives another number of values than there are
            members.
        """
        where = f"restriction '{restriction}'"
        if not self.members:
            raise SpaceError(
                f"{where}: {self.name} has no members here", "Leave it out, or add auxiliary nodes."
            )
        codes = self.codes(restriction.values, where)
        if restriction.mode == "only":
            codes = sorted(set(codes))
        elif len(codes) != len(self.members):
            raise SpaceError(
                f"{where} gives {len(codes)} values, but {self.name} has {len(self.members)} members",
                f"Give one value for each of {', '.join(self.members)}, or use only: [...].",
            )
        return replace(restriction, values=tuple(self.levels[code] for code in codes))

    def restricted(self, restriction: Restriction) -> Group | None:
        """Return what a normalised restriction leaves of the group, or None if nothing is left."""
        codes = self.codes(restriction.values, f"restriction '{restriction}'")
        if restriction.mode == "equals":
            return replace(self, counts=self._count(codes)) if self.admits(codes) else None
        allowed = tuple(code for code in self.allowed if code in codes)
        lost = self.counts is not None and any(
            n and code not in allowed for code, n in enumerate(self.counts)
        )
        return replace(self, allowed=allowed) if allowed and not lost else None

    def _count(self, codes: Sequence[int]) -> tuple[int, ...]:
        return tuple(codes.count(code) for code in range(len(self.levels)))


def root_groups(auxiliary: int, models: tuple[str, ...], gates: tuple[str, ...]) -> dict[str, Group]:
    """Return the six groups of an unrestricted space with auxiliary nodes 2 to `auxiliary` + 1."""
    nodes = range(2, auxiliary + 2)
    members = {
        AUXILIARY_MODELS: [model_key(node) for node in nodes],
        LABEL_TO_TARGET: [edge_name(LABEL, TARGET)],
        AUXILIARY_TO_TARGET: [edge_name(node, TARGET) for node in nodes],
        LABEL_TO_AUXILIARY: [edge_name(LABEL, node) for node in nodes],
        TARGET_TO_AUXILIARY: [edge_name(TARGET, node) for node in nodes],
        AUXILIARY_TO_AUXILIARY: [edge_name(s, t) for t in nodes for s in nodes if s != t],
    }
    levels = {name: models if name == AUXILIARY_MODELS else gates for name in GROUPS}
    return {
        name: Group(name, tuple(members[name]), levels[name], tuple(range(len(levels[name]))))
        for name in GROUPS
    }


def _arrangements(counts: Sequence[int]) -> int:
    """Return the multinomial coefficient: the number of orders of a multiset."""
    return math.factorial(sum(counts)) // math.prod(math.factorial(count) for count in counts)


def _unrank_arrangement(counts: Sequence[int], rank: int) -> list[int]:
    """Return the order of a multiset with the given lexicographic rank, in [0, number of orders)."""
    left, found, total = list(counts), [], _arrangements(counts)
    for remaining in range(sum(counts), 0, -1):
        for code, count in enumerate(left):
            here = total * count // remaining  # orders that go on with this code
            if rank < here:
                found.append(code)
                left[code] -= 1
                total = here
                break
            rank -= here
    return found
