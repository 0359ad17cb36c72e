"""The watchdog: last words and the end of a process that hangs or takes too much."""

from __future__ import annotations

import faulthandler
import mmap
import subprocess
import sys
import threading

import pytest

from kdsearch.trainables.watchdog import Limits, Watchdog, resident_bytes


@pytest.fixture
def no_alarm(monkeypatch):
    """Keep `faulthandler` out of the tests' own process."""
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: None)


def watched(limits, what, **more):
    """Watch `what(ended)`, and return what was told; `end` sets `ended` in place of ending the process."""
    told, ended = [], threading.Event()
    dog = Watchdog(limits, told.append, end=ended.set, look_every_s=0.001, **more)
    with dog.watching():
        what(ended)
    return told, ended.is_set()


def hang_until(ended):
    assert ended.wait(60)


def test_an_epoch_that_does_not_end_is_told_with_the_call_where_it_stands(no_alarm):
    told, ended = watched(Limits(epoch_s=0.05), hang_until)
    assert ended
    assert len(told) == 1
    assert "no epoch ended within 0.05 s (run.epoch_limit_s)" in told[0]
    assert "in hang_until" in told[0]
    assert "assert ended.wait(60)" in told[0]
    assert "pytest" not in told[0].partition("hang_until")[0].replace("/pytest-", "")  # only what was watched


def test_an_epoch_in_time_is_left_alone(no_alarm):
    told, ended = watched(Limits(epoch_s=3600.0, memory_bytes=1e15), lambda _: None)
    assert (told, ended) == ([], False)


def test_memory_over_the_limit_is_told_with_what_was_taken(no_alarm):
    told, ended = watched(Limits(memory_bytes=2e9), hang_until, resident=lambda: 2.5e9)
    assert ended
    assert "its process took 2.50 GB, more than 2 (run.memory_limit_gb)" in told[0]


def test_without_limits_no_thread_is_made():
    before = threading.active_count()
    seen = []
    watched(Limits(), lambda _: seen.append(threading.active_count()))
    assert seen == [before]


def test_resident_memory_grows_with_what_is_taken():
    before = resident_bytes()
    with mmap.mmap(-1, 50_000_000) as block:  # pages of its own: an allocator may have some left from before
        for start in range(0, len(block), mmap.PAGESIZE):
            block[start] = 1
        assert resident_bytes() - before > 40_000_000


def test_a_real_process_ends_by_itself_with_its_last_words_said():
    program = """
import sys, time
from kdsearch.trainables.watchdog import Limits, Watchdog
with Watchdog(Limits(epoch_s=0.2), lambda words: print(words, flush=True)).watching():
    time.sleep(10**6)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 70
    assert "it is taken to hang" in ended.stdout
