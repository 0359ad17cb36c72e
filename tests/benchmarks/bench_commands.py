"""How long `kdsearch status` and `kdsearch report` take on large databases, on SQLite and on PostgreSQL. Run by hand:

    python tests/benchmarks/bench_commands.py --out docs/benchmarks/commands.json

A random search over graphs of three nodes with 5,000 trials: 10 epochs, and 50 epochs, of 10 metrics each (the larger
one has 2.5 million values). Each command runs as a process of its own, as a user calls it, imports and all, a few times
in turn. Told are seconds by the clock and of processor time, the least of the repeats, since other programs can only
add to them. Beside it what is behind the imports: the same work, step by step, in a process that has imported all.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_trialdb import METRICS, SPEC, Engine, Sweep, fill_in_bulk, machine, server

from kdsearch.analysis import report
from kdsearch.analysis.record import SweepRecord
from kdsearch.search.cli.status import row_of
from kdsearch.search.config import parse_sweep
from kdsearch.search.trialdb import SweepState, TrialDatabase
from kdsearch.search.trialdb.record import read_record

NAME = "bench"


def fill(url: str, trials: int, epochs: int) -> None:
    """Make a database with a finished random search."""
    settings = parse_sweep(
        {
            "name": NAME,
            "space": SPEC,
            "trainable": {"kind": "constant", "epochs": epochs},
            "searcher": {"kind": "random", "trials": trials},
        },
        "benchmark",
    ).resolved()
    with TrialDatabase.open(url) as database:
        database.create_sweep(
            NAME,
            kind="sweep",
            trainable="constant",
            settings=settings,
            seed=0,
            code_version="",
            environment={},
        )
        fill_in_bulk(database, Sweep(trials, epochs))
        database.update_sweep_state(NAME, SweepState.COMPLETE)


def command_seconds(arguments: list[str]) -> dict[str, float]:
    """Seconds of `kdsearch ...` by the clock, and of processor time."""
    program = Path(sys.executable).with_name("kdsearch")
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([str(program), *arguments], check=True, stdout=subprocess.DEVNULL)
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"clock_s": took, "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def behind_imports(url: str) -> dict[str, float]:
    """Seconds of the parts, in this process."""
    found: dict[str, SweepRecord] = {}

    def read() -> None:
        with TrialDatabase.open(url, create=False, read_only=True) as database:
            found["record"] = read_record(database, NAME)

    def row() -> None:
        with TrialDatabase.open(url, create=False, read_only=True) as database:
            row_of(database, NAME)

    return {
        "status_s": seconds(row),
        "report: read_s": seconds(read),
        "report: rest_s": seconds(lambda: report.contents_of([found["record"]])),
    }


def least(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The least of every figure."""
    return {
        key: least([each[key] for each in rounds])
        if isinstance(rounds[0][key], dict)
        else min(each[key] for each in rounds)
        for key in rounds[0]
    }


def measure(url: str, folder: Path) -> dict[str, Any]:
    """One round."""
    out = str(folder / "report")
    return {
        "status": command_seconds(["status", "--db", url]),
        "status NAME": command_seconds(["status", NAME, "--db", url]),
        "report": command_seconds(["report", NAME, "--db", url, "--out", out]),
        "behind imports": behind_imports(url),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--epochs", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sqlite-only", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("bench_commands.json"))
    arguments = parser.parse_args()
    figures: dict[str, Any] = {
        "trials": arguments.trials,
        "metrics": len(METRICS),
        "least_of": arguments.repeats,
    }
    postgresql = None if arguments.sqlite_only else server()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            engines = [Engine("sqlite", Path(scratch))]
            engines += [] if postgresql is None else [Engine("postgresql", Path(scratch), postgresql)]
            for epochs in arguments.epochs:
                for engine in engines:
                    url = engine.url(f"{epochs}")
                    fill(url, arguments.trials, epochs)
                    engine.settle(url)
                    rounds = [measure(url, Path(scratch)) for _ in range(arguments.repeats)]
                    figures[f"{engine.name}, {epochs} epochs"] = least(rounds)
                    print(f"{engine.name}, {epochs} epochs: {json.dumps(least(rounds))}", file=sys.stderr)
    finally:
        if postgresql is not None:
            postgresql.close()
    figures |= {"machine": machine(), "load_at_the_end": list(os.getloadavg())}
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
