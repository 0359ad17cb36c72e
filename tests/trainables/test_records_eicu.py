"""eICU: tables to hourly variables, in the right unit and hour; what is repaired, and what is left out."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kdsearch.trainables.data import DataError
from kdsearch.trainables.records import (
    VARIABLES,
    Patients,
    ReadSummary,
    Scaling,
    check_records,
    features,
    load_eicu,
    load_patients,
    sample_records,
)
from kdsearch.trainables.records.eicu import EicuNote, Pieces
from kdsearch.trainables.records.eicu_hours import HourlyMedians
from kdsearch.trainables.records.eicu_patients import PatientRepair
from kdsearch.trainables.records.eicu_reading import EicuRepair
from kdsearch.trainables.records.eicu_tables import LIMITS, MEASURED, TABLES, LongTable, WideTable

Rows = Sequence[Mapping[str, object]]
ABSENT = {note for note in EicuNote if note.value.startswith("no table")}
NUMBER = "patientunitstayid"


def table(folder: Path, name: str, rows: Rows, *, packed: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [",".join(columns), *(",".join(str(row.get(column, "")) for column in columns) for row in rows)]
    content = ("\n".join(lines) + "\n").encode()
    path = folder / f"{name}.csv{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def patient(number: object = 1, hours: float = 4, **more: object) -> dict[str, object]:
    return {NUMBER: number, "unitdischargeoffset": round(hours * 60), **more}


def lab(name: str, result: object, minute: object = 0, number: object = 1) -> dict[str, object]:
    return {NUMBER: number, "labresultoffset": minute, "labname": name, "labresult": result}


def vital(minute: object, number: object = 1, **values: object) -> dict[str, object]:
    return {NUMBER: number, "observationoffset": minute, **values}


def nurse(label: str, name: str, value: object, minute: int = 0) -> dict[str, object]:
    return {
        NUMBER: 1,
        "nursingchartoffset": minute,
        "nursingchartcelltypevallabel": label,
        "nursingchartcelltypevalname": name,
        "nursingchartvalue": value,
    }


def breath(label: str, value: object, minute: int = 0) -> dict[str, object]:
    return {NUMBER: 1, "respchartoffset": minute, "respchartvaluelabel": label, "respchartvalue": value}


def load(
    root: Path, pieces: Pieces | None = None, **tables: Rows
) -> tuple[Patients, dict[str, int], ReadSummary]:
    """Write the tables and read them: patients, how often each repair was needed (absent tables apart), all of it."""
    for name, rows in tables.items():
        table(root / "eicu", name, rows)
    patients, summary = load_eicu(root, pieces)
    repairs = {repair.what: repair.items for repair in summary.repairs if repair.what not in ABSENT}
    assert repairs.pop(EicuNote.NO_LABELS) == len(patients)
    assert not patients.labels.any()
    return patients, repairs, summary


def column(patients: Patients, name: str) -> list[float]:
    """What was measured in each hour."""
    return np.where(patients.missing[:, VARIABLES.index(name)], np.nan, filled(patients, name)).tolist()


def filled(patients: Patients, name: str) -> list[float]:
    """What was measured last in each hour."""
    values: np.ndarray = patients.values  # noqa: PD011 not of pandas
    return values[:, VARIABLES.index(name)].tolist()


# -- what is which variable -----------------------------------------------------------------------------------------


def test_every_measured_variable_has_a_source_and_limits() -> None:
    sources = set()
    for known in TABLES.values():
        found = known.columns if isinstance(known, WideTable) else known.entries
        sources |= {source.variable for source in found.values()}
        if isinstance(known, LongTable):
            assert all(text == text.lower().strip() for key in known.entries for text in key)
    assert sources == set(LIMITS) == set(VARIABLES[:MEASURED])
    assert VARIABLES[MEASURED:] == ("Age", "Gender", "Unit1", "Unit2", "HospAdmTime", "ICULOS")
    assert all(low < high for low, high in LIMITS.values())


def test_the_limits_hold_what_the_2019_files_hold() -> None:
    """Typical values of the 2019 set lie inside the limits, so that no unit is another."""
    from kdsearch.trainables.records.made_up import _MEANS

    for name, mean in zip(VARIABLES, _MEANS, strict=False):
        low, high = LIMITS[name]
        assert low <= mean <= high, name


@pytest.mark.parametrize(
    ("rows", "variable", "expected"),
    [
        ({"lab": [lab("BUN", 31)]}, "BUN", 31),
        ({"lab": [lab("WBC x 1000", 9.5)]}, "WBC", 9.5),
        ({"lab": [lab("  ph ", 7.31)]}, "pH", 7.31),
        ({"lab": [lab("PTT", 40)]}, "PTT", 40),
        ({"lab": [lab("FiO2", 40)]}, "FiO2", 0.4),
        ({"lab": [lab("FiO2", 0.4)]}, "FiO2", 0.4),
        ({"lab": [lab("FiO2", 1)]}, "FiO2", 1),
        ({"lab": [lab("Base Excess", -3)]}, "BaseExcess", -3),
        ({"lab": [lab("Base Deficit", 3)]}, "BaseExcess", -3),
        ({"lab": [lab("bicarbonate", 22), lab("HCO3", 24)]}, "HCO3", 23),
        ({"lab": [lab("troponin - I", 0)]}, "TroponinI", 0),
        ({"vitalPeriodic": [vital(0, sao2=97)]}, "O2Sat", 97),
        ({"vitalPeriodic": [vital(0, temperature=37.5)]}, "Temp", 37.5),
        ({"vitalPeriodic": [vital(0, temperature=99.5)]}, "Temp", 37.5),
        ({"vitalPeriodic": [vital(0, systemicmean=70)]}, "MAP", 70),
        ({"vitalAperiodic": [vital(0, noninvasivesystolic=131)]}, "SBP", 131),
        ({"nurseCharting": [nurse("Temperature", "Temperature (F)", 99.5)]}, "Temp", 37.5),
        ({"nurseCharting": [nurse("Non-Invasive BP", "Non-Invasive BP Diastolic", 61)]}, "DBP", 61),
        ({"nurseCharting": [nurse("MAP (mmHg)", "Value", "82 ")]}, "MAP", 82),
        ({"respiratoryCharting": [breath("FIO2 (%)", "45%")]}, "FiO2", 0.45),
        ({"respiratoryCharting": [breath("Total RR", "18")]}, "Resp", 18),
    ],
)
def test_an_entry_is_its_variable_in_the_unit_of_2019(
    tmp_path: Path, rows: dict[str, Rows], variable: str, expected: float
) -> None:
    patients, repairs, _ = load(tmp_path, patient=[patient(hours=1)], **rows)
    assert column(patients, variable) == [pytest.approx(expected, rel=1e-6)]
    assert (~patients.missing[:, :MEASURED]).sum() == 1
    assert not {name for name in repairs if name != EicuRepair.MISSING_COLUMN}


def test_entries_of_other_names_are_not_used(tmp_path: Path) -> None:
    names = (
        "Total CO2",
        "ionized calcium",
        "troponin - T",
        "paO2",
        "PT",
        "urinary creatinine",
        "Temperature",
    )
    charted = [nurse("Heart Rate", "Value", 80), nurse("Pain", "Respiratory Rate", 9)]
    rows = [*(lab(name, 5) for name in names), lab("Hct", 30)]
    patients, _, _ = load(tmp_path, patient=[patient(hours=1)], lab=rows, nurseCharting=charted)
    assert np.flatnonzero(~patients.missing[0, :MEASURED]).tolist() == [VARIABLES.index("Hct")]


# -- hours ----------------------------------------------------------------------------------------------------------


def test_hours_and_medians(tmp_path: Path) -> None:
    rows = [
        vital(minute, heartrate=rate) for minute, rate in ((59, 90), (0, 70), (5, 60), (60, 100), (65, 110))
    ]
    more = [nurse("Heart Rate", "Heart Rate", 80, 30), nurse("Heart Rate", "Heart Rate", 64, 200)]
    patients, repairs, summary = load(
        tmp_path, patient=[patient(hours=3.5)], vitalPeriodic=rows, nurseCharting=more
    )
    # 60, 70, 80, 90 in the first hour, from both tables; 100 and 110 in the second
    np.testing.assert_array_equal(column(patients, "HR"), [75, 105, np.nan, 64])
    assert filled(patients, "HR") == [75, 105, 105, 64]
    assert filled(patients, "ICULOS") == [1, 2, 3, 4]
    assert not patients.missing[:, VARIABLES.index("ICULOS")].any()
    assert repairs == {EicuRepair.MISSING_COLUMN: 7 + 4}  # of vitalPeriodic, and of patient
    assert summary.facts == {
        "patients": 1,
        "hourly rows": 4,
        "labelled rows": 0,
        "hours at most": 4,
        "variables measured by the hour": 1,
        "hourly values": 3,
    }


def test_nothing_is_filled_from_one_patient_to_the_next(tmp_path: Path) -> None:
    rows = [lab("BUN", 10, 0, 7), lab("BUN", 20, 60, 8), lab("BUN", 30, 0, 9)]
    patients, _, _ = load(tmp_path, patient=[patient(9, 2), patient(7, 3), patient(8, 2)], lab=rows)
    assert patients.names == ("7", "8", "9")
    assert patients.offsets.tolist() == [0, 3, 5, 7]
    np.testing.assert_array_equal(filled(patients, "BUN"), [10, 10, 10, np.nan, 20, 30, 30])


def test_what_is_known_of_a_patient(tmp_path: Path) -> None:
    who = [
        patient(1, 1, age="> 89", gender="Female", unittype="MICU", hospitaladmitoffset=-90),
        patient(2, 1, age="54", gender="Male", unittype="SICU", hospitaladmitoffset=30),
        patient(3, 1, age="", gender="Unknown", unittype="Med-Surg ICU", hospitaladmitoffset=""),
        patient(4, 1, age="old", gender="male ", unittype="micu", hospitaladmitoffset=0),
    ]
    rows = [lab("BUN", 9, 0, number) for number in (1, 2, 3, 4)]
    patients, repairs, _ = load(tmp_path, patient=who, lab=rows)
    nan = np.nan
    expected = {
        "Age": [90, 54, nan, nan],
        "Gender": [0, 1, nan, 1],
        "Unit1": [1, 0, nan, 1],
        "Unit2": [0, 1, nan, 0],
        "HospAdmTime": [-1.5, 0.5, nan, 0],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(column(patients, name), values, err_msg=name)
    assert repairs == {EicuRepair.NOT_A_NUMBER: 1}


def naive(tables: Mapping[str, pd.DataFrame], hours: Mapping[int, int]) -> dict[tuple[int, int, str], float]:
    """Medians by patient, hour and variable, the long way."""
    cells: dict[tuple[int, int, str], list[float]] = {}
    for name, rows in tables.items():
        known = TABLES[name]
        assert isinstance(known, WideTable)
        for row in rows.to_dict("records"):
            hour = int(row["observationoffset"] // 60)
            for heading, source in known.columns.items():
                if heading in row and 0 <= hour < hours[row[NUMBER]]:
                    low, high = LIMITS[source.variable]
                    if low <= row[heading] <= high:
                        cells.setdefault((row[NUMBER], hour, source.variable), []).append(row[heading])
    return {cell: float(np.median(values)) for cell, values in cells.items()}


@pytest.mark.parametrize(
    "pieces", [Pieces(), Pieces(chunk_rows=7, bucket_rows=1), Pieces(chunk_rows=100, bucket_rows=30)]
)
def test_medians_against_a_loop_whatever_the_pieces(tmp_path: Path, pieces: Pieces) -> None:
    rng = np.random.default_rng(4)
    hours = {number: int(rng.integers(1, 9)) for number in range(20, 40)}
    tables = {
        name: pd.DataFrame(
            {
                NUMBER: rng.integers(20, 40, 900),
                "observationoffset": rng.integers(-60, 540, 900),
                **{
                    heading: np.where(rng.random(900) < 0.4, np.nan, rng.integers(10, 130, 900) / 2)
                    for heading in known.columns
                    if heading != "temperature"
                },
            }
        )
        for name, known in TABLES.items()
        if isinstance(known, WideTable)
    }
    for name, rows in tables.items():
        (tmp_path / "eicu").mkdir(exist_ok=True)
        rows.to_csv(tmp_path / "eicu" / f"{name}.csv", index=False)
    patients, _, _ = load(tmp_path, pieces, patient=[patient(number, long) for number, long in hours.items()])
    expected = naive(tables, hours)
    found = {
        (int(name), hour, variable): value
        for variable in VARIABLES[:MEASURED]
        for at, name in enumerate(patients.names)
        for hour, value in enumerate(column(patients, variable)[patients.rows(at)])
        if not np.isnan(value)
    }
    assert len(found) > 300
    assert found == expected


def test_medians_of_numbers_of_both_signs(tmp_path: Path) -> None:
    values = np.array([-3.5, 2.0, -0.0, 0.25, -1e-30, 1e30, -7.0], dtype=np.float32)
    with HourlyMedians(np.array([0, 2, 5, 9]), 2, tmp_path, bucket_rows=4) as medians:
        assert medians.buckets == 3 - 1
        medians.add(np.full(7, 1), 1, values)
        mark = medians.mark()
        medians.add(np.array([0, 5, 8]), 0, np.array([1, 2, 3], dtype=np.float32))
        medians.undo(mark)
        medians.add(np.array([8, 8, 4]), 0, np.array([-1, 4, 6], dtype=np.float32))
        first, second = medians.medians(0), medians.medians(1)
    assert not list(tmp_path.iterdir())
    assert first.shape == (5, 2)
    assert second.shape == (4, 2)
    assert first[1, 1] == np.median(values)
    assert first[4, 0] == 6
    assert second[3, 0] == 1.5
    assert np.isnan(first).sum() == 8
    assert np.isnan(second).sum() == 7


# -- repairs --------------------------------------------------------------------------------------------------------


def test_values_that_cannot_be_used_are_counted_once_each(tmp_path: Path) -> None:
    rows = [
        lab("BUN", 20, 0),
        lab("BUN", 21, -1),
        lab("BUN", 22, 240),  # the stay has four hours
        lab("BUN", 23, 0, 2),
        lab("BUN", 24, ""),
        lab("BUN", 25, "late"),
        lab("BUN", 26, 0, "nobody"),
        lab("BUN", "high", 0),
        lab("BUN", "", 0),  # was not measured, and does not say otherwise
        lab("BUN", "inf", 0),
        lab("BUN", 9_999, 0),
        lab("FiO2", 10_000, 0),
        lab("FiO2", 5, 0),
        lab("Base Deficit", -4, 0),
        lab("BUN", 9_999, -5),  # counted as one thing
    ]
    patients, repairs, summary = load(tmp_path, patient=[patient()], lab=rows)
    np.testing.assert_array_equal(column(patients, "BUN"), [20, np.nan, np.nan, np.nan])
    assert (~patients.missing[:, :MEASURED]).sum() == 1
    assert repairs == {
        EicuRepair.MISSING_COLUMN: 4,
        EicuRepair.BEFORE: 2,
        EicuRepair.AFTER: 1,
        EicuRepair.UNKNOWN_PATIENT: 2,
        EicuRepair.NO_TIME: 2,
        EicuRepair.NOT_A_NUMBER: 2,
        EicuRepair.NOT_PLAUSIBLE: 4,
    }
    assert {repair.example for repair in summary.repairs if repair.what == EicuRepair.BEFORE} == {"lab.csv"}


def test_patients_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    who = [
        patient(1, 2),
        patient(1, 9),
        patient("x", 2),
        patient(2.5, 2),
        patient("", 2),
        {NUMBER: 3, "unitdischargeoffset": ""},
        {NUMBER: 4, "unitdischargeoffset": -1},
        patient(5, 400),
        patient(6, 2),
        patient(7, 0),
    ]
    rows = [*(lab("BUN", 9, 0, number) for number in (1, 3, 4, 5, 7)), lab("BUN", 9, 336 * 60, 5)]
    patients, repairs, _ = load(tmp_path, patient=who, lab=rows)
    assert patients.names == ("1", "5", "7")
    assert patients.hours.tolist() == [2, 336, 1]
    assert repairs == {
        EicuRepair.MISSING_COLUMN: 4,
        PatientRepair.SAME_NUMBER: 1,
        PatientRepair.NO_NUMBER: 3,
        PatientRepair.NO_END: 2,
        PatientRepair.LONG_STAY: 1,
        EicuNote.NOT_MEASURED: 1,
        EicuRepair.UNKNOWN_PATIENT: 2,
        EicuRepair.AFTER: 1,
    }


def test_columns_in_any_order_and_case_and_others(tmp_path: Path) -> None:
    folder = tmp_path / "eicu"
    folder.mkdir()
    (folder / "PATIENT.CSV").write_text("\ufeffUnitDischargeOffset, Mood,patientUnitStayID\r\n60,good,1\r\n")
    (folder / "lab.csv").write_text(
        'labName,note,labResult,labResultOffset,patientUnitStayID\nBUN,"a, b",7,0,1\n'
    )
    patients, repairs, _ = load(tmp_path)
    assert column(patients, "BUN") == [7]
    assert repairs == {EicuRepair.MISSING_COLUMN: 4}


def test_rows_of_another_length(tmp_path: Path) -> None:
    path = table(tmp_path / "eicu", "lab", [lab("BUN", value) for value in (1, 2, 30, 4, 50, 6)])
    lines = path.read_text().splitlines()
    lines[1] += ",7,,"  # what is beyond the last column is not looked at, not even in the first row
    lines[2] = lines[2].replace("BUN,", "BUN,of blood,")  # a comma too many: the result is no number
    lines[5] += ",1"
    path.write_text("\n".join([*lines, "1,0"]) + "\n")  # the last row is cut: no name, so nothing
    patients, repairs, _ = load(tmp_path, Pieces(chunk_rows=2), patient=[patient(hours=1)])
    assert column(patients, "BUN") == [6]  # of 1, 4, 6, 30, 50
    assert repairs == {EicuRepair.MISSING_COLUMN: 4, EicuRepair.NOT_A_NUMBER: 1}


# -- tables that are not there, or damaged --------------------------------------------------------------------------


def test_absent_tables_are_noted(tmp_path: Path) -> None:
    _, _, summary = load(tmp_path, patient=[patient()], lab=[lab("BUN", 9)])
    assert {repair.what for repair in summary.repairs} >= ABSENT - {EicuNote.NO_LAB}
    assert EicuNote.NO_LAB not in {repair.what for repair in summary.repairs}
    assert summary.files == summary.read == 2
    (tmp_path / "eicu" / "hospital.csv").write_text("hospitalid\n1\n")
    assert load_eicu(tmp_path)[1].others == 1


def test_what_there_must_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load_eicu(tmp_path)
    table(tmp_path / "eicu", "lab", [lab("BUN", 9)])
    with pytest.raises(DataError, match=r"expected patient\.csv or patient\.csv\.gz, found no such file"):
        load_eicu(tmp_path)
    (tmp_path / "eicu" / "lab.csv").unlink()
    table(tmp_path / "eicu", "patient", [patient()])
    with pytest.raises(DataError, match="found patient alone") as caught:
        load_eicu(tmp_path)
    assert "eicu-crd" in str(caught.value.hint)
    table(tmp_path / "eicu", "lab", [lab("BUN", 9, 0, 77)])
    with pytest.raises(DataError, match="values of the patients in their stays, found none"):
        load_eicu(tmp_path)


BAD_TABLES = {
    "empty": (b"", "an empty file"),
    "no-number": (b"labname,labresult,labresultoffset\nBUN,1,1\n", "a column patientunitstayid"),
    "no-offset": (b"patientunitstayid,labname,labresult\n1,BUN,1\n", "a column labresultoffset"),
    "no-value": (b"patientunitstayid,labname,labresultoffset\n1,BUN,1\n", "a column labresult"),
    "twice": (
        b"patientunitstayid,labname,labresult,labresult,labresultoffset\n1,BUN,1,1,1\n",
        "labresult twice",
    ),
    "semicolons": (b"patientunitstayid;labname;labresult;labresultoffset\n1;BUN;1;1\n", "a column patient"),
    "binary": (bytes(range(256)) * 40, ""),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_table_that_cannot_be_used_is_left_out(tmp_path: Path, name: str) -> None:
    content, message = BAD_TABLES[name]
    folder = tmp_path / "eicu"
    table(folder, "vitalPeriodic", [vital(0, heartrate=70)], packed=True)
    (folder / "lab.csv").write_bytes(content)
    patients, _, summary = load(tmp_path, patient=[patient()])
    (problem,) = summary.left_out
    assert Path(problem.path).name == "lab.csv"
    assert message in f"{problem.expected} {problem.found}"
    assert len(patients) == 1
    report = check_records("eicu", tmp_path)
    assert not report.ok
    assert "2 read, 1 left out" in str(report)


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_nothing_of_a_table_that_is_cut_is_used(tmp_path: Path, part: float) -> None:
    """A file that ends too early is found out at its end; what it said until there is taken back."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "eicu"
    rows = [lab("BUN", round(float(rng.uniform(5, 50)), 4), int(rng.integers(240))) for _ in range(4_000)]
    path = table(folder, "lab", rows, packed=True)
    table(folder, "vitalPeriodic", [vital(0, heartrate=70)])
    whole, _, _ = load(tmp_path, Pieces(chunk_rows=100), patient=[patient()])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    patients, _, summary = load(tmp_path, Pieces(chunk_rows=100))
    assert not np.isnan(column(whole, "BUN")).any()
    assert np.isnan(column(patients, "BUN")).all()
    assert column(patients, "HR")[0] == 70
    assert "damaged or cut" in summary.left_out[0].found


