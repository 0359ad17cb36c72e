"""What the driver knows of trials: those of this run, and those that the database brings back on a resume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from kdsearch.search.trialdb.states import Ending
from kdsearch.trainables.protocol import Member


@dataclass(frozen=True, kw_only=True)
class PastEpoch:
    """An epoch that the database already knows."""

    epoch: int
    error: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class PastTrial:
    """A trial that the database already knows, when a sweep is resumed."""

    state: str
    key: str
    plan: Mapping[str, Any] = field(default_factory=dict)
    error: float | None
    attempts: int
    epochs: Sequence[PastEpoch] = ()  # of a trial that was cut off or stopped
    checkpoint: Path | None = None
    checkpoint_epoch: int = 0
    endings: Sequence[Ending | None] = ()  # of its attempts, in order


@dataclass(slots=True)  # there is one of every trial until the sweep ends
class LiveTrial:
    """A trial of this run: what it is, and how far it has come."""

    number: int
    configuration: Mapping[str, Any]
    seed: int
    search: bool
    plan: Mapping[str, Any] = field(default_factory=dict)
    design: str = ""  # how it came to be asked for
    attempt: int = 0  # the newest one
    failures: int = 0  # attempts that failed with nobody else to blame; an interrupt is no failure
    nodes_lost: int = 0  # attempts of this run that ended with their node
    avoid: frozenset[str] = frozenset()  # nodes of this run where it failed, or its pack did
    returned: int = (
        0  # times that it was handed out in vain since its last attempt: to a node to avoid, or to none
    )
    alone: bool = False  # it failed, or its pack did: it shares no pack any more
    storage_lost: int = 0  # attempts of this run that ended because the storage could not be reached
    stuck: int = 0  # failures in a row without the end of an epoch
    progressed: bool = False  # the newest attempt has come to the end of an epoch
    checkpoint: Path | None = None
    checkpoint_epoch: int = 0  # that it stands at; one that could not be written leaves an earlier one behind
    output: Path | None = None
    needs: tuple[str, ...] = ()
    best_error: float | None = None
    best_epoch: int | None = None
    last_epoch: int | None = None
    last_error: float | None = None
    seconds: float = 0.0
    curve: dict[int, float] = field(default_factory=dict)  # epoch -> error; empty once it has ended

    def count(self, epoch: int, error: float, seconds: float) -> None:
        """Take one epoch in; the first one begins anew, whatever an earlier attempt came to."""
        if epoch == 1:
            self.best_error, self.best_epoch, self.seconds = None, None, 0.0
            self.curve.clear()
        self.last_epoch, self.last_error = epoch, error
        self.curve[epoch] = error
        self.seconds += seconds
        if isfinite(error) and (self.best_error is None or error < self.best_error):
            self.best_error, self.best_epoch = error, epoch


@dataclass(frozen=True, kw_only=True)
class Job:
    """A pack that is ready to run."""

    id: int
    members: tuple[Member, ...]
    outputs: Mapping[str, str]
    save_at: tuple[
        int, ...
    ] = ()  # epochs after which every member is checkpointed, whatever else is asked for
    avoid: frozenset[str] = frozenset()  # nodes where a member failed: another one is better, if there is one
    returned: int = 0  # times that it was handed out in vain


@dataclass
class Tally:
    """Counts for the progress display."""

    finished: int = 0
    diverged: int = 0
    failed: int = 0
    stopped: int = 0
    retried: int = 0
    best_error: float | None = None
    best_number: int | None = None

    def count(self, number: int, state: str, error: float | None) -> None:
        """Take one finished trial in; with an error, it may be the best one."""
        self.finished += 1
        self.diverged += state == "diverged"
        self.failed += state == "failed"
        self.stopped += state == "stopped"
        if state == "complete" and error is not None and (self.best_error is None or error < self.best_error):
            self.best_error, self.best_number = error, number
