"""A sweep on a table without Ray: the same coordinator, searcher and scheduler, driven by a queue of events.

W virtual workers take the coordinator's jobs as Ray Tune hands them out (one more for each worker is taken ahead, as
`runner_tune` does), and the clock jumps from the end of one epoch to the next. An epoch of a pack lasts as long as its
members' shares of it, the table's `seconds`, add up to; 1 s a member and epoch where the table does not say. What
takes time beside the epochs, starting processes and asking the searcher, takes none here. Events of one moment come in
the order in which their epochs began, so a simulation has one outcome.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from pathlib import Path
from typing import Final

from kdsearch.search.coordinator import Coordinator, Idle
from kdsearch.search.failures import Failure
from kdsearch.search.trial_states import Job
from kdsearch.spaces.errors import KdsearchError
from kdsearch.trainables.protocol import EpochReport, MemberState, Pack
from kdsearch.trainables.table.curves import SECONDS, CurveTable
from kdsearch.trainables.table.pack import TablePack

START: Final = datetime(2000, 1, 1, tzinfo=UTC)  # of virtual time


class VirtualClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self.seconds = 0.0  # since the start

    def __call__(self) -> datetime:
        """Return the virtual time."""
        return self._start + timedelta(seconds=self.seconds)


@dataclass
class Progress:
    """How far a simulation is."""

    epochs: int = 0  # of all trials
    seconds: float = 0.0  # virtual
    jobs: int = 0


@dataclass(order=True)
class _Event:
    """The end of an epoch of a pack."""

    at: float
    order: int  # of the beginning of the epoch
    job: Job = field(compare=False)
    pack: Pack | None = field(compare=False)  # None: it could not be built
    reports: Sequence[EpochReport] = field(compare=False, default=())
    failure: str | None = field(compare=False, default=None)


class Simulator:
    """Runs a coordinator's jobs on virtual workers."""

    def __init__(
        self,
        coordinator: Coordinator,
        make_pack: Callable[[Job], Pack],
        clock: VirtualClock,
        *,
        workers: int,
        timed: bool,
        staged: bool = True,
    ) -> None:
        """timed: members report how long an epoch took. staged: one job a worker is taken ahead, as on Ray."""
        self.progress = Progress()
        self._coordinator, self._make_pack, self._clock = coordinator, make_pack, clock
        self._idle, self._timed = workers, timed
        self._room = workers * (2 if staged else 1)
        self._live = 0  # jobs handed out that have not ended
        self._ahead: deque[Job] = deque()
        self._events: list[_Event] = []
        self._begun = 0  # epochs of packs

    def run(self, stop: Callable[[Progress], bool] | None = None) -> Progress:
        """Run until nothing is left, or `stop` says so after an event.

        Raises:
            KdsearchError: what the searcher or the coordinator raises.

        """
        while True:
            self._hand_out()
            if not self._events:
                due = self._coordinator.next_retry
                if due is not None:
                    # times are whole microseconds: never less than one
                    self._clock.seconds += max(1e-6, (due - self._clock()).total_seconds())
                    continue
                if not self._coordinator.done:
                    raise KdsearchError(
                        "the simulation ended before the search was done: no trial is left to run"
                    )
                return self.progress
            self._take(heappop(self._events))
            if stop is not None and stop(self.progress):
                return self.progress

    def _hand_out(self) -> None:
        """Start jobs on idle workers, and take as many ahead as there is room for."""
        while self._live < self._room:
            job = self._coordinator.next_job()
            if isinstance(job, Idle):
                break
            self._live += 1
            self.progress.jobs += 1
            self._ahead.append(job)
            if self._idle:
                self._start(self._ahead.popleft())
        while self._idle and self._ahead:
            self._start(self._ahead.popleft())

    def _start(self, job: Job) -> None:
        self._idle -= 1
        self._coordinator.on_start(job.id)
        try:
            pack = self._make_pack(job)
        except KdsearchError as error:
            self._push(job, None, (), str(error))
            return
        self._begin_epoch(job, pack)

    def _begin_epoch(self, job: Job, pack: Pack) -> None:
        try:
            reports, failure = pack.run_epoch(), None
        except KdsearchError as error:
            reports, failure = (), str(error)
        self._push(job, pack, reports, failure)

    def _push(self, job: Job, pack: Pack | None, reports: Sequence[EpochReport], failure: str | None) -> None:
        lasts = (
            sum(max(0.0, report.metrics.get(SECONDS, 0.0)) for report in reports)
            if self._timed
            else float(len(reports))
        )
        event = _Event(self._clock.seconds + lasts, self._begun, job, pack, reports, failure)
        self._begun += 1
        heappush(self._events, event)

    def _take(self, event: _Event) -> None:
        """The end of an epoch: tell the coordinator, drop what it stops, and begin the next one."""
        self._clock.seconds = event.at
        self.progress.seconds = event.at
        self.progress.epochs += len(event.reports)
        job, pack = event.job, event.pack
        dropped = self._coordinator.on_result(
            job.id,
            event.reports,
            None if event.failure is None else Failure(reason=event.failure),
            self._saved(job, event.reports),
        )
        if pack is not None and event.failure is None:
            for number in dropped:
                pack.drop(number)
            if pack.active:
                self._begin_epoch(job, pack)
                return
        self._idle += 1
        self._live -= 1

    def _saved(self, job: Job, reports: Sequence[EpochReport]) -> Mapping[int, str]:
        """The checkpoints that a worker would have written; none is, their names say what is in them."""
        every = self._coordinator.sweep.run.checkpoint_every
        wanted: Sequence[int] = getattr(job, "save_at", ())
        if not every and not wanted:
            return {}
        folder = self._coordinator.checkpoints
        return {
            report.number: str(folder / f"{report.number}-{report.epoch}.pt")
            for report in reports
            if report.state is MemberState.RUNNING
            and (report.epoch in wanted or (every and report.epoch % every == 0))
        }


def epoch_of(checkpoint: Path) -> int:
    """The epoch that a virtual checkpoint stands at, by its name `<number>-<epoch>.pt`."""
    return int(checkpoint.stem.partition("-")[2])


def table_packs(table: CurveTable) -> Callable[[Job], Pack]:
    """What makes the packs of jobs whose trials are answered from a table."""
    return lambda job: TablePack(table, job.members, resumed=epoch_of)
