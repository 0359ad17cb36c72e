"""What a machine says of itself, and what is taken for a difference."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kdsearch.trainables.node_check import code_digest, differences, look, root_here, versions

SWEEP = {"kind": "ktg", "settings": {"": {"data": "digits"}}, "data_root": None, "storage": None}


def expected(**changes):
    return {"versions": versions(), "code": code_digest(), "contents": None, **changes}


def test_a_machine_that_has_what_the_driver_has_differs_in_nothing(tmp_path):
    sign = tmp_path / "sign"
    sign.write_text("word")
    found = look({**SWEEP, "sign": str(sign), "word": "word", "mine": str(tmp_path / "mine")})
    assert found["storage"] is None
    assert (tmp_path / "mine").read_text() == "word"
    assert differences(found, expected(contents=found["contents"])) == []
    assert len(found["contents"][""]) == 32


def test_differences_are_told_one_by_one():
    found = look(SWEEP)
    other = {**versions(), "ray": "1.0"}
    told = differences(found, expected(versions=other, code="other", contents={"": "other"}))
    assert told[0] == f"ray {versions()['ray']}, not 1.0"
    assert told[1] == "another version or state of kdsearch's code than the driver's"
    assert told[2].startswith("other data than on the driver (data root there: ")


def test_data_that_cannot_be_read_are_told_with_what_to_do(tmp_path):
    found = look({**SWEEP, "settings": {"": {"data": "fashion-mnist"}}, "data_root": str(tmp_path)})
    assert found["contents"] is None
    (told,) = differences(found, expected())
    assert told.startswith("the data cannot be read there: ")
    assert str(tmp_path) in told
    assert re.search(r"[^.\s]\. [A-Z]", told)  # what is wrong, and then what to do


@pytest.mark.parametrize(
    ("word", "says"), [(None, "No such file"), ("else", "another file than the driver wrote")]
)
def test_a_storage_that_is_not_shared_is_told_and_not_written(tmp_path, word, says):
    sign = tmp_path / "far" / "sign"
    if word is not None:
        sign.parent.mkdir()
        sign.write_text(word)
    found = look({**SWEEP, "sign": str(sign), "word": "word", "mine": str(tmp_path / "far" / "mine")})
    assert says in found["storage"]
    assert not (tmp_path / "far" / "mine").exists()
    assert (tmp_path / "far").exists() is (word is not None)  # no folder is left where none was


@pytest.mark.parametrize(
    ("given", "own", "drivers", "root"),
    [
        ("/given", "/own", "/drivers", "/given"),
        (None, "/own", "/drivers", None),  # a kind looks into the environment
        (None, "", "/drivers", "/drivers"),
        (None, "", None, None),
    ],
)
def test_the_data_root_of_a_machine(monkeypatch, given, own, drivers, root):
    monkeypatch.setenv("KDSEARCH_DATA", own)
    found = root_here({"data_root": given, "drivers_root": drivers})
    assert found == (None if root is None else Path(root))
