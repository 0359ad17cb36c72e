"""How alike a trained network and its teacher are, and where the network's attention looks.

Source: Lee, Jo and Kwon (2022): Table 1 (outputs), Fig. 3 (layers), Fig. 4 (attention).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from kdsearch.trainables.bbm.evaluation import in_batches
from kdsearch.trainables.bbm.parts import Indices, Records
from kdsearch.trainables.bbm.tensors import TensorBatch
from kdsearch.trainables.series.networks import SeriesNetwork
from kdsearch.trainables.similarity.attention import MeanAttention
from kdsearch.trainables.similarity.cka import LinearCka
from kdsearch.trainables.similarity.outputs import OutputAgreement

MOST_PAIRS: Final = 1 << 18  # of tokens, whose attention is held at a time: 1 MiB for each head of each unit
MOST_TOKENS: Final = 100  # of the averaged attention: all patches of ten seconds, the first hundred hours


@dataclass(frozen=True)
class Compared:
    """What was found: `r2` (None if it is not defined), the mean attention distance of each unit (tokens), and arrays.

    Arrays by name: `cka` [units, teacher's units] and `attention` [units, T, T]; NaN where one is not defined.
    """

    r2: float | None
    distances: tuple[float, ...]
    arrays: Mapping[str, NDArray[np.float32]]


@torch.no_grad()
def compared(
    network: SeriesNetwork,
    teacher: SeriesNetwork | None,
    records: Records,
    chosen: Indices,
    *,
    batch_size: int,
    device: torch.device,
) -> Compared:
    """Compare on these records; the network is put into evaluation mode."""
    network.eval()
    if teacher is None and not network.has_attention:
        return Compared(None, (), {})
    agreement, cka, attention = OutputAgreement(), LinearCka(), MeanAttention(MOST_TOKENS)
    for _, batch in in_batches(records, chosen, batch_size=batch_size, device=device):
        if network.has_attention:
            _add_attention(attention, network, batch)
        if teacher is None:
            continue
        own, others = network.trace(batch.values, batch.real), teacher.trace(batch.values, batch.real)
        said = network.finish(own[-1], batch.real), teacher.finish(others[-1], batch.real)
        agreement.add(torch.sigmoid(said[0].double()), torch.sigmoid(said[1].double()), batch.real)
        cka.add([each.time for each in own], [each.time for each in others], batch.real)
    arrays: dict[str, NDArray[np.float32]] = {}
    distances: tuple[float, ...] = ()
    if network.has_attention:
        found = attention.result()
        arrays["attention"] = found.attention.astype(np.float32)
        distances = tuple(float(distance) for distance in found.distance)
    if teacher is None:
        return Compared(None, distances, arrays)
    arrays["cka"] = cka.result().cka.astype(np.float32)
    r2 = agreement.result().r2
    return Compared(r2 if np.isfinite(r2) else None, distances, arrays)


def _add_attention(attention: MeanAttention, network: SeriesNetwork, batch: TensorBatch) -> None:
    """Take in a batch's attention a few records at a time: all units' and heads' maps are held at once."""
    steps = network.lengths(batch.values.shape[1])[0]
    few = max(1, MOST_PAIRS // steps**2)
    for first in range(0, len(batch.values), few):
        own = slice(first, first + few)
        real = None if batch.real is None else batch.real[own]
        attention.add(network.attention(batch.values[own], real), real)
