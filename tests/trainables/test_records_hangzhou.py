"""Hangzhou: text files of eight leads as they come, lists of labels, what is repaired and what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdsearch.trainables.data import DataError
from kdsearch.trainables.records import (
    LEADS,
    EcgRecord,
    EcgSettings,
    HangzhouReader,
    ReadSummary,
    UnreadableRecordError,
    find_records,
)
from kdsearch.trainables.records.hangzhou import FILE_LEADS, Diagnoses, HangzhouRepair, read_record
from kdsearch.trainables.records.hangzhou_names import CODES, NAMES, normalised
from kdsearch.trainables.records.made_up_hangzhou import record_text
from kdsearch.trainables.records.physionet2021 import EcgRepair
from kdsearch.trainables.records.physionet2021 import read_record as read_2021
from kdsearch.trainables.scores.physionet2021 import scored_classes

AS_IT_IS = EcgSettings(rate_hz=500, scale_leads=False)  # no resampling, millivolts
NOBODY = Diagnoses({}, frozenset(NAMES))
HEADER = " ".join(FILE_LEADS)
ALWAYS = {EcgRepair.DERIVED: 4, HangzhouRepair.NO_LABEL: 1}  # of a whole record that no list names


def steps(rows: int = 5_000, seed: int = 0) -> np.ndarray:
    """Samples [rows, 8] in steps of 4.88 microvolts."""
    return np.random.default_rng(seed).integers(-400, 400, (rows, 8))


def text(samples: np.ndarray, header: str = HEADER) -> str:
    return "\n".join([header, *(" ".join(map(str, row)) for row in samples.tolist())]) + "\n"


def record(
    folder: Path, content: str | bytes, form: EcgSettings = AS_IT_IS, name: str = "100012"
) -> EcgRecord:
    path = folder / f"{name}.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_record(path, form, NOBODY)


# -- a record as it should be ---------------------------------------------------------------------------------------


def test_a_whole_record_in_millivolts(tmp_path: Path) -> None:
    samples = steps()
    read = record(tmp_path, text(samples))
    assert read.name == "100012"
    assert read.signal.shape == (12, 5_000)
    assert read.samples == 5_000
    millivolts = samples.T * 0.00488
    for at, lead in enumerate(FILE_LEADS):
        np.testing.assert_allclose(read.signal[LEADS.index(lead)], millivolts[at], rtol=1e-5, atol=1e-6)
    one, two = millivolts[0], millivolts[1]
    for lead, follows in {
        "III": two - one,
        "aVR": -(one + two) / 2,
        "aVL": one - two / 2,
        "aVF": two - one / 2,
    }.items():
        np.testing.assert_allclose(read.signal[LEADS.index(lead)], follows, rtol=1e-5, atol=1e-6)
    assert read.repairs == ALWAYS
    assert not read.labels.any()


def test_the_form_is_that_of_physionet_2021(tmp_path: Path) -> None:
    """The same record as a WFDB file of eight signals is the same to a network."""
    samples = steps(seed=1)
    lines = [f"made 8 500 {len(samples)}"]
    lines += [f"made.mat 16+24 204.9180327868853/mV 16 0 0 0 0 {lead}" for lead in FILE_LEADS]
    (tmp_path / "made.hea").write_text("\n".join([*lines, "#Dx: 426783006"]) + "\n")
    import scipy.io

    scipy.io.savemat(tmp_path / "made.mat", {"val": samples.T.astype(np.int16)}, format="4")
    ours = record(tmp_path, text(samples), EcgSettings())
    theirs = read_2021(tmp_path / "made.hea", EcgSettings())
    assert ours.signal.shape == (12, 2_000)
    np.testing.assert_allclose(ours.signal, theirs.signal, atol=1e-6)
    assert ours.repairs[EcgRepair.RESAMPLED] == 1
    np.testing.assert_allclose(ours.signal.std(axis=1), 1, atol=1e-4)


# -- as records come in real life -----------------------------------------------------------------------------------


VARIANTS = {
    "no last line end": lambda plain: plain.rstrip("\n"),
    "windows": lambda plain: plain.replace("\n", "\r\n"),
    "byte order mark": lambda plain: "\ufeff" + plain,
    "tabs": lambda plain: plain.replace(" ", "\t"),
    "commas": lambda plain: plain.replace(" ", ","),
    "commas and blanks": lambda plain: plain.replace(" ", ", "),
    "extra blanks": lambda plain: "  " + plain.replace(" ", "   ").replace("\n", " \t\n "),
    "empty lines": lambda plain: plain.replace("\n", "\n\n") + "\n \n",
    "small letters": lambda plain: plain.replace(HEADER, HEADER.lower()),
    "decimals": lambda plain: HEADER + plain.removeprefix(HEADER).replace(" ", ".0 "),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_blanks_and_line_ends_are_no_damage(tmp_path: Path, name: str) -> None:
    plain = text(steps(600))
    expected = record(tmp_path, plain)
    read = record(tmp_path, VARIANTS[name](plain))
    np.testing.assert_array_equal(read.signal, expected.signal)
    assert read.repairs == expected.repairs == {**ALWAYS, EcgRepair.SHORTER: 1}


def test_leads_in_another_order_and_others(tmp_path: Path) -> None:
    samples = steps()
    expected = record(tmp_path, text(samples))
    turned = record(tmp_path, text(samples[:, ::-1], " ".join(reversed(FILE_LEADS))))
    np.testing.assert_array_equal(turned.signal, expected.signal)
    assert turned.repairs == {**ALWAYS, EcgRepair.LEAD_ORDER: 1}
    counted = np.column_stack([np.arange(5_000), samples])
    more = record(tmp_path, text(counted, f"row {HEADER}"))
    np.testing.assert_array_equal(more.signal, expected.signal)
    assert more.repairs == {**ALWAYS, EcgRepair.OTHER_LEAD: 1}


def test_no_header_and_eight_columns_are_the_official_leads(tmp_path: Path) -> None:
    samples = steps()
    read = record(tmp_path, text(samples).removeprefix(HEADER + "\n"))
    np.testing.assert_array_equal(read.signal, record(tmp_path, text(samples)).signal)
    assert read.repairs == {**ALWAYS, HangzhouRepair.NO_HEADER: 1}


def test_fewer_and_more_rows(tmp_path: Path) -> None:
    short = record(tmp_path, text(steps(3_000)))
    assert short.samples == 3_000
    assert (short.signal[:, 3_000:] == 0).all()
    long = steps(7_000)
    read = record(tmp_path, text(long))
    np.testing.assert_allclose(read.signal[0], long[1_000:6_000, 0] * 0.00488, rtol=1e-5, atol=1e-6)
    assert read.repairs == {**ALWAYS, EcgRepair.LONGER: 1}


def test_what_is_no_number_is_interpolated_in_time(tmp_path: Path) -> None:
    samples = np.arange(5_000)[:, None] % 97 * np.ones((1, 8), dtype=int)
    lines = text(samples).splitlines()
    lines[11] = lines[11].replace(" ", " nothing ", 1)  # nine values: the tenth row is unknown
    lines[21] = "x " + lines[21].split(" ", 1)[1]  # lead I of the twentieth
    lines[31] = "1e400 " + lines[31].split(" ", 1)[1]
    lines[-1] = "1 2 3"
    read = record(tmp_path, "\n".join(lines))
    expected = samples[:, 0].astype(float)
    expected[-1] = expected[-2]
    np.testing.assert_allclose(read.signal[0], expected * 0.00488, rtol=1e-5, atol=1e-6)
    assert read.repairs == {**ALWAYS, HangzhouRepair.ODD_ROW: 2, EcgRepair.NAN: 8 + 8 + 1 + 1}


def test_constant_leads_are_missing(tmp_path: Path) -> None:
    samples = steps()
    samples[:, [0, 5]] = 7
    read = record(tmp_path, text(samples))
    assert read.repairs[EcgRepair.CONSTANT] == 2
    assert read.repairs[EcgRepair.ZERO] == 6  # I, V4, and what would follow from lead I
    assert (read.signal[LEADS.index("I")] == 0).all()


BAD_FILES = {
    "empty": (b"", "found an empty file"),
    "blank": (b" \n\r\n", "found an empty file"),
    "mark": ("\ufeff".encode(), "found blanks alone"),
    "header": (HEADER.encode(), "expected rows of 8 samples, found a header alone"),
    "words": (b"Dear user,\nhere is nothing.\n", "expected a first line with the leads I II V1"),
    "seven": (b"1 2 3 4 5 6 7\n" * 10, "found '1 2 3 4 5 6 7'"),
    "cut": (f"{HEADER}\n1 2 3\n4 5 6\n".encode(), "expected rows of 8 samples, found 3 in the first"),
    "twice": (b"I I V1\n1 2 3\n", "expected each lead once, found I 2 times"),
    "flat": ((HEADER + "\n" + "0 0 0 0 0 0 0 0\n" * 9).encode(), "constant or empty ones alone"),
    "binary": (b"\xff\xfe\x00\x81" * 40, "bytes that are no text"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, name: str) -> None:
    content, message = BAD_FILES[name]
    with pytest.raises(UnreadableRecordError) as caught:
        record(tmp_path, content)
    assert message in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_repaired_or_told(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(text(steps(40, data.draw(st.integers(0, 5)))).encode())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.sampled_from(b" \t\n\r\0-9e.V,\xff"))
    try:
        read = record(tmp_path, bytes(content[: data.draw(st.integers(10, len(content)))]))
    except UnreadableRecordError:
        return
    assert read.signal.shape == (12, 5_000)
    assert np.isfinite(read.signal).all()


# -- diagnoses ------------------------------------------------------------------------------------------------------


def test_the_names_and_their_classes() -> None:
    assert len(NAMES) == len(set(NAMES)) == 55
    assert all(normalised(name) == name for name in NAMES)
    classes = scored_classes()
    assert set(CODES.values()) <= set(classes.index)
    named = {classes.abbreviations[classes.index[code]] for code in CODES.values()}
    missing = set(classes.abbreviations) - named
    # no name of the set is for certain one of these
    assert missing == {"AFL", "BBB", "Brady", "LPR", "TInv"}
    assert len(CODES) == 27


def set_of(root: Path, names: dict[str, str], lists: dict[str, str | bytes]) -> Path:
    """Write a set below the data root: records by their path in it, each with a made-up diagnosis, and lists."""
    folder = root / "hangzhou"
    for name, diagnosis in names.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(record_text(np.random.default_rng(0), names=[diagnosis], rows=500))
    for name, content in lists.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def read_all(root: Path) -> tuple[dict[str, EcgRecord], ReadSummary]:
    reader = HangzhouReader(find_records("hangzhou", root), EcgSettings())
    return {read.name: read for read in reader}, reader.summary()


def classes_of(read: EcgRecord) -> set[str]:
    return {name for name, has in zip(scored_classes().abbreviations, read.labels, strict=True) if has}


def test_labels_of_both_rounds_and_of_test_a(tmp_path: Path) -> None:
    set_of(
        tmp_path,
        {f"train/{number}.txt": "窦性心律" for number in (2, 5)}
        | {f"testA/{number}.txt": "窦性心律" for number in (7, 8)}
        | {f"hf_round2_train/{number}.txt": "窦性心律" for number in (100_001, 100_002)},
        {
            "hf_round1_label.txt": "2.txt\t72\tFEMALE\t窦性心律\tT波改变\t左心室高电压\n5.txt\t\t\t心房颤动\t\n",
            "hf_round1_subA.txt": "7.txt\t55\tMALE\t\n8.txt\t\tFEMALE\t\n",
            "heifei_round1_ansA_20191008.txt": "\ufeff7.txt\t55\tMALE\t完全性右束支传导阻滞\t右束支传导阻滞\r\n",
            "hf_round2_train.txt": "100001.txt 40 MALE QRS低电压  室性早搏\n",
            "hf_round1_arrythmia.txt": "".join(f"{name}\n" for name in NAMES),
            "README.txt": "where it comes from",
        },
    )
    read, summary = read_all(tmp_path)
    assert list(read) == ["100001", "100002", "2", "5", "7", "8"]
    assert classes_of(read["2"]) == {"NSR", "TAb"}
    assert read["2"].unscored == ("左心室高电压",)
    assert classes_of(read["5"]) == {"AF"}
    assert classes_of(read["7"]) == {"CRBBB|RBBB"}  # two names of one class
    assert classes_of(read["100001"]) == {"LQRSV", "PVC|VPB"}
    assert classes_of(read["8"]) == classes_of(read["100002"]) == set()
    repairs = {repair.what: repair.files for repair in summary.repairs}
    assert repairs[HangzhouRepair.NO_LABEL] == 2
    assert EcgRepair.NO_CLASS not in repairs
    assert HangzhouRepair.UNKNOWN_NAME not in repairs
    assert summary.facts == {"records": 6, "classes that occur": 6, "labels": 6}
    assert summary.codes == {"左心室高电压": 1}
    assert summary.files == summary.read == 6
    assert summary.others == 1  # README.txt


def test_names_that_no_list_has_are_counted(tmp_path: Path) -> None:
    labels = "1.txt\t1\tMALE\t窦性心律\t新的诊断\n2.txt\t1\tMALE\t别的\n3.txt\t1\tMALE\t正常ECG\n"
    records = {f"{number}.txt": "窦性心律" for number in (1, 2, 3)}
    set_of(tmp_path, records, {"hf_round1_label.txt": labels, "hf_round1_arrythmia.txt": "别的\n"})
    read, summary = read_all(tmp_path)
    assert classes_of(read["1"]) == {"NSR"}
    assert summary.codes == {"新的诊断": 1, "别的": 1, "正常ECG": 1}
    repairs = {repair.what: (repair.items, repair.example) for repair in summary.repairs}
    assert repairs[HangzhouRepair.UNKNOWN_NAME] == (1, "1.txt")  # 别的 stands in the list of names
    assert repairs[EcgRepair.NO_CLASS] == (2, "2.txt")


def test_no_list_at_all_is_noted(tmp_path: Path) -> None:
    set_of(tmp_path, {"1.txt": "窦性心律", "2.txt": "窦性心律"}, {})
    read, summary = read_all(tmp_path)
    assert not any(one.labels.any() for one in read.values())
    assert (HangzhouRepair.NO_LABEL, 2) in [(repair.what, repair.files) for repair in summary.repairs]
    assert summary.facts["labels"] == 0


def test_lists_in_another_encoding_or_of_something_else(tmp_path: Path) -> None:
    set_of(
        tmp_path,
        {"1.txt": "窦性心律", "2.txt": "窦性心律"},
        {
            "hf_round1_label.txt": "1.txt\t1\tMALE\t窦性心律\n".encode("gb18030"),
            "my_labels.txt": "2.txt\t1\tMALE\tＱＲＳ低电压 \n",  # in full-width letters
            "hefei_data_list_20190904.txt": "train\thttps://example.org/train.zip\nlabel\thttps://example.org\n",
            "hf_round1_subB.txt": b"\xff\x00" * 9,
        },
    )
    read, summary = read_all(tmp_path)
    assert classes_of(read["1"]) == {"NSR"}
    assert classes_of(read["2"]) == {"LQRSV"}
    repairs = {repair.what: (repair.items, repair.example) for repair in summary.repairs}
    assert repairs[HangzhouRepair.ENCODING] == (1, "hf_round1_label.txt")
    assert repairs[HangzhouRepair.NO_RECORD_NAME] == (2, "hefei_data_list_20190904.txt")
    assert [Path(problem.path).name for problem in summary.left_out] == ["hf_round1_subB.txt"]
    assert summary.files == 3


# -- folders --------------------------------------------------------------------------------------------------------


def test_one_bad_file_of_each_kind_ends_no_run(tmp_path: Path) -> None:
    folder = set_of(tmp_path, {f"train/{number}.txt": "窦性心律" for number in range(12)}, {})
    for name, (content, _) in BAD_FILES.items():
        (folder / f"bad-{name}.txt").write_bytes(content)
    (folder / "testA").mkdir()
    (folder / "testA" / "3.txt").write_text(text(steps(10)))
    read, summary = read_all(tmp_path)
    assert len(read) == summary.read == 12
    assert summary.files == 12 + len(BAD_FILES) + 1
    left_out = {Path(problem.path).stem: problem.found for problem in summary.left_out}
    assert set(left_out) == {*(f"bad-{name}" for name in BAD_FILES), "3"}
    assert left_out["3"] == "a second 3.txt"


def test_a_folder_of_bad_files_ends_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "hangzhou"
    folder.mkdir()
    (folder / "hf_round1_label.txt").write_text("1.txt\t1\tMALE\t窦性心律\n")
    with pytest.raises(DataError, match=r"expected \.txt files"):  # a list alone is no record
        find_records("hangzhou", tmp_path)
    for name, (content, _) in BAD_FILES.items():
        (folder / f"{name}.txt").write_bytes(content)
    with pytest.raises(DataError, match="has 10 problems") as caught:
        read_all(tmp_path)
    assert len(caught.value.problems) == len(BAD_FILES)


def test_made_up_records_are_learnable_and_labelled(tmp_path: Path) -> None:
    """The rate of the beats tells the diagnosis, as in the made-up records of PhysioNet 2021."""
    rng = np.random.default_rng(2)
    peaks = {}
    for name in ("窦性心动过缓", "窦性心律", "窦性心动过速"):
        read = record(tmp_path, record_text(rng, names=[name]))
        spectrum = np.abs(np.fft.rfft(read.signal[LEADS.index("II")]))[2:30]
        peaks[name] = int(spectrum.argmax())
    assert peaks["窦性心动过缓"] < peaks["窦性心律"] < peaks["窦性心动过速"]
