"""Dropout whose random numbers cost little on the CPU, where they are a good part of a small transformer's time."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEVELS: Final = 2**16  # of one 16-bit number


class Dropout(nn.Module):
    """In training mode each value is dropped with probability `rate`, in [0, 1), and the others grow by 1 / (1 - rate).

    On the CPU four values share one 64-bit draw of torch's own generator, 16 bits each, where torch draws a number for
    each value, one after the other; the rate is then a multiple of 1 / 65,536. Elsewhere it is torch's dropout.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, values: Tensor) -> Tensor:
        """Return values of the same shape."""
        if not self.training or self.rate == 0:
            return values
        if values.device.type != "cpu":
            return functional.dropout(values, self.rate)
        return values * _factors(values, self.rate)

    def extra_repr(self) -> str:
        """Return what a printed network shows."""
        return f"rate={self.rate}"


def _factors(values: Tensor, rate: float) -> Tensor:
    """Return 0 or 1 / (1 - rate) for each value."""
    dropped = min(round(rate * _LEVELS), _LEVELS - 1)  # levels, so that some are always left
    draws = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    levels = draws.view(torch.int16)[: values.numel()].view(values.shape)
    kept = levels >= dropped - _LEVELS // 2
    return kept.to(values.dtype).mul_(_LEVELS / (_LEVELS - dropped))
