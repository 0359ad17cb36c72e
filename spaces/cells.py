"""Cells of CSV files, so that no spreadsheet takes a text for a formula.

A spreadsheet that opens a CSV file computes a cell that begins with =, +, - or @, and a formula can send other cells
away or start programs. Such a text is written with an apostrophe in front, by which spreadsheets know a text, and read
back without it. Numbers stay as they are: -1 is no formula.
"""

from __future__ import annotations

import re
from typing import Any

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")


def guarded(text: str) -> str:
    """Return a text as it stands in a cell of a CSV file.

    >>> guarded("=1+1"), guarded("-0.5"), guarded("plain")
    ("'=1+1", '-0.5', 'plain')
    """
    return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def unguarded(cell: str) -> str:
    """Return the text that `guarded` wrote.

    >>> unguarded("'=1+1"), unguarded("it's")
    ('=1+1', "it's")
    """
    return cell[1:] if _GUARDED.match(cell) else cell


def guarded_frame(frame: Any) -> Any:
    """Return a data frame with the names of its columns and the texts in it as they stand in cells of a CSV file."""
    texts = frame.map(lambda value: guarded(value) if isinstance(value, str) else value)
    return texts.rename(columns=lambda name: guarded(str(name)))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()  # a tab is no part of a number
