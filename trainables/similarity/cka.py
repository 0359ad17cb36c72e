"""Linear CKA between every unit of one network and every unit of another, streamed over batches.

Source: Kornblith, Norouzi, Lee and Hinton, "Similarity of neural network representations revisited" (2019). For
centred features X [n, D1] and Y [n, D2] of the same n samples

    CKA(X, Y) = ||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F)

in [0, 1], 1 where one is a rotation and scaling of the other, and the same for any rotation and scaling of either.

What a sample is. A unit's features are [B, T, D], and two units can differ in T as well as in D. For each pair of units
time is cut into min(T1, T2) equal windows; of each unit the mean over a window is taken (nothing happens to the unit
that has so few steps), and every (record, window) is one sample, a row of D features. The windows are those of
`torch.nn.functional.adaptive_avg_pool1d`: neighbours share a step where the windows do not divide T. For hours, where
every unit has a row for each hour, every real hour is one sample. So what is compared is where in time a network sees
what, not only what it sees in a record.

How many samples. For independent features CKA is not 0 but about sqrt(D1 D2) / n for large n, and with fewer samples
than features any two networks look alike. A pair with n <= max(D1, D2) is therefore NaN, with a reason.

Memory: the features of one batch, and float64 sums of D1 x D2 for each pair and D x D for each unit and each number of
windows it is seen at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kdsearch.trainables.similarity.moments import CrossMoments, is_constant, is_finite

_ROWS: Final = 1 << 14  # rows that are held in float64 at a time: 16 MiB for a unit of 128 features


@dataclass(frozen=True, kw_only=True)
class Similarities:
    """Linear CKA of U1 units with U2 units."""

    cka: NDArray[np.float64]  # [U1, U2], in [0, 1]; NaN where it is not defined
    rows: NDArray[np.int64]  # [U1, U2], samples of each pair
    reasons: tuple[str, ...]  # why values are NaN, each reason once


class LinearCka:
    """Takes in two networks' features of the same records, batch by batch."""

    def __init__(self) -> None:
        self._shapes: tuple[list[tuple[int, int]], list[tuple[int, int]]] | None = None  # (T or 0, D) by unit
        self._pairs: dict[tuple[int, int], CrossMoments] = {}
        self._own: dict[tuple[int, int, int], CrossMoments] = {}  # by (network, unit, windows; 0 for hours)

    @torch.no_grad()
    def add(self, first: Sequence[Tensor], second: Sequence[Tensor], real: Tensor | None = None) -> None:
        """Take in the features of some more records.

        first, second: for each unit, in the networks' order, [B, T, D]; T and D may differ between units and not
        between batches (with `real`, T may differ between batches and not between units). real: [B, T], bool, False
        where an hour is padding.

        Raises:
            ValueError: features of other shapes than before, of another number of records, or that do not fit `real`.

        """
        networks = (list(first), list(second))
        self._check(networks, real)
        records = len(networks[0][0])
        steps = max(unit.shape[1] for units in networks for unit in units)
        chunk = max(_ROWS // max(steps, 1), 1)
        for start in range(0, records, chunk):
            part = slice(start, start + chunk)
            mask = None if real is None else real[part]
            self._add([[unit[part] for unit in units] for units in networks], mask)

    def result(self) -> Similarities:
        """Return the similarity of every pair of units.

        Raises:
            ValueError: nothing was added.

        """
        if self._shapes is None:
            raise ValueError("no features were added")
        shape = len(self._shapes[0]), len(self._shapes[1])
        cka, rows = np.full(shape, math.nan), np.zeros(shape, np.int64)
        reasons: dict[str, None] = {}  # a set that keeps its order
        for i, j in np.ndindex(shape):
            windows = self._windows(i, j)
            keys = (0, i, windows), (1, j, windows)
            both, one, other = self._pairs.get((i, j)), self._own.get(keys[0]), self._own.get(keys[1])
            if both is None or one is None or other is None or both.rows == 0:
                reasons["no record was added"] = None
                continue
            rows[i, j] = both.rows
            reason = _undefined(both, one, other)
            if reason is None:
                cka[i, j] = _cka(both, one, other)
            else:
                reasons[reason] = None
        return Similarities(cka=cka, rows=rows, reasons=tuple(reasons))

    def _check(self, networks: tuple[list[Tensor], list[Tensor]], real: Tensor | None) -> None:
        if not all(networks):
            raise ValueError("a network without units cannot be compared")
        for unit in (*networks[0], *networks[1]):
            if unit.dim() != 3 or len(unit) != len(networks[0][0]):  # noqa: PLR2004 [B, T, D]
                raise ValueError(
                    f"features of shape {tuple(unit.shape)} beside {tuple(networks[0][0].shape)}"
                )
            if real is not None and unit.shape[:2] != real.shape:
                raise ValueError(f"features of shape {tuple(unit.shape)} and a mask of {tuple(real.shape)}")
        shapes = tuple(
            [(0 if real is not None else u.shape[1], u.shape[2]) for u in units] for units in networks
        )
        if self._shapes is None:
            self._shapes = (shapes[0], shapes[1])
        elif self._shapes != shapes:
            raise ValueError(f"features of steps and depths {shapes} after {self._shapes}")

    def _windows(self, i: int, j: int) -> int:
        if self._shapes is None:
            raise ValueError("no features were added")
        return min(self._shapes[0][i][0], self._shapes[1][j][0])

    def _add(self, networks: list[list[Tensor]], real: Tensor | None) -> None:
        """Take in records by number of windows, so that no unit's rows are made twice or kept for long."""
        pairs = [(i, j) for i in range(len(networks[0])) for j in range(len(networks[1]))]
        for windows in sorted({self._windows(i, j) for i, j in pairs}):
            rows: dict[tuple[int, int], Tensor] = {}
            for i, j in pairs:
                if self._windows(i, j) != windows:
                    continue
                for key in ((0, i), (1, j)):
                    if key not in rows:
                        rows[key] = _rows(networks[key[0]][key[1]], windows, real)
                        self._own.setdefault((*key, windows), CrossMoments()).add(rows[key], rows[key])
                self._pairs.setdefault((i, j), CrossMoments()).add(rows[0, i], rows[1, j])


def _rows(features: Tensor, windows: int, real: Tensor | None) -> Tensor:
    """Return the samples of [B, T, D], one a window or one a real hour: [n, D], float64."""
    if real is not None:
        return features[real].to(torch.float64)
    features = features.to(torch.float64)
    if windows != features.shape[1]:
        features = functional.adaptive_avg_pool1d(features.transpose(1, 2), windows).transpose(1, 2)
    return features.flatten(0, 1)


def _undefined(both: CrossMoments, first: CrossMoments, second: CrossMoments) -> str | None:
    """Return why a pair has no CKA, or None."""
    most = max(both.products.shape)
    if both.rows <= most:
        return f"{both.rows} samples are too few for units of {most} features"
    for name, own in (("first", first), ("second", second)):
        if not is_finite(own):
            return f"features of the {name} network are not finite"
        if is_constant(own):
            return f"a unit of the {name} network answers the same to everything"
    return None


def _cka(both: CrossMoments, first: CrossMoments, second: CrossMoments) -> float:
    norms = [float(torch.linalg.matrix_norm(m.products)) for m in (both, first, second)]
    # Divided one by one, and not squared before: the square of a large sum need not be finite.
    return min(norms[0] / norms[1] * (norms[0] / norms[2]), 1.0)
