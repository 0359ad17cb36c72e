"""Real Ray and a real PostgreSQL that is stopped, killed and away during a sweep: the sweep of an undisturbed one."""

from __future__ import annotations

import contextlib
import functools
import signal

import pandas as pd
import pytest

from kdsearch.search import launch
from kdsearch.search.config import parse_sweep
from kdsearch.search.progress import Quiet
from kdsearch.search.trialdb import TrialDatabase, Writer, read_record
from kdsearch.search.trialdb.errors import RowsSpooledError

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]  # Ray's own

SWEEP = {
    "name": "s",
    "space": {
        "kind": "parameters",
        "parameters": {
            "x": {"type": "float", "low": 0, "high": 1},
            "c": {"type": "categorical", "values": ["a", "b", "c"]},
        },
    },
    "trainable": {"kind": "constant", "epochs": 6, "epoch_s": 0.05, "curve": 20, "effects": {"c=a": 9}},
    "searcher": {"kind": "random", "trials": 20},
    "scheduler": {"kind": "asha", "rungs": [1, 3]},
    "run": {"pack": 1, "checkpoint_every": 2, "max_concurrent": 1},
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def at_trials(moments):
    """A display that calls a function once so many trials have ended."""
    waiting = dict(moments)

    class Watch(Quiet):
        def __init__(self, coordinator):
            self.coordinator = coordinator

        def tick(self):
            done = self.coordinator.searcher.overview().done
            for moment in [moment for moment in waiting if done >= moment]:
                waiting.pop(moment)()

    @contextlib.contextmanager
    def opened(coordinator):
        yield Watch(coordinator)

    return opened


def results(url):
    """What a sweep came to, without times, attempts and hosts."""
    with TrialDatabase.open(url, create=False, read_only=True) as database:
        record = read_record(database, "s")
        events = [(event.kind, event.data) for event in database.events("s")]
    told = ["number", "role", "state", "error", "best_error", "best_epoch", "last_epoch", "seed", "x", "c"]
    curves = record.curves[record.curves["metric"] != "seconds"].reset_index(drop=True)
    curves["metric"] = curves["metric"].astype(str)
    return record.state, record.trials[told], record.draws, curves, events


def same(one, other):
    assert one[0] == other[0] == "complete"
    for left, right in zip(one[1:4], other[1:4], strict=True):
        pd.testing.assert_frame_equal(left, right)
    assert one[4] == other[4]


@pytest.fixture(scope="module")
def undisturbed(ray_slots, tmp_path_factory):
    """The same sweep on SQLite, where nothing happens."""
    url = f"sqlite:///{tmp_path_factory.mktemp('whole') / 'a.db'}"
    launch.start(parse_sweep(SWEEP, "test"), "sweep", launch.Launch(db=url), at_trials({}))
    return results(url)


def test_a_server_that_is_killed_stopped_and_away_changes_nothing(
    undisturbed, postgresql, postgresql_url, clock, folder, monkeypatch
):
    hasty = functools.partial(Writer, patience_s=0.2, retry_spool_s=0.1)
    monkeypatch.setattr(launch, "Writer", hasty)
    moments = {
        2: lambda: postgresql.restart(signal.SIGKILL),
        5: postgresql.stop,
        9: postgresql.start,
        13: postgresql.restart,
    }
    start = launch.Launch(db=postgresql_url, clock=clock)
    launch.start(parse_sweep(SWEEP, "test"), "sweep", start, at_trials(moments))
    same(results(postgresql_url), undisturbed)
    assert list(folder.glob("*.spool.jsonl")) == []
    assert list(launch.files_folder(postgresql_url).glob("checkpoints/s/*")) == []


def test_a_server_that_never_returns_leaves_its_rows_to_a_resume(
    undisturbed, postgresql, postgresql_url, clock, folder, monkeypatch
):
    monkeypatch.setattr(launch, "Writer", functools.partial(Writer, patience_s=0.2, retry_spool_s=1e9))
    start = launch.Launch(db=postgresql_url, clock=clock)
    with pytest.raises(
        RowsSpooledError, match=r"operations of sweep 's' wait in .*\.s\.spool\.jsonl"
    ) as caught:
        launch.start(parse_sweep(SWEEP, "test"), "sweep", start, at_trials({4: postgresql.stop}))
    assert caught.value.exit_code == 1
    assert postgresql.password not in str(caught.value)
    assert len(list(folder.glob("*.spool.jsonl"))) == 1
    postgresql.start()
    with TrialDatabase.open(postgresql_url, clock=clock) as database:
        assert database.sweep("s").state == "running"  # as far as it knows
        clock.now += pd.Timedelta(
            seconds=61
        )  # the driver lives on, as this test, and did not give its lease back
    assert launch.resume("s", start, at_trials({})) is False  # nothing was left to run
    same(results(postgresql_url), undisturbed)
    assert list(folder.glob("*.spool.jsonl")) == []
