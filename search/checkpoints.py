"""Checkpoint files: a file is deleted only when the trial database can no longer name it.

A worker writes `<trial>-<epoch>.pt`, the driver hears of it and queues it for the database. Between the two, and while
the queue is written, the driver can be killed: a resume then goes on from the checkpoint that the database names, which
must still be there. So neither workers nor coordinator delete anything; the writer says what is stored, and here goes
what lies behind it. Rows that go through the spool delete nothing: a later checkpoint, the next resume or the sweep's
end does.

Deleting has a thread of its own: a storage that hangs must keep the writer neither from its rows nor from its lease.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from kdsearch.search.trialdb import operations as op
from kdsearch.trainables.storage import SHARED, Storage

_LOG = logging.getLogger(__name__)
_PATIENCE_S: Final = 30.0  # that the end of a sweep waits for files to be deleted


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


class Behind:
    """Hands batches to a call in a thread of its own, in order; who hands them over does not wait."""

    def __init__(
        self, call: Callable[[Sequence[op.Operation]], None], patience_s: float = _PATIENCE_S
    ) -> None:
        """patience_s: how long the end waits for what is still to do."""
        self._call, self._patience_s = call, patience_s
        self._batches: queue.SimpleQueue[Sequence[op.Operation] | None] = queue.SimpleQueue()
        # a daemon: a storage that hangs for good must not keep the process from its end
        self._thread = threading.Thread(target=self._run, name="kdsearch checkpoint files", daemon=True)
        self._thread.start()

    def put(self, batch: Sequence[op.Operation]) -> None:
        """Hand a batch over."""
        self._batches.put(batch)

    def close(self) -> bool:
        """Wait for what is still to do, for a while; whether all of it was done."""
        self._batches.put(None)
        self._thread.join(self._patience_s)
        return not self._thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                self._call(batch)
            except Exception:  # noqa: BLE001 files that stay cost room and nothing else
                _LOG.exception("old checkpoints could not be deleted")
