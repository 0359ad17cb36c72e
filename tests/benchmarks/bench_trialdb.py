"""How fast the trial database is on SQLite and on PostgreSQL, beside Optuna's storage on both. Run by hand:

    python tests/benchmarks/bench_trialdb.py --out trialdb.json

Written are 5,000 trials x 50 epochs x 10 metrics by default: by the bulk path (one operation for many trials), through
the driver's Writer (one operation for each epoch of a pack of eight, as a sweep submits them), and, fewer of them, with
a commit for every epoch of every trial. Times include the making of the rows. Optuna keeps one metric a step, each with
a commit of its own. Then what `kdsearch status` and a report read is timed. PostgreSQL is the one of the tests, with
its durable writes on. Goals: 100 times Optuna's metric values a second on both engines; status and frames in a second.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState as OptunaState

from kdsearch.analysis.auc import auc
from kdsearch.analysis.conditions import condition_table
from kdsearch.analysis.edf import edf, edf_band
from kdsearch.search.trialdb import (
    AddDraws,
    AddSpaces,
    AddTrials,
    AttemptStart,
    DrawRow,
    FinishTrials,
    MetricRow,
    RecordMetrics,
    ResultRow,
    SpaceRow,
    StartAttempts,
    TrialDatabase,
    TrialRow,
    TrialState,
    Writer,
    read_record,
)
from kdsearch.spaces import configuration_key, space_from_spec

SPEC = {
    "kind": "ktg",
    "target": "resnet32",
    "auxiliary": {"count": 2, "models": ["resnet32", "wrn28-2"]},
    "gates": ["through", "cutoff", "linear"],
}
METRICS = [f"{node}/{name}" for node in (1, 2, 3) for name in ("train_loss", "val_loss", "val_error")] + [
    "seconds"
]
PACK = 8
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Sweep:
    """A made-up sweep: real graphs, errors that depend on a gate, noise for curves."""

    def __init__(self, trials: int, epochs: int) -> None:
        rng = np.random.default_rng(0)
        self.epochs = epochs
        self.space = space_from_spec(SPEC, name="A")
        self.configurations = [self.space.canonical(self.space.sample(rng)) for _ in range(trials)]
        gate = np.array([graph["label->1"] == "through" for graph in self.configurations])
        self.errors = np.clip(rng.normal(40 - 2 * gate, 8), 0, 100)
        self.noise = rng.random((trials, len(METRICS)))

    def beginning(self) -> list[AddSpaces | AddTrials | AddDraws]:
        """The space, its trials and one draw each."""
        space = SpaceRow(
            name="A", specification=SPEC, hash=self.space.hash, counts=asdict(self.space.counts())
        )
        trials = tuple(
            TrialRow(
                number=number,
                configuration=graph,
                configuration_hash=configuration_key(graph),
                seed=number,
                created=NOW,
                orbit_size=self.space.orbit_size(graph),
            )
            for number, graph in enumerate(self.configurations)
        )
        draws = tuple(DrawRow(space="A", draw=row.number, trial=row.number, fresh=True) for row in trials)
        return [AddSpaces("bench", (space,)), AddTrials("bench", trials), AddDraws("bench", draws)]

    def packs(self) -> Iterator[range]:
        """Trials in packs."""
        for first in range(0, len(self.errors), PACK):
            yield range(first, min(first + PACK, len(self.errors)))

    def epoch(self, number: int, step: int) -> MetricRow:
        """Ten metrics of one trial's epoch."""
        values = self.noise[number] / step
        return MetricRow(
            number=number, attempt=1, step=step, values=dict(zip(METRICS, values.tolist(), strict=True))
        )

    def start(self, pack: range) -> StartAttempts:
        """A pack begins."""
        return StartAttempts(
            "bench", tuple(AttemptStart(number=k, n=1, host="node", device="cpu", at=NOW) for k in pack)
        )

    def finish(self, pack: range) -> FinishTrials:
        """A pack ends."""
        return FinishTrials(
            "bench",
            tuple(
                ResultRow(
                    number=k,
                    attempt=1,
                    state=TrialState.COMPLETE,
                    at=NOW,
                    error=float(self.errors[k]),
                    best_error=float(self.errors[k]),
                    best_epoch=self.epochs,
                    last_epoch=self.epochs,
                    seconds=1.0,
                )
                for k in pack
            ),
        )


def fill_in_bulk(database: TrialDatabase, sweep: Sweep) -> None:
    """Eight packs to a transaction."""
    database.apply(sweep.beginning())
    packs = list(sweep.packs())
    for first in range(0, len(packs), 8):
        some = packs[first : first + 8]
        numbers = [number for pack in some for number in pack]
        epochs = (sweep.epoch(number, step) for number in numbers for step in range(1, sweep.epochs + 1))
        database.apply(
            [
                *(sweep.start(pack) for pack in some),
                RecordMetrics("bench", tuple(epochs)),
                *(sweep.finish(pack) for pack in some),
            ]
        )


