"""Checkpoint files go when the database has what makes them useless, and not before."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from kdsearch.search.checkpoints import Behind, CheckpointFiles, checkpoints_folder, useless
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
    CheckpointFiles(folder).delete(useless([saved(1, 4), saved(2, 2)]))
    assert names(folder) == ["1-4.pt", "1-6.pt", "1-x.pt", "11-2.pt", "2-10.pt", "2-2.pt"]
    CheckpointFiles(folder).delete(useless([saved(2, 10)]))
    assert names(folder) == ["1-4.pt", "1-6.pt", "1-x.pt", "11-2.pt", "2-10.pt"]


def test_a_stored_end_makes_all_checkpoints_of_the_trial_useless(folder):
    end = op.ResultRow(number=1, attempt=1, state=TrialState.STOPPED, at=NOW)
    CheckpointFiles(folder).delete(useless([op.FinishTrials("s", (end,)), op.MarkRunningLost("s", ())]))
    assert names(folder) == ["11-2.pt", "2-10.pt", "2-2.pt"]


def test_what_a_killed_driver_did_not_come_to_is_made_good(folder, tmp_path):
    CheckpointFiles(folder).delete({1: None, 3: None})
    assert names(folder) == ["11-2.pt", "2-10.pt", "2-2.pt"]
    CheckpointFiles(folder).clear()
    assert not folder.exists()
    CheckpointFiles(tmp_path / "none").clear()
    CheckpointFiles(tmp_path / "none").delete({1: None})


class Hanging(CheckpointFiles):
    """Files of a storage that answers when the test says so."""

    def __init__(self, folder):
        super().__init__(folder)
        self.answers, self.asked, self.calls = threading.Event(), threading.Event(), []

    def delete(self, before):
        self.asked.set()
        self.answers.wait(60)
        self.calls.append(dict(before))
        super().delete(before)


def test_who_says_what_is_stored_does_not_wait_for_a_storage_that_hangs(folder):
    files = Hanging(folder)
    behind = Behind(files)
    behind.stored([saved(1, 4)])
    assert files.asked.wait(60)
    end = op.ResultRow(number=11, attempt=1, state=TrialState.STOPPED, at=NOW)
    behind.stored([saved(1, 6), saved(2, 10)])
    behind.stored(
        [saved(2, 2), op.FinishTrials("s", (end,))]
    )  # trial 2 has begun anew: the newest word counts
    assert not behind.close(0.05)
    assert files.calls == []
    files.answers.set()
    assert behind.close(60)
    assert files.calls == [{1: 4}, {1: 6, 2: 2, 11: None}]
    assert names(folder) == ["1-6.pt", "1-x.pt", "2-10.pt", "2-2.pt"]


def test_what_is_stored_between_the_last_word_and_the_end_is_not_missed(folder):
    behind = Behind(CheckpointFiles(folder))
    behind.stored([op.MarkRunningLost("s", ())])  # nothing to do
    behind.forget([11])
    behind.stored([saved(2, 10)])
    assert behind.close(60)
    assert names(folder) == ["1-2.pt", "1-4.pt", "1-6.pt", "1-x.pt", "2-10.pt"]


def test_what_waits_in_the_spool_makes_files_useless_when_it_is_brought_in(folder):
    behind = Behind(CheckpointFiles(folder))
    behind.stored([saved(1, 4)])
    behind.spooled([saved(1, 6), saved(2, 10)])
    end = op.ResultRow(number=11, attempt=1, state=TrialState.STOPPED, at=NOW)
    behind.spooled([op.FinishTrials("s", (end,))])
    assert behind.close(60)
    assert names(folder) == ["1-4.pt", "1-6.pt", "1-x.pt", "11-2.pt", "2-10.pt", "2-2.pt"]
    behind = Behind(CheckpointFiles(folder))
    behind.spooled([saved(1, 6), op.FinishTrials("s", (end,))])
    behind.brought_in()
    behind.brought_in()
    assert behind.close(60)
    assert names(folder) == ["1-6.pt", "1-x.pt", "2-10.pt", "2-2.pt"]


def test_a_complete_sweep_leaves_no_file(folder):
    behind = Behind(CheckpointFiles(folder))
    behind.stored([saved(2, 10)])
    behind.clear()
    assert behind.close(60)
    assert not folder.exists()


def test_a_fault_while_deleting_keeps_nothing_from_being_done(folder):
    files = CheckpointFiles(folder)
    files.delete = lambda before: 1 / 0
    behind = Behind(files)
    behind.stored([saved(1, 4)])
    behind.clear()
    assert behind.close(60)
    assert not folder.exists()