def test_a_folder_of_bad_tables_ends_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "eicu"
    table(folder, "patient", [patient()])
    for name in TABLES:
        (folder / f"{name}.csv").write_bytes(b"")
    with pytest.raises(DataError, match="has 5 problems"):
        load_eicu(tmp_path)
    table(folder, "lab", [lab("BUN", 9)])
    with pytest.raises(DataError, match=r"4 of 6 files .* too many"):
        load_eicu(tmp_path)
    table(folder, "patient", [{"uniquepid": 7}])
    with pytest.raises(DataError, match="a column patientunitstayid"):
        load_eicu(tmp_path)
    report = check_records("eicu", tmp_path)
    assert report.error is not None


def test_a_second_file_of_a_table_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "eicu"
    table(folder, "lab", [lab("BUN", 9)])
    table(folder, "lab", [lab("BUN", 50)], packed=True)
    patients, _, summary = load(tmp_path, patient=[patient(hours=1)])
    assert column(patients, "BUN") == [9]
    assert [problem.found for problem in summary.left_out] == ["a second lab"]


def test_temporary_files_are_gone_and_a_full_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    load(tmp_path, patient=[patient()], lab=[lab("BUN", 9)])
    assert not list(scratch.iterdir())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(HourlyMedians, "add", full)
    with pytest.raises(DataError, match="No space left on device") as caught:
        load_eicu(tmp_path)
    assert "TMPDIR" in str(caught.value.hint)
    assert not list(scratch.iterdir())


