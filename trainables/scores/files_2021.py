"""Files of the PhysioNet/Computing in Cardiology Challenge 2021.

Labels: a WFDB header `.hea` a recording, whose line `#Dx:` or `# Dx:` lists SNOMED CT codes. Outputs: a `.csv` of the
same name: a record line `#NAME`, a row of codes, a row of binary and a row of scalar outputs, all joined by commas;
lines that begin with `#` are comments. Equal codes that stand in columns of their own are merged: positive if one is,
the mean of their scalars; a column can also bear several codes, joined by `|`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from kdsearch.trainables.data.findings import DataError
from kdsearch.trainables.scores.files import (
    BadFileError,
    Pair,
    Remarks,
    named,
    pair_files,
    read_pairs,
    read_text,
)
from kdsearch.trainables.scores.physionet2021 import Recordings, ScoredClasses, scored_classes
from kdsearch.trainables.scores.ranking import Bools, Floats

_DX: Final = re.compile(r"^#[ \t]*Dx[ \t]*:[ \t]*(.*?)[ \t]*$", re.MULTILINE | re.IGNORECASE)
_YES: Final = frozenset({"1", "True", "true", "T", "t"})  # what counts as positive officially
_NO: Final = frozenset({"0", "False", "false", "F", "f"})
_LINES: Final = 3  # codes, binary outputs, scalar outputs
_SHOWN_CODES: Final = 5
_HINT: Final = "docs/scores.md has the formats."
_FORM: Final = (
    "A file has a record line #NAME, then three rows of as many cells: SNOMED CT codes, 0 or 1, numbers; "
    "docs/scores.md has the scored codes."
)


@dataclass(frozen=True)
class _Output:
    """One file of outputs: codes as they stand, and a value for each; empty if the file is not well formed."""

    header: str
    binary: tuple[bool, ...]
    scalar: tuple[
        float, ...
    ]  # NaN is left out of a mean over equal codes; what is no number is 0, as officially


def diagnosis_codes(header: str) -> tuple[str, ...] | None:
    r"""Return the codes that a WFDB header lists after `#Dx:` or `# Dx:`; None if it has no such line.

    >>> diagnosis_codes("A0001 12 500 7500\n#Age: 74\n# Dx: 426177001, 164934002\n")
    ('426177001', '164934002')
    """
    lines = _DX.findall(header)
    return (
        tuple(code for line in lines for cell in line.split(",") if (code := cell.strip())) if lines else None
    )


def read_2021(labels: Path, outputs: Path) -> tuple[Recordings, tuple[str, ...]]:
    """Return the recordings of two folders in the order of their names, and remarks on what was found.

    Raises:
        DataError: headers without outputs or without a line of diagnoses, files that cannot be read, no file of outputs
            that is well formed, none with a scored code.

    """
    classes = scored_classes()
    pairing = pair_files(labels, outputs, (".hea", ".csv"))
    remarks = Remarks("recording")
    for path in pairing.unlabelled:
        remarks.add("outputs without a header; they are left out", path.stem)
    read = read_pairs(pairing.pairs, lambda pair: (_codes(pair), _output(pair, remarks)), hint=_HINT)
    names = [pair.name for pair in pairing.pairs]
    truth = classes.matrix([codes for codes, _ in read])
    binary, scalar = _merged([output for _, output in read], classes)
    said = (
        _remarks_on_labels(names, [codes for codes, _ in read], truth, classes)
        + _remarks_on_columns([output for _, output in read], classes, outputs)
        + remarks.texts()
    )
    return Recordings(tuple(names), truth, binary, scalar), said


def _codes(pair: Pair) -> tuple[str, ...]:
    codes = diagnosis_codes(read_text(pair.labels))
    if codes is None:
        raise BadFileError(pair.labels, "a line `#Dx: CODES`", "none")
    return codes


def _output(pair: Pair, remarks: Remarks) -> _Output:
    lines = [line.strip() for line in read_text(pair.predictions).splitlines() if line.strip()]
    record = next(
        (line[1:].strip().removesuffix(".mat") for line in lines if line.startswith("#")), pair.name
    )
    if record != pair.name:  # odd headers call a recording NAME.mat, and so do outputs made from them
        remarks.add(
            "the record line of the outputs names another recording; the file's name counts", pair.name
        )
    rows = [line for line in lines if not line.startswith("#")]
    if len(rows) < _LINES or len({row.count(",") for row in rows}) > 1:
        remarks.add("outputs that are not well formed count as negative throughout", pair.name)
        return _Output("", (), ())
    if len(rows) > _LINES:
        remarks.add("rows of outputs after the third are left out", pair.name)
    decisions = [cell.strip() for cell in rows[1].split(",")]
    if not (_YES | _NO).issuperset(decisions):
        remarks.add("binary outputs other than 0, 1, true, false, t, f count as negative", pair.name)
    numbers = [_number(cell) for cell in rows[2].split(",")]
    if any(number is None or math.isnan(number) for number in numbers):
        remarks.add("scalar outputs that are NaN, infinite or no number count as 0", pair.name)
    return _Output(
        rows[0], tuple(cell in _YES for cell in decisions), tuple(number or 0.0 for number in numbers)
    )


def _number(cell: str) -> float | None:
    """Return the number; NaN for NaN and infinity, None for what is no number at all."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else math.nan


