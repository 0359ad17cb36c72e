"""Named parameters, and the conditions under which they are active."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from kdsearch.spaces import reading
from kdsearch.spaces.constraints import read_values
from kdsearch.spaces.domains import Domain, Float, domain_spec, read_domain
from kdsearch.spaces.errors import SpaceError, UnknownNameError
from kdsearch.spaces.values import Value


@dataclass(frozen=True)
class Parameter:
    """A parameter of a space.

    when: pairs of a parent parameter and values of its; the parameter is active if every parent is active and
        has one of its values. Empty: always active.
    """

    name: str
    domain: Domain
    when: tuple[tuple[str, tuple[Value, ...]], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "when", tuple(sorted(self.when, key=lambda pair: pair[0])))

    def when_spec(self) -> dict[str, Any]:
        """Return `{when: {parent: value or list, ...}}`, or nothing if it is always active."""
        if not self.when:
            return {}
        return {"when": {parent: vs[0] if len(vs) == 1 else list(vs) for parent, vs in self.when}}

    def to_spec(self) -> dict[str, Any]:
        """Return the specification, without the name."""
        return domain_spec(self.domain) | self.when_spec()


def read_parameter(name: str, data: object, where: str) -> Parameter:
    """Read what `to_spec` of a parameter writes; `where` names the place in messages."""
    spec = dict(reading.mapping(data, where))
    when = spec.pop("when", {})
    conditions = read_values(reading.mapping(when, f"{where}.when"), f"{where}.when")
    return Parameter(reading.text(name, f"name of {where}"), read_domain(spec, where), conditions)


def sorted_by_dependence(parameters: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """Return the parameters with parents before children, otherwise by name.

    The order does not depend on that of the specification, so that neither do counts and samples.

    Raises:
        UnknownNameError: if a condition names an unknown parameter.
        SpaceError: if conditions form a circle, or name a continuous parent or a value that it cannot have.
    """
    by_name = {parameter.name: parameter for parameter in parameters}
    for parameter in parameters:
        for parent, values in parameter.when:
            _check_condition(parameter.name, parent, values, by_name)
    sorter = TopologicalSorter({p.name: [parent for parent, _ in p.when] for p in parameters})
    try:
        sorter.prepare()
    except CycleError as error:
        raise SpaceError(
            f"conditions form a circle: {' -> '.join(error.args[1])}", "Let one of them be always active."
        ) from error
    found: list[Parameter] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        found += [by_name[name] for name in ready]
        sorter.done(*ready)
    return tuple(found)


def _check_condition(
    name: str, parent: str, values: Sequence[Value], by_name: Mapping[str, Parameter]
) -> None:
    if parent not in by_name:
        raise UnknownNameError("parameter", parent, by_name, f"the condition (when) of {name}")
    domain = by_name[parent].domain
    if isinstance(domain, Float):
        raise SpaceError(
            f"the condition (when) of {name} names {parent}, which is continuous", "Quantise it."
        )
    for value in values:
        if domain.find(value) is None:
            raise SpaceError(
                f"the condition (when) of {name} has the value {value!r} of {parent}",
                f"{parent} is {domain}.",
            )
