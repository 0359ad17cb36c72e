"""The batches of an epoch: every record once, patients of like length together.

A batch is padded to its longest patient. Shuffled patients are therefore sorted by length inside pools of 32 batches,
those of one length in the order in which they were shuffled, and then the batches are shuffled: chance decides who
meets in a pool and, among those of one length, in a batch, and in which order batches come.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from kdsearch.spaces.errors import UsageError

POOL: Final = 32  # batches whose patients are sorted together

Indices = NDArray[np.int64]


def epoch_batches(
    count: int, batch_size: int, rng: np.random.Generator, *, lengths: Indices | None = None
) -> list[Indices]:
    """Return the batches of an epoch over `count` records, as positions from 0; each position stands in one of them.

    Batches have batch_size records, one batch what is left over. lengths [count]: hours of each patient, where they
    differ; without, records are shuffled alone. The same generator state gives the same batches.

    Raises:
        UsageError: batch_size is below 1, or lengths are not those of the records.

    """
    if batch_size < 1:
        raise UsageError(f"a batch must have at least one record, not {batch_size}")
    if lengths is not None and len(lengths) != count:
        raise UsageError(f"{len(lengths)} lengths were given for {count} records")
    order = rng.permutation(count).astype(np.int64)
    if lengths is None:
        return _cut(order, batch_size)
    pools = [pool[np.argsort(lengths[pool], kind="stable")] for pool in _cut(order, POOL * batch_size)]
    batches = [batch for pool in pools for batch in _cut(pool, batch_size)]
    return [batches[at] for at in rng.permutation(len(batches))]


def padded_share(batches: list[Indices], lengths: Indices) -> float:
    """Return which share of the hours in these batches is padding, in [0, 1)."""
    real = sum(int(lengths[batch].sum()) for batch in batches)
    held = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
    return 1 - real / held if held else 0.0


def _cut(order: Indices, size: int) -> list[Indices]:
    return [order[first : first + size] for first in range(0, len(order), size)]
