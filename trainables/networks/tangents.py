"""How the logits of N networks change along a direction in the space of their parameters: forward-mode derivatives.

A forward pass leaves its values on a tape; the tangent pass reads them in the same order. It is exact and takes about
half the time of a training step. It is written by hand because autograd's own forward mode takes more than twice as
long, forward pass included, on the convolutional student for 32 x 32 pixels. Its use: hypergradients are derivatives
along the validation gradient (`metaparameters.hypergradient`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kdsearch.trainables.networks.layers import (
    NORM_EPSILON,
    add_sampled,
    by_slot,
    convolve,
    flatten,
    pixel_mean,
    stacked_matrix,
)


@dataclass(frozen=True)
class TangentLayers:
    """The layers of `families.Layers` on tangents; an empty one is that of the images, which do not change.

    tensors: the values of all tensors; tangents: the direction, for every parameter. Running statistics do not change.
    tape: what `PlainLayers` left, from its beginning.
    """

    tensors: Mapping[str, Tensor]
    tangents: Mapping[str, Tensor]
    slots: int
    training: bool
    tape: Iterator[tuple[Tensor, ...]]

    def enter(self, images: Tensor) -> Tensor:
        """Begin with images that do not change."""
        return images.new_empty(0)

    def convolve(self, name: str, hidden: Tensor, stride: int = 1, *, padded: bool = True) -> Tensor:
        """Convolve the values with the weights' tangent, and the tangent with the weights."""
        (values,) = next(self.tape)
        weights = self.tangents[f"{name}.weight"]
        if hidden.numel():
            # One convolution of twice the channels: few channels leave vector registers half empty.
            both = torch.cat([by_slot(values, self.slots), by_slot(hidden, self.slots)], -1)
            values = both.flatten(3).permute(0, 3, 1, 2)
            weights = torch.cat([weights, self.tensors[f"{name}.weight"]], 1)
        return convolve(values, weights, self.slots, stride, padded=padded)

    def norm(self, name: str, hidden: Tensor) -> Tensor:
        """Batch norm: its Jacobian is symmetric, so that its own backward pass carries the tangent forward."""
        values, mean, scale = next(self.tape)
        carried = self._norm_backward(name, hidden, values, mean, scale, (True, False, False))[0]
        weight, bias = self.tangents[f"{name}.weight"], self.tangents[f"{name}.bias"]
        variance = scale.pow(-2)
        own, _, _ = torch.native_batch_norm(values, weight, bias, mean, variance, False, 0.0, 0.0)  # noqa: FBT003
        return carried.add_(own)

    def relu(self, hidden: Tensor) -> Tensor:
        """ReLU: 0 where its value is."""
        (active,) = next(self.tape)
        return _where_active(hidden, active)

    def add(self, inner: Tensor, hidden: Tensor) -> Tensor:
        """Add `hidden` to `inner`, in place."""
        return inner.add_(hidden)

    def add_sampled(self, inner: Tensor, hidden: Tensor, stride: int) -> Tensor:
        """Add He's shortcut A, in place."""
        return add_sampled(inner, hidden, self.slots, stride)

    def norm_pool_relu(self, name: str, hidden: Tensor) -> Tensor:
        """Batch norm's tangent, worked out only where a maximum stands.

        With x^ = s (x - m): y' = g s (x' - mean(x') - x^ mean(x^ x')) + g' x^ + b', linear in x' and x by channel.
        """
        values, mean, scale, indices, active = next(self.tape)
        slope = self.tensors[f"{name}.weight"] * scale
        by_value, constant = self.tangents[f"{name}.weight"], self.tangents[f"{name}.bias"]
        if self.training:
            _, products, sums = self._norm_backward(name, hidden, values, mean, scale, (False, True, True))
            count = values.numel() // values.shape[1]
            by_value = by_value.addcmul(slope, products, value=-1 / count)
            constant = constant.addcmul(slope, sums, value=-1 / count)
        by_value = by_value * scale
        constant = constant.addcmul(by_value, mean, value=-1)
        chosen = torch.addcmul(constant, _at(hidden, indices), slope)
        chosen.addcmul_(_at(values, indices), by_value)
        return _where_active(torch.unflatten(chosen, 1, active.shape[2:]).permute(0, 3, 1, 2), active)

    def pixel_mean(self, hidden: Tensor) -> Tensor:
        """Mean over rows and columns."""
        return pixel_mean(hidden, self.tensors["head.weight"].dtype, self.slots)

    def flatten(self, hidden: Tensor, channels: int) -> Tensor:
        """All values of an image."""
        return flatten(hidden, channels, self.slots) if hidden.numel() else hidden

    def linear(self, name: str, features: Tensor) -> Tensor:
        """Map the values by the weights' tangent, and the tangent by the weights."""
        (values,) = next(self.tape)
        weight, bias = stacked_matrix(self.tangents, name, self.slots)
        with torch.autocast(features.device.type, enabled=False):
            out = torch.baddbmm(bias, values.to(weight.dtype), weight.transpose(1, 2))
            if features.numel():
                weight, _ = stacked_matrix(self.tensors, name, self.slots)
                out.baddbmm_(features.to(weight.dtype), weight.transpose(1, 2))
        return out

    def _norm_backward(
        self, name: str, hidden: Tensor, values: Tensor, mean: Tensor, scale: Tensor, mask: tuple[bool, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return, where the mask asks for it, batch norm's Jacobian times the tangent, sum(x^ x') and sum(x').

        Under autocast, a tangent's convolution may come in another precision than the values'.
        """
        found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
            hidden.to(values.dtype),
            values,
            self.tensors[f"{name}.weight"],
            self.tensors[f"{name}.running_mean"],
            self.tensors[f"{name}.running_var"],
            mean,
            scale,
            self.training,
            NORM_EPSILON,
            mask,
        )
        return found


def _at(hidden: Tensor, indices: Tensor) -> Tensor:
    """Return the pixels [B, h * w, C] that pooling chose of [B, C, H, W]; indices [B, C, h, w] count H * W pixels."""
    pixels, chosen = (each.permute(0, 2, 3, 1).flatten(1, 2) for each in (hidden, indices))
    return pixels.gather(1, chosen)


def _where_active(hidden: Tensor, active: Tensor) -> Tensor:
    tangent: Tensor = torch.ops.aten.threshold_backward(hidden, active, 0)
    return tangent
