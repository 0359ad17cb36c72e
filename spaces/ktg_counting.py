"""Exact sizes of a KTG space, and the bijection between ranks and valid encodings.

Classes are counted by Burnside's lemma: the mean, over all permutations of the auxiliary nodes, of the number
of encodings that the permutation leaves as they are. That number is a product over the groups of parameters
and depends on the permutation's cycle type only, so that nothing is enumerated.

The refinement paper gives half the number of encodings (39,366 of 78,732; 9,842 of 19,683; 1,094 of 2,187;
121 of 243; 1,179,648 of 2,359,296), as if each graph had a mirror image other than itself. Graphs that are
their own mirror image are then counted as halves. With two auxiliary nodes the exact number is (encodings +
self-mirror encodings) / 2: 39,609; 9,963; 1,134; 135; 1,181,184.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from kdsearch.spaces.ktg_groups import AUXILIARY_TO_AUXILIARY, GROUPS, INCOMING, PER_NODE, Group
from kdsearch.spaces.protocol import Counts
from kdsearch.spaces.symmetry import cycle_types, pair_cycles

# Digits of a rank, least significant first; the target's incoming edges come last, as one digit with a hole.
LEAST_FIRST = tuple(name for name in reversed(GROUPS) if name not in INCOMING)


def count(groups: Mapping[str, Group], auxiliary: int, cutoff: int | None) -> Counts:
    """Return the sizes of the space.

    Args:
        groups: what restrictions leave of each group.
        auxiliary: the number of auxiliary nodes, m.
        cutoff: the code of the gate cutoff, None if the space has no such gate.
    """
    fixed = fixed_valid = 0
    for lengths, permutations in cycle_types(auxiliary):
        points = {name: _fixed_points(group, lengths) for name, group in groups.items()}
        everything = math.prod(points.values())
        others = math.prod(number for name, number in points.items() if name not in INCOMING)
        fixed += permutations * everything
        fixed_valid += permutations * (everything - others * degenerate(groups, cutoff))
    order = math.factorial(auxiliary)
    encodings = math.prod(group.size for group in groups.values())
    return Counts(encodings, fixed // order, valid_encodings(groups, cutoff), fixed_valid // order)


def valid_encodings(groups: Mapping[str, Group], cutoff: int | None) -> int:
    """Return the number of encodings in which at least one edge reaches the target."""
    incoming = math.prod(groups[name].size for name in INCOMING) - degenerate(groups, cutoff)
    return incoming * math.prod(group.size for name, group in groups.items() if name not in INCOMING)


def degenerate(groups: Mapping[str, Group], cutoff: int | None) -> int:
    """Return how many ways to set the target's incoming edges cut all off: 1, or 0 if restrictions forbid it."""
    return 0 if _degenerate_rank(groups, cutoff) is None else 1


def unrank(groups: Mapping[str, Group], cutoff: int | None, rank: int) -> dict[str, list[int]]:
    """Return the valid encoding of a rank in [0, valid encodings), as codes of each group's members."""
    codes = {}
    for name in LEAST_FIRST:
        rank, digit = divmod(rank, groups[name].size)
        codes[name] = groups[name].unrank(digit)
    hole = _degenerate_rank(groups, cutoff)
    if hole is not None and rank >= hole:
        rank += 1
    label, auxiliary = INCOMING
    first, second = divmod(rank, groups[auxiliary].size)
    return codes | {label: groups[label].unrank(first), auxiliary: groups[auxiliary].unrank(second)}


def _degenerate_rank(groups: Mapping[str, Group], cutoff: int | None) -> int | None:
    """Return the rank, among the ways to set the target's incoming edges, of the one that cuts all off."""
    if cutoff is None:
        return None
    label, auxiliary = (groups[name] for name in INCOMING)
    ranks = label.rank_of_all(cutoff), auxiliary.rank_of_all(cutoff)
    if ranks[0] is None or ranks[1] is None:
        return None
    return ranks[0] * auxiliary.size + ranks[1]


def _fixed_points(group: Group, lengths: tuple[int, ...]) -> int:
    """Return the group's fixed points under a permutation of the auxiliary nodes with these cycle lengths."""
    if group.name in PER_NODE:
        return group.fixed_points(lengths)
    if group.name == AUXILIARY_TO_AUXILIARY:
        return group.fixed_points(pair_cycles(lengths))
    return group.fixed_points((1,))
