"""The residual CNN for ECGs of Hannun et al. (2019), cut at its residual blocks.

A stem (convolution, batch norm, ReLU), then units of BN-ReLU-conv-BN-ReLU-dropout-conv; the first one begins with its
convolution. Every second unit has stride 2 in its first convolution, and filters double after `widen_every` units. The
shortcut is a maximum over the stride, with zeros for the channels that are new. At the end BN-ReLU, the mean over time
and a linear layer. "Same" padding: T steps become ceil(T / stride), with the odd padding step behind. Convolutions have
no bias: all but the units' last run straight into a batch norm, and that one's sum into the next.

Convolutions work on images [B, D, 1, T] in the memory order of features [B, T, D] ("channels last"): turning one into
the other copies nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdsearch.trainables.series.networks import Features, SeriesNetwork
from kdsearch.trainables.series.specs import ResNetSpec, halved


class SameConvolution(nn.Conv2d):
    """A convolution over time with "same" padding, without bias; [B, C, 1, T] to [B, C', 1, ceil(T / stride)]."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, (1, kernel), stride=(1, stride), bias=False)

    def forward(self, values: Tensor) -> Tensor:  # the base class names its argument otherwise
        """Pad, then convolve."""
        steps, kernel, stride = values.shape[3], self.kernel_size[1], self.stride[1]
        missing = max((-(-steps // stride) - 1) * stride + kernel - steps, 0)
        found: Tensor = super().forward(functional.pad(values, (missing // 2, missing - missing // 2)))
        return found


class ResidualUnit(nn.Module):
    """Two convolutions beside a shortcut; [B, C, 1, T] to [B, C', 1, ceil(T / stride)]."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int, dropout: float, first: bool
    ) -> None:
        super().__init__()
        self.stride, self.widened = stride, outputs - inputs
        self.before = None if first else nn.BatchNorm2d(inputs)
        self.convolution_1 = SameConvolution(inputs, outputs, kernel, stride)
        self.between = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(dropout)
        self.convolution_2 = SameConvolution(outputs, outputs, kernel)

    def forward(self, values: Tensor) -> Tensor:
        """Return the sum of both ways."""
        inner = values if self.before is None else functional.relu(self.before(values))
        inner = self.convolution_1(inner)
        inner = self.convolution_2(self.dropout(functional.relu(self.between(inner))))
        short = values
        if self.stride > 1:
            short = functional.max_pool2d(short, (1, self.stride), ceil_mode=True)
        if self.widened:
            short = functional.pad(short, (0, 0, 0, 0, 0, self.widened))
        found: Tensor = inner + short
        return found


class ResidualCnn(SeriesNetwork):
    """One answer for a record, all records of one length; features are those at every unit's end."""

    def __init__(self, spec: ResNetSpec, *, inputs: int, outputs: int) -> None:
        super().__init__()
        self.units, self.per_step = spec.units, False
        filters = [spec.filters * 2 ** (i // spec.widen_every) for i in range(spec.units)]
        self.depths = tuple(filters)
        self.stem = SameConvolution(inputs, spec.filters, spec.kernel)
        self.stem_norm = nn.BatchNorm2d(spec.filters)
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
        self.norm = nn.BatchNorm2d(filters[-1])
        self.head = nn.Linear(filters[-1], outputs)

    def begin(self, values: Tensor, real: Tensor | None) -> Features:
        """Apply the stem."""
        if real is not None:
            raise ValueError("a residual CNN takes records of one length, without padding")
        return _features(functional.relu(self.stem_norm(self.stem(_image(values)))))

    def unit(self, index: int, features: Features, real: Tensor | None) -> Features:
        """Apply a residual unit."""
        del real
        return _features(self.residual[index](_image(features.time)))

    def finish(self, features: Features, real: Tensor | None) -> Tensor:
        """Return logits [B, C] of the mean over time."""
        del real
        last = functional.relu(self.norm(_image(features.time)))
        found: Tensor = self.head(last.mean((2, 3)))
        return found

    def lengths(self, steps: int) -> tuple[int, ...]:
        """Return T after each unit: every second one halves it, rounding up."""
        return tuple(halved(steps, (i + 1) // 2) for i in range(self.units))


def _image(time: Tensor) -> Tensor:
    """Return [B, T, D] as [B, D, 1, T]."""
    return time.transpose(1, 2).unsqueeze(2)


def _features(image: Tensor) -> Features:
    """Return [B, D, 1, T] as features [B, T, D]."""
    return Features(image.squeeze(2).transpose(1, 2))


def initialise(network: ResidualCnn, generator: torch.Generator) -> None:
    """Draw weights: normal of variance 2 / fan-in (He et al., 2015); a bias is zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            with torch.no_grad():
                module.weight.normal_(0.0, (2.0 / fan_in) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
