"""A network cut into N blocks of equally many units, as block-by-block matching needs it."""

from __future__ import annotations

from torch import Tensor

from kdsearch.trainables.series.networks import Features, SeriesNetwork
from kdsearch.trainables.series.specs import check_division


class Blocks:
    """The blocks f_1, ..., f_N of a network, numbered from 0; f_1 takes the input itself and includes the stem.

    network: whose weights the blocks are. depths: D after each block. The last block's features become logits by
    `network.finish`, which belongs to no block.

    Raises:
        UsageError: N does not divide the network's units; it names the numbers that do.

    """

    def __init__(self, network: SeriesNetwork, count: int) -> None:
        check_division(network.units, count, f"a {type(network).__name__}")
        self.network, self._each = network, network.units // count
        self._last = tuple(self._each * (k + 1) - 1 for k in range(count))  # unit that ends each block
        self.depths = tuple(network.depths[unit] for unit in self._last)

    def __len__(self) -> int:
        return len(self.depths)

    def lengths(self, steps: int) -> tuple[int, ...]:
        """Return T after each block, of records of `steps` time steps."""
        found = self.network.lengths(steps)
        return tuple(found[unit] for unit in self._last)

    def first(self, values: Tensor, real: Tensor | None = None) -> Features:
        """Apply the first block to the input [B, T, F]; real as in `SeriesNetwork`."""
        return self.run(0, self.network.begin(values, real), real)

    def run(self, block: int, features: Features, real: Tensor | None = None) -> Features:
        """Apply the units of a block, in [0, N), to the features before them.

        Before block 0 that is what the network's `begin` returns.
        """
        last = self._last[block]
        for index in range(last + 1 - self._each, last + 1):
            features = self.network.unit(index, features, real)
        return features