def _merged(outputs: Sequence[_Output], classes: ScoredClasses) -> tuple[Bools, Floats]:
    """Return binary and scalar outputs [n, C]: any and mean over the columns of a class; negative and 0 without one."""
    binary = np.zeros((len(outputs), len(classes.names)), dtype=np.bool_)
    scalar = np.zeros(binary.shape)
    groups: dict[str, list[int]] = {}  # files of the same columns are merged at once
    for k, output in enumerate(outputs):
        groups.setdefault(output.header, []).append(k)
    for header, members in groups.items():
        member = _membership(header, classes)
        if not member.any():
            continue
        values = np.array([outputs[k].scalar for k in members])
        there = ~np.isnan(values)
        sums, counts = np.where(there, values, 0.0) @ member, there @ member
        binary[members] = np.array([outputs[k].binary for k in members]) @ member > 0
        scalar[members] = sums / np.maximum(counts, 1)
    return binary, scalar


def _membership(header: str, classes: ScoredClasses) -> Floats:
    """Return 1 where a column [columns] is of a class [C]."""
    columns = [cell.split("|") for cell in header.split(",")]
    return classes.matrix([[code.strip() for code in codes] for codes in columns]).astype(np.float64)


def _remarks_on_labels(
    names: Sequence[str], codes: Sequence[Sequence[str]], truth: Bools, classes: ScoredClasses
) -> tuple[str, ...]:
    unknown = Counter(code for found in codes for code in set(found) if code not in classes.index)
    bearers = [
        name for name, found in zip(names, codes, strict=True) if not classes.index.keys() >= set(found)
    ]
    nothing = [name for name, row in zip(names, truth, strict=True) if not row.any()]
    said = []
    if unknown:
        said.append(
            f"{_of(bearers)} with codes that are not scored: {_most(unknown)}; those codes are left out"
        )
    if nothing:
        said.append(f"{_of(nothing)} without any scored code; they count with no positive label")
    return tuple(said)


def _remarks_on_columns(outputs: Sequence[_Output], classes: ScoredClasses, folder: Path) -> tuple[str, ...]:
    headers = Counter(output.header for output in outputs if output.header)
    if not headers:
        raise DataError(f"no file of outputs in {folder} is well formed", _FORM)
    covered = {header: _membership(header, classes).any(axis=0) for header in headers}
    if not any(each.any() for each in covered.values()):
        found = named([cell.strip() for cell in next(iter(headers)).split(",")])
        raise DataError(f"no file of outputs in {folder} has a scored code: the first has {found}", _FORM)
    said = []
    sets = {each.tobytes() for each in covered.values()}
    if len(sets) > 1:
        said.append(
            f"{len(sets):,} different sets of scored classes among the outputs; each file counts with its own"
        )
    unknown: Counter[str] = Counter()
    absent: Counter[str] = Counter()
    for header, count in headers.items():
        cells = {cell.strip() for cell in header.split(",")}
        unknown.update(
            {
                cell: count
                for cell in cells
                if classes.index.keys().isdisjoint(map(str.strip, cell.split("|")))
            }
        )
        absent.update({classes.abbreviations[k]: count for k in np.flatnonzero(~covered[header])})
    if unknown:
        said.append(f"columns of outputs that are not scored are left out: {_most(unknown)}")
    if absent:
        said.append(f"scored classes without a column count as negative: {_most(absent)}")
    return tuple(said)


def _of(names: Sequence[str]) -> str:
    return f"{len(names):,} recording{'s' if len(names) > 1 else ''} ({named(names)})"


def _most(counts: Counter[str]) -> str:
    shown = [
        f"{code} ({count:,})" for code, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    ]
    more = [f"and {len(shown) - _SHOWN_CODES:,} more"] if len(shown) > _SHOWN_CODES else []
    return ", ".join(shown[:_SHOWN_CODES] + more)
