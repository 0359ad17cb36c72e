"""Parameters as Optuna's distributions, and the other way round.

| kdsearch | Optuna |
| --- | --- |
| categorical | `CategoricalDistribution` with the parameter's own values, in their order |
| integer, with step | `IntDistribution`, with step |
| quantised | `FloatDistribution` with step |
| float, log-uniform | `FloatDistribution`, with log |

A study needs one distribution for each parameter. Values that trials have and the parameter has not (of configurations
that a sweep file names) widen it; parameters that the space does not have at all get one that fits their values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from kdsearch.spaces import (
    Categorical,
    Configuration,
    DesignSpace,
    Domain,
    Float,
    Integer,
    LogUniform,
    Quantised,
    Value,
    label_of,
)
from kdsearch.spaces.domains import is_number, read_domain
from kdsearch.spaces.errors import SpaceError


@dataclass(frozen=True, kw_only=True)
class Distributions:
    """How a sweep's parameters stand in a study."""

    by_name: Mapping[str, BaseDistribution]
    as_text: tuple[
        str, ...
    ]  # parameters with values that Optuna takes for one (1, 1.0, true): labels stand for them

    def params(self, configuration: Configuration) -> dict[str, Value]:
        """Return a configuration as a trial of the study has it."""
        return {
            name: label_of(value) if name in self.as_text else self._own(name, value)
            for name, value in configuration.items()
        }

    def of(self, configuration: Configuration) -> dict[str, BaseDistribution]:
        """Return the distributions of the parameters that a configuration has."""
        return {name: self.by_name[name] for name in configuration}

    def _own(self, name: str, value: Value) -> Value:
        return float(value) if isinstance(self.by_name[name], FloatDistribution) else value


def distributions_of(space: DesignSpace, configurations: Sequence[Configuration]) -> Distributions:
    """Return the distributions of the parameters that the configurations have, in the space's order."""
    known = {name: read_domain(_plain(spec), name) for name, spec in space.parameters_spec().items()}
    names = dict.fromkeys([*known, *(name for each in configurations for name in each)])
    found: dict[str, BaseDistribution] = {}
    as_text = []
    for name in names:
        values = [each[name] for each in configurations if name in each]
        if not values:
            continue
        found[name], text = _distribution(known.get(name), values)
        if text:
            as_text.append(name)
    return Distributions(by_name=found, as_text=tuple(as_text))


def _plain(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter's specification without its condition."""
    return {key: value for key, value in spec.items() if key != "when"}


def _distribution(domain: Domain | None, values: Sequence[Value]) -> tuple[BaseDistribution, bool]:
    """The distribution that holds all values, and whether they are told by their labels."""
    inside = domain is not None and all(domain.find(value) is not None for value in values)
    match domain:
        case Categorical() if inside or not all(map(is_number, values)):
            return _categorical([*domain.values, *values])
        case Float() if inside:
            return FloatDistribution(domain.low, domain.high, log=isinstance(domain, LogUniform)), False
        case Integer() if inside:
            return IntDistribution(domain.low, domain.high, step=domain.step), False
        case Categorical() | None:
            return _fitting([*(domain.values if domain else ()), *values])
        case Quantised() if inside:
            return FloatDistribution(domain.low, domain.high, step=domain.step), False
        case _:
            return _widened(domain, values)


def _categorical(values: Sequence[Value]) -> tuple[BaseDistribution, bool]:
    labels = {label_of(value): value for value in values}
    choices = list(labels.values())
    confused = any(
        left == right for i, left in enumerate(choices) for right in choices[:i]
    )  # 1 == 1.0 == True
    return CategoricalDistribution(tuple(labels) if confused else tuple(choices)), confused


def _fitting(values: Sequence[Value]) -> tuple[BaseDistribution, bool]:
    """What fits values of which nothing is known but themselves."""
    numbers = [value for value in values if is_number(value)]
    if len(numbers) < len(values):
        return _categorical(values)
    return _interval(numbers), False


def _interval(numbers: Sequence[int | float]) -> BaseDistribution:
    low, high = min(numbers), max(numbers)
    if all(isinstance(number, int) for number in numbers):
        return IntDistribution(int(low), int(high))
    return FloatDistribution(float(low), float(high))


def _widened(domain: Domain, values: Sequence[Value]) -> tuple[BaseDistribution, bool]:
    """An interval that holds the parameter's own and the values outside it."""
    if isinstance(domain, Categorical) or not all(map(is_number, values)):
        ends = domain.values if isinstance(domain, Categorical) else (domain.low, domain.high)
        return _categorical([*ends, *values])
    numbers = [value for value in (*values, domain.low, domain.high) if is_number(value)]
    if isinstance(domain, LogUniform) and min(numbers) > 0:
        return FloatDistribution(float(min(numbers)), float(max(numbers)), log=True), False
    return _interval(numbers), False


def parameter_spec(distribution: BaseDistribution) -> dict[str, Any]:
    """Return a parameter of a space for a distribution, as in a sweep file.

    Raises:
        SpaceError: a choice is no value that a parameter can have (None, a list).

    """
    match distribution:
        case CategoricalDistribution():
            for choice in distribution.choices:
                if not isinstance(choice, str | int | float | bool):
                    raise SpaceError(
                        f"{choice!r} is no value that a parameter can have",
                        "Text, numbers, true and false are. Give the space with --space: a label such as "
                        f"{str(choice)!r} stands for it there.",
                    )
            return {"type": "categorical", "values": list(distribution.choices)}
        case IntDistribution():
            return {"type": "integer"} | _ends(distribution) | {"step": distribution.step}
        case FloatDistribution() if distribution.step is not None:
            return {"type": "quantised"} | _ends(distribution) | {"step": distribution.step}
        case FloatDistribution():
            return {"type": "log-uniform" if distribution.log else "float"} | _ends(distribution)
    raise SpaceError(f"the distribution {distribution} is not known", "Give the space with --space.")


def _ends(distribution: IntDistribution | FloatDistribution) -> dict[str, Any]:
    return {"low": distribution.low, "high": distribution.high}
