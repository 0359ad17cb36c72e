"""Forward-mode derivatives of the logits: against double backward in float64, slot by slot, and from a recording."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad

from kdsearch.trainables.networks.architectures import Architecture, Role, architecture
from kdsearch.trainables.networks.stacked import StackedNetwork, initial_tensors

# torch's own forward mode compiles its rules by a tool that it has deprecated, when it is first used.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

CLASSES = 4
BATCH = 6
MODELS = [  # name, channels, rows and columns, stride of the first convolution
    ("resnet8w5", 3, (9, 7), 1),
    ("resnet14w4", 1, (8, 8), 2),
    ("wrn10-1", 3, (9, 7), 1),
    ("resnet18w3", 1, (9, 9), 1),
    ("cnn4-8-16p", 1, (8, 8), 1),
    ("cnn3-5", 3, (13, 15), 1),
    ("linear", 2, (3, 4), 1),
]
each_model = pytest.mark.parametrize(("model", "channels", "size", "stride"), MODELS)


def build(model: str, channels: int, size: tuple[int, int], stride: int = 1) -> Architecture:
    return architecture(model, channels=channels, classes=CLASSES, stem_stride=stride, size=size)


def parameters(built: Architecture) -> list[str]:
    return [spec.name for spec in built.tensors if spec.role is Role.PARAMETER]


def draw(built: Architecture, slots: int, dtype: torch.dtype = torch.float64):
    """Weights of N slots with norms that are no identity, and a direction."""
    rng = np.random.default_rng(7)
    singles = [initial_tensors(built, rng) for _ in range(slots)]
    tensors = {name: torch.cat([single[name] for single in singles]).to(dtype) for name in singles[0]}
    for name, tensor in tensors.items():
        if "norm" in name:
            tensor.add_(torch.from_numpy(rng.uniform(0.0, 0.3, tensor.shape)).to(dtype))
    direction = {
        name: torch.from_numpy(rng.standard_normal(tensors[name].shape)).to(dtype)
        for name in parameters(built)
    }
    return tensors, direction


def draw_images(slots: int, channels: int, size: tuple[int, int]) -> torch.Tensor:
    """Images with a wide empty border as scanned digits have it: there, many pixels are equal before a maximum."""
    images = torch.rand(BATCH, slots * channels, *size, generator=torch.Generator().manual_seed(1)).double()
    images[:, :, :3] = 0.0
    return images


def by_double_backward(network: StackedNetwork, images, direction):
    """The derivative along the direction of the logits, as a derivative of w . grad(logits . w') in w'."""
    leaves = {name: tensor.clone() for name, tensor in network.tensors.items()}
    for name in direction:
        leaves[name].requires_grad_()
    reference = StackedNetwork(network.architecture, leaves, network.slots, network.training, track=False)
    found = reference.logits(images)
    weights = torch.ones_like(found, requires_grad=True)
    wanted = [leaves[name] for name in direction]
    gradients = torch.autograd.grad((found * weights).sum(), wanted, create_graph=True)
    along = sum((each * tangent).sum() for each, tangent in zip(gradients, direction.values(), strict=True))
    return found.detach(), torch.autograd.grad(along, weights)[0]


def by_forward_mode(network: StackedNetwork, images, direction):
    with forward_ad.dual_level():
        duals = {
            name: forward_ad.make_dual(tensor, direction[name]) if name in direction else tensor
            for name, tensor in network.tensors.items()
        }
        dual = StackedNetwork(network.architecture, duals, network.slots, network.training, track=False)
        return tuple(forward_ad.unpack_dual(dual.logits(images)))


@each_model
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("slots", [1, 3])
def test_tangents_equal_double_backward(model, channels, size, stride, training, slots):
    built = build(model, channels, size, stride)
    tensors, direction = draw(built, slots)
    network = StackedNetwork(built, tensors, slots, training, track=False)
    images = draw_images(slots, channels, size)
    expected, expected_tangent = by_double_backward(network, images, direction)
    found, tangent = by_forward_mode(network, images, direction)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tangent, expected_tangent, rtol=1e-9, atol=1e-9)
    assert tangent.abs().max() > 0.01


@each_model
def test_torch_func_gives_the_same(model, channels, size, stride):
    built = build(model, channels, size, stride)
    tensors, direction = draw(built, 2)
    images = draw_images(2, channels, size)
    network = StackedNetwork(built, tensors, 2, training=True, track=False)

    def function(weights):
        return StackedNetwork(built, {**tensors, **weights}, 2, training=True, track=False).logits(images)

    weights = {name: tensors[name] for name in direction}
    found = torch.func.jvp(function, (weights,), (direction,))
    for one, other in zip(found, by_forward_mode(network, images, direction), strict=True):
        assert torch.equal(one, other)


@each_model
def test_slots_together_equal_slots_apart_and_a_neighbour_s_nan_stays_its_own(model, channels, size, stride):
    built = build(model, channels, size, stride)
    tensors, direction = draw(built, 3, torch.float32)
    images = draw_images(3, channels, size).float()
    together = by_forward_mode(StackedNetwork(built, tensors, 3, training=True), images, direction)
    broken = {name: tensor.clone() for name, tensor in direction.items()}
    poisoned = {name: tensor.clone() for name, tensor in tensors.items()}
    for each in (*broken.values(), *poisoned.values()):
        each.unflatten(0, (3, -1))[1] = torch.nan
    beside_nan = by_forward_mode(StackedNetwork(built, poisoned, 3, training=True), images, broken)
    for slot in (0, 2):
        single, own = (
            {name: tensor.unflatten(0, (3, -1))[slot] for name, tensor in each.items()}
            for each in (tensors, direction)
        )
        own_images = images[:, slot * channels : (slot + 1) * channels]
        alone = by_forward_mode(StackedNetwork(built, single, 1, training=True), own_images, own)
        for values, others, expected in zip(together, beside_nan, alone, strict=True):
            assert torch.equal(values[slot], others[slot])
            torch.testing.assert_close(values[slot], expected[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", ["cnn4-8-16p", "resnet8w4", "linear"])
def test_a_tensor_without_a_tangent_does_not_change_and_images_may_be_shared(model):
    built = build(model, 1, (8, 8))
    tensors, direction = draw(built, 2)
    images = draw_images(1, 1, (8, 8))
    network = StackedNetwork(built, tensors, 2, training=True, track=False)
    some = {name: tensor for name, tensor in direction.items() if name.startswith("head")}
    zero = {name: torch.zeros_like(tensor) for name, tensor in direction.items()}
    _, found = by_forward_mode(network, images, some)
    _, expected = by_forward_mode(network, images.repeat(1, 2, 1, 1), zero | some)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


@each_model
def test_a_recording_gives_gradients_and_tangents_from_one_pass(model, channels, size, stride):
    built = build(model, channels, size, stride)
    tensors, direction = draw(built, 2)
    images = draw_images(2, channels, size)
    for name in direction:
        tensors[name].requires_grad_()
    wanted = [tensors[name] for name in direction]
    at_logits = torch.rand(2, BATCH, CLASSES, dtype=torch.float64)
    network = StackedNetwork(built, tensors, 2, training=True, track=False)
    recording = network.record(images)
    expected = torch.autograd.grad(network.logits(images), wanted, at_logits)
    found = torch.autograd.grad(recording.logits, wanted, at_logits)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    for scale in (1.0, -2.0):  # a recording serves any number of directions
        scaled = {name: scale * tensor for name, tensor in direction.items()}
        _, tangent = by_forward_mode(network, images, scaled)
        torch.testing.assert_close(recording.tangents(scaled), tangent, rtol=1e-11, atol=1e-11)
        assert not recording.tangents(scaled).requires_grad


def test_a_recording_moves_the_statistics_as_the_pass_does_that_it_stands_for():
    built = build("cnn4-8p", 1, (8, 8))
    images = draw_images(2, 1, (8, 8))
    one, _ = draw(built, 2)
    other = {name: tensor.clone() for name, tensor in one.items()}
    StackedNetwork(built, one, 2, training=True).logits(images)
    StackedNetwork(built, other, 2, training=True).record(images)
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("model", ["cnn4-8p", "cnn3-5p", "resnet8w4", "resnet8w3"])
def test_bfloat16_tangents_are_near_and_keep_slots_apart(model):
    built = build(model, 1, (8, 8))
    tensors, direction = draw(built, 2, torch.float32)
    images = draw_images(2, 1, (8, 8)).float()
    network = StackedNetwork(built, tensors, 2, training=True)
    _, exact = by_forward_mode(network, images, direction)
    broken = {name: tensor.clone() for name, tensor in direction.items()}
    for tensor in broken.values():
        tensor.unflatten(0, (2, -1))[1] = torch.nan
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, rounded = by_forward_mode(network, images, direction)
        _, beside_nan = by_forward_mode(network, images, broken)
    assert (rounded - exact).norm() < 0.1 * exact.norm()
    assert torch.equal(rounded[0], beside_nan[0])
