"""A small made-up set in the official format of eICU: gzipped tables with the official columns.

Half of the patients have vital signs that get worse, as those of the made-up patients of PhysioNet 2019 who become
septic, so that a network trained on the one has something to say about the other. It says nothing about patients.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

PATIENTS: Final = 60
FIRST_NUMBER: Final = 141_764
_EVERY_MIN: Final = 5  # vitalPeriodic
_WORSE_H: Final = 12
_MOST: Final = {"sao2": 100.0}
_UNITS: Final = ("Med-Surg ICU", "MICU", "SICU", "Cardiac ICU")
_LABORATORY: Final = dict(
    (
        *(("BUN", 24.0), ("creatinine", 1.4), ("potassium", 4.1), ("calcium", 8.3), ("glucose", 135.0)),
        *(
            ("bicarbonate", 24.0),
            ("Hct", 31.0),
            ("Hgb", 10.4),
            ("WBC x 1000", 11.0),
            ("platelets x 1000", 200.0),
        ),
        *(
            ("lactate", 2.2),
            ("pH", 7.4),
            ("paCO2", 41.0),
            ("FiO2", 50.0),
            ("sodium", 139.0),
            ("magnesium", 2.0),
        ),
    )
)
_COLUMNS: Final = {
    "patient": (
        *(
            "patientunitstayid",
            "patienthealthsystemstayid",
            "gender",
            "age",
            "ethnicity",
            "hospitalid",
            "wardid",
        ),
        *(
            "apacheadmissiondx",
            "admissionheight",
            "hospitaladmittime24",
            "hospitaladmitoffset",
            "hospitaladmitsource",
        ),
        *(
            "hospitaldischargeyear",
            "hospitaldischargetime24",
            "hospitaldischargeoffset",
            "hospitaldischargelocation",
        ),
        *("hospitaldischargestatus", "unittype", "unitadmittime24", "unitadmitsource", "unitvisitnumber"),
        *("unitstaytype", "admissionweight", "dischargeweight", "unitdischargetime24", "unitdischargeoffset"),
        *("unitdischargelocation", "unitdischargestatus", "uniquepid"),
    ),
    "vitalPeriodic": (
        *("vitalperiodicid", "patientunitstayid", "observationoffset", "temperature", "sao2", "heartrate"),
        *(
            "respiration",
            "cvp",
            "etco2",
            "systemicsystolic",
            "systemicdiastolic",
            "systemicmean",
            "pasystolic",
        ),
        *("padiastolic", "pamean", "st1", "st2", "st3", "icp"),
    ),
    "vitalAperiodic": (
        *("vitalaperiodicid", "patientunitstayid", "observationoffset", "noninvasivesystolic"),
        *(
            "noninvasivediastolic",
            "noninvasivemean",
            "paop",
            "cardiacoutput",
            "cardiacinput",
            "svr",
            "svri",
            "pvr",
        ),
        "pvri",
    ),
    "lab": (
        *(
            "labid",
            "patientunitstayid",
            "labresultoffset",
            "labtypeid",
            "labname",
            "labresult",
            "labresulttext",
        ),
        *("labmeasurenamesystem", "labmeasurenameinterface", "labresultrevisedoffset"),
    ),
    "nurseCharting": (
        *("nursingchartid", "patientunitstayid", "nursingchartoffset", "nursingchartentryoffset"),
        *("nursingchartcelltypecat", "nursingchartcelltypevallabel", "nursingchartcelltypevalname"),
        "nursingchartvalue",
    ),
    "respiratoryCharting": (
        *("respchartid", "patientunitstayid", "respchartoffset", "respchartentryoffset", "respcharttypecat"),
        *("respchartvaluelabel", "respchartvalue"),
    ),
}


def write_eicu(folder: Path, rng: np.random.Generator) -> Mapping[str, int]:
    """Write the tables, and return the number of patients."""
    tables: dict[str, list[Mapping[str, object]]] = {name: [] for name in _COLUMNS}
    for number in range(FIRST_NUMBER, FIRST_NUMBER + PATIENTS):
        minutes = int(rng.integers(8 * 60, 48 * 60))
        age = int(rng.integers(20, 95))
        tables["patient"].append(
            {
                "patientunitstayid": number,
                "gender": ("Female", "Male")[int(rng.integers(2))],
                "age": "> 89" if age > 89 else age,  # noqa: PLR2004 as the set hides the oldest
                "unittype": _UNITS[int(rng.integers(len(_UNITS)))],
                "hospitaladmitoffset": -int(rng.integers(0, 3_000)),
                "unitdischargeoffset": minutes,
                "uniquepid": f"made-up-{number}",
            }
        )
        worse = int(rng.integers(_WORSE_H, 60)) if rng.random() < 1 / 2 else None
        _monitor(tables["vitalPeriodic"], number, minutes, worse, rng)
        _cuff_and_charts(tables, number, minutes, rng)
        _laboratory(tables["lab"], number, minutes, rng)
    for name, rows in tables.items():
        _write(folder / f"{name}.csv.gz", _COLUMNS[name], rows)
    return {"patients": PATIENTS}


def _monitor(
    rows: list[Mapping[str, object]],
    patient: int,
    minutes: int,
    worse: int | None,
    rng: np.random.Generator,
) -> None:
    at = np.arange(0, minutes, _EVERY_MIN)
    rise = np.zeros(len(at)) if worse is None else np.clip(1 - (worse - at / 60) / _WORSE_H, 0.0, 1.0)
    own = rng.normal(0.0, 3.0, 4)
    columns = {
        "heartrate": 85 + own[0] + 25 * rise,
        "respiration": 18 + own[1] + 8 * rise,
        "sao2": 97 + own[2] / 3 - rise,
        "systemicsystolic": 120 + own[3] - 20 * rise,
        "systemicmean": 80 + own[3] - 15 * rise,
        "systemicdiastolic": 62 + own[3] - 12 * rise,
    }
    noisy = {name: values + rng.normal(0.0, 1.5, len(at)) for name, values in columns.items()}
    gaps = rng.random((len(columns), len(at))) < 0.1  # noqa: PLR2004 a tenth is missing
    for place, minute in enumerate(at):
        values = {
            name: int(min(column[place], _MOST.get(name, np.inf)))
            for gap, (name, column) in zip(gaps[:, place], noisy.items(), strict=True)
            if not gap
        }
        rows.append({"patientunitstayid": patient, "observationoffset": int(minute), **values})


def _cuff_and_charts(
    tables: Mapping[str, list[Mapping[str, object]]], patient: int, minutes: int, rng: np.random.Generator
) -> None:
    for minute in _times(minutes, 120, rng):
        mean = int(rng.normal(80, 4))
        pressures = {
            "noninvasivesystolic": mean + 40,
            "noninvasivediastolic": mean - 18,
            "noninvasivemean": mean,
        }
        at = {"patientunitstayid": patient, "observationoffset": minute}
        tables["vitalAperiodic"].append({**at, **pressures})
    for minute in _times(minutes, 240, rng):
        tables["nurseCharting"].append(
            {
                "patientunitstayid": patient,
                "nursingchartoffset": minute,
                "nursingchartentryoffset": minute,
                "nursingchartcelltypecat": "Vital Signs",
                "nursingchartcelltypevallabel": "Temperature",
                "nursingchartcelltypevalname": "Temperature (C)",
                "nursingchartvalue": round(float(rng.normal(36.9, 0.4)), 1),
            }
        )
        tables["respiratoryCharting"].append(
            {
                "patientunitstayid": patient,
                "respchartoffset": minute,
                "respchartentryoffset": minute,
                "respcharttypecat": "respFlowSettings",
                "respchartvaluelabel": "FiO2",
                "respchartvalue": int(rng.integers(21, 80)),
            }
        )


def _laboratory(
    rows: list[Mapping[str, object]], patient: int, minutes: int, rng: np.random.Generator
) -> None:
    for minute in (-60, *_times(minutes, 480, rng)):
        for name, mean in _LABORATORY.items():
            value = round(mean * rng.uniform(0.95, 1.05), 2)
            at = {
                "patientunitstayid": patient,
                "labresultoffset": minute,
                "labresultrevisedoffset": minute + 20,
            }
            rows.append({**at, "labname": name, "labresult": value, "labresulttext": value})


def _times(minutes: int, every: int, rng: np.random.Generator) -> list[int]:
    """Return times in minutes, about `every` so many, before the end."""
    times: NDArray[np.int64] = np.arange(0, minutes, every) + rng.integers(0, every // 2, 1)
    return [int(time) for time in times if time < minutes]


def _write(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a gzipped table whose first column counts the rows where they do not say; equal rows give equal bytes."""
    first, *rest = columns
    lines = [",".join((first, *rest))]
    for number, row in enumerate(rows, start=1):
        lines.append(",".join([str(row.get(first, number)), *(str(row.get(name, "")) for name in rest)]))
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode("ascii"), mtime=0))
