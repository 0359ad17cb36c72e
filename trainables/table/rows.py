"""Table files as frames of text: CSV (also compressed) and Parquet, with the place of each row for messages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kdsearch.spaces import label_of
from kdsearch.spaces.cells import unguarded
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data.inside import check_parquet, unpacked

if TYPE_CHECKING:
    import pandas as pd

_PARQUET: Final = (".parquet", ".pq")
_CSV: Final = (".csv", ".csv.gz", ".csv.bz2", ".csv.xz", ".csv.zst", ".csv.zip")


@dataclass(frozen=True, eq=False)
class Rows:
    """A table's cells as text, an empty one where there is no value, and how a row is called."""

    frame: pd.DataFrame
    where: str
    unit: str  # what rows are counted in: "line" of a file with a heading, or "row"

    def place(self, row: int) -> str:
        """Return the name of a row that is counted from 0: "line 2" is the first of a CSV file."""
        return f"{self.unit} {row + (2 if self.unit == 'line' else 1)}"


def read_rows(path: Path, where: str) -> Rows:
    """Read a table; `where` is how messages call it.

    Raises:
        UsageError: the file is not there, of another kind, damaged, empty, or has a column twice.

    """
    name = path.name.lower()
    if not path.is_file():
        from kdsearch.trainables.table.known import known_tables  # noqa: PLC0415

        known = ", ".join(known_tables())
        raise UsageError(
            f"{where}: there is no file {path}", f"Tables that come with kdsearch: {known or '(none)'}."
        )
    if not name.endswith((*_PARQUET, *_CSV)):
        raise UsageError(
            f"{where}: {path.name} is neither CSV nor Parquet", f"Known: {', '.join((*_CSV, *_PARQUET))}."
        )
    parquet = name.endswith(_PARQUET)
    try:
        frame = _parquet(path) if parquet else _csv(path)
    except UsageError:
        raise
    except Exception as error:
        told = " ".join(str(error).split())[:300]
        raise UsageError(f"{where}: {path} cannot be read: {told}", "Is the file whole?") from error
    rows = Rows(frame, where, "row" if parquet else "line")
    _check_heading(rows)
    return rows


def _csv(path: Path) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415 half a second of import

    with unpacked(path) as file:
        frame = pd.read_csv(
            file, dtype=str, keep_default_na=False, header=None, skip_blank_lines=False, encoding="utf-8"
        )
    heading = [unguarded(str(name).strip()) for name in frame.iloc[0]] if len(frame) else []
    body = frame.iloc[1:].reset_index(drop=True)
    quoted = [at for at in body.columns if body[at].str.startswith("'").any()]
    body[quoted] = body[quoted].map(unguarded)
    body.columns = pd.Index(heading)
    return body


def _parquet(path: Path) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415

    check_parquet(path)
    frame = pd.read_parquet(path)
    return pd.DataFrame({str(name): frame[name].map(_text) for name in frame.columns}).astype(str)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value != value:  # noqa: PLR0124 only NaN differs from itself
        return "nan"
    item = getattr(value, "item", None)
    plain = item() if callable(item) else value
    return label_of(plain) if isinstance(plain, str | int | float | bool) else str(plain)


def _check_heading(rows: Rows) -> None:
    names = list(rows.frame.columns)
    if not names or len(rows.frame) == 0:
        raise UsageError(f"{rows.where} has no rows", "It needs a heading and a row for each epoch.")
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise UsageError(f"{rows.where} has the column {twice[0]!r} twice", "Give each column once.")
