"""Replays on tables run on Ray like any sweep, and the simulator decides as Ray does."""

from __future__ import annotations

import contextlib
import csv

import numpy as np
import pytest

from kdsearch.search import launch
from kdsearch.search.config import parse_sweep
from kdsearch.search.coordinator import Coordinator
from kdsearch.search.progress import Quiet
from kdsearch.search.schedulers import make_scheduler
from kdsearch.search.searchers import make_searcher
from kdsearch.search.simulator import Simulator, VirtualClock, table_packs
from kdsearch.search.trialdb import TrialDatabase, Writer
from kdsearch.search.trialdb.record import SCHEDULER
from kdsearch.spaces import space_from_spec
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.table.kind import load_table
from kdsearch.trainables.table.settings import TableSettings

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]

EPOCHS = 9
SPACE = {
    "kind": "ktg",
    "target": "s",
    "auxiliary": {"count": 2, "models": ["s", "w"]},
    "gates": ["through", "cutoff", "linear"],
    "restrictions": [{"auxiliary models": ["w", "w"]}, {"auxiliary->auxiliary": ["cutoff", "cutoff"]}],
}


@contextlib.contextmanager
def quiet(coordinator):
    yield Quiet()


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Every graph of the space, two curves each."""
    path = tmp_path_factory.mktemp("table") / "table.csv.gz"
    space, rng = space_from_spec(SPACE), np.random.default_rng(3)
    import gzip

    with gzip.open(path, "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*space.parameter_names, "repeat", "epoch", "1/val_error", "seconds"])
        for configuration in space.enumerate(classes=True):
            values = [configuration[name] for name in space.parameter_names]
            level = rng.uniform(5, 60)
            for repeat in range(2):
                for epoch in range(1, EPOCHS + 1):
                    error = level + 20 / epoch + rng.normal(0, 2)
                    writer.writerow([*values, repeat, epoch, f"{error:.6f}", 0.25])
    return path


def sweep_of(trainable, *, pack=1, scheduler=None, searcher=None, name="s"):
    data = {
        "name": name,
        "seed": 5,
        "space": SPACE,
        "trainable": {"kind": "table", **trainable},
        "searcher": searcher or {"kind": "random", "trials": 24},
        "run": {"pack": pack, "max_concurrent": 1},
    }
    if scheduler:
        data["scheduler"] = scheduler
    return parse_sweep(data, "test")


def on_ray(sweep, db, clock):
    launch.start(sweep, "sweep", launch.Launch(db=db, clock=clock), quiet)


def simulated(sweep, db):
    """The same sweep in the simulator, with a database of its own."""
    curves = load_table(TableSettings.from_mapping(sweep.trainable_settings()), None)
    clock = VirtualClock()
    with TrialDatabase.open(db, clock=clock) as database:
        database.create_sweep(
            name=sweep.name,
            kind="sweep",
            trainable="table",
            settings=sweep.resolved(),
            seed=sweep.seed,
            code_version="",
            environment={},
        )
        lease = database.claim(sweep.name)
        with Writer(database, sweep.name, lease=lease) as writer:
            coordinator = Coordinator(
                sweep,
                make_searcher(sweep, first_number=0),
                writer.submit,
                baselines=[],
                folder=launch.files_folder(db),
                concurrency=1,
                clock=clock,
                host="simulator",
                device="cpu",
                scheduler=make_scheduler(sweep),
            )
            # on Ray, no job is taken ahead where fewer packs are wanted than fit
            Simulator(
                coordinator, table_packs(curves), clock, workers=1, timed=curves.timed, staged=False
            ).run()


def told(db):
    """Trials, verdicts in their order, and the order in which trials ended."""
    with TrialDatabase.open(db, create=False, read_only=True) as database:
        trials = database.trials("s")
        verdicts = [event.data for event in database.events("s", kinds=[SCHEDULER])]
        curves = database.curves_frame("s", metrics=["val_error"])
    rows = [
        (t.number, t.configuration_hash, t.seed, str(t.state), t.error, t.best_error, t.last_epoch, t.message)
        for t in trials
    ]
    return rows, verdicts, [t.number for t in sorted(trials, key=lambda t: (t.ended, t.number))], curves


@pytest.mark.parametrize(
    ("pack", "scheduler"),
    [(1, None), (1, {"kind": "asha", "rungs": [1, 2, 4], "reduction_factor": 2}),
     (5, {"kind": "asha", "rungs": [1, 3], "reduction_factor": 3}),
     (3, {"kind": "asha", "rungs": [1, 3], "reduction_factor": 2, "mode": "promote"})],
)  # fmt: skip
def test_the_simulator_decides_as_ray_does(ray_slots, table, tmp_path, clock, pack, scheduler):
    sweep = sweep_of({"file": str(table), "epochs": EPOCHS}, pack=pack, scheduler=scheduler)
    on_ray(sweep, f"sqlite:///{tmp_path / 'ray.db'}", clock)
    simulated(sweep, f"sqlite:///{tmp_path / 'simulated.db'}")
    ray, simulation = told(f"sqlite:///{tmp_path / 'ray.db'}"), told(f"sqlite:///{tmp_path / 'simulated.db'}")
    assert ray[0] == simulation[0]
    assert ray[1] == simulation[1]
    assert bool(ray[1]) == bool(scheduler)
    assert ray[2] == simulation[2]
    assert ray[3].equals(simulation[3])


def test_a_finished_sweep_is_a_table_for_another(ray_slots, table, tmp_path, clock):
    db = f"sqlite:///{tmp_path / 't.db'}"
    on_ray(
        sweep_of({"file": str(table)}, searcher={"kind": "enumeration", "repeats": 3}, name="first"),
        db,
        clock,
    )
    on_ray(sweep_of({"sweep": "first"}, name="s"), db, clock)
    with TrialDatabase.open(db, create=False, read_only=True) as database:
        first = database.trials_frame("first")
        again = database.trials_frame("s")
        assert "exported" not in database.sweep("s").settings["trainable"]
        content = database.events("s", kinds=["data"])[0].data["content"]
    names = list(space_from_spec(SPACE).parameter_names)
    known = {(*row[:-1], round(row[-1], 6)) for row in first[[*names, "error"]].itertuples(index=False)}
    assert len(content) == 64
    assert {
        (*row[:-1], round(row[-1], 6)) for row in again[[*names, "error"]].itertuples(index=False)
    } <= known


def test_a_sweep_that_is_not_finished_is_no_table(ray_slots, tmp_path, clock):
    db = f"sqlite:///{tmp_path / 't.db'}"
    with TrialDatabase.open(db) as database:
        sweep = sweep_of({"sweep": "none"}, name="begun")
        database.create_sweep(
            name="begun",
            kind="sweep",
            trainable="table",
            settings=sweep.resolved(),
            seed=0,
            code_version="",
            environment={},
        )
    with pytest.raises(UsageError, match="sweep begun is running"):
        on_ray(sweep_of({"sweep": "begun"}), db, clock)
