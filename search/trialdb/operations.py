"""What a driver can write, as values: one dataclass for each kind of write, with rows.

Trials are keyed by (sweep, number) and times are given by the driver, so that an operation means the same
whenever it is carried out. Each can be carried out twice with the same result. Rows take copies of the
mappings they are given, as plain JSON values, so that a driver may go on changing its own. As JSON lines they
make the spool file.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias
from uuid import uuid4

import numpy.typing as npt
from pydantic import ConfigDict, Field, TypeAdapter
from pydantic_core import to_json

from kdsearch.search.trialdb import arrays
from kdsearch.search.trialdb.column_types import clean_text, plain
from kdsearch.search.trialdb.states import Ending, Role, SweepState, TrialState

_LONGEST_NAME = 200
_ROW_BYTES = 100  # about what a row of metrics weighs


def _integers(row: object, *names: str) -> None:
    """Make fields plain integers, numpy's too (SQLite would keep those as bytes); TypeError for anything else."""
    for name in names:
        value = getattr(row, name)
        if value is not None:
            object.__setattr__(row, name, operator.index(value))


def check_seed(seed: int) -> None:
    """Raise ValueError unless a seed is in [0, 2**63), which every engine's integers hold."""
    if not 0 <= seed < 2**63:
        raise ValueError(f"the seed {seed} is not in [0, 2**63)")


@dataclass(frozen=True, kw_only=True)
class SpaceRow:
    """One design space of a sweep's lineage."""

    name: str
    specification: Mapping[str, Any]
    hash: str
    counts: Mapping[str, int | None]  # encodings, classes, valid_encodings, valid_classes; None: infinite
    parent: str | None = None
    restriction: str | None = None  # readable, as added to the parent
    restriction_data: Mapping[str, Any] | None = None
    exhaustive: bool = False  # every valid encoding was drawn, not a random sample
    repeats: int = 1

    def __post_init__(self) -> None:
        _integers(self, "repeats")
        for name in ("specification", "counts", "restriction_data"):
            object.__setattr__(self, name, plain(getattr(self, name)))


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """A trial as its searcher proposed it."""

    number: int  # unique in the sweep, >= 0
    configuration: Mapping[str, str | int | float | bool]  # canonical
    configuration_hash: str
    seed: int  # in [0, 2**63)
    created: datetime
    role: Role = Role.SEARCH
    orbit_size: int = 1
    sampling_design: str = "uniform"
    inclusion_probability: float | None = None
    plan: Mapping[str, Any] | None = None  # told beside the configuration; an empty one becomes None

    def __post_init__(self) -> None:
        _integers(self, "number", "seed", "orbit_size")
        check_seed(self.seed)
        object.__setattr__(self, "configuration", plain(self.configuration))
        object.__setattr__(self, "plan", plain(self.plan) or None)


@dataclass(frozen=True, kw_only=True)
class DrawRow:
    """A draw from a space and the trial that answers it."""

    space: str
    draw: int  # counts from 0 in each space
    trial: int  # number
    fresh: bool

    def __post_init__(self) -> None:
        _integers(self, "draw", "trial")


@dataclass(frozen=True, kw_only=True)
class AttemptStart:
    """A trial begins to run; a retry is the next attempt."""

    number: int
    n: int  # counts from 1
    host: str
    device: str
    at: datetime

    def __post_init__(self) -> None:
        _integers(self, "number", "n")


@dataclass(frozen=True, kw_only=True)
class AttemptEnd:
    """An attempt ended without a result; the trial waits for another one, or to be promoted (`ending`: None)."""

    number: int
    n: int
    at: datetime
    reason: str
    state: Literal[TrialState.WAITING, TrialState.PAUSED] = TrialState.WAITING
    ending: Ending | None = None

    def __post_init__(self) -> None:
        _integers(self, "number", "n")
        object.__setattr__(self, "reason", clean_text(self.reason))


@dataclass(frozen=True, kw_only=True)
class CheckpointRow:
    """The newest checkpoint of an attempt."""

    number: int
    n: int
    epoch: int
    path: str

    def __post_init__(self) -> None:
        _integers(self, "number", "n", "epoch")


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """What one trial reported for one epoch; names that belong to a node start with `<node>/`."""

    number: int
    attempt: int
    step: int  # epoch, counts from 1
    values: Mapping[str, float]  # NaN and infinities are kept

    def __post_init__(self) -> None:
        _integers(self, "number", "attempt", "step")
        object.__setattr__(self, "values", {name: float(value) for name, value in self.values.items()})


@dataclass(frozen=True, kw_only=True)
class ArrayRow:
    """One named array of a trial, ready for the database; `of` makes it from the array."""

    number: int
    attempt: int
    step: int  # the epoch that it describes
    name: str  # 1 to 200 characters
    shape: tuple[int, ...]
    data: bytes  # as `arrays.pack` makes it
    dtype: str = arrays.DTYPE

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        val_json_bytes="base64"
    )  # as `to_line` writes them

    def __post_init__(self) -> None:
        _integers(self, "number", "attempt", "step")
        if not 1 <= len(self.name) <= _LONGEST_NAME:
            raise ValueError(f"an array's name has 1 to {_LONGEST_NAME} characters, not {len(self.name)}")

    @classmethod
    def of(cls, array: npt.ArrayLike, *, number: int, attempt: int, step: int, name: str) -> Self:
        """Pack an array of real numbers (kept as float32, NaN too), of any shape.

        RefusedRowsError if it takes more than `arrays.LIMIT_BYTES` (16 MiB) or holds anything else.
        """
        shape, data = arrays.pack(name, array)
        return cls(number=number, attempt=attempt, step=step, name=name, shape=shape, data=data)


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """A trial's end. Errors are in per cent; a non-finite one is kept as none."""

    number: int
    attempt: int  # the one that ended it; 0 if it never ran
    state: TrialState
    at: datetime
    error: float | None = None
    best_error: float | None = None
    best_epoch: int | None = None
    last_epoch: int | None = None
    seconds: float | None = None
    device_seconds: float | None = None
    message: str = ""

    def __post_init__(self) -> None:
        _integers(self, "number", "attempt", "best_epoch", "last_epoch")
        object.__setattr__(self, "message", clean_text(self.message))


