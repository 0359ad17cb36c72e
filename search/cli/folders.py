"""Which folder a report goes to where nobody names one: NAME-report, numbered where another sweep's report lies.

Where somebody names one, a report of other sweeps is replaced there, and that is told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import count
from pathlib import Path

from kdsearch.analysis.record import SweepRecord
from kdsearch.analysis.report import ReportFiles, write_report
from kdsearch.search.cli.common import holds_report, messages


def new_folder(name: str) -> Path:
    """Where a sweep that begins will report: the first of NAME-report, NAME-report-2, ... without a report."""
    return _first(name, lambda _: False)


def own_folder(name: str, created: datetime) -> Path:
    """Where a sweep that began at `created` reports: the first of these folders that has its own report, or none."""
    return _first(name, lambda folder: _is_of(folder, name, created))


def _first(name: str, mine: Callable[[Path], bool]) -> Path:
    folders = (Path(f"{name}-report{f'-{n}' if n > 1 else ''}") for n in count(1))
    return next(folder for folder in folders if not holds_report(folder) or mine(folder))


def write_told(records: Sequence[SweepRecord], out: Path) -> ReportFiles:
    """Write a report, and say so if one of other sweeps lay there."""
    told = replaced(out, [(record.name, record.created) for record in records])
    files = write_report(records, out)
    if told:
        messages().print(told, markup=False, soft_wrap=True)
    return files


def replaced(folder: Path, sweeps: Sequence[tuple[str, datetime]]) -> str:
    """What to tell once a report of these sweeps (name, when it began) is written there; "" for nothing.

    A report of the same sweeps is brought up to date; one of others, or of more or fewer of them, is replaced.
    """
    held = _held(folder) if holds_report(folder) else None
    if held is None:
        return ""
    began = {name: created.isoformat() for name, created in sweeps}
    if {name: told or began.get(name) for name, told in held} == began:
        return ""
    return f"The report of {', '.join(name for name, _ in held)} that was in {folder} was replaced."


def _is_of(folder: Path, name: str, created: datetime) -> bool:
    """Whether a report is of this sweep alone; one of an earlier version does not tell when its sweep began."""
    held = _held(folder)
    return held is not None and [(each, began or created.isoformat()) for each, began in held] == [
        (name, created.isoformat())
    ]


def _held(folder: Path) -> list[tuple[str, str | None]] | None:
    """The sweeps that a report is of, and when each began; None: nobody can tell."""
    try:
        sweeps = json.loads((folder / "lineage.json").read_text(encoding="utf-8"))["sweeps"]
        return [(str(sweep["sweep"]), sweep.get("created")) for sweep in sweeps]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
