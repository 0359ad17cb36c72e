"""Where a sweep's files lie (checkpoints, weights that trials learn from, tables), chosen once and found on a resume.

Without a choice they lie beside the database. `--storage` names a folder or a URL that all nodes of a cluster reach; it
is written down with a key that the sweep's checkpoints lie under, so that two databases may share one storage. No
result depends on it: a resume may name another, and checkpoints are carried over.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from kdsearch.search.checkpoints import checkpoints_folder
from kdsearch.search.trialdb import TrialDatabase
from kdsearch.search.trialdb.operations import EventRow
from kdsearch.spaces.errors import KdsearchError, UsageError
from kdsearch.trainables.storage import SHARED, Remote, Storage, StorageError, check_storage, is_url

STORAGE: Final = "storage"  # the kind of event that says where a sweep's files lie
_MOST_LISTED: Final = 10


@dataclass(frozen=True, kw_only=True)
class Store:
    """Where one sweep's files lie."""

    storage: Storage
    folder: Path  # of weights and tables; under a URL the driver's own folder stands for it
    checkpoints: Path
    chosen: str | None  # as it was given, absolute; None: beside the database
    key: str = ""

    def events(self, now: datetime) -> list[EventRow]:
        """What a sweep that begins keeps of a choice."""
        told = {"place": self.chosen, "key": self.key}
        return [] if self.chosen is None else [EventRow(kind=STORAGE, at=now, data=told)]


def new_store(chosen: str | None, beside: Path, sweep: str) -> Store:
    """The store of a sweep that begins; beside: the folder beside its database.

    Raises:
        UsageError: the storage cannot be opened, or cannot be written.

    """
    return _store(chosen, beside, sweep, secrets.token_hex(4))


def known_store(database: TrialDatabase, chosen: str | None, beside: Path, sweep: str) -> Store:
    """The store of a sweep that goes on: the one that is chosen now, else the one it had.

    Raises:
        UsageError: the storage cannot be opened, or cannot be written.

    """
    before = last_choice(database, sweep)
    place = chosen if chosen is not None else before.get("place")
    return _store(place, beside, sweep, str(before.get("key") or secrets.token_hex(4)))


def last_choice(database: TrialDatabase, sweep: str) -> Mapping[str, Any]:
    """What was chosen last; empty if nothing ever was."""
    events = database.events(sweep, kinds=[STORAGE])
    return events[-1].data if events else {}


def keep_choice(database: TrialDatabase, sweep: str, store: Store) -> None:
    """Write down where the files lie from now on, if that is new."""
    if store.chosen is not None and last_choice(database, sweep).get("place") != store.chosen:
        database.add_event(sweep, STORAGE, {"place": store.chosen, "key": store.key})


def _store(chosen: str | None, beside: Path, sweep: str, key: str) -> Store:
    if chosen is None:
        checkpoints = checkpoints_folder(beside, sweep)
        return Store(storage=SHARED, folder=beside, checkpoints=checkpoints, chosen=None)
    place = absolute(chosen)
    if is_url(place):
        storage: Storage = Remote(place, beside)
        folder = beside
    else:
        storage, folder = SHARED, Path(place)
    store = Store(
        storage=storage,
        folder=folder,
        checkpoints=checkpoints_folder(folder, f"{sweep}-{key}"),
        chosen=place,
        key=key,
    )
    _check_writable(store)
    return store


def absolute(chosen: str) -> str:
    """A storage as it is kept: a URL as it is, a folder by its whole path.

    Raises:
        UsageError: the URL holds a secret.

    """
    check_storage(chosen)
    return chosen.rstrip("/") if is_url(chosen) else str(Path(chosen).expanduser().absolute())


def send_table(store: Store, exported: object) -> None:
    """Let workers have a table that was written into the driver's folder.

    Raises:
        StorageError: the storage does not take it.

    """
    table = None if exported is None else Path(str(exported))
    if table is not None and isinstance(store.storage, Remote) and table.is_relative_to(store.folder):
        store.storage.write(table, table.read_bytes())


def _check_writable(store: Store) -> None:
    """Write a file, read it and delete it, before anything starts."""
    path, content = store.folder / f".kdsearch-{secrets.token_hex(8)}", secrets.token_bytes(16)
    try:
        store.storage.write(path, content)
        found = store.storage.read(path)
    except (OSError, KdsearchError) as error:
        told = error.message if isinstance(error, KdsearchError) else error.strerror or str(error)
        raise UsageError(
            f"the storage {store.chosen} cannot be used: {told}",
            "Give a folder or URL that can be written to.",
        ) from None
    finally:
        store.storage.delete(path)
    if found != content:
        raise UsageError(f"the storage {store.chosen} gives back another file than was written")


def carried_over(store: Store, place: str) -> Path | None:
    """The path of a checkpoint in this store, brought over if it lies elsewhere; None: it is gone.

    Raises:
        StorageError: a storage that cannot be read or written now: whether the checkpoint is there, nobody knows.

    """
    try:
        return _carried_over(store, place)
    except StorageError as error:
        error.hint = "Nothing is lost: `kdsearch resume` goes on as soon as the storage can be reached again."
        raise


def _carried_over(store: Store, place: str) -> Path | None:
    path = store.storage.path(place)
    if is_url(place) == isinstance(store.storage, Remote) and path.is_relative_to(store.folder):
        return path if store.storage.exists(path) else None
    if store.chosen is None and not is_url(place):  # the database was moved, its files were not
        return path if SHARED.exists(path) else None
    new = store.checkpoints / place.rpartition("/")[2]
    if store.storage.exists(new):
        return new
    content = _read_anywhere(place)
    if content is None:
        return None
    try:
        store.storage.write(new, content)
    except OSError as error:
        raise StorageError(f"cannot write {store.storage.place(new)}: {error.strerror or error}") from error
    return new


def _read_anywhere(place: str) -> bytes | None:
    """A file's content, wherever it lies; None if it is not there."""
    storage: Storage = SHARED
    path = Path(place)
    if is_url(place):
        root, _, name = place.rpartition("/")
        storage, path = Remote(root, Path("/")), Path("/") / name
    if not storage.exists(path):
        return None
    try:
        return storage.read(path)
    except OSError as error:
        raise StorageError(f"cannot read {place}: {error.strerror or error}") from error


def note_of_gone(saved: Mapping[int, Path | None]) -> list[str]:
    """What a resume notes of checkpoints, by trial, that the database names and no storage has (None)."""
    gone = sorted(number for number, path in saved.items() if path is None)
    if not gone:
        return []
    listed = ", ".join(map(str, gone[:_MOST_LISTED])) + (", ..." if len(gone) > _MOST_LISTED else "")
    which = "1 unfinished trial" if len(gone) == 1 else f"{len(gone)} unfinished trials"
    return [f"The checkpoints of {which} ({listed}) are gone: what goes on of them begins anew."]


__all__ = [
    "STORAGE",
    "Store",
    "absolute",
    "carried_over",
    "keep_choice",
    "known_store",
    "last_choice",
    "new_store",
    "note_of_gone",
    "send_table",
]
