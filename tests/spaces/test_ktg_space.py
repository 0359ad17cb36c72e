"""KTG spaces: sampling, membership, symmetry, groups of conditions, lineage."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from kdsearch.spaces import (
    DesignSpace,
    Gate,
    KtgSpace,
    Restriction,
    SpaceError,
    UnknownNameError,
    lineage,
    refinement_spaces,
    space_from_spec,
)

THREE = (Gate.THROUGH, Gate.CUTOFF, Gate.LINEAR)
GROUPS = {"auxiliary models", "label->auxiliary", "auxiliary->target", "label->target", "target->auxiliary"}
seeds = st.integers(0, 2**63 - 1)


@st.composite
def roots(draw, most=4):
    models = draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3, unique=True))
    gates = draw(st.lists(st.sampled_from(list(Gate)), min_size=1, max_size=6, unique=True))
    assume(gates != [Gate.CUTOFF])
    return KtgSpace("t", draw(st.integers(0, most)), tuple(models), tuple(gates))


@st.composite
def restrictions(draw, space):
    name = draw(st.sampled_from(sorted(GROUPS)))
    levels = space.models if name == "auxiliary models" else tuple(map(str, space.gates))
    size = 1 if name == "label->target" else space.auxiliary
    assume(size > 0)
    if draw(st.booleans()):
        return Restriction(
            name, tuple(draw(st.lists(st.sampled_from(levels), min_size=1, unique=True))), "only"
        )
    return Restriction(name, tuple(draw(st.lists(st.sampled_from(levels), min_size=size, max_size=size))))


@st.composite
def spaces(draw, most=4):
    space = draw(roots(most))
    for _ in range(draw(st.integers(0, 3))):
        try:
            space = space.restrict(draw(restrictions(space)))
        except SpaceError:  # it would empty the space
            continue
    return space


@settings(max_examples=100, deadline=None)
@given(spaces(), seeds)
def test_samples_stay_in_their_space_and_in_all_ancestors(space, seed):
    rng = np.random.default_rng(seed)
    for _ in range(3):
        configuration = space.sample(rng)
        assert tuple(configuration) == space.parameter_names
        assert all(configuration in ancestor for ancestor in lineage(space))


@settings(max_examples=100, deadline=None)
@given(spaces())
def test_restrictions_nest(space):
    sizes = [step.counts().valid_encodings for step in lineage(space)]
    assert sizes == sorted(sizes, reverse=True)
    assert [step.restriction for step in lineage(space)] == [None, *space.restrictions]


@settings(max_examples=100, deadline=None)
@given(spaces(), seeds, st.randoms(use_true_random=False))
def test_the_canonical_form_is_invariant_idempotent_and_in_the_space(space, seed, random):
    configuration = space.sample(np.random.default_rng(seed))
    order = list(range(space.auxiliary))
    random.shuffle(order)
    image = space.permuted(configuration, order)
    canonical = space.canonical(configuration)
    assert canonical == space.canonical(image)
    assert canonical == space.canonical(canonical)
    assert canonical in space
    assert image in space
    assert tuple(canonical) == space.parameter_names
    assert space.orbit_size(configuration) == space.orbit_size(image)


@settings(max_examples=100, deadline=None)
@given(spaces(), seeds)
def test_the_canonical_form_is_the_smallest_of_all_images(space, seed):
    configuration = space.sample(np.random.default_rng(seed))
    gates = tuple(map(str, space.gates))

    def code(image):
        return [
            (space.models if name.startswith("model.") else gates).index(image[name])
            for name in space.parameter_names
        ]

    orders = itertools.permutations(range(space.auxiliary))
    images = [space.permuted(configuration, order) for order in orders]
    assert space.canonical(configuration) == min(images, key=code)
    assert space.orbit_size(configuration) == len({tuple(image.values()) for image in images})


def test_the_canonical_form_of_a_rotating_graph():
    # 2->3->4->2, all else alike: rotations are automorphisms, swaps are not; no two nodes are twins.
    space = KtgSpace("t", 3, ("a",), THREE)
    configuration = dict.fromkeys(space.parameter_names, "cutoff")
    configuration |= {"model.2": "a", "model.3": "a", "model.4": "a", "label->1": "through"}
    configuration |= {"2->3": "linear", "3->4": "linear", "4->2": "linear"}
    assert space.orbit_size(configuration) == 2


def test_many_alike_nodes_are_instant():
    space = KtgSpace("t", 10, ("a",), THREE)
    configuration = {name: "a" if name.startswith("model.") else "through" for name in space.parameter_names}
    assert space.orbit_size(configuration) == 1
    assert space.canonical(configuration) == configuration


@settings(max_examples=25, deadline=None)
@given(spaces(most=3))
def test_orbit_sizes_sum_to_encodings(space):
    assume(space.counts().encodings <= 3_000)
    counts = space.counts()
    representatives = list(space.enumerate(classes=True))
    assert len(representatives) == counts.valid_classes
    assert sum(map(space.orbit_size, representatives)) == counts.valid_encodings


@settings(max_examples=60, deadline=None)
@given(spaces(most=2))
def test_enumeration_gives_every_member_once(space):
    assume(space.counts().valid_encodings <= 3_000)
    listed = {tuple(configuration.values()) for configuration in space.enumerate()}
    assert len(listed) == space.counts().valid_encodings
    assert all(configuration in space for configuration in space.enumerate())


def test_enumeration_is_lazy():
    space = KtgSpace("t", 6, ("a", "b"), tuple(Gate))
    first = list(itertools.islice(space.enumerate(classes=True), 5))
    assert all(space.canonical(configuration) == configuration for configuration in first)


@pytest.mark.parametrize(
    "restrictions",
    [
        (
            Restriction("auxiliary->target", ("linear", "cutoff"), "only"),
            Restriction("label->target", ("cutoff",)),
        ),
        (Restriction("auxiliary models", ("a", "b")), Restriction("label->auxiliary", ("cutoff", "linear"))),
    ],
    ids=str,
)
def test_sampling_is_uniform_over_valid_encodings(restrictions):
    space = KtgSpace("t", 2, ("a", "b"), (Gate.CUTOFF, Gate.LINEAR))
    space = space.restrict(Restriction("target->auxiliary", ("linear",), "only"))
    for restriction in restrictions:
        space = space.restrict(restriction)
    listed = [tuple(configuration.values()) for configuration in space.enumerate()]
    rng = np.random.default_rng(20)
    drawn = Counter(tuple(space.sample(rng).values()) for _ in range(60 * len(listed)))
    assert set(drawn) <= set(listed)
    # The seed is fixed: this fails only if the code changes.
    assert stats.chisquare([drawn[encoding] for encoding in listed]).pvalue > 0.001


def test_marginals_of_a_large_space_are_uniform():
    # No gate of the target's is uniform (degenerate graphs are left out), all others are.
    space = refinement_spaces()["A"]
    rng = np.random.default_rng(3)
    draws = [space.sample(rng) for _ in range(6_000)]
    for name in ("model.2", "label->2", "3->2", "1->3"):
        assert stats.chisquare(list(Counter(draw[name] for draw in draws).values())).pvalue > 0.001
    # label->1 is cutoff in 3^8 - 3^6 of 3^9 - 3^6 valid gates: 6,561 - 729 = 5,832 of 18,954, so 4 in 13.
    cut = sum(draw["label->1"] == "cutoff" for draw in draws)
    assert stats.binomtest(cut, len(draws), 4 / 13).pvalue > 0.001


def test_samples_are_the_same_on_every_machine():
    space, rng = refinement_spaces()["A"], np.random.default_rng(7)
    assert [str(space.graph(space.sample(rng))) for _ in range(2)] == [
        (
            "1=resnet32 2=wrn28-2 3=resnet32; "
            "label->1=linear 2->1=through 3->1=linear 1->2=linear 3->2=through label->3=through 1->3=linear 2->3=linear"
        ),
        (
            "1=resnet32 2=wrn28-2 3=resnet32; "
            "label->1=linear 2->1=linear label->2=linear 1->2=through label->3=through 1->3=through"
        ),
    ]


def test_the_groups_of_conditions_are_the_papers():
    a, b, c, x = refinement_spaces().values()
    pairs = (
        "through & through",
        "through & cutoff",
        "through & linear",
        "cutoff & cutoff",
        "cutoff & linear",
        "linear & linear",
    )
    assert {group.name: group.values for group in a.groups()} == {
        "auxiliary models": ("resnet32 & resnet32", "resnet32 & wrn28-2", "wrn28-2 & wrn28-2"),
        "label->auxiliary": pairs,
        "auxiliary->target": pairs,
        "label->target": ("through", "cutoff", "linear"),
    }
    assert [[group.name for group in space.groups()] for space in (b, c, x)] == [
        ["label->auxiliary", "auxiliary->target", "label->target"],
        ["auxiliary->target", "label->target"],
        ["label->target"],
    ]
    assert a.groups()[1].members == ("label->2", "label->3")


def test_a_group_leaves_out_values_that_only_degenerate_graphs_have():
    space = refinement_spaces()["A"].restrict(Restriction("label->target", ("cutoff",)))
    group = next(group for group in space.groups() if group.name == "auxiliary->target")
    assert "cutoff & cutoff" not in group.values
    assert len(group.values) == 5


@settings(max_examples=60, deadline=None)
@given(spaces(most=3), seeds)
def test_a_groups_restriction_keeps_exactly_the_configurations_of_that_value(space, seed):
    configuration = space.sample(np.random.default_rng(seed))
    for group in space.groups():
        value = group.value_of(configuration)
        assert value in group.values
        for other in group.values:
            assert (configuration in space.restrict(group.restriction(other))) == (other == value)


@settings(max_examples=40, deadline=None)
@given(spaces(most=3))
def test_the_values_of_a_group_divide_the_space(space):
    for group in space.groups():
        parts = [space.restrict(group.restriction(value)).counts().valid_encodings for value in group.values]
        assert sum(parts) == space.counts().valid_encodings


@settings(max_examples=60, deadline=None)
@given(spaces())
def test_specifications_round_trip(space):
    again = space_from_spec(space.to_spec())
    assert again == space
    assert again.hash == space.hash
    assert hash(again) == hash(space)
    assert lineage(again) == lineage(space)
    assert pickle.loads(pickle.dumps(space)) == space


def test_a_lineage_is_data():
    a, b, c, x = refinement_spaces().values()
    assert lineage(x) == (a, b, c, x)
    assert [space.name for space in lineage(x)] == ["A", "B", "C", "X"]
    assert x.parent is c
    assert str(x.restriction) == "auxiliary->target = linear & linear"
    assert isinstance(x, DesignSpace)
    assert len({space.hash for space in (a, b, c, x)}) == 4


def test_a_name_is_no_part_of_a_spaces_identity():
    a = refinement_spaces()["A"]
    assert a.renamed("other") == a
    assert a.renamed("other").hash == a.hash
    assert a.renamed("other").name == "other"


def test_the_order_of_a_multiset_does_not_matter():
    a = refinement_spaces()["A"]
    one = a.restrict(Restriction("label->auxiliary", ("linear", "through")))
    other = a.restrict(Restriction("label->auxiliary", ("through", "linear")))
    assert one == other
    assert one.hash == other.hash


def test_membership():
    space = refinement_spaces()["A"]
    configuration = space.sample(np.random.default_rng(0))
    assert configuration in space
    assert {**configuration, "model.4": "resnet32"} not in space
    assert {name: value for name, value in configuration.items() if name != "2->3"} not in space
    assert {**configuration, "2->3": "correct"} not in space
    assert configuration | dict.fromkeys(["label->1", "2->1", "3->1"], "cutoff") not in space
    assert "text" not in space


def test_a_space_without_auxiliary_nodes():
    space = KtgSpace("t", 0, (), THREE)
    assert list(space.enumerate()) == [{"label->1": "through"}, {"label->1": "linear"}]
    assert space.counts().to_dict() == {
        "encodings": 3,
        "classes": 3,
        "valid_encodings": 2,
        "valid_classes": 2,
    }
    assert [group.values for group in space.groups()] == [("through", "linear")]


def test_configurations_that_are_none_of_the_space():
    space = refinement_spaces()["A"]
    configuration = space.sample(np.random.default_rng(0))
    with pytest.raises(UnknownNameError, match=r"unknown parameter 'model\.9'"):
        space.canonical({**configuration, "model.9": "resnet32"})
    with pytest.raises(SpaceError, match="lacks label->2"):
        space.orbit_size({name: value for name, value in configuration.items() if name != "label->2"})
    with pytest.raises(UnknownNameError, match=r"unknown gate 'lienar' in a configuration \(2->3\)"):
        space.canonical({**configuration, "2->3": "lienar"})
