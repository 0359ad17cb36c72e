"""Small arrays of trials as bytes, and their way into the database: float32, little-endian, zlib.

What a trial measures once and a report draws: the similarity of every two layers, mean attention. Metrics are
numbers by epoch and live elsewhere.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from kdsearch.search.trialdb import schema
from kdsearch.search.trialdb.engines import insert_into
from kdsearch.search.trialdb.errors import RefusedRowsError

if TYPE_CHECKING:
    from kdsearch.search.trialdb.operations import ArrayRow

DTYPE = "float32"
LIMIT_BYTES = 16 * 2**20  # of one array, before compression
_LITTLE = np.dtype("<f4")


def pack(name: str, array: npt.ArrayLike) -> tuple[tuple[int, ...], bytes]:
    """Return an array's shape and compressed values.

    RefusedRowsError if it holds anything but real numbers or is larger than LIMIT_BYTES.
    """
    given = np.asarray(array)
    if given.dtype.kind not in "fiub":
        raise RefusedRowsError(
            f"the array {name!r} holds {given.dtype}, not numbers", "Only real numbers are kept, as float32."
        )
    check_shape(name, given.shape)
    return given.shape, zlib.compress(np.ascontiguousarray(given, dtype=_LITTLE).tobytes())


def check_shape(name: str, shape: Sequence[int]) -> None:
    """Raise RefusedRowsError for an array of more than LIMIT_BYTES."""
    size = math.prod(shape) * _LITTLE.itemsize
    if size > LIMIT_BYTES:
        raise RefusedRowsError(
            f"the array {name!r} of shape {tuple(shape)} takes {size:,} bytes; the trial database keeps "
            f"arrays of up to {LIMIT_BYTES:,}",
            "Average or thin it out before it is reported; keep large results as files.",
        )


def unpack(dtype: str, shape: Sequence[int], data: bytes) -> npt.NDArray[np.float32]:
    """Return an array of its own from what `pack` made; ValueError if the values do not fill the shape."""
    if dtype != DTYPE:
        raise ValueError(f"arrays of {dtype} are not known")
    values = np.frombuffer(zlib.decompress(data), dtype=_LITTLE)
    return values.reshape(tuple(shape)).astype(np.float32)


def record_arrays(connection: Connection, sweep: int, rows: Sequence[ArrayRow]) -> None:
    """Write arrays; a known one (by trial and name) gives way unless a newer attempt wrote it."""
    values = [
        {
            "sweep_id": sweep,
            "number": row.number,
            "name": row.name,
            "step": row.step,
            "attempt": row.attempt,
            "dtype": row.dtype,
            "shape": list(row.shape),
            "data": row.data,
        }
        for row in rows
    ]
    statement = insert_into(connection, schema.TRIAL_ARRAY)
    new, old = statement.excluded, schema.TRIAL_ARRAY.c
    statement = statement.on_conflict_do_update(
        index_elements=["sweep_id", "number", "name"],
        set_={name: new[name] for name in ("step", "attempt", "dtype", "shape", "data")},
        where=new.attempt >= old.attempt,
    )
    connection.execute(statement, values)
