"""Algorithm 1: phases, fits, clamping, what is not finite, and going on from a saved state."""

import io
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.metaparameters.path import MetaPath, PathState
from kdsearch.trainables.metaparameters.settings import Fit, OptimiserSettings

NAMES = ("lambda_1", "temperature")
BOUNDS = {"lambda_1": (0.0, 1.0), "temperature": (0.1, 10.0)}
START = {"lambda_1": 0.5, "temperature": 2.0}
FREE = dict.fromkeys(NAMES, (-1e9, 1e9))


def settings(**changes) -> OptimiserSettings:
    return OptimiserSettings(**{"start": START, "bounds": BOUNDS, "e1": 4, "e2": 3, **changes})


def path(chosen: OptimiserSettings, states=None, count=1, dtype=torch.float64) -> MetaPath:
    states = states or [PathState.start(chosen, NAMES)] * count
    return MetaPath(chosen, NAMES, states, device="cpu", dtype=dtype)


def run(walk: MetaPath, hypergradients: torch.Tensor) -> torch.Tensor:
    """Advance once for each row of hypergradients [iterations, K, P]; returns the values after each."""
    values = []
    for each in hypergradients:
        walk.advance(each if any(walk.wants()) else None)
        values.append(walk.values)
    return torch.stack(values) if values else walk.values[None, :0]


def noise(iterations: int, count: int = 1, seed: int = 0, scale: float = 0.1) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(scale * rng.standard_normal((iterations, count, len(NAMES))))


def through_file(state: PathState) -> PathState:
    file = io.BytesIO()
    torch.save(state.to_plain(), file)
    file.seek(0)
    return PathState.from_plain(torch.load(file, weights_only=True))


def test_without_prediction_it_is_gradient_descent():
    steps = noise(9)
    values = run(path(settings(e2=0, rate=0.25, bounds=FREE)), steps)
    expected = torch.tensor(list(START.values()), dtype=torch.float64) - 0.25 * steps[:, 0].cumsum(0)
    torch.testing.assert_close(values[:, 0], expected)


def test_phases_alternate():
    walk = path(settings(e1=3, e2=2))
    wanted = []
    for _ in range(12):
        wanted.append(walk.wants()[0])
        walk.advance(torch.zeros(1, 2) if wanted[-1] else None)
    assert wanted == [True, True, True, False, False] * 2 + [True, True]


@pytest.mark.parametrize("e1", [2, 3, 10])
def test_value_fit_is_the_least_squares_line_through_the_gradient_steps(e1):
    e2 = 4
    values = run(path(settings(e1=e1, e2=e2, bounds=FREE), count=2), noise(2 * (e1 + e2), 2)).numpy()
    for period in (values[: e1 + e2], values[e1 + e2 :]):  # the second fit knows nothing of the first
        for trial in range(2):
            for name in range(2):
                line = np.polyfit(np.arange(e1), period[:e1, trial, name], 1)
                expected = np.polyval(line, np.arange(e1, e1 + e2))
                np.testing.assert_allclose(period[e1:, trial, name], expected, rtol=1e-10)


@pytest.mark.parametrize("e1", [2, 3, 10])
def test_increment_fit_adds_the_line_through_the_changes(e1):
    e2 = 4
    chosen = settings(e1=e1, e2=e2, bounds=FREE, fit=Fit.INCREMENT)
    start = np.array([list(START.values())])
    values = np.concatenate([start, run(path(chosen), noise(2 * (e1 + e2)))[:, 0].numpy()])
    for first in (0, e1 + e2):
        for name in range(2):
            before = values[first : first + e1 + 1, name]
            line = np.polyfit(np.arange(1, e1 + 1), np.diff(before), 1)
            changes = np.polyval(line, np.arange(e1 + 1, e1 + e2 + 1))
            expected = before[-1] + np.cumsum(changes)
            found = values[first + e1 + 1 : first + e1 + e2 + 1, name]
            np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_one_gradient_step_gives_a_constant():
    steps = noise(5)
    by_value = run(path(settings(e1=1, e2=4)), steps)
    assert torch.equal(by_value, by_value[:1].expand(5, -1, -1))
    by_increment = run(path(settings(e1=1, e2=4, bounds=FREE, fit="increment")), steps)[:, 0]
    torch.testing.assert_close(by_increment.diff(dim=0), (-0.1 * steps[0]).expand(4, -1))


def test_values_at_rest_stay_exactly_where_they_are():
    for fit in Fit:
        values = run(path(settings(fit=fit), dtype=torch.float32), torch.zeros(30, 1, 2))
        assert torch.equal(values[:, 0], torch.tensor([[0.5, 2.0]]).expand(30, -1))


def test_constant_hypergradients_make_both_fits_go_on_as_the_gradient_would():
    steps = torch.full((14, 1, 2), 0.02, dtype=torch.float64)
    greedy = run(path(settings(e2=0)), steps)
    for fit in Fit:
        torch.testing.assert_close(run(path(settings(fit=fit)), steps), greedy)


def test_every_value_is_clamped_in_gradient_and_predicted_steps():
    steps = torch.full((14, 1, 2), -1.5, dtype=torch.float64)
    values = run(path(settings(rate=0.1, e1=3, e2=4)), steps)[:, 0]
    # 0.5 + 0.15 each step: 0.65, 0.80, 0.95, then the line says 1.1 and more
    expected = [0.65, 0.8, 0.95, *[1.0] * 11]
    torch.testing.assert_close(values[:, 0], torch.tensor(expected, dtype=torch.float64))


