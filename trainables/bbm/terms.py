"""The loss of every method as a sum of two terms, and batches taken piece by piece.

The loss is linear in the weight that balances it, L = base + weight * direction:

    teacher, transformer  base = L_CLS, no direction
    BBM                   base = L_CLS, direction = L_BBM, weight = lambda
    DeiT                  base = L_distillation, direction = L_class - L_distillation, weight = ratio

A batch of patients by the hour can be taken in pieces, whose gradients add up to those of the whole: L_CLS and DeiT's
terms are means over real hours, L_BBM is a mean over records, and each piece counts by its share of them. Only dropout
draws other masks. Signals are never cut: batch norm is over the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from kdsearch.trainables.bbm.losses import classification_loss, deit_terms
from kdsearch.trainables.bbm.matching import Maps, block_features, check_matching, matching_loss
from kdsearch.trainables.bbm.settings import Method, TrialSettings
from kdsearch.trainables.bbm.tensors import MOST_ROWS, TensorBatch
from kdsearch.trainables.series.blocks import Blocks
from kdsearch.trainables.series.networks import SeriesNetwork

_STEPS: Final = (
    64  # of a record that two networks are tried on; which keep every hour, keep them at any length
)


@dataclass(frozen=True)
class Terms:
    """The two terms of a batch, scalars; direction is None where the loss has none."""

    base: Tensor
    direction: Tensor | None = None


@dataclass(frozen=True)
class Piece:
    """A part of a batch, and its shares of the batch's real hours and of its records."""

    batch: TensorBatch
    hours: float = 1.0
    records: float = 1.0


class Objective:
    """What a trial descends: the network's terms on a batch.

    teacher: needed by DeiT and BBM, in evaluation mode and closed to gradients. maps: of BBM alone, to be trained.
    """

    def __init__(
        self,
        trial: TrialSettings,
        network: SeriesNetwork,
        teacher: SeriesNetwork | None,
        generator: torch.Generator,
    ) -> None:
        self._method, self._network, self._teacher = trial.method, network, teacher
        self.maps: Maps | None = None
        if trial.method is Method.BBM and teacher is not None:
            self._blocks = Blocks(network, trial.blocks), Blocks(teacher, trial.blocks)
            check_matching(*self._blocks, steps=_STEPS, masked=network.per_step)
            self.maps = Maps(*self._blocks, generator=generator)

    def terms(self, piece: Piece) -> Terms:
        """Return the terms of a piece, weighed by its shares: those of all pieces add up to the batch's."""
        batch = piece.batch
        if self.maps is not None:
            student, teacher = self._blocks
            features = block_features(student, batch.values, batch.real)
            logits = self._network.finish(features[-1], batch.real)
            matched = matching_loss(
                student, teacher, self.maps, batch.values, batch.real, student_features=features
            )
            loss = classification_loss(logits, batch.labels, batch.real)
            return Terms(piece.hours * loss, piece.records * matched.total)
        if self._method is Method.DEIT and self._teacher is not None:
            encoded = self._network.encode(batch.values, batch.real)
            by_class, by_distillation = self._network.finish_both(encoded, batch.real)
            with torch.no_grad():
                answers = self._teacher(batch.values, batch.real)
            own, taught = deit_terms(by_class, by_distillation, batch.labels, answers, batch.real)
            return Terms(piece.hours * taught, piece.hours * (own - taught))
        logits = self._network(batch.values, batch.real)
        return Terms(piece.hours * classification_loss(logits, batch.labels, batch.real))


def pieces(batch: TensorBatch, most_rows: int = MOST_ROWS) -> Iterator[Piece]:
    """Cut a batch of patients into pieces of at most `most_rows` rows, but at least one patient each."""
    records, steps = batch.values.shape[:2]
    if batch.real is None or records * steps <= most_rows:
        yield Piece(batch)
        return
    size = max(1, most_rows // steps)
    hours = float(batch.real.sum())
    for first in range(0, records, size):
        own = slice(first, first + size)
        real = batch.real[own]
        longest = int(real.sum(1).max())
        part = TensorBatch(batch.values[own, :longest], batch.labels[own, :longest], real[:, :longest])
        yield Piece(part, float(real.sum()) / hours, len(real) / records)
