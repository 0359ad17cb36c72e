"""Adam against torch's, the derivative of its step against autograd and difference quotients; the learning rate."""

from __future__ import annotations

import io
import math

import pytest
import torch

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.bbm.optimising import BETAS, EPSILON, Adam
from kdsearch.trainables.bbm.schedule import check_warm_up, rate
from kdsearch.trainables.training_settings import Schedule

SHAPES = ((3, 4), (5,), (), (2, 1, 3))
DECAY = 0.07
RATE = 3e-3


def normal(generator, dtype=torch.float64, scale=1.0):
    return [scale * torch.randn(shape, generator=generator, dtype=dtype) for shape in SHAPES]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def after(steps, *, dtype=torch.float64, decay=DECAY, seed=0, scale=1.0):
    """Return parameters and the Adam that has moved them so many steps."""
    draws = generator(seed)
    parameters = normal(draws, dtype)
    adam = Adam(parameters, weight_decay=decay)
    for _ in range(steps):
        adam.step(normal(draws, dtype, scale), RATE)
    return parameters, adam, draws


def copied(parameters, adam, decay=DECAY):
    clones = [each.clone() for each in parameters]
    other = Adam(clones, weight_decay=decay)
    other.load_state_dict(adam.state_dict())
    return clones, other


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 3e-7)])
@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_a_step_is_torchs(dtype, tolerance, decay):
    draws = generator()
    ours = normal(draws, dtype)
    theirs = [each.clone().requires_grad_() for each in ours]
    adam = Adam(ours, weight_decay=decay)
    reference = torch.optim.Adam(theirs, lr=1.0, weight_decay=decay)
    for step in range(25):
        gradients = normal(draws, dtype, 10.0 ** (-step % 7))
        reference.param_groups[0]["lr"] = RATE * (1 + step % 3)
        for each, gradient in zip(theirs, gradients, strict=True):
            each.grad = gradient.clone()
        reference.step()
        adam.step(gradients, RATE * (1 + step % 3))
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other.detach(), rtol=tolerance, atol=tolerance)
    assert adam.steps == 25


def test_gradients_that_are_not_there_are_zeros():
    draws = generator(1)
    parameters, adam, _ = after(2)
    clones, other = copied(parameters, adam)
    gradients = normal(draws)
    adam.step([gradients[0], None, gradients[2], None], RATE)
    zeros = [gradients[0], torch.zeros(5), gradients[2], torch.zeros(2, 1, 3)]
    other.step(zeros, RATE)
    for mine, its in zip(parameters, clones, strict=True):
        assert torch.equal(mine, its)


def test_gradients_are_left_as_they_are():
    _, adam, draws = after(1)
    gradients, direction = normal(draws), normal(draws)
    before = [each.clone() for each in (*gradients, *direction)]
    adam.step_with_derivative(gradients, direction, RATE)
    for each, was in zip((*gradients, *direction), before, strict=True):
        assert torch.equal(each, was)


def test_a_resumed_adam_makes_the_same_steps_bit_by_bit():
    parameters, adam, draws = after(5, dtype=torch.float32)
    buffer = io.BytesIO()
    torch.save(adam.state_dict(), buffer)
    buffer.seek(0)
    clones = [each.clone() for each in parameters]
    resumed = Adam(clones, weight_decay=DECAY)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    for _ in range(3):
        gradients = normal(draws, torch.float32)
        adam.step(gradients, RATE)
        resumed.step(gradients, RATE)
    for mine, its in zip(parameters, clones, strict=True):
        assert torch.equal(mine, its)


def test_a_state_is_a_copy():
    _, adam, draws = after(3)
    state = adam.state_dict()
    first = state["first"].clone()
    adam.step(normal(draws), RATE)
    assert torch.equal(state["first"], first)
    assert state["steps"] == 3


def functional_step(weights, gradient, state, decay):
    """Adam as its paper writes it, for autograd; vectors."""
    first, second, steps = state["first"], state["second"], state["steps"] + 1
    gradient = gradient + decay * weights
    first = BETAS[0] * first + (1 - BETAS[0]) * gradient
    second = BETAS[1] * second + (1 - BETAS[1]) * gradient**2
    unbiased, square = first / (1 - BETAS[0] ** steps), second / (1 - BETAS[1] ** steps)
    return weights - RATE * unbiased / (square.sqrt() + EPSILON)


def flat(tensors):
    return torch.cat([each.flatten() for each in tensors])


