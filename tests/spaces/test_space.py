"""The generic space: conditions, constraints, exact sizes, sampling, restrictions."""

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
    INACTIVE,
    Categorical,
    Comparison,
    DesignSpace,
    Float,
    Forbidden,
    Integer,
    LogUniform,
    Parameter,
    Quantised,
    Restriction,
    Space,
    SpaceError,
    UnknownNameError,
    UsageError,
    describe,
    dump_space,
    label_of,
    lineage,
    parse_yaml,
    space_from_spec,
)

WRITTEN = """\
kind: parameters
parameters:
  optimiser: {type: categorical, values: [sgd, adam]}
  momentum: {type: quantised, low: 0.8, high: 0.9, step: 0.05, when: {optimiser: sgd}}
  nesterov: {type: categorical, values: [true, false], when: {optimiser: sgd, momentum: [0.85, 0.9]}}
  layers: {type: integer, low: 1, high: 4}
  width: {type: integer, low: 1, high: 4}
constraints:
  - forbid: {optimiser: adam, layers: [3, 4]}
  - compare: [layers, "<=", width]
"""
SMALL = space_from_spec(parse_yaml(WRITTEN, "text"))
SEARCH = (
    Space(  # the fine-tuning search of the BBM paper's appendix: two continuous parameters, three quantised
        (
            Parameter("lr", LogUniform(1e-5, 0.01)),
            Parameter("weight_decay", LogUniform(1e-5, 0.1)),
            Parameter("dropout", Quantised(0, 0.3, 0.05)),
            Parameter("augment_number", Integer(1, 5)),
            Parameter("augment_intensity", Quantised(0, 1, 0.1)),
        )
    )
)


def brute_force(space: Space) -> list[dict]:
    """List valid configurations the plain way: every combination, conditions and constraints looked at at the end."""
    root = lineage(space)[0]
    absent = object()
    columns = [[absent, *(p.domain.at(i) for i in range(p.domain.size))] for p in root.parameters]
    found = []
    for row in itertools.product(*columns):
        configuration = {p.name: v for p, v in zip(root.parameters, row, strict=True) if v is not absent}
        if (
            all((p.name in configuration) == is_active(p, configuration) for p in root.parameters)
            and all(constraint.holds(configuration) for constraint in root.constraints)
            and all(label_of(configuration.get(r.group, INACTIVE)) in r.values for r in space.restrictions)
        ):
            found.append(configuration)
    return found


def is_active(parameter: Parameter, configuration: dict) -> bool:
    return all(
        parent in configuration and configuration[parent] in values for parent, values in parameter.when
    )


def keys(configurations) -> list[tuple]:
    return sorted(tuple(sorted((name, repr(value)) for name, value in c.items())) for c in configurations)


