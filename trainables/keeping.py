"""A pack's files on their way: checkpoints and inputs in, checkpoints and outputs out. No Ray, no torch.

What a pack needs is brought to this machine before it is built. A checkpoint that cannot be written costs the sweep
nothing but that checkpoint: the pack trains on, the one before stays, and the driver is told why. An output that
others wait for must be written: its failure is the pack's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdsearch.spaces.errors import KdsearchError
from kdsearch.trainables.protocol import EpochReport, Member, MemberState, Pack
from kdsearch.trainables.storage import storage_of


@dataclass(frozen=True)
class Kept:
    """What became of the checkpoints that were due after an epoch; as plain data for Ray."""

    saved: list[tuple[int, str]]  # member, place
    unsaved: list[tuple[int, int, str]]  # member, epoch, why


class Keeper:
    """The files of one job, as the driver describes it."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        """job: `outputs`, `checkpoints`, `checkpoint_every`, `save_at` and `storage` are read."""
        self._job, self._storage = job, storage_of(job.get("storage"))

    @contextmanager
    def brought(
        self, members: Sequence[Member], settings: Mapping[str, Any]
    ) -> Iterator[tuple[list[Member], dict[str, Any]]]:
        """Give members and settings whose files can be read here, as long as the pack is being built."""
        with tempfile.TemporaryDirectory(prefix="kdsearch-files-") as name:
            folder = Path(name)
            here = dict(settings)
            if self._job.get("storage") is not None and here.get("exported"):
                here["exported"] = str(self._storage.fetch(Path(here["exported"]), folder))
            yield [self._here(member, folder) for member in members], here

    def _here(self, member: Member, folder: Path) -> Member:
        checkpoint = member.checkpoint
        if checkpoint is not None and not self._storage.exists(checkpoint):
            checkpoint = None  # it is gone: the trial begins anew
        return replace(
            member,
            checkpoint=None if checkpoint is None else self._storage.fetch(checkpoint, folder),
            inputs={role: self._storage.fetch(path, folder) for role, path in member.inputs.items()},
        )

    def keep(self, pack: Pack, reports: Sequence[EpochReport]) -> Kept:
        """Write the outputs that others wait for, and the checkpoints that are due."""
        outputs: Mapping[str, str] = self._job["outputs"]
        for report in reports:
            path = outputs.get(str(report.number))
            if report.state is MemberState.COMPLETE and path is not None:
                self._storage.save(Path(path), lambda to, number=report.number: pack.save_output(number, to))  # type: ignore[misc]
        kept = Kept([], [])
        if self._job["checkpoints"] is None:
            return kept
        for report in reports:
            if report.state is MemberState.RUNNING and self._due(report.epoch):
                self._save(pack, report, kept)
        return kept

    def _due(self, epoch: int) -> bool:
        every = self._job["checkpoint_every"]
        return bool(every and epoch % every == 0) or epoch in self._job.get("save_at", ())

    def _save(self, pack: Pack, report: EpochReport, kept: Kept) -> None:
        """Write a checkpoint; those before it are the driver's to delete, once its database has this one."""
        path = Path(self._job["checkpoints"]) / f"{report.number}-{report.epoch}.pt"
        try:
            self._storage.save(path, lambda to: pack.save(report.number, to))
        except (OSError, KdsearchError) as error:
            why = error.message if isinstance(error, KdsearchError) else f"{path}: {error.strerror or error}"
            kept.unsaved.append((report.number, report.epoch, why))
        else:
            kept.saved.append((report.number, self._storage.place(path)))
