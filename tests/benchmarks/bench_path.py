"""Trials per second of an empty trainable: the whole path of kdsearch against bare Ray Tune, in one run, alternating.

    python tests/benchmarks/bench_path.py --trials 1000 --out bench_path.json

The path is searcher, coordinator, Ray Tune, SQLite (one epoch of two metrics a trial) and outcomes back to the
searcher. Bare Ray Tune runs the same number of trials of a Trainable that returns one number, with reused actors and
without loggers: the fastest way it has. Both use the same Ray instance and the same number of workers. kdsearch is
timed with packs of 16 (its default) and with one trial a pack.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from kdsearch.search import launch
from kdsearch.search.config import parse_sweep
from kdsearch.search.progress import Quiet
from kdsearch.search.runner import RayOptions, ray_session

SPACE = {
    "kind": "ktg",
    "target": "s",
    "auxiliary": {"count": 4, "models": ["s", "w"]},
    "gates": ["through", "cutoff", "linear"],
}


@contextlib.contextmanager
def quiet(_coordinator: object) -> Any:
    yield Quiet()


def kdsearch_seconds(trials: int, pack: int, folder: Path) -> float:
    """Seconds of a random search over the empty trainable, from the first trial to the last row in SQLite."""
    sweep = parse_sweep(
        {
            "name": f"pack-{pack}-{time.monotonic_ns()}",
            "space": SPACE,
            "trainable": {"kind": "constant"},
            "searcher": {"kind": "random", "trials": trials},
            "run": {"pack": pack},
        },
        "benchmark",
    )
    start = time.perf_counter()
    launch.start(sweep, "sweep", launch.Launch(db=f"sqlite:///{folder / 'bench.db'}"), quiet)
    return time.perf_counter() - start


def bare_seconds(trials: int, workers: int, folder: Path) -> float:
    """Seconds of bare Ray Tune over as many trials."""
    from ray import tune

    class Empty(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            del config

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            del new_config
            return True

        def step(self) -> dict[str, Any]:
            return {"error": 0.5, "done": True}

    tuner = tune.Tuner(
        tune.with_resources(Empty, {"CPU": 1}),
        param_space={"x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(
            num_samples=trials, max_concurrent_trials=workers, reuse_actors=True, metric="error", mode="min"
        ),
        run_config=tune.RunConfig(
            name=f"bare-{time.monotonic_ns()}",
            storage_path=str(folder),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        ),
    )
    start = time.perf_counter()
    tuner.fit()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("bench_path.json"))
    arguments = parser.parse_args()
    options = RayOptions(address=None, cpus=1, gpus=0, max_concurrent=None, data_root=None)
    seconds: dict[str, list[float]] = {
        "bare Ray Tune": [],
        "kdsearch, packs of 16": [],
        "kdsearch, packs of 1": [],
    }
    with ray_session(options) as slots, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kdsearch_seconds(32, 16, folder)  # imports and first actors are nobody's
        bare_seconds(32, slots.concurrency, folder)
        for _ in range(arguments.repeats):
            seconds["bare Ray Tune"].append(bare_seconds(arguments.trials, slots.concurrency, folder))
            seconds["kdsearch, packs of 16"].append(kdsearch_seconds(arguments.trials, 16, folder))
            seconds["kdsearch, packs of 1"].append(kdsearch_seconds(arguments.trials, 1, folder))
    median = {name: statistics.median(times) for name, times in seconds.items()}
    result = {
        "trials": arguments.trials,
        "workers": slots.concurrency,
        "trials_per_second": {name: arguments.trials / median[name] for name in median},
        "times_bare": {name: median["bare Ray Tune"] / median[name] for name in median},
        "seconds": seconds,
        "machine": launch.environment(),
    }
    arguments.out.write_text(json.dumps(result, indent=2))
    print(json.dumps({key: result[key] for key in ("trials_per_second", "times_bare")}, indent=2))


if __name__ == "__main__":
    main()