def fill_by_writer(database: TrialDatabase, sweep: Sweep) -> dict[str, float]:
    """Submit as a driver does, as fast as it goes; return what `submit` took."""
    slowest = waited = 0.0
    with Writer(database, "bench", lease=database.claim("bench")) as writer:
        writer.submit(*sweep.beginning())
        for pack in sweep.packs():
            epochs = (
                RecordMetrics("bench", tuple(sweep.epoch(number, step) for number in pack))
                for step in range(1, sweep.epochs + 1)
            )
            for operation in (sweep.start(pack), *epochs, sweep.finish(pack)):
                before = time.perf_counter()
                writer.submit(operation)
                took = time.perf_counter() - before
                slowest, waited = max(slowest, took), waited + took
            while writer.status.waiting > 20_000:  # keep the queue from growing without end
                time.sleep(0.01)
    return {"slowest_submit_s": slowest, "all_submits_s": waited}


def fill_one_by_one(database: TrialDatabase, sweep: Sweep, commits: int) -> None:
    """Commit every epoch of every trial by itself, as a driver would that does not gather them."""
    lease = database.claim("bench")
    database.apply(sweep.beginning()[:2])
    trials = -(-commits // sweep.epochs)
    database.apply([sweep.start(range(trials))])
    for n in range(commits):
        number, step = divmod(n, sweep.epochs)
        database.apply([RecordMetrics("bench", (sweep.epoch(number, step + 1),))], lease=lease)


def optuna_reports(url: str, values: int, epochs: int) -> float:
    """Seconds in which Optuna's storage takes so many intermediate values, in trials of so many epochs."""
    storage = RDBStorage(url)
    study = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "bench")
    start = time.perf_counter()
    for n in range(values):
        step = n % epochs
        if step == 0:
            trial = storage.create_new_trial(study)
        storage.set_trial_intermediate_value(trial, step, 50.0 / (1 + step))
        if step == epochs - 1:
            storage.set_trial_state_values(trial, OptunaState.COMPLETE, [1.0])
    took = time.perf_counter() - start
    storage.remove_session()
    storage.engine.dispose()
    return took


def read_status(url: str) -> float:
    """Time what `kdsearch status` reads."""
    start = time.perf_counter()
    with TrialDatabase.open(url, create=False, read_only=True) as database:
        for sweep in database.sweeps():
            database.best_trial(sweep.name, without="confirmation")
            database.spaces(sweep.name)
            database.counts_by_state(sweep.name)
            database.driver_state(sweep.name)
    return time.perf_counter() - start


def read_whole(url: str) -> float:
    """Time what `kdsearch report` reads: everything, with all curves."""
    start = time.perf_counter()
    with TrialDatabase.open(url, create=False, read_only=True) as database:
        read_record(database, "bench")
    return time.perf_counter() - start


def read_statistics(url: str) -> dict[str, float]:
    """Time the reading of frames, the EDF with its band and AUC, and the AUC table."""
    start = time.perf_counter()
    with TrialDatabase.open(url, read_only=True) as database:
        trials, draws = database.trials_frame("bench"), database.draws_frame("bench")
        spaces = database.spaces("bench")
    read = time.perf_counter()
    answered = draws.groupby("trial").size().reindex(trials["number"], fill_value=0).to_numpy()
    errors = trials["error"].to_numpy()
    edf_band(edf(errors, answered))
    auc(errors, answered)
    curve = time.perf_counter()
    space = space_from_spec(spaces[0].specification, name="A")
    names = list(space.parameter_names)
    graphs = [dict(zip(names, row, strict=True)) for row in trials[names].itertuples(index=False, name=None)]
    labels = {group.name: [group.value_of(graph) for graph in graphs] for group in space.groups()}
    labelled = time.perf_counter()
    condition_table(errors, answered, labels, {group.name: group.values for group in space.groups()}, seed=0)
    end = time.perf_counter()
    return {
        "frames_s": read - start,
        "edf_and_auc_s": curve - read,
        "labels_s": labelled - curve,
        "auc_table_s": end - labelled,
        "edf_and_table_s": end - start,
    }


def read_curves(url: str, trials: int) -> dict[str, float]:
    """Time one trial's curves and one metric of a hundred trials."""
    with TrialDatabase.open(url, read_only=True) as database:
        start = time.perf_counter()
        database.curves_frame("bench", trials=[trials // 2])
        one = time.perf_counter()
        database.curves_frame("bench", trials=range(min(100, trials)), metrics=["val_error"])
        return {"one_trial_s": one - start, "hundred_trials_s": time.perf_counter() - one}


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in ("sqlalchemy", "pandas", "numpy", "psycopg", "optuna")},
    }


