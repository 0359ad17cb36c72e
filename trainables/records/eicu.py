"""eICU Collaborative Research Database 2.0: its tables brought to the 40 variables of PhysioNet 2019, hour by hour.

Source: Pollard et al., "The eICU Collaborative Research Database" (2018). Times there are minutes since admission to
the unit; the hour from minute 60 h on, before 60 (h + 1), is that with ICULOS = h + 1. Several values of an hour, from
whichever tables, become their median, as in the 2019 set ("All patient features were condensed into hourly bins ...,
multiple heart rate measurements in an hourly time window were summarized as the median", Reyna et al.), and as there
a stay is cut after 336 hours. `eicu_tables` says what is which variable.

The set has no labels of sepsis by the hour: all labels are 0, and it is there to compare outputs on.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import numpy as np

from kdsearch.trainables.data.findings import DataError, Problem, reason
from kdsearch.trainables.records.eicu_hours import BUCKET_ROWS, HourlyMedians, Rows
from kdsearch.trainables.records.eicu_patients import EicuPatients, read_patients
from kdsearch.trainables.records.eicu_reading import CHUNK_ROWS, Stays, read_values
from kdsearch.trainables.records.eicu_tables import MEASURED, TABLES
from kdsearch.trainables.records.physionet2019 import Patients
from kdsearch.trainables.records.psv import HOUR, VARIABLES, Flags, Values
from kdsearch.trainables.records.sets import EICU, EICU_PATIENTS, RecordFiles, find_records
from kdsearch.trainables.records.summary import Ledger, ReadSummary, UnreadableRecordError


class EicuNote(StrEnum):
    """What there is to know about the tables that are not there, and about patients."""

    NO_VITAL_PERIODIC = "no table vitalPeriodic: no vital signs of monitors"
    NO_VITAL_APERIODIC = "no table vitalAperiodic: no blood pressures of cuffs"
    NO_LAB = "no table lab: no laboratory values"
    NO_NURSE_CHARTING = "no table nurseCharting: no vital signs charted by nurses"
    NO_RESPIRATORY_CHARTING = "no table respiratoryCharting: nothing charted of breathing"
    NO_LABELS = "patients without labels of sepsis (the set has none by the hour), all 0"
    NOT_MEASURED = "patients without any value in their stay, left out"


_ABSENT: Final = {
    "vitalPeriodic": EicuNote.NO_VITAL_PERIODIC,
    "vitalAperiodic": EicuNote.NO_VITAL_APERIODIC,
    "lab": EicuNote.NO_LAB,
    "nurseCharting": EicuNote.NO_NURSE_CHARTING,
    "respiratoryCharting": EicuNote.NO_RESPIRATORY_CHARTING,
}


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """How much is in memory at a time: rows of a table that is read, and hourly rows that are put together."""

    chunk_rows: int = CHUNK_ROWS
    bucket_rows: int = BUCKET_ROWS


def load_eicu(root: str | Path | None = None, pieces: Pieces | None = None) -> tuple[Patients, ReadSummary]:
    """Read the tables below the data root (`root`, else KDSEARCH_DATA): patients by their numbers, and what came of it.

    The values lie in files of the temporary folder (TMPDIR) meanwhile, 8 bytes each. A table that cannot be used is
    left out by name. Raises `DataError` where `patient` or every table with measurements is missing or cannot be used,
    or no patient has a value.
    """
    pieces = Pieces() if pieces is None else pieces
    files = find_records(EICU, root)
    ledger = files.ledger()
    paths = _tables(files, ledger)
    known = _known_patients(paths, files, ledger)
    offsets = np.append(0, np.cumsum(known.stays.hours))
    try:
        with (
            tempfile.TemporaryDirectory(prefix="kdsearch-eicu-") as scratch,
            HourlyMedians(offsets, MEASURED, Path(scratch), bucket_rows=pieces.bucket_rows) as medians,
        ):
            measured = _gather(paths, known.stays, medians, ledger, pieces)
            patients = _put_together(known, offsets, measured, medians)
    except OSError as error:
        message = f"the values of {EICU!r} cannot be kept in {tempfile.gettempdir()}: {reason(error)}"
        raise DataError(message, "TMPDIR names the folder for temporary files.") from error
    ledger.note(
        paths[EICU_PATIENTS],
        {EicuNote.NOT_MEASURED: int((~measured).sum()), EicuNote.NO_LABELS: len(patients)},
    )
    return patients, ledger.summary(_facts(patients))


def _tables(files: RecordFiles, ledger: Ledger) -> dict[str, Path]:
    """Return the file of each table that is there, by its official name; a second one is left out."""
    official = {name.lower(): name for name in (EICU_PATIENTS, *TABLES)}
    paths: dict[str, Path] = {}
    for path in files.records:
        name = official[path.name.lower().split(".")[0]]
        if name in paths:
            ledger.leave_out(path, UnreadableRecordError("one file for each table", f"a second {name}"))
        paths.setdefault(name, path)
    for name, note in _ABSENT.items():
        if name not in paths:
            ledger.note(files.folder / f"{name}.csv.gz", {note: 1})
    return paths


def _known_patients(paths: Mapping[str, Path], files: RecordFiles, ledger: Ledger) -> EicuPatients:
    if EICU_PATIENTS not in paths:
        wanted = f"{EICU_PATIENTS}.csv or {EICU_PATIENTS}.csv.gz"
        raise _refused(files, [Problem(str(files.folder), wanted, "no such file")])
    if len(paths) == 1:
        problem = Problem(
            str(files.folder), f"one of the tables {', '.join(TABLES)}", f"{EICU_PATIENTS} alone"
        )
        raise _refused(files, [problem])
    path, repairs = paths[EICU_PATIENTS], Counter[StrEnum]()
    try:
        known = read_patients(path, repairs)
    except UnreadableRecordError as error:
        raise _refused(files, [Problem(str(path), error.expected, error.found)]) from error
    ledger.keep(path, repairs)
    return known


def _refused(files: RecordFiles, problems: Sequence[Problem]) -> DataError:
    return DataError.of(files.known.name, problems, files.known.hint)


def _gather(
    paths: Mapping[str, Path], stays: Stays, medians: HourlyMedians, ledger: Ledger, pieces: Pieces
) -> Flags:
    """Read the values of all tables, and return which patients have any [patients]."""
    offsets = np.append(0, np.cumsum(stays.hours))
    measured = np.zeros(len(stays.numbers), dtype=bool)
    read = 0
    for name, table in TABLES.items():
        if name not in paths:
            continue
        repairs, mark, mine = Counter[StrEnum](), medians.mark(), measured.copy()
        try:
            for part in read_values(paths[name], table, stays, repairs, pieces.chunk_rows):
                medians.add(offsets[part.patients] + part.hours, part.variable, part.values)
                mine[part.patients] = True
        except UnreadableRecordError as error:
            medians.undo(mark)
            ledger.leave_out(paths[name], error)
            continue
        measured, read = mine, read + 1
        ledger.keep(paths[name], repairs)
    if not read:
        raise DataError.of(ledger.name, ledger.problems, ledger.hint)
    ledger.settle()
    if not measured.any():
        problem = Problem(str(ledger.folder), "values of the patients in their stays", "none")
        raise DataError.of(ledger.name, [problem], ledger.hint)
    return measured


def _put_together(known: EicuPatients, offsets: Rows, measured: Flags, medians: HourlyMedians) -> Patients:
    """Return the patients who have any value, in the order of their names."""
    lengths = np.where(measured, known.stays.hours, 0)
    kept = np.flatnonzero(measured)
    ends = np.cumsum(lengths)
    values = np.empty((int(ends[-1]), len(VARIABLES)), dtype=np.float32)
    missing = np.empty(values.shape, dtype=bool)
    for bucket in range(medians.buckets):
        first, end = medians.firsts[bucket : bucket + 2]
        hours = known.stays.hours[first:end]
        of_patient = np.repeat(np.arange(first, end), hours)
        block = np.hstack([medians.medians(bucket), known.constants[of_patient]])
        starts = np.repeat(offsets[first:end], hours) - offsets[first]
        block[:, HOUR] = np.arange(len(block)) - starts + 1
        chosen = measured[of_patient]
        rows = slice(ends[first] - lengths[first], ends[end - 1])
        missing[rows] = np.isnan(block)[chosen]
        values[rows] = _filled(block, starts)[chosen]
    return Patients(
        names=tuple(str(number) for number in known.stays.numbers[kept]),
        values=values,
        missing=missing,
        labels=np.zeros(len(values), dtype=np.uint8),
        offsets=np.append(0, np.cumsum(lengths[kept])),
    )


def _filled(values: Values, starts: Rows) -> Values:
    """Return `values` [rows, variables] filled forward within patients; `starts` [rows] is each patient's first row."""
    rows = np.where(np.isnan(values), starts[:, None], np.arange(len(values))[:, None])
    filled: Values = np.take_along_axis(values, np.maximum.accumulate(rows, axis=0), axis=0)
    return filled


def _facts(patients: Patients) -> dict[str, int]:
    seen = ~patients.missing[:, :MEASURED]
    return {
        "patients": len(patients),
        "hourly rows": len(patients.labels),
        "labelled rows": 0,
        "hours at most": int(patients.hours.max()),
        "variables measured by the hour": int(seen.any(axis=0).sum()),
        "hourly values": int(seen.sum()),
    }