def test_the_increment_fit_does_not_throw_a_value_off_its_bound():
    steps = torch.full((14, 1, 2), 1.5, dtype=torch.float64)
    values = run(path(settings(rate=10.0, e1=3, e2=4, fit="increment")), steps)[:, 0]
    assert torch.equal(values, torch.tensor([[0.0, 0.1]], dtype=torch.float64).expand(14, -1))


def test_hypergradients_are_clipped_element_by_element():
    walk = path(settings(rate=1.0, clip=0.01))
    walk.advance(torch.tensor([[0.5, -0.004]], dtype=torch.float64))
    torch.testing.assert_close(walk.values, torch.tensor([[0.49, 2.004]], dtype=torch.float64))


def test_what_is_not_finite_counts_as_zero_and_is_counted():
    walk = path(settings(rate=1.0, clip=0.01), count=2)
    walk.advance(torch.tensor([[math.nan, 0.1], [math.inf, -math.inf]], dtype=torch.float64))
    torch.testing.assert_close(walk.values, torch.tensor([[0.5, 1.99], [0.5, 2.0]], dtype=torch.float64))
    assert walk.skipped.tolist() == [1, 2]
    assert walk.state(1).skipped == 2


@given(
    st.lists(st.lists(st.floats(width=32), min_size=2, max_size=2), min_size=1, max_size=25),
    st.integers(1, 4),
    st.integers(0, 4),
    st.sampled_from(Fit),
)
def test_values_are_in_their_bounds_whatever_happens(steps, e1, e2, fit):
    chosen = settings(e1=e1, e2=e2, fit=fit, rate=0.25)
    values = run(path(chosen, dtype=torch.float32), torch.tensor(steps)[:, None])
    low, high = torch.tensor(list(BOUNDS.values())).T
    assert ((values >= low) & (values <= high)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fit", list(Fit))
def test_interrupted_anywhere_it_goes_on_bit_for_bit(fit, dtype):
    chosen, steps = settings(e1=3, e2=2, fit=fit), noise(17, 2).to(dtype)
    steps[4, 0, 1] = math.nan
    whole = path(chosen, count=2, dtype=dtype)
    values = run(whole, steps)
    for interruption in range(1, 12):
        first = path(chosen, count=2, dtype=dtype)
        run(first, steps[:interruption])
        states = [through_file(first.state(index)) for index in range(2)]
        second = path(chosen, states, dtype=dtype)
        assert torch.equal(run(second, steps[interruption:]), values[interruption:])
        for index in range(2):
            end, expected = second.state(index).to_plain(), whole.state(index).to_plain()
            assert all(np.array_equal(end[name], expected[name]) for name in expected)


def test_trials_at_different_places_go_as_they_would_alone():
    chosen, steps = settings(e1=3, e2=2), noise(24, 3)
    offsets = (0, 1, 4)
    alone = [run(path(chosen), steps[:, [index]])[:, 0] for index in range(3)]
    states = []
    for index, offset in enumerate(offsets):
        walk = path(chosen)
        run(walk, steps[:offset, [index]])
        states.append(walk.state(0))
    together = path(chosen, states)
    assert together.wants() == [True, True, False]
    for iteration in range(20):
        rows = torch.stack([steps[iteration + offset, index] for index, offset in enumerate(offsets)])
        if not together.wants()[2]:
            rows[2] = math.nan  # a row that nobody asked for is not looked at
        together.advance(rows)
        for index, offset in enumerate(offsets):
            assert torch.equal(together.values[index], alone[index][iteration + offset])
    assert together.skipped.tolist() == [0, 0, 0]


def test_without_leaves_the_others_as_they_are():
    chosen, steps = settings(), noise(12, 3)
    whole, left = path(chosen, count=3), path(chosen, count=3)
    run(whole, steps[:5])
    run(left, steps[:5])
    left = left.without([1])
    values = run(whole, steps[5:])
    assert torch.equal(run(left, steps[5:][:, [0, 2]]), values[:, [0, 2]])
    assert path(chosen, count=1).without([0]).values.shape == (0, 2)


def test_a_step_leaves_earlier_values_alone():
    walk = path(settings())
    seen = [walk.values]
    for each in noise(9):
        walk.advance(each)
        seen.append(walk.values)
    assert torch.equal(seen[0], torch.tensor([[0.5, 2.0]], dtype=torch.float64))
    assert all(not torch.equal(one, other) for one, other in pairwise(seen))


def test_a_gradient_step_without_hypergradients_is_refused():
    with pytest.raises(UsageError, match="needs hypergradients"):
        path(settings()).advance(None)


def test_a_name_without_start_value_is_refused():
    with pytest.raises(UsageError, match=r"no start value for weight\.2->1"):
        PathState.start(settings(), (*NAMES, "weight.2->1"))


@pytest.mark.parametrize("names", [("lambda_1",), NAMES])
def test_a_state_of_another_shape_is_refused(names):
    other = settings(e1=6 if names == NAMES else 4)
    with pytest.raises(UsageError, match=r"does not fit: .* has shape"):
        path(settings(), [PathState.start(other, names)])


@pytest.mark.parametrize("change", [{"skipped": "0"}, {"more": 1}, {"values": [0.5, 2.0]}])
def test_what_is_no_state_is_refused(change):
    content = {**PathState.start(settings(), NAMES).to_plain(), **change}
    with pytest.raises(UsageError, match="not the state of a path"):
        PathState.from_plain(content)
