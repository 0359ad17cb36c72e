"""Full enumeration: every valid configuration of a finite space, `repeats` times; symmetric duplicates train once."""

from __future__ import annotations

from kdsearch.analysis.population import Proposal
from kdsearch.search.searcher_settings import EnumerationSettings
from kdsearch.search.searchers.checks import check_plain
from kdsearch.search.searchers.kinds import SearcherKind, Task
from kdsearch.search.searchers.ledger import Ledger
from kdsearch.search.searchers.one_space import OneSpaceSearch
from kdsearch.spaces import DesignSpace
from kdsearch.spaces.errors import UsageError

MOST_LISTED = 1_000_000  # configurations of a space that is trained in full
CENSUS = str(Proposal.ENUMERATION)


def enumerate_into(ledger: Ledger, space: DesignSpace, *, repeats: int) -> None:
    """Draw every encoding of `space` `repeats` times.

    A class of graphs that is equal up to symmetry has `repeats` trials; trials that are known already count first.
    Each trial answers as many draws as its class has encodings, so that draws are uniform over encodings.
    """
    for canonical in space.enumerate(classes=True):
        trials = ledger.trials_of(space, canonical)[:repeats]
        trials += [ledger.request(space, canonical, CENSUS) for _ in range(repeats - len(trials))]
        for trial in trials:
            for _ in range(space.orbit_size(canonical)):
                ledger.answer(space, trial)


class Enumeration(OneSpaceSearch):
    """The whole of a finite space."""

    def __init__(self, space: DesignSpace, *, repeats: int, first_number: int) -> None:
        super().__init__(space, first_number=first_number, exhaustive=True, repeats=repeats)
        enumerate_into(self.ledger, self.space, repeats=repeats)


def _build(settings: EnumerationSettings, task: Task) -> Enumeration:
    return Enumeration(task.space, repeats=settings.repeats, first_number=task.first_number)


def _check(settings: EnumerationSettings, task: Task) -> None:
    """Refuse to train a space in full that is too large to be listed."""
    check_plain(settings, task.space, task.trainable, task.settings)
    classes = task.space.counts().valid_classes
    if classes is None:
        raise UsageError("the space is infinite and cannot be enumerated", "Use the searcher random.")
    if classes > MOST_LISTED:
        raise UsageError(
            f"the space has {classes:,} configurations; at most {MOST_LISTED:,} can be listed",
            "Use the searcher random, or restrict the space.",
        )


KIND = SearcherKind(EnumerationSettings, build=_build, check=_check)
