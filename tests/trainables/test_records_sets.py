"""Sets of records by name: where they lie, how they are divided, made-up samples, checks, and the real files."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdsearch.search.cli import _run
from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.data import DataError
from kdsearch.trainables.data.marker import MARKER_FILE
from kdsearch.trainables.records import (
    EcgReader,
    EcgSettings,
    Part,
    RecordsReport,
    Shares,
    check_records,
    divide,
    find_records,
    load_patients,
    sample_records,
)
from kdsearch.trainables.records.psv import PsvRepair
from kdsearch.trainables.records.sets import RECORD_SETS
from kdsearch.trainables.scores.physionet2021 import scored_classes

NAMES = tuple(RECORD_SETS)
FACTS = {"physionet2019": "patients", "physionet2021": "records", "hangzhou": "records", "eicu": "patients"}
A_FILE_EACH = tuple(name for name in NAMES if name != "eicu")  # whose records are files of their own


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with a sample of each set."""
    root = tmp_path_factory.mktemp("made-up")
    for name in NAMES:
        sample_records(name, root)
    return root


def test_no_torch_and_no_scipy_before_they_are_needed() -> None:
    code = (
        "import sys, kdsearch.trainables.records;"
        "sys.exit(bool({'torch', 'ray', 'sklearn', 'scipy.signal', 'scipy.io'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- where they lie -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_an_absent_set_names_folder_and_source(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        find_records(name, tmp_path)
    told = str(caught.value)
    assert str(tmp_path / name) in told
    assert "no such folder" in told
    assert RECORD_SETS[name].source in told
    assert f"kdsearch data sample {name}" in told
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="none in that folder or below it"):
        find_records(name, tmp_path)


def test_an_unknown_set_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="physionet2019") as caught:
        check_records("physionet2020", tmp_path)
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args


def test_linked_folders_are_followed_once_and_hidden_files_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "physionet2019"
    elsewhere = tmp_path / "elsewhere"
    for place in (folder, elsewhere, folder / ".cache"):
        place.mkdir()
    (folder / "b.psv").touch()
    (folder / "._b.psv").touch()
    (folder / ".cache" / "c.psv").touch()
    (elsewhere / "a.PSV").touch()
    (folder / "linked").symlink_to(elsewhere)
    (folder / "round").symlink_to(folder)
    files = find_records("physionet2019", tmp_path)
    assert [path.name for path in files.records] == ["a.PSV", "b.psv"]
    assert not files.is_sample


def test_the_official_archives_folder(tmp_path: Path) -> None:
    inside = tmp_path / "challenge-2019-1.0.0" / "training" / "training_setA"
    inside.mkdir(parents=True)
    (inside / "p000001.psv").touch()
    assert find_records("physionet2019", tmp_path).folder == tmp_path / "challenge-2019-1.0.0"


# -- training, validation and test ----------------------------------------------------------------------------------


NUMBERED = [f"p{number:06}" for number in range(1000)]


def by_name(names: list[str], shares: Shares | None = None) -> dict[str, Part]:
    parts = divide("physionet2019", names, shares)
    return {names[at]: part for part, places in parts.items() for at in places}


def test_seventy_fifteen_fifteen() -> None:
    parts = divide("physionet2019", NUMBERED)
    assert {part: len(places) for part, places in parts.items()} == {
        Part.TRAINING: 700,
        Part.VALIDATION: 150,
        Part.TEST: 150,
    }
    assert sorted(np.concatenate(list(parts.values()))) == list(range(1000))
    assert all((np.diff(places) > 0).all() for places in parts.values())


def test_the_order_of_the_files_does_not_matter() -> None:
    shuffled = [NUMBERED[at] for at in np.random.default_rng(0).permutation(1000)]
    assert by_name(shuffled) == by_name(NUMBERED)


def test_another_seed_or_set_divides_otherwise() -> None:
    first = by_name(NUMBERED)
    other = by_name(NUMBERED, Shares(seed=1))
    # two independent divisions agree on .7^2 + 2 * .15^2 = .535 of the names, give or take .016
    assert 0.47 < np.mean([first[name] == other[name] for name in NUMBERED]) < 0.60
    elsewhere = divide("physionet2021", NUMBERED)
    assert not np.array_equal(elsewhere[Part.TEST], divide("physionet2019", NUMBERED)[Part.TEST])