# -- with the other set ---------------------------------------------------------------------------------------------


def test_made_up_patients_fit_the_scaling_of_2019(tmp_path: Path) -> None:
    for name in ("physionet2019", "eicu"):
        sample_records(name, tmp_path)
    training, _ = load_patients(tmp_path)
    scaling = Scaling.fit(training)
    patients, summary = load_eicu(tmp_path)
    assert summary.is_sample
    seen = features(patients, scaling, indicators=True)
    assert seen.shape == (len(patients.labels), 80)
    assert np.isfinite(seen).all()
    vital_signs = seen[:, : VARIABLES.index("Resp") + 1]
    assert np.abs(vital_signs).mean() < 3  # as if of the same wards
    monitored = ~patients.missing[:, VARIABLES.index("HR")]
    assert monitored.mean() > 0.9


def test_no_pandas_before_a_table_is_read() -> None:
    code = "import sys, kdsearch.trainables.records; sys.exit('pandas' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- the real files -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo() -> Path:
    """Return the folder of the demo, or skip with what is missing."""
    root = os.environ.get("KDSEARCH_DATA")
    if not root:
        pytest.skip("KDSEARCH_DATA is not set: no real data sets")
    folder = Path(root) / "eicu-crd-demo-2.0.1"
    if not (folder / "vitalAperiodic.csv.gz").is_file():
        pytest.skip("KDSEARCH_DATA has no eicu-crd-demo-2.0.1/vitalAperiodic.csv.gz")
    return folder


