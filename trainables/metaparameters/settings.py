"""How metaparameters are optimised: what a searcher hands to a trial. No torch here.

Source: "Metaparameter optimization in knowledge distillation", equation 3 and Algorithm 1. e1 iterations of gradient
steps alternate with e2 iterations in which a straight line, fitted to the last e1 values, moves the metaparameters
without any hypergradient; e2 = 0 is the greedy gradient method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from kdsearch.spaces.errors import UnknownNameError, UsageError

WHERE = "the optimiser of metaparameters"


class Hypergradient(StrEnum):
    """How the validation loss is differentiated through one step of the model."""

    EXACT = "exact"  # forward-mode differentiation along the validation gradient
    FINITE_DIFFERENCE = "finite-difference"  # central, two more forward passes (the paper's, after DARTS)


class Fit(StrEnum):
    """What the straight line of Algorithm 1 is fitted to."""

    VALUE = "value"  # the values of the last e1 iterations; the line gives the next values
    INCREMENT = "increment"  # their changes (the paper's equation 4); the line gives the next changes


@dataclass(frozen=True, kw_only=True)
class OptimiserSettings:
    """Settings of one gradient optimiser of metaparameters.

    start and bounds have the same keys, the metaparameters' names; start is in the closed interval bounds.
    rate: the metaparameters' learning rate, above 0. e1 is 1 or more, e2 0 or more (iterations). clip: hypergradients
    are clipped element by element to [-clip, clip] (None: not at all). epsilon: the finite difference steps by
    epsilon / ||v|| along the validation gradient v.

    Raises:
        UsageError: a value is outside its range.
        UnknownNameError: a key, hypergradient or fit is unknown.

    """

    start: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    rate: float = 0.1
    e1: int = 10
    e2: int = 0
    hypergradient: Hypergradient = Hypergradient.EXACT
    fit: Fit = Fit.VALUE
    clip: float | None = None
    epsilon: float = 0.01

    def __post_init__(self) -> None:
        for name, kind in (("hypergradient", Hypergradient), ("fit", Fit)):
            value = getattr(self, name)
            if value not in list(kind):
                raise UnknownNameError(name, str(value), [str(each) for each in kind], WHERE)
            object.__setattr__(self, name, kind(value))
        _whole("e1", self.e1, 1, "the line needs at least one gradient step to be fitted to")
        _whole("e2", self.e2, 0, "0 means the greedy gradient method, without prediction")
        for name in ("rate", "epsilon"):
            _above_zero(name, getattr(self, name))
        if self.clip is not None:
            _above_zero("clip", self.clip)
        for name, (low, high) in self.bounds.items():
            if not low <= high:
                raise UsageError(f"bounds of {name} in {WHERE} are [{low}, {high}]", "The lower comes first.")
        for name, value in self.start.items():
            low, high = self.bounds.get(name, (-math.inf, math.inf))
            if not (math.isfinite(value) and low <= value <= high):
                raise UsageError(
                    f"{name} starts at {value} in {WHERE}", f"It must be finite and in [{low}, {high}]."
                )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> OptimiserSettings:
        """Read plain data; the inverse of `to_mapping`."""
        known = [each.name for each in fields(cls)]
        for key in mapping:
            if key not in known:
                raise UnknownNameError("key", key, known, WHERE)
        values = dict(mapping)
        values["bounds"] = {name: (pair[0], pair[1]) for name, pair in mapping.get("bounds", {}).items()}
        return cls(**values)

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data, as JSON holds it."""
        data = asdict(self) | {"hypergradient": str(self.hypergradient), "fit": str(self.fit)}
        return data | {"bounds": {name: list(pair) for name, pair in self.bounds.items()}}


def _whole(name: str, value: object, least: int, why: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(
            f"{name} of {WHERE} is {value!r}", f"It must be a whole number, {least} or more: {why}."
        )


def _above_zero(name: str, value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and value > 0):
        raise UsageError(f"{name} of {WHERE} is {value!r}", "It must be a finite number above 0.")
