"""Runs a coordinator's jobs in this process, as Ray would elsewhere; for constant trainables."""

from __future__ import annotations

from pathlib import Path

from kdsearch.search.coordinator import Coordinator, Idle
from kdsearch.search.failures import Cause, Failure
from kdsearch.search.searchers import make_searcher
from kdsearch.search.trial_states import PastTrial
from kdsearch.search.trialdb import operations as op
from kdsearch.spaces.errors import KdsearchError
from kdsearch.trainables.constant import ConstantPack


class Driver:
    """Runs a coordinator's jobs in this process, as Ray would elsewhere."""

    def __init__(self, sweep, clock, tmp_path, *, baselines=(), history=None, worker_dies=(), scheduler=None):
        self.operations = []
        self.jobs = []
        self.worker_dies = set(worker_dies)
        self.coordinator = Coordinator(
            sweep,
            make_searcher(sweep, first_number=len(baselines)),
            self.operations.append,
            baselines=baselines,
            folder=tmp_path,
            concurrency=2,
            clock=clock,
            host="here",
            device="cpu",
            history=history,
            scheduler=scheduler,
        )

    def run(self, *, at_most=10_000):
        for _ in range(at_most):
            job = self.coordinator.next_job()
            if job is Idle.WAIT and self.coordinator.next_retry is not None:
                continue  # the clock moves with each look
            if isinstance(job, Idle):
                assert job is Idle.DONE
                return self
            self.jobs.append(job)
            self._run(job)
        return self

    def _run(self, job):
        if job.id in self.worker_dies:
            self.coordinator.on_pack_failure(
                job.id, Failure(reason="the worker process ended", cause=Cause.WORKER)
            )
            return
        pack = ConstantPack(self.coordinator.sweep.trainable_settings(), job.members)
        while pack.active:
            try:
                reports = pack.run_epoch()
            except KdsearchError as error:
                self.coordinator.on_result(job.id, [], Failure(reason=str(error)))
                return
            for report in reports:
                path = job.outputs.get(str(report.number))
                if path is not None:
                    self._write(path)
            self.coordinator.on_result(job.id, reports, None)

    @staticmethod
    def _write(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("weights")

    def rows(self, kind):
        return [row for operation in self.operations if isinstance(operation, kind) for row in operation.rows]


def history_of(operations, *, upto):
    """What a database would know after the first `upto` operations."""
    trials, found = {}, {}
    for operation in operations[:upto]:
        if isinstance(operation, op.AddTrials):
            trials |= {row.number: row for row in operation.rows}
            found |= {row.number: ["waiting", None, 0] for row in operation.rows}
        if isinstance(operation, op.StartAttempts):
            for row in operation.rows:
                found[row.number] = ["running", None, row.n]
        if isinstance(operation, op.FinishTrials):
            for row in operation.rows:
                found[row.number] = [str(row.state), row.error, row.attempt]
    return {
        number: PastTrial(
            state=state,
            key=trials[number].configuration_hash,
            plan=trials[number].plan or {},
            error=error,
            attempts=attempts,
        )
        for number, (state, error, attempts) in found.items()
    }
