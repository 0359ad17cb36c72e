"""Keys of configurations, restrictions as values, and the example of the package's docstring."""

from __future__ import annotations

import doctest
import hashlib

import pytest

import kdsearch.spaces
from kdsearch.spaces import Restriction, SpaceError, configuration_key


def test_a_key_is_that_of_the_canonical_json():
    expected = hashlib.sha256(b'{"a":0.1,"b":true,"c":"x"}').hexdigest()
    assert configuration_key({"c": "x", "a": 0.1, "b": True}) == expected
    assert configuration_key({"a": 1}) != configuration_key({"a": True})
    with pytest.raises(SpaceError, match="cannot be written as JSON"):
        configuration_key({"a": float("nan")})


@pytest.mark.parametrize(
    ("restriction", "data", "text"),
    [
        (Restriction("g", ("a", "b")), {"g": ["a", "b"]}, "g = a & b"),
        (Restriction("g", ("a",)), {"g": "a"}, "g = a"),
        (Restriction("g", ("a", "b"), "only"), {"g": {"only": ["a", "b"]}}, "g only a, b"),
    ],
)
def test_restrictions_round_trip(restriction, data, text):
    assert restriction.to_dict() == data
    assert Restriction.from_dict(data) == restriction
    assert str(restriction) == text


def test_labels_of_values():
    assert Restriction.from_dict({"g": {"only": [True, 3, 0.05, "x"]}}).values == ("true", "3", "0.05", "x")


def test_restrictions_that_are_wrong():
    with pytest.raises(SpaceError, match="no values are given"):
        Restriction("g", ())
    with pytest.raises(SpaceError, match="values are the text 'ab'"):
        Restriction("g", "ab")  # type: ignore[arg-type]
    with pytest.raises(SpaceError, match="unknown mode 'any'"):
        Restriction("g", ("a",), "any")  # type: ignore[arg-type]


def test_the_packages_example():
    result = doctest.testmod(kdsearch.spaces)
    assert result.attempted > 0
    assert result.failed == 0
