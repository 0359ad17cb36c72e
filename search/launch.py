"""From a sweep file to a finished sweep: database, searcher, Ray, progress, and what was found.

A resume is the same walk: searcher and coordinator are built anew, ask for the same trials, and those that the
database has already are answered from it; a scheduler is given back what it decided.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kdsearch.analysis.conditions import ConditionRow
from kdsearch.search.baselines import baselines_for
from kdsearch.search.changes import TRIALS, change_events, differences
from kdsearch.search.checkpoints import Behind, CheckpointFiles
from kdsearch.search.code_version import code_version
from kdsearch.search.config import SweepFile, parse_sweep
from kdsearch.search.coordinator import Coordinator
from kdsearch.search.environment import environment
from kdsearch.search.fleets import data_root_of, drivers_data, joined
from kdsearch.search.found_data import FoundData, check_same_data, events_of, write_notes
from kdsearch.search.imported import check_not_imported
from kdsearch.search.notices import ANEW, CHECKPOINT, CLUSTER, standing
from kdsearch.search.past import past_trials
from kdsearch.search.progress import Display
from kdsearch.search.runner import Interrupted, RayOptions, Slots, ray_session, run
from kdsearch.search.schedulers import Scheduler, make_scheduler
from kdsearch.search.searchers import Chooser, make_searcher, nobody
from kdsearch.search.searchers.base import Note
from kdsearch.search.searchers.confirmation import DESIGN as CONFIRMATION
from kdsearch.search.searchers.policies import Look
from kdsearch.search.stores import (
    Store,
    keep_choice,
    known_store,
    new_store,
    note_of_gone,
    send_table,
)
from kdsearch.search.tables import with_table
from kdsearch.search.trial_states import PastTrial
from kdsearch.search.trialdb import Lease, TrialDatabase, Writer
from kdsearch.search.trialdb import operations as op
from kdsearch.search.trialdb.errors import DatabaseAwayError
from kdsearch.search.trialdb.places import parse_url, server_name, sqlite_path
from kdsearch.search.trialdb.record import SCHEDULER
from kdsearch.search.trialdb.states import ENDED, SweepState

_DELETING_S = 30.0  # that the end of a sweep waits for useless files to be deleted


def utc_now() -> datetime:
    """The clock that the command line passes in."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Where and how a sweep runs; nothing here changes its results."""

    db: str
    address: str | None = None
    allow_open: bool = False  # join a cluster that lets strangers in
    max_concurrent: int | None = None  # overrides the sweep file's
    data_root: Path | None = None
    data_root_given: bool = (
        False  # for every node of a cluster; else nodes look into their own environment first
    )
    storage: str | None = None  # folder or URL of checkpoints; None: as before, else beside the database
    ship_code: bool = False  # send kdsearch's code to the nodes of a cluster
    wait_s: float = 0.0  # how long to wait at the start for nodes that a pack fits on
    say: Callable[[str], None] = lambda _: None  # told what is waited for before a display is there
    command: str = ""
    clock: Callable[[], datetime] = utc_now


# the sweep as it is stored, and whether its best configuration is being confirmed -> the sweep to go on with
Revise = Callable[[SweepFile, bool], SweepFile]
OpenDisplay = Callable[[Coordinator], contextlib.AbstractContextManager[Display]]


def free_name(db: str, name: str) -> str:
    """The name itself, or the first of name-2, name-3, ... that the database does not hold; makes no database."""
    taken = stored_names(db)
    if name not in taken:
        return name
    return next(free for n in range(2, len(taken) + 3) if (free := f"{name}-{n}") not in taken)


def holds(db: str, name: str) -> bool:
    """Whether the database holds a sweep of that name; makes no database."""
    return name in stored_names(db)


