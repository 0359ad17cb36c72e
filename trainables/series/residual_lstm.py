"""The stacked residual LSTM (Wang et al., 2018): each layer's input is added to its output. It never looks ahead."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from kdsearch.trainables.series.dropout import Dropout
from kdsearch.trainables.series.networks import Features, SeriesNetwork, without_padding
from kdsearch.trainables.series.specs import LstmSpec


class ResidualLstm(SeriesNetwork):
    """A linear projection to the hidden width, then the layers, with dropout on each one's output.

    No packing: padding stands behind the last step, and a layer goes forward alone.
    """

    def __init__(self, spec: LstmSpec, *, inputs: int, outputs: int, per_step: bool) -> None:
        super().__init__()
        self.units, self.per_step = spec.units, per_step
        self.depths = (spec.hidden,) * spec.units
        self.projection = nn.Linear(inputs, spec.hidden)
        self.layers = nn.ModuleList(
            nn.LSTM(spec.hidden, spec.hidden, batch_first=True) for _ in range(spec.units)
        )
        self.dropout = Dropout(spec.dropout)
        self.head = nn.Linear(spec.hidden, outputs)

    def begin(self, values: Tensor, real: Tensor | None) -> Features:
        """Project the variables."""
        return Features(self.projection(without_padding(values, real)))

    def unit(self, index: int, features: Features, real: Tensor | None) -> Features:
        """Apply a layer, and add what went in."""
        del real
        layer = cast(nn.LSTM, self.layers[index])
        # cuDNN has a backward pass in training mode alone; one layer without dropout of its own is the same in both.
        before, layer.training = layer.training, layer.training or torch.is_grad_enabled()
        try:
            out, _ = layer(features.time)
        finally:
            layer.training = before
        return Features(features.time + self.dropout(out))

    def finish(self, features: Features, real: Tensor | None) -> Tensor:
        """Return logits of every step [B, T, C], or of the mean over real steps [B, C]."""
        time = features.time
        if not self.per_step:
            time = mean_over_time(time, real)
        found: Tensor = self.head(time)
        return found

    def lengths(self, steps: int) -> tuple[int, ...]:
        """Return T after each unit: every step is kept."""
        return (steps,) * self.units


def mean_over_time(time: Tensor, real: Tensor | None) -> Tensor:
    """Return the mean of [B, T, D] over real steps: [B, D]."""
    if real is None:
        return time.mean(1)
    counts = real.sum(1, keepdim=True).clamp(min=1)
    return time.masked_fill(~real[:, :, None], 0).sum(1) / counts


def initialise(network: ResidualLstm, generator: torch.Generator) -> None:
    """Draw weights and biases: uniform in +-1/sqrt(fan-in), of an LSTM +-1/sqrt(hidden), as torch's defaults are."""
    for module in network.modules():
        if isinstance(module, nn.LSTM | nn.Linear):
            width = module.hidden_size if isinstance(module, nn.LSTM) else module.in_features
            for parameter in module.parameters():
                with torch.no_grad():
                    parameter.uniform_(-(width**-0.5), width**-0.5, generator=generator)
