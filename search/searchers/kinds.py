"""What a kind of searcher is: its section of a sweep file, how it is built, and what is checked before it is.

A module of a searcher ends with a `SearcherKind`. Those of this package are listed in `registry`; those of other
packages are found there through their entry points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args

from kdsearch.search.searcher_settings import SearcherSection
from kdsearch.search.searchers.base import Searcher
from kdsearch.search.searchers.checks import check_plain
from kdsearch.spaces import DesignSpace
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.protocol import TrainableKind
from kdsearch.trainables.registry import trainable_kind

if TYPE_CHECKING:  # sweep files are checked with the help of searchers
    from kdsearch.search.config import StatisticsSettings, SweepFile
    from kdsearch.search.searchers.policies import Chooser

SettingsT = TypeVar("SettingsT", bound=SearcherSection)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a searcher is to search, and what its randomness comes from."""

    space: DesignSpace
    trainable: TrainableKind
    settings: Mapping[str, object]  # the trainable's
    statistics: StatisticsSettings
    seed: int
    first_number: int = 0  # of its trials
    chooser: Chooser | None = None  # a person who decides, where the policy is interactive

    @classmethod
    def of(cls, sweep: SweepFile, *, first_number: int = 0, chooser: Chooser | None = None) -> Task:
        """The task that a sweep file gives its searcher."""
        return cls(
            space=sweep.design_space(),
            trainable=trainable_kind(sweep.trainable.kind),
            settings=sweep.trainable_settings(),
            statistics=sweep.statistics,
            seed=sweep.seed,
            first_number=first_number,
            chooser=chooser,
        )


def _check(settings: SearcherSection, task: Task) -> None:
    check_plain(settings, task.space, task.trainable, task.settings)


@dataclass(frozen=True)
class SearcherKind(Generic[SettingsT]):
    """A kind of searcher.

    settings: its section of a sweep file; `kind` is a Literal with the kind's name.
    build: makes a searcher; the same arguments make one that asks for the same trials.
    check: refuses what could not be searched (UsageError); asked when a sweep file is read. By default it refuses
        spaces with metaparameters that are learned, and the key `confirm` where no trial may see the test part.
    """

    settings: type[SettingsT]
    build: Callable[[SettingsT, Task], Searcher]
    check: Callable[[SettingsT, Task], None] = _check

    @property
    def name(self) -> str:
        """What a sweep file calls it.

        Raises:
            UsageError: the settings do not say.

        """
        found: tuple[Any, ...] = get_args(self.settings.model_fields["kind"].annotation)
        if len(found) != 1 or not isinstance(found[0], str):
            raise UsageError(
                f"{self.settings.__name__} does not name its kind of searcher",
                'Give it a field `kind: Literal["name"]`.',
            )
        return found[0]
