"""Where the slots of a pack's stacks stand among its nodes."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from kdsearch.trainables.networks.stack import NetworkStack


@dataclass
class Running:
    """A stack with where its slots stand among the K * M nodes of the pack."""

    stack: NetworkStack
    owners: Tensor  # [N] index of each slot's trial in the pack
    places: Tensor  # [N] trial * M + node - 1
    learns: bool  # whether all its slots have learned incoming edges; else none has
    # [2, N] by part, of a frozen stack: they are the same every epoch
    scores: dict[str, Tensor] = field(default_factory=dict)
