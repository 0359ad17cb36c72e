"""Names, data root, bundled digits, samples, and what is said when nothing is there."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.data import (
    CheckReport,
    DataError,
    ImageData,
    Problem,
    check,
    data_set,
    data_set_names,
    forget_loaded,
    load_images,
    resolve_data_root,
    sample,
)
from kdsearch.trainables.data.registry import SAMPLED
from kdsearch.trainables.data.samples import WRITERS


def test_names() -> None:
    assert data_set_names() == (
        "digits",
        "fashion-mnist",
        "cifar-10",
        "cifar-10-first4000",
        "cifar-10-imagefolder",
        "cifar-100",
        "cinic-10",
        "tiny-imagenet",
    )
    assert set(WRITERS) == SAMPLED


def test_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    for call in (load_images, check, sample):
        with pytest.raises(UnknownNameError) as caught:
            call("cifar10", tmp_path)
        assert "cifar-10" in str(caught.value)
        assert "folder:PATH" in str(caught.value)


def test_nothing_but_batches_imports_torch_or_scikit_learn() -> None:
    code = (
        "import sys, kdsearch.trainables.data as d; d.check('cifar-10', '.'); d.DataSettings(name='digits');"
        "sys.exit(bool({'torch', 'sklearn', 'ray'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- data root ------------------------------------------------------------------------------------------------------


def test_data_root_is_explicit_then_environment_then_none(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    environment = {"KDSEARCH_DATA": str(tmp_path / "b")}
    assert resolve_data_root(tmp_path / "a", environment) == tmp_path / "a"
    assert resolve_data_root(None, environment) == tmp_path / "b"
    assert resolve_data_root("", environment) == tmp_path / "b"
    assert resolve_data_root(None, {}) is None
    assert resolve_data_root(None, {"KDSEARCH_DATA": ""}) is None


def test_data_root_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"KDSEARCH_DATA.* does not exist"):
        resolve_data_root(None, {"KDSEARCH_DATA": str(tmp_path / "none")})
    with pytest.raises(DataError, match=r"--data-root.* is not a folder"):
        resolve_data_root(tmp_path / "file", {})


def test_a_data_root_that_the_command_line_took_from_the_environment_is_told_as_such(tmp_path: Path) -> None:
    none, other = tmp_path / "none", {"KDSEARCH_DATA": str(tmp_path / "other")}
    with pytest.raises(DataError, match=r"from KDSEARCH_DATA\) does not exist"):
        resolve_data_root(none, {"KDSEARCH_DATA": f"{none}/"})
    with pytest.raises(DataError, match=r"from --data-root\) does not exist"):
        resolve_data_root(none, other)


def test_missing_data_root_says_how_to_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KDSEARCH_DATA", raising=False)
    with pytest.raises(DataError) as caught:
        load_images("cifar-100")
    text = str(caught.value)
    assert "--data-root" in text
    assert "KDSEARCH_DATA" in text
    assert "cifar-100-binary.tar.gz or cifar-100-python.tar.gz from https://www.cs.toronto.edu" in text
    report = check("cifar-100")
    assert "--data-root or KDSEARCH_DATA, found none given" in str(report.problems[0])


def test_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample("fashion-mnist", tmp_path)
    monkeypatch.setenv("KDSEARCH_DATA", str(tmp_path))
    assert len(load_images("fashion-mnist").train_labels) == 600
    assert check("fashion-mnist").ok


# -- absent data sets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in data_set_names() if name != "digits"])
def test_absent_data_set_names_folder_files_and_source(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        load_images(name, tmp_path)
    error = caught.value
    assert error.exit_code == 2
    assert isinstance(error, UsageError)
    assert len(error.problems) == 1
    assert error.problems[0].path == str(tmp_path / name)
    assert error.problems[0].found == "no such folder"
    assert "https://" in str(error)
    assert f"kdsearch data check {name}" in str(error)
    assert f"kdsearch data sample {name}" in str(error)
    (tmp_path / name).mkdir()
    assert check(name, tmp_path).problems[0].found == "an empty folder"
    (tmp_path / name / "README").touch()
    assert check(name, tmp_path).problems[0].found == "a folder with README"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.problems, again.hint) == (str(error), error.problems, error.hint)


def test_archive_that_is_not_unpacked_is_seen(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").touch()
    assert "cifar-10-python.tar.gz, which is not unpacked yet" in str(check("cifar-10", tmp_path))


def test_many_problems_are_cut_short() -> None:
    problems = [Problem(f"file-{number}", "a", "b") for number in range(12)]
    text = str(DataError.of("x", problems, "hint"))
    assert "has 12 problems" in text
    assert "file-9:" in text
    assert "file-10" not in text
    assert "and 2 more" in text
    report = CheckReport(name="x", title="X", folder=None, files=0, problems=tuple(problems), hint="hint")
    assert "X: 12 problems" in str(report)
    assert "and 2 more" in str(report)
    error = report.error()
    assert error is not None
    assert error.problems == tuple(problems)


# -- digits ---------------------------------------------------------------------------------------------------------


def test_digits() -> None:
    data = load_images("digits")
    assert data.train_images.shape == (1440, 1, 8, 8)
    assert data.test_images.shape == (357, 1, 8, 8)
    assert data.class_names == tuple("0123456789")
    assert (data.train_images.min(), data.train_images.max()) == (0, 255)
    bundle = load_digits()
    known = {np.rint(image * 255 / 16).astype(np.uint8).tobytes() for image in bundle.images}
    images = np.concatenate([data.train_images, data.test_images])
    assert {image.tobytes() for image in images} == known
    # in proportion: every class's share of the test part is within one image of 357/1797
    totals = np.bincount(bundle.target)
    share = np.bincount(data.test_labels) - totals * 357 / 1797
    assert np.abs(share).max() <= 1


def test_digits_parts_never_change() -> None:
    """Every published error on digits rests on these parts: a change of this hash is a change of the data set."""
    data = load_images("digits")
    digest = hashlib.sha256(data.test_images.tobytes() + data.test_labels.astype("<i8").tobytes()).hexdigest()
    assert digest == "0f182853e0fe6ab5bff3bca15381256446ce8e9c2ecbec445db0f40c4d23e2e0"


def test_loaded_once_and_read_only() -> None:
    data = load_images("digits")
    assert load_images("digits") is data
    with pytest.raises(ValueError, match="read-only"):
        data.train_images[0] = 0
    forget_loaded()
    assert load_images("digits") is not data


def test_digits_check_and_sample(tmp_path: Path) -> None:
    report = check("digits")
    assert report.ok
    assert "1,440 training and 357 test images of 10 classes, 8x8 grey" in str(report)
    assert "bundled" in str(report)
    with pytest.raises(UsageError, match="nothing to make up"):
        sample("digits", tmp_path)
    with pytest.raises(UsageError, match="your own images"):
        sample("folder:mine", tmp_path)


# -- samples --------------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", sorted(SAMPLED))
def test_sample_is_read_and_says_that_it_is_one(tmp_path: Path, name: str) -> None:
    folder = sample(name, tmp_path / "one", seed=3)
    assert folder == tmp_path / "one" / name
    report = check(name, tmp_path / "one")
    assert report.ok, str(report)
    assert report.is_sample
    assert "made-up sample" in str(report)
    data = load_images(name, tmp_path / "one")
    assert data.is_sample
    assert (report.train, report.test) == (len(data.train_labels), len(data.test_labels))
    assert (report.classes, report.shape) == (data.classes, data.shape)
    assert set(data.train_labels) == set(range(data.classes))
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True
    assert list((tmp_path / "one").iterdir()) == [folder]  # no scratch left
    with pytest.raises(UsageError, match="exists already"):
        sample(name, tmp_path / "one")


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar-100", "cinic-10", "cifar-10-imagefolder"])
def test_samples_depend_on_the_seed_alone(tmp_path: Path, name: str) -> None:
    first, again, other = (
        contents(sample(name, tmp_path / folder, seed))
        for folder, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert first == again
    assert first != other


def test_sample_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        sample("cifar-10", tmp_path / "file")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{", "something else"),
        ("[]", "something else"),
        ('{"data_set": "cifar-10", "seed": 1, "counts": {"a": "b"}}', "something else"),
        ('{"data_set": "cifar-100", "seed": 1, "counts": {}}', "a sample of cifar-100"),
        ('{"data_set": "cifar-10", "seed": 1, "counts": {"data_batch_1.bin": 999999999}}', "999999999"),
        ('{"data_set": "cifar-10", "seed": 1, "counts": {"other": 1}}', "other"),
    ],
)
def test_wrong_markers_are_named(tmp_path: Path, content: str, found: str) -> None:
    folder = sample("cifar-10", tmp_path)
    (folder / "KDSEARCH_SAMPLE.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_images("cifar-10", tmp_path)
    assert "KDSEARCH_SAMPLE.json" in caught.value.problems[0].path
    assert found in caught.value.problems[0].found


# -- values ---------------------------------------------------------------------------------------------------------


def test_image_data_refuses_other_arrays() -> None:
    images, labels = np.zeros((2, 1, 4, 4), np.uint8), np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="training images"):
        ImageData("x", images.astype(float), labels, images, labels, ("a",))
    with pytest.raises(ValueError, match="test labels"):
        ImageData("x", images, labels, images, labels[:1], ("a",))


def test_every_data_set_knows_its_augmentation() -> None:
    paper = [
        name for name in data_set_names() if data_set(name).augmentation == data_set("cifar-100").augmentation
    ]
    assert paper == [
        "cifar-10",
        "cifar-10-first4000",
        "cifar-10-imagefolder",
        "cifar-100",
        "cinic-10",
        "tiny-imagenet",
    ]
    augmentation = data_set("cifar-100").augmentation
    assert (augmentation.pad, augmentation.mode, augmentation.flip) == (4, "reflect", True)
    assert data_set("digits").augmentation.flip is False
