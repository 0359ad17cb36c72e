"""PhysioNet 2021: lenient headers, matrices, what is repaired in a record, and what is left out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data import DataError
from kdsearch.trainables.records import (
    LEADS,
    EcgReader,
    EcgRecord,
    EcgSettings,
    UnreadableRecordError,
    find_records,
    load_records,
)
from kdsearch.trainables.records import leads as lead_tools
from kdsearch.trainables.records.made_up import checksum, write_matrix, write_record
from kdsearch.trainables.records.matlab import read_matrix
from kdsearch.trainables.records.physionet2021 import EcgRepair, read_record
from kdsearch.trainables.records.wfdb_header import HeaderRepair, parse_header
from kdsearch.trainables.scores.physionet2021 import scored_classes

MILLIVOLTS = EcgSettings(scale_leads=False)
NSR, AF, UNSCORED = "426783006", "164889003", "55827005"


def heart(seconds: float = 10.0, rate_hz: int = 200) -> np.ndarray:
    """Twelve leads [12, samples] that obey Einthoven and Goldberger, in thousandths of a millivolt."""
    at = np.arange(round(seconds * rate_hz)) / rate_hz
    one, two = 500 * np.sin(2 * np.pi * 1.2 * at), 800 * np.cos(2 * np.pi * 2.3 * at)
    limbs = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    chest = [300 * np.sin(2 * np.pi * (1 + number) * at + number) for number in range(6)]
    return np.stack([*limbs, *chest])


def write(
    folder: Path,
    matrix: np.ndarray,
    *,
    name: str = "A0001",
    rate_hz: object = 200,
    names: tuple[str, ...] = LEADS,
    codes: str = f"#Dx: {NSR}",
    gain: str = "1000/mV",
    as_floats: bool = False,
) -> Path:
    path = folder / f"{name}.hea"
    if as_floats:
        scipy.io.savemat(folder / f"{name}.mat", {"val": matrix})
        sums = [""] * len(matrix)
    else:
        matrix = np.rint(matrix).astype(np.int16)
        write_matrix(folder / f"{name}.mat", matrix)
        sums = [str(checksum(row)) for row in matrix]
    lines = [f"{name} {len(names)} {rate_hz} {matrix.shape[1]}"]
    lines += [
        f"{name}.mat 16+24 {gain} 16 0 0 {total or 0} 0 {lead}"
        for lead, total in zip(names, sums, strict=True)
    ]
    path.write_text("\n".join([*lines, "#Age: 7", *([codes] if codes else [])]) + "\n", encoding="utf-8")
    return path


def repaired(record: EcgRecord) -> dict[str, int]:
    return {key: count for key, count in record.repairs.items() if key != HeaderRepair.GAIN}


# -- headers --------------------------------------------------------------------------------------------------------


SIGNAL = "A.mat 16+24 1000/mV 16 0 28 -1716 0 I"


def parse(text: str, name: str = "A") -> tuple[object, Counter]:
    repairs: Counter = Counter()
    return parse_header(text, name, repairs), +repairs


@pytest.mark.parametrize(
    "line",
    [
        "A 1 500 7500 12-May-2020 12:33:59",  # wfdb wants the time first and other dates
        "A 1 500 7500",
        "A 1 500.0 7500 12:00:00 12/05/2020",
        "A\t1  500/500(0) 7500 what is this",
        "\ufeffA 1 500 7500 32-Foo-20x0"[1:],
    ],
)
def test_record_lines(line: str) -> None:
    header, repairs = parse(f"{line}\n{SIGNAL}\n#Dx: {NSR}\n")
    assert (header.rate_hz, header.samples) == (500, 7500)
    assert header.signals[0].lead == "I"
    assert not repairs


@pytest.mark.parametrize(
    ("line", "gain", "baseline"),
    [
        ("A.mat 16+24 1000/mV 16 0 28 -1716 0 I", 1000, 0),
        ("A.mat 16+24 1000/mv 16 0 28 -1716 0 I", 1000, 0),
        ("A.mat 16x1+24 1000.0(0)/mV 16 0 28 -1716 0 I", 1000, 0),
        ("A.mat 16+24 1000.0(-12)/mV 16 7 28 -1716 0 I", 1000, -12),
        ("A.mat 16+24 4.88 16 7 28 -1716 0 i", 4.88, 7),
        ("A.mat 16+24 2/uV 16 0 28 -1716 0 Lead I", 2000, 0),
        ("A.mat 16+24 1e3/mV I", 1000, 0),
    ],
)
def test_signal_lines(line: str, gain: float, baseline: float) -> None:
    header, repairs = parse(f"A 1 500 7500\n{line}\n#Dx: {NSR}\n")
    signal = header.signals[0]
    assert (signal.gain, signal.baseline, signal.lead) == (pytest.approx(gain), baseline, "I")
    assert not repairs


@pytest.mark.parametrize(
    ("line", "repair"),
    [
        ("A.mat 16+24 0/mV 16 0 28 -1716 0 I", HeaderRepair.GAIN),
        ("A.mat 16+24 nan/mV 16 0 28 -1716 0 I", HeaderRepair.GAIN),
        ("A.mat 16 I", HeaderRepair.GAIN),
        ("A.mat 16+24 200/mmHg 16 0 28 -1716 0 I", HeaderRepair.UNIT),
    ],
)
def test_gains_that_are_repaired(line: str, repair: HeaderRepair) -> None:
    header, repairs = parse(f"A 1 500 7500\n{line}\n#Dx: {NSR}\n")
    assert header.signals[0].gain == 200  # header(5)
    assert repairs == {repair: 1}


@pytest.mark.parametrize(
    "comment",
    ["#Dx: 1,2", "# Dx: 1,2", "#Dx:1, 2", "#dx 1 2", "  #  DX :1;2", "#Dx: 1\n#Age: 7\n# Dx: 2,1"],
)
def test_lines_of_diagnoses(comment: str) -> None:
    header, repairs = parse(f"A 1 500 7500\n{SIGNAL}\n#Age: 3\n{comment}\n#Rx: 9\n")
    assert header.codes == ("1", "2")
    assert not repairs


def test_words_among_codes_are_counted() -> None:
    header, repairs = parse(f"A 1 500 7500\n{SIGNAL}\n#Dx: Unknown,{NSR},x1\n")
    assert header.codes == (NSR,)
    assert repairs == {HeaderRepair.NOT_A_CODE: 2}


def test_other_name_and_other_number_of_signals_are_noted() -> None:
    header, repairs = parse(f"A.mat 12 500 7500\n{SIGNAL}\n#Dx: {NSR}\n")
    assert len(header.signals) == 1
    assert repairs == {HeaderRepair.RECORD_NAME: 1, HeaderRepair.SIGNAL_COUNT: 1}


def test_twelve_signals_without_names_are_in_the_official_order() -> None:
    lines = "\n".join("A.mat 16+24 1000/mV 16 0 0 0 0" for _ in LEADS)
    header, repairs = parse(f"A 12 500 7500\n{lines}\n#Dx: {NSR}\n")
    assert tuple(signal.lead for signal in header.signals) == LEADS
    assert repairs == {HeaderRepair.LEAD_NAME: 12}


BAD_HEADERS = {
    "empty": ("", "an empty file"),
    "comments": ("#Dx: 1\n", "comments alone"),
    "words": ("not a header\n#Dx: 1\n", "expected a first line with name"),
    "one-word": ("A\n#Dx: 1\n", "expected a first line with name"),
    "no-signals": ("A 12 500 5000\n#Dx: 1\n", "expected a line for each signal, found none"),
    "segments": (f"A/3 1 500 5000\n{SIGNAL}\n#Dx: 1\n", "several segments"),
    "no-rate": (f"A 1\n{SIGNAL}\n#Dx: 1\n", "expected a sampling rate of 20 to 20000 Hz, found none"),
    "rate-0": (f"A 1 0 5000\n{SIGNAL}\n#Dx: 1\n", "found 0"),
    "rate-word": (f"A 1 fast 5000\n{SIGNAL}\n#Dx: 1\n", "found none"),
    "lead-twice": (f"A 2 500 5000\n{SIGNAL}\n{SIGNAL}\n#Dx: 1\n", "I 2 times"),
    "no-lead": (
        "A 1 500 5000\nA.mat 16+24 1000/mV 16 0 0 0 0 PLETH\n#Dx: 1\n",
        "expected signals with the names",
    ),
    "no-dx": (
        f"A 1 500 5000\n{SIGNAL}\n#Age: 5\n",
        "expected a line with diagnoses (#Dx: or # Dx:), found none",
    ),
    "dx-unknown": (f"A 1 500 5000\n{SIGNAL}\n#Dx: Unknown\n", "found 'Unknown'"),
    "dx-nothing": (f"A 1 500 5000\n{SIGNAL}\n#Dx:\n", "expected at least one diagnosis code, found none"),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_headers_that_cannot_be_used(name: str) -> None:
    text, message = BAD_HEADERS[name]
    with pytest.raises(UnreadableRecordError) as caught:
        parse(text)
    assert message in str(caught.value)


@given(st.text(alphabet="A.mat 16+24/mV()#Dx:\n0e9-IV\u00b5", max_size=200))
def test_any_text_is_a_header_or_refused(text: str) -> None:
    for whole in (text, f"A 1 500 5000\n{text}\n{SIGNAL}\n#Dx: {NSR} {text}"):
        try:
            header, _ = parse(whole)
        except UnreadableRecordError:
            continue
        assert all(np.isfinite([signal.gain, signal.baseline]).all() for signal in header.signals)


# -- matrices -------------------------------------------------------------------------------------------------------


def test_matrices_of_version_4_and_5(tmp_path: Path) -> None:
    matrix = np.arange(24, dtype=np.int16).reshape(2, 12)
    write_matrix(tmp_path / "ours.mat", matrix)
    scipy.io.savemat(tmp_path / "four.mat", {"val": matrix}, format="4")
    scipy.io.savemat(tmp_path / "five.mat", {"val": matrix})
    scipy.io.savemat(tmp_path / "small.mat", {"ecg": matrix}, do_compression=True)
    assert (tmp_path / "ours.mat").read_bytes() == (tmp_path / "four.mat").read_bytes()
    for name in ("ours", "four", "five", "small"):
        np.testing.assert_array_equal(read_matrix(tmp_path / f"{name}.mat"), matrix)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"val": np.zeros((12, 0))}, "a matrix of 12 x 0"),
        ({"val": np.zeros((2, 3, 4))}, "a matrix of 2 x 3 x 4"),
        ({"val": "text"}, "a matrix of 1"),
        ({"val": np.ones((2, 2)) * 1j}, "complex"),
        ({"a": np.ones((2, 2)), "b": np.ones((2, 2))}, "a, b"),
        ({"val": {"inside": np.ones((2, 2))}}, "found"),
        ({}, "nothing"),
    ],
)
def test_matrices_that_cannot_be_used(tmp_path: Path, content: dict, message: str) -> None:
    scipy.io.savemat(tmp_path / "x.mat", content)
    with pytest.raises(UnreadableRecordError) as caught:
        read_matrix(tmp_path / "x.mat")
    assert message in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(data=st.data(), version=st.sampled_from(["4", "5"]))
def test_damaged_matrices_never_raise_anything_else(
    tmp_path: Path, data: st.DataObject, version: str
) -> None:
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"val": np.arange(60, dtype=np.int16).reshape(12, 5)}, format=version)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, min(len(content) - 1, 220)))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        matrix = read_matrix(path)
    except UnreadableRecordError:
        return
    assert matrix.size <= 100


# -- signals --------------------------------------------------------------------------------------------------------


def test_a_whole_record_at_200_hz(tmp_path: Path) -> None:
    signal = heart()
    record = read_record(write(tmp_path, signal, codes=f"# Dx: {NSR},{AF},{UNSCORED}"), MILLIVOLTS)
    np.testing.assert_allclose(record.signal, np.rint(signal) / 1000, atol=1e-6)
    assert record.signal.shape == (12, 2000)
    assert record.samples == 2000
    classes = scored_classes()
    assert sorted(np.array(classes.names)[record.labels]) == sorted([NSR, AF])
    assert record.unscored == (UNSCORED,)
    assert not record.repairs


def test_equal_codes_are_one_class(tmp_path: Path) -> None:
    labels = [
        read_record(write(tmp_path, heart(), codes=f"#Dx: {codes}"), MILLIVOLTS).labels
        for codes in ("713427006", "59118001", "713427006,59118001")
    ]
    assert labels[0].sum() == 1
    np.testing.assert_array_equal(labels[0], labels[1])
    np.testing.assert_array_equal(labels[0], labels[2])


def test_each_lead_is_scaled_over_its_own_samples(tmp_path: Path) -> None:
    record = read_record(write(tmp_path, heart(7.0) + 3000), EcgSettings())
    assert record.samples == 1400
    own = record.signal[:, :1400].astype(np.float64)
    np.testing.assert_allclose(own.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(own.std(axis=1), 1, atol=1e-5)
    assert (record.signal[:, 1400:] == 0).all()
    assert record.repairs == {EcgRepair.SHORTER: 1}


@pytest.mark.parametrize("rate_hz", [100, 257, 500, 1000])
def test_other_rates_give_the_same_curve(tmp_path: Path, rate_hz: int) -> None:
    record = read_record(write(tmp_path, heart(10.0, rate_hz), rate_hz=rate_hz), MILLIVOLTS)
    error = np.abs(record.signal - heart() / 1000)[:, 20:-20]  # but for the filter's ends
    assert error.max() < 0.01  # of signals of up to 1.2 mV
    assert record.samples == 2000
    assert record.repairs == {EcgRepair.RESAMPLED: 1}


def test_the_middle_of_a_longer_record(tmp_path: Path) -> None:
    signal = heart(14.0, 500)
    record = read_record(write(tmp_path, signal, rate_hz=500), MILLIVOLTS)
    np.testing.assert_allclose(record.signal[:, 20:-20], heart(14.0)[:, 420:2380] / 1000, atol=0.01)
    assert record.repairs == {EcgRepair.RESAMPLED: 1, EcgRepair.LONGER: 1}


@pytest.mark.parametrize("samples", [2, 3, 7])
@pytest.mark.parametrize("rate_hz", [200, 257, 1000])
def test_a_record_of_a_few_samples(tmp_path: Path, samples: int, rate_hz: int) -> None:
    record = read_record(write(tmp_path, heart(1, rate_hz)[:, :samples], rate_hz=rate_hz), EcgSettings())
    assert np.isfinite(record.signal).all()
    assert record.samples >= 1


def test_samples_that_are_no_number_are_interpolated(tmp_path: Path) -> None:
    signal = heart()
    expected = signal.copy()
    expected[1, 100:103] = np.interp([100, 101, 102], [99, 103], signal[1, [99, 103]])
    expected[7, :5] = signal[7, 5]
    holes = signal.copy()
    holes[1, 100:103] = [np.nan, np.inf, 1e300]
    holes[7, :5] = np.nan
    record = read_record(write(tmp_path, holes, as_floats=True), MILLIVOLTS)
    np.testing.assert_allclose(record.signal, expected / 1000, atol=1e-6)
    assert repaired(record) == {EcgRepair.NAN: 8}


def test_the_mark_of_a_missing_sample_in_16_bits(tmp_path: Path) -> None:
    signal = heart()
    signal[3, 50] = -32768
    record = read_record(write(tmp_path, signal), MILLIVOLTS)
    assert abs(record.signal[3, 50]) < 1
    assert record.repairs == {EcgRepair.NAN: 1}


@pytest.mark.parametrize(
    "missing", [("III", "aVR", "aVL", "aVF"), ("I",), ("II", "aVF"), ("I", "aVR", "aVL", "aVF")]
)
def test_limb_leads_follow_from_two_of_them(tmp_path: Path, missing: tuple[str, ...]) -> None:
    kept = [at for at, name in enumerate(LEADS) if name not in missing]
    path = write(tmp_path, heart()[kept], names=tuple(LEADS[at] for at in kept))
    record = read_record(path, MILLIVOLTS)
    np.testing.assert_allclose(record.signal, heart() / 1000, atol=2e-3)  # of rounded samples
    assert record.repairs == {EcgRepair.DERIVED: len(missing)}


def test_leads_that_do_not_follow_are_zero(tmp_path: Path) -> None:
    record = read_record(write(tmp_path, heart()[[1, 8]], names=("II", "V3")), EcgSettings())
    assert np.flatnonzero(record.signal.any(axis=1)).tolist() == [1, 8]
    assert record.repairs == {EcgRepair.ZERO: 10}


def test_constant_and_empty_leads_are_as_good_as_missing(tmp_path: Path) -> None:
    signal = heart()
    signal[2] = 5  # follows from I and II
    signal[9] = -7
    signal[11] = np.nan
    record = read_record(write(tmp_path, signal, as_floats=True), MILLIVOLTS)
    np.testing.assert_allclose(record.signal[2], heart()[2] / 1000, atol=1e-5)
    assert not record.signal[[9, 11]].any()
    assert repaired(record) == {EcgRepair.CONSTANT: 3, EcgRepair.DERIVED: 1, EcgRepair.ZERO: 2}


def test_leads_in_another_order_and_others_among_them(tmp_path: Path) -> None:
    order = [11, *range(11)]
    signal = np.vstack([heart()[order], np.ones((1, 2000))])
    names = (*(LEADS[at].upper() for at in order), "PLETH")
    record = read_record(write(tmp_path, signal, names=names), MILLIVOLTS)
    np.testing.assert_allclose(record.signal, np.rint(heart()) / 1000, atol=1e-6)
    assert record.repairs == {EcgRepair.LEAD_ORDER: 1, EcgRepair.OTHER_LEAD: 1}


def test_a_turned_matrix_another_length_and_another_checksum(tmp_path: Path) -> None:
    path = write(tmp_path, heart())
    changed = np.rint(heart()).astype(np.int16)
    changed[4, 7] += 1
    write_matrix(path.with_suffix(".mat"), changed[:, :-1].T.copy())
    record = read_record(path, MILLIVOLTS)
    np.testing.assert_allclose(record.signal[:, :1999], changed[:, :-1] / 1000, atol=1e-6)
    assert record.repairs[EcgRepair.TRANSPOSED] == record.repairs[EcgRepair.LENGTH] == 1
    assert record.repairs[EcgRepair.CHECKSUM] >= 1
    assert record.repairs[EcgRepair.SHORTER] == 1


def test_a_record_without_a_scored_diagnosis_is_kept(tmp_path: Path) -> None:
    record = read_record(write(tmp_path, heart(), codes=f"#Dx: {UNSCORED}"), MILLIVOLTS)
    assert not record.labels.any()
    assert record.repairs == {EcgRepair.NO_CLASS: 1}


def test_gains_do_not_matter_once_leads_are_scaled(tmp_path: Path) -> None:
    one = read_record(write(tmp_path, heart()), EcgSettings())
    two = read_record(write(tmp_path, heart(), gain="4880(12)/uV"), EcgSettings())
    np.testing.assert_allclose(one.signal, two.signal, atol=1e-5)


def test_a_name_in_the_header_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    write(tmp_path, heart(), name="outside")
    path = write(inside, heart() * 2)
    path.write_text(path.read_text().replace("A0001.mat", "../outside.mat"))
    np.testing.assert_allclose(read_record(path, MILLIVOLTS).signal, np.rint(heart() * 2) / 1000, atol=1e-6)


def test_resampling_keeps_a_straight_line() -> None:
    line = np.linspace(-3, 5, 5001)[None]
    again = lead_tools.resampled(line, 500, 200)
    np.testing.assert_allclose(
        again[0], np.interp(np.arange(again.shape[1]) / 200, np.arange(5001) / 500, line[0]), atol=1e-3
    )
    assert lead_tools.resampled(line, 200.0, 200) is line


@pytest.mark.parametrize(
    "wrong", [{"rate_hz": 0}, {"rate_hz": 2.5}, {"window_s": 0}, {"window_s": float("nan")}]
)
def test_settings_that_make_no_sense(wrong: dict) -> None:
    with pytest.raises(UsageError, match="ECG"):
        EcgSettings(**wrong)


# -- folders --------------------------------------------------------------------------------------------------------


def spoil(folder: Path) -> dict[str, str]:
    """Write a record with each defect that cannot be repaired; return what is said of each."""
    said = {f"{name}.hea": message for name, (_, message) in BAD_HEADERS.items()}
    for name, (text, _) in BAD_HEADERS.items():
        write(folder, heart(1), name=name)
        (folder / f"{name}.hea").write_text(text)
    write(folder, np.full((12, 2000), 7), name="all-constant")
    said["all-constant.hea"] = "expected a lead that is not constant"
    write(folder, np.full((12, 2000), np.nan), name="all-nan", as_floats=True)
    said["all-nan.hea"] = "expected a lead that is not constant"
    write(folder, heart()[:, :1], name="one-sample")
    said["one-sample.hea"] = "expected a lead that is not constant"
    write(folder, heart()[:, :0], name="zero-length")
    said["zero-length.hea"] = "a matrix of 12 x 0"
    write(folder, heart()[:5], name="five-rows", names=LEADS[:5])
    scipy.io.savemat(folder / "five-rows.mat", {"val": heart()})
    said["five-rows.hea"] = "expected 5 signals, as the header lists"
    cut = write(folder, heart(), name="cut").with_suffix(".mat")
    cut.write_bytes(cut.read_bytes()[:1000])
    said["cut.hea"] = "cut.mat: damaged, cut or of another version"
    write(folder, heart(), name="empty-mat").with_suffix(".mat").write_bytes(b"")
    said["empty-mat.hea"] = "empty-mat.mat: an empty file"
    write(folder, heart(), name="no-mat").with_suffix(".mat").unlink()
    said["no-mat.hea"] = "expected the samples in no-mat.mat, found no such file"
    (folder / "binary.hea").write_bytes(b"\0\1\2")
    said["binary.hea"] = "a file that is no text"
    write(folder, heart(), name="alone").unlink()
    said["alone.mat"] = "expected a header (.hea) beside it, found none"
    return said


def test_one_bad_record_of_each_kind_ends_no_run(tmp_path: Path) -> None:
    folder = tmp_path / "physionet2021" / "g1"
    folder.mkdir(parents=True)
    said = spoil(folder)
    rng = np.random.default_rng(0)
    good = len(said) + 1
    for number in range(good):
        write_record(folder / f"R{number:03}", rng, codes=[NSR, UNSCORED], rate_hz=500)
    other = tmp_path / "physionet2021" / "g2"
    other.mkdir()
    write_record(other / "R000", rng, codes=[NSR], rate_hz=500)
    (other / "RECORDS").write_text("R000\n")
    records, summary = load_records(tmp_path)
    assert len(records) == summary.read == good
    assert records.signals.shape == (good, 12, 2000)
    assert np.isfinite(records.signals).all()
    assert summary.files == good + len(said) + 1
    left_out = {Path(problem.path).name: str(problem) for problem in summary.left_out}
    assert left_out.pop("R000.hea").endswith("expected one file for each record, found a second R000.hea")
    assert set(left_out) == set(said)
    for name, message in said.items():
        assert message in left_out[name], name
    assert summary.codes == {UNSCORED: good}
    assert summary.others == 1
    assert {repair.what: repair.files for repair in summary.repairs}[EcgRepair.RESAMPLED] == good


def test_a_folder_of_bad_records_ends_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "physionet2021"
    folder.mkdir()
    said = spoil(folder)
    with pytest.raises(DataError) as caught:
        load_records(tmp_path)
    assert len(caught.value.problems) == len(said)
    write(folder, heart(), name="good")
    with pytest.raises(DataError, match="which is too many to go on"):
        list(EcgReader(find_records("physionet2021", tmp_path), EcgSettings()))
