"""Small made-up sets of records in the official formats, so that everything can be tried without the real ones.

Patients who become septic have a heart rate, breathing and temperature that rise; each ECG has beats at the rate of its
diagnosis. A network can learn it, and it says nothing about patients: the marker file makes every reader say so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data.findings import DataError, reason
from kdsearch.trainables.data.marker import Marker
from kdsearch.trainables.records.leads import LEADS
from kdsearch.trainables.records.made_up_beats import beats
from kdsearch.trainables.records.made_up_eicu import write_eicu
from kdsearch.trainables.records.made_up_hangzhou import write_hangzhou
from kdsearch.trainables.records.psv import COLUMNS, VARIABLES
from kdsearch.trainables.records.sets import EICU, HANGZHOU, PHYSIONET_2019, PHYSIONET_2021, record_set
from kdsearch.trainables.seeds import derive_seed

PATIENTS: Final = 120
SEPTIC_SHARE: Final = 0.2
RECORDS: Final = 100
RATES_HZ: Final = (500, 500, 500, 1_000, 257)  # as in the official set: mostly 500 Hz, and both others
_SPREAD: Final = (3.0, 0.1)  # of vital signs, and of the others as a share of their mean
_MEANS: Final = (
    *(85.0, 97.0, 36.9, 120.0, 80.0, 62.0, 18.0, 33.0),
    *(-0.6, 24.0, 0.5, 7.4, 41.0, 95.0, 60.0, 23.0, 90.0, 8.3, 106.0),
    *(1.4, 0.5, 135.0, 2.2, 2.0, 3.5, 4.1),
    *(1.5, 3.0, 31.0, 10.4, 40.0, 11.0, 290.0, 200.0),
)
_VITAL: Final = 8  # of the variables are vital signs, measured nearly every hour
_RISES: Final = {"HR": 25.0, "Temp": 1.5, "Resp": 8.0, "MAP": -15.0}  # until the onset
_RHYTHMS: Final = {"426783006": 70.0, "426177001": 48.0, "427084000": 115.0}  # NSR, SB, STach: beats a minute
_INVERTED_T: Final = "59931005"
_UNSCORED: Final = "55827005"  # left ventricular high voltage
_MILLIVOLT: Final = 1_000  # steps
_VERSION_4_HEAD: Final = np.dtype("<i4")

Writer = Callable[[Path, np.random.Generator], Mapping[str, int]]


def sample_records(name: str, directory: str | Path, seed: int = 0) -> Path:
    """Write a small made-up set in the official format of `name` below `directory`, and return its folder.

    `directory` then serves as a data root. Equal seeds give equal files. Nothing is left half written. Raises
    `UnknownNameError`, `UsageError` for a folder that is in use, and `DataError` where files cannot be written.
    """
    known = record_set(name)
    root = Path(directory).expanduser()
    target = root / known.folders[0]
    if target.exists():
        raise UsageError(f"{target} exists already", "Give another directory, or move that folder away.")
    rng = np.random.default_rng(derive_seed(seed, "sample", name))
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".kdsearch-sample-") as scratch:
            draft = Path(scratch) / target.name
            draft.mkdir()
            Marker(name, seed, WRITERS[name](draft, rng)).write(draft)
            draft.rename(target)
    except OSError as error:
        raise DataError(f"the sample of {name!r} cannot be written to {target}: {reason(error)}") from error
    return target


def _write_patients(folder: Path, rng: np.random.Generator) -> Mapping[str, int]:
    for number in range(PATIENTS):
        part = folder / f"training_set{'AB'[number % 2]}"
        part.mkdir(exist_ok=True)
        path = part / f"p{number % 2}{number // 2 + 1:05}.psv"
        path.write_text(patient_text(rng, septic=rng.random() < SEPTIC_SHARE), encoding="ascii")
    return {"patients": PATIENTS}


def patient_text(rng: np.random.Generator, *, septic: bool) -> str:
    """Return a made-up patient as the text of a `.psv` file; labels begin six hours before the onset."""
    hours = int(rng.integers(12, 60))
    onset = int(rng.integers(10, hours + 6)) if septic else hours + 6
    values = np.full((hours, len(VARIABLES)), np.nan)
    means = np.array(_MEANS)
    spread = np.where(np.arange(len(means)) < _VITAL, _SPREAD[0], np.abs(means) * _SPREAD[1])
    own = means + rng.normal(0.0, spread)
    values[:, : len(means)] = own + rng.normal(0.0, spread / 2, (hours, len(means)))
    if septic:
        rise = np.clip(1 - (onset - np.arange(hours)) / 12, 0.0, 1.0)
        for name, height in _RISES.items():
            values[:, VARIABLES.index(name)] += height * rise
    measured = np.where(np.arange(len(means)) < _VITAL, 0.85, 0.06)
    values[:, : len(means)][rng.random((hours, len(means))) > measured] = np.nan
    unit = int(rng.integers(2))
    who = [rng.integers(20, 90), rng.integers(2), unit, 1 - unit, -rng.integers(0, 200)]
    values[:, len(means) : -1] = np.array(who, dtype=float)
    values[:, -1] = np.arange(1, hours + 1)
    labels = (np.arange(hours) >= onset - 6).astype(int)
    rows = ["|".join([*map(_cell, row), str(label)]) for row, label in zip(values, labels, strict=True)]
    return "\n".join(["|".join(COLUMNS), *rows]) + "\n"


def _cell(value: float) -> str:
    return "NaN" if np.isnan(value) else f"{round(float(value), 2):g}"


def _write_records(folder: Path, rng: np.random.Generator) -> Mapping[str, int]:
    rhythms = tuple(_RHYTHMS)
    for number in range(RECORDS):
        codes = [rhythms[number % len(rhythms)]]
        codes += [code for code in (_INVERTED_T, _UNSCORED) if rng.random() < 1 / 4]
        rate_hz = RATES_HZ[int(rng.integers(len(RATES_HZ)))]
        write_record(folder / f"MADE{number + 1:04}", rng, codes=codes, rate_hz=rate_hz)
    return {"records": RECORDS}


def write_record(stem: Path, rng: np.random.Generator, *, codes: list[str], rate_hz: int) -> None:
    """Write a made-up record: `stem`.hea and `stem`.mat, 8 to 15 seconds long."""
    samples = int(rng.integers(8 * rate_hz, 15 * rate_hz))
    beats_per_minute = next((rate for code, rate in _RHYTHMS.items() if code in codes), 75.0)
    t_wave = -0.3 if _INVERTED_T in codes else 0.3
    beat = beats(samples, rate_hz, beats_per_minute * rng.uniform(0.95, 1.05), t_wave)
    one, two = beat * rng.uniform(0.4, 0.8), beat * rng.uniform(0.8, 1.2)
    limbs = np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2])
    chest = beat * np.linspace(-0.5, 1.2, len(LEADS) - len(limbs))[:, None]
    signal = np.vstack([limbs, chest]) + rng.normal(0.0, 0.02, (len(LEADS), samples))
    matrix = np.rint(signal * _MILLIVOLT).astype("<i2")
    write_matrix(stem.with_suffix(".mat"), matrix)
    lines = [f"{stem.name} {len(LEADS)} {rate_hz} {samples}"]
    lines += [
        f"{stem.name}.mat 16+24 {_MILLIVOLT}/mV 16 0 {row[0]} {checksum(row)} 0 {lead}"
        for lead, row in zip(LEADS, matrix, strict=True)
    ]
    lines += [f"#Age: {rng.integers(20, 90)}", f"#Sex: {('Female', 'Male')[int(rng.integers(2))]}"]
    lines += [f"#Dx: {','.join(codes)}", "#Rx: Unknown", "#Hx: Unknown", "#Sx: Unknown"]
    stem.with_suffix(".hea").write_text("\n".join(lines) + "\n", encoding="ascii")


def write_matrix(path: Path, matrix: NDArray[np.int16]) -> None:
    """Write a matrix `val` of 16-bit integers as a MATLAB file of version 4, as the official files are."""
    # MOPT 30: little endian, 16-bit integers, full matrix; then rows, columns, no imaginary part, length of the name
    head = np.array([30, *matrix.shape, 0, len(b"val\0")], dtype=_VERSION_4_HEAD)
    path.write_bytes(head.tobytes() + b"val\0" + matrix.astype("<i2").tobytes(order="F"))


def checksum(samples: NDArray[np.int16]) -> int:
    """Return the checksum of a signal as headers have it: the sum, as a signed 16-bit number."""
    return (int(samples.sum(dtype=np.int64)) + (1 << 15)) % (1 << 16) - (1 << 15)


WRITERS: Mapping[str, Writer] = {
    PHYSIONET_2019: _write_patients,
    PHYSIONET_2021: _write_records,
    HANGZHOU: write_hangzhou,
    EICU: write_eicu,
}
