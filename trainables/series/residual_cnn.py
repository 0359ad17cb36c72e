"""The residual CNN for ECGs of Hannun et al. (2019), cut at its residual blocks.

A stem (convolution, batch norm, ReLU), then units of BN-ReLU-conv-BN-ReLU-dropout-conv; the first one begins with its
convolution. Every second unit has stride 2 in its first convolution, and filters double after `widen_every` units. The
shortcut is a maximum over the stride, with zeros for the channels that are new. At the end BN-ReLU, the mean over time
and a linear layer. "Same" padding: T steps become ceil(T / stride), with the odd padding step behind. Convolutions have
no bias: all but the units' last run straight into a batch norm, and that one's sum into the next.

Features [B, T, D] are views of what convolutions make, [B, D, T]: turning them round and back copies nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdsearch.trainables.series.networks import Features, SeriesNetwork
from kdsearch.trainables.series.specs import ResNetSpec, halved


class SameConvolution(nn.Conv1d):
    """A convolution with "same" padding for any kernel and stride; [B, C, T] to [B, C', ceil(T / stride)]."""

    def forward(self, values: Tensor) -> Tensor:  # the base class names its argument otherwise
        """Pad, then convolve."""
        steps, kernel, stride = values.shape[-1], self.kernel_size[0], self.stride[0]
        missing = max((-(-steps // stride) - 1) * stride + kernel - steps, 0)
        found: Tensor = super().forward(functional.pad(values, (missing // 2, missing - missing // 2)))
        return found


class ResidualUnit(nn.Module):
    """Two convolutions beside a shortcut; [B, C, T] to [B, C', ceil(T / stride)]."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int, dropout: float, first: bool
    ) -> None:
        super().__init__()
        self.stride, self.widened = stride, outputs - inputs
        self.before = None if first else nn.BatchNorm1d(inputs)
        self.convolution_1 = SameConvolution(inputs, outputs, kernel, stride=stride, bias=False)
        self.between = nn.BatchNorm1d(outputs)
        self.dropout = nn.Dropout(dropout)
        self.convolution_2 = SameConvolution(outputs, outputs, kernel, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        """Return the sum of both ways."""
        inner = values if self.before is None else functional.relu(self.before(values))
        inner = self.convolution_1(inner)
        inner = self.convolution_2(self.dropout(functional.relu(self.between(inner))))
        short = values
        if self.stride > 1:
            short = functional.max_pool1d(short, self.stride, ceil_mode=True)
        if self.widened:
            short = functional.pad(short, (0, 0, 0, self.widened))
        return inner + short


class ResidualCnn(SeriesNetwork):
    """One answer for a record, all records of one length; features are those at every unit's end."""

    def __init__(self, spec: ResNetSpec, *, inputs: int, outputs: int) -> None:
        super().__init__()
        self.units, self.per_step = spec.units, False
        filters = [spec.filters * 2 ** (i // spec.widen_every) for i in range(spec.units)]
        self.depths = tuple(filters)
        self.stem = SameConvolution(inputs, spec.filters, spec.kernel, bias=False)
        self.stem_norm = nn.BatchNorm1d(spec.filters)
        before = [spec.filters, *filters[:-1]]
        self.residual = nn.ModuleList(
            ResidualUnit(
                before[i],
                filters[i],
                kernel=spec.kernel,
                stride=1 + i % 2,
                dropout=spec.dropout,
                first=i == 0,
            )
            for i in range(spec.units)
        )
        self.norm = nn.BatchNorm1d(filters[-1])
        self.head = nn.Linear(filters[-1], outputs)

    def begin(self, values: Tensor, real: Tensor | None) -> Features:
        """Apply the stem."""
        if real is not None:
            raise ValueError("a residual CNN takes records of one length, without padding")
        stem = functional.relu(self.stem_norm(self.stem(values.transpose(1, 2))))
        return Features(stem.transpose(1, 2))

    def unit(self, index: int, features: Features, real: Tensor | None) -> Features:
        """Apply a residual unit."""
        del real
        return Features(self.residual[index](features.time.transpose(1, 2)).transpose(1, 2))

    def finish(self, features: Features, real: Tensor | None) -> Tensor:
        """Return logits [B, C] of the mean over time."""
        del real
        last = functional.relu(self.norm(features.time.transpose(1, 2)))
        found: Tensor = self.head(last.mean(2))
        return found

    def lengths(self, steps: int) -> tuple[int, ...]:
        """Return T after each unit: every second one halves it, rounding up."""
        return tuple(halved(steps, (i + 1) // 2) for i in range(self.units))


def initialise(network: ResidualCnn, generator: torch.Generator) -> None:
    """Draw weights: normal of variance 2 / fan-in (He et al., 2015); a bias is zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Linear):
            fan_in = module.weight[0].numel()
            with torch.no_grad():
                module.weight.normal_(0.0, (2.0 / fan_in) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
