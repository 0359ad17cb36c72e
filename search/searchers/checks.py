"""Whether a space and a trainable have what a searcher needs, before anything runs: what several searchers ask."""

from __future__ import annotations

from collections.abc import Mapping

from kdsearch.search.searcher_settings import SearcherSection
from kdsearch.search.searchers.confirmation import METHOD
from kdsearch.search.searchers.descent import ever_declared
from kdsearch.search.searchers.plans import final_plan
from kdsearch.spaces import DesignSpace, Space
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.protocol import TrainableKind


def check_plain(
    settings: SearcherSection, space: DesignSpace, kind: TrainableKind, trainable: Mapping[str, object]
) -> None:
    """Refuse what a searcher that hands out configurations and nothing else could not do.

    Raises:
        UsageError: what does not fit, and what would.

    """
    _check_optimised(space, kind, trainable)
    _check_confirmation(settings, kind, trainable)


def generic(space: DesignSpace, who: str) -> Space:
    """The space itself, if it is one of parameters.

    Raises:
        UsageError: it is another kind of space, as a KTG's.

    """
    if not isinstance(space, Space):
        raise UsageError(
            f"{who} needs a space of kind parameters",
            "Graphs are searched by refinement, random, enumeration, tpe, qmc or gradient.",
        )
    return space


def _check_confirmation(
    settings: SearcherSection, kind: TrainableKind, trainable: Mapping[str, object]
) -> None:
    """Refuse to confirm the best configuration on the test part with a trainable that keeps away from it."""
    if not getattr(settings, "confirm", 0):
        return
    try:
        kind.check_plan(trainable, final_plan(METHOD, 0, train_on="training", optimised=False))
    except UsageError as error:
        raise UsageError(f"searcher.confirm: {error.message}", error.hint) from None


def _check_optimised(space: DesignSpace, kind: TrainableKind, trainable: Mapping[str, object]) -> None:
    """Refuse graphs whose gates are learned, if the searcher hands out no optimiser to learn them by."""
    if isinstance(space, Space):
        return  # its metaparameters are parameters, which every searcher gives a value
    declared = ever_declared(space, kind, trainable)
    if declared:
        raise UsageError(
            f"the space has metaparameters that are learned ({', '.join(list(declared)[:3])}, ...), and this searcher "
            "optimises none",
            "Use the searcher gradient, or leave learned out of the space's gates.",
        )
