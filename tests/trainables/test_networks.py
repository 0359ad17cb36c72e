"""New families against plain torch.nn references: values, running statistics, gradients; slots apart; memory order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from kdsearch.trainables.networks.architectures import Architecture, Role, architecture
from kdsearch.trainables.networks.families import logits
from kdsearch.trainables.networks.layers import PlainLayers, channels_last
from kdsearch.trainables.networks.stacked import StackedNetwork, initial_tensors, slot_images

CLASSES = 4


class PlainBlock(nn.Module):
    """He's basic block with option B shortcuts."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut.norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(y + (x if self.shortcut is None else self.shortcut.norm(self.shortcut(x))))


class PlainResnet18(nn.Module):
    def __init__(self, width: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stem = nn.Module()
        self.stem.conv = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.stem.norm = nn.BatchNorm2d(width)
        inputs = width
        for stage in (1, 2, 3, 4):
            outputs = width * 2 ** (stage - 1)
            module = nn.Module()
            module.block1 = PlainBlock(inputs, outputs, 1 if stage == 1 else 2)
            module.block2 = PlainBlock(outputs, outputs, 1)
            self.add_module(f"stage{stage}", module)
            inputs = outputs
        self.head = nn.Linear(8 * width, CLASSES)

    def forward(self, x):
        x = torch.relu(self.stem.norm(self.stem.conv(x)))
        for stage in (self.stage1, self.stage2, self.stage3, self.stage4):
            x = stage.block2(stage.block1(x))
        return self.head(x.mean((2, 3)))


class PlainCnn(nn.Module):
    """Convolution, norm, ReLU, pooling, in the order in which the paper names them."""

    def __init__(self, widths: list[int], features: int, channels: int, padding: int, stride: int) -> None:
        super().__init__()
        self.layers = []
        for index, width in enumerate(widths):
            layer = nn.Module()
            layer.conv = nn.Conv2d(channels, width, 3, stride if index == 0 else 1, padding, bias=False)
            layer.norm = nn.BatchNorm2d(width)
            self.add_module(f"layer{index + 1}", layer)
            self.layers.append(layer)
            channels = width
        self.hidden = nn.Linear(features, 64)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x):
        for layer in self.layers:
            x = nn.functional.max_pool2d(torch.relu(layer.norm(layer.conv(x))), 2)
        return self.head(torch.relu(self.hidden(x.flatten(1))))


class PlainLinear(nn.Module):
    def __init__(self, values: int) -> None:
        super().__init__()
        self.head = nn.Linear(values, CLASSES)

    def forward(self, x):
        return self.head(x.flatten(1))


# name, channels, rows and columns, stride of the first convolution, the plain network
CASES = [
    ("resnet18w3", 3, (9, 7), 1, lambda: PlainResnet18(3, 3, 1)),
    ("resnet18w4", 1, (12, 12), 2, lambda: PlainResnet18(4, 1, 2)),
    ("cnn3-4-5", 3, (23, 25), 1, lambda: PlainCnn([3, 4, 5], 5, 3, 0, 1)),
    ("cnn4-8-16p", 1, (8, 8), 1, lambda: PlainCnn([4, 8, 16], 16, 1, 1, 1)),
    ("cnn5-6", 2, (21, 22), 2, lambda: PlainCnn([5, 6], 6, 2, 0, 2)),
    ("linear", 3, (4, 5), 1, lambda: PlainLinear(60)),
    ("linear", 3, (1, 1), 1, lambda: PlainLinear(3)),
]
each_case = pytest.mark.parametrize(("model", "channels", "size", "stride", "plain"), CASES)


def build(model: str, channels: int, size: tuple[int, int], stride: int = 1) -> Architecture:
    return architecture(model, channels=channels, classes=CLASSES, stem_stride=stride, size=size)


def disturbed(built: Architecture, seed: int) -> dict[str, torch.Tensor]:
    """First weights, and norms that are no identity."""
    rng = np.random.default_rng(seed)
    tensors = initial_tensors(built, rng)
    return {
        name: tensor.double() + torch.from_numpy(rng.uniform(0.0, 0.3, tensor.shape)) * ("norm" in name)
        for name, tensor in tensors.items()
    }


def stacked(built: Architecture, singles: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    parameters = {spec.name for spec in built.tensors if spec.role is Role.PARAMETER}
    return {
        name: torch.cat([single[name] for single in singles]).requires_grad_(name in parameters)
        for name in singles[0]
    }


@each_case
@pytest.mark.parametrize("training", [True, False])
def test_values_statistics_and_gradients_equal_the_plain_network(
    model, channels, size, stride, plain, training
):
    built = build(model, channels, size, stride)
    singles = [disturbed(built, seed) for seed in range(3)]
    tensors = stacked(built, singles)
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(3, 5, channels, *size, generator=rng, dtype=torch.float64)
    at_logits = torch.rand(3, 5, CLASSES, generator=rng, dtype=torch.float64)
    network = StackedNetwork(built, tensors, 3, training)
    found = network.logits(slot_images(images, torch.arange(3)))
    found.backward(at_logits)
    for slot, single in enumerate(singles):
        reference = plain().double().train(training)
        missing, unexpected = reference.load_state_dict(single, strict=False)
        assert not unexpected
        assert all(name.endswith("num_batches_tracked") for name in missing)
        expected = reference(images[slot])
        expected.backward(at_logits[slot])
        torch.testing.assert_close(found[slot], expected, rtol=1e-10, atol=1e-10)
        for name, parameter in reference.named_parameters():
            gradient = tensors[name].grad.unflatten(0, (3, -1))[slot]
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-8, atol=1e-9)
        for name, buffer in reference.named_buffers():
            if name in tensors:
                kept = tensors[name].unflatten(0, (3, -1))[slot]
                torch.testing.assert_close(kept, buffer, rtol=1e-10, atol=1e-12)


