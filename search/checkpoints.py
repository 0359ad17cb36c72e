"""Checkpoint files: a file is deleted only when the trial database can no longer name it.

A worker writes `<trial>-<epoch>.pt`, the driver hears of it and queues it for the database. Between the two, and while
the queue is written, the driver can be killed: a resume then goes on from the checkpoint that the database names, which
must still be there. So neither workers nor coordinator delete anything; the writer says what is stored, and here goes
what lies behind it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from kdsearch.search.trialdb import operations as op


def checkpoints_folder(files: Path, sweep: str) -> Path:
    """Where a sweep's checkpoints lie, in the folder of files beside its database."""
    return files / "checkpoints" / sweep


class CheckpointFiles:
    """The checkpoint files of one sweep."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def stored(self, batch: Sequence[op.Operation]) -> None:
        """Delete what a batch that is in the database makes useless: older checkpoints, all of ended trials."""
        if not self._folder.is_dir():
            return
        for operation in batch:
            match operation:
                case op.SaveCheckpoints():
                    for row in operation.rows:
                        self._delete(row.number, before=row.epoch)
                case op.FinishTrials():
                    for result in operation.rows:
                        self._delete(result.number, before=None)
                case _:
                    pass

    def forget(self, ended: Iterable[int]) -> None:
        """Delete files of trials that have ended: of a driver that was killed before it came to it."""
        if self._folder.is_dir():
            for number in ended:
                self._delete(number, before=None)

    def clear(self) -> None:
        """Delete all: the sweep is complete."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _delete(self, number: int, *, before: int | None) -> None:
        """Delete checkpoints of a trial, all or those of epochs before one; what cannot be deleted stays."""
        for path in self._folder.glob(f"{number}-*.pt"):
            epoch = path.stem.partition("-")[2]
            if before is not None and not (epoch.isdigit() and int(epoch) < before):
                continue
            try:
                path.unlink(missing_ok=True)
            except OSError:
                continue
