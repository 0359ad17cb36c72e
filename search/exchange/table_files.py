"""Tables as CSV and Parquet files.

In CSV an empty cell is a missing value, `nan`, `inf` and `-inf` are numbers that were reported, floats are the
shortest text that reads back as the same number, times are ISO 8601 in UTC. A text that a spreadsheet would take for a
formula has an apostrophe in front. A Parquet file carries the design space
of its parameters in its metadata.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import parquet

from kdsearch.spaces import label_of
from kdsearch.spaces.cells import guarded

METADATA: Final = b"kdsearch"  # key of a Parquet file's metadata; the value is JSON
_BATCH: Final = 50_000  # rows that are turned into text at a time


def write_csv(table: pa.Table, path: Path) -> None:
    """Write a table as CSV; lines end with a line feed."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([guarded(name) for name in table.column_names])
        for batch in table.to_batches(max_chunksize=_BATCH):
            columns = [[_cell(value) for value in column.to_pylist()] for column in batch.columns]
            writer.writerows(zip(*columns, strict=True))


def write_parquet(table: pa.Table, path: Path, told: Mapping[str, Any]) -> None:
    """Write a table as Parquet, with `told` (plain data) beside it."""
    metadata = {**(table.schema.metadata or {}), METADATA: json.dumps(told).encode()}
    parquet.write_table(table.replace_schema_metadata(metadata), path)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        return guarded(value)
    return label_of(value) if isinstance(value, int | float | bool) else str(value)
