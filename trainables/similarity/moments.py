"""Sums of squares about the mean, batch by batch, in float64.

Two batches' centred sums are joined as Chan, Golub and LeVeque join them ("Algorithms for computing the sample
variance", 1983), here for the products of two lists of columns:

    C = C_a + C_b + n_a n_b / (n_a + n_b) (mean_a - mean_b)(mean'_a - mean'_b)^T

so that nothing is lost where the mean is much larger than the spread, and no pass over the data is needed before.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Of the mean square. A float32 value that stays the same leaves about 1e-32 of it after centring in float64; features
# whose spread is less than a millionth of a millionth of their size hold no information that float32 can carry.
_CONSTANT = 1e-24


class CrossMoments:
    """The centred cross-products of D1 and D2 columns: [D1, D2], and the number of rows."""

    def __init__(self) -> None:
        self.rows = 0
        self._means: tuple[Tensor, Tensor] | None = None
        self._products: Tensor | None = None

    def add(self, first: Tensor, second: Tensor) -> None:
        """Take in n more rows. first: [n, D1], second: [n, D2], float64; n = 0 changes nothing."""
        count = len(first)
        if count == 0:
            return
        means = first.mean(0), second.mean(0)
        products = (first - means[0]).T @ (second - means[1])
        if self._means is None or self._products is None:
            self.rows, self._means, self._products = count, means, products
            return
        total = self.rows + count
        shifts = [new - old for new, old in zip(means, self._means, strict=True)]
        self._products += products
        self._products.addr_(shifts[0], shifts[1], alpha=self.rows * count / total)
        self._means = (
            self._means[0] + shifts[0] * (count / total),
            self._means[1] + shifts[1] * (count / total),
        )
        self.rows = total

    @property
    def products(self) -> Tensor:
        """The centred cross-products, [D1, D2].

        Raises:
            ValueError: no row was added.

        """
        if self._products is None:
            raise ValueError("no row was added")
        return self._products

    @property
    def means(self) -> tuple[Tensor, Tensor]:
        """Both means, [D1] and [D2].

        Raises:
            ValueError: no row was added.

        """
        if self._means is None:
            raise ValueError("no row was added")
        return self._means


def is_constant(moments: CrossMoments) -> bool:
    """Whether no column of a list's products with itself changes, to the digits that float32 can carry."""
    spread = float(moments.products.diagonal().sum()) / moments.rows
    return spread <= _CONSTANT * float(moments.means[0].square().sum())


def is_finite(moments: CrossMoments) -> bool:
    """Whether all that was added was finite (and far enough from overflow)."""
    return bool(torch.isfinite(moments.products).all())
