"""Many workers, many trials, few cores: how busy the driver keeps the workers, what it costs, how its memory grows.

    python tests/benchmarks/bench_scale.py --out docs/benchmarks/scale.json

A worker is a Ray actor with a fraction of a core that sleeps: trials of `--epochs` epochs, each as long for a trial as
its seed says, between (1 - spread) and (1 + spread) times `--epoch-s`. kdsearch runs them through its whole path (sweep
file, random search, coordinator, Ray Tune, trial database) with one trial a pack; bare Ray Tune runs a Trainable that
sleeps as long, in the same order, with reused actors and the same environment variables, and records nothing. Each runs
in a process of its own, one after the other, on a Ray of its own.

busy: seconds slept / (workers x seconds). Once from the first trial's start to the last one's end, with the start of
the processes and the tail in which no trial is left to start; once from when half of the trials had ended to the last
start.
Memory is the resident set of the driver's process, after every so many trials.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console

from kdsearch.search import launch
from kdsearch.search.config import parse_sweep
from kdsearch.search.progress import LineDisplay
from kdsearch.search.runner import RayOptions, ray_session
from kdsearch.search.trialdb import TrialDatabase
from kdsearch.trainables.constant import epoch_length_s
from kdsearch.trainables.seeds import derive_seed

SPACE = {
    "kind": "ktg",
    "target": "s",
    "auxiliary": {"count": 4, "models": ["s", "w"]},
    "gates": ["through", "cutoff", "linear"],
}
SIDES = ("bare Ray Tune", "kdsearch")
MIB = 2**20
SEED = 0


class Samples:
    """Memory and processor time of the driver and of the processes below it, by trials that have ended."""

    def __init__(self, every: int) -> None:
        self._every, self._process = every, psutil.Process()
        self.rows: list[dict[str, float]] = []
        self.workers_mib: list[float] = []

    def look(self, ended: int) -> None:
        if ended < len(self.rows) * self._every:
            return
        memory = self._process.memory_info().rss / MIB
        self.rows.append(
            {"trials": ended, "driver_mib": memory, "at": time.time(), "cpu_s": cpu_s(os.getpid())}
        )

    def workers(self) -> dict[str, float]:
        """How many worker processes there are, and what one of them has to itself (proportional set size)."""
        found = []
        for child in self._process.children(recursive=True):
            with contextlib.suppress(psutil.Error, OSError):
                if " ".join(child.cmdline()).startswith("ray::"):
                    found.append(child.memory_full_info().pss / MIB)
        return {"processes": len(found), "mib_each": float(np.mean(found)) if found else 0.0}


def cpu_s(process: int) -> float:
    """Seconds of processor time that a process took so far."""
    times = psutil.Process(process).cpu_times()
    return float(times.user + times.system)


def below_cpu_s() -> float:
    """Seconds of processor time of the processes below this one: raylet, GCS, workers."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += cpu_s(child.pid)
    return total


# -- kdsearch ---------------------------------------------------------------------------------------------------------


