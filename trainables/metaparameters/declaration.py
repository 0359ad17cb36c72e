"""What a trainable says of a metaparameter that its loss can be differentiated by. No torch here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Metaparameter:
    """A real number in the loss; the loss is defined for values in the closed interval [low, high].

    A space may hold a part of that interval only; values are then clamped to the space.
    """

    name: str  # as in configurations: "lambda_1", "temperature", "weight.2->1"
    low: float
    high: float
