"""One sweep through faults of every kind, with real processes: what was lost, what was doubled, how long recovery took.

    python tests/integration/chaos.py > docs/benchmarks/chaos.json

Three nodes of Ray on this machine (`ray.cluster_utils.Cluster`), a real PostgreSQL, a driver that is a process of its
own, checkpoints on a small file system of its own where this user may mount one. Trials are of the trainable
`constant`, whose errors follow from their seeds, so the sweep's result must be that of an undisturbed one, number by
number. It ends with one JSON object on standard output.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

NAME = "chaos"
EPOCHS = 8
PATIENCE_S = 180.0  # for what takes a few seconds on an idle machine
AWAY_S = 30.0  # how long the database is stopped: longer than a driver waits before it spools
BAD = {"fail": [7, 60], "hang": [11], "leak": [15], "nan": [19, 33], "diverge": [27], "kill": [23]}
SAID = {  # by what the driver says of the attempts that such a fault ended
    "fail": "was told to fail",
    "hang": "no epoch ended within",
    "leak": "more than 1 (run.memory_limit_gb)",
    "kill": "the worker process ended",
}
SPOOLED = ("until it is back", "is back: brought in")  # what the driver says of a database that was away
SPACE = {
    "kind": "parameters",
    "parameters": {
        "x": {"type": "float", "low": 0, "high": 1},
        "c": {"type": "categorical", "values": ["a", "b", "c"]},
    },
}


def sweep_of(trials: int, marker: Path | None, *, epoch_s: float) -> dict[str, Any]:
    """The sweep; marker None: undisturbed, but for errors that are NaN."""
    bad = BAD if marker is not None else {key: BAD[key] for key in ("nan", "diverge")}
    return {
        "name": NAME,
        "seed": 5,
        "space": SPACE,
        "trainable": {
            "kind": "constant",
            "epochs": EPOCHS,
            "epoch_s": epoch_s,
            "curve": 20,
            "wobble": 10,
            "effects": {"c=a": 9},
            "at": 3,
            "marker": str(marker or ""),
            **bad,
        },
        "searcher": {"kind": "random", "trials": trials},
        "run": {
            "pack": 2,
            "checkpoint_every": 1,
            "backoff_s": 0.5,
            "epoch_limit_s": 12,
            "memory_limit_gb": 1,
        },
    }


@dataclass
class Figures:
    """What happened."""

    faults: Counter[str] = field(default_factory=Counter)
    recovery_s: dict[str, list[float]] = field(default_factory=dict)  # by fault, each time

    def recovered(self, fault: str, seconds: float) -> None:
        self.faults[fault] += 1
        self.recovery_s.setdefault(fault, []).append(round(seconds, 1))
        _say(f"{fault}: recovered after {seconds:.1f} s")


class Site:
    """Cluster, database, driver, and the folder of it all."""

    def __init__(self, folder: Path, trials: int, epoch_s: float) -> None:
        from ray.cluster_utils import Cluster

        self.folder, self.figures = folder, Figures()
        self.server = _postgresql()
        self.database = self.server.new_database()
        (folder / "marker").mkdir()
        sweep = sweep_of(trials, folder / "marker", epoch_s=epoch_s)
        (folder / "chaos.yaml").write_text(yaml.safe_dump(sweep))
        self.storage = folder / "storage"
        self.storage.mkdir()
        self.mounted = _mount(self.storage)
        self.cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        self.nodes = [self.cluster.add_node(num_cpus=2) for _ in range(2)]
        self.driver: subprocess.Popen[bytes] | None = None
        self.spooled = False  # whether rows went through the spool

    def close(self) -> None:
        if self.driver is not None and self.driver.poll() is None:
            self.driver.kill()
            self.driver.wait()
        self.cluster.shutdown()
        self.server.close()
        if self.mounted:
            subprocess.run(["umount", "--lazy", self.storage], check=False)

    # -- the driver ---------------------------------------------------------------------------------------------------

    def drive(self, *command: str) -> None:
        """Start a driver; its output goes to a file."""
        environment = {**os.environ, "KDSEARCH_DB": self.url}
        environment.pop("PYTEST_CURRENT_TEST", None)
        log = (self.folder / "driver.log").open("ab")
        self.driver = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from kdsearch.search.cli import main; main()",
                *command,
                "--address",
                self.cluster.address,
                "--out",
                str(self.folder / "report"),
            ],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

    def log(self, *, whole: bool = False) -> str:
        return (self.folder / "driver.log").read_text(errors="replace")[0 if whole else -6000 :]

    # -- what the database says ---------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return self.server.url(self.database)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return self.server.execute(query, self.database)

    def ended(self) -> int:
        return self._number("SELECT count(*) FROM trial WHERE state NOT IN ('waiting', 'running', 'lost')")

    def epochs(self) -> int:
        return self._number("SELECT count(*) FROM metric_value")

    def told(self, what: str) -> int:
        """How often the driver wrote something down of checkpoints."""
        return sum(
            data["what"] == what for (data,) in self.ask("SELECT data FROM event WHERE kind = 'checkpoint'")
        )

    def tried_again(self) -> int:
        return self._number("SELECT count(*) FROM attempt WHERE n > 1")

    def checkpoints(self) -> int:
        return self._number("SELECT coalesce(sum(checkpoint_epoch), 0) FROM attempt")

    def _number(self, query: str) -> int:
        import psycopg

        try:
            return int(self.ask(query)[0][0])
        except psycopg.Error:  # before the driver has made the tables
            return 0

    def wait(self, what: str, condition: Callable[[], bool]) -> float:
        """Wait for a condition; return the seconds that it took."""
        begun = time.monotonic()
        while not condition():
            if self.driver is not None and self.driver.poll() is not None and not condition():
                raise RuntimeError(
                    f"the driver ended ({self.driver.returncode}) before {what}:\n{self.log()}"
                )
            if time.monotonic() - begun > PATIENCE_S:
                raise TimeoutError(f"no {what} within {PATIENCE_S:g} s:\n{self.log()}")
            time.sleep(0.05)
        return time.monotonic() - begun

    def more(self, what: str, count: Callable[[], int], by: int = 1) -> float:
        """Wait until a count has grown."""
        before = count()
        return self.wait(what, lambda: count() >= before + by)


# -- faults -----------------------------------------------------------------------------------------------------------


def kill_worker(site: Site) -> None:
    """SIGKILL to the process of a pack."""
    again = site.tried_again()
    site.wait("pack to kill", _kill_one)
    site.figures.recovered("worker killed", site.wait("second attempt", lambda: site.tried_again() > again))


def _kill_one() -> bool:
    """Kill a process that trains now; False if there is none at this moment."""
    try:
        os.kill(_workers(training=True)[0], signal.SIGKILL)
    except (IndexError, ProcessLookupError):
        return False
    return True


def kill_node(site: Site) -> None:
    """SIGKILL to all processes of a node with packs, its workers among them."""
    again = site.tried_again()
    gone = site.nodes.pop(0)
    remover = threading.Thread(
        target=site.cluster.remove_node, args=(gone,), kwargs={"allow_graceful": False}
    )
    begun = time.monotonic()
    remover.start()
    site.wait("second attempt after a node's end", lambda: site.tried_again() > again)
    site.figures.recovered("node killed", time.monotonic() - begun)
    remover.join(PATIENCE_S)


def add_node(site: Site) -> None:
    """A new node joins; packs run on it."""
    known = set(_workers())
    begun = time.monotonic()
    site.nodes.append(site.cluster.add_node(num_cpus=2))
    raylet = site.nodes[-1].all_processes["raylet"][0].process.pid
    site.wait("pack on the new node", lambda: bool(set(_workers(raylet)) - known))
    site.figures.recovered("node added", time.monotonic() - begun)


def stop_database(site: Site) -> None:
    """The server is stopped as for an update, and comes back."""
    before = site.epochs()
    site.server.stop()
    time.sleep(AWAY_S)
    site.server.start()
    site.figures.recovered("database away", site.wait("rows after the stop", lambda: site.epochs() > before))


def crash_database(site: Site) -> None:
    """The server's processes are killed, and it recovers from its log."""
    before = site.epochs()
    site.server.stop(signal.SIGKILL)
    site.server.start()
    site.figures.recovered(
        "database killed", site.wait("rows after the crash", lambda: site.epochs() > before)
    )


