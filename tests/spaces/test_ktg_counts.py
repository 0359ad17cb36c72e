"""Sizes of KTG spaces: the paper's spaces with their derivation, and Burnside's lemma against plain enumeration."""

from __future__ import annotations

import itertools

import pytest

from kdsearch.spaces import Counts, Gate, KtgSpace, Restriction, accv_space, describe, refinement_spaces
from kdsearch.spaces.symmetry import cycle_types, pair_cycles

THREE = (Gate.THROUGH, Gate.CUTOFF, Gate.LINEAR)
FIVE = (*THREE, Gate.NEGATIVE_LINEAR, Gate.CORRECT)


def brute_force(space: KtgSpace) -> Counts:
    """List all encodings of the root that fit the restrictions, and collect orbits image by image."""
    names = space.parameter_names
    choices = [space.models if name.startswith("model.") else tuple(map(str, space.gates)) for name in names]
    for restriction in space.restrictions:
        if restriction.mode == "only":
            choices = [
                tuple(
                    value
                    for value in values
                    if value in restriction.values or group_of(name) != restriction.group
                )
                for name, values in zip(names, choices, strict=True)
            ]
    everything = [dict(zip(names, values, strict=True)) for values in itertools.product(*choices)]
    fitting = [configuration for configuration in everything if fits(space, configuration)]
    valid = [configuration for configuration in fitting if not is_degenerate(configuration)]
    return Counts(len(fitting), len(orbits(space, fitting)), len(valid), len(orbits(space, valid)))


def fits(space: KtgSpace, configuration: dict) -> bool:
    for restriction in space.restrictions:
        values = [value for name, value in configuration.items() if group_of(name) == restriction.group]
        if restriction.mode == "equals" and sorted(values) != sorted(restriction.values):
            return False
    return True


def group_of(name: str) -> str:
    if name.startswith("model."):
        return "auxiliary models"
    words = [
        "label" if end == "label" else "target" if end == "1" else "auxiliary" for end in name.split("->")
    ]
    return "->".join(words)


def is_degenerate(configuration: dict) -> bool:
    return all(value == "cutoff" for name, value in configuration.items() if name.endswith("->1"))


def orbits(space: KtgSpace, configurations: list[dict]) -> set:
    orders = list(itertools.permutations(range(space.auxiliary)))
    return {
        frozenset(tuple(space.permuted(configuration, order).items()) for order in orders)
        for configuration in configurations
    }


@pytest.mark.parametrize(
    ("name", "encodings", "fixed", "classes"),
    [
        # 2 models for each of 2 auxiliary nodes and 3 gates for each of 9 edges: 2^2 * 3^9. An encoding is its own
        # mirror image if the models agree (2) and the edges agree in pairs: label->1, label->a, 1->a, a->1, a->b: 3^5.
        ("A", 2**2 * 3**9, 2 * 3**5, 39_609),
        # Both models are given: 3^9, and 3^5 self-mirror ones.
        ("B", 3**9, 3**5, 9_963),
        # label->2 and label->3 are given: 7 edges are left; self-mirror ones: label->1, 1->a, a->1, a->b: 3^4.
        ("C", 3**7, 3**4, 1_134),
        # 2->1 and 3->1 are given too: 5 edges are left; self-mirror ones: label->1, 1->a, a->b: 3^3.
        ("X", 3**5, 3**3, 135),
    ],
)
def test_the_refinement_papers_spaces(name, encodings, fixed, classes):
    counts = refinement_spaces()[name].counts()
    assert counts.encodings == encodings
    assert counts.classes == classes == (encodings + fixed) // 2


def test_the_refinement_papers_encodings_as_printed_in_the_reference():
    found = [space.counts().encodings for space in refinement_spaces().values()]
    assert found == [78_732, 19_683, 2_187, 243]


