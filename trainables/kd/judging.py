"""Equation 3 for a pack of students: the validation loss differentiated through the step that they have just taken."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from kdsearch.trainables.kd.objective import Objective
from kdsearch.trainables.metaparameters.hypergradient import constant_beside, directional_derivative
from kdsearch.trainables.metaparameters.settings import Hypergradient, OptimiserSettings
from kdsearch.trainables.networks.stack import NetworkStack, RecordedPass
from kdsearch.trainables.networks.stacked import StackedNetwork


class Step(NamedTuple):
    """A step that was taken: its batch [K, ...], the values it was taken with, and the weights that it started from.

    recorded: its forward pass, where that was recorded.
    """

    images: Tensor
    labels: Tensor
    answers: Tensor | None
    values: Tensor
    before: Tensor
    recorded: RecordedPass | None


@dataclass(frozen=True)
class Judge:
    """Judges steps of a stack of students by validation batches.

    columns: [P] which of (lambda_1, T) are optimised.
    """

    optimiser: OptimiserSettings
    objective: Objective
    columns: Tensor

    @property
    def records(self) -> bool:
        """Whether a recorded forward pass of the step spares one here."""
        return self.optimiser.hypergradient is Hypergradient.EXACT

    def passes(self, iterations: int, judged: int) -> Mapping[str, float]:
        """Passes through a student in so many iterations, `judged` of them with a hypergradient."""
        return {
            "forward_passes": float(iterations + judged * (1 if self.records else 3)),
            "backward_passes": float(iterations + judged),
            "tangent_passes": float(judged if self.records else 0),
        }

    def hypergradient(self, stack: NetworkStack, step: Step, images: Tensor, labels: Tensor) -> Tensor:
        """Return d/d eps (dL_train/dlambda)(w + eps v) [K, P], v the gradient of L_val at the present weights w'.

        images and labels: of the validation batch. The validation loss is taken on the batch's own statistics, as in
        training, and running statistics stay as they are.
        """
        along = self._validation_gradient(stack, images, labels)

        def train_loss_by_metaparameters(network: StackedNetwork) -> Tensor:
            logits = network.logits(step.images)
            answers = None if step.answers is None else constant_beside(logits, step.answers)
            values = constant_beside(logits, step.values)
            found = self.objective.by_metaparameters(logits, answers, step.labels, values)
            return found[:, self.columns]

        # A difference of two passes in half precision would be mostly rounding.
        with self.objective.arithmetic() if self.records else nullcontext():
            return directional_derivative(
                stack,
                step.before,
                along,
                train_loss_by_metaparameters,
                method=self.optimiser.hypergradient,
                epsilon=self.optimiser.epsilon,
                recorded=step.recorded,
            )

    def _validation_gradient(self, stack: NetworkStack, images: Tensor, labels: Tensor) -> Tensor:
        with self.objective.arithmetic():
            logits = stack.network(training=True, track=False).logits(images)
        loss = self.objective.validation(logits.detach(), labels)
        return stack.gradient(logits, loss.gradients).clone()
