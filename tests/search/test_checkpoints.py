"""Checkpoint files go when the database has what makes them useless, and not before."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from kdsearch.search.checkpoints import Behind, CheckpointFiles, checkpoints_folder
from kdsearch.search.trialdb import operations as op
from kdsearch.search.trialdb.states import TrialState

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path):
    folder = checkpoints_folder(tmp_path, "s")
    folder.mkdir(parents=True)
    for name in ("1-2.pt", "1-4.pt", "1-6.pt", "11-2.pt", "2-2.pt", "2-10.pt", "1-x.pt"):
        (folder / name).touch()
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def saved(number, epoch):
    return op.SaveCheckpoints("s", (op.CheckpointRow(number=number, n=1, epoch=epoch, path=""),))


def test_a_stored_checkpoint_makes_earlier_ones_useless_and_no_later_ones(folder):
    CheckpointFiles(folder).stored([saved(1, 4), saved(2, 2)])
    assert names(folder) == ["1-4.pt", "1-6.pt", "1-x.pt", "11-2.pt", "2-10.pt", "2-2.pt"]
    CheckpointFiles(folder).stored([saved(2, 10)])
    assert names(folder) == ["1-4.pt", "1-6.pt", "1-x.pt", "11-2.pt", "2-10.pt"]


def test_a_stored_end_makes_all_checkpoints_of_the_trial_useless(folder):
    end = op.ResultRow(number=1, attempt=1, state=TrialState.STOPPED, at=NOW)
    CheckpointFiles(folder).stored([op.FinishTrials("s", (end,)), op.MarkRunningLost("s", ())])
    assert names(folder) == ["11-2.pt", "2-10.pt", "2-2.pt"]


def test_what_a_killed_driver_did_not_come_to_is_made_good(folder, tmp_path):
    CheckpointFiles(folder).forget([1, 3])
    assert names(folder) == ["11-2.pt", "2-10.pt", "2-2.pt"]
    CheckpointFiles(folder).clear()
    assert not folder.exists()
    CheckpointFiles(tmp_path / "none").clear()
    CheckpointFiles(tmp_path / "none").forget([1])


def test_who_hands_batches_over_does_not_wait_for_a_storage_that_hangs():
    hangs, done = threading.Event(), []

    def call(batch):
        hangs.wait(60)
        done.append(batch)

    behind = Behind(call, patience_s=0.05)
    behind.put([1])
    behind.put([2])
    assert not behind.close()  # it gives up waiting
    assert done == []
    hangs.set()
    behind._thread.join(60)
    assert done == [[1], [2]]


def test_what_goes_wrong_with_a_batch_keeps_no_other_from_being_done(caplog):
    done = []

    def call(batch):
        done.append(batch)
        raise OSError

    with Behind(call) as behind:
        behind.put([1])
        behind.put([2])
    assert done == [[1], [2]]
    assert "old checkpoints could not be deleted" in caplog.text