def stored_names(db: str, *, read_only: bool = False) -> set[str]:
    """The names of a database's sweeps; makes no database. Opened to be written, an old one is brought up to date."""
    path = sqlite_path(parse_url(db))
    if path is not None and not path.exists():
        return set()
    with TrialDatabase.open(db, create=not read_only, read_only=read_only) as database:
        return {sweep.name for sweep in database.sweeps()}


def start(
    sweep: SweepFile, kind: str, launch: Launch, display: OpenDisplay, chooser: Chooser | None = None
) -> None:
    """Create the sweep in the database and run it to its end.

    Raises:
        KdsearchError: what is wrong with the data, the database, Ray or the sweep.
        Interrupted: a signal came.

    """
    store = new_store(launch.storage, files_folder(launch.db), sweep.name)
    answered = with_table(sweep, launch.db, store.folder)
    found = drivers_data(answered, launch)
    with _ray(sweep, launch) as slots, TrialDatabase.open(launch.db, clock=launch.clock) as database:
        send_table(store, answered.trainable_settings().get("exported"))
        options, found = joined(answered, launch, ray_options(sweep, launch), slots, store, found)
        database.create_sweep(
            name=sweep.name,
            kind=kind,
            trainable=sweep.trainable.kind,
            settings=sweep.resolved(),
            seed=sweep.seed,
            code_version=code_version(),
            environment={**environment(), "command": launch.command, "packs_at_a_time": slots.concurrency},
            events=[*events_of(found, launch.clock()), *store.events(launch.clock())],
        )
        with _driving(database, sweep.name, store, launch.say) as driving:
            _run(answered, driving, launch, _Means(options, slots, found), display, chooser)


def resume(
    name: str,
    launch: Launch,
    display: OpenDisplay,
    ask: Chooser | None = None,
    check: Callable[[SweepFile], None] | None = None,
    revise: Revise | None = None,
) -> bool:
    """Go on with a sweep where the database says it stands; False, and nothing was run, if it is finished.

    `ask` is asked where a person must choose; `check` may refuse the sweep before anything starts; `revise` may change
    it, which is written down before anything runs.

    Raises:
        UnknownNameError: the database holds no such sweep.
        SweepBusyError: another driver works on it.
        UsageError: the data are not those that the sweep began with.

    """
    with (
        TrialDatabase.open(launch.db, create=False, clock=launch.clock) as database,
        _driving(
            database,
            name,
            known_store(database, launch.storage, known_files_folder(launch.db), name),
            launch.say,
        ) as driving,
    ):
        # read behind the claim: what a driver that was killed left in its spool is in the database now
        row = database.sweep(name)
        check_not_imported(name, row.kind)
        stored = parse_sweep(row.settings, f"sweep {name}")
        sweep = stored if revise is None else revise(stored, _confirming(database, name))
        change = _Change(stored, sweep, row.state)
        if change.state == SweepState.COMPLETE:
            change.keep(driving, launch)
            return False
        if check is not None:
            check(sweep)
        answered = with_table(sweep, launch.db, driving.store.folder)
        seen = drivers_data(answered, launch)
        if seen is not None:
            check_same_data(sweep, database, seen)
        decided = [event.data for event in database.events(name, kinds=["decision"])]
        chooser = None if ask is None else replayed(decided, ask)
        with _ray(sweep, launch) as slots:
            send_table(driving.store, answered.trainable_settings().get("exported"))
            options, found = joined(answered, launch, ray_options(sweep, launch), slots, driving.store, seen)
            check_same_data(sweep, database, found)
            history = past_trials(database, name, driving.store)
            notes = note_of_gone({n: each.checkpoint for n, each in history.items() if each.checkpoint_epoch})
            keep_choice(database, name, driving.store)
            change.keep(driving, launch)  # nothing is written of a resume that is refused
            write_notes(database, name, [*found.notes, *notes])
            for note in notes:
                launch.say(note)
            _run(answered, driving, launch, _Means(options, slots, found, history), display, chooser)
    return True


