"""Network architectures as data: their names, tensors, parameter counts and initial distributions. No torch here.

Sources: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), section 4.2: the CIFAR networks of
depth 6n + 2 and widths 16-32-64, whose shortcuts carry no parameters (option A: take every second pixel, append zero
channels). Zagoruyko and Komodakis, "Wide Residual Networks" (BMVC 2016): depth 6n + 4, pre-activation blocks, 1x1
convolutions where the number of channels changes. The public code of knowledge transfer graphs uses these same two
and initialises them as `Start` says. `resnet<depth>w<width>` is He's network with widths w, 2w, 4w, for small images.

`resnet18` is the ImageNet network of He et al., table 1, as it is used for images of about 32 x 32 pixels: a 3x3 stem,
no pooling behind it. `cnn<channels>-...` is the student of "Metaparameter optimization in knowledge distillation",
whose logistic models are `linear`.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final, TypedDict

from kdsearch.spaces.errors import UnknownNameError, UsageError

KNOWN_MODELS: Final = (
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "resnet18",
    "wrn28-2",
    "resnet<6n+2>w<width>",
    "resnet18w<width>",
    "wrn<6n+4>-<widening>",
    "cnn<channels>-<channels>-...",
    "cnn<channels>-<channels>-...p",
    "linear",
)
Size = tuple[int, int]  # rows, columns of an image

_RESNET = re.compile(r"resnet([1-9][0-9]{0,3})(?:w([1-9][0-9]{0,3}))?")
_WIDE = re.compile(r"wrn([1-9][0-9]{0,3})-([1-9][0-9]{0,2})")
_CONVOLUTIONAL = re.compile(r"cnn([1-9][0-9]{0,3}(?:-[1-9][0-9]{0,3})*)(p?)")
_LINEAR = "linear"
_IMAGENET_DEPTH = 18  # no 6n + 2, so that the name cannot mean a CIFAR network
_HIDDEN = 64  # values between a convolutional network's two linear layers


class Style(StrEnum):
    """How a residual block is put together."""

    RESNET = "resnet"  # convolution, norm, ReLU; shortcut without parameters (He, option A)
    WIDE = "wide"  # norm, ReLU, convolution; 1x1 shortcut where the number of channels changes (Zagoruyko)
    PROJECTED = "projected"  # as RESNET; 1x1 shortcut with norm where size or channels change (He, option B)


class Role(StrEnum):
    """What becomes of a tensor in training."""

    PARAMETER = "parameter"  # moved by gradients
    STATISTIC = "statistic"  # a running figure of batch norm


class Start(StrEnum):
    """The distribution that a tensor is drawn from at the beginning."""

    ZEROS = "zeros"
    ONES = "ones"
    HE_FAN_OUT = "he-fan-out"  # normal, variance 2 / (kernel area * output channels): every convolution
    HE_FAN_IN = "he-fan-in"  # normal, variance 2 / inputs: the classifier of a residual network
    UNIFORM_FAN_IN = "uniform-fan-in"  # uniform in +-1 / sqrt(inputs), PyTorch's default: every other layer


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of one network; the first axis is always output channels (or classes)."""

    name: str
    shape: tuple[int, ...]
    role: Role
    start: Start
    inputs: int | None = None  # of the layer, where the shape does not say (a bias)

    @property
    def fan_in(self) -> int:
        """Number of values that one output of the layer is computed from."""
        return math.prod(self.shape[1:]) if self.inputs is None else self.inputs

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Block:
    """A residual block of two 3x3 convolutions; the first one has the stride."""

    name: str
    inputs: int
    outputs: int
    stride: int

    @property
    def changes_shape(self) -> bool:
        """Whether what comes out has other sizes than what goes in."""
        return self.stride != 1 or self.inputs != self.outputs


@dataclass(frozen=True, kw_only=True)
class Architecture(ABC):
    """A network for images of `channels` channels, with `classes` logits.

    Raises:
        UsageError: if channels, classes or the stem's stride is below 1.
    """

    name: str
    channels: int
    classes: int
    stem_stride: int = 1

    def __post_init__(self) -> None:
        for what in ("channels", "classes", "stem_stride"):
            value = getattr(self, what)
            if value < 1:
                raise UsageError(f"model {self.name}: {what} is {value}", "It must be 1 or more.")

    @cached_property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """Every tensor of one network, in the order in which they are drawn."""
        return tuple(self._tensors())

    @cached_property
    def parameters(self) -> frozenset[str]:
        """Names of the tensors that gradients move."""
        return frozenset(tensor.name for tensor in self.tensors if tensor.role is Role.PARAMETER)

    @property
    def parameter_count(self) -> int:
        """Number of trained values; running statistics are not among them."""
        return sum(tensor.size for tensor in self.tensors if tensor.role is Role.PARAMETER)

    @abstractmethod
    def _tensors(self) -> Iterator[TensorSpec]: ...


