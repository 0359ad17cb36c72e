"""Layers of N networks as one program: grouped convolutions, batch norm over N * C channels, batched linear maps.

No operation adds numbers of two slots, so that one slot's NaN stays its own. Activations are channels-last: on one CPU
thread that is 1.2 to 2.5 times as fast as the usual order for small images, and it is what tensor cores want.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

NORM_MOMENTUM: Final = 0.1  # weight of the new batch in the running statistics
NORM_EPSILON: Final = 1e-5


Tape = list[tuple[Tensor, ...]]  # what a forward pass leaves for `tangents`, layer by layer


@dataclass(frozen=True)
class PlainLayers:
    """The layers of `families.Layers` on tensors, differentiable by autograd's reverse mode.

    tensors: name -> [slots * rows, ...]. training: batch norm uses the batch's statistics. track: it moves the running
    ones in place, too. tape: where each layer leaves the values that its tangent depends on.
    """

    tensors: Mapping[str, Tensor]
    slots: int
    training: bool
    track: bool
    tape: Tape | None = None

    def enter(self, images: Tensor) -> Tensor:
        """Begin with the images."""
        return images

    def convolve(self, name: str, hidden: Tensor, stride: int = 1, *, padded: bool = True) -> Tensor:
        """Convolve slot by slot."""
        self._leave(hidden)
        return convolve(hidden, self.tensors[f"{name}.weight"], self.slots, stride, padded=padded)

    def norm(self, name: str, hidden: Tensor) -> Tensor:
        """Batch norm."""
        normed, *statistics = self._norm(name, hidden)
        self._leave(hidden, *statistics)
        return normed

    def relu(self, hidden: Tensor) -> Tensor:
        """ReLU, in place."""
        active = functional.relu_(hidden)
        self._leave(active)
        return active

    def add(self, inner: Tensor, hidden: Tensor) -> Tensor:
        """Add `hidden` to `inner`, in place."""
        return inner.add_(hidden)

    def add_sampled(self, inner: Tensor, hidden: Tensor, stride: int) -> Tensor:
        """Add He's shortcut A, in place."""
        if not torch.is_grad_enabled():
            return add_sampled(inner, hidden, self.slots, stride)
        added: Tensor = _AddSampled.apply(inner, hidden, self.slots, stride)  # type: ignore[no-untyped-call]
        return added

    def norm_pool_relu(self, name: str, hidden: Tensor) -> Tensor:
        """Batch norm, pooling, ReLU: it commutes with the maximum, and behind that there is a quarter of the work."""
        normed, *statistics = self._norm(name, hidden)
        pooled, indices = functional.max_pool2d_with_indices(normed, (2, 2))
        active = functional.relu_(pooled)
        self._leave(hidden, *statistics, indices, active)
        return active

    def pixel_mean(self, hidden: Tensor) -> Tensor:
        """Mean over rows and columns."""
        return pixel_mean(hidden, self.tensors["head.weight"].dtype, self.slots)

    def flatten(self, hidden: Tensor, channels: int) -> Tensor:
        """All values of an image."""
        return flatten(hidden, channels, self.slots)

    def linear(self, name: str, features: Tensor) -> Tensor:
        """Linear map with bias."""
        self._leave(features)
        weight, bias = stacked_matrix(self.tensors, name, self.slots)
        with torch.autocast(features.device.type, enabled=False):
            return torch.baddbmm(bias, features.to(weight.dtype), weight.transpose(1, 2))

    def _norm(self, name: str, hidden: Tensor) -> tuple[Tensor, ...]:
        """Return what batch norm gives and, for a tape, the mean and 1 / deviation that it used."""
        running = not self.training or self.track
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        mean = self.tensors[f"{name}.running_mean"] if running else None
        variance = self.tensors[f"{name}.running_var"] if running else None
        rest = (self.training, NORM_MOMENTUM, NORM_EPSILON)
        if self.tape is None:
            return (functional.batch_norm(hidden, mean, variance, weight, bias, *rest),)
        normed, *statistics = torch.native_batch_norm(hidden, weight, bias, mean, variance, *rest)
        if mean is not None and variance is not None and not self.training:
            statistics = [mean, variance.add(NORM_EPSILON).rsqrt_()]
        return normed, *statistics

    def _leave(self, *values: Tensor) -> None:
        if self.tape is not None:
            self.tape.append(tuple(value.detach() for value in values))


def channels_last(images: Tensor) -> Tensor:
    """Return the images in channels-last order.

    Of one channel, torch takes either order for the other one, and every later activation would follow the wrong one.
    """
    _, channels, rows, columns = images.shape
    strides = (rows * columns * channels, 1, columns * channels, channels)
    if images.stride() == strides:
        return images
    ordered = torch.empty_strided(images.shape, strides, dtype=images.dtype, device=images.device)
    return ordered.copy_(images)


