"""The records of a sweep in their three parts, opened once a process. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kdsearch.trainables.bbm.data_settings import RecordData
from kdsearch.trainables.records import Part, ReadSummary, divide
from kdsearch.trainables.records.prepared import (
    PreparedHours,
    PreparedSignals,
    prepared_hours,
    prepared_signals,
)
from kdsearch.trainables.records.prepared_files import why_absent

Indices = NDArray[np.int64]
MADE_UP: Final = "made-up sample"  # in a note on the sweep's own records: the report's title says it too
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
        return Records(hours, hours.parts, _own_notes(hours.summary))
    signals = prepared_signals(data.name, data_root, data.form, or_sample=data.or_sample)
    parts = divide(data.name, signals.names, data.shares)
    return Records(signals, parts, _own_notes(signals.summary))


def load_elsewhere(data: RecordData, data_root: Path | None) -> Elsewhere:
    """Open the set from elsewhere, once a process, in the form of the sweep's own records.

    A set that is not there is noted. Where a made-up sample stands in for the sweep's own records, one does here too.

    Raises:
        KdsearchError: it is there and broken.

    """
    return Elsewhere(None) if data.elsewhere is None else _elsewhere(data, data.elsewhere, data_root)


@lru_cache(maxsize=2)
def _elsewhere(data: RecordData, name: str, data_root: Path | None) -> Elsewhere:
    own = _records(data, data_root)
    or_sample = own.held.is_sample
    if not or_sample and (absent := why_absent(name, data_root)) is not None:
        return Elsewhere(None, (f"No outputs are compared on {name}: {absent}.",))
    if isinstance(own.held, PreparedHours):
        hours = prepared_hours(
            name, data_root, indicators=data.indicators, scaling=own.held.scaling, or_sample=or_sample
        )
        found = Records(hours, _whole(len(hours.names)), _notes(hours.summary))
    else:
        signals = prepared_signals(name, data_root, data.form, or_sample=or_sample)
        found = Records(signals, _whole(len(signals.names)), _notes(signals.summary))
    if found.held.is_sample:
        title = found.held.summary.title
        made_up = f"The records from elsewhere ({title}) are made up: numbers on them are no results."
        return Elsewhere(found, (*found.notes, made_up))
    return Elsewhere(found, found.notes)


def _whole(count: int) -> Mapping[Part, Indices]:
    return {Part.TEST: np.arange(count, dtype=np.int64)}


def _notes(summary: ReadSummary) -> tuple[str, ...]:
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
    return tuple(notes)


def _own_notes(summary: ReadSummary) -> tuple[str, ...]:
    """The same of the sweep's own records, with a warning where they are made up."""
    notes = _notes(summary)
    if summary.is_sample:
        return (*notes, f"The records of {summary.title} are a {MADE_UP}: the numbers are no results.")
    return notes
