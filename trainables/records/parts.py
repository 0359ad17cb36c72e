"""Which records train, validate and test: 0.7, 0.15 and 0.15 of them (Appendix A), by patient or record.

A record's place is the rank of a hash of its name, so it depends on neither the order of the files, their folder nor
the machine. A file that is added or left out moves at most a few records, at the two borders between the parts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.seeds import derive_seed

Indices = NDArray[np.int64]
FEWEST = 3  # one record for each part


class Part(StrEnum):
    """What a record is used for."""

    TRAINING = "training"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, kw_only=True)
class Shares:
    """How records are divided: the shares of validation and test part, each in (0, 1); training has the rest."""

    validation: float = 0.15
    test: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        for name, share in (("validation", self.validation), ("test", self.test)):
            if not (math.isfinite(share) and 0 < share < 1):
                raise UsageError(
                    f"split: the share of the {name} part must be above 0 and below 1, not {share!r}"
                )
        if self.validation + self.test >= 1:
            raise UsageError(
                f"split: validation {self.validation} and test {self.test} leave nothing to train on",
                "Their sum must be below 1.",
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise UsageError(f"split: the seed must be a whole number, 0 or more, not {self.seed!r}")


def divide(data_set: str, names: Sequence[str], shares: Shares | None = None) -> Mapping[Part, Indices]:
    """Return the positions in `names` of each part's records, ascending; every part has at least one.

    The same names, in any order, are divided in the same way. Raises `UsageError` for fewer than three names and
    for a name that stands there twice (its two records could come to different parts).
    """
    shares = Shares() if shares is None else shares
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"data set {data_set!r}: the name {twice!r} stands for two records")
    if len(names) < FEWEST:
        raise UsageError(
            f"data set {data_set!r} has {len(names)} record{'s' if len(names) != 1 else ''}: "
            "too few to train, validate and test"
        )
    sizes = _sizes(len(names), shares)
    keys = [derive_seed(shares.seed, "records", data_set, name) for name in names]
    order = np.array(sorted(range(len(names)), key=lambda at: (keys[at], names[at])), dtype=np.int64)
    ends = np.cumsum(sizes)
    validation, test, training = np.split(order, ends[:-1])
    return {Part.TRAINING: np.sort(training), Part.VALIDATION: np.sort(validation), Part.TEST: np.sort(test)}


def _sizes(count: int, shares: Shares) -> tuple[int, int, int]:
    """Return how many records validate, test and train; the nearest whole numbers, but at least one each."""
    validation = max(1, round(count * shares.validation))
    test = max(1, round(count * shares.test))
    while validation + test >= count:  # a handful of records and large shares
        validation, test = (validation - 1, test) if validation >= test else (validation, test - 1)
    return validation, test, count - validation - test