@dataclass(frozen=True, kw_only=True)
class ResidualArchitecture(Architecture):
    """A residual network, for images of any size."""

    style: Style
    blocks_per_stage: int
    widths: tuple[int, ...]  # of the stages
    stem_width: int

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The residual blocks in order; every stage but the first begins with stride 2."""
        blocks: list[Block] = []
        inputs = self.stem_width
        for stage, outputs in enumerate(self.widths, 1):
            for index in range(1, self.blocks_per_stage + 1):
                stride = 2 if stage > 1 and index == 1 else 1
                blocks.append(Block(f"stage{stage}.block{index}", inputs, outputs, stride))
                inputs = outputs
        return tuple(blocks)

    def _tensors(self) -> Iterator[TensorSpec]:
        wide = self.style is Style.WIDE
        yield _convolution("stem.conv", self.channels, self.stem_width, 3)
        if not wide:
            yield from _norm("stem.norm", self.stem_width)
        for block in self.blocks:
            yield from _norm(f"{block.name}.norm1", block.inputs if wide else block.outputs)
            yield _convolution(f"{block.name}.conv1", block.inputs, block.outputs, 3)
            yield from _norm(f"{block.name}.norm2", block.outputs)
            yield _convolution(f"{block.name}.conv2", block.outputs, block.outputs, 3)
            yield from self._shortcut(block)
        if wide:
            yield from _norm("head.norm", self.widths[-1])
        yield from self._head(self.widths[-1])

    def _shortcut(self, block: Block) -> Iterator[TensorSpec]:
        name = f"{block.name}.shortcut"
        if self.style is Style.WIDE and block.inputs != block.outputs:
            yield _convolution(name, block.inputs, block.outputs, 1)
        elif self.style is Style.PROJECTED and block.changes_shape:
            yield _convolution(name, block.inputs, block.outputs, 1)
            yield from _norm(f"{name}.norm", block.outputs)

    def _head(self, features: int) -> Iterator[TensorSpec]:
        if self.style is Style.PROJECTED:
            yield from _linear("head", features, self.classes)
            return
        start = Start.UNIFORM_FAN_IN if self.style is Style.WIDE else Start.HE_FAN_IN
        yield TensorSpec("head.weight", (self.classes, features), Role.PARAMETER, start)
        yield TensorSpec("head.bias", (self.classes,), Role.PARAMETER, Start.ZEROS)


@dataclass(frozen=True, kw_only=True)
class ConvolutionalArchitecture(Architecture):
    """3x3 convolutions, each with batch norm, ReLU and 2x2 max-pooling; linear to 64, ReLU, linear to the logits.

    size: rows and columns of the images. What max-pooling of an odd number of rows or columns leaves over is dropped.

    Raises:
        UsageError: if the images are too small to leave anything behind the last pooling.
    """

    widths: tuple[int, ...]  # channels behind each convolution
    padded: bool  # a border of one zero around the images of every convolution, or none
    size: Size

    def __post_init__(self) -> None:
        super().__post_init__()
        least = self._least_size()
        if min(self.size) < least:
            raise UsageError(
                f"model {self.name}: images of {self.size[0]} x {self.size[1]} pixels are too small",
                f"They must have {least} x {least} or more{'' if self.padded else '; or add p: padding'}.",
            )

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the convolutional layers in order."""
        return tuple(f"layer{index}" for index in range(1, len(self.widths) + 1))

    @property
    def features(self) -> int:
        """Number of values that the convolutions leave of an image."""
        rows, columns = (self._left_over(pixels) for pixels in self.size)
        return self.widths[-1] * rows * columns

    def stride(self, layer: str) -> int:
        """Return the stride of a layer's convolution."""
        return self.stem_stride if layer == self.layers[0] else 1

    def _left_over(self, pixels: int) -> int:
        for layer in self.layers:
            pixels = (pixels - self._lost) // self.stride(layer) + 1
            pixels //= 2
        return pixels

    def _least_size(self) -> int:
        pixels = 1
        for layer in reversed(self.layers):
            pixels = (2 * pixels - 1) * self.stride(layer) + self._lost
        return pixels

    @property
    def _lost(self) -> int:
        """Pixels that the places of a 3x3 kernel on a line are fewer than the line's pixels, plus 1."""
        return 1 if self.padded else 3

    def _tensors(self) -> Iterator[TensorSpec]:
        inputs = self.channels
        for layer, outputs in zip(self.layers, self.widths, strict=True):
            yield _convolution(f"{layer}.conv", inputs, outputs, 3, Start.UNIFORM_FAN_IN)
            yield from _norm(f"{layer}.norm", outputs)
            inputs = outputs
        yield from _linear("hidden", self.features, _HIDDEN)
        yield from _linear("head", _HIDDEN, self.classes)


