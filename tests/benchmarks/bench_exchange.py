"""Export to Optuna and import from it: trials and values a second, beside Optuna's own way to add trials.

    python tests/benchmarks/bench_exchange.py --trials 1000 --epochs 100 --slow 40 --out bench_exchange.json

A sweep of graphs of three nodes (11 categorical parameters, 12 to 14 attributes a trial) with one error an epoch, in
SQLite. Optuna's own way is timed on the first `--slow` trials, to its advantage: each trial takes longer the more there
are. The import reads the study back through Optuna; the CSV files hold the same sweep.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from kdsearch.search.config import StatisticsSettings
from kdsearch.search.environment import environment
from kdsearch.search.exchange.exporting import What, export_study, export_table
from kdsearch.search.exchange.importing import Design, Order, import_batch
from kdsearch.search.exchange.study_in import Asked, read_study
from kdsearch.search.exchange.study_out import study_of
from kdsearch.search.trialdb import (
    AddSpaces,
    AddTrials,
    AttemptStart,
    FinishTrials,
    MetricRow,
    RecordMetrics,
    ResultRow,
    SpaceRow,
    StartAttempts,
    TrialDatabase,
    TrialRow,
    TrialState,
    optuna_storage,
)
from kdsearch.spaces import configuration_key, space_from_spec

SPACE = {
    "kind": "ktg",
    "target": "s",
    "auxiliary": {"count": 2, "models": ["s", "w"]},
    "gates": ["through", "cutoff", "linear"],
}
START = datetime(2026, 1, 1, tzinfo=UTC)


def fill(database: TrialDatabase, trials: int, epochs: int) -> None:
    space, generator = space_from_spec(SPACE, name="A"), np.random.default_rng(0)
    database.create_sweep(
        "bench",
        kind="sweep",
        trainable="constant",
        settings={},
        seed=0,
        code_version="",
        environment={},
    )
    database.apply(
        [AddSpaces("bench", (SpaceRow(name="A", specification=SPACE, hash=space.hash, counts={}),))]
    )
    for number in range(trials):
        configuration = space.canonical(space.sample(generator))
        at = START + timedelta(seconds=number)
        row = TrialRow(
            number=number,
            configuration=configuration,
            configuration_hash=configuration_key(configuration),
            seed=number,
            created=at,
            sampling_design="random",
            inclusion_probability=1.0,
        )
        errors = 50 + generator.normal(size=epochs)
        curve = [
            MetricRow(number=number, attempt=1, step=step, values={"1/val_error": float(error)})
            for step, error in enumerate(errors, start=1)
        ]
        end = ResultRow(
            number=number,
            attempt=1,
            state=TrialState.COMPLETE,
            at=at,
            error=float(errors[-1]),
            best_error=float(errors.min()),
            best_epoch=int(errors.argmin()) + 1,
            last_epoch=epochs,
            seconds=1.0,
        )
        database.apply(
            [
                AddTrials("bench", (row,)),
                StartAttempts("bench", (AttemptStart(number=number, n=1, host="h", device="cpu", at=at),)),
                RecordMetrics("bench", tuple(curve)),
                FinishTrials("bench", (end,)),
            ]
        )


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of this process on a core: the latter hardly depend on what else runs."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - cpu


def slowly(database: TrialDatabase, path: Path, trials: int) -> None:
    study = study_of(database, "bench", study="bench").study
    storage = optuna_storage.open_storage(f"sqlite:///{path}", str(path), create=True)
    optuna_storage.add_slowly(storage, replace(study, trials=study.trials[:trials]))
    optuna_storage.close(storage)


def back(database: TrialDatabase, path: Path) -> None:
    _, batch = read_study(path, Asked())
    order = Order(
        name="back",
        title="",
        space=None,
        design=Design.STATED,
        statistics=StatisticsSettings(),
        command="",
    )
    import_batch(database, batch, order)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--slow", type=int, default=40, help="trials that Optuna's own way is timed on")
    parser.add_argument("--out", type=Path, default=Path("bench_exchange.json"))
    arguments = parser.parse_args()
    trials, epochs, slow = arguments.trials, arguments.epochs, arguments.slow
    with (
        tempfile.TemporaryDirectory() as name,
        TrialDatabase.open(f"sqlite:///{Path(name) / 't.db'}") as database,
    ):
        folder = Path(name)
        fill(database, trials, epochs)
        study = folder / "study.db"
        tables = {"trials.csv": What.TRIALS, "curves.csv": What.CURVES}
        took = {
            "Optuna, in one transaction": (
                trials,
                seconds(lambda: export_study(database, "bench", str(study), study="bench")),
            ),
            "Optuna's own way": (slow, seconds(lambda: slowly(database, folder / "slow.db", slow))),
            "import of the study": (trials, seconds(lambda: back(database, study))),
        }
        for file, what in tables.items():

            def write(file: str = file, what: What = what) -> None:
                export_table(database, "bench", folder / file, parquet=False, what=what)

            took[file] = (trials, seconds(write))
        size = study.stat().st_size
    result = {
        "trials": trials,
        "epochs": epochs,
        "seconds": {name: clock for name, (_, (clock, _)) in took.items()},
        "cpu_seconds": {name: cpu for name, (_, (_, cpu)) in took.items()},
        "trials_per_cpu_second": {name: n / cpu for name, (n, (_, cpu)) in took.items()},
        "values_per_cpu_second": {name: n * epochs / cpu for name, (n, (_, cpu)) in took.items()},
        "study_bytes": size,
        "machine": {**environment(), "load_average": list(os.getloadavg())},
    }
    arguments.out.write_text(json.dumps(result, indent=2))
    print(
        json.dumps(
            {key: result[key] for key in ("seconds", "trials_per_cpu_second", "values_per_cpu_second")},
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
