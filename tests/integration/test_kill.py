"""SIGKILL of real drivers at random moments, with their own Ray, until the sweep is complete: nothing lost or doubled.

With one pack at a time the order of results is fixed, and the database must equal that of a sweep that nobody killed.
With several it must hold every trial, epoch and draw once. `KDSEARCH_KILLS` and `KDSEARCH_KILL_SEED` change how often
and when; what was killed when stands in the captured output.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.ray, pytest.mark.kill, pytest.mark.timeout(3600)]

_SPEC = importlib.util.spec_from_file_location(
    "standing", Path(__file__).parents[1] / "search" / "standing.py"
)
STANDING = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(STANDING)

KILLS = int(os.environ.get("KDSEARCH_KILLS", "4"))  # of each case
SEED = int(os.environ.get("KDSEARCH_KILL_SEED", "1"))
PATIENCE_S = 300
EARLY_S = 8.0  # about what it takes until the first trial runs

PARAMETERS = {
    "kind": "parameters",
    "parameters": {
        "x": {"type": "float", "low": 0, "high": 1},
        "c": {"type": "categorical", "values": ["a", "b", "c"]},
    },
}
GRAPHS = {
    "kind": "ktg",
    "target": "s",
    "auxiliary": {"count": 1, "models": ["s", "w"]},
    "gates": ["through", "linear"],
}
CONSTANT = {
    "kind": "constant",
    "epochs": 6,
    "epoch_s": 0.05,
    "curve": 20,
    "wobble": 10,
    "effects": {"c=a": 9},
}
ONE = {"pack": 1, "checkpoint_every": 2, "max_concurrent": 1}
ASHA = {"kind": "asha", "rungs": [1, 3]}
DIGITS = {"name": "digits", "train_size": 128, "val_size": 60}
CASES = {
    "random": {"space": PARAMETERS, "searcher": {"kind": "random", "trials": 16}},
    "tpe": {"space": PARAMETERS, "searcher": {"kind": "tpe", "trials": 14, "startup": 4, "generation": 3}},
    "asha": {"space": PARAMETERS, "searcher": {"kind": "random", "trials": 20}, "scheduler": ASHA},
    "asha that promotes": {
        "space": PARAMETERS,
        "searcher": {"kind": "random", "trials": 16},
        "scheduler": {**ASHA, "mode": "promote"},
    },
    "refinement": {
        "space": GRAPHS,
        "searcher": {"kind": "refinement", "draws": 20, "limit": 4, "repeats": 1, "min_draws": 2},
        "trainable": {**CONSTANT, "effects": {"2->1=linear": -20}},
    },
    "graphs of digits": {
        "space": {
            "kind": "ktg",
            "target": "resnet8w4",
            "auxiliary": {"count": 1, "models": ["resnet8w4"]},
            "gates": ["through", "cutoff"],
        },
        "searcher": {"kind": "enumeration"},
        "trainable": {"kind": "ktg", "data": DIGITS, "epochs": 6, "batch_size": 32},
    },
    "distillation of digits": {
        "space": {"kind": "parameters", "parameters": {"lambda_1": {"type": "float", "low": 0, "high": 1}}},
        "searcher": {"kind": "tpe", "trials": 8, "startup": 3, "generation": 2, "confirm": 2},
        "scheduler": ASHA,
        "trainable": {
            "kind": "kd",
            "data": DIGITS,
            "student": "cnn4-8-16p",
            "teacher": {"model": "resnet8w4", "epochs": 4, "batch_size": 32},
            "epochs": 6,
            "batch_size": 32,
            "learning_rate": 0.3,
        },
    },
}


def sweep_of(case, **run):
    return {"name": "s", "seed": 11, "trainable": CONSTANT, **CASES[case], "run": {**ONE, **run}}


class Sweep:
    """A sweep in a folder of its own, run by processes of its own."""

    def __init__(self, folder, data):
        folder.mkdir()
        self.folder, self.database = folder, folder / "t.db"
        self.temporary = Path(tempfile.mkdtemp(prefix="kill-"))  # short: Ray's sockets lie in it
        self.family = set()  # process numbers of killed drivers and of all that they had started
        (folder / "s.yaml").write_text(yaml.safe_dump(data))

    def start(self):
        begun = self.rows("sweep") > 0
        command = ["resume", "s"] if begun else ["sweep", "s.yaml", "--name", "s"]
        program = "from kdsearch.search.cli import main; main()"
        with (self.folder / "errors.txt").open("ab") as errors:
            return subprocess.Popen(
                [sys.executable, "-c", program, *command, "--db", f"sqlite:///{self.database}", "--json"],
                cwd=self.folder,
                env={**os.environ, "RAY_ADDRESS": "", "TMPDIR": str(self.temporary)},
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )

    def run(self):
        """Run to the end."""
        process = self.start()
        assert process.wait(PATIENCE_S) == 0, (self.folder / "errors.txt").read_text()

    def rows(self, table):
        if not self.database.exists():
            return 0
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as database:
            try:
                return database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
            except sqlite3.OperationalError:
                return 0

    def ended(self):
        """Numbers of the trials that no later driver may run again."""
        if not self.rows("trial"):
            return {}
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as database:
            words = "SELECT number, attempts FROM trial WHERE state IN ('complete', 'stopped', 'diverged', 'failed')"
            return dict(database.execute(words))

    def attempts(self):
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as database:
            return dict(database.execute("SELECT number, attempts FROM trial"))


def children(process):
    """Process numbers of all that a process has started, directly or not."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
    parents = dict(tuple(map(int, line.split())) for line in listed.splitlines()[1:])
    found, new = set(), {process.pid}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return found


