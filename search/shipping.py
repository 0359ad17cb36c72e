"""kdsearch's code as one folder, to be sent to nodes that have only Ray and the dependencies.

The tree has four rooms at its top, an installation one package of that name; an editable one points from the latter to
the former. Sent is always the latter, from wherever the running rooms lie.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Final

ROOMS: Final = ("spaces", "trainables", "analysis", "search")
_LEFT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


@contextmanager
def packed_code() -> Iterator[Path]:
    """Give a folder `kdsearch` with all rooms, for as long as it takes to send it."""
    with tempfile.TemporaryDirectory(prefix="kdsearch-code-") as name:
        package = Path(name) / "kdsearch"
        package.mkdir()
        for room in ROOMS:
            found = import_module(f"kdsearch.{room}")
            shutil.copytree(next(iter(found.__path__)), package / room, ignore=_LEFT)
        yield package
