"""The cache of prepared arrays: entries are whole or not there, whoever else is at work and whatever goes wrong."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdsearch.spaces.errors import UsageError
from kdsearch.trainables.records import cache as module
from kdsearch.trainables.records.cache import Cache, CacheError, Draft, Entry, cache_folder

KEY = "set-0123abcd"
VALUES = np.arange(24, dtype=np.float32).reshape(4, 3, 2)


def make(draft: Draft) -> Mapping[str, Any]:
    with draft.growing("values", np.float32, (3, 2)) as values:
        values.append(VALUES[:1])
        values.append(VALUES[1:])
    draft.add("labels", np.array([True, False, True, True]))
    draft.add("none", np.empty((0, 5), dtype=np.int64))
    return {"names": ("a", "b"), "count": np.int64(4)}


def never(draft: Draft) -> Mapping[str, Any]:
    raise AssertionError("made again")


def whole(entry: Entry) -> bool:
    return np.array_equal(entry.mapped("values"), VALUES) and entry.meta == {"names": ["a", "b"], "count": 4}


def drafts(folder: Path) -> list[Path]:
    return list((folder / "prepared").glob(".*"))


# -- where it is ----------------------------------------------------------------------------------------------------


def test_the_folder_is_the_first_that_is_given(tmp_path: Path) -> None:
    everything = {"KDSEARCH_CACHE": "/one", "XDG_CACHE_HOME": "/two", "HOME": str(tmp_path)}
    assert cache_folder("/zero", everything) == Path("/zero")
    assert cache_folder(None, everything) == Path("/one")
    assert cache_folder("", {**everything, "KDSEARCH_CACHE": ""}) == Path("/two/kdsearch")
    for relative in ("", "cache"):  # as the specification of XDG_CACHE_HOME has it, that is no path
        assert cache_folder(None, {"XDG_CACHE_HOME": relative}) == Path.home() / ".cache" / "kdsearch"
    assert cache_folder("here").is_absolute()
    assert cache_folder("~/there") == Path.home() / "there"


def test_no_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(_: object = None) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(CacheError, match="home directory") as caught:
        cache_folder(None, {})
    assert "KDSEARCH_CACHE" in str(caught.value)


# -- entries --------------------------------------------------------------------------------------------------------


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    first = Cache(tmp_path).entry(KEY, make)
    again = Cache(tmp_path).entry(KEY, never)
    for entry in (first, again):
        assert whole(entry)
        assert np.array_equal(entry.read("labels"), [True, False, True, True])
        assert entry.mapped("none").shape == (0, 5)
    mapped = again.mapped("values")
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    assert not drafts(tmp_path)
    other = Cache(tmp_path).entry("set-4567", lambda draft: {"other": 1})
    assert other.meta == {"other": 1}
    assert whole(Cache(tmp_path).entry(KEY, never))


def test_rows_of_another_shape_are_refused(tmp_path: Path) -> None:
    def wrong(draft: Draft) -> Mapping[str, Any]:
        with draft.growing("values", np.float32, (3,)) as values:
            values.append(np.zeros((2, 4)))
        return {}

    with pytest.raises(ValueError, match="rows of shape"):
        Cache(tmp_path).entry(KEY, wrong)


def cut(folder: Path) -> None:
    os.truncate(folder / "values", 40)


def longer(folder: Path) -> None:
    with (folder / "values").open("ab") as file:
        file.write(b"\0")


def flipped(folder: Path) -> None:
    content = bytearray((folder / "values").read_bytes())
    content[17] ^= 1
    (folder / "values").write_bytes(content)


def zeroed(folder: Path) -> None:  # as after a crash of the machine
    (folder / "labels").write_bytes(bytes((folder / "labels").stat().st_size))


def without_array(folder: Path) -> None:
    (folder / "labels").unlink()


def without_manifest(folder: Path) -> None:
    (folder / "entry.json").unlink()


def half_a_manifest(folder: Path) -> None:
    os.truncate(folder / "entry.json", 60)


def another_manifest(folder: Path) -> None:
    (folder / "entry.json").write_text("[1, 2]")


def changed_manifest(folder: Path) -> None:
    path = folder / "entry.json"
    path.write_text(path.read_text().replace('"a"', '"c"'))


def manifest_of_another_key(folder: Path) -> None:
    path = folder / "entry.json"
    body = {**json.loads(path.read_text())["body"], "key": "set-4567"}
    path.write_text(json.dumps({"seal": module._seal(body), "body": body}))


def a_file(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("no folder")


@pytest.mark.parametrize(
    "damage",
    [
        *(cut, longer, flipped, zeroed, without_array, without_manifest, half_a_manifest, another_manifest),
        *(changed_manifest, manifest_of_another_key, a_file),
    ],
)
def test_a_damaged_entry_is_made_again(tmp_path: Path, damage: Any) -> None:
    held = Cache(tmp_path).entry(KEY, make).mapped("values")
    damage(tmp_path / "prepared" / KEY)
    assert whole(Cache(tmp_path).entry(KEY, make))
    assert whole(Cache(tmp_path).entry(KEY, never))
    assert not drafts(tmp_path)
    if damage not in (cut, longer, flipped):
        assert np.array_equal(held, VALUES)  # who has it open keeps it


def test_a_large_array_is_checked_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WHOLE_BYTES", 1_000)
    monkeypatch.setattr(module, "BLOCKS", 3)
    monkeypatch.setattr(module, "BLOCK_BYTES", 10)

    def large(draft: Draft) -> Mapping[str, Any]:
        draft.add("values", np.zeros(10_001, dtype=np.uint8))
        return {}

    path = Cache(tmp_path).entry(KEY, large).folder / "values"
    for place, found in ((0, True), (9, True), (5_000, True), (10_000, True), (10, False), (9_990, False)):
        content = bytearray(10_001)
        content[place] = 1
        path.write_bytes(content)
        assert (Entry.open(path.parent, KEY) is None) is found, place


# -- what goes wrong ------------------------------------------------------------------------------------------------


def test_what_making_raises_goes_on_and_leaves_nothing(tmp_path: Path) -> None:
    def broken(draft: Draft) -> Mapping[str, Any]:
        make(draft)
        raise UsageError("no records")

    with pytest.raises(UsageError, match="no records"):
        Cache(tmp_path).entry(KEY, broken)
    assert not list((tmp_path / "prepared").iterdir())
    assert whole(Cache(tmp_path).entry(KEY, make))


def test_an_error_of_the_records_is_not_told_as_one_of_the_cache(tmp_path: Path) -> None:
    def unreadable(draft: Draft) -> Mapping[str, Any]:
        with draft.growing("values", np.float32, ()):
            raise OSError(5, "Input/output error", "record")

    with pytest.raises(OSError, match="record") as caught:
        Cache(tmp_path).entry(KEY, unreadable)
    assert not isinstance(caught.value, CacheError)


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="cannot be written") as caught:
        Cache(tmp_path / "file").entry(KEY, make)
    assert str(tmp_path / "file") in str(caught.value)
    assert "KDSEARCH_CACHE" in str(caught.value)
    assert caught.value.exit_code == 2
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args


def test_an_entry_in_a_folder_that_cannot_be_written_to_is_used(tmp_path: Path) -> None:
    Cache(tmp_path).entry(KEY, make)
    for path in (tmp_path / "locks").iterdir():
        path.unlink()
    (tmp_path / "locks").rmdir()
    (tmp_path / "locks").touch()
    assert whole(Cache(tmp_path).entry(KEY, never))
    assert Cache(tmp_path).entry("set-4567", make)  # locks are a courtesy


def test_too_little_room_is_told_beforehand(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"GB left, and the prepared records need about 1000000.0 GB"):
        Cache(tmp_path).entry(KEY, never, needs_bytes=10**15)


def run(code: str, folder: Path) -> subprocess.Popen[str]:
    """Start a process in which `cache`, `make`, `module` and KEY are at hand."""
    head = f"""
        import os, sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_records_cache import *
        folder = Path({str(folder)!r})
        cache = Cache(folder)
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> str:
    out, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    return out