@pytest.mark.data
def test_the_real_demo(demo: Path) -> None:
    patients, summary = load_eicu(demo.parent)
    assert summary.folder == demo
    assert summary.files == summary.read == 3  # patient, vitalAperiodic, respiratoryCharting
    assert len(patients) == 2_366
    assert len(patients.labels) == 136_583
    repairs = {repair.what: repair.items for repair in summary.repairs}
    assert repairs[EicuNote.NOT_MEASURED] == 2_520 - 2_366
    assert repairs[PatientRepair.LONG_STAY] == 45
    assert EicuNote.NO_LAB in repairs
    assert EicuRepair.NOT_A_NUMBER not in repairs
    # the medians of one column, by pandas
    rows = pd.read_csv(demo / "vitalAperiodic.csv.gz")
    hours = dict(zip(map(int, patients.names), patients.hours, strict=True))
    rows["hour"] = rows["observationoffset"] // 60
    mine = rows["noninvasivemean"].between(20, 300) & (rows["hour"] >= 0)
    mine &= rows["hour"] < rows[NUMBER].map(hours)
    expected = rows[mine].groupby([NUMBER, "hour"])["noninvasivemean"].median()
    measured = np.array(column(patients, "MAP"))
    assert len(expected) == (~np.isnan(measured)).sum() == 109_341
    first = dict(zip(map(int, patients.names), patients.offsets, strict=False))
    places = [int(first[number] + hour) for number, hour in expected.index]
    np.testing.assert_array_equal(measured[places], expected.to_numpy())


@pytest.mark.data
def test_the_real_laboratory_values_are_in_the_units_of_2019(demo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "eicu"
    folder.mkdir()
    shutil.copy(demo / "patient.csv.gz", folder)
    shutil.copy(demo / "lab_subset_pyhealth.csv", folder / "lab.csv")
    patients, summary = load_eicu(tmp_path)
    assert summary.facts["variables measured by the hour"] == 26
    typical = {"pH": (7.3, 7.5), "FiO2": (0.3, 0.7), "Hgb": (8, 12), "Platelets": (150, 250), "WBC": (8, 13)}
    for name, (low, high) in typical.items():
        assert low < np.nanmedian(column(patients, name)) < high, name
