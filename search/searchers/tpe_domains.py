"""Spaces as libraries of TPE can search them: parameters without conditions or constraints.

A finite parameter is searched by the index of its value, so that proposals are the space's own values; one with a
single value is none of the library's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kdsearch.search.searchers.checks import generic
from kdsearch.spaces import Configuration, DesignSpace, Domain, Float, Space, Value
from kdsearch.spaces.domains import read_domain
from kdsearch.spaces.errors import UsageError


@dataclass(frozen=True)
class Domains:
    """The parameters of a space that are free, and the values of the others."""

    space: Space
    free: Mapping[str, Domain]
    constants: Mapping[str, Value]

    @classmethod
    def of(cls, space: DesignSpace) -> Domains:
        """Take a space apart.

        Raises:
            UsageError: it has conditional parameters or constraints, a single configuration, or is no space of
                parameters.

        """
        own = generic(space, "the searcher tpe")
        conditional = [name for name, spec in own.parameters_spec().items() if "when" in spec]
        if conditional:
            raise UsageError(
                f"the searcher tpe cannot search conditional parameters: {', '.join(conditional)}",
                "Use the searcher random, or one sweep for each value of the parameter they depend on.",
            )
        if own.constraints:
            raise UsageError(
                f"the searcher tpe does not keep constraints: {'; '.join(map(str, own.constraints))}",
                "Use the searcher random, or leave the constraints out.",
            )
        domains = {name: read_domain(spec, name) for name, spec in own.parameters_spec().items()}
        constants = {name: value for name, each in domains.items() if (value := _only(each)) is not None}
        free = {name: each for name, each in domains.items() if name not in constants}
        if not free:
            raise UsageError(
                "the space has a single configuration: there is nothing to search",
                "Use the searcher enumeration.",
            )
        return cls(own, free, constants)

    def configuration(self, found: Mapping[str, float]) -> dict[str, Value]:
        """What a library proposed, as a configuration: numbers of intervals, and indices of finite parameters."""
        values: Configuration = {name: self._value(name, found[name]) for name in self.free}
        return self.space.canonical({**values, **self.constants})

    def _value(self, name: str, found: float) -> Value:
        domain = self.free[name]
        if isinstance(domain, Float):
            return min(max(float(found), domain.low), domain.high)
        return domain.at(min(max(round(found), 0), domain.size - 1))


def _only(domain: Domain) -> Value | None:
    """The value of a parameter that can be nothing else."""
    if isinstance(domain, Float):
        return domain.low if domain.low == domain.high else None
    return domain.at(0) if domain.size == 1 else None
