"""Read a table of eICU piece by piece, with only the columns that are needed.

The largest tables have 150 million rows, so a piece at a time is in memory, and values go on with the patient's place,
the hour and the variable. Files are CSV, plain or gzipped; columns are read by name.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from kdsearch.trainables.data.findings import reason
from kdsearch.trainables.data.inside import unpacked
from kdsearch.trainables.records.eicu_hours import Rows
from kdsearch.trainables.records.eicu_tables import (
    LIMITS,
    PATIENT_COLUMN,
    LongTable,
    Numbers,
    Source,
    WideTable,
)
from kdsearch.trainables.records.psv import Values
from kdsearch.trainables.records.summary import UnreadableRecordError

if TYPE_CHECKING:
    import pandas as pd

CHUNK_ROWS: Final = 500_000
MINUTES: Final = 60


class EicuRepair(StrEnum):
    """What was repaired in a table, or noted; the counts are of what each name says first."""

    MISSING_COLUMN = "columns missing, taken as not measured"
    NOT_A_NUMBER = "values that are no numbers, taken as not measured"
    NOT_PLAUSIBLE = "values outside the limits of their variable, taken as not measured"
    UNKNOWN_PATIENT = "values of patients that are not in the table of patients, not used"
    NO_TIME = "values without a time, not used"
    BEFORE = "values from before the admission to intensive care, not used"
    AFTER = "values from after the last hour that is kept of a stay, not used"


@dataclass(frozen=True)
class Stays:
    """Which patients there are: numbers [patients], ascending, and hours [patients] that are kept of each."""

    numbers: Rows
    hours: Rows

    def places(self, numbers: Numbers) -> Rows:
        """Return where each number [n] stands, -1 where it does not."""
        at = np.searchsorted(self.numbers, numbers)
        at[at == len(self.numbers)] = 0
        return np.where(self.numbers[at] == numbers, at, -1)


@dataclass(frozen=True)
class Measured:
    """Values [n] of one variable, with the places of their patients and their hours from 0, [n] each."""

    variable: int
    patients: Rows
    hours: Rows
    values: Values


def read_values(
    path: Path,
    table: WideTable | LongTable,
    stays: Stays,
    repairs: Counter[StrEnum],
    chunk_rows: int = CHUNK_ROWS,
) -> Iterator[Measured]:
    """Yield what the table at `path` says of the stays, counting what is repaired.

    Raises `UnreadableRecordError`, possibly after some of the values: the file may be damaged anywhere.
    """
    needed = (table.offset, *_value_columns(table))
    present = set(header(path))
    missing = [name for name in (PATIENT_COLUMN, *needed) if name not in present]
    if isinstance(table, WideTable):
        repairs[EicuRepair.MISSING_COLUMN] = sum(name in table.columns for name in missing)
        if not present & table.columns.keys():
            raise UnreadableRecordError(f"one of the columns {', '.join(table.columns)}", "none of them")
        missing = [name for name in missing if name not in table.columns]
    if missing:
        raise UnreadableRecordError(f"a column {missing[0]}", "none of that name")
    columns = [name for name in (PATIENT_COLUMN, *needed) if name in present]
    keys = table.keys if isinstance(table, LongTable) else ()
    for chunk in chunks(path, columns, categories=keys, rows=chunk_rows):
        parts = _wide(chunk, table) if isinstance(table, WideTable) else _long(chunk, table)
        for part in parts:
            measured = _measured(part, stays, repairs)
            if len(measured.values):
                yield measured


def _value_columns(table: WideTable | LongTable) -> tuple[str, ...]:
    return tuple(table.columns) if isinstance(table, WideTable) else (*table.keys, table.value)


def header(path: Path) -> list[str]:
    """Return the names of the columns in lower case. Raises `UnreadableRecordError`."""
    import pandas as pd  # noqa: PLC0415 half a second of import

    try:
        with unpacked(path) as file:
            first = pd.read_csv(
                file, header=None, nrows=1, dtype=str, keep_default_na=False, encoding_errors="replace"
            )
    except (*_DAMAGES, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise _unreadable(error) from error
    names = [_plain(str(name)) for name in first.iloc[0]]
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        raise UnreadableRecordError("each column once", f"{twice[0]} twice")
    return names


def chunks(
    path: Path,
    columns: Sequence[str],
    *,
    categories: Sequence[str] = (),
    rows: int = CHUNK_ROWS,
) -> Iterator[pd.DataFrame]:
    """Yield the file piece by piece with the named columns in lower case; `categories` hold few different texts.

    What a row has beyond the last column is not looked at. Raises `UnreadableRecordError`.
    """
    import pandas as pd  # noqa: PLC0415

    try:
        names = [name or f"column {at}" for at, name in enumerate(header(path))]
        with unpacked(path) as file:
            yield from pd.read_csv(
                file,
                header=0,
                names=names,
                usecols=list(columns),
                index_col=False,  # nor is the first column an index where the first rows are longer
                dtype=dict.fromkeys(categories, "category"),
                chunksize=rows,
                encoding_errors="replace",
                low_memory=False,
            )
    except (*_DAMAGES, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise _unreadable(error) from error


_DAMAGES: Final = (OSError, EOFError, zlib.error, UnicodeError)


def _unreadable(error: Exception) -> UnreadableRecordError:
    if type(error).__name__ == "EmptyDataError":
        return UnreadableRecordError("a table in CSV", "an empty file")
    if isinstance(error, OSError) and error.errno is not None:
        return UnreadableRecordError("a table in CSV", reason(error))
    story = f"{type(error).__name__}: {error}".splitlines()[0][:120]
    return UnreadableRecordError("a table in CSV, plain or gzipped", f"a damaged or cut file ({story})")


def _plain(name: str) -> str:
    return name.strip().lower()


@dataclass(frozen=True)
class _Part:
    """One variable of a piece: patients' numbers, minutes and values, [n] each; those that are no number are NaN.

    `unreadable` values were there and are none.
    """

    source: Source
    patients: Numbers
    minutes: Numbers
    values: Numbers
    unreadable: int


def _wide(chunk: pd.DataFrame, table: WideTable) -> Iterator[_Part]:
    patients, minutes = _numbers(chunk[PATIENT_COLUMN])[0], _numbers(chunk[table.offset])[0]
    for name, source in table.columns.items():
        if name in chunk:
            values, unreadable = _numbers(chunk[name])
            known = ~np.isnan(values)
            yield _Part(source, patients[known], minutes[known], values[known], unreadable)


def _long(chunk: pd.DataFrame, table: LongTable) -> Iterator[_Part]:
    sources = list(dict.fromkeys(table.entries.values()))
    kind = _kinds(chunk, table, {source: at for at, source in enumerate(sources)})
    chosen = np.flatnonzero(kind >= 0)
    kind, chunk = kind[chosen], chunk.iloc[chosen]
    patients, minutes = _numbers(chunk[PATIENT_COLUMN])[0], _numbers(chunk[table.offset])[0]
    for at, source in enumerate(sources):
        mine = np.flatnonzero(kind == at)
        if len(mine):
            values, unreadable = _numbers(chunk[table.value].iloc[mine])
            known = mine[~np.isnan(values)]
            yield _Part(source, patients[known], minutes[known], values[~np.isnan(values)], unreadable)


def _kinds(chunk: pd.DataFrame, table: LongTable, numbers: Mapping[Source, int]) -> Rows:
    """Return the number of the source that each row [n] is of, -1 where it is of none."""
    codes = np.zeros(len(chunk), dtype=np.int64)
    texts: list[tuple[str, ...]] = [()]
    for key in table.keys:
        column = chunk[key].astype("category")
        names = [_plain(str(name)) for name in column.cat.categories] + [""]  # the last for none, which is -1
        codes = codes * len(names) + column.cat.codes.to_numpy(dtype=np.int64) % len(names)
        texts = [(*text, name) for text in texts for name in names]
    kinds = [numbers[table.entries[text]] if text in table.entries else -1 for text in texts]
    return np.array(kinds, dtype=np.int64)[codes]


def _numbers(column: pd.Series) -> tuple[Numbers, int]:
    """Return a column as finite numbers [n], NaN for what is none, and how many say something else than a number."""
    import pandas as pd  # noqa: PLC0415

    if column.dtype.kind in "iuf":
        numbers = column.to_numpy(dtype=np.float64)
        unreadable = np.isinf(numbers)
    else:
        texts = column.astype("string").str.strip().str.removesuffix("%")
        numbers = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        unreadable = ~np.isfinite(numbers) & (texts.fillna("") != "").to_numpy(dtype=bool)
    return np.where(np.isfinite(numbers), numbers, np.nan), int(unreadable.sum())


def _measured(part: _Part, stays: Stays, repairs: Counter[StrEnum]) -> Measured:
    """Return the values that belong to an hour of a stay and can be, counting the others."""
    repairs[EicuRepair.NOT_A_NUMBER] += part.unreadable
    places = stays.places(part.patients)
    hours = np.floor(part.minutes / MINUTES)
    values = part.source.convert(part.values).astype(np.float32)
    low, high = (np.float32(limit) for limit in LIMITS[part.source.variable])
    kept = np.ones(len(values), dtype=bool)
    reasons: tuple[tuple[EicuRepair, NDArray[np.bool_]], ...] = (
        (EicuRepair.UNKNOWN_PATIENT, places < 0),
        (EicuRepair.NO_TIME, np.isnan(hours)),
        (EicuRepair.BEFORE, hours < 0),
        (EicuRepair.AFTER, hours >= stays.hours[np.maximum(places, 0)]),
        (EicuRepair.NOT_PLAUSIBLE, ~((values >= low) & (values <= high))),
    )
    for repair, wrong in reasons:  # each value is counted once, for the first of them
        repairs[repair] += int((kept & wrong).sum())
        kept &= ~wrong
    return Measured(part.source.at, places[kept], hours[kept].astype(np.int64), values[kept])
