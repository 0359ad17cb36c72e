"""PhysioNet/CinC 2019: patients in intensive care, hour by hour, with the labels of sepsis.

Prepared as is usual (BBM, Section 4.1; reference): forward fill, standardise each variable with mean and standard
deviation of the training part, and 0 for what has not been measured so far. Indicators say what was measured in the
hour itself. Nothing of a later hour reaches an earlier one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.records.psv import (
    VARIABLES,
    Flags,
    Labels,
    Patient,
    Values,
    forward_filled,
    read_patient,
)
from kdsearch.trainables.records.sets import PHYSIONET_2019, find_records
from kdsearch.trainables.records.summary import ReadSummary, UnreadableRecordError

Offsets = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Patients:
    """Patients of different length, one after another: patient i has the rows offsets[i] to offsets[i + 1].

    `values` [rows, 40] is forward filled (NaN: not measured so far), in the units of the files; `missing` [rows, 40]
    is true where a variable was not measured in the hour itself; `labels` [rows] is 1 from six hours before the onset
    of sepsis. The order is that of the names.
    """

    names: tuple[str, ...]
    values: Values
    missing: Flags
    labels: Labels
    offsets: Offsets  # [patients + 1]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def hours(self) -> NDArray[np.int64]:
        """Rows of each patient [patients]."""
        return np.diff(self.offsets)

    @property
    def septic(self) -> Flags:
        """Which patients have a labelled hour [patients]."""
        return np.logical_or.reduceat(self.labels.astype(bool), self.offsets[:-1])

    def rows(self, patient: int) -> slice:
        """Return where the rows of a patient stand."""
        return slice(int(self.offsets[patient]), int(self.offsets[patient + 1]))

    def take(self, chosen: Sequence[int] | NDArray[np.int64]) -> Patients:
        """Return some of the patients, in the order given."""
        rows = [np.arange(self.offsets[at], self.offsets[at + 1]) for at in chosen]
        index = np.concatenate(rows) if rows else np.array([], dtype=np.int64)
        lengths = np.array([len(part) for part in rows], dtype=np.int64)
        return Patients(
            tuple(self.names[at] for at in chosen),
            self.values[index],
            self.missing[index],
            self.labels[index],
            np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)]),
        )


def load_patients(root: str | Path | None = None) -> tuple[Patients, ReadSummary]:
    """Read all patients below the data root (`root`, else KDSEARCH_DATA), and say what came of it.

    A file that cannot be used is left out by name. Raises `DataError` where there is none, or where more than half of
    them cannot be used.
    """
    files = find_records(PHYSIONET_2019, root)
    ledger = files.ledger()
    read: dict[str, Patient] = {}
    for path in files.records:
        if path.stem in read:
            ledger.leave_out(
                path, UnreadableRecordError("one file for each patient", f"a second {path.name}")
            )
            continue
        try:
            patient = read_patient(path)
        except UnreadableRecordError as error:
            ledger.leave_out(path, error)
            continue
        read[patient.name] = patient
        ledger.keep(path, patient.repairs)
    ledger.settle()
    patients = _gathered(list(read.values()))
    facts = {
        "patients": len(patients),
        "septic": int(patients.septic.sum()),
        "hourly rows": len(patients.labels),
        "labelled rows": int(patients.labels.sum()),
        "hours at most": int(patients.hours.max()),
    }
    return patients, ledger.summary(facts)


def _gathered(patients: Sequence[Patient]) -> Patients:
    offsets = np.cumsum([0, *(len(patient.labels) for patient in patients)], dtype=np.int64)
    values = np.empty((offsets[-1], len(VARIABLES)), dtype=np.float32)
    missing = np.empty(values.shape, dtype=bool)
    for patient, start, end in zip(patients, offsets[:-1], offsets[1:], strict=True):
        missing[start:end] = np.isnan(patient.values)
        values[start:end] = forward_filled(patient.values)
    return Patients(
        names=tuple(patient.name for patient in patients),
        values=values,
        missing=missing,
        labels=np.concatenate([patient.labels for patient in patients]),
        offsets=offsets,
    )


@dataclass(frozen=True, eq=False)
class Scaling:
    """Mean and standard deviation of each variable [40], of the patients that it was fitted on.

    A variable that is the same in all of them has the scale 1; one that none of them has, the scale infinity, which
    makes it 0 wherever it turns up later.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def fit(cls, training: Patients) -> Scaling:
        """Fit to the forward-filled values of the training part, every row counting alike."""
        if len(training) == 0:
            raise UsageError("there are no patients to fit the scaling on")
        mean = np.zeros(len(VARIABLES))
        scale = np.full(len(VARIABLES), np.inf)
        for at, column in enumerate(
            training.values.T
        ):  # one at a time: the whole in float64 would not be small
            known = column[~np.isnan(column)].astype(np.float64)
            if len(known):
                mean[at] = known.mean()
                deviation = known.std()
                # values that are all alike differ from their mean by rounding
                alike = deviation <= np.finfo(np.float64).eps * len(known) * abs(mean[at])
                scale[at] = 1.0 if alike else deviation
        return cls(mean, scale)

    def __call__(self, values: Values) -> Values:
        """Return `values` [rows, 40] standardised, 0 where they are NaN."""
        scaled = values - self.mean.astype(np.float32)
        scaled /= self.scale.astype(np.float32)
        np.nan_to_num(scaled, copy=False, nan=0.0)
        return scaled


def features(patients: Patients, scaling: Scaling, *, indicators: bool) -> Values:
    """Return what a network sees: [rows, 40] standardised, or [rows, 80] with the 40 indicators behind them.

    An indicator is 1 where the variable was not measured in that hour, else 0.
    """
    values = scaling(patients.values)
    return np.hstack([values, patients.missing.astype(np.float32)]) if indicators else values
