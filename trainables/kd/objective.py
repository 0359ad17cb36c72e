"""What students are trained and judged by: the losses of a sweep's settings, and scores on a whole part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from kdsearch.trainables.kd.losses import KdLosses, by_metaparameters, kd_loss, validation_loss, wrong_answers
from kdsearch.trainables.kd.parts import Part
from kdsearch.trainables.kd.settings import KdSettings
from kdsearch.trainables.networks.stacked import StackedNetwork, slot_images
from kdsearch.trainables.training_settings import Precision


@dataclass(frozen=True)
class Objective:
    """The losses of one sweep's settings; shapes are those of `losses`."""

    settings: KdSettings
    device: torch.device

    def train(self, logits: Tensor, answers: Tensor | None, labels: Tensor, values: Tensor) -> KdLosses:
        """L_train and its gradients at the logits; values: [K, 2], lambda_1 and T."""
        return kd_loss(
            logits,
            answers,
            labels,
            values,
            distillation=self.settings.distillation,
            squared=self.settings.temperature_squared,
        )

    def by_metaparameters(
        self, logits: Tensor, answers: Tensor | None, labels: Tensor, values: Tensor
    ) -> Tensor:
        """dL_train by lambda_1 and T: [K, 2]."""
        return by_metaparameters(
            logits,
            answers,
            labels,
            values,
            distillation=self.settings.distillation,
            squared=self.settings.temperature_squared,
        )

    def validation(self, logits: Tensor, labels: Tensor) -> KdLosses:
        """L_val at T_val and its gradients at the logits."""
        return validation_loss(
            logits,
            labels,
            temperature=self.settings.validation_temperature,
            distillation=self.settings.distillation,
        )

    @property
    def dtype(self) -> torch.dtype:
        """What weights and losses are kept in."""
        return torch.float64 if self.settings.precision is Precision.FLOAT64 else torch.float32

    def arithmetic(self) -> AbstractContextManager[object]:
        """The arithmetic of the networks' insides."""
        enabled = self.settings.precision is Precision.BFLOAT16
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    @torch.no_grad()
    def score(
        self, network: StackedNetwork, part: Part, copies: Sequence[int], owners: Tensor
    ) -> Mapping[str, Tensor]:
        """Return every student's mean loss and its share of wrong answers in per cent: [K] each.

        copies: [K] which copy of the part each student sees; owners: [K] 0, ..., K - 1.
        """
        loss = torch.zeros(len(copies), dtype=self.dtype, device=self.device)
        wrong = torch.zeros(len(copies), dtype=torch.int64, device=self.device)
        for inputs, labels in self._side_by_side(part, copies, owners):
            with self.arithmetic():
                logits = network.logits(inputs)
            loss += self.validation(logits, labels).losses * labels.shape[1]
            wrong += wrong_answers(logits, labels, self.settings.distillation)
        # Counts are whole numbers until here: equal counts give equal errors.
        return {"loss": loss / len(part), "error": 100.0 * wrong.double() / len(part)}

    def _side_by_side(
        self, part: Part, copies: Sequence[int], owners: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images as networks take them, the same for all students or each its own, and labels [K, B]."""
        size = self.settings.eval_batch_size
        if part.copies > 1:
            for inputs, labels in part.batches_of(copies, size, self.dtype):
                yield slot_images(inputs, owners), labels
            return
        for inputs, labels in part.batches(size, self.dtype):
            shared = inputs.contiguous(memory_format=torch.channels_last)
            yield shared, labels.expand(len(copies), -1)
