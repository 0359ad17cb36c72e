"""What the files of a set are, in a digest; a made-up set in place of one that is not there; summaries to keep.

The digest is over names and bytes of all files of the set that a reader may open (BLAKE2b). It is remembered for a
folder whose files have kept path, size and both times (modified, changed), so that a large folder is not read again at
every start. That trusts the file system: contents that change while all four stay are not seen. Files touched less than
two seconds ago are not trusted, since a second change within the resolution of the clock would not show.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data.findings import DataError, Problem
from kdsearch.trainables.data.roots import resolve_data_root
from kdsearch.trainables.records.cache import HINT, Cache, CacheError, told
from kdsearch.trainables.records.made_up import sample_records
from kdsearch.trainables.records.sets import RecordFiles, find_records, record_set
from kdsearch.trainables.records.summary import ReadSummary, Repaired

YOUNG_NS: Final = 2_000_000_000
DIGEST_BYTES: Final = 16
_UNREADABLE: Final = b"may not be read"  # in place of contents; the reader leaves the file out and says so

Root = str | Path | None


def files_or_sample(name: str, root: Root, cache: Cache, *, or_sample: bool) -> RecordFiles:
    """Return the files of the set below the data root (`root`, else KDSEARCH_DATA).

    With `or_sample` a made-up set, kept in the cache folder, stands in where no data root is given or none of the set's
    folders is in it. A data root that does not exist, and a folder without usable files, are errors in any case.

    Raises:
        DataError: the set is not there, or not what it should be.
        UnknownNameError: no such set.
        CacheError: the made-up set cannot be written.

    """
    absent = or_sample and why_absent(name, root) is not None
    return _sample(name, cache) if absent else find_records(name, resolve_data_root(root))


def why_absent(name: str, root: Root = None) -> str | None:
    """Say why the set is not below the data root (`root`, else KDSEARCH_DATA); None where a folder of it is there.

    Raises:
        DataError: the data root does not exist.
        UnknownNameError: no such set.

    """
    known = record_set(name)
    base = resolve_data_root(root)
    if base is None:
        return "no data root is given"
    if any((base / folder).exists() for folder in known.folders):
        return None
    return f"none of its folders ({', '.join(known.folders)}) is in {base}"


def _sample(name: str, cache: Cache) -> RecordFiles:
    """Return the made-up set, written now where it is not there or nothing is left of it."""
    root = cache.folder / "samples"
    with cache.lock(f"sample-{name}"):
        try:
            return find_records(name, root)
        except DataError:
            shutil.rmtree(root / record_set(name).folders[0], ignore_errors=True)
        try:
            sample_records(name, root)
        except UsageError as error:  # it cannot be written, or another process without locks was faster
            try:
                return find_records(name, root)
            except DataError:
                with told(root):
                    if isinstance(error.__cause__, OSError):
                        raise error.__cause__ from None
                raise CacheError(error.message, HINT) from error
        return find_records(name, root)


@dataclass(frozen=True, eq=False)
class Content:
    """The files of a set as they were when their digest was taken."""

    files: RecordFiles
    digest: str  # in hex, of names and bytes
    state: str  # of names, sizes and times

    @classmethod
    def of(cls, files: RecordFiles, cache: Cache, *, now_ns: Callable[[], int] = time.time_ns) -> Content:
        """Take the digest, or remember it from the cache folder."""
        state, youngest = _state(files, now_ns())
        memory = cache.folder / "digests" / state
        with suppress(OSError, ValueError):
            remembered = memory.read_text(encoding="ascii")
            if len(bytes.fromhex(remembered)) == DIGEST_BYTES:
                return cls(files, remembered, state)
        digest, certain = _digest(files)
        if certain and not youngest:
            _remember(memory, digest)
        return cls(files, digest, state)

    def check_unchanged(self) -> None:
        """Raise `DataError` where a file has changed since."""
        if _state(self.files, 0)[0] != self.state:
            raise DataError(
                f"files in {self.files.folder} changed while they were read",
                "Start again when they are all there.",
            )


def _remember(memory: Path, digest: str) -> None:
    with suppress(OSError):  # it is read again next time
        memory.parent.mkdir(parents=True, exist_ok=True)
        draft = memory.with_name(f"{memory.name}.{os.getpid()}")
        draft.write_text(digest, encoding="ascii")
        draft.replace(memory)


def _state(files: RecordFiles, now_ns: int) -> tuple[str, bool]:
    """Return a digest of the folder's path and the files' names, sizes and times; and whether one of them is young."""
    digest = hashlib.blake2b(os.fsencode(files.folder.resolve()), digest_size=DIGEST_BYTES)
    young = False
    for relative, path in _paths(files):
        digest.update(b"\0" + os.fsencode(relative))
        try:
            found = path.stat()
        except OSError:  # a link to nowhere
            continue
        digest.update(b"\0%d %d %d" % (found.st_size, found.st_mtime_ns, found.st_ctime_ns))
        young |= min(abs(now_ns - found.st_mtime_ns), abs(now_ns - found.st_ctime_ns)) < YOUNG_NS
    return digest.hexdigest(), young


def _digest(files: RecordFiles) -> tuple[str, bool]:
    """Return the digest, and whether it would come out the same again: not where a disk failed to read."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    certain = True
    for relative, path in _paths(files):
        try:
            with path.open("rb") as file:
                own = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).digest()
        except OSError as error:
            own = _UNREADABLE
            certain &= isinstance(error, (PermissionError, FileNotFoundError))
        digest.update(os.fsencode(relative) + b"\0" + own)
    return digest.hexdigest(), certain


def _paths(files: RecordFiles) -> Iterator[tuple[str, Path]]:
    """Yield (path below the folder, path) of every file that a reader may open, in their order."""
    known = files.known
    for folder in sorted({path.parent for path in (*files.records, *files.alone, *files.lists)}):
        prefix = folder.relative_to(files.folder).as_posix()
        for name in sorted(path.name for path in folder.iterdir()):
            path = folder / name
            companion = known.companion is not None and path.suffix.lower() == known.companion
            if not name.startswith(".") and (companion or known.is_record(path) or known.is_list(path)):
                yield f"{prefix}/{name}", path


def summary_to_mapping(summary: ReadSummary) -> dict[str, Any]:
    """Return the summary as JSON-able values, with paths below the folder where they are."""
    left_out = [
        {**vars(problem), "path": _below(Path(problem.path), summary.folder)} for problem in summary.left_out
    ]
    repairs = [asdict(repaired) for repaired in summary.repairs]
    whole = {**vars(summary), "folder": str(summary.folder), "left_out": left_out, "repairs": repairs}
    return {**whole, "facts": dict(summary.facts), "codes": dict(summary.codes)}


def summary_from_mapping(mapping: Mapping[str, Any], files: RecordFiles) -> ReadSummary:
    """Return the summary as a reader of `files` would give it: equal contents may lie in another folder."""
    kept = ReadSummary(**{**mapping, "repairs": (), "left_out": ()})
    left_out = tuple(
        Problem(str(files.folder / each["path"]), each["expected"], each["found"])
        for each in mapping["left_out"]
    )
    return replace(
        kept,
        folder=files.folder,
        others=files.others,
        is_sample=files.is_sample,
        repairs=tuple(Repaired(**each) for each in mapping["repairs"]),
        left_out=left_out,
    )


def _below(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