@each_case
def test_images_that_all_slots_share_give_what_their_copies_give(model, channels, size, stride, plain):
    del plain
    built = build(model, channels, size, stride)
    tensors = stacked(built, [disturbed(built, seed) for seed in range(3)])
    images = torch.rand(4, channels, *size, dtype=torch.float64)
    network = StackedNetwork(built, tensors, 3, training=False)
    copies = network.logits(images.repeat(1, 3, 1, 1))
    torch.testing.assert_close(network.logits(images), copies, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("model", ["resnet18w3", "cnn4-6p", "resnet8w4", "wrn10-1"])
def test_a_pass_that_does_not_track_leaves_the_statistics_alone_and_gives_the_same_bits(model):
    built = build(model, 1, (8, 8))
    images = torch.rand(6, 2, 8, 8)
    found = {}
    for track in (True, False):
        tensors = stacked(built, [initial_tensors(built, np.random.default_rng(seed)) for seed in (0, 1)])
        before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        found[track] = StackedNetwork(built, tensors, 2, training=True, track=track).logits(images)
        for spec in built.tensors:
            moved = not torch.equal(tensors[spec.name], before[spec.name])
            assert moved == (track and spec.role is Role.STATISTIC), spec.name
    assert torch.equal(found[True], found[False])


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize(
    ("model", "channels"), [("cnn4-8p", 1), ("cnn3-5p", 3), ("resnet18w3", 1), ("linear", 2)]
)
def test_a_slot_of_nan_leaves_every_bit_of_the_others_alone(model, channels, precision):
    built = build(model, channels, (8, 8))
    dtype = torch.float64 if precision == "float64" else torch.float32
    images = torch.rand(6, 3 * channels, 8, 8, dtype=dtype)
    results = []
    for broken in (False, True):
        singles = [
            {name: tensor.to(dtype) for name, tensor in disturbed(built, seed).items()} for seed in range(3)
        ]
        if broken:
            singles[1] = {name: torch.full_like(tensor, torch.nan) for name, tensor in singles[1].items()}
        tensors = stacked(built, singles)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            found = StackedNetwork(built, tensors, 3, training=True).logits(images)
        found.sum().backward()
        gradients = [tensor.grad for tensor in tensors.values() if tensor.requires_grad]
        results.append(
            [found, *(torch.unflatten(each, 0, (3, -1)) for each in [*gradients, *tensors.values()])]
        )
    assert results[1][0][1].isnan().all()
    for clean, other in zip(*results, strict=True):
        for slot in (0, 2):
            assert torch.equal(clean[slot], other[slot])


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_activations_and_their_gradients_are_channels_last_however_the_images_come(slots, channels):
    built = build("cnn4-6p", channels, (8, 8))
    tensors = stacked(built, [disturbed(built, seed) for seed in range(slots)])
    seen = []

    class Watched(PlainLayers):
        def convolve(self, name, hidden, stride=1, *, padded=True):
            out = super().convolve(name, hidden, stride, padded=padded)
            seen.append(out.stride(1))
            out.register_hook(lambda gradient: seen.append(gradient.stride(1)))
            return out

    images = torch.rand(5, slots * channels, 8, 8, dtype=torch.float64)  # rows of a channel lie together
    watched = Watched(tensors, slots, training=True, track=True)
    logits(watched, built, channels_last(images)).sum().backward()
    assert seen == [1] * 4
    assert torch.equal(channels_last(images), images)
    assert channels_last(images).stride() == (
        64 * slots * channels,
        1,
        8 * slots * channels,
        slots * channels,
    )


def test_first_weights_of_the_paper_s_student_are_pytorch_s_defaults():
    built = architecture("cnn8-16-32", channels=3, classes=10, size=(32, 32))
    tensors = initial_tensors(built, np.random.default_rng(0))
    # uniform in +-1 / sqrt(inputs of one output), biases too: 9 * 16 pixels, 128 features, 64 hidden values
    inputs = {"layer3.conv.weight": 144, "hidden.weight": 128, "hidden.bias": 128, "head.weight": 64}
    for name, count in inputs.items():
        bound = count**-0.5
        assert 0.95 * bound < tensors[name].abs().max().item() <= bound
        assert tensors[name].std().item() == pytest.approx(bound / 3**0.5, rel=0.2)
    assert tensors["head.bias"].abs().max().item() <= 1 / 8
    # He's normal distribution, variance 2 / (9 * outputs), in a ResNet-18
    teacher = initial_tensors(architecture("resnet18w16", channels=3, classes=10), np.random.default_rng(0))
    kernel = teacher["stage4.block2.conv2.weight"]
    assert kernel.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