def run_kdsearch(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    sweep = parse_sweep(
        {
            "name": "scale",
            "seed": SEED,
            "space": SPACE,
            "trainable": {
                "kind": "constant",
                "epochs": arguments.epochs,
                "epoch_s": arguments.epoch_s,
                "spread": arguments.spread,
            },
            "searcher": {"kind": "random", "trials": arguments.trials},
            "run": {
                "pack": 1,
                "cpus": arguments.cores / arguments.workers,
                "gpus": 0,
                "max_concurrent": arguments.workers,
            },
        },
        "benchmark",
    )
    samples, told = Samples(arguments.every), {}

    class Display(LineDisplay):
        """What a user sees in a log file, and a look at the driver."""

        def tick(self) -> None:
            super().tick()
            ended = self._coordinator.tally.finished
            samples.look(ended)
            if not told and ended >= arguments.trials // 2:
                told.update(samples.workers())
                told["below_cpu_s"] = below_cpu_s()

    @contextlib.contextmanager
    def display(coordinator: Any) -> Iterator[LineDisplay]:
        with Display(coordinator, Console(file=io.StringIO())) as shown:
            yield shown

    db = arguments.db or f"sqlite:///{folder / 'scale.db'}"
    begun = time.perf_counter()
    launch.start(sweep, "sweep", launch.Launch(db=db), display)
    wall_s = time.perf_counter() - begun
    with TrialDatabase.open(db, create=False, read_only=True) as database:
        spans = {a.number: (a.started.timestamp(), a.ended.timestamp()) for a in database.attempts("scale")}
        seeds = {trial.number: trial.seed for trial in database.trials("scale")}
    settings = sweep.trainable_settings()
    slept = {n: arguments.epochs * epoch_length_s(settings, seed) for n, seed in seeds.items()}
    rows = [(*spans[n], slept[n]) for n in sorted(spans)]
    return {"wall_s": wall_s, "rows": rows, "samples": samples.rows, "workers": told}


# -- bare Ray Tune ----------------------------------------------------------------------------------------------------


def run_bare(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    settings = {"epoch_s": arguments.epoch_s, "spread": arguments.spread}
    lengths_s = [epoch_length_s(settings, derive_seed(SEED, "trial", n)) for n in range(arguments.trials)]
    share = arguments.cores / arguments.workers
    options = RayOptions(address=None, cpus=share, gpus=0, max_concurrent=arguments.workers, data_root=None)
    begun = time.perf_counter()
    with ray_session(options):
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(arguments.workers)
        found = tune_bare(arguments, lengths_s, share, folder)
    return {"wall_s": time.perf_counter() - begun, **found}


def tune_bare(
    arguments: argparse.Namespace, lengths_s: Sequence[float], share: float, folder: Path
) -> dict[str, Any]:
    from ray import tune

    epochs = arguments.epochs

    class Sleeper(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.length_s, self.done_epochs = config["length_s"], 0

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            time.sleep(self.length_s)
            self.done_epochs += 1
            return {"error": 0.5, "done": self.done_epochs >= epochs}

    spans: dict[str, list[float]] = {}
    samples, told = Samples(arguments.every), {}
    ended = 0

    class Watch(tune.Callback):
        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            spans[trial.trial_id] = [time.time(), 0.0, epochs * trial.config["length_s"]]

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            nonlocal ended
            spans[trial.trial_id][1] = time.time()
            ended += 1
            samples.look(ended)
            if not told and ended >= arguments.trials // 2:
                told.update(samples.workers())
                told["below_cpu_s"] = below_cpu_s()

        def __deepcopy__(self, memo: Any) -> Any:
            return self

        def __reduce__(self) -> Any:
            return object, ()

    tuner = tune.Tuner(
        tune.with_resources(Sleeper, {"CPU": share}),
        param_space={"length_s": tune.grid_search(list(lengths_s))},
        tune_config=tune.TuneConfig(reuse_actors=True, metric="error", mode="min"),
        run_config=tune.RunConfig(
            name="bare",
            storage_path=str(folder),
            verbose=0,
            callbacks=[Watch()],
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        ),
    )
    tuner.fit()
    return {"rows": list(spans.values()), "samples": samples.rows, "workers": told}


# -- what came out ----------------------------------------------------------------------------------------------------


def at_once(started: np.ndarray, ended: np.ndarray) -> tuple[int, float]:
    """The most trials that ran at once, and when they first did."""
    times = np.concatenate([started, ended])
    order = np.lexsort(
        (np.repeat([1, 0], len(started)), times)
    )  # an end comes before a start at the same time
    running = np.cumsum(np.repeat([1, -1], len(started))[order])
    return int(running.max()), float(times[order][running.argmax()])


def figures(found: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Figures of one side."""
    started, ended, slept = np.array(found["rows"]).T
    workers, epochs = arguments.workers, arguments.epochs
    half, last = np.sort(ended)[len(ended) // 2], started.max()
    inside = np.clip(np.minimum(ended, last) - np.maximum(started, half), 0, None)
    share = np.divide(inside, ended - started, out=np.zeros_like(inside), where=ended > started)
    most, most_at = at_once(started, ended)
    samples = found["samples"]
    late = [row for row in samples if row["trials"] >= min(1000, len(slept) // 5)]
    span = late[-1]["trials"] - late[0]["trials"]
    cpu_s = late[-1]["cpu_s"] - late[0]["cpu_s"]
    return {
        "busy_whole": float(slept.sum() / (workers * (ended.max() - started.min()))),
        "busy_second_half": float((slept * share).sum() / (workers * (last - half))),
        "most_at_once": most,
        "seconds_until_most_at_once": most_at - float(started.min()),
        "seconds_first_start_to_last_end": float(ended.max() - started.min()),
        "lost_ms_a_trial": float(np.median(ended - started - slept) * 1000),
        "driver_mib_first": late[0]["driver_mib"],
        "driver_mib_last": late[-1]["driver_mib"],
        "driver_mib_per_1000_trials": float(
            np.polyfit([r["trials"] for r in late], [r["driver_mib"] for r in late], 1)[0] * 1000
        ),
        "driver_cpu_ms_a_trial": cpu_s / span * 1000,
        "driver_cpu_share_of_a_core": cpu_s / (late[-1]["at"] - late[0]["at"]),
        "trials": len(slept),
        "results": len(slept) * epochs,
        "wall_s": found["wall_s"],
        "workers": found["workers"],
        "samples": [{"trials": r["trials"], "driver_mib": round(r["driver_mib"], 1)} for r in samples],
    }


def trials_of(side: str, arguments: argparse.Namespace) -> int:
    """How many trials a side runs."""
    return int(arguments.trials if side == "kdsearch" else arguments.bare_trials or arguments.trials)


def side_in_own_process(side: str, arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "found.json"
        command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--out", str(out)]
        subprocess.run(command, check=True)
        return figures(json.loads(out.read_text()), arguments)


def table(results: dict[str, dict[str, Any]]) -> str:
    rows = {
        "trials": ("trials", 1),
        "workers busy, %": ("busy_whole", 100),
        "workers busy in the second half, until the last trial began, %": ("busy_second_half", 100),
        "trials at once, at most": ("most_at_once", 1),
        "seconds until then": ("seconds_until_most_at_once", 1),
        "lost between a trial's start and end beside sleep, ms": ("lost_ms_a_trial", 1),
        "driver's memory first, MiB": ("driver_mib_first", 1),
        "driver's memory last, MiB": ("driver_mib_last", 1),
        "driver's memory, MiB per 1,000 trials": ("driver_mib_per_1000_trials", 1),
        "driver's processor time, ms a trial": ("driver_cpu_ms_a_trial", 1),
        "driver, share of a core, %": ("driver_cpu_share_of_a_core", 100),
    }
    lines = [f"{'':66}" + "".join(f"{side:>16}" for side in results)]
    lines += [
        f"{words:66}" + "".join(f"{results[side][key] * factor:16.2f}" for side in results)
        for words, (key, factor) in rows.items()
    ]
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--cores", type=float, default=2.0, help="logical cores that the workers share")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--epoch-s", type=float, default=1.0)
    parser.add_argument("--spread", type=float, default=0.8)
    parser.add_argument("--every", type=int, default=100, help="trials between looks at the driver's memory")
    parser.add_argument("--db", help="trial database of kdsearch; default: SQLite in a temporary folder")
    parser.add_argument(
        "--bare-trials", type=int, help="trials of bare Ray Tune, where all of them take too long"
    )
    parser.add_argument("--only", choices=SIDES, help="one side alone")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("bench_scale.json"))
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    if arguments.side is not None:
        run = run_kdsearch if arguments.side == "kdsearch" else run_bare
        arguments.trials = trials_of(arguments.side, arguments)
        with tempfile.TemporaryDirectory() as name:
            arguments.out.write_text(json.dumps(run(arguments, Path(name))))
        return
    results = {}
    for side in SIDES if arguments.only is None else (arguments.only,):
        results[side] = side_in_own_process(side, arguments)
    settings = {
        key: getattr(arguments, key) for key in ("trials", "workers", "cores", "epochs", "epoch_s", "spread")
    }
    told = {**settings, "load_average": list(os.getloadavg()), "machine": launch.environment()}
    arguments.out.write_text(json.dumps({**told, "results": results}, indent=2) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
