"""What a network over time is: a beginning, units one after another, and an end.

Features between units are [B, T, D]: records, time steps, depth. The blocks of block-by-block matching are runs of
whole units (`Blocks`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Features:
    """What units hand to each other.

    time: [B, T, D]. beside: tokens that are not on the time axis (class and distillation token), or doubled on it
    (distillation tokens of the hours): [B, E, D]; None where a network has none.
    """

    time: Tensor
    beside: Tensor | None = None


class SeriesNetwork(nn.Module, ABC):
    """A network cut at its units.

    units: how many. per_step: logits are [B, T, C], one for each time step and of nothing after it; otherwise
    [B, C]. depths: D after each unit. has_attention: `attention` is there; distillation: `finish_both` is.

    Everywhere below, values is [B, T, F], and real is [B, T], bool, true from a record's first step to its last;
    None: all are. Padding, behind the last step, changes nothing at real steps, whatever stands there; in the
    answers per step it has values of no meaning, which are finite.
    """

    units: int
    per_step: bool
    depths: tuple[int, ...]
    has_attention = False
    distillation = False

    @abstractmethod
    def begin(self, values: Tensor, real: Tensor | None) -> Features:
        """Return what the first unit takes.

        Raises:
            ValueError: records of a length, or with padding, that this network cannot take.

        """

    @abstractmethod
    def unit(self, index: int, features: Features, real: Tensor | None) -> Features:
        """Apply unit `index`, in [0, units)."""

    @abstractmethod
    def finish(self, features: Features, real: Tensor | None) -> Tensor:
        """Return logits of the last unit's features; with distillation tokens the mean of both heads' logits."""

    @abstractmethod
    def lengths(self, steps: int) -> tuple[int, ...]:
        """Return T after each unit, of records of `steps` time steps."""

    def finish_both(self, features: Features, real: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the logits of the class token (of the rows, if per step) and of the distillation token.

        Raises:
            NotImplementedError: the network was built without distillation.

        """
        raise NotImplementedError(f"this {type(self).__name__} has no distillation token")

    def attention(self, values: Tensor, real: Tensor | None = None) -> list[Tensor]:
        """Return each unit's attention among tokens on the time axis, [B, H, T, T]: of query (row) to key (column).

        Other tokens' columns are left out and rows add up to 1 again, padded ones too; padded columns are 0 in rows
        of real steps.

        Raises:
            NotImplementedError: the network has none.

        """
        raise NotImplementedError(f"a {type(self).__name__} has no attention")

    def encode(self, values: Tensor, real: Tensor | None = None) -> Features:
        """Return the features after the last unit."""
        return self.trace(values, real)[-1]

    def trace(self, values: Tensor, real: Tensor | None = None) -> list[Features]:
        """Return the features after each unit."""
        features = self.begin(values, real)
        found = []
        for index in range(self.units):
            features = self.unit(index, features, real)
            found.append(features)
        return found

    def forward(self, values: Tensor, real: Tensor | None = None) -> Tensor:
        """Return logits, [B, T, C] if per step, otherwise [B, C]."""
        return self.finish(self.encode(values, real), real)


def without_padding(values: Tensor, real: Tensor | None) -> Tensor:
    """Return values [B, T, F] with zeros for padding: a NaN there would reach gradients, and attention, as 0 * NaN."""
    return values if real is None else values.masked_fill(~real[:, :, None], 0)
