"""CSV and Parquet files as tables of text, with the place of each row for messages.

Everything is text, whatever the file: an empty one where there is no value. A space knows what a label stands for, so
nothing is lost by it.
"""

from __future__ import annotations

import json
import lzma
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from kdsearch.search.exchange.incoming import number_of
from kdsearch.search.exchange.table_files import METADATA
from kdsearch.spaces import label_of
from kdsearch.spaces.cells import unguarded
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data.inside import check_parquet, unpacked

_PARQUET_MAGIC: Final = b"PAR1"
_INDEX: Final = ("", "Unnamed: 0", "__index_level_0__")
_WHOLE: Final = re.compile(r"[-+]?\d+(\.0+)?")


@dataclass(frozen=True, kw_only=True, eq=False)
class TextTable:
    """A table's columns as text."""

    where: str  # the file, as messages call it
    form: str  # csv or parquet
    columns: Mapping[str, Sequence[str]]
    size: int  # rows
    told: Mapping[str, Any] = field(default_factory=dict)  # what a Parquet file of kdsearch says of itself

    def place(self, row: int) -> str:
        """Return the name of a row that is counted from 0: "line 2" is the first of a CSV file."""
        return f"line {row + 2}" if self.form == "csv" else f"row {row + 1}"

    def at(self, row: int, column: str) -> str:
        """Return where a cell is, for messages."""
        return f"{self.where}, {self.place(row)}, column {column}"

    def number(self, row: int, column: str) -> float | None:
        """Return a cell's number, None where it is empty; `nan` and `inf` are numbers.

        Raises:
            UsageError: it is no number.

        """
        cell = self.columns[column][row].strip()
        if not cell:
            return None
        found = number_of(cell)
        if found is None:
            raise UsageError(
                f"{self.at(row, column)}: {cell!r} is no number", "Write one, or leave it empty."
            )
        return float(found)

    def whole(self, row: int, column: str, *, least: int = 0) -> int | None:
        """Return a cell's whole number, in [`least`, 2**63), None where it is empty.

        Raises:
            UsageError: it is none.

        """
        cell = self.columns[column][row].strip()
        if not cell:
            return None
        number = int(cell.partition(".")[0]) if _WHOLE.fullmatch(cell) else least - 1
        if not least <= number < 2**63:
            raise UsageError(
                f"{self.at(row, column)}: {cell!r} is no whole number in [{least}, 2**63)",
                f"If the column means nothing here, leave it out: --ignore {column}.",
            )
        return number

    def time(self, row: int, column: str) -> datetime | None:
        """Return a cell's time; one without a zone is taken for local time.

        Raises:
            UsageError: it is none.

        """
        cell = self.columns[column][row].strip()
        if not cell:
            return None
        try:
            return datetime.fromisoformat(cell).astimezone(UTC)
        except ValueError:
            raise UsageError(
                f"{self.at(row, column)}: {cell!r} is no time", "Write it as 2026-01-31T12:00:00+00:00."
            ) from None

    def data(self, row: int, column: str) -> Mapping[str, Any] | None:
        """Return a cell's JSON object, None where it is empty.

        Raises:
            UsageError: it is none.

        """
        cell = self.columns[column][row].strip()
        try:
            found = json.loads(cell) if cell else None
        except ValueError:
            found = cell
        if found is not None and not isinstance(found, dict):
            raise UsageError(
                f"{self.at(row, column)}: {cell[:60]!r} is no JSON object",
                f"If the column means nothing here, leave it out: --ignore {column}.",
            )
        return found


_DAMAGES = (OSError, EOFError, lzma.LZMAError, zlib.error)


def read_text_table(path: Path) -> TextTable:
    """Read a CSV (also compressed: .gz, .bz2, .xz) or Parquet file.

    Raises:
        UsageError: it is not there, empty, something else, or has a column twice.

    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(_PARQUET_MAGIC))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "Give the path of a file.") from None
    if not magic:
        raise UsageError(f"{path} is empty", "Is it the right file?")
    if magic == _PARQUET_MAGIC or path.suffix in {".parquet", ".pq"}:
        return _parquet(path)
    return _csv(path)


def _csv(path: Path) -> TextTable:
    try:
        with unpacked(path) as file:
            frame = pd.read_csv(file, dtype=str, keep_default_na=False, header=None, skipinitialspace=True)
    except (*_DAMAGES, ValueError) as error:  # pandas' own are ValueErrors
        said = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{path} is no CSV file: {said}", "Known: CSV, Parquet, and SQLite databases of Optuna."
        ) from None
    names = [unguarded(str(name).strip()) for name in frame.iloc[0]]
    columns = [[unguarded(cell) for cell in frame[column].iloc[1:]] for column in frame.columns]
    return _checked(path, "csv", names, columns, {})


def _parquet(path: Path) -> TextTable:
    try:
        check_parquet(path)
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        said = " ".join(str(error).split())[:200]
        raise UsageError(f"{path} is no Parquet file: {said}", "Is it whole?") from None
    told = (table.schema.metadata or {}).get(METADATA)
    columns = [[_text(value) for value in column.to_pylist()] for column in table.columns]
    return _checked(path, "parquet", list(table.column_names), columns, _read(told))


def _read(told: bytes | None) -> Mapping[str, Any]:
    try:
        found = json.loads(told) if told else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    return label_of(value) if isinstance(value, str | int | float | bool) else str(value)


def _checked(
    path: Path, form: str, names: Sequence[str], columns: Sequence[Sequence[str]], told: Mapping[str, Any]
) -> TextTable:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"{path} has the column {', '.join(map(repr, twice))} twice", "Give each column once."
        )
    names, columns = _without_index(names, columns)
    size = len(columns[0]) if columns else 0
    if not size:
        raise UsageError(f"{path} has no rows", "It needs a heading and a row for each trial.")
    if "" in names:
        raise UsageError(
            f"{path} has a column without a name (number {list(names).index('') + 1})", "Name it."
        )
    found = dict(zip(names, columns, strict=True))
    return TextTable(where=str(path), form=form, columns=found, size=size, told=told)


def _without_index(
    names: Sequence[str], columns: Sequence[Sequence[str]]
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Leave out the row numbers that pandas writes in front of a table."""
    if not names or names[0] not in _INDEX or list(columns[0]) != [str(n) for n in range(len(columns[0]))]:
        return names, columns
    return names[1:], columns[1:]
