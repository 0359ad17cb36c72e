"""Memory and seconds of prepared records: made from files, opened again, and read in batches for an epoch. Run by hand:

    KDSEARCH_DATA=DIR python tests/benchmarks/bench_records.py --out docs/benchmarks/records.json

88,000 ECG records and 40,000 patients, by links to the real ones below the data root: each is listed, digested, read
and stored as if it were one of its own. Every step is a process; what it holds beyond its imports is the kernel's own
peak (VmHWM, of anonymous memory and file pages together), and the two apart, looked at every 5 ms. An epoch has a
network's batches, with nothing done to them but a sum. Takes about 5 GB below --folder, which is removed. Goals:
2 GB for ECGs, 4 GB for patients. Linux alone.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

import numpy as np

from kdsearch.trainables.data.roots import resolve_data_root
from kdsearch.trainables.records import EcgReader, EcgSettings, find_records, load_patients
from kdsearch.trainables.records.prepared import epoch_batches, padded_share, prepared_hours, prepared_signals

ECG, HOURS = "physionet2021", "physionet2019"
ECG_BATCH, HOURS_BATCH = 512, 256  # the paper's
EVERY_S = 0.005
SEEDS = 5


def memory() -> dict[str, int]:
    """Bytes of this process: anonymous, of files, both together (VmRSS), and their peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    values = {
        name: int(rest.split()[0]) << 10
        for name, _, rest in (line.partition(":") for line in lines)
        if "kB" in rest
    }
    return {
        "anonymous": values["RssAnon"],
        "files": values["RssFile"],
        "all": values["VmRSS"],
        "peak": values["VmHWM"],
    }


