"""Checkpoint files: a file is deleted only when the trial database can no longer name it.

A worker writes `<trial>-<epoch>.pt`, the driver hears of it and queues it for the database. Between the two, and while
the queue is written, the driver can be killed: a resume then goes on from the checkpoint that the database names, which
must still be there. So neither workers nor coordinator delete anything; the writer says what is stored, and here goes
what lies behind it. Rows that go through the spool delete nothing: a later checkpoint, the next resume or the sweep's
end does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kdsearch.search.trialdb import operations as op
from kdsearch.trainables.storage import SHARED, Storage


def checkpoints_folder(files: Path, sweep: str) -> Path:
    """Where a sweep's checkpoints lie, in the folder of files beside its database."""
    return files / "checkpoints" / sweep


class CheckpointFiles:
    """The checkpoint files of one sweep."""

    def __init__(self, folder: Path, storage: Storage = SHARED) -> None:
        self._folder, self._storage = folder, storage
        self._any = bool(storage.names(folder))  # a storage may take long to say that there is nothing

    def stored(self, batch: Sequence[op.Operation]) -> None:
        """Delete what a batch that is in the database makes useless: older checkpoints, all of ended trials."""
        before: dict[int, int | None] = {}
        for operation in batch:
            match operation:
                case op.SaveCheckpoints():
                    self._any = True
                    before |= {row.number: row.epoch for row in operation.rows}
                case op.FinishTrials():
                    before |= dict.fromkeys((result.number for result in operation.rows), None)
                case _:
                    pass
        self._delete(before)

    def forget(self, ended: Iterable[int]) -> None:
        """Delete files of trials that have ended: of a driver that was killed before it came to it."""
        self._delete(dict.fromkeys(ended, None))

    def clear(self) -> None:
        """Delete all: the sweep is complete."""
        self._storage.clear(self._folder)

    def _delete(self, before: Mapping[int, int | None]) -> None:
        """Delete checkpoints of trials, all (None) or those of epochs before one; what cannot be deleted stays."""
        if not before or not self._any:
            return
        for name in self._storage.names(self._folder):
            trial, dash, rest = name.partition("-")
            epoch, ends, _ = rest.partition(".pt")
            if not (dash and ends and trial.isdigit() and int(trial) in before):
                continue
            first = before[int(trial)]
            if first is None or (epoch.isdigit() and int(epoch) < first):
                self._storage.delete(self._folder / name)