@pytest.mark.parametrize("steps", [0, 1, 7])
@pytest.mark.parametrize("scale", [1.0, 1e-7])
def test_the_derivative_is_autograds(steps, scale):
    # At the scale 1e-7, epsilon is as large as the gradients; without it the first step would not depend on lambda.
    decay = DECAY * scale
    parameters, adam, draws = after(steps, decay=decay, scale=scale)
    base, direction = normal(draws, scale=scale), normal(draws, scale=scale)
    weight = torch.tensor(0.37, dtype=torch.float64)
    gradients = [each + weight * along for each, along in zip(base, direction, strict=True)]
    state = adam.state_dict()
    weights = flat(parameters).clone()

    def moved(value):
        return functional_step(weights, flat(base) + value * flat(direction), state, decay)

    slopes = adam.step_with_derivative(gradients, direction, RATE)
    assert [each.shape for each in slopes] == [each.shape for each in parameters]
    torch.testing.assert_close(flat(parameters), moved(weight), rtol=1e-13, atol=1e-14)
    expected = torch.autograd.functional.jacobian(moved, weight)
    torch.testing.assert_close(flat(slopes), expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))
    assert float(expected.abs().max()) > 0


def test_the_derivative_is_the_difference_quotient_of_real_steps_in_order_2():
    parameters, adam, draws = after(4)
    base, direction = normal(draws), normal(draws)

    def moved(value):
        clones, other = copied(parameters, adam)
        other.step([each + value * along for each, along in zip(base, direction, strict=True)], RATE)
        return flat(clones)

    quotients = [(moved(0.5 + h) - moved(0.5 - h)) / (2 * h) for h in (1e-2, 1e-3)]
    gradients = [each + 0.5 * along for each, along in zip(base, direction, strict=True)]
    slopes = flat(adam.step_with_derivative(gradients, direction, RATE))
    coarse, fine = (float((each - slopes).norm() / slopes.norm()) for each in quotients)
    assert coarse < 1e-3
    assert fine == pytest.approx(coarse / 100, rel=0.1)


def test_equation_3_the_validation_loss_through_one_step():
    draws = generator(3)
    inputs, target, other, held_out = torch.randn(4, 6, 5, generator=draws, dtype=torch.float64)
    start = torch.randn(5, 5, generator=draws, dtype=torch.float64)

    def losses(weights):
        out = torch.tanh(inputs @ weights)
        return (out - target).square().mean(), (out - other).square().sum()

    def validation(weights):
        return (torch.tanh(held_out @ weights) - target).square().mean()

    def train(weight, *, derivative):
        weights = start.clone().requires_grad_()
        adam = Adam([weights], weight_decay=DECAY)
        # Some steps at a fixed weight, then the one that is looked at.
        for value in (0.2, 0.2, 0.2, weight):
            base, direction = (
                torch.autograd.grad(each, weights, retain_graph=True)[0] for each in losses(weights)
            )
            slopes = adam.step_with_derivative([base + value * direction], [direction], RATE)
        loss = validation(weights)
        if not derivative:
            return loss.item()
        return float((torch.autograd.grad(loss, weights)[0] * slopes[0]).sum())

    found = train(0.2, derivative=True)
    h = 1e-5
    quotient = (train(0.2 + h, derivative=False) - train(0.2 - h, derivative=False)) / (2 * h)
    assert found == pytest.approx(quotient, rel=1e-6)
    assert abs(found) > 1e-6


def test_both_ways_to_step_are_one():
    parameters, adam, draws = after(2, dtype=torch.float32)
    clones, other = copied(parameters, adam)
    gradients, direction = normal(draws, torch.float32), normal(draws, torch.float32)
    adam.step(gradients, RATE)
    other.step_with_derivative(gradients, direction, RATE)
    for mine, its in zip(parameters, clones, strict=True):
        assert torch.equal(mine, its)


def test_where_no_gradient_was_ever_seen_the_derivative_is_0():
    parameter = torch.ones(3)
    adam = Adam([parameter])
    slopes = adam.step_with_derivative([torch.tensor([0.0, 2.0, 0.0])], [torch.tensor([1.0, 1.0, 0.0])], RATE)
    assert parameter.tolist() == pytest.approx([1.0, 1.0 - RATE, 1.0])
    assert slopes[0][0] == 0
    assert slopes[0][2] == 0
    # A gradient of 0 where others were before has a derivative: that of the mean gradient.
    adam.step([torch.tensor([0.0, 2.0, 1.0])], RATE)
    slopes = adam.step_with_derivative([torch.tensor([0.0, 2.0, 0.0])], [torch.ones(3)], RATE)[0]
    assert slopes[0] == 0
    square = 0.001 * 0.999 / (1 - 0.999**3)  # of the one gradient of 1, a step ago
    assert float(slopes[2]) == pytest.approx(-RATE * 0.1 / (1 - 0.9**3) / math.sqrt(square), rel=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e-12, 1e12, 1e17])