def _confirming(database: TrialDatabase, name: str) -> bool:
    """Whether trials of the sweep's confirmation have been asked for."""
    return any(trial.sampling_design == CONFIRMATION for trial in database.trials(name))


@dataclass(frozen=True)
class _Change:
    """What a resume changes of a sweep; nothing, where the two are the same."""

    before: SweepFile
    after: SweepFile
    stored: SweepState

    @property
    def state(self) -> SweepState:
        """The sweep's state with the change: a finished sweep with more trials to do is finished no more."""
        grown = any(each.key == TRIALS for each in differences(self.before, self.after))
        return SweepState.RUNNING if grown else self.stored

    def keep(self, driving: _Driving, launch: Launch) -> None:
        """Write the change down."""
        found = differences(self.before, self.after)
        if not found:
            return
        driving.database.change_sweep(
            self.before.name,
            settings=self.after.resolved(),
            state=self.state,
            events=change_events(
                found,
                command=launch.command,
                now=launch.clock(),
                withdrawn=sorted(_first_notes(self.before) - _first_notes(self.after)),
            ),
            lease=driving.lease,
        )


def _first_notes(sweep: SweepFile) -> set[str]:
    """What a searcher says of itself before it has asked for anything."""
    searcher = make_searcher(sweep, first_number=0, chooser=nobody)
    return {each.text for each in searcher.drain() if isinstance(each, Note)}


def replayed(decided: Sequence[Mapping[str, Any]], ask: Chooser) -> Chooser:
    """Repeat the choices that a person made before the sweep was interrupted, then ask."""

    def choose(look: Look, rows: Sequence[ConditionRow]) -> tuple[ConditionRow | None, str]:
        for past in decided:
            if (past["space"], past["look"]) == (look.space, look.number):
                chosen = [row for row in rows if (row.group, row.value) == (past["group"], past["value"])]
                return (chosen[0] if chosen else None), str(past["chooser"])
        return ask(look, rows)

    return choose


def files_folder(db: str) -> Path:
    """Where weights and checkpoints lie: beside the database file, or in the current folder for a server's database."""
    url = parse_url(db)
    path = sqlite_path(url)
    if path is not None:
        return path.resolve().with_name(f"{path.name}.files")
    return Path(f"{server_name(url)}.files").resolve()


def known_files_folder(db: str) -> Path:
    """Where those of a sweep lie that has begun; earlier versions had one folder for all databases of servers."""
    folder, earlier = files_folder(db), Path("kdsearch.files").resolve()
    server = sqlite_path(parse_url(db)) is None
    return earlier if server and earlier.is_dir() and not folder.exists() else folder


@dataclass(frozen=True, kw_only=True)
class _Driving:
    """A sweep that this process is the driver of."""

    database: TrialDatabase
    lease: Lease
    writer: Writer
    behind: Behind
    store: Store


@dataclass(frozen=True)
class _Means:
    """What a sweep runs with: the cluster and the data, once both were looked at."""

    options: RayOptions
    slots: Slots
    found: FoundData
    history: Mapping[int, PastTrial] = field(default_factory=dict)  # what a resume brings back


@contextlib.contextmanager
def _driving(
    database: TrialDatabase, name: str, store: Store, say: Callable[[str], None]
) -> Iterator[_Driving]:
    """Become the sweep's driver, so that no second one works on it; its writer keeps the lease alive."""
    files = CheckpointFiles(store.checkpoints, store.storage)
    lease = database.claim(name)
    behind = Behind(files)
    try:
        if standing(database.events(name, kinds=[CLUSTER, CHECKPOINT])):
            database.add_event(name, CLUSTER, {"what": ANEW})
        with Writer(database, name, lease=lease, hears=behind) as writer:
            yield _Driving(database=database, lease=lease, writer=writer, behind=behind, store=store)
        with contextlib.suppress(DatabaseAwayError):  # the next resume does it
            if database.sweep(name).state is SweepState.COMPLETE:  # and no row waits in a spool
                behind.clear()
        _delete_the_rest(behind, store, say)
    finally:
        behind.close(0.0)
        with contextlib.suppress(
            DatabaseAwayError
        ):  # it runs out by itself, and the writer has said what there is
            database.release(lease)


