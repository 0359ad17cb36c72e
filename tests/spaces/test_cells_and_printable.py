from __future__ import annotations

import csv
import io
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdsearch.spaces.cells import guarded, guarded_frame, unguarded
from kdsearch.spaces.errors import SpaceError
from kdsearch.spaces.files import MAX_BYTES, parse_yaml, text_of
from kdsearch.spaces.printable import printable


@given(st.text())
def test_a_guarded_cell_reads_back_and_is_no_formula(text):
    cell = guarded(text)
    assert unguarded(cell) == text
    if cell[:1] in set("=+-@\t\r"):
        assert float(cell) is not None  # a number, and no formula


@given(st.one_of(st.integers(), st.floats()))
def test_numbers_stay_as_they_are(value):
    assert guarded(repr(value)) == repr(value)


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-x", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''-a"])
def test_formulas_have_an_apostrophe_in_front(text):
    assert guarded(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-1", "+0.5e-3", "-inf", "", "it's", "'quoted'", "a=b", "label->target"])
def test_other_texts_stay(text):
    assert guarded(text) == text


def test_a_frame_is_guarded_with_its_columns():
    frame = guarded_frame(pd.DataFrame({"=a": ["=x", "y"], "b": [-1.5, 2.0]}))
    assert list(csv.reader(io.StringIO(frame.to_csv(index=False)))) == [
        ["'=a", "b"],
        ["'=x", "-1.5"],
        ["y", "2.0"],
    ]


def test_control_characters_are_told_by_their_code():
    assert printable("a\x1b[31mb\x07\r\x9b\u202e") == "a\\x1b[31mb\\x07\\r\\x9b\\u202e"
    assert printable("tab\tand\nline, ä and 蒸留 → stay") == "tab\tand\nline, ä and 蒸留 → stay"


def bomb(width: int, depth: int) -> str:
    names = [f"a{level}" for level in range(depth)]
    first = f"{names[0]}: &{names[0]} [{','.join('x' * width)}]\n"
    rest = [f"{name}: &{name} [{','.join([f'*{before}'] * width)}]\n" for before, name in pairwise(names)]
    return first + "".join(rest)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (bomb(10, 9), "more than 1,000,000 values"),  # 10^9, of 300 characters
        ("a: &a [*a]", "a value holds itself"),
        ("a: &a {b: *a}", "a value holds itself"),
        ("[" * 100_000, "nested too deeply"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("a: !!python/object/new:subprocess.Popen [[true]]", "could not determine a constructor"),
        ('a: "\\e[31mred"', "a control character"),
        ('"\\u202ea": 1', "a control character"),
        ("a: 1\na: 2", "stands twice"),
    ],
)
def test_yaml_that_is_no_plain_data_is_refused(text, told):
    with pytest.raises(SpaceError, match=r"sweep\.yaml") as refused:
        parse_yaml(text, "sweep.yaml")
    assert told in refused.value.message


def test_aliases_that_repeat_little_are_read():
    assert parse_yaml("a: &a [1, 2]\nb: [*a, *a]", "here") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}


def test_no_more_of_a_file_is_read_than_a_sweep_file_can_have(tmp_path):
    path = tmp_path / "sweep.yaml"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(SpaceError, match="more than 4 MiB"):
        text_of(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SpaceError, match="not a text file"):
        text_of(path)
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert text_of(path) == "a: 1"