class Engine:
    """Where databases are made: SQLite's in a folder, PostgreSQL's on a server."""

    def __init__(self, name: str, folder: Path, server: Any = None) -> None:
        self.name, self._folder, self.server = name, folder, server

    def url(self, name: str) -> str:
        """The URL of a new database."""
        if self.server is None:
            return f"sqlite:///{self._folder / name}.db"
        return str(self.server.url(self.server.new_database()))

    def size(self, url: str) -> int:
        """Bytes that a database takes."""
        if self.server is None:
            return Path(url.removeprefix("sqlite:///")).stat().st_size
        name = url.rpartition("/")[2]
        return int(self.server.execute(f"SELECT pg_database_size('{name}')")[0][0])

    def settle(self, url: str) -> None:
        """Let the server do what it does by itself a minute later."""
        if self.server is not None:
            self.server.execute("VACUUM ANALYZE", url.rpartition("/")[2])


def new_database(url: str) -> TrialDatabase:
    """Make a database with an empty sweep."""
    database = TrialDatabase.open(url)
    database.create_sweep(
        "bench", kind="sweep", trainable="none", settings={}, seed=0, code_version="", environment={}
    )
    return database


def timed(fill: Callable[[TrialDatabase], Any], url: str, values: int) -> dict[str, Any]:
    """Fill a new database; how long that took."""
    with new_database(url) as database:
        start = time.perf_counter()
        extra = fill(database) or {}
        took = time.perf_counter() - start
    return {"seconds": took, "values_per_s": values / took, **extra}


def measure(engine: Engine, sweep: Sweep, commits: int, reports: int, repeat: int) -> dict[str, Any]:
    """One round on one engine: Optuna and kdsearch side by side, then the reading."""
    values = len(sweep.errors) * sweep.epochs * len(METRICS)
    urls = {name: engine.url(f"{name}-{repeat}") for name in ("optuna", "single", "writer", "bulk")}
    took = optuna_reports(urls["optuna"].replace("postgresql:", "postgresql+psycopg:"), reports, sweep.epochs)
    found: dict[str, Any] = {"optuna": {"seconds": took, "values_per_s": reports / took}}
    found["single"] = timed(
        lambda database: fill_one_by_one(database, sweep, commits), urls["single"], commits * len(METRICS)
    )
    found["writer"] = timed(lambda database: fill_by_writer(database, sweep), urls["writer"], values)
    found["bulk"] = timed(lambda database: fill_in_bulk(database, sweep), urls["bulk"], values)
    for name in ("single", "writer", "bulk"):
        found[name]["times_optuna"] = found[name]["values_per_s"] / found["optuna"]["values_per_s"]
    url = urls["bulk"]
    engine.settle(url)
    found["bytes_per_value"] = engine.size(url) / values
    found["status_s"] = read_status(url)
    found["record_s"] = read_whole(url)
    found["statistics"] = read_statistics(url)
    found["curves"] = read_curves(url, len(sweep.errors))
    return found


def server() -> Any:
    """The PostgreSQL of the tests, with durable writes."""
    place = Path(__file__).parents[1] / "postgresql.py"
    spec = importlib.util.spec_from_file_location("postgresql", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PostgreSQL(durable=True)


def middle(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of every figure."""
    first = rounds[0]
    return {
        key: middle([each[key] for each in rounds])
        if isinstance(first[key], dict)
        else statistics.median(each[key] for each in rounds)
        for key in first
    }


@click.command(help=__doc__)
@click.option("--trials", default=5_000, show_default=True)
@click.option("--epochs", default=50, show_default=True)
@click.option("--commits", default=2_000, show_default=True, help="Epochs that are committed one by one.")
@click.option("--reports", default=1_000, show_default=True, help="Values that Optuna's storage takes.")
@click.option("--repeats", default=3, show_default=True)
@click.option(
    "--folder", type=click.Path(file_okay=False, exists=True, path_type=Path), help="For SQLite's databases."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures as JSON.")
def main(
    trials: int, epochs: int, commits: int, reports: int, repeats: int, folder: Path | None, out: Path | None
) -> None:
    """Fill, read, print."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sweep = Sweep(trials, epochs)
    figures: dict[str, Any] = {
        "machine": machine(),
        "trials": trials,
        "epochs": epochs,
        "values": trials * epochs * len(METRICS),
        "commits": commits,
        "reports": reports,
    }
    postgresql = server()
    try:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            engines = [
                Engine("sqlite", Path(scratch)),
                Engine("postgresql", Path(scratch), postgresql),
            ]
            rounds: dict[str, list[dict[str, Any]]] = {engine.name: [] for engine in engines}
            for repeat in range(repeats):
                for engine in engines:
                    rounds[engine.name].append(measure(engine, sweep, commits, reports, repeat))
                    click.echo(f"{engine.name}: {json.dumps(rounds[engine.name][-1])}", err=True)
            figures["postgresql_version"] = postgresql.execute("SHOW server_version")[0][0]
    finally:
        postgresql.close()
    figures["medians"] = {name: middle(found) for name, found in rounds.items()}
    figures["rounds"] = rounds
    figures["load_at_the_end"] = os.getloadavg()
    text = json.dumps(figures, indent=2)
    click.echo(text)
    if out is not None:
        out.write_text(text + "\n")


if __name__ == "__main__":
    main()
