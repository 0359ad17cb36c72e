"""The hypergradient against double backward through the step, its order, and what one slot does to another."""

import importlib.util
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from kdsearch.trainables.kd.losses import by_metaparameters, kd_loss, validation_loss
from kdsearch.trainables.kd.settings import Distillation
from kdsearch.trainables.metaparameters import hypergradient
from kdsearch.trainables.metaparameters.hypergradient import constant_beside, directional_derivative
from kdsearch.trainables.metaparameters.settings import Hypergradient
from kdsearch.trainables.networks.architectures import Role, architecture
from kdsearch.trainables.networks.stack import NetworkStack, NodeState, Slot
from kdsearch.trainables.networks.stacked import StackedNetwork, initial_tensors, slot_images

_SPEC = importlib.util.spec_from_file_location("ktg_plain", Path(__file__).with_name("ktg_plain.py"))
plain = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(plain)

CLASSES, CHANNELS, BATCH, SIZE = 4, 2, 9, 8
SLOTS = 3
RATES, MOMENTUM, DECAY = (0.3, 0.1, 0.02), 0.9, 5e-4
VALUES = torch.tensor([[0.3, 1.7], [0.8, 0.6], [0.5, 4.0]], dtype=torch.float64)
TEMPERATURE = 0.7  # of the validation loss
MODELS = ("resnet8w4", "wrn10-1", "cnn4-6p", "linear")
KD = {"distillation": Distillation.SOFT, "squared": True}


