"""Shared files: in a folder, and under URLs opened by pyarrow and by fsspec."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.storage import (
    SHARED,
    Remote,
    StorageError,
    check_storage,
    described,
    is_url,
    storage_of,
)


@pytest.fixture(params=["folder", "pyarrow", "fsspec"])
def case(request, tmp_path):
    """A storage and the driver's folder."""
    folder = tmp_path / "driver"
    if request.param == "folder":
        return SHARED, folder
    there = tmp_path / "there"
    there.mkdir()
    url = f"file://{there}" if request.param == "pyarrow" else f"memory://{there}"
    return Remote(url, folder), folder


def test_files_go_there_and_back_and_can_be_deleted(case, tmp_path):
    storage, folder = case
    path = folder / "checkpoints" / "s" / "3-5.pt"
    assert not storage.exists(path)
    assert storage.names(path.parent) == []
    with pytest.raises((OSError, StorageError)):
        storage.read(path)
    storage.save(path, lambda to: to.write_bytes(b"weights" * 1000))
    assert storage.exists(path)
    assert storage.read(path) == b"weights" * 1000
    assert storage.fetch(path, tmp_path / "cache").read_bytes() == b"weights" * 1000
    storage.write(path, b"other")
    storage.write(path.with_name("4-1.pt"), b"")
    assert sorted(storage.names(path.parent)) == ["3-5.pt", "4-1.pt"]
    assert storage.path(storage.place(path)) == path
    storage.delete(path)
    storage.delete(path)
    assert storage.names(path.parent) == ["4-1.pt"]
    storage.clear(path.parent)
    storage.clear(path.parent)
    assert storage.names(path.parent) == []


def test_a_worker_opens_what_the_driver_has(case):
    storage, folder = case
    again = storage_of(described(storage))
    again.write(folder / "a", b"1")
    assert storage.read(folder / "a") == b"1"


def test_a_file_is_there_whole_or_not_at_all(case):
    storage, folder = case
    path = folder / "3-5.pt"
    storage.write(path, b"the one before")

    def breaks(to: Path) -> None:
        if storage is not SHARED:  # packs keep to this by themselves
            to.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        storage.save(path, breaks)
    assert storage.read(path) == b"the one before"
    assert storage.names(folder) == ["3-5.pt"]


def test_what_breaks_on_the_way_leaves_no_part(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    storage = Remote(f"file://{tmp_path / 'there'}", tmp_path / "driver")
    monkeypatch.setattr(storage, "_size", lambda at: 3)
    with pytest.raises(StorageError, match=r"cannot write file://.*there/a: 3 of 5 bytes arrived"):
        storage.write(tmp_path / "driver" / "a", b"12345")
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAIOSFODNN7:planted-word@bucket/folder",
        "s3://planted-word@bucket/folder",
        "hdfs://me:planted-word@host/folder",
        "abfss://container@account/x?sas_token=planted-word",
        "s3://bucket/x?secret_key=planted-word&region=eu",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(url, tmp_path):
    for call in (lambda: check_storage(url), lambda: Remote(url, tmp_path)):
        with pytest.raises(UsageError, match="holds a secret") as caught:
            call()
        assert "planted-word" not in f"{caught.value} {caught.value.hint}"


def test_places_that_hold_no_secret_are_taken():
    for place in ("s3://bucket/x?region=eu&endpoint_override=minio:9000", "hdfs://me@host/x", "/a:b@c", "a"):
        check_storage(place)
    assert is_url("gs://b")
    assert not is_url("C/://x"[:2])


def test_a_kind_of_url_that_nobody_knows_is_refused(tmp_path):
    with pytest.raises(UsageError, match="the storage nowhere://x cannot be opened") as caught:
        Remote("nowhere://x", tmp_path)
    assert "s3://BUCKET/FOLDER" in caught.value.hint


def test_a_storage_that_cannot_say_whether_a_file_is_there_says_so(case, monkeypatch):
    storage, folder = case

    def away(*_, **__):
        raise PermissionError("no entry")

    monkeypatch.setattr(Path, "stat", away)
    monkeypatch.setattr(Remote, "_size", away)
    with pytest.raises(StorageError, match=r"cannot look for .*/3-5\.pt: no entry"):
        storage.exists(folder / "3-5.pt")
