"""Trials that were run elsewhere, as a file tells them, before they are held against a design space."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from math import isfinite
from typing import Any, Final

from kdsearch.search.trialdb import Role, TrialState
from kdsearch.spaces.errors import UnknownNameError, UsageError

# States in the words of Optuna and Ray Tune, in lower case.
WORDS: Final[Mapping[str, TrialState]] = {
    "pruned": TrialState.STOPPED,
    "fail": TrialState.FAILED,
    "error": TrialState.FAILED,
    "terminated": TrialState.COMPLETE,
    "pending": TrialState.WAITING,
}
WITH_ERROR: Final = (TrialState.COMPLETE, TrialState.STOPPED)
_ENDED: Final = (*WITH_ERROR, TrialState.DIVERGED, TrialState.FAILED)
_HIGHEST: Final = 1000.0  # per cent; as the sweep file's diverged_error
_WHOLE: Final = re.compile(r"[-+]?\d+")
_NUMBER: Final = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_NONFINITE: Final = frozenset({"nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"})
_NAMED: Final = 5  # places that a message lists


class Missing(StrEnum):
    """What a trial without an error is taken for."""

    REFUSE = "refuse"
    FAILED = "failed"
    DIVERGED = "diverged"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How the numbers of a file become errors in per cent."""

    factor: float = 1.0
    accuracy: bool = False  # they are accuracies

    def error(self, number: float) -> float:
        """Return the error in per cent; NaN stays NaN."""
        return 100.0 - self.factor * number if self.accuracy else self.factor * number

    @property
    def plain(self) -> bool:
        """Whether numbers are errors in per cent as they stand."""
        return self.factor == 1 and not self.accuracy


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """A trial from elsewhere. Errors are in per cent."""

    place: str  # where it stands: "line 3", "trial 7"
    number: int
    configuration: Mapping[str, object]  # the parameters that it has: values, or the text of a cell
    state: TrialState
    error: float | None
    role: Role = Role.SEARCH
    seed: int | None = None
    curve: Mapping[int, Mapping[str, float]] = field(default_factory=dict)  # epoch (from 1) -> metrics
    best_error: float | None = None
    best_epoch: int | None = None
    last_epoch: int | None = None
    judged: bool = False  # the file says itself which epoch was the best and which the last, or that none was
    attempts: int = 0
    seconds: float | None = None
    device_seconds: float | None = None
    message: str = ""
    created: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    design: str | None = None  # as the file states it
    probability: float | None = None
    draws: int = 1
    plan: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """All that a file holds."""

    where: str  # the file, as messages call it
    form: str  # csv, parquet, optuna
    trials: Sequence[Incoming]
    space: Mapping[str, Any] | None = None  # specification that the file carries
    parameters: Mapping[str, Mapping[str, Any]] | None = (
        None  # what each can be, where the file says that alone
    )
    source: Mapping[str, Any] = field(default_factory=dict)  # for the record: study, columns
    notes: tuple[str, ...] = ()
    partial: frozenset[int] = (
        frozenset()
    )  # trials that may have ended before they had all of their parameters


def read_state(word: str, place: str) -> TrialState:
    """Return the state that a word of kdsearch, Optuna or Ray Tune stands for.

    Raises:
        UnknownNameError: it stands for none.

    """
    lower = word.strip().lower().removeprefix("trialstate.")
    if lower in set(TrialState):
        return TrialState(lower)
    if lower not in WORDS:
        raise UnknownNameError("trial state", word, [*map(str, TrialState), *WORDS], place)
    return WORDS[lower]


def settle_state(
    state: TrialState | None, error: float | None, missing: Missing, message: str
) -> tuple[TrialState | None, float | None, str]:
    """Return state, error and message that a trial has here; no state: it lacks an error, which is refused.

    state: as the file has it, None: it does not say. A trial that had not ended there never will here: it is lost; one
    that was paused was cut off by its results, and is stopped.
    """
    if state is TrialState.PAUSED:
        state, message = TrialState.STOPPED, message or "it was paused where it came from"
    if state is None or state in WITH_ERROR:
        return _of_error(state, error, missing, message)
    if state in _ENDED or state is TrialState.LOST:
        return state, None, message
    return TrialState.LOST, None, message or f"it had not ended where it came from: {state}"


def _of_error(
    state: TrialState | None, error: float | None, missing: Missing, message: str
) -> tuple[TrialState | None, float | None, str]:
    if error is not None and isfinite(error):
        return state or TrialState.COMPLETE, error, message
    if state is TrialState.STOPPED:
        return state, None, message
    if missing is Missing.REFUSE:
        return None, None, message
    return TrialState(missing.value), None, message or "it has no error in the file it came from"


def check_errors(where: str, trials: Sequence[Incoming]) -> None:
    """Refuse errors that are none in per cent.

    Raises:
        UsageError: names the trials and their errors.

    """
    wrong = [t for t in trials if t.error is not None and not 0 <= t.error <= _HIGHEST]
    if wrong:
        shown = ", ".join(f"{trial.place}: {trial.error:g}" for trial in wrong[:_NAMED])
        raise UsageError(
            f"{where}: {some(len(wrong), 'error is', 'errors are')} outside [0, {_HIGHEST:g}] per cent ({shown})",
            "Errors are in per cent. Fractions: --scale 100; accuracies: --accuracy COLUMN instead of --error.",
        )


def without_error(where: str, places: Sequence[str], column: str) -> UsageError:
    """The refusal of trials that are complete, or of which no state is told, and that have no error."""
    shown = ", ".join(places[:_NAMED]) + (", ..." if len(places) > _NAMED else "")
    return UsageError(
        f"{where}: {some(len(places), 'trial has', 'trials have')} no number in {column} ({shown})",
        "A trial that failed or diverged is a result too: say which with --missing failed or --missing diverged, or "
        "give its state in a column `state`.",
    )


def number_of(text: str) -> int | float | None:
    """Return the number that a text is, None if it is none; `nan` and `inf` are, `1_000` is not."""
    if _WHOLE.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) or text.lower() in _NONFINITE:
        return float(text)
    return None


def some(n: int, one: str, many: str) -> str:
    """Return "1 trial has" or "3 trials have"."""
    return f"{n:,} {one if n == 1 else many}"
