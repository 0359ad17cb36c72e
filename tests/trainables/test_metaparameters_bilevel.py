"""Bilevel problems whose optimum is known in closed form are solved, without and with linear prediction.

Inputs are orthonormal, X^T X / n = I, so that linear least squares with targets Y moves weights towards s = X^T Y / n.
"""

import numpy as np
import pytest
import torch

from kdsearch.trainables.metaparameters.hypergradient import directional_derivative
from kdsearch.trainables.metaparameters.path import MetaPath, PathState
from kdsearch.trainables.metaparameters.settings import Fit, Hypergradient, OptimiserSettings
from kdsearch.trainables.networks.architectures import architecture
from kdsearch.trainables.networks.stack import NetworkStack, NodeState, Slot
from kdsearch.trainables.networks.stacked import StackedNetwork, initial_tensors, slot_images

SLOTS, FEATURES, OUTPUTS, SAMPLES = 2, 5, 3, 24
RATE = 0.3


class Regression:
    """Linear models of two trials; the bias belongs to the weights, its input being 1."""

    def __init__(self, name: str, start: float, bounds: tuple[float, float], **changes) -> None:
        rng = np.random.default_rng(3)
        built = architecture("linear", channels=FEATURES, classes=OUTPUTS, size=(1, 1))
        states = [NodeState(initial_tensors(built, rng)) for _ in range(SLOTS)]
        slots = [Slot(number, 1) for number in range(SLOTS)]
        self.stack = NetworkStack(
            built, slots, states, trained=True, device=torch.device("cpu"), dtype=torch.float64
        )
        self.inputs, self.held_out = _orthonormal(rng), _orthonormal(rng)  # [K, n, F + 1]
        self.targets, self.other, self.judged = torch.from_numpy(
            rng.standard_normal((3, SLOTS, SAMPLES, OUTPUTS))
        )
        chosen = OptimiserSettings(start={name: start}, bounds={name: bounds}, **changes)
        path_state = PathState.start(chosen, [name])
        self.path = MetaPath(chosen, [name], [path_state] * SLOTS, device="cpu", dtype=torch.float64)
        self.rates = self.stack.spread([RATE] * SLOTS)

    def images(self, inputs: torch.Tensor) -> torch.Tensor:
        return slot_images(inputs[:, :, :-1, None, None], torch.arange(SLOTS))

    def solve(self, iterations: int, gradient, function, method: Hypergradient) -> torch.Tensor:
        """Alternate steps on the weights and on the metaparameter; gradient(images, value [K]) -> flat."""
        images = self.images(self.inputs)
        for _ in range(iterations):
            value = self.path.values[:, 0]
            before = self.stack.parameters.clone()
            step = gradient(images, value)
            self.stack.step(step, learning_rates=self.rates, momentum=0.0, weight_decay=0.0)
            found = None
            if any(self.path.wants()):
                logits = self.stack.network(training=True).logits(self.images(self.held_out))
                along = self.stack.gradient(logits, (logits.detach() - self.judged) / SAMPLES)
                found = -RATE * directional_derivative(self.stack, before, along, function, method=method)
            self.path.advance(found)
        return self.path.values[:, 0]


def _orthonormal(rng: np.random.Generator) -> torch.Tensor:
    """Return inputs [K, n, F + 1] with X^T X / n = I, whose last column is 1."""
    drawn = rng.standard_normal((SLOTS, SAMPLES, FEATURES + 1))
    drawn[:, :, 0] = 1.0
    columns = np.linalg.qr(drawn)[0] * np.sqrt(SAMPLES)
    columns *= np.sign(columns[:, :1, :1])
    return torch.from_numpy(np.roll(columns, -1, 2))