def fill_disk(site: Site) -> None:
    """The checkpoints' file system has no room for a while; trials go on, and are checkpointed again afterwards."""
    if not site.mounted:
        return
    ballast, over = site.storage / "ballast", threading.Event()

    def fill() -> None:
        """Also what is deleted meanwhile is taken."""
        with ballast.open("wb", buffering=0) as file:
            while not over.wait(0.002):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(1024))

    filler = threading.Thread(target=fill)
    before = site.told("written again")
    assert site.told("not written") == before, "checkpoints could not be written before the disk was full"
    filler.start()
    try:
        site.wait("checkpoint that cannot be written", lambda: site.told("not written") > before)
        site.more("epochs on a full disk", site.epochs, by=60)
    finally:
        over.set()
        filler.join()
        ballast.unlink()
    begun = time.monotonic()
    site.more("checkpoint after a full disk", site.checkpoints)
    seconds = time.monotonic() - begun
    site.wait("word that they are written again", lambda: site.told("written again") > before)
    site.figures.recovered("disk full", seconds)


def kill_driver(site: Site) -> None:
    """SIGKILL to the driver, and a resume."""
    assert site.driver is not None
    begun = time.monotonic()
    site.driver.kill()
    site.driver.wait()
    before = site.epochs()
    site.drive("resume", NAME)
    site.wait("rows of the resumed driver", lambda: site.epochs() > before)
    site.figures.recovered("driver killed", time.monotonic() - begun)


