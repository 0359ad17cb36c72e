"""Medians by the hour of more values than fit into memory.

Values go to files, a bucket of patients in each; then a bucket at a time is sorted. Memory holds one bucket, whatever
the order of the values. A value is kept as one number of 64 bits: its place (hour and variable) in the upper half, in
the lower half its float32 with the bits so changed that they sort as the numbers do.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from kdsearch.trainables.records.psv import Values

BUCKET_ROWS: Final = 100_000
_HALF: Final = np.uint64(32)
_LOWER: Final = np.uint64(0xFFFF_FFFF)
_SIGN: Final = np.uint32(0x8000_0000)
_ALL: Final = np.uint32(0xFFFF_FFFF)

Rows = NDArray[np.int64]
_Keys = NDArray[np.uint64]


class HourlyMedians:
    """Takes values for the cells of a table [rows, variables], and gives the median of each cell's, NaN without any.

    offsets [patients + 1]: patient i has the rows offsets[i] to offsets[i + 1]. Files lie in `folder` until the context
    is left. `mark` and `undo` take back what was added since, which a table that turns out to be damaged needs.
    """

    def __init__(
        self, offsets: Rows, variables: int, folder: Path, *, bucket_rows: int = BUCKET_ROWS
    ) -> None:
        self.variables = variables
        self.firsts = _bucket_firsts(offsets, bucket_rows)
        self._starts = offsets[self.firsts]  # [buckets + 1], the first row of each
        self._paths = [folder / f"bucket-{number:04}" for number in range(self.buckets)]
        self._open = ExitStack()
        self._files = [self._open.enter_context(path.open("wb")) for path in self._paths]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        for path in self._paths:
            path.unlink(missing_ok=True)

    @property
    def buckets(self) -> int:
        """How many there are; bucket k holds the patients firsts[k] to firsts[k + 1]."""
        return len(self.firsts) - 1

    def add(self, rows: Rows, variable: int, values: Values) -> None:
        """Add values [n], finite, of one variable in the given rows [n]."""
        bucket = np.searchsorted(self._starts, rows, side="right") - 1
        cells = (rows - self._starts[bucket]) * self.variables + variable
        keys = (cells.astype(np.uint64) << _HALF) | _sortable(values).astype(np.uint64)
        order = np.argsort(bucket, kind="stable")
        ends = np.searchsorted(bucket[order], np.arange(self.buckets + 1))
        for number in np.unique(bucket):
            self._files[number].write(keys[order[ends[number] : ends[number + 1]]].tobytes())

    def mark(self) -> list[int]:
        """Return how much there is now."""
        return [file.tell() for file in self._files]

    def undo(self, mark: list[int]) -> None:
        """Take back what was added since the mark."""
        for file, size in zip(self._files, mark, strict=True):
            file.truncate(size)
            file.seek(size)

    def medians(self, bucket: int) -> Values:
        """Return the medians of a bucket [its rows, variables]; the mean of the middle two where they are even."""
        self._files[bucket].flush()
        keys = np.fromfile(self._paths[bucket], dtype=np.uint64)
        keys.sort()
        cells = keys >> _HALF
        firsts = np.flatnonzero(
            np.diff(cells, prepend=_ALL.astype(np.uint64)) != 0
        )  # of each cell that has values
        counts = np.diff(np.append(firsts, len(keys)))
        lower, upper = keys[firsts + (counts - 1) // 2], keys[firsts + counts // 2]
        result = np.full(
            (self._starts[bucket + 1] - self._starts[bucket]) * self.variables, np.nan, np.float32
        )
        result[cells[firsts].astype(np.int64)] = (_number(lower) + _number(upper)) / 2
        return result.reshape(-1, self.variables)


def _bucket_firsts(offsets: Rows, bucket_rows: int) -> Rows:
    """Return the first patient of each bucket, and the number of patients; a patient is never divided."""
    number = offsets[:-1] // bucket_rows
    firsts = np.flatnonzero(np.diff(number, prepend=-1) != 0)
    return np.append(firsts, len(number)).astype(np.int64)


def _sortable(values: Values) -> NDArray[np.uint32]:
    """Return the bits of float32 numbers, changed so that they sort as the numbers do."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _number(keys: _Keys) -> Values:
    """Return the numbers in the lower halves of keys."""
    bits = (keys & _LOWER).astype(np.uint32)
    return np.where(bits & _SIGN, bits ^ _SIGN, ~bits).astype(np.uint32).view(np.float32)