def _delete_the_rest(behind: Behind, store: Store, say: Callable[[str], None]) -> None:
    """Wait until useless files are gone; a storage that hangs keeps no sweep from its end."""
    if behind.close(1.0):
        return
    say("deleting checkpoints that nobody needs any more ...")
    if not behind.close(_DELETING_S):
        place = store.storage.place(store.checkpoints)
        say(f"the storage does not answer: checkpoints that nobody needs any more stay in {place}")


def _run(
    sweep: SweepFile,
    driving: _Driving,
    launch: Launch,
    means: _Means,
    display: OpenDisplay,
    chooser: Chooser | None,
) -> None:
    store, database, writer = driving.store, driving.database, driving.writer
    slots = means.slots
    baselines = baselines_for(sweep, store.folder, launch.data_root, store.storage, means.found.contents)
    history = means.history
    driving.behind.forget(number for number, past in history.items() if past.state in ENDED)
    _state(writer, sweep.name, SweepState.RUNNING, launch)
    outcome = SweepState.FAILED
    try:
        coordinator = Coordinator(
            sweep,
            make_searcher(sweep, first_number=len(baselines), chooser=chooser),
            writer.submit,
            baselines=baselines,
            folder=store.folder,
            store=store,
            concurrency=slots.concurrency,
            clock=launch.clock,
            host=socket.gethostname(),
            device="cuda" if slots.gpus_per_pack else "cpu",
            history=history,
            scheduler=_scheduler(sweep, database, history),
        )
        with display(coordinator) as shown:
            run(coordinator, means.options, slots, shown.tick)
            outcome = SweepState.COMPLETE
    except (Interrupted, KeyboardInterrupt):
        outcome = SweepState.INTERRUPTED
        raise
    finally:
        if outcome is not SweepState.COMPLETE:
            lost = op.Loss(reason=f"the sweep was {outcome}", at=launch.clock())
            writer.submit(op.MarkRunningLost(sweep.name, (lost,)))
        _state(writer, sweep.name, outcome, launch)
    writer.flush()


def _state(writer: Writer, name: str, state: SweepState, launch: Launch) -> None:
    writer.submit(op.SetSweepState(name, (op.StateChange(state=state, at=launch.clock()),)))


def _scheduler(
    sweep: SweepFile, database: TrialDatabase, history: Mapping[int, PastTrial]
) -> Scheduler | None:
    """Build the sweep's scheduler and put it where it stood."""
    scheduler = make_scheduler(sweep)
    if scheduler is not None:
        decided = database.events(sweep.name, kinds=[SCHEDULER])
        scheduler.restore([event.data for event in decided], history)
    return scheduler


def ray_options(sweep: SweepFile, launch: Launch) -> RayOptions:
    """How to reach Ray, and what a pack takes."""
    data_root, drivers_root = data_root_of(launch)
    return RayOptions(
        address=launch.address,
        allow_open=launch.allow_open,
        cpus=sweep.run.cpus,
        gpus=sweep.run.gpus,
        max_concurrent=launch.max_concurrent or sweep.run.max_concurrent,
        data_root=data_root,
        drivers_root=drivers_root,
        resources=sweep.run.resources,
        ship_code=launch.ship_code,
        wait_s=launch.wait_s,
    )


def _ray(sweep: SweepFile, launch: Launch) -> Any:
    return ray_session(ray_options(sweep, launch), launch.say)


__all__ = [
    "Launch",
    "environment",
    "files_folder",
    "free_name",
    "holds",
    "replayed",
    "resume",
    "start",
    "utc_now",
]