def test_a_file_less_moves_at_most_one_record_across_each_border() -> None:
    first = by_name(NUMBERED)
    for gone in (0, 500, 999):
        rest = by_name([name for at, name in enumerate(NUMBERED) if at != gone])
        assert sum(part != first[name] for name, part in rest.items()) <= 2


@pytest.mark.parametrize("count", range(3, 12))
def test_every_part_has_a_record(count: int) -> None:
    for shares in (Shares(), Shares(validation=0.49, test=0.49), Shares(validation=0.01, test=0.98)):
        sizes = [len(places) for places in divide("physionet2019", NUMBERED[:count], shares).values()]
        assert min(sizes) >= 1
        assert sum(sizes) == count


def test_what_cannot_be_divided() -> None:
    with pytest.raises(UsageError, match="too few"):
        divide("physionet2019", NUMBERED[:2])
    with pytest.raises(UsageError, match="'p000001' stands for two records"):
        divide("physionet2019", [*NUMBERED, "p000001"])
    for wrong in ({"validation": 0.0}, {"test": 1.0}, {"validation": 0.5, "test": 0.5}, {"seed": -1}):
        with pytest.raises(UsageError, match="split"):
            Shares(**wrong)


# -- made-up samples and checks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_read_back_whole(made_up: Path, name: str) -> None:
    report = check_records(name, made_up)
    assert report.ok
    assert report.summary is not None
    assert report.summary.is_sample
    records = json.loads((made_up / name / MARKER_FILE).read_text())["counts"][FACTS[name]]
    assert report.summary.read == report.summary.files == (records if name in A_FILE_EACH else 6)
    assert report.summary.facts[FACTS[name]] == records
    assert "made-up sample, not the real data" in str(report)
    assert sum(report.parts.values()) == records
    assert json.loads(json.dumps(report.to_dict()))["parts"]["training"] == report.parts[Part.TRAINING]


def test_samples_have_what_there_is_to_learn(made_up: Path) -> None:
    patients, summary = load_patients(made_up)
    assert 10 < patients.septic.sum() < 60
    assert not summary.repairs
    for number, offset in enumerate(patients.offsets[:-1]):
        labels = patients.labels[patients.rows(number)]
        assert (np.diff(labels.astype(int)) >= 0).all(), offset
    reader = EcgReader(find_records("physionet2021", made_up), EcgSettings())
    labels = np.stack([record.labels for record in reader])
    assert (labels.sum(axis=0) > 0).sum() == 4
    assert labels.any(axis=1).all()


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_give_equal_samples(made_up: Path, tmp_path: Path, name: str) -> None:
    again = sample_records(name, tmp_path)
    for path in sorted(path for path in again.rglob("*.*") if path.is_file())[:9]:
        assert path.read_bytes() == (made_up / name / path.relative_to(again)).read_bytes()
    other = sample_records(name, tmp_path / "other", seed=1)
    assert any(
        path.read_bytes() != (again / path.relative_to(other)).read_bytes()
        for path in find_records(name, tmp_path / "other").records
    )
    with pytest.raises(UsageError, match="exists already"):
        sample_records(name, tmp_path)


