"""How keys, names and numbers of settings are read and checked, and what is said of those that do not fit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

from kdsearch.spaces.errors import UnknownNameError, UsageError

WHERE: Final = "the trainable's settings"

Name = TypeVar("Name", bound=StrEnum)


@dataclass(frozen=True)
class Interval:
    """The finite numbers from low to high; an open end is none of them."""

    low: float
    high: float
    text: str  # as in "It must be ..."
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: float) -> bool:
        try:
            value = float(value)
        except OverflowError:
            return False  # a whole number beyond all floats
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return math.isfinite(value) and above and below


POSITIVE: Final = Interval(0.0, math.inf, "a finite number above 0", low_open=True)
NOT_NEGATIVE: Final = Interval(0.0, math.inf, "a finite number, 0 or more")
UNIT: Final = Interval(0.0, 1.0, "in [0, 1]")
BELOW_ONE: Final = Interval(0.0, 1.0, "in [0, 1)", high_open=True)


def read_name(kind: str, value: object, names: type[Name], where: str = WHERE) -> Name:
    """Return the member of `names` that `value` stands for; UnknownNameError lists them all."""
    for name in names:
        if name == value:
            return name
    raise UnknownNameError(kind, value, [str(name) for name in names], where)


def refuse_unknown(mapping: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Raise UnknownNameError for the first key that is not among the known ones."""
    names = tuple(known)
    for key in mapping:
        if key not in names:
            raise UnknownNameError("key", key, names, where)


def check_whole(name: str, value: object, where: str = WHERE, *, least: int = 1) -> None:
    """Raise UsageError unless the value is a whole number, `least` or more; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _out_of_range(name, value, f"a whole number, {least} or more", where)


def check_number(name: str, value: object, interval: Interval, where: str = WHERE) -> None:
    """Raise UsageError unless the value is a number of the interval; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in interval:
        raise _out_of_range(name, value, interval.text, where)


def _out_of_range(name: str, value: object, expected: str, where: str) -> UsageError:
    return UsageError(f"{name} in {where} is {value!r}", f"It must be {expected}.")
