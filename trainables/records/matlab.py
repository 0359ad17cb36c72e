"""The samples (.mat) of a record: the one matrix in a MATLAB file of version 4 (the official ones) or 5."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kdsearch.trainables.data.findings import reason
from kdsearch.trainables.records.summary import UnreadableRecordError

OFFICIAL_NAME: Final = "val"
MAX_FILE_BYTES: Final = 512 << 20
MAX_VALUES: Final = 100_000_000  # twelve leads at 1,000 Hz for more than two hours
_EXPECTED: Final = f"a MATLAB file (version 4 or 5) with a matrix of numbers, {OFFICIAL_NAME!r}"

Matrix = NDArray[np.generic]


def read_matrix(path: Path) -> Matrix:
    """Return the matrix as it stands in the file. Raises `UnreadableRecordError`."""
    from scipy.io import loadmat, whosmat  # noqa: PLC0415 readers of other sets need not pay for it

    try:
        size = path.stat().st_size
    except OSError as error:
        raise UnreadableRecordError(f"the samples in {path.name}", reason(error)) from error
    if size == 0 or size > MAX_FILE_BYTES:
        found = "an empty file" if size == 0 else f"more than {MAX_FILE_BYTES >> 20} MiB"
        raise UnreadableRecordError(_EXPECTED, f"{path.name}: {found}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what scipy finds odd; it is checked here
            name = _the_matrix({name: shape for name, shape, _ in whosmat(path)}, path)
            matrix = loadmat(path, variable_names=[name])[name]
    except UnreadableRecordError:
        raise
    except Exception as error:  # scipy raises nearly anything on a damaged file
        story = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        raise UnreadableRecordError(
            _EXPECTED, f"{path.name}: damaged, cut or of another version ({story})"
        ) from error
    if not isinstance(matrix, np.ndarray) or matrix.dtype.kind not in "iuf":
        raise UnreadableRecordError(
            _EXPECTED, f"{path.name}: {getattr(matrix, 'dtype', type(matrix).__name__)}"
        )
    return matrix


def _the_matrix(shapes: dict[str, tuple[int, ...]], path: Path) -> str:
    """Return the name of the matrix: the official one, or the only one."""
    if OFFICIAL_NAME in shapes:
        name = OFFICIAL_NAME
    elif len(shapes) == 1:
        name = next(iter(shapes))
    else:
        raise UnreadableRecordError(_EXPECTED, f"{path.name}: {', '.join(sorted(shapes)[:5]) or 'nothing'}")
    shape = shapes[name]
    if len(shape) != len(("leads", "samples")) or not 0 < math.prod(shape) <= MAX_VALUES:
        raise UnreadableRecordError(
            "leads by samples, at least one of each",
            f"{path.name}: a matrix of {' x '.join(map(str, shape))}",
        )
    return name
