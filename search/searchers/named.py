"""Configurations that the sweep file names: a comparison of fixed methods, which `SweepFile.search` makes of it."""

from __future__ import annotations

from typing import NoReturn

from kdsearch.search.searcher_settings import NamedSettings
from kdsearch.search.searchers.kinds import SearcherKind, Task


def _never(settings: NamedSettings, task: Task) -> NoReturn:
    raise TypeError(f"{settings} is built and checked as the comparison that it is, of {task.space}")


KIND = SearcherKind(NamedSettings, build=_never, check=_never)
