"""N networks of one architecture as one program, and the tensors that a network starts from.

Slot n owns channels n * C to (n + 1) * C of every activation, and rows n * R to (n + 1) * R of every tensor whose
first axis has R rows in a single network. Nothing of one slot reaches another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import forward_ad

from kdsearch.trainables.networks.architectures import Architecture, Start, TensorSpec
from kdsearch.trainables.networks.families import logits
from kdsearch.trainables.networks.layers import PlainLayers, Tape, channels_last
from kdsearch.trainables.networks.tangents import TangentLayers


def initial_tensors(architecture: Architecture, rng: np.random.Generator) -> dict[str, Tensor]:
    """Draw one network's tensors, in the order of `Architecture.tensors`, in float32 on the CPU.

    NumPy's generator takes the whole seed (torch's takes 32 bits of it) and draws alike whatever the device is.
    """
    return {spec.name: torch.from_numpy(_draw(spec, rng)) for spec in architecture.tensors}


def _draw(spec: TensorSpec, rng: np.random.Generator) -> NDArray[np.float32]:
    match spec.start:
        case Start.ZEROS:
            return np.zeros(spec.shape, np.float32)
        case Start.ONES:
            return np.ones(spec.shape, np.float32)
        case Start.HE_FAN_OUT:
            return _normal(spec, rng, math.sqrt(2.0 / (spec.size // spec.shape[1])))
        case Start.HE_FAN_IN:
            return _normal(spec, rng, math.sqrt(2.0 / spec.fan_in))
        case Start.UNIFORM_FAN_IN:
            bound = 1.0 / math.sqrt(spec.fan_in)
            return rng.uniform(-bound, bound, spec.shape).astype(np.float32)


def _normal(spec: TensorSpec, rng: np.random.Generator, deviation: float) -> NDArray[np.float32]:
    return rng.standard_normal(spec.shape, np.float32) * np.float32(deviation)


def slot_images(images: Tensor, owners: Tensor) -> Tensor:
    """Give every slot the images of its trial.

    images: [K, B, C, H, W]; owners: [N] trial index of each slot. Returns [B, N * C, H, W], channels-last.
    """
    spread = images.index_select(0, owners).permute(1, 3, 4, 0, 2)
    return spread.flatten(3).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class StackedNetwork:
    """The forward pass of N networks whose tensors are stacked along their first axes.

    tensors: name -> [N * rows, ...]. In training mode batch norm uses the batch's statistics and, if `track`, moves the
    running ones in place; else it uses the running ones and changes nothing.
    """

    architecture: Architecture
    tensors: Mapping[str, Tensor]
    slots: int
    training: bool
    track: bool = True

    def logits(self, images: Tensor) -> Tensor:
        """Return [N, B, classes] for images [B, N * C, H, W], or [B, C, H, W] if all slots see the same images.

        If any of the tensors is dual (torch.autograd.forward_ad, torch.func.jvp), so are the logits; they then carry no
        graph for a backward pass.
        """
        parts = {name: _unpack(tensor) for name, tensor in self.tensors.items()}
        if all(tangent is None for _, tangent in parts.values()):
            return logits(self._layers(), self.architecture, channels_last(images))
        values = {name: value for name, (value, _) in parts.items()}
        direction = {
            name: torch.zeros_like(value) if tangent is None else tangent
            for name, (value, tangent) in parts.items()
            if name in self.architecture.parameters
        }
        with torch.no_grad():
            return replace(self, tensors=values).record(images).dual_logits(direction)

    def record(self, images: Tensor) -> Recording:
        """Return the logits, and what it takes to know how they change along any direction."""
        tape: Tape = []
        found = logits(self._layers(tape), self.architecture, channels_last(images))
        return Recording(self, found, tape)

    def _layers(self, tape: Tape | None = None) -> PlainLayers:
        return PlainLayers(self.tensors, self.slots, self.training, self.track, tape)


def _unpack(tensor: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return a tensor's value and its tangent, if it has one."""
    value, tangent = forward_ad.unpack_dual(tensor)  # type: ignore[no-untyped-call]
    return value, tangent


@dataclass(frozen=True)
class Recording:
    """A forward pass that remembers its values.

    logits: [N, B, classes], with a graph for a backward pass where the network's tensors ask for one. While tangents
    are wanted, the network's parameters must stay as they were.
    """

    network: StackedNetwork
    logits: Tensor
    tape: Tape

    def dual_logits(self, direction: Mapping[str, Tensor]) -> Tensor:
        """Return the logits and their `tangents` as one dual tensor; for use inside a level of forward_ad."""
        dual: Tensor = forward_ad.make_dual(self.logits.detach(), self.tangents(direction))  # type: ignore[no-untyped-call]
        return dual

    @torch.no_grad()
    def tangents(self, direction: Mapping[str, Tensor]) -> Tensor:
        """Return the logits' derivative [N, B, classes] along a direction, name -> [N * rows, ...]."""
        network = self.network
        layers = TangentLayers(network.tensors, direction, network.slots, network.training, iter(self.tape))
        return logits(layers, network.architecture, self.logits)
