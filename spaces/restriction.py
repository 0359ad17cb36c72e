"""Restrictions: what is added to a space to give a child space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from kdsearch.spaces import reading
from kdsearch.spaces.errors import SpaceError
from kdsearch.spaces.values import SEPARATOR

Mode: TypeAlias = Literal["equals", "only"]
MODES: tuple[Mode, ...] = ("equals", "only")


@dataclass(frozen=True)
class Restriction:
    """A restriction of one group of parameters.

    `equals`: the members' values are `values` in some order (a multiset, as long as the group has members).
    `only`: each member's value is one of `values`.
    Values are labels (`kdsearch.spaces.label_of`), whatever the type of the parameters.
    """

    group: str
    values: tuple[str, ...]
    mode: Mode = "equals"

    def __post_init__(self) -> None:
        reading.text(self.group, "a restriction's group")
        given: object = self.values
        if isinstance(given, str):
            raise SpaceError(f"restriction of {self.group}: values are the text {given!r}", "Give a tuple.")
        if not self.values:
            raise SpaceError(f"restriction of {self.group}: no values are given", "Give at least one value.")
        if self.mode not in MODES:
            raise SpaceError(
                f"restriction of {self.group}: unknown mode {self.mode!r}", f"Known: {', '.join(MODES)}."
            )
        object.__setattr__(self, "values", tuple(self.values))

    def __str__(self) -> str:
        if self.mode == "only":
            return f"{self.group} only {', '.join(self.values)}"
        return f"{self.group} = {SEPARATOR.join(self.values)}"

    def to_dict(self) -> dict[str, Any]:
        """Return what stands in a specification: `{group: value}`, `{group: [...]}` or `{group: {only: [...]}}`."""
        if self.mode == "only":
            return {self.group: {"only": list(self.values)}}
        return {self.group: self.values[0] if len(self.values) == 1 else list(self.values)}

    @classmethod
    def from_dict(cls, data: object, where: str = "a restriction") -> Restriction:
        """Read what `to_dict` returns.

        Raises:
            SpaceError: if it has not exactly one group, or values that are not labels; `where` names the
            place.
        """
        spec = reading.mapping(data, where)
        if len(spec) != 1:
            raise SpaceError(
                f"{where} names {len(spec)} groups",
                "Write one entry for each group: [{group: values}, {...}].",
            )
        ((group, values),) = spec.items()
        place = f"{where} ({group})"
        if isinstance(values, Mapping):
            only = reading.fields(values, place, required=("only",))["only"]
            return cls(group, reading.labels(only, place), "only")
        return cls(group, reading.labels(values, place))


def read_restrictions(data: object, where: str) -> tuple[Restriction, ...]:
    """Read a specification's list of restrictions; `where` names the place in messages."""
    if isinstance(data, Mapping):
        raise SpaceError(
            f"{where} is a mapping", "Write a list with one entry for each: [{group: values}, ...]."
        )
    entries: Sequence[Any] = reading.sequence(data, where)
    return tuple(Restriction.from_dict(entry, f"{where}[{index}]") for index, entry in enumerate(entries))
