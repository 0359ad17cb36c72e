"""Files that come to be whole or not at all, and never in the place of another one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from kdsearch.spaces.errors import UsageError


def check_new(path: Path, beside: str = "") -> None:
    """Refuse a path at which no new file can be made; beside: what else can be done about a file that is there.

    Raises:
        UsageError: something is there, or the folder is not.

    """
    if os.path.lexists(path):
        what = "is a folder" if path.is_dir() else "is there already"
        raise UsageError(
            f"{path} {what}, and an export writes over nothing",
            "Give another path with --out, or move that one away."
            f"{f' {beside}' if beside and path.is_file() else ''}",
        )
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} of {path.name} does not exist", "Create it first.")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path`, which becomes `path` at the end; after an exception nothing is left.

    Raises:
        UsageError: as `check_new`, also where another program has made the file in the meantime.

    """
    check_new(path)
    draft = path.with_name(f".{path.name[:100]}.{uuid4().hex[:8]}.part")
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield draft
        _settle(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _settle(draft: Path, path: Path) -> None:
    """Give the draft its name, unless it is taken by now."""
    try:
        path.hardlink_to(draft)  # unlike a rename, it never replaces a file
    except FileExistsError:
        check_new(path)
    except OSError:  # a file system without links
        check_new(path)
        draft.rename(path)
