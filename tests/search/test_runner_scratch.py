"""Tune's folder goes with its run; that of a killed driver with the next one."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile

import pytest

from kdsearch.search.runner_scratch import PREFIX, scratch_folder


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_goes_with_its_run_and_leaves_those_of_others_alone(temporary):
    (temporary / f"{PREFIX}of-an-earlier-version").mkdir()
    with scratch_folder() as one, scratch_folder() as two:
        assert one != two
        assert list(one.iterdir()) == []
        (one / "state").touch()
        with scratch_folder():
            assert (one / "state").exists()
    assert [path.name for path in temporary.iterdir()] == [f"{PREFIX}of-an-earlier-version"]


def test_one_that_is_just_being_made_is_left_alone(temporary, monkeypatch):
    """Another sweep begins, and looks for forsaken folders, between the making of the file and its lock."""
    lock = fcntl.flock

    def late(file, how):
        monkeypatch.setattr(fcntl, "flock", lock)
        with scratch_folder():
            pass
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with scratch_folder() as folder:
        assert list(folder.iterdir()) == []


def test_that_of_a_killed_driver_goes_with_the_next_one(temporary):
    program = (
        "import os, signal\n"
        "from kdsearch.search.runner_scratch import scratch_folder\n"
        "with scratch_folder() as folder:\n"
        "    (folder / 'state').touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "TMPDIR": str(temporary)}
    subprocess.run([sys.executable, "-c", program], check=False, env=environment)
    (left,) = temporary.iterdir()
    assert (left / "tune" / "state").exists()
    with scratch_folder():
        assert not left.exists()