@st.composite
def spaces(draw):
    names = ["d", "a", "c", "b"]
    domains = st.sampled_from(
        [Integer(1, 3), Integer(0, 4, 2), Quantised(0, 1, 0.5), Categorical((1, 2)), Categorical((0, 2, 3))]
    )
    parameters: list[Parameter] = []
    for name in names:
        when = ()
        if parameters and draw(st.booleans()):
            parent = draw(st.sampled_from(parameters))
            values = [parent.domain.at(index) for index in range(parent.domain.size)]
            when = ((parent.name, tuple(draw(st.lists(st.sampled_from(values), min_size=1, unique=True)))),)
        parameters.append(Parameter(name, draw(domains), when))
    constraints: list = []
    for _ in range(draw(st.integers(0, 2))):
        one, two = draw(st.permutations(parameters))[:2]
        if draw(st.booleans()):
            sign = draw(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
            constraints.append(Comparison(one.name, sign, draw(st.sampled_from([two.name, 1, 1.5]))))
        else:
            constraints.append(Forbidden(((one.name, (one.domain.at(0),)), (two.name, (two.domain.at(1),)))))
    try:
        space = Space(tuple(draw(st.permutations(parameters))), tuple(constraints))
        for _ in range(draw(st.integers(0, 2))):
            parameter = draw(st.sampled_from(parameters))
            labels = [label_of(parameter.domain.at(index)) for index in range(parameter.domain.size)]
            labels += [INACTIVE] if parameter.when else []
            chosen = draw(st.lists(st.sampled_from(labels), min_size=1, unique=True))
            space = space.restrict(Restriction(parameter.name, tuple(chosen), "only"))
    except SpaceError:  # nothing is left
        assume(condition=False)
    return space


def test_exact_sizes_of_a_space_with_conditions_and_constraints():
    counts = SMALL.counts()
    # sgd: momentum 0.8 (no nesterov), 0.85 and 0.9 (two each): 5; adam: 1. Times 4 x 4 for layers and width.
    assert counts.encodings == (5 + 1) * 16
    # layers <= width holds in 10 of 16 pairs; adam has layers 1 or 2 only: 4 + 3 = 7 pairs.
    assert counts.valid_encodings == 5 * 10 + 7
    assert counts.classes == counts.encodings
    assert counts.valid_classes == counts.valid_encodings
    assert keys(SMALL.enumerate()) == keys(brute_force(SMALL))


@settings(max_examples=80, deadline=None)
@given(spaces(), st.integers(0, 2**32))
def test_sizes_enumeration_sampling_and_membership_agree_with_plain_enumeration(space, seed):
    expected = brute_force(space)
    assert space.counts().valid_encodings == len(expected)
    assert keys(space.enumerate()) == keys(expected)
    sample = space.sample(np.random.default_rng(seed))
    assert keys([sample])[0] in keys(expected)
    assert list(sample) == [name for name in space.parameter_names if name in sample]
    assert all(configuration in space for configuration in expected)
    assert all(
        (configuration in space) == (keys([configuration])[0] in keys(expected))
        for configuration in brute_force(lineage(space)[0])
    )
    assert all(sample in ancestor for ancestor in lineage(space))


@settings(max_examples=80, deadline=None)
@given(spaces())
def test_spaces_round_trip(space):
    again = space_from_spec(parse_yaml(dump_space(space), "text"))
    assert again == space
    assert again.hash == space.hash
    assert lineage(again) == lineage(space)
    assert pickle.loads(pickle.dumps(space)) == space


@settings(max_examples=60, deadline=None)
@given(spaces(), st.integers(0, 2**32))
def test_the_values_of_a_group_divide_the_space(space, seed):
    sample = space.sample(np.random.default_rng(seed))
    for group in space.groups():
        parts = [space.restrict(group.restriction(value)) for value in group.values]
        assert sum(part.counts().valid_encodings for part in parts) == space.counts().valid_encodings
        assert [sample in part for part in parts] == [
            value == group.value_of(sample) for value in group.values
        ]


@settings(max_examples=60, deadline=None)
@given(spaces(), st.randoms(use_true_random=False))
def test_the_order_of_parameters_changes_no_sample(space, random):
    shuffled = list(space.parameters)
    random.shuffle(shuffled)
    other = Space(tuple(shuffled), space.constraints, restrictions=space.restrictions)
    assert other.hash == space.hash
    assert other.sample(np.random.default_rng(1)) == space.sample(np.random.default_rng(1))


def test_uniform_means_every_valid_configuration_alike():
    listed = keys(SMALL.enumerate())
    rng = np.random.default_rng(8)
    drawn = Counter(keys([SMALL.sample(rng)])[0] for _ in range(60 * len(listed)))
    assert stats.chisquare([drawn[key] for key in listed]).pvalue > 0.001


def test_a_continuous_parameter_counts_as_one_value():
    space = Space(
        (
            Parameter("kind", Categorical(("kd", "plain"))),
            Parameter("temperature", Float(1, 10), (("kind", ("kd",)),)),
        )
    )
    rng = np.random.default_rng(1)
    kinds = Counter(space.sample(rng)["kind"] for _ in range(2_000))
    assert stats.chisquare(list(kinds.values())).pvalue > 0.001
    assert space.counts().to_dict() == dict.fromkeys(space.counts().to_dict())
    assert space.restrict(Restriction("kind", ("plain",))).counts().encodings == 1


def test_a_space_with_continuous_parameters():
    rng = np.random.default_rng(4)
    assert SEARCH.counts().encodings is None
    sample = SEARCH.sample(rng)
    assert sample in SEARCH
    assert {**sample, "lr": 0.02} not in SEARCH
    assert SEARCH.canonical(sample) == sample
    assert SEARCH.orbit_size(sample) == 1
    assert isinstance(SEARCH, DesignSpace)
    with pytest.raises(SpaceError, match="infinitely many configurations: lr, weight_decay continuous"):
        SEARCH.enumerate()
    fixed = SEARCH.restrict(Restriction("lr", ("0.001",))).restrict(
        Restriction("weight_decay", ("1e-05", "0.1"), "only")
    )
    assert fixed.counts().valid_encodings == 2 * 7 * 5 * 11
    assert {configuration["lr"] for configuration in itertools.islice(fixed.enumerate(), 50)} == {0.001}


def test_comparisons_of_continuous_parameters_hold_in_every_sample():
    space = Space(
        (
            Parameter("low", Float(0, 1)),
            Parameter("high", Float(0, 1)),
            Parameter("flag", Categorical((True, False))),
        ),
        (Comparison("low", "<", "high"), Comparison("high", ">=", 0.5)),
    )
    rng = np.random.default_rng(3)
    draws = [space.sample(rng) for _ in range(600)]
    assert all(draw["low"] < draw["high"] >= 0.5 for draw in draws)
    # P(high <= h) for 0.5 <= h <= 1 under the density 2 high, cut at 0.5: (h^2 - 1/4) / (3/4).
    assert (
        stats.kstest([draw["high"] for draw in draws], lambda h: (np.square(h) - 0.25) / 0.75).pvalue > 0.001
    )
    assert stats.chisquare(list(Counter(draw["flag"] for draw in draws).values())).pvalue > 0.001


def test_very_large_spaces_are_counted_and_sampled():
    parameters = [Parameter(f"p{index}", Integer(1, 10**6)) for index in range(20)]
    chain = [Parameter(f"q{index}", Integer(1, 10)) for index in range(10)]
    ordered = [Comparison(f"q{index}", "<", f"q{index + 1}") for index in range(9)]
    space = Space((*parameters, *chain), tuple(ordered))
    assert space.counts().encodings == 10**130
    assert space.counts().valid_encodings == 10**120  # only 1 < 2 < ... < 10
    sample = space.sample(np.random.default_rng(0))
    assert [sample[f"q{index}"] for index in range(10)] == list(range(1, 11))
    assert [group.name for group in space.groups()] == []  # each q has one value left, each p too many


def test_groups_are_data_of_the_space():
    assert {group.name: group.values for group in SMALL.groups()} == {
        "optimiser": ("sgd", "adam"),
        "momentum": ("0.8", "0.85", "0.9", INACTIVE),
        "nesterov": ("true", "false", INACTIVE),
        "layers": ("1", "2", "3", "4"),
        "width": ("1", "2", "3", "4"),
    }
    space = space_from_spec({**SMALL.to_spec(), "groups": ["width"]})
    assert [group.name for group in space.groups()] == ["width"]
    assert [group.name for group in SMALL.restrict(Restriction("width", ("1",))).groups()] == [
        "optimiser",
        "momentum",
        "nesterov",
    ]


def test_membership_needs_exactly_the_active_parameters():
    configuration = {"optimiser": "sgd", "momentum": 0.85, "nesterov": True, "layers": 1, "width": 1}
    assert configuration in SMALL
    assert {**configuration, "momentum": 0.8} not in SMALL  # nesterov is inactive then
    assert {**configuration, "optimiser": "adam"} not in SMALL
    assert {**configuration, "nesterov": 1} not in SMALL
    assert {**configuration, "layers": 2} not in SMALL  # layers <= width
    assert {**configuration, "lr": 1} not in SMALL
    assert {"optimiser": "adam", "layers": 1, "width": 2} in SMALL
    assert {"optimiser": "adam", "layers": 3, "width": 4} not in SMALL
    assert 3 not in SMALL


def test_canonical_values_are_the_domains_own():
    space = Space((Parameter("rate", Float(0, 1)), Parameter("drop", Quantised(0, 1, 0.5))))
    assert repr(space.canonical({"drop": 1, "rate": 0})) == "{'rate': 0.0, 'drop': 1.0}"
    with pytest.raises(SpaceError, match=r"rate is 2 in a configuration\nIt is a number in \[0.0, 1.0\]"):
        space.canonical({"rate": 2})
    with pytest.raises(UnknownNameError, match="unknown parameter 'rat' in a configuration"):
        space.canonical({"rat": 2})


def test_describe():
    described = describe(SMALL.restrict(Restriction("optimiser", ("adam",))))
    assert (described["encodings"], described["valid_classes"]) == (96, 57)
    assert described["restrictions"] == [
        {
            "restriction": "optimiser = adam",
            "encodings": 16,
            "classes": 16,
            "valid_encodings": 7,
            "valid_classes": 7,
        }
    ]
    assert described["parameters"]["optimiser"] == {"type": "categorical", "values": ["adam"]}
    assert described["parameters"]["momentum"]["when"] == {"optimiser": "sgd"}
    assert describe(SEARCH)["encodings"] is None
    assert describe(SEARCH)["parameters"]["dropout"] == {
        "type": "quantised",
        "low": 0.0,
        "high": 0.3,
        "step": 0.05,
    }


NUMBERS = {"a": {"type": "integer", "low": 1, "high": 3}, "b": {"type": "float", "low": 0, "high": 1}}
NAMES = {"c": {"type": "categorical", "values": ["x", "y"]}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": {}}, "the list of parameters of a space is empty"),
        ({"parameters": []}, "space.parameters is a list"),
        ({"parameters": {"a": 3}}, "space.parameters.a is the number 3"),
        ({"constraint": []}, "unknown key 'constraint' in space\nDid you mean 'constraints'?"),
        ({"parameters": {"a": {**NUMBERS["a"], "when": {"z": 1}}}}, "unknown parameter 'z' in the condition"),
        ({"parameters": {**NUMBERS, "c": {**NAMES["c"], "when": {"a": 9}}}}, "has the value 9 of a\na is a"),
        ({"parameters": {**NUMBERS, "c": {**NAMES["c"], "when": {"b": 1}}}}, "names b, which is continuous"),
        ({"parameters": {"a": {**NUMBERS["a"], "when": {"a": 1}}}}, "conditions form a circle: a -> a"),
        ({"parameters": {"a": {**NUMBERS["a"], "when": {}, "wen": 1}}}, "unknown key 'wen' in space.parameters.a"),
        ({"constraints": [{"forbid": {}}]}, "space.constraints[0].forbid is empty"),
        ({"constraints": [{}]}, "space.constraints[0] has 0 rules"),
        ({"constraints": [{"eval": "a < b"}]}, "unknown key 'eval' in space.constraints[0]\nKnown: forbid, compare."),
        ({"constraints": [{"compare": ["a", "<"]}]}, "space.constraints[0].compare has 2 parts"),
        ({"constraints": [{"compare": ["a", "=<", "b"]}]}, "unknown operator '=<' in comparison of a\nDid you mean"),
        ({"constraints": [{"compare": ["a", "<", "z"]}]}, "unknown parameter 'z' in constraint 'a < z'"),
        ({"constraints": [{"compare": ["a", "<", "c"]}]}, "constraint 'a < c': c is one of x, y\nOnly numbers"),
        ({"constraints": [{"forbid": {"a": []}}]}, "space.constraints[0].forbid.a is an empty list"),
        ({"constraints": [{"forbid": {"b": 0.5}}]}, "b is continuous"),
        ({"constraints": [{"forbid": {"a": [1, 7]}}]}, "constraint 'never a = 1 or 7': 7 is no value of a"),
        ({"constraints": [{"compare": ["a", ">", 3]}]}, "the constraints empty the space: no valid"),
        ({"constraints": [{"compare": ["b", ">", 1]}]}, "the constraints empty the space: no draw of 10000"),
        ({"groups": ["z"]}, "unknown parameter 'z' in groups"),
        ({"groups": ["b"]}, "group b is continuous"),
        ({"restrictions": [{"z": 1}]}, "unknown parameter 'z' in restriction 'z = 1'"),
        ({"restrictions": [{"a": 7}]}, "restriction 'a = 7': 7 is no value of a\nIt is a whole number in [1, 3]."),
        ({"restrictions": [{"a": [1, 2]}]}, "a has one value at a time\nWrite only: [...] for several."),
        ({"restrictions": [{"a": INACTIVE}]}, "(inactive) is no value of a"),
        ({"restrictions": [{"a": 1}, {"a": 2}]}, "restriction 'a = 2' empties the space: no valid"),
        ({"restrictions": [{"a": 1}, {"a": 2}]}, "Leave one of these out: a = 1; a = 2."),
    ],
)  # fmt: skip
def test_specifications_that_are_wrong(change, message):
    with pytest.raises(UsageError) as caught:
        space_from_spec({"kind": "parameters", "parameters": {**NUMBERS, **NAMES}, **change})
    assert message in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
