"""Tables that come with kdsearch, by name: the folder `data` holds them, with how they were made beside them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Final

_SUFFIX: Final = ".csv.gz"


def known_tables() -> tuple[str, ...]:
    """All names, sorted."""
    names = [each.name for each in resources.files("kdsearch.trainables.table").joinpath("data").iterdir()]
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)))


def known_table(name: str) -> Path | None:
    """The file of a table that comes with kdsearch; None if none has this name."""
    if name not in known_tables():
        return None
    return Path(str(resources.files("kdsearch.trainables.table").joinpath("data", f"{name}{_SUFFIX}")))