@contextmanager
def watched(found: dict[str, float]) -> Iterator[None]:
    """Note seconds and peaks beyond what is held now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak of the imports
    before, over = memory(), threading.Event()
    peaks = {"anonymous": 0, "files": 0}

    def look() -> None:
        while not over.wait(EVERY_S):
            now = memory()
            for kind, peak in peaks.items():
                peaks[kind] = max(peak, now[kind] - before[kind])

    watcher = threading.Thread(target=look)
    watcher.start()
    start = time.perf_counter()
    try:
        yield
    finally:
        found["seconds"] = time.perf_counter() - start
        over.set()
        watcher.join()
        found["imports_mb"] = before["all"] / 1e6
        found["peak_mb"] = (memory()["peak"] - before["all"]) / 1e6
        found |= {f"peak_{kind}_mb": held / 1e6 for kind, held in peaks.items()}


def signals_opened() -> dict[str, float]:
    for module in ("scipy.io", "scipy.signal"):  # the readers' imports are not the data's
        importlib.import_module(module)
    found: dict[str, float] = {}
    with watched(found):
        held = prepared_signals(ECG)
    return {**found, "records": len(held)}


def hours_opened() -> dict[str, float]:
    found: dict[str, float] = {}
    with watched(found):
        held = prepared_hours(HOURS)
    return {**found, "records": len(held), "rows": len(held.labels), "stored_mb": held.values.nbytes / 1e6}


def signals_epoch() -> dict[str, float]:
    found: dict[str, float] = {}
    with watched(found):
        held = prepared_signals(ECG)
        batches = epoch_batches(len(held), ECG_BATCH, np.random.default_rng(0))
        for batch in batches:
            held.batch(batch)[0].sum()
    return {**found, "batches": len(batches), "stored_mb": held.stored.nbytes / 1e6}


def hours_epoch() -> dict[str, float]:
    found: dict[str, float] = {}
    with watched(found):
        held = prepared_hours(HOURS)
        batches = epoch_batches(len(held), HOURS_BATCH, np.random.default_rng(0), lengths=held.hours)
        for batch in batches:
            held.batch(batch)[0].sum()
    return {**found, "batches": len(batches), "padded_share": padded_share(batches, held.hours)}


STAGES: Mapping[str, Callable[[], dict[str, float]]] = {
    "signals-opened": signals_opened,
    "signals-epoch": signals_epoch,
    "hours-opened": hours_opened,
    "hours-epoch": hours_epoch,
}
STEPS = (
    ("signals: made from the files", "signals-opened"),
    ("signals: opened again", "signals-opened"),
    ("signals: an epoch of batches", "signals-epoch"),
    ("hours: made from the files", "hours-opened"),
    ("hours: opened again", "hours-opened"),
    ("hours: an epoch of batches", "hours-epoch"),
)


def repeated(name: str, real: Path | None, root: Path, wanted: int) -> None:
    """Fill a data root with links to the real records, each under many names."""
    files = find_records(name, real)
    folder = root / name
    folder.mkdir(parents=True)
    copies = ((path, turn) for turn in count() for path in files.records)
    for path, turn in islice(copies, wanted):
        stem = folder / f"{path.stem}-{turn:04}"
        for suffix in (path.suffix, files.known.companion):
            if suffix is not None:
                stem.with_suffix(suffix).symlink_to(path.with_suffix(suffix).resolve())


def padding(real: Path | None) -> dict[str, dict[str, float]]:
    """Shares of padding of the real patients, by batch size: patients of like length together, and shuffled alone."""
    hours = load_patients(real)[0].hours
    shares = {}
    for size in (32, 64, 128, HOURS_BATCH):
        rngs = [np.random.default_rng(seed) for seed in range(SEEDS)]
        together = [padded_share(epoch_batches(len(hours), size, rng, lengths=hours), hours) for rng in rngs]
        shuffled = [padded_share(epoch_batches(len(hours), size, rng), hours) for rng in rngs]
        shares[str(size)] = {"together": float(np.mean(together)), "shuffled": float(np.mean(shuffled))}
    return shares


def rounding(real: Path | None) -> dict[str, float]:
    """Differences between real records and what is stored of them, in deviations of the lead."""
    held = prepared_signals(ECG, real)
    largest, squares = 0.0, []
    for at, record in enumerate(EcgReader(find_records(ECG, real), EcgSettings())):
        off = held.batch(np.array([at]))[0][0] - record.signal
        largest = max(largest, float(np.abs(off).max()))
        squares.append(float((off.astype(np.float64) ** 2).mean()))
    return {"records": len(held), "largest": largest, "root_mean_square": float(np.sqrt(np.mean(squares)))}


def measured(arguments: argparse.Namespace, real: Path | None, folder: Path) -> dict[str, object]:
    environment = {
        **os.environ,
        "KDSEARCH_DATA": str(folder / "data"),
        "KDSEARCH_CACHE": str(folder / "cache"),
    }
    os.environ["KDSEARCH_CACHE"] = str(folder / "real")
    result: dict[str, object] = {"padded_share": padding(real), "rounding": rounding(real)}
    repeated(ECG, real, folder / "data", arguments.records)
    repeated(HOURS, real, folder / "data", arguments.patients)
    for title, stage in STEPS:
        command = [sys.executable, __file__, "--stage", stage]
        told = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
        result[title] = json.loads(told)
        print(title, told, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=88_000)
    parser.add_argument("--patients", type=int, default=40_000)
    parser.add_argument("--data-root", default=None, help="else KDSEARCH_DATA")
    parser.add_argument("--folder", type=Path, default=None, help="where there is room; else TMPDIR")
    parser.add_argument("--out", type=Path, default=Path("bench_records.json"))
    parser.add_argument("--stage", choices=STAGES, default=None, help="one step; made by the whole")
    arguments = parser.parse_args()
    if arguments.stage is not None:
        print(json.dumps(STAGES[arguments.stage]()))
        return
    from machine import machine

    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bench-records-") as folder:
        result = measured(arguments, resolve_data_root(arguments.data_root), Path(folder))
    arguments.out.write_text(json.dumps({**result, "machine": machine()}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
