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

from kdsearch.trainables.networks.architectures import Architecture, Role, TensorSpec
from kdsearch.trainables.networks.stacked import Recording, StackedNetwork

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

    def spread(self, values: Sequence[float] | Tensor) -> Tensor:
        """Return a vector that holds, at every element, the value of the slot that owns it."""
        each = values if isinstance(values, Tensor) else self.flat.new_tensor(values)
        return torch.cat([each[:, None].expand(-1, spec.size).reshape(-1) for spec in self.specs])

    def per_slot_sum(self, flat: Tensor) -> Tensor:
        """Return the sums [N] over the elements of each slot of a vector of this layout."""
        parts = torch.split_with_sizes(flat, [self.slots * spec.size for spec in self.specs])
        return torch.stack([part.view(self.slots, -1).sum(1) for part in parts]).sum(0)

    def zeros(self) -> SlotVector:
        """Return a vector of the same layout that is all zeros."""
        return SlotVector(self.specs, torch.zeros_like(self.flat))


@dataclass(frozen=True)
class RecordedPass:
    """A forward pass of a stack in training mode that remembers its values, and the very images that it was of."""

    images: Tensor
    recording: Recording

    @property
    def logits(self) -> Tensor:
        """The logits [N, B, classes], as `network(training=True).logits` gives them."""
        return self.recording.logits


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

    def network(self, *, training: bool, track: bool = True) -> StackedNetwork:
        """Return the forward pass; frozen networks know no training mode.

        track: whether a pass in training mode moves the running statistics of batch norm.
        """
        tensors = self._leaves | self._statistics.views
        training = training and self.trained
        return StackedNetwork(self.architecture, tensors, len(self.slots), training, track=track)

    def record(self, images: Tensor) -> RecordedPass:
        """Run `network(training=True)`, for `gradient` as well as for a derivative at these weights later on."""
        return RecordedPass(images, self.network(training=True).record(images))

    def network_at(self, weights: Tensor | TensorMap, *, track: bool = False) -> StackedNetwork:
        """Return the forward pass in training mode at other weights, from which no gradient flows into the stack.

        weights: a vector of the layout of `parameters`, or its `views`, which may be dual tensors (forward mode).
        track: whether the pass moves the running statistics of batch norm, which are the stack's own.
        """
        views = self.views(weights) if isinstance(weights, Tensor) else weights
        tensors = {**views, **self._statistics.views}
        return StackedNetwork(self.architecture, tensors, len(self.slots), training=True, track=track)

    @property
    def parameters(self) -> Tensor:
        """All parameters of all slots, one flat vector; not a copy: steps change it in place."""
        return self._parameters.flat

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Return the stacked tensors [N * rows, ...] by name that lie in a vector of the layout of `parameters`."""
        return SlotVector(self._parameters.specs, flat).views

    def spread(self, values: Sequence[float] | Tensor) -> Tensor:
        """Return the value of each slot at every parameter that it owns; values: N numbers, or a vector [N]."""
        return self._parameters.spread(values)

    def per_slot_dot(self, one: Tensor, other: Tensor) -> Tensor:
        """Return each slot's inner product [N] of two vectors of the layout of `parameters`."""
        return self._parameters.per_slot_sum(one * other)

    def per_slot_norm(self, flat: Tensor) -> Tensor:
        """Return each slot's Euclidean norm [N] of a vector of the layout of `parameters`."""
        return self.per_slot_dot(flat, flat).sqrt()

    def gradient(self, logits: Tensor, at_logits: Tensor) -> Tensor:
        """Return the gradient at all parameters from the one at the logits, both [N, B, classes].

        logits must come from `network`. The vector has the layout of `parameters`; the next call writes over it.
        """
        gradients = torch.autograd.grad(logits, list(self._leaves.values()), at_logits)
        return torch.cat([each.reshape(-1) for each in gradients], out=self._gradient)

    def step(
        self,
        gradient: Tensor,
        *,
        learning_rates: Tensor,
        momentum: float | Tensor,
        weight_decay: float | Tensor,
    ) -> None:
        """Take one step of SGD with Nesterov momentum; the vector `gradient` is used up.

        The rule is torch.optim.SGD's: d = g + weight_decay * p; v = momentum * v + d; p -= rate * (d + momentum * v).
        Weight decay is on every parameter, batch norm's too, as in the public code. Rates, and the other two where
        slots differ in them, are vectors from `spread`.
        """
        parameters, velocity = self._parameters.flat, self._momentum.flat
        _add_scaled(gradient, parameters, weight_decay)
        velocity.mul_(momentum).add_(gradient)
        _add_scaled(gradient, velocity, momentum)
        parameters.addcmul_(gradient, learning_rates, value=-1.0)

    def descend(
        self,
        logits: Tensor,
        gradient: Tensor,
        *,
        learning_rates: Tensor,
        momentum: float | Tensor,
        weight_decay: float | Tensor,
    ) -> None:
        """Take one step down the gradient given at the logits [N, B, classes]: `gradient`, then `step`."""
        self.step(
            self.gradient(logits, gradient),
            learning_rates=learning_rates,
            momentum=momentum,
            weight_decay=weight_decay,
        )

    def _stack(self, role: Role, slots: Sequence[TensorMap]) -> SlotVector:
        specs = [spec for spec in self.architecture.tensors if spec.role is role]
        return SlotVector.stacked(specs, slots, device=self._device, dtype=self._dtype)


def _add_scaled(target: Tensor, added: Tensor, scale: float | Tensor) -> None:
    if isinstance(scale, Tensor):
        target.addcmul_(added, scale)
    else:
        target.add_(added, alpha=scale)
