"""The driver's brain, without Ray: makes packs of what a searcher asks for and takes results apart again.

Searcher, database and reports know only trials. The coordinator numbers attempts, groups waiting trials by shape,
holds back trials whose inputs (pre-trained teachers) are not there yet, lets trials that a scheduler paused go on in
packs of their own before new ones begin, has members of a failed pack tried again one by one (`retries.py`), so that
one bad member cannot fail its neighbours twice, and writes everything down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from math import isfinite
from pathlib import Path

from kdsearch.search.baselines import Baseline
from kdsearch.search.checkpoints import checkpoints_folder
from kdsearch.search.config import SweepFile
from kdsearch.search.failures import Cause, Failure, Place
from kdsearch.search.handed_out import HandedOut
from kdsearch.search.history import ENDED, History, count_epochs, take_up
from kdsearch.search.logbook import Logbook
from kdsearch.search.notices import Notices
from kdsearch.search.packing import packed
from kdsearch.search.paused import Paused
from kdsearch.search.result_rows import (
    array_rows,
    checkpoint_rows,
    metric_rows,
    result_row,
    start_row,
    trial_row,
)
from kdsearch.search.retries import Retries
from kdsearch.search.schedulers.scheduler import Scheduler, error_that_counts, told
from kdsearch.search.schedulers.verdicts import Verdict
from kdsearch.search.searchers.base import Outcome, Request, Searcher
from kdsearch.search.searchers.confirmation import DESIGN as CONFIRMATION
from kdsearch.search.searchers.plans import check_plan, objective_metric
from kdsearch.search.stores import Store
from kdsearch.search.teachers import Teachers
from kdsearch.search.trial_states import Job, LiveTrial, PastTrial, Tally
from kdsearch.search.trialdb import operations as op
from kdsearch.search.trialdb.states import Ending, TrialState
from kdsearch.trainables.protocol import EpochReport, Member, MemberState
from kdsearch.trainables.registry import trainable_kind
from kdsearch.trainables.seeds import derive_seed
from kdsearch.trainables.storage import SHARED, Storage

WAVES = 8  # trials asked for at a time: this many times what runs at once


class Idle(Enum):
    """Why there is no pack to run now."""

    WAIT = "results are awaited"
    DONE = "nothing is left"


class Coordinator:
    """One sweep from its first trial to its last."""

    def __init__(
        self,
        sweep: SweepFile,
        searcher: Searcher,
        submit: Callable[[op.Operation], None],
        *,
        baselines: Sequence[Baseline],
        folder: Path,
        concurrency: int,
        clock: Callable[[], datetime],
        host: str,
        device: str,
        history: Mapping[int, PastTrial] | None = None,
        scheduler: Scheduler | None = None,
        store: Store | None = None,
    ) -> None:
        """folder: of files where no `store` says where they lie."""
        self.sweep, self.searcher, self.scheduler, self.tally = sweep, searcher, scheduler, Tally()
        self._submit, self._clock = submit, clock
        self.storage: Storage = SHARED if store is None else store.storage
        self.checkpoints = checkpoints_folder(folder, sweep.name) if store is None else store.checkpoints
        self._concurrency, self._host, self._device = concurrency, host, device
        self._kind = trainable_kind(sweep.trainable.kind)
        self._settings = sweep.trainable_settings()
        self._trials: dict[int, LiveTrial] = {}
        self._packs: deque[list[int]] = deque()
        self._begun: deque[list[int]] = deque()  # trials that had a worker and lost it: they go first
        self._held: list[int] = []  # trials whose inputs are not ready
        self._out = HandedOut()
        self._retries = Retries(clock, attempts=sweep.run.attempts, backoff_s=sweep.run.backoff_s)
        self._history = History(sweep.name, history or {})
        self._logbook = Logbook(sweep.name, submit, clock)
        self.notices = Notices(sweep.name, submit, clock)
        self._paused = Paused(
            scheduler,
            self._logbook.judged,
            kind=self._kind,
            settings=self._settings,
            most=sweep.run.pack,
        )
        self._teachers = Teachers()
        self.interrupted = False
        for baseline in baselines:
            self._add_baseline(baseline)
        self._record()

    # -- asked by the runner ----------------------------------------------------------------------------------------

    def next_job(self) -> Job | Idle:
        """The next pack to run, or why there is none."""
        while not self.interrupted:
            pack = self._next_pack()
            if pack:
                return self._start(pack)
            if self._out or self._retries:
                return Idle.WAIT
            if not self._paused:
                break
            self._settle()
        return Idle.DONE

    def on_start(self, job: int, place: Place | None = None) -> None:
        """A pack runs now, at `place` if that is known."""
        host = self._host if place is None else place.host
        numbers, now = self._out.begin(job, place), self._clock()
        for number in numbers:
            self._trials[number].attempt += 1
            self._trials[number].progressed = False
        starts = tuple(
            start_row(self._trials[number], now, host=host, device=self._device) for number in numbers
        )
        if starts:
            self._submit(op.StartAttempts(self.sweep.name, starts))

    def on_result(
        self,
        job: int,
        reports: Sequence[EpochReport],
        failure: Failure | None,
        saved: Mapping[int, str] | None = None,
    ) -> tuple[int, ...]:
        """Take in what a pack did in one epoch, or that it failed; `saved`: member -> its new checkpoint.

        Returns the members that the scheduler stopped or paused: they have left the job, and the pack must drop them
        before its next epoch. What is reported of them later is passed over.
        """
        self.on_start(job)
        mine = [report for report in reports if report.number in self._out.members(job)]
        if mine:
            self._submit(op.RecordMetrics(self.sweep.name, metric_rows(mine, self._trials)))
            arrays = array_rows(mine, self._trials)
            if arrays:
                self._submit(op.RecordArrays(self.sweep.name, arrays))
        # before the checkpoints: a trial that goes on behind a rung must be known to have been judged there
        leaves = self.scheduler.leaves(self._trials, mine, self._logbook.judged) if self.scheduler else {}
        stopped = {number for number, verdict in leaves.items() if verdict.stopped}
        checkpoints = checkpoint_rows([r for r in mine if r.number not in stopped], saved or {}, self._trials)
        for row in checkpoints:
            trial = self._trials[row.number]
            trial.checkpoint, trial.checkpoint_epoch = self.storage.path(row.path), row.epoch
        if checkpoints:
            self._submit(op.SaveCheckpoints(self.sweep.name, checkpoints))
        for report in mine:
            self._on_report(job, report, leaves.get(report.number))
        if failure is not None:
            self.on_pack_failure(job, failure)
        self._record()
        return tuple(leaves)

    def on_pack_failure(self, job: int, failure: Failure) -> None:
        """A pack failed, or its worker is gone: every member that was still in it is tried again, alone.

        If its node is gone, they go on together: none of them is to blame.
        """
        self.on_start(job)
        members, place = self._out.end(job)
        together: list[int] = []
        for number in members:
            trial = self._trials[number]
            ending = self._retries.charge(
                trial, failure, alone=len(members) == 1, node=None if place is None else place.node
            )
            over = self._retries.given_up(trial)
            if over is not None:
                self._finish(trial, "failed", f"{over}: {failure.reason}")
                continue
            end = op.AttemptEnd(
                number=number, n=trial.attempt, at=self._clock(), reason=failure.reason, ending=ending
            )
            self._submit(op.EndAttempts(self.sweep.name, (end,)))
            self.tally.retried += 1
            if failure.cause is Cause.NODE:
                together.append(number)
            else:
                self._retries.add(trial, ending)
        if together:
            self._begun.append(together)
        self._record()

    def on_return(self, job: int) -> None:
        """A pack was handed out in vain, to a node that it avoids or to none: it is handed out again.

        A trial that is tried again alone may have been declined, and waits a moment; other packs go first. Where it was
        not known that it would be declined, an attempt has begun that comes to nothing.
        """
        begun = self._out.has_begun(job)
        members, _ = self._out.end(job)
        trials = [self._trials[number] for number in members]
        if begun and trials:
            now, why = self._clock(), "handed back before it began"
            ends = (
                op.AttemptEnd(number=t.number, n=t.attempt, at=now, reason=why, ending=Ending.LOST)
                for t in trials
            )
            self._submit(op.EndAttempts(self.sweep.name, tuple(ends)))
        for trial in trials:
            trial.returned += 1
        if len(trials) == 1 and trials[0].avoid:
            self._retries.put_back(trials[0])
        elif trials:
            (self._begun if trials[0].attempt else self._packs).appendleft(list(members))

    def interrupt(self, reason: str) -> None:
        """Mark what runs; nothing more is started. Safe to call twice."""
        self.interrupted = True
        self._submit(op.MarkRunningLost(self.sweep.name, (op.Loss(reason=reason, at=self._clock()),)))
        self._out.clear()

    def follow(self, workers: int) -> None:
        """Make packs for so many workers from now on: nodes come and go."""
        self._concurrency = max(1, workers)

    @property
    def packs(self) -> tuple[int, int]:
        """Packs that run now, and packs that were handed out and wait for a place."""
        return self._out.packs

    @property
    def running(self) -> int:
        """Trials that run now."""
        return self._out.running

    @property
    def done(self) -> bool:
        """The searcher is done and nothing runs."""
        waiting = self._packs or self._begun or self._paused or self._retries
        return self.searcher.done and not self._out and not waiting

    @property
    def paused(self) -> int:
        """Trials that wait to be promoted."""
        return len(self._paused)

    @property
    def retrying(self) -> int:
        """Trials that wait to be tried again."""
        return len(self._retries)

    @property
    def next_retry(self) -> datetime | None:
        """When the next one of them may be tried; None if none waits."""
        return self._retries.next_due

    # -- trials in ----------------------------------------------------------------------------------------------------

    def _add_baseline(self, baseline: Baseline) -> None:
        trial = LiveTrial(
            number=baseline.number,
            configuration=baseline.configuration,
            seed=baseline.seed,
            search=False,
            plan=baseline.plan,
            design="baseline",
            output=baseline.path,
        )
        self._teachers.expect(baseline)
        self._trials[trial.number] = trial
        row = trial_row(trial, self._clock())
        self._submit(op.AddTrials(self.sweep.name, (row,)))
        past = self._history.get(trial.number)
        if past is not None:
            take_up(trial, past)
        known = baseline.known_after(None if past is None else past.state, self.sweep.name)
        if known is None:
            self._packs.append([trial.number])
            return
        self._teachers.found(baseline)
        if past is not None and past.state == "complete":
            return
        trial.last_error, trial.best_error = known.error, known.best_error
        trial.best_epoch, trial.last_epoch = known.best_epoch, known.last_epoch
        self._finish(trial, "complete", f"reused: trained as trial {known.trial} of sweep {known.sweep}")

    def _next_pack(self) -> list[int]:
        """Trials that were cut off first, then promoted ones, then new ones; empty if there is nothing to run.

        On a resume all that had begun is asked for again before anything runs.
        """
        while True:
            if self._history.cut_off <= self._trials.keys():
                pack = self._begun.popleft() if self._begun else self._again() or self._paused.promoted()
                if pack or self._packs:
                    return pack or self._packs.popleft()
            if not self._refill():
                return next((q.popleft() for q in (self._begun, self._packs) if q), []) or self._again()

    def _again(self) -> list[int]:
        """A trial that failed and has waited long enough, alone; empty if there is none."""
        due = self._retries.due()
        return [] if due is None else [due]

    def _refill(self) -> bool:
        """Make packs of what the searcher wants now and of held trials; False if nothing came of it."""
        wanted = self.sweep.run.pack * self._concurrency * WAVES
        requests = self.searcher.ask(wanted)
        added = [self._add(request) for request in requests]
        rows = [
            trial_row(trial, self._clock(), request.orbit_size, request.probability)
            for trial, request in zip(added, requests, strict=True)
        ]
        if rows:
            self._submit(op.AddTrials(self.sweep.name, tuple(rows)))
        self._record()
        unanswered = [trial.number for trial in added if not self._answered(trial)]
        held, self._held = self._held, []
        ready = [number for number in [*held, *unanswered] if self._has_inputs(self._trials[number])]
        begun = [number for number in ready if self._trials[number].attempt]
        alone = [number for number in begun if self._trials[number].alone]
        self._begun.extend([number] for number in alone)
        self._begun.extend(self._packed([number for number in begun if number not in alone]))
        self._packs.extend(self._packed([number for number in ready if not self._trials[number].attempt]))
        self._record()
        return bool(requests) or len(held) > len(self._held)

    def _packed(self, numbers: Sequence[int]) -> list[list[int]]:
        trials = [self._trials[number] for number in numbers]
        most, workers = self.sweep.run.pack, self._concurrency
        return packed(trials, self._kind, self._settings, most=most, workers=workers)

    def _add(self, request: Request) -> LiveTrial:
        check_plan(request.number, request.plan)
        trial = LiveTrial(
            number=request.number,
            configuration=request.configuration,
            seed=derive_seed(self.sweep.seed, *(request.seed_key or ("trial", request.number))),
            search=True,
            plan=request.plan,
            design=request.design,
            needs=tuple(self._kind.inputs(self._settings, request.configuration)),
        )
        self._trials[trial.number] = trial
        return trial

    def _answered(self, trial: LiveTrial) -> bool:
        """Take the trial's outcome from the database, on a resume, if it is there."""
        past = self._history.same(trial)
        if past is None:
            return False
        if past.state in ENDED:
            self._count(trial, past.state, past.error)
            count_epochs(trial, past)
            self._tell(trial, past.state, past.error)
            return True
        stop = self.scheduler.stopped_before(trial.number) if self.scheduler else None
        if stop is not None:  # the driver was killed between the decision and the trial's end
            trial.attempt = past.attempts
            count_epochs(trial, past, last=stop.rung)
            self._finish(trial, "stopped", told(stop))
            return True
        take_up(trial, past)
        if not self._paused.holds(trial.number):
            return False
        count_epochs(trial, past)  # all of them, whatever it has a checkpoint of
        self._wait(trial, "paused: waits to be promoted")
        return True

    def _wait(self, trial: LiveTrial, reason: str) -> None:
        self._paused.add(trial)
        end = op.AttemptEnd(
            number=trial.number,
            n=trial.attempt,
            at=self._clock(),
            reason=reason,
            state=TrialState.PAUSED,
        )
        self._submit(op.EndAttempts(self.sweep.name, (end,)))

    def _settle(self) -> None:
        """Stop the trials that wait to be promoted, since nothing is left to train."""
        for trial, verdict in self._paused.settle():
            self._finish(trial, "stopped", told(verdict))
        self._record()

    def _has_inputs(self, trial: LiveTrial) -> bool:
        """Whether the trial can run now; if not, it is held, or failed where its inputs will never come."""
        data = trial.plan.get("data")
        obstacle = self._teachers.obstacle(trial.needs, data)
        if obstacle is not None:
            self._finish(trial, "failed", obstacle)
            return False
        if self._teachers.ready(trial.needs, data):
            return True
        self._held.append(trial.number)
        return False

    # -- results out --------------------------------------------------------------------------------------------------

    def _start(self, numbers: list[int]) -> Job:
        job = self._out.add(numbers)
        members = tuple(self._member(self._trials[number]) for number in numbers)
        outputs = {
            str(number): str(self._trials[number].output)
            for number in numbers
            if self._trials[number].output is not None
        }
        save_at = self.scheduler.save_at if self.scheduler else ()
        avoid = frozenset().union(*(self._trials[number].avoid for number in numbers))
        returned = max(self._trials[number].returned for number in numbers)
        return Job(id=job, members=members, outputs=outputs, save_at=save_at, avoid=avoid, returned=returned)

    def _member(self, trial: LiveTrial) -> Member:
        return Member(
            number=trial.number,
            seed=trial.seed,
            configuration=trial.configuration,
            checkpoint=trial.checkpoint,
            inputs=self._teachers.inputs(trial.needs, trial.plan.get("data")),
            plan=trial.plan,
        )

    def _on_report(self, job: int, report: EpochReport, leaves: Verdict | None) -> None:
        trial = self._trials[report.number]
        error = report.metrics.get(objective_metric(trial.plan), float("nan"))
        trial.count(report.epoch, error, report.metrics.get("seconds", 0.0))
        trial.progressed = True
        if report.state is MemberState.RUNNING and leaves is None:
            return
        self._out.leave(job, report.number)
        if leaves is not None and leaves.paused:
            self._wait(trial, told(leaves))
            return
        if leaves is not None:
            self._finish(trial, "stopped", told(leaves))
            return
        if report.state is MemberState.COMPLETE and not isfinite(error):
            self._finish(trial, "diverged", f"the error after epoch {report.epoch} is {error}")
            return
        self._finish(trial, str(report.state), report.message)

    def _finish(self, trial: LiveTrial, state: str, message: str) -> None:
        result = result_row(trial, state, message, at=self._clock(), on_device=self._device != "cpu")
        self._submit(op.FinishTrials(self.sweep.name, (result,)))
        if trial.search:
            self._count(trial, state, trial.last_error)
            self._tell(trial, state, trial.last_error)
        elif trial.output is not None:
            self._teachers.finished(trial, sweep=self.sweep.name, state=state, message=message)
        trial.curve = {}  # nobody asks for it any more, and it may be what most of a trial's memory is

    def _count(self, trial: LiveTrial, state: str, error: float | None) -> None:
        """Count a finished trial; the best error is that of one part: of validation, in a comparison of the test.

        Neither what a method learns from nor what confirms a search's best configuration is measured on that part.
        """
        counts = trial.plan.get("final", True) and trial.design != CONFIRMATION
        self.tally.count(trial.number, state, error if counts else None)

    def _tell(self, trial: LiveTrial, state: str, error: float | None) -> None:
        counted = error_that_counts(state, error)
        if counted is None:
            counted = self.sweep.statistics.diverged_error
        curve = tuple(sorted(trial.curve.items())) if state == "stopped" else ()
        self.searcher.tell(trial.number, Outcome(state=state, error=counted, curve=curve))

    def _record(self) -> None:
        """Write down what the searcher drew and decided."""
        self._logbook.write(self.searcher.drain(), self._trials)
