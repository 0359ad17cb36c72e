"""What every design space offers: the generic `Space` and the `KtgSpace` both fulfil `DesignSpace`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from kdsearch.spaces.restriction import Restriction
from kdsearch.spaces.values import SEPARATOR, Configuration, Value, label_of

INACTIVE = "(inactive)"  # the label of a conditional parameter in configurations that have none of it


@dataclass(frozen=True)
class Counts:
    """Exact sizes of a space; None stands for infinitely many.

    `encodings` are configurations as written, `classes` are configurations up to the space's symmetry; the
    valid ones fulfil the space's constraints too (a graph whose target can learn, for instance) and are what
    is sampled.
    """

    encodings: int | None
    classes: int | None
    valid_encodings: int | None
    valid_classes: int | None

    def to_dict(self) -> dict[str, int | None]:
        """Return the four numbers under their names."""
        return asdict(self)


@dataclass(frozen=True)
class ConditionGroup:
    """A group of conditions: parameters whose values, taken together without order, are compared and fixed.

    name: as restrictions call the group.
    values: labels of the values that valid configurations of the space can have, in the order of the space's
    lists.
    members: names of the parameters.
    levels: labels of what a single member can be, in the order of the space's lists.
    """

    name: str
    values: tuple[str, ...]
    members: tuple[str, ...]
    levels: tuple[str, ...]

    def value_of(self, configuration: Configuration) -> str:
        """Return the label of the group's value in a configuration of the space."""
        found: list[Value] = [configuration.get(member, INACTIVE) for member in self.members]
        return SEPARATOR.join(sorted((label_of(value) for value in found), key=self.levels.index))

    def restriction(self, value: str) -> Restriction:
        """Return the restriction that fixes the group at one of `values`."""
        return Restriction(self.name, tuple(value.split(SEPARATOR)) if len(self.members) > 1 else (value,))


@runtime_checkable
class DesignSpace(Protocol):
    """A set of configurations: immutable, hashable, with the lineage that led to it."""

    @property
    def name(self) -> str | None:
        """The space's name in its lineage ("A", "B", ...); no part of its identity."""

    @property
    def parent(self) -> DesignSpace | None:
        """The space that `restriction` was added to; None for a root."""

    @property
    def restriction(self) -> Restriction | None:
        """The last restriction, which led here from `parent`."""

    @property
    def restrictions(self) -> tuple[Restriction, ...]:
        """All restrictions since the root, in order."""

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of all parameters, in the order in which configurations list them."""

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of `to_spec()`: 64 hexadecimal digits."""

    def counts(self) -> Counts:
        """Return the exact sizes of the space."""

    def sample(self, rng: np.random.Generator) -> dict[str, Value]:
        """Return a configuration drawn uniformly from the valid encodings, the same on every machine."""

    def enumerate(self, *, classes: bool = False) -> Iterator[dict[str, Value]]:
        """Yield every valid encoding once, lazily; with `classes`, one canonical configuration of each class.

        Raises:
            SpaceError: if there are infinitely many.
        """

    def __contains__(self, configuration: object) -> bool:
        """Tell whether a configuration is complete, valid and within the restrictions."""

    def canonical(self, configuration: Configuration) -> dict[str, Value]:
        """Return the representative of the configuration's class, the same for all its mirror images.

        Raises:
            SpaceError: if the configuration is not one of the root space's parameters and values.
        """

    def orbit_size(self, configuration: Configuration) -> int:
        """Return how many encodings the configuration's class has."""

    def groups(self) -> tuple[ConditionGroup, ...]:
        """Return the groups of conditions that are open here: those with two or more possible values."""

    def restrict(self, restriction: Restriction, *, name: str | None = None) -> Self:
        """Return the child space that `restriction` leaves.

        Raises:
            UnknownNameError: if its group or a value is unknown.
            SpaceError: if it contradicts an earlier one or leaves no valid configuration.
        """

    def renamed(self, name: str | None) -> Self:
        """Return the same space under another name."""

    def parameters_spec(self) -> dict[str, Any]:
        """Return for each parameter, by name, what it can be under the restrictions, as plain data."""

    def to_spec(self) -> dict[str, Any]:
        """Return plain data with the restrictions, without the name, that `space_from_spec` reads back."""


def lineage(space: DesignSpace) -> tuple[DesignSpace, ...]:
    """Return the spaces from the root to `space`, both included."""
    spaces = [space]
    while spaces[-1].parent is not None:
        spaces.append(spaces[-1].parent)
    return tuple(reversed(spaces))
