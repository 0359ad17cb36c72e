"""Exact counting and unranking of configurations with conditional parameters and constraints.

Parameters are decided one after another, parents before children. What is decided so far matters to the rest
only through the parameters that later conditions and open constraints still speak of; the number of
completions is remembered under their values. So spaces far too large to list are counted exactly, and a
uniform integer below the count becomes a uniform configuration without rejection.

A continuous parameter counts as one cell: what it will be is drawn later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from kdsearch.spaces.constraints import Constraint
from kdsearch.spaces.domains import Finite
from kdsearch.spaces.values import Value, label_of, same_value

CONTINUOUS: Final = "continuous"  # takes the place of a size and of a value


@dataclass(frozen=True)
class Choice:
    """What the restrictions leave of one parameter.

    values: a finite domain, a list of values, or CONTINUOUS.
    when: parent parameters and the values of theirs that make this one active; all must agree.
    may_be_active, may_be_inactive: whether restrictions admit configurations with it and without it.
    """

    name: str
    values: Finite | tuple[Value, ...] | str
    when: tuple[tuple[str, tuple[Value, ...]], ...]
    may_be_active: bool = True
    may_be_inactive: bool = True

    @property
    def size(self) -> int:
        """The number of values; a continuum counts as one."""
        if isinstance(self.values, str):
            return 1
        return len(self.values) if isinstance(self.values, tuple) else self.values.size

    def at(self, index: int) -> Value:
        """Return the value of an index in [0, size)."""
        if isinstance(self.values, str):
            return CONTINUOUS
        return self.values[index] if isinstance(self.values, tuple) else self.values.at(index)

    def is_active(self, decided: Mapping[str, Value]) -> bool:
        """Tell whether the parents have values that make the parameter active."""
        return all(
            parent in decided and any(same_value(decided[parent], value) for value in values)
            for parent, values in self.when
        )


@dataclass(frozen=True)
class Completions:
    """How many ways there are to decide the remaining parameters, and whether one has a continuous one."""

    cells: int
    continuous: bool


DONE: Final = Completions(1, continuous=False)


@dataclass(frozen=True, eq=False)
class Tree:
    """The decisions of a space.

    choices: parents before children.
    constraints: those that are decided by finite parameters alone.
    """

    choices: Sequence[Choice]
    constraints: Sequence[Constraint]
    _known: dict[tuple[object, ...], Completions] = field(default_factory=dict, repr=False)
    _due: list[list[Constraint]] = field(init=False, repr=False)  # constraints decided by each choice
    _matters: list[tuple[str, ...]] = field(
        init=False, repr=False
    )  # earlier parameters that matter from it on

    def __post_init__(self) -> None:
        place = {choice.name: index for index, choice in enumerate(self.choices)}
        last = [max(place[name] for name in constraint.parameters) for constraint in self.constraints]
        due = [
            [c for c, end in zip(self.constraints, last, strict=True) if end == i]
            for i in range(len(self.choices))
        ]
        matters = []
        for index in range(len(self.choices) + 1):
            named = {parent for choice in self.choices[index:] for parent, _ in choice.when}
            open_constraints = (c for c, end in zip(self.constraints, last, strict=True) if end >= index)
            named |= {name for constraint in open_constraints for name in constraint.parameters}
            matters.append(tuple(sorted(name for name in named if place[name] < index)))
        object.__setattr__(self, "_due", due)
        object.__setattr__(self, "_matters", matters)

    def count(self) -> Completions:
        """Return the number of configurations, and whether one of them has an active continuous parameter."""
        return self._completions(0, {})

    def unrank(self, rank: int) -> dict[str, Value]:
        """Return the configuration of a rank in [0, count), with CONTINUOUS where a value is to be drawn."""
        decided: dict[str, Value] = {}
        for index, choice in enumerate(self.choices):
            for span, each in self._steps(index, decided):
                ways = len(span) * each.cells if span else each.cells
                if rank < ways:
                    if span:
                        step, rank = divmod(rank, each.cells)
                        decided[choice.name] = choice.at(span[step])
                    break
                rank -= ways
        return decided

    def _completions(self, index: int, decided: Mapping[str, Value]) -> Completions:
        """Return the ways to decide the parameters from `index` on."""
        if index == len(self.choices):
            return DONE
        key = (
            index,
            *(label_of(decided[name]) if name in decided else None for name in self._matters[index]),
        )
        if key not in self._known:
            is_continuous = isinstance(self.choices[index].values, str)
            cells, continuous = 0, False
            for span, each in self._steps(index, decided):
                cells += len(span) * each.cells if span else each.cells
                continuous |= each.cells > 0 and (each.continuous or (is_continuous and bool(span)))
            self._known[key] = Completions(cells, continuous)
        return self._known[key]

    def _steps(self, index: int, decided: Mapping[str, Value]) -> Iterator[tuple[range, Completions]]:
        """Yield the ways to decide one parameter: spans of values (empty: inactive), with completions of each.

        Values that nothing later speaks of are taken in one span.
        """
        choice = self.choices[index]
        if not choice.is_active(decided):
            if choice.may_be_inactive and all(constraint.holds(decided) for constraint in self._due[index]):
                yield range(0), self._completions(index + 1, decided)
            return
        if not choice.may_be_active:
            return
        if choice.name not in self._matters[index + 1] and not self._due[index]:
            yield range(choice.size), self._completions(index + 1, decided)
            return
        for step in range(choice.size):
            further = {**decided, choice.name: choice.at(step)}
            if all(constraint.holds(further) for constraint in self._due[index]):
                yield range(step, step + 1), self._completions(index + 1, further)