def test_a_sample_of_another_set_is_told(made_up: Path, tmp_path: Path) -> None:
    folder = tmp_path / "physionet2019"
    folder.mkdir()
    (folder / "p1.psv").touch()
    (folder / MARKER_FILE).write_text((made_up / "physionet2021" / MARKER_FILE).read_text())
    report = check_records("physionet2019", tmp_path)
    assert not report.ok
    assert "a sample of physionet2021" in str(report)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = _run(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.mark.parametrize("name", A_FILE_EACH)
def test_sample_then_check_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    code, out = run(capsys, "data", "sample", name, str(tmp_path))
    assert code == 0
    assert f"Use it with --data-root {tmp_path}" in out
    code, out = run(capsys, "data", "check", name, "--data-root", str(tmp_path))
    assert code == 0
    assert "all read" in out
    bad = find_records(name, tmp_path).records[0]
    bad.write_bytes(b"")
    code, out = run(capsys, "data", "check", name, "--data-root", str(tmp_path))
    assert code == 1
    assert "1 left out" in out
    assert f"{bad.name}: expected" in out
    assert "A run goes on without" in out
    code, out = run(capsys, "data", "check", name, "--data-root", str(tmp_path), "--json")
    assert code == 1
    (row,) = json.loads(out)
    assert row["left_out"] == [
        {"path": str(bad), "expected": row["left_out"][0]["expected"], "found": "an empty file"}
    ]
    for path in find_records(name, tmp_path).records:
        path.write_bytes(b"")
    code, out = run(capsys, "data", "check", name, "--data-root", str(tmp_path))
    assert code == 1
    assert "problems" in out


def test_checks_without_a_data_root(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KDSEARCH_DATA", raising=False)
    code, out = run(capsys, "data", "check", *NAMES)
    assert code == 1
    assert out.count("--data-root") == 1
    assert "physionet2019  PhysioNet/CinC 2019 (sepsis); training_setA and training_setB from https://" in out
    code, out = run(capsys, "data", "check", "physionet2019", "--json")
    assert code == 1
    assert "needs a data root" in json.loads(out)[0]["error"]
    assert run(capsys, "data", "check", "physionet2019", "--data-root", "nowhere")[0] == 2
    code, out = run(capsys, "data", "check", "physionet")
    assert code == 2
    assert "physionet2019, physionet2021, hangzhou, eicu, folder:PATH" in out


# -- the real files -------------------------------------------------------------------------------------------------


def real(name: str, folder: str) -> Path:
    """Return the data root, or skip with what is missing."""
    root = os.environ.get("KDSEARCH_DATA")
    if not root:
        pytest.skip("KDSEARCH_DATA is not set: no real data sets")
    if not (Path(root) / name / folder).is_dir():
        pytest.skip(f"KDSEARCH_DATA has no folder {name}/{folder}")
    return Path(root)


@pytest.mark.data
def test_the_real_patients(tmp_path: Path) -> None:
    root = real("physionet2019", "training_setB")
    (tmp_path / "physionet2019").symlink_to(root / "physionet2019" / "training_setB")
    patients, summary = load_patients(tmp_path)
    assert len(patients) == 4_000
    assert patients.septic.sum() == 227
    assert len(patients.labels) == 150_596
    assert not summary.repairs
    assert not summary.left_out
    assert not summary.is_sample
    assert patients.values.dtype == np.float32
    assert {part: len(places) for part, places in divide("physionet2019", patients.names).items()} == {
        Part.TRAINING: 2_800,
        Part.VALIDATION: 600,
        Part.TEST: 600,
    }


@pytest.mark.data
def test_the_real_patients_of_the_other_hospital(tmp_path: Path) -> None:
    root = real("physionet2019", "training_setA")
    (tmp_path / "physionet2019").symlink_to(root / "physionet2019" / "training_setA")
    patients, summary = load_patients(tmp_path)
    assert len(patients) == 27
    assert PsvRepair.HOUR_ORDER not in {repair.what for repair in summary.repairs}


@pytest.fixture(scope="module")
def real_ecg() -> RecordsReport:
    return check_records("physionet2021", real("physionet2021", ""))


@pytest.mark.data
def test_the_real_records(real_ecg: RecordsReport) -> None:
    summary = real_ecg.summary
    assert real_ecg.ok
    assert summary is not None
    assert summary.read == summary.files == 179  # also those that wfdb cannot read
    repairs = {repair.what: (repair.files, repair.items) for repair in summary.repairs}
    assert repairs["constant or empty leads, taken as missing"] == (5, 23)  # JS11438 and others have them
    assert repairs["headers that name another record than their file"] == (13, 13)  # `E00015.mat 12 500 5000`
    assert repairs["records longer than the window, cut to their middle"] == (21, 21)
    assert "signals whose checksum does not agree, taken as they are" not in repairs
    assert real_ecg.parts == {Part.TRAINING: 125, Part.VALIDATION: 27, Part.TEST: 27}


@pytest.mark.data
def test_the_real_records_have_the_codes_of_the_manifest(real_ecg: RecordsReport) -> None:
    import csv

    root = real("physionet2021", "")
    with (root / "physionet2021" / "MANIFEST.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    index = scored_classes().index
    codes = [row["dx"].split(",") for row in rows]
    labels = sum(len({index[code] for code in record if code in index}) for record in codes)
    unscored = sum(len({code for code in record if code not in index}) for record in codes)
    summary = real_ecg.summary
    assert summary is not None
    assert summary.facts["labels"] == labels
    assert sum(summary.codes.values()) == unscored
