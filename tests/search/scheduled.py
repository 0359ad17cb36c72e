"""Runs sweeps with a scheduler in this process, as Ray would on one worker, with drivers that are killed."""

from __future__ import annotations

import importlib.util
import shutil
from math import nan
from pathlib import Path

from kdsearch.search import launch
from kdsearch.search.config import parse_sweep
from kdsearch.search.past import past_trials
from kdsearch.search.schedulers import make_scheduler
from kdsearch.search.trialdb import TrialDatabase
from kdsearch.search.trialdb import operations as op
from kdsearch.trainables.constant import ConstantPack
from kdsearch.trainables.protocol import MemberState
from kdsearch.trainables.seeds import derive_seed

_SPEC = importlib.util.spec_from_file_location("driver", Path(__file__).with_name("driver.py"))
_DRIVER = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_DRIVER)
history_of = _DRIVER.history_of

SPACE = {
    "kind": "ktg",
    "target": "s",
    "auxiliary": {"count": 2, "models": ["s", "w"]},
    "gates": ["through", "cutoff", "linear"],
}


class CurvePack(ConstantPack):
    """Errors that change from epoch to epoch and depend on seed and epoch alone."""

    def _metrics(self, member, *, diverged):
        error = 100 * derive_seed(member.seed, "error", self._epoch[member.number]) / 2**63
        return {**super()._metrics(member, diverged=diverged), "1/val_error": nan if diverged else error}


class CutError(Exception):
    """The driver is killed."""


class Driver(_DRIVER.Driver):
    """As Ray would run it on one worker: stopped members leave before the next epoch, members are checkpointed.

    kill_after: results after which the driver is gone.
    """

    def __init__(self, sweep, clock, folder, *, kill_after=None, scheduler=None, **options):
        super().__init__(sweep, clock, folder, scheduler=scheduler or make_scheduler(sweep), **options)
        self.coordinator._concurrency = 1
        self.left = kill_after
        self.reported = []  # (number, epoch) in order

    def _run(self, job):
        every = self.coordinator.sweep.run.checkpoint_every
        pack = CurvePack(self.coordinator.sweep.trainable_settings(), job.members)
        while pack.active:
            if self.left == 0:
                raise CutError
            reports = pack.run_epoch()
            self.reported += [(r.number, r.epoch) for r in reports]
            saved = {}
            for report in reports:
                due = (every and report.epoch % every == 0) or report.epoch in job.save_at
                if report.state is MemberState.RUNNING and due:
                    path = self.coordinator.checkpoints / f"{report.number}-{report.epoch}.pt"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    pack.save(report.number, path)
                    saved[report.number] = str(path)
            for number in self.coordinator.on_result(job.id, reports, None, saved):
                pack.drop(number)
            self.left = None if self.left is None else self.left - 1


def sweep_of(searcher=None, run=None, scheduler=None, *, space=None, **trainable):
    return parse_sweep(
        {
            "name": "s",
            "space": space or SPACE,
            "trainable": {"kind": "constant", "epochs": 6, **trainable},
            "searcher": searcher or {"kind": "random", "trials": 10},
            "scheduler": scheduler or {"kind": "asha", "rungs": [2, 4]},
            "run": {"pack": 4, **(run or {})},
        },
        "test",
    )


def verdicts(driver):
    return [row.data for row in driver.rows(op.AddEvents) if row.kind == "scheduler"]


def ends(driver):
    return {row.number: row for row in driver.rows(op.FinishTrials)}


def standing(database):
    """What must not depend on interruptions: how trials ended, and the first decision of each at each rung."""
    trials = {t.number: (str(t.state), t.error, t.last_epoch, t.best_error) for t in database.trials("s")}
    decided = {}
    for event in database.events("s", kinds=["scheduler"]):
        found = event.data
        decided.setdefault(
            (found["trial"], found["rung"]),
            tuple(found[name] for name in ("value", "cutoff", "recorded", "stopped")),
        )
    return trials, decided


def run_with_cuts(sweep, clock, folder, template, cuts):
    """Run a sweep whose driver is killed after each number of results, with the last operations lost on the way."""
    folder.mkdir()
    shutil.copy(template, folder / "t.db")
    with TrialDatabase.open(f"sqlite:///{folder / 't.db'}", clock=clock) as database:
        database.create_sweep(
            "s", kind="sweep", trainable="constant", settings={}, seed=0, code_version="", environment={}
        )
        reported = []
        for results, lost in [*cuts, (None, 0)]:
            history = past_trials(database, "s")
            scheduler = launch._scheduler(sweep, database, history)
            driver = Driver(sweep, clock, folder, kill_after=results, scheduler=scheduler, history=history)
            try:
                driver.run()
            except CutError:
                driver.operations = driver.operations[: len(driver.operations) - lost]
            for operation in driver.operations:
                database.apply([operation])
            reported += driver.reported
        return *standing(database), reported
