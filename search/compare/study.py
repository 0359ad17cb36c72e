"""All runs of a comparison: in this process or in several, with a trial database where one is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from kdsearch.analysis.anytime import Comparison, compare
from kdsearch.analysis.traces import Trace
from kdsearch.search.code_version import code_version
from kdsearch.search.compare.runs import Run, Truth, derived_name, simulate
from kdsearch.search.compare.settings import CompareFile, parse_comparison
from kdsearch.search.config import SweepFile, parse_sweep
from kdsearch.search.simulator import VirtualClock
from kdsearch.search.tables import with_table
from kdsearch.search.trialdb import TrialDatabase, Writer
from kdsearch.search.trialdb import operations as op
from kdsearch.search.trialdb.record import DATA, NOTE
from kdsearch.search.trialdb.states import SweepState
from kdsearch.trainables.registry import trainable_kind
from kdsearch.trainables.table.kind import load_table
from kdsearch.trainables.table.settings import TableSettings

_CHUNKS: Final = 8  # for each process: many enough that none waits long for the last one


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """A comparison that is ready to run: checked, its table read."""

    file: CompareFile
    sweeps: Mapping[str, SweepFile]
    truth: Truth
    notes: Sequence[str]
    content: str  # digest of the table
    data_root: Path | None = None

    @property
    def best(self) -> int:
        """Configurations that count as the best."""
        return self.truth.best(self.file.best)

    def run_of(self, entry: str, number: int) -> Run:
        """One run, ready to be simulated."""
        return Run(
            entry=entry,
            number=number,
            sweep=self.sweeps[entry],
            seed=self.file.seed_of(entry, number),
            workers=self.file.workers,
            axis=self.file.budget.axis,
            limit=self.file.budget.limit,
        )

    def compared(self, traces: Mapping[str, Sequence[Trace]]) -> Comparison:
        """The comparison of these traces, by entry."""
        return compare(
            traces,
            reference=self.file.reference,
            axis=self.file.budget.axis,
            budget=self.file.budget.limit,
            best=self.best,
            alpha=self.file.statistics.alpha,
            lost=self.file.statistics.diverged_error,
            seed=self.file.seed,
        )


def prepare(file: CompareFile, where: str, *, db: str, folder: Path, data_root: Path | None) -> Study:
    """Check a comparison and read its table.

    db, folder: the database of `trainable.sweep` where `trainable.db` names none, and where that sweep is written to.

    Raises:
        KdsearchError: the file, an entry or the table is wrong, or the table lacks configurations of the space.

    """
    probe = parse_sweep(
        {
            "name": file.name,
            "space": file.space,
            "trainable": file.trainable,
            "searcher": {"kind": "random", "trials": 1},
        },
        where,
    )
    answered = with_table(probe, db, folder)
    kind, settings = trainable_kind("table"), answered.trainable_settings()
    notes = kind.check_data(settings, data_root)
    table = load_table(TableSettings.from_mapping(settings), data_root)
    resolved = file.model_copy(update={"trainable": {"kind": "table", **answered.trainable.settings()}})
    return Study(
        file=resolved,
        sweeps=resolved.sweeps(where, table.epochs),
        truth=Truth(table, lost=file.statistics.diverged_error),
        notes=notes,
        content=kind.content(settings, data_root),
        data_root=data_root,
    )


def run_study(
    study: Study, *, processes: int = 1, keep: str | None = None, tick: Callable[[int], None] = lambda _: None
) -> dict[str, list[Trace]]:
    """Simulate every run; traces by entry, runs in order. tick is told how many runs are done.

    keep: URL of a trial database that gets each run as a sweep of its own.

    Raises:
        KdsearchError: what a run or the database raises.

    """
    wanted = [(entry, run) for run in range(study.file.runs) for entry in study.sweeps]
    found: dict[str, list[Trace]] = {entry: [] for entry in study.sweeps}
    for done, trace in enumerate(_traces(study, wanted, processes, keep), start=1):
        found[trace.entry].append(trace)
        tick(done)
    return {entry: sorted(traces, key=lambda trace: trace.run) for entry, traces in found.items()}


def _traces(
    study: Study, wanted: Sequence[tuple[str, int]], processes: int, keep: str | None
) -> Iterator[Trace]:
    if processes == 1 or keep is not None:  # a database has one writer
        for entry, run in wanted:
            yield _kept(study, entry, run, keep) if keep else simulate(study.run_of(entry, run), study.truth)
        return
    size = max(1, len(wanted) // (processes * _CHUNKS))
    rest = iter(wanted)
    chunks = list(iter(lambda: list(islice(rest, size)), []))
    told = (study.file.model_dump(mode="json", exclude_unset=True), study.data_root)
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_begin, initargs=told
    ) as pool:
        for traces in pool.map(_simulated, chunks):
            yield from traces


_HERE: list[Study] = []  # of a process of the pool


def _begin(data: Mapping[str, Any], data_root: Path | None) -> None:
    file = parse_comparison(data, "the comparison")
    _HERE[:] = [prepare(file, "the comparison", db="", folder=Path(), data_root=data_root)]


def _simulated(wanted: Sequence[tuple[str, int]]) -> list[Trace]:
    study = _HERE[0]
    return [simulate(study.run_of(entry, run), study.truth) for entry, run in wanted]


def _kept(study: Study, entry: str, number: int, url: str) -> Trace:
    """Simulate a run into a trial database."""
    run = study.run_of(entry, number)
    clock, name = VirtualClock(), derived_name(study.file.name, entry, number)
    sweep = parse_sweep({**run.sweep.resolved(), "name": name, "seed": run.seed}, name)
    with TrialDatabase.open(url, clock=clock) as database:
        database.create_sweep(
            name=name,
            kind="simulation",
            trainable="table",
            settings=sweep.resolved(),
            seed=run.seed,
            code_version=code_version(),
            environment={"simulated": True, "workers": study.file.workers},
        )
        database.add_event(name, DATA, {"content": study.content, "data_root": None})
        for text in study.notes:
            database.add_event(name, NOTE, {"text": text})
        lease = database.claim(name)
        try:
            with Writer(database, name, lease=lease) as writer:
                changed = Run(**{**vars(run), "sweep": sweep})
                trace = simulate(changed, study.truth, further=writer.submit, clock=clock)
                _end(writer, name, clock, done=trace.done)
        finally:
            database.release(lease)
    return trace


def _end(writer: Writer, name: str, clock: VirtualClock, *, done: bool) -> None:
    """Say how the simulation ended; what still ran when the budget was spent is lost."""
    at = clock()
    if not done:
        writer.submit(op.MarkRunningLost(name, (op.Loss(reason="the budget was spent", at=at),)))
    state = SweepState.COMPLETE if done else SweepState.INTERRUPTED
    writer.submit(op.SetSweepState(name, (op.StateChange(state=state, at=at),)))
