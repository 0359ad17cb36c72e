"""The learned gates of a graph as metaparameters, and what a searcher must hand over to have them. No torch here.

An edge s -> t whose gate is learned carries the loss W[t, s] mean(l), W[t, s] in [0, 1]. The weight is the
metaparameter `weight.<s>-><t>`; it starts where the searcher says and follows the gradient of node t's validation loss
(`learning`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kdsearch.spaces.errors import UsageError
from kdsearch.spaces.graph import Edge, Graph, edge_name
from kdsearch.trainables.data.splits import Purpose
from kdsearch.trainables.metaparameters.declaration import Metaparameter
from kdsearch.trainables.metaparameters.settings import OptimiserSettings

LOW, HIGH = 0.0, 1.0
ALL: Final = "all"  # plan["train_on"]: training and validation images together
_ADVICE: Final = "Search with {kind: gradient}, or leave learned out of the space's gates."


def weight_name(edge: Edge) -> str:
    """Return the name of a learned edge's weight: `weight.2->1`, `weight.label->1`."""
    return f"weight.{edge_name(edge.source, edge.target)}"


def learned_weights(graph: Graph) -> tuple[Metaparameter, ...]:
    """Return the weights of a graph's learned edges, by target, then by source with the label first."""
    return tuple(Metaparameter(name=weight_name(edge), low=LOW, high=HIGH) for edge in graph.learned_edges())


def check_parts(plan: Mapping[str, Any]) -> None:
    """Refuse a plan by which a search would see the test part, or what it trains on judge it.

    Raises:
        UsageError: what the plan asks for is for final trials alone, or leaves nothing to judge the trial by.

    """
    tested = bool(plan.get("evaluate")) or plan.get("objective", "val_error") != "val_error"
    on_all = plan.get("train_on") == ALL
    if (tested or on_all) and not plan.get("final"):
        raise UsageError(
            "a search never sees the test part, nor trains on the validation part that it is judged by",
            "That is for final trials: those of `kdsearch retrain`, and those that confirm a search's best one.",
        )
    if on_all and not (plan.get("evaluate") and plan.get("objective") == "test_error"):
        raise UsageError(
            "a trial that trains on the validation images too has nothing to be judged by but the test part",
            "Give it evaluate: true and objective: test_error as well.",
        )


def check_plan(graph: Graph, plan: Mapping[str, Any], purpose: Purpose) -> OptimiserSettings | None:
    """Return the optimiser of a graph's learned weights, or None if it has no learned gate.

    Raises:
        UsageError: there is no optimiser for a learned gate, its metaparameters are not the graph's, their bounds go
            outside [0, 1], the weights would follow images that train or the test images, or the plan asks for what
            no trial or none of a search may do.

    """
    check_parts(plan)
    if purpose != "search" and plan.get("final"):
        raise UsageError(
            f"data.purpose is {purpose}, which has a meaning without a plan alone",
            "Leave data.purpose out: train_on and evaluate of the plan say what is trained on and measured.",
        )
    names = [each.name for each in learned_weights(graph)]
    given = plan.get("optimiser")
    if names and purpose != "search":
        raise UsageError(
            f"the learned gates in {graph} follow validation images, and data.purpose {purpose} holds none out",
            "Use data.purpose search, so that no weight is fitted to the test images.",
        )
    if names and plan.get("train_on") == ALL:
        raise UsageError(
            f"the learned gates in {graph} follow validation images, and train_on: all holds none out",
            "Use train_on: training for this graph.",
        )
    if given is None:
        if names:
            raise UsageError(f"nothing optimises {', '.join(names)} of the learned gates in {graph}", _ADVICE)
        return None
    optimiser = OptimiserSettings.from_mapping(given)
    if set(optimiser.start) != set(names):
        raise UsageError(
            f"the optimiser's metaparameters are [{', '.join(sorted(optimiser.start))}], but those of {graph} are "
            f"[{', '.join(names)}]",
            "Each learned gate has one weight, and nothing else of a graph can be optimised.",
        )
    for name in names:
        low, high = optimiser.bounds.get(name, (None, None))
        if low is None or high is None or not LOW <= low <= high <= HIGH:
            raise UsageError(
                f"the bounds of {name} are [{low}, {high}]", f"They must be within [{LOW:g}, {HIGH:g}]."
            )
    return optimiser if names else None
