"""The folder in which Ray Tune keeps its own state, which nobody reads again; gone with its run, or with the next one.

A driver that was killed leaves its folder behind. Each holds a lock on a file in its own, which the system takes back
when the process ends, whatever ended it: so the next run knows which folders nobody needs.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PREFIX: Final = "kdsearch-tune-"
_LOCK: Final = "lock"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give an empty folder in the system's temporary one, and delete those of killed drivers."""
    _delete_forsaken(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        folder = Path(name)
        new = folder / f"{_LOCK}.new"
        with new.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            new.rename(folder / _LOCK)  # others see a lock only once it is held
            inner = folder / "tune"
            inner.mkdir()
            yield inner


def _delete_forsaken(temporary: Path) -> None:
    """Delete folders whose lock nobody holds; one without a lock is just being made, or of an earlier version."""
    for folder in temporary.glob(f"{PREFIX}*"):
        try:
            with (folder / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # in use, another user's, or no such file
            continue
        shutil.rmtree(folder, ignore_errors=True)