FAULTS = (
    kill_worker,
    stop_database,
    kill_node,
    add_node,
    kill_driver,
    fill_disk,
    crash_database,
    kill_worker,
)


# -- the account ------------------------------------------------------------------------------------------------------


def account(site: Site, trials: int) -> dict[str, Any]:
    """Every trial, attempt and row against an undisturbed run; raises AssertionError where something is amiss."""
    expected = undisturbed(site.folder, trials)
    found = {
        number: (state, error)
        for number, state, error in site.ask("SELECT number, state, error FROM trial ORDER BY number")
    }
    ends, values = expected
    assert sorted(found) == list(range(trials)), "trials are missing, or there are too many"
    wrong = {number: (found[number], ends[number]) for number in found if found[number] != ends[number]}
    if wrong:
        query = "SELECT number, n, ending, reason, checkpoint_epoch FROM attempt ORDER BY number, n"
        _say("\n".join(str(row) for row in site.ask(query) if row[0] in wrong))
    assert not wrong, f"results that differ from the undisturbed sweep's: {wrong}"
    query = """SELECT v.number, m.name, v.step, coalesce(v.value, v.nonfinite::float8)
        FROM metric_value v JOIN metric m ON m.id = v.metric_id"""
    rows = {(number, name, step): value for number, name, step, value in site.ask(query)}
    other = [key for key in rows.keys() & values.keys() if not _same(rows[key], values[key])]
    assert not other, f"values of epochs that differ from the undisturbed sweep's: {other}"
    attempts = site.ask(
        "SELECT number, n, ending, reason, checkpoint_epoch, ended, started FROM attempt ORDER BY number, n"
    )
    per: dict[int, list[Any]] = {}
    for row in attempts:
        per.setdefault(row[0], []).append(row)
    assert all([row[1] for row in each] == list(range(1, len(each) + 1)) for each in per.values())
    assert all(row[5] is not None for row in attempts), "an attempt has no end"
    return {
        "trials": trials,
        "states": dict(Counter(state for state, _ in found.values())),
        "attempts": len(attempts),
        "attempts_by_ending": {str(k): v for k, v in Counter(row[2] for row in attempts).items()},
        "rows": len(rows),
        "rows_lost": len(values.keys() - rows.keys()),
        "rows_beyond": len(rows.keys() - values.keys()),  # the table's key forbids one of an epoch twice
        "trial_faults": _trial_faults(per),
        "restarted_without_need": _restarted(site, per),
    }


def _restarted(site: Site, attempts: dict[int, list[Any]]) -> list[int]:
    """Trials whose later attempt did an epoch again that a checkpoint of an earlier one lay behind."""
    query = "SELECT v.number, v.step, v.attempt FROM metric_value v"
    again = set()
    for number, step, attempt in site.ask(query):
        before = [row[4] or 0 for row in attempts[number] if row[1] < attempt]
        if before and step <= max(before):
            again.add(number)
    return sorted(again)


