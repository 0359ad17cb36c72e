"""The generic design space: parameters, conditions, constraints and restrictions.

What "uniform" means: each valid configuration is equally likely, a configuration being the values of its
active parameters, and a continuous parameter counting as one value, drawn by its own law. So a branch with
more (discrete) configurations below it is drawn more often, just as when all of them are listed and one is
picked. Where a constraint compares a continuous parameter, draws are repeated as a whole until it holds, at
most `MOST_DRAWS` times.

Restrictions speak of one parameter each. A restriction to values of a conditional parameter keeps
configurations in which it is active; the label "(inactive)" stands for those in which it is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Final, Self

import numpy as np

from kdsearch.spaces import reading
from kdsearch.spaces.constraints import Comparison, Constraint, read_constraint
from kdsearch.spaces.domains import Categorical, Float, domain_spec, is_number
from kdsearch.spaces.draws import integer_below
from kdsearch.spaces.errors import SpaceError, UnknownNameError
from kdsearch.spaces.parameters import Parameter, read_parameter, sorted_by_dependence
from kdsearch.spaces.protocol import INACTIVE, ConditionGroup, Counts
from kdsearch.spaces.restriction import Restriction, read_restrictions
from kdsearch.spaces.tree import CONTINUOUS, Choice, Tree
from kdsearch.spaces.values import Configuration, Value, digest, label_of, same_value

KIND: Final = "parameters"
MOST_VALUES: Final = (
    12  # a parameter with more values than this is no group of conditions unless the space says so
)
MOST_DRAWS: Final = 10_000


@dataclass(frozen=True)
class Space:
    """A space of configurations.

    parameters: in the order in which configurations list them.
    constraints: what valid configurations fulfil.
    group_names: the parameters whose values are compared as conditions; None: all finite ones with 2 to 12
    values.
    restrictions: all since the root; use `restrict` to add one.
    name, parent: the lineage; no part of the space's identity.

    Raises:
        UnknownNameError: if a condition, constraint, group or restriction names an unknown parameter or
        value.
        SpaceError: if a parameter is named twice, conditions form a circle, or nothing valid is left.
    """

    kind: ClassVar[str] = KIND

    parameters: tuple[Parameter, ...]
    constraints: tuple[Constraint, ...] = ()
    group_names: tuple[str, ...] | None = None
    restrictions: tuple[Restriction, ...] = ()
    name: str | None = field(default=None, compare=False)
    parent: Space | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        reading.distinct(self.parameter_names, "the list of parameters of a space")
        for constraint in self.constraints:
            _check_constraint(constraint, self._by_name)
        for name in self.group_names or ():
            self._parameter(name, "groups")
            if isinstance(self._by_name[name].domain, Float):
                raise SpaceError(
                    f"group {name} is continuous", "Groups compare finite parameters: quantise it."
                )
        if self.restrictions:
            *earlier, last = self.restrictions
            parent = self.parent or replace(self, restrictions=tuple(earlier), name=None)
            object.__setattr__(self, "parent", parent)
            object.__setattr__(self, "restrictions", (*parent.restrictions, self._normalised(last)))
        self._check_not_empty()

    @property
    def restriction(self) -> Restriction | None:
        """The last restriction, which led here from `parent`."""
        return self.restrictions[-1] if self.restrictions else None

    @cached_property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of the specification."""
        return tuple(parameter.name for parameter in self.parameters)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of `to_spec()`; the order of parameters is no part of it."""
        return digest(self.to_spec())

    def counts(self) -> Counts:
        """Return the exact sizes, None where infinite; there is no symmetry, so classes are encodings."""
        everything, valid = Tree(self._choices, ()).count(), self._tree.count()
        encodings = None if everything.continuous else everything.cells
        valid_encodings = None if valid.continuous else valid.cells
        return Counts(encodings, encodings, valid_encodings, valid_encodings)

    def sample(self, rng: np.random.Generator) -> dict[str, Value]:
        """Return a configuration drawn uniformly from the valid ones (see the module for what that means).

        Raises:
            SpaceError: if none of `MOST_DRAWS` draws of the continuous parameters fulfils the constraints.
        """
        for _ in range(MOST_DRAWS):
            decided = self._tree.unrank(integer_below(rng, self._tree.count().cells))
            configuration = {name: decided[name] for name in self.parameter_names if name in decided}
            for name in configuration:
                domain = self._by_name[name].domain
                if isinstance(domain, Float) and self._choice(name).values == CONTINUOUS:
                    configuration[name] = domain.draw(rng)
            if all(constraint.holds(configuration) for constraint in self._drawn_constraints):
                return configuration
        rules = "; ".join(map(str, self._drawn_constraints))
        raise SpaceError(
            f"no draw of {MOST_DRAWS} fulfils the constraints ({rules})",
            "Narrow the intervals to where they hold.",
        )

    def enumerate(self, *, classes: bool = False) -> Iterator[dict[str, Value]]:  # noqa: ARG002 - the protocol's
        """Return an iterator over every valid configuration, once each, lazily.

        Raises:
            SpaceError: at once, if there are infinitely many.
        """
        if self._tree.count().continuous:
            names = [choice.name for choice in self._choices if choice.values == CONTINUOUS]
            raise SpaceError(
                f"the space has infinitely many configurations: {', '.join(names)} continuous",
                "Sample it, or make these quantised or categorical.",
            )
        return self._listed()

    def __contains__(self, configuration: object) -> bool:
        """Tell whether a configuration has exactly the active parameters, with values that are left."""
        if not isinstance(configuration, Mapping) or not set(configuration) <= set(self.parameter_names):
            return False
        for choice in self._choices:
            active = choice.is_active(configuration)
            if active != (choice.name in configuration):
                return False
            if not (choice.may_be_active if active else choice.may_be_inactive):
                return False
            if active and not self._is_left(choice, configuration[choice.name]):
                return False
        return all(constraint.holds(configuration) for constraint in self.constraints)

    def canonical(self, configuration: Configuration) -> dict[str, Value]:
        """Return the configuration in the parameters' order with the domains' own values (0 is 0.0 in a float)."""
        for name in configuration:
            self._parameter(name, "a configuration")
        found: dict[str, Value] = {}
        for name in (name for name in self.parameter_names if name in configuration):
            value = self._by_name[name].domain.find(configuration[name])
            if value is None:
                raise SpaceError(
                    f"{name} is {configuration[name]!r} in a configuration",
                    f"It is {self._by_name[name].domain}.",
                )
            found[name] = value
        return found

    def orbit_size(self, configuration: Configuration) -> int:
        """Return 1 for any configuration of the space: it has no symmetry."""
        self.canonical(configuration)
        return 1

    def groups(self) -> tuple[ConditionGroup, ...]:
        """Return a group of conditions for each compared parameter that still has two or more values."""
        found = []
        for name in self.parameter_names if self.group_names is None else self.group_names:
            choice = self._choice(name)
            if choice.values != CONTINUOUS and (self.group_names is not None or choice.size <= MOST_VALUES):
                levels = tuple(label_of(choice.at(index)) for index in range(choice.size))
                labels = (*levels, *([INACTIVE] if self._by_name[name].when else []))
                values = tuple(label for label in labels if self._is_possible(Restriction(name, (label,))))
                if len(values) > 1:
                    found.append(ConditionGroup(name, values, (name,), labels))
        return tuple(found)

    def restrict(self, restriction: Restriction, *, name: str | None = None) -> Self:
        """Return the child space that `restriction` leaves; its errors are those of the class."""
        return replace(self, restrictions=(*self.restrictions, restriction), name=name, parent=self)

    def renamed(self, name: str | None) -> Self:
        """Return the same space under another name."""
        return replace(self, name=name)

    def parameters_spec(self) -> dict[str, Any]:
        """Return for each parameter what it can be under the restrictions, with its conditions."""
        found = {}
        for parameter in self.parameters:
            left = self._choice(parameter.name).values
            spec = (
                {"type": "categorical", "values": list(left)}
                if isinstance(left, tuple)
                else domain_spec(parameter.domain)
            )
            found[parameter.name] = spec | parameter.when_spec()
        return found

    def to_spec(self) -> dict[str, Any]:
        """Return plain data that `space_from_spec` reads back; the name is left out."""
        spec: dict[str, Any] = {"kind": KIND, "parameters": {p.name: p.to_spec() for p in self.parameters}}
        if self.constraints:
            spec["constraints"] = [constraint.to_spec() for constraint in self.constraints]
        if self.group_names is not None:
            spec["groups"] = list(self.group_names)
        if self.restrictions:
            spec["restrictions"] = [restriction.to_dict() for restriction in self.restrictions]
        return spec

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], *, name: str | None = None, where: str = "space") -> Self:
        """Read what `to_spec` writes; `where` names the place in messages. Errors are those of the class."""
        optional = ("constraints", "groups", "restrictions")
        spec = reading.fields(spec, where, required=("kind", "parameters"), optional=optional)
        parameters = reading.mapping(spec["parameters"], f"{where}.parameters")
        constraints = reading.sequence(spec.get("constraints", []), f"{where}.constraints")
        groups = reading.sequence(spec["groups"], f"{where}.groups") if "groups" in spec else None
        return cls(
            parameters=tuple(
                read_parameter(n, data, f"{where}.parameters.{n}") for n, data in parameters.items()
            ),
            constraints=tuple(
                read_constraint(c, f"{where}.constraints[{i}]") for i, c in enumerate(constraints)
            ),
            group_names=None if groups is None else tuple(reading.text(g, f"{where}.groups") for g in groups),
            restrictions=read_restrictions(spec.get("restrictions", []), f"{where}.restrictions"),
            name=name,
        )

    @cached_property
    def _by_name(self) -> dict[str, Parameter]:
        return {parameter.name: parameter for parameter in self.parameters}

    @cached_property
    def _choices(self) -> tuple[Choice, ...]:
        """What the restrictions leave of each parameter, parents first."""
        if self.parent is None or self.restriction is None:
            return tuple(
                Choice(p.name, CONTINUOUS if isinstance(p.domain, Float) else p.domain, p.when)
                for p in sorted_by_dependence(self.parameters)
            )
        return tuple(
            self._restricted(choice, self.restriction) if choice.name == self.restriction.group else choice
            for choice in self.parent._choices  # noqa: SLF001 - of the same class
        )

    @cached_property
    def _tree(self) -> Tree:
        return Tree(self._choices, [c for c in self.constraints if c not in self._drawn_constraints])

    @cached_property
    def _drawn_constraints(self) -> tuple[Constraint, ...]:
        """The constraints that speak of a continuous parameter, which only a draw can decide."""
        continuous = {choice.name for choice in self._choices if choice.values == CONTINUOUS}
        return tuple(c for c in self.constraints if continuous.intersection(c.parameters))

    def _choice(self, name: str) -> Choice:
        return next(choice for choice in self._choices if choice.name == name)

    def _restricted(self, choice: Choice, restriction: Restriction) -> Choice:
        """Return what a normalised restriction leaves of a parameter."""
        read = map(self._by_name[choice.name].domain.read, restriction.values)
        values = tuple(value for value in read if value is not None and self._is_left(choice, value))
        return replace(
            choice,
            values=values,
            may_be_active=choice.may_be_active and bool(values),
            may_be_inactive=choice.may_be_inactive and INACTIVE in restriction.values,
        )

    def _is_left(self, choice: Choice, value: object) -> bool:
        """Tell whether the domain has the value and the restrictions leave it."""
        own = self._by_name[choice.name].domain.find(value)
        if own is None or not isinstance(choice.values, tuple):
            return own is not None
        return any(same_value(own, left) for left in choice.values)

    def _is_possible(self, restriction: Restriction) -> bool:
        try:
            self.restrict(restriction)
        except SpaceError:
            return False
        return True

    def _listed(self) -> Iterator[dict[str, Value]]:
        rank, end = 0, self._tree.count().cells
        while rank < end:
            decided = self._tree.unrank(rank)
            yield {name: decided[name] for name in self.parameter_names if name in decided}
            rank += 1

    def _parameter(self, name: str, where: str) -> Parameter:
        if name not in self._by_name:
            raise UnknownNameError("parameter", name, self._by_name, where)
        return self._by_name[name]

    def _normalised(self, restriction: Restriction) -> Restriction:
        """Return the restriction with each value once, by its own label, if the root has them."""
        where = f"restriction '{restriction}'"
        parameter = self._parameter(restriction.group, where)
        if restriction.mode == "equals" and len(restriction.values) > 1:
            raise SpaceError(
                f"{where}: {parameter.name} has one value at a time", "Write only: [...] for several."
            )
        labels: list[str] = []
        for label in restriction.values:
            value = parameter.domain.read(label)
            if value is None and not (label == INACTIVE and parameter.when):
                raise SpaceError(
                    f"{where}: {label} is no value of {parameter.name}", f"It is {parameter.domain}."
                )
            labels.append(label if value is None else label_of(value))
        return replace(restriction, values=tuple(dict.fromkeys(labels)))

    def _check_not_empty(self) -> None:
        """Raise unless a valid configuration exists (one must turn up in a fixed sequence of draws)."""
        cause = f"restriction '{self.restriction}' empties" if self.restriction else "the constraints empty"
        if not self._tree.count().cells:
            raise SpaceError(f"{cause} the space: no valid configuration is left", self._rules())
        if self._drawn_constraints:
            try:
                self.sample(np.random.default_rng(0))
            except SpaceError as error:
                raise SpaceError(f"{cause} the space: {error.message}", error.hint) from error

    def _rules(self) -> str:
        rules = [*map(str, self.restrictions), *map(str, self.constraints)]
        return f"Leave one of these out: {'; '.join(rules)}."


def _check_constraint(constraint: Constraint, by_name: Mapping[str, Parameter]) -> None:
    """Raise unless the constraint speaks of known parameters, and of values that they can have."""
    where = f"constraint '{constraint}'"
    for name in constraint.parameters:
        if name not in by_name:
            raise UnknownNameError("parameter", name, by_name, where)
    if isinstance(constraint, Comparison):
        for name in constraint.parameters:
            domain = by_name[name].domain
            if isinstance(domain, Categorical) and not all(is_number(value) for value in domain.values):
                raise SpaceError(f"{where}: {name} is {domain}", "Only numbers can be compared; use forbid.")
        return
    for name, values in constraint.values:
        domain = by_name[name].domain
        if isinstance(domain, Float):
            raise SpaceError(f"{where}: {name} is continuous", "Use compare, or quantise it.")
        for value in values:
            if domain.find(value) is None:
                raise SpaceError(f"{where}: {value!r} is no value of {name}", f"It is {domain}.")
