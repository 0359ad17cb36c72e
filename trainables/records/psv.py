"""One patient of PhysioNet/CinC 2019: a `.psv` file with a row for each hour, and what is repaired in it.

Source: Reyna et al., "Early prediction of sepsis from clinical data: the PhysioNet/Computing in Cardiology Challenge
2019"; the header line is that of the official files. Values are separated by `|`, `NaN` is a value not measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kdsearch.trainables.data.findings import reason
from kdsearch.trainables.records.summary import UnreadableRecordError

VARIABLES: Final = (
    # vital signs
    *("HR", "O2Sat", "Temp", "SBP", "MAP", "DBP", "Resp", "EtCO2"),
    # laboratory values
    *(
        "BaseExcess",
        "HCO3",
        "FiO2",
        "pH",
        "PaCO2",
        "SaO2",
        "AST",
        "BUN",
        "Alkalinephos",
        "Calcium",
        "Chloride",
    ),
    *("Creatinine", "Bilirubin_direct", "Glucose", "Lactate", "Magnesium", "Phosphate", "Potassium"),
    *("Bilirubin_total", "TroponinI", "Hct", "Hgb", "PTT", "WBC", "Fibrinogen", "Platelets"),
    # who and where; ICULOS is the hour since admission to intensive care
    *("Age", "Gender", "Unit1", "Unit2", "HospAdmTime", "ICULOS"),
)
LABEL: Final = "SepsisLabel"
COLUMNS: Final = (*VARIABLES, LABEL)
HOUR_COLUMN: Final = "ICULOS"
HOUR: Final = VARIABLES.index(HOUR_COLUMN)
MAX_FILE_BYTES: Final = 64 << 20

Values = NDArray[np.float32]
Flags = NDArray[np.bool_]
Labels = NDArray[np.uint8]
_Table = NDArray[np.float64]


class PsvRepair(StrEnum):
    """What was repaired in a file, or noted; the counts are of what each name says first."""

    MISSING_COLUMN = "columns missing, taken as not measured"
    EXTRA_COLUMN = "columns of other names, not used"
    COLUMN_ORDER = "columns in another order, read by name"
    SHORT_ROW = "rows with too few or too many values, left out"
    NOT_A_NUMBER = "values that are no finite numbers, taken as not measured"
    NO_HOUR = "rows without an hour (ICULOS), counted on from the row before"
    HOUR_ORDER = "rows whose hour comes before that of the row above, sorted"
    SAME_HOUR = "rows of an hour that was there already, merged (the later value, the greater label)"
    HOUR_GAP = "hours without a row, left as they are"
    LABEL_FALLS = "labels that go back from 1 to 0, left as they are"


@dataclass(frozen=True, eq=False)
class Patient:
    """One patient: values [hours, 40] as measured (NaN: not measured), labels [hours] in {0, 1}."""

    name: str
    values: Values
    labels: Labels
    repairs: Mapping[StrEnum, int]

    @property
    def septic(self) -> bool:
        """Whether any hour is labelled (labels come six hours before the onset)."""
        return bool(self.labels.any())


def read_patient(path: Path) -> Patient:
    """Return the patient of a `.psv` file. Raises `UnreadableRecordError` where nothing can be made of it."""
    repairs: Counter[StrEnum] = Counter()
    header, rows = _lines(path)
    places = _places(header, repairs)
    table = _table(rows, len(header), repairs)
    labels = table[:, places[LABEL]]
    if not np.isin(labels, (0.0, 1.0)).all():
        wrong = labels[~np.isin(labels, (0.0, 1.0))][0]
        raise UnreadableRecordError(
            f"0 or 1 in every row of {LABEL}", "NaN" if np.isnan(wrong) else f"{wrong:g}"
        )
    values = np.full((len(table), len(VARIABLES)), np.nan)
    for at, name in enumerate(VARIABLES):
        if name in places:
            values[:, at] = table[:, places[name]]
    if HOUR_COLUMN in places:
        values, labels = _in_hourly_order(values, labels, repairs)
    repairs[PsvRepair.LABEL_FALLS] = int((np.diff(labels) < 0).sum())
    return Patient(path.stem, values.astype(np.float32), labels.astype(np.uint8), +repairs)


def _lines(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the names in the header and the cells of every row; empty lines at the end do not count."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnreadableRecordError("a .psv file", reason(error)) from error
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableRecordError("a .psv file", f"more than {MAX_FILE_BYTES >> 20} MiB")
    if not content.strip():
        raise UnreadableRecordError("a .psv file", "an empty file")
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UnreadableRecordError("a .psv file", "bytes that are no text") from error
    first, *rest = [line.rstrip("\r") for line in lines if line.strip()]
    header = [name.strip() for name in first.split("|")]
    if LABEL not in header:
        raise UnreadableRecordError(f"a header of {len(COLUMNS)} names with {LABEL}", _shortened(first))
    if not rest:
        raise UnreadableRecordError("a row for each hour", "a header alone")
    return header, [line.split("|") for line in rest]


def _places(header: Sequence[str], repairs: Counter[StrEnum]) -> Mapping[str, int]:
    """Return where each known column stands."""
    twice = [name for name, count in Counter(header).items() if count > 1 and name in COLUMNS]
    if twice:
        raise UnreadableRecordError("each column once", f"{twice[0]} twice")
    places = {name: at for at, name in enumerate(header) if name in COLUMNS}
    if len(places) == 1:
        raise UnreadableRecordError("at least one of the 40 variables", f"{LABEL} alone")
    repairs[PsvRepair.MISSING_COLUMN] = len(COLUMNS) - len(places)
    repairs[PsvRepair.EXTRA_COLUMN] = len(header) - len(places)
    repairs[PsvRepair.COLUMN_ORDER] = int(list(places) != [name for name in COLUMNS if name in places])
    return places


def _table(rows: Sequence[Sequence[str]], width: int, repairs: Counter[StrEnum]) -> _Table:
    """Return the cells as numbers [rows, width]; NaN for what is none."""
    whole = [row for row in rows if len(row) == width]
    repairs[PsvRepair.SHORT_ROW] = len(rows) - len(whole)
    if not whole:
        raise UnreadableRecordError(f"rows of {width} values, as the header has", f"{len(rows[0])} in each")
    try:
        table = np.array([[float(cell) for cell in row] for row in whole])
    except ValueError:  # the slow way, for a file that has something else in it
        cells = [[_number(cell) for cell in row] for row in whole]
        repairs[PsvRepair.NOT_A_NUMBER] = sum(cell is None for row in cells for cell in row)
        table = np.array([[np.nan if cell is None else cell for cell in row] for row in cells])
    too_large = np.abs(table) > np.finfo(np.float32).max
    repairs[PsvRepair.NOT_A_NUMBER] += int(too_large.sum())
    table[too_large] = np.nan
    return table


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _in_hourly_order(values: _Table, labels: _Table, repairs: Counter[StrEnum]) -> tuple[_Table, _Table]:
    """Return the rows in the order of their hours, one for each hour."""
    hours = _known_hours(values[:, HOUR], repairs)
    values[:, HOUR] = hours
    repairs[PsvRepair.HOUR_ORDER] = int((np.diff(hours) < 0).sum())
    order = np.argsort(hours, kind="stable")
    values, labels, hours = values[order], labels[order], hours[order]
    first = np.flatnonzero(np.diff(hours, prepend=-np.inf) > 0)  # of each hour
    repairs[PsvRepair.SAME_HOUR] = len(hours) - len(first)
    if len(first) < len(hours):
        labels = np.maximum.reduceat(labels, first)
        ends = np.append(first[1:], len(hours))
        values = np.stack(
            [forward_filled(values[start:end])[-1] for start, end in zip(first, ends, strict=True)]
        )
    repairs[PsvRepair.HOUR_GAP] = int(np.maximum(np.diff(values[:, HOUR]) - 1, 0).sum())
    return values, labels


def _known_hours(hours: _Table, repairs: Counter[StrEnum]) -> _Table:
    unknown = np.isnan(hours)
    repairs[PsvRepair.NO_HOUR] = int(unknown.sum())
    if not unknown.any():
        return hours
    known = np.flatnonzero(~unknown)
    start = hours[known[0]] - known[0] if len(known) else 1.0  # so that counting meets the first known hour
    at = np.arange(len(hours))
    last = np.maximum.accumulate(np.where(unknown, -1, at))
    return np.where(last < 0, start + at, hours[np.maximum(last, 0)] + at - last)


def forward_filled(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return `values` [hours, variables] with every NaN replaced by the last number above it, where there is one."""
    rows = np.where(np.isnan(values), 0, np.arange(len(values))[:, None])
    return np.take_along_axis(values, np.maximum.accumulate(rows, axis=0), axis=0)


def _shortened(text: str, length: int = 60) -> str:
    return repr(text if len(text) <= length else f"{text[:length]}…")
