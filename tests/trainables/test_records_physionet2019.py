"""PhysioNet 2019: what is repaired in a file, what is left out, and what reaches a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data import DataError
from kdsearch.trainables.records import (
    VARIABLES,
    Part,
    Patients,
    Scaling,
    UnreadableRecordError,
    divide,
    features,
    load_patients,
    read_patient,
)
from kdsearch.trainables.records.made_up import patient_text
from kdsearch.trainables.records.psv import COLUMNS, PsvRepair, forward_filled

HEADER = "|".join(COLUMNS)
HR, ICULOS = VARIABLES.index("HR"), VARIABLES.index("ICULOS")


def row(hour: object, label: object = 0, **values: object) -> str:
    cells = {"ICULOS": hour, "SepsisLabel": label, **values}
    return "|".join(str(cells.get(name, "NaN")) for name in COLUMNS)


def file(folder: Path, *rows: str, header: str = HEADER, name: str = "p000001") -> Path:
    path = folder / f"{name}.psv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


# -- a file as it should be -----------------------------------------------------------------------------------------


def test_the_forty_variables_in_the_official_order() -> None:
    assert len(VARIABLES) == 40
    assert COLUMNS[0] == "HR"
    assert COLUMNS[33:] == (
        "Platelets",
        "Age",
        "Gender",
        "Unit1",
        "Unit2",
        "HospAdmTime",
        "ICULOS",
        "SepsisLabel",
    )


def test_a_whole_file(tmp_path: Path) -> None:
    patient = read_patient(file(tmp_path, row(1, HR=80), row(2), row(3, 1, HR=90.5)))
    assert patient.name == "p000001"
    assert patient.values.shape == (3, 40)
    assert patient.values.dtype == np.float32
    assert patient.values[:, HR].tolist()[::2] == [80, 90.5]
    assert np.isnan(patient.values[1, HR])
    assert patient.labels.tolist() == [0, 0, 1]
    assert patient.septic
    assert not patient.repairs


@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"])
def test_line_ends_and_byte_order_marks_are_no_damage(tmp_path: Path, end: str) -> None:
    path = tmp_path / "p1.psv"
    path.write_bytes(("\ufeff" + HEADER + "\r\n" + row(1, HR=7) + end).encode())
    patient = read_patient(path)
    assert patient.values[0, HR] == 7
    assert not patient.repairs


# -- repairs --------------------------------------------------------------------------------------------------------


def test_missing_extra_and_reordered_columns(tmp_path: Path) -> None:
    path = file(tmp_path, "0|1|9|80", "1|2|9|81", header="SepsisLabel|ICULOS|Mood|HR")
    patient = read_patient(path)
    assert patient.values[:, HR].tolist() == [80, 81]
    assert patient.labels.tolist() == [0, 1]
    assert np.isnan(patient.values[:, 1:ICULOS]).all()
    assert patient.repairs == {
        PsvRepair.MISSING_COLUMN: 38,
        PsvRepair.EXTRA_COLUMN: 1,
        PsvRepair.COLUMN_ORDER: 1,
    }


def test_hours_out_of_order_twice_and_unknown(tmp_path: Path) -> None:
    rows = [row("NaN", HR=70), row(2, HR=71), row(5, HR=72), row(3, HR=73), row(3, 1, Temp=38), row(9, 1)]
    patient = read_patient(file(tmp_path, *rows))
    assert patient.values[:, ICULOS].tolist() == [1, 2, 3, 5, 9]  # the first is counted back from the second
    np.testing.assert_array_equal(patient.values[:, HR], [70, 71, 73, 72, np.nan])
    assert patient.values[2, VARIABLES.index("Temp")] == 38
    assert patient.labels.tolist() == [0, 0, 1, 0, 1]
    assert patient.repairs == {
        PsvRepair.NO_HOUR: 1,
        PsvRepair.HOUR_ORDER: 1,
        PsvRepair.SAME_HOUR: 1,
        PsvRepair.HOUR_GAP: 4,  # 4; 6, 7, 8
        PsvRepair.LABEL_FALLS: 1,
    }


def test_no_hour_at_all_is_counted_from_one(tmp_path: Path) -> None:
    patient = read_patient(file(tmp_path, row("NaN"), row("NaN"), row("NaN")))
    assert patient.values[:, ICULOS].tolist() == [1, 2, 3]
    without = read_patient(file(tmp_path, "80|0", "81|0", header="HR|SepsisLabel"))
    assert np.isnan(without.values[:, ICULOS]).all()


def test_cells_that_are_no_numbers_and_rows_that_are_cut(tmp_path: Path) -> None:
    rows = [row(1, HR="high"), row(2, HR=""), row(3, HR="inf"), row(4, HR="1e99"), row(5, HR=80)[:-9]]
    patient = read_patient(file(tmp_path, *rows))
    assert np.isnan(patient.values[:, HR]).all()
    assert len(patient.labels) == 4
    assert patient.repairs == {PsvRepair.NOT_A_NUMBER: 4, PsvRepair.SHORT_ROW: 1}


# -- left out -------------------------------------------------------------------------------------------------------


BAD_FILES = {
    "empty": (b"", "an empty file"),
    "blank": (b"\n \n", "an empty file"),
    "header-alone": (HEADER.encode(), "a header alone"),
    "no-label": (b"HR|ICULOS\n80|1\n", "found 'HR|ICULOS'"),
    "commas": (
        HEADER.replace("|", ",").encode() + b"\n1,2\n",
        "expected a header of 41 names with SepsisLabel",
    ),
    "label-alone": (b"SepsisLabel\n0\n", "SepsisLabel alone"),
    "twice": (b"HR|HR|SepsisLabel\n1|2|0\n", "HR twice"),
    "label-nan": (
        f"{HEADER}\n{row(1, 'NaN')}\n".encode(),
        "expected 0 or 1 in every row of SepsisLabel, found NaN",
    ),
    "label-2": (f"{HEADER}\n{row(1, 2)}\n".encode(), "found 2"),
    "cut": (f"{HEADER}\n{row(1)[:50]}\n".encode(), "expected rows of 41 values"),
    "binary": (b"\xff\xfe\x00" * 40, "bytes that are no text"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, name: str) -> None:
    content, message = BAD_FILES[name]
    path = tmp_path / f"{name}.psv"
    path.write_bytes(content)
    with pytest.raises(UnreadableRecordError) as caught:
        read_patient(path)
    assert message in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(data=st.data())
def test_damage_is_repaired_or_told(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(
        patient_text(np.random.default_rng(data.draw(st.integers(0, 5))), septic=True).encode()
    )
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
            st.sampled_from(b"|\n\r\0 -9e.N\xff")
        )
    path = tmp_path / "p.psv"
    path.write_bytes(bytes(content[: data.draw(st.integers(200, len(content)))]))
    try:
        patient = read_patient(path)
    except UnreadableRecordError:
        return
    assert patient.values.shape == (len(patient.labels), 40)
    assert not np.isinf(patient.values).any()
    hours = patient.values[:, ICULOS]
    assert (
        np.isnan(hours).all() or (np.diff(hours) >= 0).all()
    )  # no such column, or in order (float32 may round)


def test_one_bad_file_of_each_kind_ends_no_run(tmp_path: Path) -> None:
    folder = tmp_path / "physionet2019" / "training_setB"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(20):
        (folder / f"p{number:06}.psv").write_text(patient_text(rng, septic=number < 5))
    for name, (content, _) in BAD_FILES.items():
        (folder / f"{name}.psv").write_bytes(content)
    (folder / "folder.psv.d").mkdir()
    (folder / "README.txt").write_text("no record")
    file(folder, row(2), row(1), name="repaired")
    again = tmp_path / "physionet2019" / "training_setC"
    again.mkdir()
    (again / "p000003.psv").write_bytes((folder / "p000003.psv").read_bytes())
    patients, summary = load_patients(tmp_path)
    assert len(patients) == summary.read == 21
    assert summary.files == 21 + len(BAD_FILES) + 1
    left_out = {Path(problem.path).stem: problem for problem in summary.left_out}
    assert set(left_out) == {*BAD_FILES, "p000003"}
    assert left_out["p000003"].found == "a second p000003.psv"
    assert [(repair.what, repair.files, repair.items) for repair in summary.repairs] == [
        (PsvRepair.HOUR_ORDER, 1, 1)
    ]
    assert summary.others == 1
    assert summary.facts["patients"] == 21
    assert "33 files" in str(summary)
    assert "21 read, 12 left out" in str(summary)
    assert "and 2 more" in str(summary)


def test_a_folder_of_bad_files_ends_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "physionet2019"
    folder.mkdir()
    for name, (content, _) in BAD_FILES.items():
        (folder / f"{name}.psv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_patients(tmp_path)
    assert len(caught.value.problems) == len(BAD_FILES)
    assert "has 11 problems" in str(caught.value)
    for number in range(10):
        file(folder, row(1), name=f"good{number}")
    with pytest.raises(DataError, match=r"11 of 21 files in .* cannot be used, which is too many"):
        load_patients(tmp_path)
    file(folder, row(1), name="good10")  # half of them
    assert len(load_patients(tmp_path)[0]) == 11


# -- what a network sees --------------------------------------------------------------------------------------------


def test_forward_fill_against_a_loop() -> None:
    rng = np.random.default_rng(1)
    values = np.where(rng.random((50, 7)) < 0.7, np.nan, rng.normal(size=(50, 7)))
    expected = values.copy()
    for hour in range(1, 50):
        for variable in range(7):
            if np.isnan(expected[hour, variable]):
                expected[hour, variable] = expected[hour - 1, variable]
    np.testing.assert_array_equal(forward_filled(values), expected)


def patients_of(*columns: list[float]) -> Patients:
    """Patients with the heart rates of `columns`, and nothing else measured."""
    lengths = [len(column) for column in columns]
    values = np.full((sum(lengths), 40), np.nan, dtype=np.float32)
    values[:, HR] = np.concatenate(columns)
    labels = np.zeros(sum(lengths), dtype=np.uint8)
    names = tuple(f"p{number}" for number in range(len(columns)))
    return Patients(names, values, np.isnan(values), labels, np.cumsum([0, *lengths]))


def test_nothing_is_filled_from_one_patient_to_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "physionet2019"
    folder.mkdir()
    file(folder, row(1, HR=80), row(2), name="a")
    file(folder, row(1), row(2, 1, HR=60), name="b")
    file(folder, row(1, HR=70), name="c")
    patients, _ = load_patients(tmp_path)
    np.testing.assert_array_equal(patients.values[:, HR], [80, 80, np.nan, 60, 70])
    assert patients.missing[:, HR].tolist() == [False, True, True, False, False]
    assert patients.hours.tolist() == [2, 2, 1]
    assert patients.septic.tolist() == [False, True, False]
    assert patients.rows(1) == slice(2, 4)
    taken = patients.take([2, 0])
    assert taken.names == ("c", "a")
    assert taken.values[:, HR].tolist() == [70, 80, 80]
    assert taken.offsets.tolist() == [0, 1, 3]


def test_scaling_is_that_of_the_training_part_alone() -> None:
    training, test = patients_of([60.0, 80.0], [70.0]), patients_of([1e4, np.nan])
    scaling = Scaling.fit(training)
    assert scaling.mean[HR] == 70
    assert scaling.scale[HR] == pytest.approx(np.std([60, 80, 70]))
    seen = features(test, scaling, indicators=False)
    np.testing.assert_allclose(seen[:, HR], [(1e4 - 70) / np.std([60, 80, 70]), 0], rtol=1e-6)
    other = Scaling.fit(test)
    assert other.mean[HR] == 1e4  # a fit on something else is something else


def test_every_row_of_training_has_mean_0_and_deviation_1(tmp_path: Path) -> None:
    folder = tmp_path / "physionet2019"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for number in range(40):
        (folder / f"p{number}.psv").write_text(patient_text(rng, septic=number % 4 == 0))
    patients, _ = load_patients(tmp_path)
    parts = divide("physionet2019", patients.names)
    training = patients.take(parts[Part.TRAINING])
    scaling = Scaling.fit(training)
    seen = scaling(training.values)
    known = ~np.isnan(training.values)
    for at in range(40):
        column = seen[known[:, at], at].astype(np.float64)
        assert abs(column.mean()) < 1e-4
        assert column.std() == pytest.approx(1, abs=1e-3)
    assert (seen[~known] == 0).all()
    # what the others hold does not matter
    changed = patients.values.copy()
    for part in (Part.VALIDATION, Part.TEST):
        for at in parts[part]:
            changed[patients.rows(int(at))] = 1e6
    again = Patients(patients.names, changed, patients.missing, patients.labels, patients.offsets)
    np.testing.assert_array_equal(Scaling.fit(again.take(parts[Part.TRAINING])).mean, scaling.mean)


def test_constant_and_never_measured_variables() -> None:
    scaling = Scaling.fit(patients_of([80.1, 80.1, 80.1]))
    assert scaling.scale[HR] == 1
    later = patients_of([81.1])
    later.values[0, 1] = 97.0  # no training patient has it
    seen = features(later, scaling, indicators=True)
    assert seen.shape == (1, 80)
    assert seen[0, HR] == pytest.approx(1, abs=1e-5)
    assert seen[0, 1] == 0
    assert seen[0, 40 + HR] == 0
    assert seen[0, 40 + 5] == 1
    assert np.isfinite(seen).all()


def test_scaling_of_nobody_is_refused() -> None:
    with pytest.raises(UsageError, match="no patients"):
        Scaling.fit(patients_of([80.0]).take([]))
