"""Trials a second in the simulator: searchers on the KTG table, by processor time.

    python tests/benchmarks/bench_simulator.py [--trials N] [--out FILE]

Each case is simulated once to warm up and then `--repeat` times; the least processor time counts, since other programs
on the machine only add to it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import yaml
from machine import machine

from kdsearch.search.compare.settings import parse_comparison
from kdsearch.search.compare.study import prepare, run_study

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "comparisons" / "ktg-digits-searchers.yaml"
CASES = {
    "random": {"searcher": "random"},
    "asha stop": {
        "searcher": "random",
        "scheduler": {"kind": "asha", "grace": 1, "reduction_factor": 2},
    },
    "asha promote": {
        "searcher": "random",
        "scheduler": {"kind": "asha", "grace": 1, "reduction_factor": 2, "mode": "promote"},
    },
    "refinement": {"searcher": {"kind": "refinement", "draws": 200, "limit": 60, "repeats": 2}},
}


def measure(name: str, trials: int, pack: int, repeat: int) -> dict[str, float | str | int]:
    """One case: trials and epochs a second of processor time."""
    data = {
        **yaml.safe_load(FILE.read_text()),
        "runs": 2,
        "pack": pack,
        "budget": {"trials": trials},
        "reference": name,
        "entries": {name: CASES[name]},
    }
    study = prepare(parse_comparison(data, name), name, db="", folder=ROOT, data_root=None)
    run_study(study)
    seconds = []
    for _ in range(repeat):
        began = time.process_time()
        traces = run_study(study)[name]
        seconds.append(time.process_time() - began)
    found = sum(trace.total[0] for trace in traces)
    epochs = sum(trace.total[1] for trace in traces)
    least = min(seconds)
    return {
        "case": name,
        "pack": pack,
        "trials": found,
        "epochs": epochs,
        "trials_per_s": round(found / least),
        "epochs_per_s": round(epochs / least),
    }


def main() -> None:
    """Measure every case and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = [measure(name, given.trials, pack, given.repeat) for name in CASES for pack in (1, 16)]
    for row in rows:
        print(
            f"{row['case']:14} pack {row['pack']:2}  {row['trials']:6,} trials  {row['epochs']:7,} epochs  "
            f"{row['trials_per_s']:6,} trials/s  {row['epochs_per_s']:7,} epochs/s"
        )
    if given.out is not None:
        given.out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
