"""The spool: operations that the database could not take, as JSON lines in a local file, until it can.

The first line says what the file is and whose: a sweep is known by its name and the moment when it was created, so
that sweeps of one name in several databases never get one another's rows. An operation counts as spooled once its
line is on the disk (fsync). A last line that was cut short by a crash is passed over: it was never acknowledged.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kdsearch.search.trialdb.database import TrialDatabase
from kdsearch.search.trialdb.errors import TrialDatabaseError
from kdsearch.search.trialdb.leases import Lease
from kdsearch.search.trialdb.operations import Operation, from_line, to_line
from kdsearch.search.trialdb.places import server_name

_FORMAT = 1
_BATCH = 500  # operations in one transaction


class SpoolFullError(TrialDatabaseError):
    """The spool file has reached its limit, or its disk is full."""


class SpoolFormatError(TrialDatabaseError):
    """A spool file that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The sweep whose operations a spool holds."""

    sweep: str
    created: datetime | None = None  # None: not known, and only the name counts

    def header(self) -> bytes:
        """The first line of its spool."""
        told: dict[str, Any] = {"kdsearch_spool": _FORMAT, "sweep": self.sweep}
        if self.created is not None:
            told["created"] = self.created.isoformat()
        return json.dumps(told).encode() + b"\n"

    def owns(self, header: dict[str, Any]) -> bool:
        """Whether a spool with this first line is its own; those of earlier versions do not say whose they are."""
        created = None if self.created is None else self.created.isoformat()
        return header.get("sweep", self.sweep) == self.sweep and header.get("created", created) == created


def spool_path(database: TrialDatabase, sweep: str, folder: Path | None = None) -> Path:
    """Return a sweep's spool file: in `folder`, else beside an SQLite file, else in the current folder."""
    name = server_name(database.engine.url) if database.path is None else database.path.name
    return _folder(database, folder) / f"{name}{_ending(sweep)}"


def _folder(database: TrialDatabase, folder: Path | None) -> Path:
    return folder or (Path.cwd() if database.path is None else database.path.parent)


def _ending(sweep: str) -> str:
    return f".{quote(sweep, safe=' ')}.spool.jsonl"


def spools(database: TrialDatabase, owner: Owner, folder: Path | None = None) -> list[Path]:
    """Return the spools of a sweep that earlier drivers left; SpoolFormatError where another's lies in its place.

    A server's database may have been reached by another URL then, which gave the file another name.
    """
    own = spool_path(database, owner.sweep, folder)
    if own.exists() and not owner.owns(_header(own)):
        raise SpoolFormatError(
            f"{own} is the spool of another sweep {owner.sweep!r}, of an earlier database",
            "Bring that database back and resume the sweep there; or move the file away, and its rows are lost.",
        )
    found = [own] if own.exists() else []
    if database.path is None:
        ending = _ending(owner.sweep)
        others = sorted(_folder(database, folder).glob(f"kdsearch*{glob.escape(ending)}"))
        earlier = f"kdsearch{ending}"  # the name in earlier versions, which did not say whose it was
        found += [
            path
            for path in others
            if path != own
            and owner.owns(_header(path))
            and ("created" in _header(path) or path.name == earlier)
        ]
    return found


def _header(path: Path) -> dict[str, Any]:
    """The first line of a spool; empty if it was cut short by a crash."""
    with path.open("rb") as file:
        line = file.readline()
    return _parsed(path, 1, line) if line.endswith(b"\n") else {}


def append(path: Path, operations: list[Operation], limit_bytes: int, owner: Owner) -> None:
    """Add operations and wait until they are on the disk; SpoolFullError leaves the file as it was."""
    lines = b"".join(to_line(operation) for operation in operations)
    try:
        size = _whole_bytes(path)
        if size == 0:
            lines = owner.header() + lines
        if size + len(lines) > limit_bytes:
            raise SpoolFullError(
                f"the spool file {path} has reached its limit of {limit_bytes:,} bytes",
                "Bring the database back, then `kdsearch resume` the sweep: that brings the spooled rows in.",
            )
        _write(path, lines, size)
    except OSError as error:
        raise SpoolFullError(
            f"the spool file {path} cannot be written: {error.strerror}",
            "Free some space or bring the database back, then `kdsearch resume` the sweep.",
        ) from error


def _whole_bytes(path: Path) -> int:
    """Return the size of a spool without a last line that a crash cut short."""
    if not path.exists() or path.stat().st_size == 0:
        return 0
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read() == b"\n":
            return file.tell()
        file.seek(0)
        return sum(len(line) for line in file if line.endswith(b"\n"))


def _write(path: Path, lines: bytes, size: int) -> None:
    """Write lines at `size`, where the file's whole lines end."""
    with path.open("ab") as file:
        try:
            file.truncate(size)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, size)
            raise


def read(path: Path) -> Iterator[Operation]:
    """Give a spool's operations in order; SpoolFormatError names the line that is wrong."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return  # cut short by a crash
            if number == 1:
                _parsed(path, number, line)
                continue
            try:
                yield from_line(line)
            except ValueError as error:
                raise _not_ours(path, number) from error


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except ValueError as error:
        raise _not_ours(path, number) from error
    if not isinstance(header, dict) or header.get("kdsearch_spool") != _FORMAT:
        raise _not_ours(path, number)
    return header


def _not_ours(path: Path, number: int) -> SpoolFormatError:
    return SpoolFormatError(
        f"{path}, line {number}: not a spooled operation of this version of kdsearch",
        "Update kdsearch; or move the file away, and its rows are lost.",
    )


def replay(
    database: TrialDatabase, path: Path, lease: Lease | None = None, *, within_s: float | None = None
) -> int:
    """Bring a spool's operations into the database, then delete the file; return how many there were.

    Carried out again from the start if it was interrupted: operations are idempotent. 0 if there is no spool.
    within_s: as that of `TrialDatabase.apply`, for each transaction.
    """
    if not path.exists():
        return 0
    operations = read(path)
    count = 0
    while batch := list(islice(operations, _BATCH)):
        database.apply(batch, lease=lease, within_s=within_s)
        count += len(batch)
    path.unlink()
    return count
