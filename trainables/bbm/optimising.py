"""Adam with weight decay, and the derivative of its step by a weight of the loss.

Source: Kingma and Ba, "Adam: a method for stochastic optimization" (2015), Algorithm 1, in the form that is exactly
torch.optim.Adam's with weight_decay (L2: the decay is part of the gradient, the literal reading of "an Adam optimizer
with the weight decay" in Lee, Jo and Kwon (2022), section 2.1). Step t at the rate gamma is

    g  = grad L(w) + weight_decay w
    m' = beta_1 m + (1 - beta_1) g              v' = beta_2 v + (1 - beta_2) g^2
    w' = w - gamma (m' / c_1) / D               D = sqrt(v' / c_2) + epsilon,   c_k = 1 - beta_k^t

With L = L_CLS + lambda L_BBM, lambda enters the step through g alone, and h = dg/dlambda = grad L_BBM. So

    dw'/dlambda = -(gamma / c_1) (h / D) ((1 - beta_1) - (m' / D) ((1 - beta_2) / c_2) g / sqrt(v' / c_2)),

exact, element by element, and without a second backward pass. Equation 3 of "Metaparameter optimization in knowledge
distillation" is then dL_val(w')/dlambda = grad L_val(w') . dw'/dlambda. That the moments before the step depend on
lambda too is left out there as well: one step is looked at. (DeiT's ratio enters linearly likewise, with h the
difference of the two tokens' gradients.)

Where v' = 0 the derivative is taken as 0. No gradient was ever seen there (or none whose square is above 0), and Adam
takes a step of the whole rate as soon as there is one: the quotient tends to h / epsilon, a slope that holds for
changes of 1e-8 alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from kdsearch.spaces.errors import UsageError

BETAS: Final = (0.9, 0.999)
EPSILON: Final = 1e-8
_STATE: Final[Mapping[str, type]] = {"steps": int, "first": Tensor, "second": Tensor}


class Adam:
    """Adam over parameters of one type and device, whose P elements it sees as one vector.

    weight_decay: 0 or more, of the L2 form. Parameters are changed in place.

    Raises:
        UsageError: there are no parameters, or they differ in type or device.

    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = BETAS,
        epsilon: float = EPSILON,
    ) -> None:
        self._parameters = tuple(parameters)
        if len({(each.dtype, each.device) for each in self._parameters}) != 1:
            raise UsageError("Adam needs parameters, all of one type and on one device")
        self._weight_decay, self._betas, self._epsilon = weight_decay, betas, epsilon
        self._sizes = [each.numel() for each in self._parameters]
        self._steps = 0
        self._first = self._parameters[0].detach().new_zeros(sum(self._sizes))
        self._second = torch.zeros_like(self._first)

    @property
    def steps(self) -> int:
        """Steps made so far."""
        return self._steps

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor | None], rate: float) -> None:
        """Move the parameters against their gradients, one each; None (the loss has none) counts as zeros.

        A parameter with None still decays and its moments fade, unlike in torch, which leaves it alone.

        Raises:
            UsageError: the gradients do not fit the parameters.

        """
        self._move(self._decayed(gradients), rate)

    @torch.no_grad()
    def step_with_derivative(
        self, gradients: Sequence[Tensor | None], direction: Sequence[Tensor | None], rate: float
    ) -> list[Tensor]:
        """Make the same step, and return its derivative dw'/dlambda in the shapes of the parameters.

        direction: dg/dlambda at the weights before the step, that is grad L_BBM, one each; None counts as zeros.

        Raises:
            UsageError: gradients or direction do not fit the parameters.

        """
        gradient, slope = self._decayed(gradients), self._joined(direction)
        self._move(gradient, rate)
        slopes = self._slopes(gradient, slope, rate).split_with_sizes(self._sizes)
        return [found.view_as(each) for found, each in zip(slopes, self._parameters, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """Return the steps made and the moments [P], copies on the CPU, as a checkpoint can hold them."""
        copies = {name: each.detach().to("cpu", copy=True) for name, each in self._moments().items()}
        return {"steps": self._steps, **copies}

    def load_state_dict(self, state: object) -> None:
        """Go on from what `state_dict` returned; the next steps are those that would have followed, bit by bit.

        Raises:
            UsageError: this is no such state, or that of other parameters.

        """
        found = dict(state) if isinstance(state, Mapping) else {}
        if found.keys() != _STATE.keys() or not all(
            isinstance(found[name], kind) for name, kind in _STATE.items()
        ):
            raise UsageError("this is not the state of an Adam", f"It must hold {', '.join(_STATE)}.")
        for name, moment in self._moments().items():
            held: Tensor = found[name]
            if held.shape != moment.shape or held.dtype != moment.dtype:
                raise UsageError(
                    f"the state of Adam is that of other parameters: {name} has {held.numel()} elements of "
                    f"{held.dtype}, not {moment.numel()} of {moment.dtype}"
                )
        for name, moment in self._moments().items():
            moment.copy_(found[name])
        self._steps = found["steps"]

    def _moments(self) -> dict[str, Tensor]:
        return {"first": self._first, "second": self._second}

    def _corrections(self) -> tuple[float, float]:
        """Return c_1 and c_2 of the present step."""
        beta_1, beta_2 = self._betas
        return 1 - beta_1**self._steps, 1 - beta_2**self._steps

    def _divisor(self) -> Tensor:
        """Return D [P]."""
        _, second_correction = self._corrections()
        return self._second.sqrt().div_(math.sqrt(second_correction)).add_(self._epsilon)

    def _move(self, gradient: Tensor, rate: float) -> None:
        beta_1, beta_2 = self._betas
        self._steps += 1
        self._first.lerp_(gradient, 1 - beta_1)
        self._second.mul_(beta_2).addcmul_(gradient, gradient, value=1 - beta_2)
        first_correction, _ = self._corrections()
        change = (self._first / self._divisor()).mul_(-rate / first_correction)
        for parameter, part in zip(self._parameters, change.split_with_sizes(self._sizes), strict=True):
            parameter.add_(part.view_as(parameter))

    def _slopes(self, gradient: Tensor, direction: Tensor, rate: float) -> Tensor:
        """Return dw'/dlambda [P] of the step just made.

        As quotients of numbers of one size: products like D^2 sqrt(v') leave the range of float32.
        """
        beta_1, beta_2 = self._betas
        first_correction, second_correction = self._corrections()
        root = self._second.div(second_correction).sqrt_()
        still = root == 0
        divisor = self._divisor()
        bracket = (gradient / root.masked_fill_(still, 1.0)).mul_(self._first / divisor)
        bracket.mul_(-(1 - beta_2) / second_correction).add_(1 - beta_1)
        slopes = (direction / divisor).mul_(bracket).mul_(-rate / first_correction)
        return slopes.masked_fill_(still, 0.0)

    def _decayed(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Return g [P], with the weight decay."""
        gradient = self._joined(gradients)
        if self._weight_decay:
            gradient.add_(torch.cat([each.flatten() for each in self._parameters]), alpha=self._weight_decay)
        return gradient

    def _joined(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """Return a new vector [P] of tensors in the shapes of the parameters."""
        shapes = [None if each is None else each.shape for each in tensors]
        if len(shapes) != len(self._parameters) or any(
            shape not in (None, each.shape) for shape, each in zip(shapes, self._parameters, strict=True)
        ):
            raise UsageError(
                f"{len(shapes)} gradients that do not fit the {len(self._parameters)} parameters",
                "One of the parameter's shape each, or None.",
            )
        return torch.cat(
            [
                (each.new_zeros(each.shape) if given is None else given.to(each.dtype)).detach().flatten()
                for given, each in zip(tensors, self._parameters, strict=True)
            ]
        )
