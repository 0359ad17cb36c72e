"""Network architectures as data: their names, tensors, parameter counts and initial distributions. No torch here.

Sources: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), section 4.2: the CIFAR networks of
depth 6n + 2 and widths 16-32-64, whose shortcuts carry no parameters (option A: take every second pixel, append zero
channels). Zagoruyko and Komodakis, "Wide Residual Networks" (BMVC 2016): depth 6n + 4, pre-activation blocks, 1x1
convolutions where the number of channels changes. The public code of knowledge transfer graphs uses these same two
and initialises them as `Start` says. `resnet<depth>w<width>` is He's network with widths w, 2w, 4w, for small images.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

from kdsearch.spaces.errors import UnknownNameError, UsageError

KNOWN_MODELS: Final = (
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "wrn28-2",
    "resnet<6n+2>w<width>",
    "wrn<6n+4>-<widening>",
)
_RESNET = re.compile(r"resnet([1-9][0-9]{0,3})(?:w([1-9][0-9]{0,3}))?")
_WIDE = re.compile(r"wrn([1-9][0-9]{0,3})-([1-9][0-9]{0,2})")


class Style(StrEnum):
    """How a residual block is put together."""

    RESNET = "resnet"  # convolution, norm, ReLU; shortcut without parameters (He, option A)
    WIDE = "wide"  # norm, ReLU, convolution; 1x1 shortcut where the number of channels changes (Zagoruyko)


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
    UNIFORM_FAN_IN = "uniform-fan-in"  # uniform in +-1 / sqrt(inputs): the classifier of a wide network


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of one network; the first axis is always output channels (or classes)."""

    name: str
    shape: tuple[int, ...]
    role: Role
    start: Start

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


@dataclass(frozen=True)
class Architecture:
    """A network for images of `channels` x any height x any width, with `classes` logits.

    Raises:
        UsageError: if channels, classes or the stem's stride is below 1.
    """

    name: str
    style: Style
    blocks_per_stage: int
    widths: tuple[int, int, int]
    stem_width: int
    channels: int
    classes: int
    stem_stride: int = 1

    def __post_init__(self) -> None:
        for what, value in (
            ("channels", self.channels),
            ("classes", self.classes),
            ("stem_stride", self.stem_stride),
        ):
            if value < 1:
                raise UsageError(f"model {self.name}: {what} is {value}", "It must be 1 or more.")

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The residual blocks in order; the second and third stage begin with stride 2."""
        blocks: list[Block] = []
        inputs = self.stem_width
        for stage, outputs in enumerate(self.widths, 1):
            for index in range(1, self.blocks_per_stage + 1):
                stride = 2 if stage > 1 and index == 1 else 1
                blocks.append(Block(f"stage{stage}.block{index}", inputs, outputs, stride))
                inputs = outputs
        return tuple(blocks)

    @cached_property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """Every tensor of one network, in the order in which they are drawn."""
        return tuple(self._tensors())

    @property
    def parameter_count(self) -> int:
        """Number of trained values; running statistics are not among them."""
        return sum(tensor.size for tensor in self.tensors if tensor.role is Role.PARAMETER)

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
            if wide and block.inputs != block.outputs:
                yield _convolution(f"{block.name}.shortcut", block.inputs, block.outputs, 1)
        features = self.widths[-1]
        if wide:
            yield from _norm("head.norm", features)
        start = Start.UNIFORM_FAN_IN if wide else Start.HE_FAN_IN
        yield TensorSpec("head.weight", (self.classes, features), Role.PARAMETER, start)
        yield TensorSpec("head.bias", (self.classes,), Role.PARAMETER, Start.ZEROS)


def architecture(name: str, *, channels: int, classes: int, stem_stride: int = 1) -> Architecture:
    """Return the architecture of that name for a data set's channels and classes.

    `resnet<depth>`: depth 6n + 2, widths 16-32-64; `resnet<depth>w<width>`: widths w, 2w, 4w; `wrn<depth>-<k>`: depth
    6n + 4, widths 16k, 32k, 64k behind a stem of 16 channels. `stem_stride` is the stride of the first convolution.

    Raises:
        UnknownNameError: if no architecture has that name, or its depth fits no n.
        UsageError: if channels, classes or stem_stride is below 1.
    """
    if found := _RESNET.fullmatch(name):
        depth, width = int(found[1]), int(found[2] or 16)
        style, overhead, stem = Style.RESNET, 2, width
    elif found := _WIDE.fullmatch(name):
        depth, width = int(found[1]), 16 * int(found[2])
        style, overhead, stem = Style.WIDE, 4, 16
    else:
        raise UnknownNameError("model", name, KNOWN_MODELS)
    blocks, rest = divmod(depth - overhead, 6)
    if rest or blocks < 1:
        raise UnknownNameError("model", name, KNOWN_MODELS)
    return Architecture(
        name=name,
        style=style,
        blocks_per_stage=blocks,
        widths=(width, 2 * width, 4 * width),
        stem_width=stem,
        channels=channels,
        classes=classes,
        stem_stride=stem_stride,
    )


def _convolution(name: str, inputs: int, outputs: int, kernel: int) -> TensorSpec:
    return TensorSpec(f"{name}.weight", (outputs, inputs, kernel, kernel), Role.PARAMETER, Start.HE_FAN_OUT)


def _norm(name: str, channels: int) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{name}.weight", (channels,), Role.PARAMETER, Start.ONES)
    yield TensorSpec(f"{name}.bias", (channels,), Role.PARAMETER, Start.ZEROS)
    yield TensorSpec(f"{name}.running_mean", (channels,), Role.STATISTIC, Start.ZEROS)
    yield TensorSpec(f"{name}.running_var", (channels,), Role.STATISTIC, Start.ONES)
