"""How fast the trial database is: filling, and reading what EDFs and the AUC table need. Run by hand:

    python tests/benchmarks/bench_trialdb.py --out trialdb.json

10,000 trials x 100 epochs x 10 metrics by default, filled twice: by the bulk path (one operation for many trials) and
through the driver's Writer (one operation for each epoch of a pack of eight, as a sweep submits them). Times include
the making of the rows. Goals: 50,000 metric values a second; EDF and AUC table in under a second.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np

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
        space = SpaceRow(name="A", specification=SPEC, hash=self.space.hash, counts={"encodings": 78_732})
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
        **{name: version(name) for name in ("sqlalchemy", "pandas", "numpy")},
    }


def new_database(folder: Path, name: str) -> TrialDatabase:
    """Make a database with an empty sweep."""
    database = TrialDatabase.open(f"sqlite:///{folder / name}.db")
    database.create_sweep(
        "bench", kind="sweep", trainable="none", settings={}, seed=0, code_version="", environment={}
    )
    return database


@click.command(help=__doc__)
@click.option("--trials", default=10_000, show_default=True)
@click.option("--epochs", default=100, show_default=True)
@click.option(
    "--folder", type=click.Path(file_okay=False, exists=True, path_type=Path), help="For the databases."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures as JSON.")
def main(trials: int, epochs: int, folder: Path | None, out: Path | None) -> None:
    """Fill, read, print."""
    sweep = Sweep(trials, epochs)
    values = trials * epochs * len(METRICS)
    figures: dict[str, object] = {"machine": machine(), "trials": trials, "epochs": epochs, "values": values}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for name, fill in (("bulk", fill_in_bulk), ("writer", fill_by_writer)):
            with new_database(Path(scratch), name) as database:
                start = time.perf_counter()
                extra = fill(database, sweep) or {}
                took = time.perf_counter() - start
            size = (Path(scratch) / f"{name}.db").stat().st_size
            figures[name] = {
                "seconds": took,
                "values_per_s": values / took,
                "bytes_per_value": size / values,
                **extra,
            }
        url = f"sqlite:///{Path(scratch) / 'writer.db'}"
        figures["statistics"] = [read_statistics(url) for _ in range(3)]
        figures["curves"] = read_curves(url, trials)
    text = json.dumps(figures, indent=2)
    click.echo(text)
    if out is not None:
        out.write_text(text + "\n")


if __name__ == "__main__":
    main()