def moments(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return inputs.transpose(1, 2) @ targets / SAMPLES


def inner(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one * other).sum((1, 2))


@pytest.mark.parametrize("method", list(Hypergradient))
@pytest.mark.parametrize(("e2", "fit"), [(0, Fit.VALUE), (5, Fit.VALUE), (5, Fit.INCREMENT)])
def test_the_weight_of_a_ridge_regression_reaches_its_optimum(method, e2, fit):
    problem = Regression("weight", 0.2, (0.0, 20.0), rate=2.0, e1=5, e2=e2, fit=fit)
    stack = problem.stack
    # L_train = |X w - Y|^2 / 2n + weight |w|^2 / 2 has w = s / (1 + weight). Validation is orthonormal too, and
    # |w - u|^2 is least where 1 / (1 + weight) = s.u / s.s.
    s = moments(problem.inputs, problem.targets)
    problem.judged = problem.held_out @ (s / torch.tensor([1.5, 2.0])[:, None, None]) + 0.1 * problem.judged
    u = moments(problem.held_out, problem.judged)
    optimum = inner(s, s) / inner(s, u) - 1

    def gradient(images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        logits = stack.network(training=True).logits(images)
        step = stack.gradient(logits, (logits.detach() - problem.targets) / SAMPLES)
        return step.addcmul_(stack.parameters, stack.spread(weight))

    def by_weight(network: StackedNetwork) -> torch.Tensor:
        squares = [tensor.square().reshape(SLOTS, -1).sum(1) for tensor in network.tensors.values()]
        return torch.stack(squares).sum(0)[:, None] / 2

    assert (optimum > 0.2).all()
    found = problem.solve(1000, gradient, by_weight, method)
    torch.testing.assert_close(found, optimum, rtol=1e-6, atol=0)
    expected = s / (1 + optimum[:, None, None])
    weights = stack.views(stack.parameters)
    torch.testing.assert_close(
        weights["head.weight"].view(SLOTS, OUTPUTS, FEATURES),
        expected[:, :-1].transpose(1, 2),
        rtol=0,
        atol=1e-6,
    )
    torch.testing.assert_close(weights["head.bias"].view(SLOTS, OUTPUTS), expected[:, -1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", list(Hypergradient))
@pytest.mark.parametrize("e2", [0, 5])
def test_the_weight_between_label_and_teacher_reaches_its_optimum(method, e2):
    problem = Regression("lambda_1", 0.5, (0.0, 1.0), rate=0.3, e1=5, e2=e2)
    stack, labels, teacher = problem.stack, problem.targets, problem.other
    # lambda |X w - Y|^2 / 2n + (1 - lambda) |X w - F|^2 / 2n is least at w = lambda y + (1 - lambda) f, in moments;
    # |w - u|^2 then at lambda = (u - f).(y - f) / |y - f|^2.
    y, f = moments(problem.inputs, labels), moments(problem.inputs, teacher)
    share = torch.tensor([0.25, 0.8])[:, None, None]
    problem.judged = problem.held_out @ (share * y + (1 - share) * f) + 0.1 * problem.judged
    u = moments(problem.held_out, problem.judged)
    optimum = inner(u - f, y - f) / inner(y - f, y - f)

    def gradient(images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        logits = stack.network(training=True).logits(images)
        answers = teacher + weight[:, None, None] * (labels - teacher)
        return stack.gradient(logits, (logits.detach() - answers) / SAMPLES)

    def by_weight(network: StackedNetwork) -> torch.Tensor:
        logits = network.logits(problem.images(problem.inputs))
        difference = (logits - labels).square() - (logits - teacher).square()
        return difference.sum((1, 2))[:, None] / (2 * SAMPLES)

    assert ((optimum > 0) & (optimum < 1)).all()
    found = problem.solve(400, gradient, by_weight, method)
    torch.testing.assert_close(found, optimum, rtol=1e-6, atol=0)


def test_the_inputs_are_orthonormal():
    inputs = _orthonormal(np.random.default_rng(0))
    torch.testing.assert_close(
        moments(inputs, inputs), torch.eye(FEATURES + 1, dtype=torch.float64).expand(SLOTS, -1, -1)
    )
    torch.testing.assert_close(inputs[:, :, -1], torch.ones(SLOTS, SAMPLES, dtype=torch.float64))
