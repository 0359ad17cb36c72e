"""PhysioNet/CinC 2021: twelve-lead ECG records, and their diagnoses as the 26 scored classes.

A record is brought to one form (BBM, Section 4.1; reference): twelve leads in the official order in millivolts, its
middle `window_s` seconds, resampled to 200 Hz (20 samples = 100 ms), each lead scaled to mean 0 and standard deviation
1 over its own samples, and padded with zeros at the end where it is shorter. Nothing is fitted on other records.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.records import leads
from kdsearch.trainables.records.leads import LEADS
from kdsearch.trainables.records.matlab import Matrix, read_matrix
from kdsearch.trainables.records.sets import PHYSIONET_2021, RecordFiles, find_records
from kdsearch.trainables.records.summary import ReadSummary, UnreadableRecordError
from kdsearch.trainables.records.wfdb_header import Header, read_header
from kdsearch.trainables.scores.physionet2021 import scored_classes

NO_SAMPLE = np.iinfo(np.int16).min  # WFDB's mark in 16-bit samples
LARGEST_MV = 1e9  # what is beyond that is no measurement, whatever the gain
CHECKSUM_BITS = 1 << 16

Signals = NDArray[np.float32]
Labels = NDArray[np.bool_]


class EcgRepair(StrEnum):
    """What was repaired in a record, or noted."""

    NAN = "samples that are no number, interpolated in time"
    CONSTANT = "constant or empty leads, taken as missing"
    DERIVED = "missing limb leads, put in from two others"
    ZERO = "missing leads, set to 0"
    OTHER_LEAD = "signals that are none of the twelve leads, not used"
    LEAD_ORDER = "records with their leads in another order, read by name"
    TRANSPOSED = "matrices with a column for each lead, turned"
    LENGTH = "records of another length than their header says, taken as they are"
    CHECKSUM = "signals whose checksum does not agree, taken as they are"
    SHORTER = "records shorter than the window, padded with zeros"
    LONGER = "records longer than the window, cut to their middle"
    RESAMPLED = "records at another sampling rate, resampled"
    NO_CLASS = "records without a scored diagnosis, kept with no class"


@dataclass(frozen=True, kw_only=True)
class EcgSettings:
    """The form that records are brought to; without `scale_leads` they stay in millivolts."""

    window_s: float = 10.0
    rate_hz: int = 200
    scale_leads: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.rate_hz, bool) or not isinstance(self.rate_hz, int) or self.rate_hz < 1:
            raise UsageError(f"ECG: rate_hz must be a whole number, 1 or more, not {self.rate_hz!r}")
        if not math.isfinite(self.window_s) or self.window < 1:
            raise UsageError(f"ECG: window_s must hold at least one sample, not {self.window_s!r} s")

    @property
    def window(self) -> int:
        """Samples of each lead."""
        return round(self.window_s * self.rate_hz)


@dataclass(frozen=True, eq=False)
class EcgRecord:
    """One record: signal [12, window], of which the first `samples` are the record's and the rest padding.

    `labels` [26] are the classes that it has, in the order of `scored_classes()`; `unscored` are its other codes.
    """

    name: str
    signal: Signals
    samples: int
    labels: Labels
    unscored: tuple[str, ...]
    repairs: Mapping[StrEnum, int]


@dataclass(frozen=True, eq=False)
class EcgRecords:
    """Records of one form: signals [n, 12, window], samples [n] before the padding, labels [n, 26]."""

    names: tuple[str, ...]
    signals: Signals
    samples: NDArray[np.int64]
    labels: Labels

    def __len__(self) -> int:
        return len(self.names)


def read_record(path: Path, settings: EcgSettings) -> EcgRecord:
    """Return the record of a `.hea` file. Raises `UnreadableRecordError` where nothing can be made of it."""
    repairs: Counter[StrEnum] = Counter()
    header = read_header(path, repairs)
    matrix = _oriented(read_matrix(_samples_path(path, header)), header, repairs)
    return ecg_record(path.stem, header, matrix, settings, repairs)


def ecg_record(
    name: str, header: Header, matrix: Matrix, settings: EcgSettings, repairs: Counter[StrEnum]
) -> EcgRecord:
    """Return the samples `matrix` [signals, samples] that `header` describes as a record of the one form.

    Adds to `repairs`. Raises `UnreadableRecordError` where no lead varies.
    """
    _compare(matrix, header, repairs)
    signal = _millivolts(matrix, header, settings, repairs)
    signal = _twelve_leads(signal, header, repairs)
    repairs[EcgRepair.RESAMPLED] = int(header.rate_hz != settings.rate_hz)
    signal = leads.resampled(signal, header.rate_hz, settings.rate_hz)[:, : settings.window]
    if settings.scale_leads:
        signal = leads.scaled(signal)
    samples = signal.shape[1]
    padded = np.zeros((len(LEADS), settings.window), dtype=np.float32)
    padded[:, :samples] = signal
    classes = scored_classes()
    labels = classes.matrix([header.codes])[0]
    repairs[EcgRepair.SHORTER] = int(samples < settings.window)
    repairs[EcgRepair.NO_CLASS] = int(not labels.any())
    unscored = tuple(code for code in header.codes if code not in classes.index)
    return EcgRecord(name, padded, samples, labels, unscored, +repairs)


def _samples_path(path: Path, header: Header) -> Path:
    """Return the file of the samples: the one that the header names, else the one of its own name."""
    named = {signal.file for signal in header.signals}
    if len(named) > 1:
        raise UnreadableRecordError("one file of samples", f"{len(named)} ({', '.join(sorted(named)[:3])})")
    beside = path.with_name(
        PureWindowsPath(named.pop()).name or path.name
    )  # never out of the record's folder
    return beside if beside.suffix.lower() == ".mat" and beside.is_file() else path.with_suffix(".mat")


def _oriented(matrix: Matrix, header: Header, repairs: Counter[StrEnum]) -> Matrix:
    """Return the matrix as [signals, samples]."""
    signals = len(header.signals)
    if matrix.shape[0] == signals:
        return matrix
    if matrix.shape[1] == signals:
        repairs[EcgRepair.TRANSPOSED] = 1
        return matrix.T
    raise UnreadableRecordError(f"{signals} signals, as the header lists", f"a matrix of {matrix.shape}")


def _compare(matrix: Matrix, header: Header, repairs: Counter[StrEnum]) -> None:
    """Note where the header says something else than the samples."""
    repairs[EcgRepair.LENGTH] = int(header.samples not in (None, matrix.shape[1]))
    if matrix.dtype == np.int16:  # the checksum is that of 16-bit samples
        sums = matrix.sum(axis=1, dtype=np.int64)
        repairs[EcgRepair.CHECKSUM] = sum(
            signal.checksum is not None and (int(total) - signal.checksum) % CHECKSUM_BITS != 0
            for total, signal in zip(sums, header.signals, strict=True)
        )
    order = [LEADS.index(signal.lead) for signal in header.signals if signal.lead is not None]
    repairs[EcgRepair.LEAD_ORDER] = int(order != sorted(order))


def _millivolts(
    matrix: Matrix, header: Header, settings: EcgSettings, repairs: Counter[StrEnum]
) -> leads.Signal:
    """Return the middle of the record [signals, samples] in millivolts, without gaps."""
    length = matrix.shape[1]
    wanted = math.ceil(settings.window / settings.rate_hz * header.rate_hz)
    repairs[EcgRepair.LONGER] = int(length > wanted)
    part = matrix[:, leads.middle(length, wanted)]
    baseline = np.array([signal.baseline for signal in header.signals])
    gain = np.array([signal.gain for signal in header.signals])
    with np.errstate(all="ignore"):
        signal = (part.astype(np.float64) - baseline[:, None]) / gain[:, None]
    usable = np.abs(signal) <= LARGEST_MV
    if part.dtype == np.int16:
        usable &= part != NO_SAMPLE
    whole, gaps = leads.without_gaps(np.where(usable, signal, np.nan))
    repairs[EcgRepair.NAN] = gaps
    return whole


def _twelve_leads(signal: leads.Signal, header: Header, repairs: Counter[StrEnum]) -> leads.Signal:
    """Return the twelve leads [12, samples]; constant ones are as good as missing."""
    twelve = np.full((len(LEADS), signal.shape[1]), np.nan)
    for line, samples in zip(header.signals, signal, strict=True):
        if line.lead is not None:
            twelve[LEADS.index(line.lead)] = samples
    repairs[EcgRepair.OTHER_LEAD] = sum(line.lead is None for line in header.signals)
    varies = np.ptp(twelve, axis=1) > 0  # False for NaN, which stands where there is no lead
    repairs[EcgRepair.CONSTANT] = sum(
        line.lead is not None and not varies[LEADS.index(line.lead)] for line in header.signals
    )
    if not varies.any():
        raise UnreadableRecordError("a lead that is not constant", "constant or empty ones alone")
    whole, known = leads.completed(twelve, varies)
    repairs[EcgRepair.DERIVED] = int((known & ~varies).sum())
    repairs[EcgRepair.ZERO] = int((~known).sum())
    return whole


class EcgReader:
    """Reads the records of a set one after another, in the order of their names; nothing is kept but the counts.

    Iterate once, then ask for the `summary`.
    """

    def __init__(self, files: RecordFiles, settings: EcgSettings) -> None:
        self.settings = settings
        self._files = files
        self._ledger = files.ledger()
        self._classes = np.zeros(len(scored_classes().names), dtype=np.int64)

    def __iter__(self) -> Iterator[EcgRecord]:
        names: set[str] = set()
        for path in self._files.records:
            if path.stem in names:
                second = UnreadableRecordError("one file for each record", f"a second {path.name}")
                self._ledger.leave_out(path, second)
                continue
            try:
                record = self._read(path)
            except UnreadableRecordError as error:
                self._ledger.leave_out(path, error)
                continue
            names.add(record.name)
            self._ledger.keep(path, record.repairs)
            self._ledger.codes.update(record.unscored)
            self._classes += record.labels
            yield record
        for path in self._files.alone:
            self._ledger.leave_out(path, UnreadableRecordError("a header (.hea) beside it", "none"))
        self._ledger.settle()

    def _read(self, path: Path) -> EcgRecord:
        """Return the record of a file; readers of other formats have their own."""
        return read_record(path, self.settings)

    def summary(self) -> ReadSummary:
        """Return what came of the records read so far."""
        facts = {
            "records": self._ledger.read,
            "classes that occur": int((self._classes > 0).sum()),
            "labels": int(self._classes.sum()),
        }
        return self._ledger.summary(facts)


def load_records(
    root: str | Path | None = None, settings: EcgSettings | None = None
) -> tuple[EcgRecords, ReadSummary]:
    """Read all records below the data root (`root`, else KDSEARCH_DATA) into memory, and say what came of it.

    A record that cannot be used is left out by name. Raises `DataError` where there is none, or where more than half
    of them cannot be used.
    """
    reader = EcgReader(find_records(PHYSIONET_2021, root), EcgSettings() if settings is None else settings)
    read = list(reader)
    records = EcgRecords(
        names=tuple(record.name for record in read),
        signals=np.stack([record.signal for record in read]),
        samples=np.array([record.samples for record in read], dtype=np.int64),
        labels=np.stack([record.labels for record in read]),
    )
    return records, reader.summary()