def convolve(hidden: Tensor, weight: Tensor, slots: int, stride: int, *, padded: bool) -> Tensor:
    """Convolve [B, slots * C, H, W], or [B, C, H, W] that all slots share, slot by slot."""
    groups = 1 if hidden.shape[1] == weight.shape[1] else slots
    padding = weight.shape[-1] // 2 if padded else 0
    if not _odd_channels(weight, slots):
        return functional.conv2d(hidden, weight, stride=stride, padding=padding, groups=groups)
    # oneDNN's bfloat16 kernels take channels in pairs and would mix the last channel of a slot with its neighbour
    with torch.autocast(hidden.device.type, enabled=False):
        return functional.conv2d(
            hidden.to(weight.dtype), weight, stride=stride, padding=padding, groups=groups
        )


def flatten(hidden: Tensor, channels: int, slots: int) -> Tensor:
    """Return [slots, B, channels * H * W] of [B, slots * channels, H, W], or of [B, channels, H, W] for all slots."""
    if hidden.shape[1] == channels:
        return hidden.flatten(1).expand(slots, -1, -1)
    return torch.unflatten(hidden, 1, (slots, channels)).flatten(2).transpose(0, 1)


def pixel_mean(hidden: Tensor, dtype: torch.dtype, slots: int) -> Tensor:
    """Return the mean over rows and columns [slots, B, C] of [B, slots * C, H, W]."""
    pooled = _PixelMean.apply if torch.is_grad_enabled() else _pixel_mean
    return torch.unflatten(pooled(hidden, dtype), 1, (slots, -1)).transpose(0, 1)


def _pixel_mean(images: Tensor, dtype: torch.dtype) -> Tensor:
    return images.mean((2, 3), dtype=dtype)


def stacked_matrix(tensors: Mapping[str, Tensor], name: str, slots: int) -> tuple[Tensor, Tensor]:
    """Return a linear layer's weights [slots, outputs, inputs] and bias [slots, 1, outputs]."""
    weight = torch.unflatten(tensors[f"{name}.weight"], 0, (slots, -1))
    return weight, torch.unflatten(tensors[f"{name}.bias"], 0, (slots, 1, -1))


def add_sampled(inner: Tensor, hidden: Tensor, slots: int, stride: int) -> Tensor:
    """Add every `stride`-th pixel of `hidden` to the first channels of each slot of `inner`, in place."""
    source = by_slot(hidden, slots)[:, ::stride, ::stride]
    by_slot(inner, slots)[..., : source.shape[-1]].add_(source)
    return inner


def by_slot(images: Tensor, slots: int) -> Tensor:
    """View [B, N * C, H, W] as [B, H, W, N, C]."""
    return torch.unflatten(images.permute(0, 2, 3, 1), 3, (slots, -1))


def _odd_channels(weight: Tensor, slots: int) -> bool:
    return torch.is_autocast_enabled(weight.device.type) and bool(
        weight.shape[1] % 2 or (weight.shape[0] // slots) % 2
    )


class _AddSampled(torch.autograd.Function):
    """He's shortcut A in place: add every `stride`-th pixel to the first channels of each slot.

    Written by hand because autograd's own slicing and padding would bring its gradient back in another memory order,
    and every later backward kernel would fall to its slow path (five times slower ReLU gradients).
    """

    @staticmethod
    def forward(ctx: Any, inner: Tensor, hidden: Tensor, slots: int, stride: int) -> Tensor:
        ctx.mark_dirty(inner)
        ctx.shape, ctx.slots, ctx.stride = hidden.shape, slots, stride
        return add_sampled(inner, hidden, slots, stride)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (gradient,) = gradients
        batch, channels, rows, columns = ctx.shape
        back = gradient.new_zeros((batch, rows, columns, channels)).permute(0, 3, 1, 2)
        target = by_slot(back, ctx.slots)[:, :: ctx.stride, :: ctx.stride]
        target.copy_(by_slot(gradient, ctx.slots)[..., : target.shape[-1]])
        return gradient, back, None, None


class _PixelMean(torch.autograd.Function):
    """Mean over rows and columns, [B, C, H, W] -> [B, C]; the gradient comes back dense and channels-last."""

    @staticmethod
    def forward(ctx: FunctionCtx, images: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.shape, ctx.dtype = images.shape, images.dtype  # type: ignore[attr-defined]
        return _pixel_mean(images, dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        batch, channels, rows, columns = ctx.shape
        each = (gradient / (rows * columns)).to(ctx.dtype)
        spread = each[:, None, None, :].expand(batch, rows, columns, channels).contiguous()
        return spread.permute(0, 3, 1, 2), None
