"""What a single parameter can be: categorical, integer, float, log-uniform, quantised.

All intervals are closed. A finite domain has a `size` and gives its values in order (`at`); a continuous one
draws by its own law (`draw`). Both find the value of their own that a value or a label stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, TypeAlias, TypeGuard

import numpy as np

from kdsearch.spaces import draws, reading
from kdsearch.spaces.errors import SpaceError, UnknownNameError
from kdsearch.spaces.values import Value, label_of, same_value


@dataclass(frozen=True)
class Categorical:
    """One of a list of values, whose order is that of tables; each is equally likely."""

    kind: ClassVar[str] = "categorical"
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        values = tuple(reading.value(value, "a categorical value") for value in self.values)
        reading.distinct(
            [label_of(value) for value in values], "the list of values of a categorical parameter"
        )
        object.__setattr__(self, "values", values)

    @property
    def size(self) -> int:
        """The number of values."""
        return len(self.values)

    def at(self, index: int) -> Value:
        """Return the value of an index in [0, size)."""
        return self.values[index]

    def find(self, value: object) -> Value | None:
        """Return the listed value that equals `value`, or None."""
        return next((own for own in self.values if same_value(own, value)), None)

    def read(self, label: str) -> Value | None:
        """Return the listed value with that label, or None."""
        return next((own for own in self.values if label_of(own) == label), None)

    def __str__(self) -> str:
        return f"one of {', '.join(map(label_of, self.values))}"


@dataclass(frozen=True)
class Integer:
    """A whole number in the closed interval [low, high], by `step` from `low`; each is equally likely."""

    kind: ClassVar[str] = "integer"
    low: int
    high: int
    step: int = 1

    def __post_init__(self) -> None:
        low, high = (
            reading.integer(getattr(self, end), f"{end} of an integer parameter") for end in ("low", "high")
        )
        step = reading.integer(self.step, "step of an integer parameter", least=1)
        _check_interval(self.kind, low, high)
        _check_grid(self.kind, Decimal(low), Decimal(high), Decimal(step))

    @property
    def size(self) -> int:
        """The number of values."""
        return (self.high - self.low) // self.step + 1

    def at(self, index: int) -> int:
        """Return the value of an index in [0, size)."""
        return self.low + index * self.step

    def find(self, value: object) -> int | None:
        """Return `value` if it is a whole number of the grid, or None."""
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            return None
        return value if (value - self.low) % self.step == 0 else None

    def read(self, label: str) -> int | None:
        """Return the value with that label, or None."""
        return self.find(_number(label, int))

    def __str__(self) -> str:
        return f"a whole number in [{self.low}, {self.high}]" + (f" by {self.step}" if self.step > 1 else "")


@dataclass(frozen=True)
class Quantised:
    """A number low, low + step, ..., high (both ends included); each is equally likely.

    Values are computed in decimal and are what one would write: [0, 0.3] by 0.05 has the seven values 0.0,
    0.05, 0.1, 0.15, 0.2, 0.25, 0.3. The step must lead from low to high exactly.
    """

    kind: ClassVar[str] = "quantised"
    low: float
    high: float
    step: float

    def __post_init__(self) -> None:
        for end in ("low", "high", "step"):
            object.__setattr__(
                self, end, float(reading.number(getattr(self, end), f"{end} of a quantised parameter"))
            )
        _check_interval(self.kind, self.low, self.high)
        if self.step <= 0:
            raise SpaceError(f"step of a quantised parameter is {self.step}", "Write a number above 0.")
        _check_grid(self.kind, *self._decimals)

    @property
    def _decimals(self) -> tuple[Decimal, Decimal, Decimal]:
        return Decimal(repr(self.low)), Decimal(repr(self.high)), Decimal(repr(self.step))

    @property
    def size(self) -> int:
        """The number of values."""
        low, high, step = self._decimals
        return int((high - low) / step) + 1

    def at(self, index: int) -> float:
        """Return the value of an index in [0, size)."""
        low, _, step = self._decimals
        return float(low + index * step)

    def find(self, value: object) -> float | None:
        """Return the grid's value that equals `value`, or None."""
        if not is_number(value) or not self.low <= value <= self.high:
            return None
        low, _, step = self._decimals
        own = self.at(round((Decimal(repr(float(value))) - low) / step))
        return own if own == value else None

    def read(self, label: str) -> float | None:
        """Return the value with that label, or None."""
        return self.find(_number(label, float))

    def __str__(self) -> str:
        return f"a number in [{self.low!r}, {self.high!r}] by {self.step!r}"


