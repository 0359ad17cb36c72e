"""Batches of records as tensors on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from kdsearch.trainables.bbm.parts import Indices, Records

MOST_ROWS: Final = 1 << 13  # hours, padding included, that go through a network at a time


@dataclass(frozen=True)
class TensorBatch:
    """values [B, T, F], labels [B, C] or [B, T, 1] in {0, 1}, real [B, T] or None (every step is); see `Records`."""

    values: Tensor
    labels: Tensor
    real: Tensor | None


def tensor_batch(records: Records, chosen: Indices, device: torch.device) -> TensorBatch:
    """Return records on the device."""
    batch = records.batch(chosen)
    return TensorBatch(
        torch.from_numpy(np.ascontiguousarray(batch.values)).to(device),
        torch.from_numpy(batch.labels).to(device),
        None if batch.real is None else torch.from_numpy(batch.real).to(device),
    )
