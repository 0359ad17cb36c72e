"""The design space of knowledge transfer graphs, with any number of nodes.

Source: Iwata et al., "Refining Design Spaces in Knowledge Distillation for Deep Collaborative Learning". Node
1 is the target with a fixed model, nodes 2 to M are auxiliary and interchangeable. A configuration gives
`model.N` of each auxiliary node and the gate of each edge, `label->1`, `2->1`, `3->1`, `label->2`, ...: by
target, then by source with the label first. A graph whose target no edge reaches is degenerate and not valid.

How the paper's sizes (39,366 and so on) come about stands in `kdsearch.spaces.ktg_counting`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Final, Self

import numpy as np

from kdsearch.spaces import ktg_counting, reading
from kdsearch.spaces.draws import integer_below
from kdsearch.spaces.errors import SpaceError, UnknownNameError
from kdsearch.spaces.graph import (
    LABEL,
    TARGET,
    Gate,
    Graph,
    check_model_name,
    edge_ends,
    edge_name,
    model_key,
    read_gate,
)
from kdsearch.spaces.ktg_groups import COMPARED, Group, root_groups
from kdsearch.spaces.protocol import ConditionGroup, Counts
from kdsearch.spaces.restriction import Restriction, read_restrictions
from kdsearch.spaces.symmetry import Auxiliary, canonical_order
from kdsearch.spaces.values import SEPARATOR, Configuration, Value, digest

KIND: Final = "ktg"


@dataclass(frozen=True)
class KtgSpace:
    """A space of knowledge transfer graphs.

    target: the target's model.
    auxiliary: the number of auxiliary nodes, 0 or more.
    models: what an auxiliary node's model can be; the order is that of canonical forms and tables.
    gates: what an edge's gate can be; likewise.
    restrictions: all since the root; use `restrict` to add one.
    name, parent: the lineage; no part of the space's identity.

    Raises:
        UnknownNameError: for an unknown gate, or an unknown group or value in a restriction.
        SpaceError: if a list is empty or has doubles, the target can get no edge, or the restrictions leave
        nothing.
    """

    kind: ClassVar[str] = KIND

    target: str
    auxiliary: int
    models: tuple[str, ...]
    gates: tuple[Gate, ...]
    restrictions: tuple[Restriction, ...] = ()
    name: str | None = field(default=None, compare=False)
    parent: KtgSpace | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        where = "a ktg space"
        check_model_name(self.target, f"{where}: target")
        reading.integer(self.auxiliary, f"{where}: auxiliary count", least=0)
        if self.auxiliary:
            reading.distinct(self.models, f"{where}: auxiliary models")
        for model in self.models:
            check_model_name(model, f"{where}: auxiliary models")
        gates = tuple(read_gate(gate, f"{where}: gates") for gate in self.gates)
        reading.distinct(gates, f"{where}: gates")
        if gates == (Gate.CUTOFF,):
            raise SpaceError(
                f"{where}: the target can get no edge, the only gate is cutoff", "Add through to gates."
            )
        given = {"models": tuple(self.models), "gates": gates, "restrictions": tuple(self.restrictions)}
        for name, value in given.items():
            object.__setattr__(self, name, value)
        self._settle_lineage()

    def _settle_lineage(self) -> None:
        """Bring the last restriction into its usual form, find the parent, and check what is left."""
        if not self.restrictions:
            return
        *earlier, last = self.restrictions
        parent = self.parent or replace(self, restrictions=tuple(earlier), name=None)
        object.__setattr__(self, "parent", parent)
        group = _group(parent._root_groups, last)  # noqa: SLF001 - of the same class
        object.__setattr__(self, "restrictions", (*parent.restrictions, group.normalised(last)))
        _ = self._groups

    @property
    def restriction(self) -> Restriction | None:
        """The last restriction, which led here from `parent`."""
        return self.restrictions[-1] if self.restrictions else None

    @cached_property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters: models of nodes 2, 3, ..., then edges by target, then by source."""
        models = [model_key(node) for node in range(2, self.auxiliary + 2)]
        return (*models, *(edge_name(*ends) for ends in edge_ends(self.auxiliary + 1)))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of `to_spec()`."""
        return digest(self.to_spec())

    def counts(self) -> Counts:
        """Return the exact sizes, by Burnside's lemma: instant for 6 auxiliary nodes and 5 gates too."""
        return self._counts

    def sample(self, rng: np.random.Generator) -> dict[str, Value]:
        """Return a configuration drawn uniformly from the valid encodings: one integer, unranked."""
        return self._unranked(integer_below(rng, ktg_counting.valid_encodings(self._groups, self._cutoff)))

    def enumerate(self, *, classes: bool = False) -> Iterator[dict[str, Value]]:
        """Yield every valid encoding once, lazily; with `classes`, only those that are canonical."""
        rank, end = 0, ktg_counting.valid_encodings(self._groups, self._cutoff)
        while rank < end:
            configuration = self._unranked(rank)
            if not classes or self._is_canonical(configuration):
                yield configuration
            rank += 1

    def __contains__(self, configuration: object) -> bool:
        """Tell whether a configuration is complete, within the restrictions and not degenerate."""
        if not isinstance(configuration, Mapping) or set(configuration) != set(self.parameter_names):
            return False
        for group in self._groups.values():
            values = [configuration[member] for member in group.members]
            if any(value not in group.levels for value in values):
                return False
            if not group.admits([group.levels.index(value) for value in values]):
                return False
        sources = [LABEL, *range(2, self.auxiliary + 2)]
        return any(configuration[edge_name(source, TARGET)] != Gate.CUTOFF for source in sources)

    def canonical(self, configuration: Configuration) -> dict[str, Value]:
        """Return the mirror image that is smallest, entry by entry, in the order of the lists of models and gates.

        The parameters are compared in the order of `parameter_names`. Restrictions do not matter to it: the
        whole lineage has one canonical form.
        """
        return self.permuted(configuration, self._symmetry(configuration)[0])

    def orbit_size(self, configuration: Configuration) -> int:
        """Return the number of different mirror images: m! over the number of automorphisms."""
        return math.factorial(self.auxiliary) // self._symmetry(configuration)[1]

    def _symmetry(self, configuration: Configuration) -> tuple[tuple[int, ...], int]:
        """Return `canonical_order` of a configuration; searches ask for the same ones again and again."""
        try:
            return _remembered(self.auxiliary, self.models, self.gates, tuple(configuration.items()))
        except TypeError:  # a value that cannot be hashed is none of the space's; say so
            return canonical_order(self._auxiliary_of(configuration))

    def permuted(self, configuration: Configuration, order: Sequence[int]) -> dict[str, Value]:
        """Return the mirror image whose auxiliary node k + 2 is node `order[k]` + 2 of `configuration`."""
        old: dict[str | int, str | int] = {LABEL: LABEL, TARGET: TARGET}
        old |= {place + 2: index + 2 for place, index in enumerate(order)}
        image = {
            model_key(node): configuration[f"model.{old[node]}"] for node in range(2, self.auxiliary + 2)
        }
        for source, target in edge_ends(self.auxiliary + 1):
            image[edge_name(source, target)] = configuration[f"{old[source]}->{old[target]}"]
        return image

    def graph(self, configuration: Configuration) -> Graph:
        """Return the graph that a configuration of this space stands for."""
        return Graph.from_configuration(configuration, self.target)

    def groups(self) -> tuple[ConditionGroup, ...]:
        """Return those of the paper's four groups of conditions that are open, with their possible values."""
        found = []
        for group in (self._groups[name] for name in COMPARED):
            values = tuple(
                SEPARATOR.join(value) for value in group.values() if self._is_possible(group, value)
            )
            if len(values) > 1:
                found.append(ConditionGroup(group.name, values, group.members, group.levels))
        return tuple(found)

    def restrict(self, restriction: Restriction, *, name: str | None = None) -> Self:
        """Return the child space that `restriction` leaves; its errors are those of the class."""
        return replace(self, restrictions=(*self.restrictions, restriction), name=name, parent=self)

    def renamed(self, name: str | None) -> Self:
        """Return the same space under another name."""
        return replace(self, name=name)

    def parameters_spec(self) -> dict[str, Any]:
        """Return for each parameter the values it can have under the restrictions."""
        values = {
            member: [
                group.levels[code] for code in group.allowed if group.counts is None or group.counts[code]
            ]
            for group in self._groups.values()
            for member in group.members
        }
        return {name: {"type": "categorical", "values": values[name]} for name in self.parameter_names}

    def to_spec(self) -> dict[str, Any]:
        """Return plain data that `space_from_spec` reads back; the name is left out."""
        spec: dict[str, Any] = {
            "kind": KIND,
            "target": self.target,
            "auxiliary": {"count": self.auxiliary, "models": list(self.models)},
            "gates": [str(gate) for gate in self.gates],
        }
        if self.restrictions:
            spec["restrictions"] = [restriction.to_dict() for restriction in self.restrictions]
        return spec

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], *, name: str | None = None, where: str = "space") -> Self:
        """Read what `to_spec` writes; `where` names the place in messages. Errors are those of the class."""
        keys = ("kind", "target", "auxiliary", "gates")
        spec = reading.fields(spec, where, required=keys, optional=("restrictions",))
        place = f"{where}.auxiliary"
        auxiliary = reading.fields(spec["auxiliary"], place, required=("count",), optional=("models",))
        count = reading.integer(auxiliary["count"], f"{place}.count", least=0)
        if count and "models" not in auxiliary:
            raise SpaceError(f"{place} lacks models", "Give the list of models that auxiliary nodes can be.")
        return cls(
            target=reading.text(spec["target"], f"{where}.target"),
            auxiliary=count,
            models=_texts(auxiliary.get("models", []), f"{place}.models"),
            gates=tuple(
                read_gate(gate, f"{where}.gates") for gate in _texts(spec["gates"], f"{where}.gates")
            ),
            restrictions=read_restrictions(spec.get("restrictions", []), f"{where}.restrictions"),
            name=name,
        )

    @cached_property
    def _counts(self) -> Counts:
        return ktg_counting.count(self._groups, self.auxiliary, self._cutoff)

    @property
    def _cutoff(self) -> int | None:
        """The code of the gate cutoff, if the space has it."""
        return self.gates.index(Gate.CUTOFF) if Gate.CUTOFF in self.gates else None

    @cached_property
    def _root_groups(self) -> dict[str, Group]:
        return root_groups(self.auxiliary, self.models, tuple(str(gate) for gate in self.gates))

    @cached_property
    def _groups(self) -> dict[str, Group]:
        """What the restrictions leave of each group of parameters."""
        if self.parent is None or self.restriction is None:
            return self._root_groups
        groups, restriction = self.parent._groups, self.restriction  # noqa: SLF001 - of the same class
        left = groups[restriction.group].restricted(restriction)
        if left is None:
            earlier = [str(other) for other in self.restrictions[:-1] if other.group == restriction.group]
            raise SpaceError(
                f"restriction '{restriction}' contradicts '{' and '.join(earlier)}': they empty the space",
                "Leave one of them out.",
            )
        groups = groups | {left.name: left}
        if not ktg_counting.valid_encodings(groups, self._cutoff):
            raise SpaceError(
                f"restriction '{restriction}' empties the space: the target can get no edge, "
                "every edge to it is cutoff",
                "Let label->target or auxiliary->target have another gate than cutoff.",
            )
        return groups

    def _is_possible(self, group: Group, value: tuple[str, ...]) -> bool:
        """Tell whether valid graphs can have this value of a group."""
        left = group.restricted(Restriction(group.name, value)) if value else None
        return (
            left is not None
            and ktg_counting.valid_encodings(self._groups | {group.name: left}, self._cutoff) > 0
        )

    def _unranked(self, rank: int) -> dict[str, Value]:
        """Return the valid encoding of a rank."""
        codes = ktg_counting.unrank(self._groups, self._cutoff, rank)
        found = {
            member: group.levels[code]
            for name, group in self._groups.items()
            for member, code in zip(group.members, codes[name], strict=True)
        }
        return {name: found[name] for name in self.parameter_names}

    def _is_canonical(self, configuration: Configuration) -> bool:
        """Tell whether a valid encoding is its class's representative; most fail at their keys already."""
        graph = self._auxiliary_of(configuration)
        if any(left > right for left, right in zip(graph.keys, graph.keys[1:], strict=False)):
            return False
        return self.permuted(configuration, canonical_order(graph)[0]) == configuration

    def _auxiliary_of(self, configuration: Configuration) -> Auxiliary:
        """Return the codes of a configuration's auxiliary nodes and their edges."""
        codes = self._codes(configuration)
        nodes = range(2, self.auxiliary + 2)
        return Auxiliary(
            keys=[(codes[model_key(node)], codes[edge_name(node, TARGET)]) for node in nodes],
            heads=[(codes[edge_name(LABEL, node)], codes[edge_name(TARGET, node)]) for node in nodes],
            gates=[[codes.get(edge_name(s, t), -1) for t in nodes] for s in nodes],
        )

    def _codes(self, configuration: Configuration) -> dict[str, int]:
        """Return the code of each parameter; raise if the configuration is none of the root space."""
        if unknown := [name for name in configuration if name not in self.parameter_names]:
            raise UnknownNameError("parameter", unknown[0], self.parameter_names, "a configuration")
        if missing := [name for name in self.parameter_names if name not in configuration]:
            raise SpaceError(
                f"a configuration lacks {', '.join(missing)}", "Give a value to every parameter."
            )
        return {
            member: group.codes([str(configuration[member])], f"a configuration ({member})")[0]
            for group in self._root_groups.values()
            for member in group.members
        }