@pytest.mark.parametrize(
    ("name", "valid", "valid_classes"),
    [
        # Degenerate: label->1, 2->1, 3->1 all cutoff, 3^6 ways for the other edges; self-mirror: 3^3 (label->a, 1->a,
        # a->b). A: 4 * 3^6 = 2,916 fewer encodings and (2,916 + 2 * 27) / 2 = 1,485 fewer classes.
        ("A", 78_732 - 2_916, 39_609 - 1_485),
        # B: 3^6 = 729 fewer encodings, (729 + 27) / 2 = 378 fewer classes.
        ("B", 19_683 - 729, 9_963 - 378),
        # C: 1->2, 1->3, 2->3, 3->2 are free: 3^4 = 81 fewer encodings, (81 + 9) / 2 = 45 fewer classes.
        ("C", 2_187 - 81, 1_134 - 45),
        # X: linear edges reach the target, nothing is degenerate.
        ("X", 243, 135),
    ],
)
def test_valid_sizes_of_the_refinement_papers_spaces(name, valid, valid_classes):
    counts = refinement_spaces()[name].counts()
    assert (counts.valid_encodings, counts.valid_classes) == (valid, valid_classes)


def test_the_accv_papers_space():
    # 3 models for each of 2 auxiliary nodes, 4 gates for each of 9 edges: 3^2 * 4^9; self-mirror: 3 * 4^5.
    counts = accv_space().counts()
    assert counts.encodings == 9 * 4**9 == 2_359_296
    assert counts.classes == (9 * 4**9 + 3 * 4**5) // 2 == 1_181_184
    # Degenerate: 9 * 4^6 encodings, of which 3 * 4^3 are self-mirror.
    assert counts.valid_encodings == 9 * (4**9 - 4**6)
    assert counts.valid_classes == 1_181_184 - (9 * 4**6 + 3 * 4**3) // 2


