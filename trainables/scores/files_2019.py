"""Files of the PhysioNet/Computing in Cardiology Challenge 2019.

Labels: a `.psv` a patient, a row an hour, columns joined by `|`, among them `SepsisLabel`; the files of the training
sets are such. `ICULOS`, the hour since admission to the ICU, is looked at if it is there. Predictions: a `.psv` of the
same name with `PredictedProbability` and `PredictedLabel`, in any order and among others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from kdsearch.trainables.data.findings import Problem
from kdsearch.trainables.scores.files import (
    BadFileError,
    Pair,
    Remarks,
    pair_files,
    read_pairs,
    read_text,
    refusal,
)
from kdsearch.trainables.scores.physionet2019 import Cohort
from kdsearch.trainables.scores.ranking import Bools, Floats

LABEL: Final = "SepsisLabel"
HOUR: Final = "ICULOS"
PREDICTION: Final = "PredictedLabel"
PROBABILITY: Final = "PredictedProbability"
_HINT: Final = (
    f"Labels have a column {LABEL}, predictions {PROBABILITY}|{PREDICTION}, with a row for each hour in order; "
    "docs/scores.md has the formats."
)
_SHOWN_COLUMNS: Final = 4

_Part = tuple[Bools, Bools, Floats]  # labels, predictions, probabilities of one patient, [hours]


def read_2019(labels: Path, predictions: Path) -> tuple[Cohort, tuple[str, ...]]:
    """Return the cohort of two folders, patients in the order of their names, and remarks on what was found.

    Raises:
        DataError: files that do not pair, missing columns, other numbers of rows, values that are no numbers, labels
            other than 0 and 1, hours that do not rise.

    """
    pairing = pair_files(labels, predictions, (".psv", ".psv"))
    if pairing.unlabelled:
        problems = [Problem(str(path), "labels of the same name", "none") for path in pairing.unlabelled]
        what = f"{len(problems):,} files with predictions have no labels in {labels}"
        raise refusal(what, problems, "Score a part of the predictions from a folder of its own.")
    remarks = Remarks("patient")
    parts = read_pairs(pairing.pairs, lambda pair: _read(pair, remarks), hint=_HINT)
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    names = tuple(pair.name for pair in pairing.pairs)
    lengths = np.array([len(part[0]) for part in parts], dtype=np.int64)
    return Cohort(names, lengths, *columns), remarks.texts()


def _read(pair: Pair, remarks: Remarks) -> _Part:
    truth = _table(pair.labels, [LABEL], optional=[HOUR])
    said = _table(pair.predictions, [PREDICTION, PROBABILITY])
    labels = _binary(pair.labels, LABEL, truth[LABEL])
    predictions = _binary(pair.predictions, PREDICTION, said[PREDICTION])
    probabilities = _numbers(pair.predictions, PROBABILITY, said[PROBABILITY])
    if len(predictions) != len(labels):
        expected = f"{len(labels)} rows, as in {pair.labels.name} of the labels"
        raise BadFileError(pair.predictions, expected, f"{len(predictions)} rows")
    if HOUR in truth and _jumps(pair.labels, _numbers(pair.labels, HOUR, truth[HOUR])):
        remarks.add(
            f"{HOUR} leaves out hours; a row counts as an hour all the same, as it does officially", pair.name
        )
    _remark(pair.name, labels, predictions, probabilities, remarks)
    return labels, predictions, probabilities


def _remark(name: str, labels: Bools, predictions: Bools, probabilities: Floats, remarks: Remarks) -> None:
    if not len(labels):
        remarks.add("no hours; they count for nothing", name)
        return
    if (labels[:-1] & ~labels[1:]).any():
        remarks.add(f"{LABEL} goes back to 0; the first 1 tells the onset, as it does officially", name)
    if probabilities.min() < 0 or probabilities.max() > 1:
        remarks.add("probabilities lie outside [0, 1]; they are used as they are", name)
    if (
        predictions.any()
        and not predictions.all()
        and (probabilities[predictions].min() <= probabilities[~predictions].max())
    ):
        remarks.add(f"an hour with {PREDICTION} 1 has no higher probability than one with 0", name)


def _table(path: Path, wanted: Sequence[str], optional: Sequence[str] = ()) -> Mapping[str, list[str]]:
    """Return the cells of the wanted columns, and of the optional ones that are there."""
    lines = read_text(path).rstrip().splitlines()
    header = [cell.strip() for cell in lines[0].split("|")] if lines else []
    missing = [name for name in wanted if name not in header]
    if missing:
        raise BadFileError(path, f"the column {' and '.join(missing)}", _columns_in_words(header))
    width = len(header)
    places = {name: header.index(name) - width for name in (*wanted, *optional) if name in header}
    splits = -min(
        places.values()
    )  # columns before the first wanted one stay in one piece: labels have 41 columns
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if line.count("|") != width - 1:
            raise BadFileError(path, f"{width} columns", f"{line.count('|') + 1} in line {number}")
        rows.append(line.rsplit("|", splits))
    return {name: [row[place] for row in rows] for name, place in places.items()}


def _columns_in_words(header: Sequence[str]) -> str:
    if not any(header):
        return "an empty file"
    more = f" and {len(header) - _SHOWN_COLUMNS} more" if len(header) > _SHOWN_COLUMNS else ""
    return f"{', '.join(header[:_SHOWN_COLUMNS])}{more}"


def _numbers(path: Path, column: str, cells: Sequence[str]) -> Floats:
    values = np.array([_number(cell) for cell in cells], dtype=np.float64)
    _refuse_where(~np.isfinite(values), path, f"a finite number as {column}", cells)
    return values


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _binary(path: Path, column: str, cells: Sequence[str]) -> Bools:
    values = np.array([_number(cell) for cell in cells], dtype=np.float64)
    _refuse_where((values != 0) & (values != 1), path, f"0 or 1 as {column}", cells)
    result: Bools = values == 1
    return result


def _refuse_where(bad: Bools, path: Path, expected: str, cells: Sequence[str]) -> None:
    if bad.any():
        first = int(bad.argmax())
        raise BadFileError(path, expected, f"{cells[first].strip()!r} in line {first + 2}")


def _jumps(path: Path, hours: Floats) -> bool:
    """Whether hours are left out; they must rise, since the rows are read as the course of time."""
    for number, (before, after) in enumerate(pairwise(hours.tolist()), start=3):
        if after <= before:
            expected, found = f"hours ({HOUR}) that rise", f"{after:g} after {before:g} in line {number}"
            raise BadFileError(path, expected, found)
    return len(hours) > 1 and hours[-1] - hours[0] > len(hours) - 1
