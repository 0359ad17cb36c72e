"""Places on the small bars of the page's tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_MARGIN = 0.04  # of the range, at either end


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Places values on a bar, from 0 to 100 per cent of its width."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Sequence[float]) -> Scale:
        """One scale for all these values, with a margin."""
        low, high = min(values), max(values)
        margin = _MARGIN * (high - low)
        return cls(low=low - margin, high=high + margin)

    def at(self, value: float) -> str:
        """Where a value stands, as CSS wants it."""
        width = self.high - self.low
        return f"{100 * (value - self.low) / width if width else 50.0:.2f}%"

    def span(self, low: float, high: float) -> str:
        """How wide an interval is."""
        width = self.high - self.low
        return f"{100 * (high - low) / width if width else 0.0:.2f}%"
