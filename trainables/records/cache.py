"""Prepared arrays on disk: made once, then memory-mapped by every trial of the machine.

An entry is a folder named after its key, with an array in each file and a manifest (`entry.json`) that is written last.
It is made in a folder beside it and renamed, so that an entry is whole or not there. Processes that want the same entry
at once wait for the first of them (a lock on a file, which the system drops with its process); where a file system has
no locks each makes it, and the first to rename wins.

Every array is checked when it is opened: its size, and a digest of all of it up to 64 MiB, of 256 blocks of 64 KiB
evenly spread over it beyond that. An entry that fails is made anew. A few bytes changed between those blocks are not
found.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kdsearch.spaces.errors import UsageError

if sys.platform != "win32":
    import fcntl

CACHE_VARIABLE: Final = "KDSEARCH_CACHE"
HINT: Final = (
    f"Name a folder with room, that may be written to, in the environment variable {CACHE_VARIABLE}."
)
WHOLE_BYTES: Final = 64 << 20
BLOCKS: Final = 256
BLOCK_BYTES: Final = 64 << 10
_DRAFT: Final = ".draft-"
_MANIFEST: Final = "entry.json"
_ATTEMPTS: Final = 3

Array = NDArray[Any]


class CacheError(UsageError):
    """A cache folder that is full, may not be written to or cannot be found (exit code 2)."""


def cache_folder(explicit: str | Path | None = None, environment: Mapping[str, str] | None = None) -> Path:
    """Return where prepared arrays lie; nothing is made there.

    It is `explicit`, else KDSEARCH_CACHE, else `kdsearch` in XDG_CACHE_HOME (where that is an absolute path) or in
    ~/.cache. Empty strings count as not given.
    """
    environment = os.environ if environment is None else environment
    given = explicit if explicit is not None and str(explicit) else environment.get(CACHE_VARIABLE)
    try:
        if given:
            return Path(given).expanduser().absolute()
        shared = Path(environment.get("XDG_CACHE_HOME", ""))
        return (shared if shared.is_absolute() else Path.home() / ".cache") / "kdsearch"
    except RuntimeError as error:  # there is no home folder
        raise CacheError(f"the cache folder cannot be found: {error}", HINT) from error


@dataclass(frozen=True)
class StoredArray:
    """What the manifest says of the file of an array."""

    dtype: str
    shape: tuple[int, ...]
    size: int  # bytes
    digest: str


@dataclass(frozen=True, eq=False)
class Entry:
    """A whole entry: what was noted when it was made, and its arrays."""

    folder: Path
    meta: Mapping[str, Any]
    arrays: Mapping[str, StoredArray]

    def mapped(self, name: str) -> Array:
        """Return an array memory-mapped, not to be written to."""
        held = self.arrays[name]
        if held.size == 0:
            return np.empty(held.shape, dtype=held.dtype)
        return np.memmap(self.folder / name, dtype=held.dtype, mode="r", shape=held.shape)

    def read(self, name: str) -> Array:
        """Return an array in memory."""
        held = self.arrays[name]
        return np.fromfile(self.folder / name, dtype=held.dtype).reshape(held.shape)

    @classmethod
    def open(cls, folder: Path, key: str) -> Self | None:
        """Return the entry of that key, or None where there is none that is whole."""
        try:
            manifest = json.loads((folder / _MANIFEST).read_bytes())
            body = manifest["body"]
            if manifest["seal"] != _seal(body) or body["key"] != key:
                return None
            arrays = {
                name: StoredArray(held["dtype"], tuple(held["shape"]), held["size"], held["digest"])
                for name, held in body["arrays"].items()
            }
            whole = all(_is_whole(folder / name, held) for name, held in arrays.items())
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None
        return cls(folder, body["meta"], arrays) if whole else None


class Draft:
    """An entry in the making: arrays are added, or appended to part by part."""

    def __init__(self, folder: Path) -> None:
        with told():
            folder.mkdir()
        self._folder = folder
        self._arrays: dict[str, StoredArray] = {}

    def add(self, name: str, values: Array) -> None:
        """Write an array."""
        with self.growing(name, values.dtype, values.shape[1:]) as array:
            array.append(values)

    @contextmanager
    def growing(self, name: str, dtype: DTypeLike, row_shape: tuple[int, ...]) -> Iterator[GrowingArray]:
        """Return an array [rows, *row_shape] that grows by rows until the context is left."""
        with GrowingArray(self._folder / name, np.dtype(dtype), row_shape) as array:
            yield array
        with told():
            self._arrays[name] = array.stored

    def finish(self, key: str, meta: Mapping[str, Any]) -> None:
        """Write the manifest."""
        arrays = {name: asdict(held) for name, held in self._arrays.items()}
        # as it will be read, so that the seal fits: JSON makes lists of tuples and whole numbers of NumPy's
        body = json.loads(json.dumps({"key": key, "arrays": arrays, "meta": meta}, default=int))
        with told(), (self._folder / _MANIFEST).open("w", encoding="utf-8") as file:
            json.dump({"seal": _seal(body), "body": body}, file)
            file.flush()
            os.fsync(file.fileno())


class GrowingArray:
    """The file of an array [rows, *row_shape]. It is written, not mapped: a full disk is then an error, no crash."""

    def __init__(self, path: Path, dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> None:
        self.rows = 0
        self._path, self._dtype, self._row_shape = path, dtype, row_shape

    def __enter__(self) -> Self:
        with told():
            self._file = self._path.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            with suppress(OSError):  # the disk is full, which was told
                self._file.close()
            return
        with told(self._path), self._file:
            self._file.flush()
            os.fsync(self._file.fileno())

    def append(self, rows: Array) -> None:
        """Add rows [n, *row_shape]."""
        if rows.shape[1:] != self._row_shape:
            raise ValueError(f"rows of shape {rows.shape[1:]} in an array of {self._row_shape}")
        with told(self._path):
            self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).data)
        self.rows += len(rows)

    @property
    def stored(self) -> StoredArray:
        """What the manifest will say, once the file is closed."""
        size = self._path.stat().st_size
        shape = (self.rows, *self._row_shape)
        return StoredArray(self._dtype.str, shape, size, array_digest(self._path, size))


class Cache:
    """The entries below a cache folder."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = cache_folder(folder)
        self._entries = self.folder / "prepared"

    def entry(self, key: str, make: Callable[[Draft], Mapping[str, Any]], *, needs_bytes: int = 0) -> Entry:
        """Return the entry of that key, made now where it is not there or damaged.

        key: letters, digits and `-`. `make` fills the draft and returns what is to be noted, as JSON-able values; what
        it raises goes on, and leaves nothing behind. needs_bytes: about what it will write.

        Raises:
            CacheError: the folder is full or may not be written to.

        """
        target = self._entries / key
        for _ in range(_ATTEMPTS):  # another process may take a damaged entry away while it is looked at
            entry = Entry.open(target, key)
            if entry is None:
                self._make(key, make, needs_bytes)
                entry = Entry.open(target, key)
            if entry is not None:
                return entry
        raise CacheError(f"the entry {target} is damaged again as soon as it is made", HINT)

    def _make(self, key: str, make: Callable[[Draft], Mapping[str, Any]], needs_bytes: int) -> None:
        target = self._entries / key
        with told():
            self._entries.mkdir(parents=True, exist_ok=True)
            self._clear()
        with self.lock(key):
            if Entry.open(target, key) is not None:  # made while this process waited
                return
            self._check_room(needs_bytes)
            folder = _beside(target)
            try:
                draft = Draft(folder)
                draft.finish(key, make(draft))
                with told():
                    _put_in_place(folder, target, key)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _check_room(self, needs_bytes: int) -> None:
        with told():
            free = shutil.disk_usage(self._entries).free
        if free < needs_bytes:
            raise CacheError(
                f"the cache folder {self.folder} has {free / 1e9:.1f} GB left, and the prepared records need about "
                f"{needs_bytes / 1e9:.1f} GB",
                HINT,
            )

    def _clear(self) -> None:
        """Remove what processes that were ended have left: drafts whose lock nobody holds."""
        for left in self._entries.glob(f"{_DRAFT}*"):
            key = left.name.removeprefix(_DRAFT).rpartition(".")[0]
            with self.lock(key, wait=False) as held:
                if held:
                    _remove(left)

    @contextmanager
    def lock(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold the lock of that name; yield whether it is held, which it is not where there are no locks."""
        with ExitStack() as closing:
            try:
                (self.folder / "locks").mkdir(parents=True, exist_ok=True)
                file = closing.enter_context((self.folder / "locks" / name).open("ab"))
                held = _locked(file.fileno(), wait=wait)
            except OSError:  # a folder that may not be written to; who has to write there will say so
                held = False
            yield held


def _locked(file: int, *, wait: bool) -> bool:
    """Lock an open file, and return whether that was possible."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # held by another, or a file system without locks
        return False
    return True


@contextmanager
def told(path: Path | None = None) -> Iterator[None]:
    """Turn errors of the system while the cache is written into one that says what to do."""
    try:
        yield
    except OSError as error:
        place = error.filename or path
        raise CacheError(
            f"the cache cannot be written{f' to {place}' if place else ''}: {error.strerror or error}", HINT
        ) from error


def array_digest(path: Path, size: int) -> str:
    """Return a digest of the file: of all of it up to 64 MiB, else of 256 blocks from its start to its end."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        if size <= WHOLE_BYTES:
            while block := file.read(1 << 20):
                digest.update(block)
        else:
            for place in np.linspace(0, size - BLOCK_BYTES, BLOCKS).astype(np.int64):
                file.seek(place)
                digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()


def _is_whole(path: Path, held: StoredArray) -> bool:
    return path.stat().st_size == held.size and array_digest(path, held.size) == held.digest


def _seal(body: object) -> str:
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()


def _put_in_place(draft: Path, target: Path, key: str) -> None:
    """Rename the draft to its entry, unless a whole one has come there meanwhile; a damaged one makes way."""
    for _ in range(_ATTEMPTS):
        try:
            draft.rename(target)
        except OSError:
            if Entry.open(target, key) is not None:
                return
            if not target.exists():
                raise
            with suppress(FileNotFoundError):  # another process was faster
                _take_away(target)
        else:
            return


def _take_away(target: Path) -> None:
    """Rename, then remove: nobody sees half of it. Who has mapped its arrays keeps them."""
    aside = _beside(target)
    target.rename(aside)
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _beside(target: Path) -> Path:
    """Return a new name for a folder that is no entry, or no longer."""
    return target.with_name(f"{_DRAFT}{target.name}.{secrets.token_hex(8)}")
