"""The hypergradient: the validation loss differentiated through one step of the model, without a second backward pass.

With w' = w - gamma grad_w L_train(w, lambda) and v = grad_w' L_val(w') (equation 3 of "Metaparameter optimization in
knowledge distillation"),

    grad_lambda L_val(w') = -gamma d/dlambda (grad_w L_train(w, lambda) . v) = -gamma d/deps b(w + eps v) at eps = 0,

where b(w) = grad_lambda L_train(w, lambda). The order of the two derivatives is exchanged: as a metaparameter enters
the loss behind the network, b is a closed form at its outputs, and what is left is a derivative along one direction.
Forward mode gives it exactly; the paper, after DARTS, takes central differences with eps = epsilon / ||v||, whose error
falls with eps squared. Each needs about two forward passes, whatever the number of metaparameters.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

from kdsearch.trainables.metaparameters.settings import Hypergradient
from kdsearch.trainables.networks.stack import NetworkStack
from kdsearch.trainables.networks.stacked import StackedNetwork

NetworkFunction = Callable[[StackedNetwork], Tensor]


@torch.no_grad()
def directional_derivative(
    stack: NetworkStack,
    at: Tensor,
    along: Tensor,
    function: NetworkFunction,
    *,
    method: Hypergradient,
    epsilon: float = 0.01,
) -> Tensor:
    """Return d/deps function(w + eps v) at eps = 0 for every slot: [N, P].

    at, along: w and v, vectors of the layout of `stack.parameters`. function: takes a network of N slots in training
    mode, whose running statistics stay as they are, and returns [N, P], built from its outputs by torch operations that
    forward mode can differentiate; row n must depend on slot n alone. Under finite differences it is called twice, and
    slot n moves by epsilon / ||v_n|| along v_n. A slot whose v is 0 gets 0; one whose v is not finite, not a number.
    """
    if method is Hypergradient.EXACT:
        return _by_forward_mode(stack, at, along, function)
    return _by_central_difference(stack, at, along, function, epsilon)


def _by_forward_mode(stack: NetworkStack, at: Tensor, along: Tensor, function: NetworkFunction) -> Tensor:
    _load_forward_mode()
    tangents = stack.views(along)
    with forward_ad.dual_level():
        duals = {name: _dual(value, tangents[name]) for name, value in stack.views(at).items()}
        value, tangent = forward_ad.unpack_dual(function(stack.network_at(duals)))  # type: ignore[no-untyped-call]
    return torch.zeros_like(value) if tangent is None else tangent  # None: the function is a constant


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
    ahead = function(stack.network_at(at + difference))
    behind = function(stack.network_at(at - difference))
    slopes = (ahead - behind) / (2.0 * steps[:, None])
    return slopes.masked_fill(still[:, None], 0.0)
