"""What a single parameter can be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kdsearch.spaces import (
    Categorical,
    Float,
    Integer,
    LogUniform,
    Quantised,
    SpaceError,
    UnknownNameError,
    label_of,
)
from kdsearch.spaces.domains import domain_spec, read_domain
from kdsearch.spaces.draws import integer_below

FINITE = [
    Categorical(("sgd", "adam", 3, True, 0.5)),
    Integer(1, 5),
    Integer(-4, 8, 3),
    Quantised(0, 0.3, 0.05),
    Quantised(-1, 1, 0.1),
]


def values(domain):
    return [domain.at(index) for index in range(domain.size)]


def test_a_quantised_interval_is_closed_and_does_not_drift():
    # The dropout of the BBM paper: [0, 0.3] by 0.05. In binary 0.05 * 3 is 0.15000000000000002.
    assert values(Quantised(0, 0.3, 0.05)) == [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    assert values(Quantised(0.5, 1, 0.1)) == [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert values(Integer(1, 5)) == [1, 2, 3, 4, 5]
    assert values(Integer(2, 8, 3)) == [2, 5, 8]


@settings(max_examples=100, deadline=None)
@given(st.integers(-1000, 1000), st.integers(0, 200), st.sampled_from([1, 2, 5, 25]), st.integers(0, 4))
def test_quantised_values_are_what_one_would_write(start, steps, step, places):
    scale = 10**places
    domain = Quantised(start / scale, (start + steps * step) / scale, step / scale)
    assert values(domain) == [(start + index * step) / scale for index in range(steps + 1)]


@pytest.mark.parametrize("domain", FINITE, ids=str)
def test_finite_domains_find_their_own_values_by_value_and_label(domain):
    for value in values(domain):
        assert domain.find(value) == value
        assert domain.read(label_of(value)) == value
        assert type(domain.find(value)) is type(value)
    for other in ("sgd2", 0.07, None, [1], 10**6, math.nan, False):
        assert domain.find(other) is None


def test_true_is_not_one():
    assert Categorical((1, 0)).find(value=True) is None
    assert Integer(0, 1).find(value=True) is None
    assert Float(0, 1).find(value=True) is None


@pytest.mark.parametrize("domain", [*FINITE, Float(0, 1), LogUniform(1e-5, 0.01)], ids=str)
def test_specifications_round_trip(domain):
    assert read_domain(domain_spec(domain), "here") == domain


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.integers(0, 2**32))
def test_floats_stay_in_the_closed_interval(low, width, seed):
    domain = Float(low, low + width)
    assert domain.find(domain.draw(np.random.default_rng(seed))) is not None


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-12, 1e6), st.floats(1, 1e6), st.integers(0, 2**32))
def test_log_uniforms_stay_in_the_closed_interval(low, ratio, seed):
    domain = LogUniform(low, low * ratio)
    assert domain.find(domain.draw(np.random.default_rng(seed))) is not None


def test_the_laws_of_continuous_domains():
    rng = np.random.default_rng(5)
    flat = [Float(-2, 3).draw(rng) for _ in range(2_000)]
    assert stats.kstest(flat, stats.uniform(-2, 5).cdf).pvalue > 0.001
    log = [math.log(LogUniform(1e-5, 0.1).draw(rng)) for _ in range(2_000)]
    assert stats.kstest(log, stats.uniform(math.log(1e-5), math.log(1e4)).cdf).pvalue > 0.001


def test_draws_are_exact_on_every_machine():
    rng = np.random.default_rng(7)
    share = integer_below(np.random.default_rng(7), 2**53 + 1) / 2**53
    assert Float(0, 1).draw(rng) == share
    assert LogUniform(1, math.e).draw(np.random.default_rng(7)) == pytest.approx(math.exp(share), rel=1e-15)


@pytest.mark.parametrize("n", [1, 2, 6, 255, 256, 257])
def test_integers_below_are_uniform(n):
    rng = np.random.default_rng(11)
    counts = np.bincount([integer_below(rng, n) for _ in range(20 * n + 200)], minlength=n)
    assert len(counts) == n
    assert n == 1 or stats.chisquare(counts).pvalue > 0.001


def test_integers_below_very_large_numbers():
    rng = np.random.default_rng(2)
    draws = [integer_below(rng, 5**60) for _ in range(300)]
    assert stats.kstest([draw / 5**60 for draw in draws], "uniform").pvalue > 0.001


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"low": 0}, "here lacks type\nKnown: categorical, integer, quantised, float, log-uniform."),
        ({"type": "categoric", "values": [1]}, "unknown type of parameter 'categoric' in here"),
        ({"type": "float", "low": 0}, "here lacks high"),
        ({"type": "float", "low": 0, "high": 1, "step": 0.1}, "unknown key 'step' in here"),
        ({"type": "float", "low": 1, "high": 0}, "interval [1.0, 0.0] of a parameter of type float is empty"),
        ({"type": "float", "low": "1e-4", "high": 1}, "low of a float parameter is the text '1e-4'"),
        ({"type": "float", "low": 0, "high": math.inf}, "high of a float parameter is the number inf"),
        (
            {"type": "log-uniform", "low": 0, "high": 1},
            "low of a log-uniform parameter is 0.0\nWrite a number above 0.",
        ),
        ({"type": "integer", "low": 0.5, "high": 1}, "low of an integer parameter is the number 0.5"),
        (
            {"type": "integer", "low": 0, "high": 4, "step": 0},
            "step of an integer parameter is 0\nWrite 1 or more.",
        ),
        ({"type": "integer", "low": 0, "high": 7, "step": 3}, "steps of 3 from 0 do not lead to 7"),
        (
            {"type": "quantised", "low": 0, "high": 0.32, "step": 0.05},
            "do not lead to 0.32 in a parameter of type quantised\nThe interval is closed: write 0.30 or 0.35 for high",
        ),
        ({"type": "quantised", "low": 0, "high": 1, "step": -1}, "step of a quantised parameter is -1.0"),
        ({"type": "categorical", "values": []}, "is empty"),
        ({"type": "categorical", "values": "sgd"}, "here.values is the text 'sgd'"),
        ({"type": "categorical", "values": [1, "1"]}, "has 1 more than once"),
        ({"type": "categorical", "values": [[1]]}, "a categorical value is a list"),
    ],
)
def test_specifications_that_are_wrong(spec, message):
    with pytest.raises((SpaceError, UnknownNameError)) as caught:
        read_domain(spec, "here")
    assert message in str(caught.value)
    assert "here" in str(caught.value)
