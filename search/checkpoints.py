"""Checkpoint files: a file is deleted only when the trial database can no longer name it.

A worker writes `<trial>-<epoch>.pt`, the driver hears of it and queues it for the database. Between the two, and while
the queue is written, the driver can be killed: a resume then goes on from the checkpoint that the database names, which
must still be there. So neither workers nor coordinator delete anything; the writer says what is stored, and here goes
what lies behind it. Rows that wait in a spool make nothing useless before they are brought in.

Deleting has a thread of its own: a storage that hangs must keep the writer neither from its rows nor from its lease.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kdsearch.search.trialdb import operations as op
from kdsearch.trainables.storage import SHARED, Storage

_LOG = logging.getLogger(__name__)


def checkpoints_folder(files: Path, sweep: str) -> Path:
    """Where a sweep's checkpoints lie, in the folder of files beside its database."""
    return files / "checkpoints" / sweep


class CheckpointFiles:
    """The checkpoint files of one sweep."""

    def __init__(self, folder: Path, storage: Storage = SHARED) -> None:
        self._folder, self._storage = folder, storage
        self._any = bool(storage.names(folder))  # a storage may take long to say that there is nothing

    def clear(self) -> None:
        """Delete all: the sweep is complete."""
        self._storage.clear(self._folder)

    def delete(self, before: Mapping[int, int | None]) -> None:
        """Delete checkpoints of trials, all (None) or those of epochs before one; what cannot be deleted stays."""
        self._any |= any(epoch is not None for epoch in before.values())
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


def useless(batch: Sequence[op.Operation]) -> dict[int, int | None]:
    """Trials of which a batch makes checkpoints useless: those before an epoch, or all (None) of one that has ended."""
    before: dict[int, int | None] = {}
    for operation in batch:
        match operation:
            case op.SaveCheckpoints():
                before |= {row.number: row.epoch for row in operation.rows}
            case op.FinishTrials():
                before |= dict.fromkeys((result.number for result in operation.rows), None)
            case _:
                pass
    return before


class Behind:
    """Deletes a sweep's useless files in a thread of its own; who says what is stored does not wait for it."""

    def __init__(self, files: CheckpointFiles) -> None:
        self._files = files
        self._change = threading.Condition()  # guards what follows
        self._before: dict[int, int | None] = {}  # the newest word on each trial: one may begin anew
        self._spooled: dict[int, int | None] = {}  # the same of rows that wait in the spool
        self._clear = self._closing = False
        # a daemon: a storage that hangs for good does not keep the process from its end
        self._thread = threading.Thread(target=self._run, name="kdsearch checkpoint files", daemon=True)
        self._thread.start()

    def stored(self, batch: Sequence[op.Operation]) -> None:
        """Hear what is in the database."""
        self._hear(useless(batch))

    def spooled(self, batch: Sequence[op.Operation]) -> None:
        """Hear what waits in the spool; in the writer's thread, as the next one."""
        self._spooled |= useless(batch)

    def brought_in(self) -> None:
        """Hear that what waited in the spool is in the database."""
        self._hear(self._spooled)
        self._spooled = {}

    def forget(self, ended: Iterable[int]) -> None:
        """Hear of trials that have ended, in the time of a driver that was killed before it came to their files."""
        self._hear(dict.fromkeys(ended, None))

    def _hear(self, before: Mapping[int, int | None]) -> None:
        if before:
            with self._change:
                self._before |= before
                self._change.notify_all()

    def clear(self) -> None:
        """Delete all files in the end: the sweep is complete."""
        with self._change:
            self._clear = True

    def close(self, patience_s: float) -> bool:
        """Wait for what is still to do, for so many seconds at most; whether all of it was done. Safe to call again."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._before or self._closing)
                before, self._before = self._before, {}
                last, clear = self._closing, self._clear
            try:
                if last and clear:
                    self._files.clear()
                else:
                    self._files.delete(before)
            except Exception:  # noqa: BLE001 files that stay cost room and nothing else
                _LOG.exception("old checkpoints could not be deleted")
            if last:
                return
