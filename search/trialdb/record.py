"""A sweep as the value that `kdsearch.analysis` reports on, and its decisions as events."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from kdsearch.analysis.record import DecisionRecord, SpaceRecord, SweepRecord
from kdsearch.search.masking import masked
from kdsearch.search.trialdb import frames, reads
from kdsearch.search.trialdb.database import TrialDatabase
from kdsearch.search.trialdb.operations import EventRow, SpaceRow

CHANGE = "change"  # settings that a resume changed
DATA = "data"  # what a sweep trains on, as a digest
DECISION = "decision"
NOTE = "note"
SCHEDULER = "scheduler"  # a verdict on a trial at a rung
_STATISTICS = ("tau", "a", "alpha", "diverged_error")  # of settings["statistics"]


def read_record(database: TrialDatabase, name: str, *, metrics: Collection[str] | None = None) -> SweepRecord:
    """Return a sweep as of one moment, also while its driver writes.

    `metrics` keeps only these in the curves (names without node; None: all). UnknownNameError if there is no
    such sweep.
    """
    with database.reading() as connection:
        sweep = reads.sweep(connection, name)
        events = reads.events(connection, name, kinds=(CHANGE, DATA, DECISION, NOTE, SCHEDULER))
        return SweepRecord(
            name=sweep.name,
            kind=sweep.kind,
            trainable=sweep.trainable,
            state=sweep.state.value,
            seed=sweep.seed,
            settings=sweep.settings,
            environment={"code_version": sweep.code_version, **_shown(sweep.environment)},
            created=sweep.created,
            ended=sweep.ended,
            spaces=tuple(_space(row) for row in reads.spaces(connection, name)),
            decisions=tuple(_decision(event) for event in events if event.kind == DECISION),
            trials=frames.trials_frame(connection, name),
            draws=frames.draws_frame(connection, name),
            curves=frames.curves_frame(connection, name, metrics=metrics),
            notes=_notes(events),
            arrays=reads.arrays(connection, name),
            rungs=_rungs([event.data for event in events if event.kind == SCHEDULER]),
            content=next((str(event.data["content"]) for event in events if event.kind == DATA), ""),
            **_statistics(sweep.settings),
        )


def _shown(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The environment without the passwords that an earlier kdsearch left in the command that it kept."""
    return {key: masked(value) if isinstance(value, str) else value for key, value in environment.items()}


def decision_event(decision: DecisionRecord) -> EventRow:
    """Return the event that keeps a decision; `read_record` gives the decision back."""
    data = asdict(decision)
    return EventRow(kind=DECISION, at=data.pop("at"), data=data)


def note_event(text: str, at: datetime) -> EventRow:
    """Return the event that keeps a note for the report's reader."""
    return EventRow(kind=NOTE, at=at, data={"text": text})


def _notes(events: Sequence[reads.Event]) -> tuple[str, ...]:
    """Return the notes that stand: a change of the sweep withdraws those that are no longer right."""
    withdrawn = {
        str(text) for event in events if event.kind == CHANGE for text in event.data.get("withdrawn", ())
    }
    told = [str(event.data["text"]) for event in events if event.kind == NOTE]
    return tuple(text for text in told if text not in withdrawn)


def _space(row: SpaceRow) -> SpaceRecord:
    return SpaceRecord(
        name=row.name,
        spec=row.specification,
        parent=row.parent,
        restriction=row.restriction,
        counts=row.counts,
        exhaustive=row.exhaustive,
        repeats=row.repeats,
    )


def _decision(event: reads.Event) -> DecisionRecord:
    """Read a decision; fields that a later kdsearch added are passed over."""
    known = {field.name for field in fields(DecisionRecord)} - {"at", "table"}
    data = {key: value for key, value in event.data.items() if key in known}
    return DecisionRecord(at=event.at, table=tuple(event.data.get("table", ())), **data)


def _rungs(verdicts: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the frame of `SweepRecord.rungs`; decisions that name no trial or no rung are passed over."""
    whole = [each for each in verdicts if None not in (each.get("trial"), each.get("rung"))]
    return pd.DataFrame(
        {
            "trial": np.array([each["trial"] for each in whole], dtype=np.int64),
            "rung": np.array([each["rung"] for each in whole], dtype=np.int64),
            "value": np.array([each.get("value") for each in whole], dtype=np.float64),
            "cutoff": np.array([each.get("cutoff") for each in whole], dtype=np.float64),
            **{
                name: np.array([each.get(name, False) for each in whole], dtype=np.bool_)
                for name in ("stopped", "paused", "late")
            },
            "probability": np.array([each.get("probability") for each in whole], dtype=np.float64),
        }
    )


def _statistics(settings: Mapping[str, Any]) -> dict[str, float]:
    """Return the settings of the statistics that were given; `SweepRecord` has the defaults of the others."""
    given = settings.get("statistics") or {}
    return {key: float(given[key]) for key in _STATISTICS if given.get(key) is not None}
