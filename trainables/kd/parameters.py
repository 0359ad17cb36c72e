"""What the configuration of a kd trial can hold, which values are possible, and which of it the loss depends on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from kdsearch.spaces.domains import is_number
from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.metaparameters.declaration import Metaparameter
from kdsearch.trainables.settings_reading import BELOW_ONE, NOT_NEGATIVE, POSITIVE, UNIT, Interval

LEAST_TEMPERATURE: Final = 2.0**-126  # the least normal float32: dividing by 0 is what has to be kept out
METAPARAMETERS: Final = (
    Metaparameter(name="lambda_1", low=0.0, high=1.0),
    Metaparameter(name="temperature", low=LEAST_TEMPERATURE, high=math.inf),
)
# What a configuration can hold, and which values are possible; each stands for the setting of the same name.
PARAMETERS: Final[Mapping[str, Interval]] = {
    "lambda_1": UNIT,
    "temperature": POSITIVE,
    "learning_rate": POSITIVE,
    "weight_decay": NOT_NEGATIVE,
    "momentum": BELOW_ONE,
}
_ADVICE: Final = {
    "lambda_1": "It weighs the label's term, 1 - lambda_1 the teacher's: it must be {text}.",
    "temperature": "Logits are divided by it: it must be {text}, as in [0.1, 10].",
}


class Distillation(StrEnum):
    """What a student learns beside the label; `kdsearch.trainables.kd.losses` has the formulas."""

    SOFT = "soft"  # the teacher's softmax at temperature T
    HARD = "hard"  # the class that the teacher is for
    DEIT = "deit"  # the same with a head of its own
    NONE = "none"
    MUTUAL = "mutual"  # the softmax of a second student, which learns from the first (Zhang et al., 2018)

    @property
    def taught(self) -> bool:
        """Whether it needs the answers of a trained teacher."""
        return self in (Distillation.SOFT, Distillation.HARD, Distillation.DEIT)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of `PARAMETERS` that have an effect."""
        idle = {each.name for each in METAPARAMETERS} - set(_WEIGHED[self])
        return tuple(name for name in PARAMETERS if name not in idle)


_WEIGHED: Final[Mapping[Distillation, tuple[str, ...]]] = {
    Distillation.SOFT: ("lambda_1", "temperature"),
    Distillation.HARD: ("lambda_1",),
    Distillation.DEIT: ("lambda_1",),
    Distillation.NONE: (),
    Distillation.MUTUAL: ("temperature",),
}


def refuse_unknown_parameters(names: Iterable[str], where: str) -> None:
    """Raise UnknownNameError for the first name that is none of `PARAMETERS`."""
    for name in names:
        if name not in PARAMETERS:
            raise UnknownNameError("parameter", name, PARAMETERS, where)


def check_range(name: str, spec: Mapping[str, Any], where: str) -> None:
    """Raise UsageError for the specification of a domain with values that the parameter cannot have."""
    interval = PARAMETERS[name]
    values: Sequence[object] = spec["values"] if "values" in spec else (spec["low"], spec["high"])
    if all(is_number(value) and value in interval for value in values):
        return
    found = f"in [{spec['low']}, {spec['high']}]" if "low" in spec else " or ".join(map(str, values))
    advice = _ADVICE.get(name, "It must be {text}.").format(text=interval.text)
    zero = name == "temperature" and "low" in spec and spec["low"] <= 0 <= spec["high"]
    raise UsageError(f"{name} is {found} in {where}{', which includes 0' if zero else ''}", advice)