@dataclass(frozen=True)
class Float:
    """A number in the closed interval [low, high], uniform."""

    kind: ClassVar[str] = "float"
    low: float
    high: float

    def __post_init__(self) -> None:
        for end in ("low", "high"):
            object.__setattr__(
                self, end, float(reading.number(getattr(self, end), f"{end} of a {self.kind} parameter"))
            )
        _check_interval(self.kind, self.low, self.high)

    def draw(self, rng: np.random.Generator) -> float:
        """Return a number drawn uniformly."""
        return draws.uniform(rng, self.low, self.high)

    def find(self, value: object) -> float | None:
        """Return `value` as a float if it lies in the interval, or None."""
        return float(value) if is_number(value) and self.low <= value <= self.high else None

    def read(self, label: str) -> float | None:
        """Return the value with that label, or None."""
        return self.find(_number(label, float))

    def __str__(self) -> str:
        return f"a number in [{self.low!r}, {self.high!r}]"


@dataclass(frozen=True)
class LogUniform(Float):
    """A number in the closed interval [low, high], 0 < low, whose logarithm is uniform."""

    kind: ClassVar[str] = "log-uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise SpaceError(f"low of a log-uniform parameter is {self.low}", "Write a number above 0.")

    def draw(self, rng: np.random.Generator) -> float:
        """Return a number whose logarithm is drawn uniformly."""
        return draws.log_uniform(rng, self.low, self.high)


Finite: TypeAlias = Categorical | Integer | Quantised
Domain: TypeAlias = Finite | Float
KINDS: dict[
    str, tuple[type[Domain], tuple[str, ...], tuple[str, ...]]
] = {  # kind: class, required, optional keys
    Categorical.kind: (Categorical, ("values",), ()),
    Integer.kind: (Integer, ("low", "high"), ("step",)),
    Quantised.kind: (Quantised, ("low", "high", "step"), ()),
    Float.kind: (Float, ("low", "high"), ()),
    LogUniform.kind: (LogUniform, ("low", "high"), ()),
}


def domain_spec(domain: Domain) -> dict[str, Any]:
    """Return the specification of a domain: its `type` and its fields, as plain data."""
    _, required, optional = KINDS[domain.kind]
    given = {key: getattr(domain, key) for key in (*required, *optional)}
    if given.get("step") == 1 and "step" in optional:
        del given["step"]
    return {"type": domain.kind} | {key: list(v) if isinstance(v, tuple) else v for key, v in given.items()}


def read_domain(spec: Mapping[str, Any], where: str) -> Domain:
    """Read what `domain_spec` writes; `where` names the place in messages.

    Raises:
        UnknownNameError: for an unknown type or key.
        SpaceError: for a key that is missing or a value that does not fit.
    """
    if "type" not in spec:
        raise SpaceError(f"{where} lacks type", f"Known: {', '.join(KINDS)}.")
    if not isinstance(spec["type"], str) or spec["type"] not in KINDS:
        raise UnknownNameError("type of parameter", spec["type"], KINDS, where)
    build: Callable[..., Domain]
    build, required, optional = KINDS[spec["type"]]
    given = dict(reading.fields(spec, where, required=("type", *required), optional=optional))
    if "values" in given:
        given["values"] = tuple(reading.sequence(given["values"], f"{where}.values"))
    del given["type"]
    try:
        return build(**given)
    except SpaceError as error:
        raise SpaceError(f"{where}: {error.message}", error.hint) from error


def is_number(value: object) -> TypeGuard[int | float]:
    """Tell whether a value is a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(label: str, build: Callable[[str], int | float]) -> int | float | None:
    try:
        return build(label)
    except ValueError:
        return None


def _check_interval(kind: str, low: float, high: float) -> None:
    if low > high:
        raise SpaceError(
            f"interval [{low}, {high}] of a parameter of type {kind} is empty", "Put the smaller end in low."
        )


def _check_grid(kind: str, low: Decimal, high: Decimal, step: Decimal) -> None:
    if (high - low) % step:
        last = low + (high - low) // step * step
        raise SpaceError(
            f"steps of {step} from {low} do not lead to {high} in a parameter of type {kind}",
            f"The interval is closed: write {last} or {last + step} for high, or another step.",
        )
