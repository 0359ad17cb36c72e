"""The challenges' files: pairing, formats, repairs that are said, and what is refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from kdsearch.trainables.data.findings import DataError
from kdsearch.trainables.scores import physionet2019, physionet2021
from kdsearch.trainables.scores.files import BadFileError
from kdsearch.trainables.scores.files_2019 import read_2019
from kdsearch.trainables.scores.files_2021 import diagnosis_codes, read_2021

CLASSES = physionet2021.scored_classes()
AF, NSR, RBBB = (CLASSES.index[code] for code in ("164889003", "426783006", "59118001"))


@pytest.fixture
def folders(tmp_path):
    both = tmp_path / "labels", tmp_path / "said"
    for folder in both:
        folder.mkdir()
    return both


def put(folder, name, *lines):
    (folder / name).write_text("\n".join(lines) + "\n")


def patient(folders, name="p1", *, labels="001", said=("0.1|0", "0.9|1", "0.2|0"), hours="123"):
    rows = [f"80|{hour}|{label}" for hour, label in zip(hours, labels, strict=True)]
    put(folders[0], f"{name}.psv", "HR|ICULOS|SepsisLabel", *rows)
    put(folders[1], f"{name}.psv", "PredictedProbability|PredictedLabel", *said)


def test_a_cohort_in_the_order_of_names(folders):
    patient(folders, "p2")
    patient(folders, "p1", labels="00", hours="12", said=("1|1", "0|0.0"))
    cohort, remarks = read_2019(*folders)
    assert cohort.patients == ("p1", "p2")
    assert cohort.lengths.tolist() == [2, 3]
    assert cohort.labels.tolist() == [False, False, False, False, True]
    assert cohort.predictions.tolist() == [True, False, False, True, False]
    assert cohort.probabilities.tolist() == [1, 0, 0.1, 0.9, 0.2]
    assert remarks == ()


def test_columns_are_found_by_name_and_spaces_endings_and_suffixes_do_not_matter(folders):
    (folders[0] / "p1.PSV").write_bytes(b"\xef\xbb\xbfSepsisLabel\r\n0\r\n1\r\n\r\n")
    put(folders[1], "p1.psv", "PredictedLabel| note |PredictedProbability", " 1 |NaN| 0.25 ", "0|x|1e-3")
    put(folders[1], ".hidden.psv", "nothing")
    cohort, _ = read_2019(*folders)
    assert cohort.labels.tolist() == [False, True]
    assert cohort.predictions.tolist() == [True, False]
    assert cohort.probabilities.tolist() == [0.25, 0.001]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"said": ("0.1|0", "0.9|1")}, "expected 3 rows, as in p1.psv of the labels, found 2 rows"),
        (
            {"said": ("0.1|0", "NaN|1", "0.1|0")},
            "a finite number as PredictedProbability, found 'NaN' in line 3",
        ),
        ({"said": ("0.1|0", "inf|1", "0.1|0")}, "found 'inf' in line 3"),
        ({"said": ("0.1|0", "|1", "0.1|0")}, "found '' in line 3"),
        ({"said": ("0.1|0", "0.5|2", "0.1|0")}, "expected 0 or 1 as PredictedLabel, found '2' in line 3"),
        ({"said": ("0.1|0", "0.5|NaN", "0.1|0")}, "expected 0 or 1 as PredictedLabel, found 'NaN' in line 3"),
        ({"said": ("0.1|0", "0.5|1|1", "0.1|0")}, "expected 2 columns, found 3 in line 3"),
        ({"said": ("0.1|0", "", "0.1|0")}, "expected 2 columns, found 1 in line 3"),
        ({"labels": "0x1"}, "expected 0 or 1 as SepsisLabel, found 'x' in line 3"),
        ({"hours": "132"}, r"hours (ICULOS) that rise, found 2 after 3 in line 4"),
        ({"hours": "122"}, r"hours (ICULOS) that rise, found 2 after 2 in line 4"),
    ],
)
def test_files_that_would_make_a_score_wrong_are_refused(folders, change, words):
    patient(folders, "p0")
    patient(folders, "p1", **change)
    with pytest.raises(DataError) as caught:
        read_2019(*folders)
    assert words in str(caught.value)
    assert "1 of 2 pairs of files cannot be scored" in str(caught.value)
    assert [Path(problem.path).name for problem in caught.value.problems] == ["p1.psv"]
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_missing_columns_are_named_with_those_that_are_there(folders):
    patient(folders)
    put(folders[1], "p1.psv", "PredictedProbability,PredictedLabel", "0.1,0")
    with pytest.raises(
        DataError, match="column PredictedLabel and PredictedProbability, found PredictedProbability,"
    ):
        read_2019(*folders)
    (folders[0] / "p1.psv").write_text("")
    with pytest.raises(DataError, match="the column SepsisLabel, found an empty file"):
        read_2019(*folders)


def test_all_bad_files_are_told_at_once(folders):
    for k in range(15):
        patient(folders, f"p{k:02}", labels="2" * 3)
    with pytest.raises(DataError) as caught:
        read_2019(*folders)
    assert len(caught.value.problems) == 15
    assert "and 5 more" in caught.value.message


def test_files_that_do_not_pair(folders):
    patient(folders, "p1")
    patient(folders, "p2")
    (folders[1] / "p2.psv").rename(folders[1] / "p3.psv")
    with pytest.raises(DataError, match="1 of 2 files with labels have no predictions") as caught:
        read_2019(*folders)
    assert caught.value.problems[0].path.endswith("p2.psv")
    (folders[0] / "p2.psv").unlink()
    with pytest.raises(DataError, match=r"1 files with predictions have no labels in .*labels"):
        read_2019(*folders)


def test_folders_without_files_say_where_some_are(folders):
    with pytest.raises(DataError, match=r"no \.psv files with labels"):
        read_2019(*folders)
    patient(folders)
    with pytest.raises(DataError, match=r"There are some in .*labels: name the folder"):
        read_2019(folders[0].parent, folders[1])
    (folders[1] / "p1.psv").unlink()
    with pytest.raises(DataError, match=r"no \.psv files with predictions"):
        read_2019(*folders)
    with pytest.raises(DataError, match="cannot be listed: no such file"):
        read_2019(folders[0] / "nowhere", folders[1])


def test_two_files_of_one_name(folders):
    patient(folders)
    put(folders[0], "p1.PSV", "SepsisLabel", "0")
    with pytest.raises(DataError, match=r"holds both p1\.PSV and p1\.psv"):
        read_2019(*folders)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hours": "124"}, "ICULOS leaves out hours"),
        ({"labels": "010"}, "goes back to 0"),
        ({"said": ("0.1|0", "1.5|1", "0|0")}, "outside [0, 1]"),
        ({"said": ("0.5|0", "0.5|1", "0|0")}, "no higher probability"),
        ({"labels": "", "hours": "", "said": ()}, "no hours"),
    ],
)
def test_what_is_odd_but_scored_is_said(folders, change, words):
    patient(folders, "p0")
    patient(folders, "p1", **change)
    cohort, remarks = read_2019(*folders)
    assert len(cohort.patients) == 2
    assert [remark for remark in remarks if words in remark] == list(remarks)
    assert remarks[0].startswith("1 patient (p1): ")


HEADER = "R1 12 500 5000\nR1.mat 16+24 1000/mV 16 0 28 -1716 0 I\n#Age: 74\n"


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        ("#Dx: 164889003,59118001", ("164889003", "59118001")),
        ("# Dx: 164889003, 59118001 ", ("164889003", "59118001")),
        ("#Dx:164889003\r", ("164889003",)),
        ("#Dx: Unknown", ("Unknown",)),
        ("#Dx:", ()),
        ("# Rx: 164889003", None),
        ("#Dxx: 1", None),
    ],
)
def test_diagnoses_of_headers(line, codes):
    assert diagnosis_codes(f"{HEADER}{line}\n#Rx: Unknown\n") == codes


def recording(folders, name, codes, *rows, record=None):
    put(folders[0], f"{name}.hea", *HEADER.splitlines(), f"#Dx: {codes}")
    put(folders[1], f"{name}.csv", f"#{record or name}", *rows)


def test_outputs_in_any_order_of_columns(folders):
    recording(folders, "B", "59118001", "59118001, 164889003", "0, 1", "0.2, 0.8")
    recording(folders, "A", "164889003,713427006", "164889003,59118001", "True,f", "0.9,1e-1")
    found, remarks = read_2021(*folders)
    assert found.names == ("A", "B")
    assert np.argwhere(found.labels).tolist() == sorted([[0, AF], [0, RBBB], [1, RBBB]])
    assert np.argwhere(found.binary).tolist() == [[0, AF], [1, AF]]
    assert found.scalar[:, [AF, RBBB]].tolist() == [[0.9, 0.1], [0.8, 0.2]]
    absent = "AFL (2), BBB (2), Brady (2), CLBBB|LBBB (2), IAVB (2), and 19 more"
    assert remarks == (f"scored classes without a column count as negative: {absent}",)


def test_equal_codes_are_merged_by_any_and_mean(folders):
    columns = "59118001,713427006,713427006|59118001"
    recording(folders, "A", "59118001", columns, "0,1,0", "0.2,0.6,0.7")
    recording(folders, "B", "59118001", columns, "0,0,0", "nan,0.6,inf")
    recording(folders, "C", "59118001", columns, "0,0,0", "word,0.6,0.3")
    recording(folders, "D", "59118001", columns, "0,0,0", "nan,nan,nan")
    found, remarks = read_2021(*folders)
    assert found.binary[:, RBBB].tolist() == [True, False, False, False]
    # B: what is no finite number is left out of the mean; C: a word is 0; D: nothing is left, 0
    assert found.scalar[:, RBBB] == pytest.approx([0.5, 0.6, 0.3, 0])
    assert "3 recordings (B, C, D): scalar outputs that are NaN, infinite or no number count as 0" in str(
        remarks
    )


def test_what_the_official_scorer_repairs_is_repaired_and_said(folders):
    good = ("164889003,426783006", "1,0", "0.9,0.1")
    recording(folders, "A", "164889003,55827005", *good)
    recording(folders, "B", "55827005", *good, "and,more")
    recording(folders, "C", "426783006", "164889003", "1", record="other")
    recording(folders, "D", "426783006", *good[:2], "0.9")
    recording(folders, "E", "426783006", "426783006,12345", "1.0,yes", "0.9,0.1", record="E.mat")
    put(folders[1], "F.csv", *good)
    found, remarks = read_2021(*folders)
    assert found.names == tuple("ABCDE")
    assert np.argwhere(found.binary).tolist() == [[0, AF], [1, AF]]
    said = "\n".join(remarks)
    assert "1 recording (F): outputs without a header; they are left out" in said
    assert "1 recording (B): rows of outputs after the third are left out" in said
    assert "2 recordings (C, D): outputs that are not well formed count as negative throughout" in said
    assert "1 recording (C): the record line of the outputs names another recording" in said
    assert "1 recording (E): binary outputs other than 0, 1, true, false, t, f count as negative" in said
    assert (
        "2 recordings (A, B) with codes that are not scored: 55827005 (2); those codes are left out" in said
    )
    assert "1 recording (B) without any scored code" in said
    assert "2 different sets of scored classes among the outputs" in said
    assert "columns of outputs that are not scored are left out: 12345 (1)" in said


def test_a_folder_of_bad_outputs_is_refused(folders):
    recording(folders, "A", "164889003", "AF,NSR", "1,0", "0.9,0.1")
    with pytest.raises(DataError, match="has a scored code: the first has AF, NSR"):
        read_2021(*folders)
    recording(folders, "A", "164889003", "164889003")
    with pytest.raises(DataError, match=r"no file of outputs in .* is well formed"):
        read_2021(*folders)


def test_headers_that_cannot_be_scored(folders):
    recording(folders, "A", "164889003", "164889003", "1", "1")
    put(folders[0], "B.hea", "B 12 500 5000")
    with pytest.raises(DataError, match="1 of 2 files with labels have no predictions"):
        read_2021(*folders)
    put(folders[1], "B.csv", "164889003", "1", "1")
    with pytest.raises(DataError, match="expected a line `#Dx: CODES`, found none"):
        read_2021(*folders)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(folders):
    patient(folders)
    (folders[0] / "p1.psv").chmod(0)
    with pytest.raises(DataError, match="permission denied"):
        read_2019(*folders)


def test_a_bad_file_is_pickled_like_any_error():
    error = pickle.loads(pickle.dumps(BadFileError(Path("a"), "b", "c")))
    assert str(error.problem) == "a: expected b, found c"


def real(*parts):
    root = os.environ.get("KDSEARCH_DATA")
    if not root:
        pytest.skip("KDSEARCH_DATA is not set: no real records")
    folder = Path(root).joinpath(*parts)
    if not folder.is_dir():
        pytest.skip(f"KDSEARCH_DATA has no folder {'/'.join(parts)}")
    return folder


@pytest.mark.data
def test_real_patients_with_the_best_predictions_have_utility_1(tmp_path):
    labels, here = real("physionet2019", "training_setB"), tmp_path / "labels"
    here.mkdir()
    names = sorted(path.name for path in labels.glob("*.psv"))[:400]
    for name in names:
        (here / name).symlink_to(labels / name)
        hours = len((labels / name).read_text().split()) - 1
        put(tmp_path, name, "PredictedProbability|PredictedLabel", *["0.0|0"] * hours)
    silent, remarks = read_2019(here, tmp_path)
    assert len(silent.patients) == len(names)
    assert remarks == ()
    assert physionet2019.score(silent).utility.normalised == 0
    best = physionet2019.best_predictions(silent.labels, silent.lengths)
    start = 0
    for name, hours in zip(names, silent.lengths.tolist(), strict=True):
        rows = [f"{int(hour) / 2}|{int(hour)}" for hour in best[start : start + hours]]
        put(tmp_path, name, "PredictedProbability|PredictedLabel", *rows)
        start += hours
    found = physionet2019.score(read_2019(here, tmp_path)[0])
    assert found.septic > 0
    assert found.utility.normalised == 1


@pytest.mark.data
def test_real_recordings_with_their_own_codes_have_metric_1(tmp_path):
    headers = real("physionet2021")
    names = sorted(path.stem for path in headers.glob("*.hea"))
    columns = list(CLASSES.index)
    for name in names:
        codes = diagnosis_codes((headers / f"{name}.hea").read_text())
        assert codes, name  # each has some, after `#Dx:` or `# Dx:`
        cells = [str(int(code in codes)) for code in columns]
        put(tmp_path, f"{name}.csv", f"#{name}", ",".join(columns), ",".join(cells), ",".join(cells))
    recordings, remarks = read_2021(headers, tmp_path)
    found = physionet2021.score(recordings)
    assert found.recordings == len(names)
    assert (found.challenge_metric, found.macro_f1, found.accuracy) == (1, 1, 1)
    # Two of a pair of equal codes have a mean of half where one alone is said, but no negative stands above 0.
    assert (found.macro_auroc, found.macro_auprc) == (1, 1)
    assert found.positives[NSR] > 0
    assert any("codes that are not scored" in remark for remark in remarks)
