"""Hangzhou: 8-lead ECG records of the Hefei high-tech cup (Tianchi competition 231754), in its official format.

A record is a text file: a line with the names of the leads I, II, V1 to V6, then a row for each sample, whole numbers
at 500 Hz, 10 s long, in steps of 4.88 microvolts (source: the competition's description of its data; it also gives
III = II - I, aVR = -(I + II)/2, aVL = I - II/2 and aVF = II - I/2). Lists of labels stand beside the records, with
tabs: name of the file, age, sex, then diagnoses by their Chinese names.

Records are brought to the form of PhysioNet 2021, so that a network trained there can look at them; their labels are
those of its scored classes that are certain (`hangzhou_names`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kdsearch.trainables.data.findings import reason
from kdsearch.trainables.records.hangzhou_names import CODES, NAMES, normalised
from kdsearch.trainables.records.leads import LEAD_AT, LEADS
from kdsearch.trainables.records.physionet2021 import EcgReader, EcgRecord, EcgRepair, EcgSettings, ecg_record
from kdsearch.trainables.records.sets import RecordFiles
from kdsearch.trainables.records.summary import Ledger, UnreadableRecordError
from kdsearch.trainables.records.wfdb_header import Header, SignalLine

RATE_HZ: Final = 500
STEP_MV: Final = 4.88e-3
FILE_LEADS: Final = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
MAX_FILE_BYTES: Final = 16 << 20
_SEPARATORS: Final = str.maketrans(",;|", "   ")
_RECORD_ENDING: Final = ".txt"
_SEXES: Final = {"female", "male"}


class HangzhouRepair(StrEnum):
    """What was repaired in a record or a list of labels, or noted."""

    NO_HEADER = "records without the names of their leads, taken in the official order"
    ODD_ROW = "rows with too few or too many values, interpolated in time"
    NO_LABEL = "records that no list of labels has diagnoses of, kept with no class"
    UNKNOWN_NAME = "diagnoses by a name that is in no list, kept as codes that are not scored"
    ENCODING = "lists in another encoding than UTF-8, read as GB 18030"
    NO_RECORD_NAME = "lines in lists of labels that name no record, not used"


@dataclass(frozen=True)
class Diagnoses:
    """What the lists of labels say: the names of diagnoses by record, and which names there are."""

    by_record: Mapping[str, tuple[str, ...]]
    names: frozenset[str]


def read_record(path: Path, settings: EcgSettings, diagnoses: Diagnoses) -> EcgRecord:
    """Return the record of a text file. Raises `UnreadableRecordError` where nothing can be made of it."""
    repairs: Counter[StrEnum] = Counter()
    text, _ = _text(path, "a text file of samples")
    columns, matrix = _samples(text, repairs)
    names = diagnoses.by_record.get(path.stem)
    gain = 1 / STEP_MV
    header = Header(
        rate_hz=RATE_HZ,
        samples=None,
        signals=tuple(SignalLine(path.name, gain, 0.0, None, lead) for lead in columns),
        codes=tuple(dict.fromkeys(CODES.get(name, name) for name in names or ())),
    )
    repairs[HangzhouRepair.UNKNOWN_NAME] = sum(name not in diagnoses.names for name in names or ())
    record = ecg_record(path.stem, header, matrix, settings, repairs)
    if names is not None:
        return record
    noted = {**record.repairs, HangzhouRepair.NO_LABEL: 1}
    del noted[EcgRepair.NO_CLASS]  # it is not known to have none
    return EcgRecord(record.name, record.signal, record.samples, record.labels, (), noted)


def _text(path: Path, expected: str) -> tuple[str, bool]:
    """Return the text of a file, and whether it is in UTF-8; else it is read in the Chinese encoding GB 18030."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnreadableRecordError(expected, reason(error)) from error
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableRecordError(expected, f"more than {MAX_FILE_BYTES >> 20} MiB")
    if not content.strip():
        raise UnreadableRecordError(expected, "an empty file")
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text, encoding == "utf-8-sig"
    raise UnreadableRecordError(expected, "bytes that are no text")