def test_a_disk_that_fills_up_is_told_and_cleared(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="no limits on file sizes on this system")
    code = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))  # writing beyond 50 bytes fails
        try:
            cache.entry(KEY, make)
        except CacheError as error:
            print(error)
    """
    told = ended(run(code, tmp_path))
    assert "the cache cannot be written" in told
    assert "values" in told
    assert "KDSEARCH_CACHE" in told
    assert not list((tmp_path / "prepared").iterdir())


# -- several processes ----------------------------------------------------------------------------------------------

TOGETHER = """
    def counted(draft):
        print("made")
        (folder / f"started-{os.getpid()}").touch()
        while len(list(folder.glob("started-*"))) < AT_ONCE:
            time.sleep(0.01)
        return make(draft)

    entry = cache.entry(KEY, counted)
    print("whole" if whole(entry) else "not whole")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no locks on this system")
def test_processes_that_want_the_same_entry_make_it_once(tmp_path: Path) -> None:
    processes = [run("AT_ONCE = 1" + textwrap.dedent(TOGETHER), tmp_path) for _ in range(3)]
    out = "".join(map(ended, processes))
    assert out.count("made") == 1
    assert out.count("whole") == 3
    assert "not whole" not in out


def test_without_locks_each_makes_it_and_one_remains(tmp_path: Path) -> None:
    code = "module._locked = lambda file, *, wait: False\nAT_ONCE = 2" + textwrap.dedent(TOGETHER)
    out = "".join(map(ended, [run(code, tmp_path) for _ in range(2)]))
    assert out.count("made") == 2
    assert out.count("whole") == 2
    assert "not whole" not in out
    assert [path.name for path in (tmp_path / "prepared").iterdir()] == [KEY]


@pytest.mark.skipif(sys.platform == "win32", reason="no locks on this system")
def test_what_a_killed_process_left_is_cleared_and_what_a_living_one_makes_is_not(tmp_path: Path) -> None:
    code = """
        def slow(draft):
            make(draft)
            (folder / f"ready-{KEY}").touch()
            time.sleep(60)

        cache.entry(KEY, slow)
    """
    process = run(code, tmp_path)
    try:
        while not (tmp_path / f"ready-{KEY}").exists():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        Cache(tmp_path).entry("set-4567", make)
        assert len(drafts(tmp_path)) == 1  # the other is at work on it
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert len(drafts(tmp_path)) == 1
    assert Entry.open(drafts(tmp_path)[0], KEY) is None
    assert whole(Cache(tmp_path).entry(KEY, make))
    assert not drafts(tmp_path)
