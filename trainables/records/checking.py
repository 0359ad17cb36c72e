"""Look at every file of a set of records, and say what a run would read, repair and leave out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kdsearch.trainables.data.findings import DataError, Problem
from kdsearch.trainables.data.roots import resolve_data_root
from kdsearch.trainables.records.eicu import load_eicu
from kdsearch.trainables.records.hangzhou import HangzhouReader
from kdsearch.trainables.records.parts import FEWEST, Part, Shares, divide
from kdsearch.trainables.records.physionet2019 import load_patients
from kdsearch.trainables.records.physionet2021 import EcgReader, EcgSettings
from kdsearch.trainables.records.sets import (
    EICU,
    HANGZHOU,
    PHYSIONET_2019,
    PHYSIONET_2021,
    find_records,
    record_set,
)
from kdsearch.trainables.records.summary import ReadSummary

Root = str | Path | None


@dataclass(frozen=True, kw_only=True)
class RecordsReport:
    """What a look at every file found. `summary` is None where a run would not start, and `error` says why."""

    name: str
    title: str
    summary: ReadSummary | None
    parts: Mapping[
        Part, int
    ]  # records of each, with the default shares and seed; empty where there are too few
    error: DataError | None = None

    @property
    def ok(self) -> bool:
        """Whether every file was read."""
        return self.summary is not None and not self.summary.left_out

    @property
    def files(self) -> int:
        """Files looked at."""
        return len(self.problems) if self.summary is None else self.summary.files

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The files that cannot be used, or what keeps all of them from being looked at."""
        if self.summary is not None:
            return self.summary.left_out
        return self.error.problems if self.error is not None else ()

    def to_dict(self) -> Mapping[str, object]:
        """Return the report as JSON-able values."""
        head = {"name": self.name, "ok": self.ok}
        if self.summary is None:
            message = None if self.error is None else self.error.message
            return {**head, "error": message, "problems": [vars(problem) for problem in self.problems]}
        return {
            **head,
            **self.summary.to_dict(),
            "parts": {part.value: size for part, size in self.parts.items()},
        }

    def __str__(self) -> str:
        if self.summary is None:
            return f"{self.title}: {self.error}"
        sizes = ", ".join(f"{size:,} {part}" for part, size in self.parts.items())
        lines = [str(self.summary), f"  parts: {sizes or f'fewer than {FEWEST} records cannot be divided'}"]
        if not self.ok:
            lines.append("  A run goes on without the files that are left out.")
        return "\n".join(lines)


def check_records(name: str, root: Root = None) -> RecordsReport:
    """Look at every file of the set.

    Raises `UnknownNameError` for an unknown name and `DataError` for a data root that does not exist; whatever else
    would keep a run from starting stands in the report.
    """
    known = record_set(name)
    resolve_data_root(root)
    try:
        names, summary = _READ[name](root)
    except DataError as error:
        return RecordsReport(name=name, title=known.title, summary=None, parts={}, error=error)
    divided = divide(name, names, Shares()) if len(names) >= FEWEST else {}
    parts = {part: len(places) for part, places in divided.items()}
    return RecordsReport(name=name, title=known.title, summary=summary, parts=parts)


def _read_2019(root: Root) -> tuple[tuple[str, ...], ReadSummary]:
    patients, summary = load_patients(root)
    return patients.names, summary


def _read_2021(root: Root) -> tuple[tuple[str, ...], ReadSummary]:
    reader = EcgReader(find_records(PHYSIONET_2021, root), EcgSettings())
    return tuple(record.name for record in reader), reader.summary()


def _read_hangzhou(root: Root) -> tuple[tuple[str, ...], ReadSummary]:
    reader = HangzhouReader(find_records(HANGZHOU, root), EcgSettings())
    return tuple(record.name for record in reader), reader.summary()


def _read_eicu(root: Root) -> tuple[tuple[str, ...], ReadSummary]:
    patients, summary = load_eicu(root)
    return patients.names, summary


_READ: Mapping[str, Callable[[Root], tuple[tuple[str, ...], ReadSummary]]] = {
    PHYSIONET_2019: _read_2019,
    PHYSIONET_2021: _read_2021,
    HANGZHOU: _read_hangzhou,
    EICU: _read_eicu,
}