def test_the_papers_own_numbers_are_half_the_encodings():
    halves = [-(-space.counts().encodings // 2) for space in refinement_spaces().values()]  # rounded up
    assert halves == [39_366, 9_842, 1_094, 122]  # the paper rounds the last one down, to 121
    assert accv_space().counts().encodings // 2 == 1_179_648


TWO = KtgSpace("t", 2, ("a", "b"), (Gate.THROUGH, Gate.CUTOFF))
ONE = KtgSpace("t", 1, ("a", "b", "c"), THREE)
SAME = KtgSpace("t", 2, ("a",), THREE)
TRIO = KtgSpace("t", 3, ("a", "b"), (Gate.THROUGH, Gate.CUTOFF))
NOT_CUT = Restriction("label->target", ("through", "linear"), "only")
LINEAR_OR_CUT = Restriction("auxiliary->target", ("linear", "cutoff"), "only")
FOUR_OF_SIX = Restriction("auxiliary->auxiliary", ("through",) * 4 + ("cutoff",) * 2)
FEWER = (  # restrictions that make three auxiliary nodes small enough to list
    Restriction("label->auxiliary", ("cutoff",), "only"),
    Restriction("target->auxiliary", ("through",), "only"),
)


@pytest.mark.parametrize(
    ("space", "restrictions"),
    [
        (ONE, ()),
        (ONE, (Restriction("auxiliary->target", ("cutoff",)), NOT_CUT)),
        (TWO, ()),
        (TWO, (Restriction("auxiliary models", ("b", "a")),)),
        (TWO, (Restriction("auxiliary->target", ("cutoff", "cutoff")),)),
        (TWO, (Restriction("auxiliary->auxiliary", ("through", "cutoff")),)),
        (SAME, (Restriction("label->auxiliary", ("linear", "through")), Restriction("label->target", ("cutoff",)))),
        (SAME, (LINEAR_OR_CUT, Restriction("target->auxiliary", ("linear", "linear")))),
        (TRIO, (*FEWER, Restriction("auxiliary->target", ("through", "cutoff", "through")))),
        (TRIO, (*FEWER, Restriction("auxiliary models", ("b", "b", "a")), FOUR_OF_SIX)),
        (TRIO, (*FEWER, Restriction("auxiliary models", ("b",), "only"), Restriction("label->target", ("cutoff",)))),
    ],
    ids=lambda value: "; ".join(map(str, value)) if isinstance(value, tuple) else f"{value.auxiliary} auxiliary",
)  # fmt: skip
def test_counting_agrees_with_plain_enumeration(space, restrictions):
    for restriction in restrictions:
        space = space.restrict(restriction)
    expected = brute_force(space)
    assert space.counts() == expected
    listed = [tuple(configuration.items()) for configuration in space.enumerate()]
    assert len(listed) == len(set(listed)) == expected.valid_encodings
    canonical = list(space.enumerate(classes=True))
    assert len(canonical) == expected.valid_classes
    assert sum(space.orbit_size(configuration) for configuration in canonical) == expected.valid_encodings


def test_large_spaces_are_counted_without_listing():
    space = KtgSpace("t", 4, ("a", "b"), FIVE)
    counts = space.counts()
    assert counts.encodings == 2**4 * 5**25
    # Burnside over S4 by hand: cycles on nodes n and on ordered pairs p; label->1 is always free, and nodes bring
    # model, label->a, a->1, 1->a: 2^n 5^(3n + p + 1). Types: 1^4 (1 permutation, n 4, p 12), 2 1^2 (6, n 3, p 7),
    # 2^2 (3, n 2, p 6), 3 1 (8, n 2, p 4), 4 (6, n 1, p 3).
    types = [(1, 4, 12), (6, 3, 7), (3, 2, 6), (8, 2, 4), (6, 1, 3)]
    assert counts.classes == sum(k * 2**n * 5 ** (3 * n + p + 1) for k, n, p in types) // 24
    six = KtgSpace("t", 6, ("a", "b"), FIVE).restrict(
        Restriction("auxiliary->auxiliary", ("through",) * 10 + ("linear",) * 10 + ("cutoff",) * 10)
    )
    assert six.counts().valid_classes > six.counts().valid_encodings // 720


@pytest.mark.parametrize("m", range(7))
def test_cycle_types_agree_with_all_permutations(m):
    found: dict[tuple[int, ...], int] = {}
    for permutation in itertools.permutations(range(m)):
        lengths = cycles(permutation, list(range(m)), lambda thing, image: image[thing])
        pairs = [(a, b) for a in range(m) for b in range(m) if a != b]
        on_pairs = cycles(permutation, pairs, lambda pair, image: (image[pair[0]], image[pair[1]]))
        assert sorted(pair_cycles(lengths), reverse=True) == list(on_pairs)
        found[lengths] = found.get(lengths, 0) + 1
    assert dict(cycle_types(m)) == found


def cycles(permutation, things, move) -> tuple[int, ...]:
    lengths, left = [], set(things)
    while left:
        start = thing = left.pop()
        length = 1
        while (thing := move(thing, permutation)) != start:
            left.discard(thing)
            length += 1
        lengths.append(length)
    return tuple(sorted(lengths, reverse=True))


def test_describe_gives_the_root_and_each_restriction_in_turn():
    described = describe(refinement_spaces()["X"])
    assert (described["encodings"], described["classes"]) == (78_732, 39_609)
    assert (described["valid_encodings"], described["valid_classes"]) == (75_816, 38_124)
    assert [
        (step["restriction"], step["encodings"], step["classes"]) for step in described["restrictions"]
    ] == [
        ("auxiliary models = wrn28-2 & wrn28-2", 19_683, 9_963),
        ("label->auxiliary = through & through", 2_187, 1_134),
        ("auxiliary->target = linear & linear", 243, 135),
    ]
    assert [step["valid_classes"] for step in described["restrictions"]] == [9_585, 1_089, 135]
    assert described["parameters"]["2->1"] == {"type": "categorical", "values": ["linear"]}