@dataclass(frozen=True, kw_only=True)
class EventRow:
    """What a searcher, scheduler or person decided, with its evidence."""

    kind: str
    at: datetime
    data: Mapping[str, Any]  # NaN and infinities become null
    key: str = field(default_factory=lambda: uuid4().hex)

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", plain(self.data))


@dataclass(frozen=True, kw_only=True)
class StateChange:
    """A sweep's new state."""

    state: SweepState
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Loss:
    """All trials that run are given up as lost."""

    reason: str
    at: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", clean_text(self.reason))


@dataclass(frozen=True)
class AddSpaces:
    """Add design spaces; known ones (by name) stay as they are."""

    sweep: str
    rows: tuple[SpaceRow, ...]
    op: Literal["add_spaces"] = "add_spaces"


@dataclass(frozen=True)
class AddTrials:
    """Add waiting trials; known ones (by number) stay as they are."""

    sweep: str
    rows: tuple[TrialRow, ...]
    op: Literal["add_trials"] = "add_trials"


@dataclass(frozen=True)
class AddDraws:
    """Add draws, or let known ones point at another trial."""

    sweep: str
    rows: tuple[DrawRow, ...]
    op: Literal["add_draws"] = "add_draws"


@dataclass(frozen=True)
class StartAttempts:
    """Set trials running; attempts that are not newer than the trial's newest are ignored."""

    sweep: str
    rows: tuple[AttemptStart, ...]
    op: Literal["start_attempts"] = "start_attempts"


@dataclass(frozen=True)
class EndAttempts:
    """End attempts without a result; their trials wait again, or are paused; trials that have ended stay ended."""

    sweep: str
    rows: tuple[AttemptEnd, ...]
    op: Literal["end_attempts"] = "end_attempts"


@dataclass(frozen=True)
class SaveCheckpoints:
    """Note the newest checkpoints."""

    sweep: str
    rows: tuple[CheckpointRow, ...]
    op: Literal["save_checkpoints"] = "save_checkpoints"


@dataclass(frozen=True)
class RecordMetrics:
    """Record epochs; for a step that is known the newest attempt's values stand."""

    sweep: str
    rows: tuple[MetricRow, ...]
    op: Literal["record_metrics"] = "record_metrics"


@dataclass(frozen=True)
class RecordArrays:
    """Record arrays; for a trial and name that is known the newest attempt's array stands."""

    sweep: str
    rows: tuple[ArrayRow, ...]
    op: Literal["record_arrays"] = "record_arrays"


@dataclass(frozen=True)
class FinishTrials:
    """Give trials their result and end their attempts; results of overtaken attempts are ignored."""

    sweep: str
    rows: tuple[ResultRow, ...]
    op: Literal["finish_trials"] = "finish_trials"


@dataclass(frozen=True)
class AddEvents:
    """Append events; known ones (by key) stay as they are."""

    sweep: str
    rows: tuple[EventRow, ...]
    op: Literal["add_events"] = "add_events"


@dataclass(frozen=True)
class SetSweepState:
    """Change the sweep's state; the last row stands."""

    sweep: str
    rows: tuple[StateChange, ...]
    op: Literal["set_sweep_state"] = "set_sweep_state"


@dataclass(frozen=True)
class MarkRunningLost:
    """Give up all running trials: state lost, attempt ended with the reason."""

    sweep: str
    rows: tuple[Loss, ...]
    op: Literal["mark_running_lost"] = "mark_running_lost"


Operation: TypeAlias = (
    AddSpaces
    | AddTrials
    | AddDraws
    | StartAttempts
    | EndAttempts
    | SaveCheckpoints
    | RecordMetrics
    | RecordArrays
    | FinishTrials
    | AddEvents
    | SetSweepState
    | MarkRunningLost
)


@cache
def _reader() -> TypeAdapter[Operation]:
    """What reads lines of the spool; made when there is one, as it takes longer than many a command."""
    return TypeAdapter(Annotated[Operation, Field(discriminator="op")])


def to_line(operation: Operation) -> bytes:
    """Return an operation as one line of JSON, with the newline; NaN and infinities, which JSON has not, as words."""
    return to_json(operation, inf_nan_mode="strings", bytes_mode="base64") + b"\n"


def from_line(line: bytes) -> Operation:
    """Read what `to_line` wrote; ValueError if it is something else."""
    return _reader().validate_json(line)


def row_count(operation: Operation) -> int:
    """Return about how many database rows an operation writes; arrays count for as many as they weigh."""
    if isinstance(operation, RecordMetrics):
        return sum(len(row.values) for row in operation.rows)
    if isinstance(operation, RecordArrays):
        return sum(1 + len(row.data) // _ROW_BYTES for row in operation.rows)
    return len(operation.rows)
