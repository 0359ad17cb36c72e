"""Whether a space and a trainable have what a searcher needs, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping

from kdsearch.search.searcher_settings import (
    AnySearcher,
    ComparisonSettings,
    FixedMethod,
    GradientMethod,
    GradientSettings,
    RandomMethod,
    TpeSettings,
)
from kdsearch.search.searchers.confirmation import METHOD
from kdsearch.search.searchers.descent import Descent, ever_declared
from kdsearch.search.searchers.methods import Setting, make_method
from kdsearch.search.searchers.plans import descent_plan, final_plan
from kdsearch.search.searchers.tpe_domains import Domains, generic
from kdsearch.spaces import DesignSpace, Space
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.protocol import TrainableKind


def check_searcher(
    settings: AnySearcher, space: DesignSpace, kind: TrainableKind, trainable: Mapping[str, object]
) -> None:
    """Refuse a searcher that could not search this space with this trainable.

    Raises:
        UsageError: what does not fit, and what would.

    """
    match settings:
        case GradientSettings():
            Descent(space=space, kind=kind, settings=trainable, options=settings).check()
            kind.check_plan(trainable, descent_plan(settings.optimiser(start={}, bounds={})))
        case ComparisonSettings():
            _check_comparison(settings, space, kind, trainable)
        case _:
            _check_optimised(space, kind, trainable)
            if isinstance(settings, TpeSettings):
                Domains.of(space)
            _check_confirmation(settings, kind, trainable)


def _check_confirmation(settings: AnySearcher, kind: TrainableKind, trainable: Mapping[str, object]) -> None:
    """Refuse to confirm the best configuration on the test part with a trainable that keeps away from it."""
    if not getattr(settings, "confirm", 0):
        return
    try:
        kind.check_plan(trainable, final_plan(METHOD, 0, train_on="training", optimised=False))
    except UsageError as error:
        raise UsageError(f"searcher.confirm: {error.message}", error.hint) from None


def _check_comparison(
    settings: ComparisonSettings, space: DesignSpace, kind: TrainableKind, trainable: Mapping[str, object]
) -> None:
    own = generic(space, "a comparison of methods")
    setting = Setting(space=own, kind=kind, trainable=trainable, seed=0)
    for name, each in settings.methods.items():
        plain = isinstance(each, FixedMethod | RandomMethod)
        train_on = each.train_on if isinstance(each, FixedMethod | RandomMethod) else "training"
        try:
            make_method(name, each, setting).check()
            optimiser = each.optimiser(start={}, bounds={}) if isinstance(each, GradientMethod) else None
            plan = final_plan(name, 0, train_on=train_on, optimised=not plain, optimiser=optimiser)
            kind.check_plan(trainable, plan)
        except UsageError as error:
            raise UsageError(f"searcher.methods.{name}: {error.message}", error.hint) from None


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