def alive(pids):
    """Those that still run; what is dead and not yet reaped does not."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            found |= {pid} if state not in "ZX" else set()
    return found


def wait_until(condition, what):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.01)


def kill_once(sweep, dice, goal):
    """Start a driver and kill it: at a random moment of its start, or a moment after it has stored so many values."""
    process = sweep.start()
    early = dice.random() < 0.2
    delay = dice.uniform(0, EARLY_S if early else 0.4)
    if not early:
        wait_until(
            lambda: process.poll() is not None or sweep.rows("metric_value") >= goal,
            f"{goal} values are there",
        )
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(delay)
        return False
    sweep.family |= children(process)
    os.kill(process.pid, signal.SIGKILL)  # alone: the next driver begins while its Ray is still dying
    process.wait()
    print(  # noqa: T201 shown where a test fails
        f"killed {'early' if early else ''} after {delay:.2f} s with {sweep.rows('metric_value')} values"
    )
    return True


def killed_to_the_end(folder, data, dice, total):
    """Run a sweep whose drivers are killed; how often one was, and that no finished trial ran again."""
    sweep, kills, before = Sweep(folder, data), 0, {}
    for n in range(KILLS):
        goal = sweep.rows("metric_value")
        goal += dice.randrange(max(1, 2 * (total - goal) // (KILLS - n + 1)))
        kills += kill_once(sweep, dice, goal)
        now = sweep.attempts() if sweep.rows("trial") else {}
        assert all(now[number] == attempts for number, attempts in before.items())
        before = sweep.ended()
    sweep.run()
    assert all(sweep.attempts()[number] == attempts for number, attempts in before.items())
    return sweep, kills


def dice_of(words):
    return random.Random(f"{SEED} {words}")  # noqa: S311 moments, no secrets


def check_left_over(sweep):
    wait_until(lambda: not alive(sweep.family), "what killed drivers had started is gone")
    assert not list(sweep.folder.glob("t.db.files/checkpoints/s/*"))
    assert not list(sweep.folder.glob("*.spool.jsonl"))
    shutil.rmtree(sweep.temporary, ignore_errors=True)


@pytest.mark.parametrize("case", CASES)
def test_a_sweep_whose_drivers_are_killed_equals_one_that_nobody_killed(tmp_path, case):
    data = sweep_of(case)
    whole = Sweep(tmp_path / "whole", data)
    whole.run()
    total = whole.rows("metric_value")
    sweep, kills = killed_to_the_end(tmp_path / "killed", data, dice_of(case), total)
    found, expected = STANDING.standing(sweep.database), STANDING.standing(whole.database)
    assert {table: rows for table, rows in found.items() if rows != expected[table]} == {}
    assert STANDING.broken(sweep.database, epochs=6) == []
    check_left_over(sweep)
    check_left_over(whole)
    assert kills >= KILLS - 1


@pytest.mark.parametrize("case", ["asha", "asha that promotes", "tpe", "refinement"])
def test_with_several_packs_at_a_time_nothing_is_lost_and_nothing_is_there_twice(tmp_path, case):
    data = sweep_of(case, pack=2, max_concurrent=2)
    total = 6 * 16
    sweep, kills = killed_to_the_end(tmp_path / "killed", data, dice_of(f"two {case}"), total)
    assert STANDING.broken(sweep.database, epochs=6) == []
    check_left_over(sweep)
    assert kills >= 1
