"""The design spaces of the papers.

Sources: Iwata et al., "Refining Design Spaces in Knowledge Distillation for Deep Collaborative Learning" (A,
B, C, X: Section III and Table II); Minami et al., "Knowledge Transfer Graph for Deep Collaborative Learning"
(ACCV 2020).
"""

from __future__ import annotations

from kdsearch.spaces.graph import Gate
from kdsearch.spaces.ktg import KtgSpace
from kdsearch.spaces.ktg_groups import AUXILIARY_MODELS, AUXILIARY_TO_TARGET, LABEL_TO_AUXILIARY
from kdsearch.spaces.restriction import Restriction

REFINEMENT_STEPS = (  # name of the child, and what the paper fixed to come to it
    ("B", Restriction(AUXILIARY_MODELS, ("wrn28-2", "wrn28-2"))),
    ("C", Restriction(LABEL_TO_AUXILIARY, ("through", "through"))),
    ("X", Restriction(AUXILIARY_TO_TARGET, ("linear", "linear"))),
)


def refinement_spaces() -> dict[str, KtgSpace]:
    """Return the refinement paper's spaces A, B, C and X, each the parent of the next."""
    gates = (Gate.THROUGH, Gate.CUTOFF, Gate.LINEAR)
    space = KtgSpace("resnet32", 2, ("resnet32", "wrn28-2"), gates, name="A")
    spaces = {"A": space}
    for name, restriction in REFINEMENT_STEPS:
        space = space.restrict(restriction, name=name)
        spaces[name] = space
    return spaces


def accv_space() -> KtgSpace:
    """Return the ACCV paper's space of three nodes: four gates, three models for each auxiliary node."""
    gates = (Gate.THROUGH, Gate.CUTOFF, Gate.LINEAR, Gate.CORRECT)
    return KtgSpace("resnet32", 2, ("resnet32", "resnet110", "wrn28-2"), gates)
