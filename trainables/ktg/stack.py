"""Slots: which node of which trial lives where in a stack of networks, and how it comes, goes and learns.

A stack keeps the same tensors of N networks in one flat vector, tensor by tensor and inside a tensor slot by slot.
A step of the optimiser is then a handful of operations on whole vectors, however many networks there are, and a slot
can be taken out or put in by slicing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import torch
from torch import Tensor

from kdsearch.trainables.ktg.network import StackedNetwork
from kdsearch.trainables.models import Architecture, Role, TensorSpec

TensorMap = Mapping[str, Tensor]


class Slot(NamedTuple):
    """A node of a trial."""

    trial: int  # the trial's number in its sweep
    node: int  # from 1, the target


@dataclass(frozen=True)
class NodeState:
    """All tensors of one network and, where it is trained, its momentum; names and shapes of a single network."""

    tensors: TensorMap
    momentum: TensorMap = field(default_factory=dict)


class SlotVector:
    """The same tensors of N networks in one flat vector; `views` are the stacked tensors [N * rows, ...] in it."""

    def __init__(self, specs: Sequence[TensorSpec], flat: Tensor) -> None:
        self.specs = tuple(specs)
        self.flat = flat
        one = sum(spec.size for spec in specs)
        self.slots = flat.numel() // one if one else 0
        parts = torch.split_with_sizes(flat, [self.slots * spec.size for spec in specs])
        self.views = {
            spec.name: part.view(self.slots * spec.shape[0], *spec.shape[1:])
            for spec, part in zip(specs, parts, strict=True)
        }

    @classmethod
    def stacked(
        cls,
        specs: Sequence[TensorSpec],
        slots: Sequence[TensorMap],
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Self:
        """Lay single networks side by side, in the order given."""
        pieces = [slot[spec.name].detach().to(device, dtype).reshape(-1) for spec in specs for slot in slots]
        return cls(specs, torch.cat(pieces) if pieces else torch.empty(0, device=device, dtype=dtype))

    def slot(self, index: int) -> dict[str, Tensor]:
        """Return copies of one network's tensors, in their own shapes."""
        return {
            spec.name: torch.unflatten(self.views[spec.name], 0, (self.slots, -1))[index].clone()
            for spec in self.specs
        }

    def spread(self, values: Sequence[float]) -> Tensor:
        """Return a vector that holds, at every element, the value of the slot that owns it."""
        each = self.flat.new_tensor(values)
        return torch.cat([each.repeat_interleave(spec.size) for spec in self.specs])

    def zeros(self) -> SlotVector:
        """Return a vector of the same layout that is all zeros."""
        return SlotVector(self.specs, torch.zeros_like(self.flat))


class NetworkStack:
    """Networks of one architecture that run as one program; trained by SGD with Nesterov momentum, or frozen.

    A frozen stack is always in eval mode and nothing in it ever changes: a teacher's batch-norm statistics do not
    drift.
    """

    def __init__(
        self,
        architecture: Architecture,
        slots: Sequence[Slot],
        states: Sequence[NodeState],
        *,
        trained: bool,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.architecture = architecture
        self.slots = tuple(slots)
        self.trained = trained
        self._device, self._dtype = device, dtype
        tensors = [state.tensors for state in states]
        self._parameters = self._stack(Role.PARAMETER, tensors)
        self._statistics = self._stack(Role.STATISTIC, tensors)
        self._leaves = {
            name: view.detach().requires_grad_(trained) for name, view in self._parameters.views.items()
        }
        if trained:
            zeros = self._parameters.zeros().slot(0)
            self._momentum = self._stack(Role.PARAMETER, [state.momentum or zeros for state in states])
            self._gradient = torch.empty_like(self._parameters.flat)

    def state(self, slot: Slot) -> NodeState:
        """Return copies of one network's tensors and momentum."""
        index = self.slots.index(slot)
        tensors = self._parameters.slot(index) | self._statistics.slot(index)
        return NodeState(tensors, self._momentum.slot(index) if self.trained else {})

    def without(self, trials: frozenset[int]) -> NetworkStack | None:
        """Return a stack of the slots that belong to other trials, or None if there are none."""
        kept = [slot for slot in self.slots if slot.trial not in trials]
        if not kept:
            return None
        return NetworkStack(
            self.architecture,
            kept,
            [self.state(slot) for slot in kept],
            trained=self.trained,
            device=self._device,
            dtype=self._dtype,
        )

    def network(self, *, training: bool) -> StackedNetwork:
        """Return the forward pass; frozen networks know no training mode."""
        tensors = self._leaves | self._statistics.views
        return StackedNetwork(self.architecture, tensors, len(self.slots), training and self.trained)

    def spread(self, values: Sequence[float]) -> Tensor:
        """Return the value of each slot at every parameter that it owns, for `descend`."""
        return self._parameters.spread(values)

    def descend(
        self,
        logits: Tensor,
        gradient: Tensor,
        *,
        learning_rates: Tensor,
        momentum: float,
        weight_decay: float,
    ) -> None:
        """Take one step of SGD with Nesterov momentum down the gradient given at the logits [N, B, classes].

        The rule is torch.optim.SGD's: d = g + weight_decay * p; v = momentum * v + d; p -= rate * (d + momentum * v).
        Weight decay is on every parameter, batch norm's too, as in the public code.
        """
        gradients = torch.autograd.grad(logits, list(self._leaves.values()), gradient)
        step = torch.cat([each.reshape(-1) for each in gradients], out=self._gradient)
        parameters, velocity = self._parameters.flat, self._momentum.flat
        step.add_(parameters, alpha=weight_decay)
        velocity.mul_(momentum).add_(step)
        step.add_(velocity, alpha=momentum)
        parameters.addcmul_(step, learning_rates, value=-1.0)

    def _stack(self, role: Role, slots: Sequence[TensorMap]) -> SlotVector:
        specs = [spec for spec in self.architecture.tensors if spec.role is role]
        return SlotVector.stacked(specs, slots, device=self._device, dtype=self._dtype)
