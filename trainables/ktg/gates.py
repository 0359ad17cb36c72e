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
_ADVICE: Final = "Search with {kind: gradient}, or leave learned out of the space's gates."


def weight_name(edge: Edge) -> str:
    """Return the name of a learned edge's weight: `weight.2->1`, `weight.label->1`."""
    return f"weight.{edge_name(edge.source, edge.target)}"


def learned_weights(graph: Graph) -> tuple[Metaparameter, ...]:
    """Return the weights of a graph's learned edges, by target, then by source with the label first."""
    return tuple(Metaparameter(name=weight_name(edge), low=LOW, high=HIGH) for edge in graph.learned_edges())


def check_plan(graph: Graph, plan: Mapping[str, Any], purpose: Purpose) -> OptimiserSettings | None:
    """Return the optimiser of a graph's learned weights, or None if it has no learned gate.

    Raises:
        UsageError: there is no optimiser for a learned gate, its metaparameters are not the graph's, their bounds go
            outside [0, 1], the weights would follow the test images, or the plan asks for what a graph's training
            does not do.

    """
    if plan.get("train_on", "training") != "training" or plan.get("evaluate", False):
        raise UsageError(
            "knowledge transfer graphs train on the training part and are judged on the validation part alone",
            "Leave train_on: all and the evaluation on the test part to another trainable.",
        )
    names = [each.name for each in learned_weights(graph)]
    given = plan.get("optimiser")
    if names and purpose != "search":
        raise UsageError(
            f"the learned gates in {graph} follow validation images, and data.purpose {purpose} holds none out",
            "Use data.purpose search, so that no weight is fitted to the test images.",
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
