"""Which folder a report goes to where nobody names one: NAME-report, numbered where another sweep's report lies."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from itertools import count
from pathlib import Path

from kdsearch.search.cli.common import holds_report


def new_folder(name: str) -> Path:
    """Where a sweep that begins will report: the first of NAME-report, NAME-report-2, ... without a report."""
    return _first(name, lambda _: False)


def own_folder(name: str, created: datetime) -> Path:
    """Where a sweep that began at `created` reports: the first of these folders that has its own report, or none."""
    return _first(name, lambda folder: _is_of(folder, name, created))


def _first(name: str, mine: Callable[[Path], bool]) -> Path:
    folders = (Path(f"{name}-report{f'-{n}' if n > 1 else ''}") for n in count(1))
    return next(folder for folder in folders if not holds_report(folder) or mine(folder))


def _is_of(folder: Path, name: str, created: datetime) -> bool:
    """Whether a report is of this sweep alone; one of an earlier version does not tell when its sweep began."""
    try:
        sweeps = json.loads((folder / "lineage.json").read_text(encoding="utf-8"))["sweeps"]
        told = [(sweep["sweep"], sweep.get("created", created.isoformat())) for sweep in sweeps]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return told == [(name, created.isoformat())]