@lru_cache(maxsize=1 << 15)
def _remembered(
    auxiliary: int, models: tuple[str, ...], gates: tuple[Gate, ...], items: tuple[tuple[str, Value], ...]
) -> tuple[tuple[int, ...], int]:
    """Return `canonical_order` of the configuration with these items, in a space with these levels."""
    return canonical_order(_bare(auxiliary, models, gates)._auxiliary_of(dict(items)))  # noqa: SLF001 - of this module


@lru_cache(maxsize=64)
def _bare(auxiliary: int, models: tuple[str, ...], gates: tuple[Gate, ...]) -> KtgSpace:
    """Return a space with these levels; neither its target nor restrictions matter to symmetry."""
    return KtgSpace(target="any", auxiliary=auxiliary, models=models, gates=gates)


def _group(groups: Mapping[str, Group], restriction: Restriction) -> Group:
    """Return the group that a restriction speaks of."""
    if restriction.group not in groups:
        raise UnknownNameError("group", restriction.group, groups, f"restriction '{restriction}'")
    return groups[restriction.group]


def _texts(data: object, where: str) -> tuple[str, ...]:
    """Return the entries of a list of texts."""
    return tuple(
        reading.text(entry, f"{where}[{index}]") for index, entry in enumerate(reading.sequence(data, where))
    )
