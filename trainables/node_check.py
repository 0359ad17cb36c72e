"""What a machine has of what a sweep needs: the same code, the same data, a storage that it can read and write.

Asked on the driver's machine and on every node before packs go there; the answers are compared. No Ray, no torch.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import kdsearch.spaces
import kdsearch.trainables
from kdsearch.spaces.errors import KdsearchError
from kdsearch.trainables.data.roots import DATA_ROOT_VARIABLE
from kdsearch.trainables.keeping import Keeper
from kdsearch.trainables.registry import trainable_kind
from kdsearch.trainables.storage import storage_of

_PACKAGES: Final = ("ray", "torch", "numpy")
_CODE: Final = (kdsearch.spaces, kdsearch.trainables)  # what workers import; the driver alone has the rest


def code_digest() -> str:
    """A digest of the code that trains: names and contents of its files, wherever it is installed."""
    found = hashlib.sha256()
    for room in _CODE:
        root = Path(next(iter(room.__path__)))
        for path in sorted(root.rglob("*.py")):
            found.update(f"{room.__name__}/{path.relative_to(root).as_posix()}\0".encode())
            found.update(path.read_bytes())
    return found.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions that must be the same everywhere; one that is not installed is `none`."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def root_here(told: Mapping[str, Any]) -> Path | None:
    """The data root on this machine: the one that was given, else its own KDSEARCH_DATA, else the driver's.

    None lets a kind look into the environment.
    """
    if told["data_root"] is not None:
        return Path(told["data_root"])
    fallback = told.get("drivers_root")
    return None if os.environ.get(DATA_ROOT_VARIABLE) or fallback is None else Path(fallback)


def look(told: Mapping[str, Any]) -> dict[str, Any]:
    """What this machine has, as plain data.

    told: `kind`; `settings` (data set of a retraining or "" -> settings of the kind); `data_root`, `drivers_root`;
    `storage`; `sign` (path of the file that the driver wrote, None: storage is not asked for), `word` (its content),
    `mine` (path of the file that this machine is to write).
    """
    root = root_here(told)
    return {
        "host": platform.node(),
        "versions": versions(),
        "code": code_digest(),
        "root": str(root or os.environ.get(DATA_ROOT_VARIABLE) or "none"),
        **_data(told, root),
        "storage": None if told.get("sign") is None else _storage(told),
    }


def _data(told: Mapping[str, Any], root: Path | None) -> dict[str, Any]:
    """Digests of the data, or what is wrong with them."""
    kind, contents = trainable_kind(told["kind"]), dict[str, str]()
    keeper = Keeper({"storage": told["storage"]})
    try:
        for label, settings in told["settings"].items():
            with keeper.brought((), settings) as (_, here):
                contents[label] = kind.content(here, root)
    except KdsearchError as error:
        return {"contents": None, "data": f"{error.message}{'' if error.hint is None else f'. {error.hint}'}"}
    except OSError as error:
        return {"contents": None, "data": str(error)}
    return {"contents": contents, "data": None}


def _storage(told: Mapping[str, Any]) -> str | None:
    """Read what the driver wrote, then write; what went wrong."""
    storage, sign = storage_of(told["storage"]), Path(told["sign"])
    try:
        if storage.read(sign).decode() != told["word"]:
            return f"another file than the driver wrote lies at {storage.place(sign)}"
        storage.write(Path(told["mine"]), told["word"].encode())
    except (OSError, KdsearchError) as error:
        if isinstance(error, KdsearchError):
            return error.message
        return f"{storage.place(sign)}: {error.strerror or error}"
    return None


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """What a machine has otherwise than it is expected, in words; the storage is not among it."""
    wrong = [
        f"{name} {found['versions'].get(name, 'none')}, not {version}"
        for name, version in expected["versions"].items()
        if found["versions"].get(name) != version
    ]
    if found["code"] != expected["code"]:
        wrong.append("another version or state of kdsearch's code than the driver's")
    if found["data"] is not None:
        wrong.append(f"the data cannot be read there: {found['data']}")
    elif expected["contents"] is not None and found["contents"] != expected["contents"]:
        wrong.append(
            f"other data than {expected.get('where', 'on the driver')} (data root there: {found['root']})"
        )
    return wrong