def test_single_precision_stays_finite_at_any_size_of_gradient(scale):
    _, adam, draws = after(3, dtype=torch.float32, decay=0.0, scale=scale)
    gradients, direction = normal(draws, torch.float32, scale), normal(draws, torch.float32, scale)
    slopes = flat(adam.step_with_derivative(gradients, direction, RATE))
    assert torch.isfinite(slopes).all()


def test_gradients_that_are_not_finite_give_slopes_that_say_so():
    parameter = torch.ones(2)
    slopes = Adam([parameter]).step_with_derivative([torch.tensor([math.nan, 1.0])], [torch.ones(2)], RATE)
    assert torch.isnan(slopes[0]).tolist() == [True, False]


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="of one type"):
        Adam([])
    with pytest.raises(UsageError, match="of one type"):
        Adam([torch.zeros(2), torch.zeros(2, dtype=torch.float64)])
    adam = Adam([torch.zeros(2), torch.zeros(3)])
    for gradients in ([torch.zeros(2)], [torch.zeros(2), torch.zeros(3, 1)]):
        with pytest.raises(UsageError, match="do not fit the 2 parameters"):
            adam.step(gradients, RATE)
    with pytest.raises(UsageError, match="do not fit"):
        adam.step_with_derivative([None, None], [None], RATE)
    assert adam.steps == 0
    state = adam.state_dict()
    for wrong in (
        None,
        {},
        state | {"more": 1},
        state | {"steps": 1.5},
        state | {"first": [0.0]},
    ):
        with pytest.raises(UsageError, match="not the state of an Adam"):
            adam.load_state_dict(wrong)
    for moment in (torch.zeros(4), torch.zeros(5, dtype=torch.float64)):
        with pytest.raises(UsageError, match="other parameters: second"):
            adam.load_state_dict(state | {"second": moment})


def rates(per_epoch, epochs, warm_up, base=0.4):
    kind = {"per_epoch": per_epoch, "epochs": epochs, "warm_up": warm_up}
    return [rate(base, iteration, **kind) for iteration in range(per_epoch * epochs + 1)]


def test_the_rate_rises_to_its_peak_in_the_warm_up_and_falls_to_0_at_the_end():
    found = rates(5, 40, 10)
    assert found[0] == pytest.approx(0.4 / 50)
    assert found[:50] == pytest.approx([0.4 * k / 50 for k in range(1, 51)])
    assert found[49] == found[50] == max(found) == 0.4  # the tenth epoch's last and the eleventh's first
    assert found[125] == pytest.approx(0.2)  # half the way from 50 to 200
    assert found[50:] == sorted(found[50:], reverse=True)
    assert found[199] == pytest.approx(0.2 * (1 - math.cos(math.pi / 150)))
    assert found[199] > 0
    assert found[200] == 0


def test_without_warm_up_it_is_the_plain_half_cosine():
    assert rates(1, 30, 0)[:30] == pytest.approx([Schedule().rate(0.4, epoch, 30) for epoch in range(30)])


def test_one_iteration_of_warm_up_and_one_of_cosine():
    assert rates(1, 2, 1) == pytest.approx([0.4, 0.4, 0.0])


@pytest.mark.parametrize(
    ("warm_up", "message"),
    [
        (10, "10 epochs of 10: .* at most 9 or train for at least 11"),
        (12, "at most 9"),
        (-1, "0 .no warm-up"),
    ],
)
def test_a_warm_up_that_leaves_nothing_is_refused(warm_up, message):
    with pytest.raises(UsageError, match=f"(?s){message}"):
        check_warm_up(warm_up, 10)
    with pytest.raises(UsageError, match="warm_up"):
        rate(0.1, 0, per_epoch=3, epochs=10, warm_up=warm_up)


@pytest.mark.parametrize("iteration", [-1, 31])
def test_iterations_beyond_the_epochs_are_refused(iteration):
    with pytest.raises(UsageError, match="of 30"):
        rate(0.1, iteration, per_epoch=3, epochs=10, warm_up=2)
