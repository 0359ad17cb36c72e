"""Data sets from others: links that lead elsewhere, devices, pipes, and files that unpack to far more than they are."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdsearch.search.exchange.text_tables import read_text_table
from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.data import inside as bounds
from kdsearch.trainables.data.findings import DataError, Findings, reason
from kdsearch.trainables.data.inside import Inside, UnsafeFileError, unpacked
from kdsearch.trainables.data.loading import check
from kdsearch.trainables.data.pickled import RefusedPickleError, load_plain
from kdsearch.trainables.data.samples import sample
from kdsearch.trainables.data.trees import FolderTree, ImageReadError, ZipTree, image_shape
from kdsearch.trainables.records.checking import check_records
from kdsearch.trainables.records.made_up import sample_records
from kdsearch.trainables.records.sets import find_records


@pytest.fixture
def secret(tmp_path) -> Path:
    """A file that no data set has a business with."""
    path = tmp_path / "elsewhere" / "secret"
    path.parent.mkdir()
    path.write_bytes(b"secret")
    return path


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.delenv(bounds.FOLLOW, raising=False)
    path = tmp_path / "root"
    path.mkdir()
    return path


def test_what_lies_inside_is_opened_and_what_a_link_leads_out_to_is_not(root, secret, monkeypatch):
    inside = Inside(root)
    (root / "set").mkdir()
    (root / "set" / "own").write_bytes(b"own")
    (root / "set" / "link").symlink_to(root / "set" / "own")
    (root / "set" / "out").symlink_to(secret)
    (root / "set" / "out of the folder").symlink_to(secret.parent)
    for name in ("own", "link"):
        with inside.open(root / "set" / name) as file:
            assert file.read() == b"own"
    ways_out = [
        root / "set" / "out",
        root / "set" / "out of the folder" / "secret",
        root / "set" / ".." / ".." / "elsewhere" / "secret",
        secret,
    ]
    for path in ways_out:
        with pytest.raises(UnsafeFileError) as refused:
            inside.open(path)
        assert "leads out of the data set" in reason(refused.value)
        assert str(secret) in reason(refused.value)
    with pytest.raises(FileNotFoundError):
        inside.open(root / "set" / "none")
    with pytest.raises(IsADirectoryError):
        inside.open(root / "set")
    monkeypatch.setenv(bounds.FOLLOW, "1")
    with inside.open(root / "set" / "out") as file:
        assert file.read() == b"secret"


def test_a_neighbour_whose_name_begins_alike_is_outside(tmp_path, root):
    (tmp_path / "root-2").write_bytes(b"")
    with pytest.raises(UnsafeFileError):
        Inside(root).open(tmp_path / "root-2")


def test_the_folder_of_a_data_set_may_be_a_link(tmp_path, root, secret):
    (root / "set").symlink_to(secret.parent)
    with Inside(root / "set", root).open(root / "set" / "secret") as file:
        assert file.read() == b"secret"


def test_pipes_and_devices_are_refused_and_not_waited_for(root):
    os.mkfifo(root / "pipe")
    with pytest.raises(UnsafeFileError, match="a pipe"):
        Inside(root).open(root / "pipe")
    with pytest.raises(UnsafeFileError, match="a device"):
        Inside(Path("/dev")).open(Path("/dev/null"))


def test_images_behind_links_that_lead_out_are_named(root, secret):
    folder = root / "tree" / "train" / "cat"
    folder.mkdir(parents=True)
    (folder / "a.png").symlink_to(secret)
    tree = FolderTree(root / "tree")
    assert tree.files("train/cat") == ["a.png"]
    with pytest.raises(ImageReadError, match="leads out of the data set"):
        tree.read("train/cat/a.png")


def test_a_data_set_with_a_link_that_leads_out_is_refused_by_name(root, secret):
    sample("cifar-10", root)
    batch = next(root.rglob("data_batch_3*"))
    content = batch.read_bytes()
    batch.unlink()
    other = secret.with_name("batch")
    other.write_bytes(content)
    batch.symlink_to(other)
    report = check("cifar-10", root)
    assert [(problem.path, problem.found.partition(",")[0]) for problem in report.problems] == [
        (str(batch), "a link that leads out of the data set")
    ]


@pytest.mark.parametrize("make", ["link", "folder", "pipe"])
def test_records_that_lie_elsewhere_or_are_no_files_are_refused_by_name(make, root, secret):
    sample_records("physionet2019", root)
    folder = find_records("physionet2019", root).records[0].parent
    bad = folder / "p999999.psv"
    if make == "link":
        bad.symlink_to(secret)
    elif make == "folder":
        (secret.parent / "p999999.psv").write_text("HR|SepsisLabel\n80|0\n")
        bad = folder / "linked"
        bad.symlink_to(secret.parent)
    else:
        os.mkfifo(bad)
    with pytest.raises(DataError, match=str(bad)):
        find_records("physionet2019", root)
    report = check_records("physionet2019", root)
    assert not report.ok


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a/../../x.png", "C:/x.png", "a\\..\\x.png"])
def test_members_of_a_zip_that_reach_outside_are_refused(name, tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"")
    with pytest.raises(ImageReadError, match="unsafe member name"):
        ZipTree(path)


def test_a_member_that_unpacks_to_gigabytes_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/cat/a.png", bytes(65 << 20))
    tree = ZipTree(path)
    with pytest.raises(ImageReadError, match="more than 64 MiB"):
        tree.read("train/cat/a.png")
    tree.close()


def test_an_image_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "a.png"
    Image.new("1", (5_000, 5_000)).save(path)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ImageReadError, match="5000x5000"):
        image_shape(path.read_bytes())


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_a_table_that_unpacks_to_far_more_than_it_is_is_refused(suffix, pack, tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "MOST_UNPACKED", 1 << 16)
    small = tmp_path / f"small.csv{suffix}"
    small.write_bytes(pack(b"a,error\n1,2\n"))
    assert read_text_table(small).columns == {"a": ["1"], "error": ["2"]}
    bomb = tmp_path / f"bomb.csv{suffix}"
    bomb.write_bytes(pack(b"a,error\n" + b"1,2\n" * 4_000_000))
    with unpacked(bomb) as file, pytest.raises(UnsafeFileError, match="times its size"):
        sum(map(len, iter(lambda: file.read(1 << 16), b"")))
    with pytest.raises(UsageError, match="times its size"):
        read_text_table(bomb)


def test_a_file_that_is_too_large_is_noted_and_not_kept(root, monkeypatch):
    monkeypatch.setattr("kdsearch.trainables.data.findings.MAX_FILE_BYTES", 1 << 20)
    with (root / "large").open("wb") as file:
        file.truncate((1 << 20) + 1)
    findings = Findings("x", "hint", collect_all=True)
    assert findings.read(root / "large", "a file") is None
    assert findings.problems[0].found == "more than 1 MiB"


def test_a_pickle_whose_lists_hold_each_other_is_refused_in_no_time():
    value: list[object] = []
    for _ in range(40):
        value = [value, value, value, value]
    with pytest.raises(RefusedPickleError, match="more than 10,000,000 values"):
        load_plain(pickle.dumps(value))
    fine = {b"labels": [1, 2], b"data": np.zeros((2, 3), dtype=np.uint8)}
    assert load_plain(pickle.dumps(fine))[b"labels"] == [1, 2]


def test_a_parquet_table_that_says_it_has_billions_of_cells_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"a": [1.0] * 1000, "error": [2.0] * 1000}).to_parquet(path)
    assert read_text_table(path).size == 1000
    monkeypatch.setattr(bounds, "MOST_CELLS", 1999)
    with pytest.raises(UsageError, match="1,000 rows and 2 columns"):
        read_text_table(path)
