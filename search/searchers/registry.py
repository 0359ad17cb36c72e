"""All kinds of searchers: those of this package, and those of other packages, by their entry points.

A package offers a searcher with an entry point of the group `kdsearch.searchers`, named as the kind and leading to its
`SearcherKind`. A sweep file names kinds and never code, so it can use what is installed and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, reduce
from importlib import metadata
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

from pydantic import Field

from kdsearch.search.searcher_settings import SearcherSection
from kdsearch.search.searchers import (
    cmaes,
    comparison,
    enumeration,
    gradient,
    named,
    qmc,
    random_search,
    refinement,
    retraining,
    tpe,
)
from kdsearch.search.searchers.kinds import SearcherKind
from kdsearch.spaces.errors import UsageError

GROUP: Final = "kdsearch.searchers"
BUILT_IN: Final[tuple[SearcherKind[Any], ...]] = (
    refinement.KIND,
    random_search.KIND,
    enumeration.KIND,
    tpe.KIND,
    qmc.KIND,
    cmaes.KIND,
    gradient.KIND,
    comparison.KIND,
    named.KIND,
    retraining.KIND,
)


@dataclass(frozen=True, kw_only=True)
class Registry:
    """Kinds by name, and why others cannot be used."""

    kinds: Mapping[str, SearcherKind[Any]]
    broken: Mapping[str, str]  # name of an entry point -> what is wrong

    def check(self, name: object) -> None:
        """Refuse a kind that is installed but cannot be used; of others nothing is known here.

        Raises:
            UsageError: saying which package it comes from, and why.

        """
        if isinstance(name, str) and name in self.broken:
            raise UsageError(
                f"the searcher {name} cannot be used: {self.broken[name]}",
                "Update or uninstall the package that it comes from.",
            )


def assemble(built_in: Iterable[SearcherKind[Any]], entries: Iterable[metadata.EntryPoint]) -> Registry:
    """Put kinds and entry points together.

    An entry point that does not load, leads to something else or has another's name makes its kind unusable, and no
    other: sweep files without it are not concerned.

    Raises:
        ValueError: two of `built_in` have one name.

    """
    kinds: dict[str, SearcherKind[Any]] = {}
    for kind in built_in:
        if kind.name in kinds:
            raise ValueError(f"two searchers are called {kind.name}")
        kinds[kind.name] = kind
    whose = dict.fromkeys(kinds, "kdsearch")
    broken: dict[str, str] = {}
    for entry in sorted(entries, key=lambda each: (each.name, each.value)):
        package = entry.dist.name if entry.dist is not None else "an unknown package"
        if entry.name in whose:
            broken[entry.name] = f"the name is taken twice, by {whose[entry.name]} and by {package}"
            continue
        whose[entry.name] = package
        try:
            kinds[entry.name] = _loaded(entry)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in another package's module
            broken[entry.name] = f"{entry.value} of {package}: {type(error).__name__}: {error}"
    return Registry(kinds=kinds, broken=broken)


def _loaded(entry: metadata.EntryPoint) -> SearcherKind[Any]:
    kind = entry.load()
    if not isinstance(kind, SearcherKind):
        raise TypeError(f"leads to {kind!r}, which is no SearcherKind")
    if kind.name != entry.name:
        raise ValueError(f"the entry point is called {entry.name}, and the kind {kind.name}")
    return kind


@cache
def registry() -> Registry:
    """The kinds that sweep files can name; what is installed is looked at once."""
    return assemble(BUILT_IN, metadata.entry_points(group=GROUP))


def sections() -> Mapping[str, type[SearcherSection]]:
    """The sections of sweep files by kind, for messages about keys."""
    return {name: kind.settings for name, kind in registry().kinds.items()}


# What the key `searcher` of a sweep file can be.
if TYPE_CHECKING:
    SearcherSettings: TypeAlias = SearcherSection
else:
    SearcherSettings = Annotated[reduce(or_, sections().values()), Field(discriminator="kind")]
