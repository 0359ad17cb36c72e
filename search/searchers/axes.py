"""Spaces as libraries of search see them: one axis for each parameter, parents before children.

A finite parameter is searched by the index of its value, its place, so that proposals are the space's own values; a
continuous one by its value. What restrictions leave of a parameter is its axis; an axis of a single value is none of
the library's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kdsearch.spaces import (
    Categorical,
    Configuration,
    DesignSpace,
    Domain,
    Float,
    Integer,
    Quantised,
    Space,
    Value,
)
from kdsearch.spaces.domains import read_domain
from kdsearch.spaces.errors import UsageError
from kdsearch.spaces.parameters import Parameter, read_parameter, sorted_by_dependence
from kdsearch.spaces.values import same_value


@dataclass(frozen=True)
class Axis:
    """What one parameter can be."""

    name: str
    domain: Domain
    ordered: bool  # neighbouring places are alike
    when: tuple[tuple[str, tuple[Value, ...]], ...] = ()  # as in `Parameter`

    @property
    def constant(self) -> Value | None:
        """The value of a parameter that can be nothing else."""
        if isinstance(self.domain, Float):
            return self.domain.low if self.domain.low == self.domain.high else None
        return self.domain.at(0) if self.domain.size == 1 else None

    def is_active(self, decided: Configuration) -> bool:
        """Whether the parameters that were decided before have values that make this one active."""
        return all(
            parent in decided and any(same_value(decided[parent], value) for value in values)
            for parent, values in self.when
        )

    def value_of(self, place: float) -> Value:
        """The value at a place, or the nearest one there is."""
        if isinstance(self.domain, Float):
            return min(max(float(place), self.domain.low), self.domain.high)
        return self.domain.at(min(max(round(place), 0), self.domain.size - 1))

    def place_of(self, value: Value) -> float | int:
        """The place of a value of the domain."""
        match self.domain:
            case Categorical(values=values):
                return next(place for place, own in enumerate(values) if same_value(own, value))
            case Integer(low=low, step=step) | Quantised(low=low, step=step):
                return round((float(value) - low) / step)
            case Float():
                return float(value)


def axes_of(space: DesignSpace) -> tuple[Axis, ...]:
    """The axes of a space. Not all of their combinations need be configurations of it."""
    specs = space.parameters_spec()
    if isinstance(space, Space):
        parameters: Sequence[Parameter] = sorted_by_dependence(space.parameters)
    else:
        parameters = [read_parameter(name, spec, f"the parameter {name}") for name, spec in specs.items()]
    axes = []
    for parameter in parameters:
        left = {key: value for key, value in specs[parameter.name].items() if key != "when"}
        if left.get("values") == []:
            continue  # restrictions let it be inactive only
        ordered = not isinstance(parameter.domain, Categorical)
        domain = read_domain(left, f"the parameter {parameter.name}")
        axes.append(Axis(parameter.name, domain, ordered, parameter.when))
    return tuple(axes)


def check_unconditional(axes: Sequence[Axis], searcher: str) -> None:
    """Refuse parameters that exist in some configurations only.

    Raises:
        UsageError: naming them.

    """
    conditional = [axis.name for axis in axes if axis.when]
    if conditional:
        raise UsageError(
            f"the searcher {searcher} has one dimension for each parameter, and these are conditional (when): "
            f"{', '.join(conditional)}",
            "Use tpe or random, or one sweep for each value of the parameter they depend on.",
        )


def free(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Those that a library is asked about."""
    return tuple(axis for axis in axes if axis.constant is None)


def walk(axes: Sequence[Axis], choose: Callable[[Axis], float]) -> dict[str, Value]:
    """Decide one parameter after another; `choose` gives the place of a free one that is active."""
    decided: dict[str, Value] = {}
    for axis in axes:
        if axis.is_active(decided):
            constant = axis.constant
            decided[axis.name] = axis.value_of(choose(axis)) if constant is None else constant
    return decided


def places(axes: Sequence[Axis], configuration: Configuration) -> Mapping[str, float | int]:
    """The places of a configuration's free parameters."""
    return {
        axis.name: axis.place_of(configuration[axis.name])
        for axis in free(axes)
        if axis.name in configuration
    }
