"""The driver is killed at every single operation that it submits, with any part of its queue not yet written.

Packs run in this process, one after the other, as on one worker; database and checkpoint files are real. What a killed
driver leaves is exact: the operations that were stored, and the files that the worker had written by then.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections import deque
from pathlib import Path

import pytest

from kdsearch.search import launch
from kdsearch.search.checkpoints import CheckpointFiles, useless
from kdsearch.search.config import parse_sweep
from kdsearch.search.coordinator import Coordinator, Idle
from kdsearch.search.past import past_trials
from kdsearch.search.searchers import make_searcher
from kdsearch.search.trialdb import TrialDatabase
from kdsearch.search.trialdb.states import ENDED
from kdsearch.trainables.constant import ConstantPack
from kdsearch.trainables.protocol import MemberState


def neighbour(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STANDING = neighbour("standing")

PARAMETERS = {
    "kind": "parameters",
    "parameters": {
        "x": {"type": "float", "low": 0, "high": 1},
        "c": {"type": "categorical", "values": ["a", "b", "c"]},
    },
}
GRAPHS = {
    "kind": "ktg",
    "target": "s",
    "auxiliary": {"count": 1, "models": ["s", "w"]},
    "gates": ["through", "cutoff", "linear"],
    "restrictions": [{"label->auxiliary": ["through"]}],
}
CASES = {
    "random": {"space": PARAMETERS, "searcher": {"kind": "random", "trials": 5}},
    "tpe": {"space": PARAMETERS, "searcher": {"kind": "tpe", "trials": 6, "startup": 2, "generation": 2}},
    "asha": {
        "space": PARAMETERS,
        "searcher": {"kind": "random", "trials": 6},
        "scheduler": {"kind": "asha", "rungs": [1, 2]},
    },
    "tpe and asha": {
        "space": PARAMETERS,
        "searcher": {"kind": "tpe", "trials": 6, "startup": 2, "generation": 2, "confirm": 1},
        "scheduler": {"kind": "asha", "rungs": [1, 2]},
    },
    "asha that promotes": {
        "space": PARAMETERS,
        "searcher": {"kind": "random", "trials": 6},
        "scheduler": {"kind": "asha", "rungs": [1, 2], "mode": "promote"},
    },
    "asha where trials diverge": {
        "space": PARAMETERS,
        "searcher": {"kind": "random", "trials": 4},
        "scheduler": {"kind": "asha", "rungs": [1, 2]},
        "trainable": {"kind": "constant", "epochs": 4, "curve": 20, "wobble": 10, "diverge": [1, 2]},
    },
    "refinement": {
        "space": GRAPHS,
        "searcher": {"kind": "refinement", "draws": 8, "limit": 6, "repeats": 1, "min_draws": 2},
    },
}


class KilledError(Exception):
    """The driver is killed."""


class Queue:
    """The way to the database: what was submitted is stored `lag` operations later; `left`: submits until the kill."""

    def __init__(self, database, files, *, lag, left):
        self._database, self._files, self._lag, self._left = database, files, lag, left
        self._waiting = deque()
        self.submitted = 0

    def submit(self, operation):
        if self._left == self.submitted:
            raise KilledError
        self.submitted += 1
        self._waiting.append(operation)
        if len(self._waiting) > 2 * self._lag:
            self.store(self._lag)

    def store(self, keep=0):
        batch = [self._waiting.popleft() for _ in range(len(self._waiting) - keep)]
        self._database.apply(batch)
        self._files.delete(useless(batch))


def drive(sweep, database, folder, clock, *, lag=0, left=None):
    """Run a sweep from where the database says it stands; False if the driver was killed."""
    history = past_trials(database, "s")
    files = CheckpointFiles(folder / "checkpoints" / "s")
    files.delete({number: None for number, past in history.items() if past.state in ENDED})
    queue = Queue(database, files, lag=lag, left=left)
    resumed = []
    try:
        coordinator = Coordinator(
            sweep,
            make_searcher(sweep, first_number=0),
            queue.submit,
            baselines=[],
            folder=folder,
            concurrency=1,
            clock=clock,
            host="here",
            device="cpu",
            history=history,
            scheduler=launch._scheduler(sweep, database, history),
        )
        while not isinstance(job := coordinator.next_job(), Idle):
            resumed += [(each.number, epoch_of(each.checkpoint)) for each in job.members]
            work(coordinator, job)
        assert job is Idle.DONE
    except KilledError:
        return queue, resumed, history, False
    queue.store()
    return queue, resumed, history, True


def work(coordinator, job):
    """As the worker does it: an epoch, then the checkpoints that are due, then the driver hears of both."""
    every, pack = (
        coordinator.sweep.run.checkpoint_every,
        ConstantPack(coordinator.sweep.trainable_settings(), job.members),
    )
    while pack.active:
        reports, saved = pack.run_epoch(), {}
        for report in reports:
            due = (every and report.epoch % every == 0) or report.epoch in job.save_at
            if report.state is MemberState.RUNNING and due:
                path = coordinator.checkpoints / f"{report.number}-{report.epoch}.pt"
                path.parent.mkdir(parents=True, exist_ok=True)
                pack.save(report.number, path)
                saved[report.number] = str(path)
        for number in coordinator.on_result(job.id, reports, None, saved):
            pack.drop(number)


def epoch_of(checkpoint):
    return 0 if checkpoint is None else int(Path(checkpoint).stem.partition("-")[2])


def sweep_of(case, every):
    trainable = {
        "kind": "constant",
        "epochs": 4,
        "curve": 20,
        "wobble": 10,
        "effects": {"2->1=linear": -20, "c=a": 9},
    }
    data = {"name": "s", "seed": 3, "trainable": trainable, "run": {"pack": 1, "checkpoint_every": every}}
    return parse_sweep({**data, **CASES[case]}, "a test")


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "t.db"
    TrialDatabase.open(f"sqlite:///{path}").close()
    return path


def database_of(sweep, folder, empty, clock):
    folder.mkdir()
    shutil.copy(empty, folder / "t.db")
    database = TrialDatabase.open(f"sqlite:///{folder / 't.db'}", clock=clock)
    database.create_sweep(
        "s",
        kind="sweep",
        trainable="constant",
        settings=sweep.resolved(),
        seed=3,
        code_version="",
        environment={},
    )
    return database


def check_kills(case, every, clock, tmp_path, empty, *, kills):
    """Kill a sweep's driver at `kills` of its operations (None: at each), resume it, and kill the second driver too."""
    sweep = sweep_of(case, every)
    with database_of(sweep, tmp_path / "whole", empty, clock) as database:
        queue, *_ = drive(sweep, database, tmp_path / "whole", clock, lag=4)
    whole = STANDING.standing(tmp_path / "whole" / "t.db")
    assert STANDING.broken(tmp_path / "whole" / "t.db", epochs=4) == []
    step = 1 if kills is None else max(1, queue.submitted // kills)
    for left in range(step // 2, queue.submitted, step):
        folder, lag = tmp_path / str(left), (0, 3, 9)[left % 3]
        with database_of(sweep, folder, empty, clock) as database:
            *_, first = drive(sweep, database, folder, clock, lag=lag, left=left)
            drive(sweep, database, folder, clock, lag=lag, left=left // 2 + 3)
            _, resumed, history, third = drive(sweep, database, folder, clock)
        before = {number for number, past in history.items() if past.state in ENDED}
        assert (first, third) == (False, True)
        assert not before & {number for number, _ in resumed}  # no finished trial runs again
        saved = {n: past.checkpoint_epoch for n, past in history.items() if n not in before}
        begun = dict(reversed(resumed))  # a trial that is promoted begins again and again
        assert all(epoch == saved.get(n, 0) for n, epoch in begun.items())  # the checkpoint is there
        assert STANDING.standing(folder / "t.db") == whole
        assert STANDING.broken(folder / "t.db", epochs=4) == []
        assert list(folder.glob("checkpoints/s/*")) == []
        shutil.rmtree(folder)


@pytest.mark.parametrize("every", [0, 1])
@pytest.mark.parametrize("case", CASES)
def test_a_driver_that_is_killed_leaves_a_sweep_that_ends_as_if_it_had_not_been(
    case, every, clock, tmp_path, empty
):
    check_kills(case, every, clock, tmp_path, empty, kills=4)


@pytest.mark.parametrize("case", ["asha", "asha that promotes"])
def test_a_trial_that_was_stopped_ends_so_where_only_the_decision_was_written(case, clock, tmp_path, empty):
    """Killed between the decisions at the end and the ends of their trials: nothing is trained any more."""
    sweep = sweep_of(case, 0)
    with database_of(sweep, tmp_path / "whole", empty, clock) as database:
        queue, *_ = drive(sweep, database, tmp_path / "whole", clock)
    whole = STANDING.standing(tmp_path / "whole" / "t.db")
    for left in range(queue.submitted - 4, queue.submitted):
        folder = tmp_path / str(left)
        with database_of(sweep, folder, empty, clock) as database:
            drive(sweep, database, folder, clock, left=left)
            decided = {
                e.data["trial"] for e in database.events("s", kinds=["scheduler"]) if e.data["stopped"]
            }
            _, resumed, *_ = drive(sweep, database, folder, clock)
        assert not decided & {number for number, _ in resumed}
        assert STANDING.standing(folder / "t.db") == whole


def test_a_trial_that_diverges_again_counts_once_where_its_end_was_not_written(clock, tmp_path, empty):
    check_kills("asha where trials diverge", 0, clock, tmp_path, empty, kills=None)


@pytest.mark.kill
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("every", [0, 1, 2])
@pytest.mark.parametrize("case", CASES)
def test_a_driver_that_is_killed_at_any_operation_leaves_a_sweep_that_ends_as_if_it_had_not_been(
    case, every, clock, tmp_path, empty
):
    check_kills(case, every, clock, tmp_path, empty, kills=None)
