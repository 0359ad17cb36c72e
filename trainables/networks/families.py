"""How each family of networks computes its logits, written once for every kind of layers.

`Layers` is the vocabulary: plain layers compute values, tangent layers how they change along a direction. N networks
run as one; slot n owns channels n * C to (n + 1) * C of every activation [B, N * C, H, W].
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from torch import Tensor

from kdsearch.trainables.networks.architectures import (
    Architecture,
    Block,
    ConvolutionalArchitecture,
    LinearArchitecture,
    ResidualArchitecture,
    Style,
)

T = TypeVar("T")


class Layers(Protocol[T]):
    """Layers of N networks whose tensors are known by name. What goes into an in-place layer is lost."""

    def enter(self, images: Tensor) -> T:
        """Begin with the images [B, N * C, H, W], or [B, C, H, W] that all slots see."""

    def convolve(self, name: str, hidden: T, stride: int = 1, *, padded: bool = True) -> T:
        """Convolve slot by slot; a padded convolution of stride 1 keeps rows and columns."""

    def norm(self, name: str, hidden: T) -> T:
        """Batch norm."""

    def relu(self, hidden: T) -> T:
        """ReLU, in place."""

    def add(self, inner: T, hidden: T) -> T:
        """Add `hidden` to `inner`, in place."""

    def add_sampled(self, inner: T, hidden: T, stride: int) -> T:
        """Add every `stride`-th pixel of `hidden` to the first channels of each slot of `inner`, in place."""

    def norm_pool_relu(self, name: str, hidden: T) -> T:
        """Batch norm, the maximum of every 2 x 2 pixels, ReLU."""

    def pixel_mean(self, hidden: T) -> T:
        """Mean over rows and columns: [N, B, C]."""

    def flatten(self, hidden: T, channels: int) -> T:
        """All values of a slot's image of so many channels, channel by channel: [N, B, C * H * W]."""

    def linear(self, name: str, features: T) -> T:
        """Linear map of [N, B, inputs] to [N, B, outputs]."""


def logits(layers: Layers[T], architecture: Architecture, images: Tensor) -> T:
    """Return [N, B, classes]; ReLU's derivative at 0 is 0, and a maximum's is the first of the greatest values'."""
    hidden = layers.enter(images)
    match architecture:
        case ResidualArchitecture(style=Style.WIDE):
            return _wide(layers, architecture, hidden)
        case ResidualArchitecture():
            return _residual(layers, architecture, hidden)
        case ConvolutionalArchitecture():
            return _convolutional(layers, architecture, hidden)
        case LinearArchitecture():
            return layers.linear("head", layers.flatten(hidden, architecture.channels))
    raise TypeError(f"there is no forward pass for {type(architecture).__name__}")


def _residual(layers: Layers[T], architecture: ResidualArchitecture, hidden: T) -> T:
    hidden = layers.convolve("stem.conv", hidden, architecture.stem_stride)
    hidden = layers.relu(layers.norm("stem.norm", hidden))
    for block in architecture.blocks:
        inner = layers.convolve(f"{block.name}.conv1", hidden, block.stride)
        inner = layers.relu(layers.norm(f"{block.name}.norm1", inner))
        inner = layers.norm(f"{block.name}.norm2", layers.convolve(f"{block.name}.conv2", inner))
        hidden = layers.relu(_add_shortcut(layers, architecture.style, block, inner, hidden))
    return layers.linear("head", layers.pixel_mean(hidden))


def _add_shortcut(layers: Layers[T], style: Style, block: Block, inner: T, hidden: T) -> T:
    if not block.changes_shape:
        return layers.add(inner, hidden)
    if style is Style.RESNET:
        return layers.add_sampled(inner, hidden, block.stride)
    name = f"{block.name}.shortcut"
    return layers.add(inner, layers.norm(f"{name}.norm", layers.convolve(name, hidden, block.stride)))


def _wide(layers: Layers[T], architecture: ResidualArchitecture, hidden: T) -> T:
    hidden = layers.convolve("stem.conv", hidden, architecture.stem_stride)
    for block in architecture.blocks:
        active = layers.relu(layers.norm(f"{block.name}.norm1", hidden))
        inner = layers.convolve(f"{block.name}.conv1", active, block.stride)
        inner = layers.relu(layers.norm(f"{block.name}.norm2", inner))
        inner = layers.convolve(f"{block.name}.conv2", inner)
        if block.inputs != block.outputs:
            hidden = layers.convolve(f"{block.name}.shortcut", active, block.stride)
        hidden = layers.add(inner, hidden)
    hidden = layers.relu(layers.norm("head.norm", hidden))
    return layers.linear("head", layers.pixel_mean(hidden))


def _convolutional(layers: Layers[T], architecture: ConvolutionalArchitecture, hidden: T) -> T:
    for layer in architecture.layers:
        stride = architecture.stride(layer)
        hidden = layers.convolve(f"{layer}.conv", hidden, stride, padded=architecture.padded)
        hidden = layers.norm_pool_relu(f"{layer}.norm", hidden)
    features = layers.relu(layers.linear("hidden", layers.flatten(hidden, architecture.widths[-1])))
    return layers.linear("head", features)