def _trial_faults(attempts: dict[int, list[Any]]) -> dict[str, list[float]]:
    """Seconds from each end that a trial's own fault brought about to the trial's next beginning."""
    found: dict[str, list[float]] = {}
    for kind, words in SAID.items():
        for number in BAD[kind]:
            mine = attempts[number]
            after = [
                (later[6] - one[5]).total_seconds()
                for one, later in itertools.pairwise(mine)
                if words in (one[3] or "")
            ]
            assert after, f"trial {number} was to {kind}, and no attempt tells of it: {mine}"
            found.setdefault(kind, []).append(round(after[0], 1))
    return found


def _same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)  # noqa: PLR0124 neither is a number


def undisturbed(
    folder: Path, trials: int
) -> tuple[dict[int, tuple[str, float | None]], dict[tuple[int, str, int], float]]:
    """State and error of each trial, and all values, from the trainable alone: no Ray, no database, no faults."""
    from datetime import UTC, datetime

    from kdsearch.search.config import parse_sweep
    from kdsearch.search.trialdb import operations as op

    module = _load(Path(__file__).parents[1] / "search" / "driver.py")
    sweep = parse_sweep(sweep_of(trials, None, epoch_s=0.0), "chaos")
    driver = module.Driver(sweep, lambda: datetime(2026, 1, 1, tzinfo=UTC), folder / "undisturbed").run()
    ends = {row.number: (str(row.state), row.error) for row in driver.rows(op.FinishTrials)}
    values = {
        (row.number, name, row.step): value
        for row in driver.rows(op.RecordMetrics)
        for name, value in row.values.items()
    }
    return ends, values


# -- the means --------------------------------------------------------------------------------------------------------


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _workers(raylet: int | None = None, *, training: bool = False) -> list[int]:
    """Processes of packs, of all nodes that this process started or of one; training: those in an epoch now."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            title = (folder / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if not title.startswith("ray::") or ("Trainable.train" if training else "Trainable") not in title:
                continue
            if (raylet is None and _is_ours(parent)) or parent == raylet:
                found.append(int(folder.name))
    return sorted(found)


def _is_ours(process: int) -> bool:
    """Whether a process descends from this one."""
    while process > 1:
        if process == os.getpid():
            return True
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            return False
    return False


def _mount(folder: Path) -> bool:
    """Mount a file system of 4 MB; False where this user may not."""
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if shutil.which("mount") is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _postgresql() -> Any:
    return _load(Path(__file__).parents[1] / "postgresql.py").PostgreSQL(durable=True)


@contextlib.contextmanager
def _closed_to_strangers() -> Iterator[None]:
    """Ray asks for a token of this run alone."""
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32), OMP_NUM_THREADS="1")
    yield


def main() -> None:
    """Run it."""
    trials, epoch_s = int(os.environ.get("KDSEARCH_CHAOS_TRIALS", "320")), 0.25
    with _closed_to_strangers(), tempfile.TemporaryDirectory(prefix="kdsearch-chaos-") as name:
        begun = time.monotonic()
        site = Site(Path(name), trials, epoch_s)
        try:
            site.drive(
                "sweep", str(site.folder / "chaos.yaml"), "--name", NAME, "--storage", str(site.storage)
            )
            site.wait("first trials", lambda: site.ended() >= 4)
            for fault in FAULTS:
                fault(site)
                site.more("trials between faults", site.ended, by=2)
            assert site.driver is not None
            site.wait("end of the sweep", lambda: site.driver.poll() is not None)  # type: ignore[union-attr]
            assert site.driver.returncode == 0, site.log()
            told = account(site, trials)
            site.spooled = all(words in site.log(whole=True) for words in SPOOLED)
        finally:
            site.close()
        told |= {
            "mounted": site.mounted,
            "spooled": site.spooled,
            "faults": site.figures.faults,
            "recovery_s": site.figures.recovery_s,
            "seconds": round(time.monotonic() - begun, 1),
        }
        sys.stdout.write(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
