"""Dropout that shares random numbers: its rate, its mean, its gradient, and what it takes from torch's generator."""

import math

import pytest
import torch

from kdsearch.trainables.series.dropout import Dropout


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        yield


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
def test_as_many_are_dropped_as_asked_and_the_mean_stays(rate):
    """Of n values a share within four deviations, sqrt(rate (1 - rate) / n); the mean of n ones alike."""
    n = 200_000
    found = Dropout(rate)(torch.ones(n // 4, 4, dtype=torch.float64))
    deviation = math.sqrt(rate * (1 - rate) / n)
    assert abs((found == 0).double().mean().item() - rate) < 4 * deviation + 2**-17
    assert abs(found.mean().item() - 1) < 4 * deviation / (1 - rate)
    # the rate is the next multiple of 2^-16, and what is left makes up for just that
    exact = round(rate * 2**16) / 2**16
    torch.testing.assert_close(found.unique(), torch.tensor([0, 1 / (1 - exact)], dtype=torch.float64))


def test_values_are_dropped_apart():
    """Values that share a draw, neighbours in fours, or calls that follow each other, do not go together."""
    n, rate = 200_000, 0.3
    dropout = Dropout(rate)
    one, two = (dropout(torch.ones(n)) == 0 for _ in range(2))
    slack = 4 * math.sqrt(1 / n)
    for own, other in (
        (one[:-1], one[1:]),
        (one[:-2], one[2:]),
        (one[:-3], one[3:]),
        (one[:-4], one[4:]),
        (one, two),
    ):
        assert abs((own & other).double().mean().item() - rate**2) < slack


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 0, 5), (3, 5, 7), ()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_shape_and_type(shape, dtype):
    found = Dropout(0.5)(torch.ones(shape, dtype=dtype))
    assert (found.shape, found.dtype) == (shape, dtype)
    assert set(found.unique().tolist()) <= {0.0, 2.0}


def test_a_view_in_another_memory_order_is_dropped_alike():
    values = torch.randn(6, 8, 10)
    torch.manual_seed(1)
    expected = Dropout(0.4)(values)
    torch.manual_seed(1)
    assert torch.equal(Dropout(0.4)(values.transpose(1, 2).contiguous().transpose(1, 2)), expected)


def test_the_gradient_is_the_mask():
    values = torch.randn(50, 20, dtype=torch.float64, requires_grad=True)
    found = Dropout(0.25)(values)
    (slope,) = torch.autograd.grad(found.sum(), values)
    torch.testing.assert_close(found, values * slope)
    assert set(slope.unique().tolist()) == {0.0, 2**16 / (2**16 - 2**14)}


def test_the_same_state_of_torchs_generator_gives_the_same_mask():
    torch.manual_seed(7)
    one, two = Dropout(0.5)(torch.ones(100)), Dropout(0.5)(torch.ones(100))
    torch.manual_seed(7)
    assert torch.equal(Dropout(0.5)(torch.ones(100)), one)
    assert not torch.equal(one, two)


@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.0, True)])
def test_nothing_is_done_or_drawn_without_need(rate, training):
    before, values = torch.get_rng_state(), torch.randn(4, generator=torch.Generator())
    assert Dropout(rate).train(training)(values) is values
    assert torch.equal(torch.get_rng_state(), before)


def test_some_are_left_at_a_rate_of_almost_one():
    found = Dropout(1 - 1e-9)(torch.ones(2**19, dtype=torch.float64))
    assert set(found.unique().tolist()) == {0.0, 2.0**16}
    assert abs(found.mean().item() - 1) < 2  # eight of them on average
