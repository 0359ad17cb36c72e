"""What the settings of all trainables share: precision, schedule, data set. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final

from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.data.splits import DataSettings
from kdsearch.trainables.settings_reading import WHERE, Interval, check_number, check_whole, refuse_unknown

_FACTOR: Final = Interval(0.0, 1.0, "above 0 and at most 1", low_open=True)


class Precision(StrEnum):
    """Arithmetic of the networks; the losses are computed in at least float32 whatever it is."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"  # autocast: float32 weights, bfloat16 convolutions
    FLOAT64 = "float64"  # for checks: slow


class Decay(StrEnum):
    """How the learning rate falls from epoch to epoch; it is constant inside an epoch."""

    COSINE = "cosine"  # half a cosine wave, from the base rate towards 0
    CONSTANT = "constant"
    STEP = "step"  # times `factor` after every `every` epochs


@dataclass(frozen=True)
class Schedule:
    """A decay of the learning rate.

    every: 1 or more epochs, and factor: in (0, 1], belong to STEP. In files: "cosine", "constant", or
    {every: 10, factor: 0.5}.
    """

    decay: Decay = Decay.COSINE
    every: int = 1
    factor: float = 1.0

    def rate(self, base: float, epoch: int, epochs: int) -> float:
        """Return the learning rate of an epoch counted from 0, of `epochs` in all."""
        if self.decay is Decay.COSINE:
            return 0.5 * base * (1.0 + math.cos(math.pi * epoch / epochs))
        if self.decay is Decay.STEP:
            return base * self.factor ** (epoch // self.every)
        return base

    @classmethod
    def read(cls, value: object, where: str) -> Schedule:
        """Read what stands in a file.

        Raises:
            UnknownNameError: an unknown name or key.
            UsageError: neither of the three forms, or a number outside its range.

        """
        if isinstance(value, Schedule):
            return value
        if isinstance(value, str):
            if value not in (Decay.COSINE, Decay.CONSTANT):
                raise UnknownNameError(
                    "schedule", value, ("cosine", "constant", "{every: 10, factor: 0.5}"), where
                )
            return cls(Decay(value))
        if not isinstance(value, Mapping) or set(value) < {"every", "factor"}:
            raise UsageError(
                f"schedule in {where} is {value!r}", "Write cosine, constant, or {every: 10, factor: 0.5}."
            )
        refuse_unknown(value, ("every", "factor"), f"schedule in {where}")
        check_whole("every", value["every"], f"schedule in {where}")
        check_number("factor", value["factor"], _FACTOR, f"schedule in {where}")
        return cls(Decay.STEP, value["every"], float(value["factor"]))

    def to_plain(self) -> str | dict[str, int | float]:
        """Return what `read` reads."""
        if self.decay is Decay.STEP:
            return {"every": self.every, "factor": self.factor}
        return str(self.decay)


def read_data(data: object) -> DataSettings:
    """Read the `data` of a sweep file: a mapping, or just the data set's name.

    Raises:
        UnknownNameError: a key or the data set is unknown.
        UsageError: no data set is named, or a value is outside its range.

    """
    if data is None:
        raise UsageError(f"{WHERE} name no data set", "Write data: {name: digits} there.")
    if isinstance(data, str):
        return DataSettings(name=data)
    if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
        raise UsageError(
            f"data in {WHERE} is {data!r}", "Write data: {name: digits}, or another data set's name."
        )
    refuse_unknown(data, [each.name for each in fields(DataSettings)], f"data in {WHERE}")
    return DataSettings(**data)