@dataclass(frozen=True, kw_only=True)
class LinearArchitecture(Architecture):
    """Multinomial logistic regression on all values of an image; it has no convolution, and no use for a stride."""

    size: Size  # rows, columns

    def _tensors(self) -> Iterator[TensorSpec]:
        yield from _linear("head", self.channels * math.prod(self.size), self.classes)


def architecture(
    name: str, *, channels: int, classes: int, stem_stride: int = 1, size: Size | None = None
) -> Architecture:
    """Return the architecture of that name for a data set's channels and classes.

    `resnet<depth>`: depth 6n + 2, widths 16-32-64; `resnet<depth>w<width>`: widths w, 2w, 4w; `wrn<depth>-<k>`: depth
    6n + 4, widths 16k, 32k, 64k behind a stem of 16 channels; `resnet18` and `resnet18w<width>`: four stages of two
    blocks, widths w, 2w, 4w, 8w, 64 the default w; `cnn<c1>-<c2>-...`: convolutions to c1, c2, ... channels, without
    padding or, if the name ends in p, with it; `linear`. `stem_stride` is the stride of the first convolution. `size`
    is rows and columns of the images, of which residual networks take any number.

    Raises:
        UnknownNameError: if no architecture has that name, or its depth fits no n.
        UsageError: if channels, classes or stem_stride is below 1, or size is missing or too small for a network
            that depends on it.
    """
    common = _Common(name=name, channels=channels, classes=classes, stem_stride=stem_stride)
    if not _depends_on_size(name):
        return _residual(common)
    if size is None:
        raise UsageError(f"model {name} depends on the images' rows and columns, which are not known here")
    if min(size) < 1:
        raise UsageError(f"model {name}: size is {size}", "Rows and columns must be 1 or more.")
    if found := _CONVOLUTIONAL.fullmatch(name):
        widths = tuple(int(width) for width in found[1].split("-"))
        return ConvolutionalArchitecture(**common, widths=widths, padded=bool(found[2]), size=size)
    return LinearArchitecture(**common, size=size)


def check_model(name: str) -> None:
    """Refuse a name that no architecture has; nothing is asked of channels, classes or sizes.

    Raises:
        UnknownNameError: the known names stand in it.
    """
    if not _depends_on_size(name):
        _residual(_Common(name=name, channels=1, classes=1, stem_stride=1))


class _Common(TypedDict):
    """What every architecture is made of."""

    name: str
    channels: int
    classes: int
    stem_stride: int


def _depends_on_size(name: str) -> bool:
    return name == _LINEAR or _CONVOLUTIONAL.fullmatch(name) is not None


def _residual(common: _Common) -> ResidualArchitecture:
    name = common["name"]
    if found := _RESNET.fullmatch(name):
        depth, width = int(found[1]), int(found[2] or 0)
        if depth == _IMAGENET_DEPTH:
            return _imagenet(common, width or 64)
        style, overhead, width = Style.RESNET, 2, width or 16
        stem = width
    elif found := _WIDE.fullmatch(name):
        depth, width = int(found[1]), 16 * int(found[2])
        style, overhead, stem = Style.WIDE, 4, 16
    else:
        raise UnknownNameError("model", name, KNOWN_MODELS)
    blocks, rest = divmod(depth - overhead, 6)
    if rest or blocks < 1:
        raise UnknownNameError("model", name, KNOWN_MODELS)
    widths = (width, 2 * width, 4 * width)
    return ResidualArchitecture(
        **common, style=style, blocks_per_stage=blocks, widths=widths, stem_width=stem
    )


def _imagenet(common: _Common, width: int) -> ResidualArchitecture:
    widths = (width, 2 * width, 4 * width, 8 * width)
    return ResidualArchitecture(
        **common, style=Style.PROJECTED, blocks_per_stage=2, widths=widths, stem_width=width
    )


def _convolution(
    name: str, inputs: int, outputs: int, kernel: int, start: Start = Start.HE_FAN_OUT
) -> TensorSpec:
    return TensorSpec(f"{name}.weight", (outputs, inputs, kernel, kernel), Role.PARAMETER, start)


def _linear(name: str, inputs: int, outputs: int) -> Iterator[TensorSpec]:
    start = Start.UNIFORM_FAN_IN
    yield TensorSpec(f"{name}.weight", (outputs, inputs), Role.PARAMETER, start)
    yield TensorSpec(f"{name}.bias", (outputs,), Role.PARAMETER, start, inputs)


def _norm(name: str, channels: int) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{name}.weight", (channels,), Role.PARAMETER, Start.ONES)
    yield TensorSpec(f"{name}.bias", (channels,), Role.PARAMETER, Start.ZEROS)
    yield TensorSpec(f"{name}.running_mean", (channels,), Role.STATISTIC, Start.ZEROS)
    yield TensorSpec(f"{name}.running_var", (channels,), Role.STATISTIC, Start.ONES)