def _samples(text: str, repairs: Counter[StrEnum]) -> tuple[Sequence[str | None], NDArray[np.float64]]:
    """Return the lead of each column (None: no lead), and the samples [columns, rows], NaN for what is no number."""
    rows = [cells for line in text.translate(_SEPARATORS).split("\n") if (cells := line.split())]
    if not rows:
        raise UnreadableRecordError("a text file of samples", "blanks alone")
    if any(cell.upper() in LEAD_AT for cell in rows[0]):
        names, rows = rows[0], rows[1:]
    elif len(rows[0]) == len(FILE_LEADS) and all(_is_number(cell) for cell in rows[0]):
        names = list(FILE_LEADS)
        repairs[HangzhouRepair.NO_HEADER] = 1
    else:
        raise UnreadableRecordError(
            f"a first line with the leads {' '.join(FILE_LEADS)}", _shortened(rows[0])
        )
    columns = [LEADS[at] if (at := LEAD_AT.get(name.upper())) is not None else None for name in names]
    lead, times = Counter(lead for lead in columns if lead is not None).most_common(1)[0]
    if times > 1:
        raise UnreadableRecordError("each lead once", f"{lead} {times} times")
    whole = sum(len(row) == len(columns) for row in rows)
    if not whole:
        found = f"{len(rows[0])} in the first" if rows else "a header alone"
        raise UnreadableRecordError(f"rows of {len(columns)} samples", found)
    repairs[HangzhouRepair.ODD_ROW] = len(rows) - whole
    return columns, _numbers(rows, len(columns)).T


def _numbers(rows: Sequence[Sequence[str]], width: int) -> NDArray[np.float64]:
    """Return the values as numbers [rows, width]; NaN for a value that is none and for a row of another width."""
    gap = ("nan",) * width
    cells = [cell for row in rows for cell in (row if len(row) == width else gap)]
    try:
        numbers = np.array([*map(float, cells)])
    except ValueError:  # the slow way, for a file that has something else in it
        numbers = np.array([float(cell) if _is_number(cell) else np.nan for cell in cells])
    return numbers.reshape(len(rows), width)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _shortened(cells: Sequence[str], length: int = 60) -> str:
    text = " ".join(cells)
    return repr(text if len(text) <= length else f"{text[:length]}…")


def read_diagnoses(lists: Sequence[Path], ledger: Ledger) -> Diagnoses:
    """Return what the lists say, noting in the ledger what was repaired or cannot be used.

    A record in several lists has the diagnoses of all of them. A list whose name speaks of arrythmia (as the
    competition spells it) has the names of diagnoses.
    """
    by_record: dict[str, tuple[str, ...]] = {}
    names = set(NAMES)
    for path in lists:
        try:
            text, is_utf8 = _text(path, "a list of labels, or of the names of diagnoses")
        except UnreadableRecordError as error:
            ledger.leave_out(path, error)
            continue
        entries = [
            [normalised(cell) for cell in cells] for line in text.splitlines() if (cells := _entry(line))
        ]
        labels = [entry for entry in entries if entry[0].lower().endswith(_RECORD_ENDING)]
        is_of_names = "ythmia" in path.name.lower() and not labels
        if is_of_names:
            names.update(entry[0] for entry in entries)
        for stem, *cells in ((entry[0][: -len(_RECORD_ENDING)], *entry[1:]) for entry in labels):
            if found := tuple(_diagnoses(cells)):  # a list for submissions has the records without any
                by_record[stem] = tuple(dict.fromkeys((*by_record.get(stem, ()), *found)))
        unused = 0 if is_of_names else len(entries) - len(labels)
        ledger.note(path, {HangzhouRepair.ENCODING: int(not is_utf8), HangzhouRepair.NO_RECORD_NAME: unused})
    return Diagnoses(by_record, frozenset(names))


def _entry(line: str) -> list[str]:
    """Return the cells of a line of a list, which tabs divide; without any, blanks do."""
    return line.strip().split("\t") if "\t" in line.strip() else line.split()


def _diagnoses(cells: Sequence[str]) -> Iterator[str]:
    """Yield the diagnoses among the cells behind a record's name: not the age, not the sex, and no blank."""
    for cell in cells:
        if cell and not _is_number(cell) and cell.lower() not in _SEXES:
            yield cell


class HangzhouReader(EcgReader):
    """Reads the records of the set one after another, as `EcgReader` does those of PhysioNet 2021.

    The lists of labels among the files are read at the start; without any, no record has a class.
    """

    def __init__(self, files: RecordFiles, settings: EcgSettings) -> None:
        super().__init__(files, settings)
        self._diagnoses = read_diagnoses(files.lists, self._ledger)

    def _read(self, path: Path) -> EcgRecord:
        return read_record(path, self.settings, self._diagnoses)
