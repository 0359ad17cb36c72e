"""Where attention looks: its mean over samples and heads, and how far from itself a token looks.

Source: Lee, Jo and Kwon (2022), section 2.3 and Figure 4 ("averaged self-attention matrices in each block across all
samples and heads"). The mean attention distance puts the figure's locality into a number (after Dosovitskiy et al.,
2021, who measure it in pixels): with attention a_ij of query i to key j, in tokens,

    distance = mean over samples, heads and real queries i of sum_j a_ij |i - j|

For comparison, T tokens that look at all tokens alike have (T^2 - 1) / (3 T), tokens that look at themselves and all
earlier ones alike (T - 1) / 4, and tokens that look at themselves alone 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AttentionSummary:
    """The mean attention of U units."""

    attention: NDArray[np.float64]  # [U, T, T], of query i (row) to key j (column); NaN where nobody has both
    counts: NDArray[np.int64]  # [T, T], samples that have both tokens i and j
    distance: NDArray[np.float64]  # [U], tokens; NaN if there was no real query
    queries: int  # real tokens of all samples


class MeanAttention:
    """Takes in the attention of one network, batch by batch.

    Entry (i, j) of the mean is over all heads and all those samples in which both tokens i and j are real; a sample
    that is too short for one of them is left out of that entry and not counted as 0. Row i of the mean thus adds up
    to 1 where all samples are of one length or attention is causal, and need not elsewhere. The mean keeps the first
    `limit` tokens, as queries and as keys, unchanged by what was cut off; the distance is over all tokens.
    """

    def __init__(self, limit: int) -> None:
        """Keep a mean of at most limit x limit entries a unit; limit is 1 or more."""
        if limit < 1:
            raise ValueError(f"a mean of {limit} tokens")
        self._limit = limit
        self._sums: Tensor | None = None  # [U, T, T], float64, T the longest seen up to `limit`
        self._counts = torch.zeros(0, 0, dtype=torch.int64)
        self._distances = torch.zeros(0, dtype=torch.float64)
        self._queries = 0

    @torch.no_grad()
    def add(self, attention: Sequence[Tensor], real: Tensor | None = None) -> None:
        """Take in the attention in some more samples.

        attention: for each unit [B, H, T, T], rows of softmax weights; H may differ between units and T between
        batches. real: [B, T], bool, False where a token is padding; what stands in padded rows and columns counts for
        nothing.

        Raises:
            ValueError: no unit, another number of units than before, or shapes that do not fit together.

        """
        units = list(attention)
        self._check(units, real)
        batch, _, steps, _ = units[0].shape
        device = units[0].device
        mask = torch.ones(batch, steps, dtype=torch.bool, device=device) if real is None else real.to(device)
        self._make_room(len(units), min(steps, self._limit), device)
        both = mask[:, :, None] & mask[:, None, :]  # [B, T, T]
        kept = min(steps, self._limit)
        self._counts[:kept, :kept] += both[:, :kept, :kept].sum(0)
        self._queries += int(mask.sum())
        places = torch.arange(steps, device=device)
        apart = (places[:, None] - places[None, :]).abs().to(torch.float64)
        for number, unit in enumerate(units):
            total = _over_samples(unit, both)
            self._distances[number] += (total * apart).sum()
            self._sums_of(number)[:kept, :kept] += total[:kept, :kept]

    def result(self) -> AttentionSummary:
        """Return the means of all that was added.

        Raises:
            ValueError: nothing was added.

        """
        if self._sums is None:
            raise ValueError("no attention was added")
        means = torch.where(self._counts > 0, self._sums / self._counts, math.nan)
        distance = (
            self._distances / self._queries if self._queries else torch.full_like(self._distances, math.nan)
        )
        return AttentionSummary(
            attention=means.cpu().numpy(),
            counts=self._counts.cpu().numpy(),
            distance=distance.cpu().numpy(),
            queries=self._queries,
        )

    def _check(self, units: list[Tensor], real: Tensor | None) -> None:
        if not units:
            raise ValueError("a network without attention")
        if self._sums is not None and len(units) != len(self._sums):
            raise ValueError(f"attention of {len(units)} units after {len(self._sums)}")
        batch, steps = units[0].shape[0], units[0].shape[-1]
        for unit in units:
            if unit.dim() != 4 or (unit.shape[0], *unit.shape[2:]) != (batch, steps, steps):  # noqa: PLR2004
                raise ValueError(
                    f"attention of shape {tuple(unit.shape)}, not [{batch}, H, {steps}, {steps}]"
                )
        if real is not None and real.shape != (batch, steps):
            raise ValueError(f"attention of shape {tuple(units[0].shape)} and a mask of {tuple(real.shape)}")

    def _make_room(self, units: int, steps: int, device: torch.device) -> None:
        """Let the sums grow to so many tokens."""
        if self._sums is None:
            self._sums = torch.zeros(units, 0, 0, dtype=torch.float64, device=device)
            self._counts = self._counts.to(device)
            self._distances = torch.zeros(units, dtype=torch.float64, device=device)
        more = steps - len(self._counts)
        if more > 0:
            self._sums = torch.nn.functional.pad(self._sums, (0, more, 0, more))
            self._counts = torch.nn.functional.pad(self._counts, (0, more, 0, more))

    def _sums_of(self, unit: int) -> Tensor:
        if self._sums is None:
            raise ValueError("no attention was added")
        return self._sums[unit]


def _over_samples(attention: Tensor, both: Tensor) -> Tensor:
    """Return the sum over samples of the mean over heads, padding left out: [T, T], float64."""
    heads = attention.mean(1, dtype=torch.promote_types(attention.dtype, torch.float32))  # [B, T, T]
    # Filled, not multiplied: a row of padding alone may be NaN.
    return heads.masked_fill_(~both, 0).sum(0, dtype=torch.float64)
