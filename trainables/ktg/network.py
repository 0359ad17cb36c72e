"""N networks of one architecture as one program: grouped convolutions, batch norm over N * C channels, batched heads.

Slot n owns channels n * C to (n + 1) * C of every activation, and rows n * R to (n + 1) * R of every tensor whose
first axis has R rows in a single network. No operation adds numbers of two slots, so that one slot's NaN stays its
own. Activations are channels-last: on one CPU thread that is 1.2 to 2.5 times as fast as the usual order for small
images, and it is what tensor cores want.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from kdsearch.trainables.models import Architecture, Block, Start, Style, TensorSpec

NORM_MOMENTUM: Final = 0.1  # weight of the new batch in the running statistics
NORM_EPSILON: Final = 1e-5


def initial_tensors(architecture: Architecture, rng: np.random.Generator) -> dict[str, Tensor]:
    """Draw one network's tensors, in the order of `Architecture.tensors`, in float32 on the CPU.

    NumPy's generator takes the whole seed (torch's takes 32 bits of it) and draws alike whatever the device is.
    """
    return {spec.name: torch.from_numpy(_draw(spec, rng)) for spec in architecture.tensors}


def _draw(spec: TensorSpec, rng: np.random.Generator) -> NDArray[np.float32]:
    fan_in = math.prod(spec.shape[1:])
    match spec.start:
        case Start.ZEROS:
            return np.zeros(spec.shape, np.float32)
        case Start.ONES:
            return np.ones(spec.shape, np.float32)
        case Start.HE_FAN_OUT:
            return _normal(spec, rng, math.sqrt(2.0 / (spec.size // spec.shape[1])))
        case Start.HE_FAN_IN:
            return _normal(spec, rng, math.sqrt(2.0 / fan_in))
        case Start.UNIFORM_FAN_IN:
            bound = 1.0 / math.sqrt(fan_in)
            return rng.uniform(-bound, bound, spec.shape).astype(np.float32)


def _normal(spec: TensorSpec, rng: np.random.Generator, deviation: float) -> NDArray[np.float32]:
    return rng.standard_normal(spec.shape, np.float32) * np.float32(deviation)


def slot_images(images: Tensor, owners: Tensor) -> Tensor:
    """Give every slot the images of its trial.

    images: [K, B, C, H, W]; owners: [N] trial index of each slot. Returns [B, N * C, H, W], channels-last.
    """
    spread = images.index_select(0, owners).permute(1, 3, 4, 0, 2)
    return spread.flatten(3).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class StackedNetwork:
    """The forward pass of N networks whose tensors are stacked along their first axes.

    tensors: name -> [N * rows, ...]. In training mode batch norm uses the batch's statistics and moves the running
    ones in place; else it uses the running ones and changes nothing.
    """

    architecture: Architecture
    tensors: Mapping[str, Tensor]
    slots: int
    training: bool

    def logits(self, images: Tensor) -> Tensor:
        """Return [N, B, classes] for images [B, N * C, H, W], or [B, C, H, W] if all slots see the same images."""
        shared = images.shape[1] == self.architecture.channels
        stride = self.architecture.stem_stride
        hidden = self._convolve("stem.conv", images, stride, groups=1 if shared else self.slots)
        if self.architecture.style is Style.WIDE:
            for block in self.architecture.blocks:
                hidden = self._wide_block(block, hidden)
            hidden = self._norm_relu("head.norm", hidden)
        else:
            hidden = self._norm_relu("stem.norm", hidden)
            for block in self.architecture.blocks:
                hidden = self._residual_block(block, hidden)
        return self._classify(hidden)

    def _residual_block(self, block: Block, hidden: Tensor) -> Tensor:
        inner = self._convolve(f"{block.name}.conv1", hidden, block.stride)
        inner = self._norm_relu(f"{block.name}.norm1", inner)
        inner = self._norm(f"{block.name}.norm2", self._convolve(f"{block.name}.conv2", inner))
        if block.stride == 1 and block.inputs == block.outputs:
            return functional.relu_(inner.add_(hidden))
        return functional.relu_(_add_sampled(inner, hidden, self.slots, block.stride))

    def _wide_block(self, block: Block, hidden: Tensor) -> Tensor:
        active = self._norm_relu(f"{block.name}.norm1", hidden)
        inner = self._convolve(f"{block.name}.conv1", active, block.stride)
        inner = self._norm_relu(f"{block.name}.norm2", inner)
        inner = self._convolve(f"{block.name}.conv2", inner)
        if block.inputs == block.outputs:
            return inner.add_(hidden)
        return inner.add_(self._convolve(f"{block.name}.shortcut", active, block.stride))

    def _convolve(self, name: str, images: Tensor, stride: int = 1, groups: int | None = None) -> Tensor:
        weight = self.tensors[f"{name}.weight"]
        padding = weight.shape[-1] // 2
        groups = self.slots if groups is None else groups
        if not _odd_channels(weight, self.slots):
            return functional.conv2d(images, weight, stride=stride, padding=padding, groups=groups)
        # oneDNN's bfloat16 kernels take channels in pairs and would mix the last channel of a slot with its neighbour
        with torch.autocast(images.device.type, enabled=False):
            return functional.conv2d(
                images.to(weight.dtype), weight, stride=stride, padding=padding, groups=groups
            )

    def _norm(self, name: str, hidden: Tensor) -> Tensor:
        return functional.batch_norm(
            hidden,
            self.tensors[f"{name}.running_mean"],
            self.tensors[f"{name}.running_var"],
            self.tensors[f"{name}.weight"],
            self.tensors[f"{name}.bias"],
            training=self.training,
            momentum=NORM_MOMENTUM,
            eps=NORM_EPSILON,
        )

    def _norm_relu(self, name: str, hidden: Tensor) -> Tensor:
        return functional.relu_(self._norm(name, hidden))

    def _classify(self, hidden: Tensor) -> Tensor:
        weight = torch.unflatten(self.tensors["head.weight"], 0, (self.slots, -1))
        bias = torch.unflatten(self.tensors["head.bias"], 0, (self.slots, 1, -1))
        with torch.autocast(hidden.device.type, enabled=False):
            pooled: Tensor = _GlobalMean.apply(hidden, weight.dtype)  # type: ignore[no-untyped-call]
            features = torch.unflatten(pooled, 1, (self.slots, -1)).transpose(0, 1)
            return torch.baddbmm(bias, features, weight.transpose(1, 2))


def _odd_channels(weight: Tensor, slots: int) -> bool:
    return torch.is_autocast_enabled(weight.device.type) and bool(
        weight.shape[1] % 2 or (weight.shape[0] // slots) % 2
    )


def _add_sampled(inner: Tensor, hidden: Tensor, slots: int, stride: int) -> Tensor:
    added: Tensor = _AddSampled.apply(inner, hidden, slots, stride)  # type: ignore[no-untyped-call]
    return added


def _by_slot(images: Tensor, slots: int) -> Tensor:
    """View [B, N * C, H, W] as [B, H, W, N, C]."""
    return torch.unflatten(images.permute(0, 2, 3, 1), 3, (slots, -1))


class _AddSampled(torch.autograd.Function):
    """He's shortcut A in place: add every `stride`-th pixel to the first channels of each slot.

    Written by hand because autograd's own slicing and padding would bring its gradient back in another memory order,
    and every later backward kernel would fall to its slow path (five times slower ReLU gradients).
    """

    @staticmethod
    def forward(ctx: Any, inner: Tensor, hidden: Tensor, slots: int, stride: int) -> Tensor:
        ctx.mark_dirty(inner)
        ctx.shape, ctx.slots, ctx.stride = hidden.shape, slots, stride
        source = _by_slot(hidden, slots)[:, ::stride, ::stride]
        _by_slot(inner, slots)[..., : source.shape[-1]].add_(source)
        return inner

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (gradient,) = gradients
        batch, channels, rows, columns = ctx.shape
        back = gradient.new_zeros((batch, rows, columns, channels)).permute(0, 3, 1, 2)
        target = _by_slot(back, ctx.slots)[:, :: ctx.stride, :: ctx.stride]
        target.copy_(_by_slot(gradient, ctx.slots)[..., : target.shape[-1]])
        return gradient, back, None, None


class _GlobalMean(torch.autograd.Function):
    """Mean over rows and columns, [B, C, H, W] -> [B, C]; the gradient comes back dense and channels-last."""

    @staticmethod
    def forward(ctx: FunctionCtx, images: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.shape, ctx.dtype = images.shape, images.dtype  # type: ignore[attr-defined]
        return images.mean((2, 3), dtype=dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        batch, channels, rows, columns = ctx.shape
        each = (gradient / (rows * columns)).to(ctx.dtype)
        spread = each[:, None, None, :].expand(batch, rows, columns, channels).contiguous()
        return spread.permute(0, 3, 1, 2), None
