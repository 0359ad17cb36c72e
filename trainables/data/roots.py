"""Where the data sets lie: the data root."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from kdsearch.trainables.data.findings import DataError

DATA_ROOT_VARIABLE = "KDSEARCH_DATA"
HOW_TO_SET = (
    f"Give the folder that holds the data sets with --data-root, or in the environment variable "
    f"{DATA_ROOT_VARIABLE}; each data set lies in a folder of its name there."
)


def resolve_data_root(
    explicit: str | Path | None = None, environment: Mapping[str, str] | None = None
) -> Path | None:
    """Return the data root: `explicit`, else KDSEARCH_DATA, else None.

    Raises `DataError` where the given folder does not exist. An empty string counts as not given.
    """
    environment = os.environ if environment is None else environment
    given, source = explicit, "--data-root"
    if given is None or not str(given):
        given, source = environment.get(DATA_ROOT_VARIABLE) or None, DATA_ROOT_VARIABLE
    elif environment.get(DATA_ROOT_VARIABLE) and Path(given) == Path(environment[DATA_ROOT_VARIABLE]):
        source = DATA_ROOT_VARIABLE  # the command line hands on what it found there
    if given is None:
        return None
    root = Path(given).expanduser()
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"data root {root} (from {source}) {what}", HOW_TO_SET)
    return root
