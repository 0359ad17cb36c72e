"""What a network says of a part of the records, and how good that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from kdsearch.trainables.bbm.judging import Judgement, judge_hours, judge_signals
from kdsearch.trainables.bbm.losses import classification_loss
from kdsearch.trainables.bbm.parts import Indices, Records
from kdsearch.trainables.bbm.tensors import MOST_ROWS, TensorBatch, tensor_batch
from kdsearch.trainables.scores.thresholds import Thresholds
from kdsearch.trainables.series.networks import SeriesNetwork

_FEWEST: Final = 1


@dataclass(frozen=True, eq=False)
class Answers:
    """Probabilities and labels of a part: [n, classes] of signals, [hours] of all patients in order of hours.

    lengths: hours of each patient, None for signals. loss: the mean cross-entropy over all of them.
    """

    probabilities: NDArray[np.float64]
    labels: NDArray[np.bool_]
    lengths: NDArray[np.int64] | None
    loss: float

    def judged(self, thresholds: Thresholds | None = None) -> Judgement:
        """Return the scores; without thresholds, those that are best on these answers are chosen."""
        if self.lengths is None:
            return judge_signals(self.probabilities, self.labels, thresholds)
        return judge_hours(self.probabilities, self.labels, self.lengths, thresholds)


def in_batches(
    records: Records, chosen: Indices, *, batch_size: int, device: torch.device
) -> Iterator[tuple[Indices, TensorBatch]]:
    """Yield (positions in `chosen`, batch): patients of like length together, so that little is padded.

    A batch of patients has at most `MOST_ROWS` rows, so that long stays come in smaller ones.
    """
    lengths = None if records.lengths is None else records.lengths[chosen]
    order = np.arange(len(chosen)) if lengths is None else np.argsort(lengths, kind="stable")
    while len(order):
        size = batch_size
        if lengths is not None:
            rows = lengths[order[:batch_size]] * np.arange(1, min(batch_size, len(order)) + 1)
            size = max(1, int(np.searchsorted(rows, MOST_ROWS, side="right")))
        places, order = order[:size], order[size:]
        yield places, tensor_batch(records, chosen[places], device)


@torch.no_grad()
def answers(
    network: SeriesNetwork,
    records: Records,
    chosen: Indices,
    *,
    batch_size: int,
    device: torch.device,
) -> Answers:
    """Return what the network says of these records, in their order."""
    network.eval()
    found: list[NDArray[np.float64]] = [np.empty(0)] * len(chosen)
    labels: list[NDArray[np.bool_]] = [np.empty(0, dtype=np.bool_)] * len(chosen)
    total, count = 0.0, 0
    for places, batch in in_batches(records, chosen, batch_size=batch_size, device=device):
        logits = network(batch.values, batch.real)
        items = len(places) if batch.real is None else int(batch.real.sum())
        total += float(classification_loss(logits, batch.labels, batch.real)) * items
        count += items
        probabilities = torch.sigmoid(logits.double()).cpu().numpy()
        known = batch.labels.cpu().numpy() > 0.5  # noqa: PLR2004 labels are 0 and 1
        real = None if batch.real is None else batch.real.cpu().numpy()
        for row, place in enumerate(places):
            own = slice(None) if real is None else real[row]
            found[place] = probabilities[row][own]
            labels[place] = known[row][own]
    lengths = records.lengths
    if lengths is None:
        return Answers(np.stack(found), np.stack(labels), None, total / max(count, _FEWEST))
    return Answers(
        np.concatenate(found)[:, 0],
        np.concatenate(labels)[:, 0],
        lengths[chosen],
        total / max(count, _FEWEST),
    )
