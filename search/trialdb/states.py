"""The words that the trial database uses for where a sweep or a trial stands."""

from __future__ import annotations

from enum import StrEnum


class SweepState(StrEnum):
    """Where a sweep stands."""

    RUNNING = "running"
    COMPLETE = "complete"
    INTERRUPTED = "interrupted"  # can be resumed
    FAILED = "failed"


class TrialState(StrEnum):
    """Where a trial stands; a retry is an attempt of the same trial, never a second trial."""

    WAITING = "waiting"  # for its first attempt, or for another one
    RUNNING = "running"
    PAUSED = "paused"  # waits at a rung to be promoted
    COMPLETE = "complete"
    STOPPED = "stopped"  # by the scheduler
    DIVERGED = "diverged"  # to NaN or infinity
    FAILED = "failed"  # its last permitted attempt raised an error
    LOST = "lost"  # its driver or worker vanished; another attempt may follow


# a resume never runs these again
ENDED = frozenset({TrialState.COMPLETE, TrialState.STOPPED, TrialState.DIVERGED, TrialState.FAILED})


class Ending(StrEnum):
    """What an attempt that ended without a result says of its trial."""

    FAILED = "failed"  # it ran alone and failed: this counts against it
    SHARED = "shared"  # its pack failed, and nobody knows by whom: it is tried again alone
    LOST = "lost"  # its driver or node was gone: no failure


class Role(StrEnum):
    """What a trial is for."""

    SEARCH = "search"
    PRETRAIN = "pretrain"  # trained with the label alone; its weights are reused by other trials
