"""Constraints between parameters, as data: forbidden combinations and comparisons, never code to evaluate."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from kdsearch.spaces import reading
from kdsearch.spaces.errors import SpaceError, UnknownNameError
from kdsearch.spaces.values import Configuration, Value, label_of, same_value

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True)
class Forbidden:
    """A combination that no valid configuration has: all parameters active, each with one of its values."""

    values: tuple[tuple[str, tuple[Value, ...]], ...]  # parameter, its values; sorted by parameter

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(sorted(self.values, key=lambda pair: pair[0])))

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters that it speaks of."""
        return tuple(name for name, _ in self.values)

    def holds(self, configuration: Configuration) -> bool:
        """Tell whether the configuration avoids the combination; inactive parameters have no value."""
        return not all(
            name in configuration and any(same_value(configuration[name], value) for value in values)
            for name, values in self.values
        )

    def to_spec(self) -> dict[str, Any]:
        """Return `{forbid: {parameter: value or list, ...}}`."""
        return {"forbid": {name: vs[0] if len(vs) == 1 else list(vs) for name, vs in self.values}}

    def __str__(self) -> str:
        parts = (f"{name} = {' or '.join(map(label_of, values))}" for name, values in self.values)
        return f"never {' with '.join(parts)}"


@dataclass(frozen=True)
class Comparison:
    """A comparison of two numeric parameters, or of one with a number, that valid configurations fulfil.

    It asks nothing of configurations in which one of its parameters is inactive.
    """

    left: str
    operator: str  # one of OPERATORS
    right: str | int | float  # a parameter's name, or a number

    def __post_init__(self) -> None:
        if self.operator not in OPERATORS:
            raise UnknownNameError("operator", self.operator, OPERATORS, f"comparison of {self.left}")

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters that it speaks of."""
        return (self.left, self.right) if isinstance(self.right, str) else (self.left,)

    def holds(self, configuration: Configuration) -> bool:
        """Tell whether the configuration fulfils the comparison."""
        if any(name not in configuration for name in self.parameters):
            return True
        right = configuration[self.right] if isinstance(self.right, str) else self.right
        return OPERATORS[self.operator](configuration[self.left], right)

    def to_spec(self) -> dict[str, Any]:
        """Return `{compare: [left, operator, right]}`."""
        return {"compare": [self.left, self.operator, self.right]}

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


Constraint: TypeAlias = Forbidden | Comparison


def read_constraint(data: object, where: str) -> Constraint:
    """Read what `to_spec` of a constraint writes; `where` names the place in messages."""
    spec = reading.fields(data, where, optional=("forbid", "compare"))
    if len(spec) != 1:
        raise SpaceError(
            f"{where} has {len(spec)} rules",
            "Write {forbid: {parameter: value, ...}} or {compare: [left, <=, right]}.",
        )
    if "forbid" in spec:
        values = reading.mapping(spec["forbid"], f"{where}.forbid")
        if not values:
            raise SpaceError(f"{where}.forbid is empty", "Name at least one parameter and its values.")
        return Forbidden(read_values(values, f"{where}.forbid"))
    parts = reading.sequence(spec["compare"], f"{where}.compare")
    if len(parts) != 3:  # noqa: PLR2004 - left, operator, right
        raise SpaceError(f"{where}.compare has {len(parts)} parts", "Write [left, operator, right].")
    left, sign, right = parts
    place = f"{where}.compare"
    bound = right if isinstance(right, str) else reading.number(right, place)
    return Comparison(reading.text(left, place), reading.text(sign, place), bound)


def read_values(spec: Mapping[str, Any], where: str) -> tuple[tuple[str, tuple[Value, ...]], ...]:
    """Read a mapping of parameters to a value or a list of values."""
    found = []
    for name, given in sorted(spec.items()):
        place = f"{where}.{name}"
        entries = given if isinstance(given, (list, tuple)) else [given]
        if not entries:
            raise SpaceError(f"{place} is an empty list", "Give at least one value.")
        found.append((name, tuple(reading.value(entry, place) for entry in entries)))
    return tuple(found)
