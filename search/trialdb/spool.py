"""The spool: operations that the database could not take, as JSON lines in a local file, until it can.

The first line says what the file is. An operation counts as spooled once its line is on the disk (fsync). A
last line that was cut short by a crash is passed over: it was never acknowledged.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from kdsearch.search.trialdb.database import TrialDatabase
from kdsearch.search.trialdb.errors import TrialDatabaseError
from kdsearch.search.trialdb.leases import Lease
from kdsearch.search.trialdb.operations import Operation, from_line, to_line

_FORMAT = 1
_BATCH = 500  # operations in one transaction


class SpoolFullError(TrialDatabaseError):
    """The spool file has reached its limit, or its disk is full."""


class SpoolFormatError(TrialDatabaseError):
    """A spool file that cannot be read."""


def spool_path(database: TrialDatabase, sweep: str, folder: Path | None = None) -> Path:
    """Return a sweep's spool file: in `folder`, else beside an SQLite file, else in the current folder."""
    name = "kdsearch" if database.path is None else database.path.name
    beside = Path.cwd() if database.path is None else database.path.parent
    return (folder or beside) / f"{name}.{quote(sweep, safe=' ')}.spool.jsonl"


def append(path: Path, operations: list[Operation], limit_bytes: int) -> None:
    """Add operations and wait until they are on the disk; SpoolFullError leaves the file as it was."""
    lines = b"".join(to_line(operation) for operation in operations)
    try:
        size = _whole_bytes(path)
        if size == 0:
            lines = json.dumps({"kdsearch_spool": _FORMAT}).encode() + b"\n" + lines
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
            try:
                if number == 1:
                    _check_header(line)
                else:
                    yield from_line(line)
            except ValueError as error:
                raise SpoolFormatError(
                    f"{path}, line {number}: not a spooled operation of this version of kdsearch",
                    "Update kdsearch; or move the file away, and its rows are lost.",
                ) from error


def _check_header(line: bytes) -> None:
    if json.loads(line).get("kdsearch_spool") != _FORMAT:
        raise ValueError("not a spool file of this format")


def replay(database: TrialDatabase, path: Path, lease: Lease | None = None) -> int:
    """Bring a spool's operations into the database, then delete the file; return how many there were.

    Carried out again from the start if it was interrupted: operations are idempotent. 0 if there is no spool.
    """
    if not path.exists():
        return 0
    operations = read(path)
    count = 0
    while batch := list(islice(operations, _BATCH)):
        database.apply(batch, lease=lease)
        count += len(batch)
    path.unlink()
    return count
