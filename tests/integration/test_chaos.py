"""Faults of every kind in one sweep: see `chaos.py`, which makes the figures of docs/faults.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def test_a_sweep_goes_through_faults_of_every_kind_and_comes_to_what_an_undisturbed_one_does():
    """A process of its own: its Ray has a token and several nodes, unlike the test session's."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("chaos.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    told = json.loads(done.stdout)
    assert sum(told["states"].values()) == told["trials"]
    assert (told["rows_lost"], told["rows_beyond"], told["restarted_without_need"]) == (0, 0, [])
    assert told["states"]["diverged"] == 3  # and nothing is failed: every cause went away
    assert set(told["states"]) == {"complete", "diverged"}
    befell = {
        "worker killed",
        "node killed",
        "node added",
        "driver killed",
        "database away",
        "database killed",
    }
    assert befell <= set(told["faults"])
    assert {kind: len(seconds) for kind, seconds in told["trial_faults"].items()} == {
        "fail": 2,
        "hang": 1,
        "leak": 1,
        "kill": 1,
    }
    assert told["spooled"]  # the database was away for longer than a driver waits
    if not told["mounted"]:
        pytest.skip("all was shown but a full disk, for which this user must be allowed to mount a small one")
    assert "disk full" in told["faults"]
