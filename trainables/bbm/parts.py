"""The records of a sweep in their three parts, opened once a process. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.bbm.data_settings import RecordData
from kdsearch.trainables.data.findings import DataError
from kdsearch.trainables.records import Part, ReadSummary, Scaling, divide
from kdsearch.trainables.records.prepared import (
    PreparedHours,
    PreparedSignals,
    prepared_hours,
    prepared_signals,
)

Indices = NDArray[np.int64]
MADE_UP: Final = "made-up sample"  # in a note: the report's title says it too
_SHOWN: Final = 3  # files that are named in a note


@dataclass(frozen=True, eq=False)
class Records:
    """Records in one form.

    Of signals a batch is values [B, steps, leads], labels [B, classes]; of hours it is values [B, T, variables] padded
    with zeros behind the last hour, labels [B, T, 1] and real [B, T], which is true up to the last hour.
    """

    held: PreparedSignals | PreparedHours
    parts: Mapping[Part, Indices]
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Of the files and of the form they are in."""
        return self.held.digest

    @property
    def lengths(self) -> NDArray[np.int64] | None:
        """Hours of each patient [N]; None for signals, which are of one length."""
        return None if isinstance(self.held, PreparedSignals) else np.diff(self.held.offsets)

    @property
    def scaling(self) -> Scaling | None:
        """How hours were standardised."""
        return None if isinstance(self.held, PreparedSignals) else self.held.scaling

    def batch(self, chosen: Indices) -> Batch:
        """Return some records."""
        if isinstance(self.held, PreparedSignals):
            signals, labels = self.held.batch(chosen)
            return Batch(signals.transpose(0, 2, 1), labels.astype(np.float32), None)
        values, hourly, real = self.held.batch(chosen)
        return Batch(values, hourly.astype(np.float32)[:, :, None], real)


@dataclass(frozen=True, eq=False)
class Batch:
    """Records of a batch; see `Records`."""

    values: NDArray[np.float32]
    labels: NDArray[np.float32]
    real: NDArray[np.bool_] | None


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """Records of another set, for outputs alone; None where there are none, which the notes then say."""

    records: Records | None
    notes: tuple[str, ...] = ()


def load_records(data: RecordData, data_root: Path | None) -> Records:
    """Open the records of a sweep, once a process.

    Raises:
        KdsearchError: they are missing or broken.

    """
    return _records(data, data_root)


@lru_cache(maxsize=4)
def _records(data: RecordData, data_root: Path | None) -> Records:
    if data.per_step:
        hours = prepared_hours(
            data.name, data_root, shares=data.shares, indicators=data.indicators, or_sample=data.or_sample
        )
        return Records(hours, hours.parts, _notes(hours.summary, sample=hours.is_sample))
    signals = prepared_signals(data.name, data_root, data.form, or_sample=data.or_sample)
    parts = divide(data.name, signals.names, data.shares)
    return Records(signals, parts, _notes(signals.summary, sample=signals.is_sample))


def load_elsewhere(data: RecordData, own: Records, data_root: Path | None) -> Elsewhere:
    """Open the set from elsewhere, in the form of the sweep's own records; a set that is not there is noted."""
    if data.elsewhere is None:
        return Elsewhere(None)
    try:
        if data.per_step:
            scaling = own.scaling
            if scaling is None:
                raise UsageError("hours without a scaling")
            hours = prepared_hours(data.elsewhere, data_root, indicators=data.indicators, scaling=scaling)
            found = Records(hours, _whole(len(hours.names)), _notes(hours.summary, sample=hours.is_sample))
        else:
            signals = prepared_signals(data.elsewhere, data_root, data.form)
            found = Records(
                signals, _whole(len(signals.names)), _notes(signals.summary, sample=signals.is_sample)
            )
    except DataError as error:
        told = error.message.splitlines()[0]
        return Elsewhere(None, (f"No outputs are compared on {data.elsewhere}: {told}",))
    return Elsewhere(found, found.notes)


def _whole(count: int) -> Mapping[Part, Indices]:
    return {Part.TEST: np.arange(count, dtype=np.int64)}


def _notes(summary: ReadSummary, *, sample: bool) -> tuple[str, ...]:
    """What was read, repaired and left out, in one sentence each."""
    facts = ", ".join(f"{count:,} {what}" for what, count in summary.facts.items())
    notes = [f"Read: {summary.title}, {summary.read:,} of {summary.files:,} files read ({facts})."]
    if summary.repairs:
        notes.append(f"Repaired or noted: {'; '.join(str(each) for each in summary.repairs)}.")
    if summary.left_out:
        named = "; ".join(str(each) for each in summary.left_out[:_SHOWN])
        more = len(summary.left_out) - _SHOWN
        notes.append(
            f"Left out: {len(summary.left_out):,} files: {named}{f'; and {more:,} more' if more > 0 else ''}."
        )
    if sample:
        notes.append(f"The records of {summary.title} are a {MADE_UP}: the numbers are no results.")
    return tuple(notes)