class Problem:
    """Slots with weights, momentum and batch norms that have seen something, and batches for each.

    lift: added to what batch norm adds. If it is large, no ReLU ever cuts anything and the network is smooth: where
    a ReLU changes its side between two points, the difference quotient is no better than of order 1.
    """

    def __init__(
        self, model: str, *, slots: int = SLOTS, seed: int = 0, dtype=torch.float64, lift: float = 0.0
    ) -> None:
        rng = np.random.default_rng(seed)
        self.rng, self.dtype, self.lift = rng, dtype, lift
        self.architecture = architecture(model, channels=CHANNELS, classes=CLASSES, size=(SIZE, SIZE))
        self.states = [self._state() for _ in range(slots)]
        self.images, self.held_out = self._normal(2, slots, BATCH, CHANNELS, SIZE, SIZE)
        self.labels, self.answers = torch.from_numpy(rng.integers(0, CLASSES, (2, slots, BATCH)))
        self.teacher = 3 * self._normal(slots, BATCH, CLASSES)
        self.values, self.rates = VALUES[:slots].to(dtype), RATES[:slots]
        self.stack = self.stacked(range(slots))

    def stacked(self, indices) -> NetworkStack:
        slots = [Slot(index, 1) for index in indices]
        states = [self.states[index] for index in indices]
        return NetworkStack(
            self.architecture, slots, states, trained=True, device=torch.device("cpu"), dtype=self.dtype
        )

    def function(self, rows=slice(None)):
        """Return b(w) of these slots: the derivatives of their training losses by lambda_1 and T."""
        images = slot_images(self.images[rows], torch.arange(len(self.images[rows])))

        def b(network) -> torch.Tensor:
            logits = network.logits(images)
            return by_metaparameters(logits, self.teacher[rows], self.labels[rows], self.values[rows], **KD)

        return b

    def step(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Take a training step; returns the weights before it and the validation gradient after it."""
        stack, owners = self.stack, torch.arange(len(self.states))
        logits = stack.network(training=True).logits(slot_images(self.images, owners))
        found = kd_loss(logits.detach(), self.teacher, self.labels, self.values, **KD)
        gradient = stack.gradient(logits, found.gradients)
        before = stack.parameters.clone()
        rates = stack.spread(self.rates)
        stack.step(gradient, learning_rates=rates, momentum=MOMENTUM, weight_decay=DECAY)
        judged = stack.network_at(stack.parameters).logits(slot_images(self.held_out, owners))
        assert not judged.requires_grad
        network = stack.network(training=True, track=False)
        logits = network.logits(slot_images(self.held_out, owners))
        torch.testing.assert_close(logits.detach(), judged)
        found = validation_loss(
            logits.detach(), self.answers, temperature=TEMPERATURE, distillation=Distillation.SOFT
        )
        return before, stack.gradient(logits, found.gradients).clone()

    def hypergradient(self, method: Hypergradient, **options) -> torch.Tensor:
        before, along = self.step()
        found = directional_derivative(self.stack, before, along, self.function(), method=method, **options)
        return -torch.tensor(self.rates, dtype=self.dtype)[:, None] * (1 + MOMENTUM) * found

    def _state(self) -> NodeState:
        tensors = {
            name: tensor.to(self.dtype) + 0.1 * self._normal(*tensor.shape)
            for name, tensor in initial_tensors(self.architecture, self.rng).items()
        }
        tensors |= {name: tensors[name].abs() for name in tensors if name.endswith("running_var")}
        tensors |= {name: tensors[name] + self.lift for name in tensors if re.search(r"norm\d?\.bias", name)}
        parameters = [spec for spec in self.architecture.tensors if spec.role is Role.PARAMETER]
        return NodeState(tensors, {spec.name: 0.01 * self._normal(*spec.shape) for spec in parameters})

    def _normal(self, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self.rng.standard_normal(shape)).to(self.dtype)


def plain_forward(built, tensors, x):
    """Run one network in training mode by plain torch; tensors: its parameters by name."""
    if built.name == "linear":
        return functional.linear(x.flatten(1), tensors["head.weight"], tensors["head.bias"])
    if built.name.startswith("cnn"):
        layer = 1
        while f"layer{layer}.conv.weight" in tensors:
            x = functional.conv2d(x, tensors[f"layer{layer}.conv.weight"], padding=1)
            weight, bias = tensors[f"layer{layer}.norm.weight"], tensors[f"layer{layer}.norm.bias"]
            x = functional.relu(functional.batch_norm(x, None, None, weight, bias, training=True))
            x, layer = functional.max_pool2d(x, 2), layer + 1
        x = functional.relu(functional.linear(x.flatten(1), tensors["hidden.weight"], tensors["hidden.bias"]))
        return functional.linear(x, tensors["head.weight"], tensors["head.bias"])
    sizes = {"blocks": built.blocks_per_stage, "stem": built.stem_width, "widths": built.widths}
    wide = built.name.startswith("wrn")
    network = plain.Network(wide=wide, channels=CHANNELS, classes=CLASSES, stride=1, **sizes).double()
    return torch.func.functional_call(network, tensors, (x,))


def plain_loss(logits, teacher, labels, values):
    """L_train with T^2 by plain autograd."""
    weight, temperature = values
    soft = functional.softmax(teacher / temperature, 1)
    distilled = -(soft * functional.log_softmax(logits / temperature, 1)).sum(1).mean()
    return weight * functional.cross_entropy(logits, labels) + (1 - weight) * temperature**2 * distilled


def double_backward(problem: Problem, slot: int) -> torch.Tensor:
    """Differentiate the validation loss after one Nesterov step through that step."""
    state, built = problem.states[slot], problem.architecture
    weights = {name: state.tensors[name].clone().requires_grad_() for name in state.momentum}
    values = problem.values[slot].clone().requires_grad_()
    logits = plain_forward(built, weights, problem.images[slot])
    loss = plain_loss(logits, problem.teacher[slot], problem.labels[slot], values)
    gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    moved = {}
    for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
        direction = gradient + DECAY * weight
        velocity = MOMENTUM * state.momentum[name] + direction
        moved[name] = weight - problem.rates[slot] * (direction + MOMENTUM * velocity)
    judged = plain_forward(built, moved, problem.held_out[slot])
    validation = functional.cross_entropy(judged / TEMPERATURE, problem.answers[slot])
    return torch.autograd.grad(validation, values)[0]


@pytest.mark.parametrize("model", MODELS)
def test_both_equal_double_backward_through_the_step(model):
    expected = torch.stack([double_backward(Problem(model), slot) for slot in range(SLOTS)])
    exact = Problem(model).hypergradient(Hypergradient.EXACT)
    torch.testing.assert_close(exact, expected, rtol=1e-9, atol=1e-12)
    approximate = Problem(model).hypergradient(Hypergradient.FINITE_DIFFERENCE, epsilon=1e-5)
    torch.testing.assert_close(approximate, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("model", MODELS)
def test_the_papers_step_is_near_enough_in_single_precision(model):
    expected = Problem(model).hypergradient(Hypergradient.EXACT)
    for method, error in ((Hypergradient.EXACT, 1e-3), (Hypergradient.FINITE_DIFFERENCE, 0.05)):
        found = Problem(model, dtype=torch.float32).hypergradient(method)
        assert torch.linalg.vector_norm(found - expected) < error * torch.linalg.vector_norm(expected)


@pytest.mark.parametrize(("model", "epsilon"), [("linear", 0.05), ("resnet8w4", 2e-3), ("wrn10-1", 2e-3)])
def test_finite_differences_converge_with_order_two(model, epsilon):
    exact = Problem(model, lift=8.0).hypergradient(Hypergradient.EXACT)
    errors = []
    for halvings in range(4):
        options = {"epsilon": epsilon / 2**halvings}
        found = Problem(model, lift=8.0).hypergradient(Hypergradient.FINITE_DIFFERENCE, **options)
        errors.append((found - exact).abs())
    for larger, smaller in pairwise(errors):
        torch.testing.assert_close((larger / smaller).log2(), torch.full_like(larger, 2.0), rtol=0, atol=0.02)


@pytest.mark.parametrize("model", MODELS)
def test_a_recorded_pass_gives_the_same_without_a_forward_pass(model, monkeypatch):
    problem, other = Problem(model), Problem(model)
    images = slot_images(problem.images, torch.arange(SLOTS))
    recorded = problem.stack.record(images)
    before, along = other.step()
    expected = directional_derivative(
        other.stack, before, along, other.function(), method=Hypergradient.EXACT
    )
    # the same step, from the recorded logits
    found = kd_loss(recorded.logits.detach(), problem.teacher, problem.labels, problem.values, **KD)
    gradient = problem.stack.gradient(recorded.logits, found.gradients)
    rates = problem.stack.spread(problem.rates)
    problem.stack.step(gradient, learning_rates=rates, momentum=MOMENTUM, weight_decay=DECAY)
    torch.testing.assert_close(problem.stack.parameters, other.stack.parameters)

    def function(network) -> torch.Tensor:
        logits = network.logits(images)
        return by_metaparameters(logits, problem.teacher, problem.labels, problem.values, **KD)

    monkeypatch.setattr(StackedNetwork, "record", None)  # nothing is recorded anew
    options = {"method": Hypergradient.EXACT, "recorded": recorded}
    exact = directional_derivative(problem.stack, before, along, function, **options)
    torch.testing.assert_close(exact, expected, rtol=1e-9, atol=1e-12)
    monkeypatch.undo()
    # other images, of which the recording knows nothing
    exact = directional_derivative(problem.stack, before, along, problem.function(), **options)
    torch.testing.assert_close(exact, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", list(Hypergradient))
def test_constants_beside_the_outputs_change_nothing(method):
    problem = Problem("cnn4-6p")
    before, along = problem.step()
    expected = directional_derivative(problem.stack, before, along, problem.function(), method=method)
    images = slot_images(problem.images, torch.arange(SLOTS))

    def function(network) -> torch.Tensor:
        logits = network.logits(images)
        teacher, values = (constant_beside(logits, each) for each in (problem.teacher, problem.values))
        return by_metaparameters(logits, teacher, problem.labels, values, **KD)

    found = directional_derivative(problem.stack, before, along, function, method=method)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_finite_differences_go_through_the_network_once(monkeypatch):
    problem = Problem("cnn4-6p")
    before, along = problem.step()
    slots = []
    logits = StackedNetwork.logits
    monkeypatch.setattr(StackedNetwork, "logits", lambda self, x: slots.append(self.slots) or logits(self, x))
    options = {"method": Hypergradient.FINITE_DIFFERENCE}
    found = directional_derivative(problem.stack, before, along, problem.function(), **options)
    assert slots == [2 * SLOTS]
    slots.clear()

    def with_new_images(network) -> torch.Tensor:
        return problem.function()(network)

    apart = directional_derivative(problem.stack, before, along, with_new_images, **options)
    assert slots == [2 * SLOTS, SLOTS]
    torch.testing.assert_close(found, apart, rtol=1e-8, atol=1e-11)
    slots.clear()
    monkeypatch.setattr(hypergradient, "JOINT_PIXELS", SLOTS * BATCH * SIZE**2 - 1)
    apart = directional_derivative(problem.stack, before, along, problem.function(), **options)
    assert slots == [SLOTS, SLOTS]
    torch.testing.assert_close(found, apart, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("method", list(Hypergradient))
def test_all_slots_may_share_their_images(method):
    problem = Problem("cnn4-6p")
    problem.images = problem.images[:1].expand(SLOTS, -1, -1, -1, -1)
    before, along = problem.step()
    expected = directional_derivative(problem.stack, before, along, problem.function(), method=method)

    def function(network) -> torch.Tensor:
        logits = network.logits(problem.images[0])
        return by_metaparameters(logits, problem.teacher, problem.labels, problem.values, **KD)

    found = directional_derivative(problem.stack, before, along, function, method=method)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("method", list(Hypergradient))
@pytest.mark.parametrize("model", MODELS)
def test_slots_together_equal_slots_apart(model, method):
    problem = Problem(model)
    before, along = problem.step()
    together = directional_derivative(problem.stack, before, along, problem.function(), method=method)
    for slot in range(SLOTS):
        single, rows = problem.stacked([slot]), slice(slot, slot + 1)
        parts = [cut(problem.stack, flat, slot) for flat in (before, along)]
        alone = directional_derivative(single, *parts, problem.function(rows), method=method)
        torch.testing.assert_close(together[rows], alone, rtol=1e-8, atol=1e-11)


def cut(stack: NetworkStack, flat: torch.Tensor, slot: int) -> torch.Tensor:
    views = stack.views(flat).values()
    return torch.cat([view.chunk(len(stack.slots))[slot].reshape(-1) for view in views])


@pytest.mark.parametrize("method", list(Hypergradient))
@pytest.mark.parametrize("model", MODELS)
def test_a_slot_that_is_not_finite_stays_alone(model, method):
    problem = Problem(model)
    before, along = problem.step()
    sound = directional_derivative(problem.stack, before, along, problem.function(), method=method)
    for broken in ("weights", "direction"):
        flat = {"weights": before.clone(), "direction": along.clone()}
        problem.stack.views(flat[broken])["head.weight"].chunk(SLOTS)[1][0] = torch.nan
        found = directional_derivative(problem.stack, *flat.values(), problem.function(), method=method)
        assert torch.equal(found[[0, 2]], sound[[0, 2]])
        assert found[1].isnan().all()


@pytest.mark.parametrize("method", list(Hypergradient))
def test_where_nothing_moves_the_derivative_is_zero(method):
    problem = Problem("resnet8w4")
    before, along = problem.step()
    sound = directional_derivative(problem.stack, before, along, problem.function(), method=method)
    along *= problem.stack.spread([1.0, 0.0, 1.0])
    found = directional_derivative(problem.stack, before, along, problem.function(), method=method)
    assert torch.equal(found[1], torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(found[[0, 2]], sound[[0, 2]])
    constant = torch.ones(SLOTS, 2)
    nothing = directional_derivative(problem.stack, before, along, lambda _: constant, method=method)
    assert torch.equal(nothing, torch.zeros(SLOTS, 2))


@pytest.mark.parametrize("method", list(Hypergradient))
def test_the_stack_stays_as_it_is(method):
    problem = Problem("resnet8w4")
    before, along = problem.step()
    slots = problem.stack.slots
    old = [problem.stack.state(slot) for slot in slots]
    copies = before.clone(), along.clone()
    found = directional_derivative(problem.stack, before, along, problem.function(), method=method)
    assert not found.requires_grad
    assert torch.equal(before, copies[0])
    assert torch.equal(along, copies[1])
    for slot, state in zip(slots, old, strict=True):
        new = problem.stack.state(slot)
        assert all(torch.equal(new.tensors[name], state.tensors[name]) for name in state.tensors)
        assert all(torch.equal(new.momentum[name], state.momentum[name]) for name in state.momentum)
