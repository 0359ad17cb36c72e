"""The table `patient` of eICU: who the patients are, how long they stayed, and what does not change by the hour."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from kdsearch.trainables.records.eicu_reading import MINUTES, EicuRepair, Stays, chunks, header
from kdsearch.trainables.records.eicu_tables import MEASURED, PATIENT_COLUMN, Numbers
from kdsearch.trainables.records.psv import VARIABLES, Values
from kdsearch.trainables.records.summary import UnreadableRecordError

if TYPE_CHECKING:
    import pandas as pd

LONGEST_HOURS: Final = 336  # the 2019 files have no more
OLDEST: Final = 90.0  # years; "> 89" stands for all who are older
_COLUMNS: Final = ("age", "gender", "unittype", "hospitaladmitoffset")
_END: Final = "unitdischargeoffset"
_GENDERS: Final = {"female": 0.0, "male": 1.0}
_UNITS: Final = {"micu": (1.0, 0.0), "sicu": (0.0, 1.0)}  # Unit1, Unit2


class PatientRepair(StrEnum):
    """What was repaired in the table of patients, or noted."""

    NO_NUMBER = "patients without a number, left out"
    SAME_NUMBER = "rows of a patient who was there already, left out"
    NO_END = "patients without an end of their stay, left out"
    LONG_STAY = "stays of more than 336 hours, cut there"


@dataclass(frozen=True, eq=False)
class EicuPatients:
    """The stays, and what is known of each: constants [patients, 6], the last six of the 40 variables, NaN: unknown.

    The hour (ICULOS) among them is NaN as well.
    """

    stays: Stays
    constants: Values


def read_patients(path: Path, repairs: Counter[StrEnum]) -> EicuPatients:
    """Return the patients of the table. Raises `UnreadableRecordError`."""
    import pandas as pd  # noqa: PLC0415 half a second of import

    present = header(path)
    for name in (PATIENT_COLUMN, _END):
        if name not in present:
            raise UnreadableRecordError(f"a column {name}", "none of that name")
    repairs[EicuRepair.MISSING_COLUMN] = sum(name not in present for name in _COLUMNS)
    columns = [name for name in (PATIENT_COLUMN, _END, *_COLUMNS) if name in present]
    read = list(chunks(path, columns))
    if not read:
        raise UnreadableRecordError("a row for each patient", "a header alone")
    table = pd.concat(read, ignore_index=True)
    table = _usable(table, repairs)
    hours = np.ceil(table[_END].to_numpy(dtype=np.float64) / MINUTES).clip(1)
    repairs[PatientRepair.LONG_STAY] = int((hours > LONGEST_HOURS).sum())
    numbers = table[PATIENT_COLUMN].to_numpy(dtype=np.int64)
    stays = Stays(numbers, hours.clip(max=LONGEST_HOURS).astype(np.int64))
    return EicuPatients(stays, _constants(table, repairs))


def _usable(table: pd.DataFrame, repairs: Counter[StrEnum]) -> pd.DataFrame:
    """Return the rows of different patients with a number and an end of their stay, in the order of their numbers."""
    import pandas as pd  # noqa: PLC0415

    for name in (PATIENT_COLUMN, _END):
        table[name] = pd.to_numeric(table[name], errors="coerce")
    number = table[PATIENT_COLUMN]
    wrong = number.isna() | (number % 1 != 0) | (number.abs() >= 1 << 53)
    repairs[PatientRepair.NO_NUMBER] = int(wrong.sum())
    table = table[~wrong]
    again = table[PATIENT_COLUMN].duplicated()
    repairs[PatientRepair.SAME_NUMBER] = int(again.sum())
    table = table[~again]
    without = ~(table[_END] >= 0) | np.isinf(table[_END])
    repairs[PatientRepair.NO_END] = int(without.sum())
    table = table[~without]
    if table.empty:
        raise UnreadableRecordError("patients with a number and an end of their stay", "none")
    return table.sort_values(PATIENT_COLUMN)


def _constants(table: pd.DataFrame, repairs: Counter[StrEnum]) -> Values:
    constants = np.full((len(table), len(VARIABLES) - MEASURED), np.nan, dtype=np.float32)
    place = {name: at for at, name in enumerate(VARIABLES[MEASURED:])}
    if "age" in table:
        constants[:, place["Age"]] = _ages(table["age"], repairs)
    if "gender" in table:
        constants[:, place["Gender"]] = _texts(table["gender"]).map(_GENDERS).to_numpy(dtype=np.float32)
    if "unittype" in table:
        for unit, name in enumerate(("Unit1", "Unit2")):
            flags = {kind: values[unit] for kind, values in _UNITS.items()}
            constants[:, place[name]] = _texts(table["unittype"]).map(flags).to_numpy(dtype=np.float32)
    if "hospitaladmitoffset" in table:
        constants[:, place["HospAdmTime"]] = _numbers(table["hospitaladmitoffset"], repairs) / MINUTES
    return constants


def _texts(column: pd.Series) -> pd.Series:
    return column.astype("string").str.strip().str.lower().astype(object)


def _ages(column: pd.Series, repairs: Counter[StrEnum]) -> Numbers:
    """Return ages in years; `> 89` is 90."""
    texts = _texts(column)
    older = texts.str.startswith(">", na=False)
    return np.where(older, OLDEST, _numbers(texts.mask(older), repairs))


def _numbers(column: pd.Series, repairs: Counter[StrEnum]) -> Numbers:
    import pandas as pd  # noqa: PLC0415

    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    finite = np.isfinite(numbers)
    repairs[EicuRepair.NOT_A_NUMBER] += int((~finite & column.notna().to_numpy(dtype=bool)).sum())
    return np.where(finite, numbers, np.nan)
