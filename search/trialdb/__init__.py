"""The trial database: every trial, epoch, draw and decision of every sweep, on SQLite or PostgreSQL.

It is the truth about a sweep: reports are made from it and a sweep that was killed goes on from it. The only
room with SQL. A driver opens a `TrialDatabase`, claims its sweep and writes through a `Writer`; readers open
it read-only, also while a driver writes; `read_record` gives a sweep as the value that `kdsearch.analysis`
reports on (imported when it is asked for: it takes pandas along).
"""

from typing import TYPE_CHECKING, Any

from kdsearch.search.trialdb.database import Clock, TrialDatabase
from kdsearch.search.trialdb.leases import Lease
from kdsearch.search.trialdb.operations import (
    AddDraws,
    AddEvents,
    AddSpaces,
    AddTrials,
    ArrayRow,
    AttemptEnd,
    AttemptStart,
    CheckpointRow,
    DrawRow,
    EndAttempts,
    EventRow,
    FinishTrials,
    Loss,
    MarkRunningLost,
    MetricRow,
    Operation,
    RecordArrays,
    RecordMetrics,
    ResultRow,
    SaveCheckpoints,
    SetSweepState,
    SpaceRow,
    StartAttempts,
    StateChange,
    TrialRow,
)
from kdsearch.search.trialdb.reads import Attempt, Event, Sweep, Trial
from kdsearch.search.trialdb.states import Ending, Role, SweepState, TrialState
from kdsearch.search.trialdb.writer import Writer, WriterStatus

if TYPE_CHECKING:
    from kdsearch.search.trialdb.record import decision_event, note_event, read_record

__all__ = [
    "AddDraws",
    "AddEvents",
    "AddSpaces",
    "AddTrials",
    "ArrayRow",
    "Attempt",
    "AttemptEnd",
    "AttemptStart",
    "CheckpointRow",
    "Clock",
    "DrawRow",
    "EndAttempts",
    "Ending",
    "Event",
    "EventRow",
    "FinishTrials",
    "Lease",
    "Loss",
    "MarkRunningLost",
    "MetricRow",
    "Operation",
    "RecordArrays",
    "RecordMetrics",
    "ResultRow",
    "Role",
    "SaveCheckpoints",
    "SetSweepState",
    "SpaceRow",
    "StartAttempts",
    "StateChange",
    "Sweep",
    "SweepState",
    "Trial",
    "TrialDatabase",
    "TrialRow",
    "TrialState",
    "Writer",
    "WriterStatus",
    "decision_event",
    "note_event",
    "read_record",
]


def __getattr__(name: str) -> Any:
    """What comes from `record`, at its first use."""
    if name in {"decision_event", "note_event", "read_record"}:
        from kdsearch.search.trialdb import record  # noqa: PLC0415 it imports pandas

        return getattr(record, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
