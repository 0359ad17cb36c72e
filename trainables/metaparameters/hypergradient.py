"""The hypergradient: the validation loss differentiated through one step of the model, without a second backward pass.

With w' = w - gamma grad_w L_train(w, lambda) and v = grad_w' L_val(w') (equation 3 of "Metaparameter optimization in
knowledge distillation"),

    grad_lambda L_val(w') = -gamma d/dlambda (grad_w L_train(w, lambda) . v) = -gamma d/deps b(w + eps v) at eps = 0,

where b(w) = grad_lambda L_train(w, lambda). The order of the two derivatives is exchanged: as a metaparameter enters
the loss behind the network, b is a closed form at its outputs, and what is left is a derivative along one direction.
Forward mode gives it exactly; the paper, after DARTS, takes central differences with eps = epsilon / ||v||, whose error
falls with eps squared as long as no ReLU changes its side between the two points, and else with eps. Either costs about
as much as two forward passes, whatever the number of metaparameters; forward mode half of that, if the pass of the
training step was recorded.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor
from torch.autograd import forward_ad

from kdsearch.trainables.metaparameters.settings import Hypergradient
from kdsearch.trainables.networks.stack import NetworkStack, RecordedPass
from kdsearch.trainables.networks.stacked import StackedNetwork

NetworkFunction = Callable[[StackedNetwork], Tensor]

# Pixels of all slots' images up to which two networks run as one program. With more, an activation of both at once (16
# channels of 4 bytes) passes 32 MiB, which the C library takes from the system anew each time: that costs more than
# the one program saves.
JOINT_PIXELS: Final = 2**18


@torch.no_grad()
def directional_derivative(
    stack: NetworkStack,
    at: Tensor,
    along: Tensor,
    function: NetworkFunction,
    *,
    method: Hypergradient,
    epsilon: float = 0.01,
    recorded: RecordedPass | None = None,
) -> Tensor:
    """Return d/deps function(w + eps v) at eps = 0 for every slot: [N, P].

    at, along: w and v, vectors of the layout of `stack.parameters`. function: takes a network of N slots in training
    mode, whose running statistics stay as they are, and returns [N, P], built from its outputs by torch operations that
    forward mode can differentiate; row n must depend on slot n alone. Under finite differences it is called twice, and
    slot n moves by epsilon / ||v_n|| along v_n; they need single precision or more, as bfloat16 rounds the difference
    away. A slot whose v is 0 gets 0; one whose v is not finite, not a number.

    recorded: what `stack.record` returned when the weights were w. Where the function asks for the logits of those
    images (the same tensor), forward mode then has no forward pass to do.
    """
    if method is Hypergradient.EXACT:
        return _by_forward_mode(stack, at, along, function, recorded)
    return _by_central_difference(stack, at, along, function, epsilon)


def constant_beside(outputs: Tensor, constant: Tensor) -> Tensor:
    """Return a constant that a function multiplies a network's outputs by.

    Beside dual outputs it has a tangent of zeros: a product with a tensor that has none takes torch 180 microseconds,
    one of two dual tensors 4. The numbers are the same.
    """
    tangent = forward_ad.unpack_dual(outputs).tangent  # type: ignore[no-untyped-call]
    return constant if tangent is None else _dual(constant, torch.zeros_like(constant))


def _by_forward_mode(
    stack: NetworkStack, at: Tensor, along: Tensor, function: NetworkFunction, recorded: RecordedPass | None
) -> Tensor:
    _load_forward_mode()
    tangents = stack.views(along)
    with forward_ad.dual_level():
        duals = {name: _dual(value, tangents[name]) for name, value in stack.views(at).items()}
        network = stack.network_at(duals)
        if recorded is not None:
            # The stack's own tensors may have moved since: the recording's weights are `at`.
            moved = replace(recorded.recording, network=stack.network_at(at))
            known = RecordedPass(recorded.images, moved)
            network = _Replayed(**vars(network), known=known, direction=tangents)
        value, tangent = forward_ad.unpack_dual(function(network))  # type: ignore[no-untyped-call]
    return torch.zeros_like(value) if tangent is None else tangent  # None: the function is a constant


@dataclass(frozen=True, kw_only=True)
class _Replayed(StackedNetwork):
    """A network of dual tensors that has been through some images before."""

    known: RecordedPass
    direction: Mapping[str, Tensor]

    def logits(self, images: Tensor) -> Tensor:
        if images is self.known.images:
            return self.known.recording.dual_logits(self.direction)
        return super().logits(images)


@functools.cache
def _load_forward_mode() -> None:
    """Let torch load its forward mode, whose deprecation warnings about its own parts are not for our users."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)
        _dual(torch.zeros(()), torch.zeros(()))


def _dual(value: Tensor, tangent: Tensor) -> Tensor:
    dual: Tensor = forward_ad.make_dual(value, tangent)  # type: ignore[no-untyped-call]
    return dual


def _by_central_difference(
    stack: NetworkStack, at: Tensor, along: Tensor, function: NetworkFunction, epsilon: float
) -> Tensor:
    norms = stack.per_slot_norm(along)
    still = norms == 0
    steps = epsilon / norms.masked_fill(still, 1.0)
    difference = along * stack.spread(steps)
    ahead, behind = (function(network) for network in _pair(stack, at + difference, at - difference))
    slopes = (ahead - behind) / (2.0 * steps[:, None])
    return slopes.masked_fill(still[:, None], 0.0)


def _pair(stack: NetworkStack, *points: Tensor) -> list[StackedNetwork]:
    """Return the networks at these points, of which the first to run takes the others with it.

    One program of twice the slots takes up to a third less time than two programs: few channels leave vector registers
    half empty, and small networks are mostly the cost of starting an operation.
    """
    networks = [stack.network_at(point) for point in points]
    names = stack.views(stack.parameters)
    together = replace(
        networks[0],
        tensors={name: torch.cat([each.tensors[name] for each in networks]) for name in names},
        slots=len(networks) * networks[0].slots,
    )
    results: list[tuple[Tensor, Tensor]] = []
    return [
        _Part(**vars(network), index=index, count=len(networks), together=together, results=results)
        for index, network in enumerate(networks)
    ]


@dataclass(frozen=True, kw_only=True)
class _Part(StackedNetwork):
    """One of several networks that run as one program, in training mode without tracking."""

    index: int
    count: int
    together: StackedNetwork
    results: list[tuple[Tensor, Tensor]]  # images, and the logits of all

    def logits(self, images: Tensor) -> Tensor:
        for known, logits in self.results:
            if images is known:
                return logits.chunk(self.count)[self.index]
        batch, _, rows, columns = images.shape
        if self.index > 0 or self.slots * batch * rows * columns > JOINT_PIXELS:
            return super().logits(images)
        shared = images.shape[1] == self.architecture.channels
        found = self.together.logits(images if shared else torch.cat([images] * self.count, 1))
        self.results.append((images, found))
        return found.chunk(self.count)[self.index]
